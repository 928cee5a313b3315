//! The same stream cut into MPEG-TS segments, for players that know no CMAF.
//!
//! A transport stream carries several tracks, so that a rendition is a *programme*: a video track with the first sound and
//! ID3 messages, or a sound of its own where there are more of them. All programmes are cut at the same decode time, and a
//! segment is listed once it is complete: there are no parts.
//!
//! Frames are put in the order of their decode times before, across tracks: a frame waits for those of tracks that are
//! behind, for [`HOLD`] at most.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::{
    CodecId, FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use bytes::Bytes;

use super::dates::Dates;
use super::splice::Splices;
use super::window::{Container, DateRange, Init, Part, Segment, View, Window};
use super::{Config, Continuation, MAX_ENDED, MAX_RANGES, MAX_WAITING, Plan};
use crate::fmp4::Mp4Track;
use crate::ts::{Muxer, SegmentMuxer};

/// How long a frame waits for those of other tracks that belong before it.
const HOLD: TimeDelta = TimeDelta::from_millis(1_000);
/// How long the other tracks wait for the first keyframe.
const PATIENCE: TimeDelta = TimeDelta::from_millis(1_000);
/// What a segment lasts at least, whatever its frames say.
const SHORTEST: TimeDelta = TimeDelta::from_millis(1);

/// Makes the renditions of one stream in MPEG-TS. Used like [`Segmenter`](super::Segmenter).
#[derive(Debug)]
pub struct TsSegmenter {
    config: Config,
    gop: Option<TimeDelta>,
    continuation: Continuation,
    /// There was a stream before this one.
    resumed: bool,
    /// Decided with the first tracks that can be carried.
    plan: Option<Plan>,
    order: Order,
    programmes: Vec<Programme>,
    ended: VecDeque<Window>,
    /// The track whose keyframes begin segments, and whether it is pictures.
    leader: Option<(TrackId, TrackKind)>,
    /// The segment in the making.
    begun: Option<Begun>,
    /// When the first frame came that waits for a segment to begin.
    waiting_since: Option<Timestamp>,
    /// Where the newest frame ends, as far as is known.
    end: Timestamp,
    /// Decode time of the leader's newest frame, and the distance to the one before.
    leading: Option<(Timestamp, TimeDelta)>,
    /// How long after its decode time a keyframe is presented: also where a segment begins with another frame, time goes on.
    offset: TimeDelta,
    dates: Dates,
    splices: Splices,
    /// Date ranges of the segment in the making.
    ranges: Vec<DateRange>,
    discontinuities: u64,
}

/// Where the segment in the making begins.
#[derive(Clone, Copy, Debug)]
struct Begun {
    start: Timestamp,
    presented: Timestamp,
    date: SystemTime,
}

/// The next frame of all tracks.
struct Coming<'a> {
    frame: &'a MediaFrame,
    /// A segment may begin with it.
    joins: bool,
    /// How long it lasts, as far as is known.
    step: TimeDelta,
}

/// One rendition.
#[derive(Debug)]
struct Programme {
    init: Arc<Init>,
    muxer: SegmentMuxer,
    window: Window,
    /// Frames of the segment in the making.
    frames: usize,
    /// What the first picture of the segment in the making is: a keyframe or not.
    starts: Option<bool>,
    discontinuity: bool,
}

/// Frames in the order of their decode times.
#[derive(Debug, Default)]
struct Order {
    frames: BTreeMap<(Timestamp, u64), MediaFrame>,
    /// How far each track has come that is waited for.
    newest: Vec<(TrackId, Timestamp)>,
    arrived: u64,
}

impl TsSegmenter {
    /// A segmenter for a stream of which nothing is known but, perhaps, the time between its keyframes.
    #[must_use]
    pub fn new(config: Config, gop: Option<TimeDelta>, continuation: Option<Continuation>) -> Self {
        Self {
            config,
            gop,
            discontinuities: continuation.map_or(0, |before| before.discontinuity_sequence),
            splices: Splices::numbered_from(continuation.map_or(0, |before| before.msn << 8)),
            continuation: continuation.unwrap_or_default(),
            resumed: continuation.is_some(),
            plan: None,
            order: Order::default(),
            programmes: Vec::new(),
            ended: VecDeque::new(),
            leader: None,
            begun: None,
            waiting_since: None,
            end: Timestamp(i64::MIN),
            leading: None,
            offset: TimeDelta::ZERO,
            dates: Dates::default(),
            ranges: Vec::new(),
        }
    }

    /// True when at least one of the tracks can be carried.
    #[must_use]
    pub fn can_carry(tracks: &TrackSet) -> bool {
        !programmes_of(tracks).is_empty()
    }

    /// Where a segmenter that takes this one's place goes on.
    #[must_use]
    pub fn continuation(&self) -> Continuation {
        let next = self.windows().map(Window::next_msn).max().unwrap_or(self.continuation.msn);
        Continuation { msn: next, discontinuity_sequence: self.discontinuities.saturating_add(1) }
    }

    /// Tracks that renditions are named after, and the versions of these.
    pub fn versions(&self) -> impl Iterator<Item = (TrackId, u64)> {
        self.windows().map(|window| (window.track(), window.version()))
    }

    /// A rendition as it is now; `None` when there is none of that track.
    #[must_use]
    pub fn view(&self, track: TrackId) -> Option<View> {
        self.windows().find(|window| window.track() == track).map(Window::view)
    }

    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.programmes.iter().map(|programme| &programme.window).chain(&self.ended)
    }

    /// The tracks of the frames that follow.
    pub fn set_tracks(&mut self, tracks: &TrackSet) {
        let wanted = programmes_of(tracks);
        let leader = wanted.first().map(|first| (first.leader.id, first.leader.kind()));
        let goes_on = |programme: &Programme| {
            let tracks = wanted.iter().find(|tracks| tracks.leader.id == programme.id());
            tracks.is_none_or(|tracks| programme.carries(tracks))
        };
        // A further sound, and the end of one, are no matter of the others.
        if leader != self.leader || !self.programmes.iter().all(goes_on) {
            self.drain();
            self.interrupt();
        }
        self.leader = leader;
        self.splices.set_tracks(tracks);
        let awaited = wanted.iter().flat_map(Tracks::all).filter(|track| track.kind() != TrackKind::Data);
        self.order.expect(awaited.map(|track| track.id));
        let mut before = core::mem::take(&mut self.programmes);
        let Some((_, kind)) = leader else { return before.into_iter().for_each(|gone| self.retire(gone)) };
        let plan = *self.plan.get_or_insert_with(|| plan(&self.config, self.gop, kind));
        for tracks in wanted {
            let known = before.iter().position(|programme| programme.id() == tracks.leader.id);
            let known = known.map(|at| before.remove(at));
            let programme = known.map_or_else(|| self.begin(&tracks, plan), |known| known.of(&tracks));
            self.programmes.push(programme);
        }
        before.into_iter().for_each(|gone| self.retire(gone));
    }

    fn retire(&mut self, mut gone: Programme) {
        gone.window.end();
        self.ended.push_back(gone.window);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// A programme that was not there before: it begins with the segment in the making.
    fn begin(&mut self, tracks: &Tracks<'_>, plan: Plan) -> Programme {
        let msn = self.windows().map(Window::next_msn).max().unwrap_or(self.continuation.msn);
        let init = Arc::new(tracks.describe(0));
        self.ended.retain(|window| window.track() != init.track.id);
        Programme {
            muxer: SegmentMuxer::new(&tracks.to_set()),
            window: Window::new(Container::Ts, init.track.id, plan, &self.config, msn),
            init,
            frames: 0,
            starts: None,
            discontinuity: self.resumed,
        }
    }

    /// Takes the next frame of the log, which arrived at `wall`.
    pub fn push(&mut self, wall: SystemTime, frame: &MediaFrame) {
        if self.splices.is_of(frame.track) {
            if self.begun.is_some() && self.ranges.len() < MAX_RANGES {
                self.ranges.extend(self.splices.note(frame, |at| self.dates.date(at)));
            }
            return;
        }
        if !self.programmes.iter().any(|programme| programme.has(frame.track)) {
            return;
        }
        if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            self.drain();
            self.interrupt();
            self.dates.rebase();
        }
        self.dates.note(wall, frame);
        self.order.push(frame.clone());
        while let Some(frame) = self.order.next_in_time() {
            self.take(&frame);
        }
    }

    /// Nothing more will come.
    pub fn end(&mut self) {
        self.drain();
        self.close(self.end);
        self.programmes.iter_mut().for_each(|programme| programme.window.end());
    }

    /// Takes all that waits for what will not come.
    fn drain(&mut self) {
        while let Some(frame) = self.order.next() {
            self.take(&frame);
        }
        self.order.forget();
    }

    /// The next frame, in the order of decode times.
    fn take(&mut self, frame: &MediaFrame) {
        let leads = self.leader.is_some_and(|(leader, _)| leader == frame.track);
        let sound_leads = self.leader.is_some_and(|(_, kind)| kind == TrackKind::Audio);
        let joins = leads && (frame.is_keyframe() || sound_leads);
        if joins {
            self.offset = frame.pts - frame.dts;
        }
        let step = if leads { self.step_to(frame) } else { frame.duration.max(TimeDelta::ZERO) };
        let coming = Coming { frame, joins, step };
        match (self.begun, self.plan) {
            (Some(begun), Some(plan)) => self.cut_before(&coming, begun, plan),
            _ => {
                let since = *self.waiting_since.get_or_insert(frame.dts);
                if !joins && frame.dts - since < PATIENCE {
                    return;
                }
                self.start(frame);
            }
        }
        if self.begun.is_none() {
            return;
        }
        self.end = self.end.max(frame.dts + step);
        for programme in self.programmes.iter_mut().filter(|programme| programme.has(frame.track)) {
            programme.push(frame);
        }
    }

    /// The distance from the leader's frame before to this one.
    fn step_to(&mut self, frame: &MediaFrame) -> TimeDelta {
        let step = self.leading.map_or(frame.duration, |(before, _)| frame.dts - before);
        self.leading = Some((frame.dts, step));
        step.max(TimeDelta::ZERO)
    }

    /// Ends the segment where this frame begins another, or does not fit into it.
    fn cut_before(&mut self, coming: &Coming<'_>, begun: Begun, plan: Plan) {
        let &Coming { frame, joins, step } = coming;
        let length = frame.dts - begun.start;
        if length > plan.max_segment {
            // Nothing came for longer than a segment can be: there is a hole, which nobody could decode across.
            self.interrupt();
            if joins {
                self.start(frame);
            } else {
                self.waiting_since = Some(frame.dts);
            }
        } else if joins && length >= plan.min_segment || length + step.min(plan.target) > plan.max_segment {
            self.close(frame.dts);
            self.start(frame);
        }
    }

    fn start(&mut self, frame: &MediaFrame) {
        let presented = frame.dts + self.offset;
        let date = self.dates.settle(presented);
        self.begun = Some(Begun { start: frame.dts, presented, date });
        self.waiting_since = None;
        self.end = frame.dts;
    }

    /// Completes the segments in the making, which end at `end`.
    fn close(&mut self, end: Timestamp) {
        let Some((begun, plan)) = self.begun.take().zip(self.plan) else { return };
        let duration = (end - begun.start).min(plan.max_segment).max(SHORTEST);
        let mut ranges = core::mem::take(&mut self.ranges);
        for programme in &mut self.programmes {
            // Date ranges stand in the first rendition.
            programme.close(begun, duration, self.discontinuities, core::mem::take(&mut ranges));
        }
    }

    /// What follows does not go on from here.
    fn interrupt(&mut self) {
        if self.begun.is_none() {
            return;
        }
        self.close(self.end);
        self.discontinuities = self.discontinuities.saturating_add(1);
        self.programmes.iter_mut().for_each(|programme| programme.discontinuity = true);
        self.leading = None;
    }
}

impl Programme {
    fn has(&self, track: TrackId) -> bool {
        self.init.tracks().any(|one| one.id == track)
    }

    fn id(&self) -> TrackId {
        self.init.track.id
    }

    /// These are its tracks, as far as their media are concerned.
    fn carries(&self, tracks: &Tracks<'_>) -> bool {
        let media = |track: &Track| (track.id, track.codec, track.config.clone());
        self.init.tracks().map(media).eq(tracks.all().map(media))
    }

    /// The same with these tracks from here on.
    fn of(mut self, tracks: &Tracks<'_>) -> Self {
        if !self.init.tracks().eq(tracks.all()) {
            self.muxer.set_tracks(&tracks.to_set());
            self.init = Arc::new(tracks.describe(self.init.number.saturating_add(1)));
        }
        self
    }

    fn push(&mut self, frame: &MediaFrame) {
        self.muxer.push(frame);
        if self.id() == frame.track {
            self.frames = self.frames.saturating_add(1);
            self.starts.get_or_insert(frame.is_keyframe() || self.init.track.kind() == TrackKind::Audio);
        }
    }

    fn close(&mut self, begun: Begun, duration: TimeDelta, sequence: u64, ranges: Vec<DateRange>) {
        let bytes: Bytes = self.muxer.finish();
        let frames = core::mem::take(&mut self.frames);
        let independent = self.starts.take().unwrap_or(false);
        let discontinuity = core::mem::take(&mut self.discontinuity);
        let init = Arc::clone(&self.init);
        self.window.begin(|msn| Segment {
            msn,
            start: begun.start,
            presented: begun.presented,
            date: begun.date,
            presented_end: begun.presented + duration,
            parts: Vec::new(),
            duration: TimeDelta::ZERO,
            bytes: 0,
            discontinuity,
            discontinuity_sequence: sequence,
            init,
            key: None,
            ranges,
        });
        let start = begun.start;
        self.window.push(Part { number: 0, start, duration, ticks: 0..0, frames, independent, bytes });
        self.window.finish();
    }
}

impl Order {
    /// These tracks are waited for, and no others.
    fn expect(&mut self, tracks: impl Iterator<Item = TrackId>) {
        let before = core::mem::take(&mut self.newest);
        self.newest = tracks.map(|track| (track, Timestamp(i64::MIN))).collect();
        self.newest.sort_unstable();
        self.newest.dedup_by_key(|(track, _)| *track);
        for (track, newest) in &mut self.newest {
            *newest = before.iter().find(|known| known.0 == *track).map_or(*newest, |known| known.1);
        }
    }

    fn push(&mut self, frame: MediaFrame) {
        if let Some((_, newest)) = self.newest.iter_mut().find(|(track, _)| *track == frame.track) {
            *newest = frame.dts.max(*newest);
        }
        self.arrived = self.arrived.saturating_add(1);
        self.frames.insert((frame.dts, self.arrived), frame);
    }

    /// The next frame, if nothing can come before it, or not soon.
    fn next_in_time(&mut self) -> Option<MediaFrame> {
        let (&(at, _), _) = self.frames.first_key_value()?;
        let all = self.newest.iter().all(|(_, newest)| *newest >= at);
        let ahead = self.newest.iter().map(|(_, newest)| *newest).max().unwrap_or(at);
        let ready = all || ahead - at > HOLD || self.frames.len() > MAX_WAITING;
        if ready { self.next() } else { None }
    }

    fn next(&mut self) -> Option<MediaFrame> {
        self.frames.pop_first().map(|(_, frame)| frame)
    }

    /// The timeline begins anew.
    fn forget(&mut self) {
        self.newest.iter_mut().for_each(|(_, newest)| *newest = Timestamp(i64::MIN));
    }
}

/// The tracks of a programme, its leader first.
#[derive(Debug)]
struct Tracks<'a> {
    leader: &'a Track,
    beside: Vec<&'a Track>,
}

impl<'a> Tracks<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Track> {
        core::iter::once(self.leader).chain(self.beside.iter().copied())
    }

    fn to_set(&self) -> TrackSet {
        TrackSet::new(self.all().cloned())
    }

    /// What a playlist says of them.
    fn describe(&self, number: u64) -> Init {
        let mut codecs: Vec<String> = Vec::new();
        let mut named = true;
        for track in self.all().filter(|track| track.kind() != TrackKind::Data) {
            match Mp4Track::new(track, 1).ok().and_then(|mp4| mp4.codecs()) {
                Some(name) if codecs.contains(&name) => {}
                Some(name) => codecs.push(name),
                None => named = false,
            }
        }
        Init {
            number,
            track: self.leader.clone(),
            codecs: named.then(|| codecs.join(",")),
            timescale: Timescale::MPEG,
            beside: self.beside.iter().map(|track| (*track).clone()).collect(),
            bytes: Bytes::new(),
        }
    }
}

/// The programmes that a stream makes: pictures with the first sound, other sounds by themselves.
fn programmes_of(tracks: &TrackSet) -> Vec<Tracks<'_>> {
    let carried = |track: &&Track| Muxer::can_carry(&TrackSet::new([(*track).clone()]));
    let of = |kind| tracks.iter().filter(move |track| track.kind() == kind).filter(carried);
    let messages: Vec<&Track> =
        tracks.iter().filter(|track| track.codec == CodecId::Id3).filter(carried).collect();
    let mut sounds = of(TrackKind::Audio);
    let first = sounds.next();
    let with_sound: Vec<&Track> = first.into_iter().chain(messages.iter().copied()).collect();
    let mut programmes: Vec<_> =
        of(TrackKind::Video).map(|leader| Tracks { leader, beside: with_sound.clone() }).collect();
    if programmes.is_empty() {
        programmes.extend(first.map(|leader| Tracks { leader, beside: messages }));
    }
    programmes.extend(sounds.map(|leader| Tracks { leader, beside: Vec::new() }));
    programmes
}

/// The plan of a stream: that of the CMAF segments, but for parts. Sound can be cut anywhere.
fn plan(config: &Config, gop: Option<TimeDelta>, leader: TrackKind) -> Plan {
    Plan::new(config, TimeDelta::ZERO, if leader == TrackKind::Audio { Some(SHORTEST) } else { gop })
}

#[cfg(test)]
mod tests;
