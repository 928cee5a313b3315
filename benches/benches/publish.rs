//! `publish()` with many readers waiting.
//!
//! **Question.** How long does a publisher spend in `publish()` when N readers wait for the frame: as tasks with a
//! plain subscriber, or behind an egress worker?
//!
//! **Hypothesis.** The wait set wakes a bounded number of tasks and leaves the others to them; a worker is one
//! waiter. So the time does not depend on N. `tokio::sync::broadcast` wakes every receiver in `send`.
//!
//! **Floor.** One task of the readers' thread woken by a `tokio::sync::Notify`: less than that no design can do. What a
//! wake-up costs is decided by the kernel (is the other thread parked, is its core asleep) and by the caches (what ran
//! before), so it is measured in turns with `publish()`, in the same loop, after the same readers and the same pause;
//! and so is `publish()` of a stream that nobody reads.
//!
//! **Decision rule.** At most 10 µs at any N. Where a bare wake-up and a frame published to nobody already cost more
//! than that, at most 1.3 times those; and from 100 to 10 000 readers that ratio grows by no more than 1.3.
//!
//! The publisher has its own thread, as a publisher's session usually has, and its CPU time is what counts, system
//! calls for waking the readers' thread included. The next frame is published when all readers have had the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcly_benches::{Bench, FlvPacketizer, Goal, Published, Row, Stopwatch, Unit, sink};
use arcly_core::MediaFrame;
use arcly_core::egress::Egress;
use arcly_core::log::Read;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, broadcast};

const READERS: [u64; 3] = [100, 1_000, 10_000];
/// Long enough for the readers' thread to fall asleep again.
const PAUSE: Duration = Duration::from_micros(200);
const TARGET: f64 = 10.0;
const WAKE_UPS: f64 = 1.3;
const GROWTH: f64 = 1.3;
const UNIT: Unit = Unit::MicrosPer("frame", 1);

fn main() {
    let mut bench = Bench::new("publish");
    for readers in READERS {
        to_broadcast(&mut bench, readers);
    }
    for (name, setup) in [("subscribers", subscribers as Setup), ("worker", worker)] {
        for thread in [Thread::Awake, Thread::Parked] {
            let ratios: Vec<_> =
                READERS.iter().filter_map(|&n| compare(&mut bench, name, setup, thread, n)).collect();
            if let (Thread::Parked, [few, _, many]) = (thread, &ratios[..]) {
                report(&bench, format!("{name}, 10000 over 100"), many / few, GROWTH);
            }
        }
    }
}

/// What the readers' thread does when nothing is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    Awake,
    Parked,
}

/// Starts that many readers of the stream on the runtime. Each counts its deliveries there.
type Setup = fn(&Runtime, &Published, u64, &Arc<AtomicU64>) -> Box<dyn core::any::Any>;

/// Measures `publish()` in turns with bare wake-ups and with `publish()` to nobody, and returns how many of those it
/// costs, together.
fn compare(bench: &mut Bench, name: &str, setup: Setup, thread: Thread, readers: u64) -> Option<f64> {
    let case = format!("{name}, {thread:?}, {readers}").to_lowercase();
    if !bench.wants(&case) {
        return None;
    }
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let mut stream = runtime.block_on(Published::start());
    let mut unread = runtime.block_on(Published::start());
    let _readers = setup(&runtime, &stream, readers, &deliveries);
    let bell = Bell::new(&runtime);
    if thread == Thread::Awake {
        // Not by yielding, for which tokio looks at its driver as if it were about to park.
        runtime.spawn(core::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            core::task::Poll::<()>::Pending
        }));
    }
    wait_until(&deliveries, readers);
    let (mut wake_ups, mut bare) = (Vec::new(), Vec::new());
    let value = bench.measure(&case, UNIT, |iters| {
        let (mut publishing, mut waking, mut logging) =
            (Stopwatch::new(), Stopwatch::new(), Stopwatch::new());
        let start = deliveries.load(Ordering::Relaxed);
        for n in 1..=iters {
            let frame = stream.next_frame();
            publishing.time(|| stream.publish(frame));
            wait_until(&deliveries, start + n * readers);
            bell.ring(&mut waking);
            let frame = unread.next_frame();
            logging.time(|| unread.publish(frame));
        }
        wake_ups.push(per_frame(waking, iters));
        bare.push(per_frame(logging, iters));
        publishing.total()
    })?;
    let (wake_up, bare) = (median(wake_ups)?, median(bare)?);
    let goal = Goal::target(TARGET).over(Some(wake_up), "one wake-up");
    bench.report(&Row { case: case.clone(), value, unit: UNIT.name(), goal, more_is_better: false });
    let ratio = value / (wake_up + bare);
    if thread == Thread::Parked {
        report(bench, format!("{case}, over a wake-up and publish() to nobody"), ratio, WAKE_UPS);
    }
    Some(ratio)
}

fn per_frame(watch: Stopwatch, iters: u64) -> f64 {
    watch.total().as_secs_f64() * 1e6 / f64::from(u32::try_from(iters).unwrap_or(u32::MAX))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn report(bench: &Bench, case: String, value: f64, target: f64) {
    let (unit, goal) = ("x".to_owned(), Goal::target(target));
    bench.report(&Row { case, value, unit, goal, more_is_better: false });
}

/// A task on the readers' thread that does nothing but wake up.
struct Bell {
    notify: Arc<Notify>,
    rung: Arc<AtomicU64>,
}

impl Bell {
    fn new(runtime: &Runtime) -> Self {
        let bell = Self { notify: Arc::default(), rung: Arc::default() };
        let (notify, rung) = (Arc::clone(&bell.notify), Arc::clone(&bell.rung));
        runtime.spawn(async move {
            loop {
                notify.notified().await;
                rung.fetch_add(1, Ordering::Relaxed);
            }
        });
        bell
    }

    fn ring(&self, watch: &mut Stopwatch) {
        let before = self.rung.load(Ordering::Relaxed);
        watch.time(|| self.notify.notify_one());
        wait_until(&self.rung, before + 1);
    }
}

/// The readers' thread.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime")
}

/// Publishes `iters` frames to waiting readers, and returns the CPU time that the publishing took.
fn frame_by_frame(iters: u64, readers: u64, deliveries: &AtomicU64, mut publish: impl FnMut()) -> Duration {
    let start = deliveries.load(Ordering::Relaxed);
    let mut watch = Stopwatch::new();
    for n in 1..=iters {
        watch.time(&mut publish);
        wait_until(deliveries, start + n * readers);
    }
    watch.total()
}

/// Waits until that many deliveries were counted, and the last reader waits again. Without sleep: a thread that has
/// slept finds its caches cold, the longer the colder, and that would look like a cost of many readers.
fn wait_until(deliveries: &AtomicU64, count: u64) {
    while deliveries.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    let pause = Instant::now();
    while pause.elapsed() < PAUSE {
        std::thread::yield_now();
    }
}

fn to_broadcast(bench: &mut Bench, readers: u64) {
    let case = format!("broadcast, {readers}");
    if !bench.wants(&case) {
        return;
    }
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let (sender, _) = broadcast::channel::<Arc<MediaFrame>>(64);
    for _ in 0..readers {
        let (mut receiver, deliveries) = (sender.subscribe(), Arc::clone(&deliveries));
        runtime.spawn(async move {
            while receiver.recv().await.is_ok() {
                deliveries.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut stream = runtime.block_on(Published::start());
    bench.case(&case, UNIT, Goal::NONE, |iters| {
        frame_by_frame(iters, readers, &deliveries, || {
            assert!(sender.send(Arc::new(stream.next_frame())).is_ok(), "there are receivers");
        })
    });
}

fn subscribers(
    runtime: &Runtime,
    stream: &Published,
    readers: u64,
    deliveries: &Arc<AtomicU64>,
) -> Box<dyn core::any::Any> {
    for _ in 0..readers {
        let mut reader = runtime.block_on(stream.subscribe()).into_frames();
        let deliveries = Arc::clone(deliveries);
        runtime.spawn(async move {
            while let Ok(Some(read)) = reader.next().await {
                deliveries.fetch_add(u64::from(matches!(read, Read::Item(_))), Ordering::Relaxed);
            }
        });
    }
    Box::new(())
}

fn worker(
    runtime: &Runtime,
    stream: &Published,
    readers: u64,
    writes: &Arc<AtomicU64>,
) -> Box<dyn core::any::Any> {
    let egress = runtime.block_on(async { Egress::start(1) });
    let mut attached = Vec::new();
    for _ in 0..readers {
        let reader = runtime.block_on(stream.subscribe()).into_derived(0, FlvPacketizer::default);
        attached.push(egress.attach(reader, sink(writes), Bytes::new()));
    }
    Box::new((egress, attached))
}
