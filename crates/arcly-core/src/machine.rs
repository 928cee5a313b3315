//! The contract of a sans-IO protocol machine.
//!
//! A machine owns no socket, reads no clock and spawns nothing. Its owner
//!
//! 1. hands in one input ([`handle_input`](Machine::handle_input), [`handle_timeout`](Machine::handle_timeout), or a
//!    method of the machine's own), with the time;
//! 2. calls [`poll_output`](Machine::poll_output) until it returns [`Output::Wait`];
//! 3. sleeps until that deadline or the next input, and starts again.
//!
//! The same machine therefore runs over tokio, in a simulator with virtual time, and under a fuzzer.

use std::time::Instant;

use bytes::Bytes;

/// What a machine wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<E> {
    /// Send these bytes to the peer, in order.
    Transmit(Bytes),
    /// Something happened that the owner acts on.
    Event(E),
    /// Nothing more until the next input, or until this instant, whichever is first. `None` waits for input alone.
    Wait(Option<Instant>),
}

/// A protocol session as a pure state machine.
pub trait Machine {
    /// What the owner is told.
    type Event;
    /// Why the session must end. After an error a machine takes no more input; `poll_output` still
    /// yields what has to be sent before closing.
    type Error: std::error::Error;

    /// Takes bytes from the peer, in whatever pieces they arrive; consumes all of `input`.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit.
    fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), Self::Error>;

    /// Tells the machine that time has passed; harmless when nothing is due.
    ///
    /// # Errors
    /// A phase ran out of time.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error>;

    /// The next output. Must be called until it returns [`Output::Wait`].
    fn poll_output(&mut self) -> Output<Self::Event>;
}
