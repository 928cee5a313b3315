//! Disks that are full, gone or read-only while the witness is recorded, which notices nothing of it.
//!
//! The disk is a file system of 4 MiB in memory, mounted in a namespace that the server alone is in. That takes Linux, `unshare`,
//! and permission to make one; without, the tests are skipped. What stands still is in `arcly-mux` (F41), and what a process
//! that is killed leaves in `server/recordings.rs` (F42).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use arcly_testkit::{ffprobe, need, skip};
use tempfile::TempDir;

use super::support::bench::{Bench, lock};
use super::support::eventually;
use super::support::http::{Http, get};
use super::*;

const SIZE: u64 = 4 * MIB;
const RECORDINGS: &str = "/api/v1/recordings";
/// Mounts the disk, puts something on it, and becomes the server.
const SCRIPT: &str = "mount -t tmpfs -o size=4m arcly \"$1\" && head -c \"$2\" /dev/zero > \"$1/ballast\" && shift 2 && exec \"$@\"";
/// What a part is, in the configuration below.
const PART: f64 = 0.5;

/// A server whose recordings are on a disk of their own.
struct Disk {
    bench: Bench,
    mounted_at: TempDir,
}

impl Disk {
    /// A disk with this much room. The witness is recorded on it.
    fn start(room: u64, record: &str) -> Self {
        let mounted_at = tempfile::tempdir().unwrap();
        let folder = mounted_at.path().to_owned();
        let config = format!(
            "[record]\nstreams = ['{}']\npart = '500ms'\ndir = '{}'\n{record}",
            support::witness::STREAM,
            folder.display()
        );
        let bench = Bench::start_with(&[], &config, |command| {
            let mut inside = namespace();
            inside.args(["sh", "-c", SCRIPT, "sh"]).arg(folder).arg((SIZE - room).to_string());
            inside.arg(command.get_program()).args(command.get_args()).env("MIMALLOC_ALLOW_THP", "0");
            *command = inside;
        });
        Self { bench: bench.with_witness(), mounted_at }
    }

    /// A path on the disk, as it is seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        let pid = lock(&self.bench.arcly).pid();
        let folder = self.mounted_at.path().strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{pid}/root")).join(folder).join(name)
    }

    /// The files of the witness, whole and unfinished.
    fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.path(support::witness::STREAM)).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The lines of the log that contain all of `words`.
    fn lines(&self, words: &[&str]) -> Vec<String> {
        let log = self.bench.log();
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    /// Waits until the log has said that so often.
    #[track_caller]
    fn wait(&self, words: &[&str], count: usize, limit: Duration) {
        let starved = self.bench.starved();
        let said = eventually(limit, || self.lines(words).len() >= count)
            || eventually(starved.elapsed(), || self.lines(words).len() >= count);
        assert!(said, "not {count} times {words:?} within {limit:?}:\n{}", self.bench.log());
    }

    /// Begins or ends the recording over the API.
    #[track_caller]
    fn api(&self, request: &str, body: &str) {
        let fields =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut http = Http::open(self.bench.http);
        let head = format!("{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{fields}");
        let answer = http.send(head.as_bytes()).answer().expect("an answer");
        assert!(matches!(answer.status, 201 | 204), "{request}: {} {}", answer.status, answer.body);
    }

    /// Runs a program on the server's process.
    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let pid = lock(&self.bench.arcly).pid().to_string();
        let arguments = arguments.iter().map(|argument| argument.replace("PID", &pid));
        Command::new(program).args(arguments).output().unwrap().status.success()
    }

    /// The witness has lost nothing, and the server is there.
    #[track_caller]
    fn check(&self, id: &str) {
        self.bench.check_witness(id);
        self.bench.check_alive(id);
    }
}

/// A program in a namespace of its own, where it may mount.
fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--"]);
    command
}

fn may_mount() -> bool {
    let mount = namespace().args(["mount", "-t", "tmpfs", "-o", "size=4m", "arcly", "/tmp"]).output();
    mount.is_ok_and(|output| output.status.success())
}

/// What is listed: name, bytes, seconds.
fn listed(bench: &Bench) -> Vec<(String, u64, f64)> {
    let answer: serde_json::Value = serde_json::from_str(&get(bench.http, RECORDINGS).body).unwrap();
    let one = |item: &serde_json::Value| {
        let seconds = item["duration_seconds"].as_f64().unwrap();
        (item["name"].as_str().unwrap().to_owned(), item["bytes"].as_u64().unwrap(), seconds)
    };
    answer["items"].as_array().unwrap().iter().map(one).collect()
}

/// How many seconds of pictures whoever knows nothing of arcly finds in a file.
fn seconds(ffprobe: &Path, file: &Path) -> f64 {
    let packets = ffprobe::packets(ffprobe, &file.to_string_lossy());
    let times: Vec<_> =
        ffprobe::of_kind(&packets, "video").iter().filter_map(|packet| packet.dts_us).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 40_000), "a gap: {times:?}");
    times.len() as f64 / 25.0
}

/// F40: recording stops with an event; what was written plays; it goes on in another file once there is room.
#[test]
fn f40_the_disk_is_full() {
    let ffprobe = need!(ffprobe);
    if !may_mount() {
        skip!("no file system may be mounted in a namespace here");
    }
    rounds(|| {
        let room = 64 << 10;
        let disk = Disk::start(room, "");
        disk.wait(&["recording failed", "reason=io", "no space left"], 1, secs(30));
        disk.wait(&["recorded", "live/witness"], 1, secs(2));
        let [(name, bytes, length)] = listed(&disk.bench).try_into().expect("one file");
        let part = bytes as f64 / length * PART;
        // The index may have its page, and a page of the last part is not to be had either.
        assert!(bytes as f64 + part + 12_288.0 >= room as f64, "{bytes} of {room}, {part} in a part");
        // A few more attempts.
        thread::sleep(secs(4));
        assert_eq!(disk.files().len(), 1, "{:?}", disk.files());
        assert_eq!(disk.lines(&["recording failed"]).len(), 1, "{}", disk.bench.log());
        disk.check("F40, full");

        std::fs::remove_file(disk.path("ballast")).unwrap();
        disk.wait(&["recording stream=live/witness"], 2, secs(5));
        thread::sleep(secs(2));
        disk.api(&format!("DELETE {RECORDINGS}/live/witness"), "");
        disk.wait(&["recorded", "live/witness"], 2, secs(2));
        let all = listed(&disk.bench);
        assert_eq!((all.len(), &all[0].0), (2, &name));
        for (name, bytes, length) in &all {
            let path = disk.path(name);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), *bytes);
            let plays = seconds(&ffprobe, &path);
            assert!(plays >= length - PART, "{name}: {plays} s play, {length} s were written");
        }
        assert_eq!(disk.bench.metrics().labelled("arcly_recording_failures_total", "reason=\"io\""), 1.0);
        disk.check("F40, room again");
    });
}

/// F43: the folder is removed, the disk is read-only, no file can be opened: told, and tried again until it works.
#[test]
fn f43_files_cannot_be_begun_or_are_removed() {
    if !may_mount() {
        skip!("no file system may be mounted in a namespace here");
    }
    rounds(|| {
        let disk = Disk::start(3 * MIB, "segment = '2s'\n");
        let failed = |why: &str, count| {
            disk.wait(&["recording failed", "reason=io", why], count, secs(10));
        };
        let begun = || disk.lines(&["recording stream=live/witness"]).len();
        let goes_on = |id: &str, before: usize| {
            disk.wait(&["recording stream=live/witness"], before + 1, secs(5));
            disk.check(id);
        };
        disk.wait(&["recording stream=live/witness"], 1, secs(10));

        let before = begun();
        std::fs::remove_dir_all(disk.path("live")).unwrap();
        failed("removed", 1);
        goes_on("F43, folder removed", before);

        disk.api(&format!("DELETE {RECORDINGS}/live/witness"), "");
        let mount = |how: &str| {
            let folder = disk.mounted_at.path().to_string_lossy();
            let arguments = ["--target", "PID", "--user", "--mount", "--", "mount", "-o", how, &folder];
            // Somebody may be writing the index, or the end of the file.
            assert!(eventually(secs(5), || disk.run("nsenter", &arguments)), "mount -o {how}");
        };
        mount("remount,ro");
        disk.api(&format!("POST {RECORDINGS}"), "{\"path\":\"live/witness\"}");
        failed("ead-only", 1);
        disk.check("F43, read-only");
        let before = begun();
        mount("remount,rw");
        goes_on("F43, writable again", before);

        // None is free below the limit.
        assert!(disk.run("prlimit", &["--pid", "PID", "--nofile=3:"]));
        failed("oo many open files", 1);
        disk.check("F43, no file descriptors");
        let before = begun();
        assert!(disk.run("prlimit", &["--pid", "PID", "--nofile=1024:"]));
        goes_on("F43, file descriptors again", before);
    });
}
