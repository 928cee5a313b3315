//! How a socket and its connections do, for whoever wants to know and does not hold them.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::driver::Command;
use crate::session::{Statistics, Totals};
use crate::wire::SocketId;

/// Asks a socket for its figures. It keeps nothing alive.
#[derive(Clone, Debug)]
pub struct Watch(mpsc::WeakUnboundedSender<Command>);

/// What a socket has counted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SocketStatistics {
    /// Of all connections, those that are over too.
    pub totals: Totals,
    /// Datagrams that were passed over, by reason: `short` is no SRT, `source` came from somewhere else than its
    /// connection's peer, `cookie` was not given to its sender, `no handshake` and `no caller` are for nobody who is here,
    /// `repeated` has been decided on.
    pub ignored: BTreeMap<&'static str, u64>,
    /// The connections that are there.
    pub each: Vec<(SocketId, Statistics)>,
}

impl Watch {
    pub(super) const fn new(commands: mpsc::WeakUnboundedSender<Command>) -> Self {
        Self(commands)
    }

    /// The figures; `None` once the socket is gone. Cancel safe.
    pub async fn statistics(&self) -> Option<Box<SocketStatistics>> {
        let (answer, statistics) = oneshot::channel();
        self.0.upgrade()?.send(Command::Watch(answer)).ok()?;
        statistics.await.ok()
    }
}
