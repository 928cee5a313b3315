//! Exact media time.
//!
//! One integer clock serves every format: the *flick*, 1/705 600 000 s. 1 kHz, 90 kHz, 44.1 kHz and
//! 48 kHz families, 24/25/30/50/60 fps and their 1000/1001 forms all divide it, so that tracks compare
//! with `<` and a remux never rounds. Counters that wrap (RTMP 32-bit milliseconds, TS 33-bit, RTP 32-bit)
//! are widened once, at ingest, by [`Unwrapper`].

use core::num::NonZeroU32;
use core::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use core::time::Duration;
use std::time::SystemTime;

/// Flicks in one second.
pub const FLICKS_PER_SECOND: i64 = 705_600_000;

const FLICKS_PER_MS: i64 = FLICKS_PER_SECOND / 1_000;

/// Ticks per second of a media clock. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// Milliseconds: RTMP, FLV.
    pub const MILLIS: Self = Self::of(1_000);
    /// MPEG-TS, and video over RTP.
    pub const MPEG: Self = Self::of(90_000);
    /// Microseconds: SRT.
    pub const MICROS: Self = Self::of(1_000_000);

    /// A timescale, or `None` for zero.
    #[must_use]
    pub const fn new(ticks_per_second: u32) -> Option<Self> {
        match NonZeroU32::new(ticks_per_second) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// A timescale known when the program is written.
    ///
    /// # Panics
    /// When `ticks_per_second` is zero; meant for constants, where that is a compile error.
    #[must_use]
    pub const fn of(ticks_per_second: u32) -> Self {
        match Self::new(ticks_per_second) {
            Some(scale) => scale,
            None => panic!("a timescale is not zero"),
        }
    }

    /// Ticks per second.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// True when one tick is a whole number of flicks, so that *every* tick value converts exactly.
    /// Other timescales below 352.8 MHz still round-trip tick → flick → tick without loss.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        FLICKS_PER_SECOND % self.get() as i64 == 0
    }
}

/// Nearest integer to `value * mul / div`, halves away from zero, saturating at the ends of `i64`.
const fn scale(value: i64, mul: i64, div: i64) -> i64 {
    let product = value as i128 * mul as i128;
    let half = (div / 2) as i128;
    let rounded = if product >= 0 { (product + half) / div as i128 } else { (product - half) / div as i128 };
    if rounded > i64::MAX as i128 {
        i64::MAX
    } else if rounded < i64::MIN as i128 {
        i64::MIN
    } else {
        rounded as i64
    }
}

/// A point on a stream's timeline, in flicks since the stream's own zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// A signed distance between two [`Timestamp`]s, in flicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeDelta(pub i64);

macro_rules! conversions {
    ($ty:ident, $thing:literal) => {
        impl $ty {
            #[doc = concat!("The zero ", $thing, ".")]
            pub const ZERO: Self = Self(0);

            #[doc = concat!("A ", $thing, " from a count of ticks; exact to half a flick, saturating at the ends.")]
            #[must_use]
            pub const fn from_ticks(ticks: i64, timescale: Timescale) -> Self {
                Self(scale(ticks, FLICKS_PER_SECOND, timescale.get() as i64))
            }

            /// The nearest count of ticks. `from_ticks(n, s).to_ticks(s) == n` for every `s` below 352.8 MHz.
            #[must_use]
            pub const fn to_ticks(self, timescale: Timescale) -> i64 {
                scale(self.0, timescale.get() as i64, FLICKS_PER_SECOND)
            }

            #[doc = concat!("A ", $thing, " in milliseconds.")]
            #[must_use]
            pub const fn from_millis(ms: i64) -> Self {
                Self(ms.saturating_mul(FLICKS_PER_MS))
            }

            /// The nearest count of milliseconds.
            #[must_use]
            pub const fn to_millis(self) -> i64 {
                self.to_ticks(Timescale::MILLIS)
            }

            /// Seconds, for people and logs; not exact.
            #[must_use]
            #[allow(clippy::cast_precision_loss, reason = "for display only")]
            pub fn as_secs_f64(self) -> f64 {
                self.0 as f64 / FLICKS_PER_SECOND as f64
            }
        }
    };
}

conversions!(Timestamp, "timestamp");
conversions!(TimeDelta, "distance");

impl TimeDelta {
    /// The distance that `count` units of which `rate` make a second take: samples, frames.
    #[must_use]
    pub const fn from_units(count: i64, rate: Timescale) -> Self {
        Self::from_ticks(count, rate)
    }

    /// A distance from elapsed time, saturating.
    #[must_use]
    pub const fn from_duration(duration: Duration) -> Self {
        let flicks = duration.as_nanos() as i128 * FLICKS_PER_SECOND as i128 / 1_000_000_000;
        Self(if flicks > i64::MAX as i128 { i64::MAX } else { flicks as i64 })
    }

    /// Elapsed time; a negative distance becomes zero.
    #[must_use]
    pub const fn to_duration(self) -> Duration {
        if self.0 <= 0 {
            return Duration::ZERO;
        }
        let nanos = self.0 as i128 * 1_000_000_000 / FLICKS_PER_SECOND as i128;
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    /// The distance without its sign.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
}

impl Add<TimeDelta> for Timestamp {
    type Output = Self;
    fn add(self, rhs: TimeDelta) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign<TimeDelta> for Timestamp {
    fn add_assign(&mut self, rhs: TimeDelta) {
        *self = *self + rhs;
    }
}

impl Sub<TimeDelta> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: TimeDelta) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl Sub for Timestamp {
    type Output = TimeDelta;
    fn sub(self, rhs: Self) -> TimeDelta {
        TimeDelta(self.0.saturating_sub(rhs.0))
    }
}

impl Add for TimeDelta {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for TimeDelta {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

impl Sub for TimeDelta {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl SubAssign for TimeDelta {
    fn sub_assign(&mut self, rhs: Self) {
        *self = *self - rhs;
    }
}

impl Neg for TimeDelta {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// Widens a counter of `BITS` bits that wraps into one of 64 bits that does not.
///
/// The first value is taken as it is; each later one is placed at the distance below half the counter's
/// range from its predecessor, forwards or backwards. So a wrap continues, and a small step back stays one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper<const BITS: u32> {
    last: Option<i64>,
}

/// RTMP milliseconds and RTP timestamps.
pub type Unwrapper32 = Unwrapper<32>;
/// MPEG-TS PTS, DTS and PCR base.
pub type Unwrapper33 = Unwrapper<33>;

impl<const BITS: u32> Unwrapper<BITS> {
    const RANGE: i64 = 1 << BITS;

    /// An unwrapper that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// The 64-bit value of a counter; bits above `BITS` are ignored.
    pub const fn unwrap(&mut self, raw: u64) -> i64 {
        let raw = (raw as i64) & (Self::RANGE - 1);
        let value = match self.last {
            None => raw,
            Some(last) => {
                let step = raw.wrapping_sub(last) & (Self::RANGE - 1);
                let step = if step >= Self::RANGE / 2 { step - Self::RANGE } else { step };
                last.saturating_add(step)
            }
        };
        self.last = Some(value);
        value
    }
}

/// Where a wall-clock time comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ClockSource {
    /// The publisher says when the frame was captured: RTCP sender report, PROGRAM-DATE-TIME, timecode.
    Sender,
    /// The transport's origin time, such as SRT's.
    Transport,
    /// When the frame reached this server.
    Arrival,
}

/// Wall-clock time of a frame, with its provenance. It never takes part in DTS arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WallTime {
    /// UTC.
    pub time: SystemTime,
    /// Who says so.
    pub source: ClockSource,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IN_USE: &[u32] = &[
        1, 24, 25, 30, 50, 60, 1_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 30_000, 32_000, 44_100,
        48_000, 60_000, 64_000, 88_200, 90_000, 96_000, 120_000, 176_400, 192_000,
    ];

    #[test]
    fn every_timescale_in_use_is_exact() {
        for &scale in IN_USE {
            assert!(Timescale::of(scale).is_exact(), "{scale}");
        }
        // 1000/1001 frame rates: a frame lasts 1001 ticks of 24, 30 or 60 kHz.
        for scale in [24_000, 30_000, 60_000] {
            let frame = TimeDelta::from_ticks(1_001, Timescale::of(scale));
            assert_eq!(i128::from(frame.0) * i128::from(scale), 1_001 * i128::from(FLICKS_PER_SECOND));
        }
        assert!(!Timescale::MICROS.is_exact(), "705.6 flicks each: round-trips, does not divide");
    }

    #[test]
    fn aac_frames_at_44100_never_drift() {
        let rate = Timescale::of(44_100);
        let step = TimeDelta::from_units(1_024, rate);
        let mut t = Timestamp::ZERO;
        for n in 0..1_000_000 {
            assert_eq!(t.to_ticks(rate), n * 1_024);
            t += step;
        }
    }

    #[test]
    fn wraps_continue_and_small_steps_back_stay() {
        let mut ms = Unwrapper32::new();
        assert_eq!(ms.unwrap(0xFFFF_FFF0), 0xFFFF_FFF0);
        assert_eq!(ms.unwrap(10), 0x1_0000_000A);
        assert_eq!(ms.unwrap(0xFFFF_FFFF), 0xFFFF_FFFF);
        assert_eq!(ms.unwrap(5), 0x1_0000_0005);
        let mut ts = Unwrapper33::new();
        assert_eq!(ts.unwrap((1 << 33) - 1), (1 << 33) - 1);
        assert_eq!(ts.unwrap(89_999), (1 << 33) + 89_999);
    }

    /// 200 years either way; an `i64` of flicks ends at 414.
    const SECONDS: core::ops::Range<i64> = -6_000_000_000..6_000_000_000;

    proptest! {
        #[test]
        fn ticks_round_trip(seconds in SECONDS, part in any::<u32>(), scale in 1u32..352_000_000) {
            let ticks = seconds * i64::from(scale) + i64::from(part % scale);
            let scale = Timescale::of(scale);
            prop_assert_eq!(Timestamp::from_ticks(ticks, scale).to_ticks(scale), ticks);
        }

        #[test]
        fn exact_timescales_convert_between_each_other_without_rounding(
            seconds in SECONDS, part in any::<u32>(), a in 0..IN_USE.len(), b in 0..IN_USE.len(),
        ) {
            let ticks = seconds * i64::from(IN_USE[a]) + i64::from(part % IN_USE[a]);
            let (a, b) = (Timescale::of(IN_USE[a]), Timescale::of(IN_USE[b]));
            let t = Timestamp::from_ticks(ticks, a);
            prop_assert_eq!(i128::from(t.0) * i128::from(a.get()), i128::from(ticks) * i128::from(FLICKS_PER_SECOND));
            let rounded = Timestamp::from_ticks(t.to_ticks(b), b);
            prop_assert!((rounded - t).abs().0 * 2 <= FLICKS_PER_SECOND / i64::from(b.get()));
        }

        #[test]
        fn nothing_overflows(a in any::<i64>(), b in any::<i64>(), scale in 1u32..) {
            let scale = Timescale::of(scale);
            let t = Timestamp(a) + TimeDelta(b) - TimeDelta(a);
            let _ = (t - Timestamp(b), -TimeDelta(a), t.to_ticks(scale), Timestamp::from_ticks(a, scale), Timestamp::from_millis(a));
            let _ = TimeDelta(a).to_duration();
        }

        #[test]
        fn unwrapping_follows_any_counter(start in 0u64..1 << 32, steps in proptest::collection::vec(-1_000i64..1 << 30, 1..200)) {
            let mut unwrapper = Unwrapper32::new();
            let mut truth = start as i64;
            prop_assert_eq!(unwrapper.unwrap(start), truth);
            for step in steps {
                truth += step;
                prop_assert_eq!(unwrapper.unwrap(truth as u64 & 0xFFFF_FFFF), truth);
            }
        }
    }
}
