//! Bytes to typed messages and back: no I/O, no clock, no state but the chunk streams'.
//!
//! | document | section | here |
//! |---|---|---|
//! | Adobe RTMP 1.0 | 5.2 handshake | [`handshake`] |
//! | (unpublished) digest handshake of Flash Player 9 | | [`handshake::digest`] |
//! | Adobe RTMP 1.0 | 5.3 chunking | [`chunk`] |
//! | Adobe RTMP 1.0 | 5.4, 6.2, 7.1.7 protocol control, user control | [`control`] |
//! | Adobe RTMP 1.0 | 7.1.6 aggregate message | [`aggregate`] |
//! | Adobe RTMP 1.0 | 7.2 commands | [`command`] |
//! | Enhanced RTMP v2 | connect capabilities | [`capability`] |
//!
//! Every decoder either returns a value or says which field was wrong; none panics, and none allocates by a
//! length that a peer declared.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod aggregate;
pub mod capability;
pub mod chunk;
pub mod command;
pub mod control;
pub mod handshake;
pub mod message;

pub use capability::{Capabilities, CapsEx, CodecCaps};
pub use chunk::{ChunkDecoder, ChunkLimits, ChunkStreamId, MessageHeader, encode_message};
pub use command::{Connect, Invoke, Request, Response, Status};
pub use control::{ControlMessage, UserControl};
pub use message::{Message, MessageType};
