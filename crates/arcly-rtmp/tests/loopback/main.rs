//! Server, client and relay against each other over loopback sockets, each with an engine of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod raw;
mod relays;
mod sessions;
mod strangers;

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
