//! The two ends of a relay: a URL, a file, or a stream of this server.

use core::fmt;
use std::path::PathBuf;

use arcly_core::StreamKey;
use arcly_mux::ts::udp::UdpUrl;
use url::Url;

use super::container::Container;

/// Schemes that can be pulled and pushed.
const SCHEMES: [&str; 4] = ["rtmp", "rtmps", "http", "https"];

/// One end of a relay. `Display` shows neither credentials nor query.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `rtmp://` or `rtmps://`.
    Rtmp(Url),
    /// `http://` or `https://`: MPEG-TS when the path ends in `.ts`, else FLV.
    Http(Url),
    /// A `.flv`, `.ts` or `.mp4` file.
    File(PathBuf),
    /// `udp://`, MPEG-TS.
    Udp(UdpUrl),
    /// A stream of this server.
    Stream(StreamKey),
}

impl Endpoint {
    /// An end as the command line takes it: a URL or a file.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse_local(text: &str) -> Result<Self, String> {
        if text.starts_with("udp:") {
            return text.parse().map(Self::Udp).map_err(|error| format!("`{text}`: {error}"));
        }
        if text.contains("://") {
            return Self::parse_url(text);
        }
        let path = PathBuf::from(text);
        match Container::of(&path) {
            Some(_) => Ok(Self::File(path)),
            None => Err(format!(
                "`{text}` is neither a URL (rtmp://, rtmps://, http://, https://, udp://) nor a .flv, .ts or .mp4 file"
            )),
        }
    }

    /// An end as the configuration and the API take it: a URL, or the name of a stream of this server. Files of
    /// the server are out of reach.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse_remote(text: &str) -> Result<Self, String> {
        if text.contains(':') {
            return Self::parse_url(text);
        }
        StreamKey::parse(text).map(Self::Stream).map_err(|error| format!("`{text}`: {error}"))
    }

    fn parse_url(text: &str) -> Result<Self, String> {
        let scheme = text.split(':').next().unwrap_or_default();
        if scheme == "udp" {
            return Err(
                "`udp:` is configured under [udp], and on the command line; it cannot be relayed here".into(),
            );
        }
        if !SCHEMES.contains(&scheme) {
            return Err(format!("`{scheme}:` cannot be relayed; use one of {}", SCHEMES.join(", ")));
        }
        let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL has no host".into());
        }
        if scheme.starts_with("http") { Ok(Self::Http(url)) } else { Ok(Self::Rtmp(url)) }
    }

    /// Whether the two can be a relay of a server: one of them at least is a stream of its own, so that other
    /// readers may share it, and they differ.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn check_pair(from: &Self, to: &Self) -> Result<(), String> {
        match (from, to) {
            (Self::Stream(a), Self::Stream(b)) if a == b => Err(format!("`{a}` would be relayed to itself")),
            (Self::Stream(_), _) | (_, Self::Stream(_)) => Ok(()),
            _ => Err("one end must be a stream of this server".into()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(url) | Self::Http(url) => {
                write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
                url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
                f.write_str(url.path())
            }
            Self::File(path) => path.display().fmt(f),
            Self::Udp(url) => url.fmt(f),
            Self::Stream(key) => key.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let cases = [
            ("rtmp://h/live/cam", true, true),
            ("rtmps://h:1/live/cam?token=x", true, true),
            ("https://h/live/cam.flv", true, true),
            ("a.flv", true, true),
            ("/tmp/a.flv", true, false),
            ("a.ts", true, true),
            ("a.mp4", true, true),
            ("a.mkv", false, true),
            ("udp://239.0.0.1:1234", true, false),
            ("udp://239.0.0.1", false, false),
            ("live/cam", false, true),
            ("file:///etc/passwd", false, false),
            ("gopher://h/x", false, false),
            ("rtmp:///live/cam", false, false),
            ("http://", false, false),
            ("../etc", false, false),
        ];
        for (text, local, remote) in cases {
            assert_eq!(Endpoint::parse_local(text).is_ok(), local, "{text:?} on the command line");
            assert_eq!(Endpoint::parse_remote(text).is_ok(), remote, "{text:?} in the API");
        }
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let end = Endpoint::parse_local("rtmp://user:hunter2@h:1940/live/cam?token=abc").unwrap();
        assert_eq!(end.to_string(), "rtmp://h:1940/live/cam");
        assert_eq!(format!("{end:?}"), "Endpoint(rtmp://h:1940/live/cam)");
    }

    #[test]
    fn pairs() {
        let end = |text| Endpoint::parse_remote(text).unwrap();
        let check = |a, b| Endpoint::check_pair(&end(a), &end(b)).is_ok();
        assert!(check("rtmp://h/a/b", "live/b"));
        assert!(check("live/b", "rtmp://h/a/b"));
        assert!(check("live/b", "live/c"));
        assert!(!check("live/b", "live/b"));
        assert!(!check("rtmp://h/a/b", "rtmp://i/a/b"));
    }
}
