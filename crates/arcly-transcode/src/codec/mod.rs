//! Decoders and encoders behind traits of our own, so that each can be replaced without anything else noticing.

pub mod aac;
pub mod opus;
pub mod pcm;

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::pcm::Format;

/// Bytes of one frame that a decoder is given: more than any codec here has.
pub const MAX_FRAME_BYTES: usize = 16 << 10;

/// Why a frame could not be coded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec}: {what}")]
pub struct CodecError {
    codec: &'static str,
    what: Arc<str>,
}

impl CodecError {
    /// What `codec` says.
    #[must_use]
    pub fn new(codec: &'static str, what: &dyn fmt::Display) -> Self {
        Self { codec, what: what.to_string().into() }
    }
}

/// Makes samples of frames.
pub trait AudioDecoder: Send {
    /// Appends a frame's samples to `out`, interleaved, and says what they are. The first of them is heard at the frame's
    /// pts: what a decoder holds back, it holds back by convention of the codec.
    ///
    /// # Errors
    /// The frame is damaged, or not of this codec. The decoder takes the next one all the same.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<Format, CodecError>;
}

/// Makes frames of samples.
pub trait AudioEncoder: Send {
    /// Samples of each channel that make one frame.
    fn frame_len(&self) -> usize;

    /// How many samples of each channel a decoder's output is behind what went into the encoder.
    fn delay(&self) -> usize;

    /// Encodes [`frame_len`](Self::frame_len) interleaved samples for each channel. Full scale is from -1 to 1; what is a little
    /// beyond may be cut off.
    ///
    /// # Errors
    /// The encoder has failed. It takes the next samples all the same.
    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError>;
}
