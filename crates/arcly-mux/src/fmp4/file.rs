//! Files: fragmented while they are written, plain when they are finished.

use arcly_core::{MediaFrame, TimeDelta, Timescale, Timestamp, TrackSet};
use bytes::{BufMut, Bytes};

use super::index::SampleIndex;
use super::init::{Edit, TrackBody, put_ftyp, put_movie_header, put_track};
use super::wire::put_box;
use super::{
    Fragment, Fragmenter, InitOptions, MAX_SAMPLES_PER_RUN, Mp4Track, MuxError, Prefix, Run, init_segment,
};

/// Bytes of media that one fragment collects at most.
const MAX_PART_BYTES: usize = 32 << 20;
/// What the first fragment collects at least, so that it is known which track is shown first: pictures may be shown long
/// after the sound that was decoded with them.
const MIN_FIRST_PART: TimeDelta = TimeDelta::from_millis(500);
/// Samples that are indexed; a file with more stays fragmented when it is finished.
pub const MAX_INDEXED_SAMPLES: usize = 8 << 20;
/// The box that becomes the header of all media: 32 bits of size, type, 64 bits of size.
const PLACEHOLDER_LEN: usize = 16;
/// The clock of the movie when those of the tracks have no small one in common.
const FALLBACK_TIMESCALE: Timescale = Timescale::MPEG;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// How much time a fragment collects: what a crash can lose, and what stays in memory.
    pub part: TimeDelta,
}

impl Default for FileOptions {
    /// A second.
    fn default() -> Self {
        Self { part: TimeDelta::from_millis(1_000) }
    }
}

/// Bytes that have to be replaced in the file, once everything before is safely written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where, from the start of the file.
    pub offset: u64,
    /// With what.
    pub bytes: Bytes,
}

/// Writes one file of one set of tracks. Pure: it says what to append, and in the end what to replace.
///
/// ```text
/// while it is written    ftyp │ free │ moov │ moof mdat │ moof mdat │ …
/// when it is finished    ftyp │ mdat ───────────────────────────────── │ moov with every sample
/// ```
///
/// A file that was not finished is fragmented, and plays up to its last whole fragment. To finish it, an index of all
/// samples is appended, and then sixteen bytes at the front turn everything before it into one `mdat`: at no moment
/// is the file one that does not play. Samples have the same times in both forms, exactly those of the stream, and
/// presentation begins with the first picture or sound.
///
/// A frame is held back until the next one of its track is there, so that its duration is known; [`finish`](Self::finish)
/// takes what the last ones say of themselves ([`Mp4Track::expected_end`]). Held are a part's frames, and 4 to 20 bytes for
/// every sample of the file, up to [`MAX_INDEXED_SAMPLES`].
#[derive(Debug)]
pub struct FileWriter {
    tracks: Vec<Mp4Track>,
    options: FileOptions,
    pending: Vec<Vec<MediaFrame>>,
    pending_bytes: usize,
    part_began: Option<Timestamp>,
    fragmenter: Option<Fragmenter>,
    index: Vec<SampleIndex>,
    start: TimeDelta,
    /// Where the placeholder is.
    front: u64,
    /// Bytes written.
    len: u64,
}

impl FileWriter {
    /// A writer for those of the tracks that can be carried in MP4.
    ///
    /// # Errors
    /// None can, or the parameters of one that could are not known.
    pub fn new(tracks: &TrackSet, options: FileOptions) -> Result<Self, MuxError> {
        let tracks = carried(tracks)?;
        Ok(Self {
            pending: vec![Vec::new(); tracks.len()],
            index: vec![SampleIndex::default(); tracks.len()],
            tracks,
            options,
            pending_bytes: 0,
            part_began: None,
            fragmenter: None,
            start: TimeDelta::ZERO,
            front: 0,
            len: 0,
        })
    }

    /// True when frames of these tracks can go into the same file: what decoders are told is the same.
    #[must_use]
    pub fn accepts(&self, tracks: &TrackSet) -> bool {
        are_same(&self.tracks, tracks)
    }

    /// Bytes that the file has so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True when nothing was written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next frame of the stream, by decode time. What has to be appended to the file goes to `out`; frames of
    /// tracks that cannot be carried are passed over.
    ///
    /// # Errors
    /// As [`Fragmenter::fragment`], which the bounds of the engine exclude.
    pub fn push(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>) -> Result<(), MuxError> {
        let Some(at) = self.tracks.iter().position(|track| track.id() == frame.track) else { return Ok(()) };
        let began = *self.part_began.get_or_insert(frame.dts);
        let Some(pending) = self.pending.get_mut(at) else { return Ok(()) };
        pending.push(frame.clone());
        self.pending_bytes = self.pending_bytes.saturating_add(frame.payload.len());
        let is_full = pending.len() >= MAX_SAMPLES_PER_RUN || self.pending_bytes >= MAX_PART_BYTES;
        let least = if self.fragmenter.is_none() { MIN_FIRST_PART } else { TimeDelta::ZERO };
        if is_full || frame.dts - began >= self.options.part.max(least) {
            self.part_began = Some(frame.dts);
            return self.flush(out, false);
        }
        Ok(())
    }

    /// Ends the file. What is to be appended goes to `out`; when all of it is in the file, and on the disk, the patch makes it
    /// a plain one. `None` when the file is empty, or has more samples than are indexed, and stays as it is.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self, out: &mut Vec<Bytes>) -> Result<Option<Patch>, MuxError> {
        self.flush(out, true)?;
        let indexed = self.index.iter().map(SampleIndex::len).fold(0, usize::saturating_add);
        if self.len == 0 || indexed > MAX_INDEXED_SAMPLES {
            return Ok(None);
        }
        let mut header = Vec::with_capacity(PLACEHOLDER_LEN);
        header.put_u32(1);
        header.put_slice(b"mdat");
        header.put_u64(self.len.saturating_sub(self.front));
        out.push(self.movie().into());
        Ok(Some(Patch { offset: self.front, bytes: header.into() }))
    }

    /// Ends the file as it is, fragmented: for those who send it on at once, and cannot replace anything.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn end(mut self, out: &mut Vec<Bytes>) -> Result<(), MuxError> {
        self.flush(out, true)
    }

    /// Writes what is pending: all of it, or all but the newest frame of each track.
    fn flush(&mut self, out: &mut Vec<Bytes>, last: bool) -> Result<(), MuxError> {
        if self.fragmenter.is_none() {
            self.begin(out);
        }
        let Some(mut fragmenter) = self.fragmenter.take() else { return Ok(()) };
        let pending = core::mem::take(&mut self.pending);
        let runs: Vec<Run<'_, MediaFrame>> =
            self.tracks.iter().zip(&pending).filter_map(|(track, frames)| run(track, frames, last)).collect();
        if !runs.is_empty() {
            let samples: Vec<_> = runs.iter().filter_map(|run| fragmenter.samples(run)).collect();
            let fragment = fragmenter.fragment(&runs, &Prefix::default())?;
            self.list(samples.into_iter(), &fragment);
            self.len = self.len.saturating_add(fragment.len() as u64);
            out.extend(fragment.into_chunks());
        }
        self.pending = pending;
        self.fragmenter = Some(fragmenter);
        for frames in &mut self.pending {
            let keep = if last { 0 } else { frames.len().min(1) };
            frames.drain(..frames.len().saturating_sub(keep));
        }
        let held = self.pending.iter().flatten().map(|frame| frame.payload.len());
        self.pending_bytes = held.fold(0, usize::saturating_add);
        Ok(())
    }

    /// Writes the front of the file, now that it is known where presentation begins.
    fn begin(&mut self, out: &mut Vec<Bytes>) {
        let frames = || self.pending.iter().flatten();
        let Some(origin) = frames().map(|frame| frame.dts.min(frame.pts)).min() else { return };
        self.start = frames().map(|frame| frame.pts).min().unwrap_or(origin) - origin;
        let mut front = Vec::new();
        put_ftyp(&mut front, &self.tracks, false);
        self.front = front.len() as u64;
        put_box(&mut front, b"free", |out| out.put_u64(0));
        let options = InitOptions { start: Some(self.start), cmaf: false };
        let init = init_segment(&self.tracks, options);
        // The same brands came before the placeholder.
        front.put_slice(init.get(usize::try_from(self.front).unwrap_or_default()..).unwrap_or_default());
        self.len = front.len() as u64;
        out.push(front.into());
        self.fragmenter = Some(Fragmenter::new(self.tracks.iter().cloned(), origin));
    }

    /// Notes where the samples of a fragment are.
    fn list<'a>(
        &mut self,
        runs: impl Iterator<Item = (usize, super::fragment::Samples<'a, MediaFrame>)>,
        fragment: &Fragment,
    ) {
        let header = fragment.chunks().first().map_or(0, Bytes::len);
        let mut place = self.len.saturating_add(header as u64);
        for (at, samples) in runs {
            let Some(index) = self.index.get_mut(at) else { continue };
            index.begin_chunk(place, samples.at);
            for sample in samples {
                place = place.saturating_add(sample.size.into());
                index.push(&sample);
            }
        }
    }

    /// `moov` with every sample.
    fn movie(&self) -> Vec<u8> {
        let scale = movie_timescale(&self.tracks);
        let bodies: Vec<_> = self
            .tracks
            .iter()
            .zip(&self.index)
            .map(|(track, index)| self.body(track, index, scale))
            .collect();
        let duration = bodies.iter().map(|(_, presentation)| *presentation).max().unwrap_or_default();
        let mut out = Vec::new();
        put_box(&mut out, b"moov", |out| {
            put_movie_header(out, &self.tracks, (scale, duration));
            let tracks = self.tracks.iter().zip(&self.index).zip(&bodies);
            for ((track, index), (edits, presentation)) in tracks.filter(|((_, index), _)| index.len() > 0) {
                let tables = index.tables();
                let body = TrackBody {
                    edits,
                    presentation: *presentation,
                    media: index.duration(),
                    tables: Some(&tables),
                };
                put_track(out, track, &body);
            }
        });
        out
    }

    /// The edits of a track, and how long it is shown, in ticks of the movie: its samples count from its own first one, which
    /// may be later than the start of the presentation, or earlier.
    fn body(&self, track: &Mp4Track, index: &SampleIndex, scale: Timescale) -> (Vec<Edit>, u64) {
        let movie = |ticks: i64| {
            let delta = TimeDelta::from_ticks(ticks, track.timescale);
            u64::try_from(delta.to_ticks(scale)).unwrap_or_default()
        };
        let signed = |ticks: u64| i64::try_from(ticks).unwrap_or(i64::MAX);
        // An edit begins with a picture: what is empty before it is said as such, as players take it no other way.
        let first = signed(index.first.unwrap_or_default());
        let shown = index.shown.unwrap_or(first);
        let late = shown.saturating_sub(self.start.to_ticks(track.timescale));
        let media_time = shown.saturating_sub(first).saturating_add(late.saturating_neg().max(0)).max(0);
        let shown = Edit { duration: movie(signed(index.duration()).saturating_sub(media_time)), media_time };
        let pause = movie(late);
        let mut edits = Vec::with_capacity(2);
        if late > 0 {
            edits.push(Edit { duration: pause, media_time: -1 });
        }
        edits.push(shown);
        (edits, pause.saturating_add(shown.duration))
    }
}

/// The tracks that MP4 can carry, numbered from 1.
///
/// # Errors
/// There are none, or the parameters of one are not known yet.
pub(super) fn carried(tracks: &TrackSet) -> Result<Vec<Mp4Track>, MuxError> {
    let (mut out, mut unsupported) = (Vec::new(), MuxError::Empty);
    for track in tracks {
        let number = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_add(1);
        match Mp4Track::new(track, number) {
            Ok(track) => out.push(track),
            Err(error @ MuxError::Unsupported(_)) => unsupported = error,
            Err(error) => return Err(error),
        }
    }
    if out.is_empty() { Err(unsupported) } else { Ok(out) }
}

/// True when decoders are told the same of `tracks` as of those that a file was begun with.
pub(super) fn are_same(begun: &[Mp4Track], tracks: &TrackSet) -> bool {
    carried(tracks).is_ok_and(|tracks| {
        let same = |(a, b): (&Mp4Track, &Mp4Track)| a.id() == b.id() && a.entry == b.entry;
        tracks.len() == begun.len() && tracks.iter().zip(begun).all(same)
    })
}

/// What of a track's frames can be written.
fn run<'a>(track: &Mp4Track, frames: &'a [MediaFrame], last: bool) -> Option<Run<'a, MediaFrame>> {
    if last {
        return (!frames.is_empty()).then(|| Run { frames, end: track.expected_end(frames) });
    }
    let (next, whole) = frames.split_last()?;
    (!whole.is_empty()).then_some(Run { frames: whole, end: next.dts })
}

/// A clock in which every time of every track is a whole number.
fn movie_timescale(tracks: &[Mp4Track]) -> Timescale {
    let scales = tracks.iter().map(|track| u64::from(track.timescale.get()));
    let common =
        scales.fold(1_u64, |a, b| a.checked_div(super::track::gcd(a, b)).unwrap_or(1).saturating_mul(b));
    let small = i32::try_from(common).ok().and_then(|common| u32::try_from(common).ok());
    small.and_then(Timescale::new).unwrap_or(FALLBACK_TIMESCALE)
}
