//! The client's side of a connection: one stream, published or played.
//!
//! ```text
//!  Handshake ──S2──▶ Connecting ──_result──▶ Creating ──_result──▶ Starting ──onStatus──▶ Active ──▶ Closed
//! ```
//!
//! Everything up to `Active` has one deadline, so that a dead upstream wedges nobody. A server's `_error` and an
//! `onStatus` of level `error` end the session with the server's own words.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arcly_core::machine::{Machine, Output};
use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, Phase, Via};

use super::link::{Link, Tag};
use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::url::RtmpUrl;
use crate::wire::aggregate::Aggregate;
use crate::wire::command::stream_id;
use crate::wire::handshake::digest::Scheme;
use crate::wire::handshake::{ClientHandshake, Entropy};
use crate::wire::{
    Capabilities, Connect, ControlMessage, Message, MessageType, Request, Response, Status, UserControl,
};

/// What the client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Send a stream.
    Publish,
    /// Receive a stream.
    Play,
}

/// What the owner of a [`ClientSession`] is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server has accepted the connection, and says what it can do.
    Connected(Capabilities),
    /// The server has accepted the stream; messages of it carry this id.
    Started {
        /// The message stream.
        stream_id: u32,
    },
    /// A tag of the stream that is played.
    Tag(Tag),
    /// The server asks to be left, for this URL when it names one.
    ReconnectRequest {
        /// The `tcUrl` to go to.
        tc_url: Option<Arc<str>>,
    },
}

const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const START: f64 = 5.0;
const FC_UNPUBLISH: f64 = 6.0;
const DELETE_STREAM: f64 = 7.0;

/// How much a player asks the server to send ahead, in milliseconds; live servers ignore it.
const BUFFER_MS: u32 = 3_000;

#[derive(Debug)]
enum State {
    Handshake(Box<ClientHandshake>),
    Connecting,
    Creating,
    Starting(u32),
    Active(u32),
    Closed(CloseReason),
}

/// One connection to a server, as a state machine.
#[derive(Debug)]
pub struct ClientSession {
    config: Arc<SessionConfig>,
    link: Link,
    state: State,
    url: RtmpUrl,
    intent: Intent,
    via: Via,
    server: Capabilities,
    events: VecDeque<ClientEvent>,
    deadline: Option<Instant>,
}

impl ClientSession {
    /// A session over a connection that has just been made.
    #[must_use]
    pub fn new(
        config: Arc<SessionConfig>,
        url: RtmpUrl,
        intent: Intent,
        entropy: &Entropy,
        now: Instant,
    ) -> Self {
        let mut link = Link::new(&config, now);
        let (handshake, c0c1) = ClientHandshake::new(entropy, Scheme::First);
        link.raw(&c0c1);
        Self {
            link,
            state: State::Handshake(Box::new(handshake)),
            url,
            intent,
            via: Via::default(),
            server: Capabilities::default(),
            events: VecDeque::new(),
            deadline: Some(now + config.timeouts.setup),
            config,
        }
    }

    /// The same session of a relay: of a stream that has come through those hops, or that feeds those streams.
    #[must_use]
    pub fn with_via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    /// What the server said that it can do; nothing before [`ClientEvent::Connected`].
    #[must_use]
    pub const fn server(&self) -> &Capabilities {
        &self.server
    }

    /// Why the session is over, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// True once media may be sent or will come.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// The message stream that media goes on, while the session is active.
    #[must_use]
    pub const fn stream_id(&self) -> Option<u32> {
        match self.state {
            State::Active(id) => Some(id),
            _ => None,
        }
    }

    /// Says good-bye; nothing comes after what `poll_output` then returns.
    pub fn finish(&mut self, reason: CloseReason) {
        if let State::Starting(id) | State::Active(id) = self.state {
            if self.intent == Intent::Publish {
                let name = self.url.name().into();
                self.link.command(0, &Request::FcUnpublish(name).encode(FC_UNPUBLISH));
            }
            self.link.command(0, &Request::DeleteStream(id).encode(DELETE_STREAM));
        }
        self.close(reason);
    }

    /// What the socket did with what it was given: whether it took any, and how many bytes wait for it. Media counts
    /// too, but only for the time it may stand still.
    pub fn handle_backlog(&mut self, now: Instant, backlog: usize, progress: bool) {
        self.link.handle_backlog(now, backlog, progress);
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
            self.deadline = None;
        }
    }

    fn fail(&mut self, error: SessionError) -> SessionError {
        self.close(error.reason());
        error
    }

    const fn state_name(&self) -> &'static str {
        match self.state {
            State::Handshake(_) => "in the handshake",
            State::Connecting => "waiting for the result of connect",
            State::Creating => "waiting for the result of createStream",
            State::Starting(_) => "waiting for the stream to start",
            State::Active(_) => "active",
            State::Closed(_) => "closed",
        }
    }

    fn wire(&self, error: DecodeError) -> SessionError {
        SessionError::Wire { state: self.state_name(), error }
    }

    fn rejected(status: &Status) -> SessionError {
        let words = if status.description.is_empty() { &status.code } else { &status.description };
        // The words go into logs: no control characters, and no more than a line.
        SessionError::Rejected(words.chars().filter(|c| !c.is_control()).take(200).collect())
    }

    fn advance(&mut self, now: Instant, mut input: &[u8]) -> Result<(), SessionError> {
        if let State::Handshake(handshake) = &mut self.state {
            let progress = handshake.advance(&mut input).map_err(|error| self.wire(error))?;
            if let Some(bytes) = progress.transmit {
                self.link.raw(&bytes);
            }
            if progress.done {
                self.connect();
            }
        }
        while !input.is_empty() && !matches!(self.state, State::Closed(_)) {
            let Some(message) = self.link.decode(&mut input).map_err(|error| self.wire(error))? else {
                break;
            };
            self.handle_message(now, message)?;
        }
        self.link.settle(now)
    }

    fn connect(&mut self) {
        self.link.set_chunk_size(self.config.chunk_size);
        let connect = Connect {
            app: Arc::clone(&self.url.app),
            tc_url: self.url.tc_url().into(),
            // Servers that tell encoders from players do it by these two.
            flash_ver: match self.intent {
                Intent::Publish => "FMLE/3.0 (compatible; arcly)".into(),
                Intent::Play => "LNX 9,0,124,2".into(),
            },
            kind: Some("nonprivate".into()),
            object_encoding: 0.0,
            capabilities: self.config.capabilities.clone(),
            via: self.via.clone(),
        };
        self.link.command(0, &Request::Connect(Box::new(connect)).encode(CONNECT));
        self.state = State::Connecting;
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        match message.kind {
            MessageType::CommandAmf0 | MessageType::CommandAmf3 => self.handle_command(now, &message),
            MessageType::Audio | MessageType::Video | MessageType::DataAmf0 | MessageType::DataAmf3 => {
                self.handle_tag(now, message);
                Ok(())
            }
            MessageType::Aggregate => {
                for part in Aggregate::new(&message) {
                    let part = part.map_err(|error| self.wire(error))?;
                    self.handle_tag(now, part);
                }
                Ok(())
            }
            MessageType::Other(_) => self.link.count_command(now),
            kind => self.handle_control(now, kind, &message),
        }
    }

    fn handle_control(
        &mut self,
        now: Instant,
        kind: MessageType,
        message: &Message,
    ) -> Result<(), SessionError> {
        let control = ControlMessage::decode(kind, &message.payload).map_err(|error| self.wire(error))?;
        let Some(control) = control else { return Ok(()) };
        match self.link.handle_control(now, control)? {
            Some(UserControl::StreamEof(id))
                if self.intent == Intent::Play && self.stream_id() == Some(id) =>
            {
                Err(SessionError::Ended)
            }
            _ => Ok(()),
        }
    }

    fn handle_tag(&mut self, now: Instant, message: Message) {
        if self.intent != Intent::Play {
            return;
        }
        // Some servers send media without a word of NetStream.Play.Start.
        match self.state {
            State::Starting(id) if message.stream_id == id && message.kind.is_media() => self.start(now, id),
            _ => {}
        }
        if self.stream_id().is_some() {
            self.events.extend(Tag::from_message(message).map(ClientEvent::Tag));
        }
    }

    fn handle_command(&mut self, now: Instant, message: &Message) -> Result<(), SessionError> {
        self.link.count_command(now)?;
        let decoded = crate::wire::Invoke::decode(message.kind, &message.payload);
        let invoke = decoded.map_err(|error| self.wire(error))?;
        match Response::decode(invoke) {
            Response::Result { transaction, properties, value } => {
                if transaction == CONNECT && matches!(self.state, State::Connecting) {
                    let properties = properties.as_object();
                    self.server = properties.map(Capabilities::decode).unwrap_or_default();
                    self.events.push_back(ClientEvent::Connected(self.server.clone()));
                    self.create_stream();
                } else if transaction == CREATE_STREAM && matches!(self.state, State::Creating) {
                    let id = value.as_number().map_or(0, stream_id);
                    self.request_stream(id)?;
                }
                Ok(())
            }
            // releaseStream and FCPublish are courtesies; servers that do not know them say so, and that is fine.
            Response::Error { transaction, status }
                if transaction == CONNECT || transaction == CREATE_STREAM =>
            {
                Err(Self::rejected(&status))
            }
            Response::Status { status, info } => self.handle_status(now, &status, info.str("tcUrl")),
            Response::Other(name) if &*name == "close" => Err(SessionError::Ended),
            _ => Ok(()),
        }
    }

    fn create_stream(&mut self) {
        if self.intent == Intent::Publish {
            let name: Arc<str> = self.url.name().into();
            self.link.command(0, &Request::ReleaseStream(Arc::clone(&name)).encode(RELEASE_STREAM));
            self.link.command(0, &Request::FcPublish(name).encode(FC_PUBLISH));
        }
        self.link.command(0, &Request::CreateStream.encode(CREATE_STREAM));
        self.state = State::Creating;
    }

    fn request_stream(&mut self, id: u32) -> Result<(), SessionError> {
        if id == 0 {
            return Err(SessionError::Unexpected { state: self.state_name(), what: "stream id 0" });
        }
        let name = self.url.name().into();
        match self.intent {
            Intent::Publish => {
                let request = Request::Publish { name, kind: "live".into() };
                self.link.command(id, &request.encode(START));
            }
            Intent::Play => {
                let buffer = UserControl::SetBufferLength { stream_id: id, ms: BUFFER_MS };
                self.link.control(ControlMessage::User(buffer));
                self.link.command(id, &Request::Play { name, start: -2.0 }.encode(START));
            }
        }
        self.state = State::Starting(id);
        Ok(())
    }

    fn start(&mut self, now: Instant, id: u32) {
        self.state = State::Active(id);
        self.deadline = None;
        // A server that is published to may have nothing to say; TCP tells whether it is there.
        if self.intent == Intent::Play {
            self.link.set_idle(now, Some(self.config.timeouts.player_idle));
        }
        self.events.push_back(ClientEvent::Started { stream_id: id });
    }

    fn handle_status(
        &mut self,
        now: Instant,
        status: &Status,
        tc_url: Option<&str>,
    ) -> Result<(), SessionError> {
        if status.is_error() {
            return Err(Self::rejected(status));
        }
        match (&*status.code, &self.state) {
            ("NetStream.Publish.Start", State::Starting(id)) if self.intent == Intent::Publish => {
                self.start(now, *id);
            }
            ("NetStream.Play.Start", State::Starting(id)) if self.intent == Intent::Play => {
                self.start(now, *id)
            }
            ("NetStream.Play.UnpublishNotify" | "NetStream.Play.Stop" | "NetStream.Play.Complete", _)
                if self.intent == Intent::Play =>
            {
                return Err(SessionError::Ended);
            }
            ("NetConnection.Connect.Closed" | "NetStream.Unpublish.Success", _) => {
                return Err(SessionError::Ended);
            }
            ("NetConnection.Connect.ReconnectRequest", _) => {
                self.events.push_back(ClientEvent::ReconnectRequest { tc_url: tc_url.map(Arc::from) });
            }
            _ => {}
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        self.link.check_invariants();
        match self.state {
            State::Active(id) => assert!(id != 0 && self.deadline.is_none()),
            State::Closed(_) => assert!(self.deadline.is_none()),
            State::Starting(id) => assert!(id != 0 && self.deadline.is_some()),
            _ => assert!(self.deadline.is_some()),
        }
    }
}

impl Machine for ClientSession {
    type Event = ClientEvent;
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

    fn poll_output(&mut self) -> Output<ClientEvent> {
        let closed = self.closed().is_some();
        self.link.poll_output(&mut self.events, self.deadline, closed)
    }
}
