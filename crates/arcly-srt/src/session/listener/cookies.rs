//! SYN cookies: what proves an address without anything being kept for it (draft section 4.3.1.1).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A cookie is that of this minute or of the last.
const COOKIE_PERIOD: Duration = Duration::from_secs(60);
/// So long after it was made, no cookie is right any more.
pub(super) const COOKIE_LIFE: Duration = Duration::from_secs(120);

/// Makes cookies, and knows them again: `HMAC-SHA256(secret, address, minute)`, cut to 32 bits.
pub(super) struct Cookies {
    start: Instant,
    /// With the secret in it: half of what a cookie costs is spent once.
    mac: Hmac<Sha256>,
}

impl Cookies {
    pub(super) fn new(now: Instant, secret: &[u8; 32]) -> Self {
        let mac = Hmac::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
        Self { start: now, mac }
    }

    /// The cookie of an address at this time.
    pub(super) fn make(&self, now: Instant, from: SocketAddr) -> u32 {
        self.of(from, self.minute(now))
    }

    pub(super) fn is_right(&self, now: Instant, from: SocketAddr, cookie: u32) -> bool {
        let minute = self.minute(now);
        let last = minute.checked_sub(1);
        cookie == self.of(from, minute) || last.is_some_and(|last| cookie == self.of(from, last))
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / COOKIE_PERIOD.as_secs()
    }

    fn of(&self, from: SocketAddr, minute: u64) -> u32 {
        let mut mac = self.mac.clone();
        match from.ip() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac.update(&from.port().to_be_bytes());
        mac.update(&minute.to_be_bytes());
        let code = mac.finalize().into_bytes();
        code.first_chunk().map_or(0, |head| u32::from_be_bytes(*head))
    }
}

/// The secret stays one.
impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}
