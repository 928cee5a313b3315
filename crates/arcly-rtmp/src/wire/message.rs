//! A message as the chunk layer delivers it (RTMP 1.0, 5.3.1.2 and 6.1).

use bytes::Bytes;

/// What a message carries: its type id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 1: the sender's chunks are this long from now on.
    SetChunkSize,
    /// 2: the rest of a partial message will not come.
    Abort,
    /// 3: bytes received so far.
    Acknowledgement,
    /// 4: stream begin, ping and their like.
    UserControl,
    /// 5: acknowledge after this many bytes.
    WindowAckSize,
    /// 6: limit what is on its way to this many bytes.
    SetPeerBandwidth,
    /// 8: an FLV audio tag body.
    Audio,
    /// 9: an FLV video tag body.
    Video,
    /// 15: metadata, AMF3.
    DataAmf3,
    /// 17: a command, AMF3.
    CommandAmf3,
    /// 18: metadata, AMF0.
    DataAmf0,
    /// 20: a command, AMF0.
    CommandAmf0,
    /// 22: several messages in one.
    Aggregate,
    /// Shared objects, and whatever else there may be.
    Other(u8),
}

impl MessageType {
    /// The type of a type id.
    #[must_use]
    pub const fn from_id(id: u8) -> Self {
        match id {
            1 => Self::SetChunkSize,
            2 => Self::Abort,
            3 => Self::Acknowledgement,
            4 => Self::UserControl,
            5 => Self::WindowAckSize,
            6 => Self::SetPeerBandwidth,
            8 => Self::Audio,
            9 => Self::Video,
            15 => Self::DataAmf3,
            17 => Self::CommandAmf3,
            18 => Self::DataAmf0,
            20 => Self::CommandAmf0,
            22 => Self::Aggregate,
            other => Self::Other(other),
        }
    }

    /// The type id on the wire.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::SetChunkSize => 1,
            Self::Abort => 2,
            Self::Acknowledgement => 3,
            Self::UserControl => 4,
            Self::WindowAckSize => 5,
            Self::SetPeerBandwidth => 6,
            Self::Audio => 8,
            Self::Video => 9,
            Self::DataAmf3 => 15,
            Self::CommandAmf3 => 17,
            Self::DataAmf0 => 18,
            Self::CommandAmf0 => 20,
            Self::Aggregate => 22,
            Self::Other(id) => id,
        }
    }

    /// True for the types whose messages may be as long as a picture.
    #[must_use]
    pub const fn is_media(self) -> bool {
        matches!(self, Self::Audio | Self::Video | Self::Aggregate)
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub kind: MessageType,
    /// Milliseconds on the sender's clock, modulo 2^32.
    pub timestamp: u32,
    /// The message stream it belongs to; 0 is the connection itself.
    pub stream_id: u32,
    /// The body.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_id_round_trips() {
        for id in 0..=u8::MAX {
            assert_eq!(MessageType::from_id(id).id(), id);
        }
    }
}
