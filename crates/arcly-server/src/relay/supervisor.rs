//! The pulls and pushes of a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::{Engine, StreamKey, StreamState};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::demand::Demand;
use super::route::Route;
use super::spec::RelaySpec;
use super::task::keep_running;
use super::{Endpoint, Reach, RelayError};
use crate::config::RelayConfig;
use crate::server::Listener;

/// Relays of one server.
const MAX_RELAYS: usize = 1_000;

/// What a relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    /// It is on demand, and nobody wants its stream.
    Idle,
    /// It connects, or pushes, or waits for the stream that it pushes.
    Connecting,
    /// It pulls, and the stream is there.
    Running,
    /// It waits before another attempt.
    Waiting,
    /// It was stopped.
    Stopped,
}

/// A picture of a relay.
#[derive(Clone, Debug)]
pub struct RelayInfo {
    /// Its number.
    pub id: u64,
    /// Where it reads.
    pub from: Endpoint,
    /// Where it writes.
    pub to: Endpoint,
    /// It pulls only while somebody reads its stream, and so long after; `None` for always.
    pub close_after: Option<Duration>,
    /// What it is doing.
    pub state: RelayState,
    /// Since when it exists.
    pub since: SystemTime,
    /// Times it has tried.
    pub attempts: u64,
    /// What went wrong the last time.
    pub last_error: Option<String>,
}

pub(super) struct Entry {
    pub(super) info: Mutex<RelayInfo>,
    pub(super) reach: Reach,
    /// The stream of this server that it publishes.
    pub(super) published: Option<StreamKey>,
    close_after: Option<Duration>,
    /// Somebody asks for the stream that it publishes.
    pub(super) wanted: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Entry {
    /// The stream that it publishes, and how long it does so without readers, when it is on demand.
    pub(super) fn demand(&self) -> Option<(&StreamKey, Duration)> {
        self.published.as_ref().zip(self.close_after)
    }
}

/// The relays of one server. Each is a task that tries again until it is stopped.
pub struct Relays {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) listeners: Vec<Listener>,
    pub(super) entries: Mutex<Entries>,
    demand: Arc<Demand>,
}

#[derive(Default)]
pub(super) struct Entries {
    last: u64,
    by_id: BTreeMap<u64, Arc<Entry>>,
    /// The relays that read one stream of this server and write another, whether by name or by way of a listener.
    within: BTreeMap<u64, (StreamKey, StreamKey)>,
}

impl Entries {
    /// Notes that the relay leads from one stream to another of this server.
    ///
    /// # Errors
    /// The one it writes is where the one it reads comes from.
    pub(super) fn lead(&mut self, id: u64, within: Option<(StreamKey, StreamKey)>) -> Result<(), RelayError> {
        self.within.remove(&id);
        let Some((from, to)) = within else { return Ok(()) };
        let (mut reached, mut next) = (vec![to.clone()], 0);
        while let Some(key) = reached.get(next) {
            if *key == from {
                return Err(RelayError::Conflict(format!(
                    "`{from}` would be fed with itself, by way of `{to}`"
                )));
            }
            let further = self.within.values().filter(|(source, _)| source == key).map(|(_, to)| to);
            let further: Vec<_> = further.filter(|to| !reached.contains(to)).cloned().collect();
            reached.extend(further);
            next += 1;
        }
        if self.by_id.contains_key(&id) {
            self.within.insert(id, (from, to));
        }
        Ok(())
    }
}

impl core::fmt::Debug for Relays {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let running = self.shared.entries.lock().by_id.len();
        f.debug_struct("Relays").field("running", &running).finish_non_exhaustive()
    }
}

impl Relays {
    /// The relays of the server whose engine asks `demand` for streams that are not there.
    pub(crate) fn new(
        engine: Arc<Engine>,
        demand: Arc<Demand>,
        listeners: Vec<Listener>,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared { engine, listeners, entries: Mutex::default(), demand });
        Self { shared, shutdown, tasks: TaskTracker::new() }
    }

    /// Starts a relay for somebody who reaches the API; one end at least is a stream of this server. What cannot be
    /// resolved is started all the same, and checked when it can be.
    ///
    /// # Errors
    /// The ends cannot be ends, lead where `reach` does not, or close a loop; or there are too many relays.
    pub async fn start(&self, config: &RelayConfig, reach: Reach) -> Result<RelayInfo, RelayError> {
        let spec = RelaySpec::new(config).map_err(|wrong| RelayError::Invalid(wrong.to_string()))?;
        let route = match Route::find(&spec.from, &spec.to, reach, &self.shared.listeners).await {
            Err(RelayError::Unresolved(_)) => Route::default(),
            route => route?,
        };
        self.launch(spec, reach, route.within)
    }

    /// Starts a relay that the operator has configured: it may lead anywhere, and a loop shows when it is tried.
    ///
    /// # Errors
    /// The ends cannot be ends, or there are too many relays.
    pub fn start_configured(&self, config: &RelayConfig) -> Result<RelayInfo, RelayError> {
        let spec = RelaySpec::new(config).map_err(|wrong| RelayError::Invalid(wrong.to_string()))?;
        self.launch(spec, Reach::Anywhere, None)
    }

    fn launch(
        &self,
        spec: RelaySpec,
        reach: Reach,
        within: Option<(StreamKey, StreamKey)>,
    ) -> Result<RelayInfo, RelayError> {
        let mut entries = self.shared.entries.lock();
        if entries.by_id.len() >= MAX_RELAYS {
            return Err(RelayError::Invalid(format!("there are {MAX_RELAYS} relays already")));
        }
        let id = entries.last + 1;
        let RelaySpec { from, to, close_after } = spec;
        let published = match &to {
            Endpoint::Stream(key) => Some(key.clone()),
            _ => None,
        };
        let info = RelayInfo {
            id,
            from,
            to,
            close_after,
            state: if close_after.is_some() { RelayState::Idle } else { RelayState::Connecting },
            since: SystemTime::now(),
            attempts: 0,
            last_error: None,
        };
        let entry = Arc::new(Entry {
            info: Mutex::new(info.clone()),
            reach,
            published,
            close_after,
            wanted: Arc::default(),
            stop: self.shutdown.child_token(),
        });
        entries.by_id.insert(id, Arc::clone(&entry));
        if let Err(error) = entries.lead(id, within) {
            entries.by_id.remove(&id);
            return Err(error);
        }
        entries.last = id;
        drop(entries);
        if let Some(key) = &entry.published {
            self.shared.demand.add(key.clone(), id, close_after.is_some(), Arc::clone(&entry.wanted));
        }
        self.tasks.spawn(keep_running(Arc::clone(&self.shared), entry));
        Ok(info)
    }

    /// Stops a relay; false when there is none of that number.
    pub fn stop(&self, id: u64) -> bool {
        let mut entries = self.shared.entries.lock();
        let Some(entry) = entries.by_id.remove(&id) else { return false };
        entries.within.remove(&id);
        drop(entries);
        if let Some(key) = &entry.published {
            self.shared.demand.remove(key, id);
        }
        entry.stop.cancel();
        true
    }

    /// Every relay, by number.
    #[must_use]
    pub fn list(&self) -> Vec<RelayInfo> {
        let entries: Vec<_> = self.shared.entries.lock().by_id.values().cloned().collect();
        entries.iter().map(|entry| self.describe(entry)).collect()
    }

    fn describe(&self, entry: &Entry) -> RelayInfo {
        let mut info = entry.info.lock().clone();
        let is_live = |key| self.shared.engine.stream(key).is_some_and(|s| s.state() == StreamState::Live);
        if info.state == RelayState::Connecting && entry.published.as_ref().is_some_and(is_live) {
            info.state = RelayState::Running;
        }
        info
    }

    pub(crate) fn close(&self) {
        self.tasks.close();
    }

    pub(crate) async fn wait(&self) {
        self.tasks.wait().await;
    }
}
