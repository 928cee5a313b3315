//! Where one file ends and the next begins, and when what there is goes to the disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timestamp, TrackId, TrackKind, TrackSet};
use bytes::Bytes;

use super::RecordOptions;
use super::format::FileMuxer;
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
    },
}

impl Step {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => bytes.iter().map(Bytes::len).fold(0, usize::saturating_add),
            Self::Begin(_) | Self::End { .. } => 0,
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
    part: Vec<MediaFrame>,
    part_bytes: usize,
    dates: Dates,
    /// Where the last file ended, when nothing was missed since.
    end: Option<Timestamp>,
}

struct File {
    muxer: Box<dyn FileMuxer>,
    start: Timestamp,
    /// The end of the newest frame.
    end: Timestamp,
    bytes: u64,
}

impl Segmenter {
    pub(super) fn new(options: RecordOptions) -> Self {
        Self {
            options,
            tracks: None,
            leader: None,
            file: None,
            part: Vec::new(),
            part_bytes: 0,
            dates: Dates::default(),
            end: None,
        }
    }

    /// The tracks of what follows; a file in the making ends.
    pub(super) fn tracks(&mut self, tracks: Arc<TrackSet>, out: &mut Vec<Step>) {
        let changed = self.tracks.as_ref().is_none_or(|known| **known != *tracks);
        if changed {
            self.finish(out);
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
        self.part.clear();
        self.part_bytes = 0;
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
        if self.file.is_none() && !join {
            return;
        }
        if join && self.file.as_ref().is_some_and(|file| self.is_full(file, frame.dts)) {
            self.flush(Some(frame), out);
            self.end_file(frame.dts, out);
        }
        if self.file.is_none() && !self.begin(frame, out) {
            return;
        }
        if self.part_is_full(frame) {
            self.flush(Some(frame), out);
        }
        self.take(frame);
    }

    /// There will be nothing more.
    pub(super) fn finish(&mut self, out: &mut Vec<Step>) {
        self.flush(None, out);
        if let Some(file) = &self.file {
            let end = file.end;
            self.end_file(end, out);
        }
    }

    fn is_full(&self, file: &File, at: Timestamp) -> bool {
        let size = file.bytes.saturating_add(self.part_bytes as u64);
        at - file.start >= TimeDelta::from_duration(self.options.segment_duration)
            || size >= self.options.segment_bytes
    }

    fn part_is_full(&self, next: &MediaFrame) -> bool {
        let Some(first) = self.part.first() else { return false };
        let (length, wanted) = (next.dts - first.dts, TimeDelta::from_duration(self.options.part_duration));
        // Where the next picture is known, so is how long the last one lasts. A track that has gone holds up nothing.
        let leads = self.leader.is_none_or(|leader| leader == next.track) || length >= wanted + wanted;
        (length >= wanted && leads) || self.part_bytes.saturating_add(next.payload.len()) > MAX_PART_BYTES
    }

    /// Begins a file; false when the tracks are not known, which the log says before the first frame.
    fn begin(&mut self, frame: &MediaFrame, out: &mut Vec<Step>) -> bool {
        let Some(tracks) = &self.tracks else { return false };
        let continues = self.end.is_some_and(|end| (frame.dts - end).abs() <= CONTIGUOUS);
        let start = self.dates.settle(frame.dts);
        let mut muxer = self.options.format.muxer(tracks, frame.dts);
        let header = muxer.header();
        out.push(Step::Begin(Beginning { start, continues }));
        let bytes = size_of_all(&header);
        out.push(Step::Append { bytes: header, duration: Duration::ZERO });
        self.file = Some(File { muxer, start: frame.dts, end: frame.dts, bytes });
        true
    }

    fn take(&mut self, frame: &MediaFrame) {
        self.part_bytes = self.part_bytes.saturating_add(frame.payload.len());
        self.part.push(frame.clone());
        if let Some(file) = &mut self.file {
            file.end = file.end.max(frame.dts + frame.duration.max(TimeDelta::ZERO));
        }
    }

    fn flush(&mut self, next: Option<&MediaFrame>, out: &mut Vec<Step>) {
        let Some(file) = &mut self.file else { return };
        if self.part.is_empty() {
            return;
        }
        let bytes = file.muxer.part(&self.part, next);
        file.bytes = file.bytes.saturating_add(size_of_all(&bytes));
        self.part.clear();
        self.part_bytes = 0;
        if !bytes.is_empty() {
            out.push(Step::Append { bytes, duration: (file.end - file.start).to_duration() });
        }
    }

    fn end_file(&mut self, end: Timestamp, out: &mut Vec<Step>) {
        let Some(mut file) = self.file.take() else { return };
        let duration = (end - file.start).to_duration();
        let trailer = file.muxer.trailer();
        if !trailer.is_empty() {
            out.push(Step::Append { bytes: trailer, duration });
        }
        out.push(Step::End { duration });
        self.end = Some(end);
    }
}

fn size_of_all(bytes: &[Bytes]) -> u64 {
    bytes.iter().map(|bytes| bytes.len() as u64).sum()
}
