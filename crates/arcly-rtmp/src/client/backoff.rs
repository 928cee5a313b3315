//! How long to wait before connecting again.

use std::time::{Duration, Instant};

use arcly_core::{Result, clock};
use tokio_util::sync::CancellationToken;

use super::link::Outcome;
use crate::url::RtmpUrl;

/// Waits that double, from the first to the longest, each cut by up to a quarter at random so that clients of a server
/// that comes back do not come all at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait. A connection that lasted this long starts over with the first.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after so many failures in a row; `random` cuts up to a quarter off.
    fn wait(&self, failures: u32, random: u8) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let wait = doubled.min(self.longest);
        wait - wait / 4 * u32::from(random) / 255
    }
}

/// The waits of one client.
#[derive(Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    failures: u32,
    began: Instant,
}

impl Waits {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, began: clock::now() }
    }

    /// Waits as long as the last attempt's outcome asks for, or until `shutdown`. Cancel safe.
    pub(crate) async fn pause(
        &mut self,
        outcome: &Result<Outcome>,
        url: &RtmpUrl,
        shutdown: &CancellationToken,
    ) {
        if clock::now().saturating_duration_since(self.began) >= self.backoff.longest {
            self.failures = 0;
        }
        let wait = match outcome {
            Ok(Outcome::Moved(_)) => Duration::ZERO,
            _ => {
                let mut random = [0];
                // Without randomness the wait is only less spread.
                let _ = getrandom::fill(&mut random);
                self.backoff.wait(self.failures, random[0])
            }
        };
        self.failures = self.failures.saturating_add(1);
        let why = match outcome {
            Ok(outcome) => outcome.reason().to_string(),
            Err(error) => error.to_string(),
        };
        tracing::info!(%url, why, ?wait, "connecting again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
        self.began = clock::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest() {
        let backoff = Backoff::default();
        let secs: Vec<_> = (0..8).map(|failures| backoff.wait(failures, 0).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.wait(200, 0).as_secs(), 30);
        assert_eq!(backoff.wait(2, 255), Duration::from_secs(3));
    }
}
