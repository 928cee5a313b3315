//! How two ends agree on a connection (draft section 4.3): what is common to callers, listeners and rendezvous.
//!
//! The *initiator* (a caller; of a rendezvous, who has the greater cookie) asks with `HSREQ`, the *responder* decides and
//! answers with `HSRSP`. Nothing is negotiated but the latency, of which the greater one counts for each direction.

pub(super) mod caller;
pub(super) mod rendezvous;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::{Config, FLOW_WINDOW, LATENCY, MAX_PENDING_MESSAGE, MSS, TransmissionMode};
use crate::crypto::{Crypto, Entropy, RequestError, ResponseOutcome};
use crate::error::SessionError;
use crate::filter::{FecLayout, FilterConfig};
use crate::wire::{
    Extensions, GroupExtension, Handshake, HandshakeKind, HsExtension, HsFlags, KeyLength, KeyResponse,
    KmExtension, KmState, RejectReason, SeqNumber, SocketId, SrtVersion,
};

/// A handshake packet that is not answered is sent again so often.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// What a packet of the filter carries beside a payload.
const FEC_HEADER_BYTES: usize = 4;
/// The version of handshakes.
pub(super) const VERSION: u32 = 5;

/// The two ends of a connection that is to be, as its owner names them.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Where the peer is.
    pub remote: SocketAddr,
    /// This side's socket id: not 0, at random, and no other's on the same UDP socket.
    pub local: SocketId,
    /// The number of the first packet: at random.
    pub initial_seq: SeqNumber,
}

/// What two ends have agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The peer's version of SRT.
    pub version: SrtVersion,
    /// How long this side keeps what it receives.
    pub receiver_latency: Duration,
    /// How long the peer keeps what this side sends.
    pub peer_latency: Duration,
    /// Bytes of payload in one packet.
    pub payload_size: usize,
    /// Bytes of one message: those of a packet in live mode.
    pub message_size: usize,
    /// Packets that the peer takes at first.
    pub flow_window: u32,
    /// What the peer does.
    pub peer_flags: HsFlags,
    /// How long the keys are, of an encrypted connection.
    pub encrypted: Option<KeyLength>,
    /// What the caller asks for.
    pub stream_id: Option<String>,
    /// The group that the peer says the connection belongs to.
    pub group: Option<GroupExtension>,
    /// Packets that make up for lost ones.
    pub filter: Option<FecLayout>,
}

/// What a handshake is made with.
pub(super) struct Setup<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) endpoint: Endpoint,
    pub(super) crypto: &'a mut Option<Crypto>,
    pub(super) entropy: &'a mut dyn Entropy,
}

/// The other end, once it has agreed.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) peer: SocketId,
    /// The number of the peer's first packet.
    pub(super) peer_seq: SeqNumber,
    pub(super) mtu: u32,
    pub(super) negotiated: Negotiated,
    /// What repeated conclusions of the peer are answered with.
    pub(super) answer: Option<Handshake>,
}

/// What becomes of a handshake packet.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// The machine's next packet is to be sent now, not when its time comes.
    Send,
    /// The connection is made, and this is to be sent.
    Established(Box<Established>),
}

impl Setup<'_> {
    /// A packet of this side.
    pub(super) fn packet(&self, kind: HandshakeKind, cookie: u32) -> Handshake {
        let config = self.config;
        let encryption = config.crypto.as_ref().map_or(0, |crypto| crypto.key_length.handshake_field());
        Handshake {
            version: VERSION,
            encryption,
            extension_field: 0,
            initial_seq: self.endpoint.initial_seq,
            mtu: config.mss.into(),
            flow_window: config.flow_window.min(config.receive_buffer_packets),
            kind,
            socket_id: self.endpoint.local,
            cookie,
            peer_ip: self.endpoint.remote.ip(),
            extensions: bytes::Bytes::new(),
        }
    }

    /// What an initiator asks for.
    pub(super) fn ask(&mut self) -> Extensions {
        let config = self.config;
        let km = self.crypto.as_mut().map(|crypto| KmExtension::Request(crypto.initiate(self.entropy)));
        Extensions {
            hs: Some(hs_extension(config, false, config.receiver_latency, config.peer_latency)),
            km,
            stream_id: config.stream_id.clone(),
            ..self.offers()
        }
    }

    /// What both ends say of themselves.
    fn offers(&self) -> Extensions {
        let file = self.config.mode.is_file();
        Extensions {
            congestion: file.then(|| self.config.mode.congestion_control().to_owned()),
            filter: self.config.filter.as_ref().map(ToString::to_string),
            group: self.config.membership.map(|member| member.extension),
            ..Extensions::default()
        }
    }

    /// A responder's answer to what an initiator asks for, and what then holds.
    pub(super) fn respond(
        &mut self,
        packet: &Handshake,
        asked: &Extensions,
    ) -> Result<(Negotiated, Extensions), RejectReason> {
        let hs = asked.hs.filter(|hs| !hs.response).ok_or(RejectReason::ROGUE)?;
        let (filter, km) = (self.agree(packet, hs, asked)?, self.respond_with_keys(asked.km.as_ref())?);
        let clamp = |latency: Duration| latency.min(*LATENCY.end());
        let receiver = clamp(self.config.receiver_latency.max(millis(hs.sender_delay_ms)));
        let peer = clamp(self.config.peer_latency.max(millis(hs.receiver_delay_ms)));
        let mut answer =
            Extensions { hs: Some(hs_extension(self.config, true, receiver, peer)), km, ..self.offers() };
        answer.filter = filter.as_ref().map(ToString::to_string);
        Ok((self.negotiated(packet, hs, asked, filter, (receiver, peer)), answer))
    }

    /// What holds after a responder's answer.
    pub(super) fn conclude(
        &mut self,
        packet: &Handshake,
        answer: &Extensions,
    ) -> Result<Negotiated, RejectReason> {
        let hs = answer.hs.filter(|hs| hs.response).ok_or(RejectReason::ROGUE)?;
        let filter = self.agree(packet, hs, answer)?;
        self.conclude_keys(answer.km.as_ref())?;
        let clamp = |latency: Duration| latency.clamp(*LATENCY.start(), *LATENCY.end());
        let latencies = (clamp(millis(hs.sender_delay_ms)), clamp(millis(hs.receiver_delay_ms)));
        Ok(self.negotiated(packet, hs, answer, filter, latencies))
    }

    /// What cannot differ.
    fn agree(
        &self,
        packet: &Handshake,
        hs: HsExtension,
        theirs: &Extensions,
    ) -> Result<Option<FecLayout>, RejectReason> {
        if packet.mtu < *MSS.start() {
            return Err(RejectReason::ROGUE);
        }
        if hs.version < self.config.min_version {
            return Err(RejectReason::VERSION);
        }
        let mode = self.config.mode;
        if theirs.congestion.as_deref().unwrap_or("live") != mode.congestion_control() {
            return Err(RejectReason::CONGESTION);
        }
        // libsrt does not say it again in its answer.
        let streams = hs.flags.contains(HsFlags::STREAM);
        if !hs.response && streams != (mode == TransmissionMode::File) {
            return Err(RejectReason::MESSAGE_API);
        }
        // Who is in a group and whose peer is not would send everything twice.
        let kind = self.config.membership.map(|member| member.extension.kind);
        if theirs.group.map(|group| group.kind) != kind {
            return Err(RejectReason::GROUP);
        }
        let filter = |theirs: Option<&str>| -> Result<Option<FecLayout>, crate::filter::FilterError> {
            let theirs = theirs.map(str::parse::<FilterConfig>).transpose()?;
            let merged = match (&self.config.filter, &theirs) {
                (Some(ours), Some(theirs)) => ours.merge(theirs)?,
                (Some(one), None) | (None, Some(one)) => *one,
                (None, None) => return Ok(None),
            };
            merged.layout().map(Some)
        };
        filter(theirs.filter.as_deref()).map_err(|_| RejectReason::FILTER)
    }

    /// Takes an initiator's keys.
    fn respond_with_keys(
        &mut self,
        asked: Option<&KmExtension>,
    ) -> Result<Option<KmExtension>, RejectReason> {
        let answer = match (self.crypto.as_mut(), asked) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                self.require(RejectReason::UNSECURE)?;
                *self.crypto = None;
                return Ok(None);
            }
            (None, Some(_)) => KeyResponse::Refused(KmState::NoSecret),
            (Some(crypto), Some(KmExtension::Request(material))) => {
                match crypto.handle_request(self.now, material) {
                    Ok(()) => KeyResponse::Accepted(material.clone()),
                    Err(RequestError::Refused(state)) => KeyResponse::Refused(state),
                    Err(RequestError::Limited) => return Err(RejectReason::RESOURCE),
                }
            }
            (Some(_), Some(KmExtension::Response(_))) => return Err(RejectReason::ROGUE),
        };
        if let KeyResponse::Refused(state) = &answer {
            self.require(reason_of(*state))?;
        }
        Ok(Some(KmExtension::Response(answer)))
    }

    /// Hears what became of an initiator's keys.
    fn conclude_keys(&mut self, answer: Option<&KmExtension>) -> Result<(), RejectReason> {
        match (self.crypto.as_mut(), answer) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(RejectReason::ROGUE),
            (Some(_), None) => self.require(RejectReason::UNSECURE),
            (Some(crypto), Some(KmExtension::Response(response))) => match crypto.handle_response(response) {
                ResponseOutcome::Confirmed => Ok(()),
                ResponseOutcome::Refused(state) => self.require(reason_of(state)),
                ResponseOutcome::Ignored => Err(RejectReason::ROGUE),
            },
            (Some(_), Some(KmExtension::Request(_))) => Err(RejectReason::ROGUE),
        }
    }

    /// Refuses, if a connection has to be encrypted.
    const fn require(&self, reason: RejectReason) -> Result<(), RejectReason> {
        if self.config.require_encryption { Err(reason) } else { Ok(()) }
    }

    fn negotiated(
        &self,
        packet: &Handshake,
        hs: HsExtension,
        theirs: &Extensions,
        filter: Option<FecLayout>,
        (receiver_latency, peer_latency): (Duration, Duration),
    ) -> Negotiated {
        let config = self.config;
        let mtu = packet.mtu.min(config.mss.into());
        let overhead = self.crypto.as_ref().map_or(0, Crypto::overhead);
        let overhead = overhead + if filter.is_some() { FEC_HEADER_BYTES } else { 0 };
        let headers = crate::wire::UDP_HEADERS + crate::wire::HEADER_BYTES + overhead;
        let fits = usize::try_from(mtu).unwrap_or(usize::MAX).saturating_sub(headers).max(1);
        let payload_size = match config.mode {
            TransmissionMode::Live => config.payload_size.min(fits),
            TransmissionMode::File | TransmissionMode::Messages => fits,
        };
        Negotiated {
            version: hs.version,
            receiver_latency,
            peer_latency,
            payload_size,
            message_size: if config.mode.is_file() { MAX_PENDING_MESSAGE } else { payload_size },
            flow_window: packet.flow_window.clamp(*FLOW_WINDOW.start(), *FLOW_WINDOW.end()),
            peer_flags: hs.flags,
            encrypted: self.crypto.as_ref().map(Crypto::key_length),
            stream_id: theirs.stream_id.clone(),
            group: theirs.group,
            filter,
        }
    }
}

/// What this side can do.
fn hs_extension(config: &Config, response: bool, receiver: Duration, peer: Duration) -> HsExtension {
    let mut flags = HsFlags::CRYPT | HsFlags::REXMIT_FLAG | HsFlags::PACKET_FILTER;
    match config.mode {
        TransmissionMode::Live => flags |= HsFlags::TSBPD_SENDER | HsFlags::TSBPD_RECEIVER,
        TransmissionMode::File => flags |= HsFlags::STREAM,
        TransmissionMode::Messages => {}
    }
    flags.set(HsFlags::TLPKT_DROP, config.too_late_drop && config.mode == TransmissionMode::Live);
    flags.set(HsFlags::PERIODIC_NAK, config.periodic_nak);
    let bounded = |latency: Duration| u16::try_from(latency.as_millis()).unwrap_or(u16::MAX);
    HsExtension {
        response,
        version: SrtVersion::CURRENT,
        flags,
        receiver_delay_ms: bounded(receiver),
        sender_delay_ms: bounded(peer),
    }
}

fn millis(ms: u16) -> Duration {
    Duration::from_millis(ms.into())
}

/// What a refusal of keys comes to.
const fn reason_of(state: KmState) -> RejectReason {
    match state {
        KmState::NoSecret | KmState::Unsecured | KmState::Securing | KmState::Secured => {
            RejectReason::UNSECURE
        }
        KmState::BadSecret => RejectReason::BAD_SECRET,
        KmState::BadCipher => RejectReason::CRYPTO,
    }
}

/// The end of an attempt that this side refuses.
pub(super) const fn refused(reason: RejectReason) -> SessionError {
    SessionError::Refused(reason)
}
