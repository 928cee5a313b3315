//! Which server of several has a stream: the directory that an origin writes to and an edge asks.
//!
//! ```text
//! origin:  claim ──► Lease(epoch) ──renew──renew──► release          a renewal refused = somebody else has it: stop publishing
//! edge:    locate ──► Origin(epoch, url) ──► pull;  when the pull fails: locate again, never believe an old answer
//! ```
//!
//! A claim is a *lease*: it lapses unless renewed, so that a server that dies gives its streams back. Every
//! claim gets an *epoch* greater than all before it for that stream, and renewal and release name theirs: an origin that was away
//! and comes back with an old epoch is refused, and cannot overwrite its successor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::clock;
use crate::key::StreamKey;

/// Most streams that a [`MemoryCluster`] knows.
pub const MAX_CLAIMS: usize = 65_536;

/// A server that has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// Which server: unique in the cluster, and the same after a restart.
    pub node: Arc<str>,
    /// Where to pull the stream from.
    pub url: Arc<str>,
    /// Which claim this is; a greater one is newer.
    pub epoch: u64,
}

/// The right to be a stream's origin, until it lapses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The stream.
    pub key: StreamKey,
    /// Which claim this is.
    pub epoch: u64,
    /// When it lapses; `None` for never. Renew well before: at a third of the time-to-live.
    pub expires: Option<Instant>,
}

impl Lease {
    /// A lease, for directories outside this crate.
    #[must_use]
    pub const fn new(key: StreamKey, epoch: u64, expires: Option<Instant>) -> Self {
        Self { key, epoch, expires }
    }
}

impl Origin {
    /// An origin, for directories outside this crate.
    #[must_use]
    pub const fn new(node: Arc<str>, url: Arc<str>, epoch: u64) -> Self {
        Self { node, url, epoch }
    }
}

/// Why the directory refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Another server has the stream.
    #[error("{} has the stream", .0.node)]
    Held(Origin),
    /// The lease has lapsed, or somebody has claimed the stream since: stop being its origin.
    #[error("the lease is no longer valid")]
    Fenced,
    /// The directory has no room.
    #[error("the directory is full")]
    Full,
    /// The directory does not answer. A lease holds until it lapses all the same.
    #[error("the directory does not answer: {0}")]
    Unavailable(Arc<str>),
}

/// The directory of a cluster, as one of its servers sees it.
///
/// An implementation bounds its own time. Each method is cancel safe in the sense that the directory stays consistent: a
/// call whose future is dropped happened or did not, and a claim nobody knows of lapses.
///
/// ```
/// use std::time::Duration;
/// use arcly_core::StreamKey;
/// use arcly_core::contract::cluster::{ClusterRelay, MemoryCluster};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let directory = MemoryCluster::new();
/// let (origin, edge) = (directory.node("a", "rtmp://a.example"), directory.node("b", "rtmp://b.example"));
/// let cam = StreamKey::new("live", "cam");
/// let lease = origin.claim(&cam, Duration::from_secs(10)).await?;
/// assert_eq!(edge.locate(&cam).await?.map(|origin| origin.url).as_deref(), Some("rtmp://a.example/live/cam"));
/// origin.release(&lease).await?;
/// # Ok::<(), arcly_core::contract::cluster::ClusterError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait ClusterRelay: Send + Sync {
    /// Makes this server the stream's origin for `ttl`. A claim on a stream that this server has already (from before a
    /// restart) succeeds with a new epoch.
    ///
    /// # Errors
    /// [`ClusterError::Held`] when another server's lease has not lapsed.
    async fn claim(&self, key: &StreamKey, ttl: Duration) -> Result<Lease, ClusterError>;

    /// Makes a lease last for `ttl` from now.
    ///
    /// # Errors
    /// [`ClusterError::Fenced`] when it is not the stream's lease any more; it never becomes so again.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, ClusterError>;

    /// Gives a lease back.
    ///
    /// # Errors
    /// [`ClusterError::Fenced`] when it is not the stream's lease any more; nothing changes then.
    async fn release(&self, lease: &Lease) -> Result<(), ClusterError>;

    /// The server that has the stream now, when that is another than this one.
    ///
    /// # Errors
    /// The directory does not answer.
    async fn locate(&self, key: &StreamKey) -> Result<Option<Origin>, ClusterError>;
}

/// No cluster: this server has every stream that is published to it, and nobody else has any.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleNode;

#[async_trait]
impl ClusterRelay for SingleNode {
    async fn claim(&self, key: &StreamKey, _: Duration) -> Result<Lease, ClusterError> {
        Ok(Lease::new(key.clone(), 0, None))
    }

    async fn renew(&self, lease: &Lease, _: Duration) -> Result<Lease, ClusterError> {
        Ok(lease.clone())
    }

    async fn release(&self, _: &Lease) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn locate(&self, _: &StreamKey) -> Result<Option<Origin>, ClusterError> {
        Ok(None)
    }
}

/// A directory in memory, for several engines of one process and for tests. At most [`MAX_CLAIMS`] streams.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster(Arc<Mutex<Directory>>);

#[derive(Debug, Default)]
struct Directory {
    /// Rises with every claim on any stream, so that nothing has to be remembered of streams that are gone.
    epoch: u64,
    claims: HashMap<StreamKey, Claim>,
}

#[derive(Debug)]
struct Claim {
    origin: Origin,
    expires: Instant,
}

/// One server's view of a [`MemoryCluster`].
#[derive(Clone, Debug)]
pub struct MemoryNode {
    directory: Arc<Mutex<Directory>>,
    node: Arc<str>,
    url: Arc<str>,
}

impl MemoryCluster {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The view of the server `node`, whose streams are at `url/KEY`.
    #[must_use]
    pub fn node(&self, node: &str, url: &str) -> MemoryNode {
        MemoryNode { directory: self.0.clone(), node: node.into(), url: url.into() }
    }
}

impl Directory {
    fn live(&self, key: &StreamKey, now: Instant) -> Option<&Claim> {
        self.claims.get(key).filter(|claim| claim.expires > now)
    }

    fn make_room(&mut self, key: &StreamKey, now: Instant) -> Result<(), ClusterError> {
        if self.claims.len() >= MAX_CLAIMS && !self.claims.contains_key(key) {
            self.claims.retain(|_, claim| claim.expires > now);
        }
        if self.claims.len() >= MAX_CLAIMS && !self.claims.contains_key(key) {
            return Err(ClusterError::Full);
        }
        Ok(())
    }

    /// The claim that a lease stands for, while it does.
    fn held(&mut self, lease: &Lease, node: &str, now: Instant) -> Result<&mut Claim, ClusterError> {
        let claim = self.claims.get_mut(&lease.key).filter(|claim| claim.expires > now);
        let claim = claim.filter(|claim| claim.origin.epoch == lease.epoch && &*claim.origin.node == node);
        claim.ok_or(ClusterError::Fenced)
    }
}

/// The instant `ttl` from now; a time-to-live beyond what a clock can hold is a year.
fn lapse(now: Instant, ttl: Duration) -> Instant {
    now.checked_add(ttl).unwrap_or(now + Duration::from_secs(365 * 86_400))
}

#[async_trait]
impl ClusterRelay for MemoryNode {
    async fn claim(&self, key: &StreamKey, ttl: Duration) -> Result<Lease, ClusterError> {
        let now = clock::now();
        let mut directory = self.directory.lock();
        if let Some(claim) = directory.live(key, now)
            && claim.origin.node != self.node
        {
            return Err(ClusterError::Held(claim.origin.clone()));
        }
        directory.make_room(key, now)?;
        directory.epoch += 1;
        let url = format!("{}/{key}", self.url).into();
        let origin = Origin::new(self.node.clone(), url, directory.epoch);
        let lease = Lease::new(key.clone(), origin.epoch, Some(lapse(now, ttl)));
        directory.claims.insert(key.clone(), Claim { origin, expires: lapse(now, ttl) });
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, ClusterError> {
        let now = clock::now();
        let mut directory = self.directory.lock();
        let claim = directory.held(lease, &self.node, now)?;
        claim.expires = lapse(now, ttl);
        Ok(Lease { expires: Some(claim.expires), ..lease.clone() })
    }

    async fn release(&self, lease: &Lease) -> Result<(), ClusterError> {
        let mut directory = self.directory.lock();
        directory.held(lease, &self.node, clock::now())?;
        directory.claims.remove(&lease.key);
        Ok(())
    }

    async fn locate(&self, key: &StreamKey) -> Result<Option<Origin>, ClusterError> {
        let directory = self.directory.lock();
        let claim = directory.live(key, clock::now()).filter(|claim| claim.origin.node != self.node);
        Ok(claim.map(|claim| claim.origin.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn two() -> (MemoryNode, MemoryNode, StreamKey) {
        let cluster = MemoryCluster::new();
        (cluster.node("a", "rtmp://a"), cluster.node("b", "rtmp://b"), StreamKey::new("live", "cam"))
    }

    async fn advance(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_origin_at_a_time() {
        let (a, b, cam) = two();
        assert_eq!(b.locate(&cam).await, Ok(None));
        let lease = a.claim(&cam, TTL).await.expect("free");
        let origin = Origin::new("a".into(), "rtmp://a/live/cam".into(), lease.epoch);
        assert_eq!(b.locate(&cam).await, Ok(Some(origin.clone())));
        assert_eq!(a.locate(&cam).await, Ok(None), "nobody pulls from itself");
        assert_eq!(b.claim(&cam, TTL).await, Err(ClusterError::Held(origin)));
        assert_eq!(b.release(&lease).await, Err(ClusterError::Fenced), "a lease is its owner's");
        a.release(&lease).await.expect("held");
        assert_eq!(b.locate(&cam).await, Ok(None));
        assert!(b.claim(&cam, TTL).await.expect("free again").epoch > lease.epoch);
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_was_away_cannot_overwrite_its_successor() {
        let (a, b, cam) = two();
        let old = a.claim(&cam, TTL).await.expect("free");
        advance(9).await;
        let old = a.renew(&old, TTL).await.expect("in time");
        advance(9).await;
        assert!(b.claim(&cam, TTL).await.is_err(), "renewed");
        advance(1).await;
        assert_eq!(b.locate(&cam).await, Ok(None), "lapsed");
        assert_eq!(a.renew(&old, TTL).await, Err(ClusterError::Fenced), "too late, though nobody has it yet");
        let new = b.claim(&cam, TTL).await.expect("lapsed");
        assert!(new.epoch > old.epoch);
        assert_eq!(a.renew(&old, TTL).await, Err(ClusterError::Fenced));
        assert_eq!(a.release(&old).await, Err(ClusterError::Fenced));
        assert_eq!(a.locate(&cam).await.map(|o| o.map(|o| o.epoch)), Ok(Some(new.epoch)), "b's, still");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_restarts_takes_over_its_own_claim() {
        let (a, b, cam) = two();
        let before = a.claim(&cam, TTL).await.expect("free");
        let after = a.claim(&cam, Duration::MAX).await.expect("its own");
        assert!(after.epoch > before.epoch);
        assert_eq!(a.renew(&before, TTL).await, Err(ClusterError::Fenced), "what is left of the old process");
        assert_eq!(b.locate(&cam).await.map(|o| o.map(|o| o.epoch)), Ok(Some(after.epoch)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_directory_is_bounded_and_forgets_what_lapsed() {
        let (a, _, cam) = two();
        for n in 0..MAX_CLAIMS {
            a.claim(&StreamKey::new("live", &n.to_string()), TTL).await.expect("room");
        }
        assert_eq!(a.claim(&cam, TTL).await, Err(ClusterError::Full));
        assert!(
            a.claim(&StreamKey::new("live", "0"), Duration::from_secs(60)).await.is_ok(),
            "a claim that is there"
        );
        advance(10).await;
        assert!(a.claim(&cam, TTL).await.is_ok());
        assert_eq!(a.directory.lock().claims.len(), 2);
    }

    #[tokio::test]
    async fn a_single_node_has_everything() {
        let cam = StreamKey::new("live", "cam");
        let lease = SingleNode.claim(&cam, TTL).await.expect("always");
        assert_eq!(SingleNode.claim(&cam, TTL).await.as_ref(), Ok(&lease));
        assert_eq!(SingleNode.renew(&lease, TTL).await.as_ref(), Ok(&lease));
        assert_eq!(SingleNode.release(&lease).await, Ok(()));
        assert_eq!(SingleNode.locate(&cam).await, Ok(None));
    }
}
