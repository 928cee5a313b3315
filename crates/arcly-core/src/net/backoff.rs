//! How long to wait before connecting again.

use core::fmt::Display;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::close::CloseReason;
use crate::error::StreamError;

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
pub struct Waits {
    backoff: Backoff,
    failures: u32,
    began: Instant,
}

impl Waits {
    /// No attempt has failed yet, and the first one begins now.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, began: clock::now() }
    }

    /// How long to wait after an attempt that has just failed. Anything random will do.
    pub fn next_wait(&mut self, random: u8) -> Duration {
        if clock::now().saturating_duration_since(self.began) >= self.backoff.longest {
            self.failures = 0;
        }
        let wait = self.backoff.wait(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Waits after an attempt to reach `url` that ended like this, and says so in the log; or until `shutdown`. Cancel safe.
    pub async fn again(
        &mut self,
        url: &impl Display,
        outcome: Result<CloseReason, &StreamError>,
        shutdown: &CancellationToken,
    ) {
        let why = match outcome {
            Ok(reason) => reason.to_string(),
            Err(error) => error.to_string(),
        };
        let wait = self.next_wait(noise());
        tracing::info!(%url, why, ?wait, "connecting again");
        self.pause(wait, shutdown).await;
    }

    /// Waits, or until `shutdown`; then the next attempt begins. Cancel safe.
    pub async fn pause(&mut self, wait: Duration, shutdown: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
        self.began = clock::now();
    }
}

/// Random enough to spread clients: the keys of hash maps are.
fn noise() -> u8 {
    let [noise, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    noise
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

    #[tokio::test(start_paused = true)]
    async fn f60_what_lasted_starts_over() {
        let mut waits = Waits::new(Backoff::default());
        let shutdown = CancellationToken::new();
        for secs in [1, 2, 4] {
            let wait = waits.next_wait(0);
            assert_eq!(wait.as_secs(), secs);
            waits.pause(wait, &shutdown).await;
        }
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(waits.next_wait(0).as_secs(), 1);
        shutdown.cancel();
        let before = clock::now();
        waits.pause(Duration::from_secs(9), &shutdown).await;
        assert_eq!(clock::now(), before);
    }
}
