//! The pages in a real browser: the list shows the test stream, the player plays it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arcly_testkit::need;
use arcly_testkit::process::{Arcly, run_ok};
use serde_json::Value;

/// For Chromium to start on a busy machine, and to play for a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);

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

fn play(server: &str, modules: &Path, chromium: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/play.mjs");
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("player.png");
    let mut node = Command::new("node");
    node.arg(script).arg(server).arg(modules).arg(chromium).arg(&screenshot);
    let stdout = run_ok(&mut node, PATIENCE);
    serde_json::from_str(stdout.trim()).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}
