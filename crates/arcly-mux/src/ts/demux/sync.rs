//! Where packets begin.

use arcly_core::wire::DecodeError;
use bytes::{Buf, BytesMut};

use crate::ts::packet::{PACKET_LEN, SYNC_BYTE};

/// Packets in a row that have to begin with the sync byte before they are believed. So sync is found within
/// `SYNC_RUN` × 188 bytes of good data, less than the ten packets that the limits allow.
const SYNC_RUN: usize = 4;
/// Bytes without sync after which this is no transport stream.
pub const MAX_GARBAGE: usize = 1 << 20;

/// Cuts a byte stream into packets, and finds its way back after garbage.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// What is not handed out yet: less than a packet in sync, less than `SYNC_RUN` packets without.
    buffer: BytesMut,
    locked: bool,
    /// Bytes passed over since the last packet.
    garbage: usize,
    /// How often sync was lost, the start not counted.
    losses: u64,
}

/// What lies at the front of the data.
enum Front {
    Packet,
    Garbage(usize),
    /// More is needed to tell.
    Open,
}

impl Sync {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Takes what completes the packet that has begun, and leaves the rest: in sync packets are looked at where they are.
    pub(super) fn complete<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let begun = self.buffer.len();
        if !self.locked || begun == 0 || begun >= PACKET_LEN {
            return data;
        }
        let wanted = PACKET_LEN.saturating_sub(begun).min(data.len());
        let (end, rest) = data.split_at_checked(wanted).unwrap_or((data, &[]));
        self.buffer.extend_from_slice(end);
        rest
    }

    /// The packets at the front of `data`, which follows what was pushed; none unless it is in sync and nothing is held.
    pub(super) fn packets_of<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let run = if self.locked && self.buffer.is_empty() { run_of(data) } else { 0 };
        if run > 0 {
            self.garbage = 0;
        }
        data.get(..run).unwrap_or_default()
    }

    /// Bytes that are held.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// How often sync was lost.
    pub(super) const fn losses(&self) -> u64 {
        self.losses
    }

    /// The packets in what was pushed, as many as there are in a row. `last`: nothing will follow, so that fewer
    /// packets than usual are believed.
    ///
    /// # Errors
    /// [`MAX_GARBAGE`] bytes held no packet.
    pub(super) fn next_run(&mut self, last: bool) -> Result<Option<BytesMut>, DecodeError> {
        loop {
            if self.locked {
                let run = run_of(&self.buffer);
                if run > 0 {
                    self.garbage = 0;
                    return Ok(Some(self.buffer.split_to(run)));
                }
                if self.buffer.len() < PACKET_LEN && self.buffer.first().is_none_or(|b| *b == SYNC_BYTE) {
                    return Ok(None);
                }
                self.locked = false;
                self.losses = self.losses.saturating_add(1);
            }
            match self.front(last) {
                Front::Packet => self.locked = true,
                Front::Garbage(count) => self.skip(count)?,
                Front::Open => return Ok(None),
            }
        }
    }

    fn front(&self, last: bool) -> Front {
        let Some(at) = memchr::memchr(SYNC_BYTE, &self.buffer) else {
            return if self.buffer.is_empty() { Front::Open } else { Front::Garbage(self.buffer.len()) };
        };
        if at > 0 {
            return Front::Garbage(at);
        }
        for packet in 1..SYNC_RUN {
            match self.buffer.get(packet.saturating_mul(PACKET_LEN)) {
                Some(&SYNC_BYTE) => {}
                Some(_) => return Front::Garbage(1),
                None if last && self.buffer.len() >= PACKET_LEN => return Front::Packet,
                None if last => return Front::Garbage(self.buffer.len()),
                None => return Front::Open,
            }
        }
        Front::Packet
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.buffer.advance(count);
        self.garbage = self.garbage.saturating_add(count);
        if self.garbage > MAX_GARBAGE {
            return Err(DecodeError::Malformed {
                what: "transport stream without sync",
                offset: self.garbage,
            });
        }
        Ok(())
    }
}

/// Bytes of the packets at the front.
fn run_of(data: &[u8]) -> usize {
    let packets = data.chunks_exact(PACKET_LEN);
    packets.take_while(|packet| packet.first() == Some(&SYNC_BYTE)).count().saturating_mul(PACKET_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: usize, fill: u8) -> Vec<u8> {
        let packet = [vec![SYNC_BYTE], vec![fill; PACKET_LEN - 1]].concat();
        packet.repeat(count)
    }

    /// As the demuxer does it.
    fn take(sync: &mut Sync, data: &[u8], last: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let data = sync.complete(data);
        while let Some(run) = sync.next_run(false).unwrap() {
            out.extend_from_slice(&run);
        }
        let run = sync.packets_of(data);
        out.extend_from_slice(run);
        sync.push(&data[run.len()..]);
        while let Some(run) = sync.next_run(last).unwrap() {
            out.extend_from_slice(&run);
        }
        out
    }

    #[test]
    fn packets_come_out_as_they_went_in_whatever_the_pieces() {
        let data = packets(20, 1);
        for piece in [1, 7, 187, 188, 189, 1_000] {
            let mut sync = Sync::default();
            let got: Vec<u8> = data.chunks(piece).flat_map(|piece| take(&mut sync, piece, false)).collect();
            assert_eq!(got, data, "{piece}");
        }
    }

    #[test]
    fn m16_sync_is_found_again_within_ten_packets() {
        for garbage in [&[][..], &[1], &[0x47; 100], &[0x47; 188], &[9; 5_000], &[0x47, 1, 2, 3]] {
            let mut sync = Sync::default();
            // Sync bytes in payloads, at every place.
            let data = [&packets(10, 1)[..], garbage, &packets(30, SYNC_BYTE)].concat();
            let got = take(&mut sync, &data, true);
            let tail = got.len() - packets(10, 1).len();
            assert!(tail >= 30 * PACKET_LEN - 1_880, "{} of {}: {tail}", garbage.len(), data.len());
        }
    }

    #[test]
    fn m16_a_mebibyte_without_sync_is_malformed() {
        let mut sync = Sync::default();
        sync.push(&vec![0; MAX_GARBAGE]);
        assert!(matches!(sync.next_run(false), Ok(None)));
        sync.push(&[0]);
        assert!(sync.next_run(false).is_err());
        assert_eq!(sync.buffered(), 0);
    }

    #[test]
    fn a_short_stream_is_believed_at_its_end() {
        let mut sync = Sync::default();
        assert_eq!(take(&mut sync, &packets(2, 0), false).len(), 0);
        assert_eq!(take(&mut sync, &[], true), packets(2, 0));
        assert_eq!(take(&mut Sync::default(), &[SYNC_BYTE; 100], true).len(), 0);
    }
}
