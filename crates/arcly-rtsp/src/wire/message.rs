//! Requests and responses: start lines, headers and bodies (RFC 2326 §4 to §7).
//!
//! The grammar is HTTP's, and an HTTP request (of a tunnel) decodes into the same [`Request`], with another
//! [`Protocol`]. What a peer sends is [decoded](super::Decoder) within limits; what is written here has no line break in
//! any value, whatever was put into it.

use core::fmt;
use core::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

/// What is asked for (RFC 2326 §10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `OPTIONS`.
    Options,
    /// `DESCRIBE`.
    Describe,
    /// `ANNOUNCE`.
    Announce,
    /// `SETUP`.
    Setup,
    /// `PLAY`.
    Play,
    /// `PAUSE`.
    Pause,
    /// `RECORD`.
    Record,
    /// `TEARDOWN`.
    Teardown,
    /// `GET_PARAMETER`.
    GetParameter,
    /// `SET_PARAMETER`.
    SetParameter,
    /// `REDIRECT`.
    Redirect,
    /// Anything else, `GET` and `POST` of a tunnel among it. Case matters (§6.1).
    Other(Box<str>),
}

impl Method {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Announce => "ANNOUNCE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Pause => "PAUSE",
            Self::Record => "RECORD",
            Self::Teardown => "TEARDOWN",
            Self::GetParameter => "GET_PARAMETER",
            Self::SetParameter => "SET_PARAMETER",
            Self::Redirect => "REDIRECT",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        let known = [
            Self::Options,
            Self::Describe,
            Self::Announce,
            Self::Setup,
            Self::Play,
            Self::Pause,
            Self::Record,
            Self::Teardown,
            Self::GetParameter,
            Self::SetParameter,
            Self::Redirect,
        ];
        known.into_iter().find(|method| method.as_str() == name).unwrap_or_else(|| Self::Other(name.into()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a start line says to be spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `RTSP`.
    #[default]
    Rtsp,
    /// `HTTP`, of a tunnel.
    Http,
}

/// Protocol and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The protocol.
    pub protocol: Protocol,
    /// Before the dot.
    pub major: u8,
    /// Behind it.
    pub minor: u8,
}

impl Version {
    /// `RTSP/1.0`: what everybody speaks.
    pub const RTSP_1_0: Self = Self { protocol: Protocol::Rtsp, major: 1, minor: 0 };
    /// `HTTP/1.1`.
    pub const HTTP_1_1: Self = Self { protocol: Protocol::Http, major: 1, minor: 1 };
}

/// The text is no protocol with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version as in RTSP/1.0")]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (name, version) = text.split_once('/').ok_or(NotAVersion)?;
        let protocol = match name {
            "RTSP" => Protocol::Rtsp,
            "HTTP" => Protocol::Http,
            _ => return Err(NotAVersion),
        };
        let (major, minor) = version.split_once('.').ok_or(NotAVersion)?;
        let digits =
            |text: &str| number(text).and_then(|number| u8::try_from(number).ok()).ok_or(NotAVersion);
        Ok(Self { protocol, major: digits(major)?, minor: digits(minor)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            Protocol::Rtsp => "RTSP",
            Protocol::Http => "HTTP",
        };
        write!(f, "{name}/{}.{}", self.major, self.minor)
    }
}

/// A number of digits alone, below 2⁶³; `str::parse` would take a sign.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i64>().ok().filter(|_| digits).map(i64::cast_unsigned)
}

/// How a request was answered (RFC 2326 §7.1.1). 100 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u16);

#[allow(missing_docs, reason = "the names are the specification's own")]
impl Status {
    pub const CONTINUE: Self = Self(100);
    pub const OK: Self = Self(200);
    pub const MOVED_PERMANENTLY: Self = Self(301);
    pub const MOVED_TEMPORARILY: Self = Self(302);
    pub const SEE_OTHER: Self = Self(303);
    pub const USE_PROXY: Self = Self(305);
    pub const BAD_REQUEST: Self = Self(400);
    pub const UNAUTHORIZED: Self = Self(401);
    pub const FORBIDDEN: Self = Self(403);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const NOT_ACCEPTABLE: Self = Self(406);
    pub const REQUEST_TIMEOUT: Self = Self(408);
    pub const CONFLICT: Self = Self(409);
    pub const ENTITY_TOO_LARGE: Self = Self(413);
    pub const URI_TOO_LONG: Self = Self(414);
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self(415);
    pub const PARAMETER_NOT_UNDERSTOOD: Self = Self(451);
    pub const NOT_ENOUGH_BANDWIDTH: Self = Self(453);
    pub const SESSION_NOT_FOUND: Self = Self(454);
    pub const METHOD_NOT_VALID_IN_STATE: Self = Self(455);
    pub const HEADER_FIELD_NOT_VALID: Self = Self(456);
    pub const INVALID_RANGE: Self = Self(457);
    pub const PARAMETER_IS_READ_ONLY: Self = Self(458);
    pub const AGGREGATE_NOT_ALLOWED: Self = Self(459);
    pub const ONLY_AGGREGATE_ALLOWED: Self = Self(460);
    pub const UNSUPPORTED_TRANSPORT: Self = Self(461);
    pub const DESTINATION_UNREACHABLE: Self = Self(462);
    pub const KEY_MANAGEMENT_FAILURE: Self = Self(463);
    pub const INTERNAL_ERROR: Self = Self(500);
    pub const NOT_IMPLEMENTED: Self = Self(501);
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);
    pub const OPTION_NOT_SUPPORTED: Self = Self(551);
}

impl Status {
    /// True for 2xx.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self.0, 200..=299)
    }

    /// What the specification says for people; empty for a status that it does not have.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::CONTINUE => "Continue",
            Self::OK => "OK",
            Self::MOVED_PERMANENTLY => "Moved Permanently",
            Self::MOVED_TEMPORARILY => "Moved Temporarily",
            Self::SEE_OTHER => "See Other",
            Self::USE_PROXY => "Use Proxy",
            Self::BAD_REQUEST => "Bad Request",
            Self::UNAUTHORIZED => "Unauthorized",
            Self::FORBIDDEN => "Forbidden",
            Self::NOT_FOUND => "Not Found",
            Self::METHOD_NOT_ALLOWED => "Method Not Allowed",
            Self::NOT_ACCEPTABLE => "Not Acceptable",
            Self::REQUEST_TIMEOUT => "Request Timeout",
            Self::CONFLICT => "Conflict",
            Self::ENTITY_TOO_LARGE => "Request Entity Too Large",
            Self::URI_TOO_LONG => "Request-URI Too Long",
            Self::UNSUPPORTED_MEDIA_TYPE => "Unsupported Media Type",
            Self::PARAMETER_NOT_UNDERSTOOD => "Parameter Not Understood",
            Self::NOT_ENOUGH_BANDWIDTH => "Not Enough Bandwidth",
            Self::SESSION_NOT_FOUND => "Session Not Found",
            Self::METHOD_NOT_VALID_IN_STATE => "Method Not Valid In This State",
            Self::HEADER_FIELD_NOT_VALID => "Header Field Not Valid For Resource",
            Self::INVALID_RANGE => "Invalid Range",
            Self::PARAMETER_IS_READ_ONLY => "Parameter Is Read-Only",
            Self::AGGREGATE_NOT_ALLOWED => "Aggregate Operation Not Allowed",
            Self::ONLY_AGGREGATE_ALLOWED => "Only Aggregate Operation Allowed",
            Self::UNSUPPORTED_TRANSPORT => "Unsupported Transport",
            Self::DESTINATION_UNREACHABLE => "Destination Unreachable",
            Self::KEY_MANAGEMENT_FAILURE => "Key Management Failure",
            Self::INTERNAL_ERROR => "Internal Server Error",
            Self::NOT_IMPLEMENTED => "Not Implemented",
            Self::SERVICE_UNAVAILABLE => "Service Unavailable",
            Self::VERSION_NOT_SUPPORTED => "RTSP Version Not Supported",
            Self::OPTION_NOT_SUPPORTED => "Option Not Supported",
            _ => "",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

/// Header fields in the order they came; names in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Box<str>, String)>);

impl Headers {
    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The values of all fields of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str()))
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field behind the others.
    pub fn push(&mut self, name: &str, value: impl fmt::Display) {
        self.0.push((name.into(), value.to_string()));
    }

    /// The last field, for lines that continue it.
    pub(super) fn last_mut(&mut self) -> Option<&mut String> {
        self.0.last_mut().map(|(_, value)| value)
    }

    fn encode(&self, body: &Bytes, out: &mut BytesMut) {
        for (name, value) in &self.0 {
            put_line(out, &[name, ": ", value]);
        }
        if !body.is_empty() {
            put_line(out, &["Content-Length: ", &body.len().to_string()]);
        }
        out.put_slice(b"\r\n");
        out.put_slice(body);
    }
}

/// Appends a line without the line breaks that its parts may have.
fn put_line(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        part.split(['\r', '\n', '\0']).for_each(|piece| out.put_slice(piece.as_bytes()));
    }
    out.put_slice(b"\r\n");
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Of what: an absolute URL, or `*`. Printable ASCII without blanks.
    pub uri: String,
    /// What is spoken.
    pub version: Version,
    /// Header fields, `Content-Length` among them when it was received.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, uri: impl Into<String>) -> Self {
        Self {
            method,
            uri: uri.into(),
            version: Version::RTSP_1_0,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// The same with another header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same with a body of a type. Its length is written by [`encode`](Self::encode).
    #[must_use]
    pub fn with_body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push("Content-Type", kind);
        self.body = body.into();
        self
    }

    /// `CSeq` (RFC 2326 §12.17); `None` when it is missing or no number.
    #[must_use]
    pub fn cseq(&self) -> Option<u32> {
        cseq(&self.headers)
    }

    /// Appends the request; `Content-Length` is written for its body.
    pub fn encode(&self, out: &mut BytesMut) {
        put_line(out, &[self.method.as_str(), " ", &self.uri, " ", &self.version.to_string()]);
        self.headers.encode(&self.body, out);
    }

    /// The request in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What is spoken.
    pub version: Version,
    /// How it went.
    pub status: Status,
    /// The same for people, as it was sent.
    pub reason: String,
    /// Header fields, `Content-Length` among them when it was received.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A response with the status' own reason.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self {
            version: Version::RTSP_1_0,
            status,
            reason: status.reason().to_owned(),
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// The same with another header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same with a body of a type. Its length is written by [`encode`](Self::encode).
    #[must_use]
    pub fn with_body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push("Content-Type", kind);
        self.body = body.into();
        self
    }

    /// `CSeq` of the request that it answers; `None` when it is missing or no number.
    #[must_use]
    pub fn cseq(&self) -> Option<u32> {
        cseq(&self.headers)
    }

    /// Appends the response; `Content-Length` is written for its body.
    pub fn encode(&self, out: &mut BytesMut) {
        put_line(out, &[&self.version.to_string(), " ", &self.status.0.to_string(), " ", &self.reason]);
        self.headers.encode(&self.body, out);
    }

    /// The response in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

pub(super) fn cseq(headers: &Headers) -> Option<u32> {
    headers.get("CSeq").and_then(number).and_then(|number| u32::try_from(number).ok())
}
