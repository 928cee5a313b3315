//! Where a relay would connect to, found out before it does.
//!
//! A name is resolved once: what was checked is what is connected to, so that a name whose address changes in between
//! (DNS rebinding) leads nowhere else. Redirects of either protocol are not followed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::net::UdpSocket;
use std::time::Duration;

use arcly_core::StreamKey;
use arcly_rtmp::{RtmpUrl, Target};
use arcly_rtsp::RtspUrl;
use arcly_srt::url::{ConnectMode, SrtGroup};
use url::Url;

use super::Endpoint;
use super::http::percent_decode;
use crate::server::Listener;

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);

/// Which addresses a relay may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All: whoever wants the relay could connect there without it.
    Anywhere,
    /// Those of the public Internet only.
    Public,
}

/// Why a relay cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The ends are not ends, or there are too many relays.
    #[error("{0}")]
    Invalid(String),
    /// It would lead where it may not.
    #[error("{0}")]
    Forbidden(String),
    /// It would feed a stream with itself.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The name cannot be resolved, at the moment at least.
    #[error("{0}")]
    Unresolved(String),
}

/// A relay's way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// The addresses of the end that is elsewhere; each may be connected to.
    pub at: Vec<SocketAddr>,
    /// The stream that is read and the one that is written, when both are of this server.
    pub within: Option<(StreamKey, StreamKey)>,
}

impl Route {
    /// Resolves the end that is elsewhere, and checks every address of it.
    pub(super) async fn find(
        from: &Endpoint,
        to: &Endpoint,
        reach: Reach,
        listeners: &[Listener],
    ) -> Result<Self, RelayError> {
        let (far, own) = match (from, to) {
            (Endpoint::Stream(from), Endpoint::Stream(to)) => {
                return Ok(Self { at: Vec::new(), within: Some((from.clone(), to.clone())) });
            }
            (Endpoint::Stream(own), far) | (far, Endpoint::Stream(own)) => (far, own),
            _ => return Err(RelayError::Invalid("one end must be a stream of this server".into())),
        };
        if let Endpoint::Srt(url) = far
            && url.mode == ConnectMode::Listener
        {
            return Self::waiting(far, reach);
        }
        let Some(place) = Place::of(far)? else { return Ok(Self::default()) };
        let group = if let Endpoint::Srt(url) = far { url.group.as_ref() } else { None };
        let at = match group {
            Some(group) => resolve_group(group).await?,
            None => resolve(&place.host, place.port).await?,
        };
        if reach == Reach::Public
            && let Some((ip, class)) = at.iter().find_map(|addr| Some((addr.ip(), class_of(addr.ip())?)))
        {
            return Err(RelayError::Forbidden(format!(
                "{far} leads to {ip}, a {class} address, which relays of the API may not connect to unless \
                 auth.private_relays = true"
            )));
        }
        let reached = |addr: &SocketAddr| is_own(*addr, place.datagrams, listeners);
        let other = if at.iter().any(reached) { place.key } else { None };
        let within = other.map(|other| match from {
            Endpoint::Stream(_) => (own.clone(), other),
            _ => (other, own.clone()),
        });
        Ok(Self { at, within })
    }

    /// Nobody is connected to: somebody else does that, to a port of this machine.
    fn waiting(far: &Endpoint, reach: Reach) -> Result<Self, RelayError> {
        if reach == Reach::Public {
            return Err(RelayError::Forbidden(format!(
                "{far} would open a port of this machine, which relays of the API may not unless auth.private_relays = true"
            )));
        }
        Ok(Self::default())
    }
}

/// What a URL says: whom to ask, and for which stream.
struct Place {
    host: String,
    port: u16,
    /// The stream as an arcly names it.
    key: Option<StreamKey>,
    /// It is asked for by datagrams.
    datagrams: bool,
}

impl Place {
    fn of(end: &Endpoint) -> Result<Option<Self>, RelayError> {
        match end {
            Endpoint::Rtmp(url) => {
                let url: RtmpUrl =
                    url.as_str().parse().map_err(|error| RelayError::Invalid(format!("{end}: {error}")))?;
                let key = Target::new(&url.app, "", &url.name()).ok().map(|target| target.key);
                Ok(Some(Self { host: url.host.to_string(), port: url.port, key, datagrams: false }))
            }
            Endpoint::Rtsp(url) => {
                let url: RtspUrl =
                    url.as_str().parse().map_err(|error| RelayError::Invalid(format!("{end}: {error}")))?;
                let key = StreamKey::parse(&percent_decode(url.path())).ok();
                Ok(Some(Self { host: url.host.to_string(), port: url.port, key, datagrams: false }))
            }
            Endpoint::Srt(url) => {
                let key = url.stream_id().and_then(|id| StreamKey::parse(&id.resource).ok());
                Ok(Some(Self { host: url.host.clone(), port: url.port, key, datagrams: true }))
            }
            Endpoint::Http(url) => Ok(Some(Self::of_http(url))),
            Endpoint::WebRtc(url) => {
                let path = percent_decode(url.endpoint().path());
                let name = path.trim_start_matches('/').strip_suffix(url.role().as_str());
                let name = name.and_then(|name| name.strip_suffix('/'));
                let key = name.and_then(|name| StreamKey::parse(name).ok());
                Ok(Some(Self { host: url.host().to_owned(), port: url.port(), key, datagrams: false }))
            }
            Endpoint::File(_) | Endpoint::Udp(_) | Endpoint::Stream(_) => Ok(None),
        }
    }

    fn of_http(url: &Url) -> Self {
        let path = percent_decode(url.path());
        let path = path.trim_start_matches('/');
        let name = path.strip_suffix(".flv").or_else(|| path.strip_suffix(".ts"));
        Self {
            host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            key: name.and_then(|name| StreamKey::parse(name).ok()),
            datagrams: false,
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, RelayError> {
    let unresolved = |why: &str| RelayError::Unresolved(format!("cannot resolve {host}: {why}"));
    let looking = tokio::net::lookup_host((host, port));
    let found = tokio::time::timeout(RESOLVE, looking).await.map_err(|_| unresolved("it takes too long"))?;
    let found: Vec<SocketAddr> = found.map_err(|error| unresolved(&error.to_string()))?.collect();
    if found.is_empty() { Err(unresolved("it has no address")) } else { Ok(found) }
}

/// An address for each path.
async fn resolve_group(group: &SrtGroup) -> Result<Vec<SocketAddr>, RelayError> {
    let mut found = Vec::new();
    for path in &group.paths {
        found.push(resolve(&path.host, path.port).await?);
    }
    let why = "the paths of a group are all IPv4 or all IPv6";
    group.choose(&found).ok_or_else(|| RelayError::Unresolved(why.into()))
}

/// True when connecting to `addr` reaches one of the listeners: SRT's in datagrams, the others' else.
fn is_own(addr: SocketAddr, datagrams: bool, listeners: &[Listener]) -> bool {
    let ip = addr.ip().to_canonical();
    let connected = |listener: &&Listener| {
        let takes_it = match listener.protocol {
            "udp" | "rtp" | "rtcp" | "webrtc" | "webrtc-tcp" => false,
            protocol => (protocol == "srt") == datagrams,
        };
        takes_it && listener.addr.port() == addr.port()
    };
    listeners.iter().filter(connected).any(|listener| {
        let bound = listener.addr.ip().to_canonical();
        // Connecting to the unspecified address is connecting to this machine.
        bound == ip || ((bound.is_unspecified() || ip.is_unspecified()) && is_of_this_machine(ip))
    })
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// True for an address of the public Internet.
pub(super) fn is_public(ip: IpAddr) -> bool {
    class_of(ip).is_none()
}

/// What an address is called that is not of the public Internet; `None` for one that is.
///
/// | IANA special-purpose address registries | here |
/// |---|---|
/// | RFC 1122, 1918, 3927, 6598, 2544, 5737; RFC 4291, 4193, 3879 | the classes |
/// | RFC 4291 IPv4-mapped and -compatible, RFC 6052, RFC 3056 | the class of the IPv4 address inside |
fn class_of(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => class_of_v4(ip),
        IpAddr::V6(ip) => class_of_v6(ip),
    }
}

const fn class_of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, 0, 0, 0] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [100, 64..=127, ..] => Some("shared"),
        [224..=239, ..] => Some("multicast"),
        [255, 255, 255, 255] => Some("broadcast"),
        [0 | 240..=255, ..]
        | [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Some("reserved"),
        _ => None,
    }
}

fn class_of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let inside = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        class_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => inside(high, low),
        [0x64, 0xFF9B, 1, ..] => Some("private"),
        [0x2002, high, low, ..] => inside(high, low),
        [0xFE80..=0xFEBF, ..] => Some("link-local"),
        [0xFC00..=0xFDFF | 0xFEC0..=0xFEFF, ..] => Some("private"),
        [0xFF00..=0xFFFF, ..] => Some("multicast"),
        [0x2001, 0xDB8, ..] => Some("reserved"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h21_classes_of_addresses() {
        let cases = [
            ("127.0.0.1", Some("loopback")),
            ("127.255.1.2", Some("loopback")),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("reserved")),
            ("10.0.0.1", Some("private")),
            ("172.16.0.1", Some("private")),
            ("172.32.0.1", None),
            ("192.168.1.1", Some("private")),
            ("169.254.169.254", Some("link-local")),
            ("100.64.0.1", Some("shared")),
            ("224.0.0.1", Some("multicast")),
            ("255.255.255.255", Some("broadcast")),
            ("8.8.8.8", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("::ffff:8.8.8.8", None),
            ("::10.0.0.1", Some("private")),
            ("64:ff9b::10.0.0.1", Some("private")),
            ("64:ff9b::8.8.8.8", None),
            ("2002:a00:1::", Some("private")),
            ("fe80::1", Some("link-local")),
            ("fd00::1", Some("private")),
            ("fec0::1", Some("private")),
            ("ff02::1", Some("multicast")),
            ("2606:4700::1111", None),
        ];
        for (ip, expect) in cases {
            assert_eq!(class_of(ip.parse().unwrap()), expect, "{ip}");
        }
    }

    #[tokio::test]
    async fn h23_what_leads_back_here() {
        let listener = |protocol, addr: &str| Listener { protocol, addr: addr.parse().unwrap() };
        let listeners = [
            listener("rtmp", "[::]:1935"),
            listener("rtsp", "[::]:8554"),
            listener("http", "127.0.0.1:8080"),
            listener("srt", "[::]:8890"),
        ];
        let cases = [
            ("live/a", "rtmp://127.0.0.1/live/b", Some("live/a > live/b")),
            ("live/a", "rtmp://127.9.8.7/live/b?token=x", Some("live/a > live/b")),
            ("live/a", "rtmp://0.0.0.0/live/b", Some("live/a > live/b")),
            ("rtmp://localhost/live/b", "live/a", Some("live/b > live/a")),
            ("http://127.0.0.1:8080/live/%62.flv", "live/a", Some("live/b > live/a")),
            ("http://127.0.0.1:8080/live/b.ts", "live/a", Some("live/b > live/a")),
            ("rtsp://localhost:8554/live/b", "live/a", Some("live/b > live/a")),
            ("live/a", "rtsp://127.0.0.1:8554/live/%62?x=y", Some("live/a > live/b")),
            ("live/a", "rtsp://127.0.0.1/live/b", None),
            ("live/a", "live/b", Some("live/a > live/b")),
            ("live/a", "whip+http://127.0.0.1:8080/live/b/whip", Some("live/a > live/b")),
            ("whep+http://localhost:8080/live/%62/whep?x=y", "live/a", Some("live/b > live/a")),
            ("whep+http://127.0.0.1:8080/live/b", "live/a", None),
            ("whep+http://127.0.0.1:8081/live/b/whep", "live/a", None),
            ("live/a", "srt://127.0.0.1:8890?streamid=publish:live/b", Some("live/a > live/b")),
            ("srt://localhost:8890?streamid=live/b&mode=caller", "live/a", Some("live/b > live/a")),
            ("live/a", "srt://127.0.0.1:1935?streamid=publish:live/b", None),
            (
                "live/a",
                "srt://192.0.2.1:1,127.0.0.1:8890?grouptype=backup&streamid=publish:live/b",
                Some("live/a > live/b"),
            ),
            ("live/a", "srt://*?type=broadcast&nodes=192.0.2.1:1,192.0.2.2:1&streamid=publish:live/b", None),
            ("live/a", "rtmp://127.0.0.1:8890/live/b", None),
            ("srt://:9000", "live/a", None),
            ("live/a", "rtmp://127.0.0.1:1940/live/b", None),
            ("live/a", "rtmp://192.0.2.1/live/b", None),
            ("http://127.0.0.2:8080/live/b.flv", "live/a", None),
        ];
        for (from, to, expect) in cases {
            let end = |text| Endpoint::parse_remote(text).unwrap();
            let route = Route::find(&end(from), &end(to), Reach::Anywhere, &listeners).await.unwrap();
            let within = route.within.map(|(from, to)| format!("{from} > {to}"));
            assert_eq!(within.as_deref(), expect, "{from} to {to}");
        }
    }
}
