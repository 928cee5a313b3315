//! Stream ids: what a caller wants (libsrt, `docs/features/access-control.md`).

use core::fmt;
use core::str::FromStr;

/// Bytes of a stream id.
pub const MAX_STREAM_ID: usize = 512;
/// Keys of one stream id.
const MAX_KEYS: usize = 32;
/// Begins what is written in keys and values.
const KEYED: &str = "#!::";

/// What the caller wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamMode {
    /// Receive.
    #[default]
    Request,
    /// Send.
    Publish,
    /// Both.
    Bidirectional,
}

/// A stream id, understood.
///
/// | written | is |
/// |---|---|
/// | `#!::m=publish,r=live/cam,u=me,s=secret` | keys and values, in any order; `m` is `request` when it is not there |
/// | `publish:live/cam`, `publish:live/cam:me:secret` | publish |
/// | `read:live/cam`, `read:live/cam:me:secret` | request; `request:` and `play:` too |
/// | `live/cam` | request |
///
/// A `?` begins a query, as in a URL: `read:live/cam?token=…`.
///
/// ```
/// use arcly_srt::wire::{StreamId, StreamMode};
///
/// let id: StreamId = "#!::r=live/cam,m=publish,u=me".parse()?;
/// assert_eq!((id.mode, &*id.resource, id.user.as_deref()), (StreamMode::Publish, "live/cam", Some("me")));
/// assert_eq!("publish:live/cam:me".parse::<StreamId>().is_err(), true);
/// assert_eq!("live/cam".parse::<StreamId>()?.mode, StreamMode::Request);
/// # Ok::<(), arcly_srt::wire::StreamIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StreamId {
    /// What to do.
    pub mode: StreamMode,
    /// The stream's name as it is written; empty when nothing names one.
    pub resource: String,
    /// What is behind the `?`.
    pub query: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The password, or the session.
    pub secret: Option<String>,
    /// `h`: the host.
    pub host: Option<String>,
    /// Other keys, at most 32, in their order; `t` (`stream`, `file`, `auth`) is among them.
    pub extra: Vec<(String, String)>,
}

/// A stream id that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// It is longer than [`MAX_STREAM_ID`] bytes.
    #[error("the stream id is longer than {MAX_STREAM_ID} bytes")]
    TooLong,
    /// It has too many keys.
    #[error("the stream id has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// A part has no `=`.
    #[error("a part of the stream id is not `key=value`")]
    NotAPair,
    /// The mode is neither of three.
    #[error("the mode of the stream id is not `request`, `publish` or `bidirectional`")]
    Mode,
    /// A user without a password, in the short form.
    #[error("the stream id is not `publish:name` or `publish:name:user:password`")]
    Parts,
    /// `#!:{`, or another syntax of the future.
    #[error("the stream id has a syntax that is not known")]
    Syntax,
}

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_STREAM_ID {
            return Err(StreamIdError::TooLong);
        }
        if let Some(keyed) = text.strip_prefix(KEYED) {
            return Self::from_keys(keyed);
        }
        if text.starts_with("#!") {
            return Err(StreamIdError::Syntax);
        }
        match text.split_once(':') {
            Some(("publish", rest)) => Self::from_short(StreamMode::Publish, rest),
            Some(("read" | "request" | "play", rest)) => Self::from_short(StreamMode::Request, rest),
            _ => Ok(Self::named(StreamMode::Request, text)),
        }
    }
}

impl StreamId {
    /// A name, which may have a query.
    #[must_use]
    pub fn named(mode: StreamMode, name: &str) -> Self {
        let mut id = Self { mode, ..Self::default() };
        id.set_resource(name);
        id
    }

    fn set_resource(&mut self, name: &str) {
        let (name, query) = match name.split_once('?') {
            Some((name, query)) => (name, Some(query.to_owned())),
            None => (name, None),
        };
        (self.resource, self.query) = (name.to_owned(), query);
    }

    /// `name[:user:password]`; a password may have colons, and so may a query.
    fn from_short(mode: StreamMode, rest: &str) -> Result<Self, StreamIdError> {
        if rest.split(':').next().is_some_and(|name| name.contains('?')) {
            return Ok(Self::named(mode, rest));
        }
        let mut parts = rest.splitn(3, ':');
        let mut id = Self::named(mode, parts.next().unwrap_or_default());
        match (parts.next(), parts.next()) {
            (None, _) => {}
            (Some(_), None) => return Err(StreamIdError::Parts),
            (user, secret) => (id.user, id.secret) = (user.map(str::to_owned), secret.map(str::to_owned)),
        }
        Ok(id)
    }

    fn from_keys(keyed: &str) -> Result<Self, StreamIdError> {
        let mut id = Self::default();
        for (n, pair) in keyed.split(',').filter(|pair| !pair.is_empty()).enumerate() {
            if n >= MAX_KEYS {
                return Err(StreamIdError::TooManyKeys);
            }
            let (key, value) = pair.split_once('=').ok_or(StreamIdError::NotAPair)?;
            match key {
                "r" => id.set_resource(value),
                "u" => id.user = Some(value.to_owned()),
                "s" => id.secret = Some(value.to_owned()),
                "h" => id.host = Some(value.to_owned()),
                "m" => id.mode = mode(value)?,
                _ => id.extra.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(id)
    }
}

fn mode(value: &str) -> Result<StreamMode, StreamIdError> {
    match value {
        "request" => Ok(StreamMode::Request),
        "publish" => Ok(StreamMode::Publish),
        "bidirectional" => Ok(StreamMode::Bidirectional),
        _ => Err(StreamIdError::Mode),
    }
}

/// In keys and values, for a listener to read. Values with a comma cannot be written.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            StreamMode::Request => "request",
            StreamMode::Publish => "publish",
            StreamMode::Bidirectional => "bidirectional",
        };
        write!(f, "{KEYED}m={mode},r={}", self.resource)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        let named = [("u", &self.user), ("s", &self.secret), ("h", &self.host)];
        for (key, value) in named.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            write!(f, ",{key}={value}")?;
        }
        self.extra.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

/// Without the secret.
impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StreamId");
        shown.field("mode", &self.mode).field("resource", &self.resource).field("user", &self.user);
        shown.field("host", &self.host).field("extra", &self.extra).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_the_contract() {
        let publish = StreamId::named(StreamMode::Publish, "live/cam");
        let with_user =
            |id: StreamId| StreamId { user: Some("me".into()), secret: Some("pass".into()), ..id };
        let request = StreamId::named(StreamMode::Request, "live/cam");
        for (text, expected) in [
            ("publish:live/cam", publish.clone()),
            ("publish:live/cam:me:pass", with_user(publish.clone())),
            ("#!::m=publish,r=live/cam", publish.clone()),
            ("#!::r=live/cam,s=pass,u=me,m=publish", with_user(publish)),
            ("read:live/cam", request.clone()),
            ("request:live/cam", request.clone()),
            ("read:live/cam:me:pass", with_user(request.clone())),
            ("#!::r=live/cam", request.clone()),
            ("#!::m=request,r=live/cam,", request.clone()),
            ("live/cam", request),
        ] {
            assert_eq!(id(text), expected, "{text}");
            assert_eq!(id(&expected.to_string()), expected, "{text}");
        }
    }

    #[test]
    fn what_else_can_be_written() {
        assert_eq!(id("read:live/cam:me:pa:ss").secret.as_deref(), Some("pa:ss"));
        assert_eq!(id("publish:cam?token=a:b").query.as_deref(), Some("token=a:b"));
        assert_eq!(id("#!::r=cam?token=x").query.as_deref(), Some("token=x"));
        assert_eq!(id("#!::h=example.org,t=stream,r=cam").host.as_deref(), Some("example.org"));
        assert_eq!(id("#!::t=stream").extra, [("t".to_owned(), "stream".to_owned())]);
        assert_eq!(id(""), StreamId::default());
        assert_eq!(id("rtmp:live"), StreamId::named(StreamMode::Request, "rtmp:live"));
    }

    #[test]
    fn s08_stream_ids_that_are_too_much_or_nothing() {
        let keys = format!("#!::{}", "a=1,".repeat(33));
        for (text, error) in [
            ("x".repeat(513), StreamIdError::TooLong),
            (keys, StreamIdError::TooManyKeys),
            ("#!::novalue".to_owned(), StreamIdError::NotAPair),
            ("#!::m=delete,r=cam".to_owned(), StreamIdError::Mode),
            ("#!:{r=cam}".to_owned(), StreamIdError::Syntax),
            ("publish:live/cam:me".to_owned(), StreamIdError::Parts),
        ] {
            assert_eq!(text.parse::<StreamId>(), Err(error), "{text}");
        }
        assert!("x".repeat(512).parse::<StreamId>().is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", id("publish:cam:me:hunter2?x=y")).contains("hunter2"));
    }
}
