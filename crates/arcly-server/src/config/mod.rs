//! The server's configuration: one typed tree, whose defaults need no file.
//!
//! | source, strongest first | example |
//! |---|---|
//! | flag | `--rtmp :1940` |
//! | environment | `ARCLY_RTMP__LISTEN=:1940` (`__` between levels) |
//! | file | `[rtmp]`, `listen = ":1940"` |
//! | default | `:1935` |
//!
//! An unknown key anywhere is an error that names the key and the nearest valid name.

mod load;
#[cfg(test)]
mod reference;
mod reload;
mod validate;
mod value;

use core::num::{NonZeroU16, NonZeroU64};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use arcly_core::egress::Tick;
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Overrides};
pub(crate) use validate::is_sample;
pub use value::{Listen, Size, Span};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the server keeps what it writes.
    pub data_dir: PathBuf,
    /// RTMP and RTMPS.
    pub rtmp: RtmpConfig,
    /// RTSP and RTSPS.
    pub rtsp: RtspConfig,
    /// SRT.
    pub srt: SrtConfig,
    /// WebRTC: WHIP and WHEP.
    pub webrtc: WebrtcConfig,
    /// HTTP and HTTPS: media, pages, API, metrics.
    pub http: HttpConfig,
    /// HLS and LL-HLS.
    pub hls: HlsConfig,
    /// Recordings.
    pub record: RecordConfig,
    /// Sound for readers that cannot take what was published.
    pub transcode: TranscodeConfig,
    /// The certificate of every TLS listener.
    pub tls: TlsConfig,
    /// Who may publish, play and call the API.
    pub auth: AuthConfig,
    /// How readers are written to.
    pub egress: EgressConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// The log.
    pub log: LogConfig,
    /// The policy of applications by name; `default` is that of every other one.
    pub apps: std::collections::BTreeMap<String, AppConfig>,
    /// Streams that are pulled and pushed from the start.
    pub relays: Vec<RelayConfig>,
    /// MPEG-TS over UDP.
    pub udp: UdpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            rtmp: RtmpConfig::default(),
            rtsp: RtspConfig::default(),
            srt: SrtConfig::default(),
            webrtc: WebrtcConfig::default(),
            http: HttpConfig::default(),
            hls: HlsConfig::default(),
            record: RecordConfig::default(),
            transcode: TranscodeConfig::default(),
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            egress: EgressConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
            apps: std::iter::once(("default".to_owned(), AppConfig::default())).collect(),
            relays: Vec::new(),
            udp: UdpConfig::default(),
        }
    }
}

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

/// `[record]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordConfig {
    /// Streams that are recorded by themselves, such as `live/*`; others are on demand, over the API.
    pub streams: Vec<String>,
    /// The container.
    pub format: RecordFormat,
    /// The folder, below `data_dir` unless absolute.
    pub dir: PathBuf,
    /// What files are called: `%path`, `%Y %m %d %H %M %S %f` in UTC, `%s`.
    pub name: String,
    /// A file ends at the first keyframe from then on.
    pub segment: Span,
    /// The same for its size.
    pub segment_size: Size,
    /// How much media is written at a time: what a crash can lose.
    pub part: Span,
    /// Recordings that ended longer ago are removed; 0 keeps them.
    pub keep: Span,
    /// The oldest recordings are removed until all together are no larger; 0 keeps them.
    pub keep_size: Size,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            format: RecordFormat::Mp4,
            dir: "recordings".into(),
            name: "%path/%Y-%m-%d_%H-%M-%S-%f".into(),
            segment: Span::secs(3_600),
            segment_size: Size(4 << 30),
            part: Span::secs(1),
            keep: Span::secs(0),
            keep_size: Size(0),
        }
    }
}

/// About a minute of segments of two seconds.
const KEY_SEGMENTS: NonZeroU64 = NonZeroU64::new(30).expect("not zero");

/// `[hls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HlsConfig {
    /// Streams can be watched over HLS.
    pub enabled: bool,
    /// How long parts should be; what decides latency.
    pub part: Span,
    /// How long segments are at least; they end at a keyframe.
    pub segment: Span,
    /// How much playlists list.
    pub window: Span,
    /// Most bytes of media that a rendition keeps.
    pub max_bytes: Size,
    /// How long a stream is muxed that nobody watches.
    pub idle: Span,
    /// Every stream is muxed from its start, so that its first viewer has a window at once.
    pub always: bool,
    /// Whether segments are encrypted. They are then listed once they are complete, without parts.
    pub encryption: HlsEncryption,
    /// A key is used for so many segments of a rendition.
    pub key_segments: NonZeroU64,
}

/// `hls.encryption`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum HlsEncryption {
    /// Not at all.
    #[serde(rename = "none")]
    None,
    /// Whole segments, with keys that arcly makes and serves.
    #[serde(rename = "aes-128")]
    Aes128,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            part: Span(Duration::from_millis(200)),
            segment: Span::secs(2),
            window: Span::secs(30),
            max_bytes: Size(64 << 20),
            idle: Span::secs(60),
            always: false,
            encryption: HlsEncryption::None,
            key_segments: KEY_SEGMENTS,
        }
    }
}

/// `record.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// MP4, fragmented while it is written and plain when it is finished.
    Mp4,
    /// An MPEG transport stream.
    Ts,
    /// FLV.
    Flv,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate chain, PEM, leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// `[auth]`. With neither users nor keys everybody may publish and play, and only loopback reaches the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Names and passwords.
    pub users: Vec<UserConfig>,
    /// Keys that tokens are signed with.
    pub keys: Vec<KeyConfig>,
    /// Streams that anybody may play without credentials, such as `live/*`.
    pub public_play: Vec<String>,
    /// Streams that anybody may publish without credentials.
    pub public_publish: Vec<String>,
    /// Relays that are started over the API may connect to loopback, private and other addresses that are not of the
    /// public Internet, although whoever starts them may be elsewhere. Those of `[[relays]]` may in any case.
    pub private_relays: bool,
}

impl AuthConfig {
    /// True when anybody has credentials.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        !self.users.is_empty() || !self.keys.is_empty()
    }
}

/// `[[auth.users]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What the user may do: `publish`, `play`, `api`.
    pub actions: Vec<String>,
    /// With which streams: `live/cam`, `live/*` or `*`.
    #[serde(default = "every_stream")]
    pub streams: String,
}

/// `[[auth.keys]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The key's name in tokens.
    pub id: String,
    /// The shared secret, at least 16 bytes.
    pub secret: Secret,
}

fn every_stream() -> String {
    "*".into()
}

/// A secret: given as text, or as `{ file = "…" }`. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// As it is.
    Text(String),
    /// The contents of a file, without the line end.
    File {
        /// Its path.
        file: PathBuf,
    },
}

impl Secret {
    /// The secret itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reveal(&self) -> std::io::Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File { file } => {
                Ok(std::fs::read_to_string(file)?.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(_) => serializer.serialize_str("********"),
            Self::File { file } => serializer.collect_map([("file", file)]),
        }
    }
}

/// `[transcode]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TranscodeConfig {
    /// Makes AAC or Opus of a stream's AAC, Opus or G.711 for readers that cannot take it, as long as there are any. Nothing
    /// is made in a build without the feature `transcode-audio`.
    pub audio: bool,
    /// Bits per second of Opus in stereo; mono takes half of it.
    pub opus_bitrate_bps: u32,
    /// Bits per second of AAC in stereo; mono takes half of it.
    pub aac_bitrate_bps: u32,
    /// Tracks that are made at one time; further ones are passed on as they are.
    pub max_tracks: usize,
}

impl Default for TranscodeConfig {
    fn default() -> Self {
        Self { audio: true, opus_bitrate_bps: 128_000, aac_bitrate_bps: 128_000, max_tracks: 256 }
    }
}

/// `[egress]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// How often a reader is written to whose URL does not say `latency=low` or `latency=throughput`: what comes in
    /// between goes out together. `0ms` is each frame at once; 33 ms cost a third less than each message by
    /// itself, 100 ms half; at most a second.
    pub tick: Span,
    /// Tasks that write to readers; 0 for one per core.
    pub workers: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self { tick: Span(Tick::STANDARD.interval()), workers: 0 }
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Streams at one time.
    pub streams: usize,
    /// Readers of one stream.
    pub readers_per_stream: usize,
    /// HTTP connections at one time; 0 for as many as the process may have open files, less 256.
    pub http_connections: usize,
    /// HTTP connections at one time from one address.
    pub http_connections_per_address: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            streams: 10_000,
            readers_per_stream: 100_000,
            http_connections: 0,
            http_connections_per_address: 10_000,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: a level, or `tracing` directives such as `info,arcly_rtmp=debug`.
    pub filter: String,
    /// `text` or `json`; text when not given.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[apps.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppConfig {
    /// Who wins when somebody publishes a stream that has a publisher.
    pub takeover: TakeoverConfig,
    /// Time without media after which a publisher counts as silent.
    pub silence: Span,
    /// How long a stream with readers outlives its publisher.
    pub grace: Span,
    /// How long a reader waits for a stream that is not there.
    pub wait_for_stream: Span,
    /// Most bytes kept of a stream.
    pub gop_bytes: Size,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            takeover: TakeoverConfig::WhenSilent,
            silence: Span::secs(2),
            grace: Span::secs(10),
            wait_for_stream: Span::secs(0),
            gop_bytes: Size(32 << 20),
        }
    }
}

/// `takeover`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakeoverConfig {
    /// The newcomer, if the publisher has sent nothing for `silence`.
    WhenSilent,
    /// The newcomer.
    Replace,
    /// The publisher that is there.
    Reject,
    /// The newcomer waits until the publisher leaves or falls silent.
    Standby,
}

/// `[[relays]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// A URL to pull, or a stream of this server to push.
    pub from: String,
    /// A URL to push to, or a stream of this server to publish.
    pub to: String,
    /// What is pulled is pulled only while somebody reads it.
    #[serde(default)]
    pub on_demand: bool,
    /// How long it is pulled after its last reader has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_after: Option<Span>,
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
