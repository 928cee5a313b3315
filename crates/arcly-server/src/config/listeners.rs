//! What is listened to, and what is sent and received without a listener.

use core::num::NonZeroU16;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Listen, Secret, Span};

/// `[rtmp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RtmpConfig {
    /// RTMP.
    pub listen: Listen,
    /// RTMPS; bound when a certificate is configured.
    pub tls_listen: Listen,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self { listen: Listen::Any(1935), tls_listen: Listen::Any(1936) }
    }
}

/// `[rtsp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RtspConfig {
    /// RTSP.
    pub listen: Listen,
    /// RTSPS; bound when a certificate is configured.
    pub tls_listen: Listen,
    /// RTP in datagrams, of all sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_listen: Option<Listen>,
    /// RTCP in datagrams, of all sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtcp_listen: Option<Listen>,
    /// What media may travel in.
    pub transports: Vec<RtspTransport>,
    /// Groups that streams are sent to.
    pub multicast: MulticastConfig,
    /// The name, below the stream that they play, of what players say over the back-channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_channel: Option<String>,
}

impl Default for RtspConfig {
    fn default() -> Self {
        Self {
            listen: Listen::Any(8554),
            tls_listen: Listen::Any(8322),
            rtp_listen: None,
            rtcp_listen: None,
            transports: vec![RtspTransport::Udp, RtspTransport::Multicast, RtspTransport::Tcp],
            multicast: MulticastConfig::default(),
            back_channel: None,
        }
    }
}

impl RtspConfig {
    /// Where RTP and RTCP are received in datagrams: on the address that RTSP is on unless configured, on free ports where
    /// RTSP has one. `None` when nothing is.
    pub(crate) fn datagrams(&self) -> Option<[Listen; 2]> {
        if self.listen.is_off() || !self.transports.contains(&RtspTransport::Udp) {
            return None;
        }
        let here = |port| match &self.listen {
            Listen::Host(host, 0) => Listen::Host(host.clone(), 0),
            Listen::Host(host, _) => Listen::Host(host.clone(), port),
            Listen::Any(0) => Listen::Any(0),
            _ => Listen::Any(port),
        };
        let pair = [(&self.rtp_listen, 8_000), (&self.rtcp_listen, 8_001)]
            .map(|(configured, port)| configured.clone().unwrap_or_else(|| here(port)));
        (!pair.iter().any(Listen::is_off)).then_some(pair)
    }
}

/// `rtsp.transports`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RtspTransport {
    /// Datagrams.
    Udp,
    /// Datagrams to a group.
    Multicast,
    /// The connection itself.
    Tcp,
}

/// `[rtsp.multicast]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MulticastConfig {
    /// The groups: each stream that somebody asks to receive from one is given one.
    pub range: String,
    /// The port of the first medium's RTP; RTCP and the further media are behind it.
    pub port: u16,
    /// How many routers packets pass.
    pub ttl: u8,
    /// The interface that packets go out on, by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<std::net::Ipv4Addr>,
}

impl Default for MulticastConfig {
    fn default() -> Self {
        let arcly_rtsp::Multicast { range, port, ttl, interface, .. } = arcly_rtsp::Multicast::default();
        Self { range: range.to_string(), port, ttl, interface }
    }
}

impl MulticastConfig {
    /// The same as the listener takes it.
    pub(crate) fn groups(&self) -> Result<arcly_rtsp::Multicast, ConfigError> {
        let mut groups = arcly_rtsp::Multicast::default();
        let wrong = |error| ConfigError::new(format!("rtsp.multicast.range: `{}`: {error}", self.range));
        groups.range = self.range.parse().map_err(wrong)?;
        // 16 media have 32 ports.
        if !(1_024..=u16::MAX - 32).contains(&self.port) || !self.port.is_multiple_of(2) {
            return Err(ConfigError::new("rtsp.multicast.port: an even number from 1024 to 65502"));
        }
        (groups.port, groups.ttl, groups.interface) = (self.port, self.ttl, self.interface);
        Ok(groups)
    }
}

/// `[srt]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SrtConfig {
    /// SRT.
    pub listen: Listen,
    /// How long each side keeps packets, at the least, so that lost ones can be repeated.
    pub latency: Span,
    /// What callers have to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// What those of some streams have to know instead; the first that fits counts.
    pub passphrases: Vec<SrtPassphrase>,
    /// What callers ask for that say nothing: `publish:live/cam`, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// A peer that sends nothing for so long is gone.
    pub idle: Span,
}

impl Default for SrtConfig {
    fn default() -> Self {
        Self {
            listen: Listen::Any(8890),
            latency: Span(Duration::from_millis(120)),
            passphrase: None,
            passphrases: Vec::new(),
            stream_id: None,
            idle: Span::secs(5),
        }
    }
}

/// `[[srt.passphrases]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SrtPassphrase {
    /// Of which streams: `live/cam`, `live/*` or `*`.
    pub streams: String,
    /// To do what: `publish`, `play`.
    #[serde(default = "publish_and_play")]
    pub actions: Vec<String>,
    /// The passphrase; without, these streams go in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
}

fn publish_and_play() -> Vec<String> {
    vec!["publish".into(), "play".into()]
}

/// `[webrtc]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebrtcConfig {
    /// Media of all sessions, UDP.
    pub listen: Listen,
    /// Connections are taken there as well, for media of those whose network lets no UDP through.
    pub tcp: bool,
    /// Addresses of this machine as peers know them, in place of those that can be seen from here.
    pub public_addresses: Vec<IpAddr>,
    /// The port that goes with them, of UDP and TCP, where a translator of addresses makes another of the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<NonZeroU16>,
    /// Servers that peers are told of.
    pub ice_servers: Vec<IceServerConfig>,
    /// Sessions at one time.
    pub max_sessions: usize,
    /// Of these, those whose peer has not connected yet.
    pub max_pending: usize,
    /// The same of one address.
    pub max_pending_per_address: usize,
    /// From a peer's offer to its first datagram.
    pub ice_timeout: Span,
    /// From a peer's offer to its media.
    pub connect_timeout: Span,
    /// A peer that sends no checks for so long is gone.
    pub consent_timeout: Span,
}

impl Default for WebrtcConfig {
    fn default() -> Self {
        let defaults = arcly_webrtc::ServerConfig::default();
        Self {
            listen: Listen::Any(8189),
            tcp: true,
            public_addresses: Vec::new(),
            public_port: None,
            ice_servers: Vec::new(),
            max_sessions: defaults.max_sessions,
            max_pending: defaults.max_pending,
            max_pending_per_address: defaults.max_pending_per_address,
            ice_timeout: Span(defaults.timeouts.ice),
            connect_timeout: Span(defaults.timeouts.connect),
            consent_timeout: Span(defaults.timeouts.consent),
        }
    }
}

/// `[[webrtc.ice_servers]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerConfig {
    /// `stun:`, `stuns:`, `turn:` or `turns:`, and host and port.
    pub url: String,
    /// For `turn:` and `turns:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For `turn:` and `turns:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Secret>,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// HTTP.
    pub listen: Listen,
    /// HTTPS; bound when a certificate is configured.
    pub tls_listen: Listen,
    /// Origins whose pages may play and publish; `*` is any.
    pub cors_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: Listen::Any(8080), tls_listen: Listen::Any(8443), cors_origins: vec!["*".into()] }
    }
}

/// `[udp]`: MPEG-TS over UDP, unicast and multicast.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct UdpConfig {
    /// What is listened to.
    pub input: Vec<UdpInputConfig>,
    /// What is sent.
    pub output: Vec<UdpOutputConfig>,
}

/// `[[udp.input]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UdpInputConfig {
    /// Where to listen: `udp://239.0.0.1:1234`, `udp://:1234`.
    pub url: String,
    /// The stream that it publishes.
    pub path: String,
}

/// `[[udp.output]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UdpOutputConfig {
    /// The stream that is sent.
    pub path: String,
    /// Where to: `udp://239.0.0.1:1234`.
    pub url: String,
}
