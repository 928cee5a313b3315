//! What is given up: packets that are too late, and messages that are not worth sending any more.

use std::time::Duration;

use bytes::Bytes;

use super::{Sender, SenderConfig, Sending};
use crate::session::clock::micros;
use crate::wire::SeqRange;

/// Packets are given up a second after they were sent, at the earliest: the peer may be playing with a larger latency than
/// it says.
const MIN_TOO_LATE: Duration = Duration::from_secs(1);
/// Two periods of acknowledgements.
const TOO_LATE_SLACK: Duration = Duration::from_millis(20);

impl SenderConfig {
    /// When a packet is too late for a peer that plays with this latency.
    pub(in crate::session) fn too_late(latency: Duration) -> Duration {
        latency.max(MIN_TOO_LATE) + TOO_LATE_SLACK
    }
}

impl Sender {
    pub(super) fn drop_too_late(&mut self, now: i64) {
        let Some(too_late) = self.config.too_late.map(micros) else { return };
        let is_late = |how: &Sending| how.origin + too_late <= now;
        while let Some(packet) = self.flight.front().filter(|packet| is_late(&packet.how)) {
            if !packet.datagram.is_empty() {
                self.counters.drop(packet.how.origin, packet.length);
            }
            self.release(self.first + 1);
            self.given_up = self.first;
        }
        while self.queue.front().is_some_and(|queued| is_late(&queued.how)) {
            self.drop_unsent();
        }
    }

    pub(super) fn drop_expired(&mut self, now: i64) {
        // A message of which a part has left goes on: the peer would wait for the rest.
        while let Some(queued) = self.queue.front()
            && queued.position.is_first()
            && queued.how.expires.is_some_and(|expires| expires <= now)
        {
            let message = queued.message;
            while self.queue.front().is_some_and(|rest| rest.message == message) {
                self.drop_unsent();
            }
        }
    }

    fn drop_unsent(&mut self) {
        if let Some(queued) = self.queue.pop_front() {
            self.bytes -= queued.payload.len();
            self.counters.drop(queued.how.origin, queued.payload.len());
        }
    }

    /// Gives up the whole message of the packet at `place`, as far as it is in flight.
    pub(super) fn give_up_message(&mut self, place: usize) {
        let Some(message) = self.flight.get(place).map(|packet| packet.header.message) else { return };
        let before = self.flight.iter().take(place).rev().take_while(|p| p.header.message == message).count();
        let start = place - before;
        let mut count = 0;
        for packet in self.flight.iter_mut().skip(start).take_while(|p| p.header.message == message) {
            count += 1;
            self.lost -= usize::from(std::mem::take(&mut packet.lost));
            if !packet.datagram.is_empty() {
                self.bytes -= packet.length;
                self.counters.drop(packet.how.origin, packet.length);
                packet.datagram = Bytes::new();
            }
        }
        let first = self.first + start as u64;
        let (first, last) = (self.numbering.seq(first), self.numbering.seq(first + count - 1));
        self.drops.extend(SeqRange::new(first, last).map(|range| (message, range)));
    }
}
