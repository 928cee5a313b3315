use std::sync::Arc;

use super::{Cursor, LogItem, LogRef, StartMode};
use crate::frame::FrameFlags;
use crate::track::TrackMask;

/// A run of items, read once for many readers that are at the same place.
///
/// [`Cursor::read_batch`] makes one; every reader that [`follow`](Cursor::follow)s it takes it as it is, without
/// looking at the items one by one.
#[derive(Debug)]
pub struct Batch<T: LogItem> {
    start: u64,
    end: u64,
    items: Vec<LogRef<T>>,
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
        self.items.push(item);
    }
}

impl<T: LogItem> Cursor<T> {
    /// Reads everything there is into `batch`, on all tracks and whatever this cursor's policies, up to `bytes` and up
    /// to the next change of context. What was forgotten before it could be read is passed over: the readers that
    /// follow notice by their own place.
    pub fn read_batch(&mut self, bytes: usize, batch: &mut Batch<T>) {
        let log = Arc::clone(self.log());
        let start = self.position().unwrap_or_default().max(log.ring.tail());
        batch.restart(start);
        let mut size = 0usize;
        while size < bytes {
            let Some(item) = log.get(batch.end) else { break };
            if batch.items.last().is_some_and(|last| !Arc::ptr_eq(last.context(), item.context())) {
                break;
            }
            size = size.saturating_add(item.size());
            batch.push(item);
        }
        self.seek(batch.end);
    }

    /// Moves past the whole of `batch` if this reader would get exactly its items, with nothing left out and no new
    /// context before them. False leaves the reader where it is.
    pub fn follow(&mut self, batch: &Batch<T>) -> bool {
        let Some(first) = batch.items.first() else { return false };
        let takes_all = self.next == Some(batch.start)
            && self.tracks.is_superset(batch.tracks)
            && batch.key_first.is_superset(self.awaiting.intersection(batch.tracks))
            && self.leading.intersection(batch.leading).is_empty()
            && !matches!(self.start, StartMode::KeyframePaced { .. })
            && self.context.as_ref().is_some_and(|known| Arc::ptr_eq(known, first.context()));
        if takes_all {
            self.leading = self.leading.difference(batch.keyed);
            let begun = self.awaiting.intersection(batch.tracks);
            if !begun.is_empty() {
                begun.iter().for_each(|track| self.leading.insert(track));
            }
            self.awaiting = self.awaiting.difference(batch.tracks);
            self.next = Some(batch.end);
        }
        takes_all
    }
}
