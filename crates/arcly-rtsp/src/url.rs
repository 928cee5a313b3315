//! `rtsp://` URLs: where to connect, what to ask for, and what servers mean by theirs.

use core::fmt;
use core::str::FromStr;
use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::wire::authorization::Login;

/// The port of `rtsp://` URLs that name none.
pub const RTSP_PORT: u16 = 554;
/// The port of `rtsps://` URLs that name none.
pub const RTSPS_PORT: u16 = 322;

/// What a URL is missing, or has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither `rtsp://` nor `rtsps://`.
    #[error("not an rtsp:// or rtsps:// URL")]
    Scheme,
    /// No host.
    #[error("the URL has no host")]
    Host,
    /// A port that is not one.
    #[error("the URL has a port that is not a number from 1 to 65535")]
    Port,
    /// A space, a control character, or one that is not ASCII.
    #[error("the URL has a space, a control character or one that is not ASCII")]
    Character,
}

/// A parsed `rtsp[s]://[user:password@]host[:port][/path][?query]`.
///
/// What is behind the host is kept as it was written, because cameras compare it byte by byte. `Display` and `Debug` leave password and
/// query out, so that a URL can be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct RtspUrl {
    /// True for `rtsps`.
    pub tls: bool,
    /// User and password, percent-decoded.
    pub login: Option<Login>,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Host and port as they were written.
    address: Arc<str>,
    /// Path and query, with the slash they begin with; empty when there is nothing.
    path: Arc<str>,
}

impl RtspUrl {
    /// The URL for request lines: without user and password.
    #[must_use]
    pub fn request_uri(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.address, self.path)
    }

    /// Path and query, with the slash they begin with; empty when there is nothing.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path
    }

    /// The path without its query, and without the slash it begins with.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.path.split_once('?').map_or(&*self.path, |(path, _)| path);
        path.trim_start_matches('/')
    }

    /// The query, without the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path.split_once('?').map(|(_, query)| query).filter(|query| !query.is_empty())
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "rtsps" } else { "rtsp" }
    }

    /// What a server means by a URL that it gives (`Content-Base`, `a=control`), as seen from this one: always on this server, as
    /// servers behind a translation of addresses do not know how they are reached. A relative one is put behind this URL, query
    /// included, as servers expect it, which is not how RFC 3986 would resolve it.
    #[must_use]
    pub fn resolve(&self, given: &str) -> String {
        let given = &*graphic(given.trim());
        if let Some((scheme, rest)) = given.split_once("://")
            && (scheme.eq_ignore_ascii_case("rtsp") || scheme.eq_ignore_ascii_case("rtsps"))
        {
            let path = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
            return format!("{}://{}{path}", self.scheme(), self.address);
        }
        if given.starts_with('/') {
            return format!("{}://{}{given}", self.scheme(), self.address);
        }
        append(&self.request_uri(), given)
    }

    /// The same for a `Content-Base`, which is absolute, but for those that forget the scheme or say it twice.
    #[must_use]
    pub fn rebased(&self, given: &str) -> String {
        let given = graphic(given.trim());
        let place = given.rsplit_once("://").map_or(&*given, |(_, place)| place);
        let path = place.find(['/', '?']).and_then(|at| place.get(at..));
        path.map_or_else(|| self.request_uri(), |path| format!("{}://{}{path}", self.scheme(), self.address))
    }

    /// The same for a redirection, which may lead elsewhere; the login goes along to the same host alone, and nothing leads from TLS into
    /// the clear.
    #[must_use]
    pub fn redirected(&self, location: &str) -> Option<Self> {
        let mut url: Self = location.trim().parse().ok()?;
        if url.login.is_none() && url.host.eq_ignore_ascii_case(&self.host) {
            url.login.clone_from(&self.login);
        }
        (url.tls || !self.tls).then_some(url)
    }
}

/// What a server calls a URL, as one: in a request line a blank would end it.
fn graphic(given: &str) -> Cow<'_, str> {
    const BLANKS: &AsciiSet = &CONTROLS.add(b' ');
    utf8_percent_encode(given, BLANKS).into()
}

/// A control attribute behind a base URL.
pub(crate) fn append(base: &str, control: &str) -> String {
    let control = &*graphic(control);
    if control.is_empty() || control == "*" {
        return base.to_owned();
    }
    let slash = if base.ends_with('/') || control.starts_with('?') { "" } else { "/" };
    format!("{base}{slash}{control}")
}

impl FromStr for RtspUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtsp" => false,
            "rtsps" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or_default();
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(decode_login(login)), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address)?;
        let port = port.unwrap_or(if tls { RTSPS_PORT } else { RTSP_PORT });
        Ok(Self { tls, login, host: host.into(), port, address: address.into(), path: path.into() })
    }
}

fn decode_login(text: &str) -> Login {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Login::new(&decode(user), &decode(password))
}

fn host_and_port(address: &str) -> Result<(&str, Option<u16>), UrlError> {
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
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port));
    Ok((host, port.transpose()?))
}

impl fmt::Display for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split_once('?').map_or(&*self.path, |(path, _)| path);
        write!(f, "{}://{}{path}", self.scheme(), self.address)
    }
}

impl fmt::Debug for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RtspUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn blanks_of_servers_end_no_request_line() {
        let base = url("rtsp://h/cam");
        assert_eq!(base.resolve("trackID=0 RTP/AVP"), "rtsp://h/cam/trackID=0%20RTP/AVP");
        assert_eq!(base.resolve("rtsp://x/a b\r\nc"), "rtsp://h/a%20b%0D%0Ac");
        assert_eq!(base.rebased("rtsp://x/a b/"), "rtsp://h/a%20b/");
        assert_eq!(append("rtsp://h/cam", "a b%20c"), "rtsp://h/cam/a%20b%20c");
    }

    #[test]
    fn urls() {
        let cases = [
            ("rtsp://cam.example.com/live/main", "cam.example.com", 554, "rtsp://cam.example.com/live/main"),
            ("RTSP://h:8554/a?b=/c", "h", 8_554, "rtsp://h:8554/a?b=/c"),
            ("rtsps://[::1]/a#x", "::1", 322, "rtsps://[::1]/a"),
            ("rtsp://u:p@10.0.0.9", "10.0.0.9", 554, "rtsp://10.0.0.9"),
            ("rtsp://u:p@ss@h?x=1", "h", 554, "rtsp://h?x=1"),
            (
                "rtsp://h/user=a_password=b_channel=1.sdp?",
                "h",
                554,
                "rtsp://h/user=a_password=b_channel=1.sdp?",
            ),
        ];
        for (text, host, port, request) in cases {
            let url = url(text);
            assert_eq!((&*url.host, url.port, url.request_uri().as_str()), (host, port, request));
        }
        let wrong = [
            ("http://h/a", UrlError::Scheme),
            ("h/a", UrlError::Scheme),
            ("rtsp:///a", UrlError::Host),
            ("rtsp://u:p@/a", UrlError::Host),
            ("rtsp://h:0/a", UrlError::Port),
            ("rtsp://h:x/a", UrlError::Port),
            ("rtsp://[::1]x/a", UrlError::Port),
            ("rtsp://h/a b", UrlError::Character),
            ("rtsp://h/a\r\nX: y", UrlError::Character),
            ("rtsp://h/ä", UrlError::Character),
        ];
        for (text, error) in wrong {
            assert_eq!(text.parse::<RtspUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_logged_and_what_is_asked_for_has_no_secret() {
        let url = url("rtsp://joe:s%3Acret%40x@h:8554/live/cam?token=t0ken");
        assert_eq!(format!("{url} {url:?}"), "rtsp://h:8554/live/cam rtsp://h:8554/live/cam");
        assert_eq!(url.login, Some(Login::new("joe", "s:cret@x")));
        assert_eq!(url.request_uri(), "rtsp://h:8554/live/cam?token=t0ken");
        assert_eq!((url.path(), url.query()), ("live/cam", Some("token=t0ken")));
    }

    #[test]
    fn t22_what_servers_mean_stays_on_their_server() {
        let cases = [
            ("rtsp://h/live/cam", "trackID=1", "rtsp://h/live/cam/trackID=1"),
            ("rtsp://h/live/cam/", "trackID=1", "rtsp://h/live/cam/trackID=1"),
            ("rtsp://h/cam?ch=1", "trackID=1", "rtsp://h/cam?ch=1/trackID=1"),
            ("rtsp://h/cam", "?ctype=video", "rtsp://h/cam?ctype=video"),
            ("rtsp://h/cam", "rtsp://192.168.1.2:554/cam/t=1?x", "rtsp://h/cam/t=1?x"),
            ("rtsps://h:322/cam", "rtsp://other", "rtsps://h:322"),
            ("rtsp://u:p@h/cam", "rtsp://evil.example/../x", "rtsp://h/../x"),
            ("rtsp://h/cam", "/abs/track1", "rtsp://h/abs/track1"),
            ("rtsp://h/cam", "*", "rtsp://h/cam"),
            ("rtsp://h/cam", "", "rtsp://h/cam"),
            ("rtsp://h", "../x", "rtsp://h/../x"),
        ];
        for (base, given, expect) in cases {
            assert_eq!(url(base).resolve(given), expect, "{base} {given}");
        }
    }

    #[test]
    fn h21_redirections_take_no_login_elsewhere_and_none_out_of_tls() {
        let from = url("rtsp://u:p@h/cam");
        assert_eq!(from.redirected("rtsp://h:555/b").unwrap().login, from.login);
        assert_eq!(from.redirected(" rtsp://other/b ").unwrap().login, None);
        assert_eq!(from.redirected("rtsps://other/b").map(|url| url.tls), Some(true));
        assert!(from.redirected("http://h/b").is_none() && from.redirected("/b").is_none());
        assert!(url("rtsps://h/cam").redirected("rtsp://h/cam").is_none());
    }
}
