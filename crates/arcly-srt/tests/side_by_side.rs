//! The same stream over the same bad path, carried by libsrt's `srt-live-transmit` and by this crate, one after the other: what each
//! leaves lost, and what each sends for it (F50).
//!
//! `ARCLY_SRT_SIDE_BY_SIDE=15` runs fifteen seconds of each cell and prints a table. Without it nothing is run: what real time leaves of
//! a stream says more about the machine than about either; the simulator holds the bounds.
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
use arcly_testkit::process::Guard;
use arcly_testkit::rng::Rng;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// 400 packets of 1 316 bytes a second, as in the table of the simulator.
const INTERVAL: Duration = Duration::from_micros(2_500);
const CHUNK: usize = 1_316;
const LIMIT: Duration = Duration::from_secs(20);

/// What the path does, in each direction on its own.
#[derive(Clone, Copy, Debug)]
struct Cell {
    rtt_ms: u64,
    latency_ms: u64,
    loss_percent: u64,
    /// Mean length of a burst of losses; 1 for none.
    burst: u64,
    jitter_ms: u64,
}

const fn cell(rtt_ms: u64, latency_ms: u64, loss_percent: u64, burst: u64, jitter_ms: u64) -> Cell {
    Cell { rtt_ms, latency_ms, loss_percent, burst, jitter_ms }
}

/// The table of `interop.md`, as far as it says something.
const CELLS: [Cell; 16] = [
    cell(40, 80, 1, 1, 0),
    cell(40, 80, 5, 1, 0),
    cell(40, 80, 10, 1, 0),
    cell(40, 120, 5, 1, 0),
    cell(40, 120, 10, 1, 0),
    cell(40, 120, 20, 1, 0),
    cell(40, 160, 10, 1, 0),
    cell(40, 160, 20, 1, 0),
    cell(40, 320, 20, 1, 0),
    cell(40, 120, 5, 5, 0),
    cell(40, 320, 10, 8, 0),
    cell(40, 120, 0, 1, 20),
    cell(40, 320, 5, 1, 20),
    cell(200, 400, 5, 1, 0),
    cell(200, 800, 10, 1, 0),
    cell(30, 120, 10, 1, 5),
];

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    sent: u64,
    lost: u64,
    twice: u64,
    out_of_order: u64,
    /// Data packets that the sender sent for them.
    packets: u64,
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

impl Fate {
    /// How long it takes, or `None` when it is lost.
    fn next(&mut self) -> Option<Duration> {
        let Cell { rtt_ms, loss_percent, burst, jitter_ms, .. } = self.cell;
        let (loss, burst) = (loss_percent as f64 / 100.0, burst as f64);
        let p = match (burst > 1.0, self.in_burst) {
            (false, _) => loss,
            (true, true) => 1.0 - 1.0 / burst,
            (true, false) => loss / (burst * (1.0 - loss)),
        };
        self.in_burst = (self.rng.below(1_000_000) as f64) < p * 1e6;
        let wander = self.rng.duration_below(Duration::from_millis(2 * jitter_ms));
        let delay = Duration::from_micros(rtt_ms * 500) + wander;
        (!self.in_burst).then_some(delay.saturating_sub(Duration::from_millis(jitter_ms)))
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
            if let Some(delay) = up.next() {
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
            if let Some(delay) = down.next() {
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

fn message(n: u64) -> Vec<u8> {
    let mut message = vec![0x47; CHUNK];
    message[..8].copy_from_slice(&n.to_be_bytes());
    message
}

/// What was received, by number.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<u64>>);

impl Log {
    fn add(&self, message: &[u8]) {
        let number = message.first_chunk().map_or(u64::MAX, |number| u64::from_be_bytes(*number));
        self.0.lock().expect("no panic").push(number);
    }

    fn first(&self) -> Option<u64> {
        self.0.lock().expect("no panic").first().copied()
    }

    /// What became of the messages from `from` up to `to`.
    fn outcome(&self, (from, to): (u64, u64), packets: u64) -> Outcome {
        let numbers: Vec<u64> =
            self.0.lock().expect("no panic").iter().copied().filter(|n| (from..to).contains(n)).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let distinct = sorted.len() as u64;
        let out_of_order = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        let sent = to - from;
        Outcome { sent, lost: sent - distinct, twice: numbers.len() as u64 - distinct, out_of_order, packets }
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
    let (start, mut measured) = (Instant::now(), None);
    for n in 0.. {
        ticks.tick().await;
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
            return log.outcome((from, n), packets);
        }
        assert!(send(n).await, "it goes on");
        assert!(measured.is_some() || start.elapsed() < LIMIT, "nothing comes through");
    }
    unreachable!("an endless loop")
}

fn free_port() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address")
}

/// `srt-live-transmit` at both ends.
async fn libsrt(program: &Path, cell: Cell, span: Duration, seed: u64) -> Outcome {
    let at = free_port();
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

#[tokio::test(flavor = "multi_thread")]
async fn f50_beside_libsrt_on_the_same_path() {
    let Some(seconds) = std::env::var("ARCLY_SRT_SIDE_BY_SIDE").ok().and_then(|text| text.parse().ok())
    else {
        return;
    };
    let program: PathBuf = need!(srt_live_transmit);
    let span = Duration::from_secs(seconds);
    println!("rtt latency loss burst jitter | lost % libsrt / arcly | spurious % libsrt / arcly");
    for (cell, seed) in CELLS.into_iter().zip(1..) {
        let theirs = libsrt(&program, cell, span, seed).await;
        let ours = arcly(cell, span, seed).await;
        let Cell { rtt_ms, latency_ms, loss_percent, burst, jitter_ms } = cell;
        println!(
            "{rtt_ms:4} {latency_ms:7} {loss_percent:4} {burst:5} {jitter_ms:6} | {:6.3} / {:6.3} | {:6.1} / {:6.1}   {:?}",
            theirs.lost(),
            ours.lost(),
            theirs.spurious(cell),
            ours.spurious(cell),
            (theirs.twice, theirs.out_of_order, ours.twice, ours.out_of_order),
        );
        assert_eq!((ours.twice, ours.out_of_order), (0, 0), "{cell:?}: {ours:?}");
    }
}
