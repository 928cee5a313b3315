//! External programs: found, or skipped loudly.
//!
//! `cargo xtask test` tells tests in the environment where each program is; an empty variable stands for a
//! program that is not there. A plain `cargo test` finds the common ones on the `PATH`. A test that needs a program starts with
//!
//! ```no_run
//! use arcly_testkit::need;
//!
//! // in a #[test]:
//! let ffmpeg = need!(ffmpeg);
//! ```
//!
//! and returns when there is none, after a line in the log that `cargo xtask test` prints at its end. Under
//! `CI=true` it fails instead.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Debian's FFmpeg.
#[must_use]
pub fn ffmpeg() -> Option<PathBuf> {
    find("ARCLY_FFMPEG", "ffmpeg")
}

/// Debian's ffprobe.
#[must_use]
pub fn ffprobe() -> Option<PathBuf> {
    find("ARCLY_FFPROBE", "ffprobe")
}

/// FFmpeg 9, which speaks Enhanced RTMP.
#[must_use]
pub fn ffmpeg9() -> Option<PathBuf> {
    find("ARCLY_FFMPEG9", "")
}

/// GStreamer's `gst-launch-1.0`.
#[must_use]
pub fn gst_launch() -> Option<PathBuf> {
    find("ARCLY_GST_LAUNCH", "gst-launch-1.0")
}

/// The same, where it has `rtspclientsink`, which Debian has in a package of its own.
#[must_use]
pub fn gst_rtsp() -> Option<PathBuf> {
    let launch = gst_launch()?;
    let mut inspect = std::process::Command::new(launch.with_file_name("gst-inspect-1.0"));
    let there = inspect.args(["--exists", "rtspclientsink"]).status();
    there.is_ok_and(|status| status.success()).then_some(launch)
}

/// rtmpdump.
#[must_use]
pub fn rtmpdump() -> Option<PathBuf> {
    find("ARCLY_RTMPDUMP", "rtmpdump")
}

/// libsrt's `srt-live-transmit`.
#[must_use]
pub fn srt_live_transmit() -> Option<PathBuf> {
    find("ARCLY_SRT_LIVE_TRANSMIT", "srt-live-transmit")
}

/// nginx, with its rtmp module at `/usr/lib/nginx/modules/ngx_rtmp_module.so`.
#[must_use]
pub fn nginx() -> Option<PathBuf> {
    find("ARCLY_NGINX", "")
}

/// nftables' `nft`, to cut a network namespace off.
#[must_use]
pub fn nft() -> Option<PathBuf> {
    find("ARCLY_NFT", "nft")
}

/// Chromium.
#[must_use]
pub fn chromium() -> Option<PathBuf> {
    find("ARCLY_CHROMIUM", "chromium")
}

/// The `node_modules` folder that holds playwright-core; `node` itself is on the `PATH`.
#[must_use]
pub fn node_modules() -> Option<PathBuf> {
    find("ARCLY_NODE_MODULES", "")
}

/// The `node_modules` folder that holds dash.js and shaka-player.
#[must_use]
pub fn dash_players() -> Option<PathBuf> {
    find("ARCLY_DASH_PLAYERS", "")
}

/// A Python that has aiortc.
#[must_use]
pub fn aiortc() -> Option<PathBuf> {
    find("ARCLY_AIORTC", "")
}

/// The path of a program, or a skipped test: `let ffmpeg = need!(ffmpeg);` for each function of this module.
#[macro_export]
macro_rules! need {
    ($program:ident) => {
        match $crate::tools::$program() {
            Some(path) => path,
            None => $crate::skip!(concat!(stringify!($program), " is not installed")),
        }
    };
}

/// Skips the rest of the test, with a reason that people see: `skip!("needs 20 000 file descriptors")`.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        $crate::tools::skipped($reason);
        return;
    }};
}

/// Notes that the running test is skipped; what [`skip!`](crate::skip) calls.
///
/// # Panics
/// Under `CI=true`, where a skipped test is a failed one.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} skipped under CI: {reason}");
    eprintln!("SKIPPED {test}: {reason}");
    let Some(log) = std::env::var_os("ARCLY_SKIP_LOG") else { return };
    // One write of one line: appends of several tests do not mix.
    let line = format!("{test}\t{reason}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|mut f| f.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
}

fn find(variable: &str, program: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty());
    }
    let path = std::env::var_os("PATH").filter(|_| !program.is_empty())?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}
