//! Sessions against a whole WebRTC client (str0m, as a full agent that offers), over a link in virtual time.

mod consent;
mod data;
mod hostile;
mod layers;
mod network;
mod redundancy;
mod tcp;
mod temporal;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arcly_core::derived::Packetizer as _;
use arcly_core::track::TrackMask;
use arcly_core::{
    CloseReason, CodecConfig, CodecId, FrameFlags, MediaEvent, MediaFrame, Phase, StreamKey, Timestamp,
    Track, TrackId, TrackSet,
};
use arcly_testkit::net::{Conditions, DatagramLink, Link as _};
use bytes::Bytes;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Rid};
use str0m::net::{Protocol as Carrier, Receive, TcpType};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, IceCreds, Input, Rtc};

use super::{
    Identity, MAX_FORGOTTEN, MAX_SOURCES, NoCommonCodec, Output, Published, Timeouts, Transport, Viewed,
    WhepSession, WhipSession,
};
use crate::config::Addresses;
use crate::media::{Packetizer, RtpFrame};
use crate::wire::{Offer, Protocol, Role, TransportAddress};

pub(super) const SERVER: &str = "192.0.2.1:8189";
pub(super) const CLIENT: &str = "198.51.100.7:50000";
/// One way.
pub(super) const DELAY: Duration = Duration::from_millis(20);

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn udp(text: &str) -> TransportAddress {
    TransportAddress::udp(at(text))
}

fn conditions() -> Conditions {
    Conditions { delay: DELAY, ..Conditions::default() }
}

pub(super) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap())
}

/// Either session.
pub(super) trait Session {
    type Event;
    fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_output(&mut self) -> Output<Self::Event>;
    fn transport(&mut self) -> &mut Transport;
}

macro_rules! session {
    ($name:ident, $event:ident) => {
        impl Session for $name {
            type Event = $event;
            fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) {
                self.handle_datagram(now, from, datagram);
            }
            fn handle_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }
            fn poll_output(&mut self) -> Output<$event> {
                self.poll_output()
            }
            fn transport(&mut self) -> &mut Transport {
                self.transport_mut()
            }
        }
    };
}
session!(WhipSession, Published);
session!(WhepSession, Viewed);

/// A client, a session, and the link between them.
struct Pair<S: Session> {
    client: Rtc,
    mids: Vec<Mid>,
    session: S,
    now: Instant,
    /// What the two talk over.
    protocol: Protocol,
    /// When the client and the session want to be woken.
    wakes: [Instant; 2],
    to_session: DatagramLink,
    to_client: DatagramLink,
    /// Bits per second that the way to the client carries, and until when it is busy with what was sent.
    bottleneck: Option<(u64, Instant)>,
    events: Vec<S::Event>,
    packets: Vec<RtpPacket>,
    /// Keyframes that the client was asked for.
    keyframes_asked: usize,
    /// The layers that the last of them were of.
    layers_asked: Vec<Rid>,
    /// The client's data channels that are there, what has come over them, and those that are gone.
    opened: Vec<ChannelId>,
    messages: Vec<(ChannelId, Vec<u8>)>,
    closed: Vec<ChannelId>,
    /// Datagrams from the session that are lost, by their place among those that are media.
    lose: Vec<usize>,
    sent: usize,
    /// The client's checks do not arrive any more.
    is_cut: bool,
}

/// A client's offer of those media, and the session that answers it.
fn offer(
    kinds: &[MediaKind],
    direction: Direction,
    now: Instant,
) -> (Rtc, Vec<Mid>, String, SdpPendingOffer) {
    let candidate = Candidate::host(at(CLIENT), "udp");
    offer_from(candidate.unwrap(), kinds, direction, now)
}

fn offer_from(
    candidate: Candidate,
    kinds: &[MediaKind],
    direction: Direction,
    now: Instant,
) -> (Rtc, Vec<Mid>, String, SdpPendingOffer) {
    let mut client = Rtc::builder().set_rtp_mode(true).build(now);
    client.add_local_candidate(candidate).unwrap();
    offer_of(client, kinds, direction, &[])
}

/// The offer of a client, with data channels where there are some.
fn offer_of(
    mut client: Rtc,
    kinds: &[MediaKind],
    direction: Direction,
    channels: &[ChannelConfig],
) -> (Rtc, Vec<Mid>, String, SdpPendingOffer) {
    let mut api = client.sdp_api();
    let mids = kinds.iter().map(|kind| api.add_media(*kind, direction, None, None, None)).collect();
    channels.iter().for_each(|config| _ = api.add_channel_with_config(config.clone()));
    let (offer, pending) = api.apply().unwrap();
    (client, mids, offer.to_sdp_string(), pending)
}

fn answer(role: Role, offer: &str, now: Instant) -> (Transport, String) {
    let offer = Offer::decode(role, offer.as_bytes()).unwrap();
    let addresses = Addresses::new([at(SERVER)]).with_tcp([at(SERVER)]);
    Transport::answer(identity(), addresses, Timeouts::default(), offer, now).unwrap()
}

impl<S: Session> Pair<S> {
    fn new(role: Role, kinds: &[MediaKind], session: impl FnOnce(Transport, Instant) -> S) -> Self {
        Self::over(Protocol::Udp, role, kinds, session)
    }

    fn over(
        protocol: Protocol,
        role: Role,
        kinds: &[MediaKind],
        session: impl FnOnce(Transport, Instant) -> S,
    ) -> Self {
        let now = Instant::now();
        let direction = if role == Role::Publisher { Direction::SendOnly } else { Direction::RecvOnly };
        let candidate = match protocol {
            Protocol::Udp => Candidate::host(at(CLIENT), "udp"),
            Protocol::Tcp => Candidate::builder().tcp().host(at(CLIENT)).tcptype(TcpType::Active).build(),
        };
        let offered = offer_from(candidate.unwrap(), kinds, direction, now);
        Self::answered(protocol, role, offered, session, now)
    }

    /// What comes of that offer.
    fn answered(
        protocol: Protocol,
        role: Role,
        (mut client, mids, offer, pending): (Rtc, Vec<Mid>, String, SdpPendingOffer),
        session: impl FnOnce(Transport, Instant) -> S,
        now: Instant,
    ) -> Self {
        let (transport, answer) = answer(role, &offer, now);
        let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
        client.sdp_api().accept_answer(pending, answer).unwrap();
        Self {
            client,
            mids,
            session: session(transport, now),
            now,
            protocol,
            wakes: [now; 2],
            to_session: DatagramLink::new(1, conditions()),
            to_client: DatagramLink::new(2, conditions()),
            bottleneck: None,
            events: Vec::new(),
            packets: Vec::new(),
            keyframes_asked: 0,
            layers_asked: Vec::new(),
            opened: Vec::new(),
            messages: Vec::new(),
            closed: Vec::new(),
            lose: Vec::new(),
            sent: 0,
            is_cut: false,
        }
    }

    /// Where the client is.
    fn peer(&self) -> TransportAddress {
        TransportAddress { protocol: self.protocol, socket: at(CLIENT) }
    }

    /// Takes everything out of both.
    fn drain(&mut self) {
        loop {
            match self.client.poll_output().unwrap() {
                str0m::Output::Transmit(transmit) => {
                    let lost = self.is_cut && transmit.contents[0] < 4;
                    if !lost {
                        self.to_session.send(self.now, Bytes::copy_from_slice(&transmit.contents));
                    }
                }
                str0m::Output::Event(str0m::Event::KeyframeRequest(request)) => {
                    self.keyframes_asked += 1;
                    self.layers_asked.extend(request.rid);
                }
                str0m::Output::Event(str0m::Event::RtpPacket(packet)) => self.packets.push(packet),
                str0m::Output::Event(str0m::Event::ChannelOpen(id, _)) => self.opened.push(id),
                str0m::Output::Event(str0m::Event::ChannelData(data)) => {
                    self.messages.push((data.id, data.data))
                }
                str0m::Output::Event(str0m::Event::ChannelClose(id)) => self.closed.push(id),
                str0m::Output::Event(_) => {}
                str0m::Output::Timeout(at) => break self.wakes[0] = at,
            }
        }
        loop {
            match self.session.poll_output() {
                Output::Transmit { to, datagram } => {
                    assert_eq!(to, self.peer());
                    let is_media = crate::wire::Kind::of(&datagram) == Some(crate::wire::Kind::Rtp);
                    self.sent += usize::from(is_media);
                    if !(is_media && self.lose.contains(&self.sent)) {
                        self.send_to_client(datagram);
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Wait(at) => break self.wakes[1] = at,
            }
        }
    }

    /// What is longer than 300 ms in front of the bottleneck is lost there.
    fn send_to_client(&mut self, datagram: Vec<u8>) {
        let mut leaves = self.now;
        if let Some((bps, busy)) = &mut self.bottleneck {
            let begins = (*busy).max(self.now);
            if begins - self.now > Duration::from_millis(300) {
                return;
            }
            leaves = begins + Duration::from_micros(datagram.len() as u64 * 8_000_000 / *bps);
            *busy = leaves;
        }
        self.to_client.send(leaves, datagram.into());
    }

    /// Hands over one thing that has arrived.
    fn deliver(&mut self) -> bool {
        if let Some(datagram) = self.to_session.receive(self.now) {
            self.session.handle_datagram(self.now, self.peer(), &datagram);
            return true;
        }
        let Some(datagram) = self.to_client.receive(self.now) else { return false };
        let carrier = if self.protocol == Protocol::Udp { Carrier::Udp } else { Carrier::Tcp };
        if let Ok(receive) = Receive::new(carrier, at(SERVER), at(CLIENT), &datagram) {
            self.client.handle_input(Input::Receive(self.now, receive)).unwrap();
        }
        true
    }

    /// Runs for so long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            if self.deliver() {
                continue;
            }
            let arrivals = self.to_session.next_arrival().into_iter().chain(self.to_client.next_arrival());
            let next = self.wakes.into_iter().chain(arrivals).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            // A machine that wants to be woken now has been asked already.
            let is_wake = self.wakes.contains(&next);
            self.now = if is_wake { next.max(self.now + Duration::from_micros(100)) } else { next };
            if is_wake {
                self.client.handle_input(Input::Timeout(self.now)).unwrap();
                self.session.handle_timeout(self.now);
            }
        }
    }

    fn connect(&mut self) {
        self.run(Duration::from_secs(2));
        assert!(self.client.is_connected() && self.session.transport().is_connected());
    }

    /// The client sends a packet of a medium.
    fn write(&mut self, medium: usize, payload_type: u8, at: (u64, u32), payload: &[u8]) {
        self.write_with(medium, payload_type, at, payload, ExtensionValues::default());
    }

    fn write_with(
        &mut self,
        medium: usize,
        payload_type: u8,
        (sequence, time): (u64, u32),
        payload: &[u8],
        extensions: ExtensionValues,
    ) {
        let mut api = self.client.direct_api();
        let stream = api.stream_tx_by_mid(self.mids[medium], None).unwrap();
        let write = RtpWrite::new(payload_type.into(), sequence.into(), time, self.now, payload);
        stream.write_rtp(write.marker(true).nackable(true).ext_vals(extensions));
        self.client.handle_input(Input::Timeout(self.now)).unwrap();
        self.drain();
    }

    /// The payload type of a codec in the answer.
    fn payload_type(&mut self, medium: usize, codec: CodecId) -> u8 {
        let formats = &self.session.transport().media()[medium].formats;
        formats.iter().find(|format| format.codec() == Some(codec)).unwrap().payload_type
    }
}

fn publisher(kinds: &[MediaKind]) -> Pair<WhipSession> {
    Pair::new(Role::Publisher, kinds, WhipSession::new)
}

fn viewer(kinds: &[MediaKind]) -> Pair<WhepSession> {
    Pair::new(Role::Viewer, kinds, |transport, _| WhepSession::new(transport, 7))
}

const BOTH: [MediaKind; 2] = [MediaKind::Video, MediaKind::Audio];

#[test]
fn how_loud_a_publisher_says_it_is_comes_with_each_packet() {
    let mut pair = publisher(&BOTH);
    pair.connect();
    let (video, audio) = (pair.payload_type(0, CodecId::Vp8), pair.payload_type(1, CodecId::Opus));
    let loud = |level, voice| ExtensionValues {
        audio_level: Some(level),
        voice_activity: Some(voice),
        ..ExtensionValues::default()
    };
    let said = [(-127, false), (-25, true), (0, true), (-40, false)];
    for (n, (level, voice)) in (0_u32..).zip(said) {
        pair.write(0, video, (n.into(), n * 3_000), &vp8(n == 0, 7));
        let time = n * 960;
        pair.write_with(1, audio, (n.into(), time), &[0xF8, 1, 2, 3], loud(level, voice));
        pair.run(Duration::from_millis(20));
    }
    pair.write(1, audio, (4, 4 * 960), &[0xF8, 1, 2, 3]);
    pair.run(Duration::from_secs(1));
    let levels = pair.events.iter().filter_map(|event| match event {
        Published::Level(track, level) => Some((*track, (level.dbov(), level.is_voice()))),
        _ => None,
    });
    let levels: Vec<_> = levels.collect();
    assert_eq!(levels, said.map(|level| (TrackId::AUDIO, level)), "and of packets that say nothing none");
}

/// A VP8 frame of 16×16 (RFC 6386 §9.1) behind a payload descriptor that says that it begins.
pub(super) fn vp8(is_key: bool, fill: u8) -> Vec<u8> {
    let mut frame = vec![0x10, if is_key { 0x10 } else { 0x11 }, 0, 0];
    if is_key {
        frame.extend([0x9D, 0x01, 0x2A, 16, 0, 16, 0]);
    }
    frame.extend([fill; 20]);
    frame
}

#[test]
fn a_publisher_becomes_tracks_and_frames() {
    let mut pair = publisher(&BOTH);
    pair.connect();
    let (video, audio) = (pair.payload_type(0, CodecId::Vp8), pair.payload_type(1, CodecId::Opus));
    for n in 0..30_u32 {
        pair.write(0, video, (u64::from(n), 1_000 + n * 3_000), &vp8(n == 0, 7));
        pair.write(1, audio, (u64::from(n), 500 + n * 1_600), &[0xF8, 1, 2, 3]);
        pair.run(Duration::from_micros(33_333));
    }
    pair.run(Duration::from_secs(1));
    let media = pair.events.iter().filter_map(|event| match event {
        Published::Media(media) => Some(media),
        _ => None,
    });
    let media = media.collect::<Vec<_>>();
    let tracks = media.iter().find_map(|event| match event {
        MediaEvent::Tracks(tracks) => Some(tracks),
        MediaEvent::Frame(_) => None,
    });
    let codecs: Vec<_> = tracks.unwrap().iter().map(|track| track.codec).collect();
    assert_eq!(codecs, [CodecId::Vp8, CodecId::Opus]);
    let frames = |track| {
        media.iter().filter(move |event| matches!(event, MediaEvent::Frame(frame) if frame.track == track))
    };
    assert_eq!((frames(TrackId::VIDEO).count(), frames(TrackId::AUDIO).count()), (30, 30));
}

pub(super) fn h264_track() -> (Track, Vec<MediaFrame>) {
    let media = arcly_testkit::media::Source::h264();
    let tracks = media.tracks();
    (tracks.get(TrackId::VIDEO).unwrap().clone(), media.seconds(2))
}

/// Pictures that are shown in the order in which they come: 25 in a second, of so many bytes each, the first of every second a keyframe.
/// Two of three are referred to by none.
pub(super) fn in_order(bytes: usize, seconds: u32) -> Vec<MediaFrame> {
    let frames = arcly_testkit::media::Source::h264().with_pictures_of(bytes).seconds(seconds);
    frames.into_iter().map(|frame| MediaFrame { pts: frame.dts, ..frame }).collect()
}

/// Frames as all viewers get them.
pub(super) fn packets(tracks: &TrackSet, frames: &[MediaFrame]) -> Vec<RtpFrame> {
    let mut packetizer = Packetizer::new(StreamKey::new("live", "cam"));
    packetizer.headers(&Arc::new(tracks.clone()));
    let mut out = Vec::new();
    frames.iter().for_each(|frame| packetizer.packetize(frame, &mut out));
    out
}

pub(super) fn opus() -> Track {
    Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None)
}

#[test]
fn a_viewer_gets_every_packet_under_its_own_numbers() {
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video, opus()]);
    let mut pair = viewer(&BOTH);
    let (mask, silent) = pair.session.choose(&tracks).unwrap();
    assert_eq!((mask.iter().count(), silent), (2, None));
    pair.connect();
    let frames = packets(&tracks, &frames);
    let start = pair.now;
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(1));
    let sent: Vec<&[u8]> =
        frames.iter().flat_map(|frame| &*frame.packets).map(|packet| &*packet.data).collect();
    assert_eq!(pair.packets.iter().map(|packet| &*packet.payload).collect::<Vec<_>>(), sent);
    let payload_type = *pair.packets[0].header.payload_type;
    let medium = &pair.session.transport().media()[0];
    let format = medium.formats.iter().find(|format| format.payload_type == payload_type).unwrap();
    assert_eq!(format.codec(), Some(CodecId::H264));
    assert_eq!(medium.description.parameter(payload_type, "packetization-mode"), Some("1"));
    let first = u64::from(pair.packets[0].header.sequence_number);
    assert!(first < 1 << 15, "{first}");
    for (n, packet) in (first..).zip(&pair.packets) {
        assert_eq!(
            (u64::from(packet.header.sequence_number), *packet.header.payload_type),
            (n & 0xFFFF, payload_type)
        );
    }
    let ticks = pair.packets.last().unwrap().header.timestamp.wrapping_sub(pair.packets[0].header.timestamp);
    let (newest, oldest) = (frames.last().unwrap().pts, frames[0].pts);
    assert_eq!(i64::from(ticks), (newest - oldest).to_ticks(arcly_core::Timescale::MPEG));
    // A sender report says which moment a timestamp was, and never one in the future.
    let info = pair.packets.last().unwrap().last_sender_info.unwrap();
    assert!(info.rtp_time.numer() > 0 && pair.now > start);
}

#[test]
fn what_was_there_before_a_viewer_came_is_hurried_and_its_sound_left_out() {
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video, opus()]);
    let mut pair = viewer(&BOTH);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let edge = frames.last().unwrap().dts;
    pair.session.join(pair.now, Some(edge));
    let sound = MediaFrame::new(TrackId::AUDIO, Timestamp::ZERO, Bytes::from_static(&[0xF8, 0]));
    let late = MediaFrame { dts: edge, pts: edge, ..sound.clone() };
    let mut all = vec![sound];
    all.extend(frames.iter().cloned());
    all.push(late);
    for frame in packets(&tracks, &all) {
        pair.session.send(pair.now, &frame);
    }
    pair.run(Duration::from_secs(1));
    let opus = pair.payload_type(1, CodecId::Opus);
    let (sound, pictures): (Vec<_>, Vec<_>) =
        pair.packets.iter().partition(|packet| *packet.header.payload_type == opus);
    assert_eq!(sound.len(), 1, "that of before is left out");
    let span = pictures.last().unwrap().header.timestamp.wrapping_sub(pictures[0].header.timestamp);
    // Pictures are shown some frames after they are decoded, and what is shown after the edge is not hurried.
    assert!((8_000..=13_000).contains(&span), "2 s are said to be 100 ms: {span} ticks");
}

#[test]
fn lost_packets_come_again_and_keyframes_are_asked_for() {
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    pair.lose = vec![3, 7, 8];
    let frames = packets(&tracks, &frames);
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(1));
    let count = frames.iter().map(|frame| frame.packets.len()).sum::<usize>();
    assert_eq!(pair.packets.len(), count, "three were lost, and repeated");
    assert!(pair.sent >= count + 3);
    let mid = pair.mids[0];
    pair.client.direct_api().stream_rx_by_mid(mid, None).unwrap().request_keyframe(KeyframeRequestKind::Pli);
    pair.client.handle_input(Input::Timeout(pair.now)).unwrap();
    pair.run(Duration::from_secs(1));
    let asked = pair.events.iter().filter_map(|event| match event {
        Viewed::KeyframeRequest(tracks) => Some(tracks.iter().collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [[TrackId::VIDEO]], "of what it is sent");
}

#[test]
fn codecs_that_the_offer_does_not_have() {
    let mut pair = viewer(&BOTH);
    let aac = arcly_testkit::media::Source::h264_aac().tracks();
    let (mask, silent) = pair.session.choose(&aac).unwrap();
    assert_eq!((mask.iter().collect::<Vec<_>>(), silent), (vec![TrackId::VIDEO], Some(CodecId::Aac)));
    let only = TrackSet::new(aac.iter().filter(|track| track.codec == CodecId::Aac).cloned());
    assert_eq!(pair.session.choose(&only), Err(NoCommonCodec { codec: CodecId::Aac }));
    let theora = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Mjpeg, CodecConfig::None), opus()]);
    assert_eq!(pair.session.choose(&theora), Err(NoCommonCodec { codec: CodecId::Mjpeg }));
    let (mask, _) = pair.session.choose(&TrackSet::new([opus()])).unwrap();
    assert_eq!(mask.iter().collect::<Vec<_>>(), [TrackId::AUDIO]);
}

#[test]
fn a_publisher_that_loses_packets_is_asked_for_them_and_then_for_a_keyframe() {
    let mut pair = publisher(&[MediaKind::Video]);
    pair.connect();
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    for n in 0..60_u64 {
        // One that is never sent cannot be sent again either.
        if n == 30 {
            continue;
        }
        pair.write(0, payload_type, (n, u32::try_from(n).unwrap() * 3_000), &vp8(n == 0, 7));
        pair.run(Duration::from_millis(33));
    }
    pair.run(Duration::from_secs(1));
    let frames = pair.events.iter().filter_map(|event| match event {
        Published::Media(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let frames = frames.collect::<Vec<_>>();
    assert_eq!(frames.len(), 59);
    assert!(
        !frames[29].flags.contains(FrameFlags::CORRUPT) && frames[30].flags.contains(FrameFlags::CORRUPT)
    );
    let stream = pair.client.direct_api().stream_tx_by_mid(pair.mids[0], None).is_some();
    assert!(stream);
    assert_eq!(pair.session.counters(0, 0).unwrap().receiver.lost, 1);
}

/// The first check by the client that offered from each of so many of its addresses, taken off its wire.
fn checks_of(client: &mut Rtc, now: Instant, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut checks: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    for n in 0..1_000 {
        client.handle_input(Input::Timeout(now + Duration::from_millis(10 * n))).unwrap();
        loop {
            match client.poll_output().unwrap() {
                str0m::Output::Transmit(transmit)
                    if transmit.contents[0] < 4
                        && !checks.iter().any(|(source, _)| *source == transmit.source) =>
                {
                    checks.push((transmit.source, transmit.contents.to_vec()));
                }
                str0m::Output::Timeout(_) => break,
                _ => {}
            }
        }
        if checks.len() >= count {
            return checks;
        }
    }
    panic!("the client sends checks from {} addresses", checks.len());
}

/// The credentials in an answer, or in a fragment of one.
fn credentials(text: &str) -> IceCreds {
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    IceCreds { ufrag: value("a=ice-ufrag:"), pass: value("a=ice-pwd:") }
}

fn transmitted(transport: &mut Transport) -> usize {
    let mut count = 0;
    loop {
        match transport.poll_output() {
            Output::Transmit { .. } => count += 1,
            Output::Event(_) => {}
            Output::Wait(_) => return count,
        }
    }
}

#[test]
fn pictures_out_of_order_are_left_out_where_nothing_refers_to_them() {
    let track = Track::new(TrackId::VIDEO, CodecId::Vp8, CodecConfig::None);
    let frame = |n: i64, shown: i64, flags| {
        MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 40), Bytes::from(vp8(n == 0, 1)))
            .with_pts(Timestamp::from_millis(shown * 40))
            .with_flags(flags)
    };
    let (none, disposable) = (FrameFlags::empty(), FrameFlags::DISPOSABLE);
    // Decoded as I P B b P d: of the two that are shown before P one is referred to; the last is merely disposable.
    let order = [
        frame(0, 0, FrameFlags::KEYFRAME),
        frame(1, 3, none),
        frame(2, 2, none),
        frame(3, 1, disposable),
        frame(4, 4, none),
        frame(5, 5, disposable),
    ];
    let shown: Vec<_> =
        packets(&TrackSet::new([track]), &order).iter().map(|frame| frame.pts.to_millis() / 40).collect();
    assert_eq!(shown, [0, 3, 2, 4, 5]);
}
