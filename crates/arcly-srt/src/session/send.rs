//! The sending half of a connection: what waits, what is on the way, what has to go again.
//!
//! ```text
//!  send ── queue ──(window, pace)── flight ── acknowledged
//!            │                      │    ▲
//!            └── too late, expired ─┘    └ asked for, or nothing heard of it
//! ```
//!
//! A packet gets its number and is sealed when it leaves for the first time; what is repeated are the same bytes with
//! the retransmission flag.

mod drops;
mod file;
mod member;
mod pacing;
mod repeat;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::file::{FileCc, Report};
use self::pacing::{LiveCc, Pacer, Repetitions, wire_bytes};
use self::repeat::Spare;
use super::clock::{Numbering, earlier, micros, stamp};
use super::meter::Meter;
use super::receive::pairs::PAIR_PERIOD;
use super::rtt::Rtt;
use crate::config::Bandwidth;
use crate::wire::{
    Ack, Control, DataHeader, HEADER_BYTES, KeySpec, MsgNumber, Position, SeqNumber, SeqRange, SocketId,
};

/// An acknowledgement is 10 ms late by design, and may be another 10 ms late by accident.
const ACK_SLACK: Duration = Duration::from_millis(20);

/// How a connection sends.
#[derive(Clone, Debug)]
pub(super) struct SenderConfig {
    pub(super) initial_seq: SeqNumber,
    pub(super) peer: SocketId,
    /// Bytes of payload in one packet.
    pub(super) payload_size: usize,
    pub(super) buffer_packets: usize,
    /// What the peer said that it takes.
    pub(super) window: usize,
    /// Packets are not sent or repeated any more when they are so old.
    pub(super) too_late: Option<Duration>,
    /// How long the peer keeps packets, where it plays them by their time stamps.
    pub(super) latency: Option<Duration>,
    /// The peer asks again for what stays away.
    pub(super) peer_repeats_nak: bool,
    /// Live, or `None` for file transmission.
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) mss: usize,
}

/// How one message is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    pub(super) in_order: bool,
    /// When it is not worth sending any more.
    pub(super) expires: Option<i64>,
    /// When it came to be.
    pub(super) origin: i64,
    /// The numbers that a group has given to its packet and to itself.
    pub(super) number: Option<(SeqNumber, MsgNumber)>,
}

/// A packet that has not been sent.
#[derive(Debug)]
struct Queued {
    payload: Bytes,
    position: Position,
    message: MsgNumber,
    how: Sending,
}

/// A packet that has been sent and is not acknowledged.
#[derive(Debug)]
struct InFlight {
    header: DataHeader,
    /// Empty when it was given up.
    datagram: Bytes,
    /// Bytes of payload before it was sealed.
    length: usize,
    how: Sending,
    /// When it went last.
    left: i64,
    /// When it went again last, and whether that was for another repetition that was lost.
    repeated: Option<i64>,
    stubborn: bool,
    lost: bool,
}

/// What leaves.
#[derive(Debug)]
pub(super) enum Outgoing {
    Data { header: DataHeader, datagram: Bytes },
    Control(Control),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SenderCounters {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) unique: u64,
    pub(super) unique_bytes: u64,
    pub(super) lost: u64,
    pub(super) retransmitted: u64,
    pub(super) retransmitted_bytes: u64,
    pub(super) dropped: u64,
    pub(super) dropped_bytes: u64,
    /// When the newest of those that were given up came to be.
    pub(super) dropped_until: Option<i64>,
    pub(super) acks: u64,
    pub(super) naks: u64,
    /// Time with something to send, in microseconds.
    pub(super) busy_us: u64,
}

impl SenderCounters {
    /// A packet that came to be at `origin` is given up.
    fn drop(&mut self, origin: i64, bytes: usize) {
        self.dropped += 1;
        self.dropped_bytes += bytes as u64;
        self.dropped_until = self.dropped_until.max(Some(origin));
    }
}

#[derive(Debug)]
enum Congestion {
    Live(LiveCc),
    File(FileCc),
}

#[derive(Debug)]
pub(super) struct Sender {
    config: SenderConfig,
    numbering: Numbering,
    queue: VecDeque<Queued>,
    flight: VecDeque<InFlight>,
    /// Bytes of payload in both.
    bytes: usize,
    /// The first packet in flight.
    first: u64,
    /// One behind the last packet that was given up.
    given_up: u64,
    message: MsgNumber,
    /// Packets that the peer takes beyond what it has acknowledged.
    window: usize,
    lost: usize,
    /// No packet in flight before this place is lost.
    lost_from: u64,
    drops: VecDeque<(MsgNumber, SeqRange)>,
    congestion: Congestion,
    pacer: Pacer,
    repetitions: Repetitions,
    spare: Spare,
    input: Meter,
    /// When a silence on everything in flight is acted on, and how often it has been.
    overdue: Option<i64>,
    backoff: u32,
    busy_since: Option<i64>,
    counters: SenderCounters,
}

impl Sender {
    pub(super) fn new(now: i64, config: SenderConfig) -> Self {
        let congestion = match config.bandwidth {
            Some(bandwidth) => Congestion::Live(LiveCc::new(bandwidth)),
            None => {
                Congestion::File(FileCc::new(u32::try_from(config.window).unwrap_or(u32::MAX), config.mss))
            }
        };
        Self {
            numbering: Numbering::new(config.initial_seq),
            queue: VecDeque::new(),
            flight: VecDeque::new(),
            bytes: 0,
            first: 0,
            given_up: 0,
            message: MsgNumber::FIRST,
            window: config.window,
            lost: 0,
            lost_from: 0,
            drops: VecDeque::new(),
            congestion,
            pacer: Pacer::default(),
            repetitions: Repetitions::new(now),
            spare: Spare::default(),
            input: Meter::default(),
            overdue: None,
            backoff: 1,
            busy_since: None,
            counters: SenderCounters::default(),
            config,
        }
    }

    // Into the queue.

    /// Packets that there is room for.
    pub(super) fn room(&self) -> usize {
        self.config.buffer_packets.saturating_sub(self.queue.len() + self.flight.len())
    }

    /// Packets that a message of so many bytes takes.
    pub(super) fn packets_of(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.config.payload_size.max(1)).max(1)
    }

    /// Takes a message, for which there is [`room`](Self::room).
    pub(super) fn push(&mut self, now: i64, mut payload: Bytes, how: Sending) -> MsgNumber {
        if let Some((seq, _)) = how.number {
            self.begin_with(seq);
        }
        let message = how.number.map_or(self.message, |(_, message)| message);
        self.message = message.next();
        self.busy_since.get_or_insert(now);
        let packets = self.packets_of(payload.len());
        for n in 0..packets {
            let part = payload.split_to(self.config.payload_size.min(payload.len()));
            let position = match (n == 0, n + 1 == packets) {
                (true, true) => Position::Only,
                (true, false) => Position::First,
                (false, true) => Position::Last,
                (false, false) => Position::Middle,
            };
            self.bytes += part.len();
            self.input.add(now, part.len() + HEADER_BYTES + crate::wire::UDP_HEADERS);
            self.queue.push_back(Queued { payload: part, position, message, how });
        }
        message
    }

    // Out to the peer.

    /// The next packet that may leave at `now`; `seal` encrypts it when it leaves for the first time.
    pub(super) fn poll(
        &mut self,
        now: i64,
        seal: &mut dyn FnMut(&mut DataHeader, &mut BytesMut),
    ) -> Option<Outgoing> {
        if let Some((message, range)) = self.drops.pop_front() {
            return Some(Outgoing::Control(Control::DropRequest { message, range }));
        }
        if self.pacer.wake(now).is_some() {
            return None;
        }
        if let Some(outgoing) = self.repeat(now) {
            return Some(outgoing);
        }
        self.first_time(now, seal)
    }

    fn first_time(
        &mut self,
        now: i64,
        seal: &mut dyn FnMut(&mut DataHeader, &mut BytesMut),
    ) -> Option<Outgoing> {
        self.drop_expired(now);
        if self.flight.len() >= self.window() {
            return None;
        }
        let Queued { payload, position, message, how } = self.queue.pop_front()?;
        if let Some((seq, _)) = how.number {
            self.move_to(now, seq);
        }
        let index = self.next();
        let mut header = DataHeader {
            seq: self.numbering.seq(index),
            position,
            in_order: how.in_order,
            key: KeySpec::None,
            retransmitted: false,
            message,
            timestamp: stamp(how.origin),
            destination: self.config.peer,
        };
        let length = payload.len();
        let datagram = datagram(&mut header, &payload, seal);
        self.flight.push_back(InFlight {
            header,
            datagram: datagram.clone(),
            length,
            how,
            left: now,
            repeated: None,
            stubborn: false,
            lost: false,
        });
        self.spare.earn();
        self.counters.unique += 1;
        self.counters.unique_bytes += length as u64;
        self.left(now, length, index);
        Some(Outgoing::Data { header, datagram })
    }

    fn left(&mut self, now: i64, length: usize, index: u64) {
        self.counters.packets += 1;
        self.counters.bytes += length as u64;
        let interval = match &self.congestion {
            Congestion::Live(cc) => cc.interval(now, wire_bytes(length), &self.input),
            // A pair leaves back to back, so that the peer sees what the path carries.
            Congestion::File(_) if index.is_multiple_of(PAIR_PERIOD) => 0,
            Congestion::File(cc) => cc.interval(),
        };
        self.pacer.sent(now, interval);
    }

    /// Packets that may be in flight.
    fn window(&self) -> usize {
        match &self.congestion {
            Congestion::Live(_) => self.window,
            Congestion::File(cc) => self.window.min(cc.window()),
        }
    }

    /// The next packet to send for the first time.
    fn next(&self) -> u64 {
        self.first + self.flight.len() as u64
    }

    // What the peer says.

    /// An acknowledgement. False when it cannot be one (S21).
    pub(super) fn handle_ack(&mut self, now: i64, ack: &Ack, rtt: &Rtt) -> bool {
        let Some(complete) = self.numbering.index(ack.next, self.next()) else { return false };
        if complete > self.next() {
            return false;
        }
        self.counters.acks += u64::from(ack.report.is_some());
        let acked = complete.saturating_sub(self.first);
        if acked > 0 {
            self.release(complete);
            self.backoff = 1;
            self.overdue = None;
        }
        self.expect(now, rtt);
        if let Some(report) = &ack.report {
            self.window = usize::try_from(report.buffer_available).unwrap_or(usize::MAX).max(2);
            if let Congestion::File(cc) = &mut self.congestion {
                let (receiving, capacity) = report
                    .rates
                    .map_or((0, 0), |rates| (rates.packets_per_second, rates.capacity_packets_per_second));
                cc.handle_ack(now, Report { acked, rtt: rtt.smoothed(), receiving, capacity });
            }
        }
        if self.is_drained()
            && let Some(since) = self.busy_since.take()
        {
            self.counters.busy_us += u64::try_from(now - since).unwrap_or(0);
        }
        true
    }

    /// Forgets the packets in flight before `index`.
    fn release(&mut self, index: u64) {
        while self.first < index
            && let Some(packet) = self.flight.pop_front()
        {
            self.first += 1;
            self.lost -= usize::from(packet.lost);
            self.bytes -= if packet.datagram.is_empty() { 0 } else { packet.length };
        }
    }

    // Time.

    /// Gives up what is too late, and tries again what nobody has answered.
    pub(super) fn handle_timeout(&mut self, now: i64, rtt: &Rtt) {
        self.drop_too_late(now);
        if self.overdue.is_some_and(|at| at <= now) {
            self.overdue = self.probe(now, rtt);
        }
        self.expect(now, rtt);
    }

    /// Decides when an acknowledgement of what is in flight is overdue.
    pub(super) fn expect(&mut self, now: i64, rtt: &Rtt) {
        if self.flight.is_empty() {
            self.overdue = None;
        } else if self.overdue.is_none() {
            self.overdue = Some(now + micros((rtt.timeout() + ACK_SLACK) * self.backoff));
        }
    }

    /// When something is due.
    pub(super) fn wake(&self, now: i64) -> Option<i64> {
        let too_late = self.config.too_late.and_then(|span| self.oldest().map(|at| at + micros(span)));
        let rate = || self.input.rate(now).bytes;
        let repeat = (self.lost > 0).then(|| self.repetitions.wake(rate()));
        let sendable = !self.queue.is_empty() && self.flight.len() < self.window();
        let pace = self.pacer.wake(now).filter(|_| sendable || self.lost > 0);
        earlier(earlier(too_late, self.overdue), pace.or(repeat))
    }

    // What is known.

    /// Nothing waits and nothing is on the way.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty()
    }

    pub(super) const fn counters(&self) -> &SenderCounters {
        &self.counters
    }

    /// Packets and bytes that wait or are on the way, and packets on the way.
    pub(super) fn fill(&self) -> (usize, usize, usize) {
        (self.queue.len() + self.flight.len(), self.bytes, self.flight.len())
    }

    /// When the oldest of them came to be.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.flight.front().map(|p| p.how.origin).or(self.queue.front().map(|q| q.how.origin))
    }

    /// Packets in flight that the peer takes, and that congestion control allows.
    pub(super) fn windows(&self) -> (usize, usize) {
        (self.window, self.window().min(self.config.buffer_packets))
    }

    /// Microseconds between packets, and bytes a second where there is a bound.
    pub(super) fn pace(&self, now: i64) -> (i64, Option<u64>) {
        match &self.congestion {
            Congestion::Live(cc) => {
                let packet = wire_bytes(self.config.payload_size);
                (cc.interval(now, packet, &self.input), cc.rate(now, &self.input))
            }
            Congestion::File(cc) => (cc.interval(), None),
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.lost, self.flight.iter().filter(|packet| packet.lost).count());
        let first_lost = self.flight.iter().position(|packet| packet.lost);
        assert!(first_lost.is_none_or(|place| self.first + place as u64 >= self.lost_from));
        let queued: usize = self.queue.iter().map(|queued| queued.payload.len()).sum();
        let sent = self.flight.iter().filter(|packet| !packet.datagram.is_empty());
        assert_eq!(self.bytes, queued + sent.map(|packet| packet.length).sum::<usize>());
        assert!(self.queue.len() + self.flight.len() <= self.config.buffer_packets);
        assert!(self.drops.len() <= 2 * repeat::MAX_DROP_REQUESTS);
    }
}

/// The datagram of a packet that leaves for the first time.
fn datagram(
    header: &mut DataHeader,
    payload: &Bytes,
    seal: &mut dyn FnMut(&mut DataHeader, &mut BytesMut),
) -> Bytes {
    // Room for the tag of an authenticating cipher.
    let mut datagram = BytesMut::with_capacity(HEADER_BYTES + payload.len() + HEADER_BYTES);
    datagram.resize(HEADER_BYTES, 0);
    let mut sealed = datagram.split_off(HEADER_BYTES);
    sealed.extend_from_slice(payload);
    seal(header, &mut sealed);
    if let Some(head) = datagram.get_mut(..HEADER_BYTES) {
        head.copy_from_slice(&header.encode());
    }
    datagram.unsplit(sealed);
    datagram.freeze()
}
