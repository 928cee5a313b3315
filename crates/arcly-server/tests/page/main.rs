//! The pages in a real browser: the list shows the test stream, the player plays it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arcly_testkit::need;
use arcly_testkit::process::{Arcly, run_ok};
use serde_json::Value;

/// For Chromium to start on a busy machine, and to play for a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Seconds for which streams are watched.
const WATCHED: u32 = 20;

#[test]
fn the_player_plays_the_test_stream_in_chromium() {
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
fn hls_js_plays_low_latency_hls_without_a_stall() {
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let arcly = Arcly::start(command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0"]));
    let server = format!("http://{}", arcly.addr("http"));
    let report = watch(&server, "hls", (&modules, &modules), &chromium);
    assert_eq!(report["shown"], "hls", "{report:#}");
    assert_watched("hls.js", &report);
}

#[test]
fn dash_js_and_shaka_player_play_low_latency_dash_without_a_stall() {
    let (chromium, modules, players) = (need!(chromium), need!(node_modules), need!(dash_players));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let arcly = Arcly::start(command.args(["demo", "--rtmp", "off", "--http", "127.0.0.1:0"]));
    let server = format!("http://{}", arcly.addr("http"));
    for player in ["dashjs", "shaka-dash"] {
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
    let seconds = f64::from(WATCHED);
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

/// Plays the test stream with a player for [`WATCHED`] seconds.
fn watch(server: &str, player: &str, (modules, players): (&Path, &Path), chromium: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/hls.mjs");
    let mut node = Command::new("node");
    node.arg(script).args([server, "live/demo", player, &WATCHED.to_string()]);
    node.arg(modules).arg(chromium).arg(players);
    let stdout = run_ok(&mut node, PATIENCE);
    serde_json::from_str(stdout.trim()).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn play(server: &str, modules: &Path, chromium: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/play.mjs");
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("player.png");
    let mut node = Command::new("node");
    node.arg(script).arg(server).arg(modules).arg(chromium).arg(&screenshot);
    let stdout = run_ok(&mut node, PATIENCE);
    serde_json::from_str(stdout.trim()).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}
