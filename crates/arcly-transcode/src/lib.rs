//! Sound from one codec into another, so that whoever plays a stream hears it: browsers take no AAC over WebRTC, and
//! players of RTMP and HLS no Opus.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 14496-3 | AAC: LC, HE (v1, v2), LD in; LC out | [`codec::aac`] |
//! | RFC 6716, RFC 7845 | Opus; §5.1.1 channel mapping families 0 and 1 in, 0 out | [`codec::opus`] |
//! | ITU-T G.711 | A-law and µ-law in | [`codec::pcm`] |
//! | ITU-R BS.775 | down-mix of more than two channels | [`pcm::Mixer`] |
//!
//! ```text
//!   MediaFrame ─► AudioDecoder ─► Mixer ─► SampleClock ─► Resampler ─► AudioEncoder ─► MediaFrame
//!                                 1 or 2   as many samples   48 kHz
//!                                 channels as time has passed
//! ```
//!
//! [`AudioTranscoder`] is the chain: no thread, no clock, no I/O. [`AudioBridge`] opens chains for an engine, which makes
//! them part of [renditions](arcly_core::rendition):
//!
//! ```
//! use std::sync::Arc;
//! use arcly_core::{CodecId, Engine, PlayRequest, StreamKey};
//! use arcly_transcode::{AudioBridge, Config};
//!
//! let engine = Engine::builder().transcoder(Arc::new(AudioBridge::new(Config::default()))).build();
//! let request = PlayRequest::internal(StreamKey::new("live", "cam"), "example").audio(Some(&[CodecId::Opus]));
//! ```
//!
//! # Guarantees
//!
//! * **Time.** What a decoder makes of a frame is heard at the frame's pts; that holds of what comes in and of what goes
//!   out, whatever encoder, decoder and resampler hold back. Sound keeps its place to within 5 ms, and to the sample where
//!   the timestamps are exact: `tests/sync.rs`. Frames that come out follow each other without gap or overlap until the
//!   source has a gap of more than [`clock::MAX_FILL`], and their dts never decrease.
//! * **Bounds.** A chain holds less than one frame of samples beside its codecs' own state, and puts out at most
//!   [`clock::MAX_FILL`] and two frames for each that it takes: `tests/hostile.rs`.
//! * **Faults.** A frame that cannot be decoded is replaced by silence, and the decoder begins anew with the next one.
//!
//! # What is not done
//!
//! MP3, AC-3 and xHE-AAC are not decoded: readers get them as they are, or not at all. More than two channels are mixed
//! down, since neither WebRTC nor RTMP's players take them. Lost Opus packets become silence, not concealment.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bridge;
pub mod clock;
pub mod codec;
pub mod pcm;
pub mod resample;
mod transcoder;

pub use bridge::{AudioBridge, Config};
pub use codec::{AudioDecoder, AudioEncoder, CodecError};
pub use resample::Resampler;
pub use transcoder::AudioTranscoder;

/// Samples per second of everything that is encoded here.
pub const SAMPLE_RATE: u32 = 48_000;
