//! What the server counts, and the log lines of sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arcly_core::contract::observe::{EngineEvent, Observer, SessionTotals};
use arcly_core::{CloseReason, Stream};
use parking_lot::Mutex;

/// Panics of this process, wherever they were caught.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics from now on, and logs each as an error.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%info, %backtrace, "a task panicked; this is a bug");
    }));
}

/// Panics since [`watch_panics`].
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Media that went in and out of all streams, also of those that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload bytes published.
    pub bytes_in: u64,
    /// Frames published.
    pub frames_in: u64,
    /// Bytes handed to readers.
    pub bytes_out: u64,
}

/// What became of recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Files that are complete.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Times that one failed, by reason; what fails again and again for one reason counts once.
    pub failures: BTreeMap<[String; 1], u64>,
}

/// A stream, and what was counted of it so far.
#[derive(Debug)]
struct Counted {
    stream: Arc<Stream>,
    so_far: Totals,
}

/// Counters of one server.
#[derive(Debug, Default)]
pub struct Stats {
    closed: Mutex<BTreeMap<[String; 2], u64>>,
    skipped: Mutex<BTreeMap<[String; 1], u64>>,
    recorded: Mutex<Recorded>,
    /// Keyed by the stream's address, which stays its own while the stream is held.
    totals: Mutex<(Totals, HashMap<usize, Counted>)>,
}

impl Stats {
    /// Counts a session or connection that ended.
    pub fn count_closed(&self, protocol: &str, reason: CloseReason) {
        *self.closed.lock().entry([protocol.to_owned(), reason.to_string()]).or_default() += 1;
    }

    /// Sessions and connections that ended, by protocol and reason.
    pub fn closed(&self) -> BTreeMap<[String; 2], u64> {
        self.closed.lock().clone()
    }

    /// Frames that slow readers missed, by reason.
    pub fn skipped(&self) -> BTreeMap<[String; 1], u64> {
        self.skipped.lock().clone()
    }

    /// What became of recordings.
    pub fn recorded(&self) -> Recorded {
        self.recorded.lock().clone()
    }

    /// Media of all streams, given those that are there. Called at least while each stream is there, it misses
    /// nothing: a stream is held until it has ended and its last reader is gone.
    pub fn totals(&self, streams: &[Arc<Stream>]) -> Totals {
        let mut guard = self.totals.lock();
        let (totals, counted) = &mut *guard;
        for stream in streams {
            counted
                .entry(Arc::as_ptr(stream) as usize)
                .or_insert_with(|| Counted { stream: Arc::clone(stream), so_far: Totals::default() });
        }
        counted.retain(|_, one| {
            let over = one.stream.log().closed().is_some() && Arc::strong_count(&one.stream) == 1;
            one.absorb_into(totals);
            !over
        });
        *totals
    }
}

impl Counted {
    /// Adds what the stream has had since it was last looked at.
    fn absorb_into(&mut self, totals: &mut Totals) {
        let info = self.stream.info();
        let now = Totals { bytes_in: info.bytes_in, frames_in: info.frames_in, bytes_out: info.bytes_out };
        totals.bytes_in += now.bytes_in.saturating_sub(self.so_far.bytes_in);
        totals.frames_in += now.frames_in.saturating_sub(self.so_far.frames_in);
        totals.bytes_out += now.bytes_out.saturating_sub(self.so_far.bytes_out);
        self.so_far = now;
    }
}

impl Observer for Stats {
    fn on_event(&self, event: &EngineEvent) {
        match event {
            EngineEvent::SessionClosed { protocol, reason, .. } => self.count_closed(protocol, *reason),
            EngineEvent::FramesSkipped { skip, .. } => {
                *self.skipped.lock().entry([skip.reason.as_str().to_owned()]).or_default() += skip.items;
            }
            EngineEvent::RecordingFinished { bytes, .. } => {
                let mut recorded = self.recorded.lock();
                recorded.files += 1;
                recorded.bytes += bytes;
            }
            EngineEvent::RecordingFailed { reason, .. } => {
                *self.recorded.lock().failures.entry([reason.to_string()]).or_default() += 1;
            }
            _ => {}
        }
        log(event);
    }
}

/// One line for each thing that people look for.
fn log(event: &EngineEvent) {
    match event {
        EngineEvent::StreamPublished { key, client } => {
            tracing::info!(stream = %key, peer = %client, "publishing")
        }
        EngineEvent::StreamUnpublished { key, client, reason, totals } => {
            let (seconds, frames, bytes) = (seconds(totals), totals.items, totals.bytes);
            tracing::info!(stream = %key, peer = %client, %reason, seconds, frames, bytes, "publisher left");
        }
        EngineEvent::StreamEnded { key, reason } => tracing::info!(stream = %key, %reason, "stream ended"),
        EngineEvent::ReaderJoined { key, reader, client } => {
            tracing::info!(stream = %key, peer = %client, reader, "playing");
        }
        EngineEvent::ReaderLeft { key, reader, client, reason, totals } => {
            let (seconds, items, bytes) = (seconds(totals), totals.items, totals.bytes);
            tracing::info!(stream = %key, peer = %client, reader, %reason, seconds, items, bytes, "reader left");
        }
        EngineEvent::RecordingStarted { key, name } => {
            tracing::info!(stream = %key, file = %name, "recording");
        }
        EngineEvent::RecordingFinished { key, name, duration, bytes } => {
            let seconds = duration.as_secs();
            tracing::info!(stream = %key, file = %name, seconds, bytes, "recorded");
        }
        EngineEvent::RecordingFailed { key, name, reason, why } => {
            let file = name.as_deref().unwrap_or_default();
            tracing::warn!(stream = %key, file, %reason, %why, "recording failed");
        }
        EngineEvent::FramesSkipped { key, reader, skip, .. } => {
            tracing::debug!(stream = %key, reader, items = skip.items, reason = skip.reason.as_str(), "reader skipped");
        }
        _ => {}
    }
}

fn seconds(totals: &SessionTotals) -> u64 {
    totals.since.elapsed().unwrap_or_default().as_secs()
}
