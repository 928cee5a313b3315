//! Every open HTTP connection, so that there are never too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arcly_core::CloseReason;
use parking_lot::Mutex;

use super::guard::Connection;
use crate::config::LimitsConfig;
use crate::process;

/// File descriptors kept free for everything that is not an HTTP connection.
const RESERVED_FDS: u64 = 256;
/// Connections when the system does not say how many files may be open.
const FALLBACK: usize = 4_096;
/// Fewest connections, however few files may be open.
const FEWEST: usize = 16;

/// The open connections, bounded in all and for each address.
#[derive(Debug)]
pub(crate) struct Connections {
    next: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    max: usize,
    max_per_address: usize,
    connections: HashMap<u64, Arc<Connection>>,
    per_address: HashMap<IpAddr, usize>,
}

impl Connections {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        let connections = Self { next: AtomicU64::new(0), open: Mutex::default() };
        connections.set_limits(limits);
        connections
    }

    /// Changes the bounds for connections that come from now on.
    pub(crate) fn set_limits(&self, limits: &LimitsConfig) {
        let by_files = || {
            let files = process::max_fds().map(|max| usize::try_from(max.saturating_sub(RESERVED_FDS)));
            files.and_then(Result::ok).unwrap_or(FALLBACK).max(FEWEST)
        };
        let max = if limits.http_connections == 0 { by_files() } else { limits.http_connections };
        let mut open = self.open.lock();
        (open.max, open.max_per_address) = (max, limits.http_connections_per_address);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().connections.len()
    }

    /// Lets a connection in; when there is no room, the one that has been idle longest goes for it.
    ///
    /// # Errors
    /// Everybody is busy, or the address has too many connections already.
    pub(crate) fn admit(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<Place, CloseReason> {
        let address = connection.peer.ip();
        let mut open = self.open.lock();
        if open.per_address.get(&address).is_some_and(|count| *count >= open.max_per_address) {
            return Err(CloseReason::Overloaded);
        }
        if open.connections.len() >= open.max {
            let idle = open.connections.iter().filter_map(|(id, one)| Some((one.idle_since()?, *id)));
            let (_, id) = idle.min().ok_or(CloseReason::Overloaded)?;
            open.evict(id);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.connections.insert(id, Arc::clone(connection));
        *open.per_address.entry(address).or_default() += 1;
        Ok(Place { connections: Arc::clone(self), id })
    }
}

impl Open {
    fn evict(&mut self, id: u64) {
        if let Some(connection) = self.remove(id) {
            connection.kill(CloseReason::Overloaded);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let connection = self.connections.remove(&id)?;
        let address = connection.peer.ip();
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(connection)
    }
}

/// A connection's place among the open ones, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn connections(max: usize, per_address: usize) -> Arc<Connections> {
        let limits = LimitsConfig {
            http_connections: max,
            http_connections_per_address: per_address,
            ..LimitsConfig::default()
        };
        Arc::new(Connections::new(&limits))
    }

    fn from(address: [u8; 4]) -> Arc<Connection> {
        Connection::new(SocketAddr::from((address, 1)), None)
    }

    #[tokio::test(start_paused = true)]
    async fn h11_under_pressure_the_longest_idle_goes_first() {
        let all = connections(2, 10);
        let (old, busy, new) = (from([10, 0, 0, 1]), from([10, 0, 0, 2]), from([10, 0, 0, 3]));
        let _old = all.admit(&old).unwrap();
        let _work = busy.begin();
        let _busy = all.admit(&busy).unwrap();
        let new_place = all.admit(&new).unwrap();
        assert_eq!((old.reason(), busy.reason()), (Some(CloseReason::Overloaded), None));
        let _new_work = new.begin();
        let refused = all.admit(&from([10, 0, 0, 4])).unwrap_err();
        assert_eq!(refused, CloseReason::Overloaded, "busy connections are not cut off");
        drop(new_place);
        assert_eq!(all.len(), 1);
        assert!(all.admit(&from([10, 0, 0, 4])).is_ok());
    }

    #[tokio::test]
    async fn an_address_has_its_share() {
        let all = connections(10, 1);
        let place = all.admit(&from([10, 0, 0, 1])).unwrap();
        assert!(all.admit(&from([10, 0, 0, 1])).is_err());
        assert!(all.admit(&from([10, 0, 0, 2])).is_ok());
        drop(place);
        assert!(all.admit(&from([10, 0, 0, 1])).is_ok());
    }
}
