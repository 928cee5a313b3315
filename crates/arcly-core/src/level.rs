//! How loud a stream is, without decoding it: what publishers say of their sound, packet by packet.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 6464 | §3: level and voice of the sound in a packet | [`AudioLevel`] |
//!
//! A publisher's protocol hands each level to [`Publisher::handle_level`](crate::Publisher::handle_level); a stream has the level of each
//! track that has any ([`Stream::levels`](crate::Stream::levels)), and rooms choose by it [who speaks](crate::room).
//!
//! **Guarantees.** A meter has constant size, and time is an argument. A level is only what somebody says: it is good for choosing whom to
//! show, and for nothing that matters more.

use std::time::{Duration, Instant};

/// What a mean goes down to, and what silence counts as, in dB: what is quieter does not take longer to rise from.
pub const FLOOR_DBOV: i8 = -80;
/// A mean is that of about so long: a bang does not move it by much, a word does.
pub const MEAN_OF: Duration = Duration::from_millis(250);
/// A level holds for so long at most; behind that there is silence until the next.
pub const HOLDS: Duration = Duration::from_millis(100);
/// What the first level of all counts as having lasted.
const FIRST: Duration = Duration::from_millis(20);

/// How loud the sound of one packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    dbov: i8,
    voice: bool,
}

impl AudioLevel {
    /// Digital silence.
    pub const SILENCE: Self = Self { dbov: -127, voice: false };

    /// A level in dB below overload, 0 (the loudest) to −127 (silence); others count as the nearest.
    #[must_use]
    pub const fn new(dbov: i8) -> Self {
        let dbov = if dbov > 0 {
            0
        } else if dbov < -127 {
            -127
        } else {
            dbov
        };
        Self { dbov, voice: false }
    }

    /// The same, with what the publisher believes: that it is a voice, or not. Many say the same of all that they send.
    #[must_use]
    pub const fn with_voice(self, voice: bool) -> Self {
        Self { voice, ..self }
    }

    /// In dB below overload, −127 to 0.
    #[must_use]
    pub const fn dbov(self) -> i8 {
        self.dbov
    }

    /// True when the publisher says that it is a voice.
    #[must_use]
    pub const fn is_voice(self) -> bool {
        self.voice
    }
}

/// How loud a track is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackLevel {
    /// What was said last; [`AudioLevel::SILENCE`] when that is longer ago than [`HOLDS`].
    pub latest: AudioLevel,
    /// The mean of about [`MEAN_OF`], in dB below overload: [`FLOOR_DBOV`] to 0.
    pub mean_dbov: i8,
}

/// Follows the levels of one track.
///
/// ```
/// use std::time::{Duration, Instant};
/// use arcly_core::level::{AudioLevel, LevelMeter};
///
/// let (mut meter, start) = (LevelMeter::default(), Instant::now());
/// for n in 0..100 {
///     meter.handle_level(start + Duration::from_millis(n * 20), AudioLevel::new(-30));
/// }
/// let level = meter.level(start + Duration::from_secs(2));
/// assert_eq!((level.latest.dbov(), level.mean_dbov), (-30, -30));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LevelMeter {
    /// The last level, and when it came.
    latest: Option<(Instant, AudioLevel)>,
    /// Above the floor, in thousandths of a dB.
    mean: i64,
}

impl LevelMeter {
    /// Takes the level of sound that came at `now`.
    pub fn handle_level(&mut self, now: Instant, level: AudioLevel) {
        let gap = self.latest.map_or(FIRST, |(at, _)| now.saturating_duration_since(at));
        self.mean = toward(self.mean, 0, gap.saturating_sub(HOLDS));
        let above = i64::from(level.dbov.max(FLOOR_DBOV)) - i64::from(FLOOR_DBOV);
        self.mean = toward(self.mean, above * 1_000, gap.min(HOLDS));
        self.latest = Some((now, level));
    }

    /// How loud it is at `now`.
    #[must_use]
    pub fn level(&self, now: Instant) -> TrackLevel {
        let since = self.latest.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(at));
        let mean = toward(self.mean, 0, since.saturating_sub(HOLDS));
        let latest = self.latest.filter(|_| since <= HOLDS).map_or(AudioLevel::SILENCE, |(_, level)| level);
        let above = i8::try_from((mean + 500) / 1_000).unwrap_or(i8::MAX);
        TrackLevel { latest, mean_dbov: FLOOR_DBOV.saturating_add(above).min(0) }
    }
}

/// Where a mean has got to after `time` of a level.
fn toward(mean: i64, level: i64, time: Duration) -> i64 {
    let whole = i64::try_from(MEAN_OF.as_micros()).unwrap_or(1);
    let part = i64::try_from(time.min(MEAN_OF).as_micros()).unwrap_or(whole);
    mean + (level - mean) * part / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter after so many packets of 20 ms, and the moment of the next.
    fn after(levels: &[(u32, i8)]) -> (LevelMeter, Instant) {
        let (mut meter, mut now) = (LevelMeter::default(), Instant::now());
        for (count, dbov) in levels {
            for _ in 0..*count {
                meter.handle_level(now, AudioLevel::new(*dbov));
                now += Duration::from_millis(20);
            }
        }
        (meter, now)
    }

    fn mean(levels: &[(u32, i8)]) -> i8 {
        let (meter, now) = after(levels);
        meter.level(now).mean_dbov
    }

    #[test]
    fn a_word_moves_the_mean_and_a_bang_does_not() {
        assert_eq!(mean(&[]), FLOOR_DBOV);
        assert_eq!(mean(&[(50, -127)]), FLOOR_DBOV);
        assert!(mean(&[(50, -90), (2, -5)]) < -65, "40 ms: {}", mean(&[(50, -90), (2, -5)]));
        assert!(mean(&[(50, -90), (15, -25)]) > -45, "300 ms");
        assert_eq!(mean(&[(100, -25)]), -25);
        assert_eq!(mean(&[(100, 0)]), 0);
    }

    #[test]
    fn where_nothing_is_said_there_is_silence() {
        let (meter, now) = after(&[(100, -20)]);
        let at = |ms| meter.level(now + Duration::from_millis(ms));
        assert_eq!(at(0), TrackLevel { latest: AudioLevel::new(-20), mean_dbov: -20 });
        assert_eq!(at(79).mean_dbov, -20, "for a tenth of a second it is only late");
        assert_eq!(at(81).latest, AudioLevel::SILENCE);
        assert!(at(200).mean_dbov < -40 && at(200).mean_dbov > FLOOR_DBOV);
        assert_eq!(at(400).mean_dbov, FLOOR_DBOV);
        // Packets that come every 400 ms, as of sound that is not sent when there is none, do not hold what was before.
        let (mut meter, mut now) = (meter, now);
        for _ in 0..3 {
            now += Duration::from_millis(400);
            meter.handle_level(now, AudioLevel::new(-75));
        }
        assert!(meter.level(now).mean_dbov <= -75);
    }

    #[test]
    fn levels_are_those_of_the_specification() {
        let cases = [(5, 0), (0, 0), (-1, -1), (-127, -127), (-128, -127)];
        for (said, counts) in cases {
            assert_eq!(AudioLevel::new(said).dbov(), counts, "{said}");
        }
        assert!(AudioLevel::new(-1).with_voice(true).is_voice() && !AudioLevel::SILENCE.is_voice());
        // Time that stands still or runs back changes nothing.
        let (mut meter, now) = after(&[(100, -20)]);
        meter.handle_level(now - Duration::from_secs(1), AudioLevel::new(0));
        meter.handle_level(now - Duration::from_secs(1), AudioLevel::new(0));
        assert_eq!(meter.level(now - Duration::from_secs(1)).mean_dbov, -20);
    }
}
