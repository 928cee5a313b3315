//! Aggregate messages: several FLV tags in one message (RTMP 1.0, 7.1.6).
//!
//! The tags carry times of their own; the first one's time corresponds to the aggregate's, and the rest keep
//! their distance from it. An aggregate within an aggregate is malformed, so nothing here recurses.

use arcly_core::wire::{DecodeResult, Reader};
use bytes::Bytes;

use super::message::{Message, MessageType};

/// The messages within an aggregate, in order; ends after the first error.
#[derive(Clone, Debug)]
pub struct Aggregate {
    stream_id: u32,
    base: u32,
    first: Option<u32>,
    rest: Bytes,
}

impl Aggregate {
    /// Reads the body of `message`, whatever its type says.
    #[must_use]
    pub fn new(message: &Message) -> Self {
        Self {
            stream_id: message.stream_id,
            base: message.timestamp,
            first: None,
            rest: message.payload.clone(),
        }
    }

    fn decode_next(&mut self) -> DecodeResult<Message> {
        let mut r = Reader::new(&self.rest);
        let kind = MessageType::from_id(r.u8("aggregate: message type")?);
        if !matches!(
            kind,
            MessageType::Audio | MessageType::Video | MessageType::DataAmf0 | MessageType::DataAmf3
        ) {
            return Err(r.malformed("aggregate: message type"));
        }
        let length = r.u24("aggregate: message length")?;
        let low = r.u24("aggregate: timestamp")?;
        let high = u32::from(r.u8("aggregate: timestamp")?);
        r.skip(3, "aggregate: message stream id")?;
        let start = r.position();
        let length = usize::try_from(length).map_err(|_| r.malformed("aggregate: message length"))?;
        r.skip(length, "aggregate: message body")?;
        let end = r.position();
        r.skip(4, "aggregate: back pointer")?;

        let time = high << 24 | low;
        let first = *self.first.get_or_insert(time);
        let next = r.position();
        let payload = self.rest.slice(start..end);
        self.rest = self.rest.slice(next..);
        let timestamp = self.base.wrapping_add(time.wrapping_sub(first));
        Ok(Message { kind, timestamp, stream_id: self.stream_id, payload })
    }
}

impl Iterator for Aggregate {
    type Item = DecodeResult<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.rest.len();
        let item = self.decode_next().map_err(|error| error.in_closed_unit(offset));
        if item.is_err() {
            self.rest = Bytes::new();
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let mut out = vec![kind];
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&time.to_be_bytes()[1..]);
        out.push(time.to_be_bytes()[0]);
        out.extend_from_slice(&[0, 0, 0]);
        out.extend_from_slice(body);
        out.extend_from_slice(&(u32::try_from(body.len()).unwrap() + 11).to_be_bytes());
        out
    }

    fn aggregate(payload: Vec<u8>) -> Vec<DecodeResult<Message>> {
        let message =
            Message { kind: MessageType::Aggregate, timestamp: 1_000, stream_id: 1, payload: payload.into() };
        Aggregate::new(&message).collect()
    }

    #[test]
    fn times_are_relative_to_the_first() {
        let body =
            [sub(9, 0x0100_0000, b"key"), sub(8, 0x0100_0017, b"a"), sub(8, 0x00FF_FFF6, b"")].concat();
        let got: Vec<_> = aggregate(body).into_iter().map(|m| m.unwrap()).collect();
        let got: Vec<_> = got.iter().map(|m| (m.kind, m.timestamp, m.stream_id, &m.payload[..])).collect();
        assert_eq!(
            got,
            [
                (MessageType::Video, 1_000, 1, &b"key"[..]),
                (MessageType::Audio, 1_023, 1, b"a"),
                (MessageType::Audio, 990, 1, b""),
            ]
        );
    }

    #[test]
    fn r36_lies_and_nesting_are_malformed() {
        let mut lie = sub(9, 0, b"key");
        lie[1..4].copy_from_slice(&[0xFF; 3]);
        let nested = (0..1_000).fold(sub(9, 0, b"x"), |inner, _| sub(22, 0, &inner));
        for body in [lie, nested, sub(20, 0, b"x")] {
            let got = aggregate(body);
            assert_eq!(got.len(), 1);
            assert!(matches!(got[0], Err(arcly_core::wire::DecodeError::Malformed { .. })), "{got:?}");
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error_after_whole_messages() {
        let whole = [sub(9, 0, b"key"), sub(8, 5, b"a")].concat();
        let seam = sub(9, 0, b"key").len();
        for end in (1..whole.len()).filter(|&end| end != seam) {
            let got = aggregate(whole[..end].to_vec());
            assert!(got.last().unwrap().is_err(), "cut at {end}");
        }
    }
}
