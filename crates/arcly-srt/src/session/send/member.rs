//! Sending with the numbers of a group: a member takes them up where the group is, and passes over what others have sent.

use super::{InFlight, Sender, Sending};
use crate::session::clock::{Numbering, stamp};
use crate::wire::{DataHeader, MsgNumber, SeqNumber, SeqRange};

/// Numbers before the first one that count as given up: a receiver that joins late asks for what was sent before.
const BEHIND: u32 = 1 << 16;
/// Packets that are passed over one by one while others are in flight; more than that ends those, too.
const MAX_PASSED_OVER: u64 = 64;

impl Sender {
    /// Begins with `seq`, unless something was sent already.
    pub(super) fn begin_with(&mut self, seq: SeqNumber) {
        if !self.is_drained() || self.counters.unique > 0 {
            return;
        }
        let behind = u64::from(BEHIND);
        self.numbering = Numbering::new(seq.minus(BEHIND));
        (self.first, self.given_up, self.lost_from) = (behind, behind, behind);
    }

    /// The next packet to leave is `seq`. What is between was never sent on this path, and the peer is told so.
    pub(super) fn move_to(&mut self, now: i64, seq: SeqNumber) {
        let next = self.next();
        let Some(index) = self.numbering.index(seq, next).filter(|index| *index > next) else { return };
        if !self.flight.is_empty() && index - next <= MAX_PASSED_OVER {
            self.drops.extend(
                SeqRange::new(self.numbering.seq(next), self.numbering.seq(index - 1))
                    .map(|range| (MsgNumber::CONTROL, range)),
            );
            (next..index).for_each(|index| self.pass_over(now, index));
            return;
        }
        self.release(next);
        (self.first, self.given_up) = (index, index);
    }

    fn pass_over(&mut self, now: i64, index: u64) {
        let how = Sending { origin: now, ..Sending::default() };
        let header =
            DataHeader { timestamp: stamp(now), ..DataHeader::new(self.numbering.seq(index), self.message) };
        self.flight.push_back(InFlight {
            header,
            datagram: bytes::Bytes::new(),
            length: 0,
            how,
            left: now,
            repeated: None,
            stubborn: false,
            lost: false,
        });
    }

    /// Whether a packet with this number has been taken already.
    pub(in crate::session) fn has_taken(&self, seq: SeqNumber) -> bool {
        if self.is_drained() && self.counters.unique == 0 {
            return false;
        }
        let last = self.queue.back().and_then(|queued| queued.how.number);
        let next = last.map_or_else(|| self.numbering.seq(self.next()), |(seq, _)| seq.next());
        seq.is_before(next)
    }

    /// Everything before has been acknowledged, or given up.
    pub(in crate::session) fn unacknowledged(&self) -> SeqNumber {
        self.numbering.seq(self.first)
    }

    /// When the oldest packet in flight came to be.
    pub(in crate::session) fn in_flight_since(&self) -> Option<i64> {
        self.flight.front().map(|packet| packet.how.origin)
    }
}
