//! G.711: what telephones and many cameras send.

use arcly_core::codec::PcmConfig;

use super::{AudioDecoder, CodecError, MAX_FRAME_BYTES};
use crate::pcm::{Format, MAX_CHANNELS};

/// Which of the two laws samples follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// A-law: Europe.
    A,
    /// µ-law: North America, Japan.
    Mu,
}

impl Law {
    /// A byte as a sample of 16 bits (G.711, tables 1 and 2, scaled to full range).
    #[must_use]
    pub const fn expand(self, byte: u8) -> i16 {
        match self {
            Self::A => {
                let coded = byte ^ 0x55;
                let (exponent, mantissa) = ((coded >> 4) & 7, ((coded & 0x0F) as i16) << 4);
                let magnitude = match exponent {
                    0 => mantissa + 8,
                    _ => (mantissa + 0x108) << (exponent - 1),
                };
                if coded & 0x80 == 0 { -magnitude } else { magnitude }
            }
            Self::Mu => {
                let coded = !byte;
                let (exponent, mantissa) = ((coded >> 4) & 7, ((coded & 0x0F) as i16) << 3);
                let magnitude = ((mantissa + 0x84) << exponent) - 0x84;
                if coded & 0x80 == 0 { magnitude } else { -magnitude }
            }
        }
    }
}

/// Decodes G.711 at any rate and of any number of channels.
#[derive(Clone, Debug)]
pub struct Decoder {
    law: Law,
    format: Format,
}

impl Decoder {
    /// A decoder of what `config` says.
    ///
    /// # Errors
    /// There are no channels, or more than are told apart.
    pub fn new(law: Law, config: &PcmConfig) -> Result<Self, CodecError> {
        let channels = usize::from(config.channels);
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(CodecError::new("g711", &format_args!("{channels} channels")));
        }
        Ok(Self { law, format: Format::plain(config.sample_rate, channels) })
    }
}

impl AudioDecoder for Decoder {
    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<Format, CodecError> {
        if payload.is_empty() || payload.len() > MAX_FRAME_BYTES {
            return Err(CodecError::new("g711", &format_args!("a frame of {} bytes", payload.len())));
        }
        let whole = payload.len() - payload.len() % self.format.speakers.len().max(1);
        out.extend(payload.iter().take(whole).map(|&byte| f32::from(self.law.expand(byte)) / 32_768.0));
        Ok(self.format.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle_of_both_laws() {
        // G.711, tables 1a to 2b: decoder output values, times 8 (A-law: 13 bits) and 4 (µ-law: 14 bits).
        for (law, byte, sample) in [
            (Law::A, 0xD5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xAA, 4_032 * 8),
            (Law::A, 0x2A, -4_032 * 8),
            (Law::A, 0xD4, 24),
            (Law::Mu, 0xFF, 0),
            (Law::Mu, 0x7F, 0),
            (Law::Mu, 0x80, 8_031 * 4),
            (Law::Mu, 0x00, -8_031 * 4),
            (Law::Mu, 0xFE, 2 * 4),
        ] {
            assert_eq!(law.expand(byte), sample, "{law:?} {byte:#x}");
        }
        for law in [Law::A, Law::Mu] {
            let mut all: Vec<i16> = (0..=255).map(|byte| law.expand(byte)).collect();
            all.sort_unstable();
            assert!(all.iter().zip(all.iter().rev()).all(|(a, b)| *a == -*b), "{law:?} is symmetric");
        }
    }

    #[test]
    fn a_frame_of_half_a_sample_loses_it() {
        let config = PcmConfig { sample_rate: 8_000, channels: 2, bits_per_sample: 8 };
        let mut decoder = Decoder::new(Law::Mu, &config).expect("stereo");
        let mut out = Vec::new();
        assert_eq!(decoder.decode(&[0xFF, 0x80, 0xFF], &mut out).expect("decoded").speakers.len(), 2);
        assert_eq!(out.len(), 2);
        assert!(decoder.decode(&[], &mut out).is_err());
        assert!(decoder.decode(&[0; MAX_FRAME_BYTES + 1], &mut out).is_err());
        assert!(Decoder::new(Law::A, &PcmConfig::default()).is_err());
    }
}
