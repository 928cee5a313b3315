//! Those who want to connect.

use std::net::SocketAddr;
use std::time::Instant;

use arcly_core::CloseReason;
use tokio::sync::{mpsc, oneshot};

use super::Peer;
use super::driver::Command;
use crate::config::Config;
use crate::error::SessionError;
use crate::session::Request;
use crate::wire::{GroupKind, KeyLength, RejectReason};

/// Somebody at the door of a socket.
#[derive(Debug)]
pub enum Caller {
    /// Wants to connect, and waits for a decision.
    Asks(Incoming),
    /// Has been refused because of what it sent.
    Refused {
        /// Where it is; its cookie has proved it.
        remote: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// Somebody who wants to connect. Dropped without a decision it is refused.
#[derive(Debug)]
pub struct Incoming {
    request: Option<Box<Request>>,
    commands: mpsc::UnboundedSender<Command>,
    remote: SocketAddr,
    stream_id: Option<String>,
    encrypted: Option<KeyLength>,
    group: Option<GroupKind>,
}

impl Incoming {
    pub(super) fn new(request: Box<Request>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            commands,
            remote: request.remote,
            stream_id: request.stream_id.clone(),
            encrypted: request.encrypted,
            group: request.group.map(|group| group.kind),
            request: Some(request),
        }
    }

    /// Where the caller is; its cookie has proved it.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// What it asks for: see [`StreamId`](crate::wire::StreamId).
    #[must_use]
    pub fn stream_id(&self) -> Option<&str> {
        self.stream_id.as_deref()
    }

    /// The kind of group that the caller is, of which this is the first connection.
    #[must_use]
    pub const fn group(&self) -> Option<GroupKind> {
        self.group
    }

    /// How long the keys are that it sends; `None` in the clear.
    #[must_use]
    pub const fn encrypted(&self) -> Option<KeyLength> {
        self.encrypted
    }

    /// Unwraps the keys that the caller sends, which costs thousands of hashes: not for a task that others wait for.
    /// [`accept`](Self::accept) with the same configuration then costs none, and without this it costs the socket's own task
    /// as many.
    ///
    /// # Errors
    /// What [`accept`](Self::accept) would refuse the caller with for its passphrase, or for having none: what is to be known
    /// before anything else is done for it.
    pub fn check(&mut self, config: &Config) -> Result<(), RejectReason> {
        self.request.as_mut().map_or(Ok(()), |request| request.prepare(Instant::now(), config))
    }

    /// Accepts the caller.
    ///
    /// # Errors
    /// What `config` does not allow is refused all the same: another passphrase, say.
    pub async fn accept(mut self, config: Config) -> Result<Peer, SessionError> {
        let Some(request) = self.request.take() else { return Err(SessionError::Closed) };
        let (done, connected) = oneshot::channel();
        _ = self.commands.send(Command::Accept { request, config: Box::new(config), done });
        let shared = connected.await.unwrap_or(Err(SessionError::Closed))?;
        Ok(Peer::new(shared, self.commands.clone()))
    }

    /// Refuses the caller, and says why.
    pub fn reject(mut self, reason: RejectReason) {
        self.refuse(reason);
    }

    fn refuse(&mut self, reason: RejectReason) {
        if let Some(request) = self.request.take() {
            _ = self.commands.send(Command::Reject { request, reason });
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.refuse(RejectReason::CLOSE);
    }
}
