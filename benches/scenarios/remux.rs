//! Files from one container into another, beside `ffmpeg -c copy`.
//!
//! **Question.** What CPU time does `arcly relay` need to rewrite a file, against FFmpeg in the same run?
//!
//! **Hypothesis.** Both read and write the file once. We take frames apart without copying them (MP4, FLV) or with two copies
//! (MPEG-TS), and make each container with one; the rest is the kernel's, and the same for both.
//!
//! **Decision rule.** User and system time of the process are at most those of FFmpeg: a ratio of 1 or less in each case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arcly_benches::load::arcly;
use arcly_benches::load::scenario::{self, Options};
use arcly_benches::{Goal, median};

/// Where the files are made, once.
const FOLDER: &str = "target/remux";
/// Times that six seconds of 8 Mbit/s follow each other: 235 MB.
const REPEATS: &str = "35";
/// Ticks of `/proc` in a second.
const TICKS: f64 = 100.0;

fn main() {
    scenario::main("remux", |options| {
        if Command::new("ffmpeg").arg("-version").output().is_err() {
            eprintln!("remux: left out, ffmpeg is not installed");
            return;
        }
        for (from, to) in [("mp4", "ts"), ("ts", "mp4"), ("flv", "mp4"), ("mp4", "flv")] {
            let case = format!("{from} to {to}");
            if options.wants(&case) {
                compare(options, &case, &file(from), to);
            }
        }
    });
}

/// Both in turns, as often as there are rounds.
fn compare(options: &Options, case: &str, from: &Path, to: &str) {
    let out = Path::new(FOLDER).join(format!("out.{to}"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        theirs.push(spent(ffmpeg(&["-i"]).arg(from).args(["-c", "copy"]).arg(&out)));
        ours.push(spent(Command::new(arcly()).arg("relay").arg(from).arg(&out)));
    }
    let _ = fs::remove_file(&out);
    let (ours, theirs) = (median(ours).unwrap_or_default(), median(theirs).unwrap_or_default());
    let goal = Goal { ratio: Some(ours / theirs), target_ratio: Some(1.0), ..Goal::NONE };
    options.report(case, ours, "s of CPU", goal.over(Some(theirs), "ffmpeg -c copy"));
}

fn ffmpeg(args: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(args);
    command
}

/// User and system time of a program, in seconds, to a hundredth.
fn spent(command: &mut Command) -> f64 {
    let before = children();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
    assert!(status.success(), "{command:?}");
    children() - before
}

/// What all children that have ended have used: `cutime` and `cstime` of proc(5).
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

/// A file of 235 MB in that container, made when it is not there.
fn file(container: &str) -> PathBuf {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).expect("target is writable");
    let (part, path) = (folder.join("part.mp4"), folder.join(format!("source.{container}")));
    if !part.exists() {
        let picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i", "sine"];
        let encode = "-t 6 -c:v libx264 -preset ultrafast -g 60 -bf 2 -b:v 8M -minrate 8M -maxrate 8M \
                      -bufsize 8M -nal-hrd cbr -c:a aac -b:a 128k";
        make(ffmpeg(&picture).args(encode.split_whitespace()), &part);
    }
    if !path.exists() {
        make(ffmpeg(&["-stream_loop", REPEATS, "-i"]).arg(&part).args(["-c", "copy"]), &path);
    }
    path
}

/// Under another name until it is whole.
fn make(command: &mut Command, path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!("unfinished-{name}"));
    assert!(command.arg(&unfinished).status().expect("ffmpeg runs").success(), "{command:?}");
    fs::rename(&unfinished, path).expect("target is writable");
}
