//! What the egress workers promise: whole messages in order, nobody held up by anybody, good-byes at boundaries.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use arcly_core::derived::{Headers, Packetizer, Wire};
use arcly_core::egress::{Attached, Egress, MAX_CONTROL, STALL};
use arcly_core::log::{LogItem, StartMode};
use arcly_core::track::TrackMask;
use arcly_core::{
    AppSpec, CloseReason, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, PlayRequest,
    PlaybackRegistry, PublishRegistry, PublishRequest, Publisher, StreamKey, Timestamp, Track, TrackId,
    TrackSet,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::{sleep, timeout};

/// A line, its first bytes apart from the rest; how many they are differs from frame to frame, and may be none.
struct Line {
    track: TrackId,
    dts: Timestamp,
    flags: FrameFlags,
    head: Bytes,
    body: Bytes,
}

impl LogItem for Line {
    type Context = Headers;
    fn track(&self) -> TrackId {
        self.track
    }
    fn dts(&self) -> Timestamp {
        self.dts
    }
    fn flags(&self) -> FrameFlags {
        self.flags
    }
    fn size(&self) -> usize {
        self.wire_len()
    }
}

impl Wire for Line {
    fn head(&self) -> &[u8] {
        &self.head
    }
    fn body(&self) -> &Bytes {
        &self.body
    }
}

/// One line a frame: `v3!` is the third frame, video, a keyframe. Headers are `[version]`, and `[a]` for audio alone.
#[derive(Default)]
struct Lines;

impl Packetizer for Lines {
    type Item = Line;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        let all = (None, Bytes::from(format!("[{}]\n", tracks.version)));
        let audio = (Some(TrackId::AUDIO), Bytes::from_static(b"[a]\n"));
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: vec![all, audio] })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Line>) {
        let kind = if frame.track == TrackId::VIDEO { 'v' } else { 'a' };
        let key = if frame.track == TrackId::VIDEO && frame.is_keyframe() { "!" } else { "" };
        let number = frame.dts.to_millis() / 40;
        let filler = String::from_utf8_lossy(&frame.payload);
        let mut body = Bytes::from(format!("{kind}{number}{key}{filler}\n"));
        let head = body.split_to(number as usize % 4 % body.len());
        out.push(Line { track: frame.track, dts: frame.dts, flags: frame.flags, head, body });
    }
}

struct Setup {
    engine: Arc<Engine>,
    publisher: Publisher,
    egress: Egress,
    n: i64,
}

impl Setup {
    async fn new() -> Self {
        let engine = Engine::builder().app(AppSpec::new("live")).build();
        let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
        let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
        let audio = Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([video, audio])).unwrap();
        Self { engine, publisher, egress: Egress::start(1), n: 0 }
    }

    /// A video and an audio frame; every tenth video frame is a keyframe.
    fn push(&mut self, filler: usize) {
        let dts = Timestamp::from_millis(self.n * 40);
        let flags = if self.n % 10 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        let payload = Bytes::from(vec![b'.'; filler]);
        self.publisher.publish(MediaFrame::new(TrackId::VIDEO, dts, payload).with_flags(flags)).unwrap();
        self.publisher.publish(MediaFrame::new(TrackId::AUDIO, dts, Bytes::new())).unwrap();
        self.n += 1;
    }

    async fn attach(
        &self,
        buffer: usize,
        start: StartMode,
        tracks: TrackMask,
    ) -> (Attached<DuplexStream>, DuplexStream) {
        let subscription =
            self.engine.subscribe(PlayRequest::internal(key(), "test").start(start)).await.unwrap();
        let mut reader = subscription.into_derived(0, Lines::default);
        reader.set_tracks(tracks);
        let (ours, theirs) = tokio::io::duplex(buffer);
        (self.egress.attach(reader, ours, Bytes::from_static(b"hello\n")), theirs)
    }
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

/// What has arrived, and nothing more comes.
async fn read(socket: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while let Ok(Ok(n @ 1..)) = timeout(Duration::from_millis(50), socket.read(&mut buffer)).await {
        all.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(all).unwrap()
}

fn numbers(text: &str, kind: char) -> Vec<i64> {
    let of_kind = text.lines().filter_map(|line| line.strip_prefix(kind));
    of_kind.map(|line| line.trim_end_matches(['.', '!']).parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn readers_get_the_headers_the_gop_and_then_every_frame_once() {
    let mut setup = Setup::new().await;
    (0..15).for_each(|_| setup.push(0));
    let (_early, mut early) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    let first = read(&mut early).await;
    assert!(first.starts_with("hello\n[1]\n[a]\nv10!\na10\nv11\n"), "{first}");
    for _ in 0..50 {
        setup.push(0);
        sleep(Duration::from_millis(40)).await;
    }
    let (_late, mut late) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    (0..7).for_each(|_| setup.push(0));
    let all = first + &read(&mut early).await;
    assert_eq!(numbers(&all, 'v'), (10..72).collect::<Vec<_>>());
    assert_eq!(numbers(&all, 'a'), (10..72).collect::<Vec<_>>());
    assert_eq!(numbers(&read(&mut late).await, 'v'), (60..72).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_some_tracks_gets_those_and_their_headers() {
    let mut setup = Setup::new().await;
    let video = [TrackId::VIDEO].into_iter().collect();
    let (_attached, mut socket) = setup.attach(1 << 20, StartMode::Keyframe, video).await;
    (0..5).for_each(|_| setup.push(0));
    assert_eq!(read(&mut socket).await, "hello\n[1]\nv0!\nv1\nv2\nv3\nv4\n");
}

#[tokio::test(start_paused = true)]
async fn f31_readers_that_take_nothing_hold_nobody_up_and_are_given_up() {
    let mut setup = Setup::new().await;
    let mut stuck = Vec::new();
    for _ in 0..100 {
        stuck.push(setup.attach(64, StartMode::Keyframe, TrackMask::ALL).await);
    }
    let (_witness, mut witness) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    for _ in 0..(STALL.as_millis() / 40 + 50) {
        setup.push(100);
        sleep(Duration::from_millis(40)).await;
    }
    let seen = read(&mut witness).await;
    for (attached, _socket) in &mut stuck {
        let finished = timeout(Duration::from_secs(3), attached.finished()).await.unwrap();
        assert_eq!(finished.reason, CloseReason::SlowConsumer);
        assert!(finished.writer.is_none(), "in the middle of a message");
    }
    assert_eq!(setup.egress.readers(), 1);
    assert_eq!(setup.engine.stream(&key()).unwrap().reader_count(), 1);
    let seen = numbers(&seen, 'v');
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    assert_eq!(seen.len() as i64, setup.n);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_whole_messages_and_catches_up() {
    let mut setup = Setup::new().await;
    let (_attached, mut socket) = setup.attach(1_000, StartMode::Keyframe, TrackMask::ALL).await;
    let mut text = String::new();
    for n in 0..200 {
        setup.push(90);
        // It takes nothing for four seconds, then everything.
        if n < 100 {
            sleep(Duration::from_millis(40)).await;
        } else {
            text += &read(&mut socket).await;
        }
    }
    text += &read(&mut socket).await;
    let seen = numbers(&text, 'v');
    assert_eq!(seen, (0..200).collect::<Vec<_>>(), "5 s were not exceeded: nothing is lost");
    assert!(
        text.lines().all(|line| !line.starts_with('v') || line.trim_start_matches(|c| c != '.').len() == 90)
    );
}

#[tokio::test(start_paused = true)]
async fn a_sessions_own_bytes_go_between_messages_and_are_bounded() {
    let mut setup = Setup::new().await;
    let (attached, mut socket) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    setup.push(0);
    sleep(Duration::from_millis(1)).await;
    attached.send(Bytes::from_static(b"ping\n")).unwrap();
    sleep(Duration::from_millis(1)).await;
    setup.push(0);
    assert_eq!(read(&mut socket).await, "hello\n[1]\n[a]\nv0!\na0\nping\nv1\na1\n");

    let (attached, _socket) = setup.attach(16, StartMode::Keyframe, TrackMask::ALL).await;
    let kilobyte = Bytes::from(vec![b'x'; 1_024]);
    let sent = (0..1_000).take_while(|_| attached.send(kilobyte.clone()).is_ok()).count();
    assert_eq!(sent, MAX_CONTROL / 1_024);
}

#[tokio::test(start_paused = true)]
async fn a_detached_reader_gives_its_socket_back_at_a_boundary() {
    let mut setup = Setup::new().await;
    let (mut attached, mut socket) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    (0..3).for_each(|_| setup.push(0));
    sleep(Duration::from_millis(1)).await;
    attached.detach(CloseReason::PeerClosed);
    let finished = attached.finished().await;
    assert_eq!(finished.reason, CloseReason::PeerClosed);
    let mut writer = finished.writer.unwrap();
    setup.push(0);
    tokio::io::AsyncWriteExt::write_all(&mut writer, b"bye\n").await.unwrap();
    assert!(read(&mut socket).await.ends_with("v2\na2\nbye\n"));
    assert_eq!(setup.engine.stream(&key()).unwrap().reader_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_comes_after_its_last_frame() {
    let mut setup = Setup::new().await;
    let (mut attached, mut socket) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    let (mut ended, _other) = setup.attach(1 << 20, StartMode::Keyframe, TrackMask::ALL).await;
    ended.state().end(CloseReason::Unauthorized);
    assert_eq!(ended.finished().await.reason, CloseReason::Unauthorized, "ended from outside");
    (0..3).for_each(|_| setup.push(0));
    setup.engine.drain();
    let finished = attached.finished().await;
    assert_eq!((finished.reason, finished.writer.is_some()), (CloseReason::Shutdown, true));
    drop(finished);
    assert!(read(&mut socket).await.ends_with("v2\na2\n"));
    assert_eq!(setup.egress.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paced_reader_gets_its_gop_over_time() {
    let mut setup = Setup::new().await;
    (0..10).for_each(|_| setup.push(0));
    let paced = StartMode::KeyframePaced { speed_percent: 200 };
    let (_attached, mut socket) = setup.attach(1 << 20, paced, TrackMask::ALL).await;
    sleep(Duration::from_millis(61)).await;
    let mut buffer = [0; 4_096];
    let n = socket.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert_eq!(numbers(&text, 'v'), [0, 1, 2, 3], "40 ms of media every 20 ms");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(&read(&mut socket).await, 'v'), [4, 5, 6, 7, 8, 9]);
    setup.push(0);
    assert_eq!(numbers(&read(&mut socket).await, 'v'), [10]);
}

#[tokio::test(start_paused = true)]
async fn f36_readers_that_come_and_go_leave_nothing_behind() {
    let mut setup = Setup::new().await;
    for round in 0..50 {
        let mut attached = Vec::new();
        for _ in 0..20 {
            attached.push(setup.attach(1 << 10, StartMode::Keyframe, TrackMask::ALL).await);
        }
        setup.push(10);
        if round % 2 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    sleep(Duration::from_millis(50)).await;
    let info = setup.engine.stream(&key()).unwrap().info();
    assert_eq!((setup.egress.readers(), info.readers, info.formats), (0, 0, 0));
}
