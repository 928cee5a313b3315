//! Frames in, segments out.

mod follower;
mod leader;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::codec::FrameRate;
use arcly_core::{
    FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};

use super::dates::Dates;
use super::lane::{self, Lane};
use super::splice::Splices;
use super::window::{Container, Segment, View, Window};
use super::{Config, MAX_ENDED, MAX_RANGES, MAX_WAITING, Plan};

/// Pictures from which the frame rate is taken, and the time that this may last.
const MEASURED: usize = 9;
const MEASURE: TimeDelta = TimeDelta::from_millis(1_000);
/// How long sound waits for the first picture before it leads.
const PATIENCE: TimeDelta = TimeDelta::from_millis(1_000);
/// How much of a follower's silence is not listed as a gap yet when the rest is.
const RECENT: TimeDelta = TimeDelta::from_millis(500);
/// How far the leader may stay behind before another track leads.
const LEADER_SILENCE: TimeDelta = TimeDelta::from_millis(10_000);
/// How far a follower may stay behind before its silence is listed as a gap, if it always does.
const MAX_PATIENCE: TimeDelta = TimeDelta::from_millis(8_000);
/// The longest hole that is listed as gaps; after a longer one the stream begins anew.
const MAX_HOLE: TimeDelta = TimeDelta::from_millis(30_000);
/// Holes that are none: frames come when they come.
const JITTER: TimeDelta = TimeDelta::from_millis(100);
/// Below the earliest time of streams whose time begins below zero.
const HEADROOM: TimeDelta = TimeDelta::from_millis(60_000);

/// Where the numbers of a stream go on that was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The first media sequence number.
    pub msn: u64,
    /// Discontinuities so far; the first segment is one more, unless nothing was before it.
    pub discontinuity_sequence: u64,
}

/// Where the leader was cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    presented: Timestamp,
    date: SystemTime,
    msn: u64,
}

impl Cut {
    /// The date of a time near it. Players align renditions by their dates, so those of one segment go by one clock,
    /// whatever it is corrected by meanwhile.
    fn date(&self, at: Timestamp) -> SystemTime {
        let distance = (at - self.presented).to_duration();
        let before = (self.presented - at).to_duration();
        self.date.checked_add(distance).and_then(|date| date.checked_sub(before)).unwrap_or(self.date)
    }
}

/// Makes the renditions of one stream.
///
/// Tracks first, then frames in the order of the log; [`view`](Self::view) shows a rendition whenever its
/// [`versions`](Self::versions) entry has changed.
#[derive(Debug)]
pub struct Segmenter {
    config: Config,
    gop: Option<TimeDelta>,
    continuation: Continuation,
    /// There was a stream before this one.
    resumed: bool,
    tracks: TrackSet,
    plan: Option<Plan>,
    /// What came before there was a plan.
    waiting: VecDeque<(SystemTime, MediaFrame)>,
    origin: Timestamp,
    lanes: Vec<Lane>,
    ended: VecDeque<Window>,
    leader: Option<TrackId>,
    /// How far the leader has come.
    watermark: Timestamp,
    cuts: VecDeque<Cut>,
    /// Cuts that every follower has made and that were forgotten.
    cuts_done: u64,
    dates: Dates,
    discontinuities: u64,
    splices: Splices,
}

impl Segmenter {
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
            tracks: TrackSet::default(),
            plan: None,
            waiting: VecDeque::new(),
            origin: Timestamp::ZERO,
            lanes: Vec::new(),
            ended: VecDeque::new(),
            leader: None,
            watermark: Timestamp(i64::MIN),
            cuts: VecDeque::new(),
            cuts_done: 0,
            dates: Dates::default(),
        }
    }

    /// Where a segmenter that takes this one's place goes on.
    #[must_use]
    pub fn continuation(&self) -> Continuation {
        let next = self.windows().map(Window::next_msn).max().unwrap_or(self.continuation.msn);
        Continuation { msn: next, discontinuity_sequence: self.discontinuities.saturating_add(1) }
    }

    /// Tracks that renditions are made of, and the versions of these.
    pub fn versions(&self) -> impl Iterator<Item = (TrackId, u64)> {
        let lanes = self.lanes.iter().map(|lane| (lane.id(), lane.window.version()));
        lanes.chain(self.ended.iter().map(|window| (window.track(), window.version())))
    }

    /// A rendition as it is now; `None` when there is none of that track.
    #[must_use]
    pub fn view(&self, track: TrackId) -> Option<View> {
        self.windows().find(|window| window.track() == track).map(Window::view)
    }

    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.lanes.iter().map(|lane| &lane.window).chain(&self.ended)
    }

    /// The tracks of the frames that follow.
    pub fn set_tracks(&mut self, tracks: &TrackSet) {
        self.tracks = tracks.clone();
        self.splices.set_tracks(tracks);
        if self.plan.is_none() {
            return;
        }
        let wanted: Vec<&Track> = tracks.iter().filter(|track| track.kind() != TrackKind::Data).collect();
        let described: Vec<_> = wanted
            .iter()
            .filter_map(|track| lane::describe(track).ok().map(|(mp4, init)| (*track, mp4, init)))
            .collect();
        let is_same = |lane: &Lane| {
            described.iter().any(|(track, _, init)| track.id == lane.id() && *init == lane.init.bytes)
        };
        let is_gone = |lane: &Lane| described.iter().all(|(track, ..)| track.id != lane.id());
        let leads = |lane: &Lane| Some(lane.id()) == self.leader;
        // A further rendition, and the end of one, are no matter of the others.
        if !self.lanes.iter().all(|lane| is_same(lane) || is_gone(lane) && !leads(lane)) {
            self.interrupt();
        }
        let mut before: Vec<Lane> = core::mem::take(&mut self.lanes);
        for (track, mp4, init) in described {
            let known = before.iter().position(|lane| lane.id() == track.id).map(|at| before.remove(at));
            let lane = self.relane(known, track, (mp4, init));
            self.lanes.push(lane);
        }
        for mut gone in before {
            gone.stop();
            self.ended.push_back(gone.window);
        }
        while self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// The lane of a track that may have been there before, with the same window.
    fn relane(
        &mut self,
        known: Option<Lane>,
        track: &Track,
        described: (crate::fmp4::Mp4Track, bytes::Bytes),
    ) -> Lane {
        let plan = self.plan.unwrap_or_else(|| Plan::new(&self.config, TimeDelta::ZERO, None));
        let (number, window, discontinuity) = match known {
            Some(mut lane) if lane.init.bytes == described.1 => {
                lane.rename(track);
                return lane;
            }
            Some(lane) => (lane.init.number.saturating_add(1), lane.window, lane.discontinuity),
            None => {
                let again = self.ended.iter().position(|window| window.track() == track.id);
                let window = again.and_then(|at| self.ended.remove(at));
                let number = window.as_ref().map_or(0, Window::next_part);
                let resumes = window.is_some() || self.resumed;
                let fresh =
                    || Window::new(Container::Cmaf, track.id, plan, &self.config, self.continuation.msn);
                (number, window.unwrap_or_else(fresh), resumes)
            }
        };
        let mut lane = Lane::new(described, number, self.origin, plan.part_target, window);
        lane.discontinuity = discontinuity;
        lane.cuts = self.cuts_done;
        lane
    }

    /// Takes the next frame of the log, which arrived at `wall`.
    pub fn push(&mut self, wall: SystemTime, frame: &MediaFrame) {
        if self.plan.is_some() {
            return self.accept(wall, frame);
        }
        self.waiting.push_back((wall, frame.clone()));
        if let Some(step) = self.measure() {
            self.begin(step);
        }
    }

    /// Nothing more will come.
    pub fn end(&mut self) {
        if self.plan.is_none() && !self.waiting.is_empty() {
            self.begin(self.leading_step().unwrap_or_default());
        }
        self.close_all(LEADER_SILENCE);
        self.lanes.iter_mut().for_each(|lane| lane.window.end());
    }

    /// The distance between the leader's frames, once enough have come to tell.
    fn measure(&self) -> Option<TimeDelta> {
        let (first, last) = (self.waiting.front()?, self.waiting.back()?);
        let leading = self.leading_track()?.id;
        let count = self.waiting.iter().filter(|(_, frame)| frame.track == leading).count();
        let long = last.1.dts - first.1.dts >= MEASURE || self.waiting.len() >= MAX_WAITING;
        if count >= MEASURED || long { self.leading_step().or(Some(TimeDelta::ZERO)) } else { None }
    }

    fn leading_track(&self) -> Option<&Track> {
        let usable =
            |kind| self.tracks.iter().find(|track| track.kind() == kind && lane::describe(track).is_ok());
        usable(TrackKind::Video).or_else(|| usable(TrackKind::Audio))
    }

    /// What the track declares, if its frames agree; else what they say.
    fn leading_step(&self) -> Option<TimeDelta> {
        let track = self.leading_track()?;
        let declared = match (track.video(), track.audio()) {
            (Some(video), _) => video.frame_rate.map(FrameRate::frame_duration),
            (_, Some(audio)) => audio
                .samples_per_frame
                .zip(Timescale::new(audio.sample_rate))
                .map(|(samples, rate)| TimeDelta::from_units(samples.into(), rate)),
            _ => None,
        };
        let mut times = self.waiting.iter().map(|(_, frame)| frame).filter(|frame| frame.track == track.id);
        let first = times.next().map(|frame| frame.dts)?;
        let (count, last) =
            times.fold((0_i64, first), |(count, _), frame| (count.saturating_add(1), frame.dts));
        let measured = (last - first).0.checked_div(count).map(TimeDelta).filter(|step| step.0 > 0);
        match (declared, measured) {
            (Some(declared), Some(measured)) => {
                let close = (declared - measured).abs().0 <= declared.0.checked_div(10).unwrap_or_default();
                Some(if close { declared } else { measured })
            }
            (declared, measured) => measured.or(declared),
        }
    }

    /// Makes the plan, and takes what has waited for it.
    fn begin(&mut self, step: TimeDelta) {
        let sound_only = self.leading_track().is_some_and(|track| track.kind() == TrackKind::Audio);
        let gop = if sound_only { Some(step) } else { self.gop };
        self.plan = Some(Plan::new(&self.config, step, gop));
        let earliest =
            self.waiting.iter().map(|(_, frame)| frame.dts.min(frame.pts)).min().unwrap_or_default();
        if earliest < Timestamp::ZERO {
            self.origin = earliest - HEADROOM;
        }
        let tracks = self.tracks.clone();
        self.set_tracks(&tracks);
        for (wall, frame) in core::mem::take(&mut self.waiting) {
            self.accept(wall, &frame);
        }
    }

    fn accept(&mut self, wall: SystemTime, frame: &MediaFrame) {
        if self.splices.is_of(frame.track) {
            return self.splice(frame);
        }
        let Some(index) = self.lanes.iter().position(|lane| lane.id() == frame.track) else { return };
        let rebased = frame.flags.contains(FrameFlags::DISCONTINUITY);
        if rebased || self.takes_over(index) {
            self.interrupt();
        }
        if rebased {
            self.dates.rebase();
        }
        self.dates.note(wall, frame);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.receive(frame.clone());
        }
        self.advance();
    }

    /// True for the first picture of a stream that sound leads: from here on pictures do.
    fn takes_over(&self, index: usize) -> bool {
        let is_first = |lane: &&Lane| lane.is_video() && lane.at.is_none() && lane.queue.is_empty();
        let leader = self.lanes.iter().find(|one| Some(one.id()) == self.leader);
        self.lanes.get(index).filter(is_first).is_some() && leader.is_some_and(|leader| !leader.is_video())
    }

    fn splice(&mut self, frame: &MediaFrame) {
        let leader = self.lanes.iter_mut().find(|lane| Some(lane.id()) == self.leader);
        let Some(lane) = leader else { return };
        if lane.window.open().is_some_and(|open| open.ranges.len() < MAX_RANGES) {
            let ranges = self.splices.note(frame, |at| self.dates.date(at));
            ranges.into_iter().for_each(|range| lane.window.push_range(range));
        }
    }

    /// Takes everything that can be taken.
    fn advance(&mut self) {
        if self.leader.is_none() {
            self.leader = self.choose_leader();
        }
        let Some(leader) = self.leader.and_then(|id| self.lanes.iter().position(|lane| lane.id() == id))
        else {
            return;
        };
        while let Some(frame) = self.lanes.get_mut(leader).and_then(|lane| lane.queue.pop_front()) {
            self.lead(leader, frame);
        }
        let ahead = self.lanes.iter().filter_map(|lane| lane.queue.back()).map(|frame| frame.dts).max();
        if ahead.is_some_and(|ahead| ahead - self.watermark > LEADER_SILENCE) {
            self.interrupt();
            return;
        }
        for index in (0..self.lanes.len()).filter(|index| *index != leader) {
            self.follow_up_to(index, self.watermark);
            self.list_silence(index);
        }
        self.forget_cuts();
    }

    /// The first video track with a frame; sound when there is none for a while.
    fn choose_leader(&self) -> Option<TrackId> {
        let has_frames = |lane: &&Lane| !lane.queue.is_empty();
        if let Some(video) = self.lanes.iter().filter(|lane| lane.is_video()).find(has_frames) {
            return Some(video.id());
        }
        let video_may_come = self.lanes.iter().any(Lane::is_video);
        let sound = self.lanes.iter().find(has_frames)?;
        let (first, last) = (sound.queue.front()?, sound.queue.back()?);
        (!video_may_come || last.dts - first.dts >= PATIENCE).then(|| sound.id())
    }

    /// Forgets the cuts that every follower has made and that no late one can begin with.
    fn forget_cuts(&mut self) {
        let leader = self.leader;
        let followers = self.lanes.iter().filter(|lane| Some(lane.id()) != leader && lane.at.is_some());
        let made = followers.map(|lane| lane.cuts).min().unwrap_or(u64::MAX);
        let is_old = |cut: &Cut| self.watermark - cut.presented > MAX_PATIENCE;
        while self.cuts.get(1).is_some_and(is_old) && self.cuts_done.saturating_add(1) < made {
            self.cuts.pop_front();
            self.cuts_done = self.cuts_done.saturating_add(1);
        }
    }

    /// Ends the segments of all renditions; what follows does not go on from there.
    fn interrupt(&mut self) {
        let begun = self.lanes.iter().any(|lane| lane.at.is_some());
        if !begun {
            return;
        }
        let leading = self.leader;
        let held = self.lanes.iter_mut().find(|lane| Some(lane.id()) == leading);
        // What the leader was about to take comes after the interruption.
        let next = held.map(|lane| core::mem::take(&mut lane.queue));
        self.close_all(PATIENCE);
        if let Some((lane, next)) = self.lanes.iter_mut().find(|lane| Some(lane.id()) == leading).zip(next) {
            lane.queue = next;
        }
        self.discontinuities = self.discontinuities.saturating_add(1);
        for lane in &mut self.lanes {
            lane.window.finish();
            (lane.at, lane.step, lane.discontinuity) = (None, TimeDelta::ZERO, true);
        }
        self.leader = None;
        self.watermark = Timestamp(i64::MIN);
        self.cuts_done = self.cuts_done.saturating_add(self.cuts.len() as u64);
        self.cuts.clear();
    }

    /// Takes what waits, up to `beyond` the end of the leader, and brings all renditions there.
    fn close_all(&mut self, beyond: TimeDelta) {
        if self.leader.is_none() {
            self.leader = self.lanes.iter().find(|lane| !lane.queue.is_empty()).map(Lane::id);
        }
        let Some(leader) = self.lanes.iter().position(|lane| Some(lane.id()) == self.leader) else { return };
        while let Some(frame) = self.lanes.get_mut(leader).and_then(|lane| lane.queue.pop_front()) {
            self.lead(leader, frame);
        }
        let flush = |lane: &mut Lane| {
            if let Some(end) = lane.expected_end() {
                lane.flush(end);
            }
            lane.at
        };
        let end = self.lanes.get_mut(leader).and_then(flush);
        for index in (0..self.lanes.len()).filter(|index| *index != leader) {
            self.follow_up_to(index, end.unwrap_or(self.watermark) + beyond);
            if let Some(lane) = self.lanes.get_mut(index) {
                flush(lane);
            }
            if let Some(end) = end {
                self.fill_follower(index, end);
            }
        }
    }
}

fn begin_segment(lane: &mut Lane, start: Timestamp, presented: Timestamp, date: SystemTime, sequence: u64) {
    let discontinuity = core::mem::take(&mut lane.discontinuity);
    let init = Arc::clone(&lane.init);
    lane.window.begin(|msn| Segment {
        msn,
        start,
        presented,
        date,
        presented_end: presented,
        parts: Vec::new(),
        duration: TimeDelta::ZERO,
        bytes: 0,
        discontinuity,
        discontinuity_sequence: sequence,
        init,
        key: None,
        ranges: Vec::new(),
    });
}
