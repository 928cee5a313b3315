//! Files to media: fragmented and plain, `moov` first or last.
//!
//! ```text
//!             Step::Read{offset, len}                    Step::Event
//!   file  ◄───────────────────────────  Demuxer::poll  ───────────►  tracks, frames by decode time
//!         ──────handle_data──────────►
//! ```
//!
//! The file is asked for what is needed and nothing else: box headers, `moov`, `moof`, and the media of each track in
//! pieces of up to 1 MiB, of which the frames are slices. [`Reader`] does the same with a file that comes in order.
//!
//! Bounds: `moov` 64 MiB, `moof` 8 MiB, 19 200 samples per run and 76 800 per fragment, an access unit 8 MiB, 16 tracks. No
//! recursion: boxes are looked for on fixed paths of at most eight levels, and what lies deeper is not opened. A sample
//! has to lie inside an `mdat`.
//!
//! Tolerated: a file that ends too early (what is whole comes out, [`Demuxer::is_truncated`]); tracks in formats that are not
//! known, which are left out; broken access units, up to 16 in a row; negative composition offsets, by moving the
//! track's decode times ahead. Of an edit list the start counts; edits behind the first are not followed.

mod entry;
mod fragment;
mod lane;
mod movie;
mod reader;
mod table;

use std::collections::VecDeque;

use arcly_codec::nal::MAX_ACCESS_UNIT_BYTES;
use arcly_core::track::MAX_TRACKS as MAX_TRACK_IDS;
use arcly_core::wire::{DecodeError, DecodeResult, Reader as Cursor};
use arcly_core::{CloseReason, MediaEvent, Timestamp, TrackId, TrackSet};
use bytes::Bytes;
use smallvec::SmallVec;

use self::lane::Lane;
use super::wire::BoxHeader;
pub use reader::Reader;

/// Bytes of a `moov`.
pub const MAX_MOVIE_BYTES: u64 = 64 << 20;
/// Bytes of a `moof`.
pub const MAX_MOOF_BYTES: u64 = 8 << 20;
/// Tracks that are read.
const MAX_TRACKS: usize = 16;
/// `mdat` boxes of one plain file.
const MAX_MEDIA_BOXES: usize = 4_096;
/// Broken access units with nothing good between them.
const MAX_BAD_IN_A_ROW: u32 = 16;

/// Why a file cannot be read, or not any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// A box is malformed, or asks for more than a limit.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// There is no `moov`, or the file ends within it.
    #[error("the file has no moov box: it was not finished, or is no MP4")]
    NoMovie,
    /// No track is in a format that is known.
    #[error("no track is in a format that is known")]
    NoTracks,
    /// Nothing but broken access units for a while.
    #[error("{count} broken access units in a row, the last: {last}")]
    TooManyBroken {
        /// How many.
        count: u32,
        /// What was wrong with the last one.
        last: DecodeError,
    },
    /// The file has to be read at `offset`, which the source has passed.
    #[error(
        "the file has to be read again at byte {offset}: `moov` behind the media needs a file that can be sought"
    )]
    Passed {
        /// Where.
        offset: u64,
    },
}

impl From<DemuxError> for CloseReason {
    fn from(error: DemuxError) -> Self {
        match error {
            DemuxError::Decode(error) => error.into(),
            DemuxError::NoTracks | DemuxError::Passed { .. } => Self::Unsupported,
            DemuxError::NoMovie | DemuxError::TooManyBroken { .. } => Self::Malformed,
        }
    }
}

/// A sample where the file has it, in the clock of its track.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    offset: u64,
    size: u32,
    dts: i64,
    composition: i32,
    duration: u32,
    disposable: bool,
}

/// What a demuxer wants, or gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read so many bytes there and hand them to [`Demuxer::handle_data`]; fewer only where the file ends.
    Read {
        /// Bytes from the start of the file.
        offset: u64,
        /// Bytes to read, at least one.
        len: usize,
    },
    /// Tracks or a frame.
    Event(MediaEvent),
    /// The file is done.
    End,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Header,
    Movie { len: usize, end: u64 },
    Moof { len: usize, start: u64, end: u64 },
    Media { lane: usize, offset: u64, len: usize },
    Nothing,
}

/// Reads a file in pieces that it asks for.
#[derive(Debug)]
pub struct Demuxer {
    /// Where the next box of the file begins.
    at: u64,
    wanted: Wanted,
    lanes: SmallVec<[Lane; 2]>,
    has_movie: bool,
    /// Where media may lie: the bodies of `mdat` boxes.
    media: Vec<(u64, u64)>,
    events: VecDeque<MediaEvent>,
    changed: bool,
    bad_in_a_row: u32,
    truncated: bool,
    done: bool,
    /// Samples that are decoded before are left out.
    from: Option<Timestamp>,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new()
    }
}

impl Demuxer {
    /// A demuxer at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self {
            at: 0,
            wanted: Wanted::Nothing,
            lanes: SmallVec::new(),
            has_movie: false,
            media: Vec::new(),
            events: VecDeque::new(),
            changed: false,
            bad_in_a_row: 0,
            truncated: false,
            done: false,
            from: None,
        }
    }

    /// From now on leaves out what is decoded before `at`, on the file's timeline, without reading it. What comes first then
    /// need not be a keyframe.
    pub const fn skip_to(&mut self, at: Timestamp) {
        self.from = Some(at);
    }

    /// True when the file ended before its last box did: what was whole came out.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The lowest byte of the file that may still be asked for.
    fn lowest(&self) -> u64 {
        let samples = self.lanes.iter().filter_map(|lane| lane.peek().map(|sample| sample.offset));
        samples.fold(self.at, u64::min)
    }

    /// What comes next.
    ///
    /// # Errors
    /// The file is malformed, or exceeds a limit. An error is final; everything before it was given out.
    pub fn poll(&mut self) -> Result<Step, DemuxError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Step::Event(event));
            }
            if self.done {
                return if self.has_movie { Ok(Step::End) } else { Err(DemuxError::NoMovie) };
            }
            if self.wanted == Wanted::Nothing {
                self.wanted = self.next()?;
            }
            let (offset, len) = match self.wanted {
                Wanted::Nothing => continue,
                Wanted::Header => (self.at, BoxHeader::MAX_LEN),
                Wanted::Movie { len, end } => (end.saturating_sub(len as u64), len),
                Wanted::Moof { len, end, .. } => (end.saturating_sub(len as u64), len),
                Wanted::Media { offset, len, .. } => (offset, len),
            };
            return Ok(Step::Read { offset, len });
        }
    }

    /// Takes what was asked for; fewer bytes mean that the file ends there.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn handle_data(&mut self, data: Bytes) -> Result<(), DemuxError> {
        match core::mem::replace(&mut self.wanted, Wanted::Nothing) {
            Wanted::Nothing => Ok(()),
            Wanted::Header => self.header(&data),
            Wanted::Movie { len, .. } if data.len() < len => Err(DemuxError::NoMovie),
            Wanted::Movie { .. } => self.movie(&data),
            Wanted::Moof { len, .. } if data.len() < len => {
                self.end_early();
                Ok(())
            }
            Wanted::Moof { start, .. } => self.moof(&data, start),
            Wanted::Media { lane, offset, .. } => {
                self.media_piece(lane, offset, data);
                Ok(())
            }
        }
    }

    fn end_early(&mut self) {
        (self.truncated, self.done) = (true, true);
    }

    /// Makes a frame of the next sample where its bytes are there; else says what to read.
    fn next(&mut self) -> Result<Wanted, DemuxError> {
        if let Some(from) = self.from {
            self.lanes.iter_mut().for_each(|lane| lane.skip_to(from));
        }
        let next = self.lanes.iter().enumerate().filter_map(|(at, lane)| Some((lane.next_at()?, at))).min();
        let Some((_, index)) = next else { return Ok(Wanted::Header) };
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(Wanted::Header) };
        let Some(sample) = lane.peek() else { return Ok(Wanted::Header) };
        if u64::from(sample.size) > MAX_ACCESS_UNIT_BYTES as u64 {
            let limit = MAX_ACCESS_UNIT_BYTES as u64;
            return Err(DecodeError::LimitExceeded { what: "access_unit", limit }.into());
        }
        if let Some(bytes) = lane.bytes_of(sample) {
            let taken = lane.take(&bytes);
            self.judge(taken)?;
            return Ok(Wanted::Nothing);
        }
        let end = sample.offset.saturating_add(sample.size.into());
        let Some(&(_, limit)) = self.media.iter().find(|(from, to)| sample.offset >= *from && end <= *to)
        else {
            // In an `mdat` that is still to come.
            return Ok(Wanted::Header);
        };
        let (offset, len) = lane.run();
        let len = usize::try_from(len.min(limit.saturating_sub(offset))).unwrap_or_default();
        Ok(Wanted::Media { lane: index, offset, len: len.max(1) })
    }

    fn judge(
        &mut self,
        taken: DecodeResult<(Option<arcly_core::MediaFrame>, bool)>,
    ) -> Result<(), DemuxError> {
        match taken {
            Ok((frame, changed)) => {
                self.changed |= changed;
                if let Some(frame) = frame {
                    self.bad_in_a_row = 0;
                    if core::mem::take(&mut self.changed) {
                        self.events.push_back(MediaEvent::Tracks(self.tracks()));
                    }
                    self.events.push_back(MediaEvent::Frame(frame));
                }
                Ok(())
            }
            Err(error @ DecodeError::LimitExceeded { .. }) => Err(error.into()),
            Err(last) => {
                self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
                if self.bad_in_a_row < MAX_BAD_IN_A_ROW {
                    return Ok(());
                }
                Err(DemuxError::TooManyBroken { count: self.bad_in_a_row, last })
            }
        }
    }

    fn tracks(&self) -> TrackSet {
        TrackSet::new(self.lanes.iter().filter_map(|lane| lane.track().cloned()))
    }

    /// True while samples wait for their media.
    fn is_pending(&self) -> bool {
        self.lanes.iter().any(|lane| lane.peek().is_some())
    }

    fn header(&mut self, data: &[u8]) -> Result<(), DemuxError> {
        let header = match BoxHeader::decode(&mut Cursor::new(data)) {
            Ok(header) => header,
            Err(DecodeError::Incomplete { .. }) => {
                // Media was there, and all of it, but not that of the next sample.
                if data.is_empty() && self.is_pending() && !self.media.is_empty() {
                    return Err(misplaced(self.at));
                }
                self.truncated |= !data.is_empty() || self.is_pending();
                self.done = true;
                return Ok(());
            }
            Err(DecodeError::Malformed { what, .. }) => {
                let offset = usize::try_from(self.at).unwrap_or(usize::MAX);
                return Err(DecodeError::Malformed { what, offset }.into());
            }
            Err(error) => return Err(error.into()),
        };
        let (start, end) = (self.at, header.size.map_or(u64::MAX, |size| self.at.saturating_add(size)));
        self.at = end;
        let body = header.size.unwrap_or(u64::MAX).saturating_sub(header.len);
        match &header.kind {
            b"moov" if !self.has_movie => {
                let len = bounded("moov", body, MAX_MOVIE_BYTES)?;
                self.wanted = Wanted::Movie { len, end };
            }
            b"moof" if self.has_movie => {
                if self.is_pending() {
                    return Err(misplaced(start));
                }
                let len = bounded("moof", body, MAX_MOOF_BYTES)?;
                self.wanted = Wanted::Moof { len, start, end };
            }
            b"mdat" => {
                if self.media.len() >= MAX_MEDIA_BOXES {
                    let limit = MAX_MEDIA_BOXES as u64;
                    return Err(DecodeError::LimitExceeded { what: "mdat", limit }.into());
                }
                self.media.push((start.saturating_add(header.len), end));
            }
            _ => {}
        }
        // An empty body is not read.
        match self.wanted {
            Wanted::Movie { len: 0, .. } => Err(DemuxError::NoMovie),
            Wanted::Moof { len: 0, .. } => {
                self.wanted = Wanted::Nothing;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn movie(&mut self, moov: &Bytes) -> Result<(), DemuxError> {
        let (tracks, fragmented) = movie::decode(moov)?;
        for source in tracks.into_iter().take(MAX_TRACKS) {
            let id = self.id_for(source.entry.stream.is_video());
            if let Some(id) = id.filter(|_| self.lanes.iter().all(|lane| lane.number() != source.number)) {
                self.lanes.push(Lane::new(id, source));
            }
        }
        if self.lanes.is_empty() {
            return Err(DemuxError::NoTracks);
        }
        for lane in &mut self.lanes {
            self.changed |= lane.refresh();
        }
        self.has_movie = true;
        if !fragmented && !self.is_pending() {
            self.done = true;
        }
        Ok(())
    }

    fn id_for(&self, video: bool) -> Option<TrackId> {
        let first = if video { TrackId::VIDEO } else { TrackId::AUDIO };
        let free = |id: &TrackId| self.lanes.iter().all(|lane| lane.id != *id);
        let later = TrackId::DATA.index().saturating_add(1)..MAX_TRACK_IDS;
        let mut ids = later.filter_map(|n| TrackId::new(u8::try_from(n).ok()?));
        Some(first).filter(free).or_else(|| ids.find(free))
    }

    fn moof(&mut self, moof: &Bytes, start: u64) -> Result<(), DemuxError> {
        self.media.clear();
        let known = |number| self.lanes.iter().find(|lane| lane.number() == number).map(Lane::known);
        for fragment in fragment::decode(moof, start, known)? {
            let mut lanes = self.lanes.iter_mut();
            if let Some(lane) = lanes.find(|lane| lane.number() == fragment.number) {
                lane.extend(fragment);
            }
        }
        Ok(())
    }

    /// Media of a track. Where the file ends within a sample, it ends for all tracks.
    fn media_piece(&mut self, lane: usize, offset: u64, data: Bytes) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.set_window(offset, data);
        if lane.peek().is_some_and(|sample| lane.bytes_of(sample).is_none()) {
            self.lanes.iter_mut().for_each(Lane::clear);
            self.end_early();
        }
    }
}

/// Samples that lie in no `mdat`.
fn misplaced(at: u64) -> DemuxError {
    let offset = usize::try_from(at).unwrap_or(usize::MAX);
    DecodeError::Malformed { what: "sample outside mdat", offset }.into()
}

fn bounded(what: &'static str, len: u64, limit: u64) -> Result<usize, DemuxError> {
    match usize::try_from(len) {
        Ok(len) if len as u64 <= limit => Ok(len),
        _ => Err(DecodeError::LimitExceeded { what, limit }.into()),
    }
}
