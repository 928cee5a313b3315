//! Which stream a URL means, and which medium of it.

use std::sync::Arc;

use arcly_core::StreamKey;
use arcly_core::key::NameError;

/// What the control URL of a medium ends in, before its number.
pub(super) const TRACK: &str = "trackID=";

/// A stream as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The stream.
    pub key: StreamKey,
    /// Everything after `?`, without it.
    pub query: Option<Arc<str>>,
    /// User and password of the URL, for clients that leave them in.
    pub user: Option<(Arc<str>, Arc<str>)>,
}

/// A URL taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location<'a> {
    pub(super) userinfo: Option<&'a str>,
    /// `host[:port]`.
    pub(super) host: &'a str,
    /// Without the slash in front.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    /// The medium that [`TRACK`] names at the end.
    pub(super) track: Option<usize>,
}

impl<'a> Location<'a> {
    /// `None` for what is no absolute URL.
    pub(super) fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        if !["rtsp", "rtsps", "rtspu"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // Clients put the name of a medium behind the whole URL, query included, or behind its path.
        let (query, in_query) = match query.map(split_track) {
            Some((query, track)) => (Some(query), track),
            None => (None, None),
        };
        let (path, in_path) = split_track(path);
        Some(Self {
            userinfo,
            host,
            path,
            query: query.map(|query| query.trim_end_matches('/')).filter(|query| !query.is_empty()),
            track: in_query.or(in_path),
        })
    }
}

fn split_track(text: &str) -> (&str, Option<usize>) {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let found = trimmed.rsplit_once('/').and_then(|(before, name)| {
        let digits = name.strip_prefix(TRACK)?;
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some((before, Some(number)))
    });
    found.unwrap_or((text, None))
}

impl Target {
    /// The stream that a URL means.
    pub(super) fn of(location: &Location<'_>) -> Result<Self, NameError> {
        let user = location.userinfo.map(|userinfo| {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            (percent_decode(user).into(), percent_decode(password).into())
        });
        Ok(Self { key: StreamKey::parse(location.path)?, query: location.query.map(Arc::from), user })
    }

    /// Whether the URL asks for a group to be named in the description, as players do that decide by it: `?multicast`, or
    /// what VLC's users write.
    pub(super) fn wants_multicast(&self) -> bool {
        let mut asked = self.query.iter().flat_map(|query| query.split('&'));
        asked.any(|name| name == "multicast" || name == "vlcmulticast")
    }

    /// Whether the URL asks for keys in the description, of players that protect packets when it says so: `?srtp`.
    pub(super) fn wants_srtp(&self) -> bool {
        self.query.iter().flat_map(|query| query.split('&')).any(|name| name == "srtp")
    }

    /// The same where a slash may stand behind it, as it does behind `Content-Base`.
    pub(super) fn of_aggregate(location: &Location<'_>) -> Result<Self, NameError> {
        let path = location.path.strip_suffix('/').unwrap_or(location.path);
        Self::of(&Location { path, ..*location })
    }
}

/// What is not a percent-encoded byte stays as it is.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<2>().and_then(|digits| str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_media() {
        let cases = [
            ("rtsp://h/live/cam", ("live/cam", None, None)),
            ("rtsp://h:8554/cam", ("live/cam", None, None)),
            ("RTSPS://h/live/cam?token=x", ("live/cam", Some("token=x"), None)),
            ("rtsp://h/live/cam/", ("live/cam", None, None)),
            ("rtsp://h/live/cam/trackID=1", ("live/cam", None, Some(1))),
            ("rtsp://h/live/cam/trackID=1/", ("live/cam", None, Some(1))),
            ("rtsp://h/live/cam?token=x/trackID=2", ("live/cam", Some("token=x"), Some(2))),
            ("rtsp://h/live/cam/trackID=2?token=x", ("live/cam", Some("token=x"), Some(2))),
            ("rtsp://h/live/cam?token=x/", ("live/cam", Some("token=x"), None)),
            ("rtsp://h/live/cam/?token=x", ("live/cam", Some("token=x"), None)),
            ("rtsp://h/live/trackID=", ("live/trackID=", None, None)),
        ];
        for (uri, (key, query, track)) in cases {
            let location = Location::of(uri).unwrap();
            let target = Target::of_aggregate(&location);
            let Ok(target) = target else {
                assert_eq!(key, "live/trackID=", "{uri}: not a name");
                continue;
            };
            assert_eq!(
                (target.key.as_str(), target.query.as_deref(), location.track),
                (key, query, track),
                "{uri}"
            );
        }
    }

    #[test]
    fn t22_what_is_no_name_is_refused() {
        for uri in [
            "rtsp://h/../../etc/x",
            "rtsp://h//etc",
            "rtsp://h/live/a/",
            "rtsp://h/live/a%2Fb",
            "rtsp://h/",
            "rtsp://h",
        ] {
            assert!(Target::of(&Location::of(uri).unwrap()).is_err(), "{uri}");
        }
        for uri in ["*", "", "/live/cam", "http://h/live/cam", "rtsp:live/cam"] {
            assert_eq!(Location::of(uri), None, "{uri}");
        }
    }

    #[test]
    fn logins_that_stand_in_the_url() {
        let location = Location::of("rtsp://us%40er:p%3Aw@h:8554/cam").unwrap();
        assert_eq!(location.host, "h:8554");
        assert_eq!(Target::of(&location).unwrap().user, Some(("us@er".into(), "p:w".into())));
    }
}
