//! VP8 (RFC 7741).

use arcly_core::wire::{DecodeResult, Reader};

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// `X`: a byte of extension flags follows.
const EXTENDED: u8 = 0x80;
/// `S`: the start of a partition.
const START: u8 = 0x10;
/// Bytes of the descriptor that is written.
const DESCRIPTOR: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Depacketizer(Assembly);

impl Depacketizer {
    pub(super) fn held(&self) -> usize {
        self.0.held()
    }

    pub(super) const fn lost(&mut self) {
        self.0.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let body = body(&payload.data).map_err(|error| error.in_closed_unit(0));
        self.0.push(payload, body, out)
    }
}

/// Whether a packet begins a frame, and what is behind its descriptor.
fn body(data: &[u8]) -> DecodeResult<(bool, &[u8])> {
    let mut r = Reader::new(data);
    let first = r.u8("vp8 descriptor")?;
    if first & EXTENDED != 0 {
        let flags = r.u8("vp8 extension")?;
        if flags & 0x80 != 0 && r.u8("vp8 picture id")? & 0x80 != 0 {
            r.u8("vp8 picture id")?;
        }
        if flags & 0x40 != 0 {
            r.u8("vp8 tl0picidx")?;
        }
        if flags & 0x30 != 0 {
            r.u8("vp8 tid")?;
        }
    }
    if r.is_empty() {
        return Err(r.malformed("vp8 payload"));
    }
    Ok((first & START != 0 && first & 7 == 0, r.rest()))
}

#[derive(Debug, Default)]
pub(super) struct Packetizer {
    picture: u16,
}

impl Packetizer {
    pub(super) fn packetize(&mut self, data: &[u8], room: usize, sink: &mut dyn PacketSink) {
        self.picture = self.picture.wrapping_add(1) & 0x7FFF;
        let [high, low] = self.picture.to_be_bytes();
        let mut pieces = data.chunks(room.saturating_sub(DESCRIPTOR).max(1)).peekable();
        let mut start = START;
        while let Some(piece) = pieces.next() {
            let descriptor = [EXTENDED | core::mem::take(&mut start), 0x80, 0x80 | high, low];
            sink.packet(pieces.peek().is_none(), 0, &[&descriptor, piece]);
        }
    }
}
