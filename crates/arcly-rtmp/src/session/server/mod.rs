//! The server's side of a connection.
//!
//! ```text
//!  connection   Handshake ──C2──▶ Connecting ──connect──▶ Ready ──error, shutdown──▶ Closed
//!
//!  stream       Idle ──publish──▶ PublishRequested ──accept_publish──▶ Publishing ──┐
//!                │ ▲──────────────── reject · closeStream · end_publish ◀───────────┘
//!                └──play──▶ PlayRequested ──accept_play──▶ Playing ──▶ Idle  (reject · closeStream · end_play)
//! ```
//!
//! The time from the connection to the first stream that its owner accepted is bounded as a whole, whatever trickles
//! in meanwhile. A stream that is refused takes the connection with it, unless another stream is active on it.

mod input;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arcly_codec::amf0::Value;
use arcly_core::machine::{Machine, Output};
use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase};

use super::link::{Link, Tag};
use super::target::Target;
use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::wire::handshake::{Entropy, ServerHandshake};
use crate::wire::{
    Capabilities, CapsEx, ChunkStreamId, Connect, ControlMessage, MessageType, Response, Status, UserControl,
};

/// A message stream of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u32);

impl StreamId {
    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What the owner of a [`ServerSession`] is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The client wants to publish. Answer with [`accept_publish`](ServerSession::accept_publish) or
    /// [`reject`](ServerSession::reject). Tags may follow before the answer.
    PublishRequest {
        /// Where.
        stream: StreamId,
        /// What.
        target: Target,
    },
    /// The client wants to play. Answer with [`accept_play`](ServerSession::accept_play) or
    /// [`reject`](ServerSession::reject).
    PlayRequest {
        /// Where.
        stream: StreamId,
        /// What.
        target: Target,
    },
    /// A publisher's tag.
    Tag {
        /// Whose.
        stream: StreamId,
        /// The tag.
        tag: Tag,
    },
    /// The client has stopped publishing or playing.
    Stopped {
        /// Where.
        stream: StreamId,
    },
    /// The client pauses, or goes on.
    Paused {
        /// Where.
        stream: StreamId,
        /// Pauses.
        paused: bool,
    },
    /// The client wants, or does not want, audio or video.
    Receive {
        /// Where.
        stream: StreamId,
        /// Audio, when it says so.
        audio: Option<bool>,
        /// Video, when it says so.
        video: Option<bool>,
    },
}

impl ServerEvent {
    /// The stream that it is about.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        match self {
            Self::PublishRequest { stream, .. }
            | Self::PlayRequest { stream, .. }
            | Self::Tag { stream, .. }
            | Self::Stopped { stream }
            | Self::Paused { stream, .. }
            | Self::Receive { stream, .. } => *stream,
        }
    }
}

#[derive(Debug)]
enum State {
    Handshake(ServerHandshake),
    Connecting,
    Ready,
    Closed(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Idle,
    PublishRequested,
    Publishing,
    PlayRequested,
    Playing,
}

impl Role {
    const fn is_active(self) -> bool {
        matches!(self, Self::Publishing | Self::Playing)
    }

    const fn takes_tags(self) -> bool {
        matches!(self, Self::PublishRequested | Self::Publishing)
    }
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    role: Role,
}

/// One client, as a state machine.
#[derive(Debug)]
pub struct ServerSession {
    config: Arc<SessionConfig>,
    link: Link,
    state: State,
    client: Connect,
    streams: Vec<Stream>,
    events: VecDeque<ServerEvent>,
    /// When there must be an active stream.
    deadline: Option<Instant>,
    /// Media messages in a row that carried nothing, or went nowhere.
    bad_tags: u32,
}

impl ServerSession {
    /// A session for a client that has just connected.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, entropy: Entropy, now: Instant) -> Self {
        Self {
            link: Link::new(&config, now),
            state: State::Handshake(ServerHandshake::new(entropy)),
            client: Connect::default(),
            streams: Vec::new(),
            events: VecDeque::new(),
            deadline: Some(now + config.timeouts.setup),
            bad_tags: 0,
            config,
        }
    }

    /// What the client said about itself; empty before `connect`.
    #[must_use]
    pub const fn client(&self) -> &Connect {
        &self.client
    }

    /// What the client can do; nothing before `connect`.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.client.capabilities
    }

    /// Why the session is over, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Bytes received, the handshake included.
    #[must_use]
    pub const fn received_bytes(&self) -> u64 {
        self.link.received()
    }

    /// What is to be sent, if anything, without taking events: for owners that put media right behind it.
    pub fn take_transmit(&mut self) -> Option<bytes::Bytes> {
        self.link.transmit()
    }

    /// True as long as nothing has been accepted on this connection, which is what anonymous clients are limited by.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.deadline.is_some() && !self.any_active()
    }

    // What the owner decides.

    /// Stops the set-up clock for a stream whose owner has authorised it but has nothing to send yet.
    pub fn hold(&mut self, now: Instant, stream: StreamId) {
        if self.role(stream) == Some(Role::PlayRequested) {
            self.deadline = None;
            self.link.set_idle(now, Some(self.config.timeouts.player_idle));
        }
    }

    /// The client may publish.
    pub fn accept_publish(&mut self, now: Instant, stream: StreamId) {
        if self.move_role(stream, Role::PublishRequested, Role::Publishing) {
            self.deadline = None;
            self.link.set_idle(now, Some(self.config.timeouts.publisher_idle));
            if !self.streams.iter().any(|s| s.role == Role::Playing) {
                self.link.set_stall(self.config.timeouts.publisher_stall);
            }
            self.user(UserControl::StreamBegin(stream.0));
            self.status(stream, Status::good("NetStream.Publish.Start", "publishing"));
        }
    }

    /// The client may play; what it is sent on this stream follows what [`poll_output`](Machine::poll_output)
    /// now returns.
    pub fn accept_play(&mut self, now: Instant, stream: StreamId) {
        if self.move_role(stream, Role::PlayRequested, Role::Playing) {
            self.deadline = None;
            self.link.set_stall(self.config.timeouts.write_stall);
            // Players have next to nothing more to say, and there are thousands of them.
            self.events.shrink_to_fit();
            self.link.shrink();
            // A client that publishes too is judged as a publisher.
            if !self.streams.iter().any(|s| s.role == Role::Publishing) {
                self.link.set_idle(now, Some(self.config.timeouts.player_idle));
            }
            self.user(UserControl::StreamBegin(stream.0));
            self.status(stream, Status::good("NetStream.Play.Reset", "playing and resetting"));
            self.status(stream, Status::good("NetStream.Play.Start", "playing"));
            // No `NetStream.Data.Start` after it: FFmpeg takes that for a data track.
            self.data(stream, &["|RtmpSampleAccess".into(), true.into(), true.into()]);
        }
    }

    /// The client may not publish, or not play: before it was accepted or after. `description` is for people.
    pub fn reject(&mut self, stream: StreamId, reason: CloseReason, description: &str) {
        let code = match self.role(stream) {
            Some(Role::PublishRequested | Role::Publishing) => match reason {
                CloseReason::Conflict => "NetStream.Publish.BadName",
                _ => "NetStream.Publish.Rejected",
            },
            Some(Role::PlayRequested | Role::Playing) => match reason {
                CloseReason::NotFound => "NetStream.Play.StreamNotFound",
                _ => "NetStream.Play.Failed",
            },
            _ => return,
        };
        self.status(stream, Status::bad(code, description));
        self.retire(stream, reason);
    }

    /// Publishing is over: the stream was taken over, or the server goes down.
    pub fn end_publish(&mut self, stream: StreamId, reason: CloseReason) {
        if self.role(stream) == Some(Role::Publishing) {
            if reason == CloseReason::Shutdown {
                self.status(stream, Status::good("NetStream.Unpublish.Success", "the server is going down"));
            } else {
                self.status(stream, Status::bad("NetStream.Publish.Rejected", &format!("ended: {reason}")));
            }
            self.retire(stream, reason);
        }
    }

    /// The stream that the client plays is over.
    pub fn end_play(&mut self, stream: StreamId, reason: CloseReason) {
        if self.role(stream) == Some(Role::Playing) {
            self.status(stream, Status::good("NetStream.Play.UnpublishNotify", &format!("ended: {reason}")));
            self.user(UserControl::StreamEof(stream.0));
            self.status(stream, Status::good("NetStream.Play.Stop", "stopped"));
            self.retire(stream, reason);
        }
    }

    /// Asks the client to reconnect, here or elsewhere, while its streams go on. False when it does not understand
    /// that.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>) -> bool {
        let understands = self.client.capabilities.extensions.contains(CapsEx::RECONNECT);
        if understands && matches!(self.state, State::Ready) {
            let status = Status::good("NetConnection.Connect.ReconnectRequest", "the server is going down");
            let mut info = status.encode();
            if let Some(url) = tc_url {
                info = info.with("tcUrl", url);
            }
            self.link.command(0, &Response::Status { status, info }.encode());
        }
        understands
    }

    /// Ends every stream and the session: the server goes down, or an operator ended it.
    pub fn shutdown(&mut self) {
        for stream in self.streams.iter().map(|s| s.id).collect::<Vec<_>>() {
            self.end_publish(stream, CloseReason::Shutdown);
            self.end_play(stream, CloseReason::Shutdown);
        }
        self.close(CloseReason::Shutdown, "the server is going down");
    }

    /// What the socket did with what it was given: whether it took any, and how many bytes wait for it.
    ///
    /// # Errors
    /// More waits than the limit.
    pub fn handle_backlog(
        &mut self,
        now: Instant,
        backlog: usize,
        progress: bool,
    ) -> Result<(), SessionError> {
        self.link.handle_backlog(now, backlog, progress);
        self.link.check_backlog().map_err(|error| self.fail(error))
    }

    // Streams.

    fn role(&self, stream: StreamId) -> Option<Role> {
        self.streams.iter().find(|s| s.id == stream).map(|s| s.role)
    }

    fn set_role(&mut self, stream: StreamId, role: Role) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.id == stream) {
            stream.role = role;
        }
    }

    fn move_role(&mut self, stream: StreamId, from: Role, to: Role) -> bool {
        let moves = self.role(stream) == Some(from) && matches!(self.state, State::Ready);
        if moves {
            self.set_role(stream, to);
        }
        moves
    }

    fn any_active(&self) -> bool {
        self.streams.iter().any(|s| s.role.is_active())
    }

    /// Ends a stream, and the session with the last of them.
    fn retire(&mut self, stream: StreamId, reason: CloseReason) {
        self.set_role(stream, Role::Idle);
        self.events.retain(|event| event.stream() != stream);
        if !self.any_active() {
            self.close(reason, "closed");
        }
    }

    // Answers.

    fn user(&mut self, event: UserControl) {
        self.link.control(ControlMessage::User(event));
    }

    fn status(&mut self, stream: StreamId, status: Status) {
        self.link.command(stream.0, &Response::status(status).encode());
    }

    fn result(&mut self, transaction: f64, value: Value) {
        let response = Response::Result { transaction, properties: Value::Null, value };
        self.link.command(0, &response.encode());
    }

    fn data(&mut self, stream: StreamId, values: &[Value]) {
        let body = arcly_codec::amf0::encode_all(values);
        self.link.message(ChunkStreamId::STREAM, MessageType::DataAmf0, stream.0, &body);
    }

    fn close(&mut self, reason: CloseReason, description: &str) {
        if matches!(self.state, State::Closed(_)) {
            return;
        }
        if matches!(self.state, State::Ready) && reason != CloseReason::PeerClosed {
            let status = Status::bad("NetConnection.Connect.Closed", &format!("{description}: {reason}"));
            self.link.command(0, &Response::status(status).encode());
        }
        self.state = State::Closed(reason);
        self.deadline = None;
    }

    fn fail(&mut self, error: SessionError) -> SessionError {
        self.close(error.reason(), "closed");
        error
    }

    const fn state_name(&self) -> &'static str {
        match self.state {
            State::Handshake(_) => "in the handshake",
            State::Connecting => "waiting for connect",
            State::Ready => "connected",
            State::Closed(_) => "closed",
        }
    }

    fn wire(&self, error: DecodeError) -> SessionError {
        SessionError::Wire { state: self.state_name(), error }
    }

    fn unexpected(&self, what: &'static str) -> SessionError {
        SessionError::Unexpected { state: self.state_name(), what }
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        self.link.check_invariants();
        assert!(self.streams.len() <= self.link.limits().streams);
        let mut ids: Vec<_> = self.streams.iter().map(|s| s.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.streams.len());
        assert!(!ids.contains(&StreamId(0)));
        assert!(self.bad_tags <= self.link.limits().bad_tags + 1);
        match self.state {
            State::Handshake(_) | State::Connecting => {
                assert!(self.streams.is_empty() && self.deadline.is_some())
            }
            State::Ready => {
                assert!(self.any_active() || self.deadline.is_some() || self.link.next_timeout().is_some())
            }
            State::Closed(_) => assert!(self.deadline.is_none()),
        }
    }
}

impl Machine for ServerSession {
    type Event = ServerEvent;
    type Error = SessionError;

    fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), SessionError> {
        if self.closed().is_some() {
            return Ok(());
        }
        self.link.receive(now, input.len());
        self.advance(now, input).map_err(|error| self.fail(error))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.closed().is_some() {
            return Ok(());
        }
        let handshake = matches!(self.state, State::Handshake(_));
        let phase = if handshake { Phase::Handshake } else { Phase::Command };
        let setup = self.deadline.map(|deadline| (deadline, phase));
        self.link.handle_timeout(now, setup).map_err(|error| self.fail(error))
    }

    fn poll_output(&mut self) -> Output<ServerEvent> {
        let closed = self.closed().is_some();
        self.link.poll_output(&mut self.events, self.deadline, closed)
    }
}
