//! Both sides are ours: clients against sessions of the server, over a path in virtual time.

mod data;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::codec::PcmConfig;
use arcly_core::track::TrackMask;
use arcly_core::{
    CloseReason, CodecConfig, CodecId, FrameFlags, MediaEvent, MediaFrame, Phase, Timestamp, Track, TrackId,
    TrackSet,
};
use bytes::Bytes;

use super::super::tests::{
    CLIENT, DELAY, SERVER, Session, at, h264_track, identity, in_order, opus, packets, udp, vp8,
};
use super::super::{
    Event, Identity, NoCommonCodec, Output, Published, Timeouts, Transport, Viewed, WhepSession, WhipSession,
};
use super::{Offering, Wish};
use crate::config::Addresses;
use crate::wire::{Answer, AnswerError, Kind, Offer, Role, TransportAddress};

/// What goes from one side to the other.
struct Flight {
    arrives: Instant,
    at_server: bool,
    datagram: Vec<u8>,
}

/// A client, the session that it has with the server, and the path between them.
struct House<C: Session, S: Session> {
    client: C,
    server: S,
    now: Instant,
    wakes: [Instant; 2],
    flight: VecDeque<Flight>,
    client_events: Vec<C::Event>,
    server_events: Vec<S::Event>,
    /// Packets of media to be lost, by their number.
    lose: Vec<usize>,
    media: usize,
    /// Nothing arrives any more.
    is_cut: bool,
    /// Bits per second that the way to the server carries, and until when it is busy with what was sent.
    bottleneck: Option<(u64, Instant)>,
}

fn offering(wish: &Wish, now: Instant) -> Offering {
    Offering::new(identity(), Addresses::new([at(CLIENT)]), Timeouts::default(), wish, now).unwrap()
}

fn answer(identity: &Identity, role: Role, offer: &str, now: Instant) -> (Transport, String) {
    let offer = Offer::decode(role, offer.as_bytes()).unwrap();
    Transport::answer(identity, Addresses::new([at(SERVER)]), Timeouts::default(), offer, now).unwrap()
}

fn decoded(role: Role, text: &str) -> Answer {
    Answer::decode(role, text.as_bytes(), |_| true).unwrap()
}

/// Both ends of what is wished for.
fn agreed(wish: &Wish, now: Instant) -> (Transport, Transport) {
    let offering = offering(wish, now);
    let (server, text) = answer(identity(), wish.role(), offering.as_str(), now);
    (offering.answered(&decoded(wish.role(), &text), now).unwrap(), server)
}

fn drain<M: Session>(machine: &mut M, events: &mut Vec<M::Event>, to: &str) -> (Vec<Vec<u8>>, Instant) {
    let mut datagrams = Vec::new();
    loop {
        match machine.poll_output() {
            Output::Transmit { to: address, datagram } => {
                assert_eq!(address, udp(to));
                datagrams.push(datagram);
            }
            Output::Event(event) => events.push(event),
            Output::Wait(at) => return (datagrams, at),
        }
    }
}

impl<C: Session, S: Session> House<C, S> {
    fn new(client: C, server: S, now: Instant) -> Self {
        Self {
            client,
            server,
            now,
            wakes: [now; 2],
            flight: VecDeque::new(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            lose: Vec::new(),
            media: 0,
            is_cut: false,
            bottleneck: None,
        }
    }

    fn drain(&mut self) {
        let (from_client, wake) = drain(&mut self.client, &mut self.client_events, SERVER);
        self.wakes[0] = wake;
        let (from_server, wake) = drain(&mut self.server, &mut self.server_events, CLIENT);
        self.wakes[1] = wake;
        let sent = from_client.into_iter().map(|datagram| (true, datagram));
        for (at_server, datagram) in sent.chain(from_server.into_iter().map(|datagram| (false, datagram))) {
            let is_media = Kind::of(&datagram) == Some(Kind::Rtp);
            self.media += usize::from(is_media);
            let is_lost = self.is_cut || (is_media && self.lose.contains(&self.media));
            let leaves = if at_server { self.leaves(datagram.len()) } else { Some(self.now) };
            if let Some(leaves) = leaves.filter(|_| !is_lost) {
                self.flight.push_back(Flight { arrives: leaves + DELAY, at_server, datagram });
            }
        }
        self.flight.make_contiguous().sort_by_key(|flight| flight.arrives);
    }

    /// When so many bytes are through the bottleneck; what is longer than 300 ms in front of it is lost there.
    fn leaves(&mut self, bytes: usize) -> Option<Instant> {
        let Some((bps, busy)) = &mut self.bottleneck else { return Some(self.now) };
        let begins = (*busy).max(self.now);
        if begins - self.now > Duration::from_millis(300) {
            return None;
        }
        *busy = begins + Duration::from_micros(bytes as u64 * 8_000_000 / *bps);
        Some(*busy)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let arrival = self.flight.front().map(|flight| flight.arrives);
            let next = self.wakes.into_iter().chain(arrival).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            // A machine that wants to be woken now has been asked already.
            self.now = next.max(self.now + Duration::from_micros(100));
            let now = self.now;
            let has_arrived = self.flight.front().is_some_and(|flight| flight.arrives <= now);
            match has_arrived.then(|| self.flight.pop_front()).flatten() {
                Some(flight) if flight.at_server => {
                    self.server.handle_datagram(now, udp(CLIENT), &flight.datagram);
                }
                Some(flight) => self.client.handle_datagram(now, udp(SERVER), &flight.datagram),
                None => {
                    self.client.handle_timeout(now);
                    self.server.handle_timeout(now);
                }
            }
        }
    }

    fn connect(&mut self) {
        self.run(Duration::from_secs(2));
        assert!(self.client.transport().is_connected() && self.server.transport().is_connected());
    }
}

fn sound(ms: i64) -> MediaFrame {
    MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), Bytes::from_static(&[0xF8, 1, 2, 3]))
        .with_flags(FrameFlags::KEYFRAME)
}

/// Two seconds of pictures in the order in which they are shown, and sound, in the order of their times.
fn two_seconds() -> (TrackSet, Vec<MediaFrame>) {
    let (video, mut frames) = h264_track();
    frames.retain(|frame| !frame.flags.contains(FrameFlags::DISPOSABLE));
    frames.extend((0..100).map(|n| sound(n * 20)));
    frames.sort_by_key(|frame| frame.dts);
    (TrackSet::new([video, opus()]), frames)
}

/// The payloads of each track.
fn payloads<'a>(frames: impl Iterator<Item = &'a MediaFrame> + Clone) -> [Vec<Bytes>; 2] {
    let of =
        |track| frames.clone().filter(move |frame| frame.track == track).map(|frame| frame.payload.clone());
    [of(TrackId::VIDEO).collect(), of(TrackId::AUDIO).collect()]
}

fn received(events: &[Published]) -> [Vec<Bytes>; 2] {
    payloads(events.iter().filter_map(|event| match event {
        Published::Media(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    }))
}

fn puller() -> House<WhipSession, WhepSession> {
    let now = Instant::now();
    let (client, server) = agreed(&Wish::view(), now);
    House::new(WhipSession::new(client, now), WhepSession::new(server, 7), now)
}

fn pusher(tracks: &TrackSet) -> House<WhepSession, WhipSession> {
    let now = Instant::now();
    let (client, server) = agreed(&Wish::publish(tracks).unwrap(), now);
    let mut client = WhepSession::new(client, 9);
    client.choose(tracks).unwrap();
    House::new(client, WhipSession::new(server, now), now)
}

#[test]
fn what_is_pulled_is_what_the_server_sends() {
    let (tracks, frames) = two_seconds();
    let mut house = puller();
    house.server.choose(&tracks).unwrap();
    house.connect();
    for frame in packets(&tracks, &frames) {
        house.server.send(house.now, &frame);
        house.run(Duration::from_millis(14));
    }
    house.run(Duration::from_secs(1));
    assert_eq!(received(&house.client_events), payloads(frames.iter()));
    let found = house.client_events.iter().find_map(|event| match event {
        Published::Media(MediaEvent::Tracks(tracks)) => Some(tracks),
        _ => None,
    });
    let codecs = found.unwrap().iter().map(|track| track.codec).collect::<Vec<_>>();
    assert_eq!(codecs, [CodecId::H264, CodecId::Opus]);
}

#[test]
fn what_is_pushed_is_what_the_server_gets_and_lost_packets_come_again() {
    // Of pictures: sound is not sent again.
    let (mut tracks, mut frames) = two_seconds();
    tracks = TrackSet::new([tracks.get(TrackId::VIDEO).unwrap().clone()]);
    frames.retain(|frame| frame.track == TrackId::VIDEO);
    let mut house = pusher(&tracks);
    house.connect();
    house.lose = vec![2, 3, 5];
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
        house.run(Duration::from_millis(14));
    }
    house.run(Duration::from_secs(1));
    let sent = packets(&tracks, &frames).iter().map(|frame| frame.packets.len()).sum::<usize>();
    assert!(house.media >= sent + 3, "{} packets of {sent}", house.media);
    assert_eq!(received(&house.server_events), payloads(frames.iter()));
}

#[test]
fn keyframes_are_asked_for_on_either_side() {
    let (tracks, _) = two_seconds();
    let mut house = pusher(&tracks);
    house.connect();
    house.server.request_keyframes(house.now, TrackMask::ALL);
    house.run(Duration::from_secs(1));
    assert!(house.client_events.iter().any(|event| matches!(event, Viewed::KeyframeRequest(_))));

    let mut house = puller();
    house.server.choose(&tracks).unwrap();
    house.connect();
    house.client.request_keyframes(house.now, TrackMask::ALL);
    house.run(Duration::from_secs(1));
    assert!(house.server_events.iter().any(|event| matches!(event, Viewed::KeyframeRequest(_))));
}

#[test]
fn every_codec_is_agreed_on_both_ways() {
    let (h264, _) = h264_track();
    let pcm = |codec| {
        let config = PcmConfig { sample_rate: 8_000, channels: 1, bits_per_sample: 8 };
        Track::new(TrackId::AUDIO, codec, CodecConfig::Pcm(config))
    };
    let plain = |id, codec| Track::new(id, codec, CodecConfig::None);
    let tracks = [
        h264,
        plain(TrackId::VIDEO, CodecId::Vp8),
        plain(TrackId::VIDEO, CodecId::Vp9),
        plain(TrackId::VIDEO, CodecId::Av1),
        opus(),
        pcm(CodecId::Pcmu),
        pcm(CodecId::Pcma),
        plain(TrackId::AUDIO, CodecId::G722),
    ];
    for track in tracks {
        let (codec, tracks) = (track.codec, TrackSet::new([track]));
        let house = pusher(&tracks);
        let formats = &house.client.transport().media()[0].formats;
        assert!(!formats.is_empty() && formats.iter().all(|format| format.codec() == Some(codec)), "{codec}");
        assert_eq!(house.client.transport().media().len(), 1, "{codec}");
        assert!(house.server.can_receive(), "{codec}");
        let mut house = puller();
        assert!(house.server.choose(&tracks).is_ok(), "{codec}");
        let mut formats = house.client.transport().media().iter().flat_map(|medium| &medium.formats);
        assert!(formats.any(|format| format.codec() == Some(codec)), "{codec}");
    }
    let h265 = Wish::publish(&TrackSet::new([plain(TrackId::VIDEO, CodecId::H265)])).unwrap();
    let (client, _) = agreed(&h265, Instant::now());
    assert_eq!(client.media()[0].formats[0].codec(), Some(CodecId::H265));
}

#[test]
fn streams_that_webrtc_cannot_carry_are_not_offered() {
    let plain = |id, codec| Track::new(id, codec, CodecConfig::None);
    let (mjpeg, aac) = (plain(TrackId::VIDEO, CodecId::Mjpeg), plain(TrackId::AUDIO, CodecId::Aac));
    let wish = |tracks: Vec<Track>| Wish::publish(&TrackSet::new(tracks));
    let refused = |codec| Err(NoCommonCodec { codec });
    assert_eq!(wish(vec![mjpeg, opus()]), refused(CodecId::Mjpeg));
    assert_eq!(wish(vec![aac.clone()]), refused(CodecId::Aac));
    let silent = wish(vec![plain(TrackId::VIDEO, CodecId::Vp8), aac]).unwrap();
    assert_eq!(silent.codecs(), [CodecId::Vp8]);
}

#[test]
fn answers_to_something_else() {
    let now = Instant::now();
    let (_, text) = answer(identity(), Role::Viewer, offering(&Wish::view(), now).as_str(), now);
    let try_with = |text: &str| offering(&Wish::view(), now).answered(&decoded(Role::Viewer, text), now);
    // Media by other names.
    assert!(matches!(try_with(&text), Err(AnswerError::Refused(_))));

    let refused = |change: fn(&str) -> String| {
        let offering = offering(&Wish::view(), now);
        let (_, text) = answer(identity(), Role::Viewer, offering.as_str(), now);
        offering.answered(&decoded(Role::Viewer, &change(&text)), now).unwrap_err()
    };
    type Change = fn(&str) -> String;
    let cases: [(Change, &str); 5] = [
        (|text| text.replace("a=sendonly", "a=inactive"), "none of the media"),
        (|text| text.replace("a=sendonly", "a=recvonly"), "none of the media"),
        (|text| text.replace("rtpmap", "x"), "cannot be used"),
        (|text| text.rsplit_once("\r\nm=").unwrap().0.to_owned() + "\r\n", "cannot be used"),
        (
            |text| text.replace("a=ice-ufrag", "a=ice-lite\r\na=ice-ufrag").replace("t=0 0", "t=1 1"),
            "cannot be used",
        ),
    ];
    for (change, why) in cases {
        let error = refused(change);
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    let offering = offering(&Wish::view(), now);
    let other = Answer::decode(Role::Publisher, text.as_bytes(), |_| true).unwrap();
    assert_eq!(offering.answered(&other, now).unwrap_err(), AnswerError::Malformed("another role"));
}

#[test]
fn a_server_that_does_not_answer_checks_is_given_up() {
    let mut house = puller();
    house.is_cut = true;
    house.run(Duration::from_secs(9));
    assert_eq!(house.client.closed(), None);
    house.run(Duration::from_secs(2));
    assert_eq!(house.client.closed(), Some(CloseReason::Timeout(Phase::Handshake)));
}

/// Checks that a machine sends until it waits.
fn checked(client: &mut Transport) -> Vec<TransportAddress> {
    let mut to = Vec::new();
    loop {
        match client.poll_output() {
            Output::Transmit { to: address, .. } => to.push(address),
            Output::Event(_) => {}
            Output::Wait(_) => return to,
        }
    }
}

#[test]
fn rfc6544_6_1_where_connections_are_taken_is_checked_once_one_is_open() {
    let now = Instant::now();
    let offering = offering(&Wish::view(), now);
    let (_, text) = answer(identity(), Role::Viewer, offering.as_str(), now);
    let passive = "a=candidate:9 1 tcp 1 192.0.2.1 443 typ host tcptype passive\r\n";
    let mut client = offering.answered(&decoded(Role::Viewer, &(text + passive)), now).unwrap();
    let to_tcp = TransportAddress::tcp(at("192.0.2.1:443"));
    client.handle_timeout(now);
    assert_eq!(checked(&mut client), [udp(SERVER)]);
    let later = now + Duration::from_millis(500);
    client.handle_connection(later, at("203.0.113.9:50000"));
    let mut sent = checked(&mut client);
    for n in 1..10 {
        client.handle_timeout(later + Duration::from_millis(50 * n));
        sent.extend(checked(&mut client));
    }
    assert!(sent.contains(&to_tcp) && !client.is_reached(), "{sent:?}");
    // Whoever has answered opens none.
    let (_, mut server) = agreed(&Wish::view(), now);
    server.handle_connection(now, at("203.0.113.9:50000"));
    assert_eq!(checked(&mut server), []);
}

#[test]
fn a_server_that_is_gone_is_noticed_within_thirty_seconds() {
    let mut house = puller();
    house.connect();
    house.run(Duration::from_secs(60));
    assert_eq!(house.client.closed(), None, "checks go on without media");
    house.is_cut = true;
    house.run(Duration::from_secs(31));
    assert_eq!(house.client.closed(), Some(CloseReason::Timeout(Phase::Idle)));
}

#[test]
fn a_certificate_that_is_not_the_answered_one_gets_no_media() {
    let (tracks, frames) = two_seconds();
    let now = Instant::now();
    let wish = Wish::publish(&tracks).unwrap();
    let offering = offering(&wish, now);
    let (server, text) = answer(identity(), Role::Publisher, offering.as_str(), now);
    let (_, other) = answer(&Identity::generate().unwrap(), Role::Publisher, offering.as_str(), now);
    let print = |text: &str| text.lines().find(|line| line.starts_with("a=fingerprint")).unwrap().to_owned();
    let forged = decoded(Role::Publisher, &text.replace(&print(&text), &print(&other)));
    let mut client = WhepSession::new(offering.answered(&forged, now).unwrap(), 9);
    client.choose(&tracks).unwrap();
    let mut house = House::new(client, WhipSession::new(server, now), now);
    house.run(Duration::from_secs(3));
    assert!(!house.client.transport().is_connected() && house.client.closed().is_some());
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
    }
    house.run(Duration::from_secs(1));
    assert_eq!(house.media, 0);
}

#[test]
fn datagrams_from_elsewhere_are_dropped() {
    let mut house = puller();
    house.connect();
    let (now, stranger) = (house.now, udp("203.0.113.9:9"));
    let before = house.client.transport().dropped();
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3];
    let check = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let response = [&[1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    for datagram in [&hello[..], &rtp, &check, &response, &[], b"hello"] {
        house.client.handle_datagram(now, stranger, datagram);
    }
    assert_eq!(house.client.transport().dropped(), before + 6);
    house.run(Duration::from_secs(1));
    assert_eq!(house.client.closed(), None);
}

#[test]
fn good_byes_are_heard_on_both_sides() {
    let mut house = puller();
    house.connect();
    house.server.close(CloseReason::Shutdown);
    house.run(Duration::from_secs(1));
    assert_eq!(house.client.closed(), Some(CloseReason::PeerClosed));

    let (tracks, _) = two_seconds();
    let mut house = pusher(&tracks);
    house.connect();
    house.client.close(CloseReason::Shutdown);
    house.run(Duration::from_secs(1));
    assert_eq!(house.server.closed(), Some(CloseReason::PeerClosed));
}

#[test]
fn an_offer_of_this_side_is_not_restarted_by_the_peer() {
    let (mut client, mut server) = agreed(&Wish::view(), Instant::now());
    let credentials = crate::wire::Credentials::new("wxyz", "0123456789012345678901").unwrap();
    assert!(client.restart(Instant::now(), credentials).is_err());
    assert!(matches!(server.poll_output(), Output::Wait(_) | Output::Event(Event::Source(_))));
}

#[test]
fn a_push_over_a_link_that_is_too_narrow_sends_fewer_pictures_and_no_queue() {
    let (video, _) = h264_track();
    let tracks = TrackSet::new([video]);
    let mut house = pusher(&tracks);
    house.connect();
    // 1.2 Mbit/s over a link of half of that.
    house.bottleneck = Some((600_000, house.now));
    let frames = packets(&tracks, &in_order(6_000, 30));
    let mut longest = 0;
    for (n, frame) in frames.iter().enumerate() {
        house.client.send(house.now, frame);
        house.run(Duration::from_millis(40));
        // The first seconds are for finding out.
        if n > frames.len() / 3 {
            longest = longest.max(house.client.stats().queued_bytes);
        }
    }
    let stats = house.client.stats();
    assert!((100_000..1_200_000).contains(&stats.estimate_bps.unwrap()), "{stats:?}");
    assert!(stats.frames_thinned > frames.len() as u64 / 5, "{stats:?}");
    assert!(longest < 150_000, "two seconds of the link at most: {longest} bytes");
    let [pictures, _] = received(&house.server_events);
    assert!(pictures.len() > frames.len() / 5, "{} of {} arrive", pictures.len(), frames.len());
    assert_eq!((house.client.closed(), house.server.closed()), (None, None));
}

#[test]
fn a_push_of_pictures_alone_has_one_medium() {
    let tracks = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Vp8, CodecConfig::None)]);
    let mut house = pusher(&tracks);
    house.connect();
    let frame = |n: i64| {
        let payload = Bytes::from(vp8(n == 0, 7)).slice(1..);
        let flags = if n == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 40), payload).with_flags(flags)
    };
    let frames = (0..25).map(frame).collect::<Vec<_>>();
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
        house.run(Duration::from_millis(40));
    }
    house.run(Duration::from_secs(1));
    assert_eq!(received(&house.server_events), payloads(frames.iter()));
}
