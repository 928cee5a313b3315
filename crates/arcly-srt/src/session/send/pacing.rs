//! When the next packet may leave (draft section 5).

use crate::config::Bandwidth;
use crate::session::meter::Meter;
use crate::wire::{HEADER_BYTES, UDP_HEADERS};

/// How far behind its schedule a sender may catch up at once: timers fire late.
const MAX_CATCH_UP: i64 = 10_000;
/// Live input slower than this is taken to be so fast, so that a stream that begins is not held back.
const MIN_INPUT: u64 = 125_000;

/// Bytes on the wire of a packet with this payload.
pub(super) const fn wire_bytes(payload: usize) -> u64 {
    (payload + HEADER_BYTES + UDP_HEADERS) as u64
}

/// The schedule of packets.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    next: Option<i64>,
}

impl Pacer {
    /// When the next packet may leave; `None` for now.
    pub(super) fn wake(&self, now: i64) -> Option<i64> {
        self.next.filter(|next| *next > now)
    }

    /// A packet has left; the next may follow after `interval`.
    pub(super) fn sent(&mut self, now: i64, interval: i64) {
        let from = self.next.unwrap_or(now).max(now - MAX_CATCH_UP);
        self.next = Some(from + interval);
    }
}

/// Live congestion control: as fast as the input and so much more, whatever the path does.
#[derive(Debug)]
pub(super) struct LiveCc {
    bandwidth: Bandwidth,
}

impl LiveCc {
    pub(super) const fn new(bandwidth: Bandwidth) -> Self {
        Self { bandwidth }
    }

    /// Bytes a second; `None` for no bound.
    pub(super) fn rate(&self, now: i64, input: &Meter) -> Option<u64> {
        match self.bandwidth {
            Bandwidth::Unlimited => None,
            Bandwidth::Max { bytes_per_second } => Some(bytes_per_second.max(1)),
            Bandwidth::Input { bytes_per_second, overhead_percent } => {
                let input = bytes_per_second.unwrap_or_else(|| input.rate(now).bytes.max(MIN_INPUT));
                Some((input.saturating_mul(100 + u64::from(overhead_percent)) / 100).max(1))
            }
        }
    }

    /// Microseconds until the packet after one of so many bytes.
    pub(super) fn interval(&self, now: i64, bytes: u64, input: &Meter) -> i64 {
        let micros = self.rate(now, input).map_or(0, |rate| bytes.saturating_mul(1_000_000) / rate);
        i64::try_from(micros).unwrap_or(i64::MAX)
    }
}

/// How much may be repeated: as much as is sent for the first time, and a second of that at once. A peer that asks for
/// everything again and again gets no more than that (S20).
#[derive(Debug)]
pub(super) struct Repetitions {
    /// Bytes; less than nothing after a packet that was longer than what was left.
    tokens: i64,
    at: i64,
}

/// What may be repeated at once, and in a second, however slow the input is.
const MIN_BURST: i64 = 64 << 10;

impl Repetitions {
    pub(super) const fn new(now: i64) -> Self {
        Self { tokens: MIN_BURST, at: now }
    }

    /// Whether there is something left by `now`, with so many bytes a second coming in.
    pub(super) fn refill(&mut self, now: i64, input: u64) -> bool {
        let input = bounded(input);
        let elapsed = (now - self.at).clamp(0, 1_000_000);
        let gain = input.saturating_mul(elapsed) / 1_000_000;
        // What is less than a byte stays in the time.
        if gain > 0 {
            self.tokens = self.tokens.saturating_add(gain).min(input);
            self.at = now;
        }
        self.tokens > 0
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub_unsigned(bytes);
    }

    /// When there is something again.
    pub(super) fn wake(&self, input: u64) -> i64 {
        let missing = (1 - self.tokens).max(1);
        self.at + missing.saturating_mul(1_000_000) / bounded(input) + 1
    }
}

fn bounded(input: u64) -> i64 {
    i64::try_from(input).unwrap_or(i64::MAX).max(MIN_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_distance_and_lost_time_is_made_up_for_in_part() {
        let cc = LiveCc::new(Bandwidth::Max { bytes_per_second: 1_360_000 });
        let interval = cc.interval(0, wire_bytes(1_316), &Meter::default());
        assert_eq!(interval, 1_000);
        let mut pacer = Pacer::default();
        assert_eq!(pacer.wake(0), None);
        pacer.sent(0, interval);
        assert_eq!(pacer.wake(999), Some(1_000));
        assert_eq!(pacer.wake(1_000), None);
        // A second late: ten packets may leave at once, not a thousand.
        let mut burst = 0;
        while pacer.wake(1_000_000).is_none() {
            pacer.sent(1_000_000, interval);
            burst += 1;
        }
        assert_eq!(burst, 11);
    }

    #[test]
    fn the_input_and_its_overhead_bound_the_rate() {
        let mut input = Meter::default();
        (0..2_000).for_each(|ms| input.add(ms * 1_000, 1_000));
        let measured = LiveCc::new(Bandwidth::Input { bytes_per_second: None, overhead_percent: 25 });
        assert_eq!(measured.rate(2_000_000, &input), Some(1_250_000));
        let known = LiveCc::new(Bandwidth::Input { bytes_per_second: Some(500_000), overhead_percent: 50 });
        assert_eq!(known.rate(0, &input), Some(750_000));
        assert_eq!(LiveCc::new(Bandwidth::Unlimited).interval(0, 1_500, &input), 0);
    }

    #[test]
    fn repetitions_go_on_when_it_says_so() {
        let mut repetitions = Repetitions::new(0);
        while repetitions.refill(0, 500_000) {
            repetitions.take(1_360);
        }
        let wake = repetitions.wake(500_000);
        assert!((1..5_000).contains(&wake), "{wake}");
        assert!(!repetitions.refill(wake - 2, 500_000));
        assert!(repetitions.refill(wake, 500_000));
    }

    #[test]
    fn s20b_repetitions_are_bounded_by_the_input() {
        let mut repetitions = Repetitions::new(0);
        let mut repeated = 0;
        // Ten seconds at 500 kB/s, asked for everything every millisecond.
        for ms in 0..10_000 {
            while repetitions.refill(ms * 1_000, 500_000) {
                repetitions.take(1_360);
                repeated += 1_360;
            }
        }
        assert!((4_900_000..5_100_000).contains(&repeated), "{repeated}");
    }
}
