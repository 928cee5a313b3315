mod data;
mod link;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::{AudioLevel, CloseReason, CodecId, Phase};
use arcly_rtp::wire::rtcp::SenderReport;
use arcly_rtp::wire::{Header, NtpTime, RtpPacket};
use bytes::Bytes;
use str0m::bwe::Bitrate;
use str0m::change::SdpOffer;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::media::{KeyframeRequestKind, Mid, Rid};
use str0m::net::{Protocol as Carrier, Receive, TcpType};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, IceConnectionState, IceCreds, Input, Rtc, RtcConfig};

use super::medium::{Medium, media};
use super::stats::{Account, SessionStats};
use crate::config::Addresses;
use crate::wire::{
    BindingRequest, Credentials, DtlsUse, Kind, Offer, OfferError, Protocol, Role, TransportAddress,
    transaction_of,
};
pub use data::{
    Channel, MAX_CHANNELS, MAX_LABEL_BYTES, MAX_MESSAGE_BYTES, MAX_UNDELIVERED_BYTES, MAX_WAITING_BYTES,
    MESSAGE_LIFETIME,
};
use data::{Data, MAX_WAITING_IN_ALL};
use link::MAX_PACER_STEPS;

/// Addresses of one peer that have shown that they know the password: each network that a phone is in, and each change of it.
pub const MAX_SOURCES: usize = 32;
/// Addresses that are [forgotten](Transport::forget) between two ICE restarts; no new one counts behind them. The agent keeps each address
/// that it has had a check from until then.
pub const MAX_FORGOTTEN: usize = 256;
/// Checks that are remembered, so that nobody can send one of them again from elsewhere: those of some minutes.
const MAX_CHECKS: usize = 256;
/// Sources of packets whose media are remembered, and not looked up for each packet.
const MAX_SSRCS: usize = 32;
/// What a peer is told that would answer itself.
const OWN_OFFER: &str = "the offer was this side's";
/// How a Binding success response begins.
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// A keyframe of one medium and layer is asked for at most once in this time, whoever needs it.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// What the link of somebody who is sent media is believed to carry before it has said anything: enough for a picture to be there at once.
const FIRST_ESTIMATE_BPS: u64 = 5_000_000;
/// How often what is counted is brought up to date.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Codecs that offers are answered with, and that are offered, in the order of preference.
pub(super) const CODECS: [CodecId; 9] = [
    CodecId::H264,
    CodecId::Vp8,
    CodecId::Vp9,
    CodecId::Av1,
    CodecId::H265,
    CodecId::Opus,
    CodecId::G722,
    CodecId::Pcmu,
    CodecId::Pcma,
];

/// What all sessions of a server prove who they are with: a certificate that nobody else has seen before.
#[derive(Clone)]
pub struct Identity {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn generate() -> io::Result<Self> {
        let crypto = str0m::crypto::from_feature_flags();
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| io::Error::other("no certificate can be made"))?;
        Ok(Self { crypto: Arc::new(crypto), certificate })
    }
}

/// How long a peer may take, and be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the offer to the first check.
    pub ice: Duration,
    /// From the offer to media: checks, and the DTLS handshake.
    pub connect: Duration,
    /// From one check to the next (RFC 7675 §5.1: 30 s).
    pub consent: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ice: Duration::from_secs(10),
            connect: Duration::from_secs(20),
            consent: Duration::from_secs(30),
        }
    }
}

/// Which part of the exchange of descriptions this side has, and with it which part of ICE.
#[derive(Debug)]
enum Part {
    /// It has answered this offer, and answers checks.
    Answers(Box<Offer>),
    /// It has offered, and finds out by checks of its own how the peer is reached.
    Offers,
}

/// What a transport tells its owner.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Datagrams that come from there belong to this session from now on.
    Source(TransportAddress),
    /// Media can flow.
    Connected,
    /// A packet of a medium.
    Packet {
        /// The medium, by its place in the answer.
        medium: usize,
        /// The layer, by its place in [`Medium::layers`]; 0 where there are none.
        layer: usize,
        /// In the clear, in whatever order it came; what was sent again looks as if it had come the first time.
        packet: RtpPacket,
        /// How loud it is (RFC 6464), where the peer says so.
        level: Option<AudioLevel>,
    },
    /// A sender report of a medium.
    Report {
        /// The medium.
        medium: usize,
        /// The layer.
        layer: usize,
        /// What it says.
        report: SenderReport,
    },
    /// The peer cannot go on without a keyframe of a medium.
    KeyframeRequest {
        /// The medium.
        medium: usize,
    },
    /// Messages can go over a data channel.
    ChannelOpen {
        /// The channel.
        channel: Channel,
        /// It is one that this side has opened.
        is_own: bool,
        /// What it is called, in at most [`MAX_LABEL_BYTES`] where the peer has opened it.
        label: String,
        /// What is spoken over it, the same.
        protocol: String,
    },
    /// A message came, of at most [`MAX_MESSAGE_BYTES`].
    Message {
        /// Over which channel.
        channel: Channel,
        /// What it says.
        data: Bytes,
    },
    /// A data channel is gone.
    ChannelClosed {
        /// The channel.
        channel: Channel,
    },
}

/// What comes out of a machine of this crate.
#[derive(Debug)]
pub enum Output<E> {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: TransportAddress,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Something happened.
    Event(E),
    /// Nothing more until the next input, or until this instant.
    Wait(Instant),
}

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its payload type.
    pub payload_type: u8,
    /// Its number, from below 2¹⁶ at the first packet.
    pub sequence: u64,
    /// Its timestamp.
    pub timestamp: u32,
    /// The moment that the timestamp stands for, not in the future.
    pub moment: Instant,
    /// The marker bit.
    pub marker: bool,
    /// What is behind the header, shared with everybody who is sent the same.
    pub payload: &'a Arc<[u8]>,
}

/// ICE, DTLS, SRTP and RTCP with one peer.
pub struct Transport {
    rtc: Rtc,
    part: Part,
    /// This side's user name fragment.
    fragment: String,
    addresses: Addresses,
    timeouts: Timeouts,
    media: Vec<Medium>,
    opened: Instant,
    now: Instant,
    /// The last check that knew the password.
    consent: Option<Instant>,
    sources: Vec<TransportAddress>,
    /// Of those that count no more, how many the agent still remembers.
    forgotten: usize,
    /// What the last packet came in, which may be anybody's.
    carrier: Protocol,
    /// Checks that were answered, and where they came from.
    checks: VecDeque<(Vec<u8>, TransportAddress)>,
    /// The answer to a check from a new address, behind the event about it.
    pending: Option<(TransportAddress, Vec<u8>)>,
    /// Sources of packets, and their media and layers.
    ssrcs: Vec<(u32, (usize, usize))>,
    /// When keyframes were asked for, and of what.
    asked: Vec<((usize, usize), Instant)>,
    data: Data,
    connected: bool,
    closed: Option<CloseReason>,
    account: Account,
    /// Packets that the pacer may still let go in this turn.
    pacer_steps: usize,
    /// Until then a probe may be under way.
    probed: Instant,
    desired_bps: u64,
}

impl core::fmt::Debug for Transport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Transport")
            .field("fragment", &self.fragment)
            .field("connected", &self.connected)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Answers an offer: the transport, and the text of the answer.
    ///
    /// # Errors
    /// The offer cannot be answered, because there is no codec in it that is known here for example.
    pub fn answer(
        identity: &Identity,
        addresses: Addresses,
        timeouts: Timeouts,
        offer: Offer,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let mut config = config(identity, &CODECS).set_ice_lite(true);
        if offer.role() == Role::Viewer {
            config = finds_out_the_bitrate(config);
        }
        let mut rtc = config.build(now);
        announce(&mut rtc, &addresses);
        let mut transport = Self::new(rtc, Part::Answers(Box::new(offer)), (addresses, timeouts), now);
        let answer = transport.accept()?;
        transport.media = media(&answer);
        transport.account = Account::new(&transport.media);
        Ok((transport, answer))
    }

    /// The transport of an offer by this side, once it has been answered.
    pub(super) fn offered(
        rtc: Rtc,
        (addresses, timeouts): (Addresses, Timeouts),
        media: Vec<Medium>,
        now: Instant,
    ) -> Self {
        let account = Account::new(&media);
        Self { media, account, ..Self::new(rtc, Part::Offers, (addresses, timeouts), now) }
    }

    fn new(rtc: Rtc, part: Part, (addresses, timeouts): (Addresses, Timeouts), now: Instant) -> Self {
        Self {
            rtc,
            part,
            fragment: String::new(),
            addresses,
            timeouts,
            media: Vec::new(),
            opened: now,
            now,
            consent: None,
            sources: Vec::new(),
            forgotten: 0,
            carrier: Protocol::Udp,
            checks: VecDeque::new(),
            pending: None,
            ssrcs: Vec::new(),
            asked: Vec::new(),
            data: Data::new(now),
            connected: false,
            closed: None,
            account: Account::default(),
            pacer_steps: MAX_PACER_STEPS,
            probed: now,
            desired_bps: 0,
        }
    }

    /// Answers the offer that is there.
    fn accept(&mut self) -> Result<String, OfferError> {
        let refused = |error: &dyn core::fmt::Display| OfferError::Refused(error.to_string());
        let Part::Answers(offer) = &self.part else { return Err(OfferError::Unsupported(OWN_OFFER)) };
        let offer = SdpOffer::from_sdp_string(offer.as_str()).map_err(|error| refused(&error))?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(|error| refused(&error))?;
        let IceCreds { ufrag, .. } = self.rtc.direct_api().local_ice_credentials();
        self.fragment = ufrag;
        Ok(answer.to_sdp_string())
    }

    /// Answers an ICE restart by the peer with an answer that has credentials of its own.
    ///
    /// # Errors
    /// It cannot be answered.
    pub fn restart(&mut self, now: Instant, credentials: Credentials) -> Result<String, OfferError> {
        self.advance(now);
        if let Part::Answers(offer) = &mut self.part {
            **offer = offer.restarted(credentials);
        }
        let before = self.fragment.clone();
        let answer = self.accept()?;
        // Credentials that it had before are no restart, and the agent remembers what it did.
        if self.fragment != before {
            self.forgotten = 0;
        }
        Ok(answer)
    }

    /// This side's user name fragment: the first half of the user name in checks for this session.
    #[must_use]
    pub fn fragment(&self) -> &str {
        &self.fragment
    }

    /// The media of the answer, in its order.
    #[must_use]
    pub fn media(&self) -> &[Medium] {
        &self.media
    }

    /// Addresses of the peer that count.
    #[must_use]
    pub fn sources(&self) -> &[TransportAddress] {
        &self.sources
    }

    /// An address of the peer counts no more: its connection is closed, and another one from there is another. See [`MAX_FORGOTTEN`].
    pub fn forget(&mut self, source: TransportAddress) {
        let known = self.sources.len();
        self.sources.retain(|known| *known != source);
        self.forgotten = self.forgotten.saturating_add(known.saturating_sub(self.sources.len()));
    }

    /// A connection to one of the addresses where the peer takes them is open, and `local` is this side's end of it (RFC 6544 §6.1): there
    /// is somewhere more to send checks to. For [an offer of this side](super::Offering), as others open no connections.
    pub fn handle_connection(&mut self, now: Instant, local: SocketAddr) {
        self.advance(now);
        let candidate = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build();
        if let (Part::Offers, Ok(candidate)) = (&self.part, candidate) {
            self.addresses.add_tcp(local);
            _ = self.rtc.add_local_candidate(candidate);
        }
        self.handle_timeout(now);
    }

    /// True once the peer has answered a check, or has sent one that was answered.
    #[must_use]
    pub const fn is_reached(&self) -> bool {
        self.consent.is_some()
    }

    /// True once media can flow.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Why it is over, if it is. What [`poll_output`](Self::poll_output) still has is to be sent.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Datagrams that were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.account.stats.datagrams_dropped
    }

    /// What was counted so far; figures of the peer's reports and of rates are brought up to date once in a second.
    #[must_use]
    pub const fn stats(&self) -> &SessionStats {
        &self.account.stats
    }

    /// Time goes on. Never back: the pacer may have been a few microseconds ahead.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.pacer_steps = MAX_PACER_STEPS;
    }

    /// Takes a datagram that came from `from` at `now`. One that is wrong, or from where nobody has shown the password, is
    /// dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) {
        self.advance(now);
        if !self.take(now, from, datagram) {
            self.account.dropped();
        }
        self.check_deadlines(now);
    }

    fn take(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) -> bool {
        let Some(local) = self.addresses.of_family(from) else { return false };
        let kind = Kind::of(datagram);
        if kind == Some(Kind::Dtls) && !self.admits_dtls(now, from, datagram) {
            return false;
        }
        let belongs = match (&self.part, kind) {
            (_, None) => false,
            // The agent knows the addresses that it checks, and what it has sent there.
            (Part::Offers, Some(_)) => true,
            (Part::Answers(_), Some(kind)) => self.is_for_us(kind, from, datagram),
        };
        let receive = belongs.then(|| Receive::new(carrier_of(from.protocol), from.socket, local, datagram));
        let Some(Ok(receive)) = receive else { return false };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return false;
        }
        if self.rtc.handle_input(input).is_err() {
            return false;
        }
        if kind == Some(Kind::Rtp) {
            self.carrier = from.protocol;
            self.account.received(datagram);
        }
        if matches!(self.part, Part::Offers) && datagram.starts_with(&BINDING_SUCCESS) {
            self.consent = Some(now);
        }
        true
    }

    /// Whether records are of use: data are where channels are agreed on, from who has shown the password, and not without end.
    fn admits_dtls(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) -> bool {
        match DtlsUse::of(datagram) {
            DtlsUse::Control => true,
            DtlsUse::Nothing => false,
            DtlsUse::Data => {
                let known = matches!(self.part, Part::Offers) || self.sources.contains(&from);
                known && self.admits_data(now, datagram.len())
            }
        }
    }

    /// A check for this session, or what comes from where one has come from.
    fn is_for_us(&self, kind: Kind, from: TransportAddress, datagram: &[u8]) -> bool {
        let known = self.sources.contains(&from);
        if kind != Kind::Stun {
            return known;
        }
        let is_ours = |request: BindingRequest<'_>| {
            request.local == self.fragment && !self.is_repeated(from, request.transaction)
        };
        let has_room = self.sources.len() < MAX_SOURCES && self.forgotten < MAX_FORGOTTEN;
        (known || has_room) && BindingRequest::decode(datagram).is_ok_and(is_ours)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.end(CloseReason::Malformed);
        }
        self.check_deadlines(now);
    }

    fn check_deadlines(&mut self, now: Instant) {
        if self.closed.is_none()
            && let Some((at, reason)) = self.deadline()
            && at <= now
        {
            self.close(reason);
        }
    }

    /// When the peer is given up, and why.
    fn deadline(&self) -> Option<(Instant, CloseReason)> {
        let handshake = CloseReason::Timeout(Phase::Handshake);
        let after = |since: Instant, time| since.checked_add(time);
        let Some(consent) = self.consent else {
            return Some((after(self.opened, self.timeouts.ice)?, handshake));
        };
        let silent = (after(consent, self.timeouts.consent)?, CloseReason::Timeout(Phase::Idle));
        if self.connected {
            return Some(silent);
        }
        Some((after(self.opened, self.timeouts.connect)?, handshake))
    }

    /// Ends the session from this side, and says good-bye as far as there is somebody to say it to.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() && self.rtc.close().is_ok() {
            _ = self.rtc.handle_input(Input::Timeout(self.now));
        }
        self.end(reason);
    }

    fn end(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
    }

    /// What comes next. To be asked until it is [`Output::Wait`].
    pub fn poll_output(&mut self) -> Output<Event> {
        if let Some((to, datagram)) = self.pending.take() {
            return Output::Transmit { to, datagram };
        }
        loop {
            let output = match self.rtc.poll_output() {
                Ok(str0m::Output::Timeout(at)) if self.goes_on(at) => None,
                Ok(str0m::Output::Timeout(at)) => {
                    let at = self.put_off(at);
                    return Output::Wait(self.next_wake(at));
                }
                Ok(str0m::Output::Transmit(transmit)) => {
                    let protocol = if transmit.proto == Carrier::Udp { Protocol::Udp } else { Protocol::Tcp };
                    let to = TransportAddress { protocol, socket: transmit.destination };
                    let datagram = Vec::from(transmit.contents);
                    let is_media = Kind::of(&datagram) == Some(Kind::Rtp);
                    if is_media {
                        self.account.stats.protocol = Some(protocol);
                        if !self.account.may_send(&datagram) {
                            continue;
                        }
                    }
                    return self.transmit(to, datagram);
                }
                Ok(str0m::Output::Event(event)) => self.event(event),
                Err(error) => {
                    tracing::debug!(%error, "a WebRTC session has failed");
                    self.end(CloseReason::Malformed);
                    return Output::Wait(self.now);
                }
            };
            if let Some(event) = output {
                return Output::Event(event);
            }
        }
    }

    fn next_wake(&self, at: Instant) -> Instant {
        if self.closed.is_some() || !self.rtc.is_alive() {
            return at;
        }
        self.deadline().map_or(at, |(deadline, _)| at.min(deadline))
    }

    fn event(&mut self, event: str0m::Event) -> Option<Event> {
        match event {
            str0m::Event::Connected => {
                self.connected = true;
                self.set_up_senders();
                Some(Event::Connected)
            }
            str0m::Event::Closed => {
                self.end(CloseReason::PeerClosed);
                None
            }
            str0m::Event::IceConnectionStateChange(IceConnectionState::Disconnected)
                if self.connected && matches!(self.part, Part::Offers) =>
            {
                self.end(CloseReason::Timeout(Phase::Idle));
                None
            }
            str0m::Event::RtpPacket(packet) => {
                self.account.stats.protocol = Some(self.carrier);
                // Who publishes shows in this way, too, that it is there; it is sent nothing but control packets.
                if matches!(&self.part, Part::Answers(offer) if offer.role() == Role::Publisher) {
                    self.consent = Some(self.now);
                }
                let (medium, layer) = self.place_of(*packet.header.ssrc)?;
                let level = level_of(&packet);
                Some(Event::Packet { medium, layer, packet: received(packet), level })
            }
            str0m::Event::SenderFeedback(feedback) => {
                let (medium, layer) = self.place(feedback.mid, feedback.rid)?;
                let info = feedback.sender_info;
                let report = SenderReport {
                    ssrc: *info.ssrc,
                    ntp: NtpTime::from_system_time(info.ntp_time),
                    rtp_timestamp: low_half(info.rtp_time.numer()),
                    packets: info.sender_packet_count,
                    octets: info.sender_octet_count,
                    ..SenderReport::default()
                };
                Some(Event::Report { medium, layer, report })
            }
            str0m::Event::KeyframeRequest(request) => {
                let (medium, _) = self.place(request.mid, None)?;
                Some(Event::KeyframeRequest { medium })
            }
            event @ (str0m::Event::ChannelOpen(..)
            | str0m::Event::ChannelData(_)
            | str0m::Event::ChannelClose(_)) => self.channel_event(event),
            other => {
                self.measure(&other);
                None
            }
        }
    }
}

impl Transport {
    /// A datagram on its way out. The answer to a check says that the check knew the password.
    fn transmit(&mut self, to: TransportAddress, datagram: Vec<u8>) -> Output<Event> {
        if matches!(self.part, Part::Answers(_)) && datagram.starts_with(&BINDING_SUCCESS) {
            self.consent = Some(self.now);
            self.remember(to, &datagram);
            if !self.sources.contains(&to) {
                self.sources.push(to);
                self.pending = Some((to, datagram));
                return Output::Event(Event::Source(to));
            }
        }
        Output::Transmit { to, datagram }
    }

    /// True for a check that has come before, and from elsewhere: somebody on the way has seen it, and wants to be sent media, or
    /// wants somebody else to be.
    fn is_repeated(&self, from: TransportAddress, transaction: &[u8]) -> bool {
        self.checks.iter().any(|(known, source)| known == transaction && *source != from)
    }

    /// Remembers a check by its answer, which says that it knew the password.
    fn remember(&mut self, from: TransportAddress, answer: &[u8]) {
        let Some(transaction) = transaction_of(answer) else { return };
        if self.checks.iter().any(|(known, _)| known == transaction) {
            return;
        }
        if self.checks.len() >= MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back((transaction.to_vec(), from));
    }

    /// The medium and the layer whose packets have that source.
    fn place_of(&mut self, ssrc: u32) -> Option<(usize, usize)> {
        if let Some((_, place)) = self.ssrcs.iter().find(|(known, _)| *known == ssrc) {
            return Some(*place);
        }
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx(&ssrc.into())?;
        let (mid, rid) = (stream.mid(), stream.rid());
        let place = self.place(mid, rid)?;
        if self.ssrcs.len() < MAX_SSRCS {
            self.ssrcs.push((ssrc, place));
        }
        Some(place)
    }

    fn place(&self, mid: Mid, rid: Option<Rid>) -> Option<(usize, usize)> {
        let at = self.media.iter().position(|medium| medium.mid == mid)?;
        let Some(rid) = rid else { return Some((at, 0)) };
        let layer = self.media.get(at)?.layers.iter().position(|name| rid == Rid::from(name.as_str()))?;
        Some((at, layer))
    }

    /// Asks the peer for a keyframe of a medium and layer, at most once in [`KEYFRAME_INTERVAL`].
    pub fn request_keyframe(&mut self, now: Instant, medium: usize, layer: usize) {
        let Some((mid, rid)) = self
            .media
            .get(medium)
            .map(|found| (found.mid, found.layers.get(layer).map(|name| Rid::from(name.as_str()))))
        else {
            return;
        };
        let recently = |at: Instant| now.saturating_duration_since(at) < KEYFRAME_INTERVAL;
        self.asked.retain(|(_, at)| recently(*at));
        if self.asked.iter().any(|(of, _)| *of == (medium, layer)) {
            return;
        }
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, rid) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.asked.push(((medium, layer), now));
        }
        self.handle_timeout(now);
    }

    /// Sends packets of a medium, in order. What cannot be sent because the peer is not connected is dropped.
    pub fn send<'a>(&mut self, now: Instant, medium: usize, packets: impl Iterator<Item = Outgoing<'a>>) {
        let Some(mid) = self.media.get(medium).map(|medium| medium.mid).filter(|_| self.connected) else {
            return;
        };
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, None) else { return };
        for packet in packets {
            let payload_type = packet.payload_type.into();
            let write = RtpWrite::new(
                payload_type,
                packet.sequence.into(),
                packet.timestamp,
                packet.moment,
                Arc::clone(packet.payload),
            );
            stream.write_rtp(write.marker(packet.marker).nackable(true));
        }
        self.handle_timeout(now);
    }
}

/// What both parts have in common, with these codecs.
pub(super) fn config(identity: &Identity, codecs: &[CodecId]) -> RtcConfig {
    let has = |codec| codecs.contains(&codec);
    RtcConfig::new()
        .set_stats_interval(Some(STATS_INTERVAL))
        .set_crypto_provider(Arc::clone(&identity.crypto))
        .set_dtls_cert(identity.certificate.clone())
        .set_rtp_mode(true)
        .set_sctp_max_message_size(u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX))
        .set_sctp_max_buffered_amount(MAX_WAITING_IN_ALL)
        .clear_codecs()
        .enable_h264(has(CodecId::H264))
        .enable_vp8(has(CodecId::Vp8))
        .enable_vp9(has(CodecId::Vp9))
        .enable_av1(has(CodecId::Av1))
        .enable_h265(has(CodecId::H265))
        .enable_opus(has(CodecId::Opus), false)
        .enable_g722(has(CodecId::G722), false)
        .enable_pcmu(has(CodecId::Pcmu), false)
        .enable_pcma(has(CodecId::Pcma), false)
}

/// Has whoever sends find out what the link to the peer carries; who only receives reports what arrives.
pub(super) fn finds_out_the_bitrate(config: RtcConfig) -> RtcConfig {
    config.enable_bwe(Some(Bitrate::bps(FIRST_ESTIMATE_BPS)))
}

/// Tells the agent where this side is.
pub(super) fn announce(rtc: &mut Rtc, addresses: &Addresses) {
    for address in addresses.announced() {
        let candidate = match address.protocol {
            Protocol::Udp => Candidate::host(address.socket, Carrier::Udp),
            // Connections are taken here (RFC 6544 §4.5); see `handle_connection` for those that are opened.
            Protocol::Tcp => {
                Candidate::builder().tcp().host(address.socket).tcptype(TcpType::Passive).build()
            }
        };
        candidate.into_iter().for_each(|candidate| _ = rtc.add_local_candidate(candidate));
    }
}

/// The same in the words of str0m.
const fn carrier_of(protocol: Protocol) -> Carrier {
    match protocol {
        Protocol::Udp => Carrier::Udp,
        Protocol::Tcp => Carrier::Tcp,
    }
}

/// How loud a packet is, by its header extension (RFC 6464 §3).
fn level_of(packet: &str0m::rtp::RtpPacket) -> Option<AudioLevel> {
    let values = &packet.header.ext_vals;
    let level = AudioLevel::new(values.audio_level?);
    Some(level.with_voice(values.voice_activity.unwrap_or_default()))
}

fn received(packet: str0m::rtp::RtpPacket) -> RtpPacket {
    let header = Header {
        marker: packet.header.marker,
        payload_type: *packet.header.payload_type,
        sequence: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        ssrc: *packet.header.ssrc,
    };
    RtpPacket { header, payload: Bytes::from_owner(packet.payload), ..RtpPacket::default() }
}

fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}
