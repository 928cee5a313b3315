//! The round trip, as the draft's section 4.10 keeps it.

use std::time::Duration;

/// Before anything was measured.
const INITIAL: Duration = Duration::from_millis(100);
/// No path is longer: a peer that claims more is wrong, or wants timers that never fire.
const MAX_RTT: Duration = Duration::from_secs(10);

/// A smoothed round-trip time and its variation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    smoothed: Duration,
    variation: Duration,
    /// Whether this side has measured; what a peer has measured counts until then.
    measured: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { smoothed: INITIAL, variation: INITIAL / 2, measured: false }
    }
}

impl Rtt {
    pub(super) const fn smoothed(&self) -> Duration {
        self.smoothed
    }

    pub(super) const fn variation(&self) -> Duration {
        self.variation
    }

    /// After so long an answer is overdue.
    pub(super) fn timeout(&self) -> Duration {
        self.smoothed + self.variation * 4
    }

    /// An acknowledgement of an acknowledgement came after `sample`.
    pub(super) fn measure(&mut self, sample: Duration) {
        let sample = sample.min(MAX_RTT);
        if self.measured {
            let off = sample.abs_diff(self.smoothed);
            self.variation = (self.variation * 3 + off) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
        } else {
            *self = Self { smoothed: sample, variation: sample / 2, measured: true };
        }
    }

    /// What the peer has measured, which stands for both directions unless this side has measured itself.
    pub(super) fn adopt(&mut self, smoothed: Duration, variation: Duration) {
        if !self.measured {
            self.smoothed = smoothed.min(MAX_RTT);
            self.variation = variation.min(MAX_RTT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_counts_whole_and_later_ones_are_smoothed() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), ms(300));
        rtt.adopt(ms(30), ms(1));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(30), ms(1)));
        rtt.measure(ms(40));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(40), ms(20)));
        rtt.adopt(ms(500), ms(500));
        rtt.measure(ms(48));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(41), ms(17)));
        rtt.measure(Duration::from_secs(4_000));
        assert!(rtt.timeout() < ms(12_000), "{rtt:?}");
    }
}
