//! Payloads, sealed and opened.

use aes::cipher::consts::U12;
use aes::cipher::{
    BlockCipherEncrypt, BlockSizeUser, InnerIvInit as _, KeyInit, StreamCipher as _, StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, Tag};
use bytes::BytesMut;
use ctr::{CtrCore, flavors};

use super::keys::Key;
use super::{OpenError, TAG_BYTES};
use crate::wire::{Cipher, DataHeader, HEADER_BYTES, KeyLength, SALT_BYTES};

/// Bytes of the salt that go into a counter: the last two of a block count the blocks of a packet.
const COUNTER_SALT: usize = 14;
/// Bytes of a nonce of AES-GCM.
const NONCE_BYTES: usize = 12;

/// A key that is ready for payloads, with the salt that it came with.
pub(super) struct PacketCipher {
    salt: [u8; SALT_BYTES],
    key: Box<Scheduled>,
}

/// A key, expanded once. Six of them, because a length is a type.
enum Scheduled {
    Ctr128(Aes128Enc),
    Ctr192(Aes192Enc),
    Ctr256(Aes256Enc),
    Gcm128(AesGcm<Aes128, U12>),
    Gcm192(AesGcm<Aes192, U12>),
    Gcm256(AesGcm<Aes256, U12>),
}

impl PacketCipher {
    pub(super) fn new(cipher: Cipher, salt: [u8; SALT_BYTES], key: &Key) -> Self {
        let scheduled = match (cipher, key.length()) {
            (Cipher::Ctr, KeyLength::Aes128) => Scheduled::Ctr128(schedule(key)),
            (Cipher::Ctr, KeyLength::Aes192) => Scheduled::Ctr192(schedule(key)),
            (Cipher::Ctr, KeyLength::Aes256) => Scheduled::Ctr256(schedule(key)),
            (Cipher::Gcm, KeyLength::Aes128) => Scheduled::Gcm128(schedule(key)),
            (Cipher::Gcm, KeyLength::Aes192) => Scheduled::Gcm192(schedule(key)),
            (Cipher::Gcm, KeyLength::Aes256) => Scheduled::Gcm256(schedule(key)),
        };
        Self { salt, key: Box::new(scheduled) }
    }

    /// Encrypts in place, and appends the tag if there is one. The header is to be as it is sent, but for the
    /// retransmission flag.
    pub(super) fn seal(&self, header: &DataHeader, payload: &mut BytesMut) {
        let tag = match &*self.key {
            Scheduled::Ctr128(key) => return apply(key, &self.counter(header), payload),
            Scheduled::Ctr192(key) => return apply(key, &self.counter(header), payload),
            Scheduled::Ctr256(key) => return apply(key, &self.counter(header), payload),
            Scheduled::Gcm128(key) => key.encrypt_inout_detached(
                &self.nonce(header).into(),
                &authenticated(header),
                payload.as_mut().into(),
            ),
            Scheduled::Gcm192(key) => key.encrypt_inout_detached(
                &self.nonce(header).into(),
                &authenticated(header),
                payload.as_mut().into(),
            ),
            Scheduled::Gcm256(key) => key.encrypt_inout_detached(
                &self.nonce(header).into(),
                &authenticated(header),
                payload.as_mut().into(),
            ),
        };
        payload.extend_from_slice(&tag.expect("a payload is shorter than 64 GiB"));
    }

    /// Decrypts in place, and takes the tag off if there is one.
    pub(super) fn open(&self, header: &DataHeader, payload: &mut BytesMut) -> Result<(), OpenError> {
        match &*self.key {
            Scheduled::Ctr128(key) => apply(key, &self.counter(header), payload),
            Scheduled::Ctr192(key) => apply(key, &self.counter(header), payload),
            Scheduled::Ctr256(key) => apply(key, &self.counter(header), payload),
            Scheduled::Gcm128(key) => self.open_gcm(key, header, payload)?,
            Scheduled::Gcm192(key) => self.open_gcm(key, header, payload)?,
            Scheduled::Gcm256(key) => self.open_gcm(key, header, payload)?,
        }
        Ok(())
    }

    fn open_gcm<A>(
        &self,
        key: &AesGcm<A, U12>,
        header: &DataHeader,
        payload: &mut BytesMut,
    ) -> Result<(), OpenError>
    where
        AesGcm<A, U12>: AeadInOut<NonceSize = U12, TagSize = aes::cipher::consts::U16>,
    {
        let len = payload.len().checked_sub(TAG_BYTES).ok_or(OpenError::Forged)?;
        let tag = payload.split_off(len);
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Forged)?;
        key.decrypt_inout_detached(
            &self.nonce(header).into(),
            &authenticated(header),
            payload.as_mut().into(),
            &tag,
        )
        .map_err(|_| OpenError::Forged)
    }

    /// The block that a packet's counter begins with: the sequence number at bytes 10 to 13, the salt over the first 14.
    fn counter(&self, header: &DataHeader) -> [u8; 16] {
        let mut block = [0; 16];
        xor(&mut block, self.salt.get(..COUNTER_SALT).unwrap_or_default());
        xor(block.get_mut(10..).unwrap_or_default(), &header.seq.value().to_be_bytes());
        block
    }

    /// The sequence number at bytes 8 to 11, the salt over all twelve.
    fn nonce(&self, header: &DataHeader) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        xor(&mut nonce, &self.salt);
        xor(nonce.get_mut(8..).unwrap_or_default(), &header.seq.value().to_be_bytes());
        nonce
    }
}

/// What AES-GCM authenticates: the header of the packet when it is sent for the first time.
const fn authenticated(header: &DataHeader) -> [u8; HEADER_BYTES] {
    DataHeader { retransmitted: false, ..*header }.encode()
}

fn xor(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(to, with)| *to ^= *with);
}

fn schedule<C: KeyInit>(key: &Key) -> C {
    C::new_from_slice(key.as_slice()).expect("a key is as long as its length")
}

fn apply<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = aes::cipher::consts::U16>>(
    key: &C,
    counter: &[u8; 16],
    payload: &mut BytesMut,
) {
    let core = CtrCore::<&C, flavors::Ctr128BE>::inner_iv_init(key, counter.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(payload);
}
