//! The pulls and pushes of a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::{Engine, StreamError};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Endpoint, pull, push};

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
    stop: CancellationToken,
}

/// The relays of one server. Each is a task that tries again until it is stopped.
pub struct Relays {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    last: u64,
    by_id: BTreeMap<u64, Arc<Entry>>,
}

impl core::fmt::Debug for Relays {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Relays").field("running", &self.entries.lock().by_id.len()).finish_non_exhaustive()
    }
}

impl Relays {
    pub(crate) fn new(engine: Arc<Engine>, shutdown: CancellationToken) -> Self {
        Self { engine, shutdown, tasks: TaskTracker::new(), entries: Mutex::default() }
    }

    /// Starts a relay; one end at least is a stream of this server.
    ///
    /// # Errors
    /// A message that says what is wrong with the ends, or that there are too many relays.
    pub fn start(&self, from: &str, to: &str) -> Result<RelayInfo, String> {
        let (from, to) = (Endpoint::parse_remote(from)?, Endpoint::parse_remote(to)?);
        Endpoint::check_pair(&from, &to)?;
        let entry = {
            let mut entries = self.entries.lock();
            if entries.by_id.len() >= MAX_RELAYS {
                return Err(format!("there are {MAX_RELAYS} relays already"));
            }
            entries.last += 1;
            let info = RelayInfo {
                id: entries.last,
                from,
                to,
                state: RelayState::Connecting,
                since: SystemTime::now(),
                attempts: 0,
                last_error: None,
            };
            let info_id = info.id;
            let entry = Arc::new(Entry { info: Mutex::new(info), stop: self.shutdown.child_token() });
            entries.by_id.insert(info_id, Arc::clone(&entry));
            entry
        };
        let info = entry.info.lock().clone();
        self.tasks.spawn(keep_running(Arc::clone(&self.engine), entry));
        Ok(info)
    }

    /// Stops a relay; false when there is none of that number.
    pub fn stop(&self, id: u64) -> bool {
        let Some(entry) = self.entries.lock().by_id.remove(&id) else { return false };
        entry.stop.cancel();
        true
    }

    /// Every relay, by number.
    #[must_use]
    pub fn list(&self) -> Vec<RelayInfo> {
        self.entries.lock().by_id.values().map(|entry| entry.info.lock().clone()).collect()
    }

    pub(crate) fn close(&self) {
        self.tasks.close();
    }

    pub(crate) async fn wait(&self) {
        self.tasks.wait().await;
    }
}

async fn keep_running(engine: Arc<Engine>, entry: Arc<Entry>) {
    let mut pause = FIRST_PAUSE;
    while !entry.stop.is_cancelled() {
        let began = Instant::now();
        let result = attempt(&engine, &entry).await;
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

async fn attempt(engine: &Arc<Engine>, entry: &Entry) -> Result<(), StreamError> {
    let (from, to) = {
        let mut info = entry.info.lock();
        info.attempts += 1;
        info.state = RelayState::Connecting;
        (info.from.clone(), info.to.clone())
    };
    match (from, to) {
        (from, Endpoint::Stream(key)) => pull(engine, &from, key, &entry.stop).await,
        (Endpoint::Stream(key), to) => push(engine, key, &to, &entry.stop).await,
        _ => Err(StreamError::protocol("one end must be a stream of this server")),
    }
}

fn note_failure(entry: &Entry, result: &Result<(), StreamError>, pause: Duration) {
    let mut info = entry.info.lock();
    let error = match result {
        Ok(()) => "the stream ended".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::info!(relay = info.id, from = %info.from, to = %info.to, %error, ?pause, "relay tries again");
    info.state = RelayState::Waiting;
    info.last_error = Some(error);
}
