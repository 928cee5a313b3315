//! What this process uses of the machine, from `/proc`.

use std::fs;
use std::time::Duration;

/// Ticks a second of `/proc/self/stat`; fixed by the kernel's ABI.
const TICKS: u64 = 100;
const PAGE: u64 = 4096;

/// What the process uses now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// File descriptors that may be open.
    pub max_fds: u64,
}

/// What the process uses now; `None` on systems without `/proc`.
pub(crate) fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; the fields behind it are numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let ticks = field(14)?.saturating_add(field(15)?);
    Some(Usage {
        cpu: Duration::from_millis(ticks * 1_000 / TICKS),
        resident_bytes: field(24)? * PAGE,
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        max_fds: max_fds()?,
    })
}

/// How many file descriptors this process may have open.
pub(crate) fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process() {
        let usage = usage().expect("tests run on Linux");
        assert!(
            usage.resident_bytes > 1 << 20 && usage.open_fds > 2 && usage.max_fds >= usage.open_fds,
            "{usage:?}"
        );
    }
}
