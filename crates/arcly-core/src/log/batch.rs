use std::sync::Arc;

use super::{Cursor, LogItem, LogRef, StartMode};
use crate::frame::FrameFlags;
use crate::track::TrackMask;

/// A run of items, read once for many readers that are at the same place.
///
/// [`Cursor::read_batch`] makes one; every reader that it [`fits`](Cursor::fits) [takes](Cursor::take) it as it is,
/// without looking at the items one by one.
#[derive(Debug)]
pub struct Batch<T: LogItem> {
    start: u64,
    end: u64,
    items: Vec<LogRef<T>>,
    /// What the items are accounted with.
    size: usize,
    /// Tracks that have items here; those whose first item here is a keyframe; those with a keyframe anywhere; those
    /// with leading pictures.
    tracks: TrackMask,
    key_first: TrackMask,
    keyed: TrackMask,
    leading: TrackMask,
}

impl<T: LogItem> Default for Batch<T> {
    fn default() -> Self {
        Self {
            start: 0,
            end: 0,
            items: Vec::new(),
            size: 0,
            tracks: TrackMask::NONE,
            key_first: TrackMask::NONE,
            keyed: TrackMask::NONE,
            leading: TrackMask::NONE,
        }
    }
}

impl<T: LogItem> Batch<T> {
    /// The items, all of one context.
    #[must_use]
    pub fn items(&self) -> &[LogRef<T>] {
        &self.items
    }

    /// Tracks that have items here.
    #[must_use]
    pub const fn tracks(&self) -> TrackMask {
        self.tracks
    }

    /// Lets go of the items.
    pub fn clear(&mut self) {
        self.restart(self.end);
    }

    fn restart(&mut self, start: u64) {
        self.items.clear();
        *self = Self { start, end: start, items: core::mem::take(&mut self.items), ..Self::default() };
    }

    fn push(&mut self, item: LogRef<T>) {
        let (track, flags) = (item.track(), item.flags());
        let key = flags.contains(FrameFlags::KEYFRAME);
        if key {
            self.keyed.insert(track);
            if !self.tracks.contains(track) {
                self.key_first.insert(track);
            }
        }
        if flags.contains(FrameFlags::LEADING) {
            self.leading.insert(track);
        }
        self.tracks.insert(track);
        self.end = item.sequence() + 1;
        self.size = self.size.saturating_add(item.size());
        self.items.push(item);
    }
}

/// A place that a reader can go back to, as long as the log keeps it.
#[derive(Debug)]
pub(crate) struct Place<C> {
    next: Option<u64>,
    context: Option<Arc<C>>,
    awaiting: TrackMask,
    leading: TrackMask,
}

impl<T: LogItem> Cursor<T> {
    /// Reads everything there is, on all tracks and whatever this cursor's policies, and puts it behind the items that
    /// are in `batch` already (which this cursor has read), up to `bytes` in all and up to the next change of context.
    /// False when nothing was added. What was forgotten before it could be read is passed over: the readers that follow
    /// notice by their own place.
    pub fn read_batch(&mut self, bytes: usize, batch: &mut Batch<T>) -> bool {
        let log = Arc::clone(self.log());
        if batch.items.is_empty() {
            batch.restart(self.position().unwrap_or_default().max(log.ring.tail()));
        }
        let before = batch.items.len();
        while batch.size < bytes {
            let Some(item) = log.get(batch.end) else { break };
            if batch.items.last().is_some_and(|last| !Arc::ptr_eq(last.context(), item.context())) {
                break;
            }
            batch.push(item);
        }
        self.seek(batch.end);
        batch.items.len() > before
    }

    /// Whether this reader would get exactly the batch's items, with nothing left out and no new context before them.
    #[must_use]
    pub fn fits(&self, batch: &Batch<T>) -> bool {
        let Some(first) = batch.items.first() else { return false };
        self.next == Some(batch.start)
            && self.tracks.is_superset(batch.tracks)
            && batch.key_first.is_superset(self.awaiting.intersection(batch.tracks))
            && self.leading.intersection(batch.leading).is_empty()
            && !matches!(self.start, StartMode::KeyframePaced { .. })
            && self.context.as_ref().is_some_and(|known| Arc::ptr_eq(known, first.context()))
    }

    /// Moves past the whole of a batch that [`fits`](Self::fits).
    pub fn take(&mut self, batch: &Batch<T>) {
        self.leading = self.leading.difference(batch.keyed);
        let begun = self.awaiting.intersection(batch.tracks);
        if !begun.is_empty() {
            begun.iter().for_each(|track| self.leading.insert(track));
        }
        self.awaiting = self.awaiting.difference(batch.tracks);
        self.next = Some(batch.end);
    }

    /// Moves past the first `count` items of a batch that [`fits`](Self::fits).
    pub fn take_first(&mut self, batch: &Batch<T>, count: usize) {
        for item in batch.items.iter().take(count) {
            let track = item.track();
            if item.flags().contains(FrameFlags::KEYFRAME) {
                if self.awaiting.contains(track) {
                    self.leading.insert(track);
                } else {
                    self.leading.remove(track);
                }
            }
            self.awaiting.remove(track);
            self.next = Some(item.sequence() + 1);
        }
    }

    pub(crate) fn place(&self) -> Place<T::Context> {
        let Self { next, awaiting, leading, .. } = *self;
        Place { next, context: self.context.clone(), awaiting, leading }
    }

    /// Goes back to where this reader has been, so that what it has read since is read again.
    pub(crate) fn go_back(&mut self, place: Place<T::Context>) {
        let Place { next, context, awaiting, leading } = place;
        (self.next, self.context, self.awaiting, self.leading) = (next, context, awaiting, leading);
    }
}
