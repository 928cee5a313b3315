//! What elementary streams hand over, and which timestamp belongs to what.

use std::collections::VecDeque;

use arcly_core::{FrameFlags, TimeDelta, Timestamp};
use bytes::Bytes;

/// The timestamps of a PES packet, unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) dts: Timestamp,
    pub(super) pts: Timestamp,
    /// The packet's timestamps contradict each other.
    pub(super) clamped: bool,
}

/// An access unit in canonical form, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) stamp: Stamp,
    pub(super) duration: TimeDelta,
    pub(super) flags: FrameFlags,
    pub(super) payload: Bytes,
}

/// The timestamps of the bytes that wait: a PES packet's belong to the first access unit that begins in it (§2.4.3.7).
#[derive(Clone, Debug, Default)]
pub(super) struct Stamps(VecDeque<(usize, Stamp)>);

/// Timestamps that wait; more PES packets than that without an access unit are not believed.
const MAX_WAITING: usize = 64;

impl Stamps {
    /// The packet that begins at `offset` of what waits has this timestamp.
    pub(super) fn push(&mut self, offset: usize, stamp: Stamp) {
        if self.0.len() >= MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back((offset, stamp));
    }

    /// The timestamp of the access unit at the front.
    pub(super) fn take_front(&mut self) -> Option<Stamp> {
        let mut found = None;
        while let Some((0, stamp)) = self.0.front() {
            found = Some(*stamp);
            self.0.pop_front();
        }
        found
    }

    /// `count` bytes at the front are gone. A packet that began in them and whose timestamp was not taken has its first
    /// access unit at the new front.
    pub(super) fn advance(&mut self, count: usize) {
        self.0.iter_mut().for_each(|(offset, _)| *offset = offset.saturating_sub(count));
    }

    /// True when a packet with a timestamp begins behind the front and not behind `offset`.
    pub(super) fn any_up_to(&self, offset: usize) -> bool {
        self.0.iter().any(|(at, _)| (1..=offset).contains(at))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
