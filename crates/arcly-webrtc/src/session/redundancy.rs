//! Sound that is sent once more, while packets of it get lost (RFC 2198).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_rtp::sdp;
use arcly_rtp::wire::{Red, RedBlock};
use bytes::BytesMut;

use crate::media::PAYLOAD_BYTES;

/// From this part of the packets lost on, each packet of sound repeats the frame before it, and from the second on the two before it. Where
/// packets get lost independently of each other, one in a hundred and one in twelve, that leaves a ten-thousandth and less than a thousandth.
pub const LOSSES: [f32; 2] = [0.01, 0.08];
/// So long after the last second with such a loss it is repeated still: what is lost comes in bursts.
pub const CALM: Duration = Duration::from_secs(10);

/// What has to be known to repeat the frames of a track to one viewer.
#[derive(Debug)]
pub(super) struct Redundancy {
    formats: sdp::Redundancy,
    /// How many frames are repeated.
    depth: usize,
    /// When the loss was last one that this is for.
    needed: Option<Instant>,
    /// Timestamps and payloads of the last packets, oldest first, while some are repeated.
    last: VecDeque<(u32, Arc<[u8]>)>,
    out: BytesMut,
}

impl Redundancy {
    pub(super) fn new(formats: sdp::Redundancy) -> Self {
        Self { formats, depth: 0, needed: None, last: VecDeque::new(), out: BytesMut::new() }
    }

    /// The payload type of what [`wrap`](Self::wrap) makes.
    pub(super) const fn payload_type(&self) -> u8 {
        self.formats.payload_type
    }

    /// The link loses this part of the packets, as far as that is known, 0 to 1. True when frames are to be repeated.
    pub(super) fn handle_loss(&mut self, now: Instant, loss: Option<f32>) -> bool {
        if let Some(loss) = loss {
            let depth = LOSSES.iter().filter(|least| loss >= **least).count();
            let is_calm = self.needed.is_none_or(|at| now.saturating_duration_since(at) >= CALM);
            if depth >= self.depth || is_calm {
                (self.depth, self.needed) = (depth.max(self.depth.saturating_sub(1)), Some(now));
            }
        }
        if self.depth == 0 {
            self.last.clear();
        }
        self.depth > 0
    }

    /// The payload of a packet with those before it; `None` where there are none, or no room for them.
    pub(super) fn wrap(&mut self, timestamp: u32, payload: &Arc<[u8]>) -> Option<Arc<[u8]>> {
        self.repeat(timestamp, payload);
        self.last.push_back((timestamp, Arc::clone(payload)));
        if self.last.len() > LOSSES.len() {
            self.last.pop_front();
        }
        (!self.out.is_empty()).then(|| Arc::from(&self.out[..]))
    }

    fn repeat(&mut self, timestamp: u32, payload: &[u8]) {
        let mut red = Red { payload_type: self.formats.of, data: payload, ..Red::default() };
        let mut room = PAYLOAD_BYTES.saturating_sub(red.encoded_len());
        for (then, data) in self.last.iter().rev().take(self.depth) {
            let block = RedBlock::new(self.formats.of, timestamp.wrapping_sub(*then), data);
            let Some(block) = block.filter(|block| block.encoded_len() <= room) else { break };
            room = room.saturating_sub(block.encoded_len());
            red.redundant.insert(0, block);
        }
        self.out.clear();
        if !red.redundant.is_empty() {
            red.encode(&mut self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redundancy() -> Redundancy {
        Redundancy::new(sdp::Redundancy { payload_type: 63, of: 111 })
    }

    /// The distances that a payload repeats, and the length of what is new.
    fn offsets(payload: Option<Arc<[u8]>>) -> Vec<u16> {
        let Some(payload) = payload else { return Vec::new() };
        assert!(payload.len() <= PAYLOAD_BYTES);
        let red = Red::decode(&payload).unwrap();
        assert!(red.payload_type == 111 && red.redundant.iter().all(|block| block.payload_type() == 111));
        red.redundant.iter().map(RedBlock::offset).collect()
    }

    #[test]
    fn frames_are_repeated_while_some_get_lost_and_a_while_after() {
        let (mut redundancy, start) = (redundancy(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let steps = [
            (0, None, 0),
            (1, Some(0.0), 0),
            (2, Some(0.009), 0),
            (3, Some(0.01), 1),
            (4, Some(0.0), 1),
            (12, None, 1),
            (12, Some(0.0), 1),
            (12, Some(0.02), 1),
            (21, Some(0.0), 1),
            (22, Some(0.0), 0),
            (23, Some(0.5), 2),
            (24, Some(0.03), 2),
            (32, Some(0.0), 2),
            // Not that much is lost any more.
            (33, Some(0.03), 1),
            (42, Some(0.0), 1),
            (43, Some(0.0), 0),
            (44, None, 0),
        ];
        for (second, loss, depth) in steps {
            assert_eq!(redundancy.handle_loss(at(second), loss), depth > 0, "{second}");
            assert_eq!(redundancy.depth, depth, "{second}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let (mut redundancy, now) = (redundancy(), Instant::now());
        redundancy.handle_loss(now, Some(0.2));
        let frame = |bytes: usize| Arc::from(vec![7_u8; bytes]);
        let cases: [(u32, usize, &[u16]); 9] = [
            (0, 100, &[]),
            (960, 100, &[960]),
            (1_920, 100, &[1_920, 960]),
            // A frame so large leaves no room for both, then for none.
            (2_880, PAYLOAD_BYTES - 1 - 104, &[960]),
            (3_840, 1_000, &[]),
            // One that is longer than a block can be, and what is behind it.
            (4_800, 100, &[960]),
            (5_760, 1_024, &[]),
            (6_720, 50, &[]),
            // After a pause that is longer than an offset can say.
            (6_720 + 16_384, 50, &[]),
        ];
        for (timestamp, bytes, expected) in cases {
            assert_eq!(offsets(redundancy.wrap(timestamp, &frame(bytes))), expected, "{timestamp}");
        }
        assert_eq!(offsets(redundancy.wrap(24_064, &frame(50))), [960]);
        assert_eq!(redundancy.last.len(), 2);
        for calm in 1..=2 {
            redundancy.handle_loss(now + calm * CALM, Some(0.0));
        }
        assert!(redundancy.last.is_empty(), "nothing is kept that is not sent again");
    }
}
