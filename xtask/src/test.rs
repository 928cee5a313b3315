//! `test`: everything that the README promises, in one command.
//!
//! `cargo test` over the whole workspace covers unit, documentation, property and simulation tests, the
//! replay of fuzz seeds and crashers, and the interop tests; this task gives the last their programs, and
//! adds up what passed, failed and was skipped.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::Stdio;

use crate::run::{Result, cargo, flag, no_more, option, root};
use crate::tools;

/// The file in which tests write what they skipped; `arcly_testkit::tools` knows it too.
const SKIP_LOG: &str = "ARCLY_SKIP_LOG";

/// How often each fault is run; the faults' tests know it too.
const FAULT_ROUNDS: &str = "ARCLY_FAULT_ROUNDS";

/// For how many seconds players are watched, and for how many with `--soak`; the tests of the page know the variable too.
const WATCH_SECONDS: &str = "ARCLY_WATCH_SECONDS";
const SOAK_SECONDS: &str = "120";

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let pass_on = args.iter().position(|arg| arg == "--").map(|at| args.split_off(at)).unwrap_or_default();
    let install = flag(&mut args, "--install");
    let ci = flag(&mut args, "--ci") || std::env::var("CI").is_ok_and(|ci| ci == "true");
    let soak = flag(&mut args, "--soak");
    let rounds = option(&mut args, "--rounds")?;
    no_more(&args)?;
    if install {
        tools::install()?;
    }
    let mut env = Vec::new();
    env.extend(rounds.as_deref().map(|rounds| (FAULT_ROUNDS, rounds)));
    env.extend(soak.then_some((WATCH_SECONDS, SOAK_SECONDS)));
    run_tests(ci, &env, pass_on.get(1..).unwrap_or_default())
}

/// What `cargo test` said, added up over all test programs.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Sum {
    /// Adds a line of the form `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn run_tests(ci: bool, env: &[(&str, &str)], pass_on: &[String]) -> Result {
    let found = tools::find();
    let skip_log = root().join("target/skipped-tests.txt");
    remove(&skip_log)?;

    let mut command = cargo(&["test", "--no-fail-fast"]);
    if !pass_on.iter().any(|arg| arg == "-p" || arg == "--package") {
        command.arg("--workspace");
    }
    command.args(pass_on).envs(found.env).env(SKIP_LOG, &skip_log);
    if ci {
        command.env("CI", "true");
    }
    command.envs(env.iter().copied());
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cargo test: {e}"))?;
    let mut sum = Sum::default();
    for line in BufReader::new(child.stdout.take().ok_or("cargo test has no output")?).lines() {
        let line = line.map_err(|e| format!("cargo test: {e}"))?;
        println!("{line}");
        sum.add(&line);
    }
    let status = child.wait().map_err(|e| format!("cargo test: {e}"))?;

    let skipped = report_skipped(&skip_log, &found.missing)?;
    // A test that skips itself returns, and the harness counts it as passed.
    let passed = sum.passed.saturating_sub(skipped);
    let skipped = skipped + sum.ignored;
    println!("\n{passed} passed, {} failed, {skipped} skipped", sum.failed);
    if !status.success() {
        return Err("cargo test failed".to_owned());
    }
    if ci && !found.missing.is_empty() {
        return Err(format!("under CI every program has to be there; missing: {}", found.missing.join(", ")));
    }
    if ci && skipped > 0 {
        return Err("under CI a skipped test is a failure".to_owned());
    }
    Ok(())
}

/// Prints which tests skipped themselves and why; returns how many.
fn report_skipped(log: &Path, missing: &[&str]) -> Result<usize> {
    let text = match fs::read_to_string(log) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", log.display())),
    };
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup_by_key(|line| line.split_once('\t').map_or(*line, |(test, _)| test));
    if !lines.is_empty() {
        println!("\nskipped:");
    }
    for line in &lines {
        println!("  {}", line.replace('\t', ": "));
    }
    if !missing.is_empty() {
        println!("\nnot found: {}. `cargo xtask test --install` installs them.", missing.join(", "));
    }
    Ok(lines.len())
}

fn remove(path: &Path) -> Result {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up() {
        let mut sum = Sum::default();
        sum.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        sum.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        sum.add("test tests::x ... ok");
        assert_eq!(sum, Sum { passed: 13, failed: 2, ignored: 1 });
    }
}
