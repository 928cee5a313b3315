//! Joining: from the wish to read to the first frame in hand.
//!
//! **Question.** How much CPU time does a reader cost that joins a running stream and takes its first frame, the
//! newest keyframe; and does it depend on how much the log holds or on how many others read?
//!
//! **Hypothesis.** A join is an entry in a map and a cursor placed at a number that the writer keeps up to date;
//! nothing is scanned, replayed or copied. The target of 2 ms at the median over loopback is the network's.
//!
//! **Decision rule.** At most 20 µs, so that 1 000 joins in a second are 2 % of a core; the same, within the noise,
//! with 1 000 other readers and with a long GOP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arcly_benches::{Bench, FlvPacketizer, Goal, Published, Unit, cpu_time, sink, wait_until};
use arcly_core::egress::Egress;
use arcly_core::log::{Budget, Read};
use arcly_core::subscriber::{Reader, Walk};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

const TARGET: f64 = 20.0;
const UNIT: Unit = Unit::MicrosPer("join", 1);

fn main() {
    let mut bench = Bench::new("join");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let alone = frames(&mut bench, &runtime, "frames", 0, 1, Goal::target(TARGET));
    let goal = Goal::target(TARGET).over(alone, "alone");
    frames(&mut bench, &runtime, "frames, 1000 others", 1_000, 1, goal);
    frames(&mut bench, &runtime, "frames, end of a GOP", 0, 24, goal);
    derived(&mut bench, &runtime, goal);
    worker(&mut bench, &runtime, goal);
}

/// `after`: pictures between the keyframe that is joined at and the head.
fn frames(
    bench: &mut Bench,
    runtime: &Runtime,
    case: &str,
    others: usize,
    after: usize,
    goal: Goal,
) -> Option<f64> {
    if !bench.wants(case) {
        return None;
    }
    let mut stream = runtime.block_on(Published::start());
    for _ in 0..after {
        let frame = stream.next_frame();
        stream.publish(frame);
    }
    let mut others: Vec<_> =
        (0..others).map(|_| runtime.block_on(stream.subscribe()).into_frames()).collect();
    others.iter_mut().for_each(take_first);
    bench.case(case, UNIT, goal, |iters| {
        timed(runtime, async {
            for _ in 0..iters {
                take_first(&mut stream.subscribe().await.into_frames());
            }
        })
    })
}

fn derived(bench: &mut Bench, runtime: &Runtime, goal: Goal) {
    let case = "a format that is read already";
    let stream = runtime.block_on(Published::start());
    let mut other = runtime.block_on(stream.subscribe()).into_derived(0, FlvPacketizer::default);
    take_first(&mut other);
    bench.case(case, UNIT, goal, |iters| {
        timed(runtime, async {
            for _ in 0..iters {
                take_first(&mut stream.subscribe().await.into_derived(0, FlvPacketizer::default));
            }
        })
    });
}

fn worker(bench: &mut Bench, runtime: &Runtime, goal: Goal) {
    let case = "through a worker, and gone again";
    let stream = runtime.block_on(Published::start());
    let egress = runtime.block_on(async { Egress::start(1) });
    let writes = Arc::new(AtomicU64::new(0));
    let attach = async || {
        let reader = stream.subscribe().await.into_derived(0, FlvPacketizer::default);
        let before = writes.load(Ordering::Relaxed);
        let attached = egress.attach(reader, sink(&writes), Bytes::new());
        wait_until(&writes, before + 1).await;
        attached
    };
    let _other = runtime.block_on(attach());
    bench.case(case, UNIT, goal, |iters| {
        timed(runtime, async {
            for _ in 0..iters {
                drop(attach().await);
            }
        })
    });
}

fn timed(runtime: &Runtime, work: impl Future<Output = ()>) -> Duration {
    let before = cpu_time();
    runtime.block_on(work);
    cpu_time().saturating_sub(before)
}

/// Takes the first item, which is there.
fn take_first<W: Walk>(reader: &mut Reader<W>) {
    let budget = Budget { items: 1, ..Budget::default() };
    let mut items = 0;
    let each = |read: Read<W::Item>| items += u32::from(matches!(read, Read::Item(_)));
    reader.read(budget, each).expect("nobody ends the reader");
    assert_eq!(items, 1, "a keyframe is there");
}
