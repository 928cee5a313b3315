//! What is known of a group.

use std::net::SocketAddr;

use super::{Group, Member};
use crate::session::connection::Connection;
use crate::session::handshake::Negotiated;
use crate::wire::SocketId;

impl Group {
    /// The members' socket ids, addresses and weights.
    pub fn members(&self) -> impl Iterator<Item = (SocketId, SocketAddr, u16)> {
        let known =
            |member: &Member| (member.connection.local_id(), member.connection.remote(), member.weight);
        self.members.iter().map(known)
    }

    /// The members' connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.members.iter().map(|member| &member.connection)
    }

    /// The members that messages are sent over: all that are connected, or in a backup group those that are in use.
    pub fn active(&self) -> impl Iterator<Item = SocketId> {
        let everybody = self.backup.is_none();
        let members = self.members.iter().filter(|member| member.joined);
        let active = members.filter(move |member| everybody || member.usage.is_active());
        active.map(|member| member.connection.local_id())
    }

    /// Messages that there is room for: in the member that has the most.
    #[must_use]
    pub fn send_room(&self) -> usize {
        self.members.iter().map(|member| member.connection.send_room()).max().unwrap_or(0)
    }

    /// What the member that connected last has agreed upon.
    #[must_use]
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// True once the group is closed, or its last member has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.closed
    }
}
