//! Wall-clock time as people and formats write it: UTC, in the Gregorian calendar.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 3339 | 5.6 | [`Rfc3339`], both ways |

use core::fmt;
use core::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// RFC 3339 has four digits for it.
const MAX_YEAR: u64 = 9_999;

/// A moment in UTC by its parts. Times before 1970 count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1970 and up.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999 999 999.
    pub nanosecond: u32,
}

impl Civil {
    /// The parts of a moment.
    #[must_use]
    pub fn of(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
        let (year, month, day) = date_of(days);
        Self {
            year,
            month: small(month),
            day: small(day),
            hour: small(second / 3_600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
            nanosecond: since.subsec_nanos(),
        }
    }

    /// The moment; `None` where the parts are no date and time of the years 1970 to 9999.
    #[must_use]
    pub fn to_time(self) -> Option<SystemTime> {
        let (year, month, day) = (self.year, u64::from(self.month), u64::from(self.day));
        if !(1970..=MAX_YEAR).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.nanosecond > 999_999_999 {
            return None;
        }
        let days = days_to(year, month, day);
        // The 31st of a shorter month comes back as a day of the next.
        (date_of(days) == (year, month, day)).then(|| {
            let seconds = u64::from(self.hour) * 3_600 + u64::from(self.minute) * 60 + u64::from(self.second);
            UNIX_EPOCH + Duration::new(days * DAY + seconds, self.nanosecond)
        })
    }
}

fn small(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// The date of a day counted from 1970-01-01, by counting in 400-year eras that begin in March, so that the leap day is
/// the last of its year.
const fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + EPOCH_DAYS;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + if month <= 2 { 1 } else { 0 }, month, day)
}

/// Days from 1970-01-01 to a date of 1970 or later.
const fn days_to(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// A time as RFC 3339 in UTC, written with milliseconds as in `2026-11-22T10:15:30.123Z`, and read with any offset and up
/// to nine digits of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, nanosecond } = Civil::of(self.0);
        let millis = nanosecond / 1_000_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The text is no time that RFC 3339 allows, of the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time as in 2026-11-22T10:15:30Z")]
pub struct NotATime;

impl FromStr for Rfc3339 {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        parse(text).map(Self).ok_or(NotATime)
    }
}

fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = parts(date, '-', [4, 2, 2])?;
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [hour, minute, second] = parts(time, ':', [2, 2, 2])?;
    let (nanosecond, zone) = fraction(rest)?;
    let civil = Civil {
        year,
        month: month.try_into().ok()?,
        day: day.try_into().ok()?,
        hour: hour.try_into().ok()?,
        minute: minute.try_into().ok()?,
        // A leap second is the second before it, once more.
        second: if second == 60 { 59 } else { second.try_into().ok()? },
        nanosecond,
    };
    let local = civil.to_time()?;
    match zone {
        "Z" | "z" => Some(local),
        _ if zone.starts_with('+') => local.checked_sub(offset(zone.get(1..)?)?),
        _ => local.checked_add(offset(zone.strip_prefix('-')?)?),
    }
}

/// `hh:mm`.
fn offset(text: &str) -> Option<Duration> {
    let [hours, minutes] = parts(text, ':', [2, 2])?;
    (hours <= 23 && minutes <= 59).then(|| Duration::from_secs(hours * 3_600 + minutes * 60))
}

/// Numbers of so many digits each.
fn parts<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        *number = number_of(parts.next().filter(|part| part.len() == digits)?)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Digits alone: `parse` would take a sign.
fn number_of(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Nanoseconds of `.123`, if that is there, and what is behind it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = text.split_at_checked(end)?;
    let scale = 10_u32.checked_pow(u32::try_from(9_usize.checked_sub(digits.len())?).ok()?)?;
    let value = u32::try_from(number_of(digits)?).ok()?;
    (!digits.is_empty()).then_some((value.checked_mul(scale)?, zone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn written() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_123, "2024-12-31T23:59:59.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(at(ms)).to_string(), text);
            assert_eq!(text.parse(), Ok(Rfc3339(at(ms))));
        }
    }

    /// RFC 3339 5.8.
    #[test]
    fn read() {
        let utc = |text: &str| text.parse::<Rfc3339>().map(|time| time.to_string());
        for (text, expect) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520Z"),
            ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000Z"),
            ("1990-12-31T23:59:60Z", "1990-12-31T23:59:59.000Z"),
            ("2026-11-22 10:15:30+05:30", "2026-11-22T04:45:30.000Z"),
            ("2026-11-22t10:15:30.123456789z", "2026-11-22T10:15:30.123Z"),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(expect));
        }
        for text in [
            "",
            "2026",
            "2026-11-22",
            "2026-11-22T10:15:30",
            "2026-02-29T10:15:30Z",
            "2026-13-01T10:15:30Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:15:61Z",
            "2026-11-22T10:15:30.Z",
            "2026-11-22T10:15:30.1234567890Z",
            "1969-12-31T23:59:59Z",
            "2026-11-22T10:15:30+24:00",
            "2026-11-22T10:15:30+0100",
            "+026-11-22T10:15:30Z",
            "2026-11-22T10:15:30ZZ",
            "2026-11-2\u{e9}T10:15:30Z",
            "1970-01-01T00:00:00.9",
        ] {
            assert_eq!(utc(text), Err(NotATime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_and_moments_agree(seconds in 0..253_402_300_800_u64, nanos in 0..1_000_000_000_u32) {
            let at = UNIX_EPOCH + Duration::new(seconds, nanos);
            prop_assert_eq!(Civil::of(at).to_time(), Some(at));
        }
    }
}
