//! Counts that are the same on every machine, and that every reader depends on: allocations per published frame,
//! copies of a payload, tasks woken by a publisher.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use arcly_core::derived::{Headers, Packet, Packetizer};
use arcly_core::log::{Budget, Read};
use arcly_core::{
    CodecConfig, CodecId, DerivedSubscriber, Engine, FrameFlags, MediaFrame, PlayRequest, PlaybackRegistry,
    PublishRegistry, PublishRequest, Publisher, StreamKey, Subscriber, Subscription, Timestamp, Track,
    TrackId, TrackSet,
};
use bytes::Bytes;
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What one test allocates is not another's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Tasks that a publisher wakes itself, and those it wakes when some of the last time were not woken yet;
/// `log/wake.rs` has the reason.
const MAX_WAKES: usize = 2;
const MAX_WAKES_AGAIN: usize = 4;
/// Allocations per published frame.
const MAX_ALLOCATIONS: u64 = 2;

struct Stream {
    engine: Arc<Engine>,
    publisher: Publisher,
    next: i64,
}

impl Stream {
    async fn start() -> Self {
        let engine = Engine::builder().build();
        let mut publisher = engine.publish(PublishRequest::internal(Self::key(), "test")).await.unwrap();
        let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([video])).unwrap();
        let mut stream = Self { engine, publisher, next: 0 };
        stream.publish(1);
        stream
    }

    fn key() -> StreamKey {
        StreamKey::new("live", "cam")
    }

    /// Publishes frames at 25 fps, the first of every 50 a keyframe. Returns where the last one's payload is.
    fn publish(&mut self, frames: i64) -> *const u8 {
        let mut payload = Bytes::new();
        for _ in 0..frames {
            payload = Bytes::from(vec![7; 1_000]);
            self.publish_payload(payload.clone());
        }
        payload.as_ptr()
    }

    fn publish_payload(&mut self, payload: Bytes) {
        let flags = if self.next % 50 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        let dts = Timestamp::from_millis(self.next * 40);
        self.next += 1;
        self.publisher.publish(MediaFrame::new(TrackId::VIDEO, dts, payload).with_flags(flags)).unwrap();
    }

    async fn subscribe(&self) -> Subscription {
        self.engine.subscribe(PlayRequest::internal(Self::key(), "test")).await.unwrap()
    }

    async fn readers(&self, count: usize) -> Vec<Subscriber> {
        let mut readers = Vec::new();
        for _ in 0..count {
            readers.push(self.subscribe().await.into_frames());
        }
        readers
    }
}

fn drain(reader: &mut Subscriber) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let each = |read| {
        if let Read::Item(frame) = read {
            payloads.push(MediaFrame::clone(&frame).payload);
        }
    };
    reader.read(Budget::UNLIMITED, each).unwrap();
    payloads
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_published_frame_costs_two_allocations_however_many_read() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let allocated = || dhat::HeapStats::get().total_blocks;
    for readers in [0, 1, 100] {
        let mut stream = Stream::start().await;
        let mut readers = stream.readers(readers).await;
        let count = Arc::new(Count::default());
        let waker = Waker::from(count);
        let (mut spent, frames) = (0, 500);
        for _ in 0..frames {
            let payload = Bytes::from(vec![7; 1_000]);
            let before = allocated();
            stream.publish_payload(payload);
            for reader in &mut readers {
                reader.read(Budget::UNLIMITED, drop).unwrap();
                assert!(reader.poll_ready(&Context::from_waker(&waker)).is_pending());
            }
            spent += allocated() - before;
        }
        let allowed = frames * MAX_ALLOCATIONS;
        assert!(spent <= allowed, "{spent} allocations for {frames} frames and {} readers", readers.len());
        assert!(spent >= frames, "a count of {spent} is none: a frame has to be put somewhere");
    }
}

#[tokio::test]
async fn every_reader_gets_the_publishers_own_bytes() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stream = Stream::start().await;
    let mut readers = stream.readers(20).await;
    readers.iter_mut().for_each(|reader| drop(drain(reader)));
    for _ in 0..100 {
        let published = stream.publish(1);
        for reader in &mut readers {
            let payloads = drain(reader);
            assert_eq!(payloads.iter().map(|payload| payload.as_ptr()).collect::<Vec<_>>(), [published]);
        }
    }
}

/// A format that writes one byte before each payload.
struct Tagged;

impl Packetizer for Tagged {
    type Item = Packet;
    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: Vec::new() })
    }
    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        let bytes = [b"x", &frame.payload[..]].concat().into();
        out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes });
    }
}

#[tokio::test]
async fn every_reader_of_a_format_gets_the_same_packet() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stream = Stream::start().await;
    let mut readers: Vec<DerivedSubscriber<Tagged>> = Vec::new();
    for _ in 0..20 {
        readers.push(stream.subscribe().await.into_derived(0, || Tagged));
    }
    let packets = |reader: &mut DerivedSubscriber<Tagged>| {
        let mut addresses = Vec::new();
        let each = |read| {
            if let Read::Item(packet) = read {
                addresses.push(Packet::clone(&packet).bytes.as_ptr());
            }
        };
        reader.read(Budget::UNLIMITED, each).unwrap();
        addresses
    };
    assert!(readers.iter_mut().all(|reader| packets(reader).len() == 1), "the keyframe");
    stream.publish(99);
    let first = packets(&mut readers[0]);
    assert_eq!(first.len(), 99);
    assert!(readers.iter_mut().skip(1).all(|reader| packets(reader) == first));
}

#[tokio::test]
async fn a_publisher_wakes_a_few_tasks_and_they_wake_the_rest() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stream = Stream::start().await;
    let mut readers = stream.readers(1_000).await;
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    for _ in 0..10 {
        for reader in &mut readers {
            drop(drain(reader));
            assert!(reader.poll_ready(&Context::from_waker(&waker)).is_pending());
        }
        count.0.store(0, Ordering::Relaxed);
        stream.publish(1);
        let woken = count.0.load(Ordering::Relaxed);
        assert!((1..=MAX_WAKES).contains(&woken), "{woken} of 1000 tasks were woken by the publisher");
        for reader in &mut readers {
            assert!(reader.poll_ready(&Context::from_waker(&waker)).is_ready());
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1_000, "everybody was woken, and once");
    }
}

#[tokio::test]
async fn tasks_that_do_not_come_to_help_hold_the_others_up_for_a_frame_at_most() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stream = Stream::start().await;
    let mut readers = stream.readers(100).await;
    let counts: Vec<_> = readers.iter().map(|_| Arc::new(Count::default())).collect();
    for (reader, count) in readers.iter_mut().zip(&counts) {
        drop(drain(reader));
        let waker = Waker::from(Arc::clone(count));
        assert!(reader.poll_ready(&Context::from_waker(&waker)).is_pending());
    }
    let woken = || counts.iter().filter(|count| count.0.load(Ordering::Relaxed) > 0).count();
    stream.publish(1);
    let stuck: Vec<bool> = counts.iter().map(|count| count.0.load(Ordering::Relaxed) > 0).collect();
    assert!((1..=MAX_WAKES).contains(&woken()));
    // None of them is polled. The next frame wakes others, and any of those wakes the rest.
    stream.publish(1);
    assert!((MAX_WAKES + 1..=MAX_WAKES + MAX_WAKES_AGAIN).contains(&woken()), "{}", woken());
    let free = |at: &usize| !stuck[*at] && counts[*at].0.load(Ordering::Relaxed) > 0;
    let mut polled = 0;
    while let Some(at) = (0..100).filter(free).nth(polled) {
        let waker = Waker::from(Arc::clone(&counts[at]));
        assert!(readers[at].poll_ready(&Context::from_waker(&waker)).is_ready());
        polled += 1;
        if woken() == 100 {
            return;
        }
    }
    panic!("{} of 100 were woken", woken());
}
