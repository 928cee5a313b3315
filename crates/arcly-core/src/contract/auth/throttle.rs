//! Slows down addresses that keep failing to log in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{AuthError, AuthRequest, Grant, StreamAuthenticator};

/// Failures that an address has for free.
const FREE_FAILURES: u32 = 5;
/// What each further attempt of that address waits.
const DELAY: Duration = Duration::from_secs(1);
/// When an address without failures is forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses remembered at a time; the one that failed longest ago makes room.
const MAX_ADDRESSES: usize = 4_096;
/// Attempts of one address that may wait to be looked at; further ones wait to be refused.
const MAX_TRIED: u32 = 16;
/// Attempts that may wait at a time, over all addresses; further ones are refused at once.
const MAX_HELD: usize = 4_096;

/// Counts failed logins per address and says how long the next attempt has to wait.
///
/// The first five failures are free, as typing errors are. From then on, until the address has not failed for a minute,
/// every attempt waits a second, at most 16 of one address are looked at per second, and at most 4 096 wait at a time
/// over all. At most 4 096 addresses are remembered. An IPv6 address stands for its /64, a mapped one for its IPv4 address.
#[derive(Debug, Default)]
pub struct LoginThrottle(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    addresses: HashMap<IpAddr, Record>,
    held: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    last: Instant,
    tried: u32,
}

/// What to do with an attempt. Keep it until the attempt is answered.
#[derive(Debug)]
pub struct Admission<'a> {
    /// Wait that long first.
    pub delay: Duration,
    /// Then look at the credentials; otherwise refuse without.
    pub examine: bool,
    held: Option<(&'a LoginThrottle, IpAddr)>,
}

impl LoginThrottle {
    /// Knows no failures.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks before an attempt from `address` is looked at.
    pub fn admit(&self, now: Instant, address: IpAddr) -> Admission<'_> {
        let address = site(address);
        let mut table = self.0.lock();
        let room = table.held < MAX_HELD;
        let Some(record) = table.addresses.get_mut(&address).filter(|record| record.is_slow(now)) else {
            return Admission { delay: Duration::ZERO, examine: true, held: None };
        };
        if !room {
            return Admission { delay: Duration::ZERO, examine: false, held: None };
        }
        record.tried = record.tried.saturating_add(1);
        let examine = record.tried <= MAX_TRIED;
        table.held += 1;
        Admission { delay: DELAY, examine, held: Some((self, address)) }
    }

    /// Notes that an attempt from `address` had wrong credentials.
    pub fn failed(&self, now: Instant, address: IpAddr) {
        let address = site(address);
        let mut table = self.0.lock();
        if table.addresses.len() >= MAX_ADDRESSES && !table.addresses.contains_key(&address) {
            table.make_room(now);
        }
        let fresh = Record { failures: 0, last: now, tried: 0 };
        let record = table.addresses.entry(address).or_insert(fresh);
        if record.is_forgotten(now) {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
    }

    /// Addresses remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().addresses.len()
    }

    /// True when no address is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some((throttle, address)) = self.held {
            let mut table = throttle.0.lock();
            table.held = table.held.saturating_sub(1);
            if let Some(record) = table.addresses.get_mut(&address) {
                record.tried = record.tried.saturating_sub(1);
            }
        }
    }
}

impl Record {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= MEMORY
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.failures >= FREE_FAILURES && !self.is_forgotten(now)
    }
}

impl Table {
    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, record| !record.is_forgotten(now));
        if self.addresses.len() < MAX_ADDRESSES {
            return;
        }
        let oldest = self.addresses.iter().min_by_key(|(_, record)| record.last).map(|(address, _)| *address);
        if let Some(oldest) = oldest {
            self.addresses.remove(&oldest);
        }
    }
}

/// What one subscriber of a network can choose freely counts as one address.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An authenticator with a [`LoginThrottle`] before it. Requests without an address or without credentials
/// pass and do not count.
#[derive(Debug, Default)]
pub struct Throttled<A> {
    inner: A,
    throttle: LoginThrottle,
}

impl<A> Throttled<A> {
    /// Slows down addresses that `inner` keeps answering with [`AuthError::Unauthorized`].
    #[must_use]
    pub fn new(inner: A) -> Self {
        Self { inner, throttle: LoginThrottle::new() }
    }
}

#[async_trait]
impl<A: StreamAuthenticator> StreamAuthenticator for Throttled<A> {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        let remote = request.credentials.remote.filter(|_| !request.credentials.is_anonymous());
        let Some(address) = remote.map(|remote| remote.ip()) else {
            return self.inner.authenticate(request).await;
        };
        let admission = self.throttle.admit(now(), address);
        tokio::time::sleep(admission.delay).await;
        if !admission.examine {
            return Err(AuthError::Unauthorized);
        }
        let answer = self.inner.authenticate(request).await;
        if answer == Err(AuthError::Unauthorized) {
            self.throttle.failed(now(), address);
        }
        answer
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
