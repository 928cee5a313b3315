//! Which part of a presentation, and how fast: `Range`, `Scale` and `Speed`.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 2326 | §3.5 smpte, §3.6 npt, §3.7 clock, §12.29 `Range` | [`Range`] |
//! | RFC 7826 | §4.4, §18.40 the same; half of a range open | [`Range`] |
//! | RFC 2326 §12.34, RFC 7826 §18.46 | `Scale` | [`Scale`] |
//! | RFC 2326 §12.35, RFC 7826 §18.50 | `Speed`, a number or a range | [`Speed`] |
//!
//! Guarantees: no panic; every time is finite, and not negative. What is written is read back as the same to the nanosecond.
//!
//! Tolerated: blanks around everything, a range without `-`, hours of more than two digits, fractions beyond nanoseconds (cut).

use core::fmt;
use core::str::FromStr;
use std::time::{Duration, SystemTime};

use arcly_core::wall::Civil;
use arcly_core::wire::DecodeError;

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what, offset: 0 }
}

/// A part of a presentation, from a point up to another or to wherever it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Normal play time: from the presentation's beginning, or now.
    Npt(Option<NptTime>, Option<NptTime>),
    /// Moments.
    Clock(Option<SystemTime>, Option<SystemTime>),
    /// Frame-accurate time.
    Smpte {
        /// How frames are counted.
        rate: SmpteRate,
        /// From here; a range of this kind always says it.
        from: SmpteTime,
        /// To here.
        to: Option<SmpteTime>,
    },
}

impl Range {
    /// What live media is played and recorded with: from now on.
    pub const NOW: Self = Self::Npt(Some(NptTime::Now), None);
    /// From the beginning: what players ask for that do not know that a stream is live.
    pub const BEGINNING: Self = Self::Npt(Some(NptTime::At(Duration::ZERO)), None);
}

/// A point in normal play time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NptTime {
    /// The live edge.
    Now,
    /// So long after the beginning.
    At(Duration),
}

/// How SMPTE time counts frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmpteRate {
    /// `smpte`, `smpte-30-drop`: 29.97 a second, two numbers left out of most minutes.
    #[default]
    Drop30,
    /// `smpte-25`.
    Fps25,
}

/// Hours, minutes, seconds, and frames in hundredths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmpteTime {
    /// Hours.
    pub hours: u32,
    /// 0 to 59.
    pub minutes: u8,
    /// 0 to 59.
    pub seconds: u8,
    /// 0 to 29.
    pub frames: u8,
    /// Hundredths of a frame.
    pub subframes: u8,
}

impl FromStr for Range {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        // Behind a semicolon stands when to begin, which nobody uses.
        let specifier = text.split(';').next().unwrap_or_default();
        let (unit, range) = specifier.split_once('=').ok_or(malformed("range"))?;
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.trim(), to.trim()),
            None => (range.trim(), ""),
        };
        match unit.trim().to_ascii_lowercase().as_str() {
            "npt" => ends(from, to, NptTime::decode).map(|(from, to)| Self::Npt(from, to)),
            "clock" => ends(from, to, clock).map(|(from, to)| Self::Clock(from, to)),
            "smpte" | "smpte-30-drop" => Self::smpte(SmpteRate::Drop30, from, to),
            "smpte-25" => Self::smpte(SmpteRate::Fps25, from, to),
            _ => Err(malformed("range unit")),
        }
    }
}

impl Range {
    fn smpte(rate: SmpteRate, from: &str, to: &str) -> Result<Self, DecodeError> {
        let (from, to) = ends(from, to, SmpteTime::decode)?;
        Ok(Self::Smpte { rate, from: from.ok_or(malformed("range"))?, to })
    }
}

/// Both ends, of which one may be missing.
fn ends<T>(
    from: &str,
    to: &str,
    decode: impl Fn(&str) -> Option<T>,
) -> Result<(Option<T>, Option<T>), DecodeError> {
    let end = |text: &str| match text {
        "" => Ok(None),
        text => decode(text).map(Some).ok_or(malformed("range")),
    };
    if from.is_empty() && to.is_empty() {
        return Err(malformed("range"));
    }
    Ok((end(from)?, end(to)?))
}

fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A fraction as it stands behind the point, in units of which there are 10 to the power of `places` in one; what is finer is cut.
fn fraction(text: &str, places: u32) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places = usize::try_from(places).ok()?;
    let known = text.get(..text.len().min(places))?;
    format!("{known:0<places$}").parse().ok()
}

/// `seconds[.fraction]`.
fn seconds(text: &str) -> Option<(u64, u32)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    Some((digits(whole)?, fraction(part, 9)?))
}

impl NptTime {
    fn decode(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("now") {
            return Some(Self::Now);
        }
        let mut parts = text.rsplit(':');
        let (mut total, nanos) = seconds(parts.next()?)?;
        for unit in [60, 3_600] {
            let Some(part) = parts.next() else { break };
            total = total.checked_add(digits::<u64>(part)?.checked_mul(unit)?)?;
        }
        parts.next().is_none().then(|| Self::At(Duration::new(total, nanos)))
    }
}

impl SmpteTime {
    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let hours = digits(parts.next()?)?;
        let minutes = digits(parts.next()?).filter(|minutes| *minutes < 60)?;
        let seconds = digits(parts.next()?).filter(|seconds| *seconds < 60)?;
        let (frames, subframes) = parts.next().map_or(("0", ""), |f| f.split_once('.').unwrap_or((f, "")));
        let frames = digits(frames).filter(|frames| *frames < 30)?;
        let subframes = u8::try_from(fraction(subframes, 2)?).ok()?;
        parts.next().is_none().then_some(Self { hours, minutes, seconds, frames, subframes })
    }
}

/// `19961108T142300.25Z`.
fn clock(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't'])?;
    let time = time.strip_suffix(['Z', 'z'])?;
    let (time, part) = time.split_once('.').unwrap_or((time, ""));
    if date.len() != 8 || time.len() != 6 {
        return None;
    }
    let civil = Civil {
        year: digits(date.get(..4)?)?,
        month: digits(date.get(4..6)?)?,
        day: digits(date.get(6..)?)?,
        hour: digits(time.get(..2)?)?,
        minute: digits(time.get(2..4)?)?,
        second: digits(time.get(4..)?)?,
        nanosecond: fraction(part, 9)?,
    };
    civil.to_time()
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Npt(from, to) => {
                let end = |end: &Option<NptTime>| end.map(|time| time.to_string()).unwrap_or_default();
                write!(f, "npt={}-{}", end(from), end(to))
            }
            Self::Clock(from, to) => {
                let end = |end: &Option<SystemTime>| end.map(written_clock).unwrap_or_default();
                write!(f, "clock={}-{}", end(from), end(to))
            }
            Self::Smpte { rate, from, to } => {
                let unit = match rate {
                    SmpteRate::Drop30 => "smpte",
                    SmpteRate::Fps25 => "smpte-25",
                };
                write!(f, "{unit}={from}-")?;
                to.iter().try_for_each(|to| to.fmt(f))
            }
        }
    }
}

/// The digits of a fraction of a second behind a point, none of them zero at the end; at least `places`.
fn written_fraction(nanos: u32, places: usize) -> String {
    let digits = format!("{nanos:09}");
    let len = digits.trim_end_matches('0').len().max(places);
    if len == 0 { String::new() } else { format!(".{}", digits.get(..len).unwrap_or_default()) }
}

fn written_clock(time: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, nanosecond } = Civil::of(time);
    let part = written_fraction(nanosecond, 0);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{part}Z")
}

impl fmt::Display for NptTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            // With three places always, as servers do it that old players were written against.
            Self::At(at) => write!(f, "{}{}", at.as_secs(), written_fraction(at.subsec_nanos(), 3)),
        }
    }
}

impl fmt::Display for SmpteTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hours, minutes, seconds, frames, subframes } = *self;
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}")?;
        match (frames, subframes) {
            (0, 0) => Ok(()),
            (frames, 0) => write!(f, ":{frames:02}"),
            (frames, subframes) => write!(f, ":{frames:02}.{subframes:02}"),
        }
    }
}

/// A factor in thousandths, as `Scale` and `Speed` carry it: at most a million either way.
fn thousandths(text: &str) -> Option<i32> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole = digits::<i32>(whole).filter(|whole| *whole < 1_000_000)?;
    let part = i32::try_from(fraction(part, 3)?).ok()?;
    let value = whole.checked_mul(1_000)?.checked_add(part)?;
    Some(if negative { value.saturating_neg() } else { value })
}

fn written_thousandths(value: i32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, part) = (value.unsigned_abs() / 1_000, value.unsigned_abs() % 1_000);
    let digits = format!("{part:03}");
    let len = digits.trim_end_matches('0').len().max(1);
    format!("{sign}{whole}.{}", digits.get(..len).unwrap_or_default())
}

/// How fast a presentation's time passes; negative backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Thousandths; 1 000 is as it was recorded. Never zero.
    pub thousandths: i32,
}

impl Scale {
    /// As it was recorded: all that live media has.
    pub const NORMAL: Self = Self { thousandths: 1_000 };
}

impl FromStr for Scale {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let value = thousandths(text.trim()).filter(|value| *value != 0).ok_or(malformed("scale"))?;
        Ok(Self { thousandths: value })
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written_thousandths(self.thousandths))
    }
}

/// How fast data is sent, against how fast it is to be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// At least so fast, in thousandths; never zero.
    pub lowest: i32,
    /// At most so fast, in thousandths.
    pub highest: i32,
}

impl Speed {
    /// As fast as it is played.
    pub const NORMAL: Self = Self { lowest: 1_000, highest: 1_000 };
}

impl FromStr for Speed {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let value = |text: &str| thousandths(text.trim()).filter(|value| *value > 0);
        let (lowest, highest) = match text.split_once('-') {
            Some((lowest, highest)) => (value(lowest), value(highest)),
            None => (value(text), value(text)),
        };
        match (lowest, highest) {
            (Some(lowest), Some(highest)) if lowest <= highest => Ok(Self { lowest, highest }),
            _ => Err(malformed("speed")),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written_thousandths(self.lowest))?;
        if self.lowest == self.highest {
            return Ok(());
        }
        write!(f, "-{}", written_thousandths(self.highest))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const fn npt(millis: u64) -> Option<NptTime> {
        Some(NptTime::At(Duration::from_millis(millis)))
    }

    #[test]
    fn rfc_2326_3_5_to_3_7() {
        let at = |secs| Some(UNIX_EPOCH + Duration::from_millis(secs));
        let time =
            |hours, minutes, seconds, frames| SmpteTime { hours, minutes, seconds, frames, subframes: 0 };
        let drop = |from, to| Range::Smpte { rate: SmpteRate::Drop30, from, to };
        let cases = [
            ("npt=123.45-125", Range::Npt(npt(123_450), npt(125_000)), "npt=123.450-125.000"),
            ("npt=12:05:35.3-", Range::Npt(npt(43_535_300), None), "npt=43535.300-"),
            ("npt=now-", Range::NOW, "npt=now-"),
            ("npt=-20", Range::Npt(None, npt(20_000)), "npt=-20.000"),
            ("npt=0.000-", Range::BEGINNING, "npt=0.000-"),
            ("NPT = 0 ", Range::BEGINNING, "npt=0.000-"),
            ("npt=0-;time=19970123T143720Z", Range::BEGINNING, "npt=0.000-"),
            ("npt=100:00:00-", Range::Npt(npt(360_000_000), None), "npt=360000.000-"),
            ("npt=1.1234567891-", Range::Npt(Some(NptTime::At(Duration::new(1, 123_456_789))), None), ""),
            (
                "clock=19961108T142300Z-19961108T143520.25Z",
                Range::Clock(at(847_462_980_000), at(847_463_720_250)),
                "clock=19961108T142300Z-19961108T143520.25Z",
            ),
            ("clock=-19961108T142300Z", Range::Clock(None, at(847_462_980_000)), "clock=-19961108T142300Z"),
            ("smpte=10:12:33:20-", drop(time(10, 12, 33, 20), None), "smpte=10:12:33:20-"),
            ("smpte=10:07:33-", drop(time(10, 7, 33, 0), None), "smpte=10:07:33-"),
            (
                "smpte-30-drop=10:07:00-10:07:33:05.01",
                drop(
                    time(10, 7, 0, 0),
                    Some(SmpteTime { hours: 10, minutes: 7, seconds: 33, frames: 5, subframes: 1 }),
                ),
                "smpte=10:07:00-10:07:33:05.01",
            ),
            (
                "smpte-25=10:07:00-",
                Range::Smpte { rate: SmpteRate::Fps25, from: time(10, 7, 0, 0), to: None },
                "smpte-25=10:07:00-",
            ),
        ];
        for (text, expect, written) in cases {
            let range: Range = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(range, expect, "{text}");
            assert!(written.is_empty() || range.to_string() == written, "{text}: {range}");
            assert_eq!(range.to_string().parse(), Ok(range), "{text}");
        }
    }

    #[test]
    fn t44_ranges_scales_and_speeds_that_are_none() {
        let ranges = [
            "",
            "npt",
            "npt=",
            "npt=-",
            "npt=-9e99",
            "npt=9e99-",
            "npt=--1",
            "npt=inf-",
            "npt=1:2:3:4-",
            "npt=99999999999999999999-",
            "npt=9999999999999999:00:00-",
            "npt=1.x-",
            "npt=+1-",
            "clock=19961308T142300Z-",
            "clock=19961108T142300-",
            "clock=1996110éT142300Z-",
            "smpte=-10:00:00",
            "smpte=10:60:00-",
            "smpte=10:00:00:30-",
            "smpte=10-",
            "bytes=0-",
        ];
        for text in ranges {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        for text in ["", "0", "0.0", "-0", "1e3", "nan", "inf", "--1", "1.-1", "1000000", "99999999999"] {
            assert!(text.parse::<Scale>().is_err(), "{text}");
        }
        for text in ["", "0", "-1", "1-0.5", "0-1", "1-", "1e3", "-", "1--2"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn scales_and_speeds() {
        for (text, value, written) in
            [("1", 1_000, "1.0"), ("1.0", 1_000, "1.0"), ("-2.5", -2_500, "-2.5"), (" 0.1259 ", 125, "0.125")]
        {
            let scale: Scale = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((scale.thousandths, scale.to_string().as_str()), (value, written));
        }
        assert_eq!("1".parse(), Ok(Speed::NORMAL));
        let speed: Speed = "0.5-2".parse().unwrap();
        assert_eq!((speed.lowest, speed.highest, speed.to_string().as_str()), (500, 2_000, "0.5-2.0"));
        assert_eq!(Speed::NORMAL.to_string(), "1.0");
    }
}
