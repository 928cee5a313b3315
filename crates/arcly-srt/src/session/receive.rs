//! The receiving half of a connection: what has come, what is missing, what is due.
//!
//! ```text
//!            ┌ belated, twice, too far ── counted
//!  packet ───┤
//!            └ buffer ── due? ── message          (TSBPD: time stamp + latency)
//!                │         └──── skipped          (TLPKTDROP: something behind it is due)
//!                └ losses ── NAK ── NAK …         (after what reordering lets one wait)
//! ```

mod acks;
mod buffer;
mod losses;
mod member;
pub(super) mod pairs;
mod reorder;
mod tsbpd;

use std::time::Duration;

use bytes::Bytes;

use self::acks::{Acks, Due};
use self::buffer::{Buffer, BufferLimits, Insert, Slot};
use self::losses::Losses;
use self::pairs::PacketPairs;
use self::reorder::Reorder;
use self::tsbpd::Tsbpd;
use super::clock::{Numbering, earlier, micros};
use super::meter::Meter;
use super::rtt::Rtt;
use crate::wire::{
    Ack, AckRates, AckReport, Control, DataHeader, LossList, MsgNumber, SeqNumber, SeqRange, TimeStamp,
};

/// A packet that is further ahead than this is believed once a second one agrees: one flipped bit would otherwise have
/// thousands of packets asked for that nobody has sent.
const MAX_JUMP: u64 = 128;
/// Missing packets are asked for again four times until a repetition of them is overdue, and this much later: the first three
/// requests are for the case that the one before was lost, and for a peer that is in a hurry; libsrt passes them over otherwise.
const REPEATS: i64 = 4;
const REPEAT_SLACK: i64 = 4_000;
/// And no more often than this, until it is overdue.
const MIN_REPEAT: i64 = 10_000;
/// Of what is overdue twice as often: requests are most of what is on the way back then, and a path that takes several of them one
/// after the other would otherwise take all that there is time for.
const OVERDUE_REPEATS: i64 = 2;
/// The least free space that is told to a peer: with none it would have to be told again, and that can be lost.
const MIN_WINDOW: usize = 2;

/// How a connection receives.
#[derive(Clone, Debug)]
pub(super) struct ReceiverConfig {
    pub(super) initial_seq: SeqNumber,
    pub(super) window_packets: usize,
    pub(super) window_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) stream: bool,
    pub(super) too_late_drop: bool,
    /// Ask for what is missing at once; otherwise when a packet filter says so.
    pub(super) ask_at_once: bool,
    /// Ask again for what stays away.
    pub(super) repeat_nak: bool,
    pub(super) mss: usize,
    /// When packets carry times to deliver them by: what the handshake said and when it came, and the latency.
    pub(super) tsbpd: Option<(i64, TimeStamp, Duration)>,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The message, or of a stream the next bytes.
    pub payload: Bytes,
    /// Its number. The first of a connection is 1.
    pub number: MsgNumber,
    /// The number of its first packet: the same on every path of a group.
    pub seq: SeqNumber,
    /// When it is to be played, in microseconds since this connection began here: as long after it was sent as any other.
    /// `None` without time-stamp based delivery.
    pub due_us: Option<i64>,
}

/// What is handed over.
#[derive(Debug)]
pub(super) enum Delivery {
    Message(Message),
    /// So many packets will never be.
    Skipped(u64),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReceiverCounters {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) unique: u64,
    pub(super) unique_bytes: u64,
    pub(super) lost: u64,
    pub(super) retransmitted: u64,
    pub(super) dropped: u64,
    pub(super) belated: u64,
    pub(super) belated_us: u64,
    pub(super) undecryptable: u64,
    pub(super) undecryptable_bytes: u64,
    pub(super) acks: u64,
    pub(super) naks: u64,
    pub(super) reorder_distance: u64,
}

#[derive(Debug)]
pub(super) struct Receiver {
    config: ReceiverConfig,
    numbering: Numbering,
    buffer: Buffer,
    losses: Losses,
    acks: Acks,
    reorder: Reorder,
    tsbpd: Option<Tsbpd>,
    /// A packet that was further ahead than is believed of one.
    jump: Option<u64>,
    meter: Meter,
    pairs: PacketPairs,
    held: bool,
    counters: ReceiverCounters,
}

impl Receiver {
    pub(super) fn new(config: ReceiverConfig) -> Self {
        let limits = BufferLimits {
            packets: config.window_packets,
            bytes: config.window_bytes,
            message_bytes: config.message_bytes,
            stream: config.stream,
        };
        Self {
            numbering: Numbering::new(config.initial_seq),
            buffer: Buffer::new(limits),
            losses: Losses::default(),
            acks: Acks::new(),
            reorder: Reorder::default(),
            tsbpd: config.tsbpd.map(|(at, stamp, latency)| Tsbpd::new(at, stamp, latency)),
            jump: None,
            meter: Meter::default(),
            pairs: PacketPairs::default(),
            held: false,
            counters: ReceiverCounters::default(),
            config,
        }
    }

    // Packets.

    /// A packet has come whose payload could be read.
    pub(super) fn handle_data(&mut self, now: i64, header: &DataHeader, payload: Bytes, rtt: &Rtt) {
        self.counters.packets += 1;
        self.counters.bytes += payload.len() as u64;
        self.counters.retransmitted += u64::from(header.retransmitted);
        let end = self.buffer.end();
        let Some(index) = self.numbering.index(header.seq, end).filter(|index| self.is_plausible(*index))
        else {
            return;
        };
        let sent = self.tsbpd.as_ref().map_or(0, |tsbpd| tsbpd.unwrap(now, header.timestamp));
        let bytes = payload.len();
        let slot = Slot {
            position: header.position,
            message: header.message,
            retransmitted: header.retransmitted,
            sent,
            payload,
        };
        self.make_room(index);
        match self.buffer.insert(index, slot) {
            Insert::Stored => self.stored(now, index, end.max(self.buffer.first()), header, rtt),
            Insert::Duplicate { retransmitted: true } if !header.retransmitted => {
                self.reorder.was_not_lost();
                return;
            }
            Insert::Duplicate { .. } if header.retransmitted => {
                self.acks.repeated(now);
                return;
            }
            Insert::Duplicate { .. } | Insert::NoRoom => return,
            Insert::Belated => {
                self.belated(now, sent);
                self.acks.repeated(now);
                return;
            }
        }
        self.counters.unique += 1;
        self.counters.unique_bytes += bytes as u64;
        self.meter.add(now, bytes);
        self.acks.received(now);
    }

    /// A packet came that cannot be read. It counts as lost: its repetition may be whole.
    pub(super) fn handle_undecryptable(&mut self, bytes: usize) {
        self.counters.packets += 1;
        self.counters.bytes += bytes as u64;
        self.counters.undecryptable += 1;
        self.counters.undecryptable_bytes += bytes as u64;
    }

    fn is_plausible(&mut self, index: u64) -> bool {
        let near = self.buffer.end() + MAX_JUMP;
        let confirmed = self.jump.is_some_and(|jump| index.abs_diff(jump) <= MAX_JUMP && index != jump);
        self.jump = (index > near).then_some(index);
        index <= near || confirmed
    }

    /// After an outage that was longer than the buffer, what comes is beyond it: it goes on from there, once everything
    /// before has been handed over.
    fn make_room(&mut self, index: u64) {
        let beyond = index >= self.buffer.first().saturating_add(self.config.window_packets as u64);
        if beyond && self.is_dropping() && self.buffer.packets() == 0 {
            self.skip_to(index.saturating_sub(MAX_JUMP));
        }
    }

    fn stored(&mut self, now: i64, index: u64, end: u64, header: &DataHeader, rtt: &Rtt) {
        let latency = self.latency(rtt);
        if index >= end {
            self.pairs.received(now, index);
            if index == end {
                self.reorder.in_order();
            } else {
                let missing = index - end;
                self.counters.lost += missing;
                let ask_at = now + self.reorder.tolerance(latency, rtt);
                let ask_at = self.config.ask_at_once.then_some(ask_at);
                self.losses.add(end, index - 1, now, ask_at);
            }
            return;
        }
        let Some(since) = self.losses.fill(index) else { return };
        if header.retransmitted {
            self.reorder.was_lost();
        } else {
            self.reorder.came_late(now - since, latency);
            self.counters.reorder_distance = self.counters.reorder_distance.max(end - index);
        }
    }

    fn belated(&mut self, now: i64, sent: i64) {
        self.counters.belated += 1;
        if let Some(tsbpd) = &self.tsbpd {
            let late = u64::try_from(now - tsbpd.due(sent)).unwrap_or(0);
            self.counters.belated_us = self.counters.belated_us.saturating_add(late);
        }
    }

    /// The peer will not send these packets any more.
    pub(super) fn handle_drop_request(&mut self, now: i64, range: SeqRange) {
        let end = self.buffer.end();
        let Some(last) = self.numbering.index(range.last(), end) else { return };
        let first = last.saturating_sub(u64::from(range.len()) - 1);
        if last >= self.buffer.first() && first < end {
            self.counters.dropped += self.losses.forget(first, last.min(end - 1));
            self.acks.wake_up(now);
        }
    }

    /// The packet filter cannot make up for these packets: those that are missing are asked for.
    pub(super) fn request(&mut self, now: i64, range: SeqRange) {
        let Some(last) = self.numbering.index(range.last(), self.buffer.end()) else { return };
        self.losses.request(last.saturating_sub(u64::from(range.len()) - 1), last, now);
    }

    /// The peer has heard an acknowledgement. Says how long the round trip was.
    pub(super) fn handle_ack_ack(&mut self, now: i64, number: u32) -> Option<Duration> {
        self.acks.confirm(now, number)
    }

    /// Something came that left at once.
    pub(super) fn observe(&mut self, now: i64, stamp: TimeStamp, rtt: &Rtt) {
        if let Some(tsbpd) = &mut self.tsbpd {
            tsbpd.observe(now, stamp, rtt.smoothed());
        }
    }

    /// Stops handing over, or goes on: the window closes when nobody takes what comes.
    pub(super) fn hold(&mut self, now: i64, held: bool) {
        self.held = held;
        self.acks.wake_up(now);
    }

    // Answers.

    /// What to tell the peer at `now`, one thing after the other.
    pub(super) fn poll_control(&mut self, now: i64, rtt: &Rtt) -> Option<Control> {
        if let Some(list) = self.poll_nak(now, rtt) {
            return Some(Control::Nak(list));
        }
        let complete = self.losses.first().unwrap_or(u64::MAX).min(self.buffer.end());
        let number = match self.acks.poll(now, complete, rtt)? {
            Due::Light => return Some(Control::Ack(Ack::light(self.numbering.seq(complete)))),
            Due::Full { number } => number,
        };
        self.counters.acks += 1;
        let rate = self.meter.rate(now);
        let bounded = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let report = AckReport {
            rtt_us: bounded(u64::try_from(rtt.smoothed().as_micros()).unwrap_or(u64::MAX)),
            rtt_variance_us: bounded(u64::try_from(rtt.variation().as_micros()).unwrap_or(u64::MAX)),
            buffer_available: bounded(self.available() as u64),
            rates: Some(AckRates {
                packets_per_second: bounded(rate.packets),
                capacity_packets_per_second: self.pairs.capacity().unwrap_or(1),
                bytes_per_second: bounded(rate.bytes),
            }),
        };
        Some(Control::Ack(Ack { number, next: self.numbering.seq(complete), report: Some(report) }))
    }

    fn poll_nak(&mut self, now: i64, rtt: &Rtt) -> Option<LossList> {
        if self.losses.wake().is_none_or(|wake| wake > now) {
            return None;
        }
        let overdue = micros(rtt.timeout()) + REPEAT_SLACK;
        let period = (overdue / REPEATS).max(MIN_REPEAT);
        let repeats = self.config.repeat_nak;
        let again = |since| {
            let times = if now - since >= overdue { OVERDUE_REPEATS } else { 1 };
            repeats.then_some(now + period / times)
        };
        let capacity = LossList::capacity(self.config.mss);
        let (numbering, mut list) = (self.numbering, LossList::default());
        self.losses.ask(now, again, |first, last| {
            SeqRange::new(numbering.seq(first), numbering.seq(last))
                .is_none_or(|range| list.push(range, capacity))
        });
        self.counters.naks += u64::from(!list.is_empty());
        (!list.is_empty()).then_some(list)
    }

    // Delivery.

    /// What is to be handed over at `now`, one thing after the other.
    pub(super) fn deliver(&mut self, now: i64) -> Option<Delivery> {
        if self.held {
            return None;
        }
        let before = self.buffer.available();
        let delivery = self.next_delivery(Some(now));
        if delivery.is_some() && self.tsbpd.is_none() && before <= MIN_WINDOW {
            // The peer has been told that there is no room; now there is.
            self.acks.wake_up(now);
        }
        delivery
    }

    /// What is left, whether due or not: nothing more will come.
    pub(super) fn flush(&mut self) -> Option<Delivery> {
        self.next_delivery(None).or_else(|| {
            let (next, _) = self.buffer.next_start()?;
            Some(self.skip(next))
        })
    }

    /// The next thing by `now`, or by the end of time.
    fn next_delivery(&mut self, now: Option<i64>) -> Option<Delivery> {
        let is_due = |tsbpd: &Option<Tsbpd>, sent| match (tsbpd, now) {
            (Some(tsbpd), Some(now)) => tsbpd.due(sent) <= now,
            _ => true,
        };
        if let Some(complete) = self.buffer.complete() {
            if !is_due(&self.tsbpd, complete.sent) {
                return None;
            }
            let due_us = self.tsbpd.as_ref().map(|tsbpd| tsbpd.due(complete.sent));
            let taken = self.buffer.take(complete)?;
            let seq = self.numbering.seq(taken.first);
            let message = Message { payload: taken.payload, number: taken.message, seq, due_us };
            return Some(Delivery::Message(message));
        }
        if let Some(target) = self.dead_end() {
            return Some(self.skip(target));
        }
        let (next, sent) = self.buffer.next_start().filter(|_| self.is_dropping())?;
        is_due(&self.tsbpd, sent).then(|| self.skip(next))
    }

    /// Where it goes on when what is at the front can never be a message: it breaks off, it is too long, or the peer
    /// has given up on the rest.
    fn dead_end(&mut self) -> Option<u64> {
        let (first, end) = (self.buffer.first(), self.buffer.end());
        let stuck_at = self.buffer.run_end();
        if stuck_at >= end && !self.buffer.is_too_long() {
            return None;
        }
        let breaks_off = self.buffer.holds(stuck_at) || !self.losses.contains(stuck_at);
        if !breaks_off && !self.buffer.is_too_long() {
            return None;
        }
        let next = self.buffer.next_start().map_or(end, |(next, _)| next);
        let still_missing = self.losses.first_from(first + 1).unwrap_or(end);
        Some(next.min(still_missing))
    }

    fn skip(&mut self, target: u64) -> Delivery {
        Delivery::Skipped(self.skip_to(target))
    }

    fn skip_to(&mut self, target: u64) -> u64 {
        let missing = self.losses.forget_before(target);
        (0..missing.min(MAX_JUMP)).for_each(|_| self.reorder.was_lost());
        let skipped = self.buffer.skip_to(target);
        self.counters.dropped += skipped;
        skipped
    }

    const fn is_dropping(&self) -> bool {
        self.tsbpd.is_some() && self.config.too_late_drop
    }

    /// When something is due: an answer, or something to hand over.
    pub(super) fn wake(&mut self) -> Option<i64> {
        let answers = earlier(self.acks.wake(), self.losses.wake());
        if self.held {
            return answers;
        }
        let Some(tsbpd) = &self.tsbpd else { return answers };
        let sent = match self.buffer.complete() {
            Some(complete) => Some(complete.sent),
            None if self.config.too_late_drop => self.buffer.next_start().map(|(_, sent)| sent),
            None => None,
        };
        earlier(answers, sent.map(|sent| tsbpd.due(sent)))
    }

    // What is known.

    /// How long a missing packet may take: a file has time for two attempts.
    fn latency(&self, rtt: &Rtt) -> i64 {
        self.tsbpd.as_ref().map_or_else(|| 2 * micros(rtt.timeout()), Tsbpd::latency)
    }

    fn available(&self) -> usize {
        self.buffer.available().max(MIN_WINDOW)
    }

    pub(super) const fn counters(&self) -> &ReceiverCounters {
        &self.counters
    }

    /// Packets and bytes that wait, and room for packets.
    pub(super) fn fill(&self) -> (usize, usize, usize) {
        (self.buffer.packets(), self.buffer.bytes(), self.buffer.available())
    }

    pub(super) fn rate(&self, now: i64) -> super::meter::Rate {
        self.meter.rate(now)
    }

    pub(super) fn capacity(&self) -> Option<u32> {
        self.pairs.capacity()
    }

    pub(super) fn tolerance(&self, rtt: &Rtt) -> i64 {
        self.reorder.tolerance(self.latency(rtt), rtt)
    }

    pub(super) fn drift(&self) -> i64 {
        self.tsbpd.as_ref().map_or(0, Tsbpd::drift)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.buffer.check_invariants();
        self.losses.check_invariants();
        self.acks.check_invariants();
        assert!(self.losses.first().is_none_or(|first| first >= self.buffer.first()));
    }
}
