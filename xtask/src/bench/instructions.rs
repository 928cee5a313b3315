//! Instructions of the hot paths, counted by callgrind.
//!
//! `benches/src/bin/hot.rs` does one hot path a given number of times. It is run twice, and the difference is what the
//! repetitions cost, without start-up and set-up. The same compiler and the same code give the same count on every x86-64
//! machine, within the noise of addresses that allocators and hash maps see; hence the tolerance.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::run::{Result, cargo, output, root, run};
use crate::tools;

/// By how much a count may grow.
const TOLERANCE: f64 = 0.02;
/// Repetitions of the two runs.
const RUNS: (u64, u64) = (200, 600);

/// Counts every hot path and writes the results to `to`.
pub(super) fn count(to: &Path) -> Result {
    if tools::on_path("valgrind").is_none() {
        eprintln!("instructions: valgrind is not installed; nothing is counted");
        return Ok(());
    }
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--profile",
        "bench",
        "--package",
        "arcly-benches",
        "--bin",
        "hot",
    ]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let hot = target.join("release/hot");
    let mut lines = String::new();
    // NAME, and what one repetition does so many times.
    for line in output(&mut Command::new(&hot))?.lines() {
        let mut words = line.split('\t');
        let (Some(name), Some(unit), Some(per)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let per: u64 = per.parse().map_err(|error| format!("{line}: {error}"))?;
        let spent = instructions(&hot, name, RUNS.1)?.saturating_sub(instructions(&hot, name, RUNS.0)?);
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let each = (spent as f64 / ((RUNS.1 - RUNS.0) * per) as f64 * 10.0).round() / 10.0;
        eprintln!("instructions/{name}: {each} per {unit}");
        let row =
            json!({ "case": name, "value": each, "unit": format!("instr/{unit}"), "tolerance": TOLERANCE });
        lines.push_str(&format!("{row}\n"));
    }
    std::fs::write(to, lines).map_err(|error| format!("{}: {error}", to.display()))
}

fn instructions(hot: &Path, name: &str, repetitions: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(hot);
    let ran = command.args([name, &repetitions.to_string()]).output();
    let ran = ran.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&ran.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("valgrind says nothing about {name}:\n{text}"))
}
