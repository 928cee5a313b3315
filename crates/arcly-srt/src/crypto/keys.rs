//! Keys: derived, wrapped, and forgotten.

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use aes_kw::AesKw;
use sha1::Sha1;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Entropy, Passphrase};
use crate::wire::{KeyLength, KeyMaterial, SALT_BYTES};

/// Rounds of PBKDF2 (draft §6.1.4).
const ROUNDS: u32 = 2_048;
/// Bytes of the salt's end that go into PBKDF2 (`LSB(64, Salt)`).
const KDF_SALT_BYTES: usize = 8;
/// Bytes of the longest key.
const MAX_KEY: usize = 32;
/// Bytes that wrapping adds.
const WRAP_BYTES: usize = 8;

/// A key of one of three lengths, wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Key {
    bytes: [u8; MAX_KEY],
    #[zeroize(skip)]
    length: KeyLength,
}

impl Key {
    pub(super) fn random(length: KeyLength, entropy: &mut dyn Entropy) -> Self {
        let mut key = Self { bytes: [0; MAX_KEY], length };
        entropy.fill(key.as_mut());
        key
    }

    /// `None` when `bytes` is shorter than the key.
    fn from_slice(length: KeyLength, bytes: &[u8]) -> Option<Self> {
        let mut key = Self { bytes: [0; MAX_KEY], length };
        key.as_mut().copy_from_slice(bytes.get(..length.bytes())?);
        Some(key)
    }

    pub(super) const fn length(&self) -> KeyLength {
        self.length
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length.bytes()).unwrap_or_default()
    }

    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length.bytes()).unwrap_or_default()
    }
}

/// The key that wraps keys, and the salt that it was made with.
#[derive(Clone)]
pub(super) struct WrappingKey {
    salt: [u8; SALT_BYTES],
    key: Key,
}

impl WrappingKey {
    /// Some thousand hashes.
    pub(super) fn derive(passphrase: &Passphrase, salt: [u8; SALT_BYTES], length: KeyLength) -> Self {
        let mut key = Key { bytes: [0; MAX_KEY], length };
        let salt_end = salt.last_chunk::<KDF_SALT_BYTES>().map_or(&[][..], |end| end.as_slice());
        pbkdf2::pbkdf2_hmac::<Sha1>(passphrase.as_bytes(), salt_end, ROUNDS, key.as_mut());
        Self { salt, key }
    }

    pub(super) const fn salt(&self) -> [u8; SALT_BYTES] {
        self.salt
    }

    pub(super) const fn length(&self) -> KeyLength {
        self.key.length
    }

    /// True when key material was wrapped by this key, if the passphrase is right.
    pub(super) fn fits(&self, material: &KeyMaterial) -> bool {
        self.salt == material.salt && self.key.length == material.key_length
    }

    /// Wraps one key, or the even one and the odd one.
    pub(super) fn wrap(&self, first: &Key, second: Option<&Key>) -> Vec<u8> {
        let mut plain = first.as_slice().to_vec();
        plain.extend_from_slice(second.map_or(&[], Key::as_slice));
        let mut wrapped = vec![0; plain.len().saturating_add(WRAP_BYTES)];
        let key = self.key.as_slice();
        let done = match self.key.length {
            KeyLength::Aes128 => wrap::<Aes128>(key, &plain, &mut wrapped),
            KeyLength::Aes192 => wrap::<Aes192>(key, &plain, &mut wrapped),
            KeyLength::Aes256 => wrap::<Aes256>(key, &plain, &mut wrapped),
        };
        plain.zeroize();
        done.expect("a key is as long as its length says, and one or two of them are whole blocks");
        wrapped
    }

    /// The key, or the even one and the odd one; `None` when they were wrapped by another key.
    pub(super) fn unwrap(&self, material: &KeyMaterial) -> Option<(Key, Option<Key>)> {
        let mut plain = vec![0; material.wrapped.len().checked_sub(WRAP_BYTES)?];
        let key = self.key.as_slice();
        match self.key.length {
            KeyLength::Aes128 => unwrap::<Aes128>(key, &material.wrapped, &mut plain),
            KeyLength::Aes192 => unwrap::<Aes192>(key, &material.wrapped, &mut plain),
            KeyLength::Aes256 => unwrap::<Aes256>(key, &material.wrapped, &mut plain),
        }?;
        let length = material.key_length;
        let first = Key::from_slice(length, &plain);
        let second = plain.get(length.bytes()..).filter(|rest| !rest.is_empty());
        let keys = first.zip(Some(second.and_then(|second| Key::from_slice(length, second))));
        plain.zeroize();
        keys
    }
}

fn wrap<C>(key: &[u8], plain: &[u8], out: &mut [u8]) -> Option<()>
where
    C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    AesKw::<C>::new_from_slice(key).ok()?.wrap_key(plain, out).ok().map(|_| ())
}

fn unwrap<C>(key: &[u8], wrapped: &[u8], out: &mut [u8]) -> Option<()>
where
    C: KeyInit + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    AesKw::<C>::new_from_slice(key).ok()?.unwrap_key(wrapped, out).ok().map(|_| ())
}
