//! AC-3 and E-AC-3: the start of a frame, and the `dac3` and `dec3` records.
//!
//! | document | section | here |
//! |---|---|---|
//! | ETSI TS 102 366 | §4.3.1, §4.3.2 syncinfo, bsi | [`FrameHeader`] |
//! | | annex E.1.2 bit stream information of E-AC-3 | the same |
//! | | annex F.4 AC3SpecificBox, F.6 EC3SpecificBox | [`decode_dac3`], [`decode_dec3`] and their opposites |
//!
//! Guarantees: no panic. What a record says of substreams beyond the first is carried as it is.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::codec::{Ac3Config, AudioParams};
use arcly_core::wire::DecodeResult;
use arcly_core::{CodecId, TimeDelta, Timescale};
use bytes::Bytes;

use crate::bits::{BitReader, BitWriter};

const SYNC: u32 = 0x0B77;
const SAMPLES_PER_BLOCK: u32 = 256;
/// `bsid` from here on means E-AC-3 (annex E.1.3.1.6).
const MIN_EAC3_BSID: u8 = 11;
/// The largest `bsid` that is defined.
const MAX_BSID: u8 = 16;

/// Kilobits per second by `frmsizecod / 2` (table 4.13).
const BITRATES: [u16; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

/// The start of an AC-3 or E-AC-3 frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// AC-3 or E-AC-3.
    pub codec: CodecId,
    /// What a container's record says of it.
    pub config: Ac3Config,
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples in the frame.
    pub samples: u32,
    /// Bytes of the frame.
    pub frame_len: usize,
    /// The frame belongs to a substream that depends on another, and adds channels to it.
    pub dependent: bool,
}

impl FrameHeader {
    /// Decodes the start of a frame.
    pub fn decode(data: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::new(data);
        if r.bits(16, "ac3 syncword")? != SYNC {
            return Err(r.malformed("ac3 syncword"));
        }
        // Both formats have bsid in the same place; what stands before it differs.
        let mut ahead = r;
        ahead.skip(24, "ac3 header")?;
        match ahead.small(5, "ac3 bsid")? {
            bsid @ 0..MIN_EAC3_BSID => Self::ac3(r, bsid),
            bsid @ MIN_EAC3_BSID..=MAX_BSID => Self::eac3(r, bsid),
            _ => Err(r.malformed("ac3 bsid")),
        }
    }

    fn ac3(mut r: BitReader<'_>, bsid: u8) -> DecodeResult<Self> {
        r.bits(16, "ac3 crc1")?;
        let fscod = r.small(2, "ac3 fscod")?;
        let size_code = r.small(6, "ac3 frmsizecod")?;
        r.bits(5, "ac3 bsid")?;
        let bsmod = r.small(3, "ac3 bsmod")?;
        let acmod = r.small(3, "ac3 acmod")?;
        let mix_levels = u32::from(acmod & 1 == 1 && acmod != 1)
            .saturating_add(u32::from(acmod & 4 != 0))
            .saturating_add(u32::from(acmod == 2));
        r.bits(mix_levels.saturating_mul(2), "ac3 mix levels")?;
        let lfe = r.flag("ac3 lfeon")?;
        let (Some(sample_rate), Some(kbps)) =
            (sample_rate(fscod), BITRATES.get(usize::from(size_code >> 1)).copied())
        else {
            return Err(r.malformed("ac3 frame size"));
        };
        let words = match fscod {
            0 => usize::from(kbps).saturating_mul(2),
            2 => usize::from(kbps).saturating_mul(3),
            _ => (usize::from(kbps).saturating_mul(320) / 147).saturating_add(usize::from(size_code & 1)),
        };
        let bit_rate = u16::from(size_code >> 1);
        let config = Ac3Config { fscod, bsid, bsmod, acmod, lfe, bit_rate, substreams: Bytes::new() };
        let samples = SAMPLES_PER_BLOCK.saturating_mul(6);
        let frame_len = words.saturating_mul(2);
        Ok(Self { codec: CodecId::Ac3, config, sample_rate, samples, frame_len, dependent: false })
    }

    fn eac3(mut r: BitReader<'_>, bsid: u8) -> DecodeResult<Self> {
        let kind = r.small(2, "ac3 strmtyp")?;
        r.bits(3, "ac3 substreamid")?;
        let words = r.bits(11, "ac3 frmsiz")?.saturating_add(1);
        let fscod = r.small(2, "ac3 fscod")?;
        let code = r.small(2, "ac3 numblkscod")?;
        let (rate, blocks) = match fscod {
            // A reduced rate: the second field is another rate code, and there are always six blocks.
            3 => (sample_rate(code).map(|rate| rate / 2), 6),
            _ => (sample_rate(fscod), [1, 2, 3, 6].get(usize::from(code)).copied().unwrap_or(6)),
        };
        let sample_rate = rate.ok_or_else(|| r.malformed("ac3 fscod2"))?;
        let acmod = r.small(3, "ac3 acmod")?;
        let lfe = r.flag("ac3 lfeon")?;
        let samples = SAMPLES_PER_BLOCK.saturating_mul(blocks);
        let frame_len = usize::try_from(words).unwrap_or_default().saturating_mul(2);
        // At most 2048 words of 16 bits, 48 kHz and one block of 256 samples: 6 144 kbit/s.
        let bits = words.saturating_mul(16);
        let kbps = bits.saturating_mul(sample_rate / 100).checked_div(samples.saturating_mul(10));
        let bit_rate = u16::try_from(kbps.unwrap_or_default()).unwrap_or(u16::MAX);
        let config = Ac3Config { fscod, bsid, bsmod: 0, acmod, lfe, bit_rate, substreams: Bytes::new() };
        Ok(Self { codec: CodecId::Eac3, config, sample_rate, samples, frame_len, dependent: kind == 1 })
    }

    /// What a decoder puts out.
    #[must_use]
    pub fn audio_params(&self) -> AudioParams {
        AudioParams {
            sample_rate: self.sample_rate,
            channels: channels(&self.config),
            bits_per_sample: 0,
            samples_per_frame: Some(self.samples),
        }
    }

    /// How long the frame lasts.
    #[must_use]
    pub fn duration(&self) -> TimeDelta {
        let rate = Timescale::new(self.sample_rate);
        rate.map_or(TimeDelta::ZERO, |rate| TimeDelta::from_units(i64::from(self.samples), rate))
    }
}

const fn sample_rate(fscod: u8) -> Option<u32> {
    match fscod {
        0 => Some(48_000),
        1 => Some(44_100),
        2 => Some(32_000),
        _ => None,
    }
}

/// Channels of the first independent substream, the low frequency one included.
#[must_use]
pub fn channels(config: &Ac3Config) -> u8 {
    let full = [2, 1, 2, 3, 3, 4, 4, 5].get(usize::from(config.acmod)).copied().unwrap_or(0_u8);
    full.saturating_add(u8::from(config.lfe))
}

/// What a decoder puts out, as far as a record says it.
#[must_use]
pub fn audio_params(config: &Ac3Config) -> AudioParams {
    AudioParams {
        sample_rate: sample_rate(config.fscod).unwrap_or_default(),
        channels: channels(config),
        bits_per_sample: 0,
        samples_per_frame: Some(SAMPLES_PER_BLOCK.saturating_mul(6)),
    }
}

/// Decodes the body of a `dac3` box.
pub fn decode_dac3(data: &[u8]) -> DecodeResult<Ac3Config> {
    let mut r = BitReader::new(data);
    let config = Ac3Config {
        fscod: r.small(2, "dac3 fscod")?,
        bsid: r.small(5, "dac3 bsid")?,
        bsmod: r.small(3, "dac3 bsmod")?,
        acmod: r.small(3, "dac3 acmod")?,
        lfe: r.flag("dac3 lfeon")?,
        bit_rate: u16::from(r.small(5, "dac3 bit rate")?),
        substreams: Bytes::new(),
    };
    r.bits(5, "dac3 reserved")?;
    Ok(config)
}

/// The body of a `dac3` box.
#[must_use]
pub fn encode_dac3(config: &Ac3Config) -> Bytes {
    let mut w = BitWriter::new();
    w.bits(2, config.fscod.into()).bits(5, config.bsid.into()).bits(3, config.bsmod.into());
    w.bits(3, config.acmod.into()).flag(config.lfe).bits(5, config.bit_rate.into());
    w.finish().into()
}

/// Decodes the body of a `dec3` box.
pub fn decode_dec3(data: &Bytes) -> DecodeResult<Ac3Config> {
    let mut r = BitReader::new(data);
    let bit_rate = u16::try_from(r.bits(13, "dec3 data rate")?).unwrap_or_default();
    let more = r.small(3, "dec3 substreams")?;
    let mut config = Ac3Config { bit_rate, ..Ac3Config::default() };
    config.fscod = r.small(2, "dec3 fscod")?;
    config.bsid = r.small(5, "dec3 bsid")?;
    r.bits(2, "dec3 asvc")?;
    config.bsmod = r.small(3, "dec3 bsmod")?;
    config.acmod = r.small(3, "dec3 acmod")?;
    config.lfe = r.flag("dec3 lfeon")?;
    r.bits(3, "dec3 reserved")?;
    let dependent = r.small(4, "dec3 dependent substreams")?;
    r.bits(if dependent > 0 { 9 } else { 1 }, "dec3 channel locations")?;
    if more > 0 || dependent > 0 {
        config.substreams = data.clone();
    }
    Ok(config)
}

/// The body of a `dec3` box.
#[must_use]
pub fn encode_dec3(config: &Ac3Config) -> Bytes {
    if !config.substreams.is_empty() {
        return config.substreams.clone();
    }
    let mut w = BitWriter::new();
    w.bits(13, config.bit_rate.into()).bits(3, 0);
    w.bits(2, config.fscod.into()).bits(5, config.bsid.into()).bits(2, 0).bits(3, config.bsmod.into());
    w.bits(3, config.acmod.into()).flag(config.lfe).bits(3, 0).bits(4, 0).bits(1, 0);
    w.finish().into()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use arcly_core::wire::DecodeError;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ac3_frames_of_each_rate() {
        // 5.1 at 384 kbit/s, stereo at 192 kbit/s, mono at 32 kHz.
        let cases: &[(&[u8], u32, u8, usize)] = &[
            (&[0x0B, 0x77, 0, 0, 0x1C, 0x40, 0xE1, 0xFF], 48_000, 6, 1_536),
            (&[0x0B, 0x77, 0, 0, 0x54, 0x40, 0x40, 0x00], 44_100, 2, 834),
            (&[0x0B, 0x77, 0, 0, 0x55, 0x40, 0x40, 0x00], 44_100, 2, 836),
            (&[0x0B, 0x77, 0, 0, 0x80, 0x40, 0x20, 0x00], 32_000, 1, 192),
        ];
        for (bytes, rate, channels, len) in cases {
            let header = FrameHeader::decode(bytes).unwrap_or_else(|error| panic!("{bytes:02X?}: {error}"));
            let params = header.audio_params();
            assert_eq!((params.sample_rate, params.channels, header.frame_len), (*rate, *channels, *len));
            assert_eq!((header.codec, header.samples), (CodecId::Ac3, 1_536));
            assert_eq!(decode_dac3(&encode_dac3(&header.config)), Ok(header.config));
        }
    }

    #[test]
    fn eac3_frames_have_one_to_six_blocks() {
        // 768 bytes: 192 kbit/s at 48 kHz and six blocks.
        let frame = [0x0B, 0x77, 0x01, 0x7F, 0x34, 0x85, 0, 0];
        let header = FrameHeader::decode(&frame).expect("a frame");
        assert_eq!((header.codec, header.frame_len, header.samples), (CodecId::Eac3, 768, 1_536));
        assert_eq!((header.config.bit_rate, header.config.bsid), (192, 16));
        assert_eq!(header.audio_params().channels, 2);
        assert_eq!(decode_dec3(&encode_dec3(&header.config)), Ok(header.config));
        for (code, samples) in [(0, 256), (1, 512), (2, 768), (3, 1_536)] {
            let mut short = frame;
            short[4] = short[4] & !0x30 | (code << 4);
            assert_eq!(FrameHeader::decode(&short).map(|h| h.samples), Ok(samples));
        }
        let mut halved = frame;
        halved[4] |= 0xC0;
        assert!(FrameHeader::decode(&halved).is_err(), "fscod2 3 is reserved");
        halved[4] &= !0x30;
        assert_eq!(FrameHeader::decode(&halved).map(|h| h.sample_rate), Ok(24_000));
    }

    #[test]
    fn substreams_are_carried() {
        let record = Bytes::from_static(&[0x0C, 0x00, 0x20, 0x0F, 0x02, 0x01]);
        let config = decode_dec3(&record).expect("a record");
        assert_eq!(channels(&config), 6);
        assert_eq!(encode_dec3(&config), record);
    }

    #[test]
    fn reserved_values_and_short_ones_are_malformed() {
        let good = [0x0B, 0x77, 0, 0, 0x1C, 0x40, 0xE1, 0xFF];
        for (at, value) in [(0, 0), (4, 0xDC), (4, 0x26), (5, 0x8A)] {
            let mut bytes = good;
            bytes[at] = value;
            assert!(
                matches!(FrameHeader::decode(&bytes), Err(DecodeError::Malformed { .. })),
                "{bytes:02X?}"
            );
        }
        for cut in 0..7 {
            assert!(FrameHeader::decode(&good[..cut]).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = FrameHeader::decode(&[&[0x0B, 0x77], &tail[..]].concat());
            let _ = (decode_dac3(&tail), decode_dec3(&tail.into()));
        }
    }
}
