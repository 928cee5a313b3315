//! Handshake packets (draft-sharabayko-srt §3.2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Extensions, RejectReason, SeqNumber, SocketId};

/// What a handshake packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeKind {
    /// First contact: asks for a cookie, and brings it.
    Induction,
    /// First contact of a rendezvous.
    WaveAHand,
    /// What a connection is to be.
    Conclusion,
    /// The last word of a rendezvous.
    Agreement,
    /// Sent by nobody.
    Done,
    /// No connection, and why.
    Rejected(RejectReason),
}

/// Where rejection codes begin among the handshake types.
const REJECTIONS: u32 = 1_000;

impl HandshakeKind {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(match r.u32("handshake type")? {
            0 => Self::WaveAHand,
            1 => Self::Induction,
            0xFFFF_FFFF => Self::Conclusion,
            0xFFFF_FFFE => Self::Agreement,
            0xFFFF_FFFD => Self::Done,
            other => {
                let code = other.checked_sub(REJECTIONS).and_then(|code| u16::try_from(code).ok());
                Self::Rejected(RejectReason::new(code.ok_or_else(|| r.malformed("handshake type"))?))
            }
        })
    }

    const fn encode(self) -> u32 {
        match self {
            Self::WaveAHand => 0,
            Self::Induction => 1,
            Self::Conclusion => 0xFFFF_FFFF,
            Self::Agreement => 0xFFFF_FFFE,
            Self::Done => 0xFFFF_FFFD,
            Self::Rejected(reason) => (reason.code() as u32).saturating_add(REJECTIONS),
        }
    }
}

/// A handshake packet's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// 4 or 5. An induction of a caller says 4, whatever it can.
    pub version: u32,
    /// The key length in units of eight bytes (2, 3 or 4), or 0.
    pub encryption: u16,
    /// In an induction's answer [`MAGIC`](Self::MAGIC); in a conclusion which extensions there are; in version 4 the
    /// socket type.
    pub extension_field: u16,
    /// The number of the first data packet.
    pub initial_seq: SeqNumber,
    /// The maximum segment size: bytes of a packet, with the headers of IP and UDP.
    pub mtu: u32,
    /// Packets that may be in flight.
    pub flow_window: u32,
    /// What it is for.
    pub kind: HandshakeKind,
    /// The sender's socket.
    pub socket_id: SocketId,
    /// Proves that the sender gets what is sent to its address.
    pub cookie: u32,
    /// The address that the packet is sent to.
    pub peer_ip: IpAddr,
    /// Extensions as they came: to be looked at ([`decode_extensions`](Self::decode_extensions)) once the cookie is found
    /// to be right, so that spoofed packets cost nothing.
    pub extensions: Bytes,
}

impl Handshake {
    /// Bytes without extensions.
    pub const BYTES: usize = 48;
    /// What an answer to an induction carries to say that it knows version 5.
    pub const MAGIC: u16 = 0x4A17;
    /// In a conclusion's extension field: there is a handshake extension message.
    pub const EXT_HS: u16 = 1;
    /// In a conclusion's extension field: there is key material.
    pub const EXT_KM: u16 = 2;
    /// In a conclusion's extension field: there is a stream id, a congestion control, a filter, or a group.
    pub const EXT_CONFIG: u16 = 4;
    /// The extension field of version 4: messages (2), not a stream of bytes (1).
    pub const DATAGRAM: u16 = 2;

    /// The extensions.
    ///
    /// # Errors
    /// See [`Extensions::decode`].
    pub fn decode_extensions(&self) -> DecodeResult<Extensions> {
        Extensions::decode(&self.extensions)
    }

    /// Sets the extensions, and the flags that say which there are.
    pub fn set_extensions(&mut self, extensions: &Extensions) {
        self.extensions = extensions.encode();
        self.extension_field = extensions.flags();
    }

    /// Bytes that are sent.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        Self::BYTES.saturating_add(self.extensions.len())
    }

    pub(super) fn decode(r: &mut Reader<'_>, datagram: &Bytes) -> DecodeResult<Self> {
        let version = r.u32("handshake version")?;
        let encryption = r.u16("encryption field")?;
        let extension_field = r.u16("extension field")?;
        let initial_seq = r.u32("initial sequence number")?;
        if initial_seq > SeqNumber::MAX {
            return Err(r.malformed("initial sequence number"));
        }
        Ok(Self {
            version,
            encryption,
            extension_field,
            initial_seq: SeqNumber::new(initial_seq),
            mtu: r.u32("maximum segment size")?,
            flow_window: r.u32("flow window")?,
            kind: HandshakeKind::decode(r)?,
            socket_id: SocketId(r.u32("socket id")?),
            cookie: r.u32("cookie")?,
            peer_ip: decode_ip(r)?,
            extensions: datagram.slice_ref(r.rest()),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.version);
        out.put_u16(self.encryption);
        out.put_u16(self.extension_field);
        out.put_u32(self.initial_seq.value());
        out.put_u32(self.mtu);
        out.put_u32(self.flow_window);
        out.put_u32(self.kind.encode());
        out.put_u32(self.socket_id.0);
        out.put_u32(self.cookie);
        encode_ip(self.peer_ip, out);
        out.put_slice(&self.extensions);
    }
}

/// An address is four words, the lowest byte of each first (libsrt on little-endian machines, which is all that there is).
/// One word and three zeros are IPv4.
fn decode_ip(r: &mut Reader<'_>) -> DecodeResult<IpAddr> {
    let mut address = [0; 16];
    for word in address.chunks_exact_mut(4) {
        word.copy_from_slice(&r.u32_le("peer address")?.to_be_bytes());
    }
    Ok(match address {
        [a, b, c, d, rest @ ..] if rest == [0; 12] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        other => IpAddr::V6(Ipv6Addr::from(other)),
    })
}

fn encode_ip(address: IpAddr, out: &mut BytesMut) {
    match address {
        IpAddr::V4(address) => {
            out.put_u32_le(u32::from_be_bytes(address.octets()));
            out.put_bytes(0, 12);
        }
        IpAddr::V6(address) => {
            for word in address.octets().chunks_exact(4) {
                out.put_u32_le(word.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)));
            }
        }
    }
}

impl From<RejectReason> for HandshakeKind {
    fn from(reason: RejectReason) -> Self {
        Self::Rejected(reason)
    }
}

/// What is said to a peer whose handshake does not decode.
impl From<DecodeError> for RejectReason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::LimitExceeded { what: "streamid", .. } => Self::BAD_REQUEST,
            _ => Self::ROGUE,
        }
    }
}
