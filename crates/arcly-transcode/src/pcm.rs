//! Samples: where their loudspeakers stand, and how many of them become one or two.

use smallvec::SmallVec;

/// Channels of one frame that are told apart; those beyond are not heard.
pub const MAX_CHANNELS: usize = 8;

/// Where a channel is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaker {
    /// Front left.
    FrontLeft,
    /// Front right.
    FrontRight,
    /// Front centre, and the only channel of mono.
    FrontCenter,
    /// Low frequency effects.
    Lfe,
    /// Back or side left.
    SurroundLeft,
    /// Back or side right.
    SurroundRight,
    /// Back centre.
    BackCenter,
    /// Nobody says.
    Unknown,
}

impl Speaker {
    /// How much of it goes to the left and the right of stereo (ITU-R BS.775-3, annex 4): half the power of what both
    /// hear, and nothing of the low frequency effects.
    const fn gains(self) -> (f32, f32) {
        const HALF: f32 = core::f32::consts::FRAC_1_SQRT_2;
        match self {
            Self::FrontLeft => (1.0, 0.0),
            Self::FrontRight => (0.0, 1.0),
            Self::FrontCenter | Self::Unknown => (HALF, HALF),
            Self::Lfe => (0.0, 0.0),
            Self::SurroundLeft => (HALF, 0.0),
            Self::SurroundRight => (0.0, HALF),
            Self::BackCenter => (0.5, 0.5),
        }
    }
}

/// The channels of a frame, in the order of its samples.
pub type Speakers = SmallVec<[Speaker; MAX_CHANNELS]>;

/// What a decoder puts out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Samples per second of each channel.
    pub sample_rate: u32,
    /// The channels, in the order in which their samples are interleaved.
    pub speakers: Speakers,
}

impl Format {
    /// One or two channels; any other number of which nobody says where they are.
    #[must_use]
    pub fn plain(sample_rate: u32, channels: usize) -> Self {
        let speakers = match channels {
            1 => SmallVec::from_slice(&[Speaker::FrontCenter]),
            2 => SmallVec::from_slice(&[Speaker::FrontLeft, Speaker::FrontRight]),
            _ => core::iter::repeat_n(Speaker::Unknown, channels.min(MAX_CHANNELS)).collect(),
        };
        Self { sample_rate, speakers }
    }
}

/// Makes one or two channels of any number. What is as loud as it can be stays below full scale.
///
/// ```
/// use arcly_transcode::pcm::{Format, Mixer};
///
/// let mixer = Mixer::new(&Format::plain(48_000, 1).speakers, 2);
/// let mut stereo = Vec::new();
/// mixer.mix(&[0.25, -0.5], &mut stereo);
/// assert_eq!(stereo, [0.25, 0.25, -0.5, -0.5]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Mixer {
    /// For each channel that goes in, what of it is heard in each that comes out.
    gains: SmallVec<[(f32, f32); MAX_CHANNELS]>,
    stereo: bool,
}

impl Mixer {
    /// From `speakers` to `channels`: two, or one for any other number.
    #[must_use]
    pub fn new(speakers: &[Speaker], channels: usize) -> Self {
        let stereo = channels == 2;
        let mut gains: SmallVec<[(f32, f32); MAX_CHANNELS]> = speakers
            .iter()
            .map(|speaker| match speaker.gains() {
                (left, right) if stereo => (left, right),
                (left, right) => (f32::midpoint(left, right), 0.0),
            })
            .collect();
        let (left, right) = gains.iter().fold((0.0, 0.0), |sum, gain| (sum.0 + gain.0, sum.1 + gain.1));
        let loudest = f32::max(left, right);
        if loudest > 0.0 {
            gains.iter_mut().for_each(|gain| *gain = (gain.0 / loudest, gain.1 / loudest));
        }
        Self { gains, stereo }
    }

    /// Appends what becomes of interleaved `samples`. What is no number is silence.
    pub fn mix(&self, samples: &[f32], out: &mut Vec<f32>) {
        let channels = self.gains.len().max(1);
        out.reserve(samples.len() / channels * if self.stereo { 2 } else { 1 });
        for frame in samples.chunks_exact(channels) {
            let (mut left, mut right) = (0.0, 0.0);
            for (sample, gain) in frame.iter().zip(&self.gains) {
                left += sample * gain.0;
                right += sample * gain.1;
            }
            out.push(number(left));
            if self.stereo {
                out.push(number(right));
            }
        }
    }
}

/// A sample that filters and encoders can take: decoders make anything of damaged frames.
const fn number(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(speakers: &[Speaker], channels: usize, samples: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        Mixer::new(speakers, channels).mix(samples, &mut out);
        out
    }

    #[test]
    fn one_and_two_channels() {
        let mono = Format::plain(48_000, 1).speakers;
        let stereo = Format::plain(48_000, 2).speakers;
        assert_eq!(mixed(&mono, 1, &[0.5, -1.0]), [0.5, -1.0]);
        assert_eq!(mixed(&stereo, 2, &[0.5, -1.0]), [0.5, -1.0]);
        assert_eq!(mixed(&mono, 2, &[0.5]), [0.5, 0.5]);
        assert_eq!(mixed(&stereo, 1, &[0.5, -1.0]), [-0.25]);
    }

    #[test]
    fn five_point_one_as_itu_r_bs_775_says() {
        use Speaker::{FrontCenter, FrontLeft, FrontRight, Lfe, SurroundLeft, SurroundRight};
        let layout = [FrontLeft, FrontRight, FrontCenter, Lfe, SurroundLeft, SurroundRight];
        let one = |at: usize| {
            let mut samples = [0.0; 6];
            samples[at] = 1.0;
            mixed(&layout, 2, &samples)
        };
        let full = 1.0 / (1.0 + core::f32::consts::SQRT_2);
        let half = full * core::f32::consts::FRAC_1_SQRT_2;
        for (at, (left, right)) in
            [(full, 0.0), (0.0, full), (half, half), (0.0, 0.0), (half, 0.0), (0.0, half)]
                .into_iter()
                .enumerate()
        {
            let out = one(at);
            assert!((out[0] - left).abs() < 1e-6 && (out[1] - right).abs() < 1e-6, "{at}: {out:?}");
        }
        let loudest = mixed(&layout, 2, &[1.0; 6]);
        assert!(loudest.iter().all(|sample| (sample - 1.0).abs() < 1e-5), "{loudest:?}");
    }

    #[test]
    fn what_is_no_number_is_silence() {
        let stereo = Format::plain(48_000, 2).speakers;
        assert_eq!(mixed(&stereo, 2, &[f32::NAN, f32::INFINITY, 7.0, -7.0]), [0.0, 0.0, 1.0, -1.0]);
        assert_eq!(mixed(&[], 2, &[0.5]), [0.0, 0.0]);
    }
}
