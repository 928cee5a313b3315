//! The frame of every scenario: command line, rounds, report.

use std::time::Duration;

use super::clip::Shape;
use super::rawfan::{Format, rawfan, rawsink};
use super::rawhls::rawhls;
use crate::report::{Goal, Report, Row};

/// How a scenario is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenario's name.
    pub name: &'static str,
    /// About ten seconds for each thing measured.
    pub quick: bool,
    /// How often everything is measured, in turns.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
    /// Numbers of readers, where the scenario's own are not wanted.
    pub readers: Option<Vec<usize>>,
    /// Only what has this in its name.
    pub only: Option<String>,
    report: Report,
}

/// What a scenario's binary does: it parses the command line and runs `body`; or it is the floor, as a process of its own.
///
/// ```text
/// rtmp_play [NAME] [--quick] [--rounds N] [--seconds N] [--readers N,N]
/// ```
///
/// # Panics
/// When an argument cannot be understood.
pub fn main(name: &'static str, body: impl FnOnce(&Options)) {
    let mut args = std::env::args().skip(1).peekable();
    if let Some(floor) = args.next_if(|arg| arg.starts_with("raw")) {
        raise_file_limit();
        let args: Vec<String> = args.collect();
        let result = match floor.as_str() {
            "rawsink" => rawsink(),
            "rawhls" => rawhls(shape(&args)),
            _ => fan(&args),
        };
        return result.unwrap_or_else(|error| eprintln!("{floor}: {error}"));
    }
    let quick = std::env::var_os("ARCLY_BENCH_QUICK").is_some_and(|value| !value.is_empty());
    let mut options = Options {
        name,
        quick,
        rounds: 0,
        time: Duration::ZERO,
        readers: None,
        only: None,
        report: Report::of(name),
    };
    let number = |text: Option<String>| -> u64 {
        text.and_then(|text| text.parse().ok()).expect("a number after the option")
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = usize::try_from(number(args.next())).unwrap_or(1),
            "--seconds" => options.time = Duration::from_secs(number(args.next())),
            "--readers" => {
                let list = args.next().unwrap_or_default();
                let list = list.split(',').map(|n| n.parse().expect("numbers after --readers"));
                options.readers = Some(list.collect());
            }
            _ if arg.starts_with("--") => panic!("{name} has no option {arg}"),
            _ => options.only = Some(arg),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 1 } else { 3 };
    }
    if options.time.is_zero() {
        options.time = Duration::from_secs(if options.quick { 4 } else { 8 });
    }
    raise_file_limit();
    body(&options);
}

fn fan(args: &[String]) -> std::io::Result<()> {
    let format = if args.first().is_some_and(|format| format == "flv") { Format::Flv } else { Format::Rtmp };
    rawfan(format, Duration::from_millis(number(args, 1)), shape(args.get(2..).unwrap_or_default()))
}

fn shape(args: &[String]) -> Shape {
    let size = |at| usize::try_from(number(args, at)).unwrap_or_default();
    Shape {
        pictures: number(args, 0),
        gop: number(args, 1),
        key_bytes: size(2),
        picture_bytes: size(3),
        sound_bytes: size(4),
    }
}

fn number(args: &[String], at: usize) -> u64 {
    args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(0)
}

/// As many open files as the process may have; the children have it from here.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The open files that a process may have.
#[must_use]
pub fn file_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

impl Options {
    /// Whether something of that name is wanted.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only.as_str()))
    }

    /// Prints a line and adds it to the report.
    pub fn report(&self, case: &str, value: f64, unit: &str, goal: Goal) {
        let ratio = goal.ratio.map(|ratio| format!("  {ratio:.2} x")).unwrap_or_default();
        eprintln!("{}/{case}: {value:.3} {unit}{ratio}", self.name);
        let (case, unit) = (case.to_owned(), unit.to_owned());
        self.report.row(&Row { case, value, unit, goal, more_is_better: false });
    }
}
