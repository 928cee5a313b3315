//! FLAC: STREAMINFO, `dfLa`, and how many samples a frame has.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 9639 | §6 signature, §8.1 metadata block header, §8.2 STREAMINFO | [`decode_config`], [`encode_stream_start`] |
//! | | §9.1 frame header | [`frame_samples`] |
//! | Encapsulation of FLAC in ISO Base Media | §3.3.2 `dfLa` | [`decode_dfla`], [`encode_dfla`] |
//!
//! Guarantees: no panic. Tolerated: STREAMINFO with or without the `fLaC` signature and its block header, as
//! Enhanced RTMP leaves open which of them a sequence header carries. Other metadata blocks are left out.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::codec::{AudioParams, FlacConfig};
use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;

/// Bytes of a STREAMINFO block.
pub const STREAM_INFO_LEN: usize = 34;

const SIGNATURE: &[u8; 4] = b"fLaC";
/// Header of a STREAMINFO block that is the last metadata block.
const LAST_STREAM_INFO: [u8; 4] = [0x80, 0, 0, 34];

/// Decodes STREAMINFO, with whatever of signature and block header stands before it.
pub fn decode_config(data: &Bytes) -> DecodeResult<FlacConfig> {
    let mut r = Reader::new(data);
    let with_signature = r.rest().starts_with(SIGNATURE);
    if with_signature {
        r.skip(SIGNATURE.len(), "flac signature")?;
    }
    if with_signature || data.len() != STREAM_INFO_LEN {
        stream_info_header(&mut r)?;
    }
    take_stream_info(&mut r, data)
}

/// Decodes the body of a `dfLa` box.
pub fn decode_dfla(data: &Bytes) -> DecodeResult<FlacConfig> {
    let mut r = Reader::new(data);
    r.skip(4, "dfLa version and flags")?;
    stream_info_header(&mut r)?;
    take_stream_info(&mut r, data)
}

fn stream_info_header(r: &mut Reader<'_>) -> DecodeResult<()> {
    let at = *r;
    let kind = r.u8("flac block type")? & 0x7F;
    if kind != 0 || usize::try_from(r.u24("flac block length")?) != Ok(STREAM_INFO_LEN) {
        return Err(at.malformed("flac stream info"));
    }
    Ok(())
}

fn take_stream_info(r: &mut Reader<'_>, data: &Bytes) -> DecodeResult<FlacConfig> {
    let at = *r;
    let stream_info = data.slice_ref(r.bytes(STREAM_INFO_LEN, "flac stream info")?);
    let config = FlacConfig { stream_info };
    let params = audio_params(&config);
    if params.sample_rate == 0 { Err(at.malformed("flac sample rate")) } else { Ok(config) }
}

/// Signature and STREAMINFO, the start of a native stream.
#[must_use]
pub fn encode_stream_start(config: &FlacConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + STREAM_INFO_LEN);
    out.put_slice(SIGNATURE);
    out.put_slice(&LAST_STREAM_INFO);
    out.put_slice(&config.stream_info);
    out.freeze()
}

/// The body of a `dfLa` box.
#[must_use]
pub fn encode_dfla(config: &FlacConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + STREAM_INFO_LEN);
    out.put_u32(0);
    out.put_slice(&LAST_STREAM_INFO);
    out.put_slice(&config.stream_info);
    out.freeze()
}

/// What a decoder puts out; zeros when the configuration is not one.
#[must_use]
pub fn audio_params(config: &FlacConfig) -> AudioParams {
    params(&config.stream_info).unwrap_or_default()
}

fn params(stream_info: &[u8]) -> DecodeResult<AudioParams> {
    let mut r = BitReader::new(stream_info);
    let (min, max) = (r.u16("flac block size")?, r.u16("flac block size")?);
    r.skip(48, "flac frame sizes")?;
    Ok(AudioParams {
        sample_rate: r.bits(20, "flac sample rate")?,
        channels: r.small(3, "flac channels")?.saturating_add(1),
        bits_per_sample: r.small(5, "flac bits per sample")?.saturating_add(1),
        samples_per_frame: (min == max).then_some(u32::from(max)),
    })
}

/// Samples per channel in a frame, from its header.
pub fn frame_samples(frame: &[u8]) -> DecodeResult<u32> {
    let mut r = Reader::new(frame);
    let at = r;
    if r.u16("flac frame sync")? >> 2 != 0x3FFE {
        return Err(at.malformed("flac frame sync"));
    }
    let code = r.u8("flac block size")? >> 4;
    r.u8("flac channels")?;
    Ok(match code {
        1 => 192,
        2..=5 => 144 << code,
        8..=15 => 1 << code,
        6 | 7 => {
            // Frame or sample number, coded like UTF-8: the leading ones say how many bytes it has.
            let first = r.u8("flac frame number")?;
            r.skip(
                usize::try_from(first.leading_ones().saturating_sub(1)).unwrap_or(0),
                "flac frame number",
            )?;
            let less_one =
                if code == 6 { u16::from(r.u8("flac block size")?) } else { r.u16("flac block size")? };
            u32::from(less_one).saturating_add(1)
        }
        _ => return Err(at.malformed("flac block size")),
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use arcly_core::wire::DecodeError;
    use proptest::prelude::*;

    use super::*;

    /// RFC 9639 appendix D.1.2: 44.1 kHz, stereo, 16 bits, blocks of 4096.
    fn example() -> FlacConfig {
        let mut info = vec![0x10, 0, 0x10, 0, 0, 0, 0x0F, 0, 0, 0x0F, 0x0A, 0xC4, 0x42, 0xF0, 0, 0, 0, 1];
        info.resize(STREAM_INFO_LEN, 0x3E);
        FlacConfig { stream_info: info.into() }
    }

    #[test]
    fn rfc_9639_d_1_stream_info() {
        let config = example();
        let params = audio_params(&config);
        assert_eq!((params.sample_rate, params.channels, params.bits_per_sample), (44_100, 2, 16));
        assert_eq!(params.samples_per_frame, Some(4_096));
        let start = encode_stream_start(&config);
        assert_eq!(decode_config(&start).as_ref(), Ok(&config));
        assert_eq!(decode_config(&start.slice(4..)).as_ref(), Ok(&config), "without signature");
        assert_eq!(decode_config(&start.slice(8..)).as_ref(), Ok(&config), "bare");
        assert_eq!(decode_dfla(&encode_dfla(&config)).as_ref(), Ok(&config));
    }

    #[test]
    fn m34_every_strict_prefix_is_refused() {
        let (start, dfla) = (encode_stream_start(&example()), encode_dfla(&example()));
        for cut in 0..start.len() {
            assert!(decode_config(&start.slice(..cut)).is_err(), "{cut}");
            assert!(decode_dfla(&dfla.slice(..cut)).unwrap_err().is_incomplete(), "{cut}");
        }
    }

    #[test]
    fn other_blocks_and_silent_rates_are_malformed() {
        let mut start = encode_stream_start(&example()).to_vec();
        start[4] = 0x84;
        assert!(matches!(decode_config(&start.into()), Err(DecodeError::Malformed { .. })));
        let silent = Bytes::from_static(&[0; STREAM_INFO_LEN]);
        assert!(matches!(
            decode_config(&silent),
            Err(DecodeError::Malformed { what: "flac sample rate", .. })
        ));
    }

    #[test]
    fn rfc_9639_9_1_1_block_sizes() {
        let cases: &[(&[u8], u32)] = &[
            (&[0xFF, 0xF8, 0x19, 0x18, 0], 192),
            (&[0xFF, 0xF8, 0x29, 0x18, 0], 576),
            (&[0xFF, 0xF8, 0x59, 0x18, 0], 4_608),
            (&[0xFF, 0xF8, 0x89, 0x18, 0], 256),
            (&[0xFF, 0xF8, 0xC9, 0x18, 0], 4_096),
            (&[0xFF, 0xF8, 0xF9, 0x18, 0], 32_768),
            (&[0xFF, 0xF8, 0x69, 0x18, 0, 0x0F], 16),
            (&[0xFF, 0xF8, 0x79, 0x18, 0xC2, 0x80, 0x01, 0x00], 257),
        ];
        for (frame, samples) in cases {
            assert_eq!(frame_samples(frame), Ok(*samples), "{frame:02X?}");
        }
        assert!(matches!(frame_samples(&[0xFF, 0xF8, 0x09, 0x18]), Err(DecodeError::Malformed { .. })));
        assert!(frame_samples(&[0xFF, 0xF8, 0x69, 0x18, 0]).unwrap_err().is_incomplete());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = frame_samples(&bytes);
            let bytes = Bytes::from(bytes);
            let _ = (decode_config(&bytes), decode_dfla(&bytes));
        }
    }
}
