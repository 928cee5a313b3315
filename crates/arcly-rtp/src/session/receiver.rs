use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use arcly_core::time::{Unwrapper, Unwrapper32};
use arcly_core::{TimeDelta, Timescale};
use bytes::Bytes;
use smallvec::SmallVec;

use super::{Drift, Insertion, Reception, Release, ReorderBuffer, SenderClock};
use crate::wire::rtcp::{Goodbye, Nack, ReportBlock, SenderReport};
use crate::wire::{Header, RtpPacket};

/// A sequence number further than this from the last is a jump and no loss.
pub const MAX_JUMP: i64 = 512;
/// Packets that are held of a source or a sequence that is not believed yet.
pub const MAX_HELD: usize = 64;
/// Another source takes over when the one before has been silent so long, or has said goodbye.
pub const SOURCE_SILENCE: Duration = Duration::from_millis(200);
/// A timestamp that comes with a jump and is further than this from the last, 10 s beyond the time that passed, begins a new
/// clock.
pub const MAX_TIMESTAMP_STEP: TimeDelta = TimeDelta::from_millis(10_000);

/// What was tolerated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets taken.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets that were given up.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after they were given up, or after they came out.
    pub late: u64,
    /// Packets of a payload type that was not agreed on.
    pub foreign_type: u64,
    /// Packets of a source or a sequence that was not believed.
    pub foreign_source: u64,
    /// Times that another source or sequence took over.
    pub restarts: u64,
}

/// A packet in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its header, as it came.
    pub header: Header,
    /// Its timestamp: unwrapped, from zero at the first packet, and going on over restarts.
    pub ticks: i64,
    /// Its payload.
    pub payload: Bytes,
}

/// What comes out of a [`Receiver`], in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The next packet.
    Packet(Received),
    /// That many packets are missing here.
    Lost(u64),
    /// Another source, or another sequence of the same one, begins with the next packet: a discontinuity.
    Restart,
}

/// Who sends, and where its counters are.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    numbers: Unwrapper<16>,
    highest: i64,
    timestamps: Unwrapper32,
    /// What has to be added to unwrapped timestamps.
    offset: i64,
    /// The last packet taken: when, and its timestamp, unwrapped with offset.
    last: (Instant, u32, i64),
    reception: Reception,
    said_goodbye: bool,
}

/// Packets that do not continue what is there, and what the next of them would be.
#[derive(Debug)]
struct Candidate {
    ssrc: u32,
    next: u16,
    packets: VecDeque<RtpPacket>,
}

/// Receives one stream of packets: puts them in order, follows one source at a time, and counts.
///
/// [`poll`](Self::poll) until `None` after each input.
#[derive(Debug)]
pub struct Receiver {
    clock: Timescale,
    payload_types: SmallVec<[u8; 4]>,
    source: Option<Source>,
    candidate: Option<Candidate>,
    /// The last report of a source that is not followed: senders begin with one.
    early: Option<(Instant, SenderReport)>,
    buffer: ReorderBuffer<Received>,
    sender_clock: SenderClock,
    ready: VecDeque<Delivery>,
    counters: Counters,
}

impl Receiver {
    /// Receives packets of these payload types, whose timestamps count in `clock`. A missing packet is waited for so long;
    /// zero for transports that keep order.
    #[must_use]
    pub fn new(clock: Timescale, payload_types: &[u8], wait: Duration) -> Self {
        Self {
            clock,
            payload_types: payload_types.into(),
            source: None,
            candidate: None,
            early: None,
            buffer: ReorderBuffer::new(wait),
            sender_clock: SenderClock::new(clock),
            ready: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The same receiver, which holds the first packet of each sequence for [`START_HOLD`](super::START_HOLD), and no longer than it
    /// waits for any other: those before it that it has overtaken are not late.
    #[must_use]
    pub fn with_start_hold(mut self) -> Self {
        self.buffer = self.buffer.with_start_hold();
        self
    }

    /// True while the first packet of a sequence is held.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.buffer.is_holding()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The source that is followed.
    #[must_use]
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// When the last packet was taken.
    #[must_use]
    pub fn last_arrival(&self) -> Option<Instant> {
        self.source.as_ref().map(|source| source.last.0)
    }

    /// Takes a packet that arrived at `now`. Nothing is given up because of the time: a task that was held up looks at what has come
    /// meanwhile one by one, and what is missing may be next.
    pub fn handle_packet(&mut self, now: Instant, packet: RtpPacket) {
        if !self.payload_types.contains(&packet.header.payload_type) {
            count(&mut self.counters.foreign_type, 1);
        } else if self.continues(&packet.header) {
            self.disbelieve();
            self.take(now, packet);
        } else if self.source.is_none() {
            self.begin(now, &packet.header);
            self.take(now, packet);
        } else {
            self.doubt(now, packet);
        }
        while let Some(release) = self.buffer.ready() {
            self.deliver(release);
        }
    }

    /// Takes a sender report; true when it is one of the source that is followed. One of another source is kept until that
    /// source begins.
    pub fn handle_sender_report(&mut self, now: Instant, report: &SenderReport) -> bool {
        let Some(source) = self.source.as_mut().filter(|source| source.ssrc == report.ssrc) else {
            self.early = Some((now, report.clone()));
            return false;
        };
        source.reception.sender_report(now, report.ntp);
        let ticks = source.ticks_near(report.rtp_timestamp);
        self.sender_clock.report(now, report.ntp, ticks);
        true
    }

    /// Takes a goodbye; true when the source that is followed is among those that leave.
    pub fn handle_goodbye(&mut self, goodbye: &Goodbye) -> bool {
        let source = self.source.as_mut().filter(|source| goodbye.sources.contains(&source.ssrc));
        source.is_some_and(|source| {
            source.said_goodbye = true;
            true
        })
    }

    /// Time has passed, and all that has arrived was taken: what is still missing may have to be given up.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.release(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.buffer.deadline()
    }

    /// The next thing in order.
    pub fn poll(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    /// What a receiver report says of the source.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let source = self.source.as_mut()?;
        Some(source.reception.report(now, source.ssrc))
    }

    /// Asks for the packets that are waited for; `None` when none is.
    #[must_use]
    pub fn nack(&self, sender: u32) -> Option<Nack> {
        let wrapped = |number: i64| u16::try_from(number & 0xFFFF).unwrap_or_default();
        let nack = Nack::of(sender, self.ssrc()?, self.buffer.missing().map(wrapped));
        (!nack.entries.is_empty()).then_some(nack)
    }

    /// The moment of `ticks` in flicks, by the sender's clock; see [`SenderClock::moment`].
    #[must_use]
    pub fn moment(&self, ticks: i64) -> Option<i128> {
        self.sender_clock.moment(ticks)
    }

    /// The wall-clock time of `ticks`, by the sender's clock.
    #[must_use]
    pub fn wall(&self, ticks: i64) -> Option<SystemTime> {
        self.sender_clock.wall(ticks)
    }

    /// How the clocks run against each other.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        self.sender_clock.drift()
    }

    /// A timestamp of the source in the ticks that packets come out with; `None` before the first packet.
    #[must_use]
    pub fn ticks_of(&self, timestamp: u32) -> Option<i64> {
        self.source.as_ref().map(|source| source.ticks_near(timestamp))
    }

    /// True when a packet belongs to what is there: the same source, and a number near the last.
    fn continues(&self, header: &Header) -> bool {
        self.source.as_ref().is_some_and(|source| {
            let mut numbers = source.numbers;
            let number = numbers.unwrap(header.sequence.into());
            let step = number.saturating_sub(source.highest);
            source.ssrc == header.ssrc && step.unsigned_abs() <= MAX_JUMP.unsigned_abs()
        })
    }

    /// A packet that does not continue what is there. Two of them in a row are believed when they come from the same source,
    /// or when the source is silent (RFC 3550 A.1); what was held until then is not lost.
    fn doubt(&mut self, now: Instant, packet: RtpPacket) {
        let header = packet.header;
        let mut candidate = match self.candidate.take() {
            Some(known) if known.ssrc == header.ssrc && known.next == header.sequence => known,
            other => {
                let given_up = other.map_or(0, |other| other.packets.len());
                count(&mut self.counters.foreign_source, u64::try_from(given_up).unwrap_or_default());
                Candidate { ssrc: header.ssrc, next: header.sequence, packets: VecDeque::new() }
            }
        };
        candidate.next = header.sequence.wrapping_add(1);
        candidate.packets.push_back(packet);
        if candidate.packets.len() > MAX_HELD {
            candidate.packets.pop_front();
            count(&mut self.counters.foreign_source, 1);
        }
        if candidate.packets.len() >= 2 && self.may_take_over(now, header.ssrc) {
            return self.take_over(now, candidate);
        }
        self.candidate = Some(candidate);
    }

    /// The source goes on, so that nothing of it has jumped.
    fn disbelieve(&mut self) {
        let ssrc = self.ssrc();
        if let Some(candidate) = self.candidate.take_if(|candidate| Some(candidate.ssrc) == ssrc) {
            let given_up = u64::try_from(candidate.packets.len()).unwrap_or_default();
            count(&mut self.counters.foreign_source, given_up);
        }
    }

    fn may_take_over(&self, now: Instant, ssrc: u32) -> bool {
        self.source.as_ref().is_none_or(|source| {
            let silent = now.saturating_duration_since(source.last.0) >= SOURCE_SILENCE;
            source.ssrc == ssrc || source.said_goodbye || silent
        })
    }

    fn take_over(&mut self, now: Instant, candidate: Candidate) {
        self.flush(now);
        self.buffer.reset();
        count(&mut self.counters.restarts, 1);
        self.ready.push_back(Delivery::Restart);
        let Some(first) = candidate.packets.front() else { return };
        self.begin(now, &first.header);
        for packet in candidate.packets {
            self.take(now, packet);
        }
    }

    /// Another source, or another sequence, begins with a packet.
    fn begin(&mut self, now: Instant, header: &Header) {
        let mut numbers = Unwrapper::new();
        let highest = numbers.unwrap(header.sequence.into());
        let mut timestamps = Unwrapper32::new();
        let first = timestamps.unwrap(header.timestamp.into());
        let (ticks, same_clock) = match &self.source {
            None => (0, false),
            Some(before) => before.goes_on_at(now, header, self.clock),
        };
        if !same_clock {
            self.sender_clock.reset();
        }
        self.source = Some(Source {
            ssrc: header.ssrc,
            numbers,
            highest,
            timestamps,
            offset: ticks.saturating_sub(first),
            last: (now, header.timestamp, ticks),
            reception: Reception::new(self.clock, now, highest),
            said_goodbye: false,
        });
        if let Some((at, report)) = self.early.take_if(|(_, report)| report.ssrc == header.ssrc) {
            self.handle_sender_report(at, &report);
        }
    }

    fn take(&mut self, now: Instant, packet: RtpPacket) {
        let Some(source) = &mut self.source else { return };
        let RtpPacket { header, payload, .. } = packet;
        let number = source.numbers.unwrap(header.sequence.into());
        let ticks = source.timestamps.unwrap(header.timestamp.into()).saturating_add(source.offset);
        if number >= source.highest {
            source.highest = number;
            source.last = (now, header.timestamp, ticks);
        }
        source.reception.packet(now, number, header.timestamp);
        count(&mut self.counters.packets, 1);
        count(&mut self.counters.bytes, u64::try_from(payload.len()).unwrap_or_default());
        match self.buffer.insert(now, number, Received { header, ticks, payload }) {
            Insertion::Placed => source.reception.reach(number),
            Insertion::Duplicate => count(&mut self.counters.duplicates, 1),
            Insertion::Late | Insertion::TooFar => count(&mut self.counters.late, 1),
        }
    }

    fn release(&mut self, now: Instant) {
        while let Some(release) = self.buffer.release(now) {
            self.deliver(release);
        }
    }

    /// Gives out what is held, whatever is missing.
    fn flush(&mut self, now: Instant) {
        while let Some(deadline) = self.buffer.deadline() {
            self.release(deadline.max(now));
        }
    }

    fn deliver(&mut self, release: Release<Received>) {
        self.ready.push_back(match release {
            Release::Packet(packet) => Delivery::Packet(packet),
            Release::Lost(lost) => {
                count(&mut self.counters.lost, lost);
                Delivery::Lost(lost)
            }
        });
    }
}

impl Source {
    /// A timestamp near the last one, with the offset.
    fn ticks_near(&self, timestamp: u32) -> i64 {
        let (_, last, ticks) = self.last;
        ticks.saturating_add(timestamp.wrapping_sub(last).cast_signed().into())
    }

    /// Where a packet goes on that does not continue the sequence: on the same clock when that is plausible, else where the time
    /// since the last packet leads.
    fn goes_on_at(&self, now: Instant, header: &Header, clock: Timescale) -> (i64, bool) {
        let waited = TimeDelta::from_duration(now.saturating_duration_since(self.last.0));
        let there = self.ticks_near(header.timestamp);
        let step = TimeDelta::from_ticks(there.saturating_sub(self.last.2), clock);
        let same_clock = header.ssrc == self.ssrc && (step - waited).abs() <= MAX_TIMESTAMP_STEP;
        if same_clock { (there, true) } else { (self.last.2.saturating_add(waited.to_ticks(clock)), false) }
    }
}

fn count(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}
