mod agent;
mod checks;
mod data;
mod event;
mod link;
mod media;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use arcly_core::{CloseReason, Phase};
use arcly_rtp::wire::NtpTime;
use arcly_rtp::wire::rtcp::SenderReport;
use str0m::change::SdpOffer;
use str0m::net::{Protocol as Carrier, Receive, TcpType};
use str0m::{Candidate, IceConnectionState, IceCreds, Input, Rtc};

use super::medium::{self, Medium};
use super::stats::{Account, SessionStats};
use crate::config::Addresses;
use crate::wire::{
    Credentials, DtlsUse, Kind, Offer, OfferError, Protocol, Role, TransportAddress, red_last,
};
pub(super) use agent::{CODECS, announce, config, finds_out_the_bitrate};
pub use agent::{Identity, Timeouts};
pub use checks::{MAX_FORGOTTEN, MAX_SOURCES};
use data::Data;
pub use data::{
    Channel, MAX_CHANNELS, MAX_LABEL_BYTES, MAX_MESSAGE_BYTES, MAX_UNDELIVERED_BYTES, MAX_WAITING_BYTES,
    MESSAGE_LIFETIME,
};
pub use event::{Event, Outgoing, Output};
use link::MAX_PACER_STEPS;
pub use media::KEYFRAME_INTERVAL;
use media::{level_of, low_half, received};

/// What a peer is told that would answer itself.
const OWN_OFFER: &str = "the offer was this side's";
/// How a Binding success response begins.
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];

/// Which part of the exchange of descriptions this side has, and with it which part of ICE.
#[derive(Debug)]
enum Part {
    /// It has answered this offer, and answers checks.
    Answers(Box<Offer>),
    /// It has offered, and finds out by checks of its own how the peer is reached.
    Offers,
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
    /// Where everything but answers to checks goes, and since when.
    destination: Option<(TransportAddress, Instant)>,
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
        transport.media = medium::media(&answer);
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
            destination: None,
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
        let theirs = offer.as_str().to_owned();
        let offer = SdpOffer::from_sdp_string(&theirs).map_err(|error| refused(&error))?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(|error| refused(&error))?;
        let IceCreds { ufrag, .. } = self.rtc.direct_api().local_ice_credentials();
        self.fragment = ufrag;
        Ok(red_last(&answer.to_sdp_string(), Some(&theirs)))
    }

    /// Answers an ICE restart by the peer with an answer that has credentials of its own. Of the addresses of UDP that counted only that
    /// counts still which media go to.
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
            let current = self.destination.map(|(destination, _)| destination);
            let stays = |known: &TransportAddress| known.protocol == Protocol::Tcp || Some(*known) == current;
            self.sources.retain(stays);
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

/// The same in the words of str0m.
const fn carrier_of(protocol: Protocol) -> Carrier {
    match protocol {
        Protocol::Udp => Carrier::Udp,
        Protocol::Tcp => Carrier::Tcp,
    }
}
