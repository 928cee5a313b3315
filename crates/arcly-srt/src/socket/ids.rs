//! Maps by socket id.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::wire::SocketId;

/// What a socket has for each of its ids. They are random, and chosen here: a peer that chooses which to ask for cannot bring
/// two into one place, so that there is nothing for a keyed hash to protect.
pub(super) type BySocket<T> = HashMap<SocketId, T, BuildHasherDefault<IdHasher>>;

/// Spreads an id over all bits: tables take the lower ones for places and the upper ones for tags.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

/// 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_again_and_spread() {
        let mut map = BySocket::default();
        (0..10_000).for_each(|n| _ = map.insert(SocketId(n * 0x1_0001), n));
        assert!((0..10_000).all(|n| map.get(&SocketId(n * 0x1_0001)) == Some(&n)));
        assert_eq!(map.get(&SocketId(1)), None);
        // Of ids that follow one another, as many have one tag as another, give or take half.
        let mut tags = [0; 128];
        for id in 0..12_800 {
            let mut hasher = IdHasher::default();
            hasher.write_u32(id);
            tags[usize::try_from(hasher.finish() >> 57).unwrap()] += 1;
        }
        assert!(tags.iter().all(|count| (50..=150).contains(count)), "{tags:?}");
    }
}
