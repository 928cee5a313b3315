//! FLV as a stream without end: over HTTP, over WebSocket, into files, and out of them.
//!
//! | document | section | here |
//! |---|---|---|
//! | Video File Format v10.1 | annex E.2, E.3 | [`Writer`], [`Reader`] |
//! | Enhanced RTMP v2 | | through [`arcly_codec::flv`] |
//! | RFC 9112, RFC 6455 | 7.1, 5.2 | [`Framing`] |
//! | "HTTP-FLV", as SRS and nginx-http-flv-module do it | | module `http`, feature `http` |
//!
//! ```text
//!   stream ──► Packetizer ──► derived log ──► Writer ──► one reader's bytes     tags are made once, and shared
//!   bytes  ──► Reader     ──► MediaEvent  ──► Publisher
//! ```
//!
//! Guarantees: no panic on any input; a reader of the stream costs no copy of the media; what is held of an incoming
//! file is at most one tag. Timestamps are the stream's own in milliseconds, so that all readers share them: a player that
//! joins late sees a first timestamp other than 0, as every player takes it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod framing;
#[cfg(feature = "http")]
pub mod http;
mod packetizer;
mod reader;
mod writer;

pub use framing::Framing;
pub use packetizer::Packetizer;
pub use reader::Reader;
pub use writer::{Writer, file_header};

/// The media type of FLV.
pub const MEDIA_TYPE: &str = "video/x-flv";
