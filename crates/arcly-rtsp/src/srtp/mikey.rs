//! MIKEY messages that carry one SRTP key (RFC 3830, as RTSP uses it: RFC 4567).
//!
//! ```text
//!   HDR (CSB id, SSRC and ROC of each source) ─ T ─ RAND ─ SP (what is encrypted, and how) ─ KEMAC (the key, in the clear)
//! ```
//!
//! Bounds: a message has at most [`MAX_MESSAGE`] bytes, [`MAX_SESSIONS`] sources, [`MAX_PAYLOADS`] payloads.
//!
//! The policies are AES-128 in counter mode with HMAC-SHA-1 and tags of 80 bits, and AES-128-GCM (RFC 7714 §14.3).
//!
//! Tolerated: payloads in any order, payloads that say nothing here (identities, certificates), parameters that are the
//! default, a key that has its salt at its end (GStreamer, gortsplib) as well as one with a salt of its own, a key
//! that packets name by an MKI.
//! Not done: encrypted or signed messages, generation keys (TGK), keys that are valid for a while, rekeying.

use arcly_core::wire::{DecodeError, Reader};
use base64ct::{Base64, Encoding as _};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::packet::{GCM_TAG_LEN, KEY_LEN, MasterKey, SALT_LEN, Suite, TAG_LEN};

/// Bytes of a message.
pub const MAX_MESSAGE: usize = 4 << 10;
/// Sources that a message names.
pub const MAX_SESSIONS: usize = 32;
/// Payloads behind the header.
pub const MAX_PAYLOADS: usize = 16;
/// Bytes that packets name a key by.
pub const MAX_MKI: usize = 128;

/// Payload types (§6.1, table 6.1.b).
mod payload {
    pub(super) const LAST: u8 = 0;
    pub(super) const KEMAC: u8 = 1;
    pub(super) const T: u8 = 5;
    pub(super) const ID: u8 = 6;
    pub(super) const CERT: u8 = 7;
    pub(super) const V: u8 = 9;
    pub(super) const SP: u8 = 10;
    pub(super) const RAND: u8 = 11;
    pub(super) const ERR: u8 = 12;
    pub(super) const EXT: u8 = 21;
}

/// SRTP parameters of a policy (§6.10.1).
mod parameter {
    pub(super) const ENCRYPTION: u8 = 0;
    pub(super) const KEY_LEN: u8 = 1;
    pub(super) const AUTHENTICATION: u8 = 2;
    pub(super) const AUTH_KEY_LEN: u8 = 3;
    pub(super) const SALT_LEN: u8 = 4;
    pub(super) const PRF: u8 = 5;
    pub(super) const DERIVATION_RATE: u8 = 6;
    pub(super) const ENCRYPT_RTP: u8 = 7;
    pub(super) const ENCRYPT_RTCP: u8 = 8;
    pub(super) const FEC_ORDER: u8 = 9;
    pub(super) const AUTHENTICATE: u8 = 10;
    pub(super) const TAG_LEN: u8 = 11;
    /// RFC 7714 §14.3.
    pub(super) const AEAD_TAG_LEN: u8 = 20;
}

/// Data types of a message (§6.1): the initiator's, with a key that both know beforehand, here none.
const PRE_SHARED: u8 = 0;
/// Key data: what encrypts traffic, without and with a salt (§6.13).
const TEK: u8 = 2;
const TEK_SALT: u8 = 3;
/// Validities of a key (§6.14): for ever, or where packets name it.
const ALWAYS: u8 = 0;
const NAMED: u8 = 1;
/// Encryption algorithms (§6.10.1, RFC 7714 §14.3).
const CM: u8 = 1;
const GCM: u8 = 6;
/// Bytes of an HMAC-SHA-1-160.
const MAC_LEN: usize = 20;

/// Why a message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MikeyError {
    /// It is no message.
    #[error(transparent)]
    Wire(#[from] DecodeError),
    /// It is no Base64.
    #[error("not base64")]
    Base64,
    /// It asks for something that is not done here.
    #[error("unsupported {0}")]
    Unsupported(&'static str),
    /// It has no key.
    #[error("no key")]
    NoKey,
}

/// A source whose packets the key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoSession {
    /// The source; 0 while it is not known.
    pub ssrc: u32,
    /// How often its sequence numbers have wrapped.
    pub roc: u32,
}

/// A message with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Names the bundle of sessions; chosen at random.
    pub csb_id: u32,
    /// The sources.
    pub sessions: Vec<CryptoSession>,
    /// When the message was made, NTP format.
    pub timestamp: u64,
    /// Random bytes of the initiator, 16 at least (§6.11).
    pub random: Bytes,
    /// The key.
    pub key: MasterKey,
    /// What packets name the key by (an MKI); empty where they do not.
    pub mki: Bytes,
}

impl Message {
    /// Reads the value of `a=key-mgmt:mikey` or the `data` of a `KeyMgmt` header.
    ///
    /// # Errors
    /// It is no message, or not one that can be used.
    pub fn from_base64(text: &str) -> Result<Self, MikeyError> {
        if text.len() > MAX_MESSAGE.div_ceil(3).saturating_mul(4) {
            return Err(exceeded("mikey", MAX_MESSAGE).into());
        }
        let bytes = Base64::decode_vec(text.trim()).map_err(|_| MikeyError::Base64)?;
        Self::decode(&bytes)
    }

    /// The same in Base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        Base64::encode_string(&self.to_bytes())
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no message, or not one that can be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, MikeyError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(exceeded("mikey", MAX_MESSAGE).into());
        }
        let mut r = Reader::new(bytes);
        let (header, mut next) = Header::decode(&mut r)?;
        let mut body = Body::default();
        for _ in 0..=MAX_PAYLOADS {
            if next == payload::LAST {
                r.finish("mikey")?;
                return body.with(header);
            }
            next = body.payload(next, &mut r)?;
        }
        Err(exceeded("mikey payloads", MAX_PAYLOADS).into())
    }

    /// The message in bytes. Sources and random bytes beyond what a message can say are left out.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let sessions = self.sessions.get(..MAX_SESSIONS).unwrap_or(&self.sessions);
        out.put_slice(&[1, PRE_SHARED, payload::T, 0]);
        out.put_u32(self.csb_id);
        // At most MAX_SESSIONS.
        out.put_u8(u8::try_from(sessions.len()).unwrap_or(u8::MAX));
        out.put_u8(0);
        for session in sessions {
            out.put_u8(0);
            out.put_u32(session.ssrc);
            out.put_u32(session.roc);
        }
        out.put_slice(&[payload::RAND, 0]);
        out.put_u64(self.timestamp);
        let random = self.random.get(..usize::from(u8::MAX)).unwrap_or(&self.random);
        out.put_slice(&[payload::SP, u8::try_from(random.len()).unwrap_or(u8::MAX)]);
        out.put_slice(random);
        put_policy(self.key.suite, &mut out);
        put_key(&self.key, self.mki.get(..MAX_MKI).unwrap_or(&self.mki), &mut out);
        out.freeze()
    }
}

/// What GStreamer and gortsplib write, and all that they understand: the length of the key that authenticates is that of the
/// tag there.
const POLICY: [(u8, u8); 7] = [
    (parameter::ENCRYPTION, CM),
    (parameter::KEY_LEN, 16),
    (parameter::AUTHENTICATION, 1),
    (parameter::AUTH_KEY_LEN, 10),
    (parameter::ENCRYPT_RTP, 1),
    (parameter::ENCRYPT_RTCP, 1),
    (parameter::AUTHENTICATE, 1),
];

/// The same of AES-GCM, which authenticates by itself.
const GCM_POLICY: [(u8, u8); 6] = [
    (parameter::ENCRYPTION, GCM),
    (parameter::KEY_LEN, 16),
    (parameter::ENCRYPT_RTP, 1),
    (parameter::ENCRYPT_RTCP, 1),
    (parameter::AUTHENTICATE, 1),
    (parameter::AEAD_TAG_LEN, 16),
];

fn put_policy(suite: Suite, out: &mut BytesMut) {
    let policy = match suite {
        Suite::AesCm => &POLICY[..],
        Suite::AesGcm => &GCM_POLICY,
    };
    out.put_slice(&[payload::KEMAC, 0, 0]);
    out.put_u16(u16::try_from(policy.len().saturating_mul(3)).unwrap_or(u16::MAX));
    policy.iter().for_each(|(kind, value)| out.put_slice(&[*kind, 1, *value]));
}

fn put_key(key: &MasterKey, mki: &[u8], out: &mut BytesMut) {
    let salt = key.salt.get(..key.suite.salt_len()).unwrap_or(&key.salt);
    let len = u16::try_from(KEY_LEN.saturating_add(salt.len())).unwrap_or_default();
    let named = u8::try_from(mki.len()).ok().filter(|len| *len > 0);
    // What names the key has a length before it.
    let validity = named.map_or(0, |len| u16::from(len).saturating_add(1));
    // KEMAC: last, not encrypted; in it one key; no MAC.
    out.put_slice(&[payload::LAST, 0]);
    out.put_u16(len.saturating_add(4).saturating_add(validity));
    out.put_slice(&[payload::LAST, TEK << 4 | if named.is_some() { NAMED } else { ALWAYS }]);
    out.put_u16(len);
    out.put_slice(&key.key);
    out.put_slice(salt);
    if let Some(len) = named {
        out.put_u8(len);
        out.put_slice(mki);
    }
    out.put_u8(0);
}

const fn exceeded(what: &'static str, limit: usize) -> DecodeError {
    DecodeError::LimitExceeded { what, limit: limit as u64 }
}

/// The common header (§6.1).
struct Header {
    csb_id: u32,
    sessions: Vec<CryptoSession>,
}

impl Header {
    fn decode(r: &mut Reader<'_>) -> Result<(Self, u8), MikeyError> {
        if r.u8("version")? != 1 {
            return Err(MikeyError::Unsupported("version"));
        }
        if r.u8("data type")? != PRE_SHARED {
            return Err(MikeyError::Unsupported("key exchange"));
        }
        let next = r.u8("next payload")?;
        if r.u8("prf")? & 0x7F != 0 {
            return Err(MikeyError::Unsupported("prf"));
        }
        let csb_id = r.u32("csb id")?;
        let count = usize::from(r.u8("sessions")?);
        if count > MAX_SESSIONS {
            return Err(exceeded("mikey sessions", MAX_SESSIONS).into());
        }
        if r.u8("map type")? != 0 {
            return Err(MikeyError::Unsupported("map type"));
        }
        let mut sessions = Vec::new();
        for _ in 0..count {
            r.skip(1, "policy")?;
            sessions.push(CryptoSession { ssrc: r.u32("ssrc")?, roc: r.u32("roc")? });
        }
        Ok((Self { csb_id, sessions }, next))
    }
}

/// What the payloads say.
#[derive(Default)]
struct Body {
    timestamp: u64,
    random: Bytes,
    suite: Suite,
    /// The first: the key and its salt, which may come before what says for which suite they are, and what names it.
    key: Option<(Vec<u8>, Bytes)>,
}

impl Body {
    fn with(self, header: Header) -> Result<Message, MikeyError> {
        let (bytes, mki) = self.key.ok_or(MikeyError::NoKey)?;
        let mut r = Reader::new(&bytes);
        let key = r.array::<KEY_LEN>("key")?;
        let mut salt = [0; SALT_LEN];
        let len = self.suite.salt_len();
        salt.iter_mut().zip(r.bytes(len, "salt")?).for_each(|(salt, byte)| *salt = *byte);
        r.finish("salt")?;
        let key = MasterKey { key, salt, suite: self.suite };
        Ok(Message {
            csb_id: header.csb_id,
            sessions: header.sessions,
            timestamp: self.timestamp,
            random: self.random,
            key,
            mki,
        })
    }

    /// Reads a payload; the type of the next one.
    fn payload(&mut self, kind: u8, r: &mut Reader<'_>) -> Result<u8, MikeyError> {
        let next = r.u8("next payload")?;
        match kind {
            payload::T => match r.u8("timestamp type")? {
                0 | 1 => self.timestamp = r.u64("timestamp")?,
                2 => self.timestamp = r.u32("timestamp")?.into(),
                _ => return Err(r.malformed("timestamp type").into()),
            },
            payload::RAND => {
                let len = r.u8("random length")?.into();
                self.random = Bytes::copy_from_slice(r.bytes(len, "random")?);
            }
            payload::SP => self.policy(r)?,
            payload::KEMAC => self.key(r)?,
            payload::ID | payload::CERT | payload::EXT => {
                r.skip(1, "type")?;
                let len = r.u16("length")?.into();
                r.skip(len, "payload")?;
            }
            payload::V => {
                let mac = r.u8("mac")?;
                skip_mac(mac, r)?;
            }
            payload::ERR => return Err(MikeyError::Unsupported("error message")),
            _ => return Err(MikeyError::Unsupported("payload")),
        }
        Ok(next)
    }

    /// A security policy (§6.10). What it does not say is the default of its suite, which is all that is done here.
    fn policy(&mut self, r: &mut Reader<'_>) -> Result<(), MikeyError> {
        r.skip(1, "policy number")?;
        if r.u8("protocol")? != 0 {
            return Err(MikeyError::Unsupported("protocol"));
        }
        let len = r.u16("policy length")?.into();
        let mut parameters = r.sub(len, "policy")?;
        let mut said: Vec<(u8, u64)> = Vec::new();
        while !parameters.is_empty() {
            let kind = parameters.u8("parameter")?;
            let len = parameters.u8("parameter length")?.into();
            let value = parameters.bytes(len, "parameter")?;
            said.push((kind, value.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))));
        }
        let is_gcm = said.contains(&(parameter::ENCRYPTION, GCM.into()));
        self.suite = if is_gcm { Suite::AesGcm } else { Suite::AesCm };
        let is_known = |(kind, value): &(u8, u64)| is_done(self.suite, *kind, *value);
        if said.iter().all(is_known) { Ok(()) } else { Err(MikeyError::Unsupported("srtp parameter")) }
    }

    /// Key data transport (§6.2), and the first key in it (§6.13).
    fn key(&mut self, r: &mut Reader<'_>) -> Result<(), MikeyError> {
        if r.u8("encryption")? != 0 {
            return Err(MikeyError::Unsupported("encryption of the key"));
        }
        let len = r.u16("key data length")?.into();
        let mut data = r.sub(len, "key data")?;
        let mac = r.u8("mac")?;
        skip_mac(mac, r)?;
        data.skip(1, "next payload")?;
        let kind = data.u8("key type")?;
        let len = data.u16("key length")?.into();
        let mut key = data.bytes(len, "key")?.to_vec();
        match kind >> 4 {
            TEK => {}
            TEK_SALT => {
                let len = data.u16("salt length")?.into();
                key.extend_from_slice(data.bytes(len, "salt")?);
            }
            _ => return Err(MikeyError::Unsupported("key type")),
        }
        let mki = match kind & 0x0F {
            ALWAYS => Bytes::new(),
            NAMED => named(&mut data)?,
            _ => return Err(MikeyError::Unsupported("key validity")),
        };
        self.key.get_or_insert((key, mki));
        Ok(())
    }
}

/// Whether what a parameter says is what is done here.
fn is_done(suite: Suite, kind: u8, value: u64) -> bool {
    let gcm = suite == Suite::AesGcm;
    match kind {
        parameter::ENCRYPTION => value == u64::from(if gcm { GCM } else { CM }),
        parameter::ENCRYPT_RTP | parameter::ENCRYPT_RTCP => value == 1,
        // What encrypts with AES-GCM authenticates, whatever else is said about that.
        parameter::AUTHENTICATION
        | parameter::AUTH_KEY_LEN
        | parameter::AUTHENTICATE
        | parameter::TAG_LEN
            if gcm =>
        {
            true
        }
        parameter::AUTHENTICATION | parameter::AUTHENTICATE => value == 1,
        parameter::KEY_LEN => value == KEY_LEN as u64,
        // The second is the tag's length, which is what some mean.
        parameter::AUTH_KEY_LEN => value == 20 || value == TAG_LEN as u64,
        parameter::SALT_LEN => value == suite.salt_len() as u64,
        parameter::PRF | parameter::DERIVATION_RATE | parameter::FEC_ORDER => value == 0,
        parameter::TAG_LEN => value == TAG_LEN as u64,
        parameter::AEAD_TAG_LEN => gcm && value == GCM_TAG_LEN as u64,
        _ => true,
    }
}

/// What a key is named by (§6.14).
fn named(data: &mut Reader<'_>) -> Result<Bytes, MikeyError> {
    let len = usize::from(data.u8("mki length")?);
    if len > MAX_MKI {
        return Err(exceeded("mki", MAX_MKI).into());
    }
    Ok(Bytes::copy_from_slice(data.bytes(len, "mki")?))
}

fn skip_mac(algorithm: u8, r: &mut Reader<'_>) -> Result<(), MikeyError> {
    match algorithm {
        0 => Ok(()),
        1 => Ok(r.skip(MAC_LEN, "mac")?),
        _ => Err(r.malformed("mac").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            csb_id: 0xDEAD_BEEF,
            sessions: vec![CryptoSession { ssrc: 7, roc: 1 }, CryptoSession { ssrc: 8, roc: 0 }],
            timestamp: 0xE8A1_0000_8000_0000,
            random: Bytes::from_static(&[9; 16]),
            key: MasterKey { key: [1; KEY_LEN], salt: [2; SALT_LEN], suite: Suite::AesCm },
            mki: Bytes::new(),
        }
    }

    #[test]
    fn messages_come_back() {
        let sent = message();
        assert_eq!(Message::decode(&sent.to_bytes()), Ok(sent.clone()));
        assert_eq!(Message::from_base64(&sent.to_base64()), Ok(sent));
        let named = Message { mki: Bytes::from_static(&[7; MAX_MKI]), ..message() };
        assert_eq!(Message::decode(&named.to_bytes()), Ok(named));
        let gcm = message().of_suite(Suite::AesGcm);
        assert_eq!(gcm.key.salt, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0]);
        assert_eq!(Message::decode(&gcm.to_bytes()), Ok(gcm.clone()));
        assert_ne!(Message::decode(&gcm.to_bytes()).map(|m| m.key), Ok(message().key));
        let many = Message { sessions: vec![CryptoSession { ssrc: 1, roc: 0 }; 40], ..message() };
        assert_eq!(Message::decode(&many.to_bytes()).unwrap().sessions.len(), MAX_SESSIONS);
    }

    /// What GStreamer's `gst_mikey_message_new_from_caps` makes, field by field, for random bytes and keys of these tests.
    #[test]
    fn a_message_is_laid_out_as_gstreamer_does() {
        let sent = Message { sessions: vec![CryptoSession { ssrc: 7, roc: 0 }], ..message() };
        let header = [1, 0, 5, 0, 0xDE, 0xAD, 0xBE, 0xEF, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
        let time = [11, 0, 0xE8, 0xA1, 0, 0, 0x80, 0, 0, 0];
        let policy = [1, 0, 0, 0, 21, 0, 1, 1, 1, 1, 16, 2, 1, 1, 3, 1, 10, 7, 1, 1, 8, 1, 1, 10, 1, 1];
        let key = [0, 0, 0, 34, 0, 0x20, 0, 30];
        let expect =
            [&header[..], &time, &[10, 16], &[9; 16], &policy, &key, &[1; 16], &[2; 14], &[0]].concat();
        assert_eq!(sent.to_bytes()[..], expect);
    }

    /// RFC 7714 §14.3, by the numbers that GStreamer has for them (`GST_MIKEY_ENC_AES_GCM_128`, `AEAD_AUTH_TAG_LEN`).
    #[test]
    fn rfc_7714_14_3_a_message_for_aes_gcm() {
        let sent = Message { sessions: vec![CryptoSession { ssrc: 7, roc: 0 }], ..message() };
        let bytes = sent.of_suite(Suite::AesGcm).to_bytes();
        let at = bytes.len() - (2 + 2 + 4 + KEY_LEN + 12 + 1) - 18;
        assert_eq!(bytes[at - 5..at], [1, 0, 0, 0, 18]);
        assert_eq!(bytes[at..at + 18], [0, 1, 6, 1, 1, 16, 7, 1, 1, 8, 1, 1, 10, 1, 1, 20, 1, 16]);
        assert_eq!(bytes[at + 18..at + 26], [0, 0, 0, 32, 0, 0x20, 0, 28]);
        let changed = |parameter: usize, value| {
            let mut bytes = bytes.to_vec();
            bytes[at + parameter * 3 + 2] = value;
            Message::decode(&bytes).map(|message| message.key.suite)
        };
        assert_eq!(changed(0, 6), Ok(Suite::AesGcm));
        for (parameter, value) in [(0, 5), (1, 32), (2, 0), (3, 0), (5, 8)] {
            let expect = Err(MikeyError::Unsupported("srtp parameter"));
            assert_eq!(changed(parameter, value), expect, "{parameter} {value}");
        }
        // The key of one suite is none of the other.
        assert!(matches!(changed(0, 1), Err(MikeyError::Unsupported(_))));
    }

    #[test]
    fn every_prefix_is_refused() {
        let bytes = message().to_bytes();
        for len in 0..bytes.len() {
            assert!(Message::decode(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
        }
        assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err(), "something is behind it");
    }

    #[test]
    fn no_byte_makes_it_panic() {
        let bytes = message().to_bytes();
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                let _ = Message::decode(&changed);
            }
        }
    }

    #[test]
    fn a_key_with_a_salt_of_its_own() {
        let sent = message();
        let mut bytes = sent.to_bytes().to_vec();
        let kemac = bytes.len() - (2 + 2 + 4 + KEY_LEN + SALT_LEN + 1);
        bytes.truncate(kemac);
        bytes.extend([0, 0, 0, 36, 0, TEK_SALT << 4, 0, 16]);
        bytes.extend(sent.key.key);
        bytes.extend([0, 14]);
        bytes.extend(sent.key.salt);
        bytes.push(0);
        assert_eq!(Message::decode(&bytes), Ok(sent));
    }

    #[test]
    fn what_is_not_done() {
        let bytes = message().to_bytes();
        let changed = |at: usize, value| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            Message::decode(&bytes).unwrap_err()
        };
        let kemac = bytes.len() - (2 + 2 + 4 + KEY_LEN + SALT_LEN + 1);
        assert_eq!(changed(0, 2), MikeyError::Unsupported("version"));
        assert_eq!(changed(1, 2), MikeyError::Unsupported("key exchange"));
        assert_eq!(changed(kemac + 1, 1), MikeyError::Unsupported("encryption of the key"));
        assert_eq!(changed(kemac + 5, 0), MikeyError::Unsupported("key type"));
        assert_eq!(changed(kemac + 5, TEK << 4 | 2), MikeyError::Unsupported("key validity"));
        // What would name it is behind it, and is not there.
        assert!(matches!(changed(kemac + 5, TEK << 4 | NAMED), MikeyError::Wire(_)));
        assert_eq!(Message::from_base64("!"), Err(MikeyError::Base64));
        assert!(Message::from_base64(&"A".repeat(8_192)).is_err());
        let shown = format!("{:?}", message());
        assert!(!shown.contains("1, 1, 1"), "keys are not shown: {shown}");
    }
}
