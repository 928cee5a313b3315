//! A span of time out of a stream's recordings, as one file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::contract::storage::StorageError;
use arcly_core::wire::DecodeError;
use arcly_core::{CloseReason, MediaFrame, StreamKey, TimeDelta, Timestamp, TrackId, TrackKind, TrackSet};
use bytes::Bytes;

use super::source::{Said, Source};
use super::{Index, Recording};
use crate::fmp4::{DemuxError, FileOptions, FileWriter, MuxError};

/// How far before the wanted moment keyframes are looked for, in files whose index says where to read.
const LOOK_BACK: TimeDelta = TimeDelta::from_millis(15_000);
/// Bytes of a GOP that are held until it is known whether it reaches to the wanted moment.
const MAX_GOP_BYTES: usize = 32 << 20;
/// Files of one playback.
const MAX_FILES: usize = 10_000;

/// Why playback ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaybackError {
    /// The storage failed.
    #[error(transparent)]
    Storage(StorageError),
    /// A file is no MP4.
    #[error(transparent)]
    Mp4(#[from] DemuxError),
    /// A file is no transport stream.
    #[error(transparent)]
    Ts(#[from] DecodeError),
    /// A file is no FLV.
    #[error(transparent)]
    Flv(#[from] arcly_codec::flv::Error),
    /// What was recorded cannot be put into MP4.
    #[error(transparent)]
    Mux(#[from] MuxError),
}

impl PlaybackError {
    /// The reason in the terms of logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Storage(error) => error.reason(),
            Self::Mux(_) => CloseReason::Unsupported,
            Self::Mp4(_) | Self::Ts(_) | Self::Flv(_) => CloseReason::Malformed,
        }
    }
}

/// Plays a span of time as fragmented MP4, from the keyframe at or before its beginning on.
///
/// Files that continue each other are joined without a gap, whatever their format; where nothing was recorded the timeline
/// has a hole as long as that. It ends early where the tracks change so that one file cannot hold both.
pub struct Playback {
    index: Arc<Index>,
    recordings: VecDeque<Recording>,
    source: Option<Source>,
    begin: SystemTime,
    from: SystemTime,
    until: SystemTime,
    /// The file's first frame on the timeline of what is played.
    base: TimeDelta,
    tracks: Option<TrackSet>,
    leader: Option<TrackId>,
    gop: Option<Gop>,
    writer: Option<FileWriter>,
    done: bool,
}

/// What may turn out to be before the wanted moment.
#[derive(Default)]
struct Gop {
    frames: Vec<MediaFrame>,
    bytes: usize,
}

impl core::fmt::Debug for Playback {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Playback")
            .field("from", &self.from)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Playback {
    /// What was recorded of a stream from `from` on, for so long; `None` when that is nothing.
    #[must_use]
    pub fn new(index: Arc<Index>, key: &StreamKey, from: SystemTime, duration: Duration) -> Option<Self> {
        let until = from.checked_add(duration)?;
        let mut recordings: VecDeque<_> = index.of_stream(key, from, MAX_FILES).into();
        recordings.retain(|recording| recording.start < until);
        let begin = recordings.front()?.start;
        Some(Self {
            index,
            recordings,
            source: None,
            begin,
            from,
            until,
            base: TimeDelta::ZERO,
            tracks: None,
            leader: None,
            gop: Some(Gop::default()),
            writer: None,
            done: false,
        })
    }

    /// The next bytes of the file; `None` when it is complete.
    ///
    /// # Errors
    /// What stands in the way; the file ends there.
    pub async fn next(&mut self) -> Result<Option<Vec<Bytes>>, PlaybackError> {
        let mut out = Vec::new();
        while out.is_empty() && !self.done {
            match self.said().await? {
                Some(Said::Tracks(tracks)) => self.set_tracks(tracks),
                Some(Said::Frame(frame, at)) => self.frame(frame, at, &mut out)?,
                None => self.done = true,
            }
            if self.done
                && let Some(writer) = self.writer.take()
            {
                writer.end(&mut out)?;
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }

    /// What the files say, one after the other.
    async fn said(&mut self) -> Result<Option<Said>, PlaybackError> {
        loop {
            if self.source.is_none() {
                let Some(recording) = self.recordings.pop_front() else { return Ok(None) };
                let skip = match self.from.duration_since(recording.start) {
                    Ok(late) => (TimeDelta::from_duration(late) - LOOK_BACK).max(TimeDelta::ZERO),
                    Err(_) => TimeDelta::ZERO,
                };
                self.source = Some(Source::new(recording, skip));
            }
            let Some(source) = &mut self.source else { return Ok(None) };
            if let Some(said) = source.next(self.index.storage()).await? {
                return Ok(Some(said));
            }
            self.close_file();
        }
    }

    /// Where the next file begins: behind this one, if it continues it, or as much later as it was recorded later.
    fn close_file(&mut self) {
        let Some(source) = self.source.take() else { return };
        let Some(next) = self.recordings.front() else { return };
        self.base = if next.continues {
            self.base + TimeDelta::from_duration(source.recording.duration)
        } else {
            TimeDelta::from_duration(next.start.duration_since(self.begin).unwrap_or_default())
        };
    }

    fn set_tracks(&mut self, tracks: TrackSet) {
        match &self.writer {
            Some(writer) if !writer.accepts(&tracks) => self.done = true,
            Some(_) => {}
            None => {
                self.leader = tracks.first(TrackKind::Video).map(|track| track.id);
                self.tracks = Some(tracks);
                self.gop = Some(Gop::default());
            }
        }
    }

    fn frame(&mut self, frame: MediaFrame, at: TimeDelta, out: &mut Vec<Bytes>) -> Result<(), PlaybackError> {
        let at = self.base + at;
        let shift = at - (frame.dts - Timestamp::ZERO);
        let frame = MediaFrame { dts: frame.dts + shift, pts: frame.pts + shift, ..frame };
        let wall = self.begin.checked_add(at.to_duration()).unwrap_or(self.begin);
        if wall >= self.until {
            // The tracks are not exactly in step; the leading one decides.
            self.done = self.leader.is_none_or(|leader| leader == frame.track);
            return Ok(());
        }
        let Some(mut gop) = self.gop.take() else { return self.write(&frame, out) };
        let starts = frame.is_keyframe() && self.leader.is_none_or(|leader| leader == frame.track);
        // The keyframe at or before the moment, or the first one behind it.
        if starts && (wall <= self.from || gop.frames.is_empty()) {
            gop = Gop::default();
        }
        if starts || !gop.frames.is_empty() {
            gop.bytes = gop.bytes.saturating_add(frame.payload.len());
            gop.frames.push(frame);
        }
        if gop.frames.is_empty() || (wall < self.from && gop.bytes <= MAX_GOP_BYTES) {
            self.gop = Some(gop);
            return Ok(());
        }
        gop.frames.iter().try_for_each(|frame| self.write(frame, out))
    }

    fn write(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>) -> Result<(), PlaybackError> {
        let writer = match (&mut self.writer, &self.tracks) {
            (Some(writer), _) => writer,
            (none, Some(tracks)) => none.insert(FileWriter::new(tracks, FileOptions::default())?),
            (None, None) => return Ok(()),
        };
        Ok(writer.push(frame, out)?)
    }
}
