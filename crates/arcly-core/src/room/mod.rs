//! Rooms: many who publish, many who read, who is there, and who speaks.
//!
//! ```text
//!   rooms/standup/alice ──┐  streams of the engine,        ┌──► members, where each one's stream is, and who speaks
//!   rooms/standup/bob   ──┼─ published over any protocol ──┤
//!   a seat for carol    ──┘                                └──► RoomEvent: joined, published, speaks, speaker, left
//! ```
//!
//! A room is what the streams of one application have in common that differ in the last part of their name only: `rooms/standup/alice` is
//! the stream of member `alice` in room `standup`. Whoever publishes there is in the room for as long as it does; who only reads takes a
//! [`Seat`]. Media go as they always do: each member reads the streams of the others, of all or of those that it wants.
//!
//! [`Room`] is one room as a state machine: names, bounds, and who speaks, with time as an argument. [`Rooms`] has those of an engine, and
//! keeps them in step with its streams.
//!
//! **Who speaks** is known of streams whose publishers say how loud they are ([`level`](crate::level)), which those over WebRTC do. The
//! *speaker* is one of those who speak, and stays it until another has been clearly louder for a while, or speaks when it does not: the one to
//! show large.
//!
//! Guarantees: rooms, their members, and events that wait are bounded; no look at a room waits for a publisher or a reader.

mod rooms;
mod speakers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::close::CloseReason;
use crate::key::{NameError, StreamKey};

pub use rooms::{LOOK, RoomItem, RoomReceiver, Rooms, Seat};
use speakers::{Change, Speakers};
pub use speakers::{HANGOVER, LOUDER_BY_DB, QUIET_DBOV, SPEAKS_DBOV, TAKES_OVER};

/// Events of a room that wait to be asked for. When there are more the oldest are lost, and counted.
pub const MAX_WAITING: usize = 1_024;

/// Bounds of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomLimits {
    /// Rooms that have members at one time. Default: 1000.
    pub max_rooms: usize,
    /// Members of a room, those that only read among them. Default: 200.
    pub max_members: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self { max_rooms: 1_000, max_members: 200 }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The name is none that a stream could have, or has several parts.
    #[error("no name for a member: {0}")]
    Name(#[from] NameError),
    /// Somebody has a seat by that name.
    #[error("the name is taken")]
    Taken,
    /// There is no room for another member.
    #[error("the room is full")]
    Full,
    /// There is no place for another room.
    #[error("there are too many rooms")]
    TooMany,
}

impl RoomError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub const fn reason(self) -> CloseReason {
        match self {
            Self::Name(error) if error.is_forbidden() => CloseReason::Forbidden,
            Self::Name(_) => CloseReason::Malformed,
            Self::Taken => CloseReason::Conflict,
            Self::Full => CloseReason::Limit("room_members"),
            Self::TooMany => CloseReason::Limit("rooms"),
        }
    }
}

/// Somebody in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The name, once in a room.
    pub name: Arc<str>,
    /// Where its stream is, or would be.
    pub key: StreamKey,
    /// Somebody publishes it at the moment.
    pub publishes: bool,
    /// Somebody has a [`Seat`] by that name.
    pub has_seat: bool,
    /// It speaks at the moment.
    pub speaks: bool,
}

/// What happens in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// Somebody has come.
    Joined(Arc<str>),
    /// The stream of a member is there.
    Published(Arc<str>),
    /// It is not there any more.
    Unpublished(Arc<str>),
    /// Somebody has left.
    Left(Arc<str>),
    /// Somebody has begun to speak.
    Speaks(Arc<str>),
    /// Somebody has ceased to.
    Silent(Arc<str>),
    /// The speaker is another one from now on; none when the one that was has left, or publishes no more, and no other speaks.
    Speaker(Option<Arc<str>>),
}

/// One room as a state machine: who is there, and who speaks. After each call it is to be asked for its events.
#[derive(Debug)]
pub struct Room {
    /// The application and the room.
    path: Arc<str>,
    max_members: usize,
    members: BTreeMap<Arc<str>, Member>,
    speakers: Speakers,
    events: VecDeque<RoomEvent>,
    lost: u64,
}

impl Room {
    /// A room whose members' streams are in `path`, which is an application and one or more parts: `rooms/standup`.
    ///
    /// # Errors
    /// It is no such path.
    pub fn new(path: &str, limits: RoomLimits) -> Result<Self, NameError> {
        StreamKey::from_parts(path, "x")?;
        if !path.contains('/') {
            return Err(NameError::Empty);
        }
        Ok(Self {
            path: path.into(),
            max_members: limits.max_members,
            members: BTreeMap::new(),
            speakers: Speakers::default(),
            events: VecDeque::new(),
            lost: 0,
        })
    }

    /// Where the stream of a member by that name is, or would be.
    ///
    /// # Errors
    /// It is no name.
    pub fn key(&self, name: &str) -> Result<StreamKey, NameError> {
        if name.contains('/') {
            return Err(NameError::Character);
        }
        StreamKey::from_parts(&self.path, name)
    }

    /// The members, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// True when nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whom to show large: who speaks, or has spoken last.
    #[must_use]
    pub fn speaker(&self) -> Option<&Member> {
        self.members.get(self.speakers.speaker()?)
    }

    /// Events that were lost because nobody has asked for them.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Somebody comes, to read at least.
    ///
    /// # Errors
    /// [`RoomError::Name`], [`RoomError::Taken`] by another seat, [`RoomError::Full`].
    pub fn take_seat(&mut self, name: &str) -> Result<(), RoomError> {
        let member = self.member_or_new(name)?;
        if member.has_seat {
            return Err(RoomError::Taken);
        }
        member.has_seat = true;
        Ok(())
    }

    /// Whoever has the seat of that name leaves it, and the room, unless its stream goes on.
    pub fn leave_seat(&mut self, now: Instant, name: &str) {
        if let Some(member) = self.members.get_mut(name) {
            member.has_seat = false;
        }
        self.tidy(now, name);
    }

    /// Somebody publishes the stream of that name, and comes with it. To say so again changes nothing.
    ///
    /// # Errors
    /// [`RoomError::Name`], [`RoomError::Full`].
    pub fn publish(&mut self, name: &str) -> Result<(), RoomError> {
        let member = self.member_or_new(name)?;
        if !core::mem::replace(&mut member.publishes, true) {
            let name = Arc::clone(&member.name);
            self.emit(RoomEvent::Published(name));
        }
        Ok(())
    }

    /// Nobody publishes it any more. To say so again changes nothing.
    pub fn unpublish(&mut self, now: Instant, name: &str) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.publishes) else { return };
        member.publishes = false;
        let name = Arc::clone(&member.name);
        let changes = self.speakers.forget(now, &name);
        self.take(changes);
        self.emit(RoomEvent::Unpublished(Arc::clone(&name)));
        self.tidy(now, &name);
    }

    /// Takes how loud members are now, as [means](crate::level::TrackLevel::mean_dbov) in dB below overload, of all of them at once: who is
    /// not among them is silent. To be called every [`LOOK`] or so.
    pub fn handle_levels<'a>(&mut self, now: Instant, levels: impl IntoIterator<Item = (&'a str, i8)>) {
        let known = levels.into_iter().filter_map(|(name, dbov)| {
            let member = self.members.get(name).filter(|member| member.publishes)?;
            Some((Arc::clone(&member.name), dbov))
        });
        let known: Vec<_> = known.collect();
        let changes = self.speakers.handle_levels(now, known);
        self.take(changes);
    }

    /// What has happened; to be asked until there is nothing more.
    pub fn poll_event(&mut self) -> Option<RoomEvent> {
        self.events.pop_front()
    }

    fn member_or_new(&mut self, name: &str) -> Result<&mut Member, RoomError> {
        if !self.members.contains_key(name) {
            let key = self.key(name)?;
            if self.members.len() >= self.max_members {
                return Err(RoomError::Full);
            }
            let name: Arc<str> = name.into();
            self.emit(RoomEvent::Joined(Arc::clone(&name)));
            let (publishes, has_seat, speaks) = (false, false, false);
            let member = Member { name: Arc::clone(&name), key, publishes, has_seat, speaks };
            self.members.insert(name, member);
        }
        self.members.get_mut(name).ok_or(RoomError::Full)
    }

    /// A member that neither publishes nor has a seat is one no more.
    fn tidy(&mut self, now: Instant, name: &str) {
        let is_gone = |member: &Member| !member.publishes && !member.has_seat;
        if !self.members.get(name).is_some_and(is_gone) {
            return;
        }
        if let Some((name, _)) = self.members.remove_entry(name) {
            let changes = self.speakers.forget(now, &name);
            self.take(changes);
            self.emit(RoomEvent::Left(name));
        }
    }

    fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            let event = match change {
                Change::Speaks(name, speaks) => {
                    if let Some(member) = self.members.get_mut(&name) {
                        member.speaks = speaks;
                    }
                    if speaks { RoomEvent::Speaks(name) } else { RoomEvent::Silent(name) }
                }
                Change::Speaker(name) => RoomEvent::Speaker(name),
            };
            self.emit(event);
        }
    }

    fn emit(&mut self, event: RoomEvent) {
        if self.events.len() >= MAX_WAITING {
            self.events.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.events.push_back(event);
    }
}
