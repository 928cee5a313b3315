//! Bytes and values: packets, handshakes and their extensions, key material, stream ids.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-sharabayko-srt-01 | §3.1 data packets | [`DataPacket`] |
//! | | §3.2 control packets | [`ControlPacket`], [`Control`] |
//! | | §3.2.1 handshake, §3.2.1.1 to 3.2.1.4 its extensions | [`Handshake`], [`Extensions`] |
//! | | §3.2.2 key material | [`KeyMaterial`], [`KeyResponse`] |
//! | | §3.2.4 ACK, §3.2.5 NAK and appendix A | [`Ack`], [`LossList`] |
//! | | §4.3 rejection codes | [`RejectReason`] |
//! | libsrt, `docs/features/access-control.md` | stream ids, rejection codes from 1000 | [`StreamId`], [`RejectReason`] |
//!
//! Guarantees: no panic; payloads are slices of what came in, not copies; nothing is allocated by what a field says before
//! the bytes for it were seen; a loss list or a drop request names ranges, and nothing here walks through them.
//!
//! Tolerated: four bytes of padding behind controls that need none (libsrt sends them), handshake extensions of unknown
//! types, and acknowledgements of early versions, which say less.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod ack;
mod control;
mod data;
mod extension;
mod handshake;
mod key_material;
mod loss;
mod number;
mod reject;
mod stream_id;
#[cfg(test)]
mod tests;

pub use ack::{Ack, AckRates, AckReport};
pub use control::{Control, ControlPacket};
pub use data::{DataHeader, DataPacket, KeySpec, Position};
pub use extension::{Extensions, GroupExtension, GroupKind, HsExtension, HsFlags, KmExtension, SrtVersion};
pub use handshake::{Handshake, HandshakeKind};
pub use key_material::{Cipher, KeyFlags, KeyLength, KeyMaterial, KeyResponse, KmState, SALT_BYTES};
pub use loss::LossList;
pub use number::{MsgNumber, SeqNumber, SeqRange, SocketId, TimeStamp};
pub use reject::RejectReason;
pub use stream_id::{MAX_STREAM_ID, StreamId, StreamIdError, StreamMode};

use arcly_core::wire::DecodeResult;
use bytes::{Bytes, BytesMut};

/// Bytes of the header that all packets have.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the IPv4 and UDP headers, which the maximum segment size counts.
pub const UDP_HEADERS: usize = 28;
/// Bytes of payload in a packet of 1 500.
pub const MAX_PAYLOAD: usize = 1_456;

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// With a payload.
    Data(DataPacket),
    /// About the connection.
    Control(ControlPacket),
}

impl Packet {
    /// Decodes a datagram.
    ///
    /// # Errors
    /// See [`DataPacket::decode`] and [`ControlPacket::decode`].
    pub fn decode(datagram: &Bytes) -> DecodeResult<Self> {
        if datagram.first().is_some_and(|first| first & 0x80 != 0) {
            ControlPacket::decode(datagram).map(Self::Control)
        } else {
            DataPacket::decode(datagram).map(Self::Data)
        }
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Data(packet) => packet.encoded_len(),
            Self::Control(packet) => packet.encoded_len(),
        }
    }

    /// Appends the datagram.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data(packet) => packet.encode(out),
            Self::Control(packet) => packet.encode(out),
        }
    }

    /// The datagram.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.freeze()
    }
}

/// Who a datagram is for; `None` when it is shorter than a header. All that a demultiplexer has to look at.
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<SocketId> {
    let header = datagram.first_chunk::<HEADER_BYTES>()?;
    let [.., a, b, c, d] = *header;
    Some(SocketId(u32::from_be_bytes([a, b, c, d])))
}
