//! What a stream is called: one parser for every protocol, the API and the recorder.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

/// Longest name in bytes, `app/stream` together.
pub const MAX_NAME: usize = 255;
/// Most segments between slashes, `app` included.
pub const MAX_SEGMENTS: usize = 8;
/// The app of a name without a slash.
pub const DEFAULT_APP: &str = "live";

/// Why a name was refused. [`is_forbidden`](Self::is_forbidden) tells a name that tries to leave its
/// place from one that is only wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing in it.
    #[error("the stream name is empty")]
    Empty,
    /// Longer than [`MAX_NAME`] bytes.
    #[error("the stream name is longer than {MAX_NAME} bytes")]
    TooLong,
    /// More than [`MAX_SEGMENTS`] segments.
    #[error("the stream name has more than {MAX_SEGMENTS} segments")]
    TooDeep,
    /// A segment is empty, `.` or `..`, or the name begins with a slash.
    #[error("the stream name has an empty, `.` or `..` segment")]
    Traversal,
    /// A printable character outside `[A-Za-z0-9._~-]`.
    #[error("the stream name has a character outside A-Z a-z 0-9 . _ ~ -")]
    Character,
    /// A control character or something outside ASCII.
    #[error("the stream name has a control or non-ASCII character")]
    Unprintable,
}

impl NameError {
    /// True for names that look like an attempt to reach another place, which are answered with
    /// `forbidden`; the others are `malformed` or over a limit.
    #[must_use]
    pub const fn is_forbidden(self) -> bool {
        matches!(self, Self::Traversal | Self::Character | Self::TooDeep)
    }
}

/// The name of a stream: an application and a path of one or more segments within it.
///
/// `live/cam` is app `live`, stream `cam`; `live/site/cam` is app `live`, stream `site/cam`; a bare `cam` is
/// app [`DEFAULT_APP`]. Segments are `[A-Za-z0-9._~-]+`, none is `.` or `..`, and the whole is at most
/// [`MAX_NAME`] bytes, so that a key can be shown, logged and used as a relative path as it is.
///
/// Names are case-sensitive. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    path: Arc<str>,
    app_len: usize,
}

impl StreamKey {
    /// A key from names that are known to be good, as in `StreamKey::new("live", "cam")`.
    ///
    /// # Panics
    /// When the names are not valid. Use [`parse`](Self::parse) or [`from_parts`](Self::from_parts) for
    /// anything that came from outside.
    #[must_use]
    #[track_caller]
    pub fn new(app: &str, stream: &str) -> Self {
        match Self::from_parts(app, stream) {
            Ok(key) => key,
            Err(error) => panic!("StreamKey::new({app:?}, {stream:?}): {error}"),
        }
    }

    /// A key from an application and a stream name, either of which may have several segments
    /// (the first segment of `app` is the application).
    ///
    /// # Errors
    /// [`NameError`] says what is wrong.
    pub fn from_parts(app: &str, stream: &str) -> Result<Self, NameError> {
        if app.is_empty() || stream.is_empty() {
            return Err(NameError::Empty);
        }
        if app.len() + stream.len() >= MAX_NAME {
            return Err(NameError::TooLong);
        }
        Self::from_path(&format!("{app}/{stream}"))
    }

    /// A key from a path; one segment alone is a stream of [`DEFAULT_APP`].
    ///
    /// # Errors
    /// [`NameError`] says what is wrong.
    pub fn parse(path: &str) -> Result<Self, NameError> {
        match path {
            "" => Err(NameError::Empty),
            single if !single.contains('/') => Self::from_parts(DEFAULT_APP, single),
            path => Self::from_path(path),
        }
    }

    fn from_path(path: &str) -> Result<Self, NameError> {
        if path.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if path.bytes().any(|b| !(0x20..0x7F).contains(&b)) {
            return Err(NameError::Unprintable);
        }
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(NameError::Traversal);
        }
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-/".contains(&b)) {
            return Err(NameError::Character);
        }
        if path.split('/').count() > MAX_SEGMENTS {
            return Err(NameError::TooDeep);
        }
        let app_len = path.find('/').ok_or(NameError::Empty)?;
        Ok(Self { path: path.into(), app_len })
    }

    /// The application: the first segment.
    #[must_use]
    pub fn app(&self) -> &str {
        self.path.get(..self.app_len).unwrap_or_default()
    }

    /// The stream within the application: everything after the first slash.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.path.get(self.app_len + 1..).unwrap_or_default()
    }

    /// `app/stream`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

impl FromStr for StreamKey {
    type Err = NameError;
    fn from_str(path: &str) -> Result<Self, NameError> {
        Self::parse(path)
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamKey({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        use NameError::*;
        let long = "a".repeat(250);
        let deep = "a/".repeat(255) + "a";
        type Parsed<'a> = Result<(&'a str, &'a str), NameError>;
        let cases: &[(&str, Parsed<'_>)] = &[
            ("live/cam", Ok(("live", "cam"))),
            ("cam", Ok(("live", "cam"))),
            ("live/site/cam.1_~-", Ok(("live", "site/cam.1_~-"))),
            ("LIVE/a", Ok(("LIVE", "a"))),
            (&long, Ok(("live", &long))),
            ("", Err(Empty)),
            ("/etc/x", Err(Traversal)),
            ("../../../tmp/pwn", Err(Traversal)),
            ("a/./b", Err(Traversal)),
            ("a//b", Err(Traversal)),
            ("live/a/", Err(Traversal)),
            (".", Err(Traversal)),
            ("a\\..\\b", Err(Character)),
            ("%2e%2e/x", Err(Character)),
            ("live/a?x", Err(Character)),
            ("live/a b", Err(Character)),
            ("a\0b", Err(Unprintable)),
            ("a\r\nb", Err(Unprintable)),
            ("a\u{202E}b", Err(Unprintable)),
            ("a/b/c/d/e/f/g/h/i", Err(TooDeep)),
            (&deep, Err(TooLong)),
        ];
        for (name, expect) in cases {
            let got = StreamKey::parse(name);
            let got = got.as_ref().map(|k| (k.app(), k.stream())).map_err(|e| *e);
            assert_eq!(got, *expect, "{name:?}");
        }
        assert_eq!(StreamKey::from_parts("live", &"x".repeat(250)).map(|k| k.as_str().len()), Ok(255));
        assert_eq!(StreamKey::from_parts("live", &"x".repeat(251)), Err(TooLong));
        assert_eq!(StreamKey::from_parts("live/site", "cam"), Ok(StreamKey::new("live", "site/cam")));
    }
}
