//! Recordings of many streams: which are being made, and which are let go of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::contract::observe::{EngineEvent, EventItem, EventReceiver};
use arcly_core::{CloseReason, Result, StreamError, StreamKey};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Clip, Index, Recorder};

/// How often old recordings are looked for, and the index is saved.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Clips that are recorded at one time.
const MAX_CLIPS: usize = 64;

/// How much is kept. What is neither too old nor too much stays for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Recordings that ended longer ago are removed.
    pub age: Option<Duration>,
    /// The oldest are removed until all together are no more bytes.
    pub bytes: Option<u64>,
}

/// Records streams as they come and on demand, each once, until its token fires.
#[derive(Debug)]
pub struct Recordings {
    recorder: Recorder,
    keep: Keep,
    active: Mutex<HashMap<StreamKey, Active>>,
    clips: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A stream that is being recorded.
#[derive(Debug)]
struct Active {
    stop: CancellationToken,
    /// It was published anew while the end of what was before is being written.
    again: bool,
}

impl Recordings {
    /// Recordings made by `recorder`, which ends with `stop`.
    #[must_use]
    pub fn new(recorder: Recorder, keep: Keep, stop: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            recorder,
            keep,
            active: Mutex::default(),
            clips: Semaphore::new(MAX_CLIPS),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
        })
    }

    /// What was recorded.
    #[must_use]
    pub const fn index(&self) -> &Arc<Index> {
        self.recorder.index()
    }

    /// The streams that are being recorded, in order.
    #[must_use]
    pub fn active(&self) -> Vec<StreamKey> {
        let mut keys: Vec<_> = self.active.lock().keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Records a stream until it ends or [`end`](Self::end) is called; false when it is being recorded already. Needs a
    /// tokio runtime.
    pub fn begin(self: &Arc<Self>, key: &StreamKey) -> bool {
        let stop = self.stop.child_token();
        {
            let mut active = self.active.lock();
            if let Some(active) = active.get_mut(key) {
                active.again = true;
                return false;
            }
            if stop.is_cancelled() {
                return false;
            }
            active.insert(key.clone(), Active { stop: stop.clone(), again: false });
        }
        let (recordings, key) = (Arc::clone(self), key.clone());
        self.tasks.spawn(async move {
            loop {
                // A stream that has gone meanwhile is recorded when it comes again.
                let _ = recordings.recorder.run(key.clone(), &stop).await;
                if !recordings.goes_on(&key) {
                    return;
                }
            }
        });
        true
    }

    /// True when the stream was published anew; otherwise it is recorded no more.
    fn goes_on(&self, key: &StreamKey) -> bool {
        let mut active = self.active.lock();
        let again = active.get_mut(key).is_some_and(|active| {
            !active.stop.is_cancelled() && core::mem::replace(&mut active.again, false)
        });
        if !again {
            active.remove(key);
        }
        again
    }

    /// Ends the recording of a stream, orderly and soon; false when there is none.
    pub fn end(&self, key: &StreamKey) -> bool {
        self.active.lock().get(key).map(|active| active.stop.cancel()).is_some()
    }

    /// Records a clip of a stream, and returns when that is on disk.
    ///
    /// # Errors
    /// The stream is not there, or 64 clips are being recorded: `overloaded`.
    pub async fn clip(&self, key: StreamKey, clip: Clip) -> Result<()> {
        let Ok(_one_of_many) = self.clips.try_acquire() else {
            return Err(StreamError::Refused { key, reason: CloseReason::Overloaded });
        };
        self.recorder.clip(key, clip, &self.stop).await.map(drop)
    }

    /// Records every stream for which `wanted` is true, those of `streams` and those that come; lets go of what is not to
    /// be kept; and, once told to stop, ends the recordings and saves the index.
    pub async fn run(
        self: &Arc<Self>,
        mut events: EventReceiver,
        streams: impl Fn() -> Vec<StreamKey> + Send,
        wanted: impl Fn(&StreamKey) -> bool + Send,
    ) {
        let begin = |key: &StreamKey| {
            if wanted(key) {
                self.begin(key);
            }
        };
        streams().iter().for_each(begin);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = housekeeping.tick() => self.tidy().await,
                event = events.next() => match event {
                    Some(EventItem::Event(EngineEvent::StreamPublished { key, .. })) => begin(&key),
                    Some(EventItem::Event(_)) => {}
                    // One of them may have been a stream.
                    Some(EventItem::Lost(_)) => streams().iter().for_each(begin),
                    None => break,
                },
            }
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let _ = self.index().save().await;
    }

    /// Removes what is not to be kept, and saves the index.
    async fn tidy(&self) {
        for recording in self.index().expired(&self.keep, SystemTime::now()) {
            let _ = self.index().delete(&recording).await;
        }
        let _ = self.index().save().await;
    }
}
