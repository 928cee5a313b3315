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

mod access;
mod listeners;
mod load;
mod outputs;
#[cfg(test)]
mod reference;
mod reload;
mod validate;
mod value;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use access::{AuthConfig, KeyConfig, Secret, TlsConfig, UserConfig};
pub use listeners::{
    HttpConfig, IceServerConfig, MulticastConfig, RtmpConfig, RtspConfig, RtspTransport, SrtConfig,
    SrtPassphrase, UdpConfig, UdpInputConfig, UdpOutputConfig, WebrtcConfig,
};
pub use load::{ConfigError, Overrides};
pub use outputs::{EgressConfig, HlsConfig, HlsEncryption, RecordConfig, RecordFormat, TranscodeConfig};
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
