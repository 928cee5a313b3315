//! The program's time: timestamps widened once, and how much media has passed.

use arcly_core::time::Unwrapper33;
use arcly_core::{Timescale, Timestamp};

use super::unit::Stamp;
use crate::ts::pes::{PesHeader, TIMESTAMP_RANGE};

/// Steps of the reference beyond this, 10 s, are jumps and no time that has passed.
const MAX_STEP: u64 = 10 * 90_000;
/// How far presentation may lie behind decoding, 10 s.
const MAX_COMPOSITION: u64 = 10 * 90_000;

/// How much has passed: media time in 90 kHz ticks, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Instant {
    pub(super) ticks: u64,
    pub(super) bytes: u64,
}

/// The clock of the program that is played.
#[derive(Debug, Default)]
pub(super) struct Clock {
    timestamps: Unwrapper33,
    /// The last value of the program's clock, or of a decode time as long as it has none.
    last: Option<u64>,
    has_reference: bool,
    passed: u64,
    /// The decode time seen last.
    latest: Option<Timestamp>,
}

impl Clock {
    /// A program clock reference, in 27 MHz ticks. It says how much time has passed; frames do not need it.
    pub(super) const fn reference(&mut self, pcr: u64) {
        self.has_reference = true;
        self.advance(pcr / 300);
    }

    const fn advance(&mut self, ticks: u64) {
        if let Some(last) = self.last {
            let step = ticks.wrapping_sub(last) & (TIMESTAMP_RANGE - 1);
            if step <= MAX_STEP {
                self.passed = self.passed.saturating_add(step);
            }
        }
        self.last = Some(ticks);
    }

    /// How much has passed.
    pub(super) const fn instant(&self, bytes: u64) -> Instant {
        Instant { ticks: self.passed, bytes }
    }

    /// The decode time seen last, for what has none of its own.
    pub(super) const fn latest(&self) -> Option<Stamp> {
        match self.latest {
            Some(at) => Some(Stamp { dts: at, pts: at, clamped: false }),
            None => None,
        }
    }

    /// The same for what applies at `time` on the 33-bit clock; what applied earlier, or does much later, counts as it comes.
    pub(super) fn latest_for(&self, time: u64) -> Option<Stamp> {
        let stamp = self.latest()?;
        let now = stamp.dts.to_ticks(Timescale::MPEG).cast_unsigned();
        let ahead = time.wrapping_sub(now) & (TIMESTAMP_RANGE - 1);
        let ahead = Some(ahead).filter(|ahead| *ahead <= MAX_COMPOSITION).unwrap_or_default();
        let ticks = now.saturating_add(ahead).cast_signed();
        Some(Stamp { pts: Timestamp::from_ticks(ticks, Timescale::MPEG).max(stamp.dts), ..stamp })
    }

    /// The timestamps of a PES packet on the unwrapped clock. Those that contradict each other, presentation before
    /// decoding or hours behind it, count as one.
    pub(super) fn stamp(&mut self, header: &PesHeader) -> Option<Stamp> {
        let pts = header.pts?;
        let dts = header.dts.unwrap_or(pts);
        let offset = pts.wrapping_sub(dts) & (TIMESTAMP_RANGE - 1);
        let clamped = offset > MAX_COMPOSITION;
        let (dts, offset) = if clamped { (pts, 0) } else { (dts, offset) };
        if !self.has_reference {
            self.advance(dts);
        }
        let ticks = self.timestamps.unwrap(dts);
        let at = |ticks| Timestamp::from_ticks(ticks, Timescale::MPEG);
        let dts = at(ticks);
        self.latest = Some(dts);
        Some(Stamp { dts, pts: at(ticks.saturating_add_unsigned(offset)), clamped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(pts: u64, dts: Option<u64>) -> PesHeader {
        PesHeader { pts: Some(pts), dts, ..PesHeader::default() }
    }

    #[test]
    fn m24_timestamps_go_on_over_the_wrap() {
        let mut clock = Clock::default();
        let last = TIMESTAMP_RANGE - 1;
        let ticks = |stamp: Stamp| (stamp.dts.to_ticks(Timescale::MPEG), stamp.pts.to_ticks(Timescale::MPEG));
        let first = i64::try_from(last).unwrap();
        assert_eq!(clock.stamp(&header(last, None)).map(ticks), Some((first, first)));
        // Presentation wraps before decoding does, and audio still comes from before.
        assert_eq!(clock.stamp(&header(7_199, Some(last))).map(ticks), Some((first, first + 7_200)));
        assert_eq!(clock.stamp(&header(3_599, None)).map(ticks), Some((first + 3_600, first + 3_600)));
        assert_eq!(clock.stamp(&header(last - 100, None)).map(ticks), Some((first - 100, first - 100)));
    }

    #[test]
    fn m22_decode_times_hours_from_presentation_are_ignored() {
        let mut clock = Clock::default();
        for (pts, dts) in [(90_000, 90_001), (90_000, 4 << 30), (4 << 30, 90_000)] {
            let stamp = clock.stamp(&header(pts, Some(dts))).unwrap();
            assert!(stamp.clamped && stamp.dts == stamp.pts, "{pts} {dts}");
        }
        assert_eq!(clock.stamp(&PesHeader::default()), None);
    }

    #[test]
    fn jumps_of_the_reference_are_no_time_that_passes() {
        let mut clock = Clock::default();
        for ticks in [0, 3_600, TIMESTAMP_RANGE - 10, 90_000_000, 90_003_600] {
            clock.reference(ticks * 300);
        }
        assert_eq!(clock.instant(5), Instant { ticks: 7_200, bytes: 5 });
    }
}
