use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::wire::DecodeResult;
use arcly_core::{FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timestamp, TrackId, TrackSet};
use bytes::{Bytes, BytesMut};

use super::lane::{Lane, Output};
use super::{
    MAX_BAD_PACKETS, MAX_DISAGREEMENT, MAX_HELD_BYTES, MAX_HELD_FRAMES, RESYNC, START_WAIT, SYNC_WAIT,
};
use crate::sdp::Format;
use crate::session::{Counters, Drift, MAX_WAIT, START_HOLD};
use crate::wire::RtpPacket;
use crate::wire::rtcp::{ReceiverReport, RtcpPacket, SenderReport, compound, sdes};

/// How media is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaReceiverOptions {
    /// How long a missing packet is waited for, at most [`MAX_WAIT`]; zero for transports that keep order.
    pub wait: Duration,
    /// Holds the first packet of each lane for [`START_HOLD`](crate::session::START_HOLD): of a sender that begins with its first
    /// keyframe, and makes no other for who has missed it, nothing is lost when the network changes their order.
    pub start_hold: bool,
}

impl Default for MediaReceiverOptions {
    fn default() -> Self {
        Self { wait: MAX_WAIT, start_hold: false }
    }
}

impl MediaReceiverOptions {
    /// Over a transport that keeps order: what is missing will not come.
    #[must_use]
    pub const fn ordered() -> Self {
        Self { wait: Duration::ZERO, start_hold: false }
    }

    /// In datagrams of a sender that begins when it is told to.
    #[must_use]
    pub fn from_the_start() -> Self {
        Self { start_hold: true, ..Self::default() }
    }
}

/// One medium of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// The number of its track.
    pub track: TrackId,
    /// The formats that were agreed on; the first one is believed to come.
    pub formats: Vec<Format>,
}

/// What was tolerated on one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneCounters {
    /// Packets, losses and sources.
    pub receiver: Counters,
    /// Datagrams that were no RTP packets.
    pub bad_packets: u64,
    /// Datagrams that were no RTCP packets.
    pub bad_reports: u64,
    /// Payloads that their format does not know.
    pub bad_payloads: u64,
    /// Units that were dropped because a part was missing.
    pub damaged: u64,
    /// Units that were dropped because their codec could not understand them.
    pub bad_units: u64,
    /// Pictures that came before the configuration or the first keyframe.
    pub before_keyframe: u64,
    /// Frames whose time would have run backwards.
    pub clamped: u64,
    /// Sender reports that contradict when packets arrived.
    pub implausible_reports: u64,
    /// Times that the track was brought together with the others again.
    pub resynced: u64,
}

/// What comes out of a [`MediaReceiver`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Tracks, or a frame of one of them.
    Media(MediaEvent),
    /// Transport packets of a lane that carries a transport stream.
    TransportStream {
        /// The lane.
        lane: usize,
        /// Whole packets.
        data: Bytes,
    },
    /// The sender should be asked for a keyframe (PLI or FIR).
    KeyframeNeeded {
        /// The lane.
        lane: usize,
    },
    /// The sender of a lane has said goodbye.
    Goodbye {
        /// The lane.
        lane: usize,
    },
}

/// What places a lane on the common timeline.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// What is added to the lane's own time.
    offset: TimeDelta,
    /// By when its first packet arrived.
    by_arrival: Option<TimeDelta>,
    /// By something better.
    synced: bool,
    /// The RTP timestamp of a moment that other lanes have as well.
    common: Option<u32>,
    /// The last decode time that was given out.
    last: Option<Timestamp>,
}

/// Receives the media of one session, and makes one stream of tracks and frames of it.
///
/// The lanes go by their index in what the receiver was made of. [`poll_event`](Self::poll_event) until `None` after each input.
#[derive(Debug)]
pub struct MediaReceiver {
    lanes: Vec<(Lane, Place, LaneCounters)>,
    /// When the first packet of any lane arrived.
    origin: Option<Instant>,
    started: bool,
    /// The tracks as they were announced.
    tracks: TrackSet,
    /// Packets are held at the start of each lane.
    start_hold: bool,
    /// Frames that wait for the start.
    held: VecDeque<(usize, MediaFrame)>,
    held_bytes: usize,
    events: VecDeque<Event>,
}

impl MediaReceiver {
    /// A receiver of these media; those without a format have no lane, and what comes for them is dropped.
    #[must_use]
    pub fn new(specs: Vec<LaneSpec>, options: MediaReceiverOptions) -> Self {
        let lanes = specs.into_iter().filter_map(|spec| Lane::new(spec.track, spec.formats, options));
        Self {
            lanes: lanes.map(|lane| (lane, Place::default(), LaneCounters::default())).collect(),
            origin: None,
            started: false,
            tracks: TrackSet::default(),
            start_hold: options.start_hold,
            held: VecDeque::new(),
            held_bytes: 0,
            events: VecDeque::new(),
        }
    }

    /// What was counted on a lane.
    #[must_use]
    pub fn counters(&self, lane: usize) -> LaneCounters {
        let Some((lane, _, own)) = self.lanes.get(lane) else { return LaneCounters::default() };
        let LaneCounters { bad_reports, clamped, implausible_reports, resynced, .. } = *own;
        LaneCounters { bad_reports, clamped, implausible_reports, resynced, ..lane.counters() }
    }

    /// How a lane's clocks run against each other.
    pub fn drift(&mut self, lane: usize) -> Option<Drift> {
        self.lanes.get_mut(lane)?.0.receiver().drift()
    }

    /// Takes a datagram of a lane that arrived at `now`. One that is no RTP packet is counted.
    ///
    /// # Errors
    /// It was the last of [`MAX_BAD_PACKETS`] in a row that were none: the peer does not speak RTP.
    pub fn handle_rtp(&mut self, now: Instant, lane: usize, datagram: &Bytes) -> DecodeResult<()> {
        let Some((found, ..)) = self.lanes.get_mut(lane) else { return Ok(()) };
        match RtpPacket::decode(datagram) {
            Ok(packet) => {
                found.bad_in_a_row = 0;
                self.handle_packet(now, lane, packet);
                Ok(())
            }
            Err(error) => {
                found.count_bad_packet();
                let hopeless = found.bad_in_a_row >= MAX_BAD_PACKETS;
                if hopeless { Err(error.in_closed_unit(0)) } else { Ok(()) }
            }
        }
    }

    /// Takes a packet of a lane that arrived at `now` and that somebody else has decoded.
    pub fn handle_packet(&mut self, now: Instant, lane: usize, packet: RtpPacket) {
        let Some((found, ..)) = self.lanes.get_mut(lane) else { return };
        self.origin.get_or_insert(now);
        found.handle_packet(now, packet);
        self.advance(now, lane);
    }

    /// Takes a sender report of a lane that arrived at `now` and that somebody else has decoded.
    pub fn handle_sender_report(&mut self, now: Instant, lane: usize, report: &SenderReport) {
        let Some((found, ..)) = self.lanes.get_mut(lane) else { return };
        found.receiver().handle_sender_report(now, report);
        self.synchronise();
        self.advance(now, lane);
    }

    /// Takes a control datagram of a lane that arrived at `now`. What cannot be read of it is counted.
    pub fn handle_rtcp(&mut self, now: Instant, lane: usize, datagram: &Bytes) {
        let Some((found, _, counters)) = self.lanes.get_mut(lane) else { return };
        for packet in compound(datagram) {
            match packet {
                Ok(RtcpPacket::SenderReport(report)) => {
                    found.receiver().handle_sender_report(now, &report);
                }
                Ok(RtcpPacket::Goodbye(goodbye)) if found.receiver().handle_goodbye(&goodbye) => {
                    self.events.push_back(Event::Goodbye { lane });
                }
                Ok(_) => {}
                Err(_) => counters.bad_reports = counters.bad_reports.saturating_add(1),
            }
        }
        self.synchronise();
        self.advance(now, lane);
    }

    /// An RTSP server's `RTP-Info`: the timestamp that a lane has at the moment where all lanes begin. Weighs less than a
    /// sender report, and more than when packets arrive.
    pub fn set_common_moment(&mut self, lane: usize, timestamp: u32) {
        if let Some((_, place, _)) = self.lanes.get_mut(lane) {
            place.common = Some(timestamp);
        }
        self.synchronise();
    }

    /// Time has passed, and all that has arrived was taken.
    pub fn handle_timeout(&mut self, now: Instant) {
        for lane in 0..self.lanes.len() {
            if let Some((found, ..)) = self.lanes.get_mut(lane) {
                found.handle_timeout(now);
            }
            self.advance(now, lane);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` when nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().filter_map(|(lane, ..)| lane.deadline());
        let origin = self.origin.filter(|_| !self.started);
        let start = origin.and_then(|origin| origin.checked_add(self.patience()));
        lanes.chain(start).min()
    }

    /// What comes next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A compound packet for the sender of a lane: a receiver report, and who sends it. `None` before its first packet.
    pub fn report(&mut self, now: Instant, lane: usize, ssrc: u32, cname: &str) -> Option<Bytes> {
        let block = self.lanes.get_mut(lane)?.0.receiver().report(now)?;
        let mut out = BytesMut::new();
        let reports = [block].into_iter().collect();
        RtcpPacket::ReceiverReport(ReceiverReport { ssrc, reports }).encode(&mut out);
        sdes(ssrc, cname).encode(&mut out);
        Some(out.freeze())
    }

    /// The source whose packets a lane takes, to be named in feedback.
    pub fn ssrc(&mut self, lane: usize) -> Option<u32> {
        self.lanes.get_mut(lane)?.0.receiver().ssrc()
    }

    /// Takes what a lane has, and starts when there is enough to.
    fn advance(&mut self, now: Instant, lane: usize) {
        self.place_by_arrival(lane);
        self.drain(lane);
        if let Some((found, ..)) = self.lanes.get_mut(lane)
            && found.take_request(now)
        {
            self.events.push_back(Event::KeyframeNeeded { lane });
        }
        let waited = self.origin.map(|origin| now.saturating_duration_since(origin));
        if !self.started && waited.is_some_and(|waited| waited >= self.patience() || self.is_full()) {
            self.start();
        }
    }

    /// True when no more frames may wait for the start.
    fn is_full(&self) -> bool {
        self.held_bytes > MAX_HELD_BYTES || self.held.len() > MAX_HELD_FRAMES
    }

    /// True while a lane holds what came first.
    fn is_holding(&self) -> bool {
        self.lanes.iter().any(|(lane, ..)| lane.is_holding())
    }

    /// How long after the first packet the first frames come out. Those of a lane that holds what came first are waited for, but a
    /// sender whose numbers jump again and again makes it hold for ever: no longer than one hold behind the longest wait.
    fn patience(&self) -> Duration {
        if self.is_holding() {
            return START_WAIT.saturating_add(START_HOLD);
        }
        let mut lanes = self.lanes.iter().filter(|(lane, ..)| !lane.is_transport_stream()).peekable();
        let several = self.lanes.len() > 1;
        if lanes.peek().is_some() && lanes.any(|(lane, ..)| lane.track().is_none()) {
            START_WAIT
        } else if several && self.lanes.iter().any(|(_, place, _)| !place.synced) {
            SYNC_WAIT
        } else {
            Duration::ZERO
        }
    }

    fn start(&mut self) {
        self.started = true;
        self.announce();
        let held = core::mem::take(&mut self.held);
        for (lane, frame) in if self.start_hold { self.by_time(held) } else { held } {
            self.emit(lane, frame);
        }
        self.held_bytes = 0;
    }

    /// Frames of lanes that were held one by one, in the order of their times. Each lane keeps its own.
    fn by_time(&self, held: VecDeque<(usize, MediaFrame)>) -> VecDeque<(usize, MediaFrame)> {
        let mut latest: Vec<Option<Timestamp>> = vec![None; self.lanes.len()];
        let timed = held.into_iter().filter_map(|(lane, frame)| {
            let ((_, place, _), latest) = (self.lanes.get(lane)?, latest.get_mut(lane)?);
            *latest = (*latest).max(Some(frame.dts + place.offset));
            Some((*latest, (lane, frame)))
        });
        let mut timed: Vec<_> = timed.collect();
        timed.sort_by_key(|(at, _)| *at);
        timed.into_iter().map(|(_, held)| held).collect()
    }

    fn announce(&mut self) {
        let tracks = TrackSet::new(self.lanes.iter().filter_map(|(lane, ..)| lane.track().cloned()));
        if !tracks.is_empty() && !tracks.same_content(&self.tracks) {
            self.tracks = tracks.clone();
            self.events.push_back(Event::Media(MediaEvent::Tracks(tracks)));
        }
    }

    fn drain(&mut self, lane: usize) {
        while let Some(output) = self.lanes.get_mut(lane).and_then(|(found, ..)| found.poll()) {
            match output {
                Output::TransportStream(data) => self.events.push_back(Event::TransportStream { lane, data }),
                Output::Track if self.started => self.announce(),
                Output::Track => {}
                Output::Frame(frame) if self.started => self.emit(lane, frame),
                Output::Frame(frame) => {
                    self.held_bytes = self.held_bytes.saturating_add(frame.payload.len());
                    self.held.push_back((lane, frame));
                }
            }
        }
    }

    /// Puts a frame on the common timeline.
    fn emit(&mut self, lane: usize, mut frame: MediaFrame) {
        let Some((_, place, counters)) = self.lanes.get_mut(lane) else { return };
        frame.dts += place.offset;
        frame.pts += place.offset;
        if let Some(last) = place.last.filter(|last| *last > frame.dts) {
            counters.clamped = counters.clamped.saturating_add(1);
            frame.flags |= FrameFlags::CLAMPED;
            frame.dts = last;
            frame.pts = frame.pts.max(last);
        }
        place.last = Some(frame.dts);
        self.events.push_back(Event::Media(MediaEvent::Frame(frame)));
    }

    fn place_by_arrival(&mut self, lane: usize) {
        let Some(origin) = self.origin else { return };
        let Some((found, place, _)) = self.lanes.get_mut(lane) else { return };
        if let Some(first) = found.first_arrival().filter(|_| place.by_arrival.is_none()) {
            let offset = TimeDelta::from_duration(first.saturating_duration_since(origin));
            place.by_arrival = Some(offset);
            place.offset = offset;
            self.synchronise();
        }
    }

    /// Brings lanes together whose distance is known by something better than when they arrived.
    fn synchronise(&mut self) {
        let origins: Vec<Origin> =
            self.lanes.iter_mut().map(|(lane, place, _)| Origin::of(lane, place)).collect();
        let chosen = |select: fn(&Origin) -> Option<i128>| {
            let known = || (0..origins.len()).filter(|at| origins.get(*at).and_then(select).is_some());
            let synced = known().find(|at| self.lanes.get(*at).is_some_and(|(_, place, _)| place.synced));
            let count = known().count();
            synced.or_else(|| known().next()).filter(|_| count > 1).map(|at| (at, select))
        };
        let found = chosen(|origin| origin.reported).or_else(|| chosen(|origin| origin.common));
        let Some((reference, select)) = found else { return };
        let Some((base, by_arrival)) =
            self.lanes.get(reference).map(|(_, place, _)| (place.offset, place.by_arrival))
        else {
            return;
        };
        let Some(zero) = origins.get(reference).and_then(select) else { return };
        for (at, (_, place, counters)) in self.lanes.iter_mut().enumerate() {
            let Some(own) = origins.get(at).and_then(select) else { continue };
            let apart = TimeDelta(i64::try_from(own.saturating_sub(zero)).unwrap_or(i64::MAX));
            let arrived = place.by_arrival.unwrap_or_default() - by_arrival.unwrap_or_default();
            let target = base + apart;
            // Once it is in step, a clock that drifts moves it little by little.
            let believed = if place.synced { place.offset } else { base + arrived };
            if (target - believed).abs() > MAX_DISAGREEMENT {
                counters.implausible_reports = counters.implausible_reports.saturating_add(1);
                continue;
            }
            if !core::mem::replace(&mut place.synced, true) {
                place.offset = target;
            } else if (target - place.offset).abs() > RESYNC {
                place.offset = target;
                counters.resynced = counters.resynced.saturating_add(1);
            }
        }
    }
}

/// Where a lane's own zero lies on clocks that lanes may have in common, in flicks.
struct Origin {
    /// On the sender's clock.
    reported: Option<i128>,
    /// From a moment that all lanes have.
    common: Option<i128>,
}

impl Origin {
    fn of(lane: &mut Lane, place: &Place) -> Self {
        let placed = place.by_arrival.is_some();
        let reported = lane.receiver().moment(0).filter(|_| placed);
        let ticks = place.common.and_then(|timestamp| lane.receiver().ticks_of(timestamp)).filter(|_| placed);
        Self { reported, common: ticks.map(|ticks| i128::from(lane.time(ticks).0).saturating_neg()) }
    }
}
