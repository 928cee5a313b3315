//! What goes again: packets that the peer misses (draft section 4.8.2), and those that it says nothing of.
//!
//! A repetition takes a round trip to be confirmed, and a peer that asks sooner is passed over, as libsrt passes it over. But a
//! packet whose repetition was lost, too, and one that could not be repeated a second time before it is due, go again with
//! each request: the requests of one round trip are then as many chances. Without that a packet has as many as its latency
//! has round trips, and a tenth of those that are lost stays so for each of them that is missing.
//!
//! | bound | |
//! |---|---|
//! | what is repeated | as much as is sent for the first time ([`Repetitions`](super::pacing::Repetitions), S20) |
//! | what is repeated in a hurry | an eighth of it ([`Spare`]) |

use std::time::Duration;

use bytes::BytesMut;

use super::pacing::wire_bytes;
use super::{ACK_SLACK, Congestion, InFlight, Outgoing, Sender};
use crate::session::clock::micros;
use crate::session::rtt::Rtt;
use crate::wire::{Control, DataHeader, HEADER_BYTES, LossList, MsgNumber, SeqRange};

/// Answers to requests for packets that are gone, to one loss list.
pub(super) const MAX_DROP_REQUESTS: usize = 8;
/// In a hurry packets are repeated so often in a round trip.
const HURRY: i64 = 5;
/// And what nobody has asked for no more often than this in a latency.
const UNASKED: i64 = 25;
/// How often a silent path is tried less and less often.
const MAX_BACKOFF: u32 = 16;
/// Packets that are sent for the first time for each that may be repeated in a hurry.
const PACKETS_FOR_ONE: u32 = 8;
/// And how many may be at once.
const MAX_AT_ONCE: u32 = 64;

/// What may be repeated before it can be known whether it has to.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// Packets that have been sent, and not been made use of.
    packets: u32,
}

impl Spare {
    /// A packet was sent for the first time.
    pub(super) fn earn(&mut self) {
        self.packets = (self.packets + 1).min(PACKETS_FOR_ONE * MAX_AT_ONCE);
    }

    /// True when one may be repeated.
    fn take(&mut self) -> bool {
        let left = self.packets.checked_sub(PACKETS_FOR_ONE);
        self.packets = left.unwrap_or(self.packets);
        left.is_some()
    }
}

impl Sender {
    /// The first packet that is lost and worth repeating.
    pub(super) fn repeat(&mut self, now: i64) -> Option<Outgoing> {
        while self.lost > 0 {
            if matches!(self.congestion, Congestion::Live(_))
                && !self.repetitions.refill(now, self.input.rate(now).bytes)
            {
                return None;
            }
            let place = self.next_lost()?;
            let packet = self.flight.get_mut(place)?;
            packet.lost = false;
            self.lost -= 1;
            if packet.how.expires.is_some_and(|expires| expires <= now) {
                self.give_up_message(place);
                let (message, range) = self.drops.pop_front()?;
                return Some(Outgoing::Control(Control::DropRequest { message, range }));
            }
            if packet.datagram.is_empty() {
                continue;
            }
            (packet.left, packet.repeated) = (now, Some(now));
            let header = DataHeader { retransmitted: true, ..packet.header };
            let mut again = BytesMut::from(&packet.datagram[..]);
            if let Some(head) = again.get_mut(..HEADER_BYTES) {
                head.copy_from_slice(&header.encode());
            }
            let length = again.len().saturating_sub(HEADER_BYTES);
            self.repetitions.take(wire_bytes(length));
            self.counters.retransmitted += 1;
            self.counters.retransmitted_bytes += length as u64;
            self.left(now, length, u64::MAX);
            return Some(Outgoing::Data { header, datagram: again.freeze() });
        }
        None
    }

    fn next_lost(&mut self) -> Option<usize> {
        let from = usize::try_from(self.lost_from.saturating_sub(self.first)).ok()?;
        let place = from + self.flight.iter().skip(from).position(|packet| packet.lost)?;
        self.lost_from = self.first + place as u64;
        Some(place)
    }

    /// The peer misses packets. Work is bounded by what is in flight, whatever the list says (S19, S20).
    pub(in crate::session) fn handle_nak(&mut self, now: i64, list: &LossList, rtt: &Rtt, random: f64) {
        self.counters.naks += 1;
        let mut marked = 0;
        let mut asked = None;
        for range in list.ranges() {
            let Some(last) = self.numbering.index(range.last(), self.next()) else { continue };
            let first = last.saturating_sub(u64::from(range.len()) - 1);
            if first < self.given_up && self.drops.len() < MAX_DROP_REQUESTS {
                self.tell_given_up(first, last);
            }
            let from = first.max(self.first);
            let to = last.saturating_add(1).min(self.next());
            // However often ranges overlap, a list costs no more than a few passes over the flight.
            marked += to.saturating_sub(from);
            if marked > 4 * self.flight.len() as u64 {
                break;
            }
            for index in from..to {
                self.mark_asked(now, index, rtt);
                asked = Some(index);
            }
        }
        if asked.is_some() {
            // It is there, and knows what it misses: until it is silent for a round trip, nothing need be tried.
            self.overdue = None;
            self.expect(now, rtt);
        }
        if let (Congestion::File(cc), Some(lost)) = (&mut self.congestion, asked) {
            cc.handle_loss(lost, self.first + self.flight.len() as u64, random);
        }
    }

    /// Marks a packet that the peer asks for, unless it was repeated so lately that the peer cannot know yet, and there is no hurry.
    fn mark_asked(&mut self, now: i64, index: u64, rtt: &Rtt) {
        let Some(packet) = self.packet(index) else { return };
        let round = micros(rtt.smoothed().saturating_sub(rtt.variation()));
        match packet.repeated.filter(|_| !packet.lost).map(|at| now - at) {
            Some(since) if since < round => {
                let hurries = since >= round / HURRY
                    && self.is_pressing(now, index, rtt.timeout())
                    && self.spare.take();
                if !hurries {
                    return;
                }
            }
            Some(_) => _ = self.packet_mut(index).map(|packet| packet.stubborn = true),
            None => {}
        }
        self.mark_lost(index);
    }

    /// Whether one repetition may be too few: one has been lost already, or it would be too late for another once this one is
    /// not answered for `answer`.
    fn is_pressing(&self, now: i64, index: u64, answer: Duration) -> bool {
        let (Some(due), Some(packet)) = (self.due(index), self.packet(index)) else { return false };
        let answered = packet.repeated.unwrap_or(now) + micros(answer);
        now <= due && (packet.stubborn || answered > due)
    }

    /// Marks a packet that nothing was heard of, unless it left within `round`.
    fn mark_silent(&mut self, now: i64, index: u64, round: i64) {
        let Some(packet) = self.packet_mut(index).filter(|packet| now - packet.left >= round) else { return };
        packet.stubborn |= packet.repeated.is_some();
        self.mark_lost(index);
    }

    fn mark_lost(&mut self, index: u64) {
        let Some(packet) = self.packet_mut(index).filter(|packet| !packet.lost) else { return };
        packet.lost = true;
        self.lost += 1;
        self.counters.lost += 1;
        self.lost_from = if self.lost == 1 { index } else { self.lost_from.min(index) };
    }

    fn packet(&self, index: u64) -> Option<&InFlight> {
        self.flight.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn packet_mut(&mut self, index: u64) -> Option<&mut InFlight> {
        self.flight.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The peer asks for packets of which some were given up: it need not wait for those.
    fn tell_given_up(&mut self, first: u64, last: u64) {
        let last = last.min(self.given_up - 1);
        if let Some(range) = SeqRange::new(self.numbering.seq(first), self.numbering.seq(last)) {
            self.drops.push_back((MsgNumber::CONTROL, range));
        }
    }

    /// Nothing was heard of what is in flight. A peer that repeats its requests asks for everything else once it sees the
    /// last packet; of another, everything may be lost. Says when to try again, where that is not for time to say.
    ///
    /// A path that swallows what is sent takes the next attempts, too: until the first packet is due they do not become fewer, and
    /// from the second on they are in a hurry.
    pub(super) fn probe(&mut self, now: i64, rtt: &Rtt) -> Option<i64> {
        if let Congestion::File(cc) = &mut self.congestion {
            cc.handle_timeout();
        }
        let next = self.next();
        let newest = next.saturating_sub(1).max(self.first);
        let first = self.first_worth_it(now).unwrap_or(self.first);
        let whole = micros(rtt.smoothed());
        let answer = rtt.timeout() + ACK_SLACK;
        let hurries = self.is_pressing(now, first, answer) && self.spare.take();
        let round = if hurries { whole / HURRY } else { whole };
        if self.config.peer_repeats_nak {
            self.mark_silent(now, first, round);
            self.mark_silent(now, newest, round);
        } else {
            // In a hurry goes what is made up for below, one after the other.
            (first..next).for_each(|index| self.mark_silent(now, index, whole));
        }
        self.mark_unconfirmed(now, first, round);
        if self.due(newest).is_none_or(|due| due < now) {
            self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
            return None;
        }
        let hurry = (whole / HURRY).max(micros(self.config.latency?) / UNASKED);
        self.is_pressing(now, first, answer).then_some(now + hurry)
    }

    /// The first packet in flight that the peer has not played yet.
    fn first_worth_it(&self, now: i64) -> Option<u64> {
        let latency = micros(self.config.latency?);
        let place = self.flight.iter().position(|packet| packet.how.origin.saturating_add(latency) >= now)?;
        Some(self.first + place as u64)
    }

    /// What was asked for before the silence, and repeated more than `round` ago, is as likely to be missing still as not.
    fn mark_unconfirmed(&mut self, now: i64, first: u64, round: i64) {
        for index in first..self.next() {
            let waits =
                |packet: &InFlight| !packet.lost && packet.repeated.is_some_and(|at| now - at >= round);
            if self.packet(index).is_some_and(waits) && self.due(index).is_some_and(|due| now <= due) {
                if !self.spare.take() {
                    return;
                }
                self.mark_silent(now, index, round);
            }
        }
    }

    /// When the peer plays a packet, where it says so.
    fn due(&self, index: u64) -> Option<i64> {
        let origin = self.packet(index)?.how.origin;
        Some(origin.saturating_add(micros(self.config.latency?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s20b_an_eighth_of_what_is_sent_may_be_repeated_in_a_hurry() {
        let mut spare = Spare::default();
        let mut repeated = 0;
        for _ in 0..1_000 {
            spare.earn();
            repeated += usize::from(spare.take());
        }
        assert_eq!(repeated, 125);
        (0..100_000).for_each(|_| spare.earn());
        assert_eq!(
            (0..1_000).filter(|_| spare.take()).count(),
            64,
            "and no more than so many after a quiet hour"
        );
    }
}
