//! What a handle's messages go over: a connection, or a group of them.

use std::net::SocketAddr;
use std::time::Instant;

use arcly_core::machine::{Machine as _, Output};
use bytes::Bytes;

use crate::error::SessionError;
use crate::session::{
    Connection, Event, Group, GroupEvent, GroupOutput, Message, Negotiated, SendError, SendOptions,
    Statistics, Totals,
};
use crate::wire::SocketId;

pub(super) enum Carrier {
    One(Box<Connection>),
    Many(Box<Group>),
}

/// What a carrier wants of its slot.
pub(super) enum Want {
    /// From this connection.
    Send(SocketId, SocketAddr, Bytes),
    Deliver(Message),
    Dropped(u64),
    /// This path of the group is to be called.
    Call(SocketAddr),
    Wait(Option<Instant>),
}

impl Carrier {
    pub(super) fn poll(&mut self) -> Want {
        match self {
            Self::One(connection) => loop {
                match connection.poll_output() {
                    Output::Transmit(datagram) => {
                        return Want::Send(connection.local_id(), connection.remote(), datagram);
                    }
                    Output::Event(Event::Message(message)) => return Want::Deliver(message),
                    Output::Event(Event::Dropped { packets }) => return Want::Dropped(packets),
                    Output::Event(Event::Connected) => {}
                    Output::Wait(wake) => return Want::Wait(wake),
                }
            },
            Self::Many(group) => loop {
                match group.poll_output() {
                    GroupOutput::Transmit(id, remote, datagram) => return Want::Send(id, remote, datagram),
                    GroupOutput::Event(GroupEvent::Message(message)) => return Want::Deliver(message),
                    GroupOutput::Event(GroupEvent::Dropped { packets }) => return Want::Dropped(packets),
                    GroupOutput::Event(GroupEvent::Wanted(remote)) => return Want::Call(remote),
                    GroupOutput::Event(GroupEvent::Joined(_)) => {}
                    GroupOutput::Event(GroupEvent::Left(id, error)) => {
                        tracing::debug!(%id, %error, "an SRT connection has left its group");
                    }
                    GroupOutput::Wait(wake) => return Want::Wait(wake),
                }
            },
        }
    }

    /// Whether the socket `id` talks to somebody at `from`: whoever is somewhere else is somebody else (S29).
    pub(super) fn is_from(&self, id: SocketId, from: SocketAddr) -> bool {
        match self {
            Self::One(connection) => connection.remote() == from,
            Self::Many(group) => group.members().any(|(member, remote, _)| member == id && remote == from),
        }
    }

    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        id: SocketId,
        datagram: Bytes,
    ) -> Result<(), SessionError> {
        match self {
            Self::One(connection) => connection.handle_datagram(now, datagram),
            Self::Many(group) => group.handle_datagram(now, id, datagram),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        match self {
            Self::One(connection) => connection.handle_timeout(now),
            Self::Many(group) => group.handle_timeout(now),
        }
    }

    /// Sends what was handed over at `origin`.
    pub(super) fn send(&mut self, now: Instant, message: Bytes, origin: Instant) -> Result<(), SendError> {
        let mut options = SendOptions::default();
        options.origin = Some(origin);
        match self {
            Self::One(connection) => connection.send(now, message, options).map(|_| ()),
            Self::Many(group) => group.send(now, message, options),
        }
    }

    pub(super) fn send_room(&self) -> usize {
        match self {
            Self::One(connection) => connection.send_room(),
            Self::Many(group) => group.send_room(),
        }
    }

    pub(super) fn hold(&mut self, now: Instant, held: bool) {
        match self {
            Self::One(connection) => connection.hold(now, held),
            Self::Many(group) => group.hold(now, held),
        }
    }

    pub(super) fn close(&mut self, now: Instant) {
        match self {
            Self::One(connection) => connection.close(now),
            Self::Many(group) => group.close(now),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::One(connection) => connection.is_over(),
            Self::Many(group) => group.is_over(),
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            Self::One(connection) => connection.negotiated(),
            Self::Many(group) => group.negotiated(),
        }
    }

    /// Of a group, those of the member that has sent and received most.
    pub(super) fn statistics(&self, now: Instant) -> Statistics {
        match self {
            Self::One(connection) => connection.statistics(now),
            Self::Many(group) => {
                let all = group.connections().map(|connection| connection.statistics(now));
                all.max_by_key(|one| one.totals.pkt_sent + one.totals.pkt_recv).unwrap_or_default()
            }
        }
    }

    /// What all its connections have counted that are there.
    pub(super) fn totals(&self, now: Instant) -> Totals {
        match self {
            Self::One(connection) => connection.statistics(now).totals,
            Self::Many(group) => group.connections().fold(Totals::default(), |mut sum, connection| {
                sum += connection.statistics(now).totals;
                sum
            }),
        }
    }

    /// Packets that were given up as too late; of a group, those that no member has sent.
    pub(super) fn given_up(&self) -> u64 {
        match self {
            Self::One(connection) => connection.given_up(),
            Self::Many(group) => group.connections().map(Connection::given_up).min().unwrap_or(0),
        }
    }

    /// When the newest of them was handed over.
    pub(super) fn given_up_until(&self) -> Option<Instant> {
        match self {
            Self::One(connection) => connection.given_up_until(),
            // Less than nothing, where a member has given up nothing.
            Self::Many(group) => group.connections().map(Connection::given_up_until).min().flatten(),
        }
    }

    pub(super) fn group(&mut self) -> Option<&mut Group> {
        match self {
            Self::One(_) => None,
            Self::Many(group) => Some(group),
        }
    }

    /// Connections that have ended since this was asked last; all of them, once the carrier is over.
    pub(super) fn departed(self) -> Vec<Connection> {
        match self {
            Self::One(connection) => vec![*connection],
            Self::Many(mut group) => group.take_departed(),
        }
    }
}
