//! One track on its way into parts.

use std::collections::VecDeque;
use std::sync::Arc;

use arcly_core::{MediaFrame, TimeDelta, Timestamp, Track, TrackId, TrackKind};
use bytes::Bytes;

use super::MAX_WAITING;
use super::window::{Init, Part, Window};
use crate::fmp4::{
    Fragmenter, InitOptions, Mp4Track, MuxError, Prefix, ProducerClock, ProducerTime, Run, SampleClock,
    init_segment,
};

/// Frames that a part has at most, for streams whose time stands still.
const MAX_FRAMES: usize = 512;
/// How far a track may stay behind the leader at first before that is silence.
const PATIENCE: TimeDelta = TimeDelta::from_millis(1_000);
/// What transports that round times make of the distance between two pictures, at most.
const ROUNDING: TimeDelta = TimeDelta::from_millis(5);
/// Every rendition has one track, so that it is always the first.
const TRACK_NUMBER: u32 = 1;

/// A track, the part that is being made of it, and what is listed of it.
#[derive(Debug)]
pub(super) struct Lane {
    mp4: Mp4Track,
    fragmenter: Fragmenter,
    pub(super) init: Arc<Init>,
    part_target: TimeDelta,
    /// Where its frames begin in the media. Segments and parts are cut and listed by that, so that what playlists and
    /// manifests say of them is what is in them: players stall that find less in a segment than is listed.
    clock: SampleClock,
    /// Waits until the leader has come so far.
    pub(super) queue: VecDeque<MediaFrame>,
    /// The part in the making: consecutive frames, of which the first begins at `at`.
    frames: Vec<MediaFrame>,
    /// Where what is listed ends; `None` until the first frame after a discontinuity.
    pub(super) at: Option<Timestamp>,
    /// The distance between the last two frames.
    pub(super) step: TimeDelta,
    /// How far the track may stay behind the leader before that is silence.
    pub(super) patience: TimeDelta,
    /// The next segment does not go on where the last one ended.
    pub(super) discontinuity: bool,
    /// How many of the leader's cuts were made here.
    pub(super) cuts: u64,
    pub(super) window: Window,
}

/// What a track is in MP4, and its initialisation segment.
pub(super) fn describe(track: &Track) -> Result<(Mp4Track, Bytes), MuxError> {
    let mp4 = Mp4Track::new(track, TRACK_NUMBER)?;
    let options = InitOptions { cmaf: true, ..InitOptions::default() };
    let bytes = init_segment(core::slice::from_ref(&mp4), options);
    Ok((mp4, bytes))
}

impl Lane {
    /// A lane for a track; `number` is that of its initialisation segment.
    pub(super) fn new(
        (mp4, bytes): (Mp4Track, Bytes),
        number: u64,
        origin: Timestamp,
        part_target: TimeDelta,
        window: Window,
    ) -> Self {
        let init = Init {
            number,
            track: mp4.track().clone(),
            codecs: mp4.codecs(),
            timescale: mp4.timescale(),
            beside: Vec::new(),
            bytes,
        };
        Self {
            fragmenter: Fragmenter::new([mp4.clone()], origin),
            clock: SampleClock::of(&mp4),
            mp4,
            init: Arc::new(init),
            part_target,
            queue: VecDeque::new(),
            frames: Vec::new(),
            at: None,
            step: TimeDelta::ZERO,
            patience: PATIENCE,
            discontinuity: false,
            cuts: 0,
            window,
        }
    }

    pub(super) const fn id(&self) -> TrackId {
        self.mp4.id()
    }

    pub(super) const fn is_video(&self) -> bool {
        matches!(self.mp4.track().kind(), TrackKind::Video)
    }

    /// The track is described anew, in ways that do not matter to its media.
    pub(super) fn rename(&mut self, track: &Track) {
        if self.init.track != *track {
            self.init = Arc::new(Init { track: track.clone(), ..(*self.init).clone() });
        }
    }

    /// Takes a frame that may have to wait for the leader.
    pub(super) fn receive(&mut self, mut frame: MediaFrame) {
        self.clock.settle(&mut frame);
        if self.queue.len() >= MAX_WAITING {
            self.queue.pop_front();
        }
        self.queue.push_back(frame);
    }

    /// True when nothing is in the making.
    pub(super) const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Decode time of the newest frame in the making.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.frames.last().map(|frame| frame.dts)
    }

    /// Adds a frame to the part in the making.
    pub(super) fn push(&mut self, frame: MediaFrame) {
        self.frames.push(frame);
        if self.frames.len() >= MAX_FRAMES {
            let end = self.newest().unwrap_or_default();
            self.close(self.frames.len(), end);
        }
    }

    /// The newest frame lasts until `next`. Completes what no longer frame fits into.
    ///
    /// A part must be nearly as long as the target (4.4.4.9). Where frames do not fit, because one of them is longer than
    /// the others, the part is listed as long as the target, and what its last frame lasts beyond that counts for the next.
    pub(super) fn settle(&mut self, next: Timestamp) {
        let (Some(at), Some(newest)) = (self.at, self.newest()) else { return };
        if next - at > self.part_target && self.is_enough(newest - at) {
            self.close(self.frames.len().saturating_sub(1), newest);
        }
        self.step = next - newest;
        let length = next - self.at.unwrap_or(next);
        if length + self.step > self.part_target && self.is_enough(length) {
            self.close(self.frames.len(), next);
        }
    }

    /// True when parts may be so long: 85 % of the target.
    const fn is_enough(&self, length: TimeDelta) -> bool {
        length.0.saturating_mul(100) >= self.part_target.0.saturating_mul(85)
    }

    /// Completes the part in the making; its newest frame lasts until `end`.
    pub(super) fn flush(&mut self, end: Timestamp) {
        self.close(self.frames.len(), end);
    }

    /// Nothing more will come.
    pub(super) fn stop(&mut self) {
        if let Some(end) = self.expected_end() {
            self.flush(end);
        }
        self.window.end();
    }

    /// Where the newest frame ends by all that is known.
    pub(super) fn expected_end(&self) -> Option<Timestamp> {
        let newest = self.newest()?;
        let known = self.step > TimeDelta::ZERO && self.step <= self.part_target;
        Some(if known { newest + self.step } else { self.mp4.expected_end(&self.frames) })
    }

    /// A part of the first `count` frames, which end at `end`. One frame may be longer than a part: it is listed as the
    /// part that it begins, and the rest of it is for the caller to fill.
    fn close(&mut self, count: usize, end: Timestamp) {
        let (Some(at), true) = (self.at, count > 0) else { return };
        let frames: Vec<MediaFrame> = self.frames.drain(..count.min(self.frames.len())).collect();
        let most = self.part_target.min(self.window.room());
        let duration = (self.shown(&frames, at, end) - at).min(most).max(TimeDelta::ZERO);
        let run = Run { frames: &frames, end };
        let prefix = Prefix { producer_time: self.producer_time(), ..Prefix::default() };
        let chunk = self.fragmenter.chunk(run, &prefix);
        let independent = frames.iter().any(MediaFrame::is_keyframe);
        // What cannot be written, which the limits of the engine exclude, is missing and listed so.
        let (bytes, ticks) =
            chunk.map_or((Bytes::new(), 0..0), |chunk| (chunk.to_bytes(), chunk.ticks().clone()));
        let frames = frames.len();
        self.window.push(Part { number: 0, start: at, duration, ticks, frames, independent, bytes });
        self.at = Some(at + duration);
    }

    /// Until when a part that begins at `at` is listed, of frames that end at `end`: to where players can show it, if that is
    /// about the same. What is not listed counts for the next part.
    fn shown(&mut self, frames: &[MediaFrame], at: Timestamp, end: Timestamp) -> Timestamp {
        let next = frames.iter().skip(1).map(|frame| frame.dts).chain([end]);
        frames.iter().zip(next).for_each(|(frame, next)| self.window.show(frame.pts + (next - frame.dts)));
        let Some(open) = self.window.open() else { return end };
        let shown = end.min(open.presented_end - (open.presented - open.start));
        let as_long = self.is_enough(shown - at) || !self.is_enough(end - at);
        if as_long && end - shown <= ROUNDING { shown } else { end }
    }

    /// The date of the segment in the making, in front of its first media: what DASH calls the producer reference time.
    fn producer_time(&self) -> Option<ProducerTime> {
        let open = self.window.open().filter(|open| open.is_gap())?;
        let media_time = u64::try_from(open.presented.to_ticks(self.init.timescale)).ok()?;
        let clock = ProducerClock::EncoderOutput;
        Some(ProducerTime { track: self.id(), media_time, time: open.date, clock })
    }

    /// Lists that nothing is there for `duration`.
    pub(super) fn push_gap(&mut self, duration: TimeDelta) {
        let Some(at) = self.at else { return };
        let gap = Part {
            number: 0,
            start: at,
            duration,
            ticks: 0..0,
            frames: 0,
            independent: false,
            bytes: Bytes::new(),
        };
        self.window.push(gap);
        self.at = Some(at + duration);
    }
}
