//! Which connection carries which stream, for whoever asks how it does.

use core::pin::pin;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use arcly_core::StreamKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::session::{Statistics, Totals};
use crate::socket::{Ending, Peer, SocketStatistics};
use crate::wire::SocketId;

/// A connection that carries a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Where the peer is.
    pub remote: SocketAddr,
    /// The stream.
    pub key: StreamKey,
    /// The peer publishes it, or else plays it.
    pub publishes: bool,
    /// What has been counted.
    pub statistics: Statistics,
}

/// What a server has counted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// Of all connections, those that are over too.
    pub totals: Totals,
    /// Datagrams that were passed over, by reason: [`SocketStatistics::ignored`].
    pub ignored: BTreeMap<&'static str, u64>,
    /// The connections that carry a stream.
    pub connections: Vec<ConnectionInfo>,
}

/// The connections that carry a stream.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Mutex<HashMap<SocketId, Row>>,
    /// Streams whose publishers have them and are about to be told so: they may be gone again before they have a row.
    opening: Mutex<Vec<StreamKey>>,
    /// Somebody has been taken out.
    left: Notify,
}

#[derive(Debug)]
struct Row {
    remote: SocketAddr,
    key: StreamKey,
    publishes: bool,
    ending: Ending,
}

/// A publisher that is about to be told that it is one. Dropping it says that it has a row, or has left.
pub(super) struct Opening {
    table: Arc<Table>,
    key: StreamKey,
}

/// One of them; dropping it takes it out.
pub(super) struct Entry {
    table: Arc<Table>,
    id: SocketId,
}

impl Table {
    pub(super) fn open(self: &Arc<Self>, key: &StreamKey) -> Opening {
        self.opening.lock().push(key.clone());
        Opening { table: Arc::clone(self), key: key.clone() }
    }

    pub(super) fn enter(
        self: &Arc<Self>,
        peer: &Peer,
        remote: SocketAddr,
        key: &StreamKey,
        publishes: bool,
    ) -> Entry {
        let row = Row { remote, key: key.clone(), publishes, ending: peer.ending() };
        self.rows.lock().insert(peer.id(), row);
        Entry { table: Arc::clone(self), id: peer.id() }
    }

    /// Completes when nobody publishes the stream whose connection is over: they are about to leave, and their stream's name
    /// is free. Of those that are not told yet that they publish it nobody knows whether they are over.
    pub(super) async fn until_left(&self, key: &StreamKey) {
        let is_leaving = |row: &Row| row.publishes && row.key == *key && row.ending.is_over();
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if !self.opening.lock().contains(key) && !self.rows.lock().values().any(is_leaving) {
                return;
            }
            left.await;
        }
    }

    pub(super) fn describe(&self, all: SocketStatistics) -> ServerStatistics {
        let SocketStatistics { totals, ignored, each } = all;
        let rows = self.rows.lock();
        let connections = each.into_iter().filter_map(|(id, statistics)| {
            let Row { remote, key, publishes, .. } = rows.get(&id)?;
            Some(ConnectionInfo { remote: *remote, key: key.clone(), publishes: *publishes, statistics })
        });
        ServerStatistics { totals, ignored, connections: connections.collect() }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = self.table.opening.lock();
        if let Some(at) = opening.iter().position(|key| *key == self.key) {
            opening.swap_remove(at);
        }
        drop(opening);
        self.table.left.notify_waiters();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.rows.lock().remove(&self.id);
        self.table.left.notify_waiters();
    }
}
