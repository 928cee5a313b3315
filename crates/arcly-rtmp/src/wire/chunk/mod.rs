//! Chunk streams: messages cut into pieces that interleave (RTMP 1.0, 5.3).
//!
//! ```text
//! bytes ──▶ ChunkDecoder ──▶ Message      one partial message per chunk stream
//! Message ──▶ encode_message ──▶ bytes    one contiguous buffer, absolute time, same bytes for every peer
//! ```
//!
//! Guarantees of the decoder: memory follows the bytes received and not the lengths declared; a payload
//! is copied once, from the caller's buffer into the message; nothing is allocated per chunk.
//!
//! Tolerated: an extended timestamp that is not repeated in the type 3 chunks that continue a message
//! (the specification asks for it, older encoders leave it out): both are recognised by value, per chunk.

mod decode;
mod encode;

pub use decode::{ChunkDecoder, ChunkLimits};
pub use encode::{MessageHeader, encode_message, encoded_len, message_head, restamp_all, restamp_stream_id};

/// The chunk size that both sides start with.
pub const DEFAULT_CHUNK_SIZE: usize = 128;

/// A 24-bit timestamp field of this value says that a 32-bit one follows.
const EXTENDED: u32 = 0x00FF_FFFF;

/// A chunk stream that this side sends on. One byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkStreamId(u8);

impl ChunkStreamId {
    /// Protocol control.
    pub const CONTROL: Self = Self(2);
    /// Commands of the connection.
    pub const COMMAND: Self = Self(3);
    /// Audio.
    pub const AUDIO: Self = Self(4);
    /// Commands of a stream, and metadata.
    pub const STREAM: Self = Self(5);
    /// Video.
    pub const VIDEO: Self = Self(6);
}

#[cfg(test)]
mod tests;
