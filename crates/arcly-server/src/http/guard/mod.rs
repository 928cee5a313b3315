//! What stands between a socket and the HTTP library: strict framing, deadlines, and an eye on the peer.
//!
//! | bound | value | verdict |
//! |---|---|---|
//! | TLS handshake and first head, together; every later head | 10 s | `timeout(handshake)`, `timeout(command)` |
//! | between requests | 60 s | `timeout(idle)` |
//! | a write without progress | 15 s | `slow_consumer` |
//! | head, header fields | 16 KiB, 100 | 431, `limit(head)`, `limit(headers)` |
//! | HTTP/2 frames that carry nothing | 1000 at once, 50 a second | `limit(frames)` |
//! | everything else that [`framer`] refuses | | 400, `malformed` |
//!
//! The deadline of a head is for all of it: a peer that sends one byte a second does not move it.

mod framer;
mod h2;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arcly_core::{CloseReason, Phase};
use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use self::h2::FrameMeter;
use super::hls::Visitor;
use super::play::Handover;
use framer::MAX_HEAD;
pub(super) use framer::{Framer, MAX_FIELDS, Violation};

/// For the TLS handshake and the first request's head together, and for each later head.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between requests.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(60);
/// Without progress while something is to be written.
pub(super) const STALL_TIME: Duration = Duration::from_secs(15);
/// Read from the socket at a time while framing.
const READ_SIZE: usize = 8 << 10;

/// What is known about a connection: shared by its socket, its requests and the accept loop.
pub(crate) struct Connection {
    /// The peer, an IPv4 address in IPv6 clothes made plain.
    pub peer: SocketAddr,
    /// The address of this machine that it has connected to; none where the system does not say.
    pub local: Option<IpAddr>,
    accepted: Instant,
    reason: OnceLock<CloseReason>,
    kill: CancellationToken,
    work: Mutex<Work>,
    answered: Notify,
    /// The library has begun to write something and has not flushed it since.
    unflushed: AtomicBool,
    flushed: Notify,
    /// Who was let in to HLS on it last.
    visitor: Mutex<Option<Arc<Visitor>>>,
    /// A stream that the connection is wanted for.
    handover: Mutex<Option<Handover>>,
    handed_over: Notify,
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Requests being answered.
#[derive(Debug)]
struct Work {
    requests: usize,
    idle_since: Instant,
}

impl Connection {
    /// A connection that was accepted now, on that address of this machine.
    pub(crate) fn new(peer: SocketAddr, local: Option<IpAddr>) -> Arc<Self> {
        let accepted = Instant::now();
        Arc::new(Self {
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            local: local.map(|local| local.to_canonical()),
            accepted,
            reason: OnceLock::new(),
            kill: CancellationToken::new(),
            work: Mutex::new(Work { requests: 0, idle_since: accepted }),
            answered: Notify::new(),
            unflushed: AtomicBool::new(false),
            flushed: Notify::new(),
            visitor: Mutex::default(),
            handover: Mutex::default(),
            handed_over: Notify::new(),
        })
    }

    /// When the first head must have come.
    pub(crate) fn first_deadline(&self) -> Instant {
        self.accepted + HEAD_TIME
    }

    /// Notes that a request is being answered until the return value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.work.lock().requests += 1;
        Busy(Arc::clone(self))
    }

    /// Since when no request is being answered.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let work = self.work.lock();
        (work.requests == 0).then_some(work.idle_since)
    }

    /// Completes when no request is being answered.
    pub(super) async fn all_answered(&self) {
        loop {
            let answered = self.answered.notified();
            if self.idle_since().is_some() {
                return;
            }
            answered.await;
        }
    }

    /// Who was let in to HLS last.
    pub(super) fn visitor(&self) -> Option<Arc<Visitor>> {
        self.visitor.lock().clone()
    }

    /// Remembers who was let in to HLS, in place of who was before.
    pub(super) fn remember(&self, visitor: Visitor) {
        *self.visitor.lock() = Some(Arc::new(visitor));
    }

    fn note_flushed(&self) {
        if self.unflushed.swap(false, Ordering::Relaxed) {
            self.flushed.notify_waiters();
        }
    }

    /// Hands the connection over to a stream, once all that was answered before is written. Called in place of the
    /// answer to a request, it never returns: the library, which waits for that answer, is dropped.
    pub(super) async fn hand_over(&self, handover: Handover) -> Infallible {
        loop {
            let flushed = self.flushed.notified();
            if !self.unflushed.load(Ordering::Relaxed) {
                break;
            }
            flushed.await;
        }
        *self.handover.lock() = Some(handover);
        self.handed_over.notify_one();
        core::future::pending().await
    }

    /// Completes when the connection is handed over. Cancel safe.
    pub(super) async fn handed_over(&self) -> Handover {
        loop {
            if let Some(handover) = self.handover.lock().take() {
                return handover;
            }
            self.handed_over.notified().await;
        }
    }

    /// Notes why the connection ends; the first reason stands.
    pub(crate) fn note(&self, reason: CloseReason) {
        let _ = self.reason.set(reason);
    }

    /// Why the connection ended, if that was noted.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().copied()
    }

    /// Ends the connection at once.
    pub(crate) fn kill(&self, reason: CloseReason) {
        self.note(reason);
        self.kill.cancel();
    }

    /// Completes when the connection is to end at once.
    pub(crate) async fn killed(&self) {
        self.kill.cancelled().await;
    }
}

/// A request being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut work = self.0.work.lock();
        work.requests -= 1;
        work.idle_since = Instant::now();
        drop(work);
        self.0.answered.notify_waiters();
    }
}

/// A socket, watched, and lent: who has lent it gets it back when this is dropped.
pub(super) struct Guarded<S> {
    /// There until this is dropped.
    io: Option<S>,
    owner: Option<oneshot::Sender<S>>,
    connection: Arc<Connection>,
    framer: Framer,
    frames: FrameMeter,
    scratch: Box<[u8]>,
    /// Framed, and not read yet.
    ready: BytesMut,
    /// Came while a request was being answered, and is not looked at before that is done.
    held: BytesMut,
    /// The answer to a violation, being written; the connection ends with it.
    reject: Option<Bytes>,
    /// When the head that is coming in began, and whether it is the first.
    head_since: Instant,
    first: bool,
    stalled_since: Option<Instant>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
}

impl<S> Guarded<S> {
    /// Watches `io`, which comes back when the guard is dropped.
    pub(super) fn lend(io: S, connection: Arc<Connection>) -> (Self, oneshot::Receiver<S>) {
        let (owner, back) = oneshot::channel();
        let head_since = connection.accepted;
        let guarded = Self {
            io: Some(io),
            owner: Some(owner),
            connection,
            framer: Framer::new(),
            frames: FrameMeter::new(),
            scratch: vec![0; READ_SIZE].into(),
            ready: BytesMut::new(),
            held: BytesMut::new(),
            reject: None,
            head_since,
            first: true,
            stalled_since: None,
            read_timer: Box::pin(tokio::time::sleep_until(head_since + HEAD_TIME)),
            write_timer: Box::pin(tokio::time::sleep_until(head_since + STALL_TIME)),
        };
        (guarded, back)
    }

    /// When the peer has been quiet for too long, and what that is called.
    fn read_deadline(&self) -> Option<(Instant, Phase)> {
        if self.first {
            return Some((self.head_since + HEAD_TIME, Phase::Handshake));
        }
        if self.framer.is_in_head() {
            return Some((self.head_since + HEAD_TIME, Phase::Command));
        }
        let idle_since = self.connection.idle_since()?;
        Some((idle_since + IDLE_TIME, Phase::Idle))
    }

    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some((deadline, phase)) = self.read_deadline() else { return Poll::Pending };
        if self.read_timer.deadline() != deadline {
            self.read_timer.as_mut().reset(deadline);
        }
        ready!(self.read_timer.as_mut().poll(cx));
        self.connection.note(CloseReason::Timeout(phase));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Takes what came from the socket, in the room for it, unless a request is being answered.
    fn take(&mut self, count: usize) -> io::Result<()> {
        let waits = self.is_answering();
        if waits || !self.held.is_empty() {
            self.held.extend_from_slice(self.scratch.get(..count).unwrap_or_default());
            return if waits { Ok(()) } else { self.frame_held() };
        }
        self.note_head();
        let came = self.scratch.get(..count).unwrap_or_default();
        let result = self.framer.feed(came, &mut self.ready);
        self.note_framed(result)
    }

    /// True while what comes belongs to a later request than the one that is being answered.
    fn is_answering(&self) -> bool {
        !self.first && self.framer.is_idle() && self.connection.idle_since().is_none()
    }

    fn frame_held(&mut self) -> io::Result<()> {
        self.note_head();
        let result = self.framer.feed(&core::mem::take(&mut self.held), &mut self.ready);
        self.note_framed(result)
    }

    fn note_head(&mut self) {
        if self.framer.is_idle() && !self.first {
            self.head_since = Instant::now();
        }
    }

    fn note_framed(&mut self, result: Result<(), Violation>) -> io::Result<()> {
        if !self.ready.is_empty() {
            self.first = false;
        }
        result.or_else(|violation| self.refuse(violation))
    }

    fn refuse(&mut self, violation: Violation) -> io::Result<()> {
        self.connection.note(violation.reason);
        tracing::info!(peer = %self.connection.peer, proto = "http", reason = %violation.reason, "refused: {}", violation.what);
        if !violation.in_head {
            return Err(io::Error::new(io::ErrorKind::InvalidData, violation.what));
        }
        self.ready.clear();
        self.reject = Some(super::problem::raw_response(violation.status, violation.what));
        Ok(())
    }

    /// TCP has given up on the peer: it did not take its answer, or it is gone and there was nothing to answer (F54).
    fn note_lost(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            let idle = self.connection.idle_since().is_some();
            let reason = if idle { CloseReason::Timeout(Phase::Idle) } else { CloseReason::SlowConsumer };
            self.connection.note(reason);
        }
    }

    fn guard_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.note_lost(error);
        }
        if result.is_ready() {
            self.stalled_since = None;
            return result;
        }
        if self.stalled_since.is_none() {
            let now = Instant::now();
            self.stalled_since = Some(now);
            self.write_timer.as_mut().reset(now + STALL_TIME);
        }
        ready!(self.write_timer.as_mut().poll(cx));
        self.connection.note(CloseReason::SlowConsumer);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        if let (Some(io), Some(owner)) = (self.io.take(), self.owner.take()) {
            // Who does not want it back has let go of the other end.
            let _ = owner.send(io);
        }
    }
}

/// The socket of a guard that is not being dropped.
fn pinned<S: Unpin>(io: &mut Option<S>) -> io::Result<Pin<&mut S>> {
    io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Writes the answer to a violation and says good-bye; reads as the end of the stream when done.
    fn poll_reject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(answer) = self.reject.as_mut().filter(|answer| answer.has_remaining()) {
            let written = pinned(&mut self.io)?.poll_write(cx, answer);
            let count = match written {
                Poll::Ready(result) => result?,
                Poll::Pending => return self.guard_write(cx, Poll::Pending),
            };
            answer.advance(count);
        }
        pinned(&mut self.io)?.poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(this.poll_framed(cx, out))?;
        if this.framer.is_multiplexed() {
            let came = out.filled().get(before..).unwrap_or_default();
            let taken = this.frames.take(came, Instant::now());
            taken.or_else(|violation| this.refuse(violation))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Reads what is framed.
    fn poll_framed(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self;
        loop {
            if this.reject.is_some() {
                return this.poll_reject(cx);
            }
            if !this.ready.is_empty() {
                let count = this.ready.len().min(out.remaining());
                out.put_slice(this.ready.get(..count).unwrap_or_default());
                this.ready.advance(count);
                return Poll::Ready(Ok(()));
            }
            if !this.held.is_empty() && !this.is_answering() {
                this.frame_held()?;
                continue;
            }
            if this.held.len() >= MAX_HEAD {
                // Read on when the request is answered; until then the write side notices a peer that leaves.
                return Poll::Pending;
            }
            let polled = match this.framer.body_left() {
                Some(left) => poll_body(pinned(&mut this.io)?, cx, out, left),
                None => poll_head(pinned(&mut this.io)?, cx, &mut this.scratch),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) if this.framer.body_left().is_some() => {
                    this.framer.pass(count as u64);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(count)) => this.take(count)?,
                Poll::Ready(Err(error)) => {
                    this.note_lost(&error);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return this.check_read_deadline(cx).map(Err),
            }
        }
    }
}

/// Reads a body straight to its reader, not beyond its end.
fn poll_body<S: AsyncRead + Unpin>(
    io: Pin<&mut S>,
    cx: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
    left: u64,
) -> Poll<io::Result<usize>> {
    let room = usize::try_from(left).unwrap_or(usize::MAX).min(out.remaining());
    let mut window = ReadBuf::new(out.initialize_unfilled_to(room));
    ready!(io.poll_read(cx, &mut window))?;
    let count = window.filled().len();
    out.advance(count);
    Poll::Ready(Ok(count))
}

fn poll_head<S: AsyncRead + Unpin>(
    io: Pin<&mut S>,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut window = ReadBuf::new(scratch);
    ready!(io.poll_read(cx, &mut window))?;
    Poll::Ready(Ok(window.filled().len()))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection.unflushed.store(true, Ordering::Relaxed);
        let result = pinned(&mut this.io)?.poll_write(cx, bytes);
        this.guard_write(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection.unflushed.store(true, Ordering::Relaxed);
        let result = pinned(&mut this.io)?.poll_write_vectored(cx, parts);
        this.guard_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = pinned(&mut this.io)?.poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            // A library flushes what is below it when it has nothing left itself.
            this.connection.note_flushed();
        }
        this.guard_write(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = pinned(&mut this.io)?.poll_shutdown(cx);
        this.guard_write(cx, result)
    }
}

#[cfg(test)]
mod tests;
