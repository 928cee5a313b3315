use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arcly_testkit::ports::free_address;
use arcly_testkit::process::{Arcly, Guard};
use arcly_testkit::tools;
use tempfile::TempDir;

use super::clip::Shape;
use super::rawfan::Format;

/// How long a server may take until it accepts.
const START: Duration = Duration::from_secs(20);

/// Names another build to be measured beside the one that is.
const OTHER: &str = "ARCLY_BENCH_OTHER";

/// What can be run and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The floor, with what it merges. See [`rawfan`](super::rawfan()).
    RawFan(Format, Duration, Shape),
    /// The floor of LL-HLS. See [`rawhls`](super::rawhls()).
    RawHls(Shape),
    /// The floor of ingest: reads, and drops what it has read. It lets publishers without a protocol in.
    RawSink,
    /// `arcly`, with that as its configuration file.
    Arcly(String),
    /// Another build of `arcly`, the one that `ARCLY_BENCH_OTHER` names, out of the box: two builds in one run.
    Other,
    /// nginx with its rtmp module, `chunk_size 60000`, out of the box otherwise. In one process, as a master that is killed leaves its
    /// workers.
    Nginx,
}

impl Program {
    /// True when it is on this machine. arcly and the floor always are, as `cargo xtask bench` builds them.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        match self {
            Self::Nginx => tools::nginx().is_some(),
            Self::Other => std::env::var_os(OTHER).is_some(),
            _ => true,
        }
    }

    /// True of the floors, which let nobody in; those that play are their own publisher.
    #[must_use]
    pub const fn is_floor(&self) -> bool {
        matches!(self, Self::RawFan(..) | Self::RawHls(_) | Self::RawSink)
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(&self) -> Running {
        match self {
            Self::RawFan(format, merge, shape) => start_rawfan(*format, *merge, shape),
            Self::RawHls(shape) => start_rawhls(shape),
            Self::RawSink => start_floor(&["rawsink".to_owned()]),
            Self::Arcly(config) => start_arcly(arcly(), config, "127.0.0.1:0"),
            // One from before there was RTSP takes part as well.
            Self::Other => start_arcly(std::env::var_os(OTHER).unwrap_or_default().into(), "", "off"),
            Self::Nginx => start_nginx(),
        }
    }
}

/// A running program. It ends with this.
#[derive(Debug)]
pub struct Running {
    /// Where it takes and plays RTMP, or where the floor plays what it plays.
    pub rtmp: SocketAddr,
    /// Where it serves HTTP, if it does.
    pub http: Option<SocketAddr>,
    /// Where it plays RTSP, if it does.
    pub rtsp: Option<SocketAddr>,
    process: Process,
    // What it writes goes with it.
    _folder: Option<TempDir>,
}

#[derive(Debug)]
enum Process {
    Logged(Box<Arcly>),
    Plain(Guard),
}

impl Running {
    /// User and system time of its processes so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.processes().into_iter().map(cpu_of).sum()
    }

    /// Resident memory of its processes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        let pages = |pid: u32| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
            statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default()
        };
        self.processes().into_iter().map(pages).sum::<u64>() * 4_096
    }

    /// The most resident memory within `time`. A log forgets whole GOPs, so that what a stream holds swings by one of them:
    /// what is compared are peaks.
    #[must_use]
    pub fn peak_rss_bytes(&self, time: Duration) -> u64 {
        let end = Instant::now() + time;
        let mut peak = 0;
        while Instant::now() < end {
            peak = peak.max(self.rss_bytes());
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    }

    /// Its log, where it writes one for us.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.process {
            Process::Logged(arcly) => arcly.log(),
            Process::Plain(_) => String::new(),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Logged(arcly) => arcly.pid(),
            Process::Plain(guard) => guard.id(),
        }
    }

    /// The process and its children.
    fn processes(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        core::iter::once(pid).chain(children).collect()
    }
}

/// What a process has used so far.
///
/// The scheduler's own count of each thread, in nanoseconds, where there is one; else what `stat` says, in ticks of 10 ms.
/// Both are user and system time, and the kernel scales the second to the first.
#[must_use]
pub fn cpu_of(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos: u64 = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    if nanos > 0 { Duration::from_nanos(nanos) } else { arcly_testkit::process::Usage::of(pid).cpu }
}

fn start_arcly(binary: PathBuf, config: &str, rtsp: &str) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("arcly.toml");
    fs::write(&file, config).expect("a file");
    let mut command = Command::new(binary);
    command.args(["serve", "--rtmp", "127.0.0.1:0", "--rtsp", rtsp, "--http", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.path().join("data")).arg("-c").arg(&file);
    let arcly = Arcly::start(&mut command);
    let (rtmp, http) = (arcly.addr("rtmp"), Some(arcly.addr("http")));
    let rtsp = (rtsp != "off").then(|| arcly.addr("rtsp"));
    Running { rtmp, http, rtsp, process: Process::Logged(Box::new(arcly)), _folder: Some(folder) }
}

/// The binary that is measured: `ARCLY_BENCH_SERVER`, which `cargo xtask bench` sets to what it has built.
#[must_use]
pub fn arcly() -> PathBuf {
    std::env::var_os("ARCLY_BENCH_SERVER").map_or_else(|| "target/release/arcly".into(), PathBuf::from)
}

fn start_rawfan(format: Format, merge: Duration, shape: &Shape) -> Running {
    let format = if format == Format::Flv { "flv" } else { "rtmp" };
    let mut args = ["rawfan", format, &merge.as_millis().to_string()].map(str::to_owned).to_vec();
    args.extend(shape_args(shape));
    start_floor(&args)
}

fn start_rawhls(shape: &Shape) -> Running {
    let mut args = vec!["rawhls".to_owned()];
    args.extend(shape_args(shape));
    start_floor(&args)
}

/// What [`scenario::main`](super::scenario::main) makes a [`Shape`] of again.
fn shape_args(shape: &Shape) -> [String; 5] {
    [
        shape.pictures.to_string(),
        shape.gop.to_string(),
        shape.key_bytes.to_string(),
        shape.picture_bytes.to_string(),
        shape.sound_bytes.to_string(),
    ]
}

/// The floors are this very program, in a process of their own.
fn start_floor(args: &[String]) -> Running {
    let floor = Arcly::start(Command::new(std::env::current_exe().expect("our own path")).args(args));
    let (rtmp, process) = (floor.addr("raw"), Process::Logged(Box::new(floor)));
    Running { rtmp, http: None, rtsp: None, process, _folder: None }
}

fn start_nginx() -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let rtmp = free_address();
    let at = folder.path().display();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; master_process off; error_log {at}/error.log error; pid {at}/pid;\n\
         worker_rlimit_nofile 20000; events {{ worker_connections 16384; }}\n\
         rtmp {{ access_log {at}/access.log; server {{ listen {rtmp}; chunk_size 60000; application live {{ live on; }} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, config).expect("a file");
    let nginx = tools::nginx().expect("is_installed() was asked");
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-e").arg(folder.path().join("early.log"));
    let guard = Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let end = Instant::now() + START;
    while TcpStream::connect(rtmp).is_err() {
        assert!(Instant::now() < end, "nginx does not accept");
        std::thread::sleep(Duration::from_millis(20));
    }
    Running { rtmp, http: None, rtsp: None, process: Process::Plain(guard), _folder: Some(folder) }
}
