//! External programs that run beside a test: players, publishers, servers.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::process::{Guard, Log};

/// Lines of a program's output that are shown when a test fails.
const TAIL: usize = 25;

/// A program in the background, killed when the test lets go of it. When the test fails, the end of what it
/// wrote to stderr is shown.
#[derive(Debug)]
pub struct Program {
    name: String,
    guard: Guard,
    log: Arc<Log>,
}

impl Program {
    /// Starts `command`; `name` is what it is called in messages. Standard output goes nowhere.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        let (guard, log) = Guard::logged(command.stdout(Stdio::null()));
        Self { name: name.to_owned(), guard, log }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Sends a signal by name: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        self.guard.signal(name);
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has written a line with `text`.
    ///
    /// # Panics
    /// When it ends, or `limit` passes, without one.
    pub fn expect_log(&self, text: &str, limit: Duration) {
        let said = self.log.wait_for(limit, |line| line.contains(text));
        assert!(said, "{} has not said `{text}` within {limit:?}", self.name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        self.guard.wait_for(limit).unwrap_or_else(|| panic!("{} still runs after {limit:?}", self.name))
    }

    /// Waits for its end, which has to be a success.
    ///
    /// # Panics
    /// When it fails, or still runs after `limit`.
    pub fn end_ok(&mut self, limit: Duration) {
        let status = self.end(limit);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    fn tail(&mut self) -> String {
        let state =
            self.guard.try_wait().map_or_else(|| "still running".to_owned(), |status| status.to_string());
        let lines = self.log.lines();
        let from = lines.len().saturating_sub(TAIL);
        format!(
            "--- {} ({state}), last lines:\n{}",
            self.name,
            lines.get(from..).unwrap_or_default().join("\n")
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Program::start("shell", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn it_is_waited_for_and_heard() {
        let mut program = shell("echo one >&2; printf 'two \\377\\n' >&2; exec sleep 30");
        program.expect_log("two", LIMIT);
        assert!(program.tail().contains("still running"));
        program.signal("TERM");
        assert!(!program.end(LIMIT).success());
        assert!(program.log().starts_with("one\ntwo"));
    }

    #[test]
    fn who_sees_its_end_has_seen_all_its_lines() {
        let mut program = shell("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done >&2");
        program.end_ok(LIMIT);
        assert!(program.log().ends_with("19999"));
    }

    #[test]
    #[should_panic(expected = "shell has not said `three`")]
    fn silence_is_an_error() {
        shell("echo two >&2").expect_log("three", LIMIT);
    }

    #[test]
    #[should_panic(expected = "shell ended with")]
    fn so_is_failure() {
        shell("exit 3").end_ok(LIMIT);
    }
}
