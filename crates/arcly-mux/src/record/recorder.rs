//! From a stream to the queue, at the pace of the stream.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::log::{LagPolicy, LogRef, Progress, Read, StartMode};
use arcly_core::{
    CloseReason, IngestContext, MediaFrame, PlayRequest, Result, StreamError, StreamKey, Subscriber,
    TimeDelta, Timestamp,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, Fault, Queued};
use super::segmenter::{Segmenter, Step};
use super::{Index, RecordOptions};

/// Bytes of one recorder that may wait for its disk.
pub const MAX_QUEUE_BYTES: usize = 32 << 20;
/// What the queue is counted in.
const ROOM: usize = 1 << 10;
/// How long after a failure a new file is tried, at first and at most: with the first keyframe from then on, so that 5 s
/// after a disk works again all streams whose GOPs are no longer than 3 s are recorded.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// A cut out of a stream, around the moment at which it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clip {
    /// How much from before that moment: what the log still has of it, from a keyframe on.
    pub pre_roll: Duration,
    /// How much from then on.
    pub duration: Duration,
}

/// Records streams.
#[derive(Clone)]
pub struct Recorder {
    context: IngestContext,
    index: Arc<Index>,
    options: RecordOptions,
}

impl core::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recorder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder of an engine's streams, given its [`context`](arcly_core::Engine::context), into the storage of `index`.
    #[must_use]
    pub const fn new(context: IngestContext, index: Arc<Index>, options: RecordOptions) -> Self {
        Self { context, index, options }
    }

    /// Where its recordings are listed.
    #[must_use]
    pub const fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Records a stream from its newest keyframe until it ends or `stop` fires, and returns why that was. Everything is on
    /// disk then. Not cancel safe: a dropped call leaves an unfinished file.
    ///
    /// # Errors
    /// The stream is not there. Storage that fails is no error: it is told to the context's observer, and tried again.
    pub async fn run(&self, key: StreamKey, stop: &CancellationToken) -> Result<CloseReason> {
        self.record(key, StartMode::Keyframe, None, stop).await
    }

    /// Records a clip; ends early when the stream does or `stop` fires. Not cancel safe, as [`run`](Self::run).
    ///
    /// # Errors
    /// The stream is not there.
    pub async fn clip(&self, key: StreamKey, clip: Clip, stop: &CancellationToken) -> Result<CloseReason> {
        self.record(key, StartMode::Oldest, Some(clip), stop).await
    }

    async fn record(
        &self,
        key: StreamKey,
        start: StartMode,
        clip: Option<Clip>,
        stop: &CancellationToken,
    ) -> Result<CloseReason> {
        let request = PlayRequest::internal(key.clone(), "record")
            .start(start)
            .lag(LagPolicy::PATIENT)
            .wait(Duration::ZERO);
        let reader = self.context.playback.subscribe(request).await?.into_frames();
        let (queue, steps) = mpsc::unbounded_channel();
        let (fault, options) = (Fault::default(), self.options.clone());
        let (index, observer) = (Arc::clone(&self.index), Arc::clone(&self.context.observer));
        let disk = Disk::new(key, options.clone(), index, observer, fault.clone());
        let feed = Feed {
            reader,
            segmenter: Segmenter::new(options),
            queue,
            room: Arc::new(Semaphore::new(MAX_QUEUE_BYTES / ROOM)),
            fault,
            pause: None,
            clip: clip.map(|clip| ClipPlan { clip, end: None }),
        };
        // Both in this task, so that nothing outlives it; the disk ends when the feed has.
        let (reason, ()) = tokio::join!(feed.run(stop), disk.run(steps));
        Ok(reason)
    }
}

/// Reads the stream and fills the queue.
struct Feed {
    reader: Subscriber,
    segmenter: Segmenter,
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    fault: Fault,
    pause: Option<Pause>,
    clip: Option<ClipPlan>,
}

/// No file is begun before `until`, because the last attempt failed.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

struct ClipPlan {
    clip: Clip,
    /// Where the clip ends, once it has begun.
    end: Option<Timestamp>,
}

impl Feed {
    async fn run(mut self, stop: &CancellationToken) -> CloseReason {
        let reason = self.read_all(stop).await;
        self.reader.subscription().state().end(reason);
        let mut steps = Vec::new();
        self.segmenter.finish(&mut steps);
        for step in steps {
            let _ = self.queue.send((step, None));
        }
        reason
    }

    async fn read_all(&mut self, stop: &CancellationToken) -> CloseReason {
        let (mut batch, mut steps) = (Vec::new(), Vec::new());
        loop {
            let progress = tokio::select! {
                progress = self.reader.next_batch(&mut batch) => progress,
                () = stop.cancelled() => return CloseReason::Shutdown,
            };
            let progress = match progress {
                Ok(progress) => progress,
                Err(error) => return StreamError::reason(&error),
            };
            self.mind_faults();
            let over = self.take(&mut batch, &mut steps);
            for step in steps.drain(..) {
                // While the queue is full the stream goes on without us, and the log says what we missed.
                let sent = tokio::select! {
                    biased;
                    () = send(&self.queue, &self.room, step) => true,
                    () = stop.cancelled() => false,
                };
                if !sent {
                    // A file that lacks a part cannot be finished: what is there of it stays fragmented.
                    self.segmenter.abandon();
                    return CloseReason::Shutdown;
                }
            }
            match progress {
                Progress::Ended(reason) => return reason,
                _ if over => return CloseReason::Shutdown,
                _ => {}
            }
        }
    }

    /// After a failure of the disk no file is begun for a while; the while grows as long as that goes on.
    fn mind_faults(&mut self) {
        let now = Instant::now();
        if self.fault.take() {
            self.segmenter.abandon();
            let length = self.pause.map_or(RETRY, |pause| pause.length.saturating_mul(2).min(MAX_RETRY));
            self.pause = Some(Pause { until: now.checked_add(length).unwrap_or(now), length });
        }
    }

    fn is_paused(&mut self) -> bool {
        let now = Instant::now();
        let Some(pause) = self.pause else { return false };
        // Long after the pause it is over for good: the next failure is a first one again.
        if now.duration_since(pause.until) > MAX_RETRY.saturating_mul(2) {
            self.pause = None;
        }
        now < pause.until
    }

    /// Hands what was read to the segmenter; true when a clip is complete.
    fn take(&mut self, batch: &mut Vec<Read<MediaFrame>>, steps: &mut Vec<Step>) -> bool {
        if let Some(clip) = &mut self.clip {
            clip.begin(batch);
        }
        let (paused, now) = (self.is_paused(), SystemTime::now());
        for read in batch.iter() {
            if let Read::Item(frame) = read {
                self.segmenter.note(frame, now);
            }
        }
        for read in batch.drain(..) {
            match read {
                Read::Context(tracks) => self.segmenter.tracks(tracks, steps),
                Read::Skipped(_) => self.segmenter.skipped(),
                Read::Item(frame) if self.clip.as_ref().is_some_and(|clip| clip.is_over(&frame)) => {
                    return true;
                }
                Read::Item(_) if paused => self.segmenter.skipped(),
                Read::Item(frame) => self.segmenter.frame(&frame, frame.is_join(), steps),
            }
        }
        false
    }
}

/// Puts a step into the queue, once there is room for it.
async fn send(queue: &mpsc::UnboundedSender<Queued>, room: &Arc<Semaphore>, step: Step) {
    let bytes = step.bytes().div_ceil(ROOM).min(MAX_QUEUE_BYTES / ROOM);
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    let room = Arc::clone(room).acquire_many_owned(permits).await.ok();
    let _ = queue.send((step, room));
}

impl ClipPlan {
    /// Leaves out of the first frames what is more than the pre-roll: it begins with the last join point before that.
    fn begin(&mut self, batch: &mut Vec<Read<MediaFrame>>) {
        if self.end.is_some() {
            return;
        }
        let frames = || batch.iter().enumerate().filter_map(|(at, read)| item(read).map(|frame| (at, frame)));
        let Some(now) = frames().map(|(_, frame)| frame.dts).max() else { return };
        self.end = Some(now + TimeDelta::from_duration(self.clip.duration));
        let wanted = now - TimeDelta::from_duration(self.clip.pre_roll);
        let start = frames().rfind(|(_, frame)| frame.is_join() && frame.dts <= wanted);
        let Some((start, _)) = start else { return };
        let mut at = 0_usize;
        batch.retain(|read| {
            let keep = item(read).is_none() || at >= start;
            at = at.saturating_add(1);
            keep
        });
    }

    fn is_over(&self, frame: &MediaFrame) -> bool {
        self.end.is_some_and(|end| frame.dts >= end)
    }
}

const fn item(read: &Read<MediaFrame>) -> Option<&LogRef<MediaFrame>> {
    match read {
        Read::Item(frame) => Some(frame),
        _ => None,
    }
}
