//! Formats without headers of their own: samples, Opus, transport packets, KLV.

use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{CodecConfig, FrameFlags};

use super::assembly::Assembly;
use super::{Encoding, PacketSink, Payload, Unit};

/// Bytes of a transport packet, and what it begins with (ISO/IEC 13818-1).
const TS_PACKET: usize = 188;
const TS_SYNC: u8 = 0x47;
/// Transport packets in one packet on paths with the usual MTU: 1 316 bytes.
pub const TS_PACKETS_PER_PACKET: usize = 7;

/// A packet is a unit.
pub(super) fn whole(payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
    if payload.data.is_empty() {
        return Err(DecodeError::Malformed { what: "empty payload", offset: 0 });
    }
    out.push(Unit {
        ticks: payload.ticks,
        data: payload.data.clone(),
        corrupt: false,
        flags: FrameFlags::empty(),
    });
    Ok(())
}

/// A packet is a number of transport packets.
pub(super) fn transport_stream(payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
    let data = &payload.data;
    let synced = data.iter().step_by(TS_PACKET).all(|byte| *byte == TS_SYNC);
    if !data.len().is_multiple_of(TS_PACKET) || !synced {
        return Err(DecodeError::Malformed { what: "transport packets", offset: 0 });
    }
    whole(payload, out)
}

/// Messages that may come in several packets; the marker is on the last (RFC 6597 §4).
#[derive(Debug, Default)]
pub(super) struct Messages(Assembly);

impl Messages {
    pub(super) fn held(&self) -> usize {
        self.0.held()
    }

    pub(super) const fn lost(&mut self) {
        self.0.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        /// A universal label (SMPTE 336): what every message begins with.
        const LABEL: [u8; 4] = [0x06, 0x0E, 0x2B, 0x34];
        self.0.push(payload, Ok((payload.data.starts_with(&LABEL), &payload.data)), out)
    }
}

/// A message in as many packets as it takes.
pub(super) fn fragments(data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let mut pieces = data.chunks(room).peekable();
    while let Some(piece) = pieces.next() {
        sink.packet(pieces.peek().is_none(), 0, &[piece]);
    }
}

/// Whole transport packets, at most [`TS_PACKETS_PER_PACKET`] in each. What is no whole packet at the end is left out.
pub fn packetize_transport_stream(data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let per_packet = (room / TS_PACKET).clamp(1, TS_PACKETS_PER_PACKET);
    let whole = (data.len() / TS_PACKET).saturating_mul(TS_PACKET);
    let data = data.get(..whole).unwrap_or_default();
    for piece in data.chunks(per_packet.saturating_mul(TS_PACKET)) {
        sink.packet(false, 0, &[piece]);
    }
}

/// Samples in as many packets as it takes, cut between samples of all channels.
pub(super) fn packetize(
    encoding: &Encoding,
    config: &CodecConfig,
    data: &[u8],
    room: usize,
    sink: &mut dyn PacketSink,
) {
    let channels = match config {
        CodecConfig::Pcm(config) => usize::from(config.channels.max(1)),
        _ => 1,
    };
    let bytes = match encoding {
        Encoding::L16 => 2,
        Encoding::L24 => 3,
        _ => 1,
    };
    // A byte of G.722 is two samples, and one tick of its clock.
    let sample = channels.saturating_mul(bytes);
    let per_packet = room.checked_div(sample).unwrap_or(1).max(1);
    let step = u32::try_from(per_packet).unwrap_or(u32::MAX);
    let mut ticks = 0_u32;
    for piece in data.chunks(per_packet.saturating_mul(sample)) {
        sink.packet(false, ticks, &[piece]);
        ticks = ticks.saturating_add(step);
    }
}
