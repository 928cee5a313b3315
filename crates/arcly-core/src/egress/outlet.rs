use core::ops::Range;
use core::pin::Pin;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use super::desk::Desk;
use super::group::BATCH;
use super::{Finished, STALL};
use crate::close::CloseReason;
use crate::derived::{Headers, Packetizer, Wire};
use crate::log::{Batch, Budget, LogItem, Place, Progress, Read, TrackChoice};
use crate::subscriber::DerivedSubscriber;
use crate::time::TimeDelta;
use crate::track::TrackMask;

/// Pieces in one vectored write.
const PIECES: usize = 256;
/// The same of what is left over, which is mostly one piece.
const REST_PIECES: usize = 16;

/// How it goes on with an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is up to date: with the next batch.
    Idle,
    /// When its socket has room.
    Blocked,
    /// By its own cursor, at its turn.
    OwnWay,
    /// The same, at an instant.
    PacedUntil(Instant),
    /// Not at all.
    Ended(CloseReason),
}

/// What one outlet has read and is about to write. It belongs to the worker: outlets have it one after the other.
#[derive(Default)]
pub(super) struct Run {
    pieces: Vec<Piece>,
    /// The heads of items, one after the other.
    heads: Vec<u8>,
    bytes: usize,
    marks: Vec<Mark>,
}

/// A part of a run that is in one place.
enum Piece {
    /// The head of an item: where it is among the heads.
    Head(Range<usize>),
    /// Shared with the log.
    Shared(Bytes),
}

/// The end of a message in a run.
struct Mark {
    /// Pieces and bytes up to here.
    pieces: usize,
    bytes: usize,
    /// What the message is accounted with.
    size: usize,
    /// Where the reader goes on from here.
    place: Place<Headers>,
}

impl Run {
    fn clear(&mut self) {
        self.pieces.clear();
        self.heads.clear();
        self.marks.clear();
        self.bytes = 0;
    }

    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.pieces.push(Piece::Shared(bytes));
    }

    fn push_item(&mut self, item: &impl Wire) {
        let head = item.head();
        if !head.is_empty() {
            let start = self.heads.len();
            self.heads.extend_from_slice(head);
            self.pieces.push(Piece::Head(start..self.heads.len()));
            self.bytes += head.len();
        }
        self.push(item.body().clone());
    }

    fn slice<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        match piece {
            Piece::Head(range) => self.heads.get(range.clone()).unwrap_or_default(),
            Piece::Shared(bytes) => bytes,
        }
    }

    /// What is left of the first `pieces` behind the first `written` bytes.
    fn rest(&self, pieces: usize, written: usize) -> impl Iterator<Item = Bytes> {
        let mut before = 0;
        self.pieces.iter().take(pieces).filter_map(move |piece| {
            let slice = self.slice(piece);
            let from = written.saturating_sub(before);
            before += slice.len();
            let left = slice.get(from..).filter(|left| !left.is_empty())?;
            Some(match piece {
                Piece::Head(_) => Bytes::copy_from_slice(left),
                Piece::Shared(bytes) => bytes.slice_ref(left),
            })
        })
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH || self.pieces.len() >= PIECES
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let [only] = &*self.pieces {
            return Pin::new(writer).poll_write(cx, self.slice(only));
        }
        if !writer.is_write_vectored() {
            let mut all = BytesMut::with_capacity(self.bytes);
            self.pieces.iter().for_each(|piece| all.extend_from_slice(self.slice(piece)));
            return Pin::new(writer).poll_write(cx, &all);
        }
        let pieces: Vec<_> = self.pieces.iter().map(|piece| IoSlice::new(self.slice(piece))).collect();
        Pin::new(writer).poll_write_vectored(cx, &pieces)
    }
}

/// One reader and its socket. While the socket is full it holds its place, and the rest of the message that is on its
/// way, shared with the log.
pub(super) struct Outlet<P: Packetizer<Item: Wire>, W> {
    pub(super) ticket: u64,
    reader: DerivedSubscriber<P>,
    writer: W,
    /// Goes out before anything else from the log: what is left of a message, and what the session wants to say.
    rest: VecDeque<Bytes>,
    /// Bytes that the session has queued and that are not in `rest`'s past yet.
    control: Arc<AtomicUsize>,
    control_waiting: usize,
    tracks: TrackMask,
    choice: Option<TrackChoice<Headers>>,
    /// Since when the socket has taken nothing.
    stalled_since: Option<Instant>,
    is_paced: bool,
    ending: Option<CloseReason>,
    /// Sent with batches since the last [`settle`](Self::settle).
    batched: (u64, u64),
    done: Option<oneshot::Sender<Finished<W>>>,
}

impl<P: Packetizer<Item: Wire>, W: AsyncWrite + Unpin> Outlet<P, W> {
    pub(super) fn new(
        ticket: u64,
        reader: DerivedSubscriber<P>,
        writer: W,
        first: Bytes,
        control: Arc<AtomicUsize>,
        done: oneshot::Sender<Finished<W>>,
    ) -> Self {
        Self {
            ticket,
            tracks: reader.tracks(),
            choice: reader.walk().cursor().track_choice().cloned(),
            reader,
            writer,
            rest: Some(first).filter(|first| !first.is_empty()).into_iter().collect(),
            control,
            control_waiting: 0,
            stalled_since: None,
            is_paced: false,
            ending: None,
            batched: (0, 0),
            done: Some(done),
        }
    }

    pub(super) const fn reader(&self) -> &DerivedSubscriber<P> {
        &self.reader
    }

    /// True when it goes on by itself, once its socket has room or its time has come.
    fn is_waiting(&self) -> bool {
        !self.rest.is_empty() || self.stalled_since.is_some() || self.is_paced || self.ending.is_some()
    }

    /// Takes a batch as it is, if this reader is at its start and gets all of it. `bytes` are the batch's, where they
    /// have been put together.
    pub(super) fn follow(
        &mut self,
        batch: &Batch<P::Item>,
        bytes: Option<&Bytes>,
        cx: &mut Context<'_>,
        desk: &mut Desk,
    ) -> Outcome {
        if self.is_waiting() {
            return Outcome::Blocked;
        }
        if !self.reader.walk().cursor().fits(batch) {
            return Outcome::OwnWay;
        }
        let (whole, written) = match bytes {
            Some(bytes) => (bytes.len(), Pin::new(&mut self.writer).poll_write(cx, bytes)),
            None => {
                desk.run.clear();
                batch.items().iter().for_each(|item| desk.run.push_item(&**item));
                let written = desk.run.poll_write(&mut self.writer, cx);
                let whole = desk.run.bytes;
                desk.run.clear();
                (whole, written)
            }
        };
        match written {
            Poll::Ready(Ok(n)) if n == whole => {
                self.reader.walk_mut().cursor_mut().take(batch);
                self.batched.0 += batch.items().len() as u64;
                self.batched.1 += n as u64;
                desk.wrote(n);
                self.flush_writer(cx, desk.now)
            }
            Poll::Ready(Ok(0)) => Outcome::Ended(CloseReason::PeerClosed),
            Poll::Ready(Ok(n)) => {
                desk.wrote(n);
                self.take_part(batch, n);
                // Finds the socket full, and leaves the waker with it.
                self.advance(cx, desk)
            }
            Poll::Ready(Err(error)) => Outcome::Ended(lost(&error)),
            Poll::Pending => {
                self.take_part(batch, 0);
                self.stalled_since = Some(desk.now);
                Outcome::Blocked
            }
        }
    }

    /// Moves behind the message of a batch whose bytes `written` ends in, and keeps what is left of that message: whoever
    /// is blocked has something to go on with.
    fn take_part(&mut self, batch: &Batch<P::Item>, written: usize) {
        let (mut before, mut count) = (0, 0);
        for item in batch.items() {
            let end = before + item.wire_len();
            count += 1;
            if end >= written {
                self.batched.1 += end as u64;
                let mut begun = Run::default();
                begun.push_item(&**item);
                self.keep(begun.rest(usize::MAX, written - before));
                break;
            }
            before = end;
        }
        self.batched.0 += count as u64;
        self.reader.walk_mut().cursor_mut().take_first(batch, count);
    }

    /// Goes on by its own cursor until it is up to date, blocked, at its end, or has had its turn.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, desk: &mut Desk) -> Outcome {
        self.is_paced = false;
        loop {
            match self.write_rest(cx, desk) {
                Outcome::Idle => {}
                other => return other,
            }
            if let Some(reason) = self.ending {
                return Outcome::Ended(reason);
            }
            if desk.is_spent() {
                return Outcome::OwnWay;
            }
            let progress = match self.gather(&mut desk.run) {
                Ok(progress) => progress,
                Err(reason) => return Outcome::Ended(reason),
            };
            if !desk.run.pieces.is_empty() {
                match self.write_run(cx, desk) {
                    Outcome::Idle => continue,
                    other => return other,
                }
            }
            match progress {
                Progress::Ended(reason) => self.ending = Some(reason),
                Progress::PacedUntil(at) => {
                    self.is_paced = true;
                    return Outcome::PacedUntil(at);
                }
                Progress::CaughtUp => return Outcome::Idle,
                Progress::More => {}
            }
        }
    }

    /// Reads what there is, and notes the reader's place after each message.
    fn gather(&mut self, run: &mut Run) -> Result<Progress, CloseReason> {
        run.clear();
        let one = Budget { items: 1, bytes: usize::MAX, time: TimeDelta(i64::MAX) };
        let Self { reader, tracks, choice, .. } = self;
        while !run.is_full() {
            let mut size = None;
            let each = |read: Read<P::Item>| match read {
                Read::Context(headers) => {
                    *tracks = choice.as_ref().and_then(|choice| choice(&headers)).unwrap_or(*tracks);
                    wanted(&headers, *tracks).for_each(|part| run.push(part));
                }
                Read::Item(item) => {
                    size = Some(item.size());
                    run.push_item(&*item);
                }
                Read::Skipped(_) => {}
            };
            let progress = reader.read(one, each).map_err(|error| error.reason())?;
            if let Some(size) = size {
                let place = reader.walk().cursor().place();
                run.marks.push(Mark { pieces: run.pieces.len(), bytes: run.bytes, size, place });
            }
            if progress != Progress::More {
                return Ok(progress);
            }
        }
        Ok(Progress::More)
    }

    /// Writes the run. What the socket does not take is read again later.
    fn write_run(&mut self, cx: &mut Context<'_>, desk: &mut Desk) -> Outcome {
        if desk.run.bytes == 0 {
            return Outcome::Idle;
        }
        let written = match desk.run.poll_write(&mut self.writer, cx) {
            Poll::Ready(Ok(0)) => return Outcome::Ended(CloseReason::PeerClosed),
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(error)) => return Outcome::Ended(lost(&error)),
            Poll::Pending => 0,
        };
        if written > 0 {
            desk.wrote(written);
        }
        if written < desk.run.bytes {
            self.take_back(&mut desk.run, written);
        }
        desk.run.clear();
        if written == 0 {
            self.stalled_since.get_or_insert(desk.now);
            return Outcome::Blocked;
        }
        Outcome::Idle
    }

    /// Goes back to the end of the message that `written` ends in, and keeps what is left of that message. The first
    /// message is kept even if nothing of it was written, so that its place and what came before it stay as they were
    /// noticed.
    fn take_back(&mut self, run: &mut Run, written: usize) {
        let Some(last) = run.marks.iter().position(|mark| mark.bytes >= written) else { return };
        let unsent = run.marks.drain(last + 1..);
        let (items, bytes) =
            unsent.fold((0, 0), |(items, bytes), mark| (items + 1, bytes + mark.size as u64));
        let Some(mark) = run.marks.pop() else { return };
        self.keep(run.rest(mark.pieces, written));
        self.reader.subscription().state().uncount_items(items, bytes);
        self.reader.walk_mut().cursor_mut().go_back(mark.place);
    }

    /// Keeps what is left of a message. For writers that take one piece at a time, and have to be given whole messages, in one.
    fn keep(&mut self, pieces: impl Iterator<Item = Bytes>) {
        if self.writer.is_write_vectored() {
            return self.rest.extend(pieces);
        }
        let mut whole = BytesMut::new();
        pieces.for_each(|piece| whole.extend_from_slice(&piece));
        if !whole.is_empty() {
            self.rest.push_back(whole.freeze());
        }
    }

    /// Writes what goes first.
    fn write_rest(&mut self, cx: &mut Context<'_>, desk: &mut Desk) -> Outcome {
        while !self.rest.is_empty() {
            let mut pieces = [IoSlice::new(&[]); REST_PIECES];
            let filled = pieces.iter_mut().zip(&self.rest);
            let count = filled.map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count();
            let pieces = pieces.get(..count).unwrap_or_default();
            match Pin::new(&mut self.writer).poll_write_vectored(cx, pieces) {
                Poll::Ready(Ok(0)) => return Outcome::Ended(CloseReason::PeerClosed),
                Poll::Ready(Ok(n)) => {
                    desk.wrote(n);
                    self.wrote_of_rest(n);
                }
                Poll::Ready(Err(error)) => return Outcome::Ended(lost(&error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(desk.now);
                    return Outcome::Blocked;
                }
            }
        }
        self.flush_writer(cx, desk.now)
    }

    /// A TLS stream may still hold bytes back; for a plain socket this is nothing.
    fn flush_writer(&mut self, cx: &mut Context<'_>, now: Instant) -> Outcome {
        match Pin::new(&mut self.writer).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.stalled_since = None;
                Outcome::Idle
            }
            Poll::Ready(Err(error)) => Outcome::Ended(lost(&error)),
            Poll::Pending => {
                self.stalled_since.get_or_insert(now);
                Outcome::Blocked
            }
        }
    }

    fn wrote_of_rest(&mut self, mut n: usize) {
        self.stalled_since = None;
        while let Some(front) = self.rest.front_mut() {
            if n < front.len() {
                return front.advance(n);
            }
            n -= front.len();
            self.rest.pop_front();
        }
        // Mostly it is needed never again.
        self.rest = VecDeque::new();
        self.control.fetch_sub(core::mem::take(&mut self.control_waiting), Ordering::Relaxed);
    }

    pub(super) fn send(&mut self, bytes: Bytes) {
        self.control_waiting += bytes.len();
        self.rest.push_back(bytes);
    }

    pub(super) const fn end(&mut self, reason: CloseReason) {
        self.ending = Some(reason);
    }

    /// For so long nobody was there to see the socket take something.
    pub(super) fn forgive(&mut self, time: Duration) {
        self.stalled_since = self.stalled_since.map(|since| since + time);
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
        let at_boundary = self.rest.is_empty();
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
