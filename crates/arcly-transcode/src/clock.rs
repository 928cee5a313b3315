//! As many samples as time has passed.
//!
//! A decoder puts out as many samples as were coded, whatever the timestamps say. Those may be rounded to milliseconds,
//! run at another speed than the sender's sample clock, or leave something out. [`SampleClock`] compares both:
//!
//! | the timestamp is | then |
//! |---|---|
//! | within [`STEP`] of the sample count | the samples pass; when it is beside it by more than [`DRIFT`] on average, frames become one sample longer or shorter until it is not |
//! | later, up to [`MAX_FILL`] | silence fills the gap, to the sample |
//! | later still | the count begins anew |
//! | earlier | samples are left out, to the sample |
//!
//! So rounded timestamps change nothing, and a sender whose sample clock is wrong by up to 900 ppm is followed.

use arcly_core::{TimeDelta, Timescale, Timestamp};

/// How far a timestamp may be from the sample count before samples are put in or left out at once.
pub const STEP: TimeDelta = TimeDelta::from_millis(10);
/// How far timestamps may be from the sample count on average.
pub const DRIFT: TimeDelta = TimeDelta::from_millis(1);
/// The longest gap that is filled.
pub const MAX_FILL: TimeDelta = TimeDelta::from_millis(1_000);

/// Frames over which the average is taken, as a power of two.
const AVERAGED: i64 = 32;

/// What has to be done for a frame's samples to be where its timestamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fit {
    /// Nothing.
    Exact,
    /// This many samples of silence come first.
    Fill(usize),
    /// This many samples are left out, of this frame and the next ones.
    Cut(usize),
    /// The frame becomes one sample longer.
    Stretch,
    /// The frame becomes one sample shorter.
    Squeeze,
    /// What follows has nothing to do with what was: [`SampleClock::new`].
    Restart,
}

/// A count of samples, and what it is compared with.
///
/// ```
/// use arcly_core::{Timescale, Timestamp};
/// use arcly_transcode::clock::{Fit, SampleClock};
///
/// let mut clock = SampleClock::new(Timestamp::ZERO, Timescale::of(48_000));
/// clock.advance(960);
/// assert_eq!(clock.fit(Timestamp::from_millis(20)), Fit::Exact);
/// assert_eq!(clock.fit(Timestamp::from_millis(60)), Fit::Fill(1_920));
/// assert_eq!(clock.fit(Timestamp::ZERO), Fit::Cut(960));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SampleClock {
    rate: Timescale,
    anchor: Timestamp,
    samples: i64,
    /// How far timestamps have been from the count of late, in flicks.
    beside: i64,
}

impl SampleClock {
    /// A count that begins at `anchor`, of samples of which `rate` make a second.
    #[must_use]
    pub const fn new(anchor: Timestamp, rate: Timescale) -> Self {
        Self { rate, anchor, samples: 0, beside: 0 }
    }

    /// When the sample comes that is counted next.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.anchor + TimeDelta::from_units(self.samples, self.rate)
    }

    /// Where the count began.
    #[must_use]
    pub const fn anchor(&self) -> Timestamp {
        self.anchor
    }

    /// Counts samples.
    pub fn advance(&mut self, samples: usize) {
        self.samples = self.samples.saturating_add(i64::try_from(samples).unwrap_or(i64::MAX));
    }

    /// What has to be done for the next samples to be at `pts`.
    pub fn fit(&mut self, pts: Timestamp) -> Fit {
        let beside = pts - self.now();
        if beside > MAX_FILL {
            return Fit::Restart;
        }
        if beside.abs() > STEP {
            self.beside = 0;
            let samples = usize::try_from(beside.abs().to_ticks(self.rate)).unwrap_or(usize::MAX);
            return if beside > TimeDelta::ZERO { Fit::Fill(samples) } else { Fit::Cut(samples) };
        }
        self.beside += (beside.0 - self.beside) / AVERAGED;
        let sample = TimeDelta::from_units(1, self.rate).0;
        if self.beside > DRIFT.0 {
            self.beside -= sample;
            Fit::Stretch
        } else if self.beside < -DRIFT.0 {
            self.beside += sample;
            Fit::Squeeze
        } else {
            Fit::Exact
        }
    }
}

/// Makes interleaved `samples` one longer or shorter, all of them being moved by a fraction of one.
pub(crate) fn stretch(samples: &mut Vec<f32>, channels: usize, longer: bool) {
    let before = samples.len() / channels.max(1);
    let after = if longer { before + 1 } else { before.saturating_sub(1) };
    if before < 2 || after < 2 {
        return;
    }
    let at = |frame: usize, channel: usize| samples.get(frame * channels + channel).copied().unwrap_or(0.0);
    let step = (before - 1) as f32 / (after - 1) as f32;
    let moved = (0..after).flat_map(|frame| {
        let place = frame as f32 * step;
        let (whole, part) = (place as usize, place.fract());
        (0..channels).map(move |channel| {
            let (this, next) = (at(whole, channel), at((whole + 1).min(before - 1), channel));
            this + (next - this) * part
        })
    });
    let moved: Vec<f32> = moved.collect();
    *samples = moved;
}

#[cfg(test)]
mod tests {
    use super::*;

    const CD: Timescale = Timescale::of(44_100);

    /// Feeds `frames` frames of 1 024 samples with timestamps by `pts`, and returns how far the count is from the true
    /// time in the end, in samples; and how often each correction was made.
    fn run(frames: i64, pts: impl Fn(i64) -> Timestamp) -> (i64, [usize; 4]) {
        let mut clock = SampleClock::new(pts(0), CD);
        let mut made = [0; 4];
        for n in 0..frames {
            let len = match clock.fit(pts(n)) {
                Fit::Exact => 1_024,
                Fit::Stretch => {
                    made[0] += 1;
                    1_025
                }
                Fit::Squeeze => {
                    made[1] += 1;
                    1_023
                }
                Fit::Fill(samples) => {
                    made[2] += 1;
                    1_024 + samples
                }
                Fit::Cut(samples) => {
                    made[3] += 1;
                    1_024_usize.saturating_sub(samples)
                }
                Fit::Restart => panic!("frame {n} begins anew"),
            };
            clock.advance(len);
        }
        ((pts(frames) - clock.now()).to_ticks(CD), made)
    }

    #[test]
    fn timestamps_in_milliseconds_change_nothing() {
        let exact = |n: i64| Timestamp::from_ticks(n * 1_024, CD);
        assert_eq!(run(20_000, exact), (0, [0; 4]));
        let rounded = |n: i64| Timestamp::from_millis(exact(n).to_millis());
        assert_eq!(run(20_000, rounded).1, [0; 4]);
        let cut_off = |n: i64| Timestamp::from_millis(exact(n).0 / 705_600);
        assert_eq!(run(20_000, cut_off).1, [0; 4]);
    }

    #[test]
    fn a_sample_clock_that_is_wrong_is_followed() {
        for ppm in [-900, -100, 100, 900] {
            let pts = |n: i64| {
                let t = Timestamp::from_ticks(n * 1_024, CD).0;
                Timestamp(t + t / 1_000_000 * ppm)
            };
            let (off, made) = run(20_000, pts);
            assert!(off.abs() < 4 * 44, "{ppm} ppm: {off} samples beside");
            assert_eq!(made[2..], [0, 0], "{ppm} ppm");
            assert!(if ppm > 0 { made[1] == 0 } else { made[0] == 0 }, "{ppm} ppm: {made:?}");
        }
    }

    #[test]
    fn a_frame_that_is_missing_is_filled_to_the_sample() {
        let pts = |n: i64| Timestamp::from_ticks((if n < 100 { n } else { n + 1 }) * 1_024, CD);
        assert_eq!(run(200, pts), (0, [0, 0, 1, 0]));
    }

    #[test]
    fn what_comes_twice_is_cut() {
        let pts = |n: i64| Timestamp::from_ticks((if n < 100 { n } else { n - 1 }) * 1_024, CD);
        assert_eq!(run(200, pts), (0, [0, 0, 0, 1]));
    }

    #[test]
    fn a_long_gap_begins_anew() {
        let mut clock = SampleClock::new(Timestamp::ZERO, CD);
        assert_eq!(clock.fit(Timestamp::from_millis(1_000)), Fit::Fill(44_100));
        assert_eq!(clock.fit(Timestamp::from_millis(1_001)), Fit::Restart);
        assert_eq!(
            clock.fit(Timestamp(i64::MIN)),
            Fit::Cut(usize::try_from(i64::MAX / 16_000).expect("64 bits"))
        );
    }

    #[test]
    fn stretching_keeps_both_ends() {
        let ramp: Vec<f32> = (0..100_u8).flat_map(|n| [f32::from(n), -f32::from(n)]).collect();
        for (longer, frames) in [(true, 101), (false, 99)] {
            let mut samples = ramp.clone();
            stretch(&mut samples, 2, longer);
            assert_eq!(samples.len(), frames * 2);
            assert_eq!((samples[0], samples[1]), (0.0, 0.0));
            let last = &samples[samples.len() - 2..];
            assert!((last[0] - 99.0).abs() < 1e-3 && (last[1] + 99.0).abs() < 1e-3, "{last:?}");
        }
    }
}
