//! What a connection puts around each tag, made once for all connections of the kind.

use core::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

/// How a stream's tags are wrapped on the connections of its readers.
///
/// Each tag is wrapped by itself and with the tag, so that whoever writes to many connections
/// ([`Egress`](arcly_core::egress::Egress)) writes the same bytes to all of a kind.
///
/// | document | section | here |
/// |---|---|---|
/// | RFC 9112 | 7.1 chunked transfer coding | [`Chunked`](Self::Chunked) |
/// | RFC 6455 | 5.2 base framing protocol, of a server: not masked | [`WebSocket`](Self::WebSocket) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Not at all: files, HTTP/1.0, and HTTP/2, whose frames are made for each connection.
    #[default]
    Plain,
    /// As a chunk: HTTP/1.1.
    Chunked,
    /// As a binary message.
    WebSocket,
}

impl Framing {
    /// The `variant` for [`into_derived`](arcly_core::Subscription::into_derived) with a
    /// [`Packetizer`](super::Packetizer) of this framing.
    #[must_use]
    pub const fn variant(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Chunked => 1,
            Self::WebSocket => 2,
        }
    }

    /// A piece of the stream that is not empty, wrapped.
    #[must_use]
    pub fn wrap(self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(self.wrapped_len(piece.len()));
        self.open(&mut out, piece.len());
        out.put_slice(piece);
        self.close(&mut out);
        out.freeze()
    }

    /// What ends a stream in order. Empty where the connection's end does that, and for a WebSocket, whose close frame
    /// says why.
    #[must_use]
    pub const fn end(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Plain | Self::WebSocket => b"",
        }
    }

    /// Bytes of `len` bytes when wrapped, so that they are allocated as they are.
    pub(super) const fn wrapped_len(self, len: usize) -> usize {
        len.saturating_add(match (self, len) {
            (Self::Plain, _) => 0,
            // The digits of the size, and two line ends.
            (Self::Chunked, 0) => 5,
            (Self::Chunked, _) => (len.ilog2() as usize / 4).saturating_add(5),
            (Self::WebSocket, ..126) => 2,
            (Self::WebSocket, 126..=0xFFFF) => 4,
            (Self::WebSocket, _) => 10,
        })
    }

    /// What comes before `len` bytes.
    pub(super) fn open(self, out: &mut BytesMut, len: usize) {
        const BINARY: u8 = 0x82;
        match self {
            Self::Plain => {}
            // Writing to a buffer that grows does not fail.
            Self::Chunked => _ = write!(out, "{len:x}\r\n"),
            Self::WebSocket => {
                out.put_u8(BINARY);
                match (u8::try_from(len), u16::try_from(len)) {
                    (Ok(len @ ..126), _) => out.put_u8(len),
                    (_, Ok(len)) => {
                        out.put_u8(126);
                        out.put_u16(len);
                    }
                    _ => {
                        out.put_u8(127);
                        out.put_u64(len as u64);
                    }
                }
            }
        }
    }

    /// What comes behind them.
    pub(super) fn close(self, out: &mut BytesMut) {
        if self == Self::Chunked {
            out.put_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let framed = |framing: Framing, len: usize| {
            let framed = framing.wrap(&vec![b'x'; len]);
            assert_eq!(framed.len(), framing.wrapped_len(len), "{framing:?} {len}");
            let at = framed.iter().position(|byte| *byte == b'x').unwrap();
            (framed[..at].to_vec(), framed[at + len..].to_vec())
        };
        let cases: [(Framing, usize, &[u8], &[u8]); 10] = [
            (Framing::Plain, 9, b"", b""),
            (Framing::Chunked, 1, b"1\r\n", b"\r\n"),
            (Framing::Chunked, 15, b"f\r\n", b"\r\n"),
            (Framing::Chunked, 16, b"10\r\n", b"\r\n"),
            (Framing::Chunked, 0xabcd, b"abcd\r\n", b"\r\n"),
            // RFC 6455 section 5.7, and the edges of the three forms of a length.
            (Framing::WebSocket, 125, b"\x82\x7D", b""),
            (Framing::WebSocket, 126, b"\x82\x7E\x00\x7E", b""),
            (Framing::WebSocket, 256, b"\x82\x7E\x01\x00", b""),
            (Framing::WebSocket, 65_535, b"\x82\x7E\xFF\xFF", b""),
            (Framing::WebSocket, 65_536, b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", b""),
        ];
        for (framing, len, before, after) in cases {
            assert_eq!(framed(framing, len), (before.to_vec(), after.to_vec()), "{framing:?} {len}");
        }
    }
}
