//! From the stream's timeline to dates.

use std::time::{Duration, SystemTime};

use arcly_core::time::ClockSource;
use arcly_core::{MediaFrame, TimeDelta, Timestamp};

/// How fast dates may move towards what arrival or the sender says: 100 ppm, as clocks of crystals drift apart. Steps of a
/// clock are left behind, and within what a playlist lists dates and lengths agree to a millisecond or two: players that
/// place one rendition by the dates of another would find less in a segment than they expect.
const SLOWNESS: i128 = 10_000;
/// A sender that says so much else has set its clock, or tells it for the first time. It is followed at once.
const STEP: i128 = 1_000_000_000;

/// The wall-clock time of points of the timeline.
///
/// The publisher's own clock counts where it tells it. Else the frame that was delayed least says when it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dates {
    /// Wall-clock time of the timeline's zero, in nanoseconds since 1970.
    zero: Option<i128>,
    /// The smallest such time that frames since the last date suggest.
    arrival: Option<i128>,
    sender: Option<i128>,
    /// The last date given out and its time: dates do not run backwards.
    last: Option<(i128, Timestamp)>,
}

impl Dates {
    /// Takes note of a frame that arrived at `wall`.
    pub(crate) fn note(&mut self, wall: SystemTime, frame: &MediaFrame) {
        match frame.wall {
            Some(known) if known.source != ClockSource::Arrival => {
                self.sender = Some(since_1970(known.time).saturating_sub(nanos(frame.pts)));
            }
            _ => {
                let zero = since_1970(wall).saturating_sub(nanos(frame.dts));
                self.arrival = Some(self.arrival.map_or(zero, |best| best.min(zero)));
            }
        }
    }

    /// The timeline was re-based: what was known of it counts no more.
    pub(crate) const fn rebase(&mut self) {
        (self.zero, self.arrival, self.sender) = (None, None, None);
    }

    /// What the sender says of its clock is far from the last date that was given out.
    pub(crate) fn has_stepped(&self) -> bool {
        self.sender.zip(self.zero).is_some_and(|(told, zero)| told.abs_diff(zero) > STEP.unsigned_abs())
    }

    /// Corrects the dates of what follows by what frames have shown, and returns the date of `at`.
    pub(crate) fn settle(&mut self, at: Timestamp) -> SystemTime {
        let stepped = self.has_stepped();
        let told = self.sender.take().or(self.arrival);
        self.arrival = None;
        self.zero = match (told, self.zero) {
            (Some(told), Some(zero)) if !stepped => {
                let elapsed = self.last.map_or(0, |(_, last)| nanos_of(at - last).max(0));
                let most = elapsed.checked_div(SLOWNESS).unwrap_or_default();
                Some(zero.saturating_add(told.saturating_sub(zero).clamp(most.saturating_neg(), most)))
            }
            (told, zero) => told.or(zero),
        };
        let wanted = self.zero.unwrap_or_default().saturating_add(nanos(at));
        let date = self.last.map_or(wanted, |(last, _)| wanted.max(last));
        self.last = Some((date, at));
        to_time(date)
    }

    /// The date of `at` by the last one given out.
    pub(crate) fn date(&self, at: Timestamp) -> SystemTime {
        let from_last = |(date, then): (i128, Timestamp)| date.saturating_add(nanos_of(at - then));
        let date = self.last.map(from_last);
        to_time(date.unwrap_or_else(|| self.zero.unwrap_or_default().saturating_add(nanos(at))))
    }
}

fn nanos(at: Timestamp) -> i128 {
    nanos_of(at - Timestamp::ZERO)
}

fn nanos_of(delta: TimeDelta) -> i128 {
    let flicks = i128::from(arcly_core::time::FLICKS_PER_SECOND);
    i128::from(delta.0).saturating_mul(1_000_000_000).checked_div(flicks).unwrap_or_default()
}

fn since_1970(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_nanos()).map_or(i128::MIN, core::ops::Neg::neg),
    }
}

fn to_time(nanos: i128) -> SystemTime {
    let after = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(after)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that fails panics")]
mod tests {
    use super::*;
    use arcly_core::TrackId;
    use arcly_core::time::WallTime;

    fn frame(ms: i64) -> MediaFrame {
        MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(ms), bytes::Bytes::new())
    }

    fn wall(ms: u64) -> SystemTime {
        to_time(i128::from(1_000_000 + ms) * 1_000_000)
    }

    #[test]
    fn f27_steps_of_the_clock_do_not_move_dates_and_drift_does() {
        let mut dates = Dates::default();
        dates.note(wall(80), &frame(0));
        dates.note(wall(1_020), &frame(1_000));
        assert_eq!(dates.settle(Timestamp::ZERO), wall(20), "the least delayed frame counts");
        let at = |ms| wall(ms) + Duration::from_micros(200);
        dates.note(wall(3_602_020), &frame(2_000));
        assert_eq!(dates.settle(Timestamp::from_millis(2_000)), at(2_020), "of an hour's step 100 ppm");
        dates.note(wall(4_020), &frame(4_000));
        assert_eq!(dates.settle(Timestamp::from_millis(4_000)), wall(4_020), "back as far as it may be");
        dates.note(wall(1), &frame(24_000));
        assert_eq!(dates.settle(Timestamp::from_millis(24_000)), wall(24_018));
        assert_eq!(dates.date(Timestamp::from_millis(24_500)), wall(24_518));
    }

    #[test]
    fn dates_never_run_backwards_and_the_senders_clock_counts() {
        let mut dates = Dates::default();
        dates.note(wall(50_000), &frame(0));
        assert_eq!(dates.settle(Timestamp::ZERO), wall(50_000));
        let mut told = frame(1_000);
        told.wall = Some(WallTime { time: wall(51_300), source: ClockSource::Sender });
        dates.note(wall(99_000), &told);
        assert!(!dates.has_stepped());
        let slewed = wall(51_000) + Duration::from_micros(100);
        assert_eq!(dates.settle(Timestamp::from_millis(1_000)), slewed);
        told.wall = Some(WallTime { time: wall(60_000), source: ClockSource::Sender });
        dates.note(wall(99_000), &told);
        assert!(dates.has_stepped());
        assert_eq!(dates.settle(Timestamp::from_millis(1_000)), wall(60_000));
        assert!(!dates.has_stepped());
        dates.rebase();
        dates.note(wall(0), &frame(2_000));
        assert_eq!(dates.settle(Timestamp::from_millis(2_000)), wall(60_000));
    }
}
