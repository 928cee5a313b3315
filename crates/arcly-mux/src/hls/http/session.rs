//! Who watches: clients are known by what their requests have in common.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arcly_core::subscriber::ReaderState;
use arcly_core::{PlayRequest, Subscription, clock};
use parking_lot::Mutex;

use crate::hls::Directives;

/// Clients of one stream; more share the place of the one that was not heard of for longest.
const MAX_SESSIONS: usize = 100_000;

/// What tells one client from another without cookies: its address, its program, and what it proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    address: Option<IpAddr>,
    agent: Option<Arc<str>>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    query: String,
}

impl ClientKey {
    pub(super) fn of(request: &PlayRequest) -> Self {
        let shown = request.credentials.as_ref();
        let query = shown.and_then(|shown| shown.query.as_deref()).map(Directives::strip);
        Self {
            address: request.client.remote.map(|remote| remote.ip()),
            agent: request.client.agent.clone(),
            user: shown.and_then(|shown| shown.user.clone()),
            password: shown.and_then(|shown| shown.password.clone()),
            token: shown.and_then(|shown| shown.token.clone()),
            query: query.unwrap_or_default(),
        }
    }

    /// True when the sender proved who they are.
    pub(super) fn has_credentials(&self) -> bool {
        self.user.is_some() || self.token.is_some() || !self.query.is_empty()
    }

    /// Where it asks from; unspecified for code inside this process.
    pub(super) fn address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// What has to stand behind the URIs of playlists.
    pub(super) fn query(&self) -> &str {
        &self.query
    }
}

/// One client: a reader of the stream, although it reads in requests.
#[derive(Debug)]
pub(super) struct Session {
    client: Arc<ClientKey>,
    subscription: Subscription,
    /// Since when it is there.
    since: Instant,
    /// When it was last heard of, in milliseconds from then.
    heard_of: AtomicU64,
    /// Requests that are being answered.
    busy: AtomicUsize,
}

impl Session {
    fn new(client: Arc<ClientKey>, subscription: Subscription) -> Self {
        let since = clock::now();
        Self { client, subscription, since, heard_of: AtomicU64::new(0), busy: AtomicUsize::new(0) }
    }

    pub(super) fn client(&self) -> &ClientKey {
        &self.client
    }

    /// The reader that it is.
    pub(super) const fn reader(&self) -> &Arc<ReaderState> {
        self.subscription.state()
    }

    /// Notes that a request is being answered, until the return value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn note_heard(&self) {
        let after = clock::now().saturating_duration_since(self.since);
        self.heard_of.store(u64::try_from(after.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn heard_of(&self) -> Instant {
        let after = Duration::from_millis(self.heard_of.load(Ordering::Relaxed));
        self.since.checked_add(after).unwrap_or(self.since)
    }

    /// True when it was not heard of for `idle`.
    fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        self.busy.load(Ordering::Acquire) == 0 && now.saturating_duration_since(self.heard_of()) >= idle
    }
}

/// A request of a client that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        // In this order, so that it is never idle in between.
        self.0.note_heard();
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

/// The clients of one stream.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Arc<ClientKey>, Arc<Session>>>);

impl Sessions {
    /// A client that is known.
    pub(super) fn find(&self, key: &ClientKey) -> Option<Arc<Session>> {
        let session = Arc::clone(self.0.lock().get(key)?);
        session.note_heard();
        Some(session)
    }

    /// Lets a client in. When it came in another way meanwhile, the earlier one counts.
    pub(super) fn enter(&self, key: ClientKey, subscription: Subscription) -> Arc<Session> {
        let mut sessions = self.0.lock();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&key) {
            let oldest =
                sessions.iter().min_by_key(|(_, session)| session.heard_of()).map(|(key, _)| Arc::clone(key));
            oldest.and_then(|oldest| sessions.remove(&oldest));
        }
        let key = Arc::new(key);
        let session = match sessions.entry(Arc::clone(&key)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Arc::new(Session::new(key, subscription))),
        };
        Arc::clone(session)
    }

    /// Forgets those who were not heard of for `idle`; how many are left.
    pub(super) fn expire(&self, now: Instant, idle: Duration) -> usize {
        let mut sessions = self.0.lock();
        let gone: Vec<_> = sessions.extract_if(|_, session| session.is_idle(now, idle)).collect();
        let left = sessions.len();
        drop(sessions);
        // Observers are told without the lock.
        drop(gone);
        left
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
