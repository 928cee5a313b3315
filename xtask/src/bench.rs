//! `bench`: the benchmarks of `benches/`, and their results as one table of ratios.

use crate::run::{Result, cargo, run};

pub(crate) fn main(args: &[String]) -> Result {
    run(cargo(&["bench", "--package", "arcly-benches", "--"]).args(args))
}
