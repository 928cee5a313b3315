//! Data packets (draft-sharabayko-srt §3.1).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{HEADER_BYTES, MsgNumber, SeqNumber, SocketId, TimeStamp};

const POSITION_SHIFT: u32 = 30;
const IN_ORDER: u32 = 1 << 29;
const KEY_SHIFT: u32 = 27;
const RETRANSMITTED: u32 = 1 << 26;

/// Where a packet stands in its message (`PP`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Neither the first nor the last.
    Middle,
    /// The last of several.
    Last,
    /// The first of several.
    First,
    /// The whole message. In live mode there is nothing else.
    #[default]
    Only,
}

impl Position {
    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Middle,
            1 => Self::Last,
            2 => Self::First,
            _ => Self::Only,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Middle => 0,
            Self::Last => 1,
            Self::First => 2,
            Self::Only => 3,
        }
    }

    /// True when a message begins here.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(self, Self::First | Self::Only)
    }

    /// True when a message ends here.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Last | Self::Only)
    }
}

/// The key that a payload is encrypted with (`KK`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySpec {
    /// Not encrypted.
    #[default]
    None,
    /// The even key.
    Even,
    /// The odd key.
    Odd,
}

impl KeySpec {
    /// The two bits; `None` for 3, which no data packet may carry.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::None),
            1 => Some(Self::Even),
            2 => Some(Self::Odd),
            _ => None,
        }
    }

    /// The two bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Even => 1,
            Self::Odd => 2,
        }
    }
}

/// The header of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Counts packets.
    pub seq: SeqNumber,
    /// Where the packet stands in its message.
    pub position: Position,
    /// `O`: the message is to be delivered behind those before it.
    pub in_order: bool,
    /// How the payload is encrypted.
    pub key: KeySpec,
    /// `R`: sent before.
    pub retransmitted: bool,
    /// Counts messages; [`MsgNumber::CONTROL`] in a packet filter's own packets.
    pub message: MsgNumber,
    /// When it was handed to the sender (with TSBPD), or sent.
    pub timestamp: TimeStamp,
    /// The receiver.
    pub destination: SocketId,
}

impl DataHeader {
    /// The header of a message that is one packet, sent for the first time and in the clear.
    #[must_use]
    pub const fn new(seq: SeqNumber, message: MsgNumber) -> Self {
        Self {
            seq,
            position: Position::Only,
            in_order: false,
            key: KeySpec::None,
            retransmitted: false,
            message,
            timestamp: TimeStamp::new(0),
            destination: SocketId::HANDSHAKE,
        }
    }

    /// The sixteen bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = self.position.bits() << POSITION_SHIFT
            | if self.in_order { IN_ORDER } else { 0 }
            | (self.key.bits() as u32) << KEY_SHIFT
            | if self.retransmitted { RETRANSMITTED } else { 0 };
        let [a, b, c, d] = self.seq.value().to_be_bytes();
        let [e, f, g, h] = (flags | self.message.value()).to_be_bytes();
        let [i, j, k, l] = self.timestamp.value().to_be_bytes();
        let [m, n, o, p] = self.destination.0.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        let seq = r.u32("sequence number")?;
        if seq > SeqNumber::MAX {
            return Err(DecodeError::Malformed { what: "data packet", offset: 0 });
        }
        let flags = r.u32("message number")?;
        Ok(Self {
            seq: SeqNumber::new(seq),
            position: Position::from_bits(flags >> POSITION_SHIFT),
            in_order: flags & IN_ORDER != 0,
            key: KeySpec::from_bits(flags >> KEY_SHIFT)
                .ok_or(DecodeError::Malformed { what: "key flags", offset: 4 })?,
            retransmitted: flags & RETRANSMITTED != 0,
            message: MsgNumber::new(flags),
            timestamp: TimeStamp::new(r.u32("timestamp")?),
            destination: SocketId(r.u32("destination")?),
        })
    }
}

/// A data packet: nothing in it says how long the payload is but the datagram. The payload may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPacket {
    /// The header.
    pub header: DataHeader,
    /// The payload, encrypted when the header says so: a slice of the datagram, not a copy.
    pub payload: Bytes,
}

impl DataPacket {
    /// Decodes a datagram.
    ///
    /// # Errors
    /// It is shorter than the header, is a control packet, or names two keys.
    pub fn decode(datagram: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(datagram);
        let header = DataHeader::decode(&mut r)?;
        Ok(Self { header, payload: datagram.slice_ref(r.rest()) })
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.payload.len().saturating_add(HEADER_BYTES)
    }

    /// Appends the datagram.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        out.put_slice(&self.header.encode());
        out.put_slice(&self.payload);
    }
}
