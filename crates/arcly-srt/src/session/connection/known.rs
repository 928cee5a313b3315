//! What is known of a connection.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Connection, State};
use crate::session::handshake::Negotiated;
use crate::session::statistics::Statistics;
use crate::wire::{SeqNumber, SocketId};

impl Connection {
    /// Where the peer is.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.endpoint.remote
    }

    /// This side's socket id.
    #[must_use]
    pub const fn local_id(&self) -> SocketId {
        self.endpoint.local
    }

    /// The peer's socket id, from when there is a connection; it stays when that has ended.
    #[must_use]
    pub fn peer_id(&self) -> Option<SocketId> {
        self.peer.map(|(id, _)| id)
    }

    /// The number of the peer's first packet, as long as its socket id.
    pub(in crate::session) fn peer_seq(&self) -> Option<SeqNumber> {
        self.peer.map(|(_, seq)| seq)
    }

    /// What both ends have agreed upon, while there is a connection.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        match &self.state {
            State::Open(open) => Some(&open.negotiated),
            _ => None,
        }
    }

    /// True from [`Event::Connected`](super::Event::Connected) on until the end.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// True once the connection is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What has been counted, and how it is now; nothing before the connection is made, and no more than the counters once
    /// it has ended.
    #[must_use]
    pub fn statistics(&self, now: Instant) -> Statistics {
        let at = self.clock.micros(now);
        let mut statistics = match &self.state {
            State::Open(open) => open.statistics(at),
            _ => Statistics { totals: self.counted, ..Statistics::default() },
        };
        statistics.ms_time_stamp = u64::try_from(at / 1_000).unwrap_or(0);
        statistics.totals.pkt_malformed = self.malformed;
        statistics
    }
}
