use std::time::{Duration, Instant};

use super::layers::{MIN_STAY, ROOM_TO_RISE};
use super::thinning::PATIENCE;

/// A keyframe is asked for once in this time so that more layers can be sent, where nothing else leads to them.
pub(super) const ASK: Duration = Duration::from_secs(10);

/// What can be sent from a picture on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// All layers: it is a keyframe.
    ToAll,
    /// The next one, which needs none of its own before it.
    ToNext,
    /// No more than before.
    Nowhere,
}

/// How it is at a picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The highest layer that comes.
    pub(super) highest: u8,
    /// What can be sent from here on.
    pub(super) leads: Leads,
    /// What is before it has waited for too long.
    pub(super) is_late: bool,
    /// What the link is believed to carry.
    pub(super) estimate_bps: Option<u64>,
}

/// Up to which layer a viewer is sent a stream whose layers refer to no higher ones: fewer of them at any picture, as soon as the link does
/// not carry them, and more where a picture leads to them and there has been room for a while.
#[derive(Debug)]
pub(super) struct Ladder {
    /// Once a layer is left out, what waits has so long to become less before the next one is as well.
    settling: Duration,
    /// The highest that is sent.
    limit: u8,
    changed: Option<Instant>,
    /// Since when there is room for more.
    room: Option<Instant>,
    asked: Option<Instant>,
    switches: u64,
}

impl Ladder {
    pub(super) const fn new(settling: Duration) -> Self {
        Self { settling, limit: u8::MAX, changed: None, room: None, asked: None, switches: 0 }
    }

    /// Other layers than before: all are sent.
    pub(super) const fn restart(&mut self) {
        (self.limit, self.changed, self.room) = (u8::MAX, None, None);
    }

    /// The highest layer that is sent.
    pub(super) const fn limit(&self) -> u8 {
        self.limit
    }

    /// Times that more or fewer of them were sent from then on.
    pub(super) const fn switches(&self) -> u64 {
        self.switches
    }

    /// Chooses the limit at a picture. `rate_bps` says what the layers up to one need.
    pub(super) fn handle_picture(&mut self, now: Instant, step: Step, rate_bps: impl Fn(u8) -> u64) {
        let sent = rate_bps(self.limit.min(step.highest));
        if step.is_late || step.estimate_bps.is_some_and(|bps| sent > bps) {
            self.room = None;
            self.fall(now, step, rate_bps);
        } else {
            self.rise(now, step, rate_bps);
        }
    }

    /// True when a keyframe should be asked for, now: nothing else leads to more layers.
    pub(super) fn take_request(&mut self, now: Instant) -> bool {
        let long =
            |since: Option<Instant>, time| since.is_some_and(|at| now.saturating_duration_since(at) >= time);
        let due = long(self.room, PATIENCE) && (self.asked.is_none() || long(self.asked, ASK));
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// One less at least, and as many as the link is believed not to carry.
    fn fall(&mut self, now: Instant, step: Step, rate_bps: impl Fn(u8) -> u64) {
        let settles = |at: Instant| now.saturating_duration_since(at) < self.settling;
        let Some(mut limit) = self.limit.min(step.highest).checked_sub(1) else { return };
        if self.changed.is_some_and(settles) {
            return;
        }
        while limit > 0 && step.estimate_bps.is_some_and(|bps| rate_bps(limit) > bps) {
            limit = limit.saturating_sub(1);
        }
        self.change(now, limit);
    }

    fn rise(&mut self, now: Instant, step: Step, rate_bps: impl Fn(u8) -> u64) {
        let next = self.limit.saturating_add(1);
        if next > step.highest {
            self.room = None;
            return;
        }
        let rested = self.changed.is_none_or(|at| now.saturating_duration_since(at) >= MIN_STAY);
        let fits = |layer| {
            let needed = rate_bps(layer).saturating_mul(ROOM_TO_RISE) / 100;
            step.estimate_bps.is_none_or(|bps| needed <= bps)
        };
        if !rested || !fits(next) {
            self.room = None;
            return;
        }
        match step.leads {
            Leads::ToAll => {
                let limit = (next..=step.highest).take_while(|layer| fits(*layer)).last().unwrap_or(next);
                self.change(now, limit);
            }
            Leads::ToNext => self.change(now, next),
            Leads::Nowhere => _ = self.room.get_or_insert(now),
        }
    }

    const fn change(&mut self, now: Instant, limit: u8) {
        self.limit = limit;
        self.changed = Some(now);
        self.room = None;
        self.switches = self.switches.saturating_add(1);
    }
}
