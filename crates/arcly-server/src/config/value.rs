//! Values of the configuration that are written as text: addresses, durations, sizes.

use core::fmt;
use core::str::FromStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::{Serialize, Serializer};

/// Where a listener binds: `host:port`, `:port` or `port` for every address of the machine, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// No listener.
    Off,
    /// Every address, IPv6 and IPv4 on one socket where the system has both.
    Any(u16),
    /// One address, or a name that is looked up when binding.
    Host(String, u16),
}

impl Listen {
    /// The addresses to try, best first; empty when off.
    ///
    /// # Errors
    /// The host name cannot be resolved.
    pub fn candidates(&self) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Self::Off => Ok(Vec::new()),
            Self::Any(port) => {
                Ok(vec![(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()])
            }
            Self::Host(host, port) => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
        }
    }

    /// True when nothing is to be bound.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = || format!("`{text}` is not an address: write `host:port`, `:port`, `port` or `off`");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", text),
        };
        let port = port.parse().map_err(|_| wrong())?;
        let bare = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|h| h.parse::<Ipv6Addr>().is_ok()).ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if bare.is_empty() { Ok(Self::Any(port)) } else { Ok(Self::Host(bare.to_owned(), port)) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Any(port) => write!(f, ":{port}"),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Text("an address (`host:port`, `:port`, `port`) or \"off\""))?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A length of time, written `250ms`, `2s`, `5m`, `1h` or as a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// Units of [`Span`] in milliseconds, longest first for display.
const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let unit = if unit.is_empty() { "s" } else { unit };
        SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, ms)| scale(number, *ms))
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("`{text}` is not a duration: write `250ms`, `2s`, `5m` or `1h`"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        match SPAN_UNITS.iter().find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => f.write_str("0s"),
        }
    }
}

/// A number of bytes, written `512KiB`, `8MiB`, `1GiB`, `100kB` or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units of [`Size`], binary ones first and largest first for display.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let unit = if unit.is_empty() { "B" } else { unit };
        SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .and_then(|(_, bytes)| scale(number, *bytes))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a size: write `64KiB`, `8MiB` or `1GiB`"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS.iter().take(3).find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

/// `number` times `unit`, exactly for whole numbers.
fn scale(number: &str, unit: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let (whole, fraction) = number.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|d| (1..=6).contains(d))?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)? / 10_u64.pow(digits);
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

macro_rules! text_value {
    ($type:ty, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text($expecting))?.parse().map_err(D::Error::custom)
            }
        }
    };
}

text_value!(Span, "a duration such as \"2s\"");
text_value!(Size, "a size such as \"8MiB\"");

/// Accepts text, or a number as its text.
struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("off", Some(Listen::Off)),
            ("1935", Some(Listen::Any(1935))),
            (":0", Some(Listen::Any(0))),
            ("127.0.0.1:80", Some(Listen::Host("127.0.0.1".into(), 80))),
            ("localhost:80", Some(Listen::Host("localhost".into(), 80))),
            ("[::1]:80", Some(Listen::Host("::1".into(), 80))),
            ("::1:80", None),
            ("[::1:80", None),
            ("[name]:80", None),
            ("host", None),
            (":65536", None),
            (":-1", None),
            ("", None),
        ];
        for (text, expect) in cases {
            let got = text.parse::<Listen>();
            assert_eq!(got.as_ref().ok(), expect.as_ref(), "{text:?}: {got:?}");
            if let Ok(listen) = got {
                assert_eq!(listen.to_string().parse(), Ok(listen), "{text:?} does not survive display");
            }
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("2s", Some(2_000)),
            ("2", Some(2_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("5 m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("-1s", None),
            ("1d", None),
            ("s", None),
            ("99999999999999999999h", None),
        ];
        for (text, ms) in cases {
            let got = text.parse::<Span>();
            assert_eq!(got.as_ref().ok().map(|s| s.0.as_millis()), ms, "{text:?}: {got:?}");
            if let Ok(span) = got {
                assert_eq!(span.to_string().parse(), Ok(span), "{text:?}");
            }
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("8MiB", Some(8 << 20)),
            ("1.5KiB", Some(1536)),
            ("100kB", Some(100_000)),
            ("100", Some(100)),
            ("1 gib", Some(1 << 30)),
            ("1XB", None),
            ("99999999999GiB", None),
        ];
        for (text, bytes) in cases {
            let got = text.parse::<Size>();
            assert_eq!(got.as_ref().ok().map(|s| s.0), bytes, "{text:?}: {got:?}");
            if let Ok(size) = got {
                assert_eq!(size.to_string().parse(), Ok(size), "{text:?}");
            }
        }
    }
}
