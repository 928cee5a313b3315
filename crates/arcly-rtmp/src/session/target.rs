//! Which stream a client means, and what it proves itself with.

use std::sync::Arc;

use arcly_core::StreamKey;
use arcly_core::key::NameError;

/// A stream as a client names it: spread over `app`, `tcUrl` and the stream name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The stream.
    pub key: StreamKey,
    /// Everything after `?`, of the app and of the name, joined by `&`; without the question mark.
    pub query: Option<Arc<str>>,
    /// User and password from the authority of `tcUrl`.
    pub user: Option<(Arc<str>, Arc<str>)>,
}

/// What Flash put before the names of recordings, and some clients still do.
const FORMAT_PREFIXES: [&str; 3] = ["flv:", "mp4:", "mp3:"];

impl Target {
    /// Puts the three together.
    ///
    /// Tolerated: slashes after the app (`rtmp://host/live/` in an encoder's settings), and the format prefix that
    /// FFmpeg adds to a name that ends in `.mp4`.
    ///
    /// # Errors
    /// What is left is not a stream name.
    pub fn new(app: &str, tc_url: &str, name: &str) -> Result<Self, NameError> {
        let (app, app_query) = split_query(app);
        let (name, name_query) = split_query(name);
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let name = FORMAT_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let key = match app.trim_end_matches('/') {
            "" => StreamKey::parse(name)?,
            app => StreamKey::from_parts(app, name)?,
        };
        let query = match (app_query, name_query) {
            (Some(a), Some(b)) if a != b => Some(format!("{a}&{b}").into()),
            (a, b) => a.or(b).map(Arc::from),
        };
        Ok(Self { key, query, user: userinfo(tc_url) })
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query).filter(|q| !q.is_empty())),
        None => (text, None),
    }
}

fn userinfo(url: &str) -> Option<(Arc<str>, Arc<str>)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Some((crate::url::percent_decode(user).into(), crate::url::percent_decode(password).into()))
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "case tables")]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(65_000);
        let cases: &[(&str, &str, Result<(&str, Option<&str>), NameError>)] = &[
            ("live", "cam", Ok(("live/cam", None))),
            ("live/", "cam", Ok(("live/cam", None))),
            ("live/site", "a/b", Ok(("live/site/a/b", None))),
            ("", "cam", Ok(("live/cam", None))),
            ("live", "cam?token=x&a=b", Ok(("live/cam", Some("token=x&a=b")))),
            ("live?token=x", "cam", Ok(("live/cam", Some("token=x")))),
            ("live?a=1", "cam?b=2", Ok(("live/cam", Some("a=1&b=2")))),
            ("live?a=1", "cam?a=1", Ok(("live/cam", Some("a=1")))),
            ("live", "cam?", Ok(("live/cam", None))),
            ("live", "mp4:movie.mp4", Ok(("live/movie.mp4", None))),
            ("live", "", Err(NameError::Empty)),
            ("live", "?token=x", Err(NameError::Empty)),
            ("live", "/etc/x", Err(NameError::Traversal)),
            ("live", "../../../tmp/pwn", Err(NameError::Traversal)),
            ("live", "a\\..\\b", Err(NameError::Character)),
            ("live", "%2e%2e/x", Err(NameError::Character)),
            ("live", "a\0b", Err(NameError::Unprintable)),
            ("live", "a\u{FFFD}b", Err(NameError::Unprintable)),
            ("live", &long, Err(NameError::TooLong)),
        ];
        for (app, name, expect) in cases {
            let got = Target::new(app, "", name);
            let got = got.as_ref().map(|t| (t.key.as_str(), t.query.as_deref())).map_err(|e| *e);
            assert_eq!(got, *expect, "{app:?} {name:?}");
        }
    }

    #[test]
    fn credentials_in_the_authority() {
        let user = |url: &str| {
            let target = Target::new("live", url, "cam").unwrap();
            target.user.map(|(user, password)| format!("{user}|{password}"))
        };
        assert_eq!(user("rtmp://joe:p%40ss@h:1935/live").as_deref(), Some("joe|p@ss"));
        assert_eq!(user("rtmp://joe@h/live").as_deref(), Some("joe|"));
        assert_eq!(user("rtmp://h/live@x"), None);
        assert_eq!(user("nonsense"), None);
    }
}
