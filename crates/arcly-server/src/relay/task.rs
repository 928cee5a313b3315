//! A relay's task: attempts and the pauses between them; of a pull that is on demand, only while somebody wants its stream.
//!
//! ```text
//!             wanted                   failed, or the stream ended
//!   Idle ───────────────► Connecting ─────────────────────────────► Waiting ──► Connecting …
//!     ▲                       │  unwanted for `close_after`            │
//!     └───────────────────────┴────────────────────────────────────────┘ nobody wants it
//! ```

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::StreamKey;
use tokio::time::Instant;

use super::demand::is_wanted;
use super::route::Route;
use super::supervisor::{Entry, RelayState, Shared};
use super::{Endpoint, pull, push};

/// First and longest pause before another attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An attempt that lasted so long was a good one: the next pause is the first again.
const GOOD: Duration = Duration::from_secs(30);
/// The longest pause of a pull whose stream somebody waits for.
const WANTED_PAUSE: Duration = Duration::from_secs(4);
/// How often it is looked at whether somebody still wants a stream.
const LOOK: Duration = Duration::from_millis(500);

/// How an attempt ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is no more of the stream.
    Over,
    /// Nobody wanted it any more.
    Unwanted,
}

/// Runs a relay until it is stopped.
pub(super) async fn keep_running(shared: Arc<Shared>, entry: Arc<Entry>) {
    let (stop, mut pauses) = (entry.stop.clone(), Pauses::default());
    while stop.run_until_cancelled(until_wanted(&shared, &entry)).await.is_some() {
        let began = Instant::now();
        let result = attempt(&shared, &entry).await;
        if stop.is_cancelled() {
            break;
        }
        if result == Ok(End::Unwanted) {
            continue;
        }
        let mut pause = pauses.after(began.elapsed());
        if entry.published.as_ref().is_some_and(|key| is_wanted_here(&shared, key)) {
            pause = pause.min(WANTED_PAUSE);
        }
        note_failure(&entry, result, pause);
        if stop.run_until_cancelled(rest(&entry, pause)).await.is_none() {
            break;
        }
    }
    entry.info.lock().state = RelayState::Stopped;
}

/// How long to wait after each attempt.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    random: RandomState,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE, random: RandomState::new() }
    }
}

impl Pauses {
    /// The pause after an attempt that lasted so long, less up to a quarter, so that those who lost one upstream do not come
    /// back all at once.
    fn after(&mut self, attempt: Duration) -> Duration {
        if attempt >= GOOD {
            self.next = FIRST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        let cut = u32::from(self.random.hash_one(pause).to_le_bytes()[0]);
        pause - pause / 4 * cut / 255
    }
}

/// Returns at once for a relay that always runs, else as soon as somebody wants its stream.
async fn until_wanted(shared: &Shared, entry: &Entry) {
    let Some((key, _)) = entry.demand() else { return };
    while !is_wanted_here(shared, key) {
        entry.info.lock().state = RelayState::Idle;
        entry.wanted.notified().await;
    }
}

/// Returns once nobody has wanted the stream for `close_after`.
async fn until_unwanted(shared: &Shared, key: &StreamKey, close_after: Duration) {
    let mut wanted = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        if is_wanted_here(shared, key) {
            wanted = Instant::now();
        } else if wanted.elapsed() >= close_after {
            return;
        }
    }
}

fn is_wanted_here(shared: &Shared, key: &StreamKey) -> bool {
    shared.engine.stream(key).is_some_and(|stream| is_wanted(&stream))
}

/// Waits before another attempt: less long when somebody asks for the stream.
async fn rest(entry: &Entry, pause: Duration) {
    let began = Instant::now();
    let asked = async {
        entry.wanted.notified().await;
        tokio::time::sleep_until(began + WANTED_PAUSE.min(pause)).await;
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = asked => {}
    }
}

/// Tries once, for as long as the stream is there and wanted.
async fn attempt(shared: &Shared, entry: &Entry) -> Result<End, String> {
    let session = entry.stop.child_token();
    let (id, from, to) = {
        let mut info = entry.info.lock();
        info.attempts += 1;
        info.state = RelayState::Connecting;
        (info.id, info.from.clone(), info.to.clone())
    };
    let relaying = async {
        let finding = Route::find(&from, &to, entry.reach, &shared.listeners);
        let Some(route) = session.run_until_cancelled(finding).await else { return Ok(()) };
        let Route { at, within } = route.map_err(|error| error.to_string())?;
        shared.entries.lock().lead(id, within).map_err(|error| error.to_string())?;
        let done = match (&from, &to) {
            (from, Endpoint::Stream(key)) => pull(&shared.engine, from, &at, key.clone(), &session).await,
            (Endpoint::Stream(key), to) => push(&shared.engine, key.clone(), to, &at, &session).await,
            _ => return Err("one end must be a stream of this server".into()),
        };
        done.map_err(|error| error.to_string())
    };
    let Some((key, close_after)) = entry.demand() else { return relaying.await.map(|()| End::Over) };
    tokio::pin!(relaying);
    tokio::select! {
        done = &mut relaying => return done.map(|()| End::Over),
        () = until_unwanted(shared, key, close_after) => session.cancel(),
    }
    // It says good-bye first; how that goes is nobody's trouble.
    let _ = relaying.await;
    Ok(End::Unwanted)
}

fn note_failure(entry: &Entry, result: Result<End, String>, pause: Duration) {
    let mut info = entry.info.lock();
    let error = result.map_or_else(|error| error, |_| "the stream ended".to_owned());
    tracing::info!(relay = info.id, from = %info.from, to = %info.to, %error, ?pause, "relay tries again");
    info.state = RelayState::Waiting;
    info.last_error = Some(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f60_pauses_double_to_the_longest_and_are_spread() {
        let (mut pauses, mut longest) = (Pauses::default(), FIRST_PAUSE);
        for _ in 0..8 {
            let pause = pauses.after(Duration::ZERO);
            assert!(pause <= longest && pause >= longest * 3 / 4, "{pause:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(longest, LONGEST_PAUSE);
        assert!(pauses.after(GOOD) <= FIRST_PAUSE, "a good attempt starts over");
    }
}
