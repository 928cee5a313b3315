//! Protocol control and user control messages (RTMP 1.0, 5.4, 6.2 and 7.1.7).
//!
//! Tolerated: user control events that nobody documented, and bytes after the fields of one that is
//! known; limit types of Set Peer Bandwidth beyond 2. A message shorter than its fields is malformed.

use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, BytesMut};

use super::chunk::{ChunkStreamId, MessageHeader, encode_message};
use super::message::MessageType;

/// The largest chunk size that has a meaning: no message is longer.
pub const MAX_CHUNK_SIZE: u32 = 0x00FF_FFFF;

/// A message that steers the connection; travels on chunk stream 2, message stream 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// The sender's chunks carry this many bytes from now on: 1 to [`MAX_CHUNK_SIZE`], larger values clamped to it.
    SetChunkSize(u32),
    /// The rest of the partial message on this chunk stream will not come.
    Abort(u32),
    /// Bytes received so far, modulo 2^32.
    Acknowledgement(u32),
    /// The receiver shall acknowledge after this many bytes.
    WindowAckSize(u32),
    /// The receiver shall limit what is not yet acknowledged to this many bytes.
    SetPeerBandwidth {
        /// Bytes.
        window: u32,
        /// 0 hard, 1 soft, 2 dynamic; others are undefined.
        limit: u8,
    },
    /// An event.
    User(UserControl),
}

/// A user control event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// 0: the message stream is ready.
    StreamBegin(u32),
    /// 1: playback of the message stream is over.
    StreamEof(u32),
    /// 2: there is no more data on the message stream for now.
    StreamDry(u32),
    /// 3: the client buffers this much.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// Milliseconds.
        ms: u32,
    },
    /// 4: the message stream is a recording.
    StreamIsRecorded(u32),
    /// 6: answer with the same number.
    PingRequest(u32),
    /// 7: the answer.
    PingResponse(u32),
    /// Anything else, such as 26 (SWF verification), 31 and 32 (buffer empty, ready).
    Other(u16),
}

impl ControlMessage {
    /// True when messages of this type are decoded here.
    #[must_use]
    pub const fn is_control(kind: MessageType) -> bool {
        matches!(
            kind,
            MessageType::SetChunkSize
                | MessageType::Abort
                | MessageType::Acknowledgement
                | MessageType::UserControl
                | MessageType::WindowAckSize
                | MessageType::SetPeerBandwidth
        )
    }

    /// Decodes the body of a control message; `None` when `kind` is not one.
    ///
    /// # Errors
    /// A field is missing, or a chunk size is 0 or negative.
    pub fn decode(kind: MessageType, payload: &[u8]) -> DecodeResult<Option<Self>> {
        Self::decode_open(kind, payload).map_err(|error| error.in_closed_unit(payload.len()))
    }

    fn decode_open(kind: MessageType, payload: &[u8]) -> DecodeResult<Option<Self>> {
        let mut r = Reader::new(payload);
        let message = match kind {
            MessageType::SetChunkSize => Self::SetChunkSize(chunk_size(&mut r)?),
            MessageType::Abort => Self::Abort(r.u32("abort: chunk stream id")?),
            MessageType::Acknowledgement => Self::Acknowledgement(r.u32("acknowledgement")?),
            MessageType::WindowAckSize => Self::WindowAckSize(r.u32("window acknowledgement size")?),
            MessageType::SetPeerBandwidth => Self::SetPeerBandwidth {
                window: r.u32("peer bandwidth: window")?,
                limit: r.u8("peer bandwidth: limit type")?,
            },
            MessageType::UserControl => return UserControl::decode(&mut r).map(|e| Some(Self::User(e))),
            _ => return Ok(None),
        };
        r.finish("control message")?;
        Ok(Some(message))
    }

    /// Appends the message, chunked.
    pub fn encode(self, out: &mut BytesMut) {
        let mut body = [0_u8; 10];
        let mut rest = body.as_mut_slice();
        let kind = match self {
            Self::SetChunkSize(size) => put(&mut rest, MessageType::SetChunkSize, size),
            Self::Abort(csid) => put(&mut rest, MessageType::Abort, csid),
            Self::Acknowledgement(sequence) => put(&mut rest, MessageType::Acknowledgement, sequence),
            Self::WindowAckSize(window) => put(&mut rest, MessageType::WindowAckSize, window),
            Self::SetPeerBandwidth { window, limit } => {
                let kind = put(&mut rest, MessageType::SetPeerBandwidth, window);
                rest.put_u8(limit);
                kind
            }
            Self::User(event) => {
                event.encode(&mut rest);
                MessageType::UserControl
            }
        };
        let unused = rest.len();
        let body = body.get(..body.len().saturating_sub(unused)).unwrap_or_default();
        let header = MessageHeader { csid: ChunkStreamId::CONTROL, timestamp: 0, kind, stream_id: 0 };
        encode_message(out, &header, &[body], DEFAULT_CHUNK);
    }
}

/// Larger than any control message, so that each is one chunk whatever size is in force (at least 128 here).
const DEFAULT_CHUNK: usize = super::chunk::DEFAULT_CHUNK_SIZE;

fn put(rest: &mut &mut [u8], kind: MessageType, value: u32) -> MessageType {
    rest.put_u32(value);
    kind
}

fn chunk_size(r: &mut Reader<'_>) -> DecodeResult<u32> {
    match r.u32("chunk size")? {
        0 | 0x8000_0000.. => Err(r.malformed("chunk size")),
        size => Ok(size.min(MAX_CHUNK_SIZE)),
    }
}

impl UserControl {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        const WHAT: &str = "user control event data";
        Ok(match r.u16("user control event type")? {
            0 => Self::StreamBegin(r.u32(WHAT)?),
            1 => Self::StreamEof(r.u32(WHAT)?),
            2 => Self::StreamDry(r.u32(WHAT)?),
            3 => Self::SetBufferLength { stream_id: r.u32(WHAT)?, ms: r.u32(WHAT)? },
            4 => Self::StreamIsRecorded(r.u32(WHAT)?),
            6 => Self::PingRequest(r.u32(WHAT)?),
            7 => Self::PingResponse(r.u32(WHAT)?),
            other => Self::Other(other),
        })
    }

    fn encode(self, out: &mut &mut [u8]) {
        let (event, value) = match self {
            Self::StreamBegin(id) => (0, Some(id)),
            Self::StreamEof(id) => (1, Some(id)),
            Self::StreamDry(id) => (2, Some(id)),
            Self::SetBufferLength { stream_id, .. } => (3, Some(stream_id)),
            Self::StreamIsRecorded(id) => (4, Some(id)),
            Self::PingRequest(token) => (6, Some(token)),
            Self::PingResponse(token) => (7, Some(token)),
            Self::Other(event) => (event, None),
        };
        out.put_u16(event);
        if let Some(value) = value {
            out.put_u32(value);
        }
        if let Self::SetBufferLength { ms, .. } = self {
            out.put_u32(ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::wire::DecodeError;

    use super::super::chunk::{ChunkDecoder, ChunkLimits};
    use super::*;

    const CASES: &[ControlMessage] = &[
        ControlMessage::SetChunkSize(1),
        ControlMessage::SetChunkSize(60_000),
        ControlMessage::Abort(3),
        ControlMessage::Acknowledgement(u32::MAX),
        ControlMessage::WindowAckSize(2_500_000),
        ControlMessage::SetPeerBandwidth { window: 2_500_000, limit: 2 },
        ControlMessage::SetPeerBandwidth { window: 1, limit: 9 },
        ControlMessage::User(UserControl::StreamBegin(1)),
        ControlMessage::User(UserControl::StreamEof(2)),
        ControlMessage::User(UserControl::StreamDry(3)),
        ControlMessage::User(UserControl::SetBufferLength { stream_id: 1, ms: 3_000 }),
        ControlMessage::User(UserControl::StreamIsRecorded(1)),
        ControlMessage::User(UserControl::PingRequest(77)),
        ControlMessage::User(UserControl::PingResponse(77)),
        ControlMessage::User(UserControl::Other(32)),
    ];

    fn body(message: ControlMessage) -> (MessageType, bytes::Bytes) {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        let mut input = &wire[..];
        let decoded = ChunkDecoder::new(ChunkLimits::default()).decode(&mut input).unwrap().unwrap();
        assert!(input.is_empty());
        assert_eq!((decoded.stream_id, decoded.timestamp), (0, 0));
        (decoded.kind, decoded.payload)
    }

    #[test]
    fn round_trip_and_every_prefix() {
        for &message in CASES {
            let (kind, payload) = body(message);
            assert_eq!(ControlMessage::decode(kind, &payload), Ok(Some(message)));
            for end in 0..payload.len() {
                let got = ControlMessage::decode(kind, &payload[..end]);
                assert!(
                    matches!(got, Err(DecodeError::Malformed { .. })),
                    "{message:?} cut at {end}: {got:?}"
                );
            }
        }
    }

    #[test]
    fn r06_r08_chunk_sizes() {
        let decode = |size: u32| ControlMessage::decode(MessageType::SetChunkSize, &size.to_be_bytes());
        for bad in [0, 0x8000_0000, 0x8000_1000, u32::MAX] {
            assert!(
                matches!(decode(bad), Err(DecodeError::Malformed { what: "chunk size", .. })),
                "{bad:#x}"
            );
        }
        for (size, expect) in
            [(1, 1), (128, 128), (0xFF_FFFF, 0xFF_FFFF), (0x100_0000, 0xFF_FFFF), (0x7FFF_FFFF, 0xFF_FFFF)]
        {
            assert_eq!(decode(size), Ok(Some(ControlMessage::SetChunkSize(expect))));
        }
    }

    #[test]
    fn r30_unknown_events_are_tolerated() {
        let decode = |payload: &[u8]| ControlMessage::decode(MessageType::UserControl, payload);
        assert_eq!(decode(&[0, 99]), Ok(Some(ControlMessage::User(UserControl::Other(99)))));
        assert_eq!(decode(&[0, 99, 1, 2]), Ok(Some(ControlMessage::User(UserControl::Other(99)))));
        assert_eq!(ControlMessage::decode(MessageType::Audio, &[]), Ok(None));
    }
}
