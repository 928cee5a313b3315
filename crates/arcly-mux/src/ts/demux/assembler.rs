//! PES packets from transport packets, and what the continuity counter says of losses.

use arcly_codec::nal::{MAX_ACCESS_UNIT_BYTES, MAX_REMOVED_BYTES};
use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::{Buf, BytesMut};

use crate::ts::packet::Packet;
use crate::ts::pes::{self, PesHeader};

/// Bytes of one PES packet, from its start code on: the largest access unit, with what is taken out of it.
pub const MAX_PES_BYTES: usize = MAX_ACCESS_UNIT_BYTES + MAX_REMOVED_BYTES;
/// Room that is made at once: for a packet of unknown length to begin with, and for as many small ones as it takes.
const FIRST_GUESS: usize = 4 << 10;

/// What a continuity counter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It follows its predecessor, or may jump.
    Next,
    /// Packets are missing before it.
    Gap,
    /// It may be the one before once more.
    Repeated,
}

/// The continuity counter of one packet identifier (§2.4.3.3).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter(Option<u8>);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) const fn check(&mut self, packet: &Packet<'_>) -> Continuity {
        // Without payload the counter stands still.
        if packet.payload.is_none() {
            if packet.adaptation.discontinuity {
                self.0 = Some(packet.continuity);
            }
            return Continuity::Next;
        }
        let last = self.0.replace(packet.continuity);
        match last {
            Some(last) if !packet.adaptation.discontinuity => {
                if packet.continuity == last {
                    Continuity::Repeated
                } else if packet.continuity == last.wrapping_add(1) & 0x0F {
                    Continuity::Next
                } else {
                    Continuity::Gap
                }
            }
            _ => Continuity::Next,
        }
    }
}

/// A PES packet, whole or as much of it as came.
#[derive(Debug)]
pub(super) struct Pes {
    pub(super) header: PesHeader,
    pub(super) payload: BytesMut,
    /// Part of it is missing.
    pub(super) corrupt: bool,
}

/// Puts the PES packets of one packet identifier together.
#[derive(Debug, Default)]
pub(super) struct PesAssembler {
    buffer: BytesMut,
    /// A packet has begun.
    open: bool,
    expected: Option<usize>,
    /// Bytes of the largest packet of late, so that the next finds room at once.
    typical: usize,
}

impl PesAssembler {
    /// Bytes that are held.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the packet that has begun; `corrupt` when the rest of it is lost.
    pub(super) fn finish(&mut self, corrupt: bool) -> DecodeResult<Option<Pes>> {
        if !core::mem::replace(&mut self.open, false) {
            return Ok(None);
        }
        self.typical = (self.typical.saturating_mul(7) / 8).max(self.buffer.len());
        let mut payload = self.buffer.split();
        let (header, rest) = PesHeader::decode(&payload)?;
        let short = self.expected.is_some_and(|expected| payload.len() < expected);
        let skip = payload.len().saturating_sub(rest.len());
        payload.advance(skip);
        Ok(Some(Pes { header, payload, corrupt: corrupt || short }))
    }

    /// Drops the packet that has begun.
    pub(super) fn discard(&mut self) {
        self.open = false;
        self.buffer = BytesMut::new();
    }

    /// Begins a packet; the one before has been ended. True when it says that it is whole, and is to be ended.
    pub(super) fn begin(&mut self, payload: &[u8]) -> DecodeResult<bool> {
        self.open = true;
        self.expected = None;
        self.buffer.clear();
        self.append(payload)
    }

    /// Goes on with the packet that has begun, if one has. True when it says that it is whole, and is to be ended.
    pub(super) fn append(&mut self, payload: &[u8]) -> DecodeResult<bool> {
        if !self.open {
            return Ok(false);
        }
        let started = self.buffer.len() >= pes::PREFIX;
        if self.buffer.len().saturating_add(payload.len()) > MAX_PES_BYTES {
            self.discard();
            return Err(DecodeError::LimitExceeded { what: "pes", limit: MAX_PES_BYTES as u64 });
        }
        if self.buffer.is_empty() {
            self.make_room(payload);
        }
        self.buffer.extend_from_slice(payload);
        if !started && self.buffer.len() >= pes::PREFIX {
            self.expected = pes::packet_len(&self.buffer).inspect_err(|_| self.open = false)?;
        }
        match self.expected {
            Some(expected) if self.buffer.len() >= expected => {
                self.buffer.truncate(expected);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Makes room for the packet that begins with these bytes, where there is none left behind the ones before: a frame of sound of a
    /// hundred bytes does not keep four kibibytes for as long as it is in a log.
    fn make_room(&mut self, payload: &[u8]) {
        let said = pes::packet_len(payload).ok().flatten();
        let room = said.unwrap_or(if self.typical == 0 { FIRST_GUESS } else { self.typical });
        if self.buffer.capacity() < room {
            self.buffer.reserve(room.clamp(FIRST_GUESS, MAX_PES_BYTES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::packet::Adaptation;

    fn packet(continuity: u8, discontinuity: bool, payload: Option<&[u8]>) -> Packet<'_> {
        let adaptation = Adaptation { discontinuity, ..Adaptation::default() };
        Packet {
            error: false,
            unit_start: false,
            pid: 256,
            scrambled: false,
            continuity,
            adaptation,
            payload,
        }
    }

    #[test]
    fn m23_what_the_counter_says() {
        let mut counter = Counter::default();
        let some = Some(&b"x"[..]);
        let mut check = |continuity, jump, payload| counter.check(&packet(continuity, jump, payload));
        assert_eq!(check(14, false, some), Continuity::Next, "the first is as good as any");
        assert_eq!(check(15, false, some), Continuity::Next);
        assert_eq!(check(0, false, some), Continuity::Next);
        assert_eq!(check(0, false, some), Continuity::Repeated);
        assert_eq!(check(0, false, None), Continuity::Next, "no payload, no step");
        assert_eq!(check(1, false, some), Continuity::Next);
        assert_eq!(check(3, false, some), Continuity::Gap);
        assert_eq!(check(9, true, some), Continuity::Next, "announced");
        assert_eq!(check(4, true, None), Continuity::Next);
        assert_eq!(check(5, false, some), Continuity::Next);
    }

    #[test]
    fn m21_a_packet_that_never_ends_is_dropped_at_eight_mebibytes() {
        let mut assembler = PesAssembler::default();
        let piece = [0; 184];
        assert_eq!(assembler.begin(&[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0]), Ok(false));
        let mut errors = 0;
        for _ in 0..(100 << 20) / piece.len() {
            errors += usize::from(assembler.append(&piece).is_err());
            assert!(assembler.buffer.capacity() <= 2 * MAX_PES_BYTES);
        }
        assert_eq!((errors, assembler.buffered()), (1, 0));
        assert_eq!(assembler.begin(&[0, 0, 1, 0xC0, 0, 4, 0x80, 0, 0, 7, 0xFF]), Ok(true));
        let whole = assembler.finish(false).unwrap().unwrap();
        assert_eq!((&whole.payload[..], whole.corrupt), (&[7][..], false));
    }

    #[test]
    fn small_packets_share_their_room() {
        let mut assembler = PesAssembler::default();
        let mut packet = vec![0, 0, 1, 0xC0, 0, 103, 0x80, 0, 0];
        packet.resize(6 + 103, 7);
        let payloads: Vec<_> = (0..100)
            .map(|_| {
                assert_eq!(assembler.begin(&packet), Ok(true));
                assembler.finish(false).unwrap().unwrap().payload
            })
            .collect();
        assert!(payloads.iter().all(|payload| payload[..] == packet[9..]));
        // The first thirty-seven fill four kibibytes, and so do those behind them.
        let starts: Vec<_> = payloads.iter().map(|payload| payload.as_ptr().addr()).collect();
        let apart = starts.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) != packet.len()).count();
        assert!(apart <= 3, "{apart} allocations");
    }

    #[test]
    fn a_packet_that_is_cut_short_is_corrupt() {
        let mut assembler = PesAssembler::default();
        assert_eq!(assembler.begin(&[0, 0, 1, 0xC0, 0, 9, 0x80, 0, 0, 7]), Ok(false));
        let short = assembler.finish(false).unwrap().unwrap();
        assert!(short.corrupt);
        assert!(assembler.finish(false).unwrap().is_none());
        assert!(assembler.begin(&[0, 0, 2, 0xC0, 0, 9]).is_err());
        assert_eq!(assembler.append(&[1]), Ok(false));
    }
}
