//! What a reader adds to the server's memory.
//!
//! **Question.** How much resident memory does one more player cost, and does it depend on the stream?
//!
//! **Hypothesis.** A player is a task without a read buffer, a socket, a cursor and an offset; the GOP is the stream's.
//!
//! **Decision rule.** The slope between 200 and 1 000 players that are in the middle of a stream is at most 8 KiB each, with
//! GOPs of 1 MiB and of 8 MiB. (arcly 0.8.3: 6, ZLMediaKit 8, nginx-rtmp 12 KiB.) What the kernel holds for a socket does
//! not count, for anybody.

use std::time::Duration;

use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{Program, Protocol, Shape, Stage};
use arcly_benches::{Goal, median};

const FEW: usize = 200;
const MANY: usize = 1_000;
const MIB: usize = 1 << 20;
/// When a log that keeps five seconds for late readers has what it keeps.
const FILLED: Duration = Duration::from_secs(8);
/// When eight hundred who came at once have had their GOP, of 8 MiB each.
const CAUGHT_UP: Duration = Duration::from_secs(20);
/// Two GOPs and more.
const PERIOD: Duration = Duration::from_secs(5);
const UNIT: &str = "KiB/reader";

fn main() {
    scenario::main("memory", |options| {
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            for gop in [1, 8] {
                let case = format!("{}, GOP of {gop} MiB", protocol.name);
                if options.wants(&case) {
                    let ours = Program::Arcly(String::new());
                    options.report(&case, slopes(options, &ours, &protocol, gop), UNIT, Goal::target(8.0));
                }
                if Program::Other.is_installed() && options.wants(&case) {
                    let value = slopes(options, &Program::Other, &protocol, gop);
                    options.report(&format!("{case}, other build"), value, UNIT, Goal::NONE);
                }
            }
        }
    });
}

fn slopes(options: &Options, program: &Program, protocol: &Protocol, gop: usize) -> f64 {
    let slopes = (0..options.rounds).map(|_| slope(options, program, protocol, gop * MIB));
    median(slopes.collect()).unwrap_or(f64::NAN)
}

/// KiB for each reader more.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn slope(options: &Options, program: &Program, protocol: &Protocol, gop: usize) -> f64 {
    let stage = Stage::open(protocol, program, Shape::HD.with_gop_bytes(gop));
    stage.seat(0, FEW);
    std::thread::sleep(FILLED);
    let few = stage.program.peak_rss_bytes(PERIOD);
    stage.seat(1, MANY - FEW);
    std::thread::sleep(options.time.max(CAUGHT_UP));
    let many = stage.program.peak_rss_bytes(PERIOD);
    (many as f64 - few as f64) / (MANY - FEW) as f64 / 1_024.0
}
