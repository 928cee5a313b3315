//! AAC with AU headers (RFC 3640), modes AAC-hbr and AAC-lbr.

use arcly_codec::bits::{BitReader, BitWriter};
use arcly_core::FrameFlags;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// Access units in one packet: more do not fit into any datagram with headers of more than a few bits.
const MAX_UNITS: usize = 64;

/// Bits of the fields in an AU header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuSizes {
    /// `sizelength`: of the size.
    pub size: u8,
    /// `indexlength`: of the first unit's index.
    pub index: u8,
    /// `indexdeltalength`: of the others' distance from their predecessor.
    pub index_delta: u8,
}

impl AuSizes {
    /// Mode AAC-hbr (§3.3.6): what everybody sends.
    pub const HBR: Self = Self { size: 13, index: 3, index_delta: 3 };
    /// Mode AAC-lbr (§3.3.5).
    pub const LBR: Self = Self { size: 6, index: 2, index_delta: 2 };

    /// Bits of a header; `None` when they cannot be read.
    fn bits(self, first: bool) -> Option<u32> {
        let index = if first { self.index } else { self.index_delta };
        let fits = (1..=32).contains(&self.size) && index <= 32;
        fits.then(|| u32::from(self.size).saturating_add(index.into()))
    }
}

#[derive(Debug)]
pub(super) struct Depacketizer {
    sizes: AuSizes,
    /// How far units are apart on the packets' clock.
    step: i64,
    /// A unit in several packets, and how long it will be.
    assembly: Assembly,
    expected: usize,
}

/// What the headers say: sizes, and how far each is from the first.
type Units = smallvec::SmallVec<[(usize, i64); 4]>;

impl Depacketizer {
    pub(super) fn new(sizes: AuSizes, samples_per_frame: u32) -> Self {
        Self { sizes, step: samples_per_frame.into(), assembly: Assembly::default(), expected: 0 }
    }

    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        self.assembly.lost();
        drop(self.assembly.end());
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let (units, data) = self.headers(&payload.data).map_err(|error| error.in_closed_unit(0))?;
        if let [(size, _)] = units[..]
            && size > data.len()
        {
            return self.fragment(payload, size, data, out);
        }
        drop(self.assembly.end());
        let mut r = Reader::new(data);
        for (size, index) in units {
            let unit = r.bytes(size, "access unit").map_err(|error| error.in_closed_unit(r.position()))?;
            let ticks = payload.ticks.saturating_add(index.saturating_mul(self.step));
            if !unit.is_empty() {
                out.push(Unit {
                    ticks,
                    data: payload.data.slice_ref(unit),
                    corrupt: false,
                    flags: FrameFlags::empty(),
                });
            }
        }
        Ok(())
    }

    /// A packet with a part of a unit: all parts have its size and timestamp.
    fn fragment(
        &mut self,
        payload: &Payload,
        size: usize,
        data: &[u8],
        out: &mut Vec<Unit>,
    ) -> DecodeResult<()> {
        if self.assembly.ends_before(payload.ticks) || self.expected != size {
            drop(self.assembly.end());
        }
        self.expected = size;
        self.assembly.begin(payload.ticks, true);
        self.assembly.append(data)?;
        if self.assembly.held() >= size || payload.marker {
            let ended = self.assembly.end().filter(|ended| ended.data.len() == size && !ended.damaged);
            let Some(ended) = ended else {
                return Err(DecodeError::Malformed { what: "access unit fragments", offset: 0 });
            };
            out.push(Unit {
                ticks: ended.ticks,
                data: ended.data,
                corrupt: false,
                flags: FrameFlags::empty(),
            });
        }
        Ok(())
    }

    fn headers<'a>(&self, data: &'a Bytes) -> DecodeResult<(Units, &'a [u8])> {
        let mut r = Reader::new(data);
        let bits = u32::from(r.u16("AU-headers-length")?);
        let section = r.bytes(usize::try_from(bits.div_ceil(8)).unwrap_or_default(), "AU headers")?;
        let mut headers = BitReader::new(section);
        let (mut left, mut index, mut units) = (bits, 0_i64, Units::new());
        while let Some(len) = self.sizes.bits(units.is_empty()).filter(|len| *len <= left) {
            if units.len() >= MAX_UNITS {
                return Err(DecodeError::LimitExceeded { what: "access_units", limit: MAX_UNITS as u64 });
            }
            left = left.saturating_sub(len);
            let size = headers.bits(self.sizes.size.into(), "AU-size")?;
            if units.is_empty() {
                headers.bits(self.sizes.index.into(), "AU-Index")?;
            } else {
                let delta = headers.bits(self.sizes.index_delta.into(), "AU-Index-delta")?;
                index = index.saturating_add(i64::from(delta)).saturating_add(1);
            }
            units.push((usize::try_from(size).unwrap_or(usize::MAX), index));
        }
        if units.is_empty() {
            return Err(r.malformed("AU headers"));
        }
        Ok((units, r.rest()))
    }
}

/// A unit in one packet, or in as many as it takes.
pub(super) fn packetize(sizes: AuSizes, data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let Some(bits) = sizes.bits(true) else { return };
    let mut header = BitWriter::new();
    header.bits(16, bits.into());
    header.bits(sizes.size.into(), data.len() as u64).bits(sizes.index.into(), 0).align();
    let header = header.finish();
    let mut pieces = data.chunks(room.saturating_sub(header.len()).max(1)).peekable();
    while let Some(piece) = pieces.next() {
        sink.packet(pieces.peek().is_none(), 0, &[&header, piece]);
    }
}
