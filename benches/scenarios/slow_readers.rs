//! Three hundred players, a hundred of which read at half the stream's rate.
//!
//! **Question.** What do readers that cannot follow cost those who can, and the server?
//!
//! **Hypothesis.** A reader whose socket is full is a cursor and an offset, and nobody waits for it: it costs no more than
//! any other, skips to a keyframe when it is too far behind, and holds no memory of its own.
//!
//! **Decision rule.** Those who follow lose nothing and see a 99th percentile of at most 45 ms; the server's memory for the
//! slow ones is at most 8 KiB each besides what the kernel holds in their sockets.

use std::time::{Duration, Instant};

use arcly_benches::Goal;
use arcly_benches::load::play::faults;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, Program, Protocol, Shape, Stage};

const FOLLOWING: usize = 200;
const SLOW: usize = 100;
/// When a log that keeps five seconds for late readers has what it keeps.
const FILLED: Duration = Duration::from_secs(8);
/// Two GOPs and more.
const PERIOD: Duration = Duration::from_secs(5);
/// The groups.
const FOLLOW: usize = 0;
const BEHIND: usize = 1;

fn main() {
    scenario::main("slow_readers", |options| {
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            if options.wants(protocol.name) {
                slow(options, &protocol);
            }
        }
    });
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
fn slow(options: &Options, protocol: &Protocol) {
    let stage = Stage::open(protocol, &Program::Arcly(String::new()), Shape::HD);
    stage.seat(FOLLOW, FOLLOWING);
    stage.seat(BEHIND, SLOW);
    std::thread::sleep(FILLED);
    let memory = stage.program.peak_rss_bytes(PERIOD);
    stage.audience.throttle(BEHIND, (Shape::HD.bytes_per_second() / 2.0) as usize);
    // Their sockets fill first: the kernel holds some megabytes for each.
    std::thread::sleep(options.time.max(Duration::from_secs(6)));
    let before = stage.audience.report(FOLLOW);
    stage.audience.window(true);
    let (cpu, start) = (stage.program.cpu(), Instant::now());
    std::thread::sleep(options.time);
    let (cpu, spent) = (stage.program.cpu() - cpu, start.elapsed());
    let grown = stage.program.peak_rss_bytes(PERIOD) as f64 - memory as f64;
    let (follow, behind) = (stage.audience.report(FOLLOW), stage.audience.report(BEHIND));
    let name = protocol.name;
    let lost = faults(&before, &follow, FOLLOWING) + stage.failed();
    options.report(&format!("{name}, losses of those who follow"), lost as f64, "frames", Goal::target(0.0));
    let (p50, p99) = AudienceReport::p50_p99_ms(follow.latencies_us);
    options.report(&format!("{name}, p50 of those who follow"), p50, "ms", Goal::target(20.0));
    options.report(&format!("{name}, p99 of those who follow"), p99, "ms", Goal::target(45.0));
    let each = grown / SLOW as f64 / 1_024.0;
    options.report(&format!("{name}, memory for each slow one"), each, "KiB", Goal::target(8.0));
    let cost = cpu.as_secs_f64() / (spent.as_secs_f64() * (FOLLOWING + SLOW) as f64) * 1_000.0;
    options.report(&format!("{name}, cost"), cost, "CPU-s/1000 sub-s", Goal::NONE);
    options.report(
        &format!("{name}, frames skipped for slow ones"),
        behind.lost as f64,
        "frames",
        Goal::NONE,
    );
    options.report(&format!("{name}, slow ones ended"), behind.dropped as f64, "readers", Goal::NONE);
}
