//! The project's own tasks: `cargo xtask <task>`. `cargo xtask help` lists them.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod bench;
mod ci;
mod demo_clip;
mod fuzz;
mod layers;
mod run;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <task>

  test [--install] [--ci] [--rounds N] [--soak] [-- ARGS]
                                      build and run every test; --install first installs the programs the
                                      interop tests need (Debian, pip, npm); --ci, or CI=true in the
                                      environment, makes a skipped test a failure; --rounds runs each
                                      fault N times; --soak lets players in Chromium
                                      play for two minutes; ARGS go to `cargo test`
  ci [--no-test]                      fmt, clippy, layers, tidy, rustdoc, features, then test
  layers                              no crate depends on a sibling or on a higher layer
  tidy [--rows]                       what must be absent is absent; --rows lists the bad-input rows and their tests
  fuzz [TARGET] [--seconds N]         fuzz one target, or all of them in turn (needs cargo-fuzz, runs on stable)
  bench [NAME] [--quick] [--save NAME] [--against NAME] [--json] [-- ARGS]
                                      run a subject, a scenario, instructions, subjects, scenarios or everything, print
                                      a table of ratios; --save and --against committed are the counts in the
                                      repository; ARGS go to a scenario (--rounds N --seconds N --readers N,N)
  tools                               which external programs are found, and where
  demo-clip                           make crates/arcly-server/assets/demo.flv again (needs ffmpeg)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let result = match task {
        "test" => test::main(rest),
        "ci" => ci::main(rest),
        "layers" => layers::main(rest),
        "tidy" => tidy::main(rest),
        "fuzz" => fuzz::main(rest),
        "bench" => bench::main(rest),
        "tools" => tools::main(rest),
        "demo-clip" => demo_clip::main(rest),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(format!("no task is called {other}\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
