//! How long a process has waited for a core that others had: what a test that measures time may not blame it for.
//!
//! The kernel counts, for each thread, the time that it could have run and did not (`/proc/PID/task/TID/schedstat`,
//! Documentation/scheduler/sched-stats.rst), and for each core of a virtual machine the time that the host gave to
//! somebody else (`steal` in `/proc/stat`), which no thread knows of. On an idle machine both are next to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

/// A tick of `/proc/stat`, fixed by the kernel's ABI.
const TICK: Duration = Duration::from_millis(10);

/// The time that each thread of a process has waited for a core, and each core for its host.
#[derive(Clone, Debug)]
pub struct Starved {
    pid: u32,
    waited: BTreeMap<u32, u64>,
    stolen: Vec<u32>,
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
        Self { pid, waited: waited.collect(), stolen: stolen() }
    }

    /// The most that two of the threads have waited since `before`, together: what comes in on one mostly goes out on
    /// another, and waits for both. To that comes what was stolen of the core that most was stolen of.
    pub fn since(&self, before: &Self) -> Duration {
        let more = |(thread, waited): (&u32, &u64)| {
            waited.saturating_sub(before.waited.get(thread).copied().unwrap_or(0))
        };
        let mut more: Vec<u64> = self.waited.iter().map(more).collect();
        more.sort_unstable();
        let stolen =
            self.stolen.iter().zip(&before.stolen).map(|(now, then)| now.saturating_sub(*then)).max();
        Duration::from_nanos(more.iter().rev().take(2).sum()) + TICK * stolen.unwrap_or(0)
    }

    /// How long that thread has waited since `before`.
    pub fn thread_since(&self, before: &Self, thread: u32) -> Duration {
        let waited = |starved: &Self| starved.waited.get(&thread).copied().unwrap_or(0);
        Duration::from_nanos(waited(self).saturating_sub(waited(before)))
    }

    /// The same up to now.
    pub fn elapsed(&self) -> Duration {
        Self::of(self.pid).since(self)
    }
}

/// The number of the thread that asks.
pub fn this_thread() -> u32 {
    let path = std::fs::read_link("/proc/thread-self").unwrap();
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a thread's number")
}

/// Ticks that the host has kept each core from running.
fn stolen() -> Vec<u32> {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // `cpu0 user nice system idle iowait irq softirq steal …`; the line `cpu ` is the sum.
    let cores = stat.lines().skip(1).take_while(|line| line.starts_with("cpu"));
    cores
        .map(|line| line.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok()).unwrap_or(0))
        .collect()
}
