use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Bytes of an encoded marker.
pub const MARKER: usize = 20;
const FIELD: usize = MARKER / 2;

/// Nanoseconds on the clock that every process of the machine shares.
#[must_use]
pub fn clock_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// What a frame carries through the server: which one of its track it is, and when it was sent.
///
/// Twenty bytes with the top bit set, seven bits of a number in each, so that they are legal anywhere in a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Frames of the track that were sent before.
    pub sequence: u64,
    /// [`clock_ns`] at that moment.
    pub sent_ns: u64,
}

impl Marker {
    /// The encoded form.
    #[must_use]
    pub fn encode(self) -> [u8; MARKER] {
        let mut out = [0; MARKER];
        let (sequence, sent) = out.split_at_mut(FIELD);
        put(sequence, self.sequence);
        put(sent, self.sent_ns);
        out
    }

    /// The marker at the front of `bytes`, if there is one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, sent) = bytes.get(..MARKER)?.split_at(FIELD);
        Some(Self { sequence: get(sequence)?, sent_ns: get(sent)? })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits")]
fn put(field: &mut [u8], value: u64) {
    for (n, byte) in field.iter_mut().enumerate() {
        *byte = 0x80 | ((value >> (7 * n)) & 0x7F) as u8;
    }
}

fn get(field: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (n, byte) in field.iter().enumerate() {
        if byte & 0x80 == 0 {
            return None;
        }
        value |= u64::from(byte & 0x7F).checked_shl(7 * u32::try_from(n).ok()?)?;
    }
    Some(value)
}

/// When something is due on a clock that began at `start`.
pub(crate) fn due(start: Instant, at_us: u64) -> Instant {
    start + Duration::from_micros(at_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_back_and_look_like_no_start_code() {
        for (sequence, sent_ns) in [(0, 0), (1, 1_000), (u64::MAX >> 1, u64::MAX), (300, 1 << 40)] {
            let marker = Marker { sequence, sent_ns };
            let bytes = marker.encode();
            assert!(bytes.iter().all(|byte| byte & 0x80 != 0));
            assert_eq!(Marker::decode(&bytes), Some(marker));
            assert_eq!(Marker::decode(&bytes[1..]), None);
        }
        assert_eq!(Marker::decode(&[0; MARKER]), None);
    }
}
