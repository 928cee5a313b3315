//! What goes out, in order: tracks before the frames that need them.

use std::collections::VecDeque;

use arcly_core::track::MAX_TRACKS;
use arcly_core::{MediaEvent, MediaFrame, TimeDelta, TrackSet};

use super::stream::Stream;

/// Media that waits at the start until all streams have shown what they are.
const MAX_WAIT: TimeDelta = TimeDelta::from_millis(1_000);
/// Bytes of it.
const MAX_WAIT_BYTES: usize = 4 << 20;

/// Events that wait to be fetched, and frames that wait for the tracks to be complete.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    events: VecDeque<MediaEvent>,
    waiting: Vec<MediaFrame>,
    waiting_bytes: usize,
    /// The start is over.
    begun: bool,
    /// The tracks differ from what was announced.
    changed: bool,
    announced: TrackSet,
}

impl Outbox {
    pub(super) fn poll(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    /// Looks whether a stream has become another; what waits belongs to what it was.
    pub(super) fn refresh(&mut self, index: usize, streams: &mut [Stream]) {
        let before = if self.begun { TrackSet::default() } else { tracks(streams) };
        let Some(old) = streams.get_mut(index).and_then(Stream::refresh) else { return };
        if old.is_some() && !self.begun && !self.waiting.is_empty() {
            self.begin(before);
        }
        self.changed = true;
    }

    /// Streams are about to come or go.
    pub(super) fn before_change(&mut self, streams: &[Stream]) {
        if !self.waiting.is_empty() {
            self.release(streams);
        }
    }

    /// Streams have come or gone.
    pub(super) fn changed(&mut self, streams: &[Stream]) {
        self.changed |= self.begun && !tracks(streams).same_content(&self.announced);
    }

    pub(super) fn frame(&mut self, frame: MediaFrame, streams: &[Stream]) {
        if self.begun {
            if core::mem::take(&mut self.changed) {
                self.announce(tracks(streams));
            }
            return self.events.push_back(MediaEvent::Frame(frame));
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(frame.payload.len());
        let first = self.waiting.first().map_or(frame.dts, |first| first.dts);
        let waited = (frame.dts - first).abs();
        self.waiting.push(frame);
        let complete = !streams.iter().any(Stream::is_open);
        if complete || waited >= MAX_WAIT || self.waiting_bytes >= MAX_WAIT_BYTES {
            self.release(streams);
        }
    }

    /// Ends the start, whether or not all streams have shown what they are.
    pub(super) fn release(&mut self, streams: &[Stream]) {
        if !self.begun && !self.waiting.is_empty() {
            self.begin(tracks(streams));
        }
    }

    fn begin(&mut self, tracks: TrackSet) {
        self.begun = true;
        self.changed = false;
        self.announce(tracks);
        self.waiting_bytes = 0;
        self.events.extend(in_order(self.waiting.drain(..)).map(MediaEvent::Frame));
    }

    fn announce(&mut self, tracks: TrackSet) {
        if !tracks.same_content(&self.announced) {
            self.announced = tracks.clone();
            self.events.push_back(MediaEvent::Tracks(tracks));
        }
    }
}

/// The tracks that are known.
fn tracks(streams: &[Stream]) -> TrackSet {
    TrackSet::new(streams.iter().filter_map(Stream::track).cloned())
}

/// Frames by decode time, so that a stream begins with its first: pictures are whole later than the sound beside them. Each
/// track keeps its order.
fn in_order(frames: impl Iterator<Item = MediaFrame>) -> impl Iterator<Item = MediaFrame> {
    let mut latest = [None; MAX_TRACKS];
    let mut keyed: Vec<_> = frames
        .map(|frame| {
            let slot = latest.get_mut(frame.track.index());
            let key =
                slot.map_or(frame.dts, |slot| *slot.insert(slot.map_or(frame.dts, |at| frame.dts.max(at))));
            (key, frame)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, frame)| frame)
}
