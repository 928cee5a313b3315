//! Whole connections, driven by hand: the rows of the catalogue of bad input that concern a session.

mod connections;
#[cfg(feature = "encryption")]
mod encrypted;
mod listeners;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine as _, Output};
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

use super::{Connection, Endpoint, Event, Listener, Request, Verdict};
use crate::config::Config;
use crate::crypto::Entropy;
use crate::error::SessionError;
use crate::wire::{Control, ControlPacket, RejectReason, SeqNumber, SocketId, TimeStamp};

const CALLER: &str = "192.0.2.1:40000";
const LISTENER: &str = "192.0.2.2:8890";
const CALLER_ID: SocketId = SocketId(60);
const LISTENER_ID: SocketId = SocketId(70);
const SEQ: SeqNumber = SeqNumber::new(5_000);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn entropy(seed: u64) -> Box<dyn Entropy> {
    let mut rng = Rng::new(seed);
    Box::new(move |out: &mut [u8]| out.copy_from_slice(&rng.bytes(out.len())))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint { remote: address(LISTENER), local: CALLER_ID, initial_seq: SEQ }
}

fn listener(now: Instant) -> Listener {
    Listener::new(now, [7; 32])
}

fn control(destination: SocketId, control: Control) -> Bytes {
    let mut datagram = BytesMut::new();
    ControlPacket { timestamp: TimeStamp::new(0), destination, control }.encode(&mut datagram);
    datagram.freeze()
}

/// One end, and what it has said.
struct End {
    connection: Connection,
    sent: VecDeque<Bytes>,
    events: Vec<Event>,
    wake: Option<Instant>,
    error: Option<SessionError>,
}

impl End {
    fn new(connection: Connection) -> Self {
        let mut end = Self { connection, sent: VecDeque::new(), events: Vec::new(), wake: None, error: None };
        end.drain();
        end
    }

    fn drain(&mut self) {
        loop {
            match self.connection.poll_output() {
                Output::Transmit(datagram) => self.sent.push_back(datagram),
                Output::Event(event) => self.events.push(event),
                Output::Wait(wake) => {
                    self.wake = wake;
                    break;
                }
            }
        }
        self.connection.check_invariants();
    }

    fn hear(&mut self, now: Instant, datagram: Bytes) {
        if self.error.is_none() {
            self.error = self.connection.handle_datagram(now, datagram).err();
            self.drain();
        }
    }

    fn time_out(&mut self, now: Instant) {
        if self.error.is_none() && self.wake.is_some_and(|wake| wake <= now) {
            self.error = self.connection.handle_timeout(now).err();
            self.drain();
        }
    }

    fn send(&mut self, now: Instant, payload: &'static [u8]) {
        self.connection.send(now, Bytes::from_static(payload), Default::default()).unwrap();
        self.drain();
    }

    fn messages(&self) -> Vec<&[u8]> {
        let messages = self.events.iter().filter_map(|event| match event {
            Event::Message(message) => Some(&message.payload[..]),
            _ => None,
        });
        messages.collect()
    }
}

/// A caller and a listener without a network between them: what one says the other hears at once.
struct Pair {
    now: Instant,
    listener: Listener,
    caller: End,
    callee: End,
    /// What the caller said while connecting.
    induction: Bytes,
    conclusion: Bytes,
}

/// The request that a caller's datagrams become, or what the listener answers to its conclusion.
fn request(now: Instant, listener: &mut Listener, caller: &mut End) -> (Bytes, Bytes, Verdict) {
    let from = address(CALLER);
    let induction = caller.sent.pop_front().unwrap();
    let Verdict::Reply(reply) = listener.handle_datagram(now, from, &induction) else { panic!("no reply") };
    caller.hear(now, reply);
    let conclusion = caller.sent.pop_front().unwrap();
    let verdict = listener.handle_datagram(now, from, &conclusion);
    (induction, conclusion, verdict)
}

fn calling(now: Instant, config: Config) -> End {
    End::new(Connection::connect(now, endpoint(), config, entropy(1)).unwrap())
}

impl Pair {
    fn new(caller: Config, listener: Config) -> Self {
        Self::try_new(caller, listener).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn try_new(caller: Config, config: Config) -> Result<Self, RejectReason> {
        let now = Instant::now();
        let (mut listener, mut caller) = (listener(now), calling(now, caller));
        let (induction, conclusion, verdict) = request(now, &mut listener, &mut caller);
        let Verdict::Request(request) = verdict else { panic!("{verdict:?}") };
        let accepted = listener.accept(now, *request, LISTENER_ID, config, entropy(2));
        let callee = match accepted {
            Ok(connection) => End::new(connection),
            Err((reason, reply)) => {
                caller.hear(now, reply);
                assert_eq!(caller.error, Some(SessionError::Rejected(reason)));
                return Err(reason);
            }
        };
        let mut pair = Self { now, listener, caller, callee, induction, conclusion };
        pair.settle();
        match pair.caller.error.take() {
            Some(SessionError::Refused(reason)) => Err(reason),
            None => Ok(pair),
            Some(error) => panic!("{error}"),
        }
    }

    fn live() -> Self {
        Self::new(Config::default(), Config::default())
    }

    fn settle(&mut self) {
        while let Some(datagram) = self.caller.sent.pop_front() {
            self.callee.hear(self.now, datagram);
        }
        while let Some(datagram) = self.callee.sent.pop_front() {
            self.caller.hear(self.now, datagram);
        }
        if !self.caller.sent.is_empty() {
            self.settle();
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.settle();
            let wakes = [self.caller.wake, self.callee.wake].into_iter().flatten();
            match wakes.filter(|wake| *wake <= end).min() {
                Some(wake) => self.now = self.now.max(wake),
                None => break,
            }
            self.caller.time_out(self.now);
            self.callee.time_out(self.now);
        }
        self.now = end;
    }
}

fn rejected(reply: &Bytes) -> Option<RejectReason> {
    use crate::wire::HandshakeKind;
    match ControlPacket::decode(reply).ok()?.control {
        Control::Handshake(packet) => match packet.kind {
            HandshakeKind::Rejected(reason) => Some(reason),
            _ => None,
        },
        _ => None,
    }
}

fn request_of(verdict: Verdict) -> Request {
    match verdict {
        Verdict::Request(request) => *request,
        other => panic!("{other:?}"),
    }
}
