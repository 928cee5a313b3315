//! Why anything ended: one answer for logs, metrics and protocol replies.

use core::fmt;

use crate::key::NameError;
use crate::wire::DecodeError;

/// Which phase of a session ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Before the protocol's own handshake was done.
    Handshake,
    /// After the handshake, before publishing or playing began.
    Command,
    /// No media and no keep-alive.
    Idle,
    /// The peer takes nothing from its socket.
    Write,
    /// Connecting to an upstream.
    Connect,
}

impl Phase {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Command => "command",
            Self::Idle => "idle",
            Self::Write => "write",
            Self::Connect => "connect",
        }
    }
}

/// Why a session, a publisher, a reader or a stream ended. The same value reaches the log, the metric
/// `arcly_sessions_closed_total{protocol,reason}` and the protocol's own reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent something that its protocol does not allow.
    Malformed,
    /// The peer asked for more than a bound; the name of the bound.
    Limit(&'static str),
    /// The peer let a phase run out.
    Timeout(Phase),
    /// Credentials are missing or wrong, or have expired.
    Unauthorized,
    /// The peer is known and may not do this.
    Forbidden,
    /// There is no such stream.
    NotFound,
    /// The stream has a publisher already, or a relay would feed it with itself.
    Conflict,
    /// The peer asked for something that is not implemented, such as an unknown codec.
    Unsupported,
    /// This server has no room.
    Overloaded,
    /// The reader did not keep up.
    SlowConsumer,
    /// The peer said good-bye, or closed its connection.
    PeerClosed,
    /// This server is going down, or an operator ended the session.
    Shutdown,
    /// The network or the disk failed.
    Io,
    /// The session's own code failed; always a bug.
    Internal,
}

impl CloseReason {
    /// True when the peer, not this server or the network, is at fault.
    #[must_use]
    pub const fn is_peer_fault(self) -> bool {
        !matches!(self, Self::PeerClosed | Self::Shutdown | Self::Io | Self::Overloaded | Self::Internal)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit(what) => return write!(f, "limit({what})"),
            Self::Timeout(phase) => return write!(f, "timeout({})", phase.as_str()),
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Overloaded => "overloaded",
            Self::SlowConsumer => "slow_consumer",
            Self::PeerClosed => "peer_closed",
            Self::Shutdown => "shutdown",
            Self::Io => "io",
            Self::Internal => "internal",
        })
    }
}

impl From<DecodeError> for CloseReason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::LimitExceeded { what, .. } => Self::Limit(what),
            DecodeError::Incomplete { .. } | DecodeError::Malformed { .. } => Self::Malformed,
        }
    }
}

impl From<NameError> for CloseReason {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TooLong => Self::Limit("name"),
            error if error.is_forbidden() => Self::Forbidden,
            _ => Self::Malformed,
        }
    }
}
