//! The two durations that a playlist promises for as long as it lives.

use arcly_core::TimeDelta;

use super::{Config, MAX_TARGET};

/// The longest time that one picture may last before it is listed as a picture and a gap.
const MAX_STEP: TimeDelta = TimeDelta::from_millis(1_000);
/// What a segment may be longer than the target duration: less than what is rounded away (4.4.3.1), as sound may be cut a
/// frame later than the picture, and may begin a little earlier.
const OVERRUN: TimeDelta = TimeDelta::from_millis(300);
/// What a keyframe may come too early to end a segment: encoders' GOPs are not exact to the millisecond.
const EARLY: TimeDelta = TimeDelta::from_millis(100);
/// A millisecond: to which transports round, and playlists too.
const MS: TimeDelta = TimeDelta::from_millis(1);

/// What all renditions of a stream promise, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// No part is longer (4.4.3.7). Whole milliseconds.
    pub part_target: TimeDelta,
    /// No segment, rounded to seconds, is longer (4.4.3.1). Whole seconds.
    pub target: TimeDelta,
    /// A keyframe ends a segment that is at least so long.
    pub min_segment: TimeDelta,
    /// A segment that would become longer ends without a keyframe.
    pub max_segment: TimeDelta,
    /// How much is listed.
    pub window: TimeDelta,
}

impl Plan {
    /// A plan for a stream whose leader has a frame every `step` and a keyframe every `gop`, where that is known.
    ///
    /// The part target holds a whole number of frames, so that parts are close to it (at least 85 %, 4.4.4.9) at any frame
    /// rate. The target duration is that of the segments which the GOP makes; where the GOP is not known yet, twice the
    /// shortest segment.
    #[must_use]
    pub fn new(config: &Config, step: TimeDelta, gop: Option<TimeDelta>) -> Self {
        let min_segment = config.segment.max(MS);
        let natural = match gop.filter(|gop| *gop > TimeDelta::ZERO) {
            Some(gop) => times(gop, divide_up(min_segment - EARLY, gop)),
            None => min_segment + min_segment,
        };
        let rounded = divide_up(natural - OVERRUN, TimeDelta::from_millis(1_000)).max(1);
        let target = times(TimeDelta::from_millis(1_000), rounded).min(MAX_TARGET.max(config.segment));
        let part_target = part_target(config.part.max(MS), step).min(target);
        Self {
            part_target,
            target,
            min_segment: (min_segment - EARLY.min(TimeDelta(min_segment.0 / 4))).min(target),
            max_segment: target + OVERRUN,
            window: config.window.max(times(target, 3) + min_segment),
        }
    }

    /// How far from the live edge clients play: three parts (4.4.3.8).
    #[must_use]
    pub const fn part_hold_back(&self) -> TimeDelta {
        TimeDelta(self.part_target.0.saturating_mul(3))
    }

    /// From where on deltas leave segments out: six target durations from the end (4.4.3.8).
    #[must_use]
    pub const fn skip_boundary(&self) -> TimeDelta {
        TimeDelta(self.target.0.saturating_mul(6))
    }

    /// The target duration in seconds.
    #[must_use]
    pub const fn target_seconds(&self) -> u64 {
        self.target.to_duration().as_secs()
    }
}

/// The shortest whole number of frames that is at least nine tenths of `part`, in milliseconds, rounded up; and `part`
/// itself where that is enough.
fn part_target(part: TimeDelta, step: TimeDelta) -> TimeDelta {
    let step = step.clamp(MS, MAX_STEP);
    let fitting = (part + MS).0.checked_div(step.0).unwrap_or_default();
    let enough = TimeDelta(part.0.saturating_mul(9).checked_div(10).unwrap_or_default());
    let frames = if times(step, fitting) >= enough { fitting } else { fitting.saturating_add(1) };
    let length = times(step, frames.max(1));
    if length <= part {
        return part;
    }
    let exact = length.0.checked_rem(MS.0) == Some(0);
    // Transports round times to milliseconds, which makes a run of frames longer by one.
    times(MS, divide_up(length, MS).saturating_add(if exact { 0 } else { 1 }))
}

fn divide_up(value: TimeDelta, by: TimeDelta) -> i64 {
    let by = by.0.max(1);
    value.0.max(0).saturating_add(by.saturating_sub(1)).checked_div(by).unwrap_or_default().max(1)
}

const fn times(value: TimeDelta, count: i64) -> TimeDelta {
    TimeDelta(value.0.saturating_mul(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arcly_core::codec::FrameRate;

    #[test]
    fn part_targets_hold_whole_frames() {
        let rate = |num, den| FrameRate::new(num, den).expect("not zero").frame_duration();
        let ms = TimeDelta::from_millis;
        for (step, part, expect) in [
            (rate(25, 1), 200, 200),
            (rate(30, 1), 200, 200),
            (rate(60, 1), 200, 200),
            (rate(24, 1), 200, 210),
            (rate(30_000, 1_001), 200, 202),
            (rate(24_000, 1_001), 200, 210),
            (rate(12, 1), 200, 250),
            (rate(10, 1), 200, 200),
            (rate(1, 1), 200, 1_000),
            (ms(5_000), 200, 1_000),
            (rate(48_000, 1_024), 200, 200),
            (rate(25, 1), 500, 500),
        ] {
            let got = part_target(ms(part), step);
            assert_eq!(got.to_millis(), expect, "{step:?}");
            let frames = got.0 / step.0;
            assert!(step > ms(1_000) || frames * step.0 * 100 >= got.0 * 85, "{step:?}: {frames} in {got:?}");
        }
    }

    #[test]
    fn target_durations_follow_the_gop() {
        let (config, ms) = (Config::default(), TimeDelta::from_millis);
        for (gop, expect) in [
            (None, 4),
            (Some(2_000), 2),
            (Some(2_040), 2),
            (Some(1_000), 2),
            (Some(1_500), 3),
            (Some(4_000), 4),
            (Some(8_333), 9),
            (Some(600_000), 10),
            (Some(0), 4),
        ] {
            let plan = Plan::new(&config, ms(40), gop.map(ms));
            assert_eq!(plan.target_seconds(), expect, "{gop:?}");
            assert!(plan.window >= times(plan.target, 3));
        }
        let long = Config { segment: ms(30_000), ..config };
        assert_eq!(Plan::new(&long, ms(40), Some(ms(2_000))).target_seconds(), 30);
        assert_eq!(Plan::new(&Config { segment: ms(0), ..config }, ms(40), None).target_seconds(), 1);
    }
}
