//! Key material (draft-sharabayko-srt §3.2.2).

use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes of a salt; the only length there is.
pub const SALT_BYTES: usize = 16;
/// Bytes before the salt.
const FIXED_BYTES: usize = 16;
/// Bytes of the check that a key wrap adds.
const WRAP_BYTES: usize = 8;

const VERSION_AND_TYPE: u8 = 0x12;
const SIGNATURE: u16 = 0x2029;
/// `SE` of MPEG-TS over SRT, which everybody says, whatever it is.
const ENCAPSULATION: u8 = 2;
const AUTH_NONE: u8 = 0;
const AUTH_GCM: u8 = 1;

/// How payloads are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// AES in counter mode: secret, and not authenticated.
    #[default]
    Ctr,
    /// AES in Galois/counter mode, of libsrt 1.5.4 and later.
    Gcm,
}

/// How long keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyLength {
    /// 128 bits.
    #[default]
    Aes128,
    /// 192 bits.
    Aes192,
    /// 256 bits.
    Aes256,
}

impl KeyLength {
    /// 16, 24 or 32.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// What a handshake's encryption field says: 2, 3 or 4.
    #[must_use]
    pub const fn handshake_field(self) -> u16 {
        match self {
            Self::Aes128 => 2,
            Self::Aes192 => 3,
            Self::Aes256 => 4,
        }
    }

    /// The length that a handshake's encryption field says; `None` for 0 and for what nobody knows.
    #[must_use]
    pub const fn from_handshake_field(field: u16) -> Option<Self> {
        match field {
            2 => Some(Self::Aes128),
            3 => Some(Self::Aes192),
            4 => Some(Self::Aes256),
            _ => None,
        }
    }

    /// The length of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            16 => Some(Self::Aes128),
            24 => Some(Self::Aes192),
            32 => Some(Self::Aes256),
            _ => None,
        }
    }
}

/// Which keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFlags {
    /// The even key.
    Even,
    /// The odd key.
    Odd,
    /// Both, the even one first.
    Both,
}

impl KeyFlags {
    /// One or two.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Even | Self::Odd => 1,
            Self::Both => 2,
        }
    }
}

/// One or two stream encrypting keys, wrapped by a key that the passphrase gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMaterial {
    /// What they are for.
    pub cipher: Cipher,
    /// Which there are.
    pub keys: KeyFlags,
    /// `SE`, the stream encapsulation: says nothing, and is sent back as it came.
    pub encapsulation: u8,
    /// What makes the wrapping key out of the passphrase, and the counter of each packet.
    pub salt: [u8; SALT_BYTES],
    /// How long each key is.
    pub key_length: KeyLength,
    /// The keys behind the eight bytes that show that they were unwrapped with the right key:
    /// `key_length × count + 8` bytes.
    pub wrapped: Bytes,
}

impl KeyMaterial {
    /// Bytes of the longest: two keys of 256 bits.
    pub const MAX_BYTES: usize = 104;

    /// Key material of wrapped keys.
    #[must_use]
    pub fn new(
        cipher: Cipher,
        keys: KeyFlags,
        salt: [u8; SALT_BYTES],
        key_length: KeyLength,
        wrapped: &[u8],
    ) -> Self {
        Self {
            cipher,
            keys,
            encapsulation: ENCAPSULATION,
            salt,
            key_length,
            wrapped: Bytes::copy_from_slice(wrapped),
        }
    }

    /// Bytes that are sent: at most [`MAX_BYTES`](Self::MAX_BYTES).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.wrapped.len().saturating_add(FIXED_BYTES).saturating_add(SALT_BYTES)
    }

    /// Decodes a whole message: what is left over is an error.
    pub(super) fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        if r.u8("key material version")? != VERSION_AND_TYPE {
            return Err(r.malformed("key material version"));
        }
        if r.u16("key material signature")? != SIGNATURE {
            return Err(r.malformed("key material signature"));
        }
        let keys = match r.u8("key flags")? {
            1 => KeyFlags::Even,
            2 => KeyFlags::Odd,
            3 => KeyFlags::Both,
            _ => return Err(r.malformed("key flags")),
        };
        if r.u32("key encryption key index")? != 0 {
            return Err(r.malformed("key encryption key index"));
        }
        let cipher = match (r.u8("cipher")?, r.u8("authentication")?) {
            (2, AUTH_NONE) => Cipher::Ctr,
            (4, AUTH_GCM) => Cipher::Gcm,
            _ => return Err(r.malformed("cipher")),
        };
        let encapsulation = r.u8("stream encapsulation")?;
        if r.u8("reserved")? != 0 || r.u16("reserved")? != 0 {
            return Err(r.malformed("reserved"));
        }
        if r.u8("salt length")? != 4 {
            return Err(r.malformed("salt length"));
        }
        let key_length = usize::from(r.u8("key length")?).saturating_mul(4);
        let key_length = KeyLength::from_bytes(key_length).ok_or_else(|| r.malformed("key length"))?;
        let salt = r.array("salt")?;
        let len = key_length.bytes().saturating_mul(keys.count()).saturating_add(WRAP_BYTES);
        let wrapped = Bytes::copy_from_slice(r.bytes(len, "wrapped keys")?);
        r.finish("key material")?;
        Ok(Self { cipher, keys, encapsulation, salt, key_length, wrapped })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION_AND_TYPE);
        out.put_u16(SIGNATURE);
        out.put_u8(match self.keys {
            KeyFlags::Even => 1,
            KeyFlags::Odd => 2,
            KeyFlags::Both => 3,
        });
        out.put_u32(0);
        let (cipher, auth) = match self.cipher {
            Cipher::Ctr => (2, AUTH_NONE),
            Cipher::Gcm => (4, AUTH_GCM),
        };
        out.put_slice(&[cipher, auth, self.encapsulation, 0, 0, 0, 4]);
        out.put_u8(match self.key_length {
            KeyLength::Aes128 => 4,
            KeyLength::Aes192 => 6,
            KeyLength::Aes256 => 8,
        });
        out.put_slice(&self.salt);
        out.put_slice(&self.wrapped);
    }
}

/// Where a peer stands with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KmState {
    /// It has a passphrase, and was given no keys.
    Unsecured,
    /// It waits for an answer.
    Securing,
    /// It has the keys.
    Secured,
    /// It has no passphrase.
    NoSecret,
    /// It has another passphrase.
    BadSecret,
    /// It wants another cipher.
    BadCipher,
}

impl KmState {
    const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            0 => Self::Unsecured,
            1 => Self::Securing,
            2 => Self::Secured,
            3 => Self::NoSecret,
            4 => Self::BadSecret,
            5 => Self::BadCipher,
            _ => return None,
        })
    }

    const fn word(self) -> u32 {
        match self {
            Self::Unsecured => 0,
            Self::Securing => 1,
            Self::Secured => 2,
            Self::NoSecret => 3,
            Self::BadSecret => 4,
            Self::BadCipher => 5,
        }
    }
}

/// The answer to key material: the same material, or one word that says why not.
///
/// libsrt sends that word in the byte order of its machine: where it makes sense only the other way round, it is taken so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyResponse {
    /// The keys are taken.
    Accepted(KeyMaterial),
    /// They are not.
    Refused(KmState),
}

impl KeyResponse {
    /// Bytes that are sent.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Accepted(keys) => keys.encoded_len(),
            Self::Refused(_) => 4,
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        if r.remaining() != 4 {
            return KeyMaterial::decode(r).map(Self::Accepted);
        }
        let word = r.u32("key material state")?;
        let state = KmState::from_word(word).or_else(|| KmState::from_word(word.swap_bytes()));
        state.map(Self::Refused).ok_or_else(|| r.malformed("key material state"))
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Accepted(keys) => keys.encode(out),
            Self::Refused(state) => out.put_u32(state.word()),
        }
    }
}
