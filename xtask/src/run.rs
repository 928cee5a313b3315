//! Running other programs, and finding the repository's root.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// An error is a sentence for the person at the terminal.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The repository's root, wherever the task was started.
pub(crate) fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// `cargo` with `args`, at the root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs to the end with this terminal; an exit code other than zero is an error.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|e| format!("{}: {e}", show(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", show(command))) }
}

/// What a program prints to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", show(command)))?;
    if !out.status.success() {
        return Err(format!("`{}` ended with {}", show(command), out.status));
    }
    String::from_utf8(out.stdout).map_err(|e| format!("{}: {e}", show(command)))
}

/// Runs one named step and says in one line how it went and how long it took.
pub(crate) fn step(name: &str, f: impl FnOnce() -> Result) -> Result {
    let start = Instant::now();
    let result = f();
    let seconds = start.elapsed().as_secs_f64();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("{verdict:>6}  {name}  {seconds:.1} s");
    result.map_err(|e| format!("{name}: {e}"))
}

/// Takes the value that follows `name` out of `args`.
pub(crate) fn option(args: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    args.remove(at);
    if at < args.len() { Ok(Some(args.remove(at))) } else { Err(format!("{name} needs a value")) }
}

/// Takes `name` out of `args`; true when it was there.
pub(crate) fn flag(args: &mut Vec<String>, name: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != name);
    args.len() < before
}

/// Fails on arguments that nobody took.
pub(crate) fn no_more(args: &[String]) -> Result {
    args.first().map_or(Ok(()), |arg| Err(format!("unexpected argument {arg}; see `cargo xtask help`")))
}

fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    command.get_args().fold(program, |line, arg| line + " " + &arg.to_string_lossy())
}
