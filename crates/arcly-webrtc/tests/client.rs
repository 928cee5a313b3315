//! The clients against a server over real sockets and HTTP: ours, and others that answer badly.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arcly_core::contract::auth::Credentials;
use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::via::{self, Via};
use arcly_core::{
    AppSpec, ClientInfo, CloseReason, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, PlayRequest,
    PlaybackRegistry as _, PublishRegistry as _, PublishRequest, Publisher, StreamError, StreamKey,
    Subscriber, Timestamp, Track, TrackId, TrackSet,
};
use arcly_webrtc::http::{Endpoint, SDP, Visit};
use arcly_webrtc::wire::{MAX_ANSWER_BYTES, Protocol, Role};
use arcly_webrtc::{Client, ClientConfig, Server, ServerConfig, WhepPull, WhipRelay};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nothing takes that long that works.
const LIMIT: Duration = Duration::from_secs(60);

/// What is on the way to the server: its answers say where it is.
#[derive(Clone, Copy)]
enum Way {
    Open,
    /// Answers name no address in UDP.
    WithoutUdp,
    /// UDP goes to the first of these, and is not heard of again; so do connections to the second, which comes before that of the server.
    /// To the third there are none at all.
    Deaf([SocketAddr; 3]),
}

impl Way {
    fn rewrite(self, line: &str) -> String {
        let is_udp = line.contains(" udp ");
        match self {
            Self::WithoutUdp if is_udp => String::new(),
            Self::Deaf([udp, ..]) if is_udp => {
                let words: Vec<_> = line.split(' ').collect();
                let (ip, port) = (udp.ip().to_string(), udp.port().to_string());
                [&words[..4], &[ip.as_str(), port.as_str()], &words[6..]].concat().join(" ") + "\r\n"
            }
            Self::Deaf([_, silent, closed]) => {
                let mut lines = String::new();
                for (n, at) in [closed, silent].into_iter().enumerate() {
                    let (ip, port) = (at.ip(), at.port());
                    lines += &format!(
                        "a=candidate:9{n} 1 tcp 2105458942 {ip} {port} typ host tcptype passive\r\n"
                    );
                }
                lines + line + "\r\n"
            }
            _ => line.to_owned() + "\r\n",
        }
    }

    async fn answer(self, response: http::Response<Bytes>) -> Response {
        response
            .map(|body| {
                let text = String::from_utf8(body.to_vec()).unwrap();
                let rewritten = |line: &str| match line.starts_with("a=candidate") {
                    true => self.rewrite(line),
                    false => line.to_owned() + "\r\n",
                };
                Body::from(text.lines().map(rewritten).collect::<String>())
            })
            .into_response()
    }
}

/// `/app/stream/whip`, `/app/stream/whep`, and sessions below.
async fn serve(State((endpoint, way)): State<(Endpoint, Way)>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(4, '/');
    let (app, stream) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let role = match parts.next() {
        Some("whip") => Role::Publisher,
        Some("whep") => Role::Viewer,
        _ => return http::StatusCode::NOT_FOUND.into_response(),
    };
    let via = request.headers().get(via::HEADER).and_then(|value| value.to_str().ok());
    let via = via.map(Via::decode).unwrap_or_default();
    let visit = Visit {
        role,
        stream: StreamKey::new(app, stream),
        client: ClientInfo::new(role.as_str(), SocketAddr::new(LOCALHOST, 9)),
        credentials: Credentials::new(role.as_str()),
        via,
        reached: vec![LOCALHOST],
        session: parts.next().map(str::to_owned),
    };
    let (parts, body) = request.into_parts();
    way.answer(endpoint.handle(visit, &parts, body).await).await
}

/// An engine that is to be had by WHIP and WHEP.
struct House {
    engine: Arc<Engine>,
    server: Arc<Server>,
    http: SocketAddr,
}

impl House {
    async fn start() -> Self {
        Self::behind(Way::Open).await
    }

    async fn behind(way: Way) -> Self {
        let engine = engine();
        let context = engine.context(CancellationToken::new());
        let server = Server::bind(SocketAddr::new(LOCALHOST, 0), ServerConfig::default()).unwrap();
        let connections = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let server = Arc::new(server.with_tcp(connections).unwrap());
        let app = axum::Router::new().fallback(serve).with_state((server.endpoint(&context), way));
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let running = Arc::clone(&server);
        tokio::spawn(async move { running.run(context).await });
        Self { engine, server, http }
    }

    fn url(&self, role: Role, stream: &str) -> String {
        let role = role.as_str();
        format!("{role}+http://{}/live/{stream}/{role}", self.http)
    }

    /// Waits until all sessions have ended.
    async fn emptied(&self) {
        let ended = async {
            while self.server.counters().sessions > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, ended).await.expect("sessions end");
    }
}

/// One whose streams end with their publishers.
fn engine() -> Arc<Engine> {
    Engine::builder().default_app(AppSpec::new("live").grace(Duration::ZERO)).build()
}

fn key(stream: &str) -> StreamKey {
    StreamKey::new("live", stream)
}

/// Pictures that depend on their number, and sound of a byte less.
fn frames(n: u32) -> [MediaFrame; 2] {
    let at = Timestamp::from_millis(i64::from(n) * 20);
    let is_key = n.is_multiple_of(25);
    let flags = if is_key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
    // A VP8 frame of 16×16 (RFC 6386 §9.1).
    let mut picture = vec![if is_key { 0x10 } else { 0x11 }, 0, 0];
    if is_key {
        picture.extend([0x9D, 0x01, 0x2A, 16, 0, 16, 0]);
    }
    picture.resize(3_000, 7);
    picture.extend(n.to_be_bytes());
    let mut sound = vec![0xF8];
    sound.extend(n.to_be_bytes());
    [
        MediaFrame::new(TrackId::VIDEO, at, Bytes::from(picture)).with_flags(flags),
        MediaFrame::new(TrackId::AUDIO, at, Bytes::from(sound)).with_flags(FrameFlags::KEYFRAME),
    ]
}

/// The number that is in a frame.
fn number(frame: &MediaFrame) -> u32 {
    u32::from_be_bytes(*frame.payload.last_chunk().unwrap())
}

fn tracks() -> TrackSet {
    let plain = |id, codec| Track::new(id, codec, CodecConfig::None);
    TrackSet::new([plain(TrackId::VIDEO, CodecId::Vp8), plain(TrackId::AUDIO, CodecId::Opus)])
}

/// Who publishes frame after frame.
struct Camera {
    publisher: Publisher,
    next: u32,
}

impl Camera {
    async fn start(engine: &Engine, stream: &str) -> Self {
        let mut publisher = engine.publish(PublishRequest::internal(key(stream), "test")).await.unwrap();
        publisher.set_tracks(tracks()).unwrap();
        Self { publisher, next: 0 }
    }

    /// In real time, until `done`.
    async fn until<T>(&mut self, done: impl Future<Output = T>) -> T {
        let publishing = async {
            loop {
                for frame in frames(self.next) {
                    self.publisher.publish(frame).unwrap();
                }
                self.next += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = publishing => unreachable!("a camera does not stop by itself"),
            done = tokio::time::timeout(LIMIT, done) => done.expect("it happens in time"),
        }
    }
}

async fn subscribe(engine: &Engine, stream: &str) -> Subscriber {
    let request = PlayRequest::internal(key(stream), "test").wait(LIMIT);
    let request = request.start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    engine.subscribe(request).await.unwrap().into_frames()
}

/// The numbers of at least so many pictures and sounds.
async fn read(reader: &mut Subscriber, [pictures, sounds]: [usize; 2]) -> [Vec<u32>; 2] {
    let mut numbers = [Vec::new(), Vec::new()];
    while numbers[0].len() < pictures || numbers[1].len() < sounds {
        match reader.next().await.unwrap() {
            Some(Read::Item(frame)) => {
                let [picture, sound] = frames(number(&frame));
                let (of, sent) = if frame.track == TrackId::VIDEO { (0, picture) } else { (1, sound) };
                assert_eq!(frame.payload, sent.payload);
                assert_eq!(frame.is_keyframe(), sent.is_keyframe());
                numbers[of].push(number(&frame));
            }
            Some(_) => {}
            None => panic!("the stream goes on: {numbers:?}"),
        }
    }
    numbers
}

/// Goes on with that to the end of the stream, beside whatever else is done.
fn read_beside(mut reader: Subscriber, begun: [Vec<u32>; 2]) -> Arc<Mutex<[Vec<u32>; 2]>> {
    let numbers = Arc::new(Mutex::new(begun));
    let kept = Arc::clone(&numbers);
    tokio::spawn(async move {
        while let Ok(Some(read)) = reader.next().await {
            let Read::Item(frame) = read else { continue };
            let of = usize::from(frame.track != TrackId::VIDEO);
            kept.lock().unwrap()[of].push(number(&frame));
        }
    });
    numbers
}

/// How many of those that have arrived are not among the fetched, from the first to the last of these.
fn left_out(arrived: &[u32], fetched: &[u32]) -> u64 {
    assert!(fetched.is_sorted_by(|a, b| a < b), "they rise: {fetched:?}");
    let (first, last) = (fetched.first().unwrap(), fetched.last().unwrap());
    let all: Vec<_> = arrived.iter().filter(|number| (first..=last).contains(number)).collect();
    assert!(fetched.iter().all(|number| all.contains(&number)), "{arrived:?}: {fetched:?}");
    (all.len() - fetched.len()) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_by_whip_and_is_fetched_by_whep_as_it_is() {
    goes_by(Way::Open, Protocol::Udp).await;
}

/// UDP gets through in neither direction, or is not spoken of; connections do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_and_is_fetched_over_tcp_where_udp_does_not_get_through() {
    let deaf = std::net::UdpSocket::bind((LOCALHOST, 0)).unwrap();
    // One accepts and says nothing, as the operating system does for it; of the other the port is taken, and nobody listens.
    let silent = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(SocketAddr::new(LOCALHOST, 0)).unwrap();
    let strangers = [deaf.local_addr().unwrap(), silent.local_addr().unwrap(), closed.local_addr().unwrap()];
    goes_by(Way::Deaf(strangers), Protocol::Tcp).await;
    // What was not of use was closed when the other was.
    let (mut unused, _) = silent.accept().unwrap();
    let mut said = Vec::new();
    unused.set_read_timeout(Some(LIMIT)).unwrap();
    std::io::Read::read_to_end(&mut unused, &mut said).unwrap();

    goes_by(Way::WithoutUdp, Protocol::Tcp).await;
}

async fn goes_by(way: Way, protocol: Protocol) {
    for _ in 0..5 {
        if goes_there_and_back(way, protocol).await {
            return;
        }
    }
    panic!("datagrams were lost on the way each time");
}

/// False where a machine that stood still for too long has lost datagrams on its own loopback.
async fn goes_there_and_back(way: Way, protocol: Protocol) -> bool {
    let house = House::behind(way).await;
    let (from, to) = (engine(), engine());
    let mut camera = Camera::start(&from, "cam").await;
    let shutdown = CancellationToken::new();
    let relay = WhipRelay::new(from.clone(), house.url(Role::Publisher, "cam")).unwrap();
    let relaying = tokio::spawn(relay.run(key("cam"), shutdown.clone()));
    let fetching = async {
        // What is pulled has to be there, and its configuration with it.
        let mut there = subscribe(&house.engine, "cam").await;
        let begun = read(&mut there, [1, 0]).await;
        let arrived = read_beside(there, begun);
        let pull = WhepPull::new(to.clone(), house.url(Role::Viewer, "cam")).unwrap();
        let pulling = tokio::spawn(pull.run(key("copy"), shutdown.clone()));
        let mut copy = subscribe(&to, "copy").await;
        let Some(Read::Context(tracks)) = copy.next().await.unwrap() else { panic!("tracks come first") };
        let codecs: Vec<_> = tracks.iter().map(|track| track.codec).collect();
        assert_eq!(codecs, [CodecId::Vp8, CodecId::Opus]);
        let fetched = read(&mut copy, [75, 50]).await;
        // What has come that far has arrived in the house before.
        while arrived
            .lock()
            .unwrap()
            .iter()
            .zip(&fetched)
            .any(|(arrived, fetched)| arrived.last() < fetched.last())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (arrived.lock().unwrap().clone(), fetched, pulling)
    };
    let ([pictures, sound], [seen, heard], pulling) = camera.until(fetching).await;
    // It is shown once in a second.
    let carried = async {
        let carried =
            || house.server.sessions().iter().map(|session| session.stats.protocol).collect::<Vec<_>>();
        while carried() != [Some(protocol); 2] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    camera.until(carried).await;
    // Afterwards good-byes may be for connections that are closed.
    let counters = house.server.counters();
    assert_eq!((counters.unsent, counters.foreign), (0, 0));
    shutdown.cancel();
    relaying.await.unwrap().unwrap();
    pulling.await.unwrap().unwrap();
    house.emptied().await;
    let stats = house.server.stats();
    if stats.nacks_received > 0 {
        eprintln!("once more: {stats:?}");
        return false;
    }
    assert_eq!(left_out(&sound, &heard), 0, "{sound:?}: {heard:?}");
    // A machine that is busy may believe that there is no room on its own loopback. What the push leaves out does not arrive.
    assert!(left_out(&pictures, &seen) <= stats.frames_thinned, "{stats:?}: {pictures:?}, {seen:?}");
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_stream_is_the_end_of_a_pull_and_of_a_push() {
    let house = House::start().await;
    let from = engine();
    let mut camera = Camera::start(&from, "cam").await;
    let never = CancellationToken::new();
    let client = Client::new(house.url(Role::Publisher, "cam")).unwrap();
    let subscription = from.subscribe(PlayRequest::internal(key("cam"), "relay")).await.unwrap();
    let pushing = tokio::spawn(async move { client.push(subscription, &never).await });
    let mut there = camera
        .until(async {
            let mut there = subscribe(&house.engine, "cam").await;
            read(&mut there, [2, 0]).await;
            there
        })
        .await;
    drop(camera);
    tokio::time::timeout(LIMIT, pushing).await.unwrap().unwrap().unwrap();
    let ends = async { while there.next().await.is_ok_and(|read| read.is_some()) {} };
    tokio::time::timeout(LIMIT, ends).await.expect("the server hears it");
    house.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_said_in_its_words_and_a_stream_is_not_fed_with_itself() {
    let house = House::start().await;
    let never = CancellationToken::new();
    let client = Client::new(house.url(Role::Viewer, "nobody")).unwrap();
    let other = engine();
    let error = client.pull(other.clone(), key("x"), never.clone()).await.unwrap_err();
    assert!(
        matches!(&error, StreamError::Rejected(why) if why.contains("404") && why.contains("live/nobody")),
        "{error}"
    );

    // The wrong way round.
    let error =
        Client::new(house.url(Role::Publisher, "x")).unwrap().pull(other, key("x"), never.clone()).await;
    assert!(error.unwrap_err().to_string().contains("pushed"));
    assert!(WhepPull::new(house.engine.clone(), house.url(Role::Publisher, "x")).is_err());
    assert!(WhipRelay::new(house.engine.clone(), house.url(Role::Viewer, "x")).is_err());

    // A stream that feeds itself, by way of the server that it is on.
    let mut camera = Camera::start(&house.engine, "cam").await;
    let client = Client::new(house.url(Role::Viewer, "cam")).unwrap();
    let pulling = client.pull(house.engine.clone(), key("cam"), never);
    let error = camera.until(pulling).await.unwrap_err();
    assert!(matches!(&error, StreamError::Rejected(why) if why.contains("409")), "{error}");
    assert_eq!(house.server.counters().sessions, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_may_not_be_reached_are_sent_nothing() {
    let house = House::start().await;
    let mut camera = Camera::start(&house.engine, "cam").await;
    let mut config = ClientConfig::default();
    config.may_reach = |ip| !ip.is_loopback();
    let client = Client::new(house.url(Role::Viewer, "cam")).unwrap().with_config(config);
    let pulling = client.pull(engine(), key("x"), CancellationToken::new());
    let error = camera.until(pulling).await.unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
    // The session that was there is gone before anybody waits for it to time out.
    house.emptied().await;
}

/// A server that says the same to whoever comes, and keeps what they said.
struct Canned {
    at: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    async fn start(answer: impl Fn(SocketAddr) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (answer(at), Arc::clone(&heads));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // An offer ends with its last line, which has come when nothing is missing of its length.
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                let head = String::from_utf8_lossy(&request).split("\r\n\r\n").next().unwrap().to_owned();
                kept.lock().unwrap().push(head);
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { at, heads }
    }

    fn url(&self) -> String {
        format!("whep+http://token@{}/live/cam/whep?a=b", self.at)
    }

    async fn pull(&self, config: ClientConfig) -> StreamError {
        let client = Client::new(self.url()).unwrap().with_config(config);
        let pulling = client.pull(engine(), key("x"), CancellationToken::new());
        tokio::time::timeout(LIMIT, pulling).await.expect("it ends").unwrap_err()
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| length.trim().parse() == Ok(body.len()))
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn servers_that_answer_badly() {
    let sdp = format!("content-type: {SDP}\r\nlocation: /s/1\r\n");
    let json = "content-type: application/problem+json\r\n";
    let html = "content-type: text/html\r\n";
    let problem = r#"{"title":"Bad","detail":"no such\r\nstream"}"#;
    // What the server says, what the client makes of it, and whether a session is to be ended.
    let cases = [
        (response("201 Created", &format!("content-type: {SDP}\r\n"), "v=0"), "no Location", false),
        (
            response("201 Created", "location: /s/1\r\ncontent-type: text/html\r\n", "v=0"),
            "`text/html`",
            false,
        ),
        (response("201 Created", "location: /s/1\r\n", "v=0"), "not application/sdp", false),
        (
            response("201 Created", &format!("content-type: {SDP}\r\nlocation: ftp://h/\r\n"), "v=0"),
            "Location `ftp",
            false,
        ),
        (response("201 Created", &sdp, ""), "no media", true),
        (response("201 Created", &sdp, "<html>"), "no media", true),
        (response("201 Created", &sdp, "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), "no fingerprint", true),
        (response("201 Created", &sdp, &"a".repeat(MAX_ANSWER_BYTES + 1)), "longer than", false),
        (
            response("500 Internal Server Error", json, problem),
            "500 Internal Server Error: no such stream",
            false,
        ),
        (response("404 Not Found", "", "nothing here"), "404 Not Found: nothing here", false),
        (response("401 Unauthorized", json, "{}"), "401 Unauthorized", false),
        (response("403 Forbidden", json, "{"), "403 Forbidden", false),
        (response("503 Service Unavailable", html, "<h1>busy</h1>"), "503 Service Unavailable", false),
        (response("204 No Content", "", ""), "204 No Content", false),
        (response("406 Not Acceptable", &sdp, "v=0"), "406 Not Acceptable", false),
        (response("301 Moved Permanently", "location: /x\r\n", ""), "301 Moved", false),
        (response("307 Temporary Redirect", "", ""), "no Location", false),
        (response("307 Temporary Redirect", "location: file:///etc/passwd\r\n", ""), "Location `file", false),
        (response("308 Permanent Redirect", "location: /again\r\n", ""), "too many redirections", false),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n".to_vec(), "no HTTP", false),
        (vec![b'x'; 1 << 17], "no HTTP", false),
        (Vec::new(), "closed", false),
    ];
    for (answer, why, ends) in cases {
        let server = Canned::start(|_| answer.clone()).await;
        let error = server.pull(ClientConfig::default()).await;
        assert!(error.to_string().contains(why), "{error}: {why}");
        let heads = server.heads();
        assert!(heads[0].starts_with("POST /live/cam/whep?a=b HTTP/1.1\r\n"), "{heads:?}");
        assert!(heads[0].contains("authorization: Bearer token"), "{heads:?}");
        let deleted = heads.iter().any(|head| head.starts_with("DELETE /s/1 HTTP/1.1\r\n"));
        assert_eq!(deleted, ends, "{why}: {heads:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let mut config = ClientConfig::default();
    config.setup = Duration::from_millis(100);
    let url = format!("whep+http://{}/x", listener.local_addr().unwrap());
    let client = Client::new(url).unwrap().with_config(config);
    let pulled = client.pull(engine(), key("x"), CancellationToken::new()).await;
    assert!(matches!(pulled, Err(StreamError::Closed(CloseReason::Timeout(_)))), "{pulled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirections_are_followed_without_the_login_and_not_at_all_where_the_address_is_fixed() {
    let house = House::start().await;
    let mut camera = Camera::start(&house.engine, "cam").await;
    let there = format!("http://{}/live/cam/whep", house.http);
    let moved = response("307 Temporary Redirect", &format!("location: {there}\r\n"), "");
    let server = Canned::start(|_| moved.clone()).await;
    let to = engine();
    let shutdown = CancellationToken::new();
    let client = Client::new(server.url()).unwrap();
    let pulling = tokio::spawn({
        let (to, shutdown, client) = (to.clone(), shutdown.clone(), client.clone());
        async move { client.pull(to, key("copy"), shutdown).await }
    });
    let mut copy = camera.until(subscribe(&to, "copy")).await;
    camera.until(read(&mut copy, [1, 0])).await;
    shutdown.cancel();
    pulling.await.unwrap().unwrap();
    assert_eq!(server.heads().len(), 1, "the good-bye goes to where the session is");

    let mut config = ClientConfig::default();
    config.addresses = vec![server.at];
    let error = server.pull(config).await;
    assert!(error.to_string().contains("elsewhere"), "{error}");
}
