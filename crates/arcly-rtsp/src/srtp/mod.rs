//! Encrypted media where the client asks for it: keys in MIKEY messages, packets in SRTP.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 3830 | §6 messages: HDR, T, RAND, SP, KEMAC, key data | [`mikey`] |
//! | RFC 4567 | §3.1 `a=key-mgmt`, §4.2 `KeyMgmt` | [`mikey::Message::from_base64`] |
//! | RFC 3711 | §3.3 packet index, §3.4 SRTCP, §4.1.1 AES-CM, §4.2 HMAC-SHA1, §4.3 key derivation | [`packet`] |
//! | RFC 7714 | §8, §9 AES-GCM in SRTP and SRTCP, §11 key derivation, §14.3 its parameters in MIKEY | [`packet::Suite`] |
//!
//! What a peer protects its packets with, AES-CM or AES-GCM, this side answers with; who speaks first says AES-CM, which everybody has.
//!
//! MIKEY is spoken as GStreamer, gortsplib and cameras do: the key is not encrypted and the message not signed, because RTSPS
//! carries it. A session without TLS has no business here.
//!
//! Encryption and hashes are RustCrypto's; what is here is where the RFCs put their keys, nonces and tags. Why not a whole
//! library: `docs/decisions/0011-srtp.md`.

mod keys;
pub mod mikey;
pub mod packet;
mod transform;

pub use keys::{Keyring, Protection};
pub use mikey::{Message, MikeyError};
pub use packet::{MasterKey, Receiver, Sender, SrtpError, Suite};
