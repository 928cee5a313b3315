use core::time::Duration;

use criterion::{Criterion, SamplingMode};

use crate::cpu::cpu_time;
use crate::report::{Goal, Report, Row, median};

/// What a measured time is turned into.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Nanoseconds for each of that many things that one iteration does.
    NanosPer(&'static str, u64),
    /// Microseconds, likewise.
    MicrosPer(&'static str, u64),
    /// Gigabytes per second when one iteration goes through that many bytes.
    Throughput(u64),
}

impl Unit {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn value(self, nanos: f64) -> f64 {
        match self {
            Self::NanosPer(_, count) => nanos / count as f64,
            Self::MicrosPer(_, count) => nanos / count as f64 / 1_000.0,
            Self::Throughput(bytes) => bytes as f64 / nanos,
        }
    }

    /// How it is written.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::NanosPer(what, _) => format!("ns/{what}"),
            Self::MicrosPer(what, _) => format!("us/{what}"),
            Self::Throughput(_) => "GB/s".to_owned(),
        }
    }

    const fn more_is_better(self) -> bool {
        matches!(self, Self::Throughput(_))
    }
}

/// One subject: runs cases through criterion and reports them to `cargo xtask bench`.
///
/// A case's routine does what it is told to do `iters` times and returns the **CPU time** of it; the value that is
/// reported is the median of the samples.
pub struct Bench {
    subject: &'static str,
    criterion: Criterion,
    filter: Option<String>,
    report: Report,
    quick: bool,
}

impl core::fmt::Debug for Bench {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bench").field("subject", &self.subject).finish_non_exhaustive()
    }
}

const SAMPLES: usize = 10;

impl Bench {
    /// A subject, with what the command line and `cargo xtask bench` say.
    #[must_use]
    pub fn new(subject: &'static str) -> Self {
        let quick = std::env::var_os("ARCLY_BENCH_QUICK").is_some_and(|value| !value.is_empty());
        let (warm_up, measurement) = if quick { (30, 150) } else { (150, 700) };
        let criterion = Criterion::default()
            .configure_from_args()
            .without_plots()
            .sample_size(SAMPLES)
            .nresamples(1_001)
            .warm_up_time(Duration::from_millis(warm_up))
            .measurement_time(Duration::from_millis(measurement));
        let report = Report::of(subject);
        let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
        Self { subject, criterion, filter, report, quick }
    }

    /// True when a result in a tenth of the time is wanted.
    #[must_use]
    pub const fn is_quick(&self) -> bool {
        self.quick
    }

    /// True when the filter on the command line lets a case through; for cases that are costly to set up.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        let id = format!("{}/{case}", self.subject);
        self.filter.as_ref().is_none_or(|filter| id.contains(filter.as_str()))
    }

    /// Measures a case and reports it. `None` when the filter leaves it out.
    pub fn case(
        &mut self,
        case: &str,
        unit: Unit,
        goal: Goal,
        routine: impl FnMut(u64) -> Duration,
    ) -> Option<f64> {
        let value = self.measure(case, unit, routine)?;
        let more_is_better = unit.more_is_better();
        self.report(&Row { case: case.to_owned(), value, unit: unit.name(), goal, more_is_better });
        Some(value)
    }

    /// Measures a case of plain code: no setup, nothing that waits.
    pub fn plain<R>(
        &mut self,
        case: &str,
        unit: Unit,
        goal: Goal,
        mut code: impl FnMut() -> R,
    ) -> Option<f64> {
        self.case(case, unit, goal, |iters| {
            let before = cpu_time();
            for _ in 0..iters {
                core::hint::black_box(code());
            }
            cpu_time().saturating_sub(before)
        })
    }

    /// Measures a case that others are held against, without a line of its own.
    pub fn measure(
        &mut self,
        case: &str,
        unit: Unit,
        mut routine: impl FnMut(u64) -> Duration,
    ) -> Option<f64> {
        if !self.wants(case) {
            return None;
        }
        let mut samples = Vec::new();
        let mut group = self.criterion.benchmark_group(self.subject);
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(case, |bencher| {
            bencher.iter_custom(|iters| {
                let spent = routine(iters);
                #[allow(clippy::cast_precision_loss, reason = "figures for people")]
                samples.push(spent.as_nanos() as f64 / iters as f64);
                spent
            });
        });
        group.finish();
        // What criterion warmed up with comes first.
        let measured = samples.len().saturating_sub(SAMPLES);
        median(samples.split_off(measured)).map(|nanos| unit.value(nanos))
    }

    /// Adds a line to the report.
    ///
    /// # Panics
    /// When the report cannot be written: a benchmark without its result is of no use.
    pub fn report(&self, row: &Row) {
        self.report.row(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_turn_the_time_of_an_iteration_into_a_figure() {
        assert_eq!(Unit::NanosPer("delivery", 1_000).value(60_000.0), 60.0);
        assert_eq!(Unit::MicrosPer("join", 2).value(3_000.0), 1.5);
        assert_eq!(Unit::Throughput(8_000).value(1_000.0), 8.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
