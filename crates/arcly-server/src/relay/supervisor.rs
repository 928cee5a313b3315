//! The pulls and pushes of a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::{Engine, StreamKey};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::route::Route;
use super::{Endpoint, Reach, RelayError, pull, push};
use crate::server::Listener;

/// Relays of one server.
const MAX_RELAYS: usize = 1_000;
/// First and longest pause before another attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An attempt that lasted so long was a good one: the next pause is the first again.
const GOOD: Duration = Duration::from_secs(30);

/// What a relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    /// It connects, or waits for the stream that it pushes.
    Connecting,
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
    /// What it is doing.
    pub state: RelayState,
    /// Since when it exists.
    pub since: SystemTime,
    /// Times it has tried.
    pub attempts: u64,
    /// What went wrong the last time.
    pub last_error: Option<String>,
}

struct Entry {
    info: Mutex<RelayInfo>,
    reach: Reach,
    stop: CancellationToken,
}

/// The relays of one server. Each is a task that tries again until it is stopped.
pub struct Relays {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    engine: Arc<Engine>,
    listeners: Vec<Listener>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
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
    fn lead(&mut self, id: u64, within: Option<(StreamKey, StreamKey)>) -> Result<(), RelayError> {
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
    pub(crate) fn new(engine: Arc<Engine>, listeners: Vec<Listener>, shutdown: CancellationToken) -> Self {
        let shared = Arc::new(Shared { engine, listeners, entries: Mutex::default() });
        Self { shared, shutdown, tasks: TaskTracker::new() }
    }

    /// Starts a relay for somebody who reaches the API; one end at least is a stream of this server. What cannot be
    /// resolved is started all the same, and checked when it can be.
    ///
    /// # Errors
    /// The ends cannot be ends, lead where `reach` does not, or close a loop; or there are too many relays.
    pub async fn start(&self, from: &str, to: &str, reach: Reach) -> Result<RelayInfo, RelayError> {
        let (from, to) = ends(from, to)?;
        let route = match Route::find(&from, &to, reach, &self.shared.listeners).await {
            Err(RelayError::Unresolved(_)) => Route::default(),
            route => route?,
        };
        self.launch(from, to, reach, route.within)
    }

    /// Starts a relay that the operator has configured: it may lead anywhere, and a loop shows when it is tried.
    ///
    /// # Errors
    /// The ends cannot be ends, or there are too many relays.
    pub fn start_configured(&self, from: &str, to: &str) -> Result<RelayInfo, RelayError> {
        let (from, to) = ends(from, to)?;
        self.launch(from, to, Reach::Anywhere, None)
    }

    fn launch(
        &self,
        from: Endpoint,
        to: Endpoint,
        reach: Reach,
        within: Option<(StreamKey, StreamKey)>,
    ) -> Result<RelayInfo, RelayError> {
        let mut entries = self.shared.entries.lock();
        if entries.by_id.len() >= MAX_RELAYS {
            return Err(RelayError::Invalid(format!("there are {MAX_RELAYS} relays already")));
        }
        let id = entries.last + 1;
        let info = RelayInfo {
            id,
            from,
            to,
            state: RelayState::Connecting,
            since: SystemTime::now(),
            attempts: 0,
            last_error: None,
        };
        let stop = self.shutdown.child_token();
        let entry = Arc::new(Entry { info: Mutex::new(info.clone()), reach, stop });
        entries.by_id.insert(id, Arc::clone(&entry));
        if let Err(error) = entries.lead(id, within) {
            entries.by_id.remove(&id);
            return Err(error);
        }
        entries.last = id;
        drop(entries);
        self.tasks.spawn(keep_running(Arc::clone(&self.shared), entry));
        Ok(info)
    }

    /// Stops a relay; false when there is none of that number.
    pub fn stop(&self, id: u64) -> bool {
        let mut entries = self.shared.entries.lock();
        let Some(entry) = entries.by_id.remove(&id) else { return false };
        entries.within.remove(&id);
        entry.stop.cancel();
        true
    }

    /// Every relay, by number.
    #[must_use]
    pub fn list(&self) -> Vec<RelayInfo> {
        self.shared.entries.lock().by_id.values().map(|entry| entry.info.lock().clone()).collect()
    }

    pub(crate) fn close(&self) {
        self.tasks.close();
    }

    pub(crate) async fn wait(&self) {
        self.tasks.wait().await;
    }
}

fn ends(from: &str, to: &str) -> Result<(Endpoint, Endpoint), RelayError> {
    let end = |text| Endpoint::parse_remote(text).map_err(RelayError::Invalid);
    let (from, to) = (end(from)?, end(to)?);
    Endpoint::check_pair(&from, &to).map_err(RelayError::Invalid)?;
    Ok((from, to))
}

async fn keep_running(shared: Arc<Shared>, entry: Arc<Entry>) {
    let mut pause = FIRST_PAUSE;
    while !entry.stop.is_cancelled() {
        let began = Instant::now();
        let result = attempt(&shared, &entry).await;
        if entry.stop.is_cancelled() {
            break;
        }
        if began.elapsed() >= GOOD {
            pause = FIRST_PAUSE;
        }
        note_failure(&entry, &result, pause);
        if entry.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    entry.info.lock().state = RelayState::Stopped;
}

async fn attempt(shared: &Shared, entry: &Entry) -> Result<(), String> {
    let (id, from, to) = {
        let mut info = entry.info.lock();
        info.attempts += 1;
        info.state = RelayState::Connecting;
        (info.id, info.from.clone(), info.to.clone())
    };
    let finding = Route::find(&from, &to, entry.reach, &shared.listeners);
    let Some(route) = entry.stop.run_until_cancelled(finding).await else { return Ok(()) };
    let Route { at, within } = route.map_err(|error| error.to_string())?;
    shared.entries.lock().lead(id, within).map_err(|error| error.to_string())?;
    let done = match (from, to) {
        (from, Endpoint::Stream(key)) => pull(&shared.engine, &from, &at, key, &entry.stop).await,
        (Endpoint::Stream(key), to) => push(&shared.engine, key, &to, &at, &entry.stop).await,
        _ => return Err("one end must be a stream of this server".into()),
    };
    done.map_err(|error| error.to_string())
}

fn note_failure(entry: &Entry, result: &Result<(), String>, pause: Duration) {
    let mut info = entry.info.lock();
    let error = match result {
        Ok(()) => "the stream ended".to_owned(),
        Err(error) => error.clone(),
    };
    tracing::info!(relay = info.id, from = %info.from, to = %info.to, %error, ?pause, "relay tries again");
    info.state = RelayState::Waiting;
    info.last_error = Some(error);
}
