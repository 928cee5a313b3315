//! How packets travel: what is asked for, what the server answers, and which packet goes where.

use std::net::Ipv4Addr;
use std::time::Instant;

use arcly_rtp::media::interleaved;
use arcly_rtp::wire::{Header, RtpPacket, is_rtcp};
use bytes::Bytes;

use super::description::asks_for_keyframe;
use super::{Carriage, ClientError, ClientEvent, ClientSession, Datagram, Flow, State, refusal};
use crate::srtp::{Message, Protection, Receiver, Sender};
use crate::wire::interleaved::Frame;
use crate::wire::{
    Cast, KeyMgmt, LowerTransport, Method, PortPair, Profile, Request, Response, Status, Transport,
};

/// How a medium's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Over the connection: channels of RTP and RTCP.
    Channels(u8, u8),
    /// Datagrams.
    Ports,
    /// Datagrams to a group. Nothing is sent there: what one of many receivers reports would reach all of them.
    Group,
}

/// What carries packets, in the order in which it is tried.
pub(super) fn order(carriage: Carriage, tls: bool, push: bool) -> Vec<Carriage> {
    match carriage {
        Carriage::Automatic if tls => vec![Carriage::Tcp],
        Carriage::Automatic if push => vec![Carriage::Tcp, Carriage::Udp],
        Carriage::Automatic => vec![Carriage::Udp, Carriage::Tcp],
        one => vec![one],
    }
}

/// The channels that are asked for: what a derived log's packets have already.
fn channels(medium: usize) -> (u8, u8) {
    let first = u8::try_from(medium.saturating_mul(2)).unwrap_or(u8::MAX.saturating_sub(1));
    (first, first.saturating_add(1))
}

/// What the server answered, without the parameters that are wrong; `None` when it said nothing.
fn answered(header: Option<&str>) -> Option<Transport> {
    let header = header?;
    let mut parts = header.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
    let protocol = parts.next()?;
    let right = |part: &&str| format!("{protocol};{part}").parse::<Transport>().is_ok();
    let right: Vec<&str> = parts.filter(right).collect();
    format!("{protocol};{}", right.join(";")).parse().ok()
}

/// What protects a medium's packets, and takes apart those that are protected.
#[derive(Debug)]
pub(super) struct Guard {
    sender: Sender,
    /// `None` where the server has not said its key: what it says is not understood.
    receiver: Option<Receiver>,
}

impl Guard {
    fn protect(&mut self, control: bool, packet: &[u8]) -> Option<Bytes> {
        let protected = if control { self.sender.protect_rtcp(packet) } else { self.sender.protect(packet) };
        protected.ok()
    }

    /// `None` for what is not what the server made.
    fn open(&mut self, control: bool, packet: &[u8]) -> Option<Bytes> {
        let receiver = self.receiver.as_mut()?;
        let opened = if control { receiver.unprotect_rtcp(packet) } else { receiver.unprotect(packet) };
        opened.ok()
    }
}

impl ClientSession {
    /// Asks for one medium to be set up.
    pub(super) fn set_up(&mut self, now: Instant, at: usize) {
        let Some(medium) = self.media.get(at) else { return };
        let mut transport = match (self.carriages.first(), self.ports.get(at)) {
            (Some(Carriage::Udp), Some(ports)) => Transport::udp(*ports),
            (Some(Carriage::Multicast), _) => {
                Transport { cast: Some(Cast::Multicast), ..Transport::default() }
            }
            _ => Transport::tcp(channels(at)),
        };
        if transport.lower == LowerTransport::Tcp {
            self.decoder.allow_frames(true);
        }
        let message = self.message(at);
        transport.profile = match (message.is_some(), medium.feedback) {
            (false, false) => Profile::Avp,
            (false, true) => Profile::Avpf,
            (true, false) => Profile::Savp,
            (true, true) => Profile::Savpf,
        };
        // Without quotes, which FFmpeg does not understand.
        let mode = if matches!(self.flow, Flow::Push(_)) { ";mode=record" } else { "" };
        let transport = format!("{transport}{mode}");
        let mut request = Request::new(Method::Setup, medium.control.clone()).with("Transport", transport);
        if let Some(message) = message {
            let data = message.to_base64();
            request = request.with("KeyMgmt", KeyMgmt { uri: medium.control.clone(), data });
        }
        self.routes.truncate(at);
        self.guards.truncate(at);
        self.state = State::Setup(at);
        self.ask(now, request);
    }

    /// Whether what is pushed is protected: datagrams are, beside a connection that nobody else can read, and frames where the URL
    /// asks for it.
    pub(super) fn protects(&self) -> bool {
        let asked = || self.url.query().is_some_and(|query| query.split('&').any(|name| name == "srtp"));
        self.url.tls && (self.config.carriage == Carriage::Udp || asked())
    }

    /// What says the key of this side, for a medium that is protected.
    fn message(&self, at: usize) -> Option<Message> {
        let keys = self.keys.as_ref()?;
        let ssrc = match &self.flow {
            Flow::Pull(receiving) => self.media.get(at)?.key.as_ref().map(|_| receiving.ssrc()),
            Flow::Push(sending) => sending.ssrc(at).filter(|_| self.protects()),
            Flow::Undescribed => None,
        };
        let suite = self.media.get(at)?.key.as_ref().map(|theirs| theirs.key.suite).unwrap_or_default();
        Some(keys.message(at, ssrc?)?.of_suite(suite))
    }

    /// The keys that are agreed on for a medium: those of the answer, or of the description.
    fn guard(&self, at: usize, response: &Response) -> Option<Guard> {
        let medium = self.media.get(at)?;
        let ours = self.message(at)?.key;
        let answered = response.headers.get("KeyMgmt").and_then(|header| header.parse::<KeyMgmt>().ok());
        let answered = answered.and_then(|header| Message::from_base64(&header.data).ok());
        let theirs = answered.or_else(|| medium.key.as_deref().cloned());
        let protection = Protection { ours, theirs };
        Some(Guard { sender: protection.sender(), receiver: protection.receiver() })
    }

    pub(super) fn handle_setup(
        &mut self,
        now: Instant,
        at: usize,
        method: Method,
        response: &Response,
    ) -> Result<(), ClientError> {
        if response.status == Status::UNSUPPORTED_TRANSPORT && self.carriages.len() > 1 {
            let refused = self.carriages.remove(0);
            if at == 0 {
                self.choose_ports(now);
            } else if refused == Carriage::Udp {
                // Half of it is set up: a connection of its own is simpler than to take that back.
                self.events.push_back(ClientEvent::NoDatagrams);
                self.finish(now, arcly_core::CloseReason::Unsupported);
            } else {
                return Err(refusal(method, response));
            }
            return Ok(());
        }
        if !response.status.is_success() {
            return Err(refusal(method, response));
        }
        let answer = answered(response.headers.get("Transport")).unwrap_or_default();
        let nowhere = answer.server_port.is_none() && matches!(self.flow, Flow::Push(_));
        let Some(route) = self.route(at, answer) else {
            let words = "the answer names no group to receive from";
            return Err(ClientError::rejected(method, Status::UNSUPPORTED_TRANSPORT, words));
        };
        if route == Route::Ports && nowhere {
            let words = "the answer names no ports to send to";
            return Err(ClientError::rejected(method, Status::UNSUPPORTED_TRANSPORT, words));
        }
        self.routes.push(route);
        self.guards.push(self.guard(at, response));
        let next = at.saturating_add(1);
        if next < self.media.len() {
            self.set_up(now, next)
        } else {
            self.start(now)
        }
        Ok(())
    }

    /// The way of a medium, by what the server answered; what it does not say is as it was asked for. `None` when it names no
    /// group where there has to be one.
    fn route(&mut self, medium: usize, answer: Transport) -> Option<Route> {
        let asked = self.carriages.first().copied().unwrap_or_default();
        let channels_instead = answer.lower == LowerTransport::Tcp && answer.interleaved.is_some();
        if asked.is_datagrams() && !channels_instead {
            let source = answer.source.as_deref().and_then(|source| source.parse().ok());
            // Some send to groups whatever they are asked for.
            let is_group = asked == Carriage::Multicast || answer.cast == Some(Cast::Multicast);
            if is_group {
                let (address, ports) = self.group(medium, &answer)?;
                self.events.push_back(ClientEvent::Group { medium, address, ports, source });
                return Some(Route::Group);
            }
            self.events.push_back(ClientEvent::Peer { medium, ports: answer.server_port, source });
            return Some(Route::Ports);
        }
        self.decoder.allow_frames(true);
        let taken = |(rtp, rtcp): &(u8, u8)| {
            let others = self.routes.iter();
            others.into_iter().any(|route| matches!(route, Route::Channels(a, b) if a == rtp || b == rtcp))
        };
        let (rtp, rtcp) = answer.interleaved.filter(|pair| !taken(pair)).unwrap_or(channels(medium));
        Some(Route::Channels(rtp, rtcp))
    }

    /// The group that the answer names, or the description.
    fn group(&self, medium: usize, answer: &Transport) -> Option<(Ipv4Addr, PortPair)> {
        let described = self.media.get(medium)?;
        let said = answer.destination.as_deref().and_then(|destination| destination.parse::<Ipv4Addr>().ok());
        let address = said.filter(Ipv4Addr::is_multicast).or(described.group)?;
        let pair = |rtp: u16| Some(PortPair { rtp, rtcp: rtp.checked_add(1)? });
        let in_description = || pair(described.port).filter(|ports| ports.rtp > 0);
        // RFC 2326 has `port` for it, and some servers `client_port` or `server_port`.
        let ports = answer.port.or(answer.client_port).or(answer.server_port).or_else(in_description)?;
        Some((address, ports))
    }

    /// Opens the way for datagrams through firewalls on this side.
    pub(super) fn punch(&mut self) {
        let Flow::Pull(receiving) = &self.flow else { return };
        let rtp = Bytes::copy_from_slice(&Header::default().encode());
        let rtcp = receiving.empty_report();
        let over_ports = |(medium, route): (usize, &Route)| (*route == Route::Ports).then_some(medium);
        let media: Vec<usize> = self.routes.iter().enumerate().filter_map(over_ports).collect();
        for medium in media {
            // There is nothing in it that could be protected, and its number is not one to use up.
            let payload = rtp.clone();
            self.events.push_back(ClientEvent::Datagram(Datagram { medium, control: false, payload }));
            self.send_packet(medium, true, rtcp.clone());
        }
    }

    fn guard_of(&mut self, medium: usize) -> Option<&mut Guard> {
        self.guards.get_mut(medium).and_then(Option::as_mut)
    }

    /// A packet as it goes out; `None` for one that cannot be protected.
    fn protect(&mut self, medium: usize, control: bool, packet: Bytes) -> Option<Bytes> {
        match self.guard_of(medium) {
            Some(guard) => guard.protect(control, &packet),
            None => Some(packet),
        }
    }

    /// A packet as it was before it was protected; `None` for one that is not what its sender made.
    fn open(&mut self, medium: usize, control: bool, packet: &Bytes) -> Option<Bytes> {
        match self.guard_of(medium) {
            Some(guard) => guard.open(control, packet),
            None => Some(packet.clone()),
        }
    }

    /// Sends what a packetizer made by the routes of its media.
    pub(super) fn send(&mut self, bytes: Bytes) {
        let as_it_is = |(medium, route): (usize, &Route)| {
            let (rtp, rtcp) = channels(medium);
            *route == Route::Channels(rtp, rtcp)
        };
        if self.guards.iter().all(Option::is_none) && self.routes.iter().enumerate().all(as_it_is) {
            return self.out.push_back(bytes);
        }
        for (channel, payload) in interleaved(bytes) {
            let (medium, control) = (usize::from(channel / 2), !channel.is_multiple_of(2));
            self.send_packet(medium, control, payload);
        }
    }

    fn send_packet(&mut self, medium: usize, control: bool, packet: Bytes) {
        let Some(payload) = self.protect(medium, control, packet) else { return };
        match self.routes.get(medium) {
            Some(Route::Channels(rtp, rtcp)) => {
                let channel = if control { *rtcp } else { *rtp };
                self.out.push_back(Frame { channel, payload }.to_bytes());
            }
            Some(Route::Ports) => {
                self.events.push_back(ClientEvent::Datagram(Datagram { medium, control, payload }));
            }
            Some(Route::Group) | None => {}
        }
    }

    pub(super) fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), ClientError> {
        let Frame { channel, payload } = frame;
        let known = self.routes.iter().enumerate().find_map(|(medium, route)| match route {
            Route::Channels(rtp, _) if *rtp == channel => Some((medium, false)),
            Route::Channels(_, rtcp) if *rtcp == channel => Some((medium, true)),
            _ => None,
        });
        let Some((medium, control)) = known.or_else(|| self.adopt(channel, &payload)) else {
            self.stray_frames = self.stray_frames.saturating_add(1);
            let hopeless = self.stray_frames >= self.config.stray_frames;
            return if hopeless { Err(ClientError::StrayFrames(self.stray_frames)) } else { Ok(()) };
        };
        self.stray_frames = 0;
        self.receive(now, medium, control, &payload)
    }

    /// Some servers use other channels than they say: a packet whose type only one medium has, of which nothing has come, is taken for
    /// that medium's.
    fn adopt(&mut self, channel: u8, payload: &Bytes) -> Option<(usize, bool)> {
        let Flow::Pull(receiving) = &self.flow else { return None };
        if is_rtcp(payload) {
            return None;
        }
        let payload_type = RtpPacket::decode(payload).ok()?.header.payload_type;
        let has = |at: &usize| {
            let medium = self.media.get(*at);
            let types =
                medium.into_iter().flat_map(|medium| &medium.formats).map(|format| format.payload_type);
            types.into_iter().any(|known| known == payload_type) && !receiving.has_come(*at)
        };
        let mut candidates = (0..self.media.len()).filter(has);
        let medium = candidates.next().filter(|_| candidates.next().is_none())?;
        let route = self.routes.get_mut(medium)?;
        *route = Route::Channels(channel, channel.wrapping_add(1));
        Some((medium, false))
    }

    pub(super) fn receive(
        &mut self,
        now: Instant,
        medium: usize,
        control: bool,
        payload: &Bytes,
    ) -> Result<(), ClientError> {
        let Some(payload) = self.open(medium, control, payload) else { return Ok(()) };
        match &mut self.flow {
            Flow::Pull(receiving) => {
                let taken = receiving.packet(now, medium, control, &payload);
                taken.map_err(|error| ClientError::Wire { state: "media flows", error })?;
                self.drain_media();
            }
            Flow::Push(_) if control && asks_for_keyframe(&payload) => {
                self.events.push_back(ClientEvent::KeyframeRequested);
            }
            _ => {}
        }
        Ok(())
    }

    /// Hands out what has come, once media flows.
    pub(super) fn drain_media(&mut self) {
        if let Flow::Pull(receiving) = &mut self.flow {
            receiving.drain(&mut self.events);
        }
        self.drain_reports();
    }

    /// Sends the reports and requests that are due.
    pub(super) fn drain_reports(&mut self) {
        let Flow::Pull(receiving) = &mut self.flow else { return };
        for (medium, report) in receiving.take_reports() {
            self.send_packet(medium, true, report);
        }
    }

    pub(super) fn handle_media_timeout(&mut self, now: Instant) {
        if let Flow::Pull(receiving) = &mut self.flow {
            receiving.handle_timeout(now);
        }
        self.drain_media();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_answer() {
        let tcp = |pair| Transport { lower: LowerTransport::Tcp, interleaved: pair, ..Transport::default() };
        let cases = [
            (Some("RTP/AVP/TCP;interleaved=4-5"), Some(tcp(Some((4, 5))))),
            (Some("RTP/AVP/TCP;interleaved=5-4;client_port=0-0"), Some(tcp(None))),
            (Some("RTP/AVP/TCP"), Some(tcp(None))),
            (
                Some("RTP/AVP;server_port=0-0;client_port=70000-70001;source=;mode=\"PLAY,RECORD\""),
                Some(Transport {
                    mode: answered(Some("RTP/AVP;mode=PLAY")).unwrap().mode,
                    ..Transport::default()
                }),
            ),
            (
                Some("RTP/AVP;server_port=6970"),
                Some(Transport {
                    server_port: Some(PortPair { rtp: 6_970, rtcp: 6_971 }),
                    ..Transport::default()
                }),
            ),
            (Some("unicast"), None),
            (Some(";"), None),
            (None, None),
        ];
        for (header, expect) in cases {
            assert_eq!(answered(header), expect, "{header:?}");
        }
    }
}
