//! `bench`: runs the benchmarks and scenarios of `benches/` and prints what they measured as one table of ratios.
//!
//! Each appends one JSON object per line to `target/arcly-bench/NAME.json`:
//!
//! ```json
//! {"case": "1000 cursors", "value": 61.2, "unit": "ns/delivery", "floor": 790.0, "floor_name": "tokio broadcast", "target": 80.0}
//! ```
//!
//! | field | |
//! |---|---|
//! | `floor`, `floor_name` | what it is held beside, measured in the same run |
//! | `ratio` | the value in floors, where that is the median of rounds and not the quotient |
//! | `target`, `target_ratio` | bounds on the value and on the ratio |
//! | `tolerance` | counts: by how much of itself the value may grow against an earlier one; more fails |
//! | `more_is_better` | else less is |
//!
//! With `--quick`, benchmarks see `ARCLY_BENCH_QUICK=1`. Scenarios find the server in `ARCLY_BENCH_SERVER`.

mod instructions;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Result, cargo, flag, option, root, run};
use crate::tools;
use table::Row;

/// Where `--save committed` puts counts, and `--against committed` finds them.
const COMMITTED: &str = "committed";

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let rest = args.iter().position(|arg| arg == "--").map(|at| args.split_off(at)).unwrap_or_default();
    let quick = flag(&mut args, "--quick");
    let json = flag(&mut args, "--json");
    let save = option(&mut args, "--save")?;
    let against = option(&mut args, "--against")?;
    let name = if args.is_empty() { None } else { Some(args.remove(0)) };
    crate::run::no_more(&args)?;

    let dir = root().join("target/arcly-bench");
    let before = against.map(|name| read(&saved(&dir, &name)).map(|rows| (name, rows))).transpose()?;
    clear(&dir)?;
    let bench = Bench { dir: &dir, quick, rest: rest.get(1..).unwrap_or_default() };
    bench.run(name.as_deref())?;

    let rows = read(&dir)?;
    if let Some(name) = save {
        copy(&dir, &saved(&dir, &name))?;
    }
    if json {
        rows.iter().for_each(|row| println!("{}", row.json));
    } else {
        print!(
            "{}",
            table::table(&rows, before.as_ref().map(|(name, rows)| (name.as_str(), rows.as_slice())))
        );
    }
    match before.map(|(_, before)| table::grown(&rows, &before)).unwrap_or_default().as_slice() {
        [] => Ok(()),
        grown => Err(format!("more than before, by more than is tolerated:\n{}", grown.join("\n"))),
    }
}

struct Bench<'a> {
    dir: &'a Path,
    quick: bool,
    /// Arguments for a scenario.
    rest: &'a [String],
}

impl Bench<'_> {
    fn run(&self, name: Option<&str>) -> Result {
        match name {
            None => {
                self.subjects(&["--benches"])?;
                self.instructions()?;
                self.scenarios(&scenarios())
            }
            Some("subjects") => self.subjects(&["--benches"]),
            Some("instructions") => self.instructions(),
            Some("scenarios") => self.scenarios(&scenarios()),
            Some(name) if is_in("benches", name) => self.subjects(&["--bench", name]),
            Some(name) if is_in("scenarios", name) => self.scenarios(&[name.to_owned()]),
            Some(case) => self.subjects(&["--benches", "--", case]),
        }
    }

    fn subjects(&self, which: &[&str]) -> Result {
        let mut command = cargo(&["bench", "--package", "arcly-benches"]);
        self.run_with(command.args(which))
    }

    fn instructions(&self) -> Result {
        instructions::count(&self.dir.join("instructions.json"))
    }

    fn scenarios(&self, names: &[String]) -> Result {
        let server = server()?;
        let mut failed = Vec::new();
        for name in names {
            let mut command = cargo(&[
                "run",
                "--quiet",
                "--profile",
                "bench",
                "--package",
                "arcly-benches",
                "--bin",
                name,
                "--",
            ]);
            command.args(self.rest).env("ARCLY_BENCH_SERVER", &server).envs(tools::environment());
            // One that a busy machine lets down does not take with it what the others have measured.
            failed.extend(self.run_with(&mut command).err());
        }
        failed.iter().for_each(|error| eprintln!("{error}"));
        if failed.len() == names.len() { Err("no scenario has come to its end".into()) } else { Ok(()) }
    }

    fn run_with(&self, command: &mut std::process::Command) -> Result {
        if self.quick {
            command.env("ARCLY_BENCH_QUICK", "1");
        }
        run(command.env("ARCLY_BENCH_DIR", self.dir))
    }
}

/// The server that scenarios measure: what `ARCLY_BENCH_SERVER` says, or a release build of what is here.
fn server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ARCLY_BENCH_SERVER") {
        return Ok(path.into());
    }
    run(&mut cargo(&["build", "--release", "--package", "arcly-server", "--bin", "arcly"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/arcly"))
}

/// Every scenario, in the order of the alphabet.
fn scenarios() -> Vec<String> {
    let files = fs::read_dir(root().join("benches/scenarios")).into_iter().flatten().flatten();
    let name = |file: fs::DirEntry| Some(file.path().file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    names
}

fn is_in(folder: &str, name: &str) -> bool {
    root().join("benches").join(folder).join(format!("{name}.rs")).is_file()
}

fn saved(dir: &Path, name: &str) -> PathBuf {
    if name == COMMITTED { root().join("benches").join(COMMITTED) } else { dir.join("saved").join(name) }
}

fn results(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    paths
}

fn read(dir: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in results(dir) {
        let subject = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            rows.push(Row::parse(&subject, line)?);
        }
    }
    if rows.is_empty() { Err(format!("no results in {}", dir.display())) } else { Ok(rows) }
}

fn clear(dir: &Path) -> Result {
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    results(dir)
        .iter()
        .try_for_each(|path| fs::remove_file(path).map_err(|e| format!("{}: {e}", path.display())))
}

/// Copies the results that there are over those that were kept before.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to).map_err(|e| format!("{}: {e}", to.display()))?;
    let into = |path: PathBuf| {
        let target = to.join(path.file_name().unwrap_or_default());
        fs::copy(&path, target).map(drop).map_err(|e| format!("{}: {e}", path.display()))
    };
    results(from).into_iter().try_for_each(into)
}
