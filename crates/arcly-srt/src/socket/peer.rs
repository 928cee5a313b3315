//! A connection's handle, and what it shares with the driver.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::driver::Command;
use crate::error::SessionError;
use crate::session::{Message, Negotiated, SendError, Statistics};
use crate::wire::SocketId;

/// Messages that are received and not taken.
pub const MAX_INBOX: usize = 1_024;
/// Messages that are to be sent, and that the connection has not taken yet.
pub const MAX_OUTBOX: usize = 256;

/// What a handle and the driver share. Locks are held for a push or a pop.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SocketId,
    pub(super) remote: SocketAddr,
    pub(super) negotiated: Negotiated,
    pub(super) inbox: Mutex<VecDeque<Message>>,
    /// With the time that each was sent at, from which its delivery counts.
    pub(super) outbox: Mutex<VecDeque<(Instant, Bytes)>>,
    /// The reader has something to look at; and the sender.
    pub(super) readable: Notify,
    pub(super) writable: Notify,
    /// Delivery has stopped: the reader is to say so when it has taken half.
    pub(super) held: AtomicBool,
    /// The driver has been told to look at the outbox, or the inbox, and has not done it yet.
    pub(super) told: AtomicBool,
    pub(super) dropped: AtomicU64,
    pub(super) given_up: AtomicU64,
    /// When the newest of those was handed over.
    pub(super) given_up_until: Mutex<Option<Instant>>,
    pub(super) end: Mutex<Option<SessionError>>,
}

impl Shared {
    pub(super) fn new(id: SocketId, remote: SocketAddr, negotiated: Negotiated) -> Self {
        Self {
            id,
            remote,
            negotiated,
            inbox: Mutex::default(),
            outbox: Mutex::default(),
            readable: Notify::new(),
            writable: Notify::new(),
            held: AtomicBool::new(false),
            told: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            given_up_until: Mutex::default(),
            end: Mutex::default(),
        }
    }

    pub(super) fn finish(&self, error: SessionError) {
        *self.end.lock() = Some(error);
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

/// One connection. It is closed when this is dropped, once what was sent has left; outside of live mode once that has arrived,
/// or [`Config::linger`](crate::Config::linger) has passed.
///
/// One task may receive and another send. Messages keep their boundaries, but in
/// [`TransmissionMode::File`](crate::TransmissionMode::File), and have at most
/// [`message_size`](Negotiated::message_size) bytes each.
#[derive(Debug)]
pub struct Peer {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Peer {
    pub(super) const fn new(shared: Arc<Shared>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { shared, commands }
    }

    /// The next message, when it is due. Cancel safe; one task at a time.
    ///
    /// # Errors
    /// The connection has ended: what came before is taken first.
    pub async fn recv(&self) -> Result<Message, SessionError> {
        loop {
            let (message, left) = {
                let mut inbox = self.shared.inbox.lock();
                (inbox.pop_front(), inbox.len())
            };
            if left <= MAX_INBOX / 2 && self.shared.held.swap(false, Ordering::AcqRel) {
                self.tell();
            }
            if let Some(message) = message {
                return Ok(message);
            }
            if let Some(error) = self.ended() {
                return Err(error);
            }
            self.shared.readable.notified().await;
        }
    }

    /// Sends a message; waits while there are [`MAX_OUTBOX`] before it. Cancel safe: a call that is dropped has sent
    /// nothing. One task at a time.
    ///
    /// # Errors
    /// The connection has ended, or the message is longer than [`message_size`](Negotiated::message_size), or empty.
    pub async fn send(&self, message: Bytes) -> Result<(), SessionError> {
        let limit = self.shared.negotiated.message_size;
        if message.is_empty() || message.len() > limit {
            return Err(SessionError::Limit {
                what: "message",
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            });
        }
        loop {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            {
                let mut outbox = self.shared.outbox.lock();
                if outbox.len() < MAX_OUTBOX {
                    outbox.push_back((Instant::now(), message));
                    break;
                }
            }
            self.shared.writable.notified().await;
        }
        self.tell();
        Ok(())
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// There is none; the connection has ended; or the message is too long, or empty.
    pub fn try_send(&self, message: Bytes) -> Result<(), SendError> {
        let limit = self.shared.negotiated.message_size;
        match (message.len(), self.ended()) {
            (_, Some(_)) => return Err(SendError::NotConnected),
            (0, None) => return Err(SendError::Empty),
            (len, None) if len > limit => return Err(SendError::TooLong { limit }),
            _ => {}
        }
        let mut outbox = self.shared.outbox.lock();
        if outbox.len() >= MAX_OUTBOX {
            return Err(SendError::Full);
        }
        outbox.push_back((Instant::now(), message));
        drop(outbox);
        self.tell();
        Ok(())
    }

    /// Tells the driver to look, once until it has.
    fn tell(&self) {
        if !self.shared.told.swap(true, Ordering::AcqRel) {
            _ = self.commands.send(Command::Look(self.shared.id));
        }
    }

    fn ended(&self) -> Option<SessionError> {
        if self.commands.is_closed() {
            return Some(SessionError::Closed);
        }
        self.shared.end.lock().clone()
    }

    /// Where the peer is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.shared.remote
    }

    /// What both ends have agreed upon: latencies, encryption, the stream id.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.shared.negotiated
    }

    /// Packets that came too late, or never.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Packets of this side that were not sent, or not again, because it was too late for them.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// When the newest message of which something was given up had been handed over: those that were handed over later have lost
    /// nothing yet. `None` when nothing was given up.
    #[must_use]
    pub fn given_up_until(&self) -> Option<Instant> {
        *self.shared.given_up_until.lock()
    }

    /// Whether the connection is over, for whoever has not the handle.
    #[cfg(feature = "ts")]
    pub(crate) fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.shared))
    }

    /// This side's socket id.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.shared.id
    }

    /// What has been counted; `None` once the connection has ended. Cancel safe.
    pub async fn statistics(&self) -> Option<Box<Statistics>> {
        let (answer, statistics) = oneshot::channel();
        _ = self.commands.send(Command::Statistics { id: self.shared.id, answer });
        statistics.await.ok()
    }
}

/// Knows whether a connection is over.
#[cfg(feature = "ts")]
#[derive(Debug)]
pub(crate) struct Ending(Arc<Shared>);

#[cfg(feature = "ts")]
impl Ending {
    pub(crate) fn is_over(&self) -> bool {
        self.0.end.lock().is_some()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        _ = self.commands.send(Command::Close(self.shared.id));
    }
}
