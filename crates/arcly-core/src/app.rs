//! Applications: the policy that a group of streams shares.

use std::sync::Arc;
use std::time::Duration;

use crate::log::{LagPolicy, Retention, StartMode};

/// What happens when somebody publishes a stream that has a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Takeover {
    /// The newcomer wins only if the publisher has sent no media for [`AppSpec::silence`]: an encoder that crashed
    /// comes back at once, and a live one cannot be hijacked.
    #[default]
    WhenSilent,
    /// The newcomer wins.
    Replace,
    /// The publisher stays.
    Reject,
    /// The newcomer stands by, and takes over at a keyframe when the publisher leaves or falls silent.
    Standby,
}

/// The policy of one application, the first segment of a [`StreamKey`](crate::StreamKey).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppSpec {
    /// The application's name.
    pub name: Arc<str>,
    /// What happens when somebody publishes a stream that has a publisher. Default: [`Takeover::WhenSilent`].
    pub takeover: Takeover,
    /// Time without media after which a publisher counts as silent. Default: 2 s.
    pub silence: Duration,
    /// How long a stream with readers outlives its publisher. Default: 10 s.
    pub grace: Duration,
    /// How long a reader of a stream that is not there waits for it. Default: not at all.
    pub wait_for_stream: Duration,
    /// How much of a stream is kept.
    pub retention: Retention,
    /// Where readers begin, unless they say otherwise.
    pub start: StartMode,
    /// When readers count as late, unless they say otherwise.
    pub lag: LagPolicy,
    /// Most readers of one stream. Default: 100 000.
    pub max_readers: usize,
}

impl AppSpec {
    /// An application with the default policy.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            takeover: Takeover::default(),
            silence: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            wait_for_stream: Duration::ZERO,
            retention: Retention::default(),
            start: StartMode::default(),
            lag: LagPolicy::default(),
            max_readers: 100_000,
        }
    }

    /// The same application with another takeover policy.
    #[must_use]
    pub const fn takeover(mut self, takeover: Takeover) -> Self {
        self.takeover = takeover;
        self
    }

    /// The same application with another silence.
    #[must_use]
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The same application with another grace period.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The same application whose readers wait for streams that are not there.
    #[must_use]
    pub const fn wait_for_stream(mut self, wait: Duration) -> Self {
        self.wait_for_stream = wait;
        self
    }

    /// The same application with another retention.
    #[must_use]
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The same application whose readers begin elsewhere.
    #[must_use]
    pub const fn start(mut self, start: StartMode) -> Self {
        self.start = start;
        self
    }

    /// The same application with another lag policy.
    #[must_use]
    pub const fn lag(mut self, lag: LagPolicy) -> Self {
        self.lag = lag;
        self
    }
}
