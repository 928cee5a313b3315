//! H.265 / HEVC.
//!
//! | document | section | here |
//! |---|---|---|
//! | ITU-T H.265 | 7.3.2.1 video parameter set | [`Vps`] |
//! | | 7.3.2.2, E.2.1 sequence parameter set and VUI | [`Sps`] |
//! | | 7.3.2.3 picture parameter set | [`Pps`] |
//! | | 7.3.3 profile, tier and level | [`ProfileTierLevel`] |
//! | | 7.3.6.1 slice segment header, as far as picture order needs | [`SliceHeader`] |
//! | | 8.3.1 picture order count | [`PictureOrder`] |
//! | ISO/IEC 14496-15 | 8.3.3 HEVCDecoderConfigurationRecord | [`decode_config`], [`encode_config`] |
//!
//! Join points are the IRAP pictures (IDR, CRA, BLA), and recovery points in streams that have none. RASL
//! pictures are [`LEADING`](arcly_core::FrameFlags::LEADING); RADL pictures are not, they decode after their
//! IRAP picture. Sub-layer non-reference pictures of the highest sub-layer are `DISPOSABLE`.
//!
//! Guarantees: no panic, no loop longer than its input, every count bounded before it is used; an access unit
//! that is canonical already is passed on without copy or allocation.
//!
//! Tolerated: records of version 0 (drafts), empty parameter sets in records, start codes where lengths belong.
//!
//! Not done: layers above the base layer (carried as they are), VUI after the timing.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod parameter_sets;
mod parser;
mod record;
mod slice;
mod sps;

pub use parameter_sets::{Pps, ProfileTierLevel, Vps};
pub use parser::Parser;
pub use record::{decode_config, encode_config, record_length_size};
pub use slice::{PictureOrder, SliceHeader};
pub use sps::Sps;

use arcly_core::codec::{HdrMetadata, HevcConfig, VideoParams};
use arcly_core::wire::DecodeResult;

use crate::nal::parameter_sets;

use crate::sei;

/// Video parameter sets of one stream.
pub const MAX_VPS: usize = 16;
/// Sequence parameter sets of one stream.
pub const MAX_SPS: usize = 32;
/// Picture parameter sets of one stream.
pub const MAX_PPS: usize = 64;

/// `nal_unit_type`s that are treated differently from the rest (table 7-1).
pub mod nal_type {
    /// First of the types of pictures at which a sub-layer can be gone over to.
    pub const TSA_N: u8 = 2;
    /// Last of them.
    pub const STSA_R: u8 = 5;
    /// First of the leading pictures that decode after their IRAP picture.
    pub const RADL_N: u8 = 6;
    /// First of the leading pictures that lean on what is before their IRAP picture.
    pub const RASL_N: u8 = 8;
    /// Second of them.
    pub const RASL_R: u8 = 9;
    /// The last of the types whose even values are sub-layer non-reference pictures.
    pub const RSV_VCL_R15: u8 = 15;
    /// First broken link access type.
    pub const BLA_W_LP: u8 = 16;
    /// IDR with RADL pictures.
    pub const IDR_W_RADL: u8 = 19;
    /// IDR without leading pictures.
    pub const IDR_N_LP: u8 = 20;
    /// Clean random access.
    pub const CRA: u8 = 21;
    /// Last of the types that stand for intra random access points.
    pub const RSV_IRAP_VCL23: u8 = 23;
    /// Last of the slice types.
    pub const RSV_VCL31: u8 = 31;
    /// Video parameter set.
    pub const VPS: u8 = 32;
    /// Sequence parameter set.
    pub const SPS: u8 = 33;
    /// Picture parameter set.
    pub const PPS: u8 = 34;
    /// Access unit delimiter.
    pub const AUD: u8 = 35;
    /// SEI before the picture.
    pub const PREFIX_SEI: u8 = 39;
    /// SEI after the picture.
    pub const SUFFIX_SEI: u8 = 40;
}

/// The two bytes before each NAL unit's payload (7.3.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NalHeader {
    /// `nal_unit_type`.
    pub kind: u8,
    /// `nuh_layer_id`: 0 is the base layer.
    pub layer: u8,
    /// `TemporalId`.
    pub temporal_id: u8,
}

impl NalHeader {
    /// The header of a NAL unit; `None` when it is shorter than that.
    #[must_use]
    pub const fn of(unit: &[u8]) -> Option<Self> {
        let Some(&[first, second]) = unit.first_chunk::<2>() else { return None };
        Some(Self {
            kind: (first >> 1) & 0x3F,
            layer: ((first & 1) << 5) | (second >> 3),
            temporal_id: (second & 7).saturating_sub(1),
        })
    }

    /// A picture at which decoding may start.
    #[must_use]
    pub const fn is_irap(self) -> bool {
        self.kind >= nal_type::BLA_W_LP && self.kind <= nal_type::RSV_IRAP_VCL23
    }

    /// A picture that resets picture order.
    #[must_use]
    pub const fn is_idr(self) -> bool {
        matches!(self.kind, nal_type::IDR_W_RADL | nal_type::IDR_N_LP)
    }

    /// A leading picture that cannot be decoded when decoding starts at its IRAP picture.
    #[must_use]
    pub const fn is_rasl(self) -> bool {
        matches!(self.kind, nal_type::RASL_N | nal_type::RASL_R)
    }

    /// A picture of a sub-layer that can be gone over to here (TSA and STSA): neither it nor any of its sub-layer behind it refers to
    /// an earlier one of the sub-layer.
    #[must_use]
    pub const fn is_sub_layer_access(self) -> bool {
        matches!(self.kind, nal_type::TSA_N..=nal_type::STSA_R)
    }

    /// A picture that no other one of its sub-layer refers to.
    #[must_use]
    pub const fn is_sub_layer_non_reference(self) -> bool {
        self.kind < nal_type::RSV_VCL_R15 && self.kind.is_multiple_of(2)
    }
}

/// What the first sequence parameter set, the VPS timing and the record's SEI say of the pictures; nothing
/// when there is no sequence parameter set.
pub fn video_params(config: &HevcConfig) -> DecodeResult<VideoParams> {
    let Some(sps) = config.sps.first() else { return Ok(VideoParams::default()) };
    let mut params = Sps::decode(sps)?.video_params();
    let vps = config.vps.first().and_then(|vps| Vps::decode(vps).ok());
    params.frame_rate = params.frame_rate.or_else(|| vps?.frame_rate);
    let mut hdr = HdrMetadata::default();
    let found = config.sei.iter().fold(false, |found, unit| read_hdr(unit, &mut hdr) | found);
    params.hdr = found.then_some(hdr);
    Ok(params)
}

/// Takes HDR metadata out of an SEI NAL unit; true when there was some. What cannot be read is left aside:
/// it is a hint for displays.
fn read_hdr(unit: &[u8], hdr: &mut HdrMetadata) -> bool {
    let messages = sei::messages(unit.get(2..).unwrap_or_default()).map_while(Result::ok);
    messages.fold(false, |found, message| sei::read_hdr(&message, hdr).unwrap_or(false) | found)
}

parameter_sets!(Sps, Pps);
