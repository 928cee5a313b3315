use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

/// What a value is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal {
    /// The same work done in the plainest way, measured in the same run.
    pub floor: Option<(f64, &'static str)>,
    /// The value in floors, where it is more than the quotient of the two: the median of each round's.
    pub ratio: Option<f64>,
    /// The bound of `docs/benchmarks.md` on the value.
    pub target: Option<f64>,
    /// And on the ratio.
    pub target_ratio: Option<f64>,
}

impl Goal {
    /// No bound.
    pub const NONE: Self = Self { floor: None, ratio: None, target: None, target_ratio: None };

    /// A bound and nothing to compare with.
    #[must_use]
    pub const fn target(target: f64) -> Self {
        Self { target: Some(target), ..Self::NONE }
    }

    /// The same goal beside a floor, if that was measured.
    #[must_use]
    pub fn over(self, floor: Option<f64>, name: &'static str) -> Self {
        Self { floor: floor.map(|floor| (floor, name)), ..self }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured, in the words of the table.
    pub case: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// What it is held against.
    pub goal: Goal,
    /// Throughputs.
    pub more_is_better: bool,
}

/// Where the lines of one subject or scenario go: `ARCLY_BENCH_DIR`, which `cargo xtask bench` sets and reads.
#[derive(Clone, Debug)]
pub struct Report(Option<PathBuf>);

impl Report {
    /// The report of that subject; goes nowhere when nobody has asked for one.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        let dir = std::env::var_os("ARCLY_BENCH_DIR");
        Self(dir.map(|dir| PathBuf::from(dir).join(format!("{subject}.json"))))
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When it cannot be written: a benchmark without its result is of no use.
    pub fn row(&self, row: &Row) {
        let Some(path) = &self.0 else { return };
        let mut line = json!({ "case": row.case, "value": row.value, "unit": row.unit });
        if let Some((floor, name)) = row.goal.floor {
            line["floor"] = floor.into();
            line["floor_name"] = name.into();
        }
        let optional =
            [("ratio", row.goal.ratio), ("target", row.goal.target), ("target_ratio", row.goal.target_ratio)];
        for (name, value) in optional {
            if let Some(value) = value {
                line[name] = value.into();
            }
        }
        if row.more_is_better {
            line["more_is_better"] = true.into();
        }
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{line}")
        });
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The middle one.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied()
}
