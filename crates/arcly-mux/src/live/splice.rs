//! Splice messages to date ranges (4.4.5.1.1): which end belongs to which beginning.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use arcly_core::{CodecId, MediaFrame, TimeDelta, Timestamp, TrackId, TrackSet};

use super::window::{Cue, DateRange};
use crate::scte35::{Event, SpliceInfo};

/// Breaks that have begun and may end; the oldest are forgotten.
const MAX_OPEN: usize = 64;
/// Messages are repeated, so that one that is lost does no harm: a beginning of the same break so soon is the same.
const REPEATED: Duration = Duration::from_secs(30);

/// The breaks of a stream.
#[derive(Debug)]
pub(super) struct Splices {
    tracks: Vec<TrackId>,
    /// The number of the next date range, unique within the stream.
    next: u64,
    open: VecDeque<Open>,
}

/// A break that has begun.
#[derive(Clone, Copy, Debug)]
struct Open {
    event: (u32, u8),
    id: u64,
    start: SystemTime,
}

impl Splices {
    pub(super) const fn numbered_from(next: u64) -> Self {
        Self { tracks: Vec::new(), next, open: VecDeque::new() }
    }

    /// The tracks of the frames that follow.
    pub(super) fn set_tracks(&mut self, tracks: &TrackSet) {
        let splices = tracks.iter().filter(|track| track.codec == CodecId::Scte35);
        self.tracks = splices.map(|track| track.id).collect();
    }

    /// True for tracks of splice messages.
    pub(super) fn is_of(&self, track: TrackId) -> bool {
        self.tracks.contains(&track)
    }

    /// The date ranges of a message: one for each break that begins or ends with it; one for the message if it is about
    /// neither, and none if it was told before. `date` is the date of a time; a message is presented when it applies.
    pub(super) fn note(
        &mut self,
        frame: &MediaFrame,
        date: impl Fn(Timestamp) -> SystemTime,
    ) -> Vec<DateRange> {
        let at = date(frame.pts);
        let events = SpliceInfo::decode(&frame.payload).map(|info| info.events).unwrap_or_default();
        if events.is_empty() {
            return vec![self.message(at, frame)];
        }
        events.iter().filter_map(|event| self.range(event, at, frame)).collect()
    }

    fn message(&mut self, start: SystemTime, frame: &MediaFrame) -> DateRange {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        DateRange { id, start, end: None, planned: None, cue: Cue::Command, scte35: frame.payload.clone() }
    }

    fn range(&mut self, event: &Event, at: SystemTime, frame: &MediaFrame) -> Option<DateRange> {
        let name = (event.id, event.kind);
        let known = self.open.iter().position(|open| open.event == name);
        if event.out {
            self.begin(name, event.duration, known, at, frame)
        } else {
            self.end(known, at, frame)
        }
    }

    fn begin(
        &mut self,
        event: (u32, u8),
        planned: Option<TimeDelta>,
        known: Option<usize>,
        at: SystemTime,
        frame: &MediaFrame,
    ) -> Option<DateRange> {
        let before = known.and_then(|known| self.open.get(known)).map(|open| open.start);
        if before.is_some_and(|before| at.duration_since(before).is_ok_and(|since| since < REPEATED)) {
            return None;
        }
        known.and_then(|known| self.open.remove(known));
        let range = DateRange { cue: Cue::Out, planned, ..self.message(at, frame) };
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back(Open { event, id: range.id, start: at });
        Some(range)
    }

    /// The end of a break has the name of its beginning; that of an unknown one is a message like any other.
    fn end(&mut self, known: Option<usize>, at: SystemTime, frame: &MediaFrame) -> Option<DateRange> {
        let Some(open) = known.and_then(|known| self.open.remove(known)) else {
            return Some(self.message(at, frame));
        };
        Some(DateRange {
            id: open.id,
            start: open.start,
            end: Some(at.max(open.start)),
            planned: None,
            cue: Cue::In,
            scte35: frame.payload.clone(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]
mod tests {
    use super::*;

    use arcly_core::{CodecConfig, Track};
    use bytes::Bytes;

    /// A `splice_insert` of event 7, 30 s long, that begins or ends a break at once.
    fn insert(out: bool) -> Vec<u8> {
        let mut command = vec![0, 0, 0, 7, 0x7F, if out { 0xF0 } else { 0x50 }];
        if out {
            command.extend([0x7E, 0, 0x29, 0x32, 0xE0]);
        }
        command.extend([0, 1, 0, 0]);
        section(5, &command)
    }

    fn section(command: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(12 + body.len() + 6).expect("short");
        let mut section = vec![0xFC, 0x30, length - 1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, 0x05, command];
        section.extend_from_slice(body);
        section.extend([0, 0, 0, 0, 0, 0]);
        section
    }

    #[test]
    fn a_break_is_one_range_from_its_beginning_to_its_end() {
        let track = TrackId::new(2).expect("small");
        let mut splices = Splices::numbered_from(5);
        splices.set_tracks(&TrackSet::new([Track::new(track, CodecId::Scte35, CodecConfig::None)]));
        assert!(splices.is_of(track) && !splices.is_of(TrackId::VIDEO));
        let date = |at: Timestamp| {
            SystemTime::UNIX_EPOCH + (at - Timestamp::ZERO).to_duration() + Duration::from_secs(1_000)
        };
        let mut note = |at: i64, payload: Vec<u8>| {
            let frame = MediaFrame::new(track, Timestamp::from_millis(at), Bytes::from(payload));
            let ranges = splices.note(&frame, date);
            let told =
                |range: &DateRange| (range.id, range.cue, range.end.is_some(), range.planned.is_some());
            (ranges.iter().map(told).collect::<Vec<_>>(), ranges)
        };
        assert_eq!(note(1_000, insert(true)).0, [(5, Cue::Out, false, true)]);
        assert_eq!(note(2_000, insert(true)).0, [], "told before");
        let (told, ended) = note(31_000, insert(false));
        assert_eq!(told, [(5, Cue::In, true, false)]);
        assert_eq!(
            (ended[0].start, ended[0].end),
            (date(Timestamp::from_millis(1_000)), Some(date(Timestamp::from_millis(31_000))))
        );
        assert_eq!(
            note(32_000, insert(false)).0,
            [(6, Cue::Command, false, false)],
            "of no break that is known"
        );
        assert_eq!(note(33_000, vec![0xFC]).0, [(7, Cue::Command, false, false)]);
        // The number of an event that is over may be used again.
        assert_eq!(note(40_000, insert(true)).0, [(8, Cue::Out, false, true)]);
        assert_eq!(note(100_000, insert(true)).0, [(9, Cue::Out, false, true)]);
    }
}
