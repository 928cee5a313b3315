//! Which worker a new reader goes to.
//!
//! Readers that share a worker share its wakes, its batches and what it has in its caches. So workers are filled one after
//! another, each while it is far from busy; where all have enough to do, a reader goes where the least is written.
//! Readers stay where they are, so that room is left for streams that become dearer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::WorkerHandle;

/// Up to this a worker takes whoever comes: a sixth to a quarter of what a core writes to sockets.
const ROOM: Rate = Rate { bytes: 128 << 20, writes: 8_000 };
/// What a reader counts for, at least, until it has been measured: 8 Mbit/s, with a write for each frame.
const NEWCOMER: Rate = Rate { bytes: 1 << 20, writes: 60 };
/// What a reader counts for, at least, afterwards: a stream that rests will not rest for ever.
const RESIDENT: Rate = Rate { bytes: 32 << 10, writes: 8 };

/// What is written in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    bytes: u64,
    writes: u64,
}

impl Rate {
    const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            writes: self.writes.saturating_add(other.writes),
        }
    }

    const fn times(self, count: u64) -> Self {
        Self { bytes: self.bytes.saturating_mul(count), writes: self.writes.saturating_mul(count) }
    }

    fn max(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), writes: self.writes.max(other.writes) }
    }

    fn is_within(self, room: Self) -> bool {
        self.bytes < room.bytes && self.writes < room.writes
    }
}

/// What a worker was measured to write in a second.
#[derive(Debug, Default)]
pub(super) struct Measured {
    bytes: AtomicU64,
    writes: AtomicU64,
}

impl Measured {
    /// So much was written in `millis` milliseconds, at least one.
    pub(super) fn note(&self, bytes: u64, writes: u64, millis: u128) {
        let a_second = |count: u64| {
            let rate = (u128::from(count) * 1_000).checked_div(millis).unwrap_or_default();
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        self.bytes.store(a_second(bytes), Ordering::Relaxed);
        self.writes.store(a_second(writes), Ordering::Relaxed);
    }

    fn rate(&self) -> Rate {
        Rate { bytes: self.bytes.load(Ordering::Relaxed), writes: self.writes.load(Ordering::Relaxed) }
    }
}

/// A worker and what is to be expected of it: its readers that were measured, and those that came since.
struct Candidate<'a> {
    worker: &'a WorkerHandle,
    measured: Rate,
    residents: u64,
    newcomers: u64,
}

impl<'a> Candidate<'a> {
    fn new(worker: &'a WorkerHandle) -> Self {
        let gauges = &worker.gauges;
        let newcomers = gauges.fresh.load(Ordering::Relaxed) as u64;
        let residents = (gauges.readers.load(Ordering::Relaxed) as u64).saturating_sub(newcomers);
        Self { worker, measured: gauges.measured.rate(), residents, newcomers }
    }

    fn expected(&self, newcomer: Rate) -> Rate {
        self.measured.max(RESIDENT.times(self.residents)).plus(newcomer.times(self.newcomers))
    }

    fn has_room(&self, newcomer: Rate) -> bool {
        let keeps_up = self.worker.gauges.level.load(Ordering::Relaxed) == 0;
        keeps_up && self.expected(newcomer).is_within(ROOM)
    }
}

/// The worker for a new reader. There is one, unless there are none at all.
pub(super) fn place(workers: &[WorkerHandle]) -> Option<&WorkerHandle> {
    let candidates = || workers.iter().map(Candidate::new);
    let (all, residents) = candidates()
        .fold((Rate::default(), 0_u64), |(all, count), one| (all.plus(one.measured), count + one.residents));
    let mean = Rate { bytes: all.bytes / residents.max(1), writes: all.writes / residents.max(1) };
    let newcomer = mean.max(NEWCOMER);
    let least = |one: &Candidate<'_>| (one.expected(newcomer).bytes, one.newcomers + one.residents);
    let chosen = candidates().find(|one| one.has_room(newcomer)).or_else(|| candidates().min_by_key(least));
    chosen.map(|one| one.worker)
}

#[cfg(test)]
mod tests {
    use super::super::Egress;
    use super::*;

    const MB: u64 = 1_000_000;

    /// Megabytes a second, writes a second, readers that were measured, readers that were not.
    type Before = (u64, u64, usize, usize);

    /// How many of the next readers go to each of the workers.
    async fn placed(workers: &[Before], readers: usize) -> Vec<usize> {
        let egress = Egress::start(workers.len());
        for (worker, (megabytes, writes, residents, newcomers)) in egress.workers.iter().zip(workers) {
            worker.gauges.measured.note(megabytes * MB, *writes, 1_000);
            worker.gauges.readers.store(residents + newcomers, Ordering::Relaxed);
            worker.gauges.fresh.store(*newcomers, Ordering::Relaxed);
        }
        let mut counts = vec![0; workers.len()];
        for _ in 0..readers {
            let chosen = place(&egress.workers).expect("there are workers");
            chosen.gauges.readers.fetch_add(1, Ordering::Relaxed);
            chosen.gauges.fresh.fetch_add(1, Ordering::Relaxed);
            let at = egress.workers.iter().position(|worker| core::ptr::eq(worker, chosen));
            counts[at.expect("it is one of them")] += 1;
        }
        counts
    }

    #[tokio::test]
    async fn workers_are_filled_one_after_another() {
        assert_eq!(placed(&[(0, 0, 0, 0); 3], 100).await, [100, 0, 0], "far from busy");
        assert_eq!(placed(&[(50, 3_000, 100, 0), (0, 0, 0, 0)], 50).await, [50, 0]);
        assert_eq!(placed(&[(140, 3_000, 100, 0), (0, 0, 0, 0)], 50).await, [0, 50], "many bytes");
        assert_eq!(placed(&[(5, 9_000, 100, 0), (0, 0, 0, 0)], 50).await, [0, 50], "many writes");
        assert_eq!(placed(&[(0, 0, 5_000, 0), (0, 0, 0, 0)], 50).await, [0, 50], "many that rest");
    }

    #[tokio::test]
    async fn where_all_are_busy_readers_go_where_the_least_is_written() {
        let busy = [(900, 9_000, 1, 0), (200, 9_000, 9, 0)];
        assert_eq!(placed(&busy, 5).await, [0, 5], "one reader of much is more than nine of little");
        let storm = placed(&[(0, 0, 0, 0), (0, 0, 0, 0)], 1_000).await;
        assert_eq!(storm, [500, 500], "of a crowd that nothing is known about each gets its half");
        let storm = placed(&[(1_800, 9_000, 900, 0), (1_000, 9_000, 500, 0)], 1_000).await;
        assert!((295..=305).contains(&storm[0]), "newcomers count as what the others are: {storm:?}");
    }

    #[tokio::test]
    async fn a_worker_that_does_not_keep_up_gets_nobody_while_another_does() {
        let egress = Egress::start(2);
        egress.workers[0].gauges.level.store(1, Ordering::Relaxed);
        let chosen = place(&egress.workers).expect("there are workers");
        assert!(core::ptr::eq(chosen, &egress.workers[1]));
    }
}
