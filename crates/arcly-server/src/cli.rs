//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Listen, LogFormat, Overrides};

/// Live media in and out: RTMP, RTSP, SRT, WebRTC, MPEG-TS, HTTP-FLV, WebSocket-FLV, HLS, DASH.
#[derive(Debug, Parser)]
#[command(name = "arcly", version, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Cli {
    /// What to do: `serve` when nothing is named.
    #[must_use]
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// What `arcly` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve(ServeArgs),
    /// Run the server with a built-in test stream at live/demo
    Demo(ServeArgs),
    /// Copy one stream: FROM and TO are rtmp://, rtmps://, rtsp://, rtsps://, srt://, whep+http(s)://,
    /// whip+http(s)://, http://, https:// or udp:// URLs, or .flv, .ts or .mp4 files
    Relay(RelayArgs),
    /// Show the tracks, codecs, bitrate, frame rate and key-frame interval of a stream
    Probe(ProbeArgs),
    /// Validate a configuration and print the effective one
    Check(CheckArgs),
}

/// Flags of `serve` and `demo`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Configuration file [default: $ARCLY_CONFIG, ./arcly.toml, /etc/arcly/arcly.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// RTMP listener: host:port, :port, port or off [default: :1935]
    #[arg(long, value_name = "ADDR|off")]
    pub rtmp: Option<Listen>,
    /// RTSP listener: host:port, :port, port or off [default: :8554]
    #[arg(long, value_name = "ADDR|off")]
    pub rtsp: Option<Listen>,
    /// SRT listener: host:port, :port, port or off [default: :8890]
    #[arg(long, value_name = "ADDR|off")]
    pub srt: Option<Listen>,
    /// HTTP listener: host:port, :port, port or off [default: :8080]
    #[arg(long, value_name = "ADDR|off")]
    pub http: Option<Listen>,
    /// WebRTC media listener, UDP and TCP, of all sessions: host:port, :port, port or off [default: :8189]
    #[arg(long, value_name = "ADDR|off")]
    pub webrtc: Option<Listen>,
    /// Where the server keeps what it writes [default: data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What is logged: a level, or directives such as info,arcly_rtmp=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

impl ServeArgs {
    /// The flags as the strongest source of the configuration.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            rtmp: self.rtmp.clone(),
            rtsp: self.rtsp.clone(),
            srt: self.srt.clone(),
            http: self.http.clone(),
            webrtc: self.webrtc.clone(),
            data_dir: self.data_dir.clone(),
            log: self.log.clone(),
            log_format: self.log_format,
        }
    }
}

/// Arguments of `relay`.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Where the stream comes from
    pub from: String,
    /// Where it goes
    pub to: String,
    /// What is logged [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// Arguments of `probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// An rtmp://, rtmps://, rtsp://, rtsps://, srt://, whep+http(s)://, http://, https:// or udp:// URL, or a .flv, .ts
    /// or .mp4 file
    pub url: String,
    /// Print JSON for machines
    #[arg(long)]
    pub json: bool,
    /// How long to look
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub time: crate::config::Span,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Configuration file [default: $ARCLY_CONFIG, ./arcly.toml, /etc/arcly/arcly.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
