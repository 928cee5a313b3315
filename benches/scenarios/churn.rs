//! Fifty players come and fifty go, every second, while two hundred stay.
//!
//! **Question.** What do those who come and go cost those who stay, and does the server keep anything of them?
//!
//! **Hypothesis.** A reader is a socket and a cursor: its memory goes with it, and nobody else waits for its set-up.
//!
//! **Decision rule.** Those who stay lose nothing and are never without a picture for more than 100 ms. Resident memory
//! grows by less than 4 MiB from the second third of the time to the end: what the allocator keeps is bounded.

use std::time::Duration;

use arcly_benches::Goal;
use arcly_benches::load::play::faults;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{Program, Protocol, Shape, Stage};

const STAYING: usize = 200;
const PASSING: usize = 50;
const SECOND: Duration = Duration::from_secs(1);
/// The groups.
const STAY: usize = 0;
const PASS: usize = 1;
const MIB: f64 = 1_048_576.0;

fn main() {
    scenario::main("churn", |options| {
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            if options.wants(protocol.name) {
                churn(options, &protocol);
            }
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn churn(options: &Options, protocol: &Protocol) {
    let seconds = if options.quick { 9 } else { 30 };
    let stage = Stage::open(protocol, &Program::Arcly(String::new()), Shape::HD);
    stage.seat(STAY, STAYING);
    std::thread::sleep(SECOND);
    let before = stage.audience.report(STAY);
    stage.audience.window(true);
    let mut memory = 0;
    for second in 0..seconds {
        stage.audience.join(PASS, PASSING, SECOND);
        std::thread::sleep(SECOND);
        if second > 0 {
            stage.audience.leave(PASS, PASSING);
        }
        if second == seconds / 3 {
            memory = stage.program.rss_bytes();
        }
    }
    let grown = stage.program.rss_bytes() as f64 - memory as f64;
    let (stay, pass) = (stage.audience.report(STAY), stage.audience.report(PASS));
    stage.audience.leave(PASS, PASSING * 2);
    stage.audience.leave(STAY, STAYING);
    std::thread::sleep(SECOND * 2);
    let kept = stage.program.rss_bytes() as f64 - stage.alone_bytes as f64;
    let lost = faults(&before, &stay, STAYING) + pass.dropped + pass.lost + pass.repeated + stage.failed();
    let name = protocol.name;
    options.report(&format!("{name}, losses"), lost as f64, "frames", Goal::target(0.0));
    let gap = stay.longest_gap.as_secs_f64() * 1_000.0;
    options.report(&format!("{name}, longest gap of those who stay"), gap, "ms", Goal::target(100.0));
    options.report(&format!("{name}, memory that grows"), grown / MIB, "MiB", Goal::target(4.0));
    options.report(&format!("{name}, memory kept when all have left"), kept / MIB, "MiB", Goal::NONE);
}
