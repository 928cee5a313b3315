//! AC-3 (RFC 4184).

use arcly_codec::ac3::FrameHeader;
use arcly_core::FrameFlags;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// Bytes before the audio: the frame type, and how many frames or fragments there are.
const HEADER: usize = 2;
/// One or more whole frames.
const WHOLE: u8 = 0;
/// A first fragment that has the first five eighths of its frame.
const FIRST_LARGE: u8 = 1;
/// A first fragment that has less.
const FIRST_SMALL: u8 = 2;
/// Another fragment.
const FURTHER: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Depacketizer {
    assembly: Assembly,
    /// Fragments of the frame that have not come.
    left: u8,
}

impl Depacketizer {
    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        drop(self.assembly.end());
        self.left = 0;
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let mut r = Reader::new(&payload.data);
        let [kind, count] = r.array::<HEADER>("ac3 header").map_err(|error| error.in_closed_unit(0))?;
        match kind & 3 {
            WHOLE => self.frames(payload, count, r, out),
            FURTHER => self.further(payload, r.rest(), out),
            _ => {
                drop(self.assembly.end());
                self.left = count.saturating_sub(1);
                self.assembly.begin(payload.ticks, true);
                self.assembly.append(r.rest())
            }
        }
    }

    fn frames(
        &mut self,
        payload: &Payload,
        count: u8,
        mut r: Reader<'_>,
        out: &mut Vec<Unit>,
    ) -> DecodeResult<()> {
        self.lost();
        let mut ticks = payload.ticks;
        for _ in 0..count.max(1) {
            let at = r.position();
            let frame = FrameHeader::decode(r.rest()).map_err(|error| error.in_closed_unit(at))?;
            let data = r.bytes(frame.frame_len, "ac3 frame").map_err(|error| error.in_closed_unit(at))?;
            out.push(Unit {
                ticks,
                data: payload.data.slice_ref(data),
                corrupt: false,
                flags: FrameFlags::empty(),
            });
            // The clock of the packets is that of the samples.
            ticks = ticks.saturating_add(frame.samples.into());
        }
        Ok(())
    }

    fn further(&mut self, payload: &Payload, data: &[u8], out: &mut Vec<Unit>) -> DecodeResult<()> {
        let Some(left) = self.left.checked_sub(1).filter(|_| !self.assembly.ends_before(payload.ticks))
        else {
            self.lost();
            return Err(DecodeError::Malformed { what: "ac3 fragment without start", offset: 0 });
        };
        self.left = left;
        self.assembly.begin(payload.ticks, true);
        self.assembly.append(data)?;
        if left == 0 {
            self.assembly.complete(out);
        }
        Ok(())
    }
}

pub(super) fn packetize(data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let room = room.saturating_sub(HEADER).max(1);
    if data.len() <= room {
        return sink.packet(true, 0, &[&[WHOLE, 1], data]);
    }
    let count = u8::try_from(data.len().div_ceil(room)).unwrap_or(u8::MAX);
    let large = room.saturating_mul(8) >= data.len().saturating_mul(5);
    let mut kind = if large { FIRST_LARGE } else { FIRST_SMALL };
    let mut pieces = data.chunks(room).peekable();
    while let Some(piece) = pieces.next() {
        sink.packet(pieces.peek().is_none(), 0, &[&[kind, count], piece]);
        kind = FURTHER;
    }
}
