//! Payloads into packets.
//!
//! The frame's bytes are copied once, into their packets; the lengths before NAL units become start codes there, as both
//! are four bytes long.

use arcly_codec::nal::{LengthSize, length_prefixed};
use bytes::BytesMut;

use crate::ts::packet::{Adaptation, BODY_LEN, Has, PACKET_LEN, header};

/// Bytes of a packet's header.
const HEADER_LEN: usize = PACKET_LEN - BODY_LEN;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What goes into packets of one identifier: a PES packet, or a section behind its pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketData<'a> {
    pub(super) pid: u16,
    pub(super) adaptation: Adaptation,
    /// Made for it: the PES header, and what stands before the frame.
    pub(super) head: &'a [u8],
    /// The frame.
    pub(super) body: &'a [u8],
    /// The frame is NAL units with lengths, and becomes a byte stream.
    pub(super) nal_units: bool,
}

impl PacketData<'_> {
    fn len(&self) -> usize {
        self.head.len().saturating_add(self.body.len())
    }

    /// Bytes of the payload that the first packet has room for.
    fn first_room(&self) -> usize {
        BODY_LEN.saturating_sub(self.adaptation.encoded_len())
    }

    /// How many packets it takes.
    pub(super) fn packets(&self) -> usize {
        self.len().saturating_sub(self.first_room()).div_ceil(BODY_LEN).saturating_add(1)
    }

    /// Appends the packets; `continuity` is the counter of the last packet before.
    pub(super) fn put(&self, continuity: &mut u8, out: &mut BytesMut) {
        let start = out.len();
        let len = self.packets().saturating_mul(PACKET_LEN);
        out.resize(start.saturating_add(len), 0);
        let Some(made) = out.get_mut(start..) else { return };
        let mut source = Source { head: self.head, body: self.body };
        let (packets, _) = made.as_chunks_mut::<PACKET_LEN>();
        let mut unit_start = true;
        for packet in packets {
            *continuity = continuity.wrapping_add(1) & 0x0F;
            let (start, body) = split(packet);
            if !unit_start && let Some(chunk) = source.whole() {
                *start = header(self.pid, false, *continuity, Has::Payload);
                *body = *chunk;
                continue;
            }
            let adaptation = if unit_start { self.adaptation } else { Adaptation::default() };
            let has = source.fill(&adaptation, body);
            *start = header(self.pid, unit_start, *continuity, has);
            unit_start = false;
        }
        if self.nal_units {
            self.put_start_codes(made);
        }
    }

    /// Writes start codes over the lengths.
    fn put_start_codes(&self, made: &mut [u8]) {
        let mut at = self.head.len();
        for unit in length_prefixed(self.body, LengthSize::Four) {
            let Ok(unit) = unit else { return };
            for (index, byte) in (at..).zip(START_CODE) {
                if let Some(place) = made.get_mut(self.place(index)) {
                    *place = byte;
                }
            }
            at = at.saturating_add(START_CODE.len()).saturating_add(unit.len());
        }
    }

    /// Where a byte of the payload is in its packets.
    fn place(&self, index: usize) -> usize {
        let len = self.len();
        let room = self.first_room();
        if len <= room {
            // Stuffing stands before the payload.
            return PACKET_LEN.saturating_sub(len).saturating_add(index);
        }
        let Some(beyond) = index.checked_sub(room) else {
            return PACKET_LEN.saturating_sub(room).saturating_add(index);
        };
        let (packet, offset) = (beyond / BODY_LEN, beyond % BODY_LEN);
        let rest = len.saturating_sub(room).saturating_sub(packet.saturating_mul(BODY_LEN)).min(BODY_LEN);
        let start = packet.saturating_add(2).saturating_mul(PACKET_LEN).saturating_sub(rest);
        start.saturating_add(offset)
    }
}

/// What is left to be put into packets.
struct Source<'a> {
    head: &'a [u8],
    body: &'a [u8],
}

impl<'a> Source<'a> {
    /// A packet's worth of the frame, when that is what comes next.
    fn whole(&mut self) -> Option<&'a [u8; BODY_LEN]> {
        if !self.head.is_empty() {
            return None;
        }
        let (chunk, rest) = self.body.split_first_chunk()?;
        self.body = rest;
        Some(chunk)
    }

    /// Fills a packet's body: adaptation field and stuffing first, as much as is needed, then payload.
    fn fill(&mut self, adaptation: &Adaptation, out: &mut [u8; BODY_LEN]) -> Has {
        let left = self.head.len().saturating_add(self.body.len());
        let stuffing = BODY_LEN.saturating_sub(left).max(adaptation.encoded_len());
        let (field, payload) = out.split_at_mut_checked(stuffing).unwrap_or_default();
        if !field.is_empty() {
            adaptation.encode(field);
        }
        let mut room = payload;
        for part in [&mut self.head, &mut self.body] {
            let count = part.len().min(room.len());
            let (now, later) = part.split_at_checked(count).unwrap_or_default();
            let (to, rest) = room.split_at_mut_checked(count).unwrap_or_default();
            to.copy_from_slice(now);
            (*part, room) = (later, rest);
        }
        if stuffing == 0 { Has::Payload } else { Has::Both }
    }
}

/// A packet's header and body.
fn split(packet: &mut [u8; PACKET_LEN]) -> (&mut [u8; HEADER_LEN], &mut [u8; BODY_LEN]) {
    const { assert!(HEADER_LEN + BODY_LEN == PACKET_LEN) };
    let (start, rest) = packet.split_first_chunk_mut().expect("a packet is longer than its header");
    (start, rest.first_chunk_mut().expect("the lengths add up"))
}

/// Appends a packet that holds the program's clock and nothing else. It does not count.
pub(super) fn put_clock(pid: u16, continuity: u8, pcr: u64, out: &mut BytesMut) {
    let mut packet = [0; PACKET_LEN];
    let (start, body) = split(&mut packet);
    *start = header(pid, false, continuity, Has::Adaptation);
    Adaptation { pcr: Some(pcr), ..Adaptation::default() }.encode(body);
    out.extend_from_slice(&packet);
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use super::*;
    use crate::ts::packet::Packet;

    /// The payload and the number of packets, taken apart again.
    fn unpacked(out: &[u8], first: u8) -> (Vec<u8>, usize) {
        let (mut payload, mut count) = (Vec::new(), 0);
        for bytes in out.chunks_exact(PACKET_LEN) {
            let packet = Packet::decode(bytes.try_into().unwrap()).unwrap();
            assert_eq!((packet.pid, packet.unit_start), (0x100, count == 0));
            assert_eq!(packet.continuity, (first.wrapping_add(u8::try_from(count % 16).unwrap()) + 1) & 15);
            payload.extend_from_slice(packet.payload.unwrap_or_default());
            count += 1;
        }
        assert_eq!(out.len() % PACKET_LEN, 0);
        (payload, count)
    }

    #[test]
    fn any_length_comes_back_whatever_the_field() {
        for pcr in [None, Some(5)] {
            for random_access in [false, true] {
                let adaptation = Adaptation { discontinuity: false, random_access, pcr };
                for len in (0..=600).chain([100_000]) {
                    let bytes: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
                    let (head, body) = bytes.split_at(bytes.len().min(30));
                    let data = PacketData { pid: 0x100, adaptation, head, body, nal_units: false };
                    let (mut continuity, mut out) = (9, BytesMut::new());
                    data.put(&mut continuity, &mut out);
                    let (payload, count) = unpacked(&out, 9);
                    assert_eq!((&payload, count), (&bytes, data.packets()), "{len} {adaptation:?}");
                    let first = Packet::decode(out.first_chunk().unwrap()).unwrap();
                    assert_eq!(first.adaptation, adaptation);
                }
            }
        }
    }

    #[test]
    fn lengths_become_start_codes_wherever_they_are() {
        for gap in 1..400_usize {
            let unit = |len: usize| [&u32::try_from(len).unwrap().to_be_bytes()[..], &vec![7; len]].concat();
            let body = [unit(gap), unit(3), unit(2 * gap), unit(1)].concat();
            let expect = [vec![9; 40], vec![0, 0, 0, 1], vec![7; gap], vec![0, 0, 0, 1], vec![7; 3]].concat();
            let adaptation = Adaptation { pcr: Some(0), ..Adaptation::default() };
            let data = PacketData { pid: 0x100, adaptation, head: &[9; 40], body: &body, nal_units: true };
            let (mut continuity, mut out) = (0, BytesMut::new());
            data.put(&mut continuity, &mut out);
            let (payload, _) = unpacked(&out, 0);
            assert_eq!(payload[..expect.len()], expect);
            assert_eq!(payload[payload.len() - 5..], [0, 0, 0, 1, 7], "{gap}");
        }
    }
}
