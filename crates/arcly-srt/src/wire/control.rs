//! Control packets (draft-sharabayko-srt §3.2).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Ack, HEADER_BYTES, Handshake, KeyMaterial, KeyResponse, LossList, MsgNumber};
use super::{SeqNumber, SeqRange, SocketId, TimeStamp};

/// Control types, as in table 1 of the draft.
mod kind {
    pub(super) const HANDSHAKE: u16 = 0;
    pub(super) const KEEP_ALIVE: u16 = 1;
    pub(super) const ACK: u16 = 2;
    pub(super) const NAK: u16 = 3;
    pub(super) const CONGESTION_WARNING: u16 = 4;
    pub(super) const SHUTDOWN: u16 = 5;
    pub(super) const ACKACK: u16 = 6;
    pub(super) const DROP_REQUEST: u16 = 7;
    pub(super) const PEER_ERROR: u16 = 8;
    pub(super) const USER_DEFINED: u16 = 0x7FFF;
}

/// Subtypes of user-defined control packets: extension types of the handshake.
mod subtype {
    pub(super) const KM_REQUEST: u16 = 3;
    pub(super) const KM_RESPONSE: u16 = 4;
}

const CONTROL: u16 = 1 << 15;

/// What a control that needs no contents has all the same. The draft has none, but libsrt has always sent four bytes, and a newer one
/// than 1.5.1 passes over who sends fewer (FFmpeg 9 brings it).
const PADDING: [u8; 4] = [0; 4];

/// A control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// When it was sent.
    pub timestamp: TimeStamp,
    /// The receiver.
    pub destination: SocketId,
    /// What it says.
    pub control: Control,
}

/// What a control packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Opens a connection, or refuses one.
    Handshake(Handshake),
    /// The peer is there.
    KeepAlive,
    /// What has come.
    Ack(Ack),
    /// What has not.
    Nak(LossList),
    /// The way is congested; nobody sends it any more.
    CongestionWarning,
    /// The connection is closed.
    Shutdown,
    /// The full acknowledgement of this number has come.
    AckAck {
        /// [`Ack::number`].
        number: u32,
    },
    /// These packets will not come any more.
    DropRequest {
        /// The message that they belong to; [`MsgNumber::CONTROL`] when it is not known.
        message: MsgNumber,
        /// The packets.
        range: SeqRange,
    },
    /// The peer cannot go on: its disk is full, say.
    PeerError {
        /// 4000 when a file could not be written.
        code: u32,
    },
    /// Keys for what follows.
    KeyRequest(KeyMaterial),
    /// What became of the keys.
    KeyResponse(KeyResponse),
    /// Anything else, to be passed over.
    Other {
        /// The control type, 15 bits.
        kind: u16,
        /// The subtype.
        subtype: u16,
        /// The type-specific information.
        info: u32,
        /// The control information field.
        data: Bytes,
    },
}

impl ControlPacket {
    /// Decodes a datagram. What is behind a control that needs no more is ignored, and need not be there: libsrt pads those to
    /// four bytes, the draft does not.
    ///
    /// # Errors
    /// It is a data packet, cut short, or its contents are wrong.
    pub fn decode(datagram: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(datagram);
        let kind = r.u16("control type")?;
        if kind & CONTROL == 0 {
            return Err(DecodeError::Malformed { what: "control type", offset: 0 });
        }
        let subtype = r.u16("subtype")?;
        let info = r.u32("type-specific information")?;
        let timestamp = TimeStamp::new(r.u32("timestamp")?);
        let destination = SocketId(r.u32("destination")?);
        let header = (kind & !CONTROL, subtype, info);
        Ok(Self { timestamp, destination, control: Control::decode(header, &mut r, datagram)? })
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let contents = match &self.control {
            Control::Handshake(handshake) => handshake.encoded_len(),
            Control::Ack(Ack { report: None, .. }) => 4,
            Control::Ack(Ack { report: Some(report), .. }) => report.rates.map_or(16, |_| 28),
            Control::Nak(list) => list.words().saturating_mul(4),
            Control::DropRequest { .. } => 8,
            Control::KeyRequest(keys) => keys.encoded_len(),
            Control::KeyResponse(response) => response.encoded_len(),
            Control::Other { data, .. } => data.len(),
            Control::KeepAlive
            | Control::CongestionWarning
            | Control::Shutdown
            | Control::AckAck { .. }
            | Control::PeerError { .. } => PADDING.len(),
        };
        contents.saturating_add(HEADER_BYTES)
    }

    /// Appends the datagram.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        let (kind, subtype, info) = self.control.header();
        out.put_u16(kind | CONTROL);
        out.put_u16(subtype);
        out.put_u32(info);
        out.put_u32(self.timestamp.value());
        out.put_u32(self.destination.0);
        self.control.encode(out);
    }
}

impl Control {
    fn decode(header: (u16, u16, u32), r: &mut Reader<'_>, datagram: &Bytes) -> DecodeResult<Self> {
        let (kind, subtype, info) = header;
        Ok(match (kind, subtype) {
            (kind::HANDSHAKE, _) => Self::Handshake(Handshake::decode(r, datagram)?),
            (kind::KEEP_ALIVE, _) => Self::KeepAlive,
            (kind::ACK, _) => Self::Ack(Ack::decode(r, info)?),
            (kind::NAK, _) => Self::Nak(LossList::decode(r)?),
            (kind::CONGESTION_WARNING, _) => Self::CongestionWarning,
            (kind::SHUTDOWN, _) => Self::Shutdown,
            (kind::ACKACK, _) => Self::AckAck { number: info },
            (kind::DROP_REQUEST, _) => {
                Self::DropRequest { message: MsgNumber::new(info), range: dropped(r)? }
            }
            (kind::PEER_ERROR, _) => Self::PeerError { code: info },
            (kind::USER_DEFINED, subtype::KM_REQUEST) => Self::KeyRequest(KeyMaterial::decode(r)?),
            (kind::USER_DEFINED, subtype::KM_RESPONSE) => Self::KeyResponse(KeyResponse::decode(r)?),
            _ => Self::Other { kind, subtype, info, data: datagram.slice_ref(r.rest()) },
        })
    }

    /// Type, subtype and type-specific information.
    fn header(&self) -> (u16, u16, u32) {
        match self {
            Self::Handshake(_) => (kind::HANDSHAKE, 0, 0),
            Self::KeepAlive => (kind::KEEP_ALIVE, 0, 0),
            Self::Ack(ack) => (kind::ACK, 0, ack.number),
            Self::Nak(_) => (kind::NAK, 0, 0),
            Self::CongestionWarning => (kind::CONGESTION_WARNING, 0, 0),
            Self::Shutdown => (kind::SHUTDOWN, 0, 0),
            Self::AckAck { number } => (kind::ACKACK, 0, *number),
            Self::DropRequest { message, .. } => (kind::DROP_REQUEST, 0, message.value()),
            Self::PeerError { code } => (kind::PEER_ERROR, 0, *code),
            Self::KeyRequest(_) => (kind::USER_DEFINED, subtype::KM_REQUEST, 0),
            Self::KeyResponse(_) => (kind::USER_DEFINED, subtype::KM_RESPONSE, 0),
            Self::Other { kind, subtype, info, .. } => (kind & !CONTROL, *subtype, *info),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Handshake(handshake) => handshake.encode(out),
            Self::Ack(ack) => ack.encode(out),
            Self::Nak(list) => list.encode(out),
            Self::DropRequest { range, .. } => {
                out.put_u32(range.first().value());
                out.put_u32(range.last().value());
            }
            Self::KeyRequest(keys) => keys.encode(out),
            Self::KeyResponse(response) => response.encode(out),
            Self::Other { data, .. } => out.put_slice(data),
            Self::KeepAlive
            | Self::CongestionWarning
            | Self::Shutdown
            | Self::AckAck { .. }
            | Self::PeerError { .. } => out.put_slice(&PADDING),
        }
    }
}

/// The packets that a drop request names. Reversed, or over half the circle, it is a lie.
fn dropped(r: &mut Reader<'_>) -> DecodeResult<SeqRange> {
    let (first, last) = (r.u32("first dropped packet")?, r.u32("last dropped packet")?);
    if first > SeqNumber::MAX || last > SeqNumber::MAX {
        return Err(r.malformed("dropped packets"));
    }
    SeqRange::new(SeqNumber::new(first), SeqNumber::new(last)).ok_or_else(|| r.malformed("dropped packets"))
}
