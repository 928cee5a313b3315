//! The two ends of a relay: a URL, a file, or a stream of this server.

use core::fmt;
use std::path::PathBuf;

use arcly_core::StreamKey;
use arcly_mux::ts::udp::UdpUrl;
use arcly_srt::SrtUrl;
use arcly_webrtc::WebRtcUrl;
use arcly_webrtc::wire::Role;
use url::Url;

use super::container::Container;

/// Schemes that can be pulled and pushed.
const SCHEMES: [&str; 11] = [
    "rtmp",
    "rtmps",
    "rtsp",
    "rtsps",
    "srt",
    "http",
    "https",
    "whep+http",
    "whep+https",
    "whip+http",
    "whip+https",
];

/// One end of a relay. `Display` shows neither credentials nor query.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `rtmp://` or `rtmps://`.
    Rtmp(Url),
    /// `rtsp://` or `rtsps://`.
    Rtsp(Url),
    /// `srt://`, MPEG-TS.
    Srt(Box<SrtUrl>),
    /// `http://` or `https://`: MPEG-TS when the path ends in `.ts`, else FLV.
    Http(Url),
    /// `whip+http://` or `whip+https://`, which is pushed to; `whep+http://` or `whep+https://`, which is pulled from.
    WebRtc(Box<WebRtcUrl>),
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
                "`{text}` is neither a URL (rtmp://, rtmps://, rtsp://, rtsps://, srt://, http://, https://, whip+http(s)://, whep+http(s)://, udp://) nor a .flv, .ts or .mp4 file"
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
        if scheme == "srt" {
            // A stream id may have a `#`, which begins something else in other URLs.
            let url = text.parse::<SrtUrl>().map_err(|error| format!("not an SRT URL: {error}"))?;
            return Ok(Self::Srt(Box::new(url)));
        }
        if scheme.starts_with("wh") {
            let url = text.parse::<WebRtcUrl>().map_err(|error| error.to_string())?;
            return Ok(Self::WebRtc(Box::new(url)));
        }
        let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL has no host".into());
        }
        Ok(match scheme {
            "http" | "https" => Self::Http(url),
            "rtsp" | "rtsps" => Self::Rtsp(url),
            _ => Self::Rtmp(url),
        })
    }

    /// Whether the one can be read and the other written.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn check_ways(from: &Self, to: &Self) -> Result<(), String> {
        match (from, to) {
            (Self::WebRtc(url), _) if url.role() == Role::Publisher => {
                Err(format!("{url} is pushed to; what is pulled is whep+http:// or whep+https://"))
            }
            (_, Self::WebRtc(url)) if url.role() == Role::Viewer => {
                Err(format!("{url} is pulled from; what is pushed to is whip+http:// or whip+https://"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the two can be a relay of a server: one of them at least is a stream of its own, so that other
    /// readers may share it, and they differ.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn check_pair(from: &Self, to: &Self) -> Result<(), String> {
        Self::check_ways(from, to)?;
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
            Self::Rtmp(url) | Self::Rtsp(url) | Self::Http(url) => {
                write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
                url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
                f.write_str(url.path())
            }
            Self::Srt(url) => url.fmt(f),
            Self::WebRtc(url) => url.fmt(f),
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
            ("rtsp://user:password@h:8554/live/cam?channel=1", true, true),
            ("rtsps://h/live/cam", true, true),
            ("rtsp:///live/cam", false, false),
            ("srt://h:8890?streamid=#!::m=publish,r=live/cam&passphrase=0123456789", true, true),
            ("srt://:9000?mode=listener", true, true),
            ("srt://h:9000,i:9000?grouptype=backup&streamid=publish:live/cam", true, true),
            ("srt://*?type=broadcast&nodes=h:9000,i:9000", true, true),
            ("srt://h:9000,i:9000", false, false),
            ("srt://h", false, false),
            ("srt://h:1?passphrase=short", false, false),
            ("rtsp://[::1]:api", false, false),
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
            ("whip+http://h:8080/live/cam/whip?token=x", true, true),
            ("whep+https://token@h/live/cam/whep", true, true),
            ("whep+http://h", false, false),
            ("whep+rtmp://h/live/cam", false, false),
            ("whatever://h/live/cam", false, false),
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
        let end =
            Endpoint::parse_local("srt://h:1?streamid=publish:live/cam:me:hunter2&passphrase=correct horse");
        assert_eq!(end.unwrap().to_string(), "srt://h:1?streamid=publish:live/cam");
        let end = Endpoint::parse_local("whip+http://t0ken@h:8080/live/cam/whip?token=abc").unwrap();
        assert_eq!(end.to_string(), "whip+http://h:8080/live/cam/whip");
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
        assert!(check("whep+http://h/a/b/whep", "live/b") && check("live/b", "whip+http://h/a/b/whip"));
        assert!(!check("whip+http://h/a/b/whip", "live/b") && !check("live/b", "whep+http://h/a/b/whep"));
    }
}
