//! What carrying a stream over SRT costs, at both ends together, beside libsrt's `srt-live-transmit` doing the same.
//!
//! **Question.** How many CPU-seconds does a gigabit cost that goes from one process's input over SRT, on loopback, to another one's output?
//!
//! **Hypothesis.** Most of it are system calls: reads of the input, datagrams, writes of the output. Ours sends many datagrams with one call (UDP
//! GSO) and takes many with one, where libsrt has a call and three threads' worth of locks for each packet; and 500 connections are two processes,
//! not a thousand.
//!
//! **Decision rule.** No more than `srt-live-transmit` in the same run, for one connection of 100 Mbit/s, and for a hundred of 1 Mbit/s, which it
//! needs two hundred processes for. 500 connections of 200 kbit/s are shown alone.
//!
//! Both read messages of 1 316 bytes from a pipe, and write what they receive into one. Latency is 120 ms; nothing is encrypted.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcly_benches::load::cpu_of;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::{Goal, median};
use arcly_srt::Config;
use arcly_srt::socket::{Peer, Socket};
use arcly_testkit::ports::free_address;
use arcly_testkit::process::Guard;
use arcly_testkit::tools;
use bytes::{Bytes, BytesMut};

const CHUNK: usize = 1_316;
/// Of all connections together.
const BITS_PER_SECOND: u64 = 100_000_000;
const TICK: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "carry-send", to, connections] => {
            return send(address(to), connections.parse().expect("a number"));
        }
        [_, "carry-receive", at] => return receive(address(at)),
        _ => {}
    }
    scenario::main("srt_carry", |options| {
        for (connections, beside) in [(1, true), (100, true), (500, false)] {
            compare(options, connections, beside);
        }
    });
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Both programs by turns.
fn compare(options: &Options, connections: usize, beside: bool) {
    let case = format!("{connections} connections");
    if !options.wants(&case) {
        return;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        ours.push(measure(options, arcly(connections)));
        if beside && let Some(pairs) = libsrt(connections) {
            theirs.push(measure(options, pairs));
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    if let Some(theirs) = theirs {
        options.report(&format!("{case}, srt-live-transmit"), theirs, "CPU-s/Gbit", Goal::NONE);
    }
    if let Some(ours) = ours {
        let goal = Goal { target: theirs, ..Goal::NONE }.over(theirs, "srt-live-transmit");
        options.report(&format!("{case}, arcly"), ours, "CPU-s/Gbit", goal);
    }
}

// The programs.

/// A sender and a receiver.
struct Pair {
    sender: Guard,
    receiver: Guard,
}

impl Pair {
    fn start(receiver: &mut Command, sender: &mut Command) -> Self {
        let start = |command: &mut Command| {
            Guard::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()))
        };
        Self { receiver: start(receiver), sender: start(sender) }
    }

    fn cpu(&self) -> Duration {
        cpu_of(self.sender.id()) + cpu_of(self.receiver.id())
    }
}

/// This program again, as sender and as receiver of all connections.
fn arcly(connections: usize) -> Vec<Pair> {
    let (program, at) = (std::env::current_exe().expect("a program"), free_address().to_string());
    let connections = connections.to_string();
    let mut receiver = Command::new(&program);
    let mut sender = Command::new(&program);
    vec![Pair::start(receiver.args(["carry-receive", &at]), sender.args(["carry-send", &at, &connections]))]
}

/// `srt-live-transmit`, a pair of processes for each connection.
fn libsrt(connections: usize) -> Option<Vec<Pair>> {
    let program = tools::srt_live_transmit()?;
    let pair = |_| {
        let at = free_address();
        let mut receiver = Command::new(&program);
        let mut sender = Command::new(&program);
        let options = ["-q", "-buffering:1", "-chunk:1316"];
        Pair::start(
            receiver.args(options).args([&format!("srt://{at}?mode=listener&latency=120"), "file://con"]),
            sender.args(options).args(["file://con", &format!("srt://{at}?mode=caller&latency=120")]),
        )
    };
    Some((0..connections).map(pair).collect())
}

// The measurement.

/// CPU-seconds of all processes for each gigabit that came out.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(options: &Options, mut pairs: Vec<Pair>) -> f64 {
    let (over, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    let inputs = pairs.iter_mut().map(|pair| pair.sender.child().stdin.take().expect("a pipe")).collect();
    for pair in &mut pairs {
        let output = pair.receiver.child().stdout.take().expect("a pipe");
        let received = Arc::clone(&received);
        threads.push(std::thread::spawn(move || count(output, &received)));
    }
    let stop = Arc::clone(&over);
    let feeder = std::thread::spawn(move || feed(inputs, &stop));
    let start = Instant::now();
    while received.load(Ordering::Relaxed) < BITS_PER_SECOND / 8 {
        assert!(start.elapsed() < LIMIT, "nothing comes out");
        std::thread::sleep(Duration::from_millis(10));
    }
    let cpu = || pairs.iter().map(Pair::cpu).sum::<Duration>();
    let (before, bytes) = (cpu(), received.load(Ordering::Relaxed));
    std::thread::sleep(options.time);
    let (spent, bytes) = (cpu() - before, received.load(Ordering::Relaxed) - bytes);
    over.store(true, Ordering::Relaxed);
    feeder.join().expect("no panic");
    drop(pairs);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let gigabits = bytes as f64 * 8.0 / 1e9;
    eprintln!("{:.2} Gbit/s", gigabits / options.time.as_secs_f64());
    spent.as_secs_f64() / gigabits
}

fn count(mut output: ChildStdout, received: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Messages into all pipes by turns, at the rate.
fn feed(mut inputs: Vec<ChildStdin>, over: &AtomicBool) {
    let (message, start, mut sent) = ([0x47; CHUNK], Instant::now(), 0_u64);
    for turn in 0.. {
        let due = start.elapsed().as_micros() as u64 * (BITS_PER_SECOND / 8) / 1_000_000;
        if sent >= due {
            std::thread::sleep(TICK);
        }
        let place = turn % inputs.len();
        if over.load(Ordering::Relaxed) || inputs[place].write_all(&message).is_err() {
            return;
        }
        sent += CHUNK as u64;
    }
}

// Ours.

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Sends messages from the standard input over so many connections by turns.
fn send(to: SocketAddr, connections: usize) {
    runtime().block_on(async {
        let socket = Socket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let mut peers: Vec<Peer> = Vec::new();
        let mut config = Config::default();
        config.connect_timeout = LIMIT;
        for _ in 0..connections {
            peers.push(socket.call(to, config.clone()).await.expect("it listens"));
        }
        let mut input = std::io::stdin().lock();
        for peer in peers.iter().cycle() {
            let mut message = BytesMut::zeroed(CHUNK);
            if input.read_exact(&mut message).is_err() || peer.send(Bytes::from(message)).await.is_err() {
                return;
            }
        }
    });
}

/// Writes what comes to the standard output, a message at a time.
fn receive(at: SocketAddr) {
    runtime().block_on(async {
        let mut socket = Socket::listen(at).expect("a port");
        while let Some(incoming) = socket.accept().await {
            let peer = incoming.accept(Config::default()).await.expect("nothing is asked for");
            tokio::spawn(async move {
                while let Ok(message) = peer.recv().await {
                    if std::io::stdout().write_all(&message.payload).is_err() {
                        return;
                    }
                }
            });
        }
    });
}
