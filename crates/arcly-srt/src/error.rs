//! What ends a connection, and what the peer is told about it.

use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase};

use crate::crypto::CryptoError;
use crate::filter::FilterError;
use crate::wire::RejectReason;

/// Why a connection ended, or never was one. After it the machine takes no more input; what it still has to say is in
/// `poll_output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that cannot be SRT, or that ask for more than a bound.
    #[error("{error} (while {state})")]
    Wire {
        /// What the machine was doing.
        state: &'static str,
        /// What is wrong with the bytes.
        error: DecodeError,
    },
    /// The peer refused.
    #[error("rejected by the peer: {0}")]
    Rejected(RejectReason),
    /// This side refused.
    #[error("refused: {0}")]
    Refused(RejectReason),
    /// More of something than is allowed.
    #[error("limit of {limit} exceeded: {what}")]
    Limit {
        /// The thing that is bounded.
        what: &'static str,
        /// The bound in force.
        limit: u64,
    },
    /// A phase ran out of time.
    #[error("timed out ({})", .0.as_str())]
    Timeout(Phase),
    /// The peer closed the connection.
    #[error("closed by the peer")]
    PeerClosed,
    /// The peer cannot go on: its code.
    #[error("the peer reports error {0}")]
    PeerError(u32),
    /// This side closed the connection.
    #[error("closed")]
    Closed,
    /// The configuration cannot be used.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The configuration of the packet filter cannot be used.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl SessionError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Wire { error, .. } => (*error).into(),
            Self::Rejected(reason) | Self::Refused(reason) => (*reason).into(),
            Self::Limit { what, .. } => CloseReason::Limit(what),
            Self::Timeout(phase) => CloseReason::Timeout(*phase),
            Self::PeerClosed | Self::PeerError(_) => CloseReason::PeerClosed,
            Self::Closed => CloseReason::Shutdown,
            Self::Crypto(_) | Self::Filter(_) => CloseReason::Unsupported,
        }
    }

    /// True when the peer, not this side or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        self.reason().is_peer_fault()
    }
}

impl From<RejectReason> for CloseReason {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::ROGUE | RejectReason::BAD_REQUEST => Self::Malformed,
            RejectReason::BAD_SECRET | RejectReason::UNSECURE | RejectReason::UNAUTHORIZED => {
                Self::Unauthorized
            }
            RejectReason::NOT_FOUND => Self::NotFound,
            RejectReason::CONFLICT | RejectReason::LOCKED => Self::Conflict,
            RejectReason::RESOURCE
            | RejectReason::BACKLOG
            | RejectReason::OVERLOAD
            | RejectReason::NO_ROOM => Self::Overloaded,
            RejectReason::TIMEOUT => Self::Timeout(Phase::Handshake),
            RejectReason::CLOSE | RejectReason::DOWN => Self::Shutdown,
            RejectReason::SYSTEM | RejectReason::INTERNAL | RejectReason::SERVER_ERROR => Self::Internal,
            RejectReason::VERSION
            | RejectReason::MESSAGE_API
            | RejectReason::CONGESTION
            | RejectReason::FILTER
            | RejectReason::GROUP
            | RejectReason::CRYPTO
            | RejectReason::UNIMPLEMENTED
            | RejectReason::NOT_SUPPORTED_MEDIA => Self::Unsupported,
            _ => Self::Forbidden,
        }
    }
}

/// What a peer is told whose request this server ends for a reason of its own.
impl From<CloseReason> for RejectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Malformed | CloseReason::Limit(_) => Self::BAD_REQUEST,
            CloseReason::Timeout(_) => Self::TIMEOUT,
            CloseReason::Unauthorized => Self::UNAUTHORIZED,
            CloseReason::NotFound => Self::NOT_FOUND,
            CloseReason::Conflict => Self::CONFLICT,
            CloseReason::Unsupported => Self::UNIMPLEMENTED,
            CloseReason::Overloaded | CloseReason::SlowConsumer => Self::OVERLOAD,
            CloseReason::Shutdown | CloseReason::PeerClosed => Self::CLOSE,
            CloseReason::Io | CloseReason::Internal => Self::SERVER_ERROR,
            _ => Self::FORBIDDEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_this_server_come_back_as_they_went() {
        for reason in [
            CloseReason::Malformed,
            CloseReason::Unauthorized,
            CloseReason::Forbidden,
            CloseReason::NotFound,
            CloseReason::Conflict,
            CloseReason::Unsupported,
            CloseReason::Overloaded,
            CloseReason::Shutdown,
            CloseReason::Internal,
        ] {
            assert_eq!(CloseReason::from(RejectReason::from(reason)), reason);
        }
        assert_eq!(SessionError::Rejected(RejectReason::BAD_SECRET).reason(), CloseReason::Unauthorized);
        assert!(SessionError::Refused(RejectReason::ROGUE).is_peer_fault());
        assert!(!SessionError::PeerClosed.is_peer_fault());
    }
}
