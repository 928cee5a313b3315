//! The same stream over the same bad path, carried by libsrt's `srt-live-transmit` and by this crate, at the same time: what each
//! leaves lost, and what each sends for it (F50).
//!
//! `ARCLY_SRT_SIDE_BY_SIDE=60` runs sixty seconds of each cell, `ARCLY_SRT_SIDE_BY_SIDE_AT_ONCE` (4) of them at a time, prints a table
//! and holds it against libsrt's. `ARCLY_SRT_SIDE_BY_SIDE_CELLS=0-17` runs some of them. Without the first nothing is run: what real
//! time leaves of a stream says more about the machine than about either; the simulator holds the bounds.
#![cfg(feature = "encryption")]
#![allow(clippy::print_stdout, reason = "the table is for people")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcly_srt::Config;
use arcly_srt::socket::Socket;
use arcly_testkit::need;
use arcly_testkit::ports::free_address;
use arcly_testkit::process::Guard;
use arcly_testkit::rng::Rng;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// 400 packets of 1 316 bytes a second, as in the table of the simulator.
const INTERVAL: Duration = Duration::from_micros(2_500);
const CHUNK: usize = 1_316;
const LIMIT: Duration = Duration::from_secs(20);
/// Percent points that luck may make.
const LUCK: f64 = 0.1;

/// What the path does, in each direction on its own.
#[derive(Clone, Copy, Debug)]
struct Cell {
    rtt_ms: u64,
    latency_ms: u64,
    loss_percent: u64,
    /// Mean length of a burst of losses; 1 for none.
    burst: u64,
    /// Each datagram takes so much more or less, which reorders.
    jitter_ms: u64,
    /// So many come twice.
    twice_percent: u64,
}

const fn cell(rtt_ms: u64, latency_ms: u64, loss_percent: u64, burst: u64, jitter_ms: u64) -> Cell {
    Cell { rtt_ms, latency_ms, loss_percent, burst, jitter_ms, twice_percent: 0 }
}

/// A latency of four round trips over 30, 100 and 200 ms with a tenth of them as jitter: up to 10 % of loss every byte arrives.
fn four_round_trips() -> impl Iterator<Item = Cell> {
    let losses = [(0, 1), (2, 1), (5, 1), (10, 1), (20, 1), (5, 4)];
    let rows = [30, 100, 200].into_iter().flat_map(move |rtt| losses.map(|loss| (rtt, loss)));
    rows.map(|(rtt, (loss, burst))| cell(rtt, 4 * rtt, loss, burst, rtt / 10))
}

/// The table of `interop.md`, without its changed bits, which end what libsrt carries.
fn measured_before() -> impl Iterator<Item = Cell> {
    let forty = [
        (80, &[1, 5, 10, 20, 30][..]),
        (120, &[1, 5, 10, 20, 30]),
        (160, &[1, 5, 10, 20, 30]),
        (320, &[1, 5, 10, 20, 30]),
        (800, &[1, 5, 30]),
    ];
    let forty = forty
        .into_iter()
        .flat_map(|(latency, losses)| losses.iter().map(move |loss| cell(40, latency, *loss, 1, 0)));
    let others = [
        cell(40, 120, 5, 5, 0),
        cell(40, 320, 5, 5, 0),
        cell(40, 800, 5, 5, 0),
        cell(40, 320, 10, 8, 0),
        cell(40, 800, 10, 20, 0),
        cell(200, 400, 5, 1, 0),
        cell(200, 800, 5, 1, 0),
        cell(200, 800, 10, 1, 0),
        cell(200, 120, 0, 1, 0),
        cell(40, 60, 0, 1, 20),
        cell(40, 120, 0, 1, 20),
        cell(40, 320, 0, 1, 20),
        cell(40, 320, 5, 1, 20),
        Cell { twice_percent: 10, ..cell(40, 120, 0, 1, 0) },
    ];
    forty.chain(others)
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    sent: u64,
    lost: u64,
    /// Runs of messages that are lost one after the other.
    runs: u64,
    twice: u64,
    out_of_order: u64,
    /// Messages that were never sent.
    changed: u64,
    /// Data packets that the sender sent for them.
    packets: u64,
    /// How late a message was sent at the most: what the machine does to both.
    late: Duration,
}

impl Outcome {
    fn percent(of: u64, all: u64) -> f64 {
        of as f64 * 100.0 / all.max(1) as f64
    }

    fn lost(&self) -> f64 {
        Self::percent(self.lost, self.sent)
    }

    /// Packets beyond those that there were, and those that the path lost.
    fn spurious(&self, cell: Cell) -> f64 {
        let loss = cell.loss_percent as f64 / 100.0;
        Self::percent(self.packets, self.sent) - 100.0 / (1.0 - loss)
    }
}

// The path.

/// A path through which a caller reaches a listener.
struct Proxy {
    at: SocketAddr,
    /// Data packets from the caller, before any is lost.
    packets: Arc<AtomicU64>,
}

/// One direction: decides for each datagram, in order and from a seed.
struct Fate {
    cell: Cell,
    rng: Rng,
    in_burst: bool,
}

/// When a datagram arrives, and when once more.
type Arrivals = [Option<Duration>; 2];

impl Fate {
    /// How long it takes, unless it is lost.
    fn next(&mut self) -> Arrivals {
        let Cell { loss_percent, burst, twice_percent, .. } = self.cell;
        let (loss, burst) = (loss_percent as f64 / 100.0, burst as f64);
        let p = match (burst > 1.0, self.in_burst) {
            (false, _) => loss,
            (true, true) => 1.0 - 1.0 / burst,
            (true, false) => loss / (burst * (1.0 - loss)),
        };
        self.in_burst = (self.rng.below(1_000_000) as f64) < p * 1e6;
        let twice = self.rng.below(100) < twice_percent;
        [(!self.in_burst).then(|| self.delay()), (!self.in_burst && twice).then(|| self.delay())]
    }

    fn delay(&mut self) -> Duration {
        let Cell { rtt_ms, jitter_ms, .. } = self.cell;
        let wander = self.rng.duration_below(Duration::from_millis(2 * jitter_ms));
        (Duration::from_micros(rtt_ms * 500) + wander).saturating_sub(Duration::from_millis(jitter_ms))
    }
}

async fn proxy(cell: Cell, listener: SocketAddr, seed: u64) -> Proxy {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    far.connect(listener).await.expect("an address");
    let at = near.local_addr().expect("an address");
    let (packets, caller) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
    let fate = |seed| Fate { cell, rng: Rng::new(seed), in_burst: false };
    let (mut up, mut down) = (fate(seed), fate(seed + 1));
    let (near_up, far_up, counted) = (Arc::clone(&near), Arc::clone(&far), Arc::clone(&packets));
    let learnt = Arc::clone(&caller);
    let upwards = line(move |datagram| {
        _ = far_up.try_send(&datagram);
    });
    let downwards = line(move |datagram| {
        if let Some(to) = *caller.lock().expect("no panic") {
            _ = near.try_send_to(&datagram, to);
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 2_048];
        // A listener that is not there yet is an error of the socket, which passes.
        loop {
            let Ok((length, from)) = near_up.recv_from(&mut buffer).await else { continue };
            *learnt.lock().expect("no panic") = Some(from);
            // The first bit says control.
            counted.fetch_add(u64::from(buffer[0] & 0x80 == 0), Ordering::Relaxed);
            for delay in up.next().into_iter().flatten() {
                _ = upwards.send((Instant::now() + delay, buffer[..length].to_vec()));
            }
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 2_048];
        loop {
            let Ok(length) = far.recv(&mut buffer).await else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            for delay in down.next().into_iter().flatten() {
                _ = downwards.send((Instant::now() + delay, buffer[..length].to_vec()));
            }
        }
    });
    Proxy { at, packets }
}

/// Hands datagrams on when they are due: of those for one time, in the order that they came.
fn line(send: impl Fn(Vec<u8>) + Send + 'static) -> UnboundedSender<(Instant, Vec<u8>)> {
    let (sender, mut receiver) = unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut waiting = BTreeMap::new();
        for n in 0_u64.. {
            let due = waiting.first_key_value().map(|(&(due, _), _): (&(Instant, u64), _)| due);
            let until = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + LIMIT).into());
            tokio::select! {
                biased;
                () = until => {}
                next = receiver.recv() => match next {
                    Some((due, datagram)) => _ = waiting.insert((due, n), datagram),
                    None => return,
                },
            }
            while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= Instant::now()) {
                send(first.remove());
            }
        }
    });
    sender
}

// What is sent, and what comes.

/// No two have the same bytes anywhere.
fn message(n: u64) -> Vec<u8> {
    let mut message = n.to_be_bytes().to_vec();
    let filling =
        (1..).flat_map(|word: u64| (n ^ (word << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    message.extend(filling.take(CHUNK - message.len()));
    message
}

/// What was received, by number; `None` for what was never sent.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<Option<u64>>>);

impl Log {
    fn add(&self, received: &[u8]) {
        let number = received.first_chunk().map(|number| u64::from_be_bytes(*number));
        let number = number.filter(|number| message(*number) == received);
        self.0.lock().expect("no panic").push(number);
    }

    fn first(&self) -> Option<u64> {
        self.0.lock().expect("no panic").iter().copied().flatten().next()
    }

    /// What became of the messages from `from` up to `to`.
    fn outcome(&self, (from, to): (u64, u64), packets: u64) -> Outcome {
        let log = self.0.lock().expect("no panic").clone();
        let changed = log.iter().filter(|number| number.is_none()).count() as u64;
        let numbers: Vec<u64> = log.into_iter().flatten().filter(|n| (from..to).contains(n)).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let distinct = sorted.len() as u64;
        let out_of_order = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        let sent = to - from;
        let twice = numbers.len() as u64 - distinct;
        let mut ends = sorted.iter().copied().chain([to]);
        let mut next = from;
        let runs = ends.by_ref().filter(|n| std::mem::replace(&mut next, n + 1) != *n).count() as u64;
        let late = Duration::ZERO;
        Outcome { sent, lost: sent - distinct, runs, twice, out_of_order, changed, packets, late }
    }
}

/// Sends a message each interval with `send`, and measures those of `span`, from the first that came through on.
async fn feed<F: Future<Output = bool>>(
    log: &Log,
    proxy: &Proxy,
    (span, tail): (Duration, Duration),
    mut send: impl FnMut(u64) -> F,
) -> Outcome {
    let mut ticks = tokio::time::interval(INTERVAL);
    let (start, mut measured, mut late) = (Instant::now(), None, Duration::ZERO);
    for n in 0.. {
        let due = ticks.tick().await;
        if measured.is_some() {
            late = late.max(due.elapsed());
        }
        if measured.is_none() && log.first().is_some() {
            measured = Some((n, Instant::now(), proxy.packets.load(Ordering::Relaxed)));
        }
        if let Some((from, since, packets)) = measured
            && since.elapsed() >= span
        {
            let packets = proxy.packets.load(Ordering::Relaxed) - packets;
            // What comes after pushes the last ones out.
            let end = Instant::now() + tail;
            for extra in n.. {
                if Instant::now() >= end || !send(extra).await {
                    break;
                }
                ticks.tick().await;
            }
            return Outcome { late, ..log.outcome((from, n), packets) };
        }
        assert!(send(n).await, "it goes on");
        assert!(measured.is_some() || start.elapsed() < LIMIT, "nothing comes through");
    }
    unreachable!("an endless loop")
}

/// `srt-live-transmit` at both ends.
async fn libsrt(program: &Path, cell: Cell, span: Duration, seed: u64) -> Outcome {
    let at = free_address();
    let proxy = proxy(cell, at, seed).await;
    let options = format!("latency={}", cell.latency_ms);
    let start = |from: &str, to: &str| {
        let mut command = Command::new(program);
        command.args(["-q", "-buffering:1", "-chunk:1316", from, to]);
        Guard::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()))
    };
    let mut receiver = start(&format!("srt://{at}?mode=listener&{options}"), "file://con");
    let mut sender = start("file://con", &format!("srt://{}?mode=caller&{options}", proxy.at));
    let mut output = receiver.child().stdout.take().expect("a pipe");
    let mut input = sender.child().stdin.take().expect("a pipe");
    let (log, over) = (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)));
    let (own, stop) = (Arc::clone(&log), Arc::clone(&over));
    let reader = std::thread::spawn(move || {
        let mut message = vec![0; CHUNK];
        while !stop.load(Ordering::Relaxed) && output.read_exact(&mut message).is_ok() {
            own.add(&message);
        }
    });
    let tail = Duration::from_millis(cell.latency_ms + 1_500);
    // A pipe takes 64 KiB, and the program reads them as they come.
    let outcome =
        feed(&log, &proxy, (span, tail), |n| std::future::ready(input.write_all(&message(n)).is_ok())).await;
    over.store(true, Ordering::Relaxed);
    receiver.kill();
    sender.kill();
    reader.join().expect("no panic");
    outcome
}

/// This crate at both ends.
async fn arcly(cell: Cell, span: Duration, seed: u64) -> Outcome {
    let mut listener = Socket::listen("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let proxy = proxy(cell, listener.local_addr(), seed).await;
    let mut config = Config::default();
    config.receiver_latency = Duration::from_millis(cell.latency_ms);
    config.connect_timeout = LIMIT;
    let caller = Socket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let (called, accepted) = tokio::join!(caller.call(proxy.at, config.clone()), async {
        listener.accept().await.expect("a caller").accept(config.clone()).await
    });
    let (called, accepted) = (called.expect("it answers"), accepted.expect("a caller"));
    let log = Arc::new(Log::default());
    let own = Arc::clone(&log);
    let receiving = tokio::spawn(async move {
        while let Ok(message) = accepted.recv().await {
            own.add(&message.payload);
        }
    });
    let tail = Duration::from_millis(cell.latency_ms + 1_500);
    let called = &called;
    let send = |n| async move { called.send(Bytes::from(message(n))).await.is_ok() };
    let outcome = feed(&log, &proxy, (span, tail), send).await;
    receiving.abort();
    outcome
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The cells that were asked for, with their numbers.
fn chosen() -> Vec<(u64, Cell)> {
    let cells = (0..).zip(four_round_trips().chain(measured_before()));
    let Some(range) = setting("ARCLY_SRT_SIDE_BY_SIDE_CELLS") else { return cells.collect() };
    let (first, last) = range.split_once('-').expect("FIRST-LAST");
    let range: std::ops::RangeInclusive<u64> =
        first.parse().expect("a number")..=last.parse().expect("a number");
    cells.filter(|(number, _)| range.contains(number)).collect()
}

fn print(number: u64, cell: Cell, [theirs, ours]: [Outcome; 2]) {
    let Cell { rtt_ms, latency_ms, loss_percent, burst, jitter_ms, twice_percent } = cell;
    println!(
        "{number:2}: {rtt_ms:4} {latency_ms:7} {loss_percent:4} {burst:5} {jitter_ms:6} {twice_percent:5} | {:6.3} / {:6.3} | {:6.1} / {:6.1} | \
         {} / {} of {} in {} / {}, twice {} / {}, out of order {} / {}, changed {} / {}, {:?} / {:?} late",
        theirs.lost(),
        ours.lost(),
        theirs.spurious(cell),
        ours.spurious(cell),
        theirs.lost,
        ours.lost,
        ours.sent,
        theirs.runs,
        ours.runs,
        theirs.twice,
        ours.twice,
        theirs.out_of_order,
        ours.out_of_order,
        theirs.changed,
        ours.changed,
        theirs.late,
        ours.late,
    );
}

/// What is wrong with a cell.
fn faults(cell: Cell, [theirs, ours]: [Outcome; 2]) -> Vec<&'static str> {
    let whole = cell.latency_ms >= 4 * cell.rtt_ms && cell.loss_percent <= 10 && cell.burst == 1;
    let checks = [
        ((ours.twice, ours.out_of_order, ours.changed) != (0, 0, 0), "not what was sent"),
        (whole && ours.lost > 0, "not whole"),
        (ours.lost() > theirs.lost() + LUCK, "more is lost than libsrt loses"),
        (
            cell.jitter_ms > 0 && ours.spurious(cell) > theirs.spurious(cell).max(1.0),
            "more is repeated than libsrt repeats",
        ),
    ];
    checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn f50_beside_libsrt_on_the_same_path() {
    let Some(seconds) = setting("ARCLY_SRT_SIDE_BY_SIDE").and_then(|text| text.parse().ok()) else { return };
    let program: PathBuf = need!(srt_live_transmit);
    let at_once = setting("ARCLY_SRT_SIDE_BY_SIDE_AT_ONCE").map_or(4, |text| text.parse().expect("a number"));
    let span = Duration::from_secs(seconds);
    println!("     rtt latency loss burst jitter twice | lost % libsrt / arcly | spurious % libsrt / arcly");
    let room = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for (number, cell) in chosen() {
        let place = Arc::clone(&room).acquire_owned().await.expect("it is not closed");
        let program = program.clone();
        running.spawn(async move {
            let _place = place;
            // Both on the same seed: the same datagrams are lost, as far as both send the same.
            let seed = 2 * number + 1;
            let (theirs, ours) = tokio::join!(libsrt(&program, cell, span, seed), arcly(cell, span, seed));
            print(number, cell, [theirs, ours]);
            (number, cell, faults(cell, [theirs, ours]))
        });
    }
    let outcomes = running.join_all().await;
    let bad: Vec<_> = outcomes.into_iter().filter(|(.., faults)| !faults.is_empty()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
