use arcly_core::{CloseReason, CodecId, TrackId};

/// Why something cannot be written as MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// The codec has no sample entry here: data tracks, Speex, G.722 and the like.
    #[error("{0} cannot be carried in MP4")]
    Unsupported(CodecId),
    /// The codec's parameters are not known yet.
    #[error("the parameters of track {0} are not known")]
    WithoutConfig(TrackId),
    /// A frame of a track that was not announced.
    #[error("track {0} was not announced")]
    UnknownTrack(TrackId),
    /// A fragment without frames.
    #[error("a fragment holds at least one frame")]
    Empty,
    /// More than one fragment can address.
    #[error("{what}: limit of {limit} exceeded")]
    TooLarge {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl From<MuxError> for CloseReason {
    fn from(error: MuxError) -> Self {
        match error {
            MuxError::Unsupported(_) | MuxError::WithoutConfig(_) => Self::Unsupported,
            MuxError::TooLarge { what, .. } => Self::Limit(what),
            MuxError::UnknownTrack(_) | MuxError::Empty => Self::Malformed,
        }
    }
}
