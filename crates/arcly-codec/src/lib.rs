//! Codec bitstreams: everything a server must know of a format without decoding a picture or a sample.
//!
//! Each module turns bytes into values and back (`decode_*`, `encode_*`). All of it is pure: no I/O, no
//! clock, no global state, no allocation sized by an unchecked field, and nothing that a peer sends can
//! make it panic. The parameter types themselves live in [`arcly_core::codec`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod aac;
pub mod ac3;
pub mod amf0;
pub mod amf3;
pub mod av1;
pub mod bits;
pub mod codec_string;
pub mod elementary;
pub mod esds;
pub mod flac;
pub mod flv;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod h266;
pub mod language;
pub mod mpeg_audio;
pub mod nal;
pub mod opus;
mod rate;
pub mod reorder;
pub mod sei;
mod temporal;
pub mod vpx;

pub use temporal::TemporalLayers;
