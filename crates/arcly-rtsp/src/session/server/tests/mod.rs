#![allow(clippy::type_complexity, reason = "case tables")]

mod back_channel;
mod hostile;
mod keys;
mod logins;

use std::net::Ipv4Addr;
use std::time::Duration;

use arcly_core::track::{MetaValue, Metadata};
use arcly_core::via;

use super::*;
use crate::srtp::{Keyring, Message, Suite};
use crate::wire::authorization::{Answers, Login, challenges};
use crate::wire::{Item, KeyMgmt, MessageLimits, Profile, Transport};
use arcly_testkit::clock::Clock;
use arcly_testkit::media::Source;

const URL: &str = "rtsp://h/live/cam";
const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:streamid=1\r\n";
const UDP: PortPair = PortPair { rtp: 8_000, rtcp: 8_001 };

/// A session, with a client and an owner.
struct Test {
    clock: Clock,
    session: ServerSession,
    decoder: Decoder,
    cseq: u32,
    named: Option<String>,
    events: Vec<ServerEvent>,
}

impl Test {
    fn new() -> Self {
        Self::with(SessionConfig::default())
    }

    fn with(config: SessionConfig) -> Self {
        let clock = Clock::new();
        let nonces = Nonces::new(&[7; 32], clock.now());
        let access = Access { random: [9; 16], nonces, udp: Some(UDP) };
        let session = ServerSession::new(Arc::new(config), access, clock.now());
        let mut decoder = Decoder::new(MessageLimits::default());
        decoder.allow_frames(true);
        Self { clock, session, decoder, cseq: 0, named: None, events: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// What the session says, the owner granting whatever is asked for.
    fn drain(&mut self) -> Vec<Item> {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.decoder.push(&bytes),
                Output::Event(event) => {
                    self.grant(&event);
                    self.events.push(event);
                }
                Output::Wait(_) => break,
            }
        }
        core::iter::from_fn(|| self.decoder.poll().unwrap()).collect()
    }

    fn grant(&mut self, event: &ServerEvent) {
        let now = self.now();
        match event {
            ServerEvent::Open { intent: Intent::Play, .. } => {
                self.session.opened_play(now, Arc::new(Source::h264_aac().tracks()), 5);
            }
            ServerEvent::Open { intent: Intent::Publish, .. } => self.session.opened_publish(now),
            ServerEvent::Play => {
                self.session.accept_play(now, &[Start { sequence: Some(3), timestamp: Some(4) }])
            }
            _ => {}
        }
    }

    fn raw(&mut self, bytes: &[u8]) -> Vec<Item> {
        let now = self.now();
        let _ = self.session.handle_input(now, bytes);
        self.drain()
    }

    fn request(&mut self, request: Request) -> Request {
        self.cseq += 1;
        let request = request.with("CSeq", self.cseq);
        match &self.named {
            Some(session) => request.with("Session", session),
            None => request,
        }
    }

    fn ask(&mut self, request: Request) -> Response {
        let request = self.request(request);
        let mut items = self.raw(&request.to_bytes());
        assert!(!items.is_empty(), "{request:?}");
        let Item::Response(response) = items.remove(0) else { panic!("{items:?}") };
        assert_eq!(response.cseq(), Some(self.cseq));
        if let Some(session) = response.headers.get("Session") {
            self.named = session.split(';').next().map(str::to_owned);
        }
        response
    }

    fn status(&mut self, method: Method, uri: &str) -> u16 {
        self.ask(Request::new(method, uri)).status.0
    }

    fn setup(&mut self, uri: &str, transport: &str) -> Response {
        self.ask(Request::new(Method::Setup, uri).with("Transport", transport))
    }

    fn announce(&mut self) -> u16 {
        self.ask(Request::new(Method::Announce, URL).with_body("application/sdp", SDP)).status.0
    }

    fn playing() -> Self {
        let mut test = Self::new();
        assert_eq!(test.status(Method::Describe, URL), 200);
        assert_eq!(test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP;interleaved=0-1").status.0, 200);
        assert_eq!(test.status(Method::Play, URL), 200);
        test
    }

    /// What the owner is asked for with the group that it has.
    fn asks_for_group(&mut self, request: Request, group: Option<Group>) -> Response {
        let request = self.request(request);
        assert!(self.raw(&request.to_bytes()).is_empty(), "the owner is asked first");
        assert_eq!(self.events.pop(), Some(ServerEvent::Group));
        assert!(self.session.is_undecided());
        let now = self.now();
        self.session.offer_group(now, group);
        let mut items = self.drain();
        let Some(Item::Response(response)) = items.pop() else { panic!("{items:?}") };
        response
    }

    fn recording(transport: &str) -> Self {
        let mut test = Self::new();
        assert_eq!(test.announce(), 200);
        assert_eq!(test.setup(&format!("{URL}/streamid=0"), transport).status.0, 200);
        assert_eq!(test.status(Method::Record, URL), 200);
        test
    }

    fn after(&mut self, time: Duration) -> Option<CloseReason> {
        self.clock.advance(time);
        let now = self.now();
        let _ = self.session.handle_timeout(now);
        self.session.closed()
    }
}

const GROUP: Group = Group { address: Ipv4Addr::new(239, 1, 2, 3), port: 8_002, ttl: 5 };

#[test]
fn a_group_is_asked_for_once_and_named_to_who_asks() {
    let mut test = Test::new();
    test.session = test.session.with_multicast();
    assert_eq!(test.status(Method::Describe, URL), 200);
    let setup = Request::new(Method::Setup, format!("{URL}/trackID=1"));
    let setup = setup.with("Transport", "RTP/AVP/UDP;multicast;destination=239.9.9.9;port=1-2");
    let answer = test.asks_for_group(setup, Some(GROUP));
    test.named = answer.headers.get("Session").map(|session| session.split(';').next().unwrap().to_owned());
    let transport: Transport = answer.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!(transport.destination.as_deref(), Some("239.1.2.3"), "the client's is not looked at");
    assert_eq!((transport.port, transport.ttl), (Some(PortPair { rtp: 8_004, rtcp: 8_005 }), Some(5)));
    // The others go the same way, and it is known now.
    let first = format!("{URL}/trackID=0");
    assert_eq!(test.setup(&first, "RTP/AVP/TCP;interleaved=0-1").status, Status::UNSUPPORTED_TRANSPORT);
    assert_eq!(
        test.setup(&first, "RTP/AVP;unicast;client_port=5000-5001").status,
        Status::UNSUPPORTED_TRANSPORT
    );
    assert_eq!(test.setup(&first, "RTP/AVP;multicast").status, Status::OK);
    let agreed: Vec<_> = test.session.presentation().unwrap().agreed().map(|(.., agreed)| agreed).collect();
    let ports = |rtp| Agreed::Multicast(PortPair { rtp, rtcp: rtp + 1 });
    assert_eq!(agreed, [ports(8_002), ports(8_004)]);
    assert_eq!(test.status(Method::Play, URL), 200);
    // Nothing is heard of a reader of a group but its requests.
    assert_eq!(test.after(Duration::from_secs(50)), None);
    assert_eq!(test.status(Method::GetParameter, URL), 200);
    assert_eq!(test.after(Duration::from_secs(59)), None);
    assert_eq!(test.after(Duration::from_secs(2)), Some(CloseReason::Timeout(Phase::Idle)));
}

#[test]
fn without_groups_the_next_choice_counts() {
    let offers = "RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1";
    // A server that has none, and one that has no more.
    let mut test = Test::new();
    assert_eq!(test.status(Method::Describe, &format!("{URL}?multicast")), 200);
    assert_eq!(test.setup(&format!("{URL}/trackID=0"), "RTP/AVP;multicast").status.0, 461);
    let answer = test.setup(&format!("{URL}/trackID=0"), offers);
    assert!(answer.headers.get("Transport").unwrap().contains("interleaved"));
    let mut test = Test::new();
    test.session = test.session.with_multicast();
    assert_eq!(test.status(Method::Describe, URL), 200);
    let setup = Request::new(Method::Setup, format!("{URL}/trackID=0")).with("Transport", offers);
    assert!(test.asks_for_group(setup, None).headers.get("Transport").unwrap().contains("interleaved"));
    // Nobody publishes from a group.
    let mut test = Test::new();
    test.session = test.session.with_multicast();
    assert_eq!(test.announce(), 200);
    assert_eq!(test.setup(&format!("{URL}/streamid=0"), "RTP/AVP;multicast;mode=record").status.0, 461);
}

#[test]
fn a_player_is_told_what_there_is_and_where_it_begins() {
    let mut test = Test::new();
    let described = test.ask(Request::new(Method::Describe, URL).with("Accept", "application/sdp"));
    assert_eq!(described.headers.get("Content-Base"), Some("rtsp://h/live/cam/"));
    let sdp: arcly_rtp::sdp::SessionDescription = str::from_utf8(&described.body).unwrap().parse().unwrap();
    let controls: Vec<_> = sdp.media.iter().map(|media| media.attribute("control").unwrap()).collect();
    assert_eq!(controls, ["trackID=0", "trackID=1"]);
    let setup =
        test.setup(&format!("{URL}/trackID=1"), "RTP/AVP;multicast,RTP/AVP/TCP;unicast;interleaved=0-1");
    let transport: Transport = setup.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!(transport.interleaved, Some((2, 3)), "the channels are the server's to choose");
    assert!(transport.ssrc.is_some());
    assert!(setup.headers.get("Session").unwrap().ends_with(";timeout=55"));
    let play = test.ask(Request::new(Method::Play, "rtsp://h/live/cam/").with("Range", "npt=0.000-"));
    assert_eq!(play.headers.get("RTP-Info"), Some("url=rtsp://h/live/cam/trackID=1;seq=3;rtptime=4"));
    assert_eq!(play.headers.get("Range"), Some("npt=now-"));
    assert_eq!(test.status(Method::Pause, URL), 200);
    assert_eq!(test.status(Method::Play, URL), 200);
    assert_eq!(test.status(Method::Teardown, URL), 200);
    let kinds: Vec<_> = test.events.iter().map(core::mem::discriminant).collect();
    assert_eq!(kinds.len(), 5, "{:?}", test.events);
    assert_eq!(test.events[4], ServerEvent::Stopped);
}

/// H23: who pulls learns which streams it must not feed.
#[test]
fn h23_a_description_says_where_the_stream_has_come_through() {
    let hops = "00000000000000ff,0123456789abcdef";
    for said in [None, Some(hops)] {
        let mut test = Test::new();
        let mut tracks = Source::h264_aac().tracks();
        let entries = said.map(|hops| (via::PROPERTY.into(), MetaValue::Text(hops.into())));
        tracks.metadata = Arc::new(Metadata { entries: entries.into_iter().collect() });
        let (now, request) = (test.now(), test.request(Request::new(Method::Describe, URL)));
        test.session.handle_input(now, &request.to_bytes()).unwrap();
        assert!(matches!(test.session.poll_output(), Output::Event(ServerEvent::Open { .. })));
        test.session.opened_play(now, Arc::new(tracks), 5);
        let Some(Item::Response(response)) = test.drain().pop() else { panic!("an answer") };
        assert_eq!((response.status, response.headers.get(via::HEADER)), (Status::OK, said));
    }
}

#[test]
fn set_up_without_a_description_opens_the_stream_by_itself() {
    let mut test = Test::new();
    let uri = "rtsp://h/live/cam/trackID=0?token=x";
    assert_eq!(test.setup(uri, "RTP/AVP;unicast;client_port=5000-5001").status.0, 200);
    let ServerEvent::Open { target, .. } = &test.events[0] else { panic!("{:?}", test.events) };
    assert_eq!((target.key.as_str(), target.query.as_deref()), ("live/cam", Some("token=x")));
    let agreed: Vec<_> =
        test.session.presentation().unwrap().agreed().map(|(at, _, agreed)| (at, agreed)).collect();
    assert_eq!(agreed, [(0, Agreed::Udp(PortPair { rtp: 5_000, rtcp: 5_001 }))]);
}

/// What FFmpeg does that has got no datagrams: it pauses, and sets media up over the connection as if there was no session yet.
#[test]
fn who_has_paused_may_begin_another_session_over_the_connection() {
    let mut test = Test::new();
    let tracks = [0, 1].map(|at| format!("{URL}/trackID={at}"));
    assert_eq!(test.status(Method::Describe, URL), 200);
    assert_eq!(test.setup(&tracks[0], "RTP/AVP;unicast;client_port=5000-5001").status.0, 200);
    let first = test.named.take();
    assert_eq!(test.setup(&tracks[1], "RTP/AVP/TCP").status.0, 455, "nothing was played of the first");
    test.named.clone_from(&first);
    assert_eq!(test.status(Method::Play, URL), 200);
    test.named = None;
    assert_eq!(test.setup(&tracks[0], "RTP/AVP/TCP").status.0, 455, "the first is still played");
    test.named.clone_from(&first);
    assert_eq!(test.status(Method::Pause, URL), 200);
    (test.named, test.events) = (None, Vec::new());
    assert_eq!(test.setup(&tracks[0], "RTP/AVP/TCP;interleaved=0-1").status.0, 200);
    assert!(test.named.is_some() && test.named != first, "{:?}", test.named);
    let events: [_; 2] = test.events.split_off(0).try_into().unwrap();
    assert!(matches!(events, [ServerEvent::Stopped, ServerEvent::Open { .. }]), "{events:?}");
    assert_eq!(test.setup(&tracks[1], "RTP/AVP/TCP;interleaved=2-3").status.0, 200);
    assert_eq!(test.status(Method::Play, URL), 200);
    let agreed = test.session.presentation().unwrap().agreed().map(|(.., agreed)| agreed);
    assert_eq!(agreed.collect::<Vec<_>>(), [Agreed::Tcp(0, 1), Agreed::Tcp(2, 3)]);
    test.named = first;
    assert_eq!(test.status(Method::Pause, URL), 454, "the first is over");
}

#[test]
fn a_publisher_s_packets_come_by_medium_once_it_records() {
    let mut test = Test::new();
    assert_eq!(test.announce(), 200);
    let first = test.setup(&format!("{URL}/streamid=1"), "RTP/AVP/TCP;unicast;interleaved=4-5;mode=record");
    let transport: Transport = first.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!(transport.interleaved, Some((4, 5)), "a publisher's channels are its own");
    test.raw(b"$\x04\x00\x01x");
    assert_eq!(test.status(Method::Record, URL), 200);
    test.raw(b"$\x04\x00\x01y$\x05\x00\x01z");
    let packets = test.events.iter().filter_map(|event| match event {
        ServerEvent::Packet { medium, control, packet } => Some((*medium, *control, packet.clone())),
        _ => None,
    });
    let packets: Vec<_> = packets.collect();
    assert_eq!(packets, [(1, false, Bytes::from_static(b"y")), (1, true, Bytes::from_static(b"z"))]);
    assert!(test.session.send_control(1, Bytes::from_static(b"r")));
    assert!(!test.session.send_control(0, Bytes::from_static(b"r")), "not set up");
    assert_eq!(test.drain(), [Item::Frame(Frame { channel: 5, payload: Bytes::from_static(b"r") })]);
}

#[test]
fn a_stream_that_ends_says_so_and_a_server_that_moves_says_where() {
    let mut test = Test::playing();
    assert!(test.session.redirect("rtsp://other/live/cam"));
    let Some(Item::Request(request)) = test.drain().pop() else { panic!("a request") };
    assert_eq!(
        (request.method, request.headers.get("Location")),
        (Method::Redirect, Some("rtsp://other/live/cam"))
    );
    test.session.end(CloseReason::Shutdown);
    let Some(Item::Request(request)) = test.drain().pop() else { panic!("a request") };
    assert_eq!((request.method, test.session.closed()), (Method::Teardown, Some(CloseReason::Shutdown)));
    assert!(!Test::new().session.redirect("rtsp://other/"), "nobody to tell");
}

/// A conversation in pieces of every size is the same conversation.
#[test]
fn in_whatever_pieces_it_arrives() {
    let mut whole = Vec::new();
    for (method, uri, extra) in [
        (Method::Options, "*", None),
        (Method::Setup, "rtsp://h/live/cam/trackID=0", Some(("Transport", "RTP/AVP/TCP"))),
        (Method::GetParameter, URL, None),
    ] {
        let mut request = Request::new(method, uri).with("CSeq", 1);
        if let Some((name, value)) = extra {
            request = request.with(name, value);
        }
        whole.extend_from_slice(&request.to_bytes());
    }
    let answers = |size: usize| {
        let mut test = Test::new();
        whole.chunks(size).flat_map(|piece| test.raw(piece)).collect::<Vec<_>>()
    };
    let expect = answers(whole.len());
    assert_eq!(expect.len(), 3);
    for size in 1..whole.len() {
        assert_eq!(answers(size), expect, "{size}");
    }
}
