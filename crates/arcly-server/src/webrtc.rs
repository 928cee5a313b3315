//! WebRTC: what `[webrtc]` says, and what answers for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arcly_core::{IngestContext, StreamKey};
use arcly_webrtc::config::MAX_ADDRESSES;
use arcly_webrtc::http::Endpoint;
use arcly_webrtc::server::{Counters, SessionInfo};
use arcly_webrtc::session::{LAYER_LABEL, LayerCount, SentLayer, SessionStats};
use arcly_webrtc::wire::Protocol;
use arcly_webrtc::{Addresses, IceServer, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::config::{ConfigError, IceServerConfig, Span, WebrtcConfig};

/// Servers that peers are told of: each costs a browser a socket on every way out.
const MAX_ICE_SERVERS: usize = 8;
/// How servers that help to get through translators of addresses are named (RFC 7064, RFC 7065), and whether they want to know
/// who asks.
const ICE_SCHEMES: [(&str, bool); 4] =
    [("stun:", false), ("stuns:", false), ("turn:", true), ("turns:", true)];

/// What publishers and viewers are called, by whichever of the two protocols they came.
pub(crate) const PROTOCOL: &str = "webrtc";

/// The listener, and what answers offers to it.
#[derive(Debug)]
pub(crate) struct Webrtc {
    server: Arc<Server>,
    endpoint: Endpoint,
}

impl Webrtc {
    /// Serves on those sockets, once it [runs](Self::run).
    ///
    /// # Errors
    /// The configuration cannot be used, or a socket cannot be set up.
    pub(crate) fn new(
        (socket, tcp): (UdpSocket, Option<TcpListener>),
        config: &WebrtcConfig,
        context: &IngestContext,
    ) -> std::io::Result<Self> {
        let mut server = Server::from_socket(socket, config.server().map_err(std::io::Error::other)?)?;
        if let Some(listener) = tcp {
            server = server.with_tcp(listener)?;
        }
        let server = Arc::new(server);
        Ok(Self { endpoint: server.endpoint(context), server })
    }

    /// Until the context's shutdown fires and each session has said good-bye.
    pub(crate) fn run(&self, context: IngestContext) -> impl Future<Output = ()> + use<> {
        let server = Arc::clone(&self.server);
        async move {
            if let Err(error) = server.run(context).await {
                tracing::error!(%error, "the WebRTC listener has failed");
            }
        }
    }

    /// What answers offers.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// The figures of WebRTC at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    counters: Counters,
    stats: SessionStats,
    viewers: HashMap<u64, Session>,
    publishers: HashMap<Peer, Session>,
}

/// A session, and what the track that it is sent is called.
#[derive(Clone, Debug, Default)]
struct Session {
    stats: SessionStats,
    label: Option<Arc<str>>,
}

/// Where a publisher's offer came from, and what for.
type Peer = (Option<SocketAddr>, StreamKey);

impl Figures {
    /// Those of a server with WebRTC; of another, nothing.
    pub(crate) fn of(server: &crate::Server) -> Self {
        let Some(webrtc) = server.webrtc() else { return Self::default() };
        let (counters, stats) = (webrtc.server.counters(), webrtc.server.stats());
        let mut this = Self { counters, stats, ..Self::default() };
        for SessionInfo { client, stream, reader, stats, .. } in webrtc.server.sessions() {
            let session = Session { stats, label: label_of(server, &stream, stats.layer) };
            match reader {
                Some(reader) => _ = this.viewers.insert(reader, session),
                None => _ = this.publishers.insert((client.remote, stream), session),
            }
        }
        this
    }

    /// What was counted of the session of a reader; null when there is none.
    pub(crate) fn of_reader(&self, reader: u64) -> Value {
        self.viewers.get(&reader).map_or(Value::Null, describe)
    }

    /// What was counted of the session of a publisher; null when there is none.
    pub(crate) fn of_publisher(&self, remote: Option<SocketAddr>, key: &StreamKey) -> Value {
        self.publishers.get(&(remote, key.clone())).map_or(Value::Null, describe)
    }

    fn all(&self) -> impl Iterator<Item = &SessionStats> {
        self.viewers.values().chain(self.publishers.values()).map(|session| &session.stats)
    }

    /// Sessions at the moment.
    pub(crate) const fn sessions(&self) -> u64 {
        self.counters.sessions
    }

    /// The longest round trip, in seconds.
    pub(crate) fn longest_rtt(&self) -> f64 {
        self.all().filter_map(|stats| stats.rtt).max().unwrap_or_default().as_secs_f64()
    }

    /// The largest part of packets that were lost.
    pub(crate) fn worst_loss(&self) -> f64 {
        self.all().filter_map(|stats| stats.loss).map(f64::from).fold(0.0, f64::max)
    }

    /// Counters of all sessions there ever were: name, what it is, value.
    pub(crate) fn totals(&self) -> [(&'static str, &'static str, u64); 25] {
        let Self { counters, stats, .. } = self;
        [
            ("packets_sent", "Packets of media sent over WebRTC, repairs among them", stats.packets_sent),
            ("sent_bytes", "Their bytes", stats.bytes_sent),
            (
                "packets_received",
                "Packets of media that came over WebRTC, repairs among them",
                stats.packets_received,
            ),
            ("received_bytes", "Their bytes", stats.bytes_received),
            ("repairs_sent", "Packets sent again (RTX)", stats.repairs_sent),
            ("repairs_received", "Packets that came again (RTX)", stats.repairs_received),
            (
                "repairs_refused",
                "Packets that were not sent again, as a peer had asked for too many",
                stats.repairs_refused,
            ),
            (
                "redundant_sent",
                "Packets of sound sent with those before them, as packets get lost on the way (RED)",
                stats.redundant_sent,
            ),
            (
                "redundant_received",
                "Packets of sound that came with those before them (RED)",
                stats.redundant_received,
            ),
            (
                "recovered",
                "Packets of sound that were lost, and found in those after them (RED)",
                stats.recovered,
            ),
            ("nacks_sent", "Requests for packets that publishers were sent (NACK)", stats.nacks_sent),
            ("nacks_received", "Requests for packets that viewers have sent (NACK)", stats.nacks_received),
            (
                "keyframe_requests_sent",
                "Keyframes that publishers were asked for (PLI, FIR)",
                stats.keyframe_requests_sent,
            ),
            (
                "keyframe_requests_received",
                "Keyframes that viewers have asked for (PLI, FIR)",
                stats.keyframe_requests_received,
            ),
            (
                "frames_thinned",
                "Pictures left out because a viewer's link had no room for them",
                stats.frames_thinned,
            ),
            (
                "frames_out_of_order",
                "Pictures sent in another order than they are shown in (B-frames that others refer to)",
                stats.frames_out_of_order,
            ),
            (
                "layer_switches",
                "Times that a viewer was sent another layer from then on",
                stats.layer_switches,
            ),
            ("messages_sent", "Messages that viewers were sent over data channels", stats.messages_sent),
            ("messages_received", "Messages that came over data channels", stats.messages_received),
            (
                "messages_dropped",
                "Messages of data channels that went nowhere: from viewers, too many, too long, or for one that is too slow",
                stats.messages_dropped,
            ),
            ("foreign_datagrams", "Datagrams on the WebRTC port that belong to no session", counters.foreign),
            (
                "overrun_datagrams",
                "Datagrams that a WebRTC session did not look at in time",
                counters.overrun,
            ),
            (
                "dropped_datagrams",
                "Datagrams that their session has dropped: wrong, or from where nobody has shown the password",
                counters.dropped,
            ),
            (
                "unsent_datagrams",
                "Datagrams for WebRTC peers over TCP whose connection had no room for them",
                counters.unsent,
            ),
            (
                "refused_connections",
                "Connections for WebRTC for which there was no room among those over which nobody has shown a password",
                counters.refused,
            ),
        ]
    }
}

/// What the track of that layer is called.
fn label_of(server: &crate::Server, stream: &StreamKey, layer: Option<SentLayer>) -> Option<Arc<str>> {
    let stream = server.engine().stream(stream)?;
    stream.tracks().get(layer?.track)?.label.clone()
}

/// A session as the API shows it.
fn describe(Session { stats, label }: &Session) -> Value {
    let count = |LayerCount { sent, of, .. }| json!({ "sent": sent, "of": of });
    let rid = label.as_deref().and_then(|label| label.strip_prefix(LAYER_LABEL));
    let layer = stats.layer.map(|SentLayer { track, spatial, temporal, .. }| {
        json!({ "track": track.index(), "rid": rid, "spatial": count(spatial), "temporal": count(temporal) })
    });
    json!({
        "packets_sent": stats.packets_sent,
        "bytes_sent": stats.bytes_sent,
        "packets_received": stats.packets_received,
        "bytes_received": stats.bytes_received,
        "repairs_sent": stats.repairs_sent,
        "repairs_received": stats.repairs_received,
        "repairs_refused": stats.repairs_refused,
        "redundant_sent": stats.redundant_sent,
        "redundant_received": stats.redundant_received,
        "recovered": stats.recovered,
        "nacks_sent": stats.nacks_sent,
        "nacks_received": stats.nacks_received,
        "keyframe_requests_sent": stats.keyframe_requests_sent,
        "keyframe_requests_received": stats.keyframe_requests_received,
        "datagrams_dropped": stats.datagrams_dropped,
        "frames_thinned": stats.frames_thinned,
        "frames_out_of_order": stats.frames_out_of_order,
        "layer_switches": stats.layer_switches,
        "messages_sent": stats.messages_sent,
        "messages_received": stats.messages_received,
        "messages_dropped": stats.messages_dropped,
        "protocol": stats.protocol.map(Protocol::as_str),
        "rtt_milliseconds": stats.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
        "loss": stats.loss,
        "estimate_bps": stats.estimate_bps,
        "queued_bytes": stats.queued_bytes,
        "layer": layer,
    })
}

impl WebrtcConfig {
    /// What the listener keeps to.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub(crate) fn server(&self) -> Result<ServerConfig, ConfigError> {
        self.check_addresses()?;
        let mut config = ServerConfig::default();
        config.announced.clone_from(&self.public_addresses);
        config.announced_port = self.public_port;
        config.ice_servers = self.servers()?;
        let counts = [
            ("max_sessions", self.max_sessions),
            ("max_pending", self.max_pending),
            ("max_pending_per_address", self.max_pending_per_address),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(wrong(key, "must be at least 1; with `webrtc.listen = \"off\"` there is no WebRTC"));
        }
        [config.max_sessions, config.max_pending, config.max_pending_per_address] =
            counts.map(|(_, count)| count);
        let spans = [
            ("ice_timeout", self.ice_timeout, 1, 60),
            ("connect_timeout", self.connect_timeout, 1, 120),
            ("consent_timeout", self.consent_timeout, 5, 300),
        ];
        for (key, span, least, most) in spans {
            if !(Span::secs(least)..=Span::secs(most)).contains(&span) {
                return Err(wrong(key, &format!("must be from {least}s to {most}s")));
            }
        }
        [config.timeouts.ice, config.timeouts.connect, config.timeouts.consent] =
            spans.map(|(_, span, ..)| span.0);
        Ok(config)
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let nowhere = |address: &&IpAddr| Addresses::new([(**address, 1).into()]).is_empty();
        if let Some(address) = self.public_addresses.iter().find(nowhere) {
            let what = format!("`{address}` is nowhere that a peer could send to");
            return Err(wrong("public_addresses", &what));
        }
        match self.public_addresses.len() {
            0..=MAX_ADDRESSES => Ok(()),
            _ => Err(wrong("public_addresses", &format!("at most {MAX_ADDRESSES}"))),
        }
    }

    fn servers(&self) -> Result<Vec<IceServer>, ConfigError> {
        if self.ice_servers.len() > MAX_ICE_SERVERS {
            return Err(wrong("ice_servers", &format!("at most {MAX_ICE_SERVERS}")));
        }
        let server = |(at, server): (usize, &IceServerConfig)| {
            server.server().map_err(|(key, what)| wrong(&format!("ice_servers[{at}].{key}"), &what))
        };
        self.ice_servers.iter().enumerate().map(server).collect()
    }
}

fn wrong(key: &str, what: &str) -> ConfigError {
    ConfigError::new(format!("webrtc.{key}: {what}"))
}

impl IceServerConfig {
    /// The same as the listener takes it; what is wrong, and with which key.
    fn server(&self) -> Result<IceServer, (&'static str, String)> {
        let scheme =
            ICE_SCHEMES.iter().find_map(|(scheme, asks)| Some((self.url.strip_prefix(scheme)?, *asks)));
        let is_host = |rest: &str| !rest.is_empty() && rest.bytes().all(is_url);
        let Some((_, asks)) = scheme.filter(|(rest, _)| is_host(rest)) else {
            return Err(("url", format!("`{}`: write `stun:host:port` or `turn:host:port`", self.url)));
        };
        let credential = self.credential.as_ref().map(|credential| credential.reveal()).transpose();
        let credential = credential.map_err(|error| ("credential", format!("cannot read it: {error}")))?;
        if asks && (self.username.is_none() || credential.is_none()) {
            return Err(("username", "a `turn:` server needs `username` and `credential`".to_owned()));
        }
        for (key, value) in [("username", &self.username), ("credential", &credential)] {
            if value.as_ref().is_some_and(|value| !value.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
                return Err((key, "only letters, digits and marks of ASCII".to_owned()));
            }
        }
        Ok(IceServer { url: self.url.clone(), username: self.username.clone(), credential })
    }
}

/// What the URL of such a server is made of; it stands between angle brackets in a header.
const fn is_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_a_listener_keeps_to() {
        let config = Config::from_toml(
            "[webrtc]\npublic_addresses = ['192.0.2.1', '2001:db8::1']\npublic_port = 40000\nmax_pending = 7\n\
             consent_timeout = '1m'\n[[webrtc.ice_servers]]\nurl = 'stun:stun.example:3478'\n\
             [[webrtc.ice_servers]]\nurl = 'turns:turn.example:5349?transport=tcp'\nusername = 'a'\ncredential = 'b \"c\"'\n",
        );
        let server = config.unwrap().webrtc.server().unwrap();
        assert_eq!((server.announced.len(), server.announced_port.unwrap().get()), (2, 40_000));
        assert_eq!((server.max_pending, server.timeouts.consent.as_secs()), (7, 60));
        assert_eq!(server.ice_servers[0].url, "stun:stun.example:3478");
        assert_eq!(server.ice_servers[1].credential.as_deref(), Some("b \"c\""));
        let default = Config::default().webrtc.server().unwrap();
        assert_eq!((default.timeouts.ice.as_secs(), default.timeouts.consent.as_secs()), (10, 30));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("public_addresses = ['0.0.0.0']", "webrtc.public_addresses"),
            ("public_addresses = ['192.0.2.1', '239.0.0.1']", "`239.0.0.1`"),
            ("public_port = 0", "public_port"),
            ("max_sessions = 0", "webrtc.max_sessions"),
            ("ice_timeout = '0s'", "webrtc.ice_timeout"),
            ("connect_timeout = '5m'", "webrtc.connect_timeout"),
            ("consent_timeout = '1s'", "webrtc.consent_timeout"),
            ("[[webrtc.ice_servers]]\nurl = 'https://turn.example'", "webrtc.ice_servers[0].url"),
            ("[[webrtc.ice_servers]]\nurl = 'stun:'", "webrtc.ice_servers[0].url"),
            ("[[webrtc.ice_servers]]\nurl = 'stun:a>; rel=x'", "webrtc.ice_servers[0].url"),
            ("[[webrtc.ice_servers]]\nurl = 'turn:a'\nusername = 'b'", "webrtc.ice_servers[0].username"),
            (
                "[[webrtc.ice_servers]]\nurl = 'turn:a'\nusername = 'b'\ncredential = { file = '/nonexistent' }",
                "webrtc.ice_servers[0].credential",
            ),
            (
                "[[webrtc.ice_servers]]\nurl = 'turn:a'\nusername = \"b\\n\"\ncredential = 'c'",
                "webrtc.ice_servers[0].username",
            ),
        ];
        for (text, key) in cases {
            let error = Config::from_toml(&format!("[webrtc]\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
