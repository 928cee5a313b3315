use std::net::SocketAddr;
use std::sync::Arc;

use crate::close::CloseReason;
use crate::contract::observe::{EngineEvent, Observer};

/// How a connection ends, as the observer hears of it: once, when this is dropped, even when its task panics.
pub struct SessionReport<S> {
    /// What all connections of its server have in common.
    pub shared: Arc<S>,
    /// Who has connected.
    pub remote: SocketAddr,
    /// Over what.
    pub protocol: &'static str,
    /// Why it has ended; [`Internal`](CloseReason::Internal) until somebody says.
    pub reason: CloseReason,
    observer: Arc<dyn Observer>,
}

impl<S> core::fmt::Debug for SessionReport<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { remote, protocol, reason, .. } = self;
        write!(f, "SessionReport({remote}, {protocol}, {reason})")
    }
}

impl<S> SessionReport<S> {
    /// A connection that has just been made.
    #[must_use]
    pub fn new(
        shared: Arc<S>,
        observer: Arc<dyn Observer>,
        protocol: &'static str,
        remote: SocketAddr,
    ) -> Self {
        Self { shared, remote, protocol, reason: CloseReason::Internal, observer }
    }
}

impl<S> Drop for SessionReport<S> {
    fn drop(&mut self) {
        let Self { remote, protocol, reason, .. } = *self;
        self.observer.on_event(&EngineEvent::SessionClosed { protocol, remote: Some(remote), reason });
    }
}
