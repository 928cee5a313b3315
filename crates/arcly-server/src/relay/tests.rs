//! Pulls on demand, in virtual time: the source is a stream of the same engine.

use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::Read;
use arcly_core::{
    CloseReason, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, PlayRequest, PlaybackRegistry as _,
    PublishRegistry as _, PublishRequest, StreamError, StreamKey, Subscriber, Timestamp, Track, TrackId,
    TrackSet,
};
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::demand::PATIENCE;
use super::{Demand, RelayState, Relays};
use crate::config::{RelayConfig, Span};

const FRAME: Duration = Duration::from_millis(40);
const CLOSE_AFTER: Duration = Duration::from_secs(5);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An engine with one relay, from `live/src` to `live/copy`.
struct Edge {
    engine: Arc<Engine>,
    relays: Relays,
}

impl Edge {
    fn new(on_demand: bool) -> Self {
        let demand = Arc::new(Demand::default());
        let engine = Engine::builder().on_demand(Arc::clone(&demand) as _).build();
        let relays = Relays::new(Arc::clone(&engine), demand, Vec::new(), CancellationToken::new());
        let config = RelayConfig {
            from: "live/src".into(),
            to: "live/copy".into(),
            on_demand,
            close_after: on_demand.then_some(Span(CLOSE_AFTER)),
        };
        relays.start_configured(&config).unwrap();
        Self { engine, relays }
    }

    /// What the relay does, and how often it has tried.
    fn relay(&self) -> (RelayState, u64) {
        let relay = self.relays.list().remove(0);
        (relay.state, relay.attempts)
    }

    async fn read(&self, protocol: &'static str) -> Result<Subscriber, StreamError> {
        let request = PlayRequest::internal(StreamKey::new("live", "copy"), protocol);
        self.engine.subscribe(request).await.map(arcly_core::Subscription::into_frames)
    }

    /// Waits until the relay does that.
    async fn until(&self, state: RelayState) {
        let is_so = async {
            while self.relay().0 != state {
                sleep(FRAME).await;
            }
        };
        tokio::time::timeout(secs(5), is_so).await.expect("within five seconds");
    }

    /// Readers of the source.
    fn source_readers(&self) -> usize {
        self.engine.stream(&StreamKey::new("live", "src")).map_or(0, |stream| stream.reader_count())
    }
}

/// Publishes `live/src` until the token is dropped.
fn camera(engine: &Arc<Engine>) -> tokio_util::sync::DropGuard {
    let (engine, stop) = (Arc::clone(engine), CancellationToken::new());
    let guard = stop.clone().drop_guard();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let request = PublishRequest::internal(StreamKey::new("live", "src"), "test");
        let mut publisher = engine.publish(request).await.unwrap();
        let track = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([track])).unwrap();
        for n in 0.. {
            let flags = if n % 10 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
            let frame =
                MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 40), Bytes::from_static(b"x"));
            publisher.publish(frame.with_flags(flags)).unwrap();
            sleep(FRAME).await;
        }
    }));
    guard
}

async fn next_frame(reader: &mut Subscriber) {
    loop {
        match reader.next().await.unwrap().expect("the stream goes on") {
            Read::Item(_) => return,
            Read::Context(_) | Read::Skipped(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_on_demand_follows_its_readers() {
    let edge = Edge::new(true);
    let _camera = camera(&edge.engine);
    sleep(secs(3)).await;
    assert_eq!((edge.relay(), edge.source_readers()), ((RelayState::Idle, 0), 0), "nobody asks");

    let began = Instant::now();
    let (first, second) = tokio::join!(edge.read("rtmp"), edge.read("http-flv"));
    let (mut first, mut second) = (first.unwrap(), second.unwrap());
    next_frame(&mut first).await;
    next_frame(&mut second).await;
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
    assert_eq!((edge.relay(), edge.source_readers()), ((RelayState::Running, 1), 1), "one pull for both");

    drop(first);
    sleep(secs(20)).await;
    assert_eq!(edge.relay(), (RelayState::Running, 1), "one is still there");
    drop(second);
    sleep(CLOSE_AFTER - secs(1)).await;
    assert_eq!(edge.relay(), (RelayState::Running, 1), "somebody may come back");
    sleep(secs(2)).await;
    assert_eq!((edge.relay(), edge.source_readers()), ((RelayState::Idle, 1), 0));

    // While the stream waits for its publisher to come back, and when it is forgotten.
    for attempts in [2, 3] {
        let reader = edge.read("rtmp").await.unwrap();
        edge.until(RelayState::Running).await;
        assert_eq!(edge.relay().1, attempts);
        drop(reader);
        sleep(secs(if attempts == 2 { 7 } else { 30 })).await;
        assert_eq!(edge.relay(), (RelayState::Idle, attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn f60_a_source_on_demand_that_is_down_and_back() {
    let edge = Edge::new(true);
    let began = Instant::now();
    let refused = edge.read("rtmp").await.unwrap_err();
    assert_eq!((refused.reason(), began.elapsed()), (CloseReason::NotFound, PATIENCE));
    sleep(secs(60)).await;
    assert_eq!(edge.relay(), (RelayState::Idle, 1), "nobody asks for it any more");

    // Down for a minute in which it is asked for all the time.
    let began = Instant::now();
    while began.elapsed() < secs(60) {
        assert_eq!(edge.read("rtmp").await.unwrap_err().reason(), CloseReason::NotFound);
    }
    let (_, attempts) = edge.relay();
    assert!((4..=7).contains(&attempts), "{attempts}: each waits ten seconds for the source itself");

    let back = Instant::now();
    let camera_is_back = camera(&edge.engine);
    let mut reader = edge.read("rtmp").await.unwrap();
    next_frame(&mut reader).await;
    assert!(back.elapsed() <= secs(5), "{:?}", back.elapsed());

    // Gone under a reader, for longer than the source keeps its name, and back: the reader stays.
    drop(camera_is_back);
    sleep(secs(12)).await;
    assert!(matches!(edge.relay().0, RelayState::Connecting | RelayState::Waiting), "{:?}", edge.relay());
    let _camera = camera(&edge.engine);
    edge.until(RelayState::Running).await;
    let frames = async {
        for _ in 0..1_000 {
            next_frame(&mut reader).await;
        }
    };
    tokio::time::timeout(secs(60), frames).await.expect("the reader has more of it");
}

#[tokio::test(start_paused = true)]
async fn f60_who_asks_shortens_the_pause_of_any_pull() {
    let edge = Edge::new(false);
    sleep(secs(300)).await;
    let (state, before) = edge.relay();
    assert!(state != RelayState::Idle && before >= 8, "it tries whether anybody asks or not: {before}");
    // Each attempt waits ten seconds for its source, then up to thirty for the next.
    let asked = Instant::now();
    while edge.relay().1 == before {
        assert_eq!(edge.read("rtmp").await.unwrap_err().reason(), CloseReason::NotFound, "at once");
        sleep(secs(1)).await;
    }
    assert!(asked.elapsed() <= secs(16), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn recordings_keep_no_pull_and_a_stopped_one_is_not_waited_for() {
    let edge = Edge::new(true);
    let _camera = camera(&edge.engine);
    let reader = edge.read("rtmp").await.unwrap();
    let recording = edge.read("record").await.unwrap();
    drop(reader);
    sleep(CLOSE_AFTER + secs(1)).await;
    assert_eq!(edge.relay().0, RelayState::Idle);
    drop(recording);
    sleep(secs(30)).await;

    let id = edge.relays.list().remove(0).id;
    assert!(edge.relays.stop(id) && !edge.relays.stop(id));
    let asked = Instant::now();
    assert_eq!(edge.read("rtmp").await.unwrap_err().reason(), CloseReason::NotFound);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}
