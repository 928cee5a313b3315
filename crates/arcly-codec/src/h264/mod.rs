//! H.264 / AVC.
//!
//! | document | section | here |
//! |---|---|---|
//! | ITU-T H.264 | 7.3.2.1.1, E.1.1 sequence parameter set and VUI | [`Sps`] |
//! | | 7.3.2.2 picture parameter set | [`Pps`] |
//! | | 7.3.3 slice header, as far as picture order needs | [`SliceHeader`] |
//! | | F.7.3.1.1 `temporal_id` of prefix NAL units | [`Parser`] |
//! | | 8.2.1 picture order count | [`PictureOrder`] |
//! | | A.3.1 `MaxDpbFrames`, E.2.1 `max_num_reorder_frames` | [`Sps::reorder_depth`] |
//! | ISO/IEC 14496-15 | 5.3.3 AVCDecoderConfigurationRecord | [`decode_config`], [`encode_config`] |
//!
//! ```text
//! avcC ──decode_config──► AvcConfig ──Parser::with_config──┐
//!                                                          ▼
//! access units, framed any way ──────────────────────► Parser::push ──► AccessUnit (canonical payload,
//!          in-band SPS/PPS ──► Parser::config                            flags, picture order, counts)
//! ```
//!
//! Guarantees: no panic, no loop longer than its input, every count bounded before it is used; an access unit
//! that is canonical already is passed on without copy or allocation.
//!
//! Tolerated: records without the high-profile extension; empty parameter sets in records; start codes where
//! lengths belong; streams whose only join points are recovery points, or intra pictures without either.
//!
//! Not done: reference marking (a `memory_management_control_operation` 5 does not reset the picture order,
//! which only [`FrameFlags::LEADING`](arcly_core::FrameFlags::LEADING) depends on), SVC and MVC layers
//! (carried as they are).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod parser;
mod record;
mod slice;
mod sps;

pub use parser::Parser;
pub use record::{decode_config, encode_config, record_length_size};
pub use slice::{PictureOrder, Pps, SliceHeader};
pub use sps::{PicOrderCntType, Sps};

use arcly_core::codec::{AvcConfig, VideoParams};
use arcly_core::wire::DecodeResult;

use crate::nal::parameter_sets;

/// Sequence parameter sets of one stream.
pub const MAX_SPS: usize = 32;
/// Picture parameter sets of one stream.
pub const MAX_PPS: usize = 64;
/// Sequence parameter set extensions of one stream.
pub const MAX_SPS_EXT: usize = 16;

/// `nal_unit_type`s that are treated differently from the rest (table 7-1).
pub mod nal_type {
    /// Slice of a non-IDR picture.
    pub const SLICE: u8 = 1;
    /// Slice data partition A, the one with the header.
    pub const PARTITION_A: u8 = 2;
    /// Slice data partition C, the last slice type that is not IDR.
    pub const PARTITION_C: u8 = 4;
    /// Slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// Sequence parameter set extension.
    pub const SPS_EXT: u8 = 13;
    /// What SVC and MVC say of the slice behind it.
    pub const PREFIX: u8 = 14;
}

/// `nal_unit_type` of a NAL unit's first byte.
#[must_use]
pub const fn nal_unit_type(header: u8) -> u8 {
    header & 0x1F
}

/// `nal_ref_idc` of a NAL unit's first byte: zero when no other picture refers to it.
#[must_use]
pub const fn nal_ref_idc(header: u8) -> u8 {
    (header >> 5) & 3
}

/// What the first sequence parameter set says of the pictures; nothing when there is none.
pub fn video_params(config: &AvcConfig) -> DecodeResult<VideoParams> {
    config.sps.first().map_or_else(|| Ok(VideoParams::default()), |sps| Ok(Sps::decode(sps)?.video_params()))
}

parameter_sets!(Sps, Pps);
