//! What ends a session, and what the peer is told about it.

use std::io;
use std::net::SocketAddr;

use arcly_core::key::NameError;
use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase};

/// Why a session ended. After it the session takes no more input; what it still has to say is in `poll_output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that cannot be RTMP, or that ask for more than a bound.
    #[error("{error} (while {state})")]
    Wire {
        /// What the session was doing.
        state: &'static str,
        /// What is wrong with the bytes.
        error: DecodeError,
    },
    /// A message that has no place here.
    #[error("unexpected {what} (while {state})")]
    Unexpected {
        /// What the session was doing.
        state: &'static str,
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
    /// A stream name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A phase ran out of time.
    #[error("timed out ({})", .0.as_str())]
    Timeout(Phase),
    /// The peer takes nothing from its socket.
    #[error("the peer does not read what it is sent")]
    SlowConsumer,
    /// The owner refused what the peer asked for, or took it back.
    #[error("refused: {0}")]
    Refused(CloseReason),
    /// The server refused: its own words.
    #[error("rejected by upstream: {0}")]
    Rejected(String),
    /// The server ended the stream.
    #[error("ended by the peer")]
    Ended,
}

impl SessionError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Wire { error, .. } => (*error).into(),
            Self::Unexpected { .. } => CloseReason::Malformed,
            Self::Limit { what, .. } => CloseReason::Limit(what),
            Self::Name(error) => (*error).into(),
            Self::Timeout(phase) => CloseReason::Timeout(*phase),
            Self::SlowConsumer => CloseReason::SlowConsumer,
            Self::Refused(reason) => *reason,
            Self::Rejected(_) => CloseReason::Forbidden,
            Self::Ended => CloseReason::PeerClosed,
        }
    }

    /// True when the peer, not this side or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        self.reason().is_peer_fault()
    }
}

/// Why a connection ended: the session's error or the socket's, and whose it was.
#[derive(Debug, thiserror::Error)]
#[error("{remote}: {cause}")]
#[non_exhaustive]
pub struct PeerError {
    /// The peer.
    pub remote: SocketAddr,
    /// What happened.
    #[source]
    pub cause: PeerErrorCause,
}

/// What ended a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerErrorCause {
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PeerError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match &self.cause {
            PeerErrorCause::Session(error) => error.reason(),
            PeerErrorCause::Io(error) => crate::io::close_reason(error, false),
        }
    }

    /// True when the peer has only gone.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        self.reason() == CloseReason::PeerClosed
    }

    /// True when the peer, not this side or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        self.reason().is_peer_fault()
    }
}
