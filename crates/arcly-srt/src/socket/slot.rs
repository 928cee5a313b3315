//! One handle's end in the driver.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::Opened;
use super::carrier::{Carrier, Want};
use super::peer::{MAX_INBOX, Shared};
use crate::error::SessionError;
use crate::session::{Connection, SendError};
use crate::wire::SocketId;

/// Where a datagram goes, and from which of this machine's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) source: Option<IpAddr>,
    pub(super) remote: SocketAddr,
}

/// Datagrams that are to be sent.
pub(super) type Outgoing = Vec<(Route, Bytes)>;

/// A connection or a group, its handle's other end, and its entry in the heap.
pub(super) struct Slot {
    /// A connection's socket id; of a group one that no connection has.
    pub(super) id: SocketId,
    pub(super) remote: SocketAddr,
    pub(super) carrier: Carrier,
    /// Once there is a connection.
    shared: Option<Arc<Shared>>,
    /// Who waits for there being one.
    opened: Option<Opened>,
    /// The earliest entry in the heap.
    pub(super) scheduled: Option<Instant>,
    /// When the machine wants to be woken.
    pub(super) wake: Option<Instant>,
    /// Paths of the group that are to be called.
    pub(super) wanted: Vec<SocketAddr>,
    /// The addresses of this machine that the peers of its connections send to.
    sources: Vec<(SocketId, IpAddr)>,
    held: bool,
    closing: bool,
    /// Something has happened to it that it was not asked about yet.
    pub(super) touched: bool,
}

impl Slot {
    /// A connection that is being made.
    pub(super) fn calling(connection: Connection, opened: Opened) -> Self {
        let (id, remote) = (connection.local_id(), connection.remote());
        Self::new((id, remote), Carrier::One(Box::new(connection)), opened)
    }

    pub(super) const fn new((id, remote): (SocketId, SocketAddr), carrier: Carrier, opened: Opened) -> Self {
        Self {
            id,
            remote,
            carrier,
            shared: None,
            opened: Some(opened),
            scheduled: None,
            wake: None,
            wanted: Vec::new(),
            sources: Vec::new(),
            held: false,
            closing: false,
            touched: false,
        }
    }

    /// The peer of the connection `id` sends to this address, and expects what is sent to it from there.
    pub(super) fn set_source(&mut self, id: SocketId, source: Option<IpAddr>) {
        let Some(source) = source.filter(|source| !source.is_multicast()) else { return };
        match self.sources.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = source,
            None => self.sources.push((id, source)),
        }
    }

    /// These connections are not this slot's any more.
    pub(super) fn forget_source(&mut self, id: SocketId) {
        self.sources.retain(|(known, _)| *known != id);
    }

    /// Hands on everything that the machine has to say, and what the handle wants to send.
    pub(super) fn pump(&mut self, now: Instant, outgoing: &mut Outgoing) {
        self.announce(now);
        self.drain(outgoing);
        if self.send(now) | self.close_when_sent(now) {
            self.drain(outgoing);
        }
        self.hold(now);
        if let Some(shared) = &self.shared {
            let given_up = self.carrier.given_up();
            if shared.given_up.load(Ordering::Relaxed) != given_up {
                *shared.given_up_until.lock() = self.carrier.given_up_until();
                shared.given_up.store(given_up, Ordering::Relaxed);
            }
        }
    }

    /// Tells who waits that there is a connection; the connection of one who waits no more is closed.
    fn announce(&mut self, now: Instant) {
        let Some(negotiated) = self.carrier.negotiated().filter(|_| self.shared.is_none()) else { return };
        let shared = Arc::new(Shared::new(self.id, self.remote, negotiated.clone()));
        self.shared = Some(Arc::clone(&shared));
        if let Some(opened) = self.opened.take() {
            // Whoever has given up drops no handle: the connection would stay.
            if opened.send(Ok(shared)).is_err() {
                self.shared = None;
                self.carrier.close(now);
            }
        }
    }

    fn drain(&mut self, outgoing: &mut Outgoing) {
        let mut delivered = false;
        loop {
            match self.carrier.poll() {
                Want::Send(id, remote, datagram) => {
                    let source =
                        self.sources.iter().find(|(known, _)| *known == id).map(|(_, source)| *source);
                    outgoing.push((Route { source, remote }, datagram));
                }
                Want::Call(remote) => self.wanted.push(remote),
                Want::Deliver(message) => {
                    if let Some(shared) = &self.shared {
                        shared.inbox.lock().push_back(message);
                        delivered = true;
                    }
                }
                Want::Dropped(packets) => {
                    if let Some(shared) = &self.shared {
                        shared.dropped.fetch_add(packets, Ordering::Relaxed);
                    }
                }
                Want::Wait(wake) => {
                    self.wake = wake;
                    break;
                }
            }
        }
        if let Some(shared) = self.shared.as_ref().filter(|_| delivered) {
            shared.readable.notify_one();
        }
    }

    /// Hands the machine what the handle wants to send, as far as there is room. True when that was anything.
    fn send(&mut self, now: Instant) -> bool {
        let Some(shared) = &self.shared else { return false };
        let mut sent = false;
        while self.carrier.send_room() > 0 {
            let Some((sent_at, message)) = shared.outbox.lock().pop_front() else { break };
            match self.carrier.send(now, message.clone(), sent_at) {
                Ok(()) => sent = true,
                Err(SendError::Full) => {
                    // A message of many packets waits for as much room.
                    shared.outbox.lock().push_front((sent_at, message));
                    break;
                }
                // The connection has just ended.
                Err(_) => {}
            }
        }
        if sent {
            shared.writable.notify_one();
        }
        sent
    }

    /// The handle is gone: closes the connection once it has taken what is to be sent.
    fn close_when_sent(&mut self, now: Instant) -> bool {
        if !self.closing || self.shared.as_ref().is_some_and(|shared| !shared.outbox.lock().is_empty()) {
            return false;
        }
        self.closing = false;
        self.carrier.close(now);
        true
    }

    /// The handle is gone.
    pub(super) const fn close(&mut self) {
        self.closing = true;
    }

    /// Stops delivery while the reader has too much, and goes on when it has taken half.
    fn hold(&mut self, now: Instant) {
        let Some(shared) = &self.shared else { return };
        let waiting = shared.inbox.lock().len();
        if !self.held && waiting >= MAX_INBOX {
            self.held = true;
            shared.held.store(true, Ordering::Release);
            self.carrier.hold(now, true);
        } else if self.held && !shared.held.load(Ordering::Acquire) {
            self.held = false;
            self.carrier.hold(now, false);
        }
    }

    /// The handle has been heard.
    pub(super) fn heard(&self) {
        if let Some(shared) = &self.shared {
            shared.told.store(false, Ordering::Release);
        }
    }

    /// It has ended. What is left of it are its connections.
    pub(super) fn finish(mut self, error: SessionError) -> Vec<Connection> {
        if let Some(opened) = self.opened.take() {
            _ = opened.send(Err(error.clone()));
        }
        if let Some(shared) = self.shared {
            shared.finish(error);
        }
        self.carrier.departed()
    }
}
