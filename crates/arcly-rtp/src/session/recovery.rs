use std::collections::VecDeque;

use arcly_core::wire::{DecodeError, DecodeResult};
use smallvec::SmallVec;

use crate::sdp::Redundancy;
use crate::wire::{Header, MAX_RED_BLOCKS, Red, RtpPacket};

/// Packets whose numbers and timestamps are remembered: more than what a block can reach back, 341 ms at 48 kHz, has packets of 10 ms.
pub const MAX_REMEMBERED: usize = 64;

/// Takes packets with redundancy (RFC 2198) apart, and makes packets again of what was lost and repeated.
///
/// A block says when it was, and not what number it had. So it goes where it can have been: between the packets that are known before
/// and behind it, if some are missing there. One that is missing is this one; of several each has its share of the time between, and a
/// block that is none of these moments is left alone (a pause in which nothing was sent may have been among them).
///
/// Guarantees: at most [`MAX_RED_BLOCKS`] packets come of one, each for a number that was missing, none for a number for which one was made before, and in
/// the order of their timestamps. At most [`MAX_REMEMBERED`] packets are remembered, without what is in them.
#[derive(Debug)]
pub struct Recovery {
    formats: Redundancy,
    ssrc: u32,
    /// Numbers and timestamps of what has come or was recovered, in the order of their numbers.
    known: VecDeque<(u16, u32)>,
}

/// A packet that has come, and those before it that were found in it.
pub type Recovered = SmallVec<[RtpPacket; 2]>;

/// How far a number is behind another one.
const fn ahead(number: u16, of: u16) -> i16 {
    number.wrapping_sub(of).cast_signed()
}

impl Recovery {
    /// Takes packets of these formats apart.
    #[must_use]
    pub const fn new(formats: Redundancy) -> Self {
        Self { formats, ssrc: 0, known: VecDeque::new() }
    }

    /// True for a packet with redundancy.
    #[must_use]
    pub const fn is_red(&self, packet: &RtpPacket) -> bool {
        packet.header.payload_type == self.formats.payload_type
    }

    /// Takes a packet of the stream, with redundancy or without, in whatever order it comes. What was recovered comes out first, oldest
    /// first, and last the packet itself, without redundancy.
    ///
    /// # Errors
    /// The packet is one with redundancy and malformed, or what is new in it is of another payload type than was agreed on.
    pub fn handle_packet(&mut self, packet: RtpPacket) -> DecodeResult<Recovered> {
        let header = packet.header;
        if header.ssrc != self.ssrc {
            self.known.clear();
            self.ssrc = header.ssrc;
        }
        if !self.is_red(&packet) {
            self.remember(header.sequence, header.timestamp);
            return Ok([packet].into_iter().collect());
        }
        let red = Red::decode(&packet.payload)?;
        if red.payload_type != self.formats.of {
            return Err(DecodeError::Malformed { what: "red payload type", offset: 0 });
        }
        self.remember(header.sequence, header.timestamp);
        let mut out = Recovered::new();
        let repeated = red.redundant.iter().filter(|block| block.payload_type() == red.payload_type);
        for block in repeated.filter(|block| !block.data().is_empty()) {
            let timestamp = header.timestamp.wrapping_sub(block.offset().into());
            let Some(sequence) = self.number_at(timestamp) else { continue };
            self.remember(sequence, timestamp);
            let header =
                Header { marker: false, payload_type: red.payload_type, sequence, timestamp, ..header };
            let payload = packet.payload.slice_ref(block.data());
            out.push(RtpPacket { header, payload, ..RtpPacket::default() });
        }
        // Senders put the oldest first, and who does not is put right.
        out.sort_by_key(|recovered| recovered.header.sequence.wrapping_sub(header.sequence));
        let payload = packet.payload.slice_ref(red.data);
        out.push(RtpPacket {
            header: Header { payload_type: red.payload_type, ..header },
            payload,
            ..packet
        });
        Ok(out)
    }

    /// The number of the packet that is missing at that moment.
    fn number_at(&self, timestamp: u32) -> Option<u16> {
        let since = |then: u32| timestamp.wrapping_sub(then).cast_signed();
        let pairs = self.known.iter().zip(self.known.iter().skip(1));
        let ((number, before), (next, behind)) =
            pairs.rev().find(|((_, before), (_, behind))| since(*before) > 0 && since(*behind) < 0)?;
        let steps = u32::from(next.wrapping_sub(*number));
        let (passed, span) = (timestamp.wrapping_sub(*before), behind.wrapping_sub(*before));
        let step = match steps {
            0 | 1 => return None,
            2 => 1,
            _ => {
                let scaled = u64::from(passed).checked_mul(steps.into())?;
                let is_one = scaled.checked_rem(span.into())? == 0;
                scaled.checked_div(span.into()).filter(|_| is_one)?
            }
        };
        let step = u16::try_from(step).ok().filter(|step| *step > 0 && u32::from(*step) < steps)?;
        Some(number.wrapping_add(step))
    }

    fn remember(&mut self, number: u16, timestamp: u32) {
        let far = i16::try_from(MAX_REMEMBERED).unwrap_or(i16::MAX);
        if self.known.back().is_some_and(|(last, _)| ahead(number, *last).saturating_abs() > far) {
            // Another sequence has begun, or so much was lost that nothing could be placed.
            self.known.clear();
        }
        let at = self.known.partition_point(|(known, _)| ahead(number, *known) > 0);
        if self.known.get(at).is_some_and(|(known, _)| *known == number) {
            return;
        }
        self.known.insert(at, (number, timestamp));
        if self.known.len() > MAX_REMEMBERED {
            self.known.pop_front();
        }
    }
}

const _: () = assert!(MAX_RED_BLOCKS < MAX_REMEMBERED);
