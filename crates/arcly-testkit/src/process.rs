//! Child processes that end with the test, and the `arcly` binary as a person starts it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long `arcly` may take to print `ready`, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// For how long the last lines of a program that has ended are waited for: a child of its own may keep its pipe open.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Listeners that most tests have no use for, as variables; a flag is stronger.
pub const LISTENERS: &[&str] =
    &["ARCLY_RTSP__LISTEN", "ARCLY_RTSP__TLS_LISTEN", "ARCLY_SRT__LISTEN", "ARCLY_WEBRTC__LISTEN"];
/// Those that are there with a certificate alone, and take a free port with it.
pub const SECURE_LISTENERS: &[&str] = &["ARCLY_RTMP__TLS_LISTEN", "ARCLY_HTTP__TLS_LISTEN"];

/// A child process that is killed when the test lets go of it, also by panicking.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
    log: Option<Arc<Log>>,
}

impl Guard {
    /// Starts `command`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, name, log: None }
    }

    /// Starts `command`, and follows what it writes to stderr: who sees that it has ended sees all that it has written.
    pub(crate) fn logged(command: &mut Command) -> (Self, Arc<Log>) {
        let mut guard = Self::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        let log = Log::of(guard.child.stderr.take().expect("stderr is piped"));
        guard.log = Some(Arc::clone(&log));
        (guard, log)
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, when it has.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if status.is_some()
            && let Some(log) = self.log.take()
        {
            log.until_closed(LAST_LINES);
        }
        status
    }

    /// Waits for its end, at most `limit`; `None` when it still runs then.
    pub fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let status = self.try_wait();
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            thread::sleep(POLL);
        }
    }

    /// Sends a signal by name: `TERM`, `INT`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {} ({})", self.id(), self.name);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end with its output captured; one that takes longer than `limit` is killed.
///
/// # Panics
/// When it cannot be started, or takes too long; with what it printed.
pub fn run(command: &mut Command, limit: Duration) -> Output {
    let mut guard = Guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let stdout = guard.child.stdout.take().map(read_all);
    let stderr = guard.child.stderr.take().map(read_all);
    let status = guard.wait_for(limit);
    if status.is_none() {
        guard.kill();
    }
    let join = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (join(stdout), join(stderr));
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!("{command:?} still runs after {limit:?}:\n{}", String::from_utf8_lossy(&stderr)),
    }
}

/// [`run`], for a program that has to succeed; returns its standard output.
///
/// # Panics
/// When it ends with anything but 0; with what it printed.
pub fn run_ok(command: &mut Command, limit: Duration) -> String {
    let output = run(command, limit);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A running `arcly`: its addresses, its log, and what it uses of the machine.
#[derive(Debug)]
pub struct Arcly {
    guard: Guard,
    log: Arc<Log>,
    listening: BTreeMap<String, SocketAddr>,
}

impl Arcly {
    /// Starts it and waits for `ready`. The command names the binary, usually
    /// `Command::new(env!("CARGO_BIN_EXE_arcly"))`, and its arguments; give it ports of 0. What it does not name of
    /// [`LISTENERS`] is off, and of [`SECURE_LISTENERS`] has a port of its own, because several tests run at a time.
    ///
    /// # Panics
    /// When it ends or stays silent instead; with its log.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let all = [(LISTENERS, "off"), (SECURE_LISTENERS, "127.0.0.1:0")];
        for (name, at) in all.iter().flat_map(|(names, at)| names.iter().map(move |name| (name, at))) {
            if !command.get_envs().any(|(set, value)| set == *name && value.is_some()) {
                command.env(name, at);
            }
        }
        let (guard, log) = Guard::logged(command.stdout(Stdio::null()));
        assert!(log.wait_for(START, |line| line.trim() == "ready"), "arcly is not ready:\n{}", log.text());
        let listening = log.lines().iter().filter_map(|line| parse_listening(line)).collect();
        Self { guard, log, listening }
    }

    /// Where it listens for `rtmp`, `http`, ….
    ///
    /// # Panics
    /// When it has no such listener.
    #[must_use]
    pub fn addr(&self, protocol: &str) -> SocketAddr {
        *self.listening.get(protocol).unwrap_or_else(|| panic!("no {protocol} listener:\n{}", self.log()))
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until a line of the log contains `text`; false when `limit` passes, or the process ends, without one.
    #[must_use]
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> bool {
        self.log.wait_for(limit, |line| line.contains(text))
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.guard.id()
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Asks it to end (`SIGTERM`) and waits; `None` when it still runs after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.guard.signal("TERM");
        self.guard.wait_for(limit)
    }

    /// What it uses now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::of(self.guard.id())
    }
}

/// What a process uses of the machine, from `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory.
    pub rss_bytes: u64,
    /// User and system time since it began.
    pub cpu: Duration,
    /// Open file descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Of the process with that id.
    ///
    /// # Panics
    /// When there is no such process, or no `/proc`.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let stat = read("stat");
        // The second field is the program's name in parentheses, which may hold anything; utime and stime
        // are the 14th and 15th, in ticks of 10 ms.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Self {
            rss_bytes: field("VmRSS:") * 1_024,
            cpu: Duration::from_millis(ticks * 10),
            fds,
            threads: field("Threads:"),
        }
    }
}

/// Lines that one thread reads and others wait for.
#[derive(Debug, Default)]
pub(crate) struct Log {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Log {
    /// The lines of `from`, as they come.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            // Programs put bytes of their input into messages.
            let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| writer.push(String::from_utf8_lossy(&line).trim_end().to_owned()));
            writer.close();
        });
        log
    }

    fn push(&self, line: String) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }

    /// Waits until there will be no more lines.
    fn until_closed(&self, limit: Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(state, limit, |(_, closed)| !*closed));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    pub(crate) fn wait_for(&self, limit: Duration, is_it: impl Fn(&str) -> bool) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let still_waiting =
            |(lines, closed): &mut (Vec<String>, bool)| !*closed && !lines.iter().any(|line| is_it(line));
        let waited = self.changed.wait_timeout_while(state, limit, still_waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.0.iter().any(|line| is_it(line))
    }
}

/// `listening protocol=rtmp addr=127.0.0.1:1935`, with anything before and after.
fn parse_listening(line: &str) -> Option<(String, SocketAddr)> {
    let fields = line.split_once("listening ")?.1;
    let field = |name: &str| fields.split_whitespace().find_map(|part| part.strip_prefix(name));
    Some((field("protocol=")?.to_owned(), field("addr=")?.parse().ok()?))
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until the pipe broke is still of use in a message.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// True when a socket of IPv4 listens at a port of this machine; unlike a connection, this does not use up the only one that a
/// program may take.
///
/// # Panics
/// Without `/proc/net/tcp`.
#[must_use]
pub fn is_listening(port: u16) -> bool {
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| local.ends_with(&port));
        // 0A is LISTEN.
        local && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_it_says_so() {
        let script = "echo 'listening protocol=rtmp addr=127.0.0.1:1935' >&2; echo ready >&2; \
                      echo 'WARN x closed reason=malformed' >&2; exec sleep 30";
        let mut arcly = Arcly::start(Command::new("sh").args(["-c", script]));
        assert_eq!(arcly.addr("rtmp"), "127.0.0.1:1935".parse().expect("an address"));
        assert!(arcly.wait_for_log("reason=malformed", Duration::from_secs(5)));
        let (mut usage, end) = (arcly.usage(), Instant::now() + Duration::from_secs(5));
        // The shell may be looked at just when it becomes another program.
        while usage.rss_bytes <= 10_000 && Instant::now() < end {
            usage = arcly.usage();
        }
        assert!(usage.rss_bytes > 10_000 && usage.fds >= 3 && usage.threads == 1, "{usage:?}");
        let status = arcly.terminate(Duration::from_secs(5)).expect("sleep ends on SIGTERM");
        assert!(!status.success());
    }

    #[test]
    #[should_panic(expected = "port in use")]
    fn a_server_that_fails_to_start_shows_its_log() {
        let _ = Arcly::start(Command::new("sh").args(["-c", "echo 'port in use' >&2; exit 2"]));
    }

    #[test]
    #[should_panic(expected = "still runs after")]
    fn a_program_that_hangs_is_killed() {
        run(Command::new("sleep").arg("30"), Duration::from_millis(50));
    }
}
