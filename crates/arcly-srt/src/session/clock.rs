//! Times and sequence numbers without their wraps.
//!
//! On the wire a time stamp is 32 bits of microseconds (71 min 35 s) and a sequence number is 31 bits. In here times
//! are signed microseconds on this side's clock, and the packets of one direction are counted from 0 in 64 bits: the
//! wrap is undone once, at the edge, and nothing behind it can get it wrong.

use std::time::{Duration, Instant};

use crate::wire::{SeqNumber, TimeStamp};

/// This side's clock: microseconds since the connection was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) const fn new(start: Instant) -> Self {
        Self { start }
    }

    /// Microseconds since the start; negative for what was before it.
    pub(super) fn micros(self, at: Instant) -> i64 {
        match at.checked_duration_since(self.start) {
            Some(since) => micros(since),
            None => -micros(self.start.saturating_duration_since(at)),
        }
    }

    /// The instant of `micros`; the start for what was before it.
    pub(super) fn instant(self, micros: i64) -> Instant {
        self.start + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// What a packet that leaves at `micros` is stamped with: modulo 2^32, also for what was before the start.
pub(super) const fn stamp(micros: i64) -> TimeStamp {
    TimeStamp::new((micros & 0xFFFF_FFFF) as u32)
}

/// A span in microseconds.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The earlier of two times, where there are any.
pub(super) fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The packets of one direction, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    initial: SeqNumber,
}

impl Numbering {
    pub(super) const fn new(initial: SeqNumber) -> Self {
        Self { initial }
    }

    /// The number on the wire of the packet with this index.
    pub(super) const fn seq(self, index: u64) -> SeqNumber {
        self.initial.plus((index & SeqNumber::MAX as u64) as u32)
    }

    /// The index that `seq` means, which is the one closest to `near`; `None` for a packet before the first.
    pub(super) fn index(self, seq: SeqNumber, near: u64) -> Option<u64> {
        near.checked_add_signed(i64::from(self.seq(near).distance_to(seq)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f23_sequence_numbers_are_unwrapped_wherever_they_start() {
        for initial in [0, 1, 0x3FFF_FFFF, 0x7FFF_FFFE, 0x7FFF_FFFF] {
            let numbering = Numbering::new(SeqNumber::new(initial));
            // A thousand wraps, in steps that meet each end of the space.
            let mut near = 0;
            for step in 0..5_000_u64 {
                let index = near + (step % 3) * 0x1FFF_FFFF;
                assert_eq!(numbering.index(numbering.seq(index), near), Some(index));
                near = index;
            }
            assert!(near > 1_000 * u64::from(SeqNumber::MAX));
            assert_eq!(numbering.index(numbering.seq(0).previous(), 0), None, "before the first");
        }
    }

    #[test]
    fn time_stamps_wrap_and_instants_come_back() {
        let start = Instant::now();
        let clock = Clock::new(start);
        let later = start + Duration::from_micros((1 << 32) + 5);
        assert_eq!(stamp(clock.micros(later)), TimeStamp::new(5));
        assert_eq!(clock.instant(clock.micros(later)), later);
        assert_eq!(clock.instant(-5), start);
    }
}
