//! What the benchmarks share: a clock that counts CPU time, a harness that reports ratios, a stream to measure.
//!
//! Each subject is one file in `benches/` that opens with its question, hypothesis and decision rule; each scenario, in
//! which whole servers are measured from outside, is one file in `scenarios/` over [`load`]. How to run them, how to
//! read them and the figures of the day: `docs/benchmarks.md`.
#![forbid(unsafe_code)]

mod cpu;
mod harness;
pub mod load;
mod players;
mod report;
mod stream;

pub use cpu::{Stopwatch, cpu_time};
pub use harness::{Bench, Unit};
pub use players::HlsPlayers;
pub use report::{Goal, Report, Row, median};
pub use stream::{FlvPacketizer, Media, PICTURE, Published, Sink, sink, wait_until};
