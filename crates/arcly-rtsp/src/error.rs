//! What ends a session, and what the peer is told about it.

use arcly_core::key::NameError;
use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase};
use arcly_rtp::sdp::SdpError;

use crate::wire::Status;

/// Why a session ended. After it the session takes no more input; what it still has to say is in `poll_output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that cannot be RTSP, or that ask for more than a bound.
    #[error(transparent)]
    Wire(#[from] DecodeError),
    /// A message that has no place here.
    #[error("unexpected {what}")]
    Unexpected {
        /// The message.
        what: &'static str,
    },
    /// More of something than is allowed.
    #[error("limit of {limit} exceeded: {what}")]
    Limit {
        /// The thing that is bounded.
        what: &'static str,
        /// The bound in force.
        limit: u64,
    },
    /// A version that is not spoken.
    #[error("version {0}.{1}")]
    Version(u8, u8),
    /// A stream name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A session description that cannot be used.
    #[error(transparent)]
    Description(#[from] SdpError),
    /// A phase ran out of time.
    #[error("timed out ({})", .0.as_str())]
    Timeout(Phase),
    /// The peer takes nothing from its socket.
    #[error("the peer does not read what it is sent")]
    SlowConsumer,
    /// The owner refused what the peer asked for, or took it back.
    #[error("refused: {0}")]
    Refused(CloseReason),
}

impl SessionError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Wire(error) => (*error).into(),
            Self::Unexpected { .. }
            | Self::Description(SdpError::Malformed { .. } | SdpError::PayloadType) => CloseReason::Malformed,
            Self::Limit { what, .. } | Self::Description(SdpError::LimitExceeded { what, .. }) => {
                CloseReason::Limit(what)
            }
            Self::Version(..) => CloseReason::Unsupported,
            Self::Description(_) => CloseReason::Malformed,
            Self::Name(error) => (*error).into(),
            Self::Timeout(phase) => CloseReason::Timeout(*phase),
            Self::SlowConsumer => CloseReason::SlowConsumer,
            Self::Refused(reason) => *reason,
        }
    }

    /// What the peer is answered.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Version(..) => Status::VERSION_NOT_SUPPORTED,
            Self::Wire(DecodeError::LimitExceeded { what: "body", .. }) => Status::ENTITY_TOO_LARGE,
            Self::Wire(DecodeError::LimitExceeded { what: "request_line", .. }) => Status::URI_TOO_LONG,
            Self::Wire(_) | Self::Unexpected { .. } | Self::Limit { .. } | Self::Description(_) => {
                Status::BAD_REQUEST
            }
            other => status_of(other.reason()),
        }
    }

    /// True when the peer, not this side or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        self.reason().is_peer_fault()
    }
}

/// How a request is answered that was refused for that reason.
#[must_use]
pub const fn status_of(reason: CloseReason) -> Status {
    match reason {
        CloseReason::Unauthorized => Status::UNAUTHORIZED,
        CloseReason::Forbidden => Status::FORBIDDEN,
        CloseReason::NotFound => Status::NOT_FOUND,
        // HTTP's, as RTSP has none: clients treat what they do not know as 400 (RFC 2326 §7.1.1).
        CloseReason::Conflict => Status::CONFLICT,
        CloseReason::Unsupported => Status::UNSUPPORTED_MEDIA_TYPE,
        CloseReason::Timeout(_) => Status::REQUEST_TIMEOUT,
        CloseReason::Overloaded | CloseReason::Shutdown => Status::SERVICE_UNAVAILABLE,
        CloseReason::Malformed | CloseReason::Limit(_) => Status::BAD_REQUEST,
        _ => Status::INTERNAL_ERROR,
    }
}
