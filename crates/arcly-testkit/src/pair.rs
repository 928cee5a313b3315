//! Two machines joined by two links: every network condition as a unit test.
//!
//! ```text
//!  client ──poll_output──▶ to_server ──handle_input──▶ server
//!         ◀─handle_input── to_client ◀──poll_output──
//! ```
//!
//! A test mutates one side, then calls [`settle`](Pair::settle) or [`run_for`](Pair::run_for), then looks at
//! the [`events`](Side::events). Time passes only inside `run_for`, and inside `settle` as far as bytes on the
//! way need it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine, Output};

use crate::clock::Clock;
use crate::net::{Link, StreamLink};

/// Inputs after which two machines that still talk without time passing are called endless.
const MAX_STEPS: usize = 1_000_000;

/// One machine, and what it has said.
pub struct Side<M: Machine> {
    /// The machine; a test may call any of its methods between runs.
    pub machine: M,
    /// Events in order. A test takes out what it has seen.
    pub events: VecDeque<M::Event>,
    /// The error that ended the machine.
    pub error: Option<M::Error>,
    wake: Option<Instant>,
}

impl<M: Machine> Side<M> {
    const fn new(machine: M) -> Self {
        Self { machine, events: VecDeque::new(), error: None, wake: None }
    }

    /// Drains the machine's output into `link`.
    fn drain(&mut self, now: Instant, link: &mut impl Link) {
        for _ in 0..MAX_STEPS {
            match self.machine.poll_output() {
                Output::Transmit(data) => link.send(now, data),
                Output::Event(event) => self.events.push_back(event),
                Output::Wait(wake) => {
                    self.wake = wake.filter(|_| self.error.is_none());
                    return;
                }
            }
        }
        panic!("the machine puts out without end");
    }

    /// Delivers what has arrived, and the time when it is due; true when either happened.
    fn deliver(&mut self, now: Instant, link: &mut impl Link) -> bool {
        if let Some(data) = link.receive(now) {
            if self.error.is_none() {
                self.error = self.machine.handle_input(now, &data).err();
            }
            return true;
        }
        let due = self.error.is_none() && self.wake.is_some_and(|wake| wake <= now);
        if due {
            self.wake = None;
            self.error = self.machine.handle_timeout(now).err();
        }
        due
    }
}

/// A client and a server, or any two machines.
pub struct Pair<C: Machine, S: Machine, L: Link = StreamLink> {
    /// One machine.
    pub client: Side<C>,
    /// The other.
    pub server: Side<S>,
    /// From client to server.
    pub to_server: L,
    /// From server to client.
    pub to_client: L,
    /// Virtual time, the same for both.
    pub clock: Clock,
}

impl<C: Machine, S: Machine> Pair<C, S> {
    /// Two machines that were made at `clock.now()`, joined by links without delay.
    pub const fn new(clock: Clock, client: C, server: S) -> Self {
        Self::over(clock, client, server, StreamLink::new(1), StreamLink::new(2))
    }
}

impl<C: Machine, S: Machine, L: Link> Pair<C, S, L> {
    /// Two machines joined by the given links.
    pub const fn over(clock: Clock, client: C, server: S, to_server: L, to_client: L) -> Self {
        Self { client: Side::new(client), server: Side::new(server), to_server, to_client, clock }
    }

    /// Virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Drives both until nothing is on the way. Time-outs fire only when they come due before bytes arrive.
    pub fn settle(&mut self) {
        self.pump();
        while let Some(at) = self.next_arrival() {
            let next = self.next_wake().map_or(at, |wake| wake.min(at));
            self.clock.advance_to(next);
            self.pump();
        }
    }

    /// Drives both for a span of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now() + span;
        self.pump();
        while let Some(next) = self.next_arrival().into_iter().chain(self.next_wake()).min() {
            if next > end {
                break;
            }
            self.clock.advance_to(next);
            self.pump();
        }
        self.clock.advance_to(end);
        self.pump();
    }

    /// Both machines without their links, for a test that goes on by hand.
    pub fn into_machines(self) -> (C, S) {
        (self.client.machine, self.server.machine)
    }

    /// Everything that happens at the present instant.
    fn pump(&mut self) {
        let now = self.now();
        for _ in 0..MAX_STEPS {
            self.client.drain(now, &mut self.to_server);
            self.server.drain(now, &mut self.to_client);
            let server_moved = self.server.deliver(now, &mut self.to_server);
            let client_moved = self.client.deliver(now, &mut self.to_client);
            if !server_moved && !client_moved {
                return;
            }
        }
        panic!("two machines talk without end, and no time passes");
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.to_server.next_arrival().into_iter().chain(self.to_client.next_arrival()).min()
    }

    fn next_wake(&self) -> Option<Instant> {
        self.client.wake.into_iter().chain(self.server.wake).min()
    }
}

#[cfg(test)]
mod tests;
