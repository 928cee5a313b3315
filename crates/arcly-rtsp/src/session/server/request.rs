//! What a client asks for, method by method.

use std::time::Instant;

use arcly_core::{CloseReason, StreamKey, Via, via};
use arcly_rtp::sdp::SessionDescription;

use super::input::Refusal;
use super::{
    Agreed, Intent, Medium, Pending, Presentation, Proof, ServerEvent, ServerSession, State, asks_to_talk,
};
use crate::error::SessionError;
use crate::session::presentation::announced;
use crate::session::target::{Location, Target};
use crate::srtp::{Message, Protection};
use crate::wire::authorization::{Authorization, Freshness};
use crate::wire::range::{Range, Scale, Speed};
use crate::wire::transport::transports;
use crate::wire::{
    Cast, KeyMgmt, LowerTransport, Method, PortPair, Profile, Request, Response, Status, Transport,
    TransportMode,
};

/// What can be asked for.
pub(super) const PUBLIC: &str =
    "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// Ports that no client of media has.
const PRIVILEGED: u16 = 1_024;
const SDP: &str = "application/sdp";

type Handled = Result<(), Refusal>;

const fn status(status: Status) -> Handled {
    Err(Refusal::Status(status))
}

impl ServerSession {
    pub(super) fn handle_method(&mut self, now: Instant, request: &Request) -> Handled {
        match &request.method {
            Method::Options => self.ok(request, |response| response.with("Public", PUBLIC)),
            Method::Describe => self.handle_describe(now, request),
            Method::Announce => self.handle_announce(now, request),
            Method::Setup => self.handle_setup(now, request),
            Method::Play => self.handle_play(request),
            Method::Record => self.handle_record(request),
            Method::Pause => self.handle_pause(request),
            Method::Teardown => self.handle_teardown(request),
            Method::GetParameter | Method::SetParameter => self.handle_parameter(request),
            Method::Redirect => status(Status::METHOD_NOT_ALLOWED),
            Method::Other(_) => status(Status::NOT_IMPLEMENTED),
        }
    }

    fn ok(&mut self, request: &Request, with: impl FnOnce(Response) -> Response) -> Handled {
        let response = with(self.answer(request, Status::OK));
        self.respond(&response);
        Ok(())
    }

    /// Asks the owner for a stream, unless the client has to prove itself better first.
    fn open(
        &mut self,
        now: Instant,
        request: &Request,
        intent: Intent,
        target: Target,
        media: Vec<Medium>,
    ) -> Handled {
        let proof = match self.proof(now, request) {
            Ok(proof) => proof,
            Err(stale) => {
                self.challenge(now, request, stale);
                return Ok(());
            }
        };
        self.via = request.headers.get(via::HEADER).map(Via::decode).unwrap_or_default();
        self.events.push_back(ServerEvent::Open { intent, target: target.clone(), proof });
        self.pending = Some(Pending { request: request.clone(), target, media });
        Ok(())
    }

    /// What the client shows; an error for what is answered with another challenge: it answers a nonce that is not, or not
    /// any more, this client's (true), or a scheme that was not offered.
    fn proof(&self, now: Instant, request: &Request) -> Result<Option<Proof>, bool> {
        let Some(shown) = request.headers.get("Authorization") else { return Ok(None) };
        let authorization: Authorization = shown.parse().map_err(|_| false)?;
        let schemes = &self.config.schemes;
        match &authorization {
            Authorization::Basic(_) if !schemes.basic => return Err(false),
            Authorization::Digest(_) if !schemes.digest => return Err(false),
            Authorization::Digest(digest) => {
                match self.access.nonces.check(now, &self.access.random, &digest.nonce) {
                    Freshness::Fresh => {}
                    Freshness::Stale => return Err(true),
                    Freshness::Foreign => return Err(false),
                }
                // Clients put the URL of the whole where the request has that of a medium.
                let is_for_this = request.uri.starts_with(digest.uri.trim_end_matches('/'));
                if digest.realm != schemes.realm || !is_for_this {
                    return Err(false);
                }
            }
            Authorization::Basic(_) => {}
        }
        Ok(Some(Proof { method: request.method.clone(), authorization }))
    }

    fn location<'a>(request: &'a Request) -> Result<Location<'a>, Refusal> {
        Ok(Location::of(&request.uri).ok_or(SessionError::Unexpected { what: "URL" })?)
    }

    fn handle_describe(&mut self, now: Instant, request: &Request) -> Handled {
        if request.headers.get("Accept").is_some_and(|accept| !accepts_sdp(accept)) {
            return status(Status::NOT_ACCEPTABLE);
        }
        if self.state == State::Init && self.presentation.is_none() {
            let target = Target::of(&Self::location(request)?)?;
            return self.open(now, request, Intent::Play, target, Vec::new());
        }
        let asked = Location::of(&request.uri).and_then(|location| Target::of_aggregate(&location).ok());
        let known = self.presentation.as_ref().filter(|presentation| presentation.intent == Intent::Play);
        let replaceable = self.state == State::Init && known.is_some();
        let same = known.filter(|known| asked.is_some_and(|asked| asked.key == known.target.key));
        if same.is_some() {
            return self.describe(request);
        }
        if replaceable {
            // Another stream, before anything was set up of the first.
            (self.presentation, self.may_talk) = (None, false);
            return self.handle_describe(now, request);
        }
        status(Status::METHOD_NOT_VALID_IN_STATE)
    }

    /// Answers with the description, as it was asked for.
    fn describe(&mut self, request: &Request) -> Handled {
        if self.state == State::Init
            && asks_to_talk(request)
            && let Some(presentation) = &mut self.presentation
        {
            presentation.add_back_channel();
        }
        let Some(presentation) = &self.presentation else { return status(Status::METHOD_NOT_VALID_IN_STATE) };
        if self.multicast && presentation.group.is_none() && presentation.target.wants_multicast() {
            return self.ask_for_group(request);
        }
        let (base, sdp) =
            (presentation.content_base(), presentation.description(self.keys.as_ref()).to_string());
        let via = presentation.via();
        self.ok(request, |response| {
            let response = response.with("Content-Base", base);
            let response = if via.is_empty() { response } else { response.with(via::HEADER, via) };
            response.with_body(SDP, sdp)
        })
    }

    fn handle_announce(&mut self, now: Instant, request: &Request) -> Handled {
        if let Some(presentation) = &self.presentation {
            // The owner has just opened it.
            if presentation.intent == Intent::Publish && self.state == State::Init && self.id.is_none() {
                return self.ok(request, |response| response);
            }
            return status(Status::METHOD_NOT_VALID_IN_STATE);
        }
        let location = Self::location(request)?;
        let target = Target::of(&location)?;
        let kind = request.headers.get("Content-Type").unwrap_or(SDP);
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP) {
            return Err(SessionError::Refused(CloseReason::Unsupported).into());
        }
        let description: SessionDescription = String::from_utf8_lossy(&request.body).parse()?;
        let media = announced(&description)?;
        if media.iter().any(|medium| !is_ours(&medium.control, location.host)) {
            return Err(SessionError::Refused(CloseReason::Forbidden).into());
        }
        if media.iter().all(|medium| medium.formats.is_empty()) {
            return Err(SessionError::Refused(CloseReason::Unsupported).into());
        }
        self.open(now, request, Intent::Publish, target, media)
    }

    fn handle_setup(&mut self, now: Instant, request: &Request) -> Handled {
        if matches!(self.state, State::Playing | State::Recording) {
            return status(Status::METHOD_NOT_VALID_IN_STATE);
        }
        match (&self.id, session_of(request)) {
            (_, None) if self.id.is_none() => {}
            (Some(id), Some(named)) if *id == named => {}
            // FFmpeg, which has got no datagrams: it pauses, forgets its session, and begins another one over the connection.
            (Some(_), None) if self.paused => self.stop(),
            (Some(_), None) => return status(Status::METHOD_NOT_VALID_IN_STATE),
            _ => return status(Status::SESSION_NOT_FOUND),
        }
        let Some(presentation) = &self.presentation else {
            let target = Target::of_aggregate(&Self::location(request)?)?;
            return self.open(now, request, Intent::Play, target, Vec::new());
        };
        let Some(at) = presentation.medium_at(&request.uri) else {
            let whole =
                presentation.media.len() > 1 && Location::of(&request.uri).is_some_and(|l| l.track.is_none());
            let status = if whole { Status::AGGREGATE_NOT_ALLOWED } else { Status::NOT_FOUND };
            return Err(Refusal::Status(status));
        };
        if presentation.media.get(at).is_none_or(|medium| medium.agreed.is_some()) {
            return status(Status::METHOD_NOT_VALID_IN_STATE);
        }
        if !self.may_talk && presentation.media.get(at).is_some_and(|medium| medium.is_back_channel) {
            let target = self.talk()?;
            return self.open(now, request, Intent::Publish, target, Vec::new());
        }
        let Some((agreed, transport)) = self.choose(at, request)? else { return self.ask_for_group(request) };
        let protected = self.protect(at, request, transport.profile)?;
        let (protection, message) = protected.unzip();
        if let Some(medium) = self.presentation.as_mut().and_then(|p| p.media.get_mut(at)) {
            (medium.agreed, medium.protection) = (Some(agreed), protection);
        }
        self.begin();
        self.decoder.allow_frames(self.is_over_tcp());
        self.state = State::Ready;
        self.ok(request, |response| {
            let response = response.with("Transport", transport);
            match message {
                Some(message) => response.with("KeyMgmt", message),
                None => response,
            }
        })
    }

    /// The keys of a medium where its packets are protected, and what the client is told of them.
    fn protect(
        &self,
        at: usize,
        request: &Request,
        profile: Profile,
    ) -> Result<Option<(Box<Protection>, KeyMgmt)>, Refusal> {
        if !profile.is_secure() {
            return Ok(None);
        }
        let failure = || Refusal::Status(Status::KEY_MANAGEMENT_FAILURE);
        let (keys, presentation) = self.keys.as_ref().zip(self.presentation.as_ref()).ok_or_else(failure)?;
        let medium = presentation.media.get(at).ok_or_else(failure)?;
        let theirs = match request.headers.get("KeyMgmt") {
            Some(header) => {
                let header: KeyMgmt = header.parse().map_err(|_| failure())?;
                Some(Message::from_base64(&header.data).map_err(|_| failure())?)
            }
            None => medium.announced.as_deref().cloned(),
        };
        let plays = presentation.intent == Intent::Play;
        if (!plays || medium.is_back_channel) && theirs.is_none() {
            return Err(failure());
        }
        // What this side reports under, of what it receives, is not known yet.
        let ssrc = if plays { presentation.ssrc(medium) } else { 0 };
        let suite = theirs.as_ref().map(|theirs| theirs.key.suite).unwrap_or_default();
        let message = keys.message(at, ssrc).ok_or_else(failure)?.of_suite(suite);
        let told = KeyMgmt { uri: request.uri.clone(), data: message.to_base64() };
        Ok(Some((Box::new(Protection { ours: message.key, theirs }), told)))
    }

    /// The stream that the client is heard as.
    fn talk(&self) -> Result<Target, Refusal> {
        let name = self.config.back_channel.as_ref().zip(self.presentation.as_ref());
        let (name, presentation) = name.ok_or(Refusal::Status(Status::NOT_FOUND))?;
        let key = StreamKey::parse(&format!("{}/{name}", presentation.target.key))?;
        Ok(Target { key, ..presentation.target.clone() })
    }

    /// The first of the client's offers that can be taken; `None` when the owner has to say before which group there is.
    fn choose(&self, at: usize, request: &Request) -> Result<Option<(Agreed, Transport)>, Refusal> {
        let asks = self.multicast
            && self.presentation.as_ref().is_some_and(|p| p.intent == Intent::Play && p.group.is_none());
        for offer in request.headers.all("Transport").flat_map(transports) {
            if asks && offer.cast == Some(Cast::Multicast) && offer.lower == LowerTransport::Udp {
                return Ok(None);
            }
            if let Some(found) = self.agree(at, offer) {
                return Ok(Some(found));
            }
        }
        Err(Refusal::Status(Status::UNSUPPORTED_TRANSPORT))
    }

    /// Goes on with the request when the owner has said which group there is.
    fn ask_for_group(&mut self, request: &Request) -> Handled {
        let Some(presentation) = &self.presentation else { return status(Status::METHOD_NOT_VALID_IN_STATE) };
        let target = presentation.target.clone();
        self.pending = Some(Pending { request: request.clone(), target, media: Vec::new() });
        self.events.push_back(ServerEvent::Group);
        Ok(())
    }

    /// What is agreed on for a medium, and what the client is told of it; `None` when the offer cannot be taken.
    fn agree(&self, at: usize, offer: Transport) -> Option<(Agreed, Transport)> {
        let presentation = self.presentation.as_ref()?;
        let plays = presentation.intent == Intent::Play;
        let wrong_way = match offer.mode {
            Some(TransportMode::Play) => !plays,
            Some(TransportMode::Record) => plays,
            None => false,
        };
        let secure = offer.profile.is_secure();
        let in_the_clear = self.keys.is_some() && !secure && offer.lower == LowerTransport::Udp;
        if wrong_way || in_the_clear || (secure && self.keys.is_none()) {
            return None;
        }
        let (agreed, mut transport) = match (offer.lower, offer.cast) {
            (LowerTransport::Tcp, _) => agree_on_channels(presentation, at, &offer)?,
            (LowerTransport::Udp, Some(Cast::Multicast)) => {
                // Nothing is sent back to a group.
                let is_sent = presentation.media.get(at).is_some_and(|medium| !medium.is_back_channel);
                let group = presentation.group.flatten().filter(|_| plays && is_sent && !secure)?;
                let ports = group.ports(at)?;
                (Agreed::Multicast(ports), Transport::multicast(group.address, ports, group.ttl))
            }
            (LowerTransport::Udp, _) => self.agree_on_ports(presentation, &offer)?,
        };
        if presentation.agreed().any(|(.., other)| !other.is_like(agreed)) {
            return None;
        }
        transport.profile = offer.profile;
        transport.mode = (!plays).then_some(TransportMode::Record);
        transport.ssrc = presentation.media.get(at).filter(|_| plays).map(|medium| presentation.ssrc(medium));
        Some((agreed, transport))
    }

    fn agree_on_ports(&self, presentation: &Presentation, offer: &Transport) -> Option<(Agreed, Transport)> {
        let ports = offer.client_port.filter(|ports| usable(*ports))?;
        let free = presentation.agreed().all(|(.., agreed)| !shares_ports(agreed, ports));
        let server_port = self.access.udp.filter(|_| free)?;
        let transport = Transport { server_port: Some(server_port), ..Transport::udp(ports) };
        Some((Agreed::Udp(ports), transport))
    }

    fn in_session(&self, request: &Request) -> Result<(), Refusal> {
        match (&self.id, session_of(request)) {
            (Some(id), Some(named)) if *id == named => Ok(()),
            (None, None) => Err(Refusal::Status(Status::METHOD_NOT_VALID_IN_STATE)),
            _ => Err(Refusal::Status(Status::SESSION_NOT_FOUND)),
        }
    }

    fn intends(&self, intent: Intent) -> bool {
        self.presentation.as_ref().is_some_and(|presentation| presentation.intent == intent)
    }

    fn handle_play(&mut self, request: &Request) -> Handled {
        self.in_session(request)?;
        if !self.intends(Intent::Play) {
            return status(Status::METHOD_NOT_VALID_IN_STATE);
        }
        check_range(request)?;
        match (self.state, &self.presentation) {
            (State::Playing, _) => self.ok(request, |response| response.with("Range", Range::NOW)),
            (State::Ready, Some(presentation)) => {
                let target = presentation.target.clone();
                self.pending = Some(Pending { request: request.clone(), target, media: Vec::new() });
                self.events.push_back(ServerEvent::Play);
                Ok(())
            }
            _ => status(Status::METHOD_NOT_VALID_IN_STATE),
        }
    }

    fn handle_record(&mut self, request: &Request) -> Handled {
        self.in_session(request)?;
        if !self.intends(Intent::Publish) || self.state != State::Ready {
            return status(Status::METHOD_NOT_VALID_IN_STATE);
        }
        self.state = State::Recording;
        self.events.push_back(ServerEvent::Record);
        self.ok(request, |response| response.with("Range", Range::NOW))
    }

    fn handle_pause(&mut self, request: &Request) -> Handled {
        self.in_session(request)?;
        match self.state {
            State::Playing | State::Recording => {
                self.paused = self.state == State::Playing;
                self.state = State::Ready;
                self.events.push_back(ServerEvent::Paused);
            }
            State::Ready => {}
            State::Init => return status(Status::METHOD_NOT_VALID_IN_STATE),
        }
        self.ok(request, |response| response)
    }

    fn handle_teardown(&mut self, request: &Request) -> Handled {
        self.in_session(request)?;
        self.ok(request, |response| response)?;
        self.stop();
        Ok(())
    }

    fn stop(&mut self) {
        (self.state, self.paused) = (State::Init, false);
        (self.presentation, self.may_talk) = (None, false);
        self.id = None;
        self.events.push_back(ServerEvent::Stopped);
    }

    /// Without a body it is a keep-alive; there are no parameters.
    fn handle_parameter(&mut self, request: &Request) -> Handled {
        if session_of(request).is_some_and(|named| self.id.as_deref() != Some(named)) {
            return status(Status::SESSION_NOT_FOUND);
        }
        if request.body.iter().all(u8::is_ascii_whitespace) {
            return self.ok(request, |response| response);
        }
        status(Status::PARAMETER_NOT_UNDERSTOOD)
    }
}

/// The session that a request names.
fn session_of(request: &Request) -> Option<&str> {
    request.headers.get("Session").map(|session| session.split(';').next().unwrap_or_default().trim())
}

fn accepts_sdp(accept: &str) -> bool {
    let mut types = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    types.any(|kind| {
        kind.is_empty() || kind == "*/*" || kind == "application/*" || kind.eq_ignore_ascii_case(SDP)
    })
}

/// A control URL is relative, or says the host that it was announced to; it is compared with, and never asked for (T22).
fn is_ours(control: &str, host: &str) -> bool {
    let inside = !control.split(['/', '?']).any(|segment| segment == "..");
    let here = match control.split_once("://") {
        Some(_) => Location::of(control).is_some_and(|location| location.host.eq_ignore_ascii_case(host)),
        None => true,
    };
    inside && here
}

/// What is sent is the same bytes for every player, so that the channels are this side's to choose.
fn agree_on_channels(
    presentation: &Presentation,
    at: usize,
    offer: &Transport,
) -> Option<(Agreed, Transport)> {
    let usual = u8::try_from(at.checked_mul(2)?).ok().and_then(|at| Some((at, at.checked_add(1)?)))?;
    let plays = presentation.intent == Intent::Play;
    let (rtp, rtcp) = if plays { usual } else { offer.interleaved.unwrap_or(usual) };
    let free = rtp != rtcp && presentation.agreed().all(|(.., agreed)| !shares_channels(agreed, rtp, rtcp));
    free.then(|| (Agreed::Tcp(rtp, rtcp), Transport::tcp((rtp, rtcp))))
}

fn usable(ports: PortPair) -> bool {
    ports.rtp >= PRIVILEGED && ports.rtcp >= PRIVILEGED && ports.rtp != ports.rtcp
}

fn shares_ports(agreed: Agreed, ports: PortPair) -> bool {
    let Agreed::Udp(taken) = agreed else { return false };
    [taken.rtp, taken.rtcp].iter().any(|port| [ports.rtp, ports.rtcp].contains(port))
}

fn shares_channels(agreed: Agreed, rtp: u8, rtcp: u8) -> bool {
    let Agreed::Tcp(taken, control) = agreed else { return false };
    [taken, control].iter().any(|channel| [rtp, rtcp].contains(channel))
}

/// Live media plays from now on, at its own speed. A range in play time is answered with that; one on another clock, and
/// one that is none, is not valid here.
fn check_range(request: &Request) -> Result<(), Refusal> {
    let headers = &request.headers;
    let bad = |_| Refusal::Status(Status::BAD_REQUEST);
    if let Some(range) = headers.get("Range") {
        match range.parse() {
            Ok(Range::Npt(..)) => {}
            _ => return Err(Refusal::Status(Status::INVALID_RANGE)),
        }
    }
    headers.get("Scale").map_or(Ok(()), |scale| scale.parse::<Scale>().map(drop).map_err(bad))?;
    headers.get("Speed").map_or(Ok(()), |speed| speed.parse::<Speed>().map(drop).map_err(bad))
}
