//! Session descriptions: what is sent, in which formats, to where.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 8866 | §5 fields, §6 attributes | [`SessionDescription`], [`MediaDescription`] |
//! | | §6.6 `rtpmap`, §6.15 `fmtp` | [`MediaDescription::rtp_map`], [`MediaDescription::parameters`] |
//! | RFC 2198 | §4 redundancy | [`Redundancy`] |
//! | RFC 6184 §8.2.1, RFC 7798 §7.2.1, RFC 3640 §4.1, RFC 6416 §7.4, RFC 7587 §6 | parameters of formats | [`Format`] |
//!
//! ```text
//!   text ──FromStr──► SessionDescription ──Format::offered──► Format ──► Depacketizer, Track
//!   TrackSet ──formats──► Format ──describe──► MediaDescription ──Display──► text
//! ```
//!
//! Guarantees: no panic; at most [`MAX_BYTES`], [`MAX_MEDIA`] media and [`MAX_ATTRIBUTES`] attributes are looked at. What is written has no
//! line break in a value.
//!
//! Tolerated, as cameras do it: lines that end in LF only, blank lines and lines without `=`, missing or repeated `v=`, `o=`, `s=` and `t=`, fields
//! in any order, `m=` lines without formats, names in any case, static payload types without `rtpmap`, base64 with or without padding. A
//! `sprop-parameter-sets` that is no base64 is passed over: the stream brings its own.
//!
//! Not done: what RFC 5888 groups and RFC 5761 multiplex is carried as attributes, not interpreted.

mod describe;
mod format;
mod parse;
mod redundancy;

pub use describe::{describe, formats};
pub use format::Format;
pub use redundancy::Redundancy;

use core::fmt;
use std::net::IpAddr;

/// Bytes of a description.
pub const MAX_BYTES: usize = 128 << 10;
/// Media (`m=` lines) of a description.
pub const MAX_MEDIA: usize = 16;
/// Attributes of a description, those of its media included.
pub const MAX_ATTRIBUTES: usize = 1_024;

/// Why a description cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// A field is wrong.
    #[error("SDP line {line}: {what}")]
    Malformed {
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is more than this program is willing to hold.
    #[error("SDP: limit of {limit} {what} exceeded")]
    LimitExceeded {
        /// Of what: a name from the limits table.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A payload type that does not exist (RFC 3550: 0 to 127).
    #[error("SDP: payload type out of range")]
    PayloadType,
}

/// An attribute: `a=name` or `a=name:value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribute {
    /// Before the colon.
    pub name: String,
    /// Behind it.
    pub value: Option<String>,
}

/// A whole description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=`: user name, session id, version and address.
    pub origin: String,
    /// `s=`.
    pub name: String,
    /// `i=`.
    pub information: Option<String>,
    /// `c=`: where media is sent, unless a medium says otherwise.
    pub connection: Option<String>,
    /// `b=` lines.
    pub bandwidths: Vec<String>,
    /// `t=`.
    pub timing: String,
    /// `a=` lines before the first medium.
    pub attributes: Vec<Attribute>,
    /// The media in order.
    pub media: Vec<MediaDescription>,
}

/// One medium: an `m=` line and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaDescription {
    /// `video`, `audio`, `application`, …
    pub kind: String,
    /// The port; 0 where something else says it.
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVP`, …
    pub protocol: String,
    /// Payload types, or whatever the protocol has.
    pub formats: Vec<String>,
    /// `i=`.
    pub information: Option<String>,
    /// `c=`.
    pub connection: Option<String>,
    /// `b=` lines.
    pub bandwidths: Vec<String>,
    /// `a=` lines.
    pub attributes: Vec<Attribute>,
}

/// `a=rtpmap`: what a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// Encoding name, in any case.
    pub encoding: &'a str,
    /// Ticks per second of the timestamps; 0 when it is not said.
    pub clock_rate: u32,
    /// Channels; 1 when it is not said.
    pub channels: u8,
}

impl Attribute {
    /// An attribute with a value.
    #[must_use]
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Some(value.into()) }
    }

    /// An attribute without one.
    #[must_use]
    pub fn flag(name: &str) -> Self {
        Self { name: name.to_owned(), value: None }
    }
}

fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))?;
    Some(found.value.as_deref().unwrap_or_default())
}

fn address(connection: Option<&str>) -> Option<IpAddr> {
    let address = connection?.split_whitespace().nth(2)?;
    address.split('/').next()?.parse().ok()
}

impl SessionDescription {
    /// The value of the session's first attribute of that name, empty when it has none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// Where a medium is sent, by its own `c=` line or the session's; `None` when neither says an address.
    #[must_use]
    pub fn address(&self, media: &MediaDescription) -> Option<IpAddr> {
        address(media.connection.as_deref().or(self.connection.as_deref()))
    }
}

impl MediaDescription {
    /// The value of the first attribute of that name, empty when it has none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// What is said of a payload type in attributes of that name: `a=name:type rest`.
    fn of_type<'a>(&'a self, name: &'a str, payload_type: u8) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |attribute| attribute.name.eq_ignore_ascii_case(name)).filter_map(
            move |attribute| {
                let value = attribute.value.as_deref()?.trim_start();
                let (number, rest) = value.split_once(char::is_whitespace)?;
                (number.parse() == Ok(payload_type)).then(|| rest.trim())
            },
        )
    }

    /// What a payload type stands for, by its `rtpmap`.
    #[must_use]
    pub fn rtp_map(&self, payload_type: u8) -> Option<RtpMap<'_>> {
        let mut parts = self.of_type("rtpmap", payload_type).next()?.split('/').map(str::trim);
        let encoding = parts.next()?;
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        let channels = parts.next().and_then(|channels| channels.parse().ok()).unwrap_or(1);
        Some(RtpMap { encoding, clock_rate, channels })
    }

    /// The parameters of a payload type, by its `fmtp` lines: names and values.
    pub fn parameters(&self, payload_type: u8) -> impl Iterator<Item = (&str, &str)> {
        let parameters = self.of_type("fmtp", payload_type).flat_map(|line| line.split(';'));
        parameters.map(str::trim).filter(|parameter| !parameter.is_empty()).map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (name.trim(), value.trim())
        })
    }

    /// The first parameter of that name.
    #[must_use]
    pub fn parameter(&self, payload_type: u8, name: &str) -> Option<&str> {
        self.parameters(payload_type)
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Writes a value on one line.
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(['\r', '\n', '\0']).try_for_each(|part| f.write_str(part))
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: char, value: &str) -> fmt::Result {
    write!(f, "{name}={}\r\n", Line(value))
}

fn fields(f: &mut fmt::Formatter<'_>, name: char, values: &[String]) -> fmt::Result {
    values.iter().try_for_each(|value| field(f, name, value))
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "a={}:{}\r\n", Line(&self.name), Line(value)),
            None => write!(f, "a={}\r\n", Line(&self.name)),
        }
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |value: &str, default: &'static str| {
            if value.is_empty() { default.to_owned() } else { value.to_owned() }
        };
        field(f, 'v', "0")?;
        field(f, 'o', &or(&self.origin, "- 0 0 IN IP4 127.0.0.1"))?;
        field(f, 's', &or(&self.name, "-"))?;
        self.information.iter().try_for_each(|information| field(f, 'i', information))?;
        self.connection.iter().try_for_each(|connection| field(f, 'c', connection))?;
        fields(f, 'b', &self.bandwidths)?;
        field(f, 't', &or(&self.timing, "0 0"))?;
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

impl fmt::Display for MediaDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let formats = self.formats.join(" ");
        field(f, 'm', &format!("{} {} {} {formats}", self.kind, self.port, self.protocol))?;
        self.information.iter().try_for_each(|information| field(f, 'i', information))?;
        self.connection.iter().try_for_each(|connection| field(f, 'c', connection))?;
        fields(f, 'b', &self.bandwidths)?;
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))
    }
}
