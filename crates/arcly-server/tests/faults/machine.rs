//! A machine that has no core left, no memory left, or another time.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use arcly_rtmp::wire::{ChunkStreamId, ControlMessage, MessageHeader, MessageType, encode_message};
use arcly_testkit::process::{Guard, run};
use arcly_testkit::skip;
use bytes::BytesMut;

use super::readers::wide;
use super::support::bench::{Bench, Row, lock};
use super::support::crowd::{Arrival, Crowd, Publishers};
use super::support::eventually;
use super::support::http::get;
use super::*;

/// A stream, and readers of it on both protocols: whether they get on, and lose nothing.
struct Audience {
    publishers: Publishers,
    crowd: Crowd,
    flv: FlvReader,
}

impl Audience {
    fn start(bench: &Bench, name: &str) -> Self {
        let publishers = Publishers::start(bench.rtmp, &[name.to_owned()], Duration::from_millis(100));
        let mut crowd = Crowd::new();
        let arrival =
            Arrival { rtmp: bench.rtmp, stream: name, count: 20, within: Duration::ZERO, leaves: false };
        assert!(crowd.come_and_see(arrival, PATIENCE), "20 readers first");
        let flv = FlvReader::open(bench.http, &format!("/live/{name}.flv")).expect("the stream");
        Self { publishers, crowd, flv }
    }

    /// Nobody was closed or has lost anything, and what is published now arrives within `limit`.
    fn check(self, bench: &Bench, id: &str, limit: Duration) {
        self.crowd.check(id);
        self.goes_on(bench, id, limit);
    }

    /// The same where time was lost for everybody.
    fn goes_on(mut self, bench: &Bench, id: &str, limit: Duration) {
        let received = |crowd: &Crowd| crowd.members().map(|member| member.sequence.received).min().unwrap();
        let before = received(&self.crowd);
        let goes_on = eventually(limit, || received(&self.crowd) > before);
        assert!(goes_on, "{id}: nothing comes after {limit:?}:\n{}", bench.log());
        assert!(self.crowd.members().all(|member| !member.ended), "{id}: {}", bench.log());
        assert!(self.flv.next_tag(soon()).is_some() && !self.flv.http.ended, "{id}: HTTP-FLV");
        let mut closed = bench.metrics().closed();
        closed.retain(|(_, reason), _| reason != "peer_closed");
        assert!(closed.is_empty(), "{id}: {closed:?}");
        bench.check_alive(id);
        self.publishers.stop();
    }
}

#[test]
fn f48_no_core_is_left() {
    rounds(|| {
        // Twice as many busy loops as there are cores, for 15 seconds instead of a minute: longer than any time-out.
        let bench = Bench::start_alone(&[], "");
        let audience = Audience::start(&bench, "f48");
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let spin = |_| Guard::spawn(Command::new("sh").args(["-c", "while :; do :; done"]));
        let loops: Vec<Guard> = (0..2 * cores).map(spin).collect();
        thread::sleep(secs(15));
        drop(loops);
        audience.check(&bench, "F48", secs(2));
    });
}

/// As when a virtual machine is moved: every timer is late, and nobody else is to blame.
#[test]
fn f48_a_process_that_stood_still() {
    rounds(|| {
        let bench = Bench::start_alone(&[], "");
        let audience = Audience::start(&bench, "f48");
        lock(&bench.arcly).process().signal("STOP");
        thread::sleep(secs(12));
        lock(&bench.arcly).process().signal("CONT");
        // What is older than a reader may be late is left out.
        audience.goes_on(&bench, "F48", secs(2));
    });
}

/// A control group of its own for memory, under either version of control groups; gone with it.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("arcly-test-{}", std::process::id());
        let kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        kinds.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// Has a program run inside.
    fn hold(&self, command: &mut Command) {
        let args: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let environment: Vec<_> =
            command.get_envs().map(|(k, v)| (k.to_owned(), v.map(Into::into))).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        shell.arg(command.get_program()).args(args);
        for (name, value) in environment {
            let value: Option<std::ffi::OsString> = value;
            shell.env(name, value.unwrap_or_default());
        }
        *command = shell;
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The last process has just gone.
        eventually(secs(2), || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn f46_256_mebibytes_of_memory() {
    let Some(limit) = MemoryLimit::new(256 * MIB) else {
        skip!("no control group for memory may be made here")
    };
    rounds(|| {
        // R09 from eight publishers, and F31 beside it. More than that has no place: each limit is one of the catalogue.
        let bench = Arc::new(Bench::start_with(&[], "", |command| limit.hold(command)));
        let row = Row::on(&bench, "F46");
        let (mut publisher, mut feed) = wide(&row, "f46", 20_000);
        let deaf = |_| Peer::open_from(bench.rtmp, "127.0.0.1", Some(4_096)).playing("f46");
        let deaf: Vec<Peer> = (0..100).map(deaf).collect();
        let hostile: Vec<_> = (0..8)
            .map(|n| {
                let mut peer = Peer::open_from(bench.rtmp, "127.0.0.2", None).publishing(&format!("f46-{n}"));
                thread::spawn(move || one_byte_chunks(&mut peer))
            })
            .collect();
        let since = Instant::now();
        while since.elapsed() < secs(6) {
            let tag = feed.frame();
            let due = since + Duration::from_millis(tag.timestamp.into());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            publisher.tag(&tag);
        }
        hostile.into_iter().for_each(|peer| peer.join().unwrap());
        drop((publisher, deaf));
        bench.check_alive("F46");
        let answer = get(bench.http, "/healthz");
        assert_eq!(answer.status, 200, "{}", answer.body);
    });
}

/// R09: a message of 1 MiB in chunks of one byte.
fn one_byte_chunks(peer: &mut Peer) {
    peer.control(ControlMessage::SetChunkSize(1));
    let header =
        MessageHeader { csid: ChunkStreamId::VIDEO, timestamp: 0, kind: MessageType::Video, stream_id: 1 };
    let mut out = BytesMut::new();
    let body = [&[0x27, 1, 0, 0, 0][..], &vec![0; MIB as usize]].concat();
    encode_message(&mut out, &header, &[&body], 1);
    peer.send(&out);
    peer.wait_end(secs(1));
}

/// Moves the wall clock of a process, and no other clock, by as many seconds as a file holds in eight bytes.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t *moved;
__attribute__((constructor)) static void map(void) {
    int file = open(getenv("ARCLY_TEST_CLOCK"), O_RDONLY);
    void *at = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort();
    moved = at;
    close(file);
}
int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    if (result == 0 && moved && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) time->tv_sec += *moved;
    return result;
}
"#;

/// The library that moves the clock, if there is a C compiler.
fn moved_clock(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    cc.status().is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn f27_the_wall_clock_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = moved_clock(folder.path()) else { skip!("needs a C compiler") };
    let file = folder.path().join("moved");
    // In place: who has the file mapped must not find it empty.
    std::fs::write(&file, [0; 8]).unwrap();
    let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    let move_by = |hours: i64| open.write_all_at(&(hours * 3_600).to_ne_bytes(), 0).unwrap();
    move_by(-2_000_000);
    let mut date = Command::new("date");
    let date = run(date.arg("+%Y").env("LD_PRELOAD", &library).env("ARCLY_TEST_CLOCK", &file), secs(5));
    let year: i32 = String::from_utf8_lossy(&date.stdout).trim().parse().unwrap();
    assert!(year < 1900, "the library moves nothing: {year}");
    rounds(|| {
        move_by(0);
        let bench = Bench::start_with(&[], "hls.always = true\n", |command| {
            command.env("LD_PRELOAD", &library).env("ARCLY_TEST_CLOCK", &file);
        });
        let audience = Audience::start(&bench, "f27");
        let dates = || {
            let playlist = get(bench.http, "/live/f27/index.m3u8").body;
            let media = playlist.lines().find(|line| line.ends_with(".m3u8") && !line.starts_with('#'));
            let media =
                media.map_or(playlist.clone(), |name| get(bench.http, &format!("/live/f27/{name}")).body);
            (media.matches("#EXT-X-DISCONTINUITY\n").count(), media)
        };
        assert!(eventually(secs(10), || dates().1.contains("#EXT-X-PROGRAM-DATE-TIME")), "{}", dates().1);
        for hours in [-1, 24] {
            let (cpu, lines) = (bench.usage().cpu, bench.log().lines().count());
            move_by(hours);
            thread::sleep(secs(4));
            let spent = bench.usage().cpu - cpu;
            assert!(spent < secs(2), "{hours} h: {spent:?} of CPU time in 4 s: a storm of timers");
            assert!(bench.log().lines().count() < lines + 20, "{}", bench.log());
            assert_eq!(dates().0, 0, "dates are counted on from the beginning: {}", dates().1);
        }
        audience.check(&bench, "F27", secs(1));
    });
}
