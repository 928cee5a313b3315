//! AAC: AudioSpecificConfig and ADTS.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 14496-3 | §1.6.2.1 AudioSpecificConfig | [`decode_config`], [`encode_config`] |
//! | | §1.6.5 signalling of SBR and PS: hierarchical and backward compatible | the same |
//! | | §4.4.1.1 program_config_element | channels when `channelConfiguration` is 0 |
//! | | §1.A.2.2 adts_frame | [`AdtsHeader`], [`adts_frames`] |
//! | | §1.7.2, §1.7.3 AudioSyncStream, AudioMuxElement | [`LatmDecoder`], [`loas_frame_len`] |
//!
//! Guarantees: no panic; every loop is bounded by a field of at most four bits.
//!
//! Implicit SBR (a core of 24 kHz or less, and nothing said) cannot be seen without decoding: the track then
//! has the core's sample rate, which is also what durations have to be counted in.
//!
//! LATM is read in its self-contained form, LOAS, with one program of one layer. Nested programs and layers, which no
//! sender is known to use, are refused (`m15_*` in the tests).
//!
//! Not done: writing LATM.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod adts;
mod config;
mod latm;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests;

pub use adts::{AdtsFrames, AdtsHeader, adts_frames};
pub use config::{decode_config, encode_config};
pub use latm::{LatmDecoder, loas_frame_len};

use arcly_core::codec::{AudioParams, AudioSpecificConfig};
use arcly_core::{TimeDelta, Timescale};

/// `samplingFrequencyIndex` 0 to 12.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Audio object types (table 1.17).
pub mod object_type {
    /// AAC Main.
    pub const MAIN: u8 = 1;
    /// AAC Low Complexity.
    pub const LC: u8 = 2;
    /// Spectral band replication: HE-AAC.
    pub const SBR: u8 = 5;
    /// Error-resilient AAC Low Delay.
    pub const ER_LD: u8 = 23;
    /// Parametric stereo: HE-AAC v2.
    pub const PS: u8 = 29;
    /// Error-resilient AAC Enhanced Low Delay.
    pub const ER_ELD: u8 = 39;
    /// Unified speech and audio coding: xHE-AAC.
    pub const USAC: u8 = 42;
}

/// Samples of the core coder in one access unit; `None` where the object type has no fixed number.
#[must_use]
pub const fn samples_per_frame(config: &AudioSpecificConfig) -> Option<u32> {
    match (config.object_type, config.short_frames) {
        (object_type::USAC, _) => None,
        (object_type::ER_LD | object_type::ER_ELD, true) => Some(480),
        (object_type::ER_LD | object_type::ER_ELD, false) => Some(512),
        (_, true) => Some(960),
        (_, false) => Some(1_024),
    }
}

/// How long one access unit lasts; zero when it is not fixed.
#[must_use]
pub fn frame_duration(config: &AudioSpecificConfig) -> TimeDelta {
    match (samples_per_frame(config), Timescale::new(config.sample_rate)) {
        (Some(samples), Some(rate)) => TimeDelta::from_units(i64::from(samples), rate),
        _ => TimeDelta::ZERO,
    }
}

/// What a decoder puts out: with SBR its sample rate, with parametric stereo two channels.
#[must_use]
pub fn audio_params(config: &AudioSpecificConfig) -> AudioParams {
    let sample_rate = config.sbr_sample_rate.unwrap_or(config.sample_rate);
    let stereo = config.parametric_stereo && config.channels == 1;
    let samples = samples_per_frame(config).map(u64::from).and_then(|samples| {
        samples.saturating_mul(sample_rate.into()).checked_div(config.sample_rate.into())
    });
    AudioParams {
        sample_rate,
        channels: if stereo { 2 } else { config.channels },
        bits_per_sample: 0,
        samples_per_frame: samples.and_then(|samples| u32::try_from(samples).ok()),
    }
}

/// Channels of a `channelConfiguration` (table 1.19); `None` for 0 and the reserved ones.
const fn channels_of(channel_config: u8) -> Option<u8> {
    match channel_config {
        1..=6 => Some(channel_config),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

fn rate_index(sample_rate: u32) -> Option<u8> {
    let at = SAMPLE_RATES.iter().position(|rate| *rate == sample_rate)?;
    u8::try_from(at).ok()
}
