//! Server, client and relay against each other over loopback sockets, each with an engine of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers};
use arcly_core::contract::observe::{EngineEvent, EventItem, EventReceiver, Observer};
use arcly_core::egress::{Egress, Tick};
use arcly_core::ingest::Published;
use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::{
    AppSpec, CloseReason, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, Phase, PlayRequest,
    PlaybackRegistry, PublishRegistry, PublishRequest, Publisher, Result, StreamError, StreamKey,
    StreamState, Subscriber, Timestamp, Track, TrackId, TrackSet,
};
use arcly_rtmp::wire::{
    ChunkDecoder, ChunkLimits, ChunkStreamId, Connect, ControlMessage, Invoke, Message, MessageHeader,
    MessageType, Request, Response, encode_message,
};
use arcly_rtmp::{Backoff, Client, ClientConfig, Peer, RtmpRelay, Server, ServerConfig, ServerEvent};
use arcly_testkit::media::Source;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(10);

struct Running {
    engine: Arc<Engine>,
    events: EventReceiver,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    /// Streams run ahead of their time here: nobody is too late for them.
    async fn start() -> Self {
        let app = AppSpec::new("").wait_for_stream(LIMIT).lag(LagPolicy::PATIENT);
        Self::with(Engine::builder().default_app(app).build(), ServerConfig::default()).await
    }

    async fn with(engine: Arc<Engine>, config: ServerConfig) -> Self {
        Self::serve(engine, Server::bind("127.0.0.1:0", config).await.unwrap())
    }

    fn serve(engine: Arc<Engine>, server: Server) -> Self {
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (events, context) = (engine.events(), engine.context(shutdown.clone()));
        let task = tokio::spawn(async move { server.run(context).await });
        Self { engine, events, address, shutdown, task }
    }

    fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// How the next session ended.
    async fn closed(&mut self) -> CloseReason {
        tokio::time::timeout(LIMIT, async {
            loop {
                match self.events.next().await {
                    Some(EventItem::Event(EngineEvent::SessionClosed { reason, .. })) => return reason,
                    Some(_) => {}
                    None => panic!("the engine is gone"),
                }
            }
        })
        .await
        .expect("a session ends")
    }

    async fn reader(&self, key: &StreamKey) -> Subscriber {
        let request = PlayRequest::internal(key.clone(), "test").start(StartMode::Oldest).wait(LIMIT);
        let request = request.lag(LagPolicy::PATIENT);
        self.engine.subscribe(request).await.unwrap().into_frames()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LIMIT, self.task).await.expect("the server stops").unwrap().unwrap();
    }
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

async fn publisher(engine: &Engine, tracks: TrackSet) -> Publisher {
    let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher.set_tracks(tracks).unwrap();
    publisher
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect(what);
}

/// Waits until somebody publishes.
async fn live(engine: &Engine) {
    let is_live = || engine.stream(&key()).is_some_and(|stream| stream.state() == StreamState::Live);
    until("somebody publishes", is_live).await;
}

/// The next `count` frames, and the tracks in force.
async fn frames(reader: &mut Subscriber, count: usize) -> (Arc<TrackSet>, Vec<MediaFrame>) {
    let mut got = Vec::new();
    let mut tracks = Arc::default();
    while got.len() < count {
        let read = tokio::time::timeout(LIMIT, reader.next()).await.expect("a frame in time").unwrap();
        match read.expect("the stream goes on") {
            Read::Item(frame) => got.push((*frame).clone()),
            Read::Context(context) => tracks = context,
            other => panic!("{other:?}"),
        }
    }
    (tracks, got)
}

/// Track, milliseconds since the first frame, composition time, keyframe and bytes of each frame.
fn essence(frames: &[MediaFrame]) -> Vec<(TrackId, i64, i64, bool, &[u8])> {
    let first = frames[0].dts;
    let ms = |frame: &MediaFrame| {
        (frame.dts.to_millis() - first.to_millis(), frame.pts.to_millis() - frame.dts.to_millis())
    };
    frames.iter().map(|f| (f.track, ms(f).0, ms(f).1, f.is_keyframe(), &f.payload[..])).collect()
}

/// Publishes frames, slowly enough to be live, and says how many a reader can get.
async fn feed(publisher: &mut Publisher, frames: &[MediaFrame]) -> usize {
    let mut logged = 0;
    for frame in frames {
        logged += usize::from(publisher.publish(frame.clone()).unwrap() == Published::Logged);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    logged
}

#[tokio::test]
async fn a_stream_comes_through_relay_server_and_pull_unchanged() {
    let (middle, last) = (Running::start().await, Running::start().await);
    let first = Engine::builder().default_app(AppSpec::new("").lag(LagPolicy::PATIENT)).build();
    let source = Source::h264_aac();
    let mut publisher = publisher(&first, source.tracks()).await;
    let sent = source.seconds(3);

    let stop = CancellationToken::new();
    let relay = RtmpRelay::new(Arc::clone(&first) as _, middle.url("live/cam?token=a%20b")).unwrap();
    let relay = tokio::spawn(relay.run(key(), stop.clone()));
    let client = Client::new(middle.url("live/cam")).unwrap();
    let (engine, pulled) = (Arc::clone(&last.engine), key());
    let pull = tokio::spawn({
        let stop = stop.clone();
        async move { client.pull(engine, pulled, stop).await }
    });
    live(&last.engine).await;
    let mut reader = last.reader(&key()).await;
    let logged = feed(&mut publisher, &sent).await;
    let (tracks, got) = frames(&mut reader, logged).await;
    assert_eq!(essence(&got), essence(&sent[sent.len() - logged..]));
    for (ours, theirs) in tracks.iter().zip(&Source::h264_aac().tracks()) {
        assert_eq!((ours.codec, &ours.config), (theirs.codec, &theirs.config));
    }

    // The stream ends at the source, and everything ends with it, one after the other.
    first.drain();
    let relayed = tokio::time::timeout(LIMIT, relay).await.unwrap().unwrap();
    assert!(relayed.is_ok(), "{relayed:?}");
    stop.cancel();
    assert!(tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().is_ok());
    middle.stop().await;
    last.stop().await;
}

#[tokio::test]
async fn a_late_joiner_begins_at_the_keyframe_and_misses_nothing_after() {
    let server = Running::start().await;
    let source = Source::h264_aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let sent = source.seconds(4);
    let (before, after) = sent.split_at(sent.len() * 5 / 8);
    before.iter().for_each(|frame| _ = publisher.publish(frame.clone()).unwrap());

    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let client = Client::new(server.url("live/cam")).unwrap();
    let (engine, stop) = (Arc::clone(&local), CancellationToken::new());
    let pull = tokio::spawn(async move { client.pull(engine, key(), stop).await });
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest);
    let mut reader = local.subscribe(request).await.unwrap().into_frames();
    let join = before.iter().rposition(|frame| frame.track == TrackId::VIDEO && frame.is_keyframe()).unwrap();
    let (_, replayed) = frames(&mut reader, before.len() - join).await;
    feed(&mut publisher, after).await;
    let (_, live) = frames(&mut reader, after.len()).await;
    assert_eq!(essence(&[replayed, live].concat()), essence(&sent[join..]));
    pull.abort();
}

/// Runs of bytes that the server's worker makes of twenty frames in about 200 ms, for a player that asks for `query`, on
/// a server whose tick is a second; and the time that it really took.
async fn batches(query: &str) -> (u64, Duration) {
    let egress = Arc::new(Egress::start(1).with_tick(Tick::MAX));
    let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
    let server = Running::serve(Engine::builder().build(), server.with_egress(Arc::clone(&egress)));
    let source = Source::h264();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let sent = source.seconds(2);
    _ = publisher.publish(sent[0].clone()).unwrap();
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let client = Client::new(server.url(&format!("live/cam{query}"))).unwrap();
    let (engine, stop) = (Arc::clone(&local), CancellationToken::new());
    let pull = tokio::spawn(async move { client.pull(engine, key(), stop).await });
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest);
    let mut reader = local.subscribe(request).await.unwrap().into_frames();
    frames(&mut reader, 1).await;
    let (before, began) = (egress.stats().batches, std::time::Instant::now());
    // However long the worker takes, there is never more than one to write, or than ten.
    let at_a_time = if query.contains("low") { 1 } else { 10 };
    for some in sent[1..21].chunks(at_a_time) {
        for frame in some {
            _ = publisher.publish(frame.clone()).unwrap();
            if at_a_time > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        frames(&mut reader, at_a_time).await;
    }
    pull.abort();
    (egress.stats().batches - before, began.elapsed())
}

#[tokio::test]
async fn players_choose_their_tick_in_the_url() {
    let (low, default, throughput) =
        tokio::join!(batches("?latency=low"), batches(""), batches("?token=x&latency=throughput"));
    assert!(low.0 >= 15, "each picture by itself: {low:?}");
    let at_most = |time: Duration, tick| 2 + (time.as_millis() / tick) as u64;
    assert!(default.0 <= at_most(default.1, 1_000), "a second's together: {default:?}");
    assert!((2..=at_most(throughput.1, 100)).contains(&throughput.0), "every 100 ms: {throughput:?}");
}

#[tokio::test]
async fn refusals_carry_the_servers_words() {
    let mut server = Running::with(Engine::builder().build(), ServerConfig::default()).await;
    let pull = |url: String| async move {
        let engine = Engine::builder().build();
        Client::new(url).unwrap().pull(engine, key(), CancellationToken::new()).await
    };
    let error = pull(server.url("live/nothing")).await.unwrap_err();
    assert_eq!(error.to_string(), "rejected by upstream: stream live/nothing: not_found");
    assert_eq!(server.closed().await, CloseReason::NotFound);
    let error = pull(server.url("live/..%2f")).await.unwrap_err();
    assert!(matches!(&error, StreamError::Rejected(words) if words.contains("character")), "{error}");
    assert_eq!(server.closed().await, CloseReason::Forbidden);

    let users = StaticUsers::new()
        .with_user("joe", "p@ss", ActionSet::PUBLISH, NameRule::parse("live/*").unwrap())
        .unwrap();
    let engine = Engine::builder().authenticator(Arc::new(users)).build();
    let mut server = Running::with(engine, ServerConfig::default()).await;
    let local = Engine::builder().build();
    let _publisher = publisher(&local, Source::h264().tracks()).await;
    let address = server.address;
    let relay = |userinfo: &str, query: &str| {
        let url = format!("rtmp://{userinfo}{address}/live/cam{query}");
        RtmpRelay::new(Arc::clone(&local) as _, url).unwrap().run(key(), CancellationToken::new())
    };
    for (userinfo, query) in [("", ""), ("joe:wrong@", ""), ("", "?user=joe&pass=wrong")] {
        let error = tokio::time::timeout(LIMIT, relay(userinfo, query)).await.unwrap().unwrap_err();
        assert!(matches!(&error, StreamError::Rejected(words) if words.contains("unauthorized")), "{error}");
    }
    for _ in 0..3 {
        assert_eq!(server.closed().await, CloseReason::Unauthorized);
    }
    let accepted = tokio::spawn(relay("joe:p%40ss@", ""));
    live(&server.engine).await;
    accepted.abort();
}

#[tokio::test]
async fn f03_a_player_ends_when_the_stream_turns_into_what_it_cannot_take() {
    let mut server = Running::start().await;
    let opus = TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None)]);
    let mp3 = TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None)]);
    let mut publisher = publisher(&server.engine, mp3).await;
    let frame = |ms| {
        let payload = vec![0xFF, 0xFB, 0x90, 0x64, 0, 0, 0, 0].into();
        MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), payload).with_flags(FrameFlags::KEYFRAME)
    };
    publisher.publish(frame(0)).unwrap();

    let mut legacy = ClientConfig::default();
    legacy.session.capabilities = Default::default();
    let client = Client::new(server.url("live/cam")).unwrap().with_config(legacy);
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let engine = Arc::clone(&local);
    let pull = tokio::spawn(async move { client.pull(engine, key(), CancellationToken::new()).await });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    assert_eq!(frames(&mut reader, 1).await.1.len(), 1);
    publisher.set_tracks(opus).unwrap();
    publisher.publish(frame(20)).unwrap();
    publisher.publish(frame(40)).unwrap();
    let error = tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, StreamError::Rejected(words) if words.contains("unsupported")), "{error}");
    assert_eq!(server.closed().await, CloseReason::Unsupported);
}

#[tokio::test]
async fn f44_a_shutdown_ends_publishers_and_players_and_then_the_server() {
    let mut server = Running::start().await;
    let source = Source::h264_aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    feed(&mut publisher, &source.seconds(1)).await;
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let mut config = ClientConfig::default();
    config.session.capabilities.extensions = Default::default();
    let client = Client::new(server.url("live/cam")).unwrap().with_config(config);
    let engine = Arc::clone(&local);
    let pull = tokio::spawn(async move { client.pull(engine, key(), CancellationToken::new()).await });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    frames(&mut reader, 1).await;

    server.shutdown.cancel();
    assert!(tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().is_ok(), "told, not cut off");
    assert_eq!(server.closed().await, CloseReason::Shutdown);
    assert!(TcpStream::connect(server.address).await.is_err() || server.task.is_finished());
    server.stop().await;
}

/// A client that understands reconnect requests follows one, and its readers see one stream.
#[tokio::test]
async fn a_pull_that_reconnects_outlives_its_server() {
    // At an address where nobody else takes the port between the two servers.
    let listener = TcpListener::bind("127.44.44.44:0").await.unwrap();
    let app = AppSpec::new("").wait_for_stream(LIMIT);
    let server = Server::from_listener(listener, ServerConfig::default());
    let mut server = Running::serve(Engine::builder().default_app(app).build(), server);
    let source = Source::h264_aac();
    let tracks = source.tracks();
    let sent = source.seconds(2);
    let mut first = publisher(&server.engine, tracks.clone()).await;
    feed(&mut first, &sent).await;
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT).grace(LIMIT)).build();
    let backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(100) };
    let client = Client::new(server.url("live/cam")).unwrap().with_reconnect(backoff);
    let (engine, stop) = (Arc::clone(&local), CancellationToken::new());
    let pull = tokio::spawn({
        let stop = stop.clone();
        async move { client.pull(engine, key(), stop).await }
    });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    let (_, before) = frames(&mut reader, 5).await;

    server.shutdown.cancel();
    assert_eq!(server.closed().await, CloseReason::PeerClosed, "it left by itself");
    let address = server.address;
    server.stop().await;
    let engine = Engine::builder().build();
    let mut second = publisher(&engine, tracks).await;
    feed(&mut second, &sent).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Running::serve(engine, Server::from_listener(listener, ServerConfig::default()));
    let after = tokio::time::timeout(LIMIT, async {
        loop {
            let (_, got) = frames(&mut reader, 1).await;
            if got[0].flags.contains(FrameFlags::DISCONTINUITY) {
                return got[0].clone();
            }
        }
    });
    let after = after.await.expect("the stream goes on");
    assert!(after.is_keyframe() && after.dts > before[0].dts);
    stop.cancel();
    assert!(tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().is_ok());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_wedges_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = Engine::builder().build();
    let _publisher = publisher(&engine, Source::h264().tracks()).await;
    let relay = RtmpRelay::new(engine, format!("rtmp://{}/live/cam", silent.local_addr().unwrap())).unwrap();
    let began = tokio::time::Instant::now();
    let error = relay.run(key(), CancellationToken::new()).await.unwrap_err();
    let timeout = matches!(error.reason(), CloseReason::Timeout(Phase::Handshake | Phase::Connect));
    assert!(timeout && began.elapsed() >= Duration::from_secs(10), "{error} after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn urls_that_cannot_be_relayed_to_say_what_is_missing() {
    let engine = Engine::builder().build();
    let cases = [
        ("http://h/live/cam", "rtmp"),
        ("rtmp://h/live", "stream"),
        ("rtmp://h", "application"),
        ("rtmp:///live/cam", "host"),
    ];
    for (url, missing) in cases {
        let error = RtmpRelay::new(Arc::clone(&engine) as _, url).unwrap_err();
        assert!(matches!(error, StreamError::Protocol(_)) && error.to_string().contains(missing), "{error}");
    }
}

#[tokio::test]
async fn strangers_are_limited_and_the_others_are_not() {
    let mut config = ServerConfig::default();
    config.max_unauthorized_per_address = 2;
    let mut server = Running::with(Engine::builder().build(), config).await;
    let _two = (
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    );
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.closed().await, CloseReason::Overloaded);
    let _ = third.write_all(&[3]).await;
    assert!(!matches!(third.read(&mut [0]).await, Ok(1..)));
    drop(_two);
    assert_eq!(
        (server.closed().await, server.closed().await),
        (CloseReason::PeerClosed, CloseReason::PeerClosed)
    );
    let local = Engine::builder().build();
    let source = Source::h264();
    let mut publisher = publisher(&local, source.tracks()).await;
    let url = server.url("live/cam");
    let relays: Vec<_> = (0..4)
        .map(|n| RtmpRelay::new(Arc::clone(&local) as _, format!("{url}{n}")).unwrap())
        .map(|relay| tokio::spawn(relay.run(key(), CancellationToken::new())))
        .collect();
    feed(&mut publisher, &source.seconds(1)).await;
    // Those that came while two others were still strangers were refused.
    let refused = || relays.iter().filter(|relay| relay.is_finished()).count();
    until("authorised sessions make room", || server.engine.streams().len() + refused() >= 4).await;
    assert!(server.engine.streams().len() >= 2);
    relays.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn r01_bytes_that_are_no_rtmp_get_no_answer() {
    let mut server = Running::with(Engine::builder().build(), ServerConfig::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    assert_eq!(server.closed().await, CloseReason::Malformed);
}

/// A client that speaks for itself, message by message.
struct Raw {
    socket: TcpStream,
    decoder: ChunkDecoder,
    pending: Vec<u8>,
    transaction: f64,
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn over(mut socket: TcpStream) -> Self {
        socket.write_all(&[&[3][..], &[0; 2 * 1_536]].concat()).await.unwrap();
        let mut answer = vec![0; 1 + 2 * 1_536];
        socket.read_exact(&mut answer).await.unwrap();
        let decoder = ChunkDecoder::new(ChunkLimits::default());
        let mut raw = Self { socket, decoder, pending: Vec::new(), transaction: 0.0 };
        let connect = Connect { app: "live".into(), ..Connect::default() };
        raw.request(0, Request::Connect(Box::new(connect))).await;
        raw
    }

    async fn request(&mut self, stream_id: u32, request: Request) {
        self.transaction += 1.0;
        self.message(MessageType::CommandAmf0, stream_id, &request.encode(self.transaction).encode()).await;
    }

    async fn message(&mut self, kind: MessageType, stream_id: u32, body: &[u8]) {
        let mut out = BytesMut::new();
        let header = MessageHeader { csid: ChunkStreamId::COMMAND, timestamp: 0, kind, stream_id };
        encode_message(&mut out, &header, &[body], 128);
        self.socket.write_all(&out).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        loop {
            let pending = std::mem::take(&mut self.pending);
            let mut input = &pending[..];
            let message = self.decoder.decode(&mut input).unwrap();
            self.pending = input.to_vec();
            if let Some(message) = message {
                let control = ControlMessage::decode(message.kind, &message.payload).unwrap();
                if let Some(ControlMessage::SetChunkSize(size)) = control {
                    self.decoder.set_chunk_size(size);
                }
                return message;
            }
            let mut buf = vec![0; 64 << 10];
            let read =
                tokio::time::timeout(LIMIT, self.socket.read(&mut buf)).await.expect("an answer in time");
            let read = read.unwrap();
            assert_ne!(read, 0, "the server hung up");
            self.pending = buf[..read].to_vec();
        }
    }

    /// The next audio or video message.
    async fn media(&mut self) -> Message {
        loop {
            let message = self.next().await;
            if message.kind.is_media() {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn several_streams_are_played_and_published_over_one_connection() {
    let server = Running::start().await;
    let frame = |name: &str, ms| {
        let payload = [&[0xFF, 0xFB, 0x90, 0x64][..], name.as_bytes()].concat();
        MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), payload.into())
            .with_flags(FrameFlags::KEYFRAME)
    };
    let mut publishers = Vec::new();
    for name in ["one", "two"] {
        let request = PublishRequest::internal(StreamKey::new("live", name), "test");
        let mut publisher = server.engine.publish(request).await.unwrap();
        let track = Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([track])).unwrap();
        publishers.push((name, publisher));
    }
    let mut client = Raw::connect(server.address).await;
    for _ in 0..3 {
        client.request(0, Request::CreateStream).await;
    }
    let play = |name: &str| Request::Play { name: name.into(), start: -2.0 };
    client.request(1, play("one")).await;
    publishers[0].1.publish(frame("one", 0)).unwrap();
    let first = client.media().await;
    assert_eq!((first.stream_id, first.payload.ends_with(b"one")), (1, true));

    // The second makes both share the socket; each message says whose it is, and none is torn.
    client.request(2, play("two")).await;
    publishers[1].1.publish(frame("two", 0)).unwrap();
    while client.media().await.stream_id != 2 {}
    let mut seen = [0, 0];
    for ms in 1..200 {
        for (name, publisher) in &mut publishers {
            publisher.publish(frame(name, ms * 10)).unwrap();
        }
        tokio::task::yield_now().await;
    }
    while seen[0] < 199 || seen[1] < 199 {
        let message = client.media().await;
        let at = message.stream_id as usize - 1;
        assert!(message.payload.ends_with(["one", "two"][at].as_bytes()));
        seen[at] += usize::from(message.timestamp > 0);
    }

    // And it publishes a third.
    client.request(3, Request::Publish { name: "three".into(), kind: "live".into() }).await;
    let body = [&[0x2F, 0xFF, 0xFB, 0x90, 0x64][..], &[0; 20]].concat();
    for _ in 0..20 {
        client.message(MessageType::Audio, 3, &body).await;
    }
    let three = StreamKey::new("live", "three");
    until("all of the third is in", || {
        server.engine.stream(&three).is_some_and(|stream| stream.info().frames_in == 20)
    })
    .await;
    drop(client);
    server.stop().await;
}

/// F31 where the stream is so thin that TCP gives up before the send buffer has filled and its time has run out, and
/// tells one half of the connection only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f31_players_of_a_thin_stream_that_do_not_read() {
    const PLAYERS: usize = 8;
    let mut server = Running::start().await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut frames = source.seconds(20).into_iter();
    publisher.publish(frames.next().unwrap()).unwrap();
    let mut deaf = Vec::new();
    for _ in 0..PLAYERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut client = Raw::over(socket.connect(server.address).await.unwrap()).await;
        client.request(0, Request::CreateStream).await;
        client.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
        client.media().await;
        deaf.push(client);
    }
    let feed = tokio::spawn(async move {
        for frame in frames {
            publisher.publish(frame).unwrap();
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
    });
    let all_closed = async {
        let mut reasons = Vec::new();
        while reasons.len() < PLAYERS {
            if let Some(EventItem::Event(EngineEvent::SessionClosed { reason, .. })) =
                server.events.next().await
            {
                reasons.push(reason);
            }
        }
        reasons
    };
    let reasons = tokio::time::timeout(Duration::from_secs(15), all_closed).await.expect("all are closed");
    assert_eq!(reasons, [CloseReason::SlowConsumer; PLAYERS]);
    feed.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_player_stays_for_longer_than_any_setup_or_stall() {
    let server = Running::start().await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut frames = source.seconds(60).into_iter();
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
    publisher.publish(frames.next().unwrap()).unwrap();
    client.media().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(40) {
        publisher.publish(frames.next().unwrap()).unwrap();
        client.media().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(server.engine.stream(&key()).unwrap().info().readers == 1);
}

#[tokio::test]
async fn a_peer_shows_its_owner_every_request_and_tag() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let owner = tokio::spawn(async move {
        let (socket, remote) = listener.accept().await.unwrap();
        let mut peer = Peer::new(socket.into_split(), remote, Arc::default()).unwrap();
        let mut tags = 0;
        while let Some(event) = peer.next().await.unwrap() {
            match event {
                ServerEvent::PublishRequest { stream, target } => {
                    assert_eq!(target.key, key());
                    peer.accept_publish(stream);
                }
                ServerEvent::Tag { .. } => tags += 1,
                ServerEvent::Stopped { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        tags
    });
    let engine = Engine::builder().build();
    let source = Source::aac();
    let mut publisher = publisher(&engine, source.tracks()).await;
    let url = format!("rtmp://{address}/live/cam");
    let stop = CancellationToken::new();
    let relay = tokio::spawn(RtmpRelay::new(Arc::clone(&engine) as _, url).unwrap().run(key(), stop.clone()));
    until("the relay reads", || engine.stream(&key()).is_some_and(|stream| stream.reader_count() == 1)).await;
    let logged = feed(&mut publisher, &source.seconds(1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    relay.await.unwrap().unwrap();
    let tags = tokio::time::timeout(LIMIT, owner).await.unwrap().unwrap();
    assert!(tags >= logged / 2, "{tags} of {logged}, after the headers");
}

#[tokio::test]
async fn r35_a_codec_that_nobody_knows_is_refused_by_name() {
    let mut server = Running::start().await;
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Publish { name: "cam".into(), kind: "live".into() }).await;
    client.message(MessageType::Video, 1, b"\x90zzzz....").await;
    loop {
        let message = client.next().await;
        if message.kind == MessageType::CommandAmf0 {
            let response = Response::decode(Invoke::decode(message.kind, &message.payload).unwrap());
            let Response::Status { status, .. } = response else { continue };
            if &*status.code == "NetStream.Publish.Rejected" {
                assert!(status.description.contains("zzzz"), "{status:?}");
                break;
            }
        }
    }
    assert_eq!(server.closed().await, CloseReason::Unsupported);
}

/// Panics when a stream of a certain name is published: a fault in a session's own task.
struct Tripwire;

impl Observer for Tripwire {
    fn on_event(&self, event: &EngineEvent) {
        if let EngineEvent::StreamPublished { key, .. } = event {
            assert_ne!(key.stream(), "trip", "as the test wants it");
        }
    }
}

#[tokio::test]
async fn f47_a_session_that_panics_ends_alone() {
    let engine = Engine::builder().observer(Arc::new(Tripwire)).build();
    let mut server = Running::with(engine, ServerConfig::default()).await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut witness = Raw::connect(server.address).await;
    witness.request(0, Request::CreateStream).await;
    witness.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Publish { name: "trip".into(), kind: "live".into() }).await;
    assert_eq!(server.closed().await, CloseReason::Internal);
    feed(&mut publisher, &source.seconds(1)).await;
    for _ in 0..10 {
        witness.media().await;
    }
    server.stop().await;
}
