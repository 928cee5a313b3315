//! What recordings are called.

use core::fmt;
use core::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcly_core::StreamKey;
use arcly_core::contract::storage::{StorageError, StorageName};
use arcly_core::wall::Civil;

use super::Format;

/// Names of recordings, made of the stream's name and the time at which they begin: `%path/%Y-%m-%d_%H-%M-%S-%f`.
///
/// | | |
/// |---|---|
/// | `%path` | the stream's name, with its slashes; there once, as whole segments |
/// | `%Y %m %d %H %M %S` | date and time in UTC |
/// | `%f` | microseconds, six digits |
/// | `%s` | seconds since 1970, ten digits |
///
/// The rest are the characters of a [`StorageName`]. A template holds enough of the time to tell seconds apart, so that no
/// two recordings of a stream have one name; the extension is the format's. A name cannot leave its folder, whatever
/// the stream is called: [`name`](Self::name) refuses what is no storage name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path,
    Time(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Micros,
    Epoch,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// `%` and something that has no meaning.
    #[error("`%{0}` means nothing; there are %path %Y %m %d %H %M %S %f and %s")]
    Unknown(String),
    /// A name made of it would be no storage name.
    #[error("names made of it would have {0}")]
    Name(String),
    /// `%path` is missing, there twice, or part of a segment.
    #[error("`%path` has to be there once, as a segment of its own")]
    Path,
    /// It does not tell two recordings of one stream apart.
    #[error("it needs `%s`, or all of %Y %m %d %H %M %S")]
    Time,
}

impl Default for NameTemplate {
    /// `%path/%Y-%m-%d_%H-%M-%S-%f`.
    fn default() -> Self {
        use Field::{Day, Hour, Micros, Minute, Month, Second, Year};
        let mut pieces = vec![Piece::Path];
        let fields =
            [("/", Year), ("-", Month), ("-", Day), ("_", Hour), ("-", Minute), ("-", Second), ("-", Micros)];
        for (text, field) in fields {
            pieces.extend([Piece::Text(text.into()), Piece::Time(field)]);
        }
        Self(pieces)
    }
}

impl Field {
    const ALL: [(char, Self); 8] = [
        ('Y', Self::Year),
        ('m', Self::Month),
        ('d', Self::Day),
        ('H', Self::Hour),
        ('M', Self::Minute),
        ('S', Self::Second),
        ('f', Self::Micros),
        ('s', Self::Epoch),
    ];

    const fn digits(self) -> usize {
        match self {
            Self::Year => 4,
            Self::Micros => 6,
            Self::Epoch => 10,
            _ => 2,
        }
    }

    fn value(self, at: SystemTime, civil: &Civil) -> u64 {
        match self {
            Self::Year => civil.year,
            Self::Month => civil.month.into(),
            Self::Day => civil.day.into(),
            Self::Hour => civil.hour.into(),
            Self::Minute => civil.minute.into(),
            Self::Second => civil.second.into(),
            Self::Micros => u64::from(civil.nanosecond / 1_000),
            Self::Epoch => at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        }
    }
}

impl FromStr for NameTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut parts = text.split('%');
        push_text(&mut pieces, parts.next().unwrap_or_default());
        for part in parts {
            let (piece, rest) = match part.strip_prefix("path") {
                Some(rest) => (Piece::Path, rest),
                None => field(part)?,
            };
            pieces.push(piece);
            push_text(&mut pieces, rest);
        }
        let template = Self(pieces);
        template.check()?;
        Ok(template)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}

fn field(part: &str) -> Result<(Piece, &str), TemplateError> {
    let first = part.chars().next();
    let known = Field::ALL.iter().find(|(letter, _)| Some(*letter) == first);
    match known {
        Some((letter, field)) => Ok((Piece::Time(*field), part.strip_prefix(*letter).unwrap_or_default())),
        None => Err(TemplateError::Unknown(first.into_iter().collect())),
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Path => f.write_str("%path"),
            Piece::Time(field) => {
                let letter =
                    Field::ALL.iter().find(|(_, known)| known == field).map_or('?', |(letter, _)| *letter);
                write!(f, "%{letter}")
            }
        })
    }
}

impl NameTemplate {
    fn check(&self) -> Result<(), TemplateError> {
        let example = StreamKey::new("live", "cam");
        self.name(&example, UNIX_EPOCH, Format::Mp4)
            .map_err(|error| TemplateError::Name(error.to_string()))?;
        let ends = |piece: Option<&Piece>, at_end: fn(&str) -> bool| match piece {
            None => true,
            Some(Piece::Text(text)) => at_end(text),
            Some(_) => false,
        };
        let mut paths = self.0.iter().enumerate().filter(|(_, piece)| **piece == Piece::Path);
        let Some((at, _)) = paths.next() else { return Err(TemplateError::Path) };
        let before = at.checked_sub(1).and_then(|before| self.0.get(before));
        let behind = self.0.get(at.saturating_add(1));
        let alone = ends(before, |text| text.ends_with('/')) && ends(behind, |text| text.starts_with('/'));
        if paths.next().is_some() || !alone || behind.is_none() {
            return Err(TemplateError::Path);
        }
        let has = |field| self.0.contains(&Piece::Time(field));
        let date = Field::ALL.iter().map(|(_, field)| *field).take(6).all(has);
        if date || has(Field::Epoch) { Ok(()) } else { Err(TemplateError::Time) }
    }

    /// The name of a recording of `key` that begins at `start`.
    ///
    /// # Errors
    /// It is no storage name: the stream's name has a segment that begins with a dot, or is too long.
    pub fn name(
        &self,
        key: &StreamKey,
        start: SystemTime,
        format: Format,
    ) -> Result<StorageName, StorageError> {
        let (civil, mut name) = (Civil::of(start), String::new());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Path => name.push_str(&key.to_string()),
                Piece::Time(field) => {
                    name.push_str(&format!("{:0width$}", field.value(start, &civil), width = field.digits()));
                }
            }
        }
        StorageName::parse(&format!("{name}.{}", format.extension()))
    }

    /// What a name says: the stream, when the recording began, and its format. `None` for names that are not of this template.
    #[must_use]
    pub fn read(&self, name: &StorageName) -> Option<(StreamKey, SystemTime, Format)> {
        let (stem, extension) = name.as_str().rsplit_once('.')?;
        let format = Format::of_extension(extension)?;
        // The rest of a template has a known length, so what is left is the path.
        let fixed = self.0.iter().fold(0_usize, |sum, piece| match piece {
            Piece::Text(text) => sum.saturating_add(text.len()),
            Piece::Path => sum,
            Piece::Time(field) => sum.saturating_add(field.digits()),
        });
        let path_len = stem.len().checked_sub(fixed)?;
        let (mut rest, mut key, mut parts) = (stem, None, Parts::default());
        for piece in &self.0 {
            let len = match piece {
                Piece::Text(text) => text.len(),
                Piece::Path => path_len,
                Piece::Time(field) => field.digits(),
            };
            let (part, behind) = rest.split_at_checked(len)?;
            match piece {
                Piece::Text(text) if text == part => {}
                Piece::Text(_) => return None,
                Piece::Path => key = Some(part.parse().ok()?),
                Piece::Time(field) => parts.set(*field, part)?,
            }
            rest = behind;
        }
        Some((key?, parts.time()?, format))
    }
}

/// What of a time is in a name.
#[derive(Default)]
struct Parts {
    date: [Option<u64>; 6],
    micros: u32,
    epoch: Option<u64>,
}

impl Parts {
    fn set(&mut self, field: Field, digits: &str) -> Option<()> {
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let value: u64 = digits.parse().ok()?;
        match field {
            Field::Micros => self.micros = u32::try_from(value).ok()?,
            Field::Epoch => self.epoch = Some(value),
            _ => {
                let at = Field::ALL.iter().position(|(_, known)| *known == field)?;
                *self.date.get_mut(at)? = Some(value);
            }
        }
        Some(())
    }

    fn time(&self) -> Option<SystemTime> {
        let nanosecond = self.micros.checked_mul(1_000)?;
        if let Some(seconds) = self.epoch {
            return UNIX_EPOCH.checked_add(Duration::new(seconds, nanosecond));
        }
        let [year, month, day, hour, minute, second] = self.date;
        let small = |value: Option<u64>| u8::try_from(value?).ok();
        Civil {
            year: year?,
            month: small(month)?,
            day: small(day)?,
            hour: small(hour)?,
            minute: small(minute)?,
            second: small(second)?,
            nanosecond,
        }
        .to_time()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use super::*;

    fn at(micros: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(micros)
    }

    #[test]
    fn names_say_what_they_are_of() {
        let start = at(1_795_342_530_000_123);
        for (template, key, name) in [
            ("%path/%Y-%m-%d_%H-%M-%S-%f", "live/cam", "live/cam/2026-11-22_10-15-30-000123.mp4"),
            ("rec/%path/%Y/%m/%d/%H%M%S", "a/b/c", "rec/a/b/c/2026/11/22/101530.mp4"),
            ("%s/%path/x", "live/cam", "1795342530/live/cam/x.mp4"),
        ] {
            let parsed: NameTemplate = template.parse().expect("a template");
            assert_eq!(parsed.to_string(), template);
            let key: StreamKey = key.parse().expect("a stream's name");
            let made = parsed.name(&key, start, Format::Mp4).expect("a name");
            assert_eq!(made.as_str(), name);
            let (found, time, format) = parsed.read(&made).expect("what was put in");
            assert_eq!((found, format), (key, Format::Mp4));
            assert!(start.duration_since(time).expect("not later") < Duration::from_secs(1), "{template}");
        }
        assert_eq!(NameTemplate::default().to_string().parse(), Ok(NameTemplate::default()));
    }

    #[test]
    fn other_names_say_nothing() {
        let template = NameTemplate::default();
        for name in [
            "live/cam/2026-11-22_10-15-30-000123.txt",
            "live/cam/2026-11-22_10-15-30-00012.mp4",
            "live/cam/2026-13-22_10-15-30-000123.mp4",
            "live/cam/2026-11-22_10-15-3x-000123.mp4",
            "2026-11-22_10-15-30-000123.mp4",
            "recordings.index",
            "x.mp4",
        ] {
            assert_eq!(template.read(&StorageName::parse(name).expect("a name")), None, "{name}");
        }
    }

    /// H24: nothing in a template or a stream's name leads out of the folder.
    #[test]
    fn h24_names_stay_in_their_folder() {
        for (template, error) in [
            (
                "../%path/%s",
                "names made of it would have the storage name has a segment that begins with a dot",
            ),
            ("/etc/%path/%s", "names made of it would have the storage name has an empty segment"),
            (
                "%path/%s/",
                "names made of it would have the storage name has a segment that begins with a dot",
            ),
            (
                "%path/%s/../../x",
                "names made of it would have the storage name has a segment that begins with a dot",
            ),
            (
                "%path/%s$(id)",
                "names made of it would have the storage name has a character outside A-Z a-z 0-9 . _ ~ -",
            ),
            ("%path%s", "`%path` has to be there once, as a segment of its own"),
            ("%path/%path/%s", "`%path` has to be there once, as a segment of its own"),
            ("%s/%path", "`%path` has to be there once, as a segment of its own"),
            ("x-%path/%s", "`%path` has to be there once, as a segment of its own"),
            ("%Y-%m-%d_%H-%M-%S", "`%path` has to be there once, as a segment of its own"),
            ("%path/%Y-%m-%d", "it needs `%s`, or all of %Y %m %d %H %M %S"),
            ("%path/%q", "`%q` means nothing; there are %path %Y %m %d %H %M %S %f and %s"),
            ("%path/%", "`%` means nothing; there are %path %Y %m %d %H %M %S %f and %s"),
        ] {
            let found = template.parse::<NameTemplate>().map_err(|error| error.to_string());
            assert_eq!(found.err().as_deref(), Some(error), "{template}");
        }
        let hidden = StreamKey::new("live", ".ssh");
        assert!(NameTemplate::default().name(&hidden, UNIX_EPOCH, Format::Flv).is_err());
    }
}
