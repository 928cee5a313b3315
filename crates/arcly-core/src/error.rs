//! The one error of the kernel's public API.

use std::borrow::Cow;
use std::io;

use crate::close::CloseReason;
use crate::key::{NameError, StreamKey};
use crate::wire::DecodeError;

/// Result of the kernel's and the umbrella's operations.
pub type Result<T, E = StreamError> = core::result::Result<T, E>;

/// Why something with a stream failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The engine refused to let somebody publish or play.
    #[error("stream {key}: {reason}")]
    Refused {
        /// The stream that was asked for.
        key: StreamKey,
        /// Why.
        reason: CloseReason,
    },
    /// The publisher, reader or stream has ended.
    #[error("closed: {0}")]
    Closed(CloseReason),
    /// A name that cannot be a stream's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Bytes that cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A protocol, URL or configuration that cannot work; says what is missing or wrong.
    #[error("{0}")]
    Protocol(Cow<'static, str>),
    /// Another server refused us; its own words.
    #[error("rejected by upstream: {0}")]
    Rejected(String),
    /// The network or the disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StreamError {
    /// A [`Protocol`](Self::Protocol) error.
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Protocol(message.into())
    }

    /// The reason in the terms of logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Refused { reason, .. } | Self::Closed(reason) => *reason,
            Self::Name(error) => (*error).into(),
            Self::Decode(error) => (*error).into(),
            Self::Protocol(_) => CloseReason::Malformed,
            Self::Rejected(_) => CloseReason::Forbidden,
            Self::Io(_) => CloseReason::Io,
        }
    }
}
