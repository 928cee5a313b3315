//! What is there of encryption when it is not compiled in: the same methods, on something that cannot be made.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{CryptoConfig, CryptoError, Entropy, OpenError, RequestError, ResponseOutcome};
use crate::wire::{Cipher, DataHeader, KeyLength, KeyMaterial, KeyResponse};

/// The encryption of a connection; cannot be made without the feature `encryption`.
#[derive(Debug)]
pub enum Crypto {}

impl Crypto {
    /// Fails.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`], always.
    pub const fn new(_config: &CryptoConfig) -> Result<Self, CryptoError> {
        Err(CryptoError::Unsupported)
    }

    /// Makes the first key.
    pub fn initiate(&mut self, _entropy: &mut dyn Entropy) -> KeyMaterial {
        match *self {}
    }

    /// Takes the peer's keys.
    ///
    /// # Errors
    /// None.
    pub fn handle_request(&mut self, _now: Instant, _keys: &KeyMaterial) -> Result<(), RequestError> {
        match *self {}
    }

    /// Takes the answer to keys.
    pub fn handle_response(&mut self, _response: &KeyResponse) -> ResponseOutcome {
        match *self {}
    }

    /// Encrypts a payload.
    pub fn seal(&mut self, _header: &mut DataHeader, _payload: &mut BytesMut) {
        match *self {}
    }

    /// Decrypts a payload.
    ///
    /// # Errors
    /// None.
    pub fn open(&self, _header: &DataHeader, _payload: &mut BytesMut) -> Result<(), OpenError> {
        match *self {}
    }

    /// Keys to send.
    pub fn poll_request(
        &mut self,
        _now: Instant,
        _retry: Duration,
        _entropy: &mut dyn Entropy,
    ) -> Option<KeyMaterial> {
        match *self {}
    }

    /// When to ask for keys to send again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match *self {}
    }

    /// Bytes that sealing adds to a payload.
    #[must_use]
    pub fn overhead(&self) -> usize {
        match *self {}
    }

    /// How long keys are.
    #[must_use]
    pub fn key_length(&self) -> KeyLength {
        match *self {}
    }

    /// What is encrypted with.
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        match *self {}
    }

    /// True when both directions have keys.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        match *self {}
    }
}
