//! One player after the other, at any time.
//!
//! **Question.** How long does somebody who opens a running stream look at nothing?
//!
//! **Hypothesis.** As long as the round trips of the protocol and one write take: the keyframe is there already, and no
//! round of Nagle's algorithm against delayed acknowledgements stands in between.
//!
//! **Decision rule.** From `connect()` to the last byte of the first keyframe: median ≤ 2 ms, 99th percentile ≤ 10 ms.
//! (ZLMediaKit: 1 / 3 ms; SRS 43–55 ms; nginx-rtmp and MediaMTX, which keep no GOP, 1 / 2 s.)

use std::time::Duration;

use arcly_benches::Goal;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, Program, Protocol, Shape, Stage};

/// Not a divisor of the GOP, so that joins fall anywhere in it.
const EVERY: Duration = Duration::from_millis(73);

fn main() {
    scenario::main("late_joiner", |options| {
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            if options.wants(protocol.name) {
                joins(options, &protocol);
            }
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn joins(options: &Options, protocol: &Protocol) {
    let count = if options.quick { 60 } else { 300 };
    let stage = Stage::open(protocol, &Program::Arcly(String::new()), Shape::HD);
    let over = EVERY * count;
    stage.audience.join(0, count as usize, over);
    std::thread::sleep(over);
    let report = stage.audience.wait_playing(0, count as usize, Duration::from_secs(5));
    assert_eq!(report.playing, count as usize, "{:?}\n{}", report.error, stage.program.log());
    let (p50, p99) = AudienceReport::p50_p99_ms(report.joins_us.clone());
    let name = protocol.name;
    options.report(&format!("{name}, first keyframe, p50"), p50, "ms", Goal::target(2.0));
    options.report(&format!("{name}, first keyframe, p99"), p99, "ms", Goal::target(10.0));
    let losses = (report.lost + report.repeated) as f64;
    options.report(&format!("{name}, losses"), losses, "frames", Goal::target(0.0));
}
