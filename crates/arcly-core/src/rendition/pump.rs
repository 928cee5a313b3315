//! The task of a rendition: takes what is new in the stream, has it coded, and appends what comes of it.

use core::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::mill::{Entry, Mill};
use super::{Counters, Workshop};
use crate::clock;
use crate::close::CloseReason;
use crate::feed::Feed;
use crate::frame::MediaFrame;
use crate::log::{Budget, Cursor, LagPolicy, Progress, Read, StartMode, Writer};
use crate::time::TimeDelta;

/// Taken from the stream at a time: what a thread of the pool works on without giving way.
const BATCH: Budget = Budget { items: 64, bytes: 4 << 20, time: TimeDelta::from_millis(1_000) };

/// Counts a rendition and its sessions for as long as it runs.
struct Counted {
    workshop: Arc<Workshop>,
    sessions: usize,
}

impl Counted {
    fn new(workshop: &Arc<Workshop>) -> Self {
        workshop.counters.renditions.fetch_add(1, Ordering::Relaxed);
        Self { workshop: Arc::clone(workshop), sessions: 0 }
    }

    fn set_sessions(&mut self, sessions: usize) {
        let counter = &self.workshop.counters.sessions;
        counter.fetch_add(sessions, Ordering::Relaxed);
        counter.fetch_sub(core::mem::replace(&mut self.sessions, sessions), Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set_sessions(0);
        self.workshop.counters.renditions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the task of a rendition works with.
pub(super) struct Pump {
    source: Cursor<MediaFrame>,
    /// `None` while it is on the pool.
    mill: Option<Mill>,
    writer: Writer<MediaFrame>,
    feed: Weak<Feed>,
    /// Fires when nobody reads the rendition any more.
    unread: CancellationToken,
    counted: Counted,
}

impl Pump {
    /// Begins at the newest keyframe of `source`, as a reader would.
    pub(super) fn new(
        workshop: &Arc<Workshop>,
        source: &Arc<Feed>,
        (feed, writer): (&Arc<Feed>, Writer<MediaFrame>),
        mill: Mill,
    ) -> Self {
        Self {
            source: Cursor::new(Arc::clone(source.log()), StartMode::Keyframe, LagPolicy::PATIENT),
            mill: Some(mill),
            writer,
            feed: Arc::downgrade(feed),
            unread: feed.dropped().clone(),
            counted: Counted::new(workshop),
        }
    }

    /// Runs until the stream has ended, or nobody reads the rendition any more.
    pub(super) async fn run(mut self) {
        loop {
            let Self { source, unread, .. } = &mut self;
            tokio::select! {
                biased;
                () = unread.cancelled() => return,
                () = poll_fn(|cx| source.poll_ready(cx)) => {}
            }
            if let Err(reason) = self.turn().await {
                return self.writer.close(reason);
            }
        }
    }

    /// Takes one batch.
    async fn turn(&mut self) -> Result<(), CloseReason> {
        let mut reads = Vec::new();
        let progress = self.source.read(clock::now(), BATCH, |read| reads.push(read));
        let ended = match progress {
            Ok(Progress::Ended(reason)) | Err(reason) => Some(reason),
            Ok(_) => None,
        };
        if !reads.is_empty() || ended.is_some() {
            let entries = self.grind(reads, ended.is_some()).await?;
            self.append(entries);
        }
        ended.map_or(Ok(()), Err)
    }

    /// What becomes of `reads`: found here where that takes no time, and on the blocking pool otherwise.
    async fn grind(&mut self, reads: Vec<Read<MediaFrame>>, last: bool) -> Result<Vec<Entry>, CloseReason> {
        let mut out = Vec::with_capacity(reads.len());
        match &mut self.mill {
            Some(mill) if !last && mill.is_quick(&reads) => {
                mill.grind(reads, &mut out);
                return Ok(out);
            }
            _ => {}
        }
        let mut mill = self.mill.take().ok_or(CloseReason::Internal)?;
        let permits = Arc::clone(&self.counted.workshop.permits);
        let permit = permits.acquire_owned().await.map_err(|_| CloseReason::Shutdown)?;
        let work = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            mill.grind(reads, &mut out);
            if last {
                mill.finish(&mut out);
            }
            drop(permit);
            (mill, out, began.elapsed())
        });
        // A codec that panics takes its rendition with it, and nothing else.
        let (mut mill, out, spent) = work.await.map_err(|_| CloseReason::Internal)?;
        self.counted.set_sessions(mill.sessions());
        let Counters { frames_in, frames_out, failed, busy_micros, .. } = &self.counted.workshop.counters;
        let counts = mill.take_counts();
        frames_in.fetch_add(counts.frames_in, Ordering::Relaxed);
        frames_out.fetch_add(counts.frames_out, Ordering::Relaxed);
        failed.fetch_add(counts.failed, Ordering::Relaxed);
        busy_micros.fetch_add(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.mill = Some(mill);
        Ok(out)
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let Some(newest) = entries.last().map(|(_, tracks, _)| Arc::clone(tracks)) else { return };
        // Before the entries, so that whoever is woken by them knows the tracks.
        if let Some(feed) = self.feed.upgrade()
            && !Arc::ptr_eq(&feed.tracks(), &newest)
        {
            feed.set_tracks(newest);
        }
        self.writer.append_all(entries);
    }
}
