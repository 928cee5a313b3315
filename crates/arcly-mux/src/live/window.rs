//! What a rendition lists, and what it keeps beyond that.

use core::ops::Range;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::{TimeDelta, Timestamp, Track, TrackId};
use bytes::Bytes;

use super::seal::{Key, Sealer};
use super::{Config, Plan};

/// What vanishes when a duration is rounded to seconds (4.4.3.1), less what is lost in writing it.
const ROUNDED_AWAY: TimeDelta = TimeDelta::from_millis(490);

/// An initialisation segment (`EXT-X-MAP`).
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// Rises with every change within its rendition.
    pub number: u64,
    /// The track that it describes.
    pub track: Track,
    /// Its codec string.
    pub codecs: Option<String>,
    /// Ticks per second of the media's times.
    pub timescale: arcly_core::Timescale,
    /// Further tracks in the same media, as MPEG-TS can have them.
    pub beside: Vec<Track>,
    /// `ftyp` and `moov`; nothing for MPEG-TS.
    pub bytes: Bytes,
}

impl Init {
    /// All tracks in the media.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        core::iter::once(&self.track).chain(&self.beside)
    }
}

/// What segments are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// CMAF: a track each, with an initialisation segment.
    Cmaf,
    /// MPEG-TS: programmes of one or more tracks.
    Ts,
}

/// A partial segment: one CMAF chunk, or a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rises by one from part to part of a rendition, whatever segment they are in: the name of the next part is known
    /// before it is known where it belongs.
    pub number: u64,
    /// Decode time of its first frame.
    pub start: Timestamp,
    /// How long it is listed as.
    pub duration: TimeDelta,
    /// From when to when its media are decoded, in ticks of its [`Init`]; empty for a gap.
    pub ticks: Range<u64>,
    /// Frames in it.
    pub frames: usize,
    /// It has a frame at which decoding may start.
    pub independent: bool,
    /// `moof` and `mdat`; empty for a gap.
    pub bytes: Bytes,
}

impl Part {
    /// True when there is no media in it.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What an SCTE-35 message is to its date range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// Neither of those.
    Command,
    /// A break begins.
    Out,
    /// It ends.
    In,
}

/// A date range (`EXT-X-DATERANGE`): an SCTE-35 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateRange {
    /// Unique within the stream; the end of a break has that of its beginning.
    pub id: u64,
    /// When it begins: the splice time of the message where that is known, else when it came in the stream.
    pub start: SystemTime,
    /// When the break has ended.
    pub end: Option<SystemTime>,
    /// How long the break is meant to be.
    pub planned: Option<TimeDelta>,
    /// What the message is.
    pub cue: Cue,
    /// The `splice_info_section`.
    pub scte35: Bytes,
}

/// A media segment, as far as it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: u64,
    /// Decode time of its first frame.
    pub start: Timestamp,
    /// Presentation time of its first frame.
    pub presented: Timestamp,
    /// The date of that.
    pub date: SystemTime,
    /// When the last of its frames in the order of presentation ends, by its own duration: what players have in their
    /// buffers. Where durations vary and frames are reordered, that is not when the next segment begins.
    pub presented_end: Timestamp,
    /// Its parts, one behind the other without holes.
    pub parts: Vec<Part>,
    /// How long its parts are together.
    pub duration: TimeDelta,
    /// Bytes of its parts.
    pub bytes: usize,
    /// It does not go on where the one before it ended.
    pub discontinuity: bool,
    /// Discontinuities before this one, its own included.
    pub discontinuity_sequence: u64,
    /// What its media need.
    pub init: Arc<Init>,
    /// With what it is encrypted, and then it has one part.
    pub key: Option<Arc<Key>>,
    /// Messages that came with it.
    pub ranges: Vec<DateRange>,
}

impl Segment {
    /// Decoding may start at its first frame.
    #[must_use]
    pub fn is_independent(&self) -> bool {
        self.parts.iter().find(|part| !part.is_gap()).is_none_or(|part| part.independent)
    }

    /// True when there is no media in it.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        self.bytes == 0
    }

    /// Where its last part ends.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.start + self.duration
    }
}

/// A rendition at one moment. Immutable, and shared by everybody who looks at it.
#[derive(Clone, Debug)]
pub struct View {
    /// The track.
    pub track: TrackId,
    /// What its segments are made of.
    pub container: Container,
    /// Its parts are there to be listed, and the segment that is being made is there before it is complete.
    pub low_latency: bool,
    /// Rises with every change.
    pub version: u64,
    /// What is promised of all segments.
    pub plan: Plan,
    /// Every segment that is kept and complete, oldest first.
    segments: Vec<Arc<Segment>>,
    /// The first of them that is listed.
    listed_from: usize,
    /// The one that is being made, once it has a part or is known to need another initialisation segment.
    pub open: Option<Arc<Segment>>,
    /// The number of the part to come.
    pub next_part: u64,
    /// The number of the segment that the part to come belongs to, unless a segment ends before.
    pub next_msn: u64,
    /// Nothing will be added.
    pub ended: bool,
    /// Every segment so far began with a frame where decoding may start.
    pub independent: bool,
}

impl View {
    /// The complete segments that are listed.
    #[must_use]
    pub fn listed(&self) -> &[Arc<Segment>] {
        self.segments.get(self.listed_from..).unwrap_or_default()
    }

    /// Every complete segment that is kept, those that left the list included, oldest first.
    #[must_use]
    pub fn kept(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The segment of that number, if it is still kept or is being made.
    #[must_use]
    pub fn segment(&self, msn: u64) -> Option<&Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&msn, |segment| segment.msn).ok();
        at.and_then(|at| self.segments.get(at))
    }

    /// The part of that number, if it is still kept.
    #[must_use]
    pub fn part(&self, number: u64) -> Option<&Part> {
        let holds = |segment: &&Arc<Segment>| segment.parts.iter().any(|part| part.number == number);
        let after = self
            .segments
            .partition_point(|segment| segment.parts.first().is_some_and(|first| first.number <= number));
        let segment = after.checked_sub(1).and_then(|at| self.segments.get(at)).filter(holds);
        let segment = segment.or(self.open.as_ref().filter(holds))?;
        segment.parts.iter().find(|part| part.number == number)
    }

    /// The initialisation segment of that number, if anything kept needs it.
    #[must_use]
    pub fn init(&self, number: u64) -> Option<&Arc<Init>> {
        let all = self.segments.iter().chain(&self.open);
        all.map(|segment| &segment.init).find(|init| init.number == number)
    }

    /// The key of that number, if anything kept needs it.
    #[must_use]
    pub fn key(&self, number: u64) -> Option<&Arc<Key>> {
        self.segments.iter().filter_map(|segment| segment.key.as_ref()).find(|key| key.number() == number)
    }

    /// The newest initialisation segment.
    #[must_use]
    pub fn newest_init(&self) -> Option<&Arc<Init>> {
        self.open.as_ref().or(self.segments.last()).map(|segment| &segment.init)
    }

    /// Media sequence number and index of the newest part; `None` before the first.
    #[must_use]
    pub fn last_part(&self) -> Option<(u64, u64)> {
        let with_parts = |segment: &&Arc<Segment>| !segment.parts.is_empty();
        let last = self.open.as_ref().filter(with_parts).or(self.segments.last())?;
        Some((last.msn, (last.parts.len() as u64).saturating_sub(1)))
    }

    /// True when the part `part` of segment `msn`, the whole of it when `None`, or anything later is there.
    #[must_use]
    pub fn has(&self, msn: u64, part: Option<u64>) -> bool {
        let complete = self.segments.last().is_some_and(|last| last.msn >= msn);
        let parts =
            self.open.as_ref().filter(|open| open.msn == msn).map_or(0, |open| open.parts.len() as u64);
        let beyond = self.open.as_ref().is_some_and(|open| open.msn > msn && !open.parts.is_empty());
        complete || beyond || self.low_latency && part.is_some_and(|part| parts > part)
    }

    /// Bits per second: of the segment with the most, and of all that are listed; of what there is of the first while
    /// none is complete.
    #[must_use]
    pub fn bandwidth(&self) -> (u64, u64) {
        let rate = |bytes: usize, duration: TimeDelta| {
            let flicks = u128::try_from(duration.0).unwrap_or_default();
            let bits = (bytes as u128).saturating_mul(8 * 705_600_000);
            bits.checked_div(flicks).and_then(|rate| u64::try_from(rate).ok()).unwrap_or_default()
        };
        let half = TimeDelta(self.plan.target.0 / 2);
        let whole: Vec<_> = self.listed().iter().filter(|segment| !segment.is_gap()).collect();
        let some: Vec<_> = if whole.is_empty() { self.open.iter().collect() } else { whole };
        let peak = some.iter().filter(|segment| segment.duration >= half || some.len() == 1);
        let peak = peak.map(|segment| rate(segment.bytes, segment.duration)).max().unwrap_or_default();
        let sum = some.iter().fold((0_usize, TimeDelta::ZERO), |(bytes, duration), segment| {
            (bytes.saturating_add(segment.bytes), duration + segment.duration)
        });
        let average = rate(sum.0, sum.1);
        (peak.max(average), average)
    }

    /// Frames per second of what is listed.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "frames of a minute are few")]
    pub fn frame_rate(&self) -> Option<f64> {
        let parts = self.listed().iter().chain(&self.open).flat_map(|segment| &segment.parts);
        let (frames, duration) =
            parts.filter(|part| !part.is_gap()).fold((0_usize, TimeDelta::ZERO), |sum, part| {
                (sum.0.saturating_add(part.frames), sum.1 + part.duration)
            });
        (duration > TimeDelta::ZERO).then(|| frames as f64 / duration.as_secs_f64())
    }

    /// Bytes of media kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.segments.iter().chain(&self.open).map(|segment| segment.bytes).fold(0, usize::saturating_add)
    }
}

/// The writing side of a rendition.
#[derive(Debug)]
pub(super) struct Window {
    container: Container,
    track: TrackId,
    sealer: Option<Sealer>,
    plan: Plan,
    max_bytes: usize,
    segments: VecDeque<Arc<Segment>>,
    listed: usize,
    open: Option<Segment>,
    next_part: u64,
    next_msn: u64,
    bytes: usize,
    version: u64,
    ended: bool,
    independent: bool,
}

impl Window {
    /// An empty window whose first segment has the number `msn`.
    pub(super) fn new(container: Container, track: TrackId, plan: Plan, config: &Config, msn: u64) -> Self {
        Self {
            container,
            track,
            sealer: config.encryption.map(Sealer::new),
            plan,
            max_bytes: config.max_bytes,
            segments: VecDeque::new(),
            listed: 0,
            open: None,
            next_part: 0,
            next_msn: msn,
            bytes: 0,
            version: 0,
            ended: false,
            independent: true,
        }
    }

    pub(super) const fn track(&self) -> TrackId {
        self.track
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn next_msn(&self) -> u64 {
        self.next_msn
    }

    pub(super) const fn next_part(&self) -> u64 {
        self.next_part
    }

    pub(super) const fn open(&self) -> Option<&Segment> {
        self.open.as_ref()
    }

    /// How much longer the open segment may become before it rounds to more than the target duration.
    pub(super) fn room(&self) -> TimeDelta {
        self.plan.target + ROUNDED_AWAY - self.open.as_ref().map_or(TimeDelta::ZERO, |open| open.duration)
    }

    /// The first segment has this number at least, so that segments of one time have one number in renditions that
    /// begin later. Once there is one, numbers follow each other: a playlist tells only the first.
    pub(super) fn begin_at_msn(&mut self, msn: u64) {
        if self.open.is_none() && self.segments.is_empty() {
            self.next_msn = self.next_msn.max(msn);
        }
    }

    /// Begins a segment. `make` fills in what the window does not know, given the number.
    pub(super) fn begin(&mut self, make: impl FnOnce(u64) -> Segment) {
        self.finish();
        self.ended = false;
        let mut open = make(self.next_msn);
        open.date = self.segments.back().map_or(open.date, |last| last.date.max(open.date));
        self.open = Some(open);
        self.version = self.version.saturating_add(1);
    }

    /// Adds a part to the open segment, numbering it.
    pub(super) fn push(&mut self, mut part: Part) {
        let Some(open) = &mut self.open else { return };
        part.number = self.next_part;
        self.next_part = self.next_part.saturating_add(1);
        open.duration += part.duration;
        open.bytes = open.bytes.saturating_add(part.bytes.len());
        self.bytes = self.bytes.saturating_add(part.bytes.len());
        open.parts.push(part);
        self.version = self.version.saturating_add(1);
    }

    /// A frame of the open segment is shown until `end`.
    pub(super) fn show(&mut self, end: Timestamp) {
        if let Some(open) = &mut self.open {
            open.presented_end = open.presented_end.max(end);
        }
    }

    pub(super) fn push_range(&mut self, range: DateRange) {
        if let Some(open) = &mut self.open {
            open.ranges.push(range);
            self.version = self.version.saturating_add(1);
        }
    }

    /// Completes the open segment. One without parts was none.
    pub(super) fn finish(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if open.parts.is_empty() {
            return;
        }
        self.independent &= open.is_independent();
        if let Some(sealer) = &mut self.sealer {
            self.bytes = self.bytes.saturating_sub(open.bytes);
            sealer.seal(&mut open);
            self.bytes = self.bytes.saturating_add(open.bytes);
        }
        self.next_msn = open.msn.saturating_add(1);
        self.segments.push_back(Arc::new(open));
        self.listed = self.listed.saturating_add(1);
        self.version = self.version.saturating_add(1);
        self.forget();
    }

    pub(super) fn end(&mut self) {
        self.finish();
        self.ended = true;
        self.version = self.version.saturating_add(1);
    }

    /// Takes what is too old out of the list, and forgets what nobody can still want (6.2.2): what left the list stays
    /// for as long as the list is.
    fn forget(&mut self) {
        let total = |from: usize| {
            self.segments.iter().skip(from).fold(TimeDelta::ZERO, |sum, segment| sum + segment.duration)
        };
        let mut first = self.segments.len().saturating_sub(self.listed);
        while self.listed > 1 && total(first.saturating_add(1)) >= self.plan.window {
            first = first.saturating_add(1);
            self.listed = self.listed.saturating_sub(1);
        }
        let kept = self.plan.window + self.plan.window + self.plan.max_segment;
        let mut drop = 0_usize;
        while drop < first && total(drop.saturating_add(1)) >= kept {
            drop = drop.saturating_add(1);
        }
        for _ in 0..drop {
            self.drop_oldest();
        }
        while self.bytes > self.max_bytes && self.segments.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.segments.pop_front() else { return };
        self.bytes = self.bytes.saturating_sub(oldest.bytes);
        self.listed = self.listed.min(self.segments.len());
    }

    pub(super) fn view(&self) -> View {
        View {
            track: self.track,
            container: self.container,
            low_latency: self.container == Container::Cmaf && self.sealer.is_none(),
            version: self.version,
            plan: self.plan,
            segments: self.segments.iter().cloned().collect(),
            listed_from: self.segments.len().saturating_sub(self.listed),
            open: self.open.clone().map(Arc::new),
            next_part: self.next_part,
            next_msn: self.next_msn,
            ended: self.ended,
            independent: self.independent,
        }
    }
}
