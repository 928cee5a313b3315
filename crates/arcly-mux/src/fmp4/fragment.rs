//! `moof` and `mdat`: a run of frames as one box of description, and the frames themselves.

use core::borrow::Borrow;
use core::ops::Range;

use arcly_core::{FrameFlags, MediaFrame, Timescale, Timestamp};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::boxes::Prefix;
use super::clock::{SampleClock, ticks};
use super::wire::HEADER_LEN;
use super::{Mp4Track, MuxError};

/// Samples that one run may have; what readers accept too.
pub const MAX_SAMPLES_PER_RUN: usize = 19_200;
/// Bytes of media in one fragment: what its 32-bit offsets reach.
pub const MAX_FRAGMENT_BYTES: u64 = 1 << 30;

/// `sample_depends_on` 2: on no other sample.
const INDEPENDENT: u32 = 2 << 24;
/// `sample_depends_on` 1, and `sample_is_non_sync_sample`.
const DEPENDENT: u32 = 1 << 24 | 1 << 16;
/// `sample_is_depended_on` 2: by no other sample.
const DISPOSABLE: u32 = 2 << 22;
/// `is_leading` 1: before the keyframe in presentation, and not decodable after it.
const LEADING: u32 = 1 << 26;

/// `sample_flags` (ISO/IEC 14496-12 8.8.3.1) of a frame.
pub(super) const fn sample_flags(flags: FrameFlags) -> u32 {
    let mut bits = if flags.contains(FrameFlags::KEYFRAME) { INDEPENDENT } else { DEPENDENT };
    if flags.contains(FrameFlags::DISPOSABLE) {
        bits |= DISPOSABLE;
    }
    if flags.contains(FrameFlags::LEADING) {
        bits |= LEADING;
    }
    bits
}

mod tfhd {
    pub(super) const DURATION: u32 = 8;
    pub(super) const SIZE: u32 = 0x10;
    pub(super) const FLAGS: u32 = 0x20;
    pub(super) const BASE_IS_MOOF: u32 = 0x02_0000;
}

mod trun {
    pub(super) const DATA_OFFSET: u32 = 1;
    pub(super) const FIRST_FLAGS: u32 = 4;
    pub(super) const DURATION: u32 = 0x100;
    pub(super) const SIZE: u32 = 0x200;
    pub(super) const FLAGS: u32 = 0x400;
    pub(super) const OFFSET: u32 = 0x800;
}

/// Consecutive frames of one track, by decode time, and when the one after them begins.
#[derive(Debug)]
pub struct Run<'a, F> {
    /// At least one frame, all of the same track.
    pub frames: &'a [F],
    /// The decode time of the next frame, which says how long the last one lasts. Where the next frame is not known,
    /// [`Mp4Track::expected_end`] has a rule.
    pub end: Timestamp,
}

impl<F> Clone for Run<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Run<'_, F> {}

/// A fragment: its description, and the payloads of its frames, which are shared and not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    chunks: Vec<Bytes>,
    len: usize,
    ticks: Range<u64>,
}

impl Fragment {
    /// What goes on the wire, in order: first everything up to the header of `mdat`, then a piece for each frame.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The same by value.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// Bytes of all of it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when there is nothing in it, which a fragmenter never makes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// From when to when its first run is decoded, in ticks of that track: what playlists and manifests have to say. The
    /// next fragment of the track begins where this one ends, if its first frame comes at the end of this run.
    #[must_use]
    pub const fn ticks(&self) -> &Range<u64> {
        &self.ticks
    }

    /// All of it in one piece; this copies.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len);
        self.chunks.iter().for_each(|chunk| out.put_slice(chunk));
        out.freeze()
    }
}

/// Makes fragments of frames, in the clocks of their tracks, with rising sequence numbers.
///
/// Decode times come from the frames, so they do not drift; a sample lasts until the next one begins. Sound whose times
/// were rounded on the way, to milliseconds or to 90 kHz, gets its own back: as long as a frame comes within 2 ms of the end
/// of the one before, it begins there, so that an AAC frame lasts 1024 ticks whatever it came through. A frame before
/// the origin is moved up to it.
///
/// Costs two allocations per fragment, whatever the number of frames, and copies no payload
/// (`benches/benches/fmp4.rs`).
#[derive(Clone, Debug)]
pub struct Fragmenter {
    lanes: SmallVec<[Lane; 2]>,
    origin: Timestamp,
    sequence: u32,
}

/// A track, and where its next sample is expected.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    track: Mp4Track,
    clock: SampleClock,
}

impl Fragmenter {
    /// A fragmenter for these tracks. `origin` is the time on the stream that becomes zero in the file.
    #[must_use]
    pub fn new(tracks: impl IntoIterator<Item = Mp4Track>, origin: Timestamp) -> Self {
        let lane = |track: Mp4Track| Lane { clock: SampleClock::of(&track), track };
        Self { lanes: tracks.into_iter().map(lane).collect(), origin, sequence: 0 }
    }

    /// The tracks.
    pub fn tracks(&self) -> impl ExactSizeIterator<Item = &Mp4Track> {
        self.lanes.iter().map(|lane| &lane.track)
    }

    /// The time on the stream that is zero in the file.
    #[must_use]
    pub const fn origin(&self) -> Timestamp {
        self.origin
    }

    /// A time of the stream in ticks of a track: what `tfdt`, playlists and manifests say.
    #[must_use]
    pub fn ticks(&self, track: &Mp4Track, at: Timestamp) -> u64 {
        ticks(at, self.origin, track.timescale)
    }

    /// What the samples of a run will be in the next fragment.
    pub(super) fn samples<'a, F: Borrow<MediaFrame>>(
        &self,
        run: &Run<'a, F>,
    ) -> Option<(usize, Samples<'a, F>)> {
        let id = run.frames.first()?.borrow().track;
        let (at, lane) = self.lanes.iter().enumerate().find(|(_, lane)| lane.track.id() == id)?;
        Some((at, Samples::new(lane, self.origin, run)))
    }

    /// A fragment of one track: a CMAF chunk.
    ///
    /// # Errors
    /// As [`fragment`](Self::fragment).
    pub fn chunk<F: Borrow<MediaFrame>>(
        &mut self,
        run: Run<'_, F>,
        prefix: &Prefix<'_>,
    ) -> Result<Fragment, MuxError> {
        self.fragment(&[run], prefix)
    }

    /// A fragment of a run of each of several tracks; the payloads come in the order of the runs.
    ///
    /// # Errors
    /// There is no run, or one without frames; its track is not one of the fragmenter's; there are more than
    /// [`MAX_SAMPLES_PER_RUN`] frames in a run, or more than [`MAX_FRAGMENT_BYTES`] in all.
    pub fn fragment<F: Borrow<MediaFrame>>(
        &mut self,
        runs: &[Run<'_, F>],
        prefix: &Prefix<'_>,
    ) -> Result<Fragment, MuxError> {
        let mut layouts: SmallVec<[Layout; 2]> = SmallVec::new();
        let mut payload = 0_u64;
        for run in runs {
            let id = run.frames.first().ok_or(MuxError::Empty)?.borrow().track;
            let mut lanes = self.lanes.iter().enumerate();
            let (at, lane) =
                lanes.find(|(_, lane)| lane.track.id() == id).ok_or(MuxError::UnknownTrack(id))?;
            let mut layout = Layout::new(lane, self.origin, run)?;
            (layout.lane, layout.before) = (at, payload);
            payload = payload.saturating_add(layout.bytes);
            layouts.push(layout);
        }
        check("fragment", payload, MAX_FRAGMENT_BYTES)?;
        if layouts.is_empty() {
            return Err(MuxError::Empty);
        }
        let moof = layouts.iter().fold(MOOF_LEN, |len, layout| len.saturating_add(layout.traf_len()));
        let header_len = prefix.len().saturating_add(moof).saturating_add(HEADER_LEN);
        let mut header = Vec::with_capacity(header_len);
        prefix.put(&mut header, self.tracks());
        self.sequence = self.sequence.wrapping_add(1).max(1);
        put_header(&mut header, b"moof", moof);
        put_header(&mut header, b"mfhd", 16);
        header.put_u32(0);
        header.put_u32(self.sequence);
        let mut span = None;
        for (run, layout) in runs.iter().zip(&layouts) {
            let Some(lane) = self.lanes.get_mut(layout.lane) else { continue };
            let samples = Samples::new(lane, self.origin, run);
            let begin = samples.at;
            let (clock, end) = layout.put(&mut header, &lane.track, samples, moof.saturating_add(HEADER_LEN));
            lane.clock = clock;
            span.get_or_insert(begin..end);
        }
        put_header(
            &mut header,
            b"mdat",
            HEADER_LEN.saturating_add(usize::try_from(payload).unwrap_or_default()),
        );
        debug_assert_eq!(header.len(), header_len, "the space was measured before it was filled");
        Ok(collect(header, runs, span.unwrap_or_default()))
    }
}

fn collect<F: Borrow<MediaFrame>>(header: Vec<u8>, runs: &[Run<'_, F>], ticks: Range<u64>) -> Fragment {
    let frames = runs.iter().map(|run| run.frames.len()).fold(1, usize::saturating_add);
    let mut chunks = Vec::with_capacity(frames);
    let mut len = header.len();
    chunks.push(Bytes::from(header));
    for frame in runs.iter().flat_map(|run| run.frames) {
        let payload = &frame.borrow().payload;
        len = len.saturating_add(payload.len());
        chunks.push(payload.clone());
    }
    Fragment { chunks, len, ticks }
}

const fn check(what: &'static str, value: u64, limit: u64) -> Result<(), MuxError> {
    if value > limit { Err(MuxError::TooLarge { what, limit }) } else { Ok(()) }
}

fn put_header(out: &mut Vec<u8>, kind: &[u8; 4], len: usize) {
    // At most MAX_FRAGMENT_BYTES and the tables of MAX_TRACKS runs: below 4 GiB.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    out.put_slice(kind);
}

/// `moof` and `mfhd`.
const MOOF_LEN: usize = HEADER_LEN + 16;
/// `traf`, the fixed part of `tfhd`, and `tfdt`.
const TRAF_LEN: usize = HEADER_LEN + 16 + 20;
/// The fixed part of `trun`, with its data offset.
const TRUN_LEN: usize = 20;

/// Which fields a run needs: what all its samples have in common is said once.
struct Layout {
    lane: usize,
    tfhd: u32,
    trun: u32,
    duration: u32,
    size: u32,
    flags: u32,
    first_flags: u32,
    samples: usize,
    /// Bytes of media before this run in the fragment, and in it.
    before: u64,
    bytes: u64,
}

impl Layout {
    fn new<F: Borrow<MediaFrame>>(
        lane: &Lane,
        origin: Timestamp,
        run: &Run<'_, F>,
    ) -> Result<Self, MuxError> {
        check("samples_per_run", run.frames.len() as u64, MAX_SAMPLES_PER_RUN as u64)?;
        let mut samples = Samples::new(lane, origin, run);
        let first = samples.next().ok_or(MuxError::Empty)?;
        let mut layout = Self {
            lane: 0,
            tfhd: tfhd::BASE_IS_MOOF,
            trun: trun::DATA_OFFSET,
            duration: first.duration,
            size: first.size,
            flags: first.flags,
            first_flags: first.flags,
            samples: run.frames.len(),
            before: 0,
            bytes: first.size.into(),
        };
        let (mut offsets, mut second) = (first.offset != 0, None);
        for sample in samples {
            layout.bytes = layout.bytes.saturating_add(sample.size.into());
            let common = *second.get_or_insert(sample.flags);
            for (differs, field) in [
                (sample.duration != first.duration, trun::DURATION),
                (sample.size != first.size, trun::SIZE),
                (sample.flags != common, trun::FLAGS),
            ] {
                layout.trun |= if differs { field } else { 0 };
            }
            offsets |= sample.offset != 0;
        }
        layout.finish(second, offsets);
        Ok(layout)
    }

    /// Says in the run what differs between samples, and in the header what does not.
    fn finish(&mut self, second_flags: Option<u32>, offsets: bool) {
        self.flags = second_flags.unwrap_or(self.flags);
        if offsets {
            self.trun |= trun::OFFSET;
        }
        if self.trun & trun::FLAGS == 0 && self.first_flags != self.flags {
            self.trun |= trun::FIRST_FLAGS;
        }
        for (in_run, in_header) in
            [(trun::DURATION, tfhd::DURATION), (trun::SIZE, tfhd::SIZE), (trun::FLAGS, tfhd::FLAGS)]
        {
            if self.trun & in_run == 0 {
                self.tfhd |= in_header;
            }
        }
    }

    fn tfhd_fields(&self) -> usize {
        count_fields(self.tfhd, &[tfhd::DURATION, tfhd::SIZE, tfhd::FLAGS])
    }

    fn sample_fields(&self) -> usize {
        count_fields(self.trun, &[trun::DURATION, trun::SIZE, trun::FLAGS, trun::OFFSET])
    }

    fn trun_len(&self) -> usize {
        let first = count_fields(self.trun, &[trun::FIRST_FLAGS]);
        let fields = self.samples.saturating_mul(self.sample_fields()).saturating_add(first);
        TRUN_LEN.saturating_add(fields.saturating_mul(4))
    }

    fn traf_len(&self) -> usize {
        TRAF_LEN.saturating_add(self.tfhd_fields().saturating_mul(4)).saturating_add(self.trun_len())
    }

    /// Writes `traf`; gives where the track's clock is then, and when the run ends. Media begins `media_at` bytes behind
    /// the start of `moof`.
    fn put<F: Borrow<MediaFrame>>(
        &self,
        out: &mut Vec<u8>,
        track: &Mp4Track,
        mut samples: Samples<'_, F>,
        media_at: usize,
    ) -> (SampleClock, u64) {
        put_header(out, b"traf", self.traf_len());
        put_header(out, b"tfhd", self.tfhd_fields().saturating_mul(4).saturating_add(16));
        out.put_u32(self.tfhd);
        out.put_u32(track.number);
        for (field, value) in
            [(tfhd::DURATION, self.duration), (tfhd::SIZE, self.size), (tfhd::FLAGS, self.flags)]
        {
            if self.tfhd & field != 0 {
                out.put_u32(value);
            }
        }
        put_header(out, b"tfdt", 20);
        out.put_u32(1 << 24);
        out.put_u64(samples.at);
        put_header(out, b"trun", self.trun_len());
        out.put_u32(1 << 24 | self.trun);
        out.put_u32(u32::try_from(self.samples).unwrap_or(u32::MAX));
        let offset = self.before.saturating_add(media_at as u64);
        out.put_i32(i32::try_from(offset).unwrap_or(i32::MAX));
        if self.trun & trun::FIRST_FLAGS != 0 {
            out.put_u32(self.first_flags);
        }
        for sample in samples.by_ref() {
            self.put_sample(out, &sample);
        }
        (samples.clock, samples.at)
    }

    fn put_sample(&self, out: &mut Vec<u8>, sample: &Sample) {
        if self.trun & trun::DURATION != 0 {
            out.put_u32(sample.duration);
        }
        if self.trun & trun::SIZE != 0 {
            out.put_u32(sample.size);
        }
        if self.trun & trun::FLAGS != 0 {
            out.put_u32(sample.flags);
        }
        if self.trun & trun::OFFSET != 0 {
            out.put_i32(sample.offset);
        }
    }
}

fn count_fields(set: u32, fields: &[u32]) -> usize {
    fields.iter().filter(|&&field| set & field != 0).count()
}

/// A frame in the clock of its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
    /// `sample_composition_time_offset`.
    pub(super) offset: i32,
}

/// The samples of a run: each lasts until the next begins.
pub(super) struct Samples<'a, F> {
    frames: core::slice::Iter<'a, F>,
    end: Timestamp,
    scale: Timescale,
    origin: Timestamp,
    pub(super) clock: SampleClock,
    /// Where the next sample begins.
    pub(super) at: u64,
}

impl<'a, F: Borrow<MediaFrame>> Samples<'a, F> {
    pub(super) fn new(lane: &Lane, origin: Timestamp, run: &Run<'a, F>) -> Self {
        let mut samples = Self {
            frames: run.frames.iter(),
            end: run.end,
            scale: lane.track.timescale,
            origin,
            clock: lane.clock,
            at: 0,
        };
        samples.at = run.frames.first().map_or(0, |frame| samples.start(frame.borrow().dts));
        samples
    }

    fn start(&self, dts: Timestamp) -> u64 {
        ticks(self.clock.place(dts), self.origin, self.scale)
    }
}

impl<F: Borrow<MediaFrame>> Iterator for Samples<'_, F> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let frame: &MediaFrame = self.frames.next()?.borrow();
        self.clock.advance(frame);
        let next = self.frames.as_slice().first().map_or(self.end, |next| next.borrow().dts);
        let (start, end) = (self.at, self.start(next).max(self.at));
        self.at = end;
        Some(Sample {
            duration: u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX),
            // At most MAX_ACCESS_UNIT, wherever frames come from.
            size: u32::try_from(frame.payload.len()).unwrap_or(u32::MAX),
            flags: sample_flags(frame.flags),
            offset: if frame.pts == frame.dts { 0 } else { self.offset(frame) },
        })
    }
}

impl<F> Samples<'_, F> {
    /// Both times are rounded, and not their distance, so that equal times stay equal.
    fn offset(&self, frame: &MediaFrame) -> i32 {
        let tick = |at: Timestamp| (at - self.origin).to_ticks(self.scale);
        let offset = tick(frame.pts).saturating_sub(tick(frame.dts.max(self.origin)));
        i32::try_from(offset).unwrap_or(if offset < 0 { i32::MIN } else { i32::MAX })
    }
}
