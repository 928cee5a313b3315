//! G.711 (ITU-T G.711): one byte per sample, 8 kHz unless something else is said.
//!
//! There is nothing to parse: the sample rate and channels come from the container, and these functions turn
//! them into parameters and durations.

use arcly_core::codec::{AudioParams, PcmConfig};
use arcly_core::{TimeDelta, Timescale};

/// The sample rate of the recommendation.
pub const SAMPLE_RATE: u32 = 8_000;

/// A configuration; `None` when rate or channels are zero.
#[must_use]
pub const fn config(sample_rate: u32, channels: u8) -> Option<PcmConfig> {
    if sample_rate == 0 || channels == 0 {
        return None;
    }
    Some(PcmConfig { sample_rate, channels, bits_per_sample: 8 })
}

/// What a decoder puts out: 16-bit samples.
#[must_use]
pub const fn audio_params(config: &PcmConfig) -> AudioParams {
    AudioParams {
        sample_rate: config.sample_rate,
        channels: config.channels,
        bits_per_sample: 16,
        samples_per_frame: None,
    }
}

/// How long `len` bytes of interleaved samples last; zero when the configuration is not one.
#[must_use]
pub fn duration(config: &PcmConfig, len: usize) -> TimeDelta {
    let samples = len.checked_div(usize::from(config.channels)).and_then(|n| i64::try_from(n).ok());
    match (samples, Timescale::new(config.sample_rate)) {
        (Some(samples), Some(rate)) => TimeDelta::from_units(samples, rate),
        _ => TimeDelta::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_a_sample() {
        let stereo = config(SAMPLE_RATE, 2).expect("a configuration");
        assert_eq!(duration(&stereo, 320), TimeDelta::from_millis(20));
        assert_eq!(audio_params(&stereo).channels, 2);
        assert_eq!(config(0, 1), None);
        assert_eq!(config(SAMPLE_RATE, 0), None);
        assert_eq!(duration(&PcmConfig::default(), 320), TimeDelta::ZERO);
    }
}
