//! A connection that is made: both directions, and who is still there.

use std::time::{Duration, Instant};

use arcly_core::Phase;
use bytes::{Bytes, BytesMut};

use super::{Event, Outbox, SendError};
use crate::config::{Config, MAX_PENDING_MESSAGE, TransmissionMode};
use crate::crypto::{Crypto, Entropy};
use crate::error::SessionError;
use crate::filter::{ArqLevel, FecReceiver, FecSender};
use crate::session::clock::{earlier, micros};
use crate::session::handshake::{Endpoint, Established, Negotiated};
use crate::session::receive::{Delivery, Receiver, ReceiverConfig};
use crate::session::rtt::Rtt;
use crate::session::send::{Outgoing, Sender, SenderConfig, Sending};
use crate::session::statistics::{InstantStatistics, Statistics, Totals};
use crate::wire::{
    Ack, Control, ControlPacket, DataPacket, Handshake, HandshakeKind, HsFlags, KeyMaterial, KeyResponse,
    KeySpec, KmState, MsgNumber, SocketId, TimeStamp,
};

/// A side that has nothing to say for so long says that.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Keys that are not confirmed are announced again no sooner: a peer takes one request a second for long.
const KEY_RETRY: Duration = Duration::from_millis(250);
/// Answers to repeated conclusions: so many at once, and one in this time.
const ANSWER_PERIOD: i64 = 50_000;

pub(super) struct Open {
    pub(super) peer: SocketId,
    pub(super) negotiated: Negotiated,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    mss: u32,
    pub(super) rtt: Rtt,
    filter: Option<Filter>,
    /// What the peer's repeated conclusions are answered with, and when that was done last.
    answer: Option<Handshake>,
    answered: i64,
    /// When the peer was heard last, and when it heard from this side.
    pub(super) heard: i64,
    spoke: i64,
    idle: Duration,
    /// When to stop waiting for acknowledgements of what was sent before the connection was closed.
    linger: Option<i64>,
    /// State of a small generator that spreads the reactions of file congestion control; no secret.
    dice: u64,
}

/// The packet filter, and what it has done.
struct Filter {
    sender: FecSender,
    receiver: FecReceiver,
    sent: u64,
    received: u64,
    supplied: u64,
    lost: u64,
}

impl Open {
    pub(super) fn new(
        at: i64,
        config: &Config,
        endpoint: Endpoint,
        established: Established,
        (heard, stamp): (i64, TimeStamp),
    ) -> Self {
        let Established { peer, peer_seq, mtu, negotiated, answer } = established;
        let live = config.mode == TransmissionMode::Live;
        let theirs = negotiated.peer_flags;
        let flow = negotiated.flow_window as usize;
        let mss = u32::from(config.mss).min(mtu);
        let drops = live && config.too_late_drop && theirs.contains(HsFlags::TLPKT_DROP);
        let sender = SenderConfig {
            initial_seq: endpoint.initial_seq,
            peer,
            payload_size: negotiated.payload_size,
            buffer_packets: config.send_buffer_packets as usize,
            window: flow,
            latency: (live && theirs.contains(HsFlags::TSBPD_RECEIVER)).then_some(negotiated.peer_latency),
            too_late: drops.then(|| SenderConfig::too_late(negotiated.peer_latency)),
            peer_repeats_nak: theirs.contains(HsFlags::PERIODIC_NAK),
            bandwidth: live.then_some(config.bandwidth),
            mss: mss as usize,
        };
        let timed = live && theirs.contains(HsFlags::TSBPD_SENDER);
        let filter = negotiated.filter;
        let receiver = ReceiverConfig {
            initial_seq: peer_seq,
            window_packets: config.receive_buffer_packets.min(config.flow_window) as usize,
            window_bytes: crate::config::MAX_RECEIVE_BYTES,
            message_bytes: MAX_PENDING_MESSAGE,
            stream: config.mode == TransmissionMode::File,
            too_late_drop: config.too_late_drop,
            ask_at_once: filter.is_none_or(|filter| filter.arq() == ArqLevel::Always),
            repeat_nak: config.periodic_nak,
            mss: mss as usize,
            tsbpd: timed.then_some((heard, stamp, negotiated.receiver_latency)),
        };
        Self {
            peer,
            sender: Sender::new(at, sender),
            receiver: Receiver::new(receiver),
            mss,
            rtt: Rtt::default(),
            filter: filter.map(|layout| Filter {
                sender: FecSender::new(layout, endpoint.initial_seq),
                receiver: FecReceiver::new(layout, peer_seq),
                sent: 0,
                received: 0,
                supplied: 0,
                lost: 0,
            }),
            negotiated,
            answer,
            answered: i64::MIN,
            heard: at,
            spoke: at,
            idle: config.peer_idle,
            linger: None,
            dice: u64::from(endpoint.initial_seq.value()) | 1,
        }
    }

    // Input.

    pub(super) fn handle_data(&mut self, at: i64, packet: DataPacket, crypto: Option<&Crypto>) {
        self.heard = at;
        let Some(filter) = &mut self.filter else { return self.take(at, packet, crypto) };
        filter.receiver.handle_packet(&packet);
        let own = packet.header.message == MsgNumber::CONTROL;
        filter.received += u64::from(own);
        if !own {
            self.take(at, packet, crypto);
        }
        while let Some(packet) = self.filter.as_mut().and_then(|filter| filter.receiver.poll_recovered()) {
            if let Some(filter) = &mut self.filter {
                filter.supplied += 1;
            }
            self.take(at, packet, crypto);
        }
        let asks = self.negotiated.filter.is_some_and(|filter| filter.arq() == ArqLevel::OnRequest);
        while let Some(range) = self.filter.as_mut().and_then(|filter| filter.receiver.poll_loss()) {
            if let Some(filter) = &mut self.filter {
                filter.lost += u64::from(range.len());
            }
            if asks {
                self.receiver.request(at, range);
            }
        }
    }

    /// A packet of the peer's, as sealed as it was sent.
    fn take(&mut self, at: i64, packet: DataPacket, crypto: Option<&Crypto>) {
        let DataPacket { header, payload } = packet;
        let payload = match (crypto, header.key) {
            (None, KeySpec::None) => payload,
            (None, _) => return self.receiver.handle_undecryptable(payload.len()),
            (Some(crypto), _) => {
                let length = payload.len();
                let mut opened = payload.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                if crypto.open(&header, &mut opened).is_err() {
                    return self.receiver.handle_undecryptable(length);
                }
                opened.freeze()
            }
        };
        self.receiver.handle_data(at, &header, payload, &self.rtt);
    }

    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        at: i64,
        packet: ControlPacket,
        crypto: &mut Option<Crypto>,
        out: &mut Outbox,
    ) -> Result<(), SessionError> {
        let ControlPacket { timestamp, control, .. } = packet;
        if let Control::Handshake(handshake) = &control {
            // It may be a replay: it says nothing about who is there.
            self.handle_handshake(at, handshake, out);
            return Ok(());
        }
        self.heard = at;
        match control {
            Control::Ack(ack) => self.handle_ack(at, &ack, out),
            Control::AckAck { number } => {
                if let Some(sample) = self.receiver.handle_ack_ack(at, number) {
                    self.rtt.measure(sample);
                    self.receiver.observe(at, timestamp, &self.rtt);
                }
            }
            Control::Nak(list) => {
                let random = self.roll();
                self.sender.handle_nak(at, &list, &self.rtt, random);
            }
            Control::DropRequest { range, .. } => self.receiver.handle_drop_request(at, range),
            Control::KeyRequest(material) => self.handle_keys(now, at, material, crypto.as_mut(), out),
            Control::KeyResponse(response) => {
                if let Some(crypto) = crypto {
                    // What is refused here was announced; the key in use stays.
                    crypto.handle_response(&response);
                }
            }
            Control::Shutdown => return Err(SessionError::PeerClosed),
            Control::PeerError { code } => return Err(SessionError::PeerError(code)),
            _ => {}
        }
        Ok(())
    }

    fn handle_ack(&mut self, at: i64, ack: &Ack, out: &mut Outbox) {
        if let Some(report) = &ack.report {
            let micros = |us: u32| Duration::from_micros(us.into());
            self.rtt.adopt(micros(report.rtt_us), micros(report.rtt_variance_us));
        }
        if self.sender.handle_ack(at, ack, &self.rtt) && ack.report.is_some() && ack.number > 0 {
            self.say(at, Control::AckAck { number: ack.number }, out);
        }
    }

    fn handle_handshake(&mut self, at: i64, handshake: &Handshake, out: &mut Outbox) {
        let asks = handshake.kind == HandshakeKind::Conclusion && handshake.socket_id == self.peer;
        if asks && at.saturating_sub(self.answered) >= ANSWER_PERIOD {
            self.answer(at, out);
        }
    }

    /// Tells the peer what it has missed when it repeats its conclusion.
    pub(super) fn answer(&mut self, at: i64, out: &mut Outbox) {
        if let Some(answer) = self.answer.clone() {
            self.answered = at;
            self.say(at, Control::Handshake(answer), out);
        }
    }

    fn handle_keys(
        &mut self,
        now: Instant,
        at: i64,
        material: KeyMaterial,
        crypto: Option<&mut Crypto>,
        out: &mut Outbox,
    ) {
        use crate::crypto::RequestError;
        let Some(crypto) = crypto else {
            return self.say(at, Control::KeyResponse(KeyResponse::Refused(KmState::NoSecret)), out);
        };
        let answer = match crypto.handle_request(now, &material) {
            Ok(()) => KeyResponse::Accepted(material),
            Err(RequestError::Refused(state)) => KeyResponse::Refused(state),
            Err(RequestError::Limited) => return,
        };
        self.say(at, Control::KeyResponse(answer), out);
    }

    pub(super) fn send(&mut self, at: i64, payload: Bytes, how: Sending) -> Result<MsgNumber, SendError> {
        if self.linger.is_some() {
            return Err(SendError::NotConnected);
        }
        let limit = self.negotiated.message_size;
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        if payload.len() > limit {
            return Err(SendError::TooLong { limit });
        }
        if self.sender.packets_of(payload.len()) > self.sender.room() {
            return Err(SendError::Full);
        }
        Ok(self.sender.push(at, payload, how))
    }

    // Time.

    pub(super) fn handle_timeout(&mut self, at: i64) -> Result<(), SessionError> {
        if at >= self.heard.saturating_add(micros(self.idle)) {
            return Err(SessionError::Timeout(Phase::Idle));
        }
        self.sender.handle_timeout(at, &self.rtt);
        Ok(())
    }

    pub(super) const fn linger(&mut self, until: i64) {
        self.linger = Some(until);
    }

    /// Whether a connection that was closed need not wait any longer.
    pub(super) fn has_lingered(&self, at: i64) -> bool {
        self.linger.is_some_and(|until| until <= at || self.sender.is_drained())
    }

    /// Everything that is to be said and handed over by now.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        at: i64,
        crypto: &mut Option<Crypto>,
        entropy: &mut dyn Entropy,
        out: &mut Outbox,
    ) {
        while let Some(delivery) = self.receiver.deliver(at) {
            out.events.push_back(event(delivery));
        }
        while let Some(control) = self.receiver.poll_control(at, &self.rtt) {
            self.say(at, control, out);
        }
        self.transmit(at, crypto, out);
        if let Some(crypto) = crypto
            && let Some(material) = crypto.poll_request(now, self.rtt.timeout().max(KEY_RETRY), entropy)
        {
            self.say(at, Control::KeyRequest(material), out);
        }
        if at >= self.spoke + micros(KEEP_ALIVE) {
            self.say(at, Control::KeepAlive, out);
        }
    }

    fn transmit(&mut self, at: i64, crypto: &mut Option<Crypto>, out: &mut Outbox) {
        loop {
            let outgoing = self.sender.poll(at, &mut |header, payload| {
                if let Some(crypto) = crypto {
                    crypto.seal(header, payload);
                }
            });
            match outgoing {
                None => break,
                Some(Outgoing::Control(control)) => self.say(at, control, out),
                Some(Outgoing::Data { header, datagram }) => {
                    self.spoke = at;
                    if !header.retransmitted {
                        self.protect(&header, &datagram, out);
                    } else {
                        out.datagrams.push_back(datagram);
                    }
                }
            }
        }
        self.sender.expect(at, &self.rtt);
    }

    /// Sends a packet, and what the filter adds to it.
    fn protect(&mut self, header: &crate::wire::DataHeader, datagram: &Bytes, out: &mut Outbox) {
        out.datagrams.push_back(datagram.clone());
        let Some(filter) = &mut self.filter else { return };
        filter.sender.handle_packet(header, datagram.get(crate::wire::HEADER_BYTES..).unwrap_or_default());
        while let Some(mut packet) = filter.sender.poll_packet() {
            packet.header.destination = self.peer;
            filter.sent += 1;
            let mut datagram = BytesMut::new();
            packet.encode(&mut datagram);
            out.datagrams.push_back(datagram.freeze());
        }
    }

    fn say(&mut self, at: i64, control: Control, out: &mut Outbox) {
        self.spoke = at;
        out.control(at, self.peer, control);
    }

    pub(super) fn say_goodbye(&mut self, at: i64, out: &mut Outbox) {
        self.say(at, Control::Shutdown, out);
    }

    /// Hands over what is left.
    pub(super) fn flush(&mut self, out: &mut Outbox) {
        while let Some(delivery) = self.receiver.flush() {
            out.events.push_back(event(delivery));
        }
    }

    pub(super) fn wake(&mut self, at: i64) -> Option<i64> {
        let gone = self.heard.saturating_add(micros(self.idle));
        let silence = gone.min(self.spoke + micros(KEEP_ALIVE));
        let work = earlier(self.receiver.wake(), self.sender.wake(at));
        earlier(Some(self.linger.map_or(silence, |until| silence.min(until))), work)
    }

    /// A number from 0 to 1 (xorshift).
    const fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    // What is known.

    pub(super) fn statistics(&self, at: i64) -> Statistics {
        Statistics { totals: self.totals(), instant: self.instant(at), ..Statistics::default() }
    }

    pub(super) fn totals(&self) -> Totals {
        let (s, r) = (self.sender.counters(), self.receiver.counters());
        let filter = |of: fn(&Filter) -> u64| self.filter.as_ref().map_or(0, of);
        Totals {
            pkt_sent: s.packets,
            pkt_recv: r.packets,
            pkt_sent_unique: s.unique,
            pkt_recv_unique: r.unique,
            pkt_snd_loss: s.lost,
            pkt_rcv_loss: r.lost,
            pkt_retrans: s.retransmitted,
            pkt_rcv_retrans: r.retransmitted,
            pkt_sent_ack: r.acks,
            pkt_recv_ack: s.acks,
            pkt_sent_nak: r.naks,
            pkt_recv_nak: s.naks,
            us_snd_duration: s.busy_us,
            pkt_snd_drop: s.dropped,
            pkt_rcv_drop: r.dropped,
            pkt_rcv_undecrypt: r.undecryptable,
            pkt_snd_filter_extra: filter(|filter| filter.sent),
            pkt_rcv_filter_extra: filter(|filter| filter.received),
            pkt_rcv_filter_supply: filter(|filter| filter.supplied),
            pkt_rcv_filter_loss: filter(|filter| filter.lost),
            pkt_rcv_belated: r.belated,
            byte_sent: s.bytes,
            byte_recv: r.bytes,
            byte_sent_unique: s.unique_bytes,
            byte_recv_unique: r.unique_bytes,
            byte_retrans: s.retransmitted_bytes,
            byte_snd_drop: s.dropped_bytes,
            byte_rcv_undecrypt: r.undecryptable_bytes,
            pkt_malformed: 0,
        }
    }

    fn instant(&self, at: i64) -> InstantStatistics {
        let bounded = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let millis = |micros: i64| micros as f64 / 1_000.0;
        let mbps = |bytes: u64| bytes as f64 * 8.0 / 1_000_000.0;
        let (snd_packets, snd_bytes, flight) = self.sender.fill();
        let (rcv_packets, rcv_bytes, rcv_room) = self.receiver.fill();
        let (window, congestion) = self.sender.windows();
        let (period, max) = self.sender.pace(at);
        let age = |since: i64| u32::try_from((at - since) / 1_000).unwrap_or(0);
        let latency = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let r = self.receiver.counters();
        InstantStatistics {
            us_pkt_snd_period: period as f64,
            pkt_flow_window: bounded(window),
            pkt_congestion_window: bounded(congestion),
            pkt_flight_size: bounded(flight),
            ms_rtt: millis(micros(self.rtt.smoothed())),
            mbps_bandwidth: mbps(u64::from(self.receiver.capacity().unwrap_or(0)) * u64::from(self.mss)),
            mbps_recv_rate: mbps(self.receiver.rate(at).bytes),
            mbps_max_bw: max.map_or(-1.0, mbps),
            byte_mss: self.mss,
            pkt_snd_buf: bounded(snd_packets),
            byte_snd_buf: bounded(snd_bytes),
            ms_snd_buf: self.sender.oldest().map_or(0, age),
            ms_snd_tsbpd_delay: latency(self.negotiated.peer_latency),
            pkt_rcv_buf: bounded(rcv_packets),
            byte_rcv_buf: bounded(rcv_bytes),
            pkt_avail_rcv_buf: bounded(rcv_room),
            ms_rcv_tsbpd_delay: latency(self.negotiated.receiver_latency),
            ms_reorder_tolerance: millis(self.receiver.tolerance(&self.rtt)),
            pkt_reorder_distance: u32::try_from(r.reorder_distance).unwrap_or(u32::MAX),
            ms_rcv_avg_belated_time: r.belated_us.checked_div(r.belated).unwrap_or(0) as f64 / 1_000.0,
            ms_drift: millis(self.receiver.drift()),
        }
    }
}

fn event(delivery: Delivery) -> Event {
    match delivery {
        Delivery::Message(message) => Event::Message(message),
        Delivery::Skipped(packets) => Event::Dropped { packets },
    }
}
