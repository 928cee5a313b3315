//! Encryption (draft-sharabayko-srt §6): keys out of a passphrase, payloads sealed and opened, keys that change while
//! packets flow.
//!
//! | what | how |
//! |---|---|
//! | key encrypting key | PBKDF2-HMAC-SHA1 of the passphrase, the last 8 bytes of the salt, 2048 rounds |
//! | stream encrypting keys | random; wrapped by AES key wrap (RFC 3394) in [`KeyMaterial`](crate::wire::KeyMaterial) |
//! | payloads | AES-CTR, or AES-GCM with the packet's header authenticated, as libsrt does from 1.5.4 on |
//! | counters and nonces | the salt, XORed with the packet's sequence number |
//!
//! ```text
//!  even ═══════════════════════════╗
//!          announced ─ confirmed ─▶╚═ odd ══════════════════════╗
//!                                           announced ─ … ─────▶╚═ even ═══
//! ```
//!
//! The sender announces the next key `announce_packets` before it is due, repeats that until the peer has confirmed it, and
//! changes over when it is due *and* confirmed. The receiver keeps both keys. A packet is sealed once, when it gets its
//! sequence number, and repeated as it is.
//!
//! A responder without a key of its own sends with its peer's, as libsrt does: the draft has only one key until somebody
//! refreshes it. In counter mode that gives away what two packets of one number differ in, so a connection that sends both
//! ways in earnest wants AES-GCM, or a refresh.
//!
//! Without the feature `encryption` a [`Crypto`] cannot be made, and everything else is as it is.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

#[cfg(not(feature = "encryption"))]
mod absent;
#[cfg(feature = "encryption")]
mod cipher;
#[cfg(feature = "encryption")]
mod connection;
#[cfg(feature = "encryption")]
mod keys;
#[cfg(test)]
#[cfg(feature = "encryption")]
mod tests;

#[cfg(not(feature = "encryption"))]
pub use absent::Crypto;
#[cfg(feature = "encryption")]
pub use connection::Crypto;

use core::fmt;
use core::str::FromStr;

use crate::wire::{Cipher, KeyLength, KmState};

/// Bytes that AES-GCM adds to a payload.
pub const TAG_BYTES: usize = 16;
/// Key requests that are taken at once. Each costs a thousand hashes.
pub const REQUEST_BURST: u32 = 4;
/// Packets after which a key is given up whether or not the peer has confirmed the next: half of the sequence numbers, so
/// that no counter is ever used twice.
pub const MAX_PACKETS_PER_KEY: u32 = 1 << 30;

/// Where random bytes come from: the operating system, or a test.
pub trait Entropy: Send {
    /// Fills `out` with bytes that nobody can guess.
    fn fill(&mut self, out: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Entropy for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// What both ends know: 10 to 79 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// Bytes of the shortest.
    pub const MIN_BYTES: usize = 10;
    /// Bytes of the longest: what libsrt takes.
    pub const MAX_BYTES: usize = 79;

    #[cfg(feature = "encryption")]
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromStr for Passphrase {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(CryptoError::Passphrase)
        }
    }
}

/// Without the passphrase.
impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How a connection is encrypted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CryptoConfig {
    /// What both ends know.
    pub passphrase: Passphrase,
    /// How long the keys are that an initiator makes. A responder takes what the initiator has made.
    pub key_length: KeyLength,
    /// What an initiator encrypts with. A responder with [`Cipher::Gcm`] takes nothing weaker.
    pub cipher: Cipher,
    /// Packets that are sealed with one key.
    pub refresh_packets: u32,
    /// Packets before the change at which the next key is announced.
    pub announce_packets: u32,
}

impl CryptoConfig {
    /// AES-128 in counter mode; a new key after 2²⁴ packets, announced 2¹² packets before: libsrt's defaults.
    #[must_use]
    pub const fn new(passphrase: Passphrase) -> Self {
        Self {
            passphrase,
            key_length: KeyLength::Aes128,
            cipher: Cipher::Ctr,
            refresh_packets: 1 << 24,
            announce_packets: 1 << 12,
        }
    }

    /// The same with keys of this length.
    #[must_use]
    pub const fn with_key_length(mut self, key_length: KeyLength) -> Self {
        self.key_length = key_length;
        self
    }

    /// The same with this cipher.
    #[must_use]
    pub const fn with_cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = cipher;
        self
    }

    /// The same with a new key after so many packets, announced so many before; at most half of them.
    #[must_use]
    pub const fn with_refresh(mut self, refresh_packets: u32, announce_packets: u32) -> Self {
        self.refresh_packets = refresh_packets;
        self.announce_packets =
            if announce_packets > refresh_packets / 2 { refresh_packets / 2 } else { announce_packets };
        self
    }
}

/// An encryption that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// The passphrase is too short or too long.
    #[error("a passphrase has {} to {} bytes", Passphrase::MIN_BYTES, Passphrase::MAX_BYTES)]
    Passphrase,
    /// The feature `encryption` is not compiled in.
    #[error("this program was built without encryption")]
    Unsupported,
}

/// Key material that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// To be answered with this state.
    #[error("key material is refused: {0:?}")]
    Refused(KmState),
    /// More than [`REQUEST_BURST`] at once, or one in a second: to be dropped.
    #[error("too many key requests")]
    Limited,
}

/// What an answer to key material means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// The peer has the keys.
    Confirmed,
    /// It has not. Of a handshake, the connection is not encrypted the same way on both sides; of a refresh, the key in use
    /// stays, and the next is announced again later.
    Refused(KmState),
    /// Nothing was asked, or something else was.
    Ignored,
}

/// A payload that cannot be read: to be dropped, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is in the clear, on a connection that is not.
    #[error("a payload in the clear on an encrypted connection")]
    InTheClear,
    /// The key that it names was never given.
    #[error("a payload with a key that was not given")]
    NoKey,
    /// It, or its header, was changed on the way.
    #[error("a payload that is not what was sent")]
    Forged,
}
