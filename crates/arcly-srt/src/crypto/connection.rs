//! The encryption of one connection.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::cipher::PacketCipher;
use super::keys::{Key, WrappingKey};
use super::{
    CryptoConfig, CryptoError, Entropy, MAX_PACKETS_PER_KEY, OpenError, REQUEST_BURST, RequestError,
    ResponseOutcome, TAG_BYTES,
};
use crate::wire::{
    Cipher, DataHeader, KeyFlags, KeyLength, KeyMaterial, KeyResponse, KeySpec, KmState, SALT_BYTES,
};

/// The encryption of a connection, both directions: holds at most two keys to receive with, and two to send with.
pub struct Crypto {
    config: CryptoConfig,
    /// Of the peer's last key material; so that a refresh, which keeps the salt, costs no hashes.
    wrapping: Option<WrappingKey>,
    receive: ReceiveKeys,
    send: Option<SendKeys>,
    budget: Budget,
}

/// What the peer's payloads are opened with.
#[derive(Default)]
struct ReceiveKeys {
    even: Option<PacketCipher>,
    odd: Option<PacketCipher>,
    /// What they came in: a repetition costs nothing.
    material: Option<KeyMaterial>,
}

/// What payloads are sealed with.
struct SendKeys {
    wrapping: WrappingKey,
    cipher: Cipher,
    active: Active,
    /// Packets sealed with the active key.
    sealed: u32,
    /// Packets after which the next key is announced.
    announce_at: u32,
    /// Key material whose answer is waited for, or the next key.
    pending: Pending,
}

struct Active {
    spec: KeySpec,
    key: Key,
    cipher: PacketCipher,
}

enum Pending {
    None,
    /// Of the handshake.
    First(KeyMaterial),
    /// The next key is announced.
    Next(Box<Next>),
}

struct Next {
    active: Active,
    material: KeyMaterial,
    confirmed: bool,
    /// When to announce it again.
    repeat: Instant,
}

impl Crypto {
    /// Encryption that has no keys yet.
    ///
    /// # Errors
    /// None; without the feature `encryption`, always.
    pub fn new(config: &CryptoConfig) -> Result<Self, CryptoError> {
        Ok(Self {
            config: config.clone(),
            wrapping: None,
            receive: ReceiveKeys::default(),
            send: None,
            budget: Budget { spent: 0, since: None },
        })
    }

    /// Makes the first key, the even one, for both directions: what an initiator sends in its conclusion.
    pub fn initiate(&mut self, entropy: &mut dyn Entropy) -> KeyMaterial {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        let (cipher, length) = (self.config.cipher, self.config.key_length);
        let key = Key::random(length, entropy);
        let wrapping = WrappingKey::derive(&self.config.passphrase, salt, length);
        let material = KeyMaterial::new(cipher, KeyFlags::Even, salt, length, &wrapping.wrap(&key, None));
        self.receive.install(cipher, salt, KeySpec::Even, &key);
        let active = Active::new(cipher, salt, KeySpec::Even, key);
        let pending = Pending::First(material.clone());
        self.send = Some(SendKeys { pending, ..SendKeys::new(&self.config, wrapping, cipher, active) });
        material
    }

    /// Takes the peer's keys: in the handshake as its responder, and later when it refreshes them. A side that has no key of
    /// its own sends with the peer's. To be answered with the same material.
    ///
    /// # Errors
    /// The passphrase or the cipher is another, or there were too many requests.
    pub fn handle_request(&mut self, now: Instant, material: &KeyMaterial) -> Result<(), RequestError> {
        if self.receive.material.as_ref() == Some(material) {
            return Ok(());
        }
        if self.config.cipher == Cipher::Gcm && material.cipher != Cipher::Gcm {
            return Err(RequestError::Refused(KmState::BadCipher));
        }
        self.budget.spend(now)?;
        let wrapping = match self.wrapping.take().filter(|wrapping| wrapping.fits(material)) {
            Some(wrapping) => wrapping,
            None => WrappingKey::derive(&self.config.passphrase, material.salt, material.key_length),
        };
        let keys = wrapping.unwrap(material);
        self.wrapping = Some(wrapping.clone());
        let (first, second) = keys.ok_or(RequestError::Refused(KmState::BadSecret))?;
        let spec = if material.keys == KeyFlags::Odd { KeySpec::Odd } else { KeySpec::Even };
        self.receive.install(material.cipher, material.salt, spec, &first);
        if let Some(odd) = &second {
            self.receive.install(material.cipher, material.salt, KeySpec::Odd, odd);
        }
        self.receive.material = Some(material.clone());
        if self.send.is_none() {
            let active = Active::new(material.cipher, material.salt, spec, first);
            self.send = Some(SendKeys::new(&self.config, wrapping, material.cipher, active));
        }
        Ok(())
    }

    /// Takes the peer's answer to keys of this side.
    pub fn handle_response(&mut self, response: &KeyResponse) -> ResponseOutcome {
        self.send
            .as_mut()
            .map_or(ResponseOutcome::Ignored, |send| send.handle_response(response, &self.config))
    }

    /// Encrypts in place, names the key in the header, and in AES-GCM appends [`TAG_BYTES`]. The rest of the header is to be
    /// as it is sent: in AES-GCM a change to it shows. While there is no key a payload is emptied: nothing goes out in the
    /// clear.
    pub fn seal(&mut self, header: &mut DataHeader, payload: &mut BytesMut) {
        let Some(send) = &mut self.send else { return payload.clear() };
        send.change_over(&self.config);
        header.key = send.active.spec;
        send.active.cipher.seal(header, payload);
        send.sealed = send.sealed.saturating_add(1);
    }

    /// Decrypts in place, and in AES-GCM takes the tag off.
    ///
    /// # Errors
    /// It is to be dropped, and counted; what is in it then means nothing.
    pub fn open(&self, header: &DataHeader, payload: &mut BytesMut) -> Result<(), OpenError> {
        let cipher = match header.key {
            KeySpec::None => return Err(OpenError::InTheClear),
            KeySpec::Even => &self.receive.even,
            KeySpec::Odd => &self.receive.odd,
        };
        cipher.as_ref().ok_or(OpenError::NoKey)?.open(header, payload)
    }

    /// Keys to send to the peer: the next ones when it is time to announce them, and again every `retry` until they are
    /// confirmed. To be asked after [`seal`](Self::seal) and at [`poll_timeout`](Self::poll_timeout).
    pub fn poll_request(
        &mut self,
        now: Instant,
        retry: Duration,
        entropy: &mut dyn Entropy,
    ) -> Option<KeyMaterial> {
        self.send.as_mut()?.poll_request(now, retry, entropy)
    }

    /// When to call [`poll_request`](Self::poll_request) next; `None` while no answer is waited for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.send.as_ref()?.pending {
            Pending::Next(next) if !next.confirmed => Some(next.repeat),
            _ => None,
        }
    }

    /// Bytes that sealing adds to a payload.
    #[must_use]
    pub fn overhead(&self) -> usize {
        if self.cipher() == Cipher::Gcm { TAG_BYTES } else { 0 }
    }

    /// How long keys are: the initiator's choice once there are some.
    #[must_use]
    pub fn key_length(&self) -> KeyLength {
        self.send.as_ref().map_or(self.config.key_length, |send| send.wrapping.length())
    }

    /// What is encrypted with: the initiator's choice once there are keys.
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        self.send.as_ref().map_or(self.config.cipher, |send| send.cipher)
    }

    /// True when both directions have keys, and the peer has confirmed those of the handshake.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.send.as_ref().is_some_and(|send| !matches!(send.pending, Pending::First(_)))
    }
}

/// Without keys.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let active = self.send.as_ref().map(|send| (send.active.spec, send.sealed));
        f.debug_struct("Crypto").field("sends_with", &active).finish_non_exhaustive()
    }
}

impl ReceiveKeys {
    fn install(&mut self, cipher: Cipher, salt: [u8; SALT_BYTES], spec: KeySpec, key: &Key) {
        let cipher = PacketCipher::new(cipher, salt, key);
        match spec {
            KeySpec::Odd => self.odd = Some(cipher),
            KeySpec::Even | KeySpec::None => self.even = Some(cipher),
        }
    }
}

impl Active {
    fn new(cipher: Cipher, salt: [u8; SALT_BYTES], spec: KeySpec, key: Key) -> Self {
        Self { spec, cipher: PacketCipher::new(cipher, salt, &key), key }
    }
}

impl SendKeys {
    fn new(config: &CryptoConfig, wrapping: WrappingKey, cipher: Cipher, active: Active) -> Self {
        let announce_at = config.refresh_packets.saturating_sub(config.announce_packets);
        Self { wrapping, cipher, active, sealed: 0, announce_at, pending: Pending::None }
    }

    fn handle_response(&mut self, response: &KeyResponse, config: &CryptoConfig) -> ResponseOutcome {
        let asked = match &self.pending {
            Pending::None => return ResponseOutcome::Ignored,
            Pending::Next(next) if next.confirmed => return ResponseOutcome::Ignored,
            Pending::First(material) => material,
            Pending::Next(next) => &next.material,
        };
        match response {
            KeyResponse::Accepted(material) if material != asked => ResponseOutcome::Ignored,
            KeyResponse::Accepted(_) => {
                match &mut self.pending {
                    Pending::Next(next) => next.confirmed = true,
                    pending => *pending = Pending::None,
                }
                ResponseOutcome::Confirmed
            }
            KeyResponse::Refused(state) => {
                if matches!(self.pending, Pending::Next(_)) {
                    // The key in use is still good. Asking again at once would be answered alike.
                    self.pending = Pending::None;
                    self.announce_at = self.sealed.saturating_add(config.announce_packets);
                }
                ResponseOutcome::Refused(*state)
            }
        }
    }

    /// Changes over to the next key when it is due and the peer has it, or when there is no other way.
    fn change_over(&mut self, config: &CryptoConfig) {
        let Pending::Next(next) = &self.pending else { return };
        let due = self.sealed >= config.refresh_packets && next.confirmed;
        if !due && self.sealed < MAX_PACKETS_PER_KEY {
            return;
        }
        if let Pending::Next(next) = core::mem::replace(&mut self.pending, Pending::None) {
            self.active = next.active;
            self.sealed = 0;
            self.announce_at = config.refresh_packets.saturating_sub(config.announce_packets);
        }
    }

    fn poll_request(
        &mut self,
        now: Instant,
        retry: Duration,
        entropy: &mut dyn Entropy,
    ) -> Option<KeyMaterial> {
        match &mut self.pending {
            Pending::None if self.sealed >= self.announce_at => {
                let next = self.announce(later(now, retry), entropy);
                let material = next.material.clone();
                self.pending = Pending::Next(Box::new(next));
                Some(material)
            }
            Pending::Next(next) if !next.confirmed && now >= next.repeat => {
                next.repeat = later(now, retry);
                Some(next.material.clone())
            }
            _ => None,
        }
    }

    /// Makes the next key, and wraps it together with the one in use. The salt stays, and with it the wrapping key.
    fn announce(&self, repeat: Instant, entropy: &mut dyn Entropy) -> Next {
        let length = self.wrapping.length();
        let key = Key::random(length, entropy);
        let (spec, wrapped) = if self.active.spec == KeySpec::Even {
            (KeySpec::Odd, self.wrapping.wrap(&self.active.key, Some(&key)))
        } else {
            (KeySpec::Even, self.wrapping.wrap(&key, Some(&self.active.key)))
        };
        let salt = self.wrapping.salt();
        let material = KeyMaterial::new(self.cipher, KeyFlags::Both, salt, length, &wrapped);
        Next { active: Active::new(self.cipher, salt, spec, key), material, confirmed: false, repeat }
    }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

/// How many key requests are still taken.
struct Budget {
    spent: u32,
    /// When the first was spent of those that are not given back.
    since: Option<Instant>,
}

impl Budget {
    fn spend(&mut self, now: Instant) -> Result<(), RequestError> {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_secs();
        if back > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        if self.spent >= REQUEST_BURST {
            return Err(RequestError::Limited);
        }
        self.spent = self.spent.saturating_add(1);
        Ok(())
    }
}
