//! 200 streams of 1080p30, each with one player.
//!
//! **Question.** What do many streams cost that hardly anybody watches?
//!
//! **Hypothesis.** A stream is a task that wakes for each burst of its socket, and a derived log with one reader: about
//! what nginx's event loop costs.
//!
//! **Decision rule.** ≤ 15 % of a core for the server's process, and no more than nginx-rtmp in the same round (14–22 %);
//! no frame lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arcly_benches::load::play::faults;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{Audience, Clip, Feeder, Plan, Program, Role, RtmpPeer, Shape};
use arcly_benches::{Goal, median};

const STREAMS: usize = 200;
const TARGET: f64 = 15.0;

fn main() {
    scenario::main("publishers", |options| {
        let streams = options.readers.as_ref().and_then(|list| list.first().copied()).unwrap_or(STREAMS);
        let clip = Arc::new(Clip::new(Shape::HD));
        let programs = [("nginx-rtmp", Program::Nginx), ("arcly", Program::Arcly(String::new()))];
        let mut values = [Vec::new(), Vec::new()];
        let mut lost = [0, 0];
        for _ in 0..options.rounds {
            for (at, (name, program)) in programs.iter().enumerate() {
                if program.is_installed() && options.wants(name) {
                    let (share, faults) = measure(options, program, &clip, streams);
                    eprintln!("{streams} streams, {name}: {share:.1} %, {faults} faults");
                    values[at].push(share);
                    lost[at] += faults;
                }
            }
        }
        for (at, (name, _)) in programs.iter().enumerate() {
            let Some(value) = median(values[at].clone()) else { continue };
            let is_ours = *name == "arcly";
            let mut goal = Goal { target: is_ours.then_some(TARGET), ..Goal::NONE };
            if is_ours && !values[0].is_empty() {
                goal = goal.over(median(values[0].clone()), "nginx-rtmp");
                goal.ratio = median(values[1].iter().zip(&values[0]).map(|(own, peer)| own / peer).collect());
                goal.target_ratio = Some(1.0);
            }
            options.report(&format!("{streams} streams, {name}"), value, "% of a core", goal);
            let none = Goal { target: is_ours.then_some(0.0), ..Goal::NONE };
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            options.report(&format!("{streams} streams, {name}, losses"), lost[at] as f64, "frames", none);
        }
    });
}

fn measure(options: &Options, program: &Program, clip: &Arc<Clip>, streams: usize) -> (f64, u64) {
    let running = program.start();
    let feeder = Feeder::start(Plan { count: streams, ..Plan::live(running.rtmp, clip) });
    std::thread::sleep(Duration::from_millis(2_500));
    let next = AtomicUsize::new(0);
    let audience = Audience::start(
        running.rtmp,
        Arc::new(move || {
            let stream = format!("bench{}", next.fetch_add(1, Ordering::Relaxed));
            Box::new(RtmpPeer::new(Role::Play, "live", &stream))
        }),
    );
    audience.join(0, streams, Duration::from_millis(streams as u64 * 2));
    let joined = audience.wait_playing(0, streams, Duration::from_secs(30));
    assert_eq!(joined.playing, streams, "{:?}\n{}", joined.error, running.log());
    std::thread::sleep(Duration::from_millis(1_500));
    let before = audience.report(0);
    audience.window(true);
    let (cpu, start) = (running.cpu(), Instant::now());
    std::thread::sleep(options.time);
    let share = (running.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let after = audience.report(0);
    drop(audience);
    (share, faults(&before, &after, streams) + feeder.failed())
}
