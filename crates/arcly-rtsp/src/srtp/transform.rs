//! What protects one packet: AES in counter mode with HMAC-SHA1 (RFC 3711), or AES-GCM (RFC 7714).
//!
//! ```text
//!   RTP   AES-CM   header │ payload ⊕ keystream │ MKI │ tag = HMAC-SHA1(header ‖ payload ‖ ROC)
//!         AES-GCM  header │ payload ⊕ keystream, tag over the header too │ MKI
//!   RTCP  AES-CM   8 B │ rest │ E‖index │ MKI │ tag
//!         AES-GCM  8 B │ rest, tag over the first 8 B and E‖index too │ E‖index │ MKI
//! ```

use aes::Aes128;
use aes::cipher::consts::U12;
use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _};
use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{AesGcm, Tag};
use arcly_core::wire::Reader;
use bytes::{BufMut as _, BytesMut};
use ctr::CtrCore;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use smallvec::SmallVec;
use subtle::ConstantTimeEq as _;

use super::packet::SrtpError;

/// Bytes of a master key and of its salt (RFC 3711 §8.2).
pub const KEY_LEN: usize = 16;
/// See [`KEY_LEN`].
pub const SALT_LEN: usize = 14;
/// Bytes of a salt of AES-GCM (RFC 7714 §12).
const GCM_SALT_LEN: usize = 12;
/// Bytes of a tag: `AES_CM_128_HMAC_SHA1_80`, the one that everybody has.
pub const TAG_LEN: usize = 10;
/// Bytes of a tag of AES-GCM.
pub const GCM_TAG_LEN: usize = 16;
/// Bytes of an SRTCP index, and of the header that is not encrypted.
const INDEX_LEN: usize = 4;
pub(super) const RTCP_HEADER: usize = 8;
/// Bytes of an HMAC-SHA1 key (RFC 3711 §8.2).
const AUTH_KEY_LEN: usize = 20;
/// Set in the SRTCP index of a packet that is encrypted.
pub(super) const ENCRYPTED: u32 = 1 << 31;

/// What packets are protected with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`, which everybody has.
    #[default]
    AesCm,
    /// `AEAD_AES_128_GCM`.
    AesGcm,
}

impl Suite {
    /// Bytes of a master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AesCm => SALT_LEN,
            Self::AesGcm => GCM_SALT_LEN,
        }
    }
}

/// What all other keys are derived from. Not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// The key.
    pub key: [u8; KEY_LEN],
    /// The salt; where it is shorter ([`Suite::salt_len`]), with zeros behind it, as RFC 7714 §11 derives keys.
    pub salt: [u8; SALT_LEN],
    /// What it is for.
    pub suite: Suite,
}

impl MasterKey {
    /// The same for another suite.
    #[must_use]
    pub fn of_suite(mut self, suite: Suite) -> Self {
        self.salt.iter_mut().skip(suite.salt_len()).for_each(|byte| *byte = 0);
        Self { suite, ..self }
    }
}

impl core::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// A packet on its way, by what its protection depends on: who sends it, and how many were sent before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) ssrc: u32,
    pub(super) index: u64,
}

/// A protected RTP packet in parts.
pub(super) struct RtpParts<'a> {
    /// Header and encrypted payload.
    pub(super) body: &'a [u8],
    tag: &'a [u8],
}

/// A protected RTCP packet in parts.
pub(super) struct RtcpParts<'a> {
    /// Header and encrypted rest.
    pub(super) body: &'a [u8],
    word: &'a [u8],
    tag: &'a [u8],
}

impl RtcpParts<'_> {
    /// Its number, and whether it is encrypted.
    pub(super) fn index(&self) -> Result<(u64, bool), SrtpError> {
        let word = Reader::new(self.word).u32("srtcp index")?;
        Ok(((word & !ENCRYPTED).into(), word & ENCRYPTED != 0))
    }
}

/// The keys of RTP or RTCP (RFC 3711 §4.3.1).
pub(super) enum Keys {
    Cm(Box<CounterMode>),
    Gcm(Box<GaloisCounterMode>),
}

/// Labels of derived keys: encryption, authentication, salt.
pub(super) const RTP_LABELS: [u8; 3] = [0, 1, 2];
pub(super) const RTCP_LABELS: [u8; 3] = [3, 4, 5];

impl Keys {
    pub(super) fn derive(master: &MasterKey, [encryption, authentication, salting]: [u8; 3]) -> Self {
        let cipher = Aes128::new(&master.key.into());
        let (mut key, mut auth, mut salt) = ([0; KEY_LEN], [0; AUTH_KEY_LEN], [0; SALT_LEN]);
        derive(&cipher, master, encryption, &mut key);
        derive(&cipher, master, authentication, &mut auth);
        derive(&cipher, master, salting, &mut salt);
        match master.suite {
            Suite::AesCm => Self::Cm(Box::new(CounterMode::new(key, salt, auth))),
            Suite::AesGcm => {
                let [nonce @ .., _, _] = salt;
                Self::Gcm(Box::new(GaloisCounterMode::new(key, nonce)))
            }
        }
    }

    /// Protects an RTP packet whose header has so many bytes.
    pub(super) fn seal(&self, place: Place, header: usize, packet: &mut BytesMut) {
        match self {
            Self::Cm(keys) => {
                keys.crypt(place, packet.get_mut(header..).unwrap_or_default());
                let tag = keys.tag([packet, &roc(place.index)]);
                packet.put_slice(tag.get(..TAG_LEN).unwrap_or(&tag));
            }
            Self::Gcm(keys) => {
                let tag = keys.seal(place, header, &[], packet);
                packet.put_slice(&tag);
            }
        }
    }

    /// Protects an RTCP packet.
    pub(super) fn seal_rtcp(&self, place: Place, packet: &mut BytesMut) {
        let word = (u32::try_from(place.index).unwrap_or(u32::MAX) | ENCRYPTED).to_be_bytes();
        match self {
            Self::Cm(keys) => {
                keys.crypt(place, packet.get_mut(RTCP_HEADER..).unwrap_or_default());
                packet.put_slice(&word);
                let tag = keys.tag([packet, &[]]);
                packet.put_slice(tag.get(..TAG_LEN).unwrap_or(&tag));
            }
            Self::Gcm(keys) => {
                let tag = keys.seal(place, RTCP_HEADER, &word, packet);
                packet.put_slice(&tag);
                packet.put_slice(&word);
            }
        }
    }

    /// Takes a protected RTP packet apart, which names its key so.
    pub(super) fn split<'a>(&self, packet: &'a [u8], mki: &[u8]) -> Result<RtpParts<'a>, SrtpError> {
        let (body, tag) = match self {
            Self::Cm(_) => {
                let (body, tag) = cut(packet, TAG_LEN);
                (without(body, mki)?, tag)
            }
            Self::Gcm(_) => cut(without(packet, mki)?, GCM_TAG_LEN),
        };
        Ok(RtpParts { body, tag })
    }

    /// Takes a protected RTCP packet apart.
    pub(super) fn split_rtcp<'a>(&self, packet: &'a [u8], mki: &[u8]) -> Result<RtcpParts<'a>, SrtpError> {
        let (body, word, tag) = match self {
            Self::Cm(_) => {
                let (rest, tag) = cut(packet, TAG_LEN);
                let (body, word) = cut(without(rest, mki)?, INDEX_LEN);
                (body, word, tag)
            }
            Self::Gcm(_) => {
                let (rest, word) = cut(without(packet, mki)?, INDEX_LEN);
                let (body, tag) = cut(rest, GCM_TAG_LEN);
                (body, word, tag)
            }
        };
        Ok(RtcpParts { body, word, tag })
    }

    /// The RTP packet whose header has so many bytes, if it is authentic.
    pub(super) fn open(
        &self,
        place: Place,
        header: usize,
        parts: &RtpParts<'_>,
    ) -> Result<BytesMut, SrtpError> {
        let mut out = BytesMut::from(parts.body);
        match self {
            Self::Cm(keys) => {
                authentic(&keys.tag([parts.body, &roc(place.index)]), parts.tag)?;
                keys.crypt(place, out.get_mut(header..).unwrap_or_default());
            }
            Self::Gcm(keys) => keys.open(place, (header, &[]), &mut out, parts.tag)?,
        }
        Ok(out)
    }

    /// The RTCP packet, if it is authentic.
    pub(super) fn open_rtcp(&self, place: Place, parts: &RtcpParts<'_>) -> Result<BytesMut, SrtpError> {
        let mut out = BytesMut::from(parts.body);
        let (_, is_encrypted) = parts.index()?;
        let clear = if is_encrypted { RTCP_HEADER } else { out.len() };
        match self {
            Self::Cm(keys) => {
                authentic(&keys.tag([parts.body, parts.word]), parts.tag)?;
                keys.crypt(place, out.get_mut(clear..).unwrap_or_default());
            }
            Self::Gcm(keys) => keys.open(place, (clear, parts.word), &mut out, parts.tag)?,
        }
        Ok(out)
    }
}

/// AES-CM and HMAC-SHA1.
pub(super) struct CounterMode {
    cipher: Aes128,
    salt: u128,
    auth: Hmac<Sha1>,
}

impl CounterMode {
    pub(super) fn new(key: [u8; KEY_LEN], salt: [u8; SALT_LEN], auth: [u8; AUTH_KEY_LEN]) -> Self {
        let auth = Hmac::new_from_slice(&auth).expect("HMAC takes keys of any length");
        Self { cipher: Aes128::new(&key.into()), salt: block(salt), auth }
    }

    /// Encrypts or decrypts (RFC 3711 §4.1.1): the index has 48 bits, which stand 16 bits from the end, as the salt does.
    pub(super) fn crypt(&self, Place { ssrc, index }: Place, data: &mut [u8]) {
        let nonce = self.salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        keystream(&self.cipher, nonce).apply_keystream(data);
    }

    fn tag(&self, parts: [&[u8]; 2]) -> [u8; 20] {
        let mut auth = self.auth.clone();
        parts.iter().for_each(|part| auth.update(part));
        auth.finalize().into_bytes().into()
    }
}

/// AES-GCM.
pub(super) struct GaloisCounterMode {
    cipher: AesGcm<Aes128, U12>,
    salt: [u8; GCM_SALT_LEN],
}

impl GaloisCounterMode {
    pub(super) fn new(key: [u8; KEY_LEN], salt: [u8; GCM_SALT_LEN]) -> Self {
        Self { cipher: AesGcm::new(&key.into()), salt }
    }

    /// Source and index behind two zeros (RFC 7714 §8.1, §9.1), with the salt over all of it.
    fn nonce(&self, Place { ssrc, index }: Place) -> [u8; GCM_SALT_LEN] {
        let place = u128::from(ssrc) << 48 | u128::from(index);
        let [_, _, _, _, mut nonce @ ..] = place.to_be_bytes();
        nonce.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        nonce
    }

    /// Encrypts what is behind the first `clear` bytes; the tag is over those and `beside` too.
    fn seal(&self, place: Place, clear: usize, beside: &[u8], packet: &mut BytesMut) -> Tag {
        let clear = clear.min(packet.len());
        let (header, rest) = packet.split_at_mut(clear);
        let aad = aad(header, beside);
        let sealed = self.cipher.encrypt_inout_detached(&self.nonce(place).into(), &aad, rest.into());
        sealed.expect("a packet is shorter than 64 GiB")
    }

    fn open(
        &self,
        place: Place,
        (clear, beside): (usize, &[u8]),
        packet: &mut BytesMut,
        tag: &[u8],
    ) -> Result<(), SrtpError> {
        let tag = Tag::try_from(tag).map_err(|_| SrtpError::NotAuthentic)?;
        let clear = clear.min(packet.len());
        let (header, rest) = packet.split_at_mut(clear);
        let aad = aad(header, beside);
        let opened = self.cipher.decrypt_inout_detached(&self.nonce(place).into(), &aad, rest.into(), &tag);
        opened.map_err(|_| SrtpError::NotAuthentic)
    }
}

/// What is authenticated beside what is encrypted: the header of a packet, and the index of a report.
fn aad(header: &[u8], index: &[u8]) -> SmallVec<[u8; 32]> {
    header.iter().chain(index).copied().collect()
}

/// The keystream that begins at a counter block (RFC 3711 §4.1.1).
fn keystream(cipher: &Aes128, block: u128) -> ctr::Ctr128BE<Aes128> {
    let core = CtrCore::inner_iv_init(cipher.clone(), &block.to_be_bytes().into());
    ctr::Ctr128BE::from_core(core)
}

/// A salt at the beginning of a block.
fn block(salt: [u8; SALT_LEN]) -> u128 {
    salt.iter().fold(0, |block, byte| block << 8 | u128::from(*byte)) << 16
}

/// A key of `out`'s length (RFC 3711 §4.3.1, with a derivation rate of 0: once).
pub(super) fn derive(cipher: &Aes128, master: &MasterKey, label: u8, out: &mut [u8]) {
    out.fill(0);
    keystream(cipher, block(master.salt) ^ u128::from(label) << 64).apply_keystream(out);
}

/// The upper 32 bits of an index, which the tag of AES-CM covers.
fn roc(index: u64) -> [u8; 4] {
    u32::try_from(index >> 16).unwrap_or(u32::MAX).to_be_bytes()
}

/// All but the last `len` bytes, and those.
fn cut(packet: &[u8], len: usize) -> (&[u8], &[u8]) {
    packet.split_at(packet.len().saturating_sub(len))
}

fn without<'a>(packet: &'a [u8], mki: &[u8]) -> Result<&'a [u8], SrtpError> {
    packet.strip_suffix(mki).ok_or(SrtpError::NotAuthentic)
}

fn authentic(expect: &[u8; 20], tag: &[u8]) -> Result<(), SrtpError> {
    let expect =
        expect.get(..tag.len()).filter(|expect| !expect.is_empty()).ok_or(SrtpError::NotAuthentic)?;
    if expect.ct_eq(tag).into() { Ok(()) } else { Err(SrtpError::NotAuthentic) }
}
