//! Disks that are full, gone or read-only while the witness is recorded, which notices nothing of it.
//!
//! The disk is a file system of 4 MiB in memory, mounted in a namespace that the server alone is in. That takes Linux, `unshare`,
//! and permission to make one; without, the tests are skipped. The disk that stands still (F41) is a file system in a file,
//! frozen by the kernel, which takes the superuser; what becomes of 32 MiB that wait for one is in `arcly-mux`, and what a
//! process that is killed leaves in `server/recordings.rs` (F42).

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
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
/// The same on a file system in a file, as only a block device can be frozen.
const EXT4: &str =
    "truncate -s 32M \"$2\" && mkfs.ext4 -q \"$2\" && mount -o loop \"$2\" \"$1\" && shift 2 && exec \"$@\"";
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
        Self::on(namespace(), SCRIPT, &(SIZE - room).to_string(), record)
    }

    /// What `script` mounts in a namespace, given the folder and that argument.
    fn on(mut inside: Command, script: &str, argument: &str, record: &str) -> Self {
        let mounted_at = tempfile::tempdir().unwrap();
        let folder = mounted_at.path().to_owned();
        let config = format!(
            "[record]\nstreams = ['{}']\npart = '500ms'\ndir = '{}'\n{record}",
            support::witness::STREAM,
            folder.display()
        );
        let bench = Bench::start_with(&[], &config, |command| {
            inside.args(["sh", "-c", script, "sh"]).arg(folder).arg(argument);
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

    /// Lets the disk stand still for ten seconds, whatever becomes of the test.
    fn freeze(&self) -> Child {
        let pid = lock(&self.bench.arcly).pid().to_string();
        let script = "fsfreeze -f \"$1\" && sleep 10; fsfreeze -u \"$1\"";
        let mut freeze = Command::new("nsenter");
        freeze
            .args(["--target", &pid, "--mount", "--", "sh", "-c", script, "sh"])
            .arg(self.mounted_at.path());
        freeze.spawn().unwrap()
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

/// The same for the superuser, who may use block devices in it.
fn alone() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--"]);
    command
}

fn may_freeze() -> bool {
    let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut frozen = alone();
    frozen.args(["sh", "-c", EXT4, "sh"]).arg(folder.path()).arg(image.path().join("disk"));
    frozen.args(["sh", "-c", "fsfreeze -f \"$0\" && fsfreeze -u \"$0\""]).arg(folder.path());
    frozen.output().is_ok_and(|output| output.status.success())
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
    full("mp4");
}

#[test]
fn f40_the_disk_is_full_of_mpeg_ts() {
    full("ts");
}

#[test]
fn f40_the_disk_is_full_of_flv() {
    full("flv");
}

fn full(format: &str) {
    let ffprobe = need!(ffprobe);
    if !may_mount() {
        skip!("no file system may be mounted in a namespace here");
    }
    rounds(|| {
        let room = 64 << 10;
        let disk = Disk::start(room, &format!("format = '{format}'\n"));
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

/// F41: the disk stands still for ten seconds, and with it whoever writes to it. What comes meanwhile waits in memory and is
/// written afterwards.
#[test]
fn f41_the_disk_stands_still() {
    let ffprobe = need!(ffprobe);
    if !may_freeze() {
        skip!("no file system may be made and frozen here");
    }
    rounds(|| {
        let image = tempfile::tempdir().unwrap();
        let argument = image.path().join("disk").display().to_string();
        let disk = Disk::on(alone(), EXT4, &argument, "format = 'flv'\n");
        let size = || {
            let unfinished = disk.files().into_iter().find(|name| name.ends_with(".part"));
            let path = disk.path(&format!("{}/{}", support::witness::STREAM, unfinished.unwrap_or_default()));
            std::fs::metadata(path).map_or(0, |data| data.len())
        };
        assert!(eventually(secs(20), || size() > 0), "{}", disk.bench.log());
        let mut frozen = disk.freeze();
        thread::sleep(secs(3));
        let stands_at = size();
        thread::sleep(secs(5));
        assert_eq!(size(), stands_at, "it does not stand still");
        disk.check("F41, standing still");
        assert!(frozen.wait().unwrap().success());
        assert!(eventually(secs(10), || size() > stands_at + 10_000), "it does not go on");
        disk.api(&format!("DELETE {RECORDINGS}/live/witness"), "");
        disk.wait(&["recorded", "live/witness"], 1, secs(5));
        let [(name, _, length)] = listed(&disk.bench).try_into().expect("one file");
        // Without a gap, which `seconds` asserts.
        let plays = seconds(&ffprobe, &disk.path(&name));
        assert!(plays >= 10.0 && plays >= length - PART, "{plays} s of {length}");
        assert!(disk.lines(&["recording failed"]).is_empty(), "{}", disk.bench.log());
        disk.check("F41");
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
