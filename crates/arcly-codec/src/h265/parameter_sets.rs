use arcly_core::codec::FrameRate;
use arcly_core::wire::DecodeResult;

use crate::bits::BitReader;
use crate::rate::frame_rate;

/// `vps_max_sub_layers_minus1` and `sps_max_sub_layers_minus1`.
pub(super) const MAX_SUB_LAYERS_MINUS1: u8 = 6;
/// `vps_num_layer_sets_minus1` (7.4.3.1).
const MAX_LAYER_SETS_MINUS1: u32 = 1_023;

/// The general part of `profile_tier_level()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileTierLevel {
    /// `general_profile_space`.
    pub space: u8,
    /// `general_tier_flag`.
    pub tier: bool,
    /// `general_profile_idc`.
    pub profile: u8,
    /// `general_profile_compatibility_flag[0..32]`.
    pub compatibility: u32,
    /// The 48 constraint flags.
    pub constraints: [u8; 6],
    /// `general_level_idc`.
    pub level: u8,
}

impl ProfileTierLevel {
    pub(super) fn decode(r: &mut BitReader<'_>, max_sub_layers_minus1: u8) -> DecodeResult<Self> {
        let mut ptl = Self {
            space: r.small(2, "general_profile_space")?,
            tier: r.flag("general_tier_flag")?,
            profile: r.small(5, "general_profile_idc")?,
            compatibility: r.bits(32, "general_profile_compatibility_flags")?,
            ..Self::default()
        };
        for byte in &mut ptl.constraints {
            *byte = r.small(8, "general_constraint_indicator_flags")?;
        }
        ptl.level = r.small(8, "general_level_idc")?;
        Self::skip_sub_layers(r, max_sub_layers_minus1)?;
        Ok(ptl)
    }

    fn skip_sub_layers(r: &mut BitReader<'_>, max_sub_layers_minus1: u8) -> DecodeResult<()> {
        if max_sub_layers_minus1 == 0 {
            return Ok(());
        }
        let flags = r.bits(16, "sub_layer_present_flags")?;
        for layer in 0..u32::from(max_sub_layers_minus1) {
            let shift = 14_u32.saturating_sub(layer.saturating_mul(2));
            let (profile, level) = ((flags >> shift) & 2 != 0, (flags >> shift) & 1 != 0);
            r.skip(if profile { 88 } else { 0 }, "sub_layer_profile_idc")?;
            r.skip(if level { 8 } else { 0 }, "sub_layer_level_idc")?;
        }
        Ok(())
    }
}

/// A video parameter set, as far as the base layer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vps {
    /// `vps_video_parameter_set_id`.
    pub id: u8,
    /// From `vps_timing_info`.
    pub frame_rate: Option<FrameRate>,
}

impl Vps {
    /// Decodes a NAL unit, header bytes included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        let id = r.small(4, "vps_video_parameter_set_id")?;
        r.skip(8, "vps_max_layers_minus1")?;
        let sub_layers = r.small(3, "vps_max_sub_layers_minus1")?.min(MAX_SUB_LAYERS_MINUS1);
        r.skip(17, "vps_temporal_id_nesting_flag")?;
        ProfileTierLevel::decode(&mut r, sub_layers)?;
        let all = r.flag("vps_sub_layer_ordering_info_present_flag")?;
        skip_ordering_info(&mut r, if all { sub_layers } else { 0 })?;
        let max_layer_id = u64::from(r.small(6, "vps_max_layer_id")?);
        let sets = u64::from(r.ue_max(MAX_LAYER_SETS_MINUS1, "vps_num_layer_sets_minus1")?);
        r.skip(sets.saturating_mul(max_layer_id.saturating_add(1)), "layer_id_included_flag")?;
        let mut rate = None;
        if r.flag("vps_timing_info_present_flag")? {
            let units = u64::from(r.bits(32, "vps_num_units_in_tick")?);
            rate = frame_rate(u64::from(r.bits(32, "vps_time_scale")?), units);
        }
        Ok(Self { id, frame_rate: rate })
    }

    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        r.small(4, "vps_video_parameter_set_id")
    }
}

/// Passes the ordering information of all sub-layers but the last, whose number of reordered pictures it gives.
pub(super) fn skip_ordering_info(r: &mut BitReader<'_>, more: u8) -> DecodeResult<u8> {
    let mut reorder = 0;
    for _ in 0..=more {
        r.ue_max(15, "max_dec_pic_buffering_minus1")?;
        reorder = r.ue_small(15, "max_num_reorder_pics")?;
        r.ue("max_latency_increase_plus1")?;
    }
    Ok(reorder)
}

/// A picture parameter set, as far as slice headers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`, 0 to 63.
    pub id: u8,
    /// `pps_seq_parameter_set_id`, 0 to 15.
    pub sps_id: u8,
    /// `output_flag_present_flag`.
    pub output_flag_present: bool,
    /// `num_extra_slice_header_bits`.
    pub extra_slice_header_bits: u8,
}

impl Pps {
    /// Decodes a NAL unit, header bytes included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        let id = r.ue_small(63, "pps_pic_parameter_set_id")?;
        let sps_id = r.ue_small(15, "pps_seq_parameter_set_id")?;
        r.skip(1, "dependent_slice_segments_enabled_flag")?;
        let output_flag_present = r.flag("output_flag_present_flag")?;
        let extra_slice_header_bits = r.small(3, "num_extra_slice_header_bits")?;
        Ok(Self { id, sps_id, output_flag_present, extra_slice_header_bits })
    }

    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        r.ue_small(63, "pps_pic_parameter_set_id")
    }
}
