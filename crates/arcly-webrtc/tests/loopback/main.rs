//! WHIP and WHEP over a real socket: a client (str0m) publishes to an engine, another one plays it.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod tcp;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcly_core::contract::auth::Credentials;
use arcly_core::contract::observe::{EngineEvent, Observer};
use arcly_core::log::Read;
use arcly_core::via::Via;
use arcly_core::{
    AppSpec, ClientInfo, CloseReason, Engine, IngestContext, Phase, PlayRequest, PlaybackRegistry, StreamKey,
    Takeover, TrackId,
};
use arcly_webrtc::http::{Endpoint, FRAGMENT, SDP, Visit};
use arcly_webrtc::wire::Role;
use arcly_webrtc::{Server, ServerConfig};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::Receive;
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::Wire;

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Nothing takes that long that works.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Endings(Mutex<Vec<(&'static str, CloseReason)>>);

impl Observer for Endings {
    fn on_event(&self, event: &EngineEvent) {
        if let EngineEvent::SessionClosed { protocol, reason, .. } = event {
            self.0.lock().unwrap().push((protocol, *reason));
        }
    }
}

struct House {
    engine: Arc<Engine>,
    server: Arc<Server>,
    /// Where connections are taken.
    listener: SocketAddr,
    endpoint: Endpoint,
    endings: Arc<Endings>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl House {
    fn new(config: ServerConfig) -> Self {
        Self::with(config, AppSpec::new("live"))
    }

    fn with(config: ServerConfig, app: AppSpec) -> Self {
        let engine = Engine::builder().app(app).build();
        let endings = Arc::new(Endings::default());
        let shutdown = CancellationToken::new();
        let mut context: IngestContext = engine.context(shutdown.clone());
        context.observer = endings.clone();
        let listener = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let connections = listener.local_addr().unwrap();
        let server = Server::bind(SocketAddr::new(LOCALHOST, 0), config).unwrap();
        let server = Arc::new(server.with_tcp(listener).unwrap());
        let endpoint = server.endpoint(&context);
        let running = tokio::spawn({
            let server = Arc::clone(&server);
            async move { server.run(context).await.unwrap() }
        });
        Self { engine, server, listener: connections, endpoint, endings, shutdown, running }
    }

    /// A request as a client at that address sends it, to `/live/cam/whip` or a session there.
    async fn ask(&self, role: Role, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let session = path.strip_prefix(&format!("/live/cam/{}/", role.as_str())).map(str::to_owned);
        let remote = SocketAddr::new(LOCALHOST, 9);
        let visit = Visit {
            role,
            stream: StreamKey::new("live", "cam"),
            client: ClientInfo::new(role.as_str(), remote),
            credentials: Credentials::new(role.as_str()),
            via: Via::default(),
            reached: vec![LOCALHOST],
            session,
        };
        let (parts, body) = request.into_parts();
        self.endpoint.handle(visit, &parts, Full::new(body)).await
    }

    async fn post(&self, role: Role, offer: impl Into<Bytes>) -> Response<Bytes> {
        let request = Request::post(format!("/live/cam/{}", role.as_str())).header(header::CONTENT_TYPE, SDP);
        self.ask(role, request.body(offer.into()).unwrap()).await
    }

    async fn patch(
        &self,
        role: Role,
        location: &str,
        expected: Option<&str>,
        body: String,
    ) -> Response<Bytes> {
        let mut request = Request::patch(location).header(header::CONTENT_TYPE, FRAGMENT);
        if let Some(expected) = expected {
            request = request.header(header::IF_MATCH, expected);
        }
        self.ask(role, request.body(body.into()).unwrap()).await
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LIMIT, self.running).await.expect("it ends").unwrap();
    }
}

fn text(response: &Response<Bytes>, name: impl header::AsHeaderName) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// A whole WebRTC client on a socket of its own.
struct Client {
    rtc: Rtc,
    wire: Wire,
    mids: Vec<Mid>,
    payloads: Vec<(Mid, Vec<u8>)>,
    connected: bool,
}

impl Client {
    async fn connect(house: &House, role: Role, kinds: &[MediaKind]) -> (Self, Response<Bytes>) {
        Self::connect_by(house, role, kinds, Wire::udp().await).await
    }

    async fn connect_by(
        house: &House,
        role: Role,
        kinds: &[MediaKind],
        wire: Wire,
    ) -> (Self, Response<Bytes>) {
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
        rtc.add_local_candidate(wire.candidate()).unwrap();
        let direction = if role == Role::Publisher { Direction::SendOnly } else { Direction::RecvOnly };
        let mut api = rtc.sdp_api();
        let mids = kinds.iter().map(|kind| api.add_media(*kind, direction, None, None, None)).collect();
        let (offer, pending) = api.apply().unwrap();
        let response = house.post(role, offer.to_sdp_string()).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.body());
        let answer = std::str::from_utf8(response.body()).unwrap();
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(answer).unwrap()).unwrap();
        (Self { rtc, wire, mids, payloads: Vec::new(), connected: false }, response)
    }

    /// Does what there is to do, and then waits for one thing, at most so long.
    async fn step(&mut self, longest: Duration) {
        let wake = loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => break at,
                Output::Transmit(transmit) => {
                    self.wire.send(transmit.destination, &transmit.contents).await;
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::RtpPacket(packet)) => {
                    let ssrc = packet.header.ssrc;
                    let mid = self.rtc.direct_api().stream_rx(&ssrc).unwrap().mid();
                    self.payloads.push((mid, packet.payload.to_vec()));
                }
                Output::Event(_) => {}
            }
        };
        let wait = wake.saturating_duration_since(Instant::now()).min(longest);
        let received = tokio::time::timeout(wait, self.wire.receive()).await;
        let (now, here) = (Instant::now(), self.wire.local());
        let input = match &received {
            Ok(Some((from, datagram))) => match Receive::new(self.wire.carrier(), *from, here, datagram) {
                Ok(receive) => Input::Receive(now, receive),
                Err(_) => return,
            },
            _ => Input::Timeout(now),
        };
        self.rtc.handle_input(input).unwrap();
    }

    async fn connected(&mut self) {
        let end = Instant::now() + LIMIT;
        while !self.connected {
            assert!(Instant::now() < end, "it connects");
            self.step(Duration::from_millis(20)).await;
        }
    }

    fn write(&mut self, medium: usize, payload_type: u8, (sequence, time): (u64, u32), payload: &[u8]) {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.mids[medium], None).unwrap();
        let write = RtpWrite::new(payload_type.into(), sequence.into(), time, Instant::now(), payload);
        stream.write_rtp(write.marker(true).nackable(true));
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
    }
}

/// The payload type of an encoding in an answer.
fn payload_type(answer: &Response<Bytes>, encoding: &str) -> u8 {
    let text = std::str::from_utf8(answer.body()).unwrap();
    let line = text.lines().find(|line| line.starts_with("a=rtpmap:") && line.contains(encoding)).unwrap();
    line["a=rtpmap:".len()..].split(' ').next().unwrap().parse().unwrap()
}

/// A VP8 frame of 16×16 behind a payload descriptor that says that it begins.
fn vp8(is_key: bool, fill: u8) -> Vec<u8> {
    let mut frame = vec![0x10, if is_key { 0x10 } else { 0x11 }, 0, 0];
    if is_key {
        frame.extend([0x9D, 0x01, 0x2A, 16, 0, 16, 0]);
    }
    frame.extend([fill; 20]);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_publishes_another_one_plays() {
    let house = House::new(ServerConfig::default());
    let kinds = [MediaKind::Video, MediaKind::Audio];
    let (mut publisher, answer) = Client::connect(&house, Role::Publisher, &kinds).await;
    assert_eq!(text(&answer, header::CONTENT_TYPE), SDP);
    let whip = text(&answer, header::LOCATION);
    assert!(whip.starts_with("/live/cam/whip/") && text(&answer, header::ETAG).starts_with('"'));
    publisher.connected().await;
    let (video, audio) = (payload_type(&answer, "VP8"), payload_type(&answer, "opus"));

    // The stream is there once its first keyframe is; a reader of frames sees both tracks.
    let key = StreamKey::new("live", "cam");
    let mut viewer: Option<Client> = None;
    let (mut n, end) = (0_u32, Instant::now() + LIMIT);
    let enough = |viewer: &Client| {
        let of =
            |medium: usize| viewer.payloads.iter().filter(|(mid, _)| *mid == viewer.mids[medium]).count();
        of(0) >= 20 && of(1) >= 20
    };
    while !viewer.as_ref().is_some_and(enough) {
        assert!(Instant::now() < end, "the viewer gets what is published");
        publisher.write(0, video, (n.into(), n * 3_000), &vp8(n.is_multiple_of(30), 7));
        publisher.write(1, audio, (n.into(), n * 1_600), &[0xF8, 1, 2, 3]);
        n += 1;
        publisher.step(Duration::from_millis(5)).await;
        let is_there = house.engine.stream(&key).is_some_and(|stream| stream.log().has_join_point());
        match &mut viewer {
            Some(viewer) => viewer.step(Duration::from_millis(5)).await,
            None if is_there => viewer = Some(Client::connect(&house, Role::Viewer, &kinds).await.0),
            None => {}
        }
    }
    let viewer = viewer.unwrap();
    let of_kind =
        |medium: usize| viewer.payloads.iter().find(|(mid, _)| *mid == viewer.mids[medium]).unwrap();
    assert_eq!(of_kind(1).1, [0xF8, 1, 2, 3]);
    let first = &of_kind(0).1;
    assert!(first.ends_with(&[
        0x9D, 0x01, 0x2A, 16, 0, 16, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7
    ]));

    let mut frames =
        house.engine.subscribe(PlayRequest::internal(key.clone(), "test")).await.unwrap().into_frames();
    let read = tokio::time::timeout(LIMIT, frames.next()).await.unwrap().unwrap();
    let Some(Read::Context(tracks)) = read else { panic!("tracks come first") };
    assert_eq!(tracks.iter().map(|track| track.id).collect::<Vec<_>>(), [TrackId::VIDEO, TrackId::AUDIO]);

    // What is known of them: once in a second, and when they end.
    let roles = |house: &House| {
        let mut roles: Vec<_> = house.server.sessions().iter().map(|session| session.role.as_str()).collect();
        roles.sort_unstable();
        roles
    };
    assert_eq!(roles(&house), ["whep", "whip"]);
    assert!(house.server.sessions().iter().all(|session| session.stream == key));

    // Somebody else's session is as little there as one that never was.
    let nobody =
        house.ask(Role::Viewer, Request::delete(whip.replace("whip", "whep")).body(Bytes::new()).unwrap());
    assert_eq!(nobody.await.status(), StatusCode::NOT_FOUND);
    let delete = || Request::delete(&whip).body(Bytes::new()).unwrap();
    assert_eq!(house.ask(Role::Publisher, delete()).await.status(), StatusCode::OK);
    // Its end is said last.
    let (ended, end) = (("whip", CloseReason::PeerClosed), Instant::now() + LIMIT);
    while !house.endings.0.lock().unwrap().contains(&ended) {
        assert!(Instant::now() < end, "the session ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(house.ask(Role::Publisher, delete()).await.status(), StatusCode::NOT_FOUND);
    let server = Arc::clone(&house.server);
    house.end().await;
    assert_eq!((server.sessions().len(), server.counters().sessions), (0, 0));
    let stats = server.stats();
    assert!(stats.packets_received >= 40 && stats.packets_sent >= 40, "those that are over count: {stats:?}");
}

#[tokio::test]
async fn what_belongs_to_nobody_costs_no_state_and_gets_no_answer() {
    let house = House::new(ServerConfig::default());
    let stranger = std::net::UdpSocket::bind((LOCALHOST, 0)).unwrap();
    let mut rng = arcly_testkit::rng::Rng::new(3);
    let (mut sent, end) = (0, Instant::now() + LIMIT);
    while sent < 2_000 {
        for n in 0..50_u8 {
            let mut datagram = rng.bytes(1 + usize::from(n) * 24);
            // STUN, DTLS, RTP, RTCP, and nothing at all.
            datagram[0] = [0, 1, 22, 63, 0x80, 0xFF][usize::from(n) % 6];
            stranger.send_to(&datagram, house.server.local_addr()).unwrap();
            sent += 1;
        }
        while house.server.counters().foreign < sent {
            assert!(Instant::now() < end, "each is looked at, and that is all");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stranger.set_nonblocking(true).unwrap();
    let answer = stranger.recv_from(&mut [0; 2_000]).map(|(length, _)| length);
    assert_eq!(answer.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let counters = house.server.counters();
    assert_eq!((counters.sessions, counters.overrun, counters.foreign), (0, 0, sent));
    house.end().await;
}

#[tokio::test]
async fn w02_w03_w10_w11_requests_that_are_wrong() {
    let house = House::new(ServerConfig::default());
    let status = |response: Response<Bytes>| response.status().as_u16();
    let post = |kind: &'static str, body: &'static [u8]| {
        let request = Request::post("/live/cam/whip").header(header::CONTENT_TYPE, kind);
        house.ask(Role::Publisher, request.body(Bytes::from_static(body)).unwrap())
    };
    assert_eq!(status(post(SDP, b"").await), 400);
    assert_eq!(status(post("text/plain", b"v=0").await), 415);
    assert_eq!(status(post(SDP, &[b'a'; 1 << 20]).await), 413);
    assert_eq!(status(post(SDP, b"a=\xff\xfe\x00").await), 400);
    assert_eq!(status(post(SDP, b"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 200\r\n").await), 400);
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH] {
        let request = Request::builder().method(method).uri("/live/cam/whip").body(Bytes::new()).unwrap();
        let response = house.ask(Role::Publisher, request).await;
        assert_eq!((text(&response, header::ALLOW).as_str(), status(response)), ("OPTIONS, POST", 405));
    }
    let request = Request::options("/live/cam/whip").body(Bytes::new()).unwrap();
    let response = house.ask(Role::Publisher, request).await;
    assert_eq!((text(&response, "accept-post").as_str(), status(response)), (SDP, 204));
    let unknown = "/live/cam/whip/00000000000000000000000000000000";
    assert_eq!(status(house.patch(Role::Publisher, unknown, Some("*"), String::new()).await), 404);
    let request = Request::delete(unknown).body(Bytes::new()).unwrap();
    assert_eq!(status(house.ask(Role::Publisher, request).await), 404);
    house.end().await;
}

/// RFC 9725 §4.2: what was deleted is not there any more, however soon somebody asks: here before the session has heard of it.
#[tokio::test(start_paused = true)]
async fn of_those_who_end_a_session_at_once_one_has_ended_it() {
    let house = House::new(ServerConfig::default());
    for role in [Role::Publisher, Role::Viewer] {
        let (_publisher, answer) = Client::connect(&house, Role::Publisher, &[MediaKind::Audio]).await;
        let (_viewer, viewed) = Client::connect(&house, Role::Viewer, &[MediaKind::Audio]).await;
        let answer = if role == Role::Publisher { answer } else { viewed };
        let (location, tag) = (text(&answer, header::LOCATION), text(&answer, header::ETAG));
        let delete = || house.ask(role, Request::delete(&location).body(Bytes::new()).unwrap());
        let candidate = "a=candidate:1 1 udp 1 255.255.255.255 9 typ host\r\n".to_owned();
        let patch = house.patch(role, &location, Some(&tag), candidate);
        let (first, second, patched, third) = tokio::join!(delete(), delete(), patch, delete());
        let statuses = [first, second, patched, third].map(|answer| answer.status().as_u16());
        assert_eq!(statuses, [200, 404, 404, 404], "{role:?}");
        house
            .engine
            .stream(&StreamKey::new("live", "cam"))
            .unwrap()
            .disconnect_publishers(CloseReason::Shutdown);
        while house.server.counters().sessions > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(delete().await.status().as_u16(), 404);
    }
    house.end().await;
}

/// In virtual time: how long the machine takes between two restarts is not what is looked at.
#[tokio::test(start_paused = true)]
async fn w30_candidates_and_restarts_are_counted() {
    let house = House::new(ServerConfig::default());
    let (_, answer) = Client::connect(&house, Role::Publisher, &[MediaKind::Audio]).await;
    let (location, tag) = (text(&answer, header::LOCATION), text(&answer, header::ETAG));
    let candidates = |count: usize| "a=candidate:1 1 udp 1 255.255.255.255 9 typ host\r\n".repeat(count);
    let patch = |expected, body| house.patch(Role::Publisher, &location, expected, body);
    assert_eq!(patch(None, candidates(1)).await.status().as_u16(), 428);
    assert_eq!(patch(Some("\"other\""), candidates(1)).await.status().as_u16(), 412);
    let taken = patch(Some(&tag), candidates(30)).await;
    assert_eq!((taken.status().as_u16(), taken.headers().get(header::ETAG)), (204, None), "RFC 9725 §4.3.2");
    assert_eq!(patch(Some(&tag), candidates(3)).await.status().as_u16(), 413);
    assert_eq!(patch(Some("*"), candidates(1)).await.status().as_u16(), 400, "a restart has credentials");
    let credentials = || "a=ice-ufrag:wxyz\r\na=ice-pwd:0123456789012345678901\r\n".to_owned();
    let restarted = patch(Some("*"), credentials()).await;
    assert_eq!(restarted.status().as_u16(), 200);
    assert_ne!(text(&restarted, header::ETAG), tag);
    let body = std::str::from_utf8(restarted.body()).unwrap();
    assert!(
        body.contains("a=ice-ufrag:") && body.contains("a=ice-pwd:") && !body.contains("rtpmap"),
        "{body}"
    );
    for any in ["*", "\"*\""] {
        assert_eq!(patch(Some(any), credentials()).await.status().as_u16(), 429, "one in a second");
    }
    assert_eq!(patch(Some(&tag), candidates(1)).await.status().as_u16(), 412, "of before");
    house.end().await;
}

/// In virtual time, which stands still while there is something to do.
#[tokio::test(start_paused = true)]
async fn w01_w13_offers_without_end_find_no_room_and_those_that_are_in_end() {
    let mut config = ServerConfig::default();
    (config.max_pending, config.max_pending_per_address) = (5, 5);
    let house = House::new(config);
    let mut statuses = Vec::new();
    for n in 0..8 {
        let mut rtc = Rtc::builder().build(Instant::now());
        let mut api = rtc.sdp_api();
        api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        let (offer, _) = api.apply().unwrap();
        // Each publishes another stream: what is refused is refused for want of room.
        let visit = Visit {
            role: Role::Publisher,
            stream: StreamKey::new("live", &format!("cam{n}")),
            client: ClientInfo::new("whip", SocketAddr::new(LOCALHOST, 9)),
            credentials: Credentials::new("whip"),
            via: Via::default(),
            reached: vec![LOCALHOST],
            session: None,
        };
        let request = Request::post("/live/cam/whip").header(header::CONTENT_TYPE, SDP).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let response =
            house.endpoint.handle(visit, &parts, Full::new(Bytes::from(offer.to_sdp_string()))).await;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert!(!text(&response, header::RETRY_AFTER).is_empty());
        }
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [201, 201, 201, 201, 201, 503, 503, 503]);
    let (begun, end) = (tokio::time::Instant::now(), Instant::now() + LIMIT);
    while house.server.counters().sessions > 0 {
        assert!(Instant::now() < end, "nobody came, and they end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(begun.elapsed().as_secs(), 10);
    let handshake = ("whip", CloseReason::Timeout(Phase::Handshake));
    let end = Instant::now() + LIMIT;
    while house.endings.0.lock().unwrap().len() < 5 {
        assert!(Instant::now() < end, "each is said to have ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(house.endings.0.lock().unwrap().iter().all(|ending| *ending == handshake));
    house.end().await;
}

/// Where a new publisher takes over from the one that is there, only one that can be answered does.
#[tokio::test]
async fn an_offer_that_cannot_be_answered_throws_nobody_out() {
    let app = AppSpec::new("live").takeover(Takeover::Replace);
    let house = House::with(ServerConfig::default(), app);
    let (_first, _) = Client::connect(&house, Role::Publisher, &[MediaKind::Video]).await;
    let stream = house.engine.stream(&StreamKey::new("live", "cam")).unwrap();
    let publisher = || stream.info().publishers.remove(0);
    let first = publisher();
    let mut rtc = Rtc::builder().build(Instant::now());
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let offer = api.apply().unwrap().0.to_sdp_string();
    let unknown = |line: &str| match line.split_once(' ') {
        Some((start, _)) if line.starts_with("a=rtpmap:") => format!("{start} theora/90000\r\n"),
        _ => format!("{line}\r\n"),
    };
    let refused = house.post(Role::Publisher, offer.lines().map(unknown).collect::<String>()).await;
    assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
    assert!(Arc::ptr_eq(&first, &publisher()), "the first is still there");
    assert_eq!(house.post(Role::Publisher, offer).await.status(), StatusCode::CREATED);
    assert!(!Arc::ptr_eq(&first, &publisher()));
    house.end().await;
}

/// Who waits for a stream has cost nothing yet, and keeps nobody out: not who is to publish it, for one.
#[tokio::test]
async fn viewers_that_wait_take_no_place_of_those_that_connect() {
    let mut config = ServerConfig::default();
    (config.max_pending, config.max_pending_per_address) = (2, 2);
    let app = AppSpec::new("live").wait_for_stream(LIMIT);
    let house = House::with(config, app);
    let viewer = async || {
        let mut rtc = Rtc::builder().build(Instant::now());
        let mut api = rtc.sdp_api();
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let offer = api.apply().unwrap().0.to_sdp_string();
        house.post(Role::Viewer, offer).await.status()
    };
    let publish = async {
        let cam = StreamKey::new("live", "cam");
        while house.engine.stream(&cam).is_none_or(|stream| stream.info().waiting < 2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Client::connect(&house, Role::Publisher, &[MediaKind::Audio]).await.1.status()
    };
    let (published, ..) = tokio::join!(publish, viewer(), viewer());
    assert_eq!(published, StatusCode::CREATED);
    house.end().await;
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_not_played() {
    let house = House::new(ServerConfig::default());
    let mut rtc = Rtc::builder().build(Instant::now());
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, _) = api.apply().unwrap();
    let response = house.post(Role::Viewer, offer.to_sdp_string()).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(std::str::from_utf8(response.body()).unwrap().contains("live/cam"));
    let counters = house.server.counters();
    let stranger = std::net::UdpSocket::bind((LOCALHOST, 0)).unwrap();
    for datagram in [&[0_u8; 28][..], &[0x80, 96, 0, 0], &[22, 254, 253], b"hello"] {
        stranger.send_to(datagram, house.server.local_addr()).unwrap();
    }
    let end = Instant::now() + LIMIT;
    while house.server.counters().foreign < counters.foreign + 4 {
        assert!(Instant::now() < end, "they are counted, and that is all");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.end().await;
}
