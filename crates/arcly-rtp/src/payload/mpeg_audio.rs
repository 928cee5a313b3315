//! MPEG audio (RFC 2250 §3.5).

use arcly_codec::mpeg_audio::FrameHeader;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{FrameFlags, Timescale};

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// Bytes before the audio: zeros, and where in its frame a fragment lies.
const HEADER: usize = 4;

#[derive(Debug)]
pub(super) struct Depacketizer {
    clock_rate: u32,
    assembly: Assembly,
    expected: usize,
}

impl Depacketizer {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, assembly: Assembly::default(), expected: 0 }
    }

    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        drop(self.assembly.end());
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let mut r = Reader::new(&payload.data);
        let header = r.array::<HEADER>("mpeg audio header").map_err(|error| error.in_closed_unit(0))?;
        let offset = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if offset > 0 {
            return self.goes_on(payload, offset, r.rest(), out);
        }
        drop(self.assembly.end());
        let mut ticks = payload.ticks;
        while !r.is_empty() {
            let rest = r.rest();
            let frame = FrameHeader::decode(rest).map_err(|error| error.in_closed_unit(r.position()))?;
            if frame.frame_len == 0 {
                return Err(r.malformed("mpeg audio frame"));
            }
            if frame.frame_len > rest.len() {
                // Only a frame alone may go on in the next packet.
                self.expected = frame.frame_len;
                self.assembly.begin(ticks, true);
                return self.assembly.append(rest);
            }
            let data = r.bytes(frame.frame_len, "mpeg audio frame")?;
            out.push(Unit {
                ticks,
                data: payload.data.slice_ref(data),
                corrupt: false,
                flags: FrameFlags::empty(),
            });
            let clock = Timescale::new(self.clock_rate).unwrap_or(Timescale::MPEG);
            ticks = ticks.saturating_add(frame.duration().to_ticks(clock));
        }
        Ok(())
    }

    fn goes_on(
        &mut self,
        payload: &Payload,
        offset: usize,
        data: &[u8],
        out: &mut Vec<Unit>,
    ) -> DecodeResult<()> {
        let held = self.assembly.held();
        if held == 0 {
            return Ok(());
        }
        if held != offset || held.saturating_add(data.len()) > self.expected {
            drop(self.assembly.end());
            return Err(DecodeError::Malformed { what: "mpeg audio fragment offset", offset: 2 });
        }
        self.assembly.begin(payload.ticks, true);
        self.assembly.append(data)?;
        if self.assembly.held() == self.expected {
            self.assembly.complete(out);
        }
        Ok(())
    }
}

pub(super) fn packetize(data: &[u8], room: usize, sink: &mut dyn PacketSink) {
    let mut offset = 0_usize;
    for piece in data.chunks(room.saturating_sub(HEADER).max(1)) {
        let [high, low] = u16::try_from(offset).unwrap_or(u16::MAX).to_be_bytes();
        sink.packet(offset == 0, 0, &[&[0, 0, high, low], piece]);
        offset = offset.saturating_add(piece.len());
    }
}
