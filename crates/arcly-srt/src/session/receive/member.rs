//! Receiving beside other members of a group: what one of them has brought, the others need not.

use super::Receiver;
use crate::session::clock::Numbering;
use crate::wire::SeqNumber;

impl Receiver {
    /// The next packet that the group wants is `seq`; asked before anything has come.
    pub(in crate::session) fn renumber(&mut self, seq: SeqNumber) {
        debug_assert!(self.buffer.packets() == 0);
        self.numbering = Numbering::new(seq);
    }

    /// The group wants nothing before `seq` any more.
    pub(in crate::session) fn pass(&mut self, now: i64, seq: SeqNumber) {
        let target = self.numbering.index(seq, self.buffer.end());
        let Some(target) = target.filter(|target| *target > self.buffer.first()) else { return };
        let forgotten = self.losses.forget_before(target);
        if forgotten > 0 || self.buffer.end() > self.buffer.first() {
            // A path that is not in use says nothing.
            self.acks.wake_up(now);
        }
        self.buffer.skip_to(target);
        self.jump = None;
    }

    /// The next packet to be handed over.
    pub(in crate::session) fn next(&self) -> SeqNumber {
        self.numbering.seq(self.buffer.first())
    }

    /// This side's time when the peer's clock was at 0, one transit included.
    pub(in crate::session) fn base(&self) -> Option<i64> {
        self.tsbpd.as_ref().map(super::Tsbpd::base)
    }

    /// Goes by the group's time instead of what the handshake said.
    pub(in crate::session) const fn set_base(&mut self, base: i64) {
        if let Some(tsbpd) = &mut self.tsbpd {
            tsbpd.set_base(base);
        }
    }
}
