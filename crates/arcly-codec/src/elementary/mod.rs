//! Tracks as containers carry them: a record or none, frames in the container's framing, canonical frames out.
//!
//! ```text
//!   record ──set_record──► VideoStream, AudioStream ──track──► Track, as it is known now
//!   frames ──frame───────►                          ──frame──► canonical payload, flags or duration
//! ```
//!
//! FLV and MP4 are read through this. A configuration that changes in band shows in
//! [`take_changed`](VideoStream::take_changed).
//!
//! Guarantees: no panic; a frame that is canonical already is passed on without copy.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod audio;
mod video;

pub use audio::AudioStream;
pub use video::{Color, Picture, VideoStream};
