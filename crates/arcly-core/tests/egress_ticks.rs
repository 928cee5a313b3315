//! When the egress workers write, and how much at a time: ticks, sound that rides with pictures, fairness between
//! streams, and what is held for a reader whose socket is full. All in virtual time, with writers that take notes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::pin::Pin;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arcly_core::derived::{Headers, Packet, Packetizer};
use arcly_core::egress::{Attached, Egress, Tick};
use arcly_core::{
    AppSpec, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, PlayRequest, PlaybackRegistry,
    PublishRegistry, PublishRequest, Publisher, StreamKey, Timestamp, Track, TrackId, TrackSet,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// Payloads as they are, without headers.
#[derive(Default)]
struct Raw;

impl Packetizer for Raw {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: Vec::new() })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        let MediaFrame { track, dts, flags, .. } = *frame;
        out.push(Packet { track, dts, flags, bytes: frame.payload.clone() });
    }
}

/// One write: who, when, what.
#[derive(Clone, Debug)]
struct Note {
    who: &'static str,
    at: Duration,
    bytes: Bytes,
}

/// What was written by anybody, in order.
#[derive(Clone)]
struct Notes {
    began: Instant,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl Notes {
    fn new() -> Self {
        Self { began: Instant::now(), notes: Arc::default() }
    }

    fn writer(&self, who: &'static str) -> Writer {
        Writer { who, notes: self.clone(), room: usize::MAX, cost: Duration::ZERO }
    }

    fn take(&self) -> Vec<Note> {
        core::mem::take(&mut self.notes.lock())
    }

    async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.began + Duration::from_millis(millis)).await;
    }

    /// What was written and when, in milliseconds.
    fn times(&self) -> Vec<(u128, String)> {
        let text = |note: Note| (note.at.as_millis(), String::from_utf8_lossy(&note.bytes).into_owned());
        self.take().into_iter().map(text).collect()
    }
}

struct Writer {
    who: &'static str,
    notes: Notes,
    /// Bytes that it takes before it is full for ever.
    room: usize,
    /// How long a write takes, for real.
    cost: Duration,
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.room);
        if taken == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        self.room -= taken;
        std::thread::sleep(self.cost);
        let note = Note {
            who: self.who,
            at: self.notes.began.elapsed(),
            bytes: Bytes::copy_from_slice(bytes.get(..taken).unwrap()),
        };
        self.notes.notes.lock().push(note);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Stream {
    engine: Arc<Engine>,
    key: StreamKey,
    publisher: Publisher,
    began: Instant,
}

impl Stream {
    async fn new(engine: &Arc<Engine>, name: &str, tracks: &[TrackId]) -> Self {
        let key = StreamKey::new("live", name);
        let mut publisher = engine.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
        let track = |id: &TrackId| {
            let codec = if *id == TrackId::VIDEO { CodecId::H264 } else { CodecId::Aac };
            Track::new(*id, codec, CodecConfig::None)
        };
        publisher.set_tracks(TrackSet::new(tracks.iter().map(track))).unwrap();
        Self { engine: Arc::clone(engine), key, publisher, began: Instant::now() }
    }

    fn push(&mut self, track: TrackId, key: bool, payload: impl Into<Bytes>) {
        let dts = Timestamp::from_millis(self.began.elapsed().as_millis() as i64);
        let flags = if key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        self.publisher.publish(MediaFrame::new(track, dts, payload.into()).with_flags(flags)).unwrap();
    }

    fn video(&mut self, payload: &'static str) {
        self.push(TrackId::VIDEO, payload.starts_with('K'), payload);
    }

    fn audio(&mut self, payload: &'static str) {
        self.push(TrackId::AUDIO, false, payload);
    }

    async fn attach(&self, egress: &Egress, tick: Tick, writer: Writer) -> Attached<Writer> {
        let request = PlayRequest::internal(self.key.clone(), "test");
        let reader = self.engine.subscribe(request).await.unwrap().into_derived(0, Raw::default);
        egress.attach_at(tick, reader, writer, Bytes::new())
    }
}

fn engine() -> Arc<Engine> {
    Engine::builder().app(AppSpec::new("live")).build()
}

const BOTH: [TrackId; 2] = [TrackId::VIDEO, TrackId::AUDIO];

/// Lets everybody who can do something do it.
async fn settle() {
    sleep(MS).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_a_tick_goes_out_in_one_write_and_a_joiner_waits_for_nothing() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    stream.video("K0 ");
    stream.audio("a0 ");
    notes.until(5).await;
    let _reader = stream.attach(&egress, Tick::LONG, notes.writer("reader")).await;
    settle().await;
    assert_eq!(notes.times(), [(5, "K0 a0 ".into())], "at once, in one write");
    for (at, text) in [(10, "v1 "), (15, "v2 "), (20, "v3 "), (120, "v4 "), (130, "v5 ")] {
        notes.until(at).await;
        stream.video(text);
        stream.audio("a ");
    }
    sleep(200 * MS).await;
    let expect = [(100, "v1 a v2 a v3 a ".into()), (200, "v4 a v5 a ".into())];
    assert_eq!(notes.times(), expect);
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_woken_once_per_tick_however_many_streams_it_serves() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut streams = Vec::new();
    for n in 0..50 {
        let mut stream = Stream::new(&engine, &format!("cam{n}"), &BOTH).await;
        stream.video("K");
        let reader = stream.attach(&egress, Tick::STANDARD, notes.writer("reader")).await;
        streams.push((stream, reader));
    }
    sleep(100 * MS).await;
    notes.take();
    let before = egress.stats();
    for n in 0..2_000 {
        if n % 10 == 0 {
            streams.iter_mut().for_each(|(stream, _)| stream.video("v"));
        } else if n % 10 == 5 {
            streams.iter_mut().for_each(|(stream, _)| stream.audio("a"));
        }
        sleep(MS).await;
    }
    let (stats, ticks) = (egress.stats(), 2_000 / 33);
    assert!(notes.take().len() <= (ticks + 2) * 50);
    // With the sweeps, and the wakes of those who fell asleep at the beginning.
    let wakes = stats.wakes - before.wakes;
    assert!(wakes <= ticks as u64 + 10, "{wakes} times in {ticks} ticks");
    let merged = (stats.packets - before.packets) / (stats.batches - before.batches);
    assert!((5..=7).contains(&merged), "{merged} messages in a write");
}

#[tokio::test(start_paused = true)]
async fn sound_rides_with_the_picture_and_not_for_long() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    stream.video("K ");
    let _reader = stream.attach(&egress, Tick::FRAME, notes.writer("reader")).await;
    settle().await;
    assert_eq!(notes.times(), [(0, "K ".into())]);
    for (at, video) in [(10, false), (32, false), (33, true), (50, false), (51, false), (66, true)] {
        notes.until(at).await;
        if video { stream.video("v ") } else { stream.audio("a ") }
    }
    sleep(100 * MS).await;
    assert_eq!(
        notes.times(),
        [(12, "a ".into()), (33, "a v ".into()), (52, "a a ".into()), (66, "v ".into())],
        "2 ms without a picture are enough"
    );
}

#[tokio::test(start_paused = true)]
async fn sound_alone_waits_for_nobody() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "radio", &[TrackId::AUDIO]).await;
    stream.audio("a ");
    let _reader = stream.attach(&egress, Tick::FRAME, notes.writer("reader")).await;
    for at in [21, 42, 63] {
        notes.until(at).await;
        stream.audio("a ");
    }
    settle().await;
    assert_eq!(notes.times().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 21, 42, 63]);
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_stream_have_ticks_of_their_own() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    stream.video("K");
    let mut readers = Vec::new();
    for (who, tick) in
        [("low", Tick::FRAME), ("short", Tick::SHORT), ("standard", Tick::STANDARD), ("long", Tick::LONG)]
    {
        readers.push(stream.attach(&egress, tick, notes.writer(who)).await);
    }
    settle().await;
    notes.take();
    for _ in 0..1_000 {
        sleep(MS).await;
        stream.video("v");
    }
    sleep(200 * MS).await;
    let all = notes.take();
    let count = |who| all.iter().filter(|note| note.who == who).count();
    let bytes = |who| all.iter().filter(|note| note.who == who).map(|note| note.bytes.len()).sum::<usize>();
    assert_eq!(["low", "short", "standard", "long"].map(bytes), [1_000; 4], "everybody gets everything");
    assert_eq!(count("low"), 1_000);
    assert!((100..=102).contains(&count("short")), "{}", count("short"));
    assert!((31..=32).contains(&count("standard")), "{}", count("standard"));
    assert!((10..=11).contains(&count("long")), "{}", count("long"));
}

/// 2 000 readers of a busy stream and 50 of quiet ones: of each frame, the quiet ones have theirs before the busy one
/// has had more than a turn.
#[tokio::test(start_paused = true)]
async fn one_hot_stream_does_not_delay_the_quiet_ones() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut hot = Stream::new(&engine, "hot", &BOTH).await;
    hot.video("K");
    let mut readers = Vec::new();
    for _ in 0..2_000 {
        readers.push(hot.attach(&egress, Tick::FRAME, notes.writer("hot")).await);
    }
    let mut quiet = Vec::new();
    for n in 0..50 {
        let mut stream = Stream::new(&engine, &format!("quiet{n}"), &BOTH).await;
        stream.video("K");
        readers.push(stream.attach(&egress, Tick::FRAME, notes.writer("quiet")).await);
        quiet.push(stream);
    }
    settle().await;
    for _ in 0..20 {
        sleep(10 * MS).await;
        notes.take();
        hot.video("v");
        quiet.iter_mut().for_each(|stream| stream.video("v"));
        settle().await;
        let order = notes.take();
        assert_eq!(order.len(), 2_050);
        let last_quiet = order.iter().rposition(|note| note.who == "quiet").unwrap();
        let before = order.iter().take(last_quiet).filter(|note| note.who == "hot").count();
        assert!(before <= 128, "{before} writes of the hot stream came first");
    }
}

/// Hundreds of readers join a stream with a large GOP while another stream goes on: its frames are not behind them.
#[tokio::test(start_paused = true)]
async fn a_storm_of_joins_does_not_delay_who_is_there() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut big = Stream::new(&engine, "big", &BOTH).await;
    for n in 0..100 {
        big.push(TrackId::VIDEO, n == 0, vec![b'.'; 4_000]);
    }
    let mut quiet = Stream::new(&engine, "quiet", &BOTH).await;
    quiet.video("K");
    let mut readers = vec![quiet.attach(&egress, Tick::FRAME, notes.writer("quiet")).await];
    settle().await;
    notes.take();
    for _ in 0..300 {
        readers.push(big.attach(&egress, Tick::FRAME, notes.writer("joiner")).await);
    }
    quiet.video("v");
    settle().await;
    let order = notes.take();
    let joined: usize = order.iter().filter(|note| note.who == "joiner").map(|note| note.bytes.len()).sum();
    assert_eq!(joined, 300 * 100 * 4_000);
    let largest = order.iter().map(|note| note.bytes.len()).max().unwrap();
    let writes = order.len() / 300;
    assert!(writes <= 2 && largest >= 256 << 10, "a burst takes {writes} writes, the largest {largest}");
    let at = order.iter().position(|note| note.who == "quiet").unwrap();
    assert!(at <= 8, "{at} writes to joiners came first");
    // A first write is 256 KiB of the burst, a second what is left. Who has had nothing comes first.
    let firsts = order.iter().filter(|note| note.who == "joiner").take(300);
    let firsts = firsts.filter(|note| note.bytes.len() == largest).count();
    assert!(firsts >= 240, "{firsts} of 300 have had the keyframe when as many writes are through");
}

/// Bytes that count how many of their kind are alive.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl Counted {
    fn bytes(size: usize, alive: &Arc<AtomicUsize>) -> Bytes {
        alive.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Self(vec![b'.'; size], Arc::clone(alive)))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_socket_is_full_holds_one_message() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    let alive = Arc::new(AtomicUsize::new(0));
    stream.push(TrackId::VIDEO, true, Counted::bytes(1_000, &alive));
    let mut readers = Vec::new();
    // Full at different places: of the burst, of a batch, in the middle of a message and at its end.
    for n in 0..100 {
        let writer = Writer { room: 500 + n * 250, ..notes.writer("stuck") };
        readers.push(stream.attach(&egress, Tick::LONG, writer).await);
    }
    settle().await;
    for n in 1..2_000 {
        stream.push(TrackId::VIDEO, n % 50 == 0, Counted::bytes(1_000, &alive));
        if n % 5 == 0 {
            sleep(20 * MS).await;
        }
    }
    sleep(200 * MS).await;
    let info = engine.stream(&stream.key).unwrap().info();
    assert_eq!(info.readers, 100, "they are still there");
    let (kept, alive) = (info.log.items as usize, alive.load(Ordering::Relaxed));
    assert!(kept < 1_500, "what they are at was forgotten: {kept} are kept");
    assert!(alive <= kept + readers.len() + 1, "{alive} payloads are alive, {kept} are kept");
    let written: usize = notes.take().iter().map(|note| note.bytes.len()).sum();
    assert_eq!(written, (0..100).map(|n| 500 + n * 250).sum::<usize>());
}

/// Whatever a socket takes at a time, a reader gets what all others get.
#[tokio::test(start_paused = true)]
async fn sockets_that_take_little_at_a_time_get_everything_in_order() {
    let (engine, egress) = (engine(), Egress::start(1));
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    let mut expect = Vec::new();
    let mut readers = Vec::new();
    for n in 0_u32..300 {
        let payload = n.to_be_bytes().repeat(1 + n as usize % 7);
        expect.extend_from_slice(&payload);
        stream.push(TrackId::VIDEO, n == 0, payload);
        if n % 10 == 0 {
            let (ours, theirs) = tokio::io::duplex(1 + n as usize);
            let request = PlayRequest::internal(stream.key.clone(), "test");
            let reader = engine.subscribe(request).await.unwrap().into_derived(0, Raw::default);
            let tick = if n % 20 == 0 { Tick::FRAME } else { Tick::STANDARD };
            let attached = egress.attach_at(tick, reader, ours, Bytes::new());
            let slow = tokio::spawn(async move {
                let (mut got, mut theirs) = (Vec::new(), theirs);
                let mut piece = vec![0; 1 + n as usize / 3];
                while let Ok(count @ 1..) = tokio::io::AsyncReadExt::read(&mut theirs, &mut piece).await {
                    got.extend_from_slice(&piece[..count]);
                    sleep(MS).await;
                }
                got
            });
            readers.push((attached, slow));
        }
        sleep(3 * MS).await;
    }
    // Long enough for the slowest, which takes a byte every millisecond.
    sleep(Duration::from_secs(4)).await;
    drop(stream);
    engine.drain();
    for (mut attached, slow) in readers {
        drop(attached.finished().await);
        let got = tokio::time::timeout(Duration::from_secs(30), slow).await.unwrap().unwrap();
        assert!(got == expect, "{} of {} bytes", got.len(), expect.len());
    }
}

/// For real, because work takes no virtual time.
#[tokio::test]
async fn a_worker_that_cannot_keep_up_widens_its_ticks() {
    let (engine, egress, notes) = (engine(), Egress::start(1), Notes::new());
    let mut stream = Stream::new(&engine, "cam", &BOTH).await;
    stream.video("K");
    let mut readers = Vec::new();
    for _ in 0..10 {
        let writer = Writer { cost: 2 * MS, ..notes.writer("dear") };
        readers.push(stream.attach(&egress, Tick::FRAME, writer).await);
    }
    assert_eq!(egress.stats().widened, 0);
    let began = std::time::Instant::now();
    while egress.stats().widened < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", egress.stats());
        stream.video("v");
        sleep(5 * MS).await;
    }
    notes.take();
    for _ in 0..40 {
        stream.video("v");
        sleep(5 * MS).await;
    }
    let merged = notes.take().iter().map(|note| note.bytes.len()).max().unwrap();
    assert!(merged >= 3, "{merged}");
}
