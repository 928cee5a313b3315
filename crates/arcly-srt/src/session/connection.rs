//! One connection, from the first handshake packet to the last word.
//!
//! ```text
//!  Caller ──┐
//!  Waving ──┴──(established)──▶ Open ──(close)──▶ Lingering ──▶ Over
//!  accepted ──────────────────▶  │ SHUTDOWN, silence, error ──▶ Over
//! ```

mod known;
mod member;
mod open;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::Phase;
use arcly_core::machine::{Machine, Output};
use bytes::{Bytes, BytesMut};

pub(super) use self::member::Link;
use self::open::Open;
use super::clock::{Clock, micros, stamp};
use super::handshake::caller::Caller;
use super::handshake::rendezvous::Rendezvous;
use super::handshake::{Endpoint, Established, RETRY, Setup, Step};
use super::receive::Message;
use super::send::Sending;
use super::statistics::Totals;
use crate::config::Config;
use crate::crypto::{Crypto, Entropy};
use crate::error::SessionError;
use crate::wire::{
    Control, ControlPacket, Handshake, HandshakeKind, MsgNumber, Packet, SeqNumber, SocketId, TimeStamp,
};

/// What the owner of a connection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection is made; [`Connection::negotiated`] says how. What [`Listener::accept`](super::Listener::accept) returns
    /// is made already.
    Connected,
    /// A message, when it is due.
    Message(Message),
    /// So many packets were given up: it was too late for them, or the peer says that they will not come.
    Dropped {
        /// How many.
        packets: u64,
    },
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// It need not be sent any more after so long.
    pub ttl: Option<Duration>,
    /// It may not be handed over before those that were sent earlier. Without meaning in live mode, which has the order of
    /// time.
    pub in_order: bool,
    /// When it came to be, if not now: what its time of delivery is counted from.
    pub origin: Option<Instant>,
    /// The number of its packet and its own, which are the same on every path of a group.
    pub(super) number: Option<(SeqNumber, MsgNumber)>,
}

/// A message that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection, yet or any more.
    #[error("not connected")]
    NotConnected,
    /// It is longer than a message may be.
    #[error("a message of more than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// There is nothing in it.
    #[error("an empty message")]
    Empty,
    /// The buffer is full: the peer, or the bandwidth that was allowed, does not take more.
    #[error("the send buffer is full")]
    Full,
}

enum State {
    Calling(Calling),
    Open(Box<Open>),
    Over,
}

/// A connection that is not there yet.
struct Calling {
    how: How,
    retry: i64,
    deadline: i64,
}

enum How {
    Caller(Caller),
    Rendezvous(Rendezvous),
}

/// What a connection says.
#[derive(Default)]
struct Outbox {
    datagrams: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

/// One connection with one peer: a caller's, a listener's or a rendezvous'.
///
/// Its owner hands it what comes from [`remote`](Self::remote) for [`local_id`](Self::local_id), wakes it when
/// [`Output::Wait`] says, and drains [`poll_output`](Machine::poll_output) after each call. The first error of a `handle_*`
/// is its end: what is still in `poll_output` is to be sent and heard, and then it is to be forgotten.
pub struct Connection {
    config: Config,
    clock: Clock,
    endpoint: Endpoint,
    crypto: Option<Crypto>,
    entropy: Box<dyn Entropy>,
    state: State,
    out: Outbox,
    wake: Option<i64>,
    /// Once there was a connection: who the peer is, and where its packets began.
    peer: Option<(SocketId, SeqNumber)>,
    malformed: u64,
    /// What was counted, once the connection is over.
    counted: Totals,
}

impl Connection {
    /// Calls a listener.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn connect(
        now: Instant,
        endpoint: Endpoint,
        config: Config,
        entropy: Box<dyn Entropy>,
    ) -> Result<Self, SessionError> {
        Self::calling(now, endpoint, config, entropy, |setup| How::Caller(Caller::new(setup)))
    }

    /// Calls a peer that calls this side.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn rendezvous(
        now: Instant,
        endpoint: Endpoint,
        config: Config,
        entropy: Box<dyn Entropy>,
    ) -> Result<Self, SessionError> {
        Self::calling(now, endpoint, config, entropy, |setup| How::Rendezvous(Rendezvous::new(setup)))
    }

    fn calling(
        now: Instant,
        endpoint: Endpoint,
        config: Config,
        mut entropy: Box<dyn Entropy>,
        how: impl FnOnce(&mut Setup<'_>) -> How,
    ) -> Result<Self, SessionError> {
        let config = config.clamped();
        let mut crypto = config.crypto.as_ref().map(Crypto::new).transpose()?;
        let mut setup = Setup { now, config: &config, endpoint, crypto: &mut crypto, entropy: &mut *entropy };
        let how = how(&mut setup);
        let clock = Clock::new(config.membership.map_or(now, |member| member.epoch));
        let retry = clock.micros(now);
        let deadline = retry.saturating_add(micros(config.connect_timeout));
        let state = State::Calling(Calling { how, retry, deadline });
        let out = Outbox::default();
        let mut this = Self {
            config,
            clock,
            endpoint,
            crypto,
            entropy,
            state,
            out,
            wake: None,
            peer: None,
            malformed: 0,
            counted: Totals::default(),
        };
        this.pump(now);
        Ok(this)
    }

    /// A connection that a listener has accepted; `heard` is when the conclusion came, and its time stamp.
    pub(super) fn accepted(
        now: Instant,
        endpoint: Endpoint,
        (config, crypto, entropy): (Config, Option<Crypto>, Box<dyn Entropy>),
        established: Established,
        heard: (Instant, TimeStamp),
    ) -> Self {
        let clock = Clock::new(config.membership.map_or(now, |member| member.epoch));
        let mut this = Self {
            config,
            clock,
            endpoint,
            crypto,
            entropy,
            state: State::Over,
            out: Outbox::default(),
            wake: None,
            peer: None,
            malformed: 0,
            counted: Totals::default(),
        };
        this.establish(now, established, (clock.micros(heard.0), heard.1));
        this.pump(now);
        this
    }

    /// Takes a datagram without copying it. See [`Machine::handle_input`].
    ///
    /// # Errors
    /// The peer refuses or closes. What does not decode, or is for somebody else, is counted and passed over: anybody may
    /// have sent it.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Bytes) -> Result<(), SessionError> {
        let packet = Packet::decode(&datagram);
        drop(datagram);
        let result = match packet {
            Ok(packet) if self.is_for_this(&packet) => self.handle_packet(now, packet),
            _ => {
                self.malformed += 1;
                Ok(())
            }
        };
        self.finish(now, result)
    }

    /// Whether a packet is for this connection: handshakes may come before the peer knows its id.
    fn is_for_this(&self, packet: &Packet) -> bool {
        match packet {
            Packet::Data(packet) => packet.header.destination == self.endpoint.local,
            Packet::Control(ControlPacket { destination, control, .. }) => {
                let opens = matches!(control, Control::Handshake(_));
                *destination == self.endpoint.local || (opens && *destination == SocketId::HANDSHAKE)
            }
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<(), SessionError> {
        let at = self.clock.micros(now);
        match (&mut self.state, packet) {
            (
                State::Calling(_),
                Packet::Control(ControlPacket { timestamp, control: Control::Handshake(handshake), .. }),
            ) => self.handle_handshake(now, timestamp, &handshake),
            (State::Open(open), Packet::Control(packet)) => {
                open.handle_control(now, at, packet, &mut self.crypto, &mut self.out)
            }
            (State::Open(open), Packet::Data(packet)) => {
                open.handle_data(at, packet, self.crypto.as_ref());
                Ok(())
            }
            // Data that has overtaken the answer to a conclusion is asked for again once there is a connection.
            _ => Ok(()),
        }
    }

    fn handle_handshake(
        &mut self,
        now: Instant,
        timestamp: TimeStamp,
        packet: &Handshake,
    ) -> Result<(), SessionError> {
        let at = self.clock.micros(now);
        let State::Calling(calling) = &mut self.state else { return Ok(()) };
        let setup = &mut Setup {
            now,
            config: &self.config,
            endpoint: self.endpoint,
            crypto: &mut self.crypto,
            entropy: &mut *self.entropy,
        };
        let step = match &mut calling.how {
            How::Caller(caller) => caller.handle(packet, setup),
            How::Rendezvous(rendezvous) => rendezvous.handle(packet, setup),
        };
        match step {
            Ok(Step::Nothing) => {}
            Ok(Step::Send) => calling.retry = at,
            Ok(Step::Established(established)) => {
                self.establish(now, *established, (at, timestamp));
                self.out.events.push_back(Event::Connected);
            }
            Err(SessionError::Refused(reason)) => {
                let answer = setup.packet(HandshakeKind::Rejected(reason), packet.cookie);
                self.out.control(at, packet.socket_id, Control::Handshake(answer));
                return Err(SessionError::Refused(reason));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn establish(&mut self, now: Instant, established: Established, heard: (i64, TimeStamp)) {
        let at = self.clock.micros(now);
        self.peer = Some((established.peer, established.peer_seq));
        let mut open = Open::new(at, &self.config, self.endpoint, established, heard);
        open.answer(at, &mut self.out);
        self.state = State::Open(Box::new(open));
    }

    /// Takes a message to send. Of a stream ([`TransmissionMode::File`](crate::TransmissionMode::File)) it is the next bytes, and has no boundaries.
    ///
    /// # Errors
    /// It is not taken, and nothing has changed.
    pub fn send(
        &mut self,
        now: Instant,
        payload: Bytes,
        options: SendOptions,
    ) -> Result<MsgNumber, SendError> {
        let at = self.clock.micros(now);
        let how = Sending {
            in_order: options.in_order,
            expires: options.ttl.map(|ttl| at.saturating_add(micros(ttl))),
            // Nothing is sent before it is there, nor has it been waiting for longer than anybody keeps things.
            origin: options.origin.map_or(at, |origin| self.clock.micros(origin).min(at)),
            number: options.number,
        };
        let State::Open(open) = &mut self.state else { return Err(SendError::NotConnected) };
        let number = open.send(at, payload, how)?;
        self.pump(now);
        Ok(number)
    }

    /// Packets that there is room for in the send buffer.
    #[must_use]
    pub fn send_room(&self) -> usize {
        match &self.state {
            State::Open(open) => open.sender.room(),
            _ => 0,
        }
    }

    /// Packets that were not sent, or not again, because it was too late for them.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        match &self.state {
            State::Open(open) => open.sender.counters().dropped,
            _ => 0,
        }
    }

    /// When the newest of them was to be sent ([`SendOptions::origin`]), rounded up to a microsecond.
    #[must_use]
    pub fn given_up_until(&self) -> Option<Instant> {
        match &self.state {
            State::Open(open) => {
                open.sender.counters().dropped_until.map(|origin| self.clock.instant(origin + 1))
            }
            _ => None,
        }
    }

    /// Stops handing messages over, or goes on with it. While it is stopped the window closes, and a peer in file mode
    /// stops sending; in live mode messages become too late.
    pub fn hold(&mut self, now: Instant, held: bool) {
        let at = self.clock.micros(now);
        if let State::Open(open) = &mut self.state {
            open.receiver.hold(at, held);
        }
        self.pump(now);
    }

    /// Closes the connection: at once in live mode, and in file mode once everything has been acknowledged, or
    /// [`Config::linger`] has passed. [`is_over`](Self::is_over) says when it has been.
    pub fn close(&mut self, now: Instant) {
        let at = self.clock.micros(now);
        if let State::Open(open) = &mut self.state {
            let lingers = self.config.mode.is_file() && !open.sender.is_drained();
            if lingers {
                open.linger(at + micros(self.config.linger));
                self.pump(now);
                return;
            }
            open.say_goodbye(at, &mut self.out);
        }
        self.end();
    }

    fn end(&mut self) {
        if let State::Open(open) = &self.state {
            self.counted = open.totals();
        }
        self.state = State::Over;
        self.wake = None;
    }

    /// Hands on what there is to say, and ends the connection if it has to.
    fn finish(&mut self, now: Instant, result: Result<(), SessionError>) -> Result<(), SessionError> {
        let at = self.clock.micros(now);
        let result = result.and_then(|()| match &self.state {
            State::Open(open) if open.has_lingered(at) => Err(SessionError::Closed),
            _ => Ok(()),
        });
        let Err(error) = result else {
            self.pump(now);
            return Ok(());
        };
        if let State::Open(open) = &mut self.state {
            open.flush(&mut self.out);
            if error != SessionError::PeerClosed {
                open.say_goodbye(at, &mut self.out);
            }
        }
        self.end();
        Err(error)
    }

    /// Says everything that there is to say now, and finds out when to go on.
    fn pump(&mut self, now: Instant) {
        let at = self.clock.micros(now);
        match &mut self.state {
            State::Calling(calling) => {
                if calling.retry <= at {
                    calling.retry = at + micros(RETRY);
                    let (to, packet) = match &calling.how {
                        // To nobody in particular; a conclusion, too, as libsrt sends it.
                        How::Caller(caller) => (SocketId::HANDSHAKE, caller.sending()),
                        How::Rendezvous(rendezvous) => (rendezvous.destination(), rendezvous.sending()),
                    };
                    self.out.control(at, to, Control::Handshake(packet.clone()));
                }
                self.wake = Some(calling.retry.min(calling.deadline));
            }
            State::Open(open) => {
                open.pump(now, at, &mut self.crypto, &mut *self.entropy, &mut self.out);
                let keys = self.crypto.as_ref().and_then(Crypto::poll_timeout);
                // A microsecond later: keys keep time in nanoseconds, and would not be due yet.
                let keys = keys.map(|keys| self.clock.micros(keys) + 1);
                self.wake = super::clock::earlier(open.wake(at), keys);
            }
            State::Over => self.wake = None,
        }
    }

    #[cfg(test)]
    pub(in crate::session) fn check_invariants(&self) {
        if let State::Open(open) = &self.state {
            open.sender.check_invariants();
            open.receiver.check_invariants();
        }
    }
}

impl Machine for Connection {
    type Event = Event;
    type Error = SessionError;

    fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), SessionError> {
        self.handle_datagram(now, Bytes::copy_from_slice(input))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        let at = self.clock.micros(now);
        let result = match &mut self.state {
            State::Calling(calling) if calling.deadline <= at => Err(SessionError::Timeout(Phase::Handshake)),
            State::Open(open) => open.handle_timeout(at),
            _ => Ok(()),
        };
        self.finish(now, result)
    }

    fn poll_output(&mut self) -> Output<Event> {
        if let Some(datagram) = self.out.datagrams.pop_front() {
            return Output::Transmit(datagram);
        }
        match self.out.events.pop_front() {
            Some(event) => Output::Event(event),
            None => Output::Wait(self.wake.map(|wake| self.clock.instant(wake))),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Calling(_) => "calling",
            State::Open(_) => "open",
            State::Over => "over",
        };
        let Endpoint { remote, local, .. } = self.endpoint;
        write!(f, "Connection({local} with {remote}, {state})")
    }
}

impl Outbox {
    fn control(&mut self, at: i64, destination: SocketId, control: Control) {
        let mut datagram = BytesMut::new();
        ControlPacket { timestamp: stamp(at), destination, control }.encode(&mut datagram);
        self.datagrams.push_back(datagram.freeze());
    }
}
