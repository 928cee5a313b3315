//! Messages: KLV, ID3, subtitles and whatever else comes in PES packets.

use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{FrameFlags, TimeDelta};
use bytes::{Bytes, BytesMut};

use super::unit::{Stamp, Unit};
use super::video::Output;

/// Bytes of a message that comes in several cells.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A stream of messages.
#[derive(Debug, Default)]
pub(super) struct DataStream {
    /// Messages lie in metadata access unit cells (§2.12.4).
    cells: bool,
    /// The cells of a message that is not whole yet.
    partial: BytesMut,
}

impl DataStream {
    pub(super) fn new(cells: bool) -> Self {
        Self { cells, partial: BytesMut::new() }
    }

    /// Bytes that are held.
    pub(super) fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Drops what waits.
    pub(super) fn discard(&mut self) {
        self.partial = BytesMut::new();
    }

    /// Takes the payload of a PES packet.
    pub(super) fn push(&mut self, payload: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) {
        let Some(stamp) = stamp else {
            out.counters.without_time = out.counters.without_time.saturating_add(1);
            return;
        };
        if !self.cells {
            return message(payload, stamp, out);
        }
        let mut r = Reader::new(&payload);
        while !r.is_empty() {
            if self.cell(&mut r, stamp, out).is_err() {
                out.counters.bad_access_units = out.counters.bad_access_units.saturating_add(1);
                return self.discard();
            }
        }
    }

    fn cell(&mut self, r: &mut Reader<'_>, stamp: Stamp, out: &mut Output<'_>) -> DecodeResult<()> {
        r.u16("metadata service")?;
        let flags = r.u8("metadata cell flags")?;
        let len = r.u16("metadata cell length")?;
        let data = r.bytes(usize::from(len), "metadata cell")?;
        let (first, last) = (flags & 0x80 != 0, flags & 0x40 != 0);
        if first {
            self.discard();
        }
        if self.partial.len().saturating_add(data.len()) > MAX_MESSAGE_BYTES {
            return Err(r.malformed("metadata cell"));
        }
        self.partial.extend_from_slice(data);
        if last {
            message(self.partial.split().freeze(), stamp, out);
        }
        Ok(())
    }
}

pub(super) fn message(payload: Bytes, stamp: Stamp, out: &mut Output<'_>) {
    if !payload.is_empty() {
        out.units.push(Unit { stamp, duration: TimeDelta::ZERO, flags: FrameFlags::KEYFRAME, payload });
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::Timestamp;

    use super::*;
    use crate::ts::demux::Counters;

    #[test]
    fn iso_13818_1_2_12_4_cells_are_joined() {
        let (mut units, mut counters) = (Vec::new(), Counters::default());
        let mut out = Output { units: &mut units, counters: &mut counters, refused: &mut None };
        let stamp = Stamp { dts: Timestamp::ZERO, pts: Timestamp::ZERO, clamped: false };
        let mut stream = DataStream::new(true);
        let two = Bytes::from_static(b"\0\0\xCF\0\x03one\0\x01\x8F\0\x02tw");
        stream.push(two, Some(stamp), &mut out);
        stream.push(Bytes::from_static(b"\0\x02\x4F\0\x01o"), Some(stamp), &mut out);
        stream.push(Bytes::from_static(b"\0\x02\xCF\0\x09short"), Some(stamp), &mut out);
        stream.push(Bytes::from_static(b"late"), None, &mut out);
        let payloads: Vec<_> = units.iter().map(|unit| &unit.payload[..]).collect();
        assert_eq!(payloads, [&b"one"[..], b"two"]);
        assert_eq!((counters.bad_access_units, counters.without_time), (1, 1));
    }
}
