use core::str::FromStr;
use std::time::{Duration, Instant};

/// How often a reader is written to. What comes in between goes out together, in one write.
///
/// | tick | a reader gets | for |
/// |---|---|---|
/// | [`FRAME`](Self::FRAME) | each frame at once; sound and data wait 2 ms for a picture to go out with | lowest delay |
/// | [`SHORT`](Self::SHORT) | everything, every 10 ms | |
/// | [`STANDARD`](Self::STANDARD) | everything, every 33 ms | the default of the servers |
/// | [`LONG`](Self::LONG) | everything, every 100 ms | most readers on a machine |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tick(Duration);

impl Tick {
    /// With each frame.
    pub const FRAME: Self = Self(Duration::ZERO);
    /// 10 ms.
    pub const SHORT: Self = Self(Duration::from_millis(10));
    /// 33 ms.
    pub const STANDARD: Self = Self(Duration::from_millis(33));
    /// 100 ms. Longer ones save next to nothing more.
    pub const LONG: Self = Self(Duration::from_millis(100));
    /// The longest tick there is; a player's buffer is not to run dry in between.
    pub const MAX: Self = Self(Duration::from_secs(1));

    /// Every `interval`, at most [`MAX`](Self::MAX); zero is [`FRAME`](Self::FRAME).
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self(interval.min(Self::MAX.0))
    }

    /// The time between two writes; zero for [`FRAME`](Self::FRAME).
    #[must_use]
    pub const fn interval(self) -> Duration {
        self.0
    }
}

impl Default for Tick {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// What a reader asks for: `?latency=low` in its URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Latency {
    /// [`Tick::FRAME`].
    Low,
    /// What the server is set to.
    #[default]
    Default,
    /// [`Tick::LONG`].
    Throughput,
}

impl Latency {
    /// What `latency` is in a URL's query; the default when it is not there, or nothing that is known.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("latency="));
        values.next_back().and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// The tick, on a server that is set to `default`.
    #[must_use]
    pub const fn tick(self, default: Tick) -> Tick {
        match self {
            Self::Low => Tick::FRAME,
            Self::Default => default,
            Self::Throughput => Tick::LONG,
        }
    }
}

impl FromStr for Latency {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "low" => Ok(Self::Low),
            "default" => Ok(Self::Default),
            "throughput" => Ok(Self::Throughput),
            _ => Err(()),
        }
    }
}

/// The highest level of [`Load`].
pub(super) const MAX_LEVEL: u8 = 4;
/// What a tick grows to under load at the most, unless it is longer anyway: beyond it next to nothing is saved.
const WIDEST: Duration = Tick::LONG.0;
/// What frame by frame becomes at the first level.
const NARROWEST: Duration = Duration::from_millis(10);

/// A worker's ticks. They lie on one grid, so that all streams of a class cost one wake-up.
#[derive(Debug)]
pub(super) struct Beat {
    epoch: Instant,
    /// How far the ticks are widened.
    pub(super) level: u8,
}

impl Beat {
    pub(super) const fn new(epoch: Instant) -> Self {
        Self { epoch, level: 0 }
    }

    /// The time between two writes as things are; `None` for frame by frame.
    pub(super) fn interval(&self, tick: Tick) -> Option<Duration> {
        let base = match (tick, self.level) {
            (Tick::FRAME, 0) => return None,
            (Tick::FRAME, level) => NARROWEST * (1 << (level - 1)),
            (Tick(interval), level) => interval * (1 << level),
        };
        Some(base.min(WIDEST.max(tick.0)))
    }

    /// The next tick after `now`.
    pub(super) fn next(&self, now: Instant, interval: Duration) -> Instant {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        let interval = interval.as_nanos().max(1);
        let ahead = interval - since % interval;
        now + Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX))
    }
}

/// How long a share is measured.
const WINDOW: Duration = Duration::from_millis(200);
/// Percent of a window that a worker is busy or behind from which ticks widen, and up to which they may narrow: less
/// than half of the former, because a level less costs twice as much at the most.
const WIDEN_PERCENT: u128 = 75;
const NARROW_PERCENT: u128 = 30;
/// Windows in a row for a level more: many readers who come at once keep a worker busy for a moment, and it is not to
/// make everybody wait longer because of them.
const BUSY_WINDOWS: u32 = 3;
/// Windows in a row for a level less.
const CALM_WINDOWS: u32 = 5;
/// What a timer is late by on a machine that is not.
const SLACK: Duration = Duration::from_millis(2);

/// Whether a worker keeps up, from the share of time that it is at work, or should be and is not yet.
#[derive(Debug)]
pub(super) struct Load {
    began: Instant,
    busy: Duration,
    /// Windows in a row that were too busy, or calm.
    busy_windows: u32,
    calm_windows: u32,
}

impl Load {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, busy: Duration::ZERO, busy_windows: 0, calm_windows: 0 }
    }

    /// A round was `late` and then took from `from` to `to`. Returns the level to go on with.
    pub(super) fn note(&mut self, from: Instant, to: Instant, late: Duration, level: u8) -> u8 {
        self.busy += to.saturating_duration_since(from) + late.saturating_sub(SLACK).min(WINDOW);
        let elapsed = to.saturating_duration_since(self.began);
        if elapsed < WINDOW {
            return level;
        }
        let percent = self.busy.as_nanos() * 100 / elapsed.as_nanos().max(1);
        (self.began, self.busy) = (to, Duration::ZERO);
        let count = |windows: u32, more: bool| if more { windows.saturating_add(1) } else { 0 };
        self.busy_windows = count(self.busy_windows, percent >= WIDEN_PERCENT);
        self.calm_windows = count(self.calm_windows, percent <= NARROW_PERCENT);
        if self.busy_windows >= BUSY_WINDOWS {
            self.busy_windows = 0;
            return (level + 1).min(MAX_LEVEL);
        }
        if self.calm_windows >= CALM_WINDOWS {
            self.calm_windows = 0;
            return level.saturating_sub(1);
        }
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_readers_ask_for() {
        let cases = [
            ("", Latency::Default),
            ("latency=low", Latency::Low),
            ("token=x&latency=throughput", Latency::Throughput),
            ("latency=default", Latency::Default),
            ("latency=low&latency=throughput", Latency::Throughput),
            ("latency=none", Latency::Default),
            ("xlatency=low", Latency::Default),
        ];
        for (query, expect) in cases {
            assert_eq!(Latency::from_query(query), expect, "{query}");
        }
        assert_eq!(Latency::Low.tick(Tick::LONG), Tick::FRAME);
        assert_eq!(Latency::Default.tick(Tick::SHORT), Tick::SHORT);
        assert_eq!(Latency::Throughput.tick(Tick::SHORT), Tick::LONG);
    }

    #[test]
    fn ticks_of_one_class_coincide() {
        let epoch = Instant::now();
        let beat = Beat::new(epoch);
        for (at, expect) in [(0, 33), (1, 33), (32, 33), (33, 66), (34, 66), (1_000, 1_023)] {
            assert_eq!(beat.next(epoch + MS * at, MS * 33), epoch + MS * expect, "{at}");
        }
    }

    #[test]
    fn ticks_widen_by_level() {
        let at = |level, tick| {
            let beat = Beat { epoch: Instant::now(), level };
            beat.interval(tick).map(|interval| interval.as_millis())
        };
        let all = |tick| (0..=MAX_LEVEL).map(|level| at(level, tick)).collect::<Vec<_>>();
        assert_eq!(all(Tick::FRAME), [None, Some(10), Some(20), Some(40), Some(80)]);
        assert_eq!(all(Tick::STANDARD), [33, 66, 100, 100, 100].map(Some));
        assert_eq!(all(Tick::LONG), [100; 5].map(Some));
        assert_eq!(all(Tick::MAX), [1_000; 5].map(Some));
    }

    /// Runs rounds of `busy` every `every`, each `late`, for `windows`, and returns the levels after each.
    fn levels(
        load: &mut Load,
        at: &mut Instant,
        mut level: u8,
        (busy, every, late): (u32, u32, u32),
        windows: u32,
    ) -> Vec<u8> {
        let mut seen = Vec::new();
        for _ in 0..windows {
            for _ in 0..(200 / every) {
                level = load.note(*at, *at + MS * busy, MS * late, level);
                *at += MS * every;
            }
            seen.push(level);
        }
        seen
    }

    #[test]
    fn a_busy_worker_widens_and_a_calm_one_narrows_without_swinging() {
        let mut at = Instant::now();
        let mut load = Load::new(at);
        assert_eq!(levels(&mut load, &mut at, 0, (5, 10, 0), 20), [0; 20], "half busy is fine");
        assert_eq!(levels(&mut load, &mut at, 0, (9, 10, 0), 2), [0; 2], "for a moment");
        assert_eq!(levels(&mut load, &mut at, 0, (1, 10, 0), 2), [0; 2]);
        let widened = levels(&mut load, &mut at, 0, (9, 10, 0), 20);
        assert_eq!(widened.last(), Some(&MAX_LEVEL));
        // At a wider tick the work is less, and still too much to go back.
        assert_eq!(levels(&mut load, &mut at, MAX_LEVEL, (4, 10, 0), 20), [MAX_LEVEL; 20]);
        let narrowed = levels(&mut load, &mut at, MAX_LEVEL, (1, 10, 0), 40);
        assert_eq!(narrowed.last(), Some(&0));
        assert!(narrowed.windows(2).all(|pair| pair[0] - pair[1] <= 1), "{narrowed:?}");
    }

    #[test]
    fn a_worker_that_gets_no_time_is_behind_too() {
        let mut at = Instant::now();
        let mut load = Load::new(at);
        assert_eq!(levels(&mut load, &mut at, 0, (1, 20, 2), 10), [0; 10], "timers are that late anyway");
        assert_eq!(levels(&mut load, &mut at, 0, (1, 20, 20), 20).last(), Some(&MAX_LEVEL));
    }
}
