//! The keys of one session: made at random by its owner, used for one presentation.

use arcly_rtp::sdp::{Attribute, MediaDescription};
use arcly_rtp::wire::NtpTime;
use bytes::Bytes;

use super::mikey::{CryptoSession, Message};
use super::packet::{KEY_LEN, MasterKey, Receiver, SALT_LEN, Sender, Suite};
use crate::wire::Profile;

/// Media that there are keys for: what a description has at the most.
const MEDIA: usize = arcly_rtp::sdp::MAX_MEDIA;
/// Bytes of a key and its salt.
const KEY_AND_SALT: usize = KEY_LEN + SALT_LEN;
/// Bytes of randomness that goes into messages (RFC 3830 §6.11).
const NONCE: usize = 16;

/// Keys that this side protects what it sends with, one for each medium, and what messages about them say.
///
/// A keyring is for one presentation and is not used again: two packets of one number under one key would show what they have
/// in common.
#[derive(Clone)]
pub struct Keyring {
    random: Box<[u8; Self::RANDOM]>,
    time: NtpTime,
}

impl core::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// Random bytes that it is made of.
    pub const RANDOM: usize = MEDIA * KEY_AND_SALT + NONCE + 4;

    /// Keys out of random bytes that nobody else knows, made at that time.
    #[must_use]
    pub fn new(random: Box<[u8; Self::RANDOM]>, time: NtpTime) -> Self {
        Self { random, time }
    }

    /// The key of a medium, by its place; `None` beyond the last.
    #[must_use]
    pub fn key(&self, medium: usize) -> Option<MasterKey> {
        let at = medium.checked_mul(KEY_AND_SALT).filter(|_| medium < MEDIA)?;
        let (key, salt) = self.random.get(at..)?.split_first_chunk()?;
        Some(MasterKey { key: *key, salt: *salt.first_chunk()?, suite: Suite::AesCm })
    }

    /// The message that says the key of a medium, whose packets that source sends.
    #[must_use]
    pub fn message(&self, medium: usize, ssrc: u32) -> Option<Message> {
        let rest = self.random.get(MEDIA.saturating_mul(KEY_AND_SALT)..)?;
        let (nonce, id) = rest.split_first_chunk::<NONCE>()?;
        let id = u32::from_be_bytes(*id.first_chunk()?);
        Some(Message {
            csb_id: id.wrapping_add(u32::try_from(medium).ok()?),
            // Numbers begin in the first half of their range, and are counted from there.
            sessions: vec![CryptoSession { ssrc, roc: 0 }],
            timestamp: self.time.0,
            random: Bytes::copy_from_slice(nonce),
            key: self.key(medium)?,
            mki: Bytes::new(),
        })
    }
}

impl Message {
    /// The same key for another suite, that of the peer.
    #[must_use]
    pub fn of_suite(self, suite: Suite) -> Self {
        Self { key: self.key.of_suite(suite), ..self }
    }

    /// Says in a description that its packets are protected, and with what (RFC 4567 §3.1).
    pub(crate) fn announce(&self, media: &mut MediaDescription) {
        media.protocol = Profile::Savp.as_str().to_owned();
        media.attributes.push(Attribute::new("key-mgmt", format!("mikey {}", self.to_base64())));
    }
}

/// How a medium's packets are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// What this side sends.
    pub ours: MasterKey,
    /// What the peer sends, where it has said.
    pub theirs: Option<Message>,
}

impl Protection {
    /// Protects what is sent.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender::new(&self.ours)
    }

    /// Takes apart what comes; `None` when the peer has said no key.
    #[must_use]
    pub fn receiver(&self) -> Option<Receiver> {
        let theirs = self.theirs.as_ref()?;
        let mut receiver = Receiver::new(&theirs.key).with_mki(theirs.mki.clone());
        theirs.sessions.iter().for_each(|session| receiver.announce(session.ssrc, session.roc));
        Some(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_medium_has_a_key_of_its_own() {
        let mut random = Box::new([0; Keyring::RANDOM]);
        random.iter_mut().enumerate().for_each(|(at, byte)| *byte = u8::try_from(at % 251).unwrap());
        let keys = Keyring::new(random, NtpTime(7));
        let made: Vec<_> = (0..MEDIA).map(|medium| keys.key(medium).unwrap()).collect();
        assert!(made.iter().enumerate().all(|(at, key)| !made[..at].contains(key)));
        assert_eq!(keys.key(MEDIA), None);
        let message = keys.message(3, 9).unwrap();
        assert_eq!((&message.key, message.timestamp), (&made[3], 7));
        assert_eq!(message.sessions, [CryptoSession { ssrc: 9, roc: 0 }]);
        assert_eq!(Message::decode(&message.to_bytes()), Ok(message));
        assert_eq!(format!("{keys:?}"), "Keyring(…)");
    }
}
