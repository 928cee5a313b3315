//! What the benchmarks share: a clock that counts CPU time, a harness that reports ratios, a stream to measure.
//!
//! Each subject is one file in `benches/` that opens with its question, hypothesis and decision rule. How to run
//! them, how to read them and the figures of the day: `docs/benchmarks.md`.
#![forbid(unsafe_code)]

mod cpu;
mod harness;
mod stream;

pub use cpu::{Stopwatch, cpu_time};
pub use harness::{Bench, Goal, Row, Unit};
pub use stream::{FlvPacketizer, Media, PICTURE, Published, Sink, sink, wait_until};
