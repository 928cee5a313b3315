//! Time-stamp based packet delivery (draft section 4.5): when a packet is handed over.
//!
//! ```text
//! handed over at   base + time stamp + latency
//! base             this side's time when the peer's clock was at 0, one transit included
//! ```
//!
//! The base is taken from the handshake and follows the drift of the peer's clock from then on. A time stamp is unwrapped
//! against what the peer's clock must read now, so that nothing has to be remembered from packet to packet, and a single
//! wrong one cannot put the following out.

use std::time::Duration;

use crate::session::clock::{micros, stamp as stamp_of};
use crate::wire::TimeStamp;

/// A packet cannot come from further in the future: its time stamp is wrong, and it counts as sent just now. Without
/// a bound one flipped bit would hold back everything behind its packet for up to half an hour.
const MAX_LEAD: i64 = 1_000_000;
/// Samples that the base is taken from together with the handshake: one packet says little on a path with jitter.
const FIRST_SAMPLES: i64 = 32;
/// How often the base follows the drift from then on, and on how many samples at least.
const DRIFT_PERIOD: i64 = 1_000_000;
const DRIFT_SAMPLES: i64 = 4;
/// The part of the error that is made up for in one period: ±500 ppm are followed 2 ms behind, and ±20 ms of jitter move
/// the base by less than a millisecond.
const DRIFT_GAIN: i64 = 4;
/// No step is larger, so that delivery neither halts nor bursts.
const MAX_DRIFT_STEP: i64 = 5_000;
/// A sample further off says more about the path than about the clock.
const MAX_DRIFT_SAMPLE: i64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Tsbpd {
    base: i64,
    latency: i64,
    drift: Drift,
}

#[derive(Debug, Default)]
struct Drift {
    /// Of the first samples, how many there were.
    first: i64,
    since: Option<i64>,
    sum: i64,
    samples: i64,
    /// The round trip after the first samples: half of what it has changed by since is not drift.
    initial_rtt: Option<i64>,
    /// All steps together.
    total: i64,
}

impl Tsbpd {
    /// The peer sent a packet with `stamp`, which came at `now`.
    pub(super) fn new(now: i64, stamp: TimeStamp, latency: Duration) -> Self {
        Self { base: now - i64::from(stamp.value()), latency: micros(latency), drift: Drift::default() }
    }

    pub(super) const fn latency(&self) -> i64 {
        self.latency
    }

    /// This side's time when the peer's clock was at 0, one transit included.
    pub(super) const fn base(&self) -> i64 {
        self.base
    }

    pub(super) const fn set_base(&mut self, base: i64) {
        self.base = base;
    }

    /// How far the peer's clock has been found to drift so far; positive when it is slow.
    pub(super) const fn drift(&self) -> i64 {
        self.drift.total
    }

    /// The time on the peer's clock that `stamp` means, in a packet that comes at `now`.
    pub(super) fn unwrap(&self, now: i64, stamp: TimeStamp) -> i64 {
        let expected = now - self.base;
        let lead = i64::from(stamp_of(expected).distance_to(stamp));
        if lead > MAX_LEAD { expected } else { expected + lead }
    }

    /// When a packet that the peer sent at `sent` on its clock is handed over.
    pub(super) const fn due(&self, sent: i64) -> i64 {
        self.base.saturating_add(sent).saturating_add(self.latency)
    }

    /// A control packet that left at once came at `now`, after a round trip of about `rtt`.
    pub(super) fn observe(&mut self, now: i64, stamp: TimeStamp, rtt: Duration) {
        let off = now - (self.base + self.unwrap(now, stamp));
        if off.abs() > MAX_DRIFT_SAMPLE {
            return;
        }
        if self.drift.first < FIRST_SAMPLES {
            // The base becomes the mean of all so far, of which the handshake is one.
            self.drift.first += 1;
            self.base += off / (self.drift.first + 1);
            return;
        }
        let rtt = micros(rtt);
        let initial = *self.drift.initial_rtt.get_or_insert(rtt);
        let off = off - (rtt - initial) / 2;
        let since = *self.drift.since.get_or_insert(now);
        self.drift.sum += off;
        self.drift.samples += 1;
        if now - since >= DRIFT_PERIOD && self.drift.samples >= DRIFT_SAMPLES {
            let mean = self.drift.sum / self.drift.samples;
            let step = (mean / DRIFT_GAIN).clamp(-MAX_DRIFT_STEP, MAX_DRIFT_STEP);
            self.base += step;
            self.drift.total = self.drift.total.saturating_add(step);
            (self.drift.since, self.drift.sum, self.drift.samples) = (None, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::session::clock::stamp;

    const MS: i64 = 1_000;
    const LATENCY: Duration = Duration::from_millis(120);

    #[test]
    fn a_packet_is_due_a_latency_after_a_transit_like_that_of_the_handshake() {
        let tsbpd = Tsbpd::new(1_000 * MS, stamp(20 * MS), LATENCY);
        let sent = tsbpd.unwrap(1_050 * MS, stamp(60 * MS));
        assert_eq!(tsbpd.due(sent), 1_040 * MS + 120 * MS);
    }

    #[test]
    fn f23_time_stamps_wrap_every_71_minutes_and_nothing_moves() {
        let mut tsbpd = Tsbpd::new(7, stamp(u32::MAX.into()), LATENCY);
        let sent_first = i64::from(u32::MAX);
        // 200 wraps, with a packet every ten minutes; it is as late as half a second.
        for n in 0..2_390_i64 {
            let sent = sent_first + n * 600 * 1_000 * MS;
            let transit = (n % 6) * 100 * MS;
            let now = 7 + (sent - sent_first) + transit;
            assert_eq!(tsbpd.due(tsbpd.unwrap(now, stamp(sent))), now - transit + 120 * MS);
        }
        tsbpd.observe(7, stamp(3), Duration::ZERO);
        assert_eq!(tsbpd.drift(), 0);
    }

    #[test]
    fn a_time_stamp_from_the_future_counts_as_now() {
        let tsbpd = Tsbpd::new(0, stamp(0), LATENCY);
        assert_eq!(tsbpd.unwrap(5_000 * MS, stamp(5_900 * MS)), 5_900 * MS);
        assert_eq!(tsbpd.unwrap(5_000 * MS, stamp((5_000 * MS) ^ (1 << 30))), 5_000 * MS);
    }

    #[test]
    fn drift_is_followed_within_three_milliseconds() {
        for ppm in [-500_i64, 500] {
            let mut tsbpd = Tsbpd::new(0, stamp(0), LATENCY);
            for n in 1..=360_000_i64 {
                let now = n * 10 * MS;
                // The peer's clock loses ppm.
                let sent = now - now * ppm / 1_000_000;
                tsbpd.observe(now, stamp(sent), Duration::from_millis(40));
                if n > 1_000 {
                    let error = tsbpd.due(tsbpd.unwrap(now, stamp(sent))) - (now + 120 * MS);
                    assert!(error.abs() <= 3 * MS, "{error} µs off after {n} samples at {ppm} ppm");
                }
            }
            assert!((tsbpd.drift() - ppm * 3_600).abs() < 5 * MS, "an hour at {ppm} ppm: {}", tsbpd.drift());
        }
    }

    #[test]
    fn a_handshake_that_was_late_is_made_up_for_within_a_third_of_a_second() {
        let mut tsbpd = Tsbpd::new(60 * MS, stamp(0), LATENCY);
        for n in 1..=32_i64 {
            // Transits of 10 and 30 ms by turns.
            let transit = (10 + n % 2 * 20) * MS;
            tsbpd.observe(n * 10 * MS + transit, stamp(n * 10 * MS), Duration::from_millis(40));
        }
        let late = tsbpd.due(0) - 120 * MS;
        assert!((20 * MS..22 * MS).contains(&late), "{late}");
    }

    #[test]
    fn a_longer_path_is_not_drift() {
        let mut tsbpd = Tsbpd::new(0, stamp(0), LATENCY);
        for n in 1..=10_000_i64 {
            let extra = if n > 100 { 25 } else { 0 };
            let now = (n * 10 + extra) * MS;
            let rtt = Duration::from_millis(40 + 2 * u64::try_from(extra).unwrap());
            tsbpd.observe(now, stamp(n * 10 * MS), rtt);
        }
        assert!(tsbpd.drift().abs() <= MS, "{}", tsbpd.drift());
    }
}
