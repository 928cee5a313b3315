//! AES-128 in CBC mode with PKCS #7 padding, a segment at a time.
//!
//! The initialisation vector is the media sequence number (5.2), so that playlists need not tell it. Keys are random, belong
//! to one rendition each, and are used for a number of consecutive segments: no two segments share key and vector.

use core::fmt;
use core::num::NonZeroU64;
use std::sync::Arc;

use aes::Aes128;
use arcly_core::TimeDelta;
use bytes::{Bytes, BytesMut};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};

use super::super::window::{Part, Segment};

/// Bytes of a block, and what padding adds at most.
const BLOCK: usize = 16;

/// How segments are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    rotate: NonZeroU64,
}

impl Encryption {
    /// A new key for every `segments` segments.
    #[must_use]
    pub const fn every(segments: NonZeroU64) -> Self {
        Self { rotate: segments }
    }
}

/// The key of some consecutive segments of a rendition.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    number: u64,
    bytes: [u8; 16],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.number)
    }
}

impl Key {
    /// Its number within the rendition: the media sequence number of its first segment.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The key.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }
}

/// Encrypts the segments of one rendition.
#[derive(Debug)]
pub(in crate::live) struct Sealer {
    rotate: u64,
    key: Option<Arc<Key>>,
}

impl Sealer {
    pub(in crate::live) const fn new(how: Encryption) -> Self {
        Self { rotate: how.rotate.get(), key: None }
    }

    /// Encrypts a complete segment, of which one part is left. What cannot be encrypted, because the system has no random
    /// numbers, is missing.
    pub(in crate::live) fn seal(&mut self, segment: &mut Segment) {
        if segment.is_gap() {
            return;
        }
        let key = self.key_of(segment.msn);
        let sealed = key.as_ref().and_then(|key| encrypt(&key.bytes, segment)).unwrap_or_default();
        let sum = |sum: TimeDelta, part: &Part| sum + part.duration;
        let whole = Part {
            number: segment.parts.first().map_or(0, |first| first.number),
            start: segment.start,
            duration: segment.parts.iter().fold(TimeDelta::ZERO, sum),
            ticks: 0..0,
            frames: segment.parts.iter().map(|part| part.frames).sum(),
            independent: segment.is_independent(),
            bytes: sealed,
        };
        segment.bytes = whole.bytes.len();
        segment.key = key.filter(|_| segment.bytes > 0);
        segment.parts = vec![whole];
    }

    /// The key of that segment.
    fn key_of(&mut self, msn: u64) -> Option<Arc<Key>> {
        let known = self.key.as_ref().filter(|key| msn.saturating_sub(key.number) < self.rotate);
        if let Some(known) = known {
            return Some(Arc::clone(known));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        self.key = Some(Arc::new(Key { number: msn, bytes }));
        self.key.clone()
    }
}

fn encrypt(key: &[u8; 16], segment: &Segment) -> Option<Bytes> {
    let len = segment.bytes;
    let mut buffer = BytesMut::with_capacity(len.saturating_add(BLOCK));
    segment.parts.iter().for_each(|part| buffer.extend_from_slice(&part.bytes));
    buffer.resize(len.saturating_add(BLOCK), 0);
    let vector = u128::from(segment.msn).to_be_bytes();
    let cipher = cbc::Encryptor::<Aes128>::new(key.into(), &vector.into());
    let sealed = cipher.encrypt_padded::<Pkcs7>(&mut buffer, len).ok()?.len();
    buffer.truncate(sealed);
    Some(buffer.freeze())
}
