//! `fuzz`: libFuzzer over the functions of `fuzz/`, on the stable toolchain.
//!
//! Without sanitizers, because the code is `forbid(unsafe_code)`: what counts are panics, overflow checks
//! and debug assertions, and those stay on.

use std::fs;
use std::path::PathBuf;

use crate::run::{Result, cargo, no_more, option, root, run};
use crate::tools::on_path;

const DEFAULT_SECONDS: &str = "60";

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let seconds = option(&mut args, "--seconds")?.unwrap_or_else(|| DEFAULT_SECONDS.to_owned());
    let seconds: u32 = seconds.parse().map_err(|_| "--seconds takes a number".to_owned())?;
    let known = targets()?;
    let chosen: Vec<String> = if args.is_empty() { known.clone() } else { std::mem::take(&mut args) };
    if let Some(unknown) = chosen.iter().find(|target| !known.contains(target) || target.starts_with('-')) {
        return Err(format!("no fuzz target is called {unknown}; there are: {}", known.join(", ")));
    }
    no_more(&args)?;
    if on_path("cargo-fuzz").is_none() {
        return Err("cargo-fuzz is not installed; `cargo install cargo-fuzz --locked` does it".to_owned());
    }
    chosen.iter().try_for_each(|target| run_target(target, seconds))
}

/// One program per target stands in `fuzz/libfuzzer/src/bin`.
fn targets() -> Result<Vec<String>> {
    let dir = root().join("fuzz/libfuzzer/src/bin");
    let entries = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn run_target(target: &str, seconds: u32) -> Result {
    let corpus = folder(&format!("target/fuzz-corpus/{target}"))?;
    let seeds = folder(&format!("fuzz/seeds/{target}"))?;
    let crashers = folder(&format!("fuzz/crashers/{target}"))?;
    let mut command = cargo(&["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", "fuzz/libfuzzer"]);
    command.args(["--target-dir", "target/fuzz", target]).arg(corpus).arg(seeds).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", crashers.display()));
    println!("{target}: {seconds} s");
    run(&mut command)
}

fn folder(path: &str) -> Result<PathBuf> {
    let path = root().join(path);
    fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
