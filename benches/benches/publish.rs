//! `publish()` with many readers waiting.
//!
//! **Question.** How long does a publisher spend in `publish()` when N readers wait for the frame: as tasks with a
//! plain subscriber, or behind an egress worker?
//!
//! **Hypothesis.** The wait set wakes a bounded number of tasks and leaves the others to them; a worker is one
//! waiter. So the time does not depend on N. `tokio::sync::broadcast` wakes every receiver in `send`.
//!
//! **Floor.** One task on another thread woken by a `tokio::sync::Notify`: less than that no design can do.
//!
//! **Decision rule.** At most 10 µs at any N, and from 100 to 10 000 readers it grows by no more than half.
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
const GROWTH: f64 = 1.5;
const UNIT: Unit = Unit::MicrosPer("frame", 1);

fn main() {
    let mut bench = Bench::new("publish");
    let (mut subscribers, mut workers) = (Vec::new(), Vec::new());
    let floor = one_wake_up(&mut bench);
    for readers in READERS {
        let goal = Goal::target(TARGET).over(floor, "one wake-up");
        to_broadcast(&mut bench, readers);
        subscribers.extend(to_subscribers(&mut bench, readers, goal));
        workers.extend(to_worker(&mut bench, readers, goal));
    }
    for (case, values) in [("subscribers, 10000 over 100", subscribers), ("worker, 10000 over 100", workers)]
    {
        if let [few, _, many] = values[..] {
            let (value, goal) = (many / few, Goal::target(GROWTH));
            let row = Row { case: case.to_owned(), value, unit: "x".to_owned(), goal, more_is_better: false };
            bench.report(&row);
        }
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

fn one_wake_up(bench: &mut Bench) -> Option<f64> {
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let bell = Arc::new(Notify::new());
    let (rung, counted) = (Arc::clone(&bell), Arc::clone(&deliveries));
    runtime.spawn(async move {
        loop {
            rung.notified().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    bench.case("one wake-up", UNIT, Goal::NONE, |iters| {
        frame_by_frame(iters, 1, &deliveries, || bell.notify_one())
    })
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

fn to_subscribers(bench: &mut Bench, readers: u64, goal: Goal) -> Option<f64> {
    let case = format!("subscribers, {readers}");
    if !bench.wants(&case) {
        return None;
    }
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let mut stream = runtime.block_on(Published::start());
    for _ in 0..readers {
        let mut reader = runtime.block_on(stream.subscribe()).into_frames();
        let deliveries = Arc::clone(&deliveries);
        runtime.spawn(async move {
            while let Ok(Some(read)) = reader.next().await {
                deliveries.fetch_add(u64::from(matches!(read, Read::Item(_))), Ordering::Relaxed);
            }
        });
    }
    wait_until(&deliveries, readers);
    bench.case(&case, UNIT, goal, |iters| {
        frame_by_frame(iters, readers, &deliveries, || {
            let frame = stream.next_frame();
            stream.publish(frame);
        })
    })
}

fn to_worker(bench: &mut Bench, readers: u64, goal: Goal) -> Option<f64> {
    let case = format!("worker, {readers}");
    if !bench.wants(&case) {
        return None;
    }
    let runtime = runtime();
    let writes = Arc::new(AtomicU64::new(0));
    let mut stream = runtime.block_on(Published::start());
    let egress = runtime.block_on(async { Egress::start(1) });
    let mut attached = Vec::new();
    for _ in 0..readers {
        let reader = runtime.block_on(stream.subscribe()).into_derived(0, FlvPacketizer::default);
        attached.push(egress.attach(reader, sink(&writes), Bytes::new()));
    }
    wait_until(&writes, readers);
    bench.case(&case, UNIT, goal, |iters| {
        frame_by_frame(iters, readers, &writes, || {
            let frame = stream.next_frame();
            stream.publish(frame);
        })
    })
}
