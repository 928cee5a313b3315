//! How fast something goes.

/// A rate is of so much time, at the most.
const PERIOD: i64 = 1_000_000;
/// And of so much at the least, when nothing better is there yet.
const MIN_PERIOD: i64 = 100_000;

/// Packets and bytes a second, over the last second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    since: Option<i64>,
    packets: u64,
    bytes: u64,
    last: Option<Rate>,
}

/// What went by in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Meter {
    /// Something went by.
    pub(super) fn add(&mut self, now: i64, bytes: usize) {
        let since = *self.since.get_or_insert(now);
        if now - since >= PERIOD {
            self.last = Some(self.current(now - since));
            (self.since, self.packets, self.bytes) = (Some(now), 0, 0);
        }
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    /// The rate by now.
    pub(super) fn rate(&self, now: i64) -> Rate {
        let elapsed = now - self.since.unwrap_or(now);
        match self.last {
            // Nothing ends the period of something that has stopped.
            Some(last) if elapsed < 2 * PERIOD => last,
            None if elapsed < MIN_PERIOD => Rate { packets: self.packets * 10, bytes: self.bytes * 10 },
            _ => self.current(elapsed),
        }
    }

    fn current(&self, elapsed: i64) -> Rate {
        let elapsed = u64::try_from(elapsed).unwrap_or(1).max(1);
        let per_second = |count: u64| count.saturating_mul(1_000_000) / elapsed;
        Rate { packets: per_second(self.packets), bytes: per_second(self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(0), Rate::default());
        (0..5_000).for_each(|ms| meter.add(ms * 1_000, 100));
        assert_eq!(meter.rate(5_000_000), Rate { packets: 1_000, bytes: 100_000 });
        assert!(meter.rate(60_000_000).bytes < 2_000, "it has stopped");
    }

    #[test]
    fn an_early_rate_does_not_explode() {
        let mut meter = Meter::default();
        meter.add(0, 100);
        assert_eq!(meter.rate(1), Rate { packets: 10, bytes: 1_000 });
        meter.add(200_000, 100);
        assert_eq!(meter.rate(200_000), Rate { packets: 10, bytes: 1_000 });
    }
}
