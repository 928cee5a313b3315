//! Fan-out: what one delivery of one frame to one reader costs.
//!
//! **Question.** How much CPU time goes into handing a published frame to each of N readers: as tasks with a plain
//! [`Subscriber`](arcly_core::Subscriber), through an egress worker, and with what everybody else would take, a
//! `tokio::sync::broadcast` channel of `Arc<MediaFrame>` with a task per reader?
//!
//! **Hypothesis.** A task per reader costs what a wake-up and a poll of a task cost, whatever the channel; a worker
//! that is woken once and loops over its readers costs a tenth of that.
//!
//! **Decision rule.** A worker's delivery costs at most 80 ns at 100 readers and more; a plain subscriber's no more
//! than broadcast's in the same run (five rounds before calling it a miss).
//!
//! Everything runs on one thread, picture by picture: a frame is published when every reader has had the one before, so
//! that no batching helps. The sinks take every write, so that the kernel's part is left out, and whether every sink
//! got every byte is checked at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arcly_benches::{Bench, FlvPacketizer, Goal, Published, Sink, Unit, cpu_time, sink, wait_until};
use arcly_core::CloseReason;
use arcly_core::MediaFrame;
use arcly_core::egress::{Attached, Egress};
use arcly_core::log::Read;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;

const READERS: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const WORKER_TARGET: f64 = 80.0;

fn main() {
    let mut bench = Bench::new("fanout");
    for readers in READERS {
        let unit = Unit::NanosPer("delivery", readers);
        let floor = broadcast_tasks(&mut bench, readers, unit);
        let no_dearer = Goal { target: floor, ..Goal::NONE }.over(floor, "broadcast");
        subscriber_tasks(&mut bench, readers, unit, no_dearer, Form::Next);
        subscriber_tasks(&mut bench, readers, unit, no_dearer, Form::Batch);
        let bounded = if readers >= 100 { Goal::target(WORKER_TARGET) } else { Goal::NONE };
        worker(&mut bench, readers, unit, bounded.over(floor, "broadcast"));
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Publishes `iters` frames, each when all readers have had the one before, and returns the CPU time of it.
async fn frame_by_frame(
    iters: u64,
    readers: u64,
    deliveries: &AtomicU64,
    mut publish: impl FnMut(),
) -> Duration {
    let start = deliveries.load(Ordering::Relaxed);
    let before = cpu_time();
    for n in 1..=iters {
        publish();
        wait_until(deliveries, start + n * readers).await;
    }
    cpu_time().saturating_sub(before)
}

fn broadcast_tasks(bench: &mut Bench, readers: u64, unit: Unit) -> Option<f64> {
    let case = format!("broadcast, {readers}");
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let (sender, _) = broadcast::channel::<Arc<MediaFrame>>(64);
    if bench.wants(&case) {
        for _ in 0..readers {
            let (mut receiver, deliveries) = (sender.subscribe(), Arc::clone(&deliveries));
            runtime.spawn(async move {
                while let Ok(frame) = receiver.recv().await {
                    std::hint::black_box(&frame);
                    deliveries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    let mut stream = runtime.block_on(Published::start());
    bench.case(&case, unit, Goal::NONE, |iters| {
        runtime.block_on(frame_by_frame(iters, readers, &deliveries, || {
            assert!(sender.send(Arc::new(stream.next_picture())).is_ok(), "there are receivers");
        }))
    })
}

#[derive(Clone, Copy)]
enum Form {
    Next,
    Batch,
}

fn subscriber_tasks(bench: &mut Bench, readers: u64, unit: Unit, goal: Goal, form: Form) {
    let name = match form {
        Form::Next => "next",
        Form::Batch => "next_batch",
    };
    let case = format!("subscriber {name}, {readers}");
    if !bench.wants(&case) {
        return;
    }
    let runtime = runtime();
    let deliveries = Arc::new(AtomicU64::new(0));
    let mut stream = runtime.block_on(Published::start());
    for _ in 0..readers {
        let mut reader = runtime.block_on(stream.subscribe()).into_frames();
        let deliveries = Arc::clone(&deliveries);
        let count = move |read: &Read<MediaFrame>| {
            std::hint::black_box(read);
            deliveries.fetch_add(u64::from(matches!(read, Read::Item(_))), Ordering::Relaxed);
        };
        match form {
            Form::Next => runtime.spawn(async move {
                while let Ok(Some(read)) = reader.next().await {
                    count(&read);
                }
            }),
            Form::Batch => runtime.spawn(async move {
                let mut batch = Vec::new();
                while reader.next_batch(&mut batch).await.is_ok() {
                    batch.drain(..).for_each(|read| count(&read));
                }
            }),
        };
    }
    // Readers begin with the keyframe, the last frame so far.
    runtime.block_on(wait_until(&deliveries, readers));
    bench.case(&case, unit, goal, |iters| {
        runtime.block_on(frame_by_frame(iters, readers, &deliveries, || {
            let frame = stream.next_picture();
            stream.publish(frame);
        }))
    });
}

fn worker(bench: &mut Bench, readers: u64, unit: Unit, goal: Goal) {
    let case = format!("worker, {readers}");
    if !bench.wants(&case) {
        return;
    }
    let runtime = runtime();
    let writes = Arc::new(AtomicU64::new(0));
    let mut stream = runtime.block_on(Published::start());
    // Whose load is a hundred per cent all the time.
    let egress = runtime.block_on(async { Egress::start(1).with_steady_ticks() });
    let mut attached = Vec::new();
    runtime.block_on(async {
        for _ in 0..readers {
            let reader = stream.subscribe().await.into_derived(0, FlvPacketizer::default);
            attached.push(egress.attach(reader, sink(&writes), Bytes::new()));
        }
        // Headers and the keyframe, in one write.
        wait_until(&writes, readers).await;
    });
    bench.case(&case, unit, goal, |iters| {
        runtime.block_on(frame_by_frame(iters, readers, &writes, || {
            let frame = stream.next_picture();
            stream.publish(frame);
        }))
    });
    runtime.block_on(check(attached));
}

/// Every reader got the same bytes.
async fn check(attached: Vec<Attached<Sink>>) {
    let mut expect = None;
    for mut reader in attached {
        reader.detach(CloseReason::Shutdown);
        let sink = reader.finished().await.writer.expect("a sink is never blocked");
        assert_eq!(sink.bytes(), *expect.get_or_insert(sink.bytes()), "a reader missed something");
    }
}
