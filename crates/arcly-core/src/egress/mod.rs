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
//! What comes in between two [`Tick`]s goes out together: a worker is woken once per tick, whatever the number of
//! streams, and writes once to each reader. A reader that joins gets what is there at once. A worker that does not keep
//! up widens its ticks by itself, and narrows them again ([`EgressStats::widened`]).
//!
//! | bound | value |
//! |---|---|
//! | bytes held for a reader whose socket is full | the rest of one message, shared with the log |
//! | control bytes queued for one reader ([`Attached::send`]) | [`MAX_CONTROL`], then `slow_consumer` |
//! | time in which a socket takes nothing | [`STALL`], then `slow_consumer` |
//! | written for one stream, or one reader that catches up, before the others have their turn | 128 writes or 2 MiB |
//! | the same for a reader that has had nothing yet; there are four of them to one that catches up | 64 KiB, and what was begun |
//! | what a tick widens to | 100 ms, or the tick itself |
//!
//! Protocols over UDP send with `udp` (feature `udp`): many datagrams with one system call.
//!
//! `Egress` needs a tokio runtime; its tasks end when it is dropped.

mod desk;
mod group;
mod outlet;
mod placement;
mod tick;
#[cfg(feature = "udp")]
pub mod udp;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::close::CloseReason;
use crate::derived::{Packetizer, Wire};
use crate::subscriber::{DerivedSubscriber, ReaderState};
use desk::Gauges;
use group::Group;
use outlet::Outlet;
use tick::Beat;
pub use tick::{Latency, Tick};
use worker::{Control, Message, Worker};

/// Control bytes queued for one reader.
pub const MAX_CONTROL: usize = 64 << 10;
/// Time in which a socket takes nothing before its reader is given up. Together with what the operating system holds,
/// and the sweep that looks for it, a peer that reads nothing is gone within 15 seconds (F31).
pub const STALL: Duration = Duration::from_secs(10);

struct WorkerHandle {
    inbox: mpsc::UnboundedSender<Message>,
    gauges: Arc<Gauges>,
}

/// A set of workers that write streams to sockets.
pub struct Egress {
    workers: Box<[WorkerHandle]>,
    tick: Tick,
    /// The instant that all ticks of all workers are counted from.
    epoch: Instant,
    tickets: AtomicU64,
    stop: CancellationToken,
}

/// What the workers have done, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EgressStats {
    /// Readers that are attached at the moment.
    pub readers: usize,
    /// Times that workers were woken, by ticks, frames, sessions and sockets.
    pub wakes: u64,
    /// Runs of bytes that were put together for readers which are up to date.
    pub batches: u64,
    /// The messages in them; divided by `batches`, what a tick merges.
    pub packets: u64,
    /// Writes to sockets that took something.
    pub writes: u64,
    /// The bytes they took.
    pub bytes: u64,
    /// How far the busiest worker has widened its ticks: each level doubles them. 0 when it keeps up.
    pub widened: u8,
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
    /// Starts that many workers (at least one) on the current tokio runtime; one per core is the right number. Readers
    /// are written to frame by frame, unless [`with_tick`](Self::with_tick) or [`attach_at`](Self::attach_at) say
    /// otherwise.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(workers: usize) -> Self {
        let stop = CancellationToken::new();
        let epoch = clock::now();
        let workers = (0..workers.max(1)).map(|_| {
            let (inbox, messages) = mpsc::unbounded_channel();
            let gauges = Arc::new(Gauges::default());
            let worker = Worker::new(inbox.clone(), Arc::clone(&gauges), epoch);
            // A worker yields by itself between wakes; tokio's budget would cut wakes short and call it a full socket.
            tokio::spawn(tokio::task::unconstrained(worker.run(messages, stop.clone())));
            WorkerHandle { inbox, gauges }
        });
        let workers = workers.collect();
        Self { workers, tick: Tick::FRAME, epoch, tickets: AtomicU64::new(0), stop: stop.clone() }
    }

    /// Sets the tick of readers that do not ask for one.
    #[must_use]
    pub fn with_tick(mut self, tick: Tick) -> Self {
        self.tick = tick;
        self
    }

    /// Leaves ticks as they are, whatever the load: a worker that does not keep up falls behind, and its readers are moved
    /// on or given up by their lag policies, instead of being written to less often.
    #[must_use]
    pub fn with_steady_ticks(self) -> Self {
        self.workers.iter().for_each(|worker| worker.gauges.is_steady.store(true, Ordering::Relaxed));
        self
    }

    /// The tick of readers that do not ask for one.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// When readers that do not ask for a tick are written to next after `now`; `None` when that is with each frame. Ticks that
    /// are widened under load are further apart, and on the same grid.
    #[must_use]
    pub fn next_tick(&self, now: Instant) -> Option<Instant> {
        let interval = Some(self.tick.interval()).filter(|interval| !interval.is_zero())?;
        Some(Beat::new(self.epoch).next(now, interval))
    }

    /// Readers that are attached at the moment.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.workers.iter().map(|worker| worker.gauges.readers.load(Ordering::Relaxed)).sum()
    }

    /// What the workers have done so far.
    #[must_use]
    pub fn stats(&self) -> EgressStats {
        self.workers.iter().fold(EgressStats::default(), |all, WorkerHandle { gauges, .. }| {
            let counts = gauges.counts();
            EgressStats {
                readers: all.readers + gauges.readers.load(Ordering::Relaxed),
                wakes: all.wakes + counts.wakes,
                batches: all.batches + counts.batches,
                packets: all.packets + counts.packets,
                writes: all.writes + counts.writes,
                bytes: all.bytes + counts.bytes,
                widened: all.widened.max(gauges.level.load(Ordering::Relaxed)),
            }
        })
    }

    /// Hands a reader and the socket it goes to to a worker, with the tick of [`with_tick`](Self::with_tick); see
    /// [`attach_at`](Self::attach_at).
    pub fn attach<P, W>(&self, reader: DerivedSubscriber<P>, writer: W, first: Bytes) -> Attached<W>
    where
        P: Packetizer<Item: Wire>,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.attach_at(self.tick, reader, writer, first)
    }

    /// Hands a reader and the socket it goes to to a worker: the first that has room, else the one that writes least. `first` is sent
    /// before anything else, and what the stream has for a joiner right behind it; `tick` is for what comes then. A
    /// worker that is up to date with the stream costs the publisher one wake-up, however many readers it has.
    pub fn attach_at<P, W>(
        &self,
        tick: Tick,
        reader: DerivedSubscriber<P>,
        writer: W,
        first: Bytes,
    ) -> Attached<W>
    where
        P: Packetizer<Item: Wire>,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        if tick != Tick::FRAME {
            reader.subscription().be_patient();
        }
        let (done, finished) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(reader.subscription().state());
        let control = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet::new(ticket, reader, writer, first, Arc::clone(&control), done);
        let inbox = placement::place(&self.workers).map(|worker| {
            worker.gauges.readers.fetch_add(1, Ordering::Relaxed);
            worker.gauges.fresh.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone drops the outlet, which `finished` reports as shutdown.
            let attach = Box::new(move |worker: &mut Worker| Group::attach(worker, tick, outlet));
            let _ = worker.inbox.send(Message::Attach(attach));
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
        (&mut self.finished).await.unwrap_or(gone)
    }
}

impl<W> Drop for Attached<W> {
    fn drop(&mut self) {
        self.detach(CloseReason::PeerClosed);
    }
}
