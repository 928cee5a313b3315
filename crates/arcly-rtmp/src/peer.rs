//! One server-side connection, driven by its owner: the lower of the two entry points, for programs that want to see
//! every request and every tag instead of handing them to an engine.
//!
//! ```no_run
//! # async fn serve(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use arcly_rtmp::{Peer, ServerEvent, SessionConfig};
//!
//! let (socket, remote) = listener.accept().await?;
//! let mut peer = Peer::new(socket.into_split(), remote, Arc::new(SessionConfig::default()))?;
//! while let Some(event) = peer.next().await? {
//!     match event {
//!         ServerEvent::PublishRequest { stream, .. } => peer.accept_publish(stream),
//!         ServerEvent::Tag { tag, .. } => println!("{:?} at {} ms", tag.kind, tag.timestamp),
//!         other => peer.reject(other.stream(), arcly_core::CloseReason::Unsupported, "publishers only"),
//!     }
//! }
//! # Ok(()) }
//! ```

use core::future::poll_fn;
use core::pin::pin;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine, Output};
use arcly_core::{CloseReason, clock};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::config::SessionConfig;
use crate::error::{PeerError, PeerErrorCause, SessionError};
use crate::io::{Outbox, os_entropy, poll_receive};
use crate::session::{ServerEvent, ServerSession, StreamId};

/// The longest sleep of a session that waits for input alone.
const IDLE: Duration = Duration::from_secs(3_600);

/// A client's connection.
pub struct Peer<R, W> {
    remote: SocketAddr,
    session: ServerSession,
    reader: R,
    writer: W,
    outbox: Outbox,
    failed: Option<SessionError>,
    at_end: bool,
}

impl<R, W> core::fmt::Debug for Peer<R, W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peer").field("remote", &self.remote).finish_non_exhaustive()
    }
}

enum Activity {
    Input(io::Result<usize>),
    Written(io::Result<usize>),
    Timer,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Peer<R, W> {
    /// A connection over the halves of a socket, or of anything else that carries bytes both ways.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn new((reader, writer): (R, W), remote: SocketAddr, config: Arc<SessionConfig>) -> io::Result<Self> {
        let session = ServerSession::new(config, os_entropy()?, clock::now());
        Ok(Self { remote, session, reader, writer, outbox: Outbox::default(), failed: None, at_end: false })
    }

    /// The peer's address.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The session: what the client said about itself, and everything that can be answered.
    pub const fn session(&mut self) -> &mut ServerSession {
        &mut self.session
    }

    /// The client may publish.
    pub fn accept_publish(&mut self, stream: StreamId) {
        self.session.accept_publish(clock::now(), stream);
    }

    /// The client may play; send it messages from now on.
    pub fn accept_play(&mut self, stream: StreamId) {
        self.session.accept_play(clock::now(), stream);
    }

    /// The client may not.
    pub fn reject(&mut self, stream: StreamId, reason: CloseReason, description: &str) {
        self.session.reject(stream, reason, description);
    }

    /// Queues an encoded message ([`encode_message`](crate::wire::encode_message), with the chunk size of the
    /// configuration) behind what the session has to say. Unbounded: look at [`backlog`](Self::backlog), and leave
    /// whole GOPs out when it grows. Written by [`next`](Self::next).
    pub fn send(&mut self, message: Bytes) {
        self.take_answers();
        self.outbox.push(message);
    }

    /// Bytes that wait for the socket.
    #[must_use]
    pub const fn backlog(&self) -> usize {
        self.outbox.len()
    }

    /// The next event, `None` when the connection has ended in good order. Writes what waits meanwhile. Cancel safe.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit, or the socket failed.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, PeerError> {
        loop {
            let until = match self.session.poll_output() {
                Output::Transmit(bytes) => {
                    self.outbox.push(bytes);
                    continue;
                }
                Output::Event(event) => return Ok(Some(event)),
                Output::Wait(until) => until,
            };
            let over = self.at_end || self.session.closed().is_some();
            if over && (self.outbox.is_empty() || self.at_end) {
                let _ = self.writer.shutdown().await;
                return self.failed.take().map_or(Ok(None), |error| Err(self.error(error)));
            }
            self.step(until).await.map_err(|error| self.error(error))?;
        }
    }

    fn error(&self, cause: impl Into<PeerErrorCause>) -> PeerError {
        PeerError { remote: self.remote, cause: cause.into() }
    }

    fn take_answers(&mut self) {
        // Answers come before events out of a session, and events stay in it.
        while let Some(bytes) = self.session.take_transmit() {
            self.outbox.push(bytes);
        }
    }

    async fn step(&mut self, until: Option<Instant>) -> io::Result<()> {
        let due = until.unwrap_or_else(|| clock::now() + IDLE);
        let mut sleep = pin!(tokio::time::sleep_until(due.into()));
        let activity = poll_fn(|cx| {
            if let Poll::Ready(activity) = self.poll_activity(cx) {
                return Poll::Ready(activity);
            }
            sleep.as_mut().poll(cx).map(|()| Activity::Timer)
        });
        let activity = activity.await;
        let now = clock::now();
        let result = match activity {
            Activity::Input(Ok(0)) => {
                self.at_end = true;
                Ok(())
            }
            Activity::Input(Ok(_)) if now < due => Ok(()),
            Activity::Input(Ok(_)) | Activity::Timer => self.session.handle_timeout(now),
            // Media waits here too, and is its owner's to bound: only standing still counts.
            Activity::Written(Ok(_)) => self.session.handle_backlog(now, self.outbox.len().min(1), true),
            Activity::Input(Err(error)) | Activity::Written(Err(error)) => return Err(error),
        };
        self.note(result);
        Ok(())
    }

    fn poll_activity(&mut self, cx: &mut Context<'_>) -> Poll<Activity> {
        if !self.outbox.is_empty() {
            if let Poll::Ready(written) = self.outbox.poll_write(&mut self.writer, cx) {
                return Poll::Ready(Activity::Written(written));
            }
            let waits = self.session.handle_backlog(clock::now(), 1, false);
            self.note(waits);
        }
        let Self { reader, session, failed, .. } = self;
        let received = poll_receive(reader, cx, |bytes| {
            if let Err(error) = session.handle_input(clock::now(), bytes) {
                failed.get_or_insert(error);
            }
        });
        received.map(Activity::Input)
    }

    fn note(&mut self, result: Result<(), SessionError>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}
