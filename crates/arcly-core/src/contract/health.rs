//! Is this server well, and if not, what is wrong: the answer behind `/readyz`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::task::JoinSet;

/// Most checks that a registry holds.
pub const MAX_CHECKS: usize = 64;
/// How long one check may take; after that it counts as unhealthy.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How well something is. Ordered: worse is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Healthy,
    /// It works, and somebody should look at it.
    Degraded(Cow<'static, str>),
    /// It does not work.
    Unhealthy(Cow<'static, str>),
}

impl Health {
    /// The name in replies and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::Unhealthy(_) => "unhealthy",
        }
    }

    /// What is wrong; empty when nothing is.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Healthy => "",
            Self::Degraded(message) | Self::Unhealthy(message) => message,
        }
    }

    /// True unless it is unhealthy.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        !matches!(self, Self::Unhealthy(_))
    }
}

/// Looks after one thing.
///
/// ```
/// use std::sync::Arc;
/// use arcly_core::contract::health::{Health, HealthCheck, HealthRegistry};
///
/// struct Disk;
///
/// #[async_trait::async_trait]
/// impl HealthCheck for Disk {
///     fn name(&self) -> &str {
///         "disk"
///     }
///     async fn check(&self) -> Health {
///         Health::Degraded("90 % full".into())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let registry = HealthRegistry::new();
/// assert!(registry.register(Arc::new(Disk)));
/// let report = registry.report().await;
/// assert!(report.is_ready());
/// assert_eq!(report.worst().as_str(), "degraded");
/// # });
/// ```
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// What it looks after.
    fn name(&self) -> &str;

    /// How that is. May be dropped at any await, after [`CHECK_TIMEOUT`] for one.
    async fn check(&self) -> Health;
}

/// The checks of one server. Cloning gives another handle to the same checks.
#[derive(Clone, Default)]
pub struct HealthRegistry(Arc<RwLock<Vec<Arc<dyn HealthCheck>>>>);

impl HealthRegistry {
    /// No checks: healthy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, or replaces the one of the same name. False when there are [`MAX_CHECKS`] already.
    pub fn register(&self, check: Arc<dyn HealthCheck>) -> bool {
        let mut checks = self.0.write();
        checks.retain(|old| old.name() != check.name());
        let room = checks.len() < MAX_CHECKS;
        if room {
            checks.push(check);
        }
        room
    }

    /// Removes the check of that name.
    pub fn remove(&self, name: &str) {
        self.0.write().retain(|check| check.name() != name);
    }

    /// Runs all checks at the same time, each at most [`CHECK_TIMEOUT`]. One that panics is unhealthy.
    ///
    /// Needs a tokio runtime with time. Cancel safe: dropping the future ends the checks.
    pub async fn report(&self) -> HealthReport {
        let checks = self.0.read().clone();
        let mut running = JoinSet::new();
        let mut results: Vec<_> = Vec::with_capacity(checks.len());
        for (index, check) in checks.into_iter().enumerate() {
            results.push((check.name().to_owned(), Health::Unhealthy("the check panicked".into())));
            running.spawn(async move {
                let answer = tokio::time::timeout(CHECK_TIMEOUT, check.check()).await;
                (index, answer.unwrap_or(Health::Unhealthy("the check did not answer in time".into())))
            });
        }
        while let Some(done) = running.join_next().await {
            if let Ok((index, health)) = done
                && let Some((_, result)) = results.get_mut(index)
            {
                *result = health;
            }
        }
        HealthReport { checks: results }
    }
}

impl core::fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let checks = self.0.read();
        f.debug_list().entries(checks.iter().map(|check| check.name())).finish()
    }
}

/// What all checks said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReport {
    /// Name and answer of each check, in order of registration.
    pub checks: Vec<(String, Health)>,
}

impl HealthReport {
    /// The worst answer; healthy when there are none.
    #[must_use]
    pub fn worst(&self) -> &Health {
        self.checks.iter().map(|(_, health)| health).max().unwrap_or(&Health::Healthy)
    }

    /// True unless something is unhealthy.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.worst().is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Kind {
        Says(Health),
        Hangs,
        Panics,
    }

    struct Check(&'static str, Kind);

    #[async_trait]
    impl HealthCheck for Check {
        fn name(&self) -> &str {
            self.0
        }
        async fn check(&self) -> Health {
            match &self.1 {
                Kind::Says(health) => health.clone(),
                Kind::Hangs => std::future::pending().await,
                Kind::Panics => panic!("on purpose"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_worst_counts_and_checks_that_hang_or_panic_are_unhealthy() {
        let registry = HealthRegistry::new();
        assert_eq!(registry.report().await.worst(), &Health::Healthy);
        registry.register(Arc::new(Check("a", Kind::Says(Health::Healthy))));
        registry.register(Arc::new(Check("b", Kind::Says(Health::Degraded("slow".into())))));
        let report = registry.report().await;
        assert!(report.is_ready());
        assert_eq!(report.worst().message(), "slow");

        registry.register(Arc::new(Check("hangs", Kind::Hangs)));
        registry.register(Arc::new(Check("hangs too", Kind::Hangs)));
        registry.register(Arc::new(Check("panics", Kind::Panics)));
        let started = tokio::time::Instant::now();
        let report = registry.report().await;
        assert_eq!(started.elapsed().as_secs(), CHECK_TIMEOUT.as_secs(), "all at the same time");
        let names: Vec<_> = report.checks.iter().map(|(name, health)| (&**name, health.as_str())).collect();
        let unhealthy = "unhealthy";
        let expect = [
            ("a", "healthy"),
            ("b", "degraded"),
            ("hangs", unhealthy),
            ("hangs too", unhealthy),
            ("panics", unhealthy),
        ];
        assert_eq!(names, expect);
        assert!(!report.is_ready());
        registry.remove("hangs");
        assert_eq!(registry.report().await.checks.len(), 4);
    }

    #[test]
    fn checks_are_bounded_and_replaced_by_name() {
        let registry = HealthRegistry::new();
        let names: Vec<&'static str> =
            (0..MAX_CHECKS).map(|n| &*Box::leak(n.to_string().into_boxed_str())).collect();
        for name in &names {
            assert!(registry.register(Arc::new(Check(name, Kind::Hangs))));
        }
        assert!(!registry.register(Arc::new(Check("one more", Kind::Hangs))));
        assert!(registry.register(Arc::new(Check(names[0], Kind::Hangs))), "replaced");
    }
}
