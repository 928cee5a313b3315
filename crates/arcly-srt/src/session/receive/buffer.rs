//! Packets that have come and are not handed over yet, in their places.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::wire::{MsgNumber, Position};

/// One packet.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) position: Position,
    pub(super) message: MsgNumber,
    pub(super) retransmitted: bool,
    /// When the peer sent its message first, on the peer's clock.
    pub(super) sent: i64,
    pub(super) payload: Bytes,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    Stored,
    /// It is here already. Says whether that one was a retransmission.
    Duplicate {
        retransmitted: bool,
    },
    /// Its place has been passed.
    Belated,
    /// It is further than the buffer reaches, or there is no room.
    NoRoom,
}

/// A ring that starts with the next packet to hand over and ends with the last one that has come.
#[derive(Debug)]
pub(super) struct Buffer {
    first: u64,
    slots: VecDeque<Option<Slot>>,
    packets: usize,
    bytes: usize,
    limits: BufferLimits,
    /// Packets from `first` on that are one message, as far as known: nobody looks twice at a message that grows.
    run: usize,
    run_bytes: usize,
    /// The first start of a message behind `first`, if one is known.
    next_start: Option<u64>,
}

/// What a buffer holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferLimits {
    /// Packets, missing ones included.
    pub(super) packets: usize,
    pub(super) bytes: usize,
    /// Bytes of a message that is not complete.
    pub(super) message_bytes: usize,
    /// Every packet is handed over by itself, whatever it says about messages.
    pub(super) stream: bool,
}

/// A message whose packets are all here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Complete {
    packets: usize,
    /// When the peer sent it, on its clock.
    pub(super) sent: i64,
}

/// What is taken out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) first: u64,
    pub(super) message: MsgNumber,
    pub(super) payload: Bytes,
}

impl Buffer {
    pub(super) const fn new(limits: BufferLimits) -> Self {
        Self {
            first: 0,
            slots: VecDeque::new(),
            packets: 0,
            bytes: 0,
            limits,
            run: 0,
            run_bytes: 0,
            next_start: None,
        }
    }

    /// The next packet to hand over.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// One behind the last packet that has come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) const fn packets(&self) -> usize {
        self.packets
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that there is room for behind the last.
    pub(super) fn available(&self) -> usize {
        self.limits.packets - self.slots.len()
    }

    pub(super) fn insert(&mut self, index: u64, slot: Slot) -> Insert {
        let Some(place) = index.checked_sub(self.first) else { return Insert::Belated };
        let place = match usize::try_from(place) {
            Ok(place) if place < self.limits.packets => place,
            _ => return Insert::NoRoom,
        };
        if let Some(Some(there)) = self.slots.get(place) {
            return Insert::Duplicate { retransmitted: there.retransmitted };
        }
        if self.bytes + slot.payload.len() > self.limits.bytes {
            return Insert::NoRoom;
        }
        if place >= self.slots.len() {
            self.slots.resize(place + 1, None);
        }
        if place > 0 && self.starts(&slot) && self.next_start.is_none_or(|next| index < next) {
            self.next_start = Some(index);
        }
        self.packets += 1;
        self.bytes += slot.payload.len();
        if let Some(empty) = self.slots.get_mut(place) {
            *empty = Some(slot);
        }
        Insert::Stored
    }

    const fn starts(&self, slot: &Slot) -> bool {
        self.limits.stream || slot.position.is_first()
    }

    /// The message at the front, when all of it is here.
    pub(super) fn complete(&mut self) -> Option<Complete> {
        let front = self.slots.front()?.as_ref()?;
        let (sent, message) = (front.sent, front.message);
        if self.limits.stream || matches!(front.position, Position::Only) {
            return Some(Complete { packets: 1, sent });
        }
        if !front.position.is_first() {
            return None;
        }
        while let Some(Some(slot)) = self.slots.get(self.run) {
            if self.run > 0 && (slot.message != message || slot.position.is_first()) {
                return None;
            }
            self.run += 1;
            self.run_bytes += slot.payload.len();
            if slot.position.is_last() {
                let packets = std::mem::take(&mut self.run);
                self.run_bytes = 0;
                return Some(Complete { packets, sent });
            }
        }
        None
    }

    /// The packets at the front are of a message that is longer than one may be; asks after [`complete`](Self::complete).
    pub(super) const fn is_too_long(&self) -> bool {
        self.run_bytes > self.limits.message_bytes
    }

    /// One behind the packets at the front that are here and may still become a message.
    pub(super) const fn run_end(&self) -> u64 {
        self.first + self.run as u64
    }

    /// Whether this packet is here.
    pub(super) fn holds(&self, index: u64) -> bool {
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        place.is_some_and(|place| matches!(self.slots.get(place), Some(Some(_))))
    }

    /// Where the next message behind the front starts, of those that are here; and when the peer sent it.
    pub(super) fn next_start(&mut self) -> Option<(u64, i64)> {
        if self.next_start.is_none_or(|next| next <= self.first) {
            let stream = self.limits.stream;
            let found = self
                .slots
                .iter()
                .skip(1)
                .position(|slot| slot.as_ref().is_some_and(|slot| stream || slot.position.is_first()));
            self.next_start = found.map(|place| self.first + 1 + place as u64);
        }
        let next = self.next_start?;
        let place = usize::try_from(next - self.first).ok()?;
        let slot = self.slots.get(place)?.as_ref()?;
        Some((next, slot.sent))
    }

    /// Takes out what [`complete`](Self::complete) has found.
    pub(super) fn take(&mut self, complete: Complete) -> Option<Taken> {
        let first = self.first;
        let front = self.pop()?;
        let message = front.message;
        if complete.packets == 1 {
            return Some(Taken { first, message, payload: front.payload });
        }
        let mut whole = BytesMut::from(&front.payload[..]);
        for _ in 1..complete.packets {
            whole.extend_from_slice(&self.pop()?.payload);
        }
        Some(Taken { first, message, payload: whole.freeze() })
    }

    /// Gives up everything before `index`. Says how many packets that were, missing ones included.
    pub(super) fn skip_to(&mut self, index: u64) -> u64 {
        let from = self.first;
        while self.first < index && !self.slots.is_empty() {
            self.pop();
        }
        if self.slots.is_empty() {
            self.first = self.first.max(index);
        }
        self.first - from
    }

    /// Takes out the front, which may be missing.
    fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.first += 1;
        self.run = 0;
        self.run_bytes = 0;
        if let Some(slot) = &slot {
            self.packets -= 1;
            self.bytes -= slot.payload.len();
        }
        slot
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.slots.back().is_none_or(Option::is_some), "the last one has come");
        assert!(self.slots.len() <= self.limits.packets && self.bytes <= self.limits.bytes);
        assert_eq!(self.packets, self.slots.iter().flatten().count());
        assert_eq!(self.bytes, self.slots.iter().flatten().map(|slot| slot.payload.len()).sum::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BufferLimits =
        BufferLimits { packets: 16, bytes: 1_000, message_bytes: 100, stream: false };

    fn slot(position: Position, message: u32) -> Slot {
        let payload = Bytes::from(message.to_string());
        Slot {
            position,
            message: MsgNumber::new(message),
            retransmitted: false,
            sent: message.into(),
            payload,
        }
    }

    fn take(buffer: &mut Buffer) -> Option<String> {
        let complete = buffer.complete()?;
        let taken = buffer.take(complete)?;
        buffer.check_invariants();
        Some(String::from_utf8(taken.payload.to_vec()).unwrap())
    }

    #[test]
    fn packets_find_their_places_and_bounds_hold() {
        let mut buffer = Buffer::new(LIMITS);
        assert_eq!(buffer.insert(1, slot(Position::Only, 2)), Insert::Stored);
        assert_eq!(take(&mut buffer), None, "the first is missing");
        assert_eq!(buffer.next_start(), Some((1, 2)));
        assert_eq!(buffer.insert(0, slot(Position::Only, 1)), Insert::Stored);
        assert_eq!(buffer.insert(0, slot(Position::Only, 9)), Insert::Duplicate { retransmitted: false });
        assert_eq!(buffer.insert(16, slot(Position::Only, 9)), Insert::NoRoom);
        let huge = Slot { payload: Bytes::from(vec![0; 999]), ..slot(Position::Only, 9) };
        assert_eq!(buffer.insert(2, huge), Insert::NoRoom);
        assert_eq!(take(&mut buffer).as_deref(), Some("1"));
        assert_eq!(take(&mut buffer).as_deref(), Some("2"));
        assert_eq!(buffer.insert(1, slot(Position::Only, 9)), Insert::Belated);
        assert_eq!((buffer.first(), buffer.end(), buffer.available()), (2, 2, 16));
    }

    #[test]
    fn messages_of_several_packets_come_out_whole() {
        let mut buffer = Buffer::new(LIMITS);
        buffer.insert(0, slot(Position::First, 1));
        buffer.insert(2, slot(Position::Last, 1));
        assert_eq!(take(&mut buffer), None);
        assert_eq!(buffer.run_end(), 1);
        buffer.insert(1, slot(Position::Middle, 1));
        assert_eq!(take(&mut buffer).as_deref(), Some("111"));
    }

    #[test]
    fn s25_pieces_that_are_no_message_are_passed_over() {
        for wrong in [Position::Middle, Position::Last, Position::First] {
            let mut buffer = Buffer::new(LIMITS);
            buffer.insert(0, slot(wrong, 1));
            assert_eq!(take(&mut buffer), None);
            assert_eq!(buffer.next_start(), None);
            buffer.insert(1, slot(Position::Only, 2));
            assert_eq!(take(&mut buffer), None, "{wrong:?}");
            assert_eq!(buffer.next_start(), Some((1, 2)));
            assert_eq!(buffer.skip_to(1), 1);
            assert_eq!(take(&mut buffer).as_deref(), Some("2"));
        }
        let mut buffer = Buffer::new(LIMITS);
        buffer.insert(0, slot(Position::First, 1));
        buffer.insert(1, slot(Position::Last, 2));
        assert_eq!(take(&mut buffer), None, "the end of another message");
    }

    #[test]
    fn s25_a_message_without_end_is_too_long_at_some_point() {
        let mut buffer = Buffer::new(LIMITS);
        for index in 0..4 {
            let position = if index == 0 { Position::First } else { Position::Middle };
            buffer.insert(index, Slot { payload: Bytes::from(vec![0; 30]), ..slot(position, 1) });
            assert_eq!(take(&mut buffer), None);
            assert_eq!(buffer.is_too_long(), index == 3);
        }
    }

    #[test]
    fn skipping_beyond_the_end_leaves_an_empty_buffer_there() {
        let mut buffer = Buffer::new(LIMITS);
        buffer.insert(3, slot(Position::Only, 1));
        assert_eq!(buffer.skip_to(2), 2);
        assert_eq!(buffer.skip_to(9), 7);
        buffer.check_invariants();
        assert_eq!((buffer.first(), buffer.end(), buffer.packets(), buffer.bytes()), (9, 9, 0, 0));
    }

    #[test]
    fn a_stream_has_no_messages() {
        let mut buffer = Buffer::new(BufferLimits { stream: true, ..LIMITS });
        buffer.insert(0, slot(Position::Middle, 1));
        buffer.insert(1, slot(Position::First, 2));
        assert_eq!(take(&mut buffer).as_deref(), Some("1"));
        assert_eq!(take(&mut buffer).as_deref(), Some("2"));
    }
}
