//! System calls for each frame, counted by strace.
//!
//! **Question.** How often does the server go into the kernel for a frame that comes in, and for one that goes out?
//!
//! **Hypothesis.** A frame from a publisher is one `recv` and a share of an `epoll_wait`; a frame to a reader is one write at
//! most, as sound rides with pictures, and a fraction of one where ticks merge. Nothing else happens per frame.
//!
//! **Decision rule.** Writes for each frame and reader: at most 0.5 in low latency mode (30 pictures of 77 messages, and
//! what a busy socket splits), 0.45 by default, 0.2 at 100 ms. Reads for each frame of a publisher: at most 1.2. The counts
//! do not depend on how fast the machine is, as long as it keeps up.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_benches::Goal;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{Program, Protocol, Shape, Stage};
use arcly_testkit::process::Guard;

const READERS: usize = 50;
/// Names of the calls, and those that carry bytes out and in.
const WRITES: [&str; 5] = ["write", "writev", "sendto", "sendmsg", "sendmmsg"];
const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];

fn main() {
    scenario::main("syscalls", |options| {
        if Command::new("strace").arg("-V").output().is_err() {
            eprintln!("syscalls: left out, strace is not installed");
            return;
        }
        for protocol in [Protocol::rtmp(), Protocol::http_flv()] {
            for (mode, tick, bound) in
                [("low latency", 0, 0.5), ("default", 33, 0.45), ("throughput", 100, 0.2)]
            {
                let case = format!("{}, {mode}", protocol.name);
                if options.wants(&case) {
                    count(options, &protocol, &case, tick, bound);
                }
            }
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn count(options: &Options, protocol: &Protocol, case: &str, tick: u64, bound: f64) {
    let program = Program::Arcly(format!("[egress]\ntick = \"{tick}ms\"\n"));
    let stage = Stage::open(protocol, &program, Shape::HD);
    stage.seat(0, READERS);
    std::thread::sleep(Duration::from_secs(2));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-p", &stage.program.pid().to_string(), "-o"]).arg(&file);
    let mut strace = Guard::spawn(strace.stderr(std::process::Stdio::null()));
    // Until every thread is attached.
    std::thread::sleep(Duration::from_millis(500));
    stage.audience.window(true);
    let (pictures, start) = (stage.pictures(), Instant::now());
    std::thread::sleep(options.time);
    let (pictures, spent) = (stage.pictures() - pictures, start.elapsed() + Duration::from_millis(500));
    strace.signal("INT");
    let _ = strace.wait_for(Duration::from_secs(5));
    let report = stage.audience.report(0);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let calls = |names: &[&str]| -> u64 { names.iter().map(|name| calls_of(&text, name)).sum() };
    // Of the publisher's 77 messages a second, as many as the pictures that came say.
    let frames = Shape::HD.frames_per_second() * spent.as_secs_f64();
    let keeps_up = pictures as f64 > 0.9 * 30.0 * (spent.as_secs_f64() - 0.5);
    if !keeps_up || report.dropped > 0 {
        eprintln!("syscalls: {case}: the machine does not keep up; the counts say nothing");
        return;
    }
    let each = calls(&WRITES) as f64 / frames / READERS as f64;
    options.report(&format!("{case}, writes"), each, "per frame and reader", Goal::target(bound));
    let reads = calls(&READS) as f64 / frames;
    options.report(&format!("{case}, reads"), reads, "per frame published", Goal::target(1.2));
    let waits = calls(&["epoll_wait"]) as f64 / frames;
    options.report(&format!("{case}, epoll_wait"), waits, "per frame published", Goal::NONE);
    let all = calls_of(&text, "total");
    let rest = all.saturating_sub(calls(&WRITES) + calls(&READS) + calls(&["epoll_wait"])) as f64 / frames;
    options.report(&format!("{case}, all others"), rest, "per frame published", Goal::NONE);
}

/// Of a line such as `68.30 0.192687 213 903 12 epoll_wait`, in which the errors may be missing, the calls.
fn calls_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.split_whitespace().next_back() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or_default()
}
