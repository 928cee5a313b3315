//! Where one file ends and the next begins, and when what there is goes to the disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timestamp, TrackId, TrackKind, TrackSet};
use bytes::Bytes;

use super::RecordOptions;
use super::format::FileMuxer;
use crate::fmp4::{MuxError, Patch};
use crate::live::dates::Dates;

/// Bytes after which a part ends early: what a file can lose, and what waits for the disk at a time.
const MAX_PART_BYTES: usize = 8 << 20;
/// A file begins where the one before it ends, if no more than this lies between: what clocks are apart by.
const CONTIGUOUS: TimeDelta = TimeDelta::from_millis(1);

/// What has to be done with storage, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A file begins.
    Begin(Beginning),
    /// Bytes of it, and how long it is with them.
    Append {
        /// In order.
        bytes: Vec<Bytes>,
        /// From the file's first frame on.
        duration: Duration,
    },
    /// The file is complete, and that long.
    End {
        /// From its first frame to the end of its last.
        duration: Duration,
        /// What has to be replaced in it then.
        patch: Option<Patch>,
    },
    /// The tracks cannot be recorded in this format, for that reason.
    Refused(MuxError),
}

impl Step {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => bytes.iter().map(Bytes::len).fold(0, usize::saturating_add),
            Self::Begin(_) | Self::End { .. } | Self::Refused(_) => 0,
        }
    }
}

/// A file that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Wall-clock time of its first frame.
    pub(super) start: SystemTime,
    /// Its first frame is the one behind the last frame of the file before it.
    pub(super) continues: bool,
}

/// Turns frames into files: cut at keyframes when they are long or large enough, and where the tracks change.
pub(super) struct Segmenter {
    options: RecordOptions,
    tracks: Option<Arc<TrackSet>>,
    /// The first video track.
    leader: Option<TrackId>,
    file: Option<File>,
    dates: Dates,
    /// That these tracks cannot be recorded was said.
    refused: bool,
    /// Where the last file ended, when nothing was missed since.
    end: Option<Timestamp>,
}

struct File {
    muxer: Box<dyn FileMuxer>,
    start: Timestamp,
    /// The end of the newest frame.
    end: Timestamp,
    bytes: u64,
    /// What waits for its part to be complete, and since when.
    part: Vec<Bytes>,
    part_bytes: usize,
    part_start: Timestamp,
}

impl Segmenter {
    pub(super) fn new(options: RecordOptions) -> Self {
        Self {
            options,
            tracks: None,
            leader: None,
            file: None,
            dates: Dates::default(),
            refused: false,
            end: None,
        }
    }

    /// The tracks of what follows; a file in the making ends.
    pub(super) fn tracks(&mut self, tracks: Arc<TrackSet>, out: &mut Vec<Step>) {
        let changed = self.tracks.as_ref().is_none_or(|known| **known != *tracks);
        if changed {
            self.finish(out);
            self.refused = false;
            self.leader = tracks.first(TrackKind::Video).map(|track| track.id);
            self.tracks = Some(tracks);
        }
    }

    /// Frames were missed: what comes next is not what would have come.
    pub(super) const fn skipped(&mut self) {
        self.end = None;
    }

    /// The file in the making is lost, or as good as it gets; the next one begins at the next join point.
    pub(super) fn abandon(&mut self) {
        self.file = None;
        self.end = None;
    }

    /// A frame that will be given to [`frame`](Self::frame) came at `now`: all that came together say when the first was made.
    pub(super) fn note(&mut self, frame: &MediaFrame, now: SystemTime) {
        if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            self.dates.rebase();
        }
        self.dates.note(now, frame);
    }

    /// The next frame. `join` tells that a file may begin with it.
    pub(super) fn frame(&mut self, frame: &MediaFrame, join: bool, out: &mut Vec<Step>) {
        if join && self.file.as_ref().is_some_and(|file| self.is_full(file, frame.dts)) {
            self.end_file(Some(frame.dts), out);
        }
        if self.file.is_none() && join {
            self.begin(frame, out);
        }
        let Some(file) = &mut self.file else { return };
        if file.part_is_full(frame, self.leader, TimeDelta::from_duration(self.options.part_duration)) {
            file.flush(out);
        }
        file.push(frame);
        if file.muxer.makes_parts() {
            file.flush(out);
        }
    }

    /// There will be nothing more.
    pub(super) fn finish(&mut self, out: &mut Vec<Step>) {
        self.end_file(None, out);
    }

    fn is_full(&self, file: &File, at: Timestamp) -> bool {
        let size = file.bytes.saturating_add(file.part_bytes as u64);
        at - file.start >= TimeDelta::from_duration(self.options.segment_duration)
            || size >= self.options.segment_bytes
    }

    fn begin(&mut self, frame: &MediaFrame, out: &mut Vec<Step>) {
        // The log says what the tracks are before the first frame.
        let Some(tracks) = &self.tracks else { return };
        let part = TimeDelta::from_duration(self.options.part_duration);
        let muxer = match self.options.format.muxer(tracks, frame.dts, part) {
            Ok(muxer) => muxer,
            Err(error) => {
                if !core::mem::replace(&mut self.refused, true) {
                    out.push(Step::Refused(error));
                }
                return;
            }
        };
        let continues = self.end.is_some_and(|end| (frame.dts - end).abs() <= CONTIGUOUS);
        let start = self.dates.settle(frame.dts);
        out.push(Step::Begin(Beginning { start, continues }));
        let at = frame.dts;
        let (part, part_bytes) = (Vec::new(), 0);
        self.file = Some(File { muxer, start: at, end: at, bytes: 0, part, part_bytes, part_start: at });
    }

    /// Ends the file; at `next`, when the frame behind it is known.
    fn end_file(&mut self, next: Option<Timestamp>, out: &mut Vec<Step>) {
        let Some(mut file) = self.file.take() else { return };
        let end = next.unwrap_or(file.end);
        let patch = file.muxer.finish(&mut file.part);
        file.end = end;
        file.flush(out);
        out.push(Step::End { duration: file.duration(), patch });
        self.end = Some(end);
    }
}

impl File {
    fn duration(&self) -> Duration {
        (self.end - self.start).to_duration()
    }

    fn part_is_full(&self, next: &MediaFrame, leader: Option<TrackId>, wanted: TimeDelta) -> bool {
        let length = next.dts - self.part_start;
        // A part begins with a picture. A track that has gone holds up nothing.
        let leads = leader.is_none_or(|leader| leader == next.track) || length >= wanted + wanted;
        (length >= wanted && leads) || self.part_bytes.saturating_add(next.payload.len()) > MAX_PART_BYTES
    }

    fn push(&mut self, frame: &MediaFrame) {
        if self.part.is_empty() {
            self.part_start = frame.dts;
        }
        let before = self.part.len();
        self.muxer.push(frame, &mut self.part);
        let new = self.part.get(before..).unwrap_or_default();
        self.part_bytes = new.iter().map(Bytes::len).fold(self.part_bytes, usize::saturating_add);
        self.end = self.end.max(frame.dts + frame.duration.max(TimeDelta::ZERO));
    }

    fn flush(&mut self, out: &mut Vec<Step>) {
        if self.part.is_empty() {
            return;
        }
        self.bytes = self.bytes.saturating_add(size_of_all(&self.part));
        self.part_bytes = 0;
        out.push(Step::Append { bytes: core::mem::take(&mut self.part), duration: self.duration() });
    }
}

fn size_of_all(bytes: &[Bytes]) -> u64 {
    bytes.iter().map(|bytes| bytes.len() as u64).sum()
}
