//! How long a process has waited for a core that others had: what a test that measures time may not blame it for.
//!
//! The kernel counts, for each thread, the time that it could have run and did not (`/proc/PID/task/TID/schedstat`,
//! Documentation/scheduler/sched-stats.rst). On an idle machine that is next to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

/// The time that each thread of a process has waited for a core.
#[derive(Clone, Debug)]
pub struct Starved {
    pid: u32,
    waited: BTreeMap<u32, u64>,
}

impl Starved {
    /// What it has been so far.
    pub fn of(pid: u32) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let waited = threads.filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let nanos = stat.split_whitespace().nth(1)?.parse().ok()?;
            Some((thread.file_name().to_str()?.parse().ok()?, nanos))
        });
        Self { pid, waited: waited.collect() }
    }

    /// The most that two of the threads have waited since `before`, together: what comes in on one mostly goes out on
    /// another, and waits for both.
    pub fn since(&self, before: &Self) -> Duration {
        let more = |(thread, waited): (&u32, &u64)| {
            waited.saturating_sub(before.waited.get(thread).copied().unwrap_or(0))
        };
        let mut more: Vec<u64> = self.waited.iter().map(more).collect();
        more.sort_unstable();
        Duration::from_nanos(more.iter().rev().take(2).sum())
    }

    /// The same up to now.
    pub fn elapsed(&self) -> Duration {
        Self::of(self.pid).since(self)
    }
}
