//! Maps the timestamps of one publisher session onto the stream's continuous timeline.
//!
//! Encoders wrap, jump, run backwards and stand still; readers must never notice more than one
//! discontinuity. A [`Timeline`] is made when a publisher starts and sees each of its frames once, in order
//! of arrival.
//!
//! ```text
//! timeline dts = source dts + base(track) + shift(epoch)
//! ```
//!
//! `base` is zero for every track that shares the publisher's clock, so that one shift serves all of them and
//! audio and video stay in step; a track whose clock is hours away from the others' gets its own. A jump
//! opens a new epoch at the end of what is there. The other tracks move to it when their own timestamps
//! jump, however much earlier or later that is, and frames that still come from the epoch before are
//! placed by it: one jump is one discontinuity.
//!
//! | what comes in | what goes out |
//! |---|---|
//! | first frame of a stream | dts zero |
//! | first frame of a publisher that resumes a stream | exactly `resume_at`, [`DISCONTINUITY`](FrameFlags::DISCONTINUITY) |
//! | dts before its predecessor's (an equal one is kept) | clamped, [`CLAMPED`](FrameFlags::CLAMPED) |
//! | a step beyond [`MAX_STEP_FORWARD`] that waiting does not explain, or back beyond [`MAX_STEP_BACK`] | end of the stream, `DISCONTINUITY`, at most once per [`MIN_EPOCH`] |
//! | composition offset beyond [`MAX_COMPOSITION`] | zero, `CLAMPED` |
//!
//! **Guarantees.** On each track dts never decreases, for any input. Well-behaved input comes out shifted by
//! one constant, nothing rounded. Discontinuities are at most one per `MIN_EPOCH` of arrival time, plus the first.
//! Memory is constant per track. Nothing panics or wraps: sums are taken in 128 bits and saturate at the
//! ends of [`Timestamp`].

use std::time::{Duration, Instant};

use crate::frame::{FrameFlags, MediaFrame};
use crate::time::{TimeDelta, Timestamp};
use crate::track::TrackId;

/// A step forward beyond this, on top of the time spent waiting for the frame, is a jump.
pub const MAX_STEP_FORWARD: TimeDelta = TimeDelta::from_millis(10_000);
/// A step back beyond this is a jump; a smaller one is jitter.
pub const MAX_STEP_BACK: TimeDelta = TimeDelta::from_millis(5_000);
/// A composition offset beyond this, either way, is an error of the sender.
pub const MAX_COMPOSITION: TimeDelta = TimeDelta::from_millis(10_000);
/// Jumps that follow a discontinuity sooner than this are placed in the same way, but flagged as clamped, so
/// that a sender whose every timestamp jumps does not make every frame a discontinuity.
pub const MIN_EPOCH: Duration = Duration::from_secs(1);

/// Steps that stay below this, either way, say nothing about which epoch a frame belongs to.
const REGULAR_STEP: TimeDelta = TimeDelta::from_millis(1_000);
/// What an unstated frame duration is believed to be at most.
const MAX_FRAME_DURATION: TimeDelta = TimeDelta::from_millis(1_000);

/// What became of a frame's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// They follow the timeline, shifted by a constant.
    Continuous,
    /// They could not be kept; the frame is flagged [`FrameFlags::CLAMPED`].
    Clamped,
    /// The frame opens a new epoch and is flagged [`FrameFlags::DISCONTINUITY`].
    Rebased {
        /// How far from its place it would have been: positive after a jump forward.
        jump: TimeDelta,
    },
}

/// One publisher session's mapping onto its stream's timeline.
///
/// ```
/// use std::time::Instant;
/// use arcly_core::{MediaFrame, TimeDelta, Timestamp, TrackId};
/// use arcly_core::timeline::{Placement, Timeline};
///
/// let mut timeline = Timeline::new(Some(Timestamp::from_millis(60_000)));
/// let mut frame = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(17), Default::default());
/// let placed = timeline.map(Instant::now(), &mut frame);
/// assert_eq!(frame.dts, Timestamp::from_millis(60_000));
/// assert_eq!(placed, Placement::Rebased { jump: TimeDelta::from_millis(17 - 60_000) });
/// ```
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Where the session starts; no frame of it lands earlier.
    floor: Timestamp,
    resumes: bool,
    /// `None` until the first frame.
    epochs: Option<Epochs>,
    /// When the last `DISCONTINUITY` was given out.
    flagged_at: Option<Instant>,
    last_arrival: Option<Instant>,
    end: Option<Timestamp>,
    clocks: Vec<Option<Clock>>,
    clamped: u64,
    rebased: u64,
}

/// The shifts in use. Where no jump has happened both are the same.
#[derive(Clone, Copy, Debug)]
struct Epochs {
    current: i128,
    previous: i128,
}

/// What is known of one track.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base: i128,
    shift: i128,
    /// The largest source dts in this epoch and when it came: a track whose timestamps stand still and
    /// then catch up has not jumped.
    high: Timestamp,
    high_at: Instant,
    /// The last dts given out.
    out: Timestamp,
    /// The last regular distance between two frames.
    step: TimeDelta,
}

/// Where a frame belongs.
struct Place {
    base: i128,
    shift: i128,
    /// Set when the frame opens an epoch: how far from its place it would have been.
    jump: Option<TimeDelta>,
}

impl Timeline {
    /// A timeline for a new publisher session. `resume_at` is the end of what the stream already has, `None`
    /// for a stream that has nothing yet.
    #[must_use]
    pub const fn new(resume_at: Option<Timestamp>) -> Self {
        let (floor, resumes) = match resume_at {
            Some(at) => (at, true),
            None => (Timestamp::ZERO, false),
        };
        Self {
            floor,
            resumes,
            epochs: None,
            flagged_at: None,
            last_arrival: None,
            end: None,
            clocks: Vec::new(),
            clamped: 0,
            rebased: 0,
        }
    }

    /// Moves a frame that arrived at `now` onto the timeline: sets `dts`, `pts` and flags in place.
    ///
    /// A negative composition offset is kept (FLV and MP4 have signed ones), except where dts had to be
    /// clamped past pts.
    pub fn map(&mut self, now: Instant, frame: &mut MediaFrame) -> Placement {
        let source = frame.dts;
        let place = self.place(now, frame.track, source);
        let natural = saturated(i128::from(source.0) + place.base + place.shift);
        let least = self.clock(frame.track).map_or(self.floor, |clock| clock.out);

        let mut composition = i128::from(frame.pts.0) - i128::from(source.0);
        let mut clamped = natural < least;
        if composition.unsigned_abs() > MAX_COMPOSITION.0.unsigned_abs().into() {
            composition = 0;
            clamped = true;
        }
        frame.dts = natural.max(least);
        frame.pts = saturated(i128::from(natural.0) + composition);
        if natural < least {
            frame.pts = frame.pts.max(frame.dts);
        }
        self.remember(now, source, &place, frame);

        if let Some(jump) = place.jump
            && self.may_flag(now)
        {
            self.flagged_at = Some(now);
            self.rebased = self.rebased.saturating_add(1);
            frame.flags |= FrameFlags::DISCONTINUITY;
            return Placement::Rebased { jump };
        }
        if clamped || place.jump.is_some() {
            self.clamped = self.clamped.saturating_add(1);
            frame.flags |= FrameFlags::CLAMPED;
            return Placement::Clamped;
        }
        Placement::Continuous
    }

    /// Where the next publisher has to resume: the largest dts given out plus its frame's duration (stated, else
    /// the last distance between frames of its track), over all tracks. `None` before the first frame.
    #[must_use]
    pub const fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Frames whose timestamps could not be kept.
    #[must_use]
    pub const fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Discontinuities given out, the one at the start of a resumed session included.
    #[must_use]
    pub const fn rebased(&self) -> u64 {
        self.rebased
    }

    fn clock(&self, track: TrackId) -> Option<&Clock> {
        self.clocks.get(track.index())?.as_ref()
    }

    fn place(&self, now: Instant, track: TrackId, source: Timestamp) -> Place {
        let Some(epochs) = self.epochs else {
            let shift = i128::from(self.floor.0) - i128::from(source.0);
            return Place { base: 0, shift, jump: self.resumes.then(|| source - self.floor) };
        };
        match self.clock(track) {
            Some(clock) => self.place_next(now, clock, epochs, source),
            None => self.place_new_track(now, epochs, source),
        }
    }

    /// The first frame of a further track: on the common clock when that is plausible, else at the end.
    fn place_new_track(&self, now: Instant, epochs: Epochs, source: Timestamp) -> Place {
        let found = [epochs.current, epochs.previous].into_iter().find(|shift| {
            let away = self.beyond_end(i128::from(source.0) + shift);
            away >= -i128::from(MAX_STEP_FORWARD.0) && away <= self.reach(now)
        });
        let own = self.end_flicks() - i128::from(source.0) - epochs.current;
        match found {
            Some(shift) => Place { base: 0, shift, jump: None },
            None => Place { base: own, shift: epochs.current, jump: None },
        }
    }

    fn place_next(&self, now: Instant, clock: &Clock, epochs: Epochs, source: Timestamp) -> Place {
        let base = clock.base;
        let stay = Place { base, shift: clock.shift, jump: None };
        let step = i128::from(source.0) - i128::from(clock.high.0);
        let waited = i128::from(elapsed(clock.high_at, now).0);
        if step.unsigned_abs() <= REGULAR_STEP.0.unsigned_abs().into() {
            return stay;
        }
        let from_source = i128::from(source.0) + base;
        let distance = |shift: i128| self.beyond_end(from_source + shift).unsigned_abs();
        if step >= -i128::from(MAX_STEP_BACK.0) && step <= waited + i128::from(MAX_STEP_FORWARD.0) {
            // Another track found the same step large enough to open an epoch: keep in step with it. So it does where its
            // last frame before a pause, which a transport gave out late, took the waiting that explains this track's.
            let follows = clock.shift != epochs.current && distance(epochs.current) < distance(clock.shift);
            return if follows { Place { shift: epochs.current, ..stay } } else { stay };
        }
        let known = [epochs.current, epochs.previous].into_iter().filter(|shift| {
            let away = self.beyond_end(from_source + shift);
            away >= -i128::from(MAX_STEP_BACK.0) && away <= self.reach(now)
        });
        match known.min_by_key(|shift| distance(*shift)) {
            Some(shift) => Place { shift, ..stay },
            None => {
                let jump = TimeDelta(saturated(self.beyond_end(from_source + clock.shift)).0);
                Place { base, shift: self.end_flicks() - from_source, jump: Some(jump) }
            }
        }
    }

    fn remember(&mut self, now: Instant, source: Timestamp, place: &Place, frame: &MediaFrame) {
        self.epochs = Some(match self.epochs {
            None => Epochs { current: place.shift, previous: place.shift },
            Some(old) if place.jump.is_some() => Epochs { current: place.shift, previous: old.current },
            Some(old) => old,
        });
        self.last_arrival = Some(now);
        let index = frame.track.index();
        if self.clocks.len() <= index {
            self.clocks.resize(index + 1, None);
        }
        let Some(slot) = self.clocks.get_mut(index) else { return };
        let fresh = Clock {
            base: place.base,
            shift: place.shift,
            high: source,
            high_at: now,
            out: frame.dts,
            step: TimeDelta::ZERO,
        };
        let clock = slot.get_or_insert(fresh);
        if place.shift != clock.shift || source > clock.high {
            (clock.shift, clock.high, clock.high_at) = (place.shift, source, now);
        }
        let step = frame.dts - clock.out;
        if step > TimeDelta::ZERO && step <= MAX_FRAME_DURATION {
            clock.step = step;
        }
        clock.out = frame.dts;
        let lasts = if frame.duration > TimeDelta::ZERO { frame.duration } else { clock.step };
        let end = frame.dts + lasts.min(MAX_FRAME_DURATION);
        self.end = Some(self.end.map_or(end, |old| old.max(end)));
    }

    fn may_flag(&self, now: Instant) -> bool {
        self.flagged_at.is_none_or(|at| now.saturating_duration_since(at) >= MIN_EPOCH)
    }

    fn end_flicks(&self) -> i128 {
        i128::from(self.end.unwrap_or(self.floor).0)
    }

    fn beyond_end(&self, at: i128) -> i128 {
        at - self.end_flicks()
    }

    /// How far beyond the end a frame that arrives now may lie.
    fn reach(&self, now: Instant) -> i128 {
        let idle = self.last_arrival.map_or(TimeDelta::ZERO, |at| elapsed(at, now));
        i128::from(MAX_STEP_FORWARD.0) + i128::from(idle.0)
    }
}

fn elapsed(from: Instant, to: Instant) -> TimeDelta {
    TimeDelta::from_duration(to.saturating_duration_since(from))
}

fn saturated(flicks: i128) -> Timestamp {
    let end = if flicks < 0 { i64::MIN } else { i64::MAX };
    Timestamp(i64::try_from(flicks).unwrap_or(end))
}

#[cfg(test)]
mod tests;
