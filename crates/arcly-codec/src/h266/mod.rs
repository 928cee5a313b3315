//! H.266 / VVC: parameter sets, the record, and what NAL unit types tell.
//!
//! | document | section | here |
//! |---|---|---|
//! | ITU-T H.266 | 7.3.1.2 NAL unit header, table 5 | [`NalHeader`], [`nal_type`] |
//! | | 7.3.2.4 sequence parameter set, up to the bit depth | [`Sps`] |
//! | ISO/IEC 14496-15 | 11.2.4 VvcDecoderConfigurationRecord | [`decode_config`], [`encode_config`] |
//!
//! Everything before the arrays of a record is kept as it came, and goes out as it came.
//!
//! Guarantees: no panic, no loop longer than its input; an access unit that is canonical already is passed on
//! without copy or allocation.
//!
//! Not done: slice headers (so there is no picture order), reorder depth (`sps_dpb_params` is behind tools that
//! are not read), bit depth of streams with subpictures.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod parser;
mod record;
mod sps;

pub use parser::Parser;
pub use record::{decode_config, encode_config, record_length_size};
pub use sps::Sps;

use arcly_core::codec::{VideoParams, VvcConfig};
use arcly_core::wire::DecodeResult;

/// Decoding capability information of one stream.
pub const MAX_DCI: usize = 1;
/// Video parameter sets of one stream.
pub const MAX_VPS: usize = 16;
/// Sequence parameter sets of one stream.
pub const MAX_SPS: usize = 32;
/// Picture parameter sets of one stream.
pub const MAX_PPS: usize = 64;

/// `nal_unit_type`s that are treated differently from the rest.
pub mod nal_type {
    /// Leading picture that cannot be decoded when decoding starts at its IRAP picture.
    pub const RASL: u8 = 3;
    /// First of the intra random access points.
    pub const IDR_W_RADL: u8 = 7;
    /// Last of them.
    pub const CRA: u8 = 9;
    /// Gradual decoding refresh.
    pub const GDR: u8 = 10;
    /// Last of the slice types.
    pub const RSV_IRAP_11: u8 = 11;
    /// Operating point information.
    pub const OPI: u8 = 12;
    /// Decoding capability information.
    pub const DCI: u8 = 13;
    /// Video parameter set.
    pub const VPS: u8 = 14;
    /// Sequence parameter set.
    pub const SPS: u8 = 15;
    /// Picture parameter set.
    pub const PPS: u8 = 16;
    /// Access unit delimiter.
    pub const AUD: u8 = 20;
}

/// The two bytes before each NAL unit's payload (7.3.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NalHeader {
    /// `nal_unit_type`.
    pub kind: u8,
    /// `nuh_layer_id`.
    pub layer: u8,
    /// `TemporalId`.
    pub temporal_id: u8,
}

impl NalHeader {
    /// The header of a NAL unit; `None` when it is shorter than that.
    #[must_use]
    pub const fn of(unit: &[u8]) -> Option<Self> {
        let Some(&[first, second]) = unit.first_chunk::<2>() else { return None };
        Some(Self { kind: second >> 3, layer: first & 0x3F, temporal_id: (second & 7).saturating_sub(1) })
    }

    /// A picture at which decoding may start.
    #[must_use]
    pub const fn is_irap(self) -> bool {
        matches!(self.kind, nal_type::IDR_W_RADL..=nal_type::CRA | nal_type::RSV_IRAP_11)
    }
}

/// What the first sequence parameter set says of the pictures; nothing when there is none.
pub fn video_params(config: &VvcConfig) -> DecodeResult<VideoParams> {
    config.sps.first().map_or_else(|| Ok(VideoParams::default()), |sps| Ok(Sps::decode(sps)?.video_params()))
}
