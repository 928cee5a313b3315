//! Why a session with a server ended.

use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase, StreamError};
use arcly_rtp::sdp::SdpError;

use crate::wire::{Method, Status};

/// Why a client's session ended. After it the session takes no more input; what it still has to say is in `poll_output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Bytes that cannot be RTSP, or that ask for more than a bound.
    #[error("{error} (while {state})")]
    Wire {
        /// What the session was doing.
        state: &'static str,
        /// What is wrong with the bytes.
        error: DecodeError,
    },
    /// The description cannot be used.
    #[error(transparent)]
    Description(#[from] SdpError),
    /// There is nothing in the description that can be received, or among the tracks that can be sent.
    #[error("none of the media has a format that is known")]
    NoMedia,
    /// The server refused.
    #[error("{method}: {status} {words}")]
    Rejected {
        /// What was asked for.
        method: Method,
        /// What the server answered.
        status: u16,
        /// The same in its own words, on one line.
        words: String,
    },
    /// The server asks for a login, and there is none, or it is wrong.
    #[error("the server asks for another login")]
    Unauthorized,
    /// A phase ran out of time: the server does not answer, or sends no media.
    #[error("timed out ({})", .0.as_str())]
    Timeout(Phase),
    /// So many frames came on channels that nobody set up.
    #[error("{0} frames in a row on channels that nobody set up")]
    StrayFrames(u32),
    /// The server ended the session.
    #[error("ended by the peer")]
    Ended,
}

impl ClientError {
    /// A refusal in the server's own words, made fit for a log.
    pub(super) fn rejected(method: Method, status: Status, words: &str) -> Self {
        let words = if words.is_empty() { status.reason() } else { words };
        let words = words.chars().filter(|c| !c.is_control()).take(200).collect();
        Self::Rejected { method, status: status.0, words }
    }

    /// The reason for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Wire { error, .. } => (*error).into(),
            Self::Description(SdpError::LimitExceeded { what, .. }) => CloseReason::Limit(what),
            Self::Description(_) | Self::StrayFrames(_) => CloseReason::Malformed,
            Self::NoMedia => CloseReason::Unsupported,
            Self::Unauthorized => CloseReason::Unauthorized,
            Self::Timeout(phase) => CloseReason::Timeout(*phase),
            Self::Ended => CloseReason::PeerClosed,
            Self::Rejected { status, .. } => match Status(*status) {
                Status::UNAUTHORIZED => CloseReason::Unauthorized,
                Status::NOT_FOUND | Status::SESSION_NOT_FOUND => CloseReason::NotFound,
                Status::CONFLICT => CloseReason::Conflict,
                Status::UNSUPPORTED_MEDIA_TYPE | Status::UNSUPPORTED_TRANSPORT => CloseReason::Unsupported,
                Status::NOT_ENOUGH_BANDWIDTH | Status::SERVICE_UNAVAILABLE => CloseReason::Overloaded,
                _ => CloseReason::Forbidden,
            },
        }
    }

    /// True when the peer, not this side or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        self.reason().is_peer_fault()
    }
}

impl From<ClientError> for StreamError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rejected { .. } | ClientError::Unauthorized => Self::Rejected(error.to_string()),
            ClientError::Wire { error, .. } => Self::Decode(error),
            ClientError::Description(_) | ClientError::NoMedia => Self::protocol(error.to_string()),
            other => Self::Closed(other.reason()),
        }
    }
}
