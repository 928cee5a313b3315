//! The pages in a real browser: the list shows the test stream, the player plays it, by whatever protocol; and the page that
//! publishes does.

mod data;
mod webrtc;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcly_testkit::process::{Arcly, Guard, run_ok};
use arcly_testkit::{http, need};
use serde_json::Value;

/// For Chromium to start on a busy machine, and to play for a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Seconds for which streams are watched, unless `ARCLY_WATCH_SECONDS` says otherwise, as `cargo xtask test --soak` does.
const WATCHED: u32 = 20;

/// One browser at a time: two of them on two cores make each other stall, which says nothing about the server.
fn alone() -> MutexGuard<'static, ()> {
    static BROWSER: Mutex<()> = Mutex::new(());
    BROWSER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_player_plays_the_test_stream_in_chromium() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let arcly = Arcly::start(command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0"]));
    let report = play(&format!("http://{}", arcly.addr("http")), &modules, &chromium);
    let number =
        |sample: &str, name: &str| report[sample][name].as_f64().unwrap_or_else(|| panic!("{report:#}"));

    assert_eq!(report["errors"], Value::Array(vec![]), "{report:#}");
    assert_eq!(report["foreign"], Value::Array(vec![]), "pages ask nobody else");
    assert!(report["listed"][0].as_str().is_some_and(|item| item.contains("live/demo")), "{report:#}");
    let grown = number("second", "frames") - number("first", "frames");
    assert!(grown > 30.0, "{grown} pictures in 2.5 s: {report:#}");
    assert!(number("second", "audio") > number("first", "audio"), "sound is decoded: {report:#}");
    assert!(number("second", "time") > number("first", "time") + 1.0, "{report:#}");
    assert_eq!(number("second", "width"), 640.0);
    assert_eq!(report["second"]["state"], "live");
    assert_eq!(report["scrolls"], false, "a phone does not scroll sideways");
    assert!(report["unknown"].as_str().is_some_and(|text| text.contains("live/none")), "{report:#}");
}

#[test]
fn recordings_are_listed_and_play_in_chromium() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("arcly.toml");
    std::fs::write(&config, "[record]\nstreams = [\"live/*\"]\nsegment = \"4s\"\npart = \"500ms\"\n")
        .expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0", "-c"]).arg(&config);
    let arcly = Arcly::start(command.arg("--data-dir").arg(folder.path()));
    let http = arcly.addr("http");
    // One that is complete, so that its length is known.
    until(&arcly, "/live/demo/recordings", "\"name\"", 2);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/recordings.mjs");
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("recordings.png");
    let mut node = Command::new("node");
    node.arg(script).arg(format!("http://{http}")).arg(&modules).arg(&chromium).arg(&screenshot);
    let report = report(&run_ok(&mut node, PATIENCE));
    assert_eq!(report["errors"], Value::Array(vec![]), "{report:#}");
    let oldest = report["listed"].as_array().and_then(|all| all.last()?.as_str()).unwrap_or_default();
    assert!(oldest.contains(" MB") && oldest.contains("MP4"), "{report:#}");
    assert_eq!(report["recorded"]["width"], 640.0, "{report:#}");
    assert_eq!(report["live"]["width"], 640.0, "{report:#}");
    assert_eq!(report["scrolls"], false, "{report:#}");
}

#[test]
fn hls_js_plays_low_latency_hls_without_a_stall() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let arcly = Arcly::start(command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0"]));
    let server = format!("http://{}", arcly.addr("http"));
    let report = watch(&server, "hls", (&modules, &modules), &chromium);
    assert_eq!(report["shown"], "hls", "{report:#}");
    assert_watched("hls.js", &report);
}

#[test]
fn dash_js_and_shaka_player_play_without_a_stall() {
    let _alone = alone();
    let (chromium, modules, players) = (need!(chromium), need!(node_modules), need!(dash_players));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let arcly = Arcly::start(command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0"]));
    let server = format!("http://{}", arcly.addr("http"));
    for player in ["dashjs", "shaka-dash", "shaka"] {
        let report = watch(&server, player, (&modules, &players), &chromium);
        assert_watched(player, &report);
    }
}

/// No errors, no stalls, and pictures and sound all the while.
fn assert_watched(player: &str, report: &Value) {
    assert_eq!(report["errors"], Value::Array(vec![]), "{report:#}");
    assert_eq!(report["stalls"], Value::Array(vec![]), "{report:#}");
    let grown = |name: &str| {
        let of = |sample: &str| report[sample][name].as_f64().unwrap_or_else(|| panic!("{report:#}"));
        of("second") - of("first")
    };
    let seconds = f64::from(watched());
    assert!(grown("time") > seconds * 0.95 && grown("frames") > seconds * 20.0, "{report:#}");
    assert!(grown("audio") > 0.0, "{report:#}");
    let latencies = report["latencies"].as_array().expect("a list");
    let mut settled: Vec<f64> = latencies[latencies.len() / 2..].iter().filter_map(Value::as_f64).collect();
    settled.sort_by(f64::total_cmp);
    // Printed, not asserted: on a busy machine the browser is what is late.
    eprintln!(
        "{player}: {:.2} s behind live, {:.2} s at most",
        settled[settled.len() / 2],
        settled[settled.len() - 1]
    );
}

fn watched() -> u32 {
    std::env::var("ARCLY_WATCH_SECONDS")
        .map_or(WATCHED, |seconds| seconds.parse().expect("a number of seconds"))
}

/// What plays a stream: the player, what it needs, and until when it plays.
fn player(
    server: &str,
    player: &str,
    until: &str,
    (modules, players): (&Path, &Path),
    chromium: &Path,
) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/hls.mjs");
    let mut node = Command::new("node");
    node.arg(script).args([server, "live/demo", player, until]);
    node.arg(modules).arg(chromium).arg(players);
    node
}

/// The last line of what was said.
fn report(said: &str) -> Value {
    let line = said.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Plays the test stream with a player for as long as streams are watched.
fn watch(server: &str, name: &str, modules: (&Path, &Path), chromium: &Path) -> Value {
    let seconds = watched();
    let mut node = player(server, name, &seconds.to_string(), modules, chromium);
    report(&run_ok(&mut node, PATIENCE + Duration::from_secs(seconds.into())))
}

/// A live encoder with pictures of that size.
fn publish(ffmpeg: &Path, server: &Arcly, size: &str) -> Guard {
    publish_with(ffmpeg, server, size, &["-tune", "zerolatency"])
}

/// The same with other options of its encoder.
fn publish_with(ffmpeg: &Path, server: &Arcly, size: &str, options: &[&str]) -> Guard {
    let picture = format!("testsrc2=size={size}:rate=25");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", &picture]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]);
    command.args(options).args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv"]);
    command.arg(format!("rtmp://{}/live/demo", server.addr("rtmp")));
    Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Waits until what is served there has that in it so many times.
fn until(arcly: &Arcly, path: &str, what: &str, times: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = http::get(arcly.addr("http"), path, PATIENCE).expect("an answer");
        if answer.status == 200 && answer.text().matches(what).count() >= times {
            return;
        }
        assert!(Instant::now() < end, "{path}: {}\n{}", answer.text(), arcly.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How long a publisher is away.
const AWAY: Duration = Duration::from_secs(1);

/// A publisher is killed while a player plays, and is back after a second with pictures of another size.
fn goes_on(name: &str, modules: (&Path, &Path), chromium: &Path, ffmpeg: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    command
        .args(["serve", "--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--webrtc", "127.0.0.1:0"])
        .env("ARCLY_HLS__ALWAYS", "true");
    let arcly = Arcly::start(&mut command);
    let mut first = publish(ffmpeg, &arcly, "320x180");
    // shaka-player finds no media type in a playlist with less than this.
    until(&arcly, "/live/demo/video0.m3u8", "#EXTINF", 3);
    let mut node = player(&format!("http://{}", arcly.addr("http")), name, "width=640", modules, chromium);
    let mut node = Guard::spawn(node.stdout(Stdio::piped()));
    let mut said = BufReader::new(node.child().stdout.take().expect("a pipe")).lines();
    let mut line = || said.next().expect("it says something").expect("text");
    assert_eq!(line(), "playing");
    first.kill();
    std::thread::sleep(AWAY);
    until(&arcly, "/api/v1/streams/live/demo", "\"grace\"", 1);
    let _second = publish(ffmpeg, &arcly, "640x360");
    let report = report(&line());
    assert_eq!(report["second"]["width"], 640.0, "{name}: {report:#}\n{}", arcly.log());
    let errors = report["errors"].as_array().expect("a list");
    assert!(errors.is_empty(), "{name}: {report:#}");
    eprintln!("{name}: stalls {}", report["stalls"]);
}

#[test]
fn f01_hls_js_goes_on_when_the_publisher_is_back_with_another_size() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    goes_on("hls", (&modules, &modules), &chromium, &ffmpeg);
}

#[test]
fn f01_a_player_by_whep_goes_on_when_the_publisher_is_back_with_another_size() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    goes_on("whep", (&modules, &modules), &chromium, &ffmpeg);
}

#[test]
fn f01_dash_js_and_shaka_player_go_on_when_the_publisher_is_back_with_another_size() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let players = need!(dash_players);
    for name in ["dashjs", "shaka-dash", "shaka"] {
        goes_on(name, (&modules, &players), &chromium, &ffmpeg);
    }
}

fn play(server: &str, modules: &Path, chromium: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/play.mjs");
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("player.png");
    let mut node = Command::new("node");
    node.arg(script).arg(server).arg(modules).arg(chromium).arg(&screenshot);
    let stdout = run_ok(&mut node, PATIENCE);
    serde_json::from_str(stdout.trim()).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}
