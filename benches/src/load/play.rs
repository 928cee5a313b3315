//! One stream to N readers: the floor, arcly in its modes, and nginx-rtmp, in turns.

use std::time::{Duration, Instant};

use super::audience::Report;
use super::clip::Shape;
use super::scenario::Options;
use super::server::Program;
use super::stage::{Protocol, Stage};
use crate::report::{Goal, median};

/// The floor with a write for every message.
const PER_MESSAGE: &str = "rawfan per message";
/// And with a write every 100 ms.
const MERGED: &str = "rawfan 100 ms";
/// A picture that comes later than this is a stall.
const STALL: Duration = Duration::from_secs(1);
/// How long readers do not look at their sockets, each time.
const REST: Duration = Duration::from_millis(1);
/// The group that all readers are in.
const ALL: usize = 0;

/// Something that plays one stream to N readers.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    /// What is run.
    pub program: Program,
    /// How it is read, where that is not how the others are.
    pub protocol: Option<fn() -> Protocol>,
    /// What it is held against.
    pub target: Option<Target>,
}

impl Contender {
    /// One that is read as the others are, and held against nothing.
    #[must_use]
    pub const fn new(name: &'static str, program: Program) -> Self {
        Self { name, program, protocol: None, target: None }
    }

    /// Every reader of it in that mode: what `[egress] tick` sets.
    #[must_use]
    pub fn mode(name: &'static str, tick: &str) -> Self {
        Self::new(name, Program::Arcly(format!("[egress]\ntick = \"{tick}\"\n")))
    }

    /// Held against `target`.
    #[must_use]
    pub const fn to_reach(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Read over that protocol.
    #[must_use]
    pub const fn over(mut self, protocol: fn() -> Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }
}

/// The floor as it is, and as it merges.
#[must_use]
pub fn floors(protocol: &Protocol, shape: Shape) -> [Contender; 2] {
    [(PER_MESSAGE, 0), (MERGED, 100)].map(|(name, merge)| {
        Contender::new(name, Program::RawFan(protocol.format, Duration::from_millis(merge), shape))
    })
}

/// arcly in each of its modes: what `[egress] tick` sets for everybody, `latency=` in the URL sets for one reader.
#[must_use]
pub fn modes() -> [Contender; 3] {
    let mode = |name, tick, target| Contender::mode(name, tick).to_reach(target);
    let target = |floor, ratio, p50_ms, p99_ms| Target { floor, ratio: Some(ratio), p50_ms, p99_ms };
    [
        mode("arcly, low latency", "0ms", target(PER_MESSAGE, 1.15, Some(5.0), Some(25.0))),
        mode("arcly, default", "33ms", target(PER_MESSAGE, 0.85, Some(20.0), Some(45.0))),
        mode("arcly, throughput", "100ms", target(MERGED, 1.20, None, None)),
    ]
}

/// Another build of arcly, where one is named.
#[must_use]
pub const fn other() -> Contender {
    Contender::new("other build", Program::Other)
}

/// nginx-rtmp.
#[must_use]
pub const fn nginx() -> Contender {
    Contender::new("nginx-rtmp", Program::Nginx)
}

/// What a mode is to reach.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The floor it is measured in, by name.
    pub floor: &'static str,
    /// CPU time in floors.
    pub ratio: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}

impl Target {
    /// Losses alone count: with so many readers ticks widen.
    #[must_use]
    pub const fn losses_only(self) -> Self {
        Self { ratio: None, p50_ms: None, p99_ms: None, ..self }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// CPU-seconds per 1 000 subscriber-seconds.
    pub cpu: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Frames lost or repeated, readers dropped or stalled.
    pub faults: u64,
    /// KiB of resident memory that each reader adds.
    pub memory: f64,
}

/// Measures everybody at each number of readers, in turns, and reports medians.
///
/// # Panics
/// When a server does not start, or does not let readers in.
pub fn compare(
    options: &Options,
    protocol: &Protocol,
    shape: Shape,
    readers: &[usize],
    contenders: &[Contender],
) {
    let readers = options.readers.as_deref().unwrap_or(readers);
    let present: Vec<&Contender> =
        contenders.iter().filter(|contender| takes_part(options, contender)).collect();
    let mut cells: Vec<Vec<Vec<Cell>>> = vec![vec![Vec::new(); present.len()]; readers.len()];
    for round in 1..=options.rounds {
        for (cells, &count) in cells.iter_mut().zip(readers) {
            for (cells, contender) in cells.iter_mut().zip(&present) {
                let own = contender.protocol.map(|protocol| protocol());
                let protocol = own.as_ref().unwrap_or(protocol);
                let cell = measure(&contender.program, protocol, shape, count, options.time);
                eprintln!("round {round}, N = {count}, {}: {cell:.3?}", contender.name);
                cells.push(cell);
            }
        }
    }
    for (cells, &count) in cells.iter().zip(readers) {
        let floor = |name: &str| present.iter().position(|c| c.name == name).map(|at| cells[at].as_slice());
        for (contender, own) in present.iter().zip(cells) {
            report(options, contender, count, own, &floor);
        }
    }
}

fn takes_part(options: &Options, contender: &Contender) -> bool {
    let installed = contender.program.is_installed();
    if !installed && contender.program != Program::Other {
        eprintln!("{}: {} is not installed and is left out", options.name, contender.name);
    }
    installed && (contender.program.is_floor() || options.wants(contender.name))
}

fn report<'a>(
    options: &Options,
    contender: &Contender,
    count: usize,
    cells: &[Cell],
    floor: &impl Fn(&str) -> Option<&'a [Cell]>,
) {
    let case = format!("N = {count}, {}", contender.name);
    let mid = |of: fn(&Cell) -> f64| median(cells.iter().map(of).collect()).unwrap_or(f64::NAN);
    let name = contender.target.map_or(PER_MESSAGE, |target| target.floor);
    let mut goal = Goal { target_ratio: contender.target.and_then(|target| target.ratio), ..Goal::NONE };
    if let Some(floor) = floor(name).filter(|_| !contender.program.is_floor()) {
        goal = goal.over(median(floor.iter().map(|cell| cell.cpu).collect()), name);
        goal.ratio = median(cells.iter().zip(floor).map(|(own, floor)| own.cpu / floor.cpu).collect());
    }
    options.report(&case, mid(|cell| cell.cpu), "CPU-s/1000 sub-s", goal);
    let bound = |bound: Option<f64>| Goal { target: bound, ..Goal::NONE };
    let target = contender.target;
    let p50 = bound(target.and_then(|target| target.p50_ms));
    options.report(&format!("{case}, p50"), mid(|cell| cell.p50), "ms", p50);
    let p99 = bound(target.and_then(|target| target.p99_ms));
    options.report(&format!("{case}, p99"), mid(|cell| cell.p99), "ms", p99);
    let faults: u64 = cells.iter().map(|cell| cell.faults).sum();
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    options.report(&format!("{case}, losses"), faults as f64, "frames", bound(target.map(|_| 0.0)));
}

/// Measures one of them once.
///
/// # Panics
/// When it does not start, or does not let readers in.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub fn measure(program: &Program, protocol: &Protocol, shape: Shape, count: usize, time: Duration) -> Cell {
    let stage = Stage::open(protocol, program, shape);
    let Stage { audience, program, .. } = &stage;
    stage.seat(ALL, count);
    std::thread::sleep(Duration::from_millis(1_500));
    let before = audience.report(ALL);
    audience.rest(REST);
    audience.window(true);
    let (cpu, start) = (program.cpu(), Instant::now());
    std::thread::sleep(time);
    let (cpu, spent) = (program.cpu() - cpu, start.elapsed());
    let rss = program.rss_bytes();
    let after = audience.report(ALL);
    let subscriber_seconds = count as f64 * spent.as_secs_f64();
    let (p50, p99) = Report::p50_p99_ms(after.latencies_us.clone());
    Cell {
        cpu: cpu.as_secs_f64() / subscriber_seconds * 1_000.0,
        p50,
        p99,
        faults: faults(&before, &after, count) + stage.failed(),
        memory: rss.saturating_sub(stage.alone_bytes) as f64 / count as f64 / 1_024.0,
    }
}

/// What went wrong between two looks.
#[must_use]
pub fn faults(before: &Report, after: &Report, count: usize) -> u64 {
    let frames = (after.lost - before.lost) + (after.repeated - before.repeated);
    let stalled = u64::from(after.longest_gap > STALL);
    frames + stalled + count.saturating_sub(after.playing) as u64
}
