//! Many readers per worker: how the servers write a stream to a thousand sockets.
//!
//! ```text
//!                       ┌─ group: one stream in one format ─────────────┐
//!   publisher ─ bell ─► │ leader reads a batch ─► one run of bytes ─────┼─► reader, reader, reader …
//!                       │                          (built once)         │     each: a cursor and what its
//!                       └───────────────────────────────────────────────┘     socket has not taken yet
//! ```
//!
//! A frame wakes a worker, not a thousand tasks. The worker reads what is new once, and hands the same bytes to every
//! reader that is up to date; a reader that has just joined, or whose socket is full, goes its own way through the
//! same log with its own cursor and falls in with the others when it has caught up.
//!
//! | bound | value |
//! |---|---|
//! | bytes taken from the log for one reader before its socket has taken them | [`MAX_PENDING`] |
//! | control bytes queued for one reader ([`Attached::send`]) | [`MAX_CONTROL`], then `slow_consumer` |
//! | time in which a socket takes nothing | [`STALL`], then `slow_consumer` |
//!
//! `Egress` needs a tokio runtime; its tasks end when it is dropped.

mod group;
mod outlet;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::close::CloseReason;
use crate::derived::{Packet, Packetizer};
use crate::subscriber::{DerivedSubscriber, ReaderState};
use group::Group;
use outlet::Outlet;
use worker::{Control, Message, Worker};

/// Bytes taken from the log for one reader before its socket has taken them.
pub const MAX_PENDING: usize = 256 << 10;
/// Control bytes queued for one reader.
pub const MAX_CONTROL: usize = 64 << 10;
/// Time in which a socket takes nothing before its reader is given up. Together with what the operating system holds,
/// and the sweep that looks for it, a peer that reads nothing is gone within 15 seconds (F31).
pub const STALL: Duration = Duration::from_secs(10);

struct WorkerHandle {
    inbox: mpsc::UnboundedSender<Message>,
    readers: Arc<AtomicUsize>,
}

/// A set of workers that write streams to sockets.
pub struct Egress {
    workers: Box<[WorkerHandle]>,
    tickets: AtomicU64,
    stop: CancellationToken,
}

impl core::fmt::Debug for Egress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Egress")
            .field("workers", &self.workers.len())
            .field("readers", &self.readers())
            .finish()
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Egress {
    /// Starts that many workers (at least one) on the current tokio runtime; one per core is the right number.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(workers: usize) -> Self {
        let stop = CancellationToken::new();
        let workers = (0..workers.max(1)).map(|_| {
            let (inbox, messages) = mpsc::unbounded_channel();
            let readers = Arc::new(AtomicUsize::new(0));
            let worker = Worker::new(inbox.clone(), Arc::clone(&readers));
            // A worker yields by itself between rounds; tokio's budget would cut rounds short and call it a full socket.
            tokio::spawn(tokio::task::unconstrained(worker.run(messages, stop.clone())));
            WorkerHandle { inbox, readers }
        });
        Self { workers: workers.collect(), tickets: AtomicU64::new(0), stop: stop.clone() }
    }

    /// Readers that are attached at the moment.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.workers.iter().map(|worker| worker.readers.load(Ordering::Relaxed)).sum()
    }

    /// Hands a reader and the socket it goes to to the worker with the fewest readers. `first` is sent before anything
    /// else. A worker that is up to date with the stream costs the publisher one wake-up, however many readers it has.
    pub fn attach<P, W>(&self, reader: DerivedSubscriber<P>, writer: W, first: Bytes) -> Attached<W>
    where
        P: Packetizer<Item = Packet>,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (done, finished) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(reader.subscription().state());
        let control = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet::new(ticket, reader, writer, first, Arc::clone(&control), done);
        let worker = self.workers.iter().min_by_key(|worker| worker.readers.load(Ordering::Relaxed));
        // There is at least one, see `start`.
        let inbox = worker.map(|worker| {
            worker.readers.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone drops the outlet, which `finished` reports as shutdown.
            let _ = worker.inbox.send(Message::Attach(Box::new(move |worker| Group::attach(worker, outlet))));
            worker.inbox.clone()
        });
        Attached { ticket, inbox, control, state, finished }
    }
}

/// How a reader ended.
#[derive(Debug)]
pub struct Finished<W> {
    /// Why.
    pub reason: CloseReason,
    /// The socket, at a message boundary, when it can still be written to.
    pub writer: Option<W>,
}

/// The session's end of an attached reader. Dropping it ends the reader.
#[derive(Debug)]
pub struct Attached<W> {
    ticket: u64,
    inbox: Option<mpsc::UnboundedSender<Message>>,
    control: Arc<AtomicUsize>,
    state: Arc<ReaderState>,
    finished: oneshot::Receiver<Finished<W>>,
}

impl<W> Attached<W> {
    /// What is known about the reader.
    #[must_use]
    pub const fn state(&self) -> &Arc<ReaderState> {
        &self.state
    }

    /// Sends bytes of the protocol's own between two messages of the stream.
    ///
    /// # Errors
    /// [`CloseReason::SlowConsumer`] when [`MAX_CONTROL`] bytes are waiting already; the bytes are not sent.
    pub fn send(&self, bytes: Bytes) -> Result<(), CloseReason> {
        let before = self.control.fetch_add(bytes.len(), Ordering::Relaxed);
        if before.saturating_add(bytes.len()) > MAX_CONTROL {
            self.control.fetch_sub(bytes.len(), Ordering::Relaxed);
            return Err(CloseReason::SlowConsumer);
        }
        self.control(Control::Send(bytes));
        Ok(())
    }

    /// Ends the reader at the next message boundary; [`finished`](Self::finished) then yields the socket.
    pub fn detach(&self, reason: CloseReason) {
        self.control(Control::Detach(reason));
    }

    fn control(&self, control: Control) {
        if let Some(inbox) = &self.inbox {
            let _ = inbox.send(Message::Control(self.ticket, control));
        }
    }

    /// Completes when the reader has ended: the stream ended, the socket failed or stalled, or somebody ended the
    /// reader ([`ReaderState::end`], [`detach`](Self::detach)). Cancel safe.
    pub async fn finished(&mut self) -> Finished<W> {
        let gone = Finished { reason: CloseReason::Shutdown, writer: None };
        tokio::select! {
            biased;
            finished = &mut self.finished => return finished.unwrap_or(gone),
            reason = self.state.ended() => self.detach(reason),
        }
        (&mut self.finished).await.unwrap_or(gone)
    }
}

impl<W> Drop for Attached<W> {
    fn drop(&mut self) {
        self.detach(CloseReason::PeerClosed);
    }
}
