//! A thousand players join in one second, while a hundred watch.
//!
//! **Question.** How long does it take to the first picture when everybody comes at once, and do those who are there
//! already notice?
//!
//! **Hypothesis.** A join is a handshake, three commands and a cursor at the newest keyframe; the burst of a GOP is bytes
//! that exist already.
//!
//! **Decision rule.** From `connect()` to the last byte of the first keyframe: median ≤ 5 ms, 99th percentile ≤ 40 ms.
//! Those who watch lose nothing, and are never without a picture for more than 100 ms. (ZLMediaKit: 2 / 37 ms.)

use std::time::Duration;

use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, Program, Protocol, Shape, Stage};
use arcly_benches::{Goal, median};

const WATCHERS: usize = 100;
const JOINERS: usize = 1_000;
const STORM: Duration = Duration::from_secs(1);
/// The groups.
const WATCHING: usize = 0;
const JOINING: usize = 1;

fn main() {
    scenario::main("join_storm", |options| {
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            if options.wants(protocol.name) {
                storms(options, &protocol);
            }
        }
    });
}

fn storms(options: &Options, protocol: &Protocol) {
    let mut columns: [Vec<f64>; 4] = Default::default();
    for _ in 0..options.rounds {
        let storm = storm(protocol);
        eprintln!("{}: p50, p99, gap, losses: {storm:.2?}", protocol.name);
        columns.iter_mut().zip(storm).for_each(|(column, value)| column.push(value));
    }
    let name = protocol.name;
    let lines = [
        ("first keyframe, p50", "ms", 5.0),
        ("first keyframe, p99", "ms", 40.0),
        ("longest gap of those who watch", "ms", 100.0),
        ("losses", "frames", 0.0),
    ];
    for ((case, unit, target), column) in lines.into_iter().zip(columns) {
        let value = if unit == "frames" { Some(column.iter().sum()) } else { median(column) };
        options.report(&format!("{name}, {case}"), value.unwrap_or(f64::NAN), unit, Goal::target(target));
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn storm(protocol: &Protocol) -> [f64; 4] {
    let stage = Stage::open(protocol, &Program::Arcly(String::new()), Shape::HD);
    stage.seat(WATCHING, WATCHERS);
    std::thread::sleep(Duration::from_secs(1));
    let before = stage.audience.report(WATCHING);
    stage.audience.window(true);
    stage.audience.join(JOINING, JOINERS, STORM);
    std::thread::sleep(STORM);
    let joined = stage.audience.wait_playing(JOINING, JOINERS, Duration::from_secs(20));
    let watching = stage.audience.report(WATCHING);
    let (p50, p99) = AudienceReport::p50_p99_ms(joined.joins_us.clone());
    let missing = JOINERS.saturating_sub(joined.playing) + WATCHERS.saturating_sub(watching.playing);
    let frames =
        watching.lost - before.lost + watching.repeated - before.repeated + joined.lost + joined.repeated;
    if let Some(error) = joined.error.or(watching.error) {
        eprintln!("{}: {error}", protocol.name);
    }
    [
        p50,
        p99,
        watching.longest_gap.as_secs_f64() * 1_000.0,
        (frames + missing as u64 + stage.failed()) as f64,
    ]
}
