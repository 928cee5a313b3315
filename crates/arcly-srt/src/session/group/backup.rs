//! One path at a time, and another one at once when it seems to fail.
//!
//! ```text
//!            activated            probed                silent, or drops
//!  Idle ────────────────▶ Fresh ──────────▶ Stable ──────────────────────▶ Unstable ◀─┐
//!    ▲                       │ silent                                        │ heard   │ silent
//!    │                       └──────────────────────────────────────────────▶│         │
//!    └── another one is stable, and no worse      Stable ◀── four latencies ── Wary ◀──┘
//! ```
//!
//! A path is silent when something is on the way for longer than [`stability`] and nothing has been heard since. Then the best
//! idle one is activated, and sends everything that nobody has acknowledged.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Member;
use crate::session::connection::{Link, SendOptions};
use crate::wire::{MsgNumber, SeqNumber};

/// No silence that is shorter counts.
const MIN_STABILITY: Duration = Duration::from_millis(60);
/// A path that was activated is believed in so long after its first time-out.
const PROBING: Duration = Duration::from_millis(50);
/// A path that was unstable is believed in again after so many latencies.
const WARY_LATENCIES: u32 = 4;
/// An idle path says something each second: after that it is no good.
const IDLE_SILENCE: Duration = Duration::from_millis(2_500);

/// How a member is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Idle,
    /// Activated then.
    Fresh(Instant),
    Stable,
    Unstable,
    /// Heard again since then.
    Wary(Instant),
}

impl Use {
    /// Messages are sent over it.
    pub(super) fn is_active(self) -> bool {
        self != Self::Idle
    }

    const fn is_good(self) -> bool {
        matches!(self, Self::Stable | Self::Fresh(_))
    }

    /// The best first.
    const fn rank(self) -> u8 {
        match self {
            Self::Stable => 0,
            Self::Fresh(_) => 1,
            Self::Wary(_) => 2,
            Self::Unstable => 3,
            Self::Idle => 4,
        }
    }
}

/// A message that nobody has acknowledged.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) number: (SeqNumber, MsgNumber),
    pub(super) payload: Bytes,
    pub(super) options: SendOptions,
}

#[derive(Debug)]
pub(super) struct Backup {
    kept: VecDeque<Kept>,
    limit: usize,
}

impl Backup {
    pub(super) const fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit }
    }

    /// A message has been sent.
    pub(super) fn keep(&mut self, message: Kept) {
        if self.kept.len() >= self.limit {
            self.kept.pop_front();
        }
        self.kept.push_back(message);
    }

    /// Looks at the paths, and decides which are used.
    pub(super) fn review(&mut self, now: Instant, members: &mut [Member]) {
        for member in members.iter_mut().filter(|member| member.joined) {
            let Some(link) = member.connection.link() else { continue };
            let drops = link.dropped > member.dropped;
            member.dropped = link.dropped;
            member.usage = judge(now, member.usage, &link, drops);
        }
        self.forget(members);
        while let Some(place) = candidate(now, members) {
            self.activate(now, members, place);
        }
        silence(members);
    }

    /// What one of the paths in use has brought over need not be kept.
    fn forget(&mut self, members: &[Member]) {
        let active = members.iter().filter(|member| member.usage.is_active());
        let acknowledged =
            active.filter_map(|member| member.connection.link()).map(|link| link.unacknowledged);
        let Some(acknowledged) = acknowledged.reduce(SeqNumber::later) else { return };
        while self.kept.front().is_some_and(|kept| kept.number.0.is_before(acknowledged)) {
            self.kept.pop_front();
        }
    }

    fn activate(&self, now: Instant, members: &mut [Member], place: usize) {
        let Some(member) = members.get_mut(place) else { return };
        member.usage = Use::Fresh(now);
        for Kept { number, payload, options } in &self.kept {
            // One that has no room takes what is sent from now on, if that.
            if member.connection.send_numbered(now, payload.clone(), *options, *number).is_err() {
                return;
            }
        }
    }
}

/// What is thought of a path by now.
fn judge(now: Instant, usage: Use, link: &Link, drops: bool) -> Use {
    match usage {
        Use::Idle => Use::Idle,
        _ if drops || silent_at(usage, link).is_some_and(|at| at <= now) => Use::Unstable,
        Use::Fresh(since) if now >= since + first_stability(link) + PROBING => Use::Stable,
        Use::Unstable => Use::Wary(now),
        Use::Wary(since) if now >= since + link.latency * WARY_LATENCIES => Use::Stable,
        other => other,
    }
}

/// When a path in use counts as silent, unless it is heard before.
fn silent_at(usage: Use, link: &Link) -> Option<Instant> {
    let from = link.waiting?.max(link.heard);
    Some(match usage {
        Use::Fresh(since) => from.max(since) + first_stability(link),
        _ => from + stability(link),
    })
}

/// How long a path in use may be silent: two round trips and what they vary by, as far as there is time for it.
fn stability(link: &Link) -> Duration {
    link.patience.clamp(MIN_STABILITY, first_stability(link))
}

fn first_stability(link: &Link) -> Duration {
    link.latency.max(MIN_STABILITY)
}

/// The idle path that is to be used, if one is.
fn candidate(now: Instant, members: &[Member]) -> Option<usize> {
    let joined = || members.iter().enumerate().filter(|(_, member)| member.joined);
    let active = || joined().filter(|(_, member)| member.usage.is_active());
    let is_alive =
        |member: &Member| member.connection.link().is_some_and(|link| link.heard + IDLE_SILENCE > now);
    let idle = joined().filter(|(_, member)| !member.usage.is_active());
    let (place, best) =
        idle.max_by_key(|(place, member)| (is_alive(member), member.weight, Reverse(*place)))?;
    let needed = !active().any(|(_, member)| member.usage.is_good());
    let better = active().all(|(_, member)| member.weight < best.weight);
    (needed || better).then_some(place)
}

/// Of several good paths one is enough: what is no better than the first stable one is not used any more.
fn silence(members: &mut [Member]) {
    let order = |member: &Member| (Reverse(member.weight), member.usage.rank());
    let stable = members.iter().enumerate().filter(|(_, member)| member.usage == Use::Stable);
    let Some((place, first)) = stable.min_by_key(|(place, member)| (order(member), *place)) else { return };
    let bound = (order(first), place);
    for (place, member) in members.iter_mut().enumerate() {
        if (order(member), place) > bound {
            member.usage = Use::Idle;
        }
    }
}

/// When a path is to be looked at again.
pub(super) fn wake(members: &[Member]) -> Option<Instant> {
    let due = |member: &Member| {
        let link = member.connection.link()?;
        let silent = silent_at(member.usage, &link);
        match member.usage {
            Use::Idle | Use::Unstable => None,
            Use::Stable => silent,
            Use::Fresh(since) => super::sooner(silent, Some(since + first_stability(&link) + PROBING)),
            Use::Wary(since) => super::sooner(silent, Some(since + link.latency * WARY_LATENCIES)),
        }
    };
    members.iter().filter(|member| member.joined).filter_map(due).min()
}
