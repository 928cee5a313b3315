//! Allocations and copies: figures that are the same on every machine.
//!
//! **Question.** How many heap allocations does a published frame cost, with nobody reading and with a worker's
//! readers; and is a payload ever copied for a reader?
//!
//! **Hypothesis.** A frame is one allocation in the log; a format adds a constant for its packet; readers add
//! nothing, because they are handed the same bytes.
//!
//! **Decision rule.** At most 2 allocations per published frame, none per delivery, no copy. These are counts, not
//! times: a single miss is a miss. `crates/arcly-core/tests/counts.rs` holds the same bounds in the test run.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arcly_benches::{Bench, FlvPacketizer, Goal, Published, Row, sink, wait_until};
use arcly_core::egress::{Attached, Egress};
use arcly_core::log::{Budget, Read};
use arcly_core::{CloseReason, MediaFrame, Subscriber};
use bytes::Bytes;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Frames of one count; enough that a rare allocation of the log's own shows as a fraction.
const FRAMES: u64 = 2_000;

fn main() {
    let bench = Bench::new("counts");
    let _profiler = dhat::Profiler::builder().testing().build();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let report = |case: &str, value: f64, unit: &str, target: Option<f64>| {
        let (unit, goal) = (unit.to_owned(), Goal { target, ..Goal::NONE });
        eprintln!("counts/{case}: {value} {unit}");
        bench.report(&Row { case: case.to_owned(), value, unit, goal, more_is_better: false });
    };
    if bench.wants("publish") {
        let value = runtime.block_on(publishing(0));
        report("publish, nobody reads", value, "allocations/frame", Some(2.0));
        let value = runtime.block_on(publishing(100));
        report("publish, 100 subscribers", value, "allocations/frame", Some(2.0));
    }
    if bench.wants("worker") {
        let (few, many) = (runtime.block_on(through_worker(10)), runtime.block_on(through_worker(1_010)));
        report("worker, one FLV tag", few.allocations, "allocations/frame", None);
        let each = (many.allocations - few.allocations) / 1_000.0;
        report("worker, per reader", each.max(0.0), "allocations/delivery", Some(0.0));
        report("worker, different bytes", many.copies, "copies/frame", Some(0.0));
    }
    if bench.wants("copies") {
        report("subscriber copies", runtime.block_on(copies()), "copies/delivery", Some(0.0));
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn per_frame(allocations: u64) -> f64 {
    allocations as f64 / FRAMES as f64
}

fn allocations() -> u64 {
    dhat::HeapStats::get().total_blocks
}

async fn publishing(readers: usize) -> f64 {
    let mut stream = Published::start().await;
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for _ in 0..readers {
        subscribers.push(stream.subscribe().await.into_frames());
    }
    let mut spent = 0;
    for _ in 0..FRAMES {
        let frame = stream.next_frame();
        let before = allocations();
        stream.publish(frame);
        for reader in &mut subscribers {
            reader.read(Budget::UNLIMITED, drop).expect("nobody ends the reader");
        }
        spent += allocations() - before;
    }
    per_frame(spent)
}

struct Worker {
    allocations: f64,
    copies: f64,
}

async fn through_worker(readers: u64) -> Worker {
    let mut stream = Published::start().await;
    let egress = Egress::start(1);
    let writes = Arc::new(AtomicU64::new(0));
    let mut attached = Vec::new();
    for _ in 0..readers {
        let reader = stream.subscribe().await.into_derived(0, FlvPacketizer::default);
        attached.push(egress.attach(reader, sink(&writes), Bytes::new()));
    }
    wait_until(&writes, readers).await;
    // Buffers of the queue between publisher and worker get their size first.
    let mut before = 0;
    for n in 1..=FRAMES + 100 {
        if n == 100 {
            before = allocations();
        }
        let frame = stream.next_frame();
        stream.publish(frame);
        wait_until(&writes, readers + n * readers).await;
    }
    let allocations = per_frame(allocations() - before);
    Worker { allocations, copies: different(attached).await }
}

/// Readers that were handed other bytes than the first.
async fn different(attached: Vec<Attached<arcly_benches::Sink>>) -> f64 {
    let mut first = None;
    let mut different = 0.0;
    for mut reader in attached {
        reader.detach(CloseReason::Shutdown);
        let sink = reader.finished().await.writer.expect("a sink is never blocked");
        if sink.last() != *first.get_or_insert(sink.last()) {
            different += 1.0;
        }
    }
    different
}

/// Deliveries of a payload to a subscriber at another address than the publisher's.
async fn copies() -> f64 {
    let mut stream = Published::start().await;
    let mut readers = vec![stream.subscribe().await.into_frames(), stream.subscribe().await.into_frames()];
    let mut copies = 0.0;
    let drain = |reader: &mut Subscriber| {
        let mut frames: Vec<MediaFrame> = Vec::new();
        let each = |read| {
            if let Read::Item(frame) = read {
                frames.push(MediaFrame::clone(&frame));
            }
        };
        reader.read(Budget::UNLIMITED, each).expect("nobody ends the reader");
        frames
    };
    readers.iter_mut().for_each(|reader| drop(drain(reader)));
    for _ in 0..100 {
        let frame = stream.next_frame();
        let address = frame.payload.as_ptr();
        stream.publish(frame);
        for reader in &mut readers {
            let frames = drain(reader);
            let same = frames.len() == 1 && frames.iter().all(|frame| frame.payload.as_ptr() == address);
            copies += f64::from(u8::from(!same));
        }
    }
    copies
}
