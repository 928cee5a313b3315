//! One 1080p30 stream to N players over LL-HLS, parts of 200 ms.
//!
//! **Question.** What does a player cost that waits for every version of both playlists and fetches every part, five of each
//! a second: twenty requests a second, on a connection that is kept?
//!
//! **Hypothesis.** Bytes cost what they cost over TCP; a request costs what it takes to parse it, find the client and write a
//! head, as playlists are rendered once for all and parts are shared.
//!
//! **Decision rule.** At most 0.6 CPU-s for a gigabyte and 10 µs for a request; no part missing, no picture lost, nobody
//! waits for a picture for more than a second. Beside it, in turns, an epoll loop that answers the same requests with one write of bytes
//! that are there: what a machine charges for its sockets is in that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcly_benches::load::play::faults;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, LlHlsPeer, Program, Protocol, Shape, Stage};
use arcly_benches::{Goal, median};

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
            let (mut floors, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..options.rounds {
                floors.push(measure(options, &Program::RawHls(Shape::HD), count));
                ours.push(measure(options, &Program::Arcly(CONFIG.to_owned()), count));
            }
            report(options, count, &floors, &ours);
        }
    });
}

/// One measurement.
struct Cell {
    /// CPU-seconds, of which a core has one a second.
    cpu: f64,
    seconds: f64,
    gigabytes: f64,
    requests: f64,
    p50: f64,
    p99: f64,
    faults: u64,
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(options: &Options, program: &Program, count: usize) -> Cell {
    let requests = Arc::new(AtomicU64::new(0));
    let protocol = protocol(Arc::clone(&requests));
    let stage = Stage::open(&protocol, program, Shape::HD);
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
    if let Some(error) = &after.error {
        eprintln!("ll_hls: {error}");
    }
    let (p50, p99) = AudienceReport::p50_p99_ms(after.latencies_us.clone());
    Cell {
        cpu: cpu.as_secs_f64(),
        seconds: spent.as_secs_f64(),
        gigabytes: after.bytes as f64 / 1e9,
        requests: asked as f64,
        p50,
        p99,
        faults: faults(&before, &after, count) + stage.failed(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn report(options: &Options, count: usize, floors: &[Cell], ours: &[Cell]) {
    let case = format!("N = {count}");
    let mid = |cells: &[Cell], of: &dyn Fn(&Cell) -> f64| {
        median(cells.iter().map(of).collect()).unwrap_or(f64::NAN)
    };
    let a_request = |cell: &Cell| cell.cpu / cell.requests * 1e6;
    let floor = mid(floors, &a_request);
    options.report(&format!("{case}, rawhls"), floor, "us/request", Goal::NONE);
    let over = Goal::NONE.over(Some(floor), "rawhls");
    let ratios = ours.iter().zip(floors).map(|(own, floor)| a_request(own) / a_request(floor));
    let over = Goal { ratio: median(ratios.collect()), ..over };
    options.report(&format!("{case}, arcly"), mid(ours, &a_request), "us/request", over);
    let of_target = |cell: &Cell| cell.cpu / (cell.gigabytes * PER_GB + cell.requests * PER_REQUEST);
    let goal = Goal { ratio: Some(mid(ours, &of_target)), target_ratio: Some(1.0), ..Goal::NONE };
    let per_player = |cell: &Cell| cell.cpu / (count as f64 * cell.seconds) * 1_000.0;
    options.report(&case, mid(ours, &per_player), "CPU-s/1000 sub-s", goal);
    let row = |name: &str, unit, of: &dyn Fn(&Cell) -> f64| {
        options.report(&format!("{case}, {name}"), mid(ours, of), unit, Goal::NONE);
    };
    row("of a core", "cores", &|cell| cell.cpu / cell.seconds);
    row("bytes", "CPU-s/GB", &|cell| cell.cpu / cell.gigabytes);
    row("each asks", "requests/s", &|cell| cell.requests / (count as f64 * cell.seconds));
    row("p50", "ms", &|cell| cell.p50);
    row("p99", "ms", &|cell| cell.p99);
    let faults: u64 = ours.iter().map(|cell| cell.faults).sum();
    let none = Goal { target: Some(0.0), ..Goal::NONE };
    options.report(&format!("{case}, losses and stalls"), faults as f64, "faults", none);
}

fn protocol(requests: Arc<AtomicU64>) -> Protocol {
    let peer = move || -> Box<dyn arcly_benches::load::Peer> {
        Box::new(LlHlsPeer::new("live", "bench0", Arc::clone(&requests)))
    };
    Protocol { name: "LL-HLS", peer: Arc::new(peer), ..Protocol::http_flv() }
}
