//! VP8 (RFC 7741).

use arcly_codec::TemporalLayers;
use arcly_core::FrameFlags;
use arcly_core::wire::{DecodeResult, Reader};

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// `X`: a byte of extension flags follows.
const EXTENDED: u8 = 0x80;
/// `S`: the start of a partition.
const START: u8 = 0x10;
/// `N`: no frame refers to this one.
const NON_REFERENCE: u8 = 0x20;
/// `T`: a temporal layer.
const TEMPORAL: u8 = 0x20;
/// `Y`: the frame refers to the last one of the lowest layer only.
const SYNC: u8 = 0x20;
/// Bytes of the descriptor that is written.
const DESCRIPTOR: usize = 1;

#[derive(Debug, Default)]
pub(super) struct Depacketizer {
    assembly: Assembly,
    layers: TemporalLayers,
}

/// What a packet says of itself and of its frame.
struct Descriptor<'a> {
    starts: bool,
    /// No other frame refers to this one.
    disposable: bool,
    /// The temporal layer, and whether it can be gone over to here.
    layer: Option<(u8, bool)>,
    body: &'a [u8],
}

impl Depacketizer {
    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        self.layers.lost();
        self.assembly.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let descriptor = descriptor(&payload.data).map_err(|error| error.in_closed_unit(0));
        if self.assembly.ends_before(payload.ticks) {
            self.assembly.complete(out);
        }
        if let Some(found) = descriptor.as_ref().ok().filter(|found| found.starts) {
            let layer = found.layer.map(|(id, sync)| self.layers.with_layer_sync(id, sync));
            let mut flags = layer.unwrap_or_default();
            flags.set(FrameFlags::DISPOSABLE, found.disposable);
            self.assembly.set_flags(flags);
        }
        self.assembly.push(payload, descriptor.map(|found| (found.starts, found.body)), out)
    }
}

fn descriptor(data: &[u8]) -> DecodeResult<Descriptor<'_>> {
    let mut r = Reader::new(data);
    let first = r.u8("vp8 descriptor")?;
    let mut layer = None;
    if first & EXTENDED != 0 {
        let flags = r.u8("vp8 extension")?;
        if flags & 0x80 != 0 && r.u8("vp8 picture id")? & 0x80 != 0 {
            r.u8("vp8 picture id")?;
        }
        if flags & 0x40 != 0 {
            r.u8("vp8 tl0picidx")?;
        }
        if flags & 0x30 != 0 {
            let tid = r.u8("vp8 tid")?;
            layer = (flags & TEMPORAL != 0).then_some((tid >> 6, tid & SYNC != 0));
        }
    }
    if r.is_empty() {
        return Err(r.malformed("vp8 payload"));
    }
    let starts = first & START != 0 && first & 7 == 0;
    Ok(Descriptor { starts, disposable: first & NON_REFERENCE != 0, layer, body: r.rest() })
}

/// Packets of a frame. They say nothing of it but where it begins: what would number pictures would be another for each viewer that some of
/// them are left out for.
pub(super) fn packetize(data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let mut pieces = data.chunks(room.saturating_sub(DESCRIPTOR).max(1)).peekable();
    let mut start = START;
    while let Some(piece) = pieces.next() {
        let descriptor = [core::mem::take(&mut start)];
        sink.packet(pieces.peek().is_none(), 0, &[&descriptor, piece]);
    }
}
