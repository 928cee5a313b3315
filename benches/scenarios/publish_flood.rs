//! One publisher that sends as fast as the server takes it, and nobody watching.
//!
//! **Question.** What does a byte cost on its way in?
//!
//! **Hypothesis.** One copy out of the kernel, one into the frame, and nothing per chunk that shows: less than half a
//! CPU-second for a gigabyte, whatever the chunk size of the encoder.
//!
//! **Decision rule.** ≤ 0.45 CPU-seconds of the server's process for each gigabyte, at 4 096 bytes (OBS, FFmpeg 9) and at
//! 60 000 (FFmpeg 5). SRS was measured at 0.34, nginx-rtmp at 0.42. The floor reads the same bytes and drops them.

use std::sync::Arc;
use std::time::Duration;

use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{Clip, Feeder, Pace, Plan, Program, Shape};
use arcly_benches::{Goal, median};

const TARGET: f64 = 0.45;
const CHUNK_SIZES: [usize; 2] = [4_096, 60_000];

fn main() {
    scenario::main("publish_flood", |options| {
        let clip = Arc::new(Clip::new(Shape::HD));
        let programs = [
            ("read and drop", Program::RawSink, None),
            ("arcly", Program::Arcly(String::new()), Some(TARGET)),
            ("other build", Program::Other, None),
            ("nginx-rtmp", Program::Nginx, None),
        ];
        let programs =
            programs.map(|(name, program, target)| (name, program.is_installed(), program, target));
        for chunk_size in CHUNK_SIZES {
            let mut values = vec![Vec::new(); programs.len()];
            for _ in 0..options.rounds {
                for ((name, installed, program, _), values) in programs.iter().zip(&mut values) {
                    if *installed && (program.is_floor() || options.wants(name)) {
                        values.push(flood(options, program, &clip, chunk_size));
                    }
                }
            }
            for ((name, _, program, target), own) in programs.iter().zip(&values) {
                let Some(value) = median(own.clone()) else { continue };
                let mut goal = Goal { target: *target, ..Goal::NONE };
                if !program.is_floor() {
                    goal = goal.over(median(values[0].clone()), "read and drop");
                    goal.ratio = median(own.iter().zip(&values[0]).map(|(own, floor)| own / floor).collect());
                }
                options.report(&format!("chunks of {chunk_size}, {name}"), value, "CPU-s/GB", goal);
            }
        }
    });
}

/// CPU-seconds for each gigabyte that the publisher could send.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn flood(options: &Options, program: &Program, clip: &Arc<Clip>, chunk_size: usize) -> f64 {
    let running = program.start();
    let plan = Plan { chunk_size, pace: Pace::Flood, ..Plan::live(running.rtmp, clip) };
    let feeder = Feeder::start(if program.is_floor() { plan.without_protocol() } else { plan });
    // The log fills, and memory has been asked for once.
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, bytes) = (running.cpu(), feeder.bytes());
    std::thread::sleep(options.time);
    let (cpu, bytes) = (running.cpu() - cpu, feeder.bytes() - bytes);
    assert_eq!(feeder.failed(), 0, "the publisher was thrown out:\n{}", running.log());
    eprintln!("chunks of {chunk_size}, {program:?}: {:.2} GB", bytes as f64 / 1e9);
    cpu.as_secs_f64() / (bytes as f64 / 1e9)
}
