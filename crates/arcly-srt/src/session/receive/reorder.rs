//! How long a missing packet is waited for before it is asked for.
//!
//! A packet that is missing when a later one comes is lost, or on a longer way. Asking for it at once costs a
//! retransmission in the second case; waiting costs time in the first, and time may be what decides whether a second
//! retransmission still makes it. So the wait is as long as packets have lately been seen to be late, and bounded by what
//! the latency has to spare: half of it while nothing is lost, what one attempt leaves over when something is, and on a lossy
//! path what two do.
//!
//! libsrt waits for a number of packets (`SRTO_LOSSMAXTTL`, 0 unless set), which under ±20 ms of jitter makes it send
//! 60 % more packets than are missing.

use std::time::Duration;

use crate::session::clock::micros;
use crate::session::rtt::Rtt;

/// The loss share is counted in parts of this.
const SHARE_ONE: u32 = 1 << 16;
/// The weight of one packet in the share.
const SHARE_WEIGHT: u32 = 512;
/// Nothing has been lost for a long time.
const LOSSLESS: u32 = SHARE_ONE / SHARE_WEIGHT / 2;
/// A path is lossy from this share of the missing packets on (3 %).
const LOSSY: u32 = SHARE_ONE / 33;

#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// A decaying maximum of how late packets were, in microseconds.
    lateness: i64,
    /// Of missing packets, the share that had been lost.
    lost: u32,
}

impl Reorder {
    /// A packet that was missing came by itself, so much after it was missed.
    pub(super) fn came_late(&mut self, lateness: i64, latency: i64) {
        self.lost -= self.lost / SHARE_WEIGHT;
        // What is too late to be waited for is no reason to wait longer for the others.
        if lateness > latency / 2 {
            return;
        }
        if lateness > self.lateness {
            self.lateness = lateness + lateness / 8;
        } else {
            self.lateness -= (self.lateness - lateness) / 256;
        }
    }

    /// One that had been taken for lost came after its repetition.
    pub(super) const fn was_not_lost(&mut self) {
        self.lost = self.lost.saturating_sub(SHARE_ONE / SHARE_WEIGHT);
    }

    /// A packet that was missing had been lost.
    pub(super) const fn was_lost(&mut self) {
        self.lost += (SHARE_ONE - self.lost) / SHARE_WEIGHT;
    }

    /// A packet came in its place.
    pub(super) fn in_order(&mut self) {
        self.lateness -= (self.lateness >> 12).max(i64::from(self.lateness > 0));
    }

    /// How long the next missing packet is waited for.
    pub(super) fn tolerance(&self, latency: i64, rtt: &Rtt) -> i64 {
        let attempt: Duration = rtt.smoothed() + rtt.variation();
        let attempts = i64::from(self.lost > LOSSLESS) + i64::from(self.lost > LOSSY);
        let spare = (latency - attempts * micros(attempt)).max(0);
        self.lateness.min(spare).min(latency / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: i64 = 120_000;

    fn rtt(ms: u64) -> Rtt {
        let mut rtt = Rtt::default();
        rtt.measure(Duration::from_millis(ms));
        (0..100).for_each(|_| rtt.measure(Duration::from_millis(ms)));
        rtt
    }

    #[test]
    fn nothing_is_waited_for_until_something_comes_late() {
        let mut reorder = Reorder::default();
        assert_eq!(reorder.tolerance(LATENCY, &rtt(40)), 0);
        (0..100).for_each(|_| reorder.was_lost());
        assert_eq!(reorder.tolerance(LATENCY, &rtt(40)), 0);
    }

    #[test]
    fn the_wait_follows_lateness_up_at_once_and_down_slowly() {
        let mut reorder = Reorder::default();
        reorder.came_late(16_000, LATENCY);
        assert_eq!(reorder.tolerance(LATENCY, &rtt(40)), 18_000);
        (0..400).for_each(|_| reorder.in_order());
        assert!(reorder.tolerance(LATENCY, &rtt(40)) > 16_000);
        (0..100_000).for_each(|_| reorder.in_order());
        assert_eq!(reorder.tolerance(LATENCY, &rtt(40)), 0);
    }

    #[test]
    fn one_packet_that_took_a_detour_changes_nothing() {
        let mut reorder = Reorder::default();
        reorder.came_late(100_000, LATENCY);
        assert_eq!(reorder.tolerance(LATENCY, &rtt(40)), 0);
    }

    #[test]
    fn a_lossy_path_leaves_time_for_two_attempts() {
        let mut reorder = Reorder::default();
        reorder.came_late(50_000, LATENCY);
        assert!(reorder.tolerance(LATENCY, &rtt(50)) > 50_000);
        reorder.was_lost();
        assert_eq!(reorder.tolerance(LATENCY, &rtt(80)), 40_000, "and a path with a loss for one");
        reorder.was_not_lost();
        assert!(reorder.tolerance(LATENCY, &rtt(80)) > 50_000);
        (0..20).for_each(|_| reorder.was_lost());
        let wait = reorder.tolerance(LATENCY, &rtt(50));
        assert!((15_000..=20_000).contains(&wait), "{wait}");
        assert_eq!(reorder.tolerance(LATENCY, &rtt(70)), 0);
    }
}
