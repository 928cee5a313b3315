//! The server's side of a connection.
//!
//! ```text
//!             DESCRIBE, SETUP ──▶ Open ──opened_play──┐
//!   Init ─────ANNOUNCE ─────────▶ Open ──opened_publish┴▶ (a presentation) ──SETUP──▶ Ready ──PLAY──▶ Play ──accept_play──▶ Playing
//!    ▲                                                                              ▲ │                                     │
//!    └──────────────────────────────TEARDOWN────────────────────────────────────────┼─┼──RECORD──────▶ Recording            │
//!                                                                                   └─┴──────PAUSE────────────┴─────────────┘
//! ```
//!
//! The time from the connection to the first stream that its owner opened is bounded as a whole, whatever trickles in
//! meanwhile. A request that is refused takes the connection with it, but for one that better credentials may help, and
//! for one that has no place in this state or names what is not there: those are answered, and the session goes on.
//!
//! While the owner decides about a request, further ones wait; the owner reads no more of them meanwhile.
//!
//! Tolerated: requests without `User-Agent` or `Accept`, a `Range` that players of files send (`npt=0-`), PLAY while
//! playing (a keep-alive of some), channels that are not proposed, sessions that no `Session` header names in OPTIONS and
//! parameters.
//!
//! A stream is received from a group where the client asks for it (`RTP/AVP;multicast`), or the URL does (`?multicast`, so
//! that the description names the group). What receivers report to a group is not listened to; requests keep the session.
//!
//! Over a connection that nobody else can read packets are protected where the client asks for it: by `RTP/SAVP` in SETUP, with
//! the keys of both sides in `KeyMgmt`, or by `?srtp` in the URL, so that the description has them. What is played that way and
//! goes on after a pause is to be numbered behind what came before it, as keys are used with each number once; that is its owner's to
//! see to.
//!
//! A client that requires a back-channel is described one, and what it sends there is a stream of its own: the owner is asked for
//! the right to publish it when it is set up, and who is refused may go on listening.
//!
//! Not done: several sessions over one connection, sessions that outlive theirs, and RTSP 2.0.

mod input;
mod request;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arcly_core::machine::{Machine, Output};
use arcly_core::{CloseReason, Phase, TrackSet, Via};
use bytes::{Bytes, BytesMut};

use super::presentation::{Agreed, Group, Intent, Medium, Presentation};
use super::target::Target;
use crate::config::SessionConfig;
use crate::error::{SessionError, status_of};
use crate::srtp::Keyring;
use crate::wire::authorization::{Algorithm, Authorization, Challenge, DigestChallenge, Nonces};
use crate::wire::range::Range;
use crate::wire::rtp_info::{RtpInfo, StreamInfo};
use crate::wire::{Decoder, Frame, Method, PortPair, Request, Response, Status};

/// What a session has to know about its connection.
#[derive(Clone, Debug)]
pub struct Access {
    /// Random, and nobody else's: session ids are made of it.
    pub random: [u8; 16],
    /// The server's nonces.
    pub nonces: Nonces,
    /// The server's ports for datagrams, when it takes and sends any.
    pub udp: Option<PortPair>,
}

/// What a client proves itself with: for one request, of that method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The method.
    pub method: Method,
    /// What was shown; a Digest answers a nonce that this client was given.
    pub authorization: Authorization,
}

/// Where the packets of a medium begin that a player gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The number of its first packet, once that is known.
    pub sequence: Option<u16>,
    /// The timestamp at the moment that all media begin with.
    pub timestamp: Option<u32>,
}

/// What the owner of a [`ServerSession`] is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The client wants to play or publish a stream. Answer with [`opened_play`](ServerSession::opened_play),
    /// [`opened_publish`](ServerSession::opened_publish) or [`reject`](ServerSession::reject).
    Open {
        /// Which of the two.
        intent: Intent,
        /// The stream.
        target: Target,
        /// What the client proves itself with.
        proof: Option<Proof>,
    },
    /// The client wants to receive the stream from a group. Answer with [`offer_group`](ServerSession::offer_group).
    Group,
    /// Playing is to begin, or to go on. Answer with [`accept_play`](ServerSession::accept_play) or
    /// [`reject`](ServerSession::reject).
    Play,
    /// Media is about to come; it was answered.
    Record,
    /// A packet came over the connection.
    Packet {
        /// The medium by its place in the presentation.
        medium: usize,
        /// It is a control packet.
        control: bool,
        /// The packet.
        packet: Bytes,
    },
    /// Playing or recording has paused; it was answered.
    Paused,
    /// The session is over, and the stream with it; it was answered.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Init,
    Ready,
    Playing,
    Recording,
}

/// A request that its owner decides about.
#[derive(Debug)]
struct Pending {
    request: Request,
    target: Target,
    /// The media that it announces.
    media: Vec<Medium>,
}

/// One client, as a state machine.
#[derive(Debug)]
pub struct ServerSession {
    config: Arc<SessionConfig>,
    access: Access,
    /// There are groups to receive from.
    multicast: bool,
    /// What packets of this presentation can be protected with.
    keys: Option<Keyring>,
    /// The client may send what it has to say.
    may_talk: bool,
    decoder: Decoder,
    out: BytesMut,
    events: VecDeque<ServerEvent>,
    state: State,
    /// A player has played, and paused.
    paused: bool,
    presentation: Option<Presentation>,
    /// `Session`, and how many of them there were.
    id: Option<String>,
    sessions: u32,
    pending: Option<Pending>,
    agent: Option<Arc<str>>,
    /// Of the stream that was asked for last: see [`via`](Self::via).
    via: Via,
    /// When a stream must have been opened.
    deadline: Option<Instant>,
    heard: Instant,
    /// Since when the socket has taken nothing of what waits for it.
    stalled: Option<Instant>,
    /// Since when requests are counted, and how many there were.
    requests: (Instant, u32),
    refused_logins: u32,
    stray_frames: u32,
    /// Our own requests.
    cseq: u32,
    /// There was a request.
    spoken: bool,
    /// The last thing that the client was told is that it is not authorised.
    unauthorized: bool,
    closed: Option<CloseReason>,
}

impl ServerSession {
    /// A session for a client that has just connected.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, access: Access, now: Instant) -> Self {
        Self {
            decoder: Decoder::new(config.limits.messages),
            access,
            multicast: false,
            keys: None,
            may_talk: false,
            out: BytesMut::new(),
            events: VecDeque::new(),
            state: State::Init,
            paused: false,
            presentation: None,
            id: None,
            sessions: 0,
            pending: None,
            agent: None,
            via: Via::default(),
            deadline: now.checked_add(config.timeouts.setup),
            heard: now,
            stalled: None,
            requests: (now, 0),
            refused_logins: 0,
            stray_frames: 0,
            cseq: 0,
            spoken: false,
            unauthorized: false,
            closed: None,
            config,
        }
    }

    /// The same session of a server that sends streams to groups, and can be asked for one ([`ServerEvent::Group`]).
    #[must_use]
    pub const fn with_multicast(mut self) -> Self {
        self.multicast = true;
        self
    }

    /// Why the session is over, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// What the client calls itself.
    #[must_use]
    pub const fn agent(&self) -> Option<&Arc<str>> {
        self.agent.as_ref()
    }

    /// Where the stream has come through that a relay publishes, or which it feeds with what it plays: what came in
    /// [`arcly_core::via::HEADER`] with the request that [`ServerEvent::Open`] is about.
    #[must_use]
    pub const fn via(&self) -> &Via {
        &self.via
    }

    /// What is played or published.
    #[must_use]
    pub const fn presentation(&self) -> Option<&Presentation> {
        self.presentation.as_ref()
    }

    /// True as long as nothing has been opened on this connection, which is what anonymous clients are limited by.
    #[must_use]
    pub const fn is_unauthorized(&self) -> bool {
        self.deadline.is_some()
    }

    /// True while the owner has to decide about a request; nothing should be read meanwhile.
    #[must_use]
    pub const fn is_undecided(&self) -> bool {
        self.pending.is_some()
    }

    /// Why a connection ends that the client has closed: one that left because it was not authorised says so.
    #[must_use]
    pub const fn left(&self) -> CloseReason {
        if self.unauthorized { CloseReason::Unauthorized } else { CloseReason::PeerClosed }
    }

    // What the owner decides.

    /// Offers SRTP for the stream that is asked for, with keys that are used for nothing else: set anew with each
    /// [`Open`](ServerEvent::Open), before it is granted. For connections that nobody else can read, as the keys go over them;
    /// datagrams are then protected ones only.
    pub fn set_keys(&mut self, keys: Keyring) {
        self.keys = Some(keys);
    }

    /// The client may play the stream, which has these tracks; the packets that it is going to be sent are numbered
    /// under `key`. A stream of which nothing can be sent is refused.
    pub fn opened_play(&mut self, now: Instant, tracks: Arc<TrackSet>, key: u64) {
        let Some(Pending { request, target, .. }) = self.pending.take() else { return };
        self.authorized();
        let uri = match request.method {
            Method::Setup => without_track(&request.uri),
            _ => &request.uri,
        };
        let mut presentation = Presentation::to_play(target, uri, tracks, key);
        if presentation.media.is_empty() {
            self.refuse(&request, CloseReason::Unsupported);
            return;
        }
        if asks_to_talk(&request) {
            presentation.add_back_channel();
        }
        self.presentation = Some(presentation);
        self.resume(now, request);
    }

    /// The client may publish, or be heard while it plays.
    pub fn opened_publish(&mut self, now: Instant) {
        let Some(Pending { request, target, media }) = self.pending.take() else { return };
        self.authorized();
        if self.presentation.is_some() {
            self.may_talk = true;
            return self.resume(now, request);
        }
        self.presentation = Some(Presentation::to_publish(target, &request.uri, media));
        self.resume(now, request);
    }

    /// The group that the stream can be received from; `None` when there is none, and the client's next choice counts.
    pub fn offer_group(&mut self, now: Instant, group: Option<Group>) {
        let Some(Pending { request, .. }) = self.pending.take() else { return };
        if let Some(presentation) = &mut self.presentation {
            presentation.group = Some(group);
        }
        self.resume(now, request);
    }

    /// The client may play, and what it is sent follows what [`poll_output`](Machine::poll_output) now returns: the
    /// media that were set up, in order, begin there.
    pub fn accept_play(&mut self, now: Instant, starts: &[Start]) {
        let Some(Pending { request, .. }) = self.pending.take() else { return };
        (self.state, self.paused) = (State::Playing, false);
        let mut response = self.answer(&request, Status::OK).with("Range", Range::NOW);
        if let Some(presentation) = &self.presentation {
            let streams = presentation.played().zip(starts).map(|((_, medium, _), start)| StreamInfo {
                url: presentation.control_url(medium),
                ssrc: None,
                sequence: start.sequence,
                timestamp: start.timestamp,
            });
            response = response.with("RTP-Info", RtpInfo { streams: streams.collect() });
        }
        self.respond(&response);
        self.go_on(now);
    }

    /// What was asked for is not granted. A client that has not proved itself may try again; any other is let go.
    pub fn reject(&mut self, now: Instant, reason: CloseReason) {
        let Some(Pending { request, target, .. }) = self.pending.take() else {
            return self.close(reason);
        };
        if reason == CloseReason::Unauthorized {
            // Without credentials it has asked what to prove, and not failed to.
            let shown = request.headers.get("Authorization").is_some();
            self.refused_logins = self.refused_logins.saturating_add(u32::from(shown));
            self.challenge(now, &request, false);
            if self.refused_logins < self.config.limits.logins {
                return self.go_on(now);
            }
            return self.close(reason);
        }
        if self.is_besides(&target) {
            // Who may not talk may listen.
            let response = self.answer(&request, status_of(reason));
            self.respond(&response);
            return self.go_on(now);
        }
        self.refuse(&request, reason);
    }

    /// Whether that is another stream than the one that is played.
    fn is_besides(&self, target: &Target) -> bool {
        self.presentation.as_ref().is_some_and(|presentation| presentation.target.key != target.key)
    }

    /// The stream has ended, or somebody has ended the session.
    pub fn end(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        if let (Some(presentation), Some(id)) = (&self.presentation, &self.id) {
            self.cseq = self.cseq.saturating_add(1);
            let request = Request::new(Method::Teardown, presentation.content_base());
            let request = request.with("CSeq", self.cseq).with("Session", id);
            request.encode(&mut self.out);
        }
        self.close(reason);
    }

    /// Asks the client to go elsewhere (RFC 2326 §10.10); false when it has no session.
    pub fn redirect(&mut self, location: &str) -> bool {
        let (Some(presentation), Some(id), None) = (&self.presentation, &self.id, self.closed) else {
            return false;
        };
        self.cseq = self.cseq.saturating_add(1);
        let request = Request::new(Method::Redirect, presentation.content_base());
        let request = request.with("CSeq", self.cseq).with("Session", id).with("Location", location);
        request.encode(&mut self.out);
        true
    }

    /// A packet of the session has come in a datagram.
    pub const fn keep_alive(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Sends a control packet of a medium over the connection; false when it does not travel there.
    pub fn send_control(&mut self, medium: usize, packet: Bytes) -> bool {
        let media = self.presentation.as_ref().and_then(|presentation| presentation.media.get(medium));
        let Some(Agreed::Tcp(_, channel)) = media.and_then(|medium| medium.agreed) else { return false };
        Frame { channel, payload: packet }.encode(&mut self.out);
        true
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
        if backlog == 0 {
            self.stalled = None;
        } else if progress || self.stalled.is_none() {
            self.stalled = Some(now);
        }
        if backlog > self.config.limits.backlog_bytes {
            return Err(self.fail(SessionError::SlowConsumer));
        }
        Ok(())
    }

    // Inside.

    const fn authorized(&mut self) {
        self.deadline = None;
        self.unauthorized = false;
    }

    /// Goes on with a request whose stream is open now, and with those behind it.
    fn resume(&mut self, now: Instant, request: Request) {
        self.handle_request(now, request);
        self.go_on(now);
    }

    fn go_on(&mut self, now: Instant) {
        // What fails is in `closed`.
        let _ = self.advance(now);
    }

    /// A response to a request.
    fn answer(&self, request: &Request, status: Status) -> Response {
        let mut response = Response::new(status);
        if let Some(cseq) = request.cseq() {
            response = response.with("CSeq", cseq);
        }
        response = response.with("Server", &self.config.agent);
        match &self.id {
            Some(id) if status.is_success() => response
                .with("Session", format_args!("{id};timeout={}", self.config.timeouts.session.as_secs())),
            _ => response,
        }
    }

    fn respond(&mut self, response: &Response) {
        self.unauthorized = response.status == Status::UNAUTHORIZED;
        response.encode(&mut self.out);
    }

    fn refuse(&mut self, request: &Request, reason: CloseReason) {
        let mut response = self.answer(request, status_of(reason));
        if reason == CloseReason::NotFound {
            // Without what may be a secret.
            let name = request.uri.split('?').next().unwrap_or_default();
            response = response.with_body("text/plain", format!("{name} is not there\r\n"));
        }
        self.respond(&response);
        self.close(reason);
    }

    /// Asks for credentials: the best way first, but for those who can do one only and take the last of a kind.
    fn challenge(&mut self, now: Instant, request: &Request, stale: bool) {
        let schemes = &self.config.schemes;
        let mut response = self.answer(request, Status::UNAUTHORIZED);
        let digest = |algorithm| {
            Challenge::Digest(DigestChallenge {
                realm: schemes.realm.clone(),
                nonce: self.access.nonces.issue(now, &self.access.random),
                opaque: None,
                algorithm,
                stale,
                qop: true,
            })
        };
        if schemes.digest {
            response = response.with("WWW-Authenticate", digest(Algorithm::Sha256));
            response = response.with("WWW-Authenticate", digest(Algorithm::Md5));
        }
        if schemes.basic {
            response = response.with("WWW-Authenticate", Challenge::Basic { realm: schemes.realm.clone() });
        }
        self.respond(&response);
    }

    const fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
        }
    }

    fn fail(&mut self, error: SessionError) -> SessionError {
        self.close(error.reason());
        error
    }

    /// Starts a session, unless there is one.
    fn begin(&mut self) {
        if self.id.is_none() {
            self.sessions = self.sessions.saturating_add(1);
            let random = u128::from_be_bytes(self.access.random);
            self.id = Some(format!("{random:032X}{:X}", self.sessions));
        }
    }

    fn is_over_tcp(&self) -> bool {
        let mut agreed = self.presentation.iter().flat_map(Presentation::agreed);
        agreed.any(|(.., agreed)| !agreed.is_udp())
    }

    /// How long nothing may come.
    fn patience(&self) -> Option<core::time::Duration> {
        let timeouts = &self.config.timeouts;
        match self.state {
            State::Recording => Some(timeouts.publisher_idle),
            // Whoever is sent media over the connection is judged by what it takes.
            State::Playing if self.is_over_tcp() => None,
            _ => Some(timeouts.session.saturating_add(timeouts.session_grace)),
        }
    }

    /// When something runs out, and what that is.
    fn next_deadline(&self) -> Option<(Instant, SessionError)> {
        let timeouts = &self.config.timeouts;
        let phase = if self.spoken { Phase::Command } else { Phase::Handshake };
        let setup = self.deadline.map(|at| (at, SessionError::Timeout(phase)));
        let idle = self.patience().filter(|_| self.deadline.is_none() && self.pending.is_none());
        let idle = idle.and_then(|patience| self.heard.checked_add(patience));
        let idle = idle.map(|at| (at, SessionError::Timeout(Phase::Idle)));
        let stall = self.stalled.and_then(|since| since.checked_add(timeouts.write_stall));
        let stall = stall.map(|at| (at, SessionError::SlowConsumer));
        [setup, idle, stall].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Whether the client wants a back-channel.
fn asks_to_talk(request: &Request) -> bool {
    input::options(request).any(|option| option.eq_ignore_ascii_case(input::BACK_CHANNEL))
}

/// The URL of the whole, of one that names a medium.
fn without_track(uri: &str) -> &str {
    uri.rfind("/trackID=").and_then(|at| uri.get(..at)).unwrap_or(uri)
}

impl Machine for ServerSession {
    type Event = ServerEvent;
    type Error = SessionError;

    fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), SessionError> {
        if self.closed.is_some() {
            return Ok(());
        }
        self.decoder.push(input);
        self.advance(now)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        match self.next_deadline().filter(|(at, _)| *at <= now && self.closed.is_none()) {
            Some((_, error)) => Err(self.fail(error)),
            None => Ok(()),
        }
    }

    fn poll_output(&mut self) -> Output<ServerEvent> {
        if !self.out.is_empty() {
            return Output::Transmit(self.out.split().freeze());
        }
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        let deadline = self.next_deadline().filter(|_| self.closed.is_none());
        Output::Wait(deadline.map(|(at, _)| at))
    }
}

#[cfg(test)]
mod tests;
