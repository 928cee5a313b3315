use arcly_core::FrameFlags;
use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Payload, Unit};

/// Bytes of a unit that is put together of packets: an access unit's bound.
pub const MAX_UNIT_BYTES: usize = arcly_codec::nal::MAX_ACCESS_UNIT_BYTES;
/// Packets that one unit comes in.
pub const MAX_FRAGMENTS: usize = 10_000;

/// A unit that is being put together: the packets with one timestamp.
///
/// A unit is whole when no packet was lost within it and it began with what units begin with.
#[derive(Debug)]
pub(super) struct Assembly {
    ticks: Option<i64>,
    data: BytesMut,
    fragments: usize,
    damaged: bool,
    /// Packets were lost where the next unit may have begun.
    doubt: bool,
    /// How long the last unit was: the next one is given as much room at once, so that it does not grow from packet to packet.
    usual: usize,
    /// What its packets say of it.
    flags: FrameFlags,
}

impl Default for Assembly {
    fn default() -> Self {
        // A stream may be joined in the middle of a unit.
        Self {
            ticks: None,
            data: BytesMut::new(),
            fragments: 0,
            damaged: false,
            doubt: true,
            usual: 0,
            flags: FrameFlags::empty(),
        }
    }
}

/// A unit that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ticks: i64,
    pub(super) data: Bytes,
    pub(super) damaged: bool,
    pub(super) flags: FrameFlags,
}

impl Assembly {
    pub(super) fn held(&self) -> usize {
        self.data.len()
    }

    /// True when nothing of the unit is missing so far.
    pub(super) const fn is_whole(&self) -> bool {
        !self.damaged
    }

    /// The next packet does not belong to the unit.
    pub(super) fn ends_before(&self, ticks: i64) -> bool {
        self.ticks.is_some_and(|current| current != ticks)
    }

    /// A packet with that timestamp comes. `starts`: it can be the first of a unit.
    pub(super) fn begin(&mut self, ticks: i64, starts: bool) {
        if self.ticks.is_none() {
            self.ticks = Some(ticks);
            self.damaged = self.doubt && !starts;
            self.data.reserve(self.usual);
        }
        self.doubt = false;
        self.fragments = self.fragments.saturating_add(1);
    }

    /// Packets are missing before the next one.
    pub(super) const fn lost(&mut self) {
        self.damaged |= self.ticks.is_some();
        self.doubt = true;
    }

    /// What came cannot be understood: the unit lacks it.
    pub(super) const fn damage(&mut self) {
        self.damaged = true;
    }

    /// What the packets say of the unit; of no use once it has ended.
    pub(super) const fn set_flags(&mut self, flags: FrameFlags) {
        self.flags = flags;
    }

    /// The same, with what its end says.
    pub(super) fn add_flags(&mut self, flags: FrameFlags) {
        self.flags |= flags;
    }

    /// Makes sure that so many bytes more fit.
    ///
    /// # Errors
    /// They do not; all that was held is dropped, and what still comes of the unit is as well.
    pub(super) fn check(&mut self, more: usize) -> DecodeResult<()> {
        if self.data.len().saturating_add(more) > MAX_UNIT_BYTES || self.fragments > MAX_FRAGMENTS {
            self.damaged = true;
            self.data = BytesMut::new();
            return Err(DecodeError::LimitExceeded { what: "reassembly", limit: MAX_UNIT_BYTES as u64 });
        }
        Ok(())
    }

    /// The bytes so far, to be added to after [`check`](Self::check).
    pub(super) const fn data(&mut self) -> &mut BytesMut {
        &mut self.data
    }

    /// Appends bytes after [`check`](Self::check)ing that they fit.
    pub(super) fn append(&mut self, bytes: &[u8]) -> DecodeResult<()> {
        self.check(bytes.len())?;
        self.data.put_slice(bytes);
        Ok(())
    }

    /// Takes a packet of a format whose units end with a marker and are of no use unless they are whole: `body` is what it adds,
    /// `starts` whether it can be the first.
    pub(super) fn push(
        &mut self,
        payload: &Payload,
        body: DecodeResult<(bool, &[u8])>,
        out: &mut Vec<Unit>,
    ) -> DecodeResult<()> {
        if self.ends_before(payload.ticks) {
            self.complete(out);
        }
        self.begin(payload.ticks, matches!(body, Ok((true, _))));
        let taken = match body {
            // What is left of a unit that lacks a part is not kept.
            Ok(_) if self.damaged => Ok(()),
            Ok((_, body)) => self.append(body),
            Err(error) => {
                self.damage();
                Err(error)
            }
        };
        if payload.marker {
            self.complete(out);
        }
        taken
    }

    /// Ends the unit and gives it out if it is whole.
    pub(super) fn complete(&mut self, out: &mut Vec<Unit>) {
        if let Some(ended) = self.end().filter(|ended| !ended.damaged && !ended.data.is_empty()) {
            out.push(Unit { ticks: ended.ticks, data: ended.data, corrupt: false, flags: ended.flags });
        }
    }

    /// Ends the unit; `None` when none has begun.
    pub(super) fn end(&mut self) -> Option<Ended> {
        let ticks = self.ticks.take()?;
        self.fragments = 0;
        let damaged = core::mem::take(&mut self.damaged);
        let flags = core::mem::take(&mut self.flags);
        self.usual = self.data.len();
        Some(Ended { ticks, data: self.data.split().freeze(), damaged, flags })
    }
}
