//! The kernel of arcly.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod app;
pub mod clock;
pub mod close;
pub mod codec;
pub mod derived;
pub mod error;
pub mod contract;
pub mod frame;
pub mod key;
pub mod log;
pub mod machine;
pub mod media;
pub mod time;
pub mod timeline;
pub mod track;
pub mod wire;

pub use app::{AppSpec, Takeover};
pub use close::{CloseReason, Phase};
pub use codec::{CodecConfig, CodecId, FourCc, TrackKind};
pub use error::{Result, StreamError};
pub use frame::{FrameFlags, MediaFrame};
pub use key::{NameError, StreamKey};
pub use media::MediaEvent;
pub use time::{TimeDelta, Timescale, Timestamp};
pub use track::{MetaValue, Metadata, Track, TrackId, TrackSet};
