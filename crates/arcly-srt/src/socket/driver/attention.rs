//! When handles are listened to.

use std::time::{Duration, Instant};

/// Handles that have much to say are heard once in this time: what each has sent meanwhile leaves in one burst, and only the first
/// of it wakes the driver. A timer of tokio is as exact.
const TICK: Duration = Duration::from_millis(1);

/// Listens at once to handles that seldom speak, and to others by ticks.
#[derive(Debug, Default)]
pub(super) struct Attention {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Attention {
    /// A handle has been heard.
    pub(super) fn heard(&mut self, now: Instant) {
        let often = self.last.is_some_and(|last| now.saturating_duration_since(last) < TICK);
        let goes_on = self.until.is_some_and(|until| now.saturating_duration_since(until) < TICK);
        self.until = (often || goes_on).then(|| now + TICK);
        self.last = Some(now);
    }

    /// Until when nobody is listened to.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_seldom_is_heard_at_once_and_who_does_not_each_millisecond() {
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let mut attention = Attention::default();
        for us in [0, 2_500, 5_000] {
            assert_eq!(attention.pause(at(us)), None);
            attention.heard(at(us));
        }
        attention.heard(at(5_100));
        assert_eq!(attention.pause(at(5_200)), Some(at(6_100)));
        assert_eq!(attention.pause(at(6_100)), None);
        // The timer was late; it goes on by ticks as long as there is something.
        attention.heard(at(6_900));
        assert_eq!(attention.pause(at(7_000)), Some(at(7_900)));
        attention.heard(at(9_500));
        assert_eq!(attention.pause(at(9_600)), None, "it has slowed down");
    }
}
