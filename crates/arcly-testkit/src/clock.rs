//! Time that moves when a test says so.

use std::time::{Duration, Instant};

/// A clock that stands still between calls of [`advance`](Self::advance).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    now: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock at its zero. Only differences count: the zero itself is some instant of this process.
    #[must_use]
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The current virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the clock was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Moves forward.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Moves forward to `to`; stays when that is in the past.
    pub fn advance_to(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }
}
