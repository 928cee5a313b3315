//! Loss lists (draft-sharabayko-srt §3.2.5, appendix A).

use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut as _, BytesMut};
use smallvec::SmallVec;

use super::{HEADER_BYTES, SeqNumber, SeqRange, UDP_HEADERS};

/// Says that a number is the first of a range, and the next word the last.
const RANGE: u32 = 1 << 31;

/// Packets that are missing. A received list is no longer than its datagram; its *ranges* may name 2³⁰ packets each, so
/// work on it goes by ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossList {
    ranges: SmallVec<[SeqRange; 4]>,
}

impl LossList {
    /// Words that a list may have for its packet to fit into `mss` bytes, IP and UDP headers counted.
    #[must_use]
    pub const fn capacity(mss: usize) -> usize {
        mss.saturating_sub(UDP_HEADERS).saturating_sub(HEADER_BYTES) / 4
    }

    /// Words that the list takes: one for a single packet, two for a range.
    #[must_use]
    pub fn words(&self) -> usize {
        self.ranges.iter().map(|range| if range.len() == 1 { 1 } else { 2 }).sum()
    }

    /// Adds a range, unless the list would take more than `capacity` words: then it stays as it is, and the answer is
    /// false.
    #[must_use]
    pub fn push(&mut self, range: SeqRange, capacity: usize) -> bool {
        let words = self.words().saturating_add(if range.len() == 1 { 1 } else { 2 });
        if words > capacity {
            return false;
        }
        self.ranges.push(range);
        true
    }

    /// What is missing, in the order of the packet: nothing says that it rises, or that ranges do not overlap.
    #[must_use]
    pub fn ranges(&self) -> &[SeqRange] {
        &self.ranges
    }

    /// True when nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        let mut list = Self::default();
        loop {
            let first = r.u32("loss list")?;
            let range = if first & RANGE == 0 {
                SeqRange::single(SeqNumber::new(first))
            } else {
                let last = r.u32("loss range")?;
                let range = SeqRange::new(SeqNumber::new(first), SeqNumber::new(last));
                range.filter(|_| last & RANGE == 0).ok_or_else(|| r.malformed("loss range"))?
            };
            list.ranges.push(range);
            if r.is_empty() {
                return Ok(list);
            }
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        for range in &self.ranges {
            if range.len() == 1 {
                out.put_u32(range.first().value());
            } else {
                out.put_u32(range.first().value() | RANGE);
                out.put_u32(range.last().value());
            }
        }
    }
}

impl FromIterator<SeqRange> for LossList {
    fn from_iter<I: IntoIterator<Item = SeqRange>>(ranges: I) -> Self {
        Self { ranges: ranges.into_iter().collect() }
    }
}
