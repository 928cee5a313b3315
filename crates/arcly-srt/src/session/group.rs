//! Several connections as one (bonding): what is sent goes over each of them, or over the best, and arrives once.
//!
//! | document | here |
//! |---|---|
//! | draft-sharabayko-srt-01 §3.2.1.4 | [`GroupExtension`], in the conclusion of each member and in its answer |
//! | libsrt, `docs/features/socket-groups.md` | [`GroupKind::Broadcast`] |
//! | libsrt, `docs/features/bonding-main-backup.md` | [`GroupKind::Backup`]; `backup.rs` |
//!
//! ```text
//!  send ──number──┬─▶ member ═══ path ═══ member ─┐
//!                 ├─▶ member ═══ path ═══ member ─┼─ merge ─▶ message, once and in order
//!                 └─▶ member ═══ path ═══ member ─┘
//! ```
//!
//! A message has the same numbers and the same time stamp on every path. What one member has handed over no other needs: it
//! asks for no repetition of it. When a member goes on without a packet, what follows is held back for as long as another
//! one, on a longer way, might still bring it.
//!
//! A path that is lost is called again while the group has another ([`GroupEvent::Wanted`]); the last one to go is the end.
//!
//! Bounds: [`MAX_MEMBERS`]; a backup group keeps what nobody has acknowledged, at most
//! [`Config::send_buffer_packets`]; what is held back is at most as much as [`Config::receive_buffer_packets`]. Live mode, and no
//! packet filter: its packets follow numbers without gaps.

mod backup;
mod known;
mod merge;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine as _, Output};
use bytes::Bytes;

use self::backup::{Backup, Kept, Use};
use self::merge::Merge;
use super::connection::{Connection, Event, SendError, SendOptions};
use super::handshake::{Endpoint, Negotiated};
use super::receive::Message;
use crate::config::{Config, Membership, TransmissionMode};
use crate::crypto::Entropy;
use crate::error::SessionError;
use crate::wire::{GroupExtension, GroupKind, MsgNumber, RejectReason, SeqNumber, SocketId};

/// Connections of one group.
pub const MAX_MEMBERS: usize = 8;
/// A path that is lost is called again after so long.
const REDIAL: Duration = Duration::from_secs(1);
/// libsrt's ids of groups have this bit of the upper two.
const GROUP_BIT: u32 = 1 << 30;
const SOCKET_BITS: u32 = 3 << 30;
/// What members are apart by that have ways of the same length.
const SLACK: Duration = Duration::from_millis(5);

/// What the owner of a group is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// A member is connected. From the first of these on there is a connection.
    Joined(SocketId),
    /// A member has ended, and why. The error of a `handle_*` says that it was the last.
    Left(SocketId, SessionError),
    /// A path is to be called: [`Group::call`].
    Wanted(SocketAddr),
    /// A message, when it is due, once.
    Message(Message),
    /// So many packets came over no path.
    Dropped {
        /// How many.
        packets: u64,
    },
}

/// What a group wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOutput {
    /// Send these bytes to this peer, from this member.
    Transmit(SocketId, SocketAddr, Bytes),
    /// Something happened that the owner acts on.
    Event(GroupEvent),
    /// Nothing more until the next input, or until this instant.
    Wait(Option<Instant>),
}

/// A way to the peer, of a group that calls.
#[derive(Debug)]
struct Path {
    remote: SocketAddr,
    weight: u16,
    /// When it is to be called; `None` while there is a member for it, or its owner has been told to call.
    call_at: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    connection: Connection,
    weight: u16,
    joined: bool,
    /// How a backup group uses it.
    usage: Use,
    /// Packets that it had given up when that was looked at.
    dropped: u64,
}

/// Connections that carry the same.
///
/// Its owner hands it what comes for [`members`](Self::members), wakes it when [`GroupOutput::Wait`] says, and drains
/// [`poll_output`](Self::poll_output) after each call. The first error of a `handle_*` is its end, as of a
/// [`Connection`].
#[derive(Debug)]
pub struct Group {
    extension: GroupExtension,
    config: Config,
    epoch: Instant,
    paths: Vec<Path>,
    members: Vec<Member>,
    /// The numbers of the next message.
    seq: SeqNumber,
    message: MsgNumber,
    backup: Option<Backup>,
    merge: Merge,
    negotiated: Option<Negotiated>,
    events: VecDeque<GroupEvent>,
    /// Members that are gone, for their owner to forget, too.
    departed: Vec<Connection>,
    /// What they had still to say.
    last_words: VecDeque<(SocketId, SocketAddr, Bytes)>,
    closed: bool,
}

impl Group {
    /// A group that calls: `paths` are addresses of one peer, with the weight of each, the higher the better. Each is
    /// [`Wanted`](GroupEvent::Wanted) at once. The id and `seq` are random.
    ///
    /// # Errors
    /// It has no path, or more than [`MAX_MEMBERS`]; or `config` asks for what groups cannot do.
    pub fn calling(
        now: Instant,
        group: (u32, GroupKind),
        seq: SeqNumber,
        config: Config,
        paths: &[(SocketAddr, u16)],
    ) -> Result<Self, SessionError> {
        if paths.is_empty() || paths.len() > MAX_MEMBERS {
            return Err(too_many("paths of a group"));
        }
        let mut group = Self::listening(now, group, seq, config)?;
        let path = |&(remote, weight): &(SocketAddr, u16)| Path { remote, weight, call_at: Some(now) };
        group.paths = paths.iter().map(path).collect();
        group.want(now);
        Ok(group)
    }

    /// A group that is called: its members are [`accepted`](Self::accept), the first of which asks with `seq`. The id is
    /// random.
    ///
    /// # Errors
    /// `config` asks for what groups cannot do.
    pub fn listening(
        now: Instant,
        (id, kind): (u32, GroupKind),
        seq: SeqNumber,
        config: Config,
    ) -> Result<Self, SessionError> {
        let config = config.clamped();
        if config.mode != TransmissionMode::Live || matches!(kind, GroupKind::Other(_)) {
            return Err(SessionError::Refused(RejectReason::GROUP));
        }
        if config.filter.is_some() {
            return Err(SessionError::Refused(RejectReason::FILTER));
        }
        let (held, kept) = (config.receive_buffer_packets as usize, config.send_buffer_packets as usize);
        Ok(Self {
            extension: GroupExtension { id: id & !SOCKET_BITS | GROUP_BIT, kind, flags: 0, weight: 0 },
            config,
            epoch: now,
            paths: Vec::new(),
            members: Vec::new(),
            seq,
            message: MsgNumber::FIRST,
            backup: (kind == GroupKind::Backup).then(|| Backup::new(kept)),
            merge: Merge::new(seq, held),
            negotiated: None,
            events: VecDeque::new(),
            departed: Vec::new(),
            last_words: VecDeque::new(),
            closed: false,
        })
    }

    // Members.

    /// What a member with this weight is to be accepted with, by a listener.
    #[must_use]
    pub fn member_config(&self, weight: u16) -> Config {
        let extension = GroupExtension { weight, ..self.extension };
        let membership = Membership { extension, epoch: self.epoch, seq: self.seq };
        Config { membership: Some(membership), ..self.config.clone() }
    }

    /// Calls a path that is [`Wanted`](GroupEvent::Wanted); `local` is the member's socket id, which no other on its socket
    /// has.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn call(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: SocketId,
        entropy: Box<dyn Entropy>,
    ) -> Result<(), SessionError> {
        let weight = self.paths.iter().find(|path| path.remote == remote).map_or(0, |path| path.weight);
        let endpoint = Endpoint { remote, local, initial_seq: self.seq };
        let connection = Connection::connect(now, endpoint, self.member_config(weight), entropy)?;
        self.add(connection, weight);
        self.work(now);
        Ok(())
    }

    /// Takes a connection that a listener has accepted with [`member_config`](Self::member_config).
    ///
    /// # Errors
    /// There are [`MAX_MEMBERS`]: it is closed.
    pub fn accept(
        &mut self,
        now: Instant,
        mut connection: Connection,
        weight: u16,
    ) -> Result<(), SessionError> {
        if self.closed || self.members.len() >= MAX_MEMBERS {
            connection.close(now);
            self.depart(connection);
            return Err(too_many("members of a group"));
        }
        self.add(connection, weight);
        self.work(now);
        Ok(())
    }

    fn add(&mut self, connection: Connection, weight: u16) {
        self.members.push(Member { connection, weight, joined: false, usage: Use::Idle, dropped: 0 });
    }

    fn join(&mut self, now: Instant, place: usize) {
        let others =
            self.members.iter().enumerate().filter(|(other, member)| *other != place && member.joined);
        let base = others.clone().find_map(|(_, member)| member.connection.base());
        let alone = others.count() == 0;
        let Some(member) = self.members.get_mut(place) else { return };
        member.joined = true;
        member.dropped = 0;
        if alone {
            // A peer that has nobody else either begins with what its handshake says.
            self.merge.restart(member.connection.next_received().unwrap_or(self.merge.wanted()));
        } else {
            member.connection.synchronise(self.merge.wanted(), base);
        }
        if let Some(negotiated) = member.connection.negotiated() {
            self.negotiated = Some(negotiated.clone());
        }
        self.events.push_back(GroupEvent::Joined(member.connection.local_id()));
        if let Some(backup) = &mut self.backup {
            backup.review(now, &mut self.members);
        }
    }

    /// A member has ended. An error when it was the last one.
    fn leave(&mut self, now: Instant, place: usize, error: SessionError) -> Result<(), SessionError> {
        self.take_events(now);
        let Member { connection, .. } = self.members.remove(place);
        self.events.push_back(GroupEvent::Left(connection.local_id(), error.clone()));
        if let Some(path) = self.paths.iter_mut().find(|path| path.remote == connection.remote()) {
            path.call_at = Some(now + REDIAL);
        }
        self.depart(connection);
        if self.members.is_empty() {
            self.closed = true;
            self.events.extend(std::iter::from_fn(|| self.merge.flush()));
            return Err(error);
        }
        Ok(())
    }

    fn depart(&mut self, mut connection: Connection) {
        let (id, remote) = (connection.local_id(), connection.remote());
        while let Some(datagram) = connection.take_datagram() {
            self.last_words.push_back((id, remote, datagram));
        }
        if self.departed.len() < MAX_MEMBERS {
            self.departed.push(connection);
        }
    }

    /// Members that are gone since this was asked last: for [`Listener::forget`](super::Listener::forget), and whatever
    /// else knows their ids.
    pub fn take_departed(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.departed)
    }

    fn want(&mut self, now: Instant) {
        for path in self.paths.iter_mut().filter(|path| path.call_at.is_some_and(|at| at <= now)) {
            path.call_at = None;
            self.events.push_back(GroupEvent::Wanted(path.remote));
        }
    }

    // Input.

    /// Takes a datagram that came for the member `id`.
    ///
    /// # Errors
    /// The last member has ended.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        id: SocketId,
        datagram: Bytes,
    ) -> Result<(), SessionError> {
        let mut result = Ok(());
        if let Some(place) = self.members.iter().position(|member| member.connection.local_id() == id)
            && let Some(member) = self.members.get_mut(place)
            && let Err(error) = member.connection.handle_datagram(now, datagram)
        {
            result = self.leave(now, place, error);
        }
        self.work(now);
        result
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The last member has ended.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        let mut result = Ok(());
        let mut place = 0;
        while let Some(member) = self.members.get_mut(place) {
            match member.connection.handle_timeout(now) {
                Ok(()) => place += 1,
                Err(error) => result = self.leave(now, place, error),
            }
        }
        self.want(now);
        self.work(now);
        result
    }

    /// Takes a message to send.
    ///
    /// # Errors
    /// No member takes it, and nothing has changed.
    pub fn send(&mut self, now: Instant, payload: Bytes, options: SendOptions) -> Result<(), SendError> {
        let number = (self.seq, self.message);
        let options = SendOptions { origin: Some(options.origin.unwrap_or(now)), ..options };
        if let Some(backup) = &mut self.backup {
            backup.review(now, &mut self.members);
        }
        let everybody = self.backup.is_none();
        let mut result = Err(SendError::NotConnected);
        let members = self.members.iter_mut().filter(|member| member.joined);
        for member in members.filter(|member| everybody || member.usage.is_active()) {
            let sent = member.connection.send_numbered(now, payload.clone(), options, number);
            if result.is_err() {
                result = sent;
            }
        }
        result?;
        if let Some(backup) = &mut self.backup {
            backup.keep(Kept { number, payload, options });
        }
        (self.seq, self.message) = (self.seq.next(), self.message.next());
        Ok(())
    }

    /// Stops handing messages over, or goes on with it.
    pub fn hold(&mut self, now: Instant, held: bool) {
        self.members.iter_mut().for_each(|member| member.connection.hold(now, held));
        self.work(now);
    }

    /// Closes all connections, and with them the group.
    pub fn close(&mut self, now: Instant) {
        self.closed = true;
        self.paths.clear();
        for mut member in std::mem::take(&mut self.members) {
            member.connection.close(now);
            self.depart(member.connection);
        }
    }

    // Output.

    /// What is to be sent or heard next.
    pub fn poll_output(&mut self) -> GroupOutput {
        if let Some(event) = self.events.pop_front() {
            return GroupOutput::Event(event);
        }
        if let Some((id, remote, datagram)) = self.last_words.pop_front() {
            return GroupOutput::Transmit(id, remote, datagram);
        }
        let mut wake = self.wake();
        for member in &mut self.members {
            // Events were taken up after the last input.
            match member.connection.poll_output() {
                Output::Transmit(datagram) => {
                    let (id, remote) = (member.connection.local_id(), member.connection.remote());
                    return GroupOutput::Transmit(id, remote, datagram);
                }
                Output::Event(_) => {}
                Output::Wait(at) => wake = sooner(wake, at),
            }
        }
        GroupOutput::Wait(wake)
    }

    fn wake(&self) -> Option<Instant> {
        let calls = self.paths.iter().filter_map(|path| path.call_at).min();
        let backup = self.backup.as_ref().and_then(|_| backup::wake(&self.members));
        let wake = sooner(sooner(calls, self.merge.wake()), backup);
        wake.filter(|_| !self.closed)
    }

    // What follows from an input.

    /// Takes up what members say, and what follows from it.
    fn work(&mut self, now: Instant) {
        while self.take_events(now) | self.release(now) {}
        if let Some(backup) = &mut self.backup {
            backup.review(now, &mut self.members);
        }
    }

    /// Hears the members. True when one of them said something.
    fn take_events(&mut self, now: Instant) -> bool {
        let mut heard = false;
        for place in 0..self.members.len() {
            let is_new = |member: &Member| !member.joined && member.connection.is_connected();
            if self.members.get(place).is_some_and(is_new) {
                self.join(now, place);
            }
            while let Some(event) =
                self.members.get_mut(place).and_then(|member| member.connection.take_event())
            {
                heard = true;
                // What one member has not, another may have.
                let Event::Message(message) = event else { continue };
                let due = message.due_us.and_then(|due| u64::try_from(due).ok()).map(Duration::from_micros);
                let due = due.map_or(now, |due| self.epoch + due);
                let until = due.max(now) + self.patience(place);
                self.merge.insert(message, due, until);
            }
        }
        heard
    }

    /// Hands over what may be. True when that was anything.
    fn release(&mut self, now: Instant) -> bool {
        let members = &self.members;
        let has_passed = |seq: SeqNumber| {
            let mut next = members.iter().filter(|m| m.joined).filter_map(|m| m.connection.next_received());
            next.all(|next| seq.is_at_or_before(next))
        };
        let mut released = false;
        while let Some(event) = self.merge.release(now, has_passed) {
            released = true;
            self.events.push_back(event);
        }
        if released {
            let wanted = self.merge.wanted();
            self.members.iter_mut().for_each(|member| member.connection.pass(now, wanted));
        }
        released
    }

    /// How long a message of the member waits for those before it: they may be on a longer way.
    fn patience(&self, place: usize) -> Duration {
        let own = self.members.get(place).and_then(|member| member.connection.base());
        let latest = self.members.iter().filter(|m| m.joined).filter_map(|m| m.connection.base()).max();
        let (Some(own), Some(latest)) = (own, latest) else { return Duration::ZERO };
        let longer = Duration::from_micros(u64::try_from(latest - own).unwrap_or(0));
        if self.members.len() > 1 {
            (longer + SLACK).min(self.config.receiver_latency)
        } else {
            Duration::ZERO
        }
    }
}

fn too_many(what: &'static str) -> SessionError {
    SessionError::Limit { what, limit: u64::try_from(MAX_MEMBERS).unwrap_or(u64::MAX) }
}

fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
