//! A live-media kernel: streams are published once, in any protocol, and played by any number of readers in any other.
//!
//! This crate is the umbrella over arcly's micro-crates: it re-exports them behind features, and adds nothing. Whoever
//! needs one of them alone depends on it directly.
//!
//! | feature | adds | from |
//! |---|---|---|
//! | (always) | [`Engine`], streams, readers, contracts; [`codec`] | `arcly-core`, `arcly-codec` |
//! | `rtmp` | [`protocol::rtmp`]: server, client, relay | `arcly-rtmp` |
//! | `rtsp` | [`protocol::rtsp`]: server and client | `arcly-rtsp` |
//! | `srt` | [`protocol::srt`]: sockets, and a server and a client that carry MPEG-TS | `arcly-srt` |
//! | `webrtc` | [`protocol::webrtc`]: WHIP and WHEP, servers and clients | `arcly-webrtc` |
//! | `tls` | RTMPS; RTSPS with `rtsp`; clients of https with `webrtc` | `arcly-rtmp`, `arcly-rtsp`, `arcly-webrtc` |
//! | `rtp` | [`rtp`]: RTP and RTCP, payload formats, SDP | `arcly-rtp` |
//! | `mux`, `flv` | [`mux`]: FLV, MPEG-TS and fragmented MP4, streams and files | `arcly-mux` |
//! | `http` | [`mux::http`]: handlers to mount in any HTTP server | `arcly-mux` |
//! | `udp` | [`mux::ts::udp`]: MPEG-TS over UDP | `arcly-mux` |
//! | `encryption` | AES-128 of HLS segments | `arcly-mux` |
//! | `record` | recordings, and an index of them | `arcly-mux` |
//! | `transcode-audio` | [`transcode`]: sound from one codec into another | `arcly-transcode` |
//! | `full` | all of these | |
//!
//! There are no default features.
#![cfg_attr(
    feature = "rtmp",
    doc = r#"
# Pushing a stream on to another server

```
use std::sync::Arc;
use arcly_stream::{Engine, StreamKey};
use arcly_stream::protocol::rtmp::RtmpRelay;
async fn run(engine: Arc<Engine>) -> arcly_stream::Result<()> {
    let relay = RtmpRelay::new(engine.clone(), "rtmp://cdn.example.com/live/backup")?;
    relay.run(StreamKey::new("live", "cam"), tokio_util::sync::CancellationToken::new()).await
}
```

# A server

```no_run
use arcly_stream::prelude::*;
use arcly_stream::protocol::rtmp::{Server, ServerConfig};

# async fn run() -> Result<()> {
let engine = Engine::builder().app(AppSpec::new("live")).build();
let server = Server::bind("0.0.0.0:1935", ServerConfig::default()).await?;
server.run(engine.context(CancellationToken::new())).await
# }
```
"#
)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use arcly_codec as codec;
pub use arcly_core::*;
#[cfg(feature = "mux")]
pub use arcly_mux as mux;
#[cfg(feature = "rtp")]
pub use arcly_rtp as rtp;
#[cfg(feature = "transcode-audio")]
pub use arcly_transcode as transcode;

/// The protocols, one module each.
pub mod protocol {
    #[cfg(feature = "rtmp")]
    pub use arcly_rtmp as rtmp;
    #[cfg(feature = "rtsp")]
    pub use arcly_rtsp as rtsp;
    #[cfg(feature = "srt")]
    pub use arcly_srt as srt;
    #[cfg(feature = "webrtc")]
    pub use arcly_webrtc as webrtc;
}

/// What most programs need, to be imported with `*`.
pub mod prelude {
    pub use arcly_core::contract::auth::{
        Action, AuthError, AuthRequest, Credentials, Grant, StreamAuthenticator,
    };
    pub use arcly_core::contract::observe::{EngineEvent, Observer};
    pub use arcly_core::{
        AppSpec, ClientInfo, CloseReason, CodecId, Engine, FrameSink, InboundProtocol, IngestContext,
        MediaEvent, MediaFrame, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Publisher,
        Result, StreamError, StreamKey, Subscriber, Takeover, Timestamp, Track, TrackId, TrackKind, TrackSet,
    };
    pub use tokio_util::sync::CancellationToken;
}
