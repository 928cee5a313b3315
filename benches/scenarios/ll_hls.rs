//! One 1080p30 stream to N players over LL-HLS, parts of 200 ms.
//!
//! **Question.** What does a player cost that waits for every version of both playlists and fetches every part, five of each
//! a second: twenty requests a second, on a connection that is kept?
//!
//! **Hypothesis.** Bytes cost what they cost over TCP; a request costs what it takes to parse it, find the client and write a
//! head, as playlists are rendered once for all and parts are shared.
//!
//! **Decision rule.** At most 0.6 CPU-s for a gigabyte and 10 µs for a request; no part missing, no picture lost, nobody
//! waits for a picture for more than a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcly_benches::Goal;
use arcly_benches::load::play::faults;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, LlHlsPeer, Program, Protocol, Shape, Stage};

const ALL: usize = 0;
const CONFIG: &str = "[hls]\nalways = true\n";
/// What a gigabyte may cost, and a request, in CPU-seconds.
const PER_GB: f64 = 0.6;
const PER_REQUEST: f64 = 10e-6;
/// How long players do not look at their sockets, each time.
const REST: Duration = Duration::from_millis(1);

fn main() {
    scenario::main("ll_hls", |options| {
        let counts = options.readers.clone().unwrap_or_else(|| vec![100, 500, 1_000]);
        for count in counts {
            for _ in 0..options.rounds {
                measure(options, count);
            }
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(options: &Options, count: usize) {
    let requests = Arc::new(AtomicU64::new(0));
    let protocol = protocol(Arc::clone(&requests));
    let stage = Stage::open(&protocol, &Program::Arcly(CONFIG.to_owned()), Shape::HD);
    let Stage { audience, program, .. } = &stage;
    stage.seat(ALL, count);
    std::thread::sleep(Duration::from_millis(1_500));
    let before = audience.report(ALL);
    audience.rest(REST);
    audience.window(true);
    let (asked, cpu, start) = (requests.load(Ordering::Relaxed), program.cpu(), Instant::now());
    std::thread::sleep(options.time);
    let (cpu, spent) = (program.cpu() - cpu, start.elapsed());
    let asked = requests.load(Ordering::Relaxed) - asked;
    let after = audience.report(ALL);

    let (cpu, gigabytes) = (cpu.as_secs_f64(), after.bytes as f64 / 1e9);
    let target = gigabytes * PER_GB + asked as f64 * PER_REQUEST;
    let case = format!("N = {count}");
    let goal = Goal { ratio: Some(cpu / target), target_ratio: Some(1.0), ..Goal::NONE };
    let per_player = cpu / (count as f64 * spent.as_secs_f64()) * 1_000.0;
    options.report(&case, per_player, "CPU-s/1000 sub-s", goal);
    options.report(&format!("{case}, of a core"), cpu / spent.as_secs_f64(), "cores", Goal::NONE);
    options.report(&format!("{case}, bytes"), cpu / gigabytes, "CPU-s/GB", Goal::NONE);
    options.report(&format!("{case}, requests"), cpu / asked as f64 * 1e6, "us/request", Goal::NONE);
    let rate = asked as f64 / (count as f64 * spent.as_secs_f64());
    options.report(&format!("{case}, each asks"), rate, "requests/s", Goal::NONE);
    let (p50, p99) = AudienceReport::p50_p99_ms(after.latencies_us.clone());
    options.report(&format!("{case}, p50"), p50, "ms", Goal::NONE);
    options.report(&format!("{case}, p99"), p99, "ms", Goal::NONE);
    let faults = faults(&before, &after, count) + stage.failed();
    let none = Goal { target: Some(0.0), ..Goal::NONE };
    options.report(&format!("{case}, losses and stalls"), faults as f64, "faults", none);
    if let Some(error) = &after.error {
        eprintln!("ll_hls: {error}");
    }
}

fn protocol(requests: Arc<AtomicU64>) -> Protocol {
    let peer = move || -> Box<dyn arcly_benches::load::Peer> {
        Box::new(LlHlsPeer::new("live", "bench0", Arc::clone(&requests)))
    };
    Protocol { name: "LL-HLS", peer: Arc::new(peer), ..Protocol::http_flv() }
}
