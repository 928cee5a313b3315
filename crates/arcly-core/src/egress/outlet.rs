use core::pin::Pin;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use super::{Finished, MAX_PENDING, STALL};
use crate::close::CloseReason;
use crate::derived::{Headers, Packet, Packetizer};
use crate::log::{Batch, Budget, Progress, Read, TrackChoice};
use crate::subscriber::DerivedSubscriber;
use crate::time::TimeDelta;
use crate::track::TrackMask;

/// Pieces in one vectored write.
const PIECES: usize = 64;

/// What an outlet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Up to date: the next batch.
    Idle,
    /// Its socket is full.
    Blocked,
    /// Nothing, it has ended.
    Ended(CloseReason),
}

/// One reader and its socket.
pub(super) struct Outlet<P: Packetizer<Item = Packet>, W> {
    pub(super) ticket: u64,
    reader: DerivedSubscriber<P>,
    writer: W,
    /// Taken from the log or the session, not yet by the socket.
    pending: VecDeque<Bytes>,
    /// Bytes that the session has queued and that are not in `pending`'s past yet.
    control: Arc<AtomicUsize>,
    control_pending: usize,
    tracks: TrackMask,
    choice: Option<TrackChoice<Headers>>,
    stalled_since: Option<Instant>,
    paced_until: Option<Instant>,
    ending: Option<CloseReason>,
    /// Sent with batches since the last [`settle`](Self::settle).
    batched: (u64, u64),
    done: Option<oneshot::Sender<Finished<W>>>,
}

impl<P: Packetizer<Item = Packet>, W: AsyncWrite + Unpin> Outlet<P, W> {
    pub(super) fn new(
        ticket: u64,
        reader: DerivedSubscriber<P>,
        writer: W,
        first: Bytes,
        control: Arc<AtomicUsize>,
        done: oneshot::Sender<Finished<W>>,
    ) -> Self {
        let pending = if first.is_empty() { VecDeque::new() } else { VecDeque::from([first]) };
        Self {
            ticket,
            tracks: reader.tracks(),
            choice: reader.walk().cursor().track_choice().cloned(),
            reader,
            writer,
            pending,
            control,
            control_pending: 0,
            stalled_since: None,
            paced_until: None,
            ending: None,
            batched: (0, 0),
            done: Some(done),
        }
    }

    pub(super) const fn reader(&self) -> &DerivedSubscriber<P> {
        &self.reader
    }

    pub(super) const fn paced_until(&self) -> Option<Instant> {
        self.paced_until
    }

    /// True when it is up to date and may follow the next batch.
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.ending.is_none() && self.paced_until.is_none()
    }

    /// True when it goes on by itself, once its socket has room or its time has come.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_idle()
    }

    /// Takes a batch as it is, if this reader is at its start and gets all of it. `bytes` are the batch's.
    pub(super) fn follow(
        &mut self,
        batch: &Batch<Packet>,
        bytes: &Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<Outcome> {
        if !self.is_idle() || !self.reader.walk_mut().cursor_mut().follow(batch) {
            return None;
        }
        self.batched.0 += batch.items().len() as u64;
        self.batched.1 += bytes.len() as u64;
        Some(match Pin::new(&mut self.writer).poll_write(cx, bytes) {
            Poll::Ready(Ok(n)) if n == bytes.len() => Outcome::Idle,
            Poll::Ready(Ok(n)) => {
                self.pending.push_back(bytes.slice(n..));
                self.flush(cx, now)
            }
            Poll::Ready(Err(error)) => Outcome::Ended(lost(&error)),
            Poll::Pending => {
                self.pending.push_back(bytes.clone());
                self.stalled_since = Some(now);
                Outcome::Blocked
            }
        })
    }

    /// Goes on by its own cursor until it is up to date, blocked or at its end.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, now: Instant) -> Outcome {
        self.paced_until = None;
        loop {
            match self.flush(cx, now) {
                Outcome::Idle => {}
                other => return other,
            }
            if let Some(reason) = self.ending {
                return Outcome::Ended(reason);
            }
            match self.fill() {
                Ok(Progress::Ended(reason)) => self.ending = Some(reason),
                Ok(Progress::PacedUntil(at)) => {
                    self.paced_until = Some(at);
                    return self.flush(cx, now);
                }
                Ok(Progress::CaughtUp) if self.pending.is_empty() => return Outcome::Idle,
                Ok(_) => {}
                Err(reason) => return Outcome::Ended(reason),
            }
        }
    }

    /// Takes up to [`MAX_PENDING`] bytes from the log.
    fn fill(&mut self) -> Result<Progress, CloseReason> {
        let Self { reader, pending, tracks, choice, .. } = self;
        let budget = Budget { items: usize::MAX, bytes: MAX_PENDING, time: TimeDelta(i64::MAX) };
        reader
            .read(budget, |read| match read {
                Read::Context(headers) => {
                    *tracks = choice.as_ref().and_then(|choice| choice(&headers)).unwrap_or(*tracks);
                    pending.extend(wanted(&headers, *tracks));
                }
                Read::Item(packet) => pending.push_back(packet.bytes.clone()),
                Read::Skipped(_) => {}
            })
            .map_err(|error| error.reason())
    }

    fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Outcome {
        while !self.pending.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (piece, bytes) in pieces.iter_mut().zip(&self.pending) {
                *piece = IoSlice::new(bytes);
                count += 1;
            }
            match Pin::new(&mut self.writer).poll_write_vectored(cx, pieces.get(..count).unwrap_or_default())
            {
                Poll::Ready(Ok(0)) => return Outcome::Ended(CloseReason::PeerClosed),
                Poll::Ready(Ok(n)) => self.wrote(n),
                Poll::Ready(Err(error)) => return Outcome::Ended(lost(&error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Outcome::Blocked;
                }
            }
        }
        // A TLS stream may still hold bytes back; for a plain socket this is nothing.
        match Pin::new(&mut self.writer).poll_flush(cx) {
            Poll::Ready(Err(error)) => Outcome::Ended(lost(&error)),
            _ => Outcome::Idle,
        }
    }

    fn wrote(&mut self, mut n: usize) {
        self.stalled_since = None;
        while let Some(front) = self.pending.front_mut() {
            if n < front.len() {
                return front.advance(n);
            }
            n -= front.len();
            self.pending.pop_front();
        }
        self.control.fetch_sub(core::mem::take(&mut self.control_pending), Ordering::Relaxed);
    }

    pub(super) fn send(&mut self, bytes: Bytes) {
        self.control_pending += bytes.len();
        self.pending.push_back(bytes);
    }

    pub(super) const fn end(&mut self, reason: CloseReason) {
        self.ending = Some(reason);
    }

    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.stalled_since.is_some_and(|since| now.saturating_duration_since(since) >= STALL)
    }

    /// Adds what went out with batches to the reader's own counts.
    pub(super) fn settle(&mut self) {
        let (items, bytes) = core::mem::take(&mut self.batched);
        if items != 0 {
            self.reader.subscription().state().count_items(items, bytes);
        }
    }

    pub(super) fn finish(mut self, reason: CloseReason) {
        self.settle();
        self.reader.subscription().state().end(reason);
        let at_boundary = self.pending.is_empty();
        let Self { reader, writer, done, .. } = self;
        // The reader leaves the stream's list before the session hears of it.
        drop(reader);
        if let Some(done) = done {
            let _ = done.send(Finished { reason, writer: at_boundary.then_some(writer) });
        }
    }
}

/// The headers that a reader of those tracks gets.
fn wanted(headers: &Headers, tracks: TrackMask) -> impl Iterator<Item = Bytes> {
    let wanted =
        headers.parts.iter().filter(move |(track, _)| track.is_none_or(|track| tracks.contains(track)));
    wanted.map(|(_, bytes)| bytes.clone())
}

fn lost(error: &io::Error) -> CloseReason {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof,
    };
    match error.kind() {
        // TCP has given up on what the peer does not take, before the stall was noticed here.
        TimedOut => CloseReason::SlowConsumer,
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
            CloseReason::PeerClosed
        }
        _ => CloseReason::Io,
    }
}
