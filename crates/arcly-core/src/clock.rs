//! The kernel's clock: tokio's, so that a test with paused time runs the whole engine in virtual time.

use std::time::Instant;

/// Monotonic time. Needs no runtime.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
