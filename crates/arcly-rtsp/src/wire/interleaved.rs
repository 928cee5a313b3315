//! RTP and RTCP packets between messages: `$`, a channel, a length, and a packet (RFC 2326 §10.12).

use arcly_rtp::media::INTERLEAVED_HEADER;
use bytes::{BufMut, Bytes, BytesMut};

/// What a packet begins with, and no message does.
pub const DOLLAR: u8 = b'$';

/// A packet on a channel of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The channel, as it was agreed on in SETUP: mostly even for RTP and the next one for RTCP.
    pub channel: u8,
    /// The packet, at most 65 535 bytes.
    pub payload: Bytes,
}

/// The header of a frame of that many bytes.
#[must_use]
pub const fn header(channel: u8, len: u16) -> [u8; INTERLEAVED_HEADER] {
    let [high, low] = len.to_be_bytes();
    [DOLLAR, channel, high, low]
}

impl Frame {
    /// Appends the frame. A payload that its length cannot say is left out: no path takes such a packet.
    pub fn encode(&self, out: &mut BytesMut) {
        let Ok(len) = u16::try_from(self.payload.len()) else { return };
        out.reserve(self.payload.len().saturating_add(INTERLEAVED_HEADER));
        out.put_slice(&header(self.channel, len));
        out.put_slice(&self.payload);
    }

    /// The frame on its own.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_header_of_four_bytes() {
        let frame = Frame { channel: 1, payload: Bytes::from_static(b"abc") };
        assert_eq!(frame.to_bytes()[..], *b"$\x01\x00\x03abc");
        let long = Frame { channel: 0, payload: vec![0; 65_536].into() };
        assert!(long.to_bytes().is_empty(), "nobody could tell its length");
    }
}
