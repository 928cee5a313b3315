//! Encryption of whole segments with AES-128 (4.4.4.4, 6.2.3), feature `encryption`.

#[cfg(feature = "encryption")]
mod aes128;
#[cfg(not(feature = "encryption"))]
mod none;

#[cfg(feature = "encryption")]
pub(super) use aes128::Sealer;
#[cfg(feature = "encryption")]
pub use aes128::{Encryption, Key};
#[cfg(not(feature = "encryption"))]
pub(super) use none::Sealer;
#[cfg(not(feature = "encryption"))]
pub use none::{Encryption, Key};
