//! Who speaks, and who of them is the speaker.
//!
//! ```text
//!   silent ──[SPEAKS_DBOV]──► speaks ──[below QUIET_DBOV for HANGOVER]──► silent
//!   nobody ──[speaks]──► the speaker ──[silent, another speaks; or another louder by LOUDER_BY_DB for TAKES_OVER]──► that one
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whose mean is at least so loud speaks, in dB below overload.
pub const SPEAKS_DBOV: i8 = -50;
/// Whose mean is below that has paused.
pub const QUIET_DBOV: i8 = -58;
/// A pause that long is no pause.
pub const HANGOVER: Duration = Duration::from_millis(800);
/// Who is louder than the speaker by that, in dB,
pub const LOUDER_BY_DB: i8 = 6;
/// and for that long without a break, is the speaker from then on.
pub const TAKES_OVER: Duration = Duration::from_secs(1);

/// What is different from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Speaks(Arc<str>, bool),
    Speaker(Option<Arc<str>>),
}

#[derive(Debug)]
struct Voice {
    name: Arc<str>,
    dbov: i8,
    /// When it was not quiet last.
    heard: Instant,
}

/// Those who speak. One who does not costs nothing here.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    voices: Vec<Voice>,
    speaker: Option<Arc<str>>,
    /// Who is louder than the speaker, and since when.
    rival: Option<(Arc<str>, Instant)>,
}

impl Speakers {
    pub(super) const fn speaker(&self) -> Option<&Arc<str>> {
        self.speaker.as_ref()
    }

    /// Takes how loud everybody is; who is not named is silent.
    pub(super) fn handle_levels(&mut self, now: Instant, levels: Vec<(Arc<str>, i8)>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.voices.iter_mut().for_each(|voice| voice.dbov = i8::MIN);
        for (name, dbov) in levels {
            match self.voices.iter_mut().find(|voice| voice.name == name) {
                Some(voice) => {
                    voice.dbov = dbov;
                    if dbov >= QUIET_DBOV {
                        voice.heard = now;
                    }
                }
                None if dbov >= SPEAKS_DBOV => {
                    changes.push(Change::Speaks(Arc::clone(&name), true));
                    self.voices.push(Voice { name, dbov, heard: now });
                }
                None => {}
            }
        }
        let is_over = |voice: &mut Voice| now.saturating_duration_since(voice.heard) >= HANGOVER;
        let over = self.voices.extract_if(.., is_over);
        changes.extend(over.map(|voice| Change::Speaks(voice.name, false)));
        changes.extend(self.choose(now));
        changes
    }

    /// Somebody is not there any more.
    pub(super) fn forget(&mut self, now: Instant, name: &Arc<str>) -> Vec<Change> {
        let is_it = |voice: &mut Voice| voice.name == *name;
        let mut changes: Vec<_> =
            self.voices.extract_if(.., is_it).map(|voice| Change::Speaks(voice.name, false)).collect();
        if self.speaker.as_ref() == Some(name) {
            self.speaker = None;
            changes.push(self.choose(now).unwrap_or(Change::Speaker(None)));
        }
        changes
    }

    /// The speaker, if it is another one from now on.
    fn choose(&mut self, now: Instant) -> Option<Change> {
        let of_speaker = |voice: &&Voice| Some(&voice.name) == self.speaker.as_ref();
        let loudness = self.voices.iter().find(of_speaker).map(|voice| voice.dbov);
        // Of those that are equally loud the one that has begun first.
        let others = self.voices.iter().filter(|voice| !of_speaker(voice)).rev();
        let loudest = others.max_by_key(|voice| voice.dbov);
        let rises = |voice: &&Voice| {
            loudness.is_none_or(|own| i16::from(voice.dbov) >= i16::from(own) + i16::from(LOUDER_BY_DB))
        };
        let Some(loudest) = loudest.filter(rises) else {
            self.rival = None;
            return None;
        };
        let name = Arc::clone(&loudest.name);
        let since = self.rival.take().filter(|(rival, _)| *rival == name).map_or(now, |(_, since)| since);
        let takes_over = loudness.is_none() || now.saturating_duration_since(since) >= TAKES_OVER;
        if !takes_over {
            self.rival = Some((name, since));
            return None;
        }
        self.speaker = Some(Arc::clone(&name));
        Some(Change::Speaker(Some(name)))
    }
}
