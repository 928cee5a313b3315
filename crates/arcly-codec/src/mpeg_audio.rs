//! MPEG audio: the frame header of layers I, II and III.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 11172-3 | §2.4.1.3, §2.4.2.3 header | [`FrameHeader`] |
//! | ISO/IEC 13818-3 | §2.4 lower sampling frequencies | the same |
//! | MPEG-2.5 (de facto) | half of those again, layer III | the same |
//!
//! Guarantees: no panic, no allocation. Not done: free format (bitrate index 0), whose frame length the header
//! does not say; no streaming encoder makes it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::codec::AudioParams;
use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{CodecId, TimeDelta, Timescale};

/// Which of the three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// MP1.
    I,
    /// MP2.
    II,
    /// MP3.
    III,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The layer.
    pub layer: Layer,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Kilobits per second.
    pub bitrate_kbps: u16,
    /// Samples in the frame.
    pub samples: u32,
    /// Bytes of the frame, header included.
    pub frame_len: usize,
}

/// Kilobits per second by index, for MPEG-1 layer I, II, III and for the lower rates' layer I and II/III.
const BITRATES: [[u16; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

impl FrameHeader {
    /// Decodes the four bytes at the start of a frame.
    pub fn decode(data: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(data);
        let at = r;
        let word = r.u32("mpeg audio header")?;
        let bits = |shift: u32, mask: u32| word.checked_shr(shift).unwrap_or_default() & mask;
        if bits(21, 0x7FF) != 0x7FF {
            return Err(at.malformed("mpeg audio sync"));
        }
        // How far the sample rate is halved: MPEG-1, MPEG-2, MPEG-2.5.
        let halved = match bits(19, 3) {
            3 => 0,
            2 => 1,
            0 => 2,
            _ => return Err(at.malformed("mpeg audio version")),
        };
        let layer = match bits(17, 3) {
            3 => Layer::I,
            2 => Layer::II,
            1 => Layer::III,
            _ => return Err(at.malformed("mpeg audio layer")),
        };
        let base = match bits(10, 3) {
            0 => 44_100_u32,
            1 => 48_000,
            2 => 32_000,
            _ => return Err(at.malformed("mpeg audio sample rate")),
        };
        let sample_rate = base.checked_shr(halved).unwrap_or_default();
        let bitrate_kbps = bitrate(layer, halved > 0, bits(12, 15));
        let bitrate_kbps = bitrate_kbps.ok_or_else(|| at.malformed("mpeg audio bitrate"))?;
        let samples = match (layer, halved) {
            (Layer::I, _) => 384,
            (Layer::III, 1..) => 576,
            _ => 1_152,
        };
        // Layer I counts in slots of four bytes.
        let slot = if layer == Layer::I { 4 } else { 1 };
        let bytes = u32::from(bitrate_kbps).saturating_mul(samples).saturating_mul(1_000 / 8);
        let slots = bytes.checked_div(sample_rate.saturating_mul(slot)).unwrap_or_default();
        let len = slots.saturating_add(bits(9, 1)).saturating_mul(slot);
        Ok(Self {
            layer,
            sample_rate,
            channels: if bits(6, 3) == 3 { 1 } else { 2 },
            bitrate_kbps,
            samples,
            frame_len: usize::try_from(len).unwrap_or_default(),
        })
    }

    /// The codec; layer I goes with layer II, as every layer II decoder understands it.
    #[must_use]
    pub const fn codec(&self) -> CodecId {
        match self.layer {
            Layer::I | Layer::II => CodecId::Mp2,
            Layer::III => CodecId::Mp3,
        }
    }

    /// What a decoder puts out.
    #[must_use]
    pub const fn audio_params(&self) -> AudioParams {
        AudioParams {
            sample_rate: self.sample_rate,
            channels: self.channels,
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

fn bitrate(layer: Layer, low_rate: bool, index: u32) -> Option<u16> {
    let table = match (low_rate, layer) {
        (false, Layer::I) => 0,
        (false, Layer::II) => 1,
        (false, Layer::III) => 2,
        (true, Layer::I) => 3,
        (true, _) => 4,
    };
    let column = usize::try_from(index.checked_sub(1)?).ok()?;
    BITRATES.get(table)?.get(column).copied()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests choose their numbers")]
mod tests {
    use arcly_core::wire::DecodeError;

    use super::*;

    /// Header, codec, rate, channels, kbit/s, samples, bytes.
    type HeaderCase = ([u8; 4], CodecId, u32, u8, u16, u32, usize);

    #[test]
    fn headers_of_every_layer_and_version() {
        let cases: &[HeaderCase] = &[
            ([0xFF, 0xFB, 0x90, 0x00], CodecId::Mp3, 44_100, 2, 128, 1_152, 417),
            ([0xFF, 0xFB, 0x92, 0xC0], CodecId::Mp3, 44_100, 1, 128, 1_152, 418),
            ([0xFF, 0xFB, 0xE4, 0x40], CodecId::Mp3, 48_000, 2, 320, 1_152, 960),
            ([0xFF, 0xF3, 0x80, 0x00], CodecId::Mp3, 22_050, 2, 64, 576, 208),
            ([0xFF, 0xE3, 0x18, 0xC0], CodecId::Mp3, 8_000, 1, 8, 576, 72),
            ([0xFF, 0xFD, 0xA4, 0x00], CodecId::Mp2, 48_000, 2, 192, 1_152, 576),
            ([0xFF, 0xF5, 0xA4, 0x00], CodecId::Mp2, 24_000, 2, 96, 1_152, 576),
            ([0xFF, 0xFF, 0xC4, 0x00], CodecId::Mp2, 48_000, 2, 384, 384, 384),
        ];
        for &(header, codec, rate, channels, kbps, samples, len) in cases {
            let h = FrameHeader::decode(&header).unwrap_or_else(|error| panic!("{header:02X?}: {error}"));
            let got = (h.codec(), h.sample_rate, h.channels, h.bitrate_kbps, h.samples, h.frame_len);
            assert_eq!(got, (codec, rate, channels, kbps, samples, len), "{header:02X?}");
            assert_eq!(h.duration().to_ticks(Timescale::of(rate)), i64::from(samples));
        }
    }

    #[test]
    fn reserved_values_are_malformed_and_short_ones_incomplete() {
        for header in [
            [0xFF, 0x1B, 0x90, 0],
            [0xFF, 0xEB, 0x90, 0],
            [0xFF, 0xF9, 0x90, 0],
            [0xFF, 0xFB, 0x00, 0],
            [0xFF, 0xFB, 0xF0, 0],
            [0xFF, 0xFB, 0x9C, 0],
        ] {
            let result = FrameHeader::decode(&header);
            assert!(matches!(result, Err(DecodeError::Malformed { .. })), "{header:02X?}: {result:?}");
        }
        for cut in 0..4 {
            assert!(FrameHeader::decode(&[0xFF, 0xFB, 0x90, 0][..cut]).unwrap_err().is_incomplete());
        }
    }

    #[test]
    fn m34_no_header_makes_it_panic() {
        for word in (0..=u32::MAX).step_by(65_521) {
            if let Ok(header) = FrameHeader::decode(&word.to_be_bytes()) {
                assert!((24..=2_881).contains(&header.frame_len), "{word:08X}: {header:?}");
            }
        }
    }
}
