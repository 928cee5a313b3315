//! Opus: identification header, `dOps`, and packet durations.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 7845 | §5.1 identification header | [`decode_head`], [`encode_head`] |
//! | Encapsulation of Opus in ISO Base Media | §4.3.2 `dOps` | [`decode_dops`], [`encode_dops`] |
//! | RFC 6716 | §3.1 TOC byte, §3.2 frame count | [`packet_samples`] |
//!
//! Guarantees: no panic; a channel mapping has as many entries as there are channels, at most 255.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::codec::{AudioParams, OpusConfig};
use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{TimeDelta, Timescale};
use bytes::{BufMut, Bytes, BytesMut};

/// Opus always decodes at this rate.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of the longest packet, 120 ms.
pub const MAX_PACKET_SAMPLES: u32 = 5_760;

const MAGIC: &[u8; 8] = b"OpusHead";

/// A configuration for one or two channels, as WebRTC has it: no header says more.
#[must_use]
pub fn default_config(channels: u8) -> OpusConfig {
    OpusConfig { channels, pre_skip: 312, input_sample_rate: SAMPLE_RATE, ..OpusConfig::default() }
}

/// What a decoder puts out.
#[must_use]
pub const fn audio_params(config: &OpusConfig) -> AudioParams {
    AudioParams {
        sample_rate: SAMPLE_RATE,
        channels: config.channels,
        bits_per_sample: 0,
        samples_per_frame: None,
    }
}

/// Decodes an identification header, with its magic.
pub fn decode_head(data: &[u8]) -> DecodeResult<OpusConfig> {
    let mut r = Reader::new(data);
    if r.bytes(MAGIC.len(), "opus magic")? != MAGIC {
        return Err(Reader::new(data).malformed("opus magic"));
    }
    // The upper half is the major version: only that may be incompatible.
    if r.u8("opus version")? & 0xF0 != 0 {
        return Err(r.malformed("opus version"));
    }
    let mut config = OpusConfig { channels: r.u8("opus channels")?, ..OpusConfig::default() };
    config.pre_skip = r.u16_le("opus pre-skip")?;
    config.input_sample_rate = r.u32_le("opus sample rate")?;
    config.output_gain = r.u16_le("opus gain")?.cast_signed();
    mapping(&mut r, &mut config)?;
    Ok(config)
}

/// Decodes the body of a `dOps` box.
pub fn decode_dops(data: &[u8]) -> DecodeResult<OpusConfig> {
    let mut r = Reader::new(data);
    if r.u8("dOps version")? != 0 {
        return Err(r.malformed("dOps version"));
    }
    let mut config = OpusConfig { channels: r.u8("opus channels")?, ..OpusConfig::default() };
    config.pre_skip = r.u16("opus pre-skip")?;
    config.input_sample_rate = r.u32("opus sample rate")?;
    config.output_gain = r.i16("opus gain")?;
    mapping(&mut r, &mut config)?;
    Ok(config)
}

fn mapping(r: &mut Reader<'_>, config: &mut OpusConfig) -> DecodeResult<()> {
    config.mapping_family = r.u8("opus mapping family")?;
    let max = if config.mapping_family == 0 { 2 } else { u8::MAX };
    if !(1..=max).contains(&config.channels) {
        return Err(r.malformed("opus channels"));
    }
    if config.mapping_family != 0 {
        let len = usize::from(config.channels).saturating_add(2);
        config.mapping = r.bytes(len, "opus channel mapping")?.into();
    }
    Ok(())
}

/// The identification header, with its magic.
#[must_use]
pub fn encode_head(config: &OpusConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    out.put_slice(MAGIC);
    out.put_slice(&[1, config.channels]);
    out.put_u16_le(config.pre_skip);
    out.put_u32_le(config.input_sample_rate);
    out.put_i16_le(config.output_gain);
    put_mapping(&mut out, config);
    out.freeze()
}

/// The body of a `dOps` box.
#[must_use]
pub fn encode_dops(config: &OpusConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    out.put_slice(&[0, config.channels]);
    out.put_u16(config.pre_skip);
    out.put_u32(config.input_sample_rate);
    out.put_i16(config.output_gain);
    put_mapping(&mut out, config);
    out.freeze()
}

fn put_mapping(out: &mut BytesMut, config: &OpusConfig) {
    out.put_u8(config.mapping_family);
    if config.mapping_family != 0 {
        out.put_slice(&config.mapping);
    }
}

/// Samples at 48 kHz in a packet, from its TOC byte and frame count.
pub fn packet_samples(packet: &[u8]) -> DecodeResult<u32> {
    let mut r = Reader::new(packet);
    let toc = r.u8("opus TOC")?;
    let config = toc >> 3;
    let per_frame: u32 = match config {
        0..12 => [480, 960, 1_920, 2_880].get(usize::from(config & 3)).copied().unwrap_or_default(),
        12..16 => 480 << (config & 1),
        _ => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(r.u8("opus frame count")? & 0x3F),
    };
    let samples = per_frame.saturating_mul(frames);
    if !(1..=MAX_PACKET_SAMPLES).contains(&samples) {
        return Err(r.malformed("opus frame count"));
    }
    Ok(samples)
}

/// How long a packet lasts; zero when it is not a valid one.
#[must_use]
pub fn packet_duration(packet: &[u8]) -> TimeDelta {
    let samples = packet_samples(packet).unwrap_or_default();
    TimeDelta::from_units(i64::from(samples), Timescale::of(SAMPLE_RATE))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests choose their numbers")]
mod tests {
    use arcly_core::wire::DecodeError;
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00";

    #[test]
    fn rfc_7845_5_1_identification_header() {
        let config = decode_head(HEAD).expect("a header");
        assert_eq!(config, default_config(2));
        assert_eq!(encode_head(&config), HEAD);
        let dops = encode_dops(&config);
        assert_eq!(&dops[..], b"\0\x02\x01\x38\0\0\xBB\x80\0\0\0");
        assert_eq!(decode_dops(&dops), Ok(config));
    }

    #[test]
    fn rfc_6716_3_1_packet_durations() {
        let cases: &[(&[u8], u32)] = &[
            (&[0x00], 480),         // SILK 10 ms
            (&[0x18], 2_880),       // SILK 60 ms
            (&[0x60], 480),         // hybrid 10 ms
            (&[0x68], 960),         // hybrid 20 ms
            (&[0x80], 120),         // CELT 2.5 ms
            (&[0xFC], 960),         // CELT 20 ms
            (&[0xFD], 1_920),       // two frames
            (&[0xFF, 0x83], 2_880), // three, variable size, no padding
            (&[0x1B, 0x02], 5_760), // two of 60 ms
        ];
        for (packet, samples) in cases {
            assert_eq!(packet_samples(packet), Ok(*samples), "{packet:02X?}");
        }
        assert_eq!(packet_duration(&[0xFC]), TimeDelta::from_millis(20));
    }

    #[test]
    fn impossible_packets_are_malformed() {
        for packet in [&[0xFF, 0][..], &[0x1B, 3], &[0xFF, 63]] {
            assert!(matches!(packet_samples(packet), Err(DecodeError::Malformed { .. })), "{packet:02X?}");
        }
        assert!(packet_samples(&[]).unwrap_err().is_incomplete());
        assert!(packet_samples(&[3]).unwrap_err().is_incomplete());
    }

    #[test]
    fn m34_every_strict_prefix_is_incomplete() {
        let surround = OpusConfig {
            channels: 6,
            mapping_family: 1,
            mapping: [4, 2, 0, 4, 1, 2, 3, 5].as_slice().into(),
            ..default_config(6)
        };
        for config in [default_config(1), surround] {
            let (head, dops) = (encode_head(&config), encode_dops(&config));
            assert_eq!(decode_head(&head).as_ref(), Ok(&config));
            assert_eq!(decode_dops(&dops).as_ref(), Ok(&config));
            for cut in 0..head.len() {
                assert!(decode_head(&head[..cut]).unwrap_err().is_incomplete());
            }
            for cut in 0..dops.len() {
                assert!(decode_dops(&dops[..cut]).unwrap_err().is_incomplete());
            }
        }
    }

    #[test]
    fn headers_that_lie_are_malformed() {
        for (at, value) in [(0, b'X'), (8, 0x10), (9, 0), (9, 3)] {
            let mut head = HEAD.to_vec();
            head[at] = value;
            assert!(matches!(decode_head(&head), Err(DecodeError::Malformed { .. })), "byte {at} = {value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode_dops(&bytes), packet_samples(&bytes));
            let _ = decode_head(&[MAGIC, &bytes[..]].concat());
        }
    }
}
