//! The handshake: three packets each way (RTMP 1.0, 5.2), plain or with digests.
//!
//! ```text
//! client ── C0 C1 ──▶ server        C0, S0: one byte, the version 3
//!        ◀── S0 S1 S2 ──            C1, S1: time, a version, 1528 random bytes
//!        ── C2 ──▶                  C2, S2: the other side's C1 or S1, or random bytes and a digest
//! ```
//!
//! [`ServerHandshake`] and [`ClientHandshake`] take bytes in any pieces and say what to send. Randomness is an
//! argument ([`Entropy`]). Neither allocates more than the packet it waits for.
//!
//! Tolerated: a C1 that claims a digest and has a wrong one gets the plain handshake (R44); C2 is not looked
//! at, because half of all encoders send something else there; so is S2.

mod machine;

pub mod digest;

pub use machine::{ClientHandshake, Progress, ServerHandshake};

/// Bytes of C1, C2, S1 and S2.
pub const PACKET: usize = 1_536;
/// The only version there is; RTMPE's 6 is not supported.
pub const VERSION: u8 = 3;

/// The random bytes of one handshake, from the operating system in production and from a seed in tests.
#[derive(Clone)]
pub struct Entropy(Box<[u8; 2 * PACKET]>);

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy")
    }
}

impl Entropy {
    /// Whatever `fill` writes into the buffer that it is given.
    pub fn from_fn(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Box::new([0; 2 * PACKET]);
        fill(&mut bytes[..]);
        Self(bytes)
    }

    /// One packet for each of the two random packets that a side makes.
    fn packets(&self) -> ([u8; PACKET], [u8; PACKET]) {
        let first = self.0.first_chunk().copied().unwrap_or([0; PACKET]);
        let second = self.0.last_chunk().copied().unwrap_or([0; PACKET]);
        (first, second)
    }
}

#[cfg(test)]
mod tests;
