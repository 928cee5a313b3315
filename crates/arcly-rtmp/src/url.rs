//! `rtmp://` URLs.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

/// The port of `rtmp://` URLs that name none.
pub const RTMP_PORT: u16 = 1935;
/// The port of `rtmps://` URLs that name none.
pub const RTMPS_PORT: u16 = 443;

/// What a URL is missing, or has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither `rtmp://` nor `rtmps://`.
    #[error("not an rtmp:// or rtmps:// URL")]
    Scheme,
    /// No host.
    #[error("the URL has no host")]
    Host,
    /// A port that is not one.
    #[error("the URL has a port that is not a number from 1 to 65535")]
    Port,
    /// No application.
    #[error("the URL has no application: rtmp://host/APP/stream")]
    App,
    /// No stream.
    #[error("the URL has no stream: rtmp://host/app/STREAM")]
    Stream,
    /// A space or control character.
    #[error("the URL has a space or a control character")]
    Character,
}

/// A parsed `rtmp[s]://[user:password@]host[:port]/app/stream[?query]`.
///
/// Everything between the first slash and the second is the application, the rest is the stream: what the client
/// sends as `app`, and what it sends as the name with the query. `Display` leaves the password and the query out, so
/// that a URL can be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct RtmpUrl {
    /// True for `rtmps`.
    pub tls: bool,
    /// User and password, percent-decoded.
    pub user: Option<(Arc<str>, Arc<str>)>,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// The application.
    pub app: Arc<str>,
    /// The stream, without the query.
    pub stream: Arc<str>,
    /// Everything after the question mark.
    pub query: Option<Arc<str>>,
    authority: Arc<str>,
}

impl RtmpUrl {
    /// `tcUrl`: the URL of the application, with the credentials, because that is where servers look for them.
    #[must_use]
    pub fn tc_url(&self) -> String {
        format!("{}://{}/{}", self.scheme(), self.authority, self.app)
    }

    /// The stream name that `publish` and `play` carry: with the query.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.stream),
            None => self.stream.to_string(),
        }
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "rtmps" } else { "rtmp" }
    }
}

impl FromStr for RtmpUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query).filter(|q| !q.is_empty())),
            None => (rest, None),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo.split_once(':').unwrap_or((userinfo, ""))), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address, if tls { RTMPS_PORT } else { RTMP_PORT })?;
        let (app, stream) = path.split_once('/').unwrap_or((path, ""));
        if app.is_empty() {
            return Err(UrlError::App);
        }
        if stream.trim_matches('/').is_empty() {
            return Err(UrlError::Stream);
        }
        Ok(Self {
            tls,
            user: user.map(|(user, password)| (percent_decode(user).into(), percent_decode(password).into())),
            host: host.into(),
            port,
            app: app.into(),
            stream: stream.into(),
            query: query.map(Arc::from),
            authority: authority.into(),
        })
    }
}

fn host_and_port(address: &str, default: u16) -> Result<(&str, u16), UrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(UrlError::Port)?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or(UrlError::Port)?,
    };
    Ok((host, port))
}

/// Replaces `%41` by `A`; what is not a valid escape stays as it is, and what is not UTF-8 becomes U+FFFD.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = match rest {
            [b'%', high, low, after @ ..] => hex(*high).zip(hex(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.authority.rsplit_once('@').map_or(&*self.authority, |(_, host)| host);
        write!(f, "{}://{host}/{}/{}", self.scheme(), self.app, self.stream)
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |url: &str| {
            url.parse::<RtmpUrl>().map(|u| format!("{} {} {} {} {}", u.tls, u.host, u.port, u.app, u.name()))
        };
        let cases: &[(&str, Result<&str, UrlError>)] = &[
            ("rtmp://cdn.example.com/live/backup", Ok("false cdn.example.com 1935 live backup")),
            ("RTMP://h:19350/live/cam", Ok("false h 19350 live cam")),
            ("rtmps://h/live/cam?token=a/b", Ok("true h 443 live cam?token=a/b")),
            ("rtmp://[::1]:1936/live/a/b", Ok("false ::1 1936 live a/b")),
            ("rtmp://u:p@h/live/cam", Ok("false h 1935 live cam")),
            ("http://h/live/cam", Err(UrlError::Scheme)),
            ("live/cam", Err(UrlError::Scheme)),
            ("rtmp:///live/cam", Err(UrlError::Host)),
            ("rtmp://h:0/live/cam", Err(UrlError::Port)),
            ("rtmp://h:x/live/cam", Err(UrlError::Port)),
            ("rtmp://h", Err(UrlError::App)),
            ("rtmp://h/", Err(UrlError::App)),
            ("rtmp://h/live", Err(UrlError::Stream)),
            ("rtmp://h/live/", Err(UrlError::Stream)),
            ("rtmp://h/live/?token=x", Err(UrlError::Stream)),
            ("rtmp://h/live/a b", Err(UrlError::Character)),
        ];
        for (url, expect) in cases {
            assert_eq!(parse(url), expect.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn what_is_logged_has_no_secret() {
        let url: RtmpUrl = "rtmp://joe:s%3Acret@h:1936/live/cam?token=t0ken".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "rtmp://h:1936/live/cam rtmp://h:1936/live/cam");
        assert_eq!(url.user, Some(("joe".into(), "s:cret".into())));
        assert_eq!(url.tc_url(), "rtmp://joe:s%3Acret@h:1936/live");
    }

    #[test]
    fn percent_escapes() {
        for (text, expect) in
            [("a%20b", "a b"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%FF", "\u{FFFD}"), ("", "")]
        {
            assert_eq!(percent_decode(text), expect);
        }
    }
}
