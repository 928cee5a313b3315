use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the current thread has used. What other programs do to the machine hardly changes it.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The kernel's values are never negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Adds up the CPU time of short stretches, without the cost of looking at the clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    look: Duration,
    total: Duration,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopwatch {
    /// A stopwatch at zero that knows what a look at the clock costs.
    #[must_use]
    pub fn new() -> Self {
        let looks = (0..64).map(|_| {
            let before = cpu_time();
            cpu_time().saturating_sub(before)
        });
        Self { look: looks.min().unwrap_or_default(), total: Duration::ZERO }
    }

    /// Times one stretch.
    pub fn time<R>(&mut self, stretch: impl FnOnce() -> R) -> R {
        let before = cpu_time();
        let result = stretch();
        self.total += cpu_time().saturating_sub(before).saturating_sub(self.look);
        result
    }

    /// All stretches together.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.total
    }
}
