//! One server with a witness stream, and what must hold after every hostile input (C1 to C6 of the catalogue).
//!
//! | | asserted for each row |
//! |---|---|
//! | C1 alive | the process runs, nothing has panicked |
//! | C2 witness | no frame lost or repeated, none more than 100 ms later than what the machine does to everybody at the same time ([`Witness`]) |
//! | C3 memory | peak resident memory within the row's bound; within 10 s back to what it was and 1 MiB, and to as many open files and tasks |
//! | C4 verdict | exactly the expected sessions were closed, with exactly the expected reasons |
//! | C5 quiet | each closed peer is named once with its reason, at most one warning each, no control character |
//! | C6 CPU | within the row's bound, less what the witness costs |
//!
//! The server is built like the tests, but optimised (`[profile.dev.package]` in the workspace's manifest): times and
//! memory are those of the catalogue. Its allocator takes pages of 4 KiB, because a step of 2 MiB would be the whole bound.
//!
//! Tests of one file share a server as long as one of them runs, and take turns on it: a turn is over when the server has let go of
//! everybody who came in it. A stream is kept for a while when its publisher has gone, so that rows name theirs apart.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arcly_testkit::process::{Arcly, Usage};
use tempfile::TempDir;

use super::eventually;
use super::http::{Closed, Http, Metrics, Scraper, get};
use super::peer::{PATIENCE, Peer};
use super::starved::Starved;
use super::witness::Witness;

/// Within which a verdict has to fall, unless the row says otherwise.
pub const AT_ONCE: Duration = Duration::from_secs(1);
/// How far resident memory may rise in a row, unless it says otherwise.
const MEMORY: u64 = 2 << 20;
/// How much of that may stay, and for how long the rest.
const KEPT: u64 = 1 << 20;
const RETURN: Duration = Duration::from_secs(10);
/// What asking the server from all sides leaves behind itself.
const ASKING: u64 = 2 << 20;
/// For how long a busy server is looked at to see whether it still grows, and how often at most.
const GROWTH_WINDOW: Duration = Duration::from_secs(4);
const GROWTH_WINDOWS: u32 = 15;
/// CPU time of a row, unless it says otherwise.
const CPU: Duration = Duration::from_millis(250);
/// What the witness costs the server, in parts of the time that passes.
const WITNESS_CPU: u32 = 10;

/// A running server and what watches it.
pub struct Bench {
    pub arcly: Mutex<Arcly>,
    pub rtmp: SocketAddr,
    pub http: SocketAddr,
    pub data: TempDir,
    pid: u32,
    scraper: Mutex<Scraper>,
    witness: Option<Witness>,
}

static SHARED: Mutex<Weak<Bench>> = Mutex::new(Weak::new());
static TURN: Mutex<()> = Mutex::new(());

/// Waits until nobody else of this file has a turn.
pub fn turn() -> MutexGuard<'static, ()> {
    lock(&TURN)
}

impl Bench {
    /// The server that the tests of this file share.
    pub fn shared() -> Arc<Self> {
        let mut shared = lock(&SHARED);
        shared.upgrade().unwrap_or_else(|| {
            let bench = Arc::new(Self::start(
                &["--rtsp", "127.0.0.1:0", "--srt", "127.0.0.1:0", "--webrtc", "127.0.0.1:0"],
                "",
            ));
            *shared = Arc::downgrade(&bench);
            bench
        })
    }

    /// A server of its own, with further arguments, configured by `config`, and with a witness.
    pub fn start(args: &[&str], config: &str) -> Self {
        Self::start_alone(args, config).with_witness()
    }

    /// The same server with a witness from now on.
    pub fn with_witness(mut self) -> Self {
        self.witness = Some(Witness::start(self.rtmp, self.http, self.pid));
        self
    }

    /// The same without a witness.
    pub fn start_alone(args: &[&str], config: &str) -> Self {
        Self::start_with(args, config, |_| {})
    }

    /// The same with a say in how the process is started.
    pub fn start_with(args: &[&str], config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("arcly.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
        command.env("MIMALLOC_ALLOW_THP", "0").args(["serve", "--log", "info"]);
        for listen in ["--rtmp", "--http"] {
            if !args.contains(&listen) {
                command.args([listen, "127.0.0.1:0"]);
            }
        }
        command.arg("-c").arg(&file).arg("--data-dir").arg(data.path().join("data")).args(args);
        change(&mut command);
        Self::of(Arcly::start(&mut command), data)
    }

    fn of(mut arcly: Arcly, data: TempDir) -> Self {
        let [rtmp, http] = ["rtmp", "http"].map(|protocol| match arcly.addr(protocol) {
            addr if !addr.ip().is_unspecified() => addr,
            SocketAddr::V4(addr) => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            SocketAddr::V6(addr) => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        });
        let pid = arcly.process().id();
        let scraper = Mutex::new(Scraper::open(http).opened());
        Self { arcly: Mutex::new(arcly), rtmp, http, data, pid, scraper, witness: None }
    }

    pub fn addr(&self, protocol: &str) -> SocketAddr {
        lock(&self.arcly).addr(protocol)
    }

    pub fn log(&self) -> String {
        lock(&self.arcly).log()
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.pid)
    }

    pub fn starved(&self) -> Starved {
        Starved::of(self.pid)
    }

    pub fn metrics(&self) -> Metrics {
        lock(&self.scraper).scrape()
    }

    /// Every file that the server may have made.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut folders = vec![self.data.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path.clone());
                }
                files.insert(path);
            }
        }
        files
    }

    /// Waits until nothing of the row before comes any more.
    fn settle(&self) {
        let now = || (self.metrics().closed(), self.usage().fds);
        let mut before = now();
        eventually(Duration::from_secs(3), || {
            std::thread::sleep(Duration::from_millis(20));
            let after = now();
            after == std::mem::replace(&mut before, after.clone())
        });
    }

    /// Waits until whoever has left is gone and counted: a session's task is the last of it to go.
    fn lets_go(&self, before: &Held) {
        eventually(RETURN, || {
            let now = self.held();
            now.fds <= before.fds && now.tasks <= before.tasks
        });
    }

    /// Waits until the server has gone back to as few open files.
    pub fn settles_to(&self, fds: usize, limit: Duration) -> bool {
        eventually(limit, || self.usage().fds <= fds)
    }

    /// Waits until somebody publishes this, where the publisher itself is not told so.
    #[track_caller]
    pub fn await_published(&self, name: &str) {
        let there = || get(self.http, &format!("/api/v1/streams/live/{name}")).status == 200;
        assert!(eventually(PATIENCE, there), "nobody publishes {name}:\n{}", self.log());
    }

    /// What has to come back.
    pub fn held(&self) -> Held {
        let tasks = self.metrics().sum("arcly_tasks");
        let Usage { rss_bytes, fds, .. } = self.usage();
        Held { rss_bytes, fds, tasks }
    }

    /// Waits until the server holds no more than `before`, but for so much memory.
    #[track_caller]
    pub fn check_return(&self, id: &str, before: &Held, kept: u64) {
        let mut now = self.held();
        let mut is_back = |limit, kept| {
            eventually(limit, || {
                now = self.held();
                now.rss_bytes <= before.rss_bytes + kept && now.fds <= before.fds && now.tasks <= before.tasks
            })
        };
        let mut back = is_back(RETURN, kept);
        for threads in [8, 16, 32] {
            if !back {
                self.ask_from_all_sides(threads);
                back = is_back(RETURN / 10, kept + ASKING);
            }
        }
        assert!(back, "{id}: {now:?} {RETURN:?} later; before it was {before:?}");
    }

    /// Gives every thread of the server something to do. What others have freed of a thread's memory goes back when that
    /// thread allocates, which one that is parked does not: the allocator's way, in a server that nobody talks to.
    fn ask_from_all_sides(&self, threads: usize) {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..10).for_each(|_| drop(Scraper::open(self.http).scrape())));
            }
        });
    }

    #[track_caller]
    pub fn check_witness(&self, id: &str) {
        if shows_rows() {
            eprintln!("{id}: ticks are widened by {}", self.metrics().sum("arcly_egress_widened"));
        }
        if let Some(witness) = &self.witness {
            witness.check(id);
        }
    }

    /// See [`Witness::stretch_p99`].
    pub fn stretch_p99(&self) -> Duration {
        self.witness.as_ref().expect("a witness").stretch_p99()
    }

    /// Nothing has panicked.
    #[track_caller]
    pub fn check_alive(&self, id: &str) {
        assert!(
            lock(&self.arcly).process().try_wait().is_none(),
            "{id}: the server is gone:\n{}",
            self.log()
        );
        assert!(!self.log().contains("panicked"), "{id}:\n{}", self.log());
        assert_eq!(self.metrics().sum("arcly_panics_total"), 0.0, "{id}");
    }

    /// Waits until what the server does all the time needs no more memory than before; the most that it has needed.
    pub fn grown(&self) -> u64 {
        let (mut most, mut quiet) = (0, 0);
        for _ in 0..GROWTH_WINDOWS {
            self.take_peak();
            std::thread::sleep(GROWTH_WINDOW);
            let peak = self.take_peak();
            quiet = if peak > most { 0 } else { quiet + 1 };
            most = most.max(peak);
            if quiet == 2 {
                break;
            }
        }
        most
    }

    /// The most memory since the last call of this, and starts anew.
    fn take_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
        // 5 resets the peak (proc(5), clear_refs).
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
        kib * 1_024
    }
}

/// What a server holds: memory, open files, tasks.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub rss_bytes: u64,
    pub fds: usize,
    pub tasks: f64,
}

/// Whether what each row costs is to be printed.
pub fn shows_rows() -> bool {
    std::env::var_os("ARCLY_SHOW_ROWS").is_some()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One hostile input: what was before it, and what may be after it.
pub struct Row {
    pub bench: Arc<Bench>,
    id: String,
    closed: Closed,
    logged: usize,
    usage: Usage,
    held: Held,
    since: Instant,
    memory: u64,
    kept: u64,
    cpu: Duration,
    deadline: Duration,
    turn: Option<Turn>,
}

/// A turn on the shared server, and what the server held when it began.
struct Turn {
    bench: Arc<Bench>,
    held: Held,
    _guard: MutexGuard<'static, ()>,
}

impl Drop for Turn {
    /// Who left in this turn is not to be counted in the next.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.bench.lets_go(&self.held);
        }
    }
}

impl Row {
    /// The next row on the shared server, once it is its turn.
    pub fn new(id: &str) -> Self {
        let bench = Bench::shared();
        let guard = turn();
        Self::begin(bench, id, Some(guard))
    }

    /// A row on a server that begins and ends with it.
    pub fn alone(id: &str) -> Self {
        Self::begin(Arc::new(Bench::start(&[], "")), id, None)
    }

    /// A row on a server of its own.
    pub fn on(bench: &Arc<Bench>, id: &str) -> Self {
        Self::begin(Arc::clone(bench), id, None)
    }

    /// The same row from here on: what was before it made the server warm.
    pub fn again(self) -> Self {
        let Self { bench, id, held, turn, .. } = self;
        bench.lets_go(&held);
        let row = Self::begin(bench, &id, None);
        let turn = turn.map(|mut turn| {
            turn.held = row.held;
            turn
        });
        Self { turn, ..row }
    }

    fn begin(bench: Arc<Bench>, id: &str, turn: Option<MutexGuard<'static, ()>>) -> Self {
        bench.settle();
        bench.take_peak();
        let held = bench.held();
        Self {
            id: id.to_owned(),
            closed: bench.metrics().closed(),
            logged: bench.log().len(),
            usage: bench.usage(),
            held,
            since: Instant::now(),
            memory: MEMORY,
            kept: KEPT,
            cpu: CPU,
            deadline: AT_ONCE,
            turn: turn.map(|guard| Turn { bench: Arc::clone(&bench), held, _guard: guard }),
            bench,
        }
    }

    pub const fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Counts the peak of memory from this on, of a server with work of its own: see [`Bench::grown`].
    pub const fn above(mut self, rss_bytes: u64) -> Self {
        self.usage.rss_bytes = rss_bytes;
        self
    }

    /// How much more memory the server may have in the end.
    pub const fn kept(mut self, bytes: u64) -> Self {
        self.kept = bytes;
        self
    }

    pub const fn cpu(mut self, bound: Duration) -> Self {
        self.cpu = bound;
        self
    }

    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// An RTMP connection on which nothing has been sent.
    pub fn peer(&self) -> Peer {
        Peer::open(self.bench.rtmp)
    }

    /// An HTTP connection on which nothing has been sent.
    pub fn http(&self) -> Http {
        Http::open(self.bench.http)
    }

    /// The peer is closed for this reason; the codes that it was sent before.
    #[track_caller]
    pub fn closed(self, reason: &str, mut peer: Peer) -> Vec<String> {
        let ended = peer.wait_end(self.deadline);
        assert!(ended, "{}: not closed within {:?}: {:?}", self.id, self.deadline, peer.codes);
        let name = peer.name();
        let codes = std::mem::take(&mut peer.codes);
        drop(peer);
        self.finish(&[("rtmp", reason, 1)], &[(name, reason)]);
        codes
    }

    /// The same for several peers.
    #[track_caller]
    pub fn closed_all(self, reason: &str, peers: Vec<Peer>) {
        let mut names = Vec::new();
        for mut peer in peers {
            assert!(peer.wait_end(self.deadline), "{}: not closed within {:?}", self.id, self.deadline);
            names.push((peer.name(), reason));
        }
        self.finish(&[("rtmp", reason, names.len() as u64)], &names);
    }

    /// The HTTP peer is closed for this reason.
    #[track_caller]
    pub fn http_closed(self, reason: &str, mut http: Http) {
        assert!(http.wait_end(self.deadline), "{}: not closed within {:?}", self.id, self.deadline);
        let name = http.name();
        drop(http);
        self.finish(&[("http", reason, 1)], &[(name, reason)]);
    }

    /// The peers are left alone, and go by themselves.
    #[track_caller]
    pub fn tolerated(self, mut peers: Vec<Peer>) {
        for peer in &mut peers {
            peer.wait_end(Duration::from_millis(50));
            assert!(!peer.ended, "{}: closed, after {:?}:\n{}", self.id, peer.codes, self.log());
        }
        let count = peers.len() as u64;
        drop(peers);
        self.finish(&[("rtmp", "peer_closed", count)], &[]);
    }

    /// The witness is well and nothing has panicked, whatever was closed for whatever reason; and nothing is left behind
    /// once `peers` are gone.
    #[track_caller]
    pub fn undisturbed<T>(self, peers: T) {
        drop(peers);
        self.bench.check_witness(&self.id);
        self.bench.check_alive(&self.id);
        self.check_return();
    }

    /// What was logged since the row began.
    pub fn log(&self) -> String {
        self.bench.log().split_off(self.logged)
    }

    /// Everything else that has to hold. `closed` is every session that ended, with its reason; `named` are the
    /// peers that the log has to name with theirs.
    #[track_caller]
    pub fn finish(self, closed: &[(&str, &str, u64)], named: &[(SocketAddr, &str)]) {
        self.check_verdict(closed);
        self.check_log(named);
        self.check_resources();
        self.bench.check_witness(&self.id);
        self.bench.check_alive(&self.id);
    }

    #[track_caller]
    fn check_verdict(&self, expect: &[(&str, &str, u64)]) {
        let expect: Closed = expect
            .iter()
            .filter(|(.., count)| *count > 0)
            .map(|(p, r, n)| ((p.to_string(), r.to_string()), *n))
            .collect();
        let since = || {
            let mut now = self.bench.metrics().closed();
            now.iter_mut().for_each(|(key, count)| *count -= self.closed.get(key).copied().unwrap_or(0));
            now.retain(|_, count| *count > 0);
            now
        };
        eventually(AT_ONCE, || since() == expect);
        assert_eq!(since(), expect, "{}: sessions closed, and why; log:\n{}", self.id, self.log());
    }

    #[track_caller]
    fn check_log(&self, named: &[(SocketAddr, &str)]) {
        for (peer, reason) in named {
            let peer = peer.to_string();
            let says = |line: &str| line.contains(&peer) && line.contains(reason);
            let said = eventually(AT_ONCE, || self.log().lines().any(says));
            assert!(
                said,
                "{}: the log does not say that {peer} was closed for {reason}:\n{}",
                self.id,
                self.log()
            );
            let log = self.log();
            let warnings = log.lines().filter(|line| line.contains(&peer) && line.contains("WARN")).count();
            assert!(warnings <= 1, "{}: {warnings} warnings about {peer}:\n{log}", self.id);
        }
        let log = self.log();
        let strange = log.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202E}');
        assert_eq!(strange, None, "{}: in the log:\n{log}", self.id);
    }

    #[track_caller]
    pub fn check_resources(&self) {
        let (id, before) = (&self.id, &self.usage);
        let peak = self.bench.take_peak().saturating_sub(before.rss_bytes);
        let (kib, bound) = (peak >> 10, self.memory >> 10);
        let cpu = (self.bench.usage().cpu - before.cpu).saturating_sub(self.since.elapsed() / WITNESS_CPU);
        if shows_rows() {
            eprintln!("{id}: {kib} KiB, {cpu:?} CPU, {:?}", self.since.elapsed());
        }
        assert!(kib <= bound, "{id}: {kib} KiB more memory at the peak; {bound} are allowed");
        assert!(cpu <= self.cpu, "{id}: {cpu:?} of CPU time; {:?} are allowed", self.cpu);
        self.check_return();
    }

    #[track_caller]
    fn check_return(&self) {
        let since = Instant::now();
        self.bench.check_return(&self.id, &self.held, self.kept);
        if shows_rows() {
            let (before, now) = (self.held.rss_bytes >> 10, self.bench.held().rss_bytes >> 10);
            eprintln!("{}: back after {:?}: {before} KiB before, {now} now", self.id, since.elapsed());
        }
    }
}
