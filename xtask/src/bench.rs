//! `bench`: runs the benchmarks of `benches/` and prints what they measured as one table of ratios.
//!
//! A benchmark appends one JSON object per line to `target/arcly-bench/SUBJECT.json`:
//!
//! ```json
//! {"case": "1000 cursors", "value": 61.2, "unit": "ns/delivery", "floor": 790.0, "floor_name": "tokio broadcast", "target": 80.0}
//! ```
//!
//! `floor` is measured in the same run, and `target` bounds `value`; both may be missing. Smaller is better
//! unless `"more_is_better": true`. With `--quick`, benchmarks see `ARCLY_BENCH_QUICK=1`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Result, cargo, flag, no_more, option, root, run};

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let quick = flag(&mut args, "--quick");
    let json = flag(&mut args, "--json");
    let save = option(&mut args, "--save")?;
    let against = option(&mut args, "--against")?;
    let name = if args.is_empty() { None } else { Some(args.remove(0)) };
    no_more(&args)?;

    let dir = root().join("target/arcly-bench");
    let before = against.map(|name| read(&saved(&dir, &name)).map(|rows| (name, rows))).transpose()?;
    clear(&dir)?;
    let mut command = cargo(&["bench", "--package", "arcly-benches"]);
    match name {
        Some(subject) if is_subject(&subject) => command.args(["--bench", &subject]),
        Some(scenario) => command.args(["--benches", "--", &scenario]),
        None => command.arg("--benches"),
    };
    if quick {
        command.env("ARCLY_BENCH_QUICK", "1");
    }
    run(command.env("ARCLY_BENCH_DIR", &dir))?;

    let rows = read(&dir)?;
    if let Some(name) = save {
        copy(&dir, &saved(&dir, &name))?;
    }
    if json {
        rows.iter().for_each(|row| println!("{}", row.json));
        return Ok(());
    }
    print!("{}", table(&rows, before.as_ref().map(|(name, rows)| (name.as_str(), rows.as_slice()))));
    Ok(())
}

/// One measurement.
struct Row {
    subject: String,
    case: String,
    value: f64,
    unit: String,
    floor: Option<(f64, String)>,
    target: Option<f64>,
    more_is_better: bool,
    json: Value,
}

impl Row {
    fn parse(subject: &str, line: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(line).map_err(|e| format!("{subject}: {e}: {line}"))?;
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let number = |name: &str| json[name].as_f64();
        let missing = |name: &str| format!("{subject}: no {name}: {line}");
        let row = Self {
            subject: subject.to_owned(),
            case: text("case").ok_or_else(|| missing("case"))?,
            value: number("value").ok_or_else(|| missing("value"))?,
            unit: text("unit").ok_or_else(|| missing("unit"))?,
            floor: number("floor").map(|floor| (floor, text("floor_name").unwrap_or_default())),
            target: number("target"),
            more_is_better: json["more_is_better"].as_bool().unwrap_or(false),
            json: Value::Null,
        };
        json["subject"] = subject.into();
        Ok(Self { json, ..row })
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if self.more_is_better == (self.value >= target) || self.value == target => "met",
            Some(_) => "MISSED",
        }
    }
}

fn table(rows: &[Row], before: Option<(&str, &[Row])>) -> String {
    let mut lines = vec![
        [
            "subject",
            "case",
            "value",
            "unit",
            "x floor",
            "floor",
            "target",
            "",
            before.map_or("", |(name, _)| name),
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let (ratio, floor) = row.floor.as_ref().map_or_else(Default::default, |(floor, name)| {
            (format!("{:.2}", row.value / floor), format!("{} {name}", short(*floor)))
        });
        let same = |other: &&Row| other.subject == row.subject && other.case == row.case;
        let earlier = before.and_then(|(_, rows)| rows.iter().find(same));
        let change = earlier.map(|earlier| format!("{:+.1} %", (row.value / earlier.value - 1.0) * 100.0));
        let target =
            row.target.map(|t| format!("{} {}", if row.more_is_better { ">=" } else { "<=" }, short(t)));
        lines.push([
            row.subject.clone(),
            row.case.clone(),
            short(row.value),
            row.unit.clone(),
            ratio,
            floor,
            target.unwrap_or_default(),
            row.verdict().to_owned(),
            change.unwrap_or_default(),
        ]);
    }
    let widths: Vec<usize> = (0..9)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 || value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn is_subject(name: &str) -> bool {
    root().join("benches/benches").join(format!("{name}.rs")).is_file()
}

fn saved(dir: &Path, name: &str) -> PathBuf {
    dir.join("saved").join(name)
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

fn copy(from: &Path, to: &Path) -> Result {
    clear(to)?;
    let into = |path: PathBuf| {
        let target = to.join(path.file_name().unwrap_or_default());
        fs::copy(&path, target).map(drop).map_err(|e| format!("{}: {e}", path.display()))
    };
    results(from).into_iter().try_for_each(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table_with_ratios_and_verdicts() {
        let parse = |line: &str| Row::parse("fanout", line).expect(line);
        let fast = r#"{"case":"1000 cursors","value":60,"unit":"ns","floor":600,"floor_name":"broadcast","target":80}"#;
        let slow = r#"{"case":"encode","value":1.5,"unit":"GB/s","target":2,"more_is_better":true}"#;
        let now = [parse(fast), parse(slow)];
        let earlier = [parse(&fast.replace("\"value\":60", "\"value\":50"))];
        let text = table(&now, Some(("main", &earlier)));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let first = "fanout 1000 cursors 60 ns 0.10 600 broadcast <= 80 met +20.0 %";
        assert_eq!(lines[1], first.split(' ').collect::<Vec<_>>());
        assert_eq!(lines[2], "fanout encode 1.50 GB/s >= 2 MISSED".split(' ').collect::<Vec<_>>());
        assert!(Row::parse("x", "{}").is_err());
    }
}
