//! Two ends, a path each way, and virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine as _, Output};
use arcly_srt::session::{Connection, Endpoint, Event, Listener, Message, SendOptions, Verdict};
use arcly_srt::wire::{SeqNumber, SocketId};
use arcly_srt::{Config, SessionError};
use arcly_testkit::rng::Rng;
use bytes::Bytes;

use super::net::{Link, Path};

pub(crate) const CALLER: &str = "192.0.2.1:40000";
pub(crate) const LISTENER: &str = "192.0.2.2:8890";

/// A clock that runs at another speed than the world's.
#[derive(Clone, Copy)]
pub(crate) struct Drifting {
    start: Instant,
    ppm: i64,
}

impl Drifting {
    fn local(self, now: Instant) -> Instant {
        let since = i128::try_from((now - self.start).as_nanos()).unwrap();
        let own = since + since * i128::from(self.ppm) / 1_000_000;
        self.start + Duration::from_nanos(u64::try_from(own).unwrap())
    }

    /// The world's time at which this clock shows `local`, or just after.
    fn world(self, local: Instant) -> Instant {
        let since = i128::try_from((local.saturating_duration_since(self.start)).as_nanos()).unwrap();
        let own = since * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        let mut at = self.start + Duration::from_nanos(u64::try_from(own).unwrap());
        while self.local(at) < local {
            at += Duration::from_nanos(1);
        }
        at
    }
}

/// One end.
pub(crate) struct End {
    pub connection: Option<Connection>,
    pub messages: VecDeque<(Instant, Message)>,
    pub connected: bool,
    pub dropped: u64,
    pub error: Option<SessionError>,
    pub clock: Drifting,
    wake: Option<Instant>,
}

impl End {
    fn new(clock: Drifting) -> Self {
        Self {
            connection: None,
            messages: VecDeque::new(),
            connected: false,
            dropped: 0,
            error: None,
            clock,
            wake: None,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("there is a connection")
    }

    fn drain(&mut self, now: Instant, link: &mut Link) {
        let Some(connection) = &mut self.connection else { return };
        loop {
            match connection.poll_output() {
                Output::Transmit(data) => link.send(now, data),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::Message(message)) => self.messages.push_back((now, message)),
                Output::Event(Event::Dropped { packets }) => self.dropped += packets,
                Output::Event(_) => {}
                Output::Wait(wake) => {
                    self.wake = wake.map(|wake| self.clock.world(wake).max(now));
                    return;
                }
            }
        }
    }

    fn receive(&mut self, now: Instant, data: Bytes) {
        let local = self.clock.local(now);
        if let Some(connection) = &mut self.connection {
            let result = connection.handle_datagram(local, data);
            self.keep(result);
        }
    }

    fn time_out(&mut self, now: Instant) -> bool {
        if self.wake.is_none_or(|wake| wake > now) {
            return false;
        }
        self.wake = None;
        let local = self.clock.local(now);
        if let Some(connection) = &mut self.connection {
            let result = connection.handle_timeout(local);
            self.keep(result);
        }
        true
    }

    fn keep(&mut self, result: Result<(), SessionError>) {
        if let Err(error) = result {
            self.error = Some(error);
        }
    }
}

/// How a world is made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub seed: u64,
    pub path: Path,
    pub caller: Config,
    pub listener: Config,
    pub initial_seq: u32,
    /// How much faster the listener's clock runs.
    pub drift_ppm: i64,
    pub rendezvous: bool,
}

impl Setup {
    pub(crate) fn new(seed: u64, path: Path, latency_ms: u64) -> Self {
        let mut config = Config::default();
        config.receiver_latency = Duration::from_millis(latency_ms);
        Self {
            seed,
            path,
            caller: config.clone(),
            listener: config,
            initial_seq: 1_000,
            drift_ppm: 0,
            rendezvous: false,
        }
    }
}

/// A caller, a listener, and what is between them.
pub(crate) struct World {
    pub now: Instant,
    pub start: Instant,
    pub caller: End,
    pub callee: End,
    pub listener: Option<Listener>,
    pub to_callee: Link,
    pub to_caller: Link,
    pub seed: u64,
    config: Config,
    next_id: u32,
}

pub(crate) fn entropy(seed: u64) -> Box<dyn arcly_srt::crypto::Entropy> {
    let mut rng = Rng::new(seed);
    Box::new(move |out: &mut [u8]| out.copy_from_slice(&rng.bytes(out.len())))
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let start = Instant::now();
        let same = Drifting { start, ppm: 0 };
        let mut world = Self {
            now: start,
            start,
            caller: End::new(same),
            callee: End::new(Drifting { start, ppm: setup.drift_ppm }),
            listener: None,
            to_callee: Link::new(setup.seed * 4 + 1, setup.path),
            to_caller: Link::new(setup.seed * 4 + 2, setup.path),
            seed: setup.seed,
            config: setup.listener,
            next_id: 70,
        };
        let seq = SeqNumber::new(setup.initial_seq);
        if setup.rendezvous {
            let near = endpoint(CALLER, 70, seq.plus(5_000));
            let made = Connection::rendezvous(start, near, world.config.clone(), entropy(setup.seed + 7));
            world.callee.connection = Some(made.unwrap());
            let far = endpoint(LISTENER, 60, seq);
            let made = Connection::rendezvous(start, far, setup.caller, entropy(setup.seed + 8));
            world.caller.connection = Some(made.unwrap());
        } else {
            world.listener = Some(Listener::new(start, [7; 32]));
            world.call(setup.caller, 60, seq);
        }
        world
    }

    /// Calls, or calls again.
    pub(crate) fn call(&mut self, config: Config, id: u32, seq: SeqNumber) {
        let far = endpoint(LISTENER, id, seq);
        let made = Connection::connect(self.now, far, config, entropy(self.seed + u64::from(id)));
        self.caller = End::new(self.caller.clock);
        self.callee.error = None;
        self.caller.connection = Some(made.unwrap());
    }

    /// Runs until both ends are connected; panics when they are not in time.
    pub(crate) fn connect(&mut self) {
        let end = self.now + Duration::from_secs(10);
        while !(self.caller.connected
            && self.callee.connection.as_ref().is_some_and(Connection::is_connected))
        {
            let state = (&self.caller.error, &self.callee.error);
            assert!(self.now < end && state == (&None, &None), "seed {}: {state:?}", self.seed);
            self.run_for(Duration::from_millis(10));
        }
    }

    pub(crate) fn send(&mut self, payload: Bytes) {
        let now = self.caller.clock.local(self.now);
        let connection = self.caller.connection.as_mut().expect("a caller");
        if let Err(error) = connection.send(now, payload, SendOptions::default()) {
            panic!("seed {}: {error} after {:?}", self.seed, self.now - self.start);
        }
        self.caller.drain(self.now, &mut self.to_callee);
    }

    pub(crate) fn close_caller(&mut self) {
        let now = self.caller.clock.local(self.now);
        self.caller.connection.as_mut().expect("a caller").close(now);
        self.caller.drain(self.now, &mut self.to_callee);
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            self.pump();
            let arrivals = [self.to_callee.next_arrival(), self.to_caller.next_arrival()];
            let next = arrivals.into_iter().chain([self.caller.wake, self.callee.wake]).flatten().min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// Everything that happens now.
    fn pump(&mut self) {
        for step in 0.. {
            assert!(step < 1_000_000, "seed {}: they talk without end, and no time passes", self.seed);
            let now = self.now;
            self.caller.drain(now, &mut self.to_callee);
            self.callee.drain(now, &mut self.to_caller);
            let mut moved = false;
            if let Some(data) = self.to_callee.receive(now) {
                self.arrive_at_callee(data);
                moved = true;
            }
            if let Some(data) = self.to_caller.receive(now) {
                self.caller.receive(now, data);
                moved = true;
            }
            moved |= self.caller.time_out(now);
            moved |= self.callee.time_out(now);
            if !moved {
                return;
            }
        }
    }

    fn arrive_at_callee(&mut self, data: Bytes) {
        let destination = arcly_srt::wire::destination(&data);
        let known = self.callee.connection.as_ref().map(Connection::local_id);
        if self.listener.is_none() || (destination.is_some() && destination == known) {
            return self.callee.receive(self.now, data);
        }
        let now = self.callee.clock.local(self.now);
        let from: SocketAddr = CALLER.parse().unwrap();
        let Some(listener) = &mut self.listener else { return };
        match listener.handle_datagram(now, from, &data) {
            Verdict::Ignored(_) => {}
            Verdict::Reply(reply) | Verdict::Refused { answer: reply, .. } => {
                self.to_caller.send(self.now, reply)
            }
            Verdict::Repeated(id) if Some(id) == known => self.callee.receive(self.now, data),
            Verdict::Repeated(_) => {}
            Verdict::Request(request) => {
                let id = SocketId(self.next_id);
                self.next_id += 1;
                let config = self.config.clone();
                let entropy = entropy(self.seed + 9);
                match listener.accept(now, *request, id, config, entropy) {
                    Ok(connection) => {
                        if let Some(old) = self.callee.connection.replace(connection) {
                            listener.forget(now, &old);
                        }
                        self.callee.error = None;
                    }
                    Err((_, reply)) => self.to_caller.send(self.now, reply),
                }
            }
        }
    }
}

fn endpoint(remote: &str, local: u32, initial_seq: SeqNumber) -> Endpoint {
    Endpoint { remote: remote.parse().unwrap(), local: SocketId(local), initial_seq }
}

/// Live media: a packet of `size` bytes every `interval`, with its number in front.
pub(crate) struct Media {
    pub interval: Duration,
    pub size: usize,
    pub sent: u64,
}

impl Media {
    /// 400 packets of 1 316 bytes a second: what the table of libsrt was measured with.
    pub(crate) const TABLE: Self = Self { interval: Duration::from_micros(2_500), size: 1_316, sent: 0 };

    pub(crate) fn payload(n: u64, size: usize) -> Bytes {
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.resize(size, (n % 251) as u8);
        bytes.into()
    }

    /// Sends for so long.
    pub(crate) fn run(&mut self, world: &mut World, span: Duration) {
        let end = world.now + span;
        while world.now < end && world.caller.error.is_none() {
            world.send(Self::payload(self.sent, self.size));
            self.sent += 1;
            world.run_for(self.interval);
        }
    }
}

/// What came of media.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub received: u64,
    pub out_of_order: u64,
    pub changed: u64,
    /// From being sent to being handed over, in microseconds, sorted.
    pub delays: Vec<u64>,
}

impl Outcome {
    /// Takes what the callee has been handed; `sent_at` says when each was sent.
    pub(crate) fn of(world: &mut World, size: usize, sent_at: impl Fn(u64) -> Option<Instant>) -> Self {
        let mut outcome = Self::default();
        let mut next = 0;
        for (at, message) in world.callee.messages.drain(..) {
            let number = message.payload.first_chunk().map_or(u64::MAX, |head| u64::from_be_bytes(*head));
            if message.payload != Media::payload(number, size) {
                outcome.changed += 1;
                continue;
            }
            outcome.out_of_order += u64::from(number < next);
            next = next.max(number + 1);
            outcome.received += 1;
            if let Some(sent) = sent_at(number) {
                outcome.delays.push(u64::try_from((at - sent).as_micros()).unwrap());
            }
        }
        outcome.delays.sort_unstable();
        outcome
    }

    pub(crate) fn delay(&self, percent: usize) -> Duration {
        let place = (self.delays.len() * percent / 100).min(self.delays.len().saturating_sub(1));
        Duration::from_micros(self.delays.get(place).copied().unwrap_or(0))
    }
}
