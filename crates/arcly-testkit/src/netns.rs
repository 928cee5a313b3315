//! Network namespaces: a test that runs itself again inside of one, where it may cut, slow down and renumber the network.
//!
//! That takes Linux, `unshare`, `ip`, and permission to make a namespace; it ends with the test.

use std::ffi::OsString;
use std::process::{Command, Stdio};

/// Set inside of a namespace, to the name of the one outside.
const INSIDE: &str = "ARCLY_TEST_NAMESPACE";

/// Where a test finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside of the namespace: what is to be tested is tested here.
    Inside,
    /// Outside, where the test has been run inside and has passed.
    Outside,
    /// No such namespace may be made here.
    Impossible,
}

/// Whether this process is such a test, inside of its namespace.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test that calls this again, in a network namespace that the shell commands of `setup` prepare.
///
/// # Panics
/// When the test fails inside.
#[must_use]
pub fn enter(setup: &str) -> Place {
    if let Some(outside) = std::env::var_os(INSIDE) {
        assert_ne!(namespace(), outside, "nothing but a namespace of its own may be changed");
        return Place::Inside;
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-e", "-c", script]).stdin(Stdio::null());
        command
    };
    if !unshare(setup).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Place::Impossible;
    }
    let this = std::env::current_exe().expect("the test's own program");
    let thread = std::thread::current();
    let name = thread.name().expect("a test's thread has its name");
    let inside = unshare(&format!("{setup}\nexec \"$0\" --exact \"$1\" --nocapture"))
        .arg(this)
        .arg(name)
        .env(INSIDE, namespace())
        .status();
    assert!(inside.is_ok_and(|status| status.success()), "{name} failed inside of its namespace");
    Place::Outside
}

fn namespace() -> OsString {
    std::fs::read_link("/proc/self/ns/net").expect("Linux").into()
}
