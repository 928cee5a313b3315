//! The frames of one file, read as they are needed.

use std::collections::VecDeque;

use arcly_core::contract::storage::{StorageBackend, StorageError};
use arcly_core::{MediaEvent, MediaFrame, TimeDelta, Timestamp, TrackId, TrackKind, TrackSet};

use super::playback::PlaybackError;
use super::{Format, Recording};
use crate::{flv, fmp4, ts};

/// Bytes of a file without an index that are read at a time.
const PIECE: u64 = 256 << 10;
/// Frames that wait for the first one of the leading track.
const MAX_EARLY: usize = 512;

/// What a file says next.
#[derive(Debug)]
pub(super) enum Said {
    /// The tracks of the frames behind.
    Tracks(TrackSet),
    /// A frame, and how long after the file's first one it is decoded.
    Frame(MediaFrame, TimeDelta),
}

enum Demuxer {
    /// Is told what to read.
    Mp4(Box<fmp4::Demuxer>),
    /// Take all of it, in order.
    Ts(Box<ts::Demuxer>, u64),
    Flv(Box<flv::Reader>, u64),
}

/// A file on its way.
pub(super) struct Source {
    pub(super) recording: Recording,
    demuxer: Demuxer,
    skip: TimeDelta,
    /// The track that files begin with.
    leader: Option<TrackId>,
    /// When its first frame is decoded, on the file's timeline: what a recording's start is the wall-clock time of.
    first: Option<Timestamp>,
    /// Frames of other tracks that came before it.
    early: VecDeque<MediaFrame>,
    ended: bool,
}

impl Source {
    /// A file from `skip` on, as far as that can be had without reading what is before.
    pub(super) fn new(recording: Recording, skip: TimeDelta) -> Self {
        let demuxer = match recording.format {
            Format::Mp4 => Demuxer::Mp4(Box::default()),
            Format::Ts => Demuxer::Ts(Box::default(), 0),
            Format::Flv => Demuxer::Flv(Box::default(), 0),
        };
        Self { recording, demuxer, skip, leader: None, first: None, early: VecDeque::new(), ended: false }
    }

    /// What comes next; `None` at the end. A file that breaks off ends there. Cancel safe.
    ///
    /// # Errors
    /// The storage failed, or the file is none of its format.
    pub(super) async fn next(&mut self, storage: &dyn StorageBackend) -> Result<Option<Said>, PlaybackError> {
        loop {
            if let Some(first) = self.first
                && let Some(frame) = self.early.pop_front()
            {
                let at = frame.dts - first;
                return Ok(Some(Said::Frame(frame, at)));
            }
            match self.event()? {
                Some(MediaEvent::Tracks(tracks)) => {
                    self.leader = tracks.first(TrackKind::Video).map(|track| track.id);
                    return Ok(Some(Said::Tracks(tracks)));
                }
                Some(MediaEvent::Frame(frame)) => self.frame(frame),
                None if !self.ended => self.read(storage).await?,
                // Without a frame of the leading track the others begin the file.
                None if self.first.is_none() && !self.early.is_empty() => self.begin(None),
                None => return Ok(None),
            }
        }
    }

    fn frame(&mut self, frame: MediaFrame) {
        let leads = self.leader.is_none_or(|leader| leader == frame.track);
        if self.first.is_none() && (leads || self.early.len() >= MAX_EARLY) {
            self.begin(Some(frame.dts));
        }
        self.early.push_back(frame);
    }

    fn begin(&mut self, first: Option<Timestamp>) {
        self.first = first.or_else(|| self.early.front().map(|frame| frame.dts));
        if let (Demuxer::Mp4(demuxer), Some(first)) = (&mut self.demuxer, self.first)
            && self.skip > TimeDelta::ZERO
        {
            demuxer.skip_to(first + self.skip);
        }
    }

    fn event(&mut self) -> Result<Option<MediaEvent>, PlaybackError> {
        Ok(match &mut self.demuxer {
            Demuxer::Mp4(demuxer) => match demuxer.poll()? {
                fmp4::Step::Event(event) => Some(event),
                fmp4::Step::Read { .. } => None,
                fmp4::Step::End => {
                    self.ended = true;
                    None
                }
            },
            Demuxer::Ts(demuxer, _) => demuxer.poll_event(),
            Demuxer::Flv(reader, _) => reader.poll_event(),
        })
    }

    async fn read(&mut self, storage: &dyn StorageBackend) -> Result<(), PlaybackError> {
        let name = &self.recording.name;
        match &mut self.demuxer {
            Demuxer::Mp4(demuxer) => {
                let fmp4::Step::Read { offset, len } = demuxer.poll()? else { return Ok(()) };
                let bytes = storage.read(name, offset..offset.saturating_add(len as u64)).await?;
                demuxer.handle_data(bytes)?;
            }
            Demuxer::Ts(demuxer, at) => {
                let bytes = storage.read(name, *at..at.saturating_add(PIECE)).await?;
                self.ended = bytes.is_empty();
                *at = at.saturating_add(bytes.len() as u64);
                if self.ended { demuxer.finish()? } else { demuxer.push(&bytes)? }
            }
            Demuxer::Flv(reader, at) => {
                let bytes = storage.read(name, *at..at.saturating_add(PIECE)).await?;
                self.ended = bytes.is_empty();
                *at = at.saturating_add(bytes.len() as u64);
                reader.push(&bytes)?;
            }
        }
        Ok(())
    }
}

impl From<StorageError> for PlaybackError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}
