//! The kernel of arcly: live media as one exact, bounded, append-only log of frames per stream, and any number of
//! readers that walk it with cursors.
//!
//! ```text
//!   publisher ──► Publisher ──► Ingest ──► Log<MediaFrame> ──► Cursor ──► Subscriber        frames as they are
//!                 (a right)   (timeline,        │
//!                              takeover)        └─► Derived<P> ──► DerivedSubscriber<P>     a format, built once
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`time`], [`wall`] | [`Timestamp`] in flicks, conversions, unwrapping; dates |
//! | [`codec`], [`track`], [`frame`] | what is carried, as plain data |
//! | [`log`], [`derived`] | the log, its cursors, and what formats make of it |
//! | [`engine`], [`app`], [`stream`], [`publisher`], [`subscriber`] | streams by name, and their two ends |
//! | [`feed`], [`rendition`] | what readers of a stream read: as it was published, or with other sound |
//! | [`level`], [`room`] | how loud a stream is; who is in a room, and who of them speaks |
//! | [`egress`] | many readers per worker, for servers |
//! | [`timeline`], [`qos`] | what is made of a publisher's timestamps, and measured of its tracks |
//! | [`via`] | where a stream has come through, so that no relay feeds it with itself |
//! | [`registry`], [`sink`], [`contract`] | the traits that protocols, sinks and embedders implement or use |
//! | [`wire`], [`machine`] | what every protocol crate is built from |
//! | `net` (feature `net`) | what servers and clients over TCP do alike |
//!
//! ```
//! use arcly_core::{Engine, MediaFrame, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, StreamKey};
//! use arcly_core::{CodecConfig, CodecId, Timestamp, Track, TrackId, TrackSet, log::Read};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> arcly_core::Result<()> {
//! let engine = Engine::builder().build();
//! let key = StreamKey::new("live", "cam");
//!
//! let mut publisher = engine.publish(PublishRequest::internal(key.clone(), "example")).await?;
//! publisher.set_tracks(TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None)]))?;
//! publisher.publish(MediaFrame::new(TrackId::AUDIO, Timestamp::ZERO, b"opus"[..].into()))?;
//!
//! let mut reader = engine.subscribe(PlayRequest::internal(key, "example")).await?.into_frames();
//! assert!(matches!(reader.next().await?, Some(Read::Context(tracks)) if tracks.len() == 1));
//! assert!(matches!(reader.next().await?, Some(Read::Item(frame)) if frame.payload == b"opus"[..]));
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod app;
pub mod clock;
pub mod close;
pub mod codec;
pub mod contract;
pub mod derived;
pub mod egress;
pub mod engine;
pub mod error;
mod events;
pub mod feed;
pub mod frame;
pub mod ingest;
pub mod key;
pub mod level;
pub mod log;
pub mod machine;
pub mod media;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "http")]
pub mod problem;
pub mod publisher;
pub mod qos;
pub mod registry;
pub mod rendition;
pub mod room;
pub mod sink;
pub mod stream;
pub mod subscriber;
pub mod time;
pub mod timeline;
pub mod track;
pub mod via;
pub mod wall;
pub mod wire;

pub use app::{AppSpec, Takeover};
pub use close::{CloseReason, Phase};
pub use codec::{CodecConfig, CodecId, FourCc, TrackKind};
pub use engine::{Engine, EngineBuilder};
pub use error::{Result, StreamError};
pub use frame::{FrameFlags, MediaFrame};
pub use key::{NameError, StreamKey};
pub use level::AudioLevel;
pub use media::MediaEvent;
pub use publisher::Publisher;
pub use registry::{
    ClientInfo, InboundProtocol, IngestContext, OnDemand, PlayRequest, PlaybackRegistry, PublishRegistry,
    PublishRequest,
};
pub use sink::FrameSink;
pub use stream::{Stream, StreamInfo, StreamState};
pub use subscriber::{DerivedSubscriber, Subscriber, Subscription};
pub use time::{TimeDelta, Timescale, Timestamp};
pub use track::{MetaValue, Metadata, Track, TrackId, TrackSet};
pub use via::Via;
