use std::time::{Instant, SystemTime};

use arcly_core::time::{FLICKS_PER_SECOND, Timescale};
use arcly_core::{TimeDelta, Timestamp};

use crate::wire::NtpTime;

/// Units of an NTP timestamp in a second.
const NTP_SECOND: i128 = 1 << 32;
/// Drift is not told from less than this, 10 s: reports are stamped by a clock that may be a millisecond off.
const MIN_SPAN: i128 = 10 * NTP_SECOND;

/// How clocks run against each other, in millionths. A positive value: the first one named runs fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The sender's RTP clock against its own wall clock.
    pub media_ppm: i32,
    /// The sender's wall clock against this machine's.
    pub sender_ppm: i32,
}

/// Which moment an RTP timestamp stands for, by what sender reports say.
#[derive(Clone, Copy, Debug)]
pub struct SenderClock {
    clock: Timescale,
    first: Option<Report>,
    last: Option<Report>,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    ntp: NtpTime,
    ticks: i64,
    at: Instant,
}

impl SenderClock {
    /// Knows nothing yet.
    #[must_use]
    pub const fn new(clock: Timescale) -> Self {
        Self { clock, first: None, last: None }
    }

    /// A report: a moment, and the same on the media's unwrapped clock. One without a wall clock, NTP time 0, says nothing.
    pub fn report(&mut self, now: Instant, ntp: NtpTime, ticks: i64) {
        if ntp == NtpTime::default() {
            return;
        }
        let report = Report { ntp, ticks, at: now };
        self.first.get_or_insert(report);
        self.last = Some(report);
    }

    /// Forgets everything: another sender begins.
    pub const fn reset(&mut self) {
        self.first = None;
        self.last = None;
    }

    /// The moment of `ticks` on the sender's clock, in flicks since 1900 or since whenever it counts from. For telling how far
    /// apart tracks of one sender are.
    #[must_use]
    pub fn moment(&self, ticks: i64) -> Option<i128> {
        let last = self.last?;
        let since = Timestamp::from_ticks(ticks.saturating_sub(last.ticks), self.clock);
        let flicks = i128::from(last.ntp.0).saturating_mul(FLICKS_PER_SECOND.into()) >> 32;
        Some(flicks.saturating_add(since.0.into()))
    }

    /// The wall-clock time of `ticks`; `None` as long as the sender has not said one.
    #[must_use]
    pub fn wall(&self, ticks: i64) -> Option<SystemTime> {
        let last = self.last?;
        let time = last.ntp.to_system_time()?;
        let away = TimeDelta::from_ticks(ticks.saturating_sub(last.ticks), self.clock);
        let distance = away.abs().to_duration();
        if away < TimeDelta::ZERO { time.checked_sub(distance) } else { time.checked_add(distance) }
    }

    /// How the clocks run against each other; `None` before reports span ten seconds.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        let (first, last) = (self.first?, self.last?);
        let wall = i128::from(last.ntp.since(first.ntp));
        if wall < MIN_SPAN {
            return None;
        }
        let media = i128::from(last.ticks.saturating_sub(first.ticks)).saturating_mul(NTP_SECOND);
        let media = media.checked_div(self.clock.get().into())?;
        let local = last.at.saturating_duration_since(first.at).as_nanos();
        let local = i128::try_from(local).ok()?.saturating_mul(NTP_SECOND) / 1_000_000_000;
        Some(Drift { media_ppm: ppm(media, wall)?, sender_ppm: ppm(wall, local)? })
    }
}

/// By how many millionths, to the nearest, `fast` is longer than `against`.
fn ppm(fast: i128, against: i128) -> Option<i32> {
    let distance = fast.saturating_sub(against).saturating_mul(1_000_000);
    let half = against.checked_div(2)?.saturating_mul(distance.signum());
    let millionths = distance.saturating_add(half).checked_div(against)?;
    i32::try_from(millionths).ok()
}
