use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes of a datagram in a connection. Packets are made for networks that carry 1500, whatever they travel in.
pub const MAX_FRAME_BYTES: usize = 8 << 10;
/// Bytes of a length.
const LENGTH_BYTES: usize = 2;

/// Takes datagrams out of a connection, in which each is behind its length in sixteen bits (RFC 4571 §2, RFC 6544 §3).
///
/// Between two calls of [`handle_bytes`](Self::handle_bytes) everything that is whole is to be taken out; what is left is shorter than
/// one datagram may be.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Takes what came next.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next datagram, when all of it is there. One without bytes, which keeps a connection open, is passed over.
    ///
    /// # Errors
    /// It is longer than [`MAX_FRAME_BYTES`]; nothing behind it can be understood.
    pub fn poll_datagram(&mut self) -> DecodeResult<Option<Bytes>> {
        while let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_FRAME_BYTES {
                let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
                return Err(DecodeError::LimitExceeded { what: "datagram in a connection", limit });
            }
            let end = LENGTH_BYTES.saturating_add(length);
            let Some(datagram) = self.buffer.get(LENGTH_BYTES..end) else { break };
            // One of its own: who keeps a datagram does not keep all that came with it.
            let datagram = Bytes::copy_from_slice(datagram);
            self.buffer.advance(end);
            if !datagram.is_empty() {
                return Ok(Some(datagram));
            }
        }
        self.shrink();
        Ok(None)
    }

    /// Gives memory back that a datagram does not need: much has come at once, and a connection may be silent for long.
    fn shrink(&mut self) {
        if self.buffer.try_reclaim(MAX_FRAME_BYTES) {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }
}

/// Puts a datagram behind its length, and that at the end of `out`; false, and nothing, where it is longer than [`MAX_FRAME_BYTES`].
#[must_use]
pub fn frame(datagram: &[u8], out: &mut BytesMut) -> bool {
    match u16::try_from(datagram.len()) {
        Ok(length) if datagram.len() <= MAX_FRAME_BYTES => {
            out.put_u16(length);
            out.extend_from_slice(datagram);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(datagrams: &[Vec<u8>]) -> BytesMut {
        let mut out = BytesMut::new();
        datagrams.iter().for_each(|datagram| assert!(frame(datagram, &mut out)));
        out
    }

    fn taken(deframer: &mut Deframer) -> Vec<Vec<u8>> {
        core::iter::from_fn(|| deframer.poll_datagram().unwrap()).map(Vec::from).collect()
    }

    #[test]
    fn rfc4571_2_a_length_is_in_network_order_and_does_not_count_itself() {
        assert_eq!(&framed(&[vec![1, 2, 3], vec![9; 0x0102]])[..7], [0, 3, 1, 2, 3, 1, 2]);
    }

    #[test]
    fn what_is_too_long_ends_it_and_what_is_empty_is_nothing() {
        let mut deframer = Deframer::default();
        deframer.handle_bytes(&[0, 0, 0, 0, 0, 1, 7, 0, 0]);
        assert_eq!(taken(&mut deframer), [[7]]);
        let longest = vec![5; MAX_FRAME_BYTES];
        deframer.handle_bytes(&framed(core::slice::from_ref(&longest)));
        assert_eq!(taken(&mut deframer), [longest]);
        let too_long = vec![5; MAX_FRAME_BYTES + 1];
        assert!(!frame(&too_long, &mut BytesMut::new()));
        // Nobody waits for the rest of it.
        deframer.handle_bytes(&u16::try_from(too_long.len()).unwrap().to_be_bytes());
        assert!(matches!(deframer.poll_datagram(), Err(DecodeError::LimitExceeded { .. })));
    }

    #[test]
    fn much_at_once_does_not_cost_memory_from_then_on() {
        let much = framed(&vec![vec![7; 1_200]; 50]);
        for rest in [&[][..], &[0, 9, 1, 2]] {
            let mut deframer = Deframer::default();
            deframer.handle_bytes(&[&much, rest].concat());
            assert_eq!(taken(&mut deframer).len(), 50);
            assert_eq!(&deframer.buffer[..], rest);
            assert!(!deframer.buffer.try_reclaim(MAX_FRAME_BYTES), "{} bytes", deframer.buffer.capacity());
        }
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_they_are_cut(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            cuts in prop::collection::vec(1_usize..200, 1..40),
        ) {
            let bytes = framed(&datagrams);
            let (mut deframer, mut out, mut rest) = (Deframer::default(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                deframer.handle_bytes(piece);
                out.extend(taken(&mut deframer));
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, datagrams);
        }
    }
}
