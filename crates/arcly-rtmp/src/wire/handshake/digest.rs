//! The digest handshake that Flash Player 9 introduced; no document describes it, every server speaks it.
//!
//! C1 and S1 hide an HMAC-SHA256 of themselves at one of two places ([`Scheme`]). C2 and S2 end in an HMAC over
//! their random bytes, keyed by the digest of the packet that they answer.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::PACKET;

/// Bytes of a digest.
pub const DIGEST: usize = 32;

const PLAYER_KEY: &[u8; 30] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8; 36] = b"Genuine Adobe Flash Media Server 001";
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, 0x6E,
    0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

/// Who made a packet, which decides the key it is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// C1, C2.
    Player,
    /// S1, S2.
    Server,
}

/// Where in C1 or S1 the digest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the first half: place bytes at 8.
    First,
    /// In the second half: place bytes at 772.
    Second,
}

type HmacSha256 = Hmac<Sha256>;

fn mac(key: &[u8]) -> HmacSha256 {
    // An HMAC takes a key of any length.
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| HmacSha256::new(&Default::default()))
}

impl Role {
    fn packet_mac(self) -> HmacSha256 {
        match self {
            Self::Player => mac(PLAYER_KEY),
            Self::Server => mac(SERVER_KEY),
        }
    }

    /// Keys the answer to a packet whose digest is `digest`.
    fn answer_mac(self, digest: &[u8; DIGEST]) -> HmacSha256 {
        let name = match self {
            Self::Player => PLAYER_KEY.as_slice(),
            Self::Server => SERVER_KEY.as_slice(),
        };
        let mut outer = mac(&[name, &KEY_TAIL].concat());
        outer.update(digest);
        mac(&outer.finalize().into_bytes())
    }
}

impl Scheme {
    /// Where the digest of `packet` is in this scheme: at most 1500.
    fn position(self, packet: &[u8; PACKET]) -> usize {
        let (place, base) = match self {
            Self::First => (8, 12),
            Self::Second => (772, 776),
        };
        let place: &[u8] = packet.get(place..).and_then(|rest| rest.get(..4)).unwrap_or_default();
        let sum: usize = place.iter().map(|&b| usize::from(b)).sum();
        (sum % 728).saturating_add(base)
    }
}

/// The HMAC of all of `packet` but the digest at `position`.
fn packet_digest(packet: &[u8; PACKET], position: usize, role: Role) -> [u8; DIGEST] {
    let mut mac = role.packet_mac();
    mac.update(packet.get(..position).unwrap_or_default());
    mac.update(packet.get(position.saturating_add(DIGEST)..).unwrap_or_default());
    mac.finalize().into_bytes().into()
}

/// The digest in `packet` and its scheme, when there is a valid one.
#[must_use]
pub fn find(packet: &[u8; PACKET], role: Role) -> Option<(Scheme, [u8; DIGEST])> {
    [Scheme::Second, Scheme::First].into_iter().find_map(|scheme| {
        let position = scheme.position(packet);
        let there = packet.get(position..)?.first_chunk::<DIGEST>()?;
        (packet_digest(packet, position, role) == *there).then_some((scheme, *there))
    })
}

/// Writes the digest of `packet` into it, and returns it.
pub fn sign(packet: &mut [u8; PACKET], scheme: Scheme, role: Role) -> [u8; DIGEST] {
    let position = scheme.position(packet);
    let digest = packet_digest(packet, position, role);
    if let Some(place) = packet.get_mut(position..).and_then(|rest| rest.first_chunk_mut()) {
        *place = digest;
    }
    digest
}

/// Ends `packet`, a C2 or S2, in the HMAC that answers the packet whose digest is `digest`.
pub fn sign_answer(packet: &mut [u8; PACKET], digest: &[u8; DIGEST], role: Role) {
    if let Some((random, place)) = packet.split_last_chunk_mut::<DIGEST>() {
        let mut mac = role.answer_mac(digest);
        mac.update(random);
        *place = mac.finalize().into_bytes().into();
    }
}

/// True when `packet`, a C2 or S2, answers the packet whose digest is `digest`.
#[must_use]
pub fn verify_answer(packet: &[u8; PACKET], digest: &[u8; DIGEST], role: Role) -> bool {
    packet.split_last_chunk::<DIGEST>().is_some_and(|(random, there)| {
        let mut mac = role.answer_mac(digest);
        mac.update(random);
        mac.verify_slice(there).is_ok()
    })
}
