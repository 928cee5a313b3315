//! A server's numbers, without a table of them.

use core::fmt;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::digest::hex;

/// How long a nonce may be answered.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// Digits of the time, and of the tag behind it.
const TIME_DIGITS: usize = 16;
const TAG_BYTES: usize = 16;

/// What a nonce is worth that a client has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It is one of ours, and young enough.
    Fresh,
    /// It was one of ours: the client is told `stale=true`, and asks nobody for a password.
    Stale,
    /// It was never given to this client.
    Foreign,
}

/// Gives out nonces that can be told again by a key: a time, and a tag over it and over whom it was given to. An answer that is
/// replayed over another connection is answered with a nonce of its own.
#[derive(Clone)]
pub struct Nonces {
    key: Hmac<Sha256>,
    origin: Instant,
    lifetime: Duration,
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Nonces {
    /// Nonces under a random key that live [`NONCE_LIFETIME`]. `origin` is any moment before they are given out.
    #[must_use]
    pub fn new(key: &[u8; 32], origin: Instant) -> Self {
        let key = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { key, origin, lifetime: NONCE_LIFETIME }
    }

    /// The same with another lifetime.
    #[must_use]
    pub const fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// A nonce for a client, which `whom` names: a number of its connection.
    #[must_use]
    pub fn issue(&self, now: Instant, whom: &[u8]) -> String {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        let time = format!("{:0TIME_DIGITS$x}", u64::try_from(millis).unwrap_or(u64::MAX));
        let tag = self.tag(&time, whom).finalize().into_bytes();
        let tag = hex(tag.get(..TAG_BYTES).unwrap_or_default());
        time + &tag
    }

    /// What a nonce is worth that comes from `whom`.
    #[must_use]
    pub fn check(&self, now: Instant, whom: &[u8], nonce: &str) -> Freshness {
        let Some((time, tag)) = nonce.split_at_checked(TIME_DIGITS) else { return Freshness::Foreign };
        let Some(tag) = unhex(tag) else { return Freshness::Foreign };
        let Ok(millis) = u64::from_str_radix(time, 16) else { return Freshness::Foreign };
        if tag.len() != TAG_BYTES || self.tag(time, whom).verify_truncated_left(&tag).is_err() {
            return Freshness::Foreign;
        }
        let age = now.saturating_duration_since(self.origin).saturating_sub(Duration::from_millis(millis));
        if age < self.lifetime { Freshness::Fresh } else { Freshness::Stale }
    }

    fn tag(&self, time: &str, whom: &[u8]) -> Hmac<Sha256> {
        self.key.clone().chain_update(time.as_bytes()).chain_update(whom)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}
