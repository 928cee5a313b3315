use core::fmt;

use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, FourCc};

/// How a tag names a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodecTag {
    /// A legacy `SoundFormat`.
    Sound(u8),
    /// A legacy `CodecID` of video.
    Video(u8),
    /// A FourCC of Enhanced RTMP.
    FourCc(FourCc),
}

impl fmt::Display for CodecTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound(id) => write!(f, "sound format {id}"),
            Self::Video(id) => write!(f, "video codec {id}"),
            Self::FourCc(tag) => write!(f, "'{tag}'"),
        }
    }
}

/// Why a publisher's tags cannot be taken any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag that can never be valid, or asks for more than a limit.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A codec that is not known, or no longer in use.
    #[error("codec {0} is not supported")]
    Unsupported(CodecTag),
    /// Nothing but broken tags or access units for a while.
    #[error("{count} broken {what} in a row, the last: {last}")]
    TooManyBroken {
        /// `tags` or `access units`.
        what: &'static str,
        /// How many.
        count: u32,
        /// What was wrong with the last one.
        last: DecodeError,
    },
}

impl From<Error> for CloseReason {
    fn from(error: Error) -> Self {
        match error {
            Error::Decode(error) => error.into(),
            Error::Unsupported(_) => Self::Unsupported,
            Error::TooManyBroken { .. } => Self::Malformed,
        }
    }
}
