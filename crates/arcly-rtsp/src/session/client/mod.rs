//! The client's side of a connection: one presentation, pulled or pushed.
//!
//! ```text
//!  pull   Options ─▶ Describe ─▶ Ports ─▶ Setup × n ─▶ Start (PLAY) ───▶ Flowing ─▶ Closed
//!  push   Options ─▶ Announce ─▶ Ports ─▶ Setup × n ─▶ Start (RECORD) ─▶ Flowing ─▶ Closed
//! ```
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 2326 | §10 methods, appendix A.1 client states | [`ClientSession`] |
//! | | §11.3.2, §14.1 challenges | asked again once with credentials |
//! | | §10.12 interleaved packets | frames in both directions |
//! | RFC 2326 C.1.1 | control URLs | `description` |
//! | RFC 3550 | §6 reports | receiver reports of what is pulled; sender reports of what is pushed are among its packets |
//! | RFC 4585 | §6.3.1 PLI | keyframes that are missed, where the description says so |
//!
//! Everything up to `Flowing` has one deadline. Datagrams do not come over the connection: their owner hands them in
//! ([`ClientSession::handle_datagram`]) and is handed those to send ([`ClientEvent::Datagram`]).
//!
//! Guarantees: no panic whatever comes in; memory within the limits of messages, descriptions and `arcly-rtp`'s receiver; an error is
//! final. What deviates from the specification and is tolerated is in [`quirks`].

mod description;
mod error;
mod exchange;
mod keep_alive;
pub mod quirks;
mod setup;
mod traffic;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::derived::Packet;
use arcly_core::machine::{Machine, Output};
use arcly_core::{CloseReason, MediaEvent, Phase, TrackId, TrackSet, Via, via};
use arcly_rtp::media::PacketizerOptions;
use arcly_rtp::sdp::Format;
use bytes::Bytes;

pub use error::ClientError;

use self::description::{Announced, Described, Medium};
use self::exchange::{Answer, Exchange};
use self::keep_alive::KeepAlive;
use self::setup::{Guard, Route};
use self::traffic::{Receiving, Sending};
use crate::srtp::Keyring;
use crate::url::RtspUrl;
use crate::wire::authorization::Answers;
use crate::wire::decoder::{Decoder, Item, MessageLimits};
use crate::wire::range::Range;
use crate::wire::{Method, PortPair, Request, Response, Status};

/// What carries packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// What works: a pull tries datagrams first and goes over to the connection when none come, a push the other way about, as nobody says
    /// when datagrams do not arrive. Over TLS the connection alone.
    #[default]
    Automatic,
    /// Datagrams alone.
    Udp,
    /// The connection alone.
    Tcp,
    /// A group alone, which the server names; what is pulled only. [`Automatic`](Self::Automatic) comes to it last, where the
    /// description names one.
    Multicast,
}

impl Carriage {
    /// True for datagrams.
    const fn is_datagrams(self) -> bool {
        matches!(self, Self::Udp | Self::Multicast)
    }
}

/// What a [`ClientSession`] keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSessionConfig {
    /// What the server can make the session hold.
    pub limits: MessageLimits,
    /// `User-Agent`.
    pub agent: String,
    /// What carries packets.
    pub carriage: Carriage,
    /// From the connection to media that may flow.
    pub setup: Duration,
    /// From PLAY to the first datagram, after which the connection is tried ([`Carriage::Automatic`]).
    pub first_datagram: Duration,
    /// Without media for so long a server that plays is given up; without pictures, too, when they came before.
    pub stall: Duration,
    /// Frames in a row on channels that nobody set up.
    pub stray_frames: u32,
}

impl Default for ClientSessionConfig {
    fn default() -> Self {
        Self {
            limits: MessageLimits::default(),
            agent: concat!("arcly/", env!("CARGO_PKG_VERSION")).to_owned(),
            carriage: Carriage::default(),
            setup: Duration::from_secs(10),
            first_datagram: Duration::from_secs(3),
            stall: Duration::from_secs(10),
            stray_frames: 64,
        }
    }
}

/// A packet on its own, to or from a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The medium, by its place among those that are set up.
    pub medium: usize,
    /// True for RTCP.
    pub control: bool,
    /// The packet.
    pub payload: Bytes,
}

/// What the owner of a [`ClientSession`] is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// So many media want a pair of ports each: [`ClientSession::set_ports`] says which.
    PortsNeeded(usize),
    /// Where a medium's datagrams go to, and come from when the server says so.
    Peer {
        /// The medium.
        medium: usize,
        /// The server's ports, when it said them.
        ports: Option<PortPair>,
        /// The address, when it is another than the connection's.
        source: Option<std::net::IpAddr>,
    },
    /// A medium's datagrams come to a group.
    Group {
        /// The medium.
        medium: usize,
        /// The group.
        address: Ipv4Addr,
        /// Its ports.
        ports: PortPair,
        /// Whom they come from, when it is another than the connection's.
        source: Option<std::net::IpAddr>,
    },
    /// To be sent.
    Datagram(Datagram),
    /// Media may flow.
    Started,
    /// Tracks, or a frame of one of them.
    Media(MediaEvent),
    /// Transport packets of a medium that carries a transport stream.
    TransportStream(Bytes),
    /// The server asks for a keyframe of what is pushed.
    KeyframeRequested,
    /// The server asks to go elsewhere; the session is over.
    Moved(Box<RtspUrl>),
    /// Datagrams do not come through; the session is over, and another one over the connection alone is in order.
    NoDatagrams,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Options,
    Describe,
    Ports,
    Setup(usize),
    Start,
    Flowing,
    Closed(CloseReason),
}

/// What flows, and which way.
#[derive(Debug)]
enum Flow {
    /// Nothing is described yet.
    Undescribed,
    Pull(Box<Receiving>),
    Push(Box<Sending>),
}

/// One connection to a server, as a state machine.
#[derive(Debug)]
pub struct ClientSession {
    config: Arc<ClientSessionConfig>,
    url: RtspUrl,
    via: Via,
    /// See [`came_through`](Self::came_through).
    came_through: Via,
    random: [u8; 16],
    decoder: Decoder,
    exchange: Exchange,
    keep_alive: KeepAlive,
    state: State,
    flow: Flow,
    media: Vec<Medium>,
    aggregate: String,
    /// What carries packets, in the order in which it is tried.
    carriages: Vec<Carriage>,
    ports: Vec<PortPair>,
    routes: Vec<Route>,
    /// What packets can be protected with, and the media that are.
    keys: Option<Keyring>,
    guards: Vec<Option<Guard>>,
    out: VecDeque<Bytes>,
    events: VecDeque<ClientEvent>,
    deadline: Option<Instant>,
    /// Frames in a row on channels that nobody set up.
    stray_frames: u32,
    /// Since when the first request is to be made.
    unasked: Option<Instant>,
}

impl ClientSession {
    /// A session over a connection that has just been made, to receive what the URL names. `random` is what its numbers are made of.
    #[must_use]
    pub fn pull(config: Arc<ClientSessionConfig>, url: RtspUrl, random: [u8; 16], now: Instant) -> Self {
        Self::new(config, url, Flow::Undescribed, random, now)
    }

    /// The same, to send tracks to where the URL says. `options` are those that the packets are made with.
    ///
    /// # Errors
    /// None of the tracks has a format.
    pub fn push(
        config: Arc<ClientSessionConfig>,
        url: RtspUrl,
        (tracks, options): (&TrackSet, PacketizerOptions),
        random: [u8; 16],
        now: Instant,
    ) -> Result<Self, ClientError> {
        let announced = Announced::of(&url, tracks)?;
        let media = announced.media.clone();
        let aggregate = url.request_uri();
        let flow = Flow::Push(Box::new(Sending::new(announced, options.key)));
        Ok(Self { media, aggregate, ..Self::new(config, url, flow, random, now) })
    }

    fn new(
        config: Arc<ClientSessionConfig>,
        url: RtspUrl,
        flow: Flow,
        random: [u8; 16],
        now: Instant,
    ) -> Self {
        let carriages = setup::order(config.carriage, url.tls, matches!(flow, Flow::Push(_)));
        Self {
            decoder: Decoder::new(config.limits),
            exchange: Exchange::new(url.login.as_ref(), &config.agent, random),
            keep_alive: KeepAlive::new(),
            state: State::Options,
            media: Vec::new(),
            aggregate: String::new(),
            carriages,
            ports: Vec::new(),
            routes: Vec::new(),
            keys: None,
            guards: Vec::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            stray_frames: 0,
            deadline: now.checked_add(config.setup),
            via: Via::default(),
            came_through: Via::default(),
            config,
            url,
            random,
            flow,
            unasked: Some(now),
        }
    }

    /// The same session of a relay: of a stream that has come through those hops, or that feeds those streams.
    #[must_use]
    pub fn with_via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    /// Where what is pulled has come through, as far as the server says: there once media may flow.
    #[must_use]
    pub const fn came_through(&self) -> &Via {
        &self.came_through
    }

    /// The same session, which protects what it says about packets that the server protects, and the packets that it pushes: in
    /// datagrams, and over the connection where the URL says so (`?srtp`). The keys are used for nothing else. Without them, and over a
    /// connection that others can read, packets are asked for and sent as they are.
    #[must_use]
    pub fn with_keys(mut self, keys: Keyring) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Knows already what the server will ask for, from a connection before this one that the server ended when it had asked.
    pub fn set_answers(&mut self, answers: Answers) {
        self.exchange.set_answers(answers);
    }

    /// What the server has asked for, for the next connection.
    #[must_use]
    pub fn answers(&self) -> Option<Answers> {
        self.exchange.answers()
    }

    /// Why the session is over, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// True once media may flow.
    #[must_use]
    pub const fn is_flowing(&self) -> bool {
        matches!(self.state, State::Flowing)
    }

    /// The formats of what is pushed: it can go on as long as the tracks have these.
    #[must_use]
    pub fn announced(&self) -> &[(TrackId, Format)] {
        match &self.flow {
            Flow::Push(sending) => sending.formats(),
            _ => &[],
        }
    }

    /// The ports that were bound, one pair for each medium; none when there are none to be had.
    pub fn set_ports(&mut self, now: Instant, ports: Vec<PortPair>) {
        if self.state != State::Ports {
            return;
        }
        if ports.len() < self.media.len() {
            self.carriages.retain(|carriage| *carriage != Carriage::Udp);
        }
        self.ports = ports;
        if self.carriages.is_empty() {
            return self.close(CloseReason::Io);
        }
        self.set_up(now, 0);
    }

    /// Takes a datagram that came to one of the ports.
    ///
    /// # Errors
    /// It was one of many in a row that were no RTP packets.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &Datagram) -> Result<(), ClientError> {
        let Datagram { medium, control, payload } = datagram;
        self.receive(now, *medium, *control, payload).map_err(|error| self.fail(error))
    }

    /// Sends a frame's packets, as a `Packetizer` with the options of [`push`](Self::push) makes them, and the reports before them.
    /// Frames of tracks that were not announced are left out.
    pub fn send_packets(&mut self, packet: &Packet) {
        let (Flow::Push(sending), State::Flowing) = (&self.flow, self.state) else { return };
        if sending.announces(packet.track) {
            self.send(packet.bytes.clone());
        }
    }

    /// A reader of what is pulled needs a keyframe: the server is asked, if it said that it can be.
    pub fn request_keyframe(&mut self) {
        if let Flow::Pull(receiving) = &mut self.flow {
            receiving.request_keyframes();
        }
        self.drain_reports();
    }

    /// Says good-bye; nothing comes after what `poll_output` then returns.
    pub fn finish(&mut self, now: Instant, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) && !self.routes.is_empty() {
            self.ask(now, Request::new(Method::Teardown, self.aggregate.clone()));
        }
        self.close(reason);
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
            self.deadline = None;
        }
    }

    fn fail(&mut self, error: ClientError) -> ClientError {
        self.close(error.reason());
        error
    }

    const fn state_name(&self) -> &'static str {
        match self.state {
            State::Options => "waiting for the answer to OPTIONS",
            State::Describe => "waiting for the answer to DESCRIBE or ANNOUNCE",
            State::Ports => "waiting for ports",
            State::Setup(_) => "waiting for the answer to SETUP",
            State::Start => "waiting for the answer to PLAY or RECORD",
            State::Flowing => "media flows",
            State::Closed(_) => "closed",
        }
    }

    fn ask(&mut self, now: Instant, request: Request) {
        let bytes = self.exchange.send(now, request);
        self.out.push_back(bytes);
    }

    fn advance(&mut self, now: Instant) -> Result<(), ClientError> {
        while !matches!(self.state, State::Closed(_)) {
            let item = match self.decoder.poll() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(error) => return Err(ClientError::Wire { state: self.state_name(), error }),
            };
            match item {
                Item::Frame(frame) => self.handle_frame(now, frame)?,
                Item::Response(response) => self.handle_response(now, response)?,
                Item::Request(request) => self.handle_request(&request)?,
            }
        }
        Ok(())
    }

    fn handle_response(&mut self, now: Instant, response: Response) -> Result<(), ClientError> {
        let (method, response) = match self.exchange.handle(now, response)? {
            Answer::To(method, response) => (method, response),
            Answer::Again(bytes) => {
                self.out.push_back(bytes);
                return Ok(());
            }
            Answer::Stray => return Ok(()),
        };
        if matches!(response.status.0, 301..=303 | 307 | 308) && self.state != State::Flowing {
            let location =
                response.headers.get("Location").and_then(|location| self.url.redirected(location));
            let elsewhere = location.ok_or_else(|| refusal(method, &response))?;
            self.move_to(elsewhere);
            return Ok(());
        }
        match self.state {
            State::Options => self.handle_options(now, &response),
            State::Describe if method == Method::Describe => self.handle_description(now, &response)?,
            State::Describe if response.status.is_success() => self.choose_ports(now),
            State::Setup(at) => return self.handle_setup(now, at, method, &response),
            State::Start => return self.handle_start(now, method, &response),
            State::Flowing => return self.handle_kept(&response),
            _ => return Err(refusal(method, &response)),
        }
        Ok(())
    }

    fn move_to(&mut self, url: RtspUrl) {
        self.events.push_back(ClientEvent::Moved(Box::new(url)));
        self.close(CloseReason::PeerClosed);
    }

    /// Whatever the server answers to OPTIONS, it is asked for the rest.
    fn handle_options(&mut self, now: Instant, response: &Response) {
        if response.status.is_success() {
            self.keep_alive.note_public(&response.headers);
        }
        let uri = self.url.request_uri();
        let request = match &self.flow {
            Flow::Push(sending) => {
                let keys = self.keys.as_ref().filter(|_| self.protects());
                Request::new(Method::Announce, uri).with_body("application/sdp", sending.description(keys))
            }
            _ => Request::new(Method::Describe, uri).with("Accept", "application/sdp"),
        };
        let request = if self.via.is_empty() { request } else { request.with(via::HEADER, &self.via) };
        self.state = State::Describe;
        self.ask(now, request);
    }

    fn handle_description(&mut self, now: Instant, response: &Response) -> Result<(), ClientError> {
        if !response.status.is_success() {
            return Err(refusal(Method::Describe, response));
        }
        let described = Described::decode(&self.url, response)?;
        self.came_through = response.headers.get(via::HEADER).map(Via::decode).unwrap_or_default();
        if self.config.carriage == Carriage::Automatic
            && !self.url.tls
            && described.media.iter().all(|medium| medium.group.is_some())
        {
            self.carriages.push(Carriage::Multicast);
        }
        self.media.clone_from(&described.media);
        self.aggregate.clone_from(&described.aggregate);
        self.flow = Flow::Pull(Box::new(Receiving::new(described, self.random, now)));
        self.choose_ports(now);
        Ok(())
    }

    /// Goes on with SETUP, behind ports where there are to be some.
    fn choose_ports(&mut self, now: Instant) {
        if self.carriages.first() == Some(&Carriage::Udp) && self.ports.is_empty() {
            self.state = State::Ports;
            self.events.push_back(ClientEvent::PortsNeeded(self.media.len()));
        } else {
            self.set_up(now, 0);
        }
    }

    /// Every medium is set up: asks for media to flow.
    fn start(&mut self, now: Instant) {
        let method = if matches!(self.flow, Flow::Push(_)) { Method::Record } else { Method::Play };
        let ordered = !self.is_over_datagrams();
        if let Flow::Pull(receiving) = &mut self.flow {
            receiving.start(now, ordered);
        }
        self.punch();
        self.state = State::Start;
        let request = Request::new(method, self.aggregate.clone()).with("Range", Range::BEGINNING);
        self.ask(now, request);
    }

    fn handle_start(&mut self, now: Instant, method: Method, response: &Response) -> Result<(), ClientError> {
        if !response.status.is_success() {
            return Err(refusal(method, response));
        }
        if let Flow::Pull(receiving) = &mut self.flow {
            let info = response.headers.get("RTP-Info").and_then(|info| info.parse().ok());
            receiving.started(now, &info.unwrap_or_default());
        }
        self.state = State::Flowing;
        self.deadline = None;
        self.keep_alive.start(now, self.exchange.timeout());
        self.events.push_back(ClientEvent::Started);
        self.drain_media();
        Ok(())
    }

    fn is_over_datagrams(&self) -> bool {
        self.carriages.first().is_some_and(|carriage| carriage.is_datagrams())
    }

    fn handle_kept(&mut self, response: &Response) -> Result<(), ClientError> {
        self.keep_alive.answered(response.status);
        if response.status == Status::SESSION_NOT_FOUND { Err(ClientError::Ended) } else { Ok(()) }
    }

    /// Servers ask too: what is harmless is answered, and good-byes are taken.
    fn handle_request(&mut self, request: &Request) -> Result<(), ClientError> {
        let status = match &request.method {
            Method::Options
            | Method::GetParameter
            | Method::SetParameter
            | Method::Announce
            | Method::Redirect => Status::OK,
            Method::Teardown => return Err(ClientError::Ended),
            _ => Status::NOT_IMPLEMENTED,
        };
        let mut response = Response::new(status);
        for name in ["CSeq", "Session"] {
            if let Some(value) = request.headers.get(name) {
                response.headers.push(name, value);
            }
        }
        if request.method == Method::Options {
            response
                .headers
                .push("Public", "OPTIONS, GET_PARAMETER, SET_PARAMETER, ANNOUNCE, REDIRECT, TEARDOWN");
        }
        self.out.push_back(response.to_bytes());
        if request.method == Method::Redirect {
            let location = request.headers.get("Location").and_then(|location| self.url.redirected(location));
            self.move_to(location.unwrap_or_else(|| self.url.clone()));
        }
        Ok(())
    }

    fn handle_flow_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        if self
            .exchange
            .waits_since()
            .is_some_and(|sent| now.saturating_duration_since(sent) >= self.config.setup)
        {
            // Servers that are busy sending media do not always answer.
            self.exchange.give_up();
        }
        let datagrams = self.is_over_datagrams();
        if let Flow::Pull(receiving) = &mut self.flow {
            let first = self.config.first_datagram;
            if datagrams && self.carriages.len() > 1 && receiving.none_came(now, first) {
                self.events.push_back(ClientEvent::NoDatagrams);
                self.finish(now, CloseReason::Timeout(Phase::Idle));
                return Ok(());
            }
            if receiving.is_over(now) {
                return Err(ClientError::Ended);
            }
            if receiving.is_stalled(now, self.config.stall) {
                return Err(ClientError::Timeout(Phase::Idle));
            }
        }
        if self.exchange.waits_since().is_none()
            && let Some(method) = self.keep_alive.take(now, self.exchange.timeout())
        {
            self.ask(now, Request::new(method, self.aggregate.clone()));
        }
        Ok(())
    }

    /// When [`handle_timeout`](Machine::handle_timeout) is due.
    fn wake(&self) -> Option<Instant> {
        let flow = match &self.flow {
            Flow::Undescribed | Flow::Push(_) => None,
            Flow::Pull(receiving) => {
                let others = self.is_over_datagrams() && self.carriages.len() > 1;
                receiving.wake(others.then_some(self.config.first_datagram), self.config.stall)
            }
        };
        let flowing = self.is_flowing();
        let unanswered = self.exchange.waits_since().and_then(|sent| sent.checked_add(self.config.setup));
        // One question at a time: what is due while an answer is waited for is asked after it.
        let keep_alive = self.keep_alive.due().filter(|_| unanswered.is_none());
        let rest = [flow, unanswered, keep_alive].into_iter().flatten().filter(|_| flowing);
        rest.chain(self.deadline).min()
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        match self.state {
            State::Closed(_) => assert!(self.deadline.is_none()),
            State::Flowing => assert!(self.deadline.is_none() && self.routes.len() == self.media.len()),
            State::Setup(at) => assert!(at < self.media.len() && self.deadline.is_some()),
            _ => assert!(self.deadline.is_some()),
        }
    }
}

fn refusal(method: Method, response: &Response) -> ClientError {
    ClientError::rejected(method, response.status, &response.reason)
}

impl Machine for ClientSession {
    type Event = ClientEvent;
    type Error = ClientError;

    fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), ClientError> {
        if self.closed().is_some() {
            return Ok(());
        }
        self.decoder.push(input);
        self.advance(now).map_err(|error| self.fail(error))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(self.fail(ClientError::Timeout(Phase::Command)));
        }
        if self.is_flowing() {
            self.handle_media_timeout(now);
            self.handle_flow_timeout(now).map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Output<ClientEvent> {
        if let Some(now) = self.unasked.take() {
            self.ask(now, Request::new(Method::Options, self.url.request_uri()));
        }
        if let Some(bytes) = self.out.pop_front() {
            return Output::Transmit(bytes);
        }
        match self.events.pop_front() {
            Some(event) => Output::Event(event),
            None => Output::Wait(self.wake().filter(|_| self.closed().is_none())),
        }
    }
}
