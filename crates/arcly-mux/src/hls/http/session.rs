//! Who watches: clients are known by what their requests have in common.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::subscriber::ReaderState;
use arcly_core::{CloseReason, PlayRequest, Subscription, clock};
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

    /// What has to stand behind the URIs of playlists.
    pub(super) fn query(&self) -> &str {
        &self.query
    }
}

/// One client: a reader of the stream, although it reads in requests.
#[derive(Debug)]
struct Session {
    subscription: Subscription,
    heard_of: Instant,
    /// Requests that are being answered.
    busy: usize,
}

/// The clients of one stream.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<ClientKey, Session>>);

impl Sessions {
    /// The reader that a client is, if it is known; or why it may read no more.
    pub(super) fn find(&self, key: &ClientKey) -> Option<Result<Arc<ReaderState>, CloseReason>> {
        let mut sessions = self.0.lock();
        let session = sessions.get_mut(key)?;
        session.heard_of = clock::now();
        let state = session.subscription.state();
        Some(state.close_reason().map_or_else(|| Ok(Arc::clone(state)), Err))
    }

    /// Lets a client in. When it came in another way meanwhile, the earlier one counts.
    pub(super) fn enter(&self, key: ClientKey, subscription: Subscription) -> Arc<ReaderState> {
        let mut sessions = self.0.lock();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&key) {
            let oldest =
                sessions.iter().min_by_key(|(_, session)| session.heard_of).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| sessions.remove(&oldest));
        }
        let session = match sessions.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Session { subscription, heard_of: clock::now(), busy: 0 }),
        };
        Arc::clone(session.subscription.state())
    }

    /// Notes that a request is being answered, or no longer.
    pub(super) fn set_busy(&self, key: &ClientKey, busy: bool) {
        if let Some(session) = self.0.lock().get_mut(key) {
            session.busy = if busy { session.busy.saturating_add(1) } else { session.busy.saturating_sub(1) };
            session.heard_of = clock::now();
        }
    }

    /// Forgets those who were not heard of for `idle`; how many are left.
    pub(super) fn expire(&self, now: Instant, idle: Duration) -> usize {
        let mut sessions = self.0.lock();
        let gone: Vec<_> = sessions
            .extract_if(|_, session| {
                session.busy == 0 && now.saturating_duration_since(session.heard_of) >= idle
            })
            .collect();
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
