use arcly_core::codec::{ChromaFormat, ColorInfo, FrameRate, HevcConfig, VideoParams};
use arcly_core::wire::DecodeResult;
use smallvec::SmallVec;

use super::ProfileTierLevel;
use super::parameter_sets::{MAX_SUB_LAYERS_MINUS1, skip_ordering_info};
use crate::bits::BitReader;
use crate::rate::frame_rate;

/// Samples per row or column: beyond every level.
const MAX_SIZE: u32 = 65_536;
/// `num_short_term_ref_pic_sets` (7.4.3.2.1).
const MAX_SHORT_TERM_SETS: u32 = 64;
/// Pictures in a reference picture set: the decoded picture buffer.
const MAX_REF_PICS: usize = 16;
const EXTENDED_SAR: u8 = 255;

/// A sequence parameter set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `sps_video_parameter_set_id`.
    pub vps_id: u8,
    /// `sps_max_sub_layers_minus1` + 1.
    pub sub_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub temporal_id_nested: bool,
    /// Profile, tier and level.
    pub ptl: ProfileTierLevel,
    /// Chroma sampling.
    pub chroma: ChromaFormat,
    /// `separate_colour_plane_flag`.
    pub separate_planes: bool,
    /// Width in samples after cropping.
    pub width: u32,
    /// Height in samples after cropping.
    pub height: u32,
    /// Bits per luma sample.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample.
    pub bit_depth_chroma: u8,
    /// `log2_max_pic_order_cnt_lsb_minus4` + 4.
    pub log2_max_pic_order_cnt_lsb: u8,
    /// `sps_max_num_reorder_pics` of the highest sub-layer.
    pub reorder_depth: u8,
    /// From the VUI timing.
    pub frame_rate: Option<FrameRate>,
    /// From the VUI.
    pub color: Option<ColorInfo>,
}

impl Sps {
    /// Decodes a NAL unit, header bytes included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::rbsp(unit);
        let mut sps = Self::front(&mut r)?;
        sps.size(&mut r)?;
        sps.bit_depth_luma = r.ue_small(8, "bit_depth_luma_minus8")?.saturating_add(8);
        sps.bit_depth_chroma = r.ue_small(8, "bit_depth_chroma_minus8")?.saturating_add(8);
        sps.log2_max_pic_order_cnt_lsb =
            r.ue_small(12, "log2_max_pic_order_cnt_lsb_minus4")?.saturating_add(4);
        let all = r.flag("sps_sub_layer_ordering_info_present_flag")?;
        sps.reorder_depth =
            skip_ordering_info(&mut r, if all { sps.sub_layers.saturating_sub(1) } else { 0 })?;
        sps.skip_tools(&mut r)?;
        if r.flag("vui_parameters_present_flag")? {
            sps.vui(&mut r)?;
        }
        Ok(sps)
    }

    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        Ok(Self::front(&mut BitReader::rbsp(unit))?.id)
    }

    fn front(r: &mut BitReader<'_>) -> DecodeResult<Self> {
        r.skip(16, "nal_unit_header")?;
        let vps_id = r.small(4, "sps_video_parameter_set_id")?;
        let sub_layers = r.small(3, "sps_max_sub_layers_minus1")?;
        if sub_layers > MAX_SUB_LAYERS_MINUS1 {
            return Err(r.malformed("sps_max_sub_layers_minus1"));
        }
        Ok(Self {
            vps_id,
            sub_layers: sub_layers.saturating_add(1),
            temporal_id_nested: r.flag("sps_temporal_id_nesting_flag")?,
            ptl: ProfileTierLevel::decode(r, sub_layers)?,
            id: r.ue_small(15, "sps_seq_parameter_set_id")?,
            ..Self::default()
        })
    }

    fn size(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        self.chroma = match r.ue_small(3, "chroma_format_idc")? {
            0 => ChromaFormat::Monochrome,
            1 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            _ => ChromaFormat::Yuv444,
        };
        if self.chroma == ChromaFormat::Yuv444 {
            self.separate_planes = r.flag("separate_colour_plane_flag")?;
        }
        let width = r.ue_max(MAX_SIZE, "pic_width_in_luma_samples")?;
        let height = r.ue_max(MAX_SIZE, "pic_height_in_luma_samples")?;
        let (mut crop_x, mut crop_y) = (0, 0);
        if r.flag("conformance_window_flag")? {
            let (unit_x, unit_y) = match self.chroma {
                ChromaFormat::Yuv420 => (2, 2),
                ChromaFormat::Yuv422 => (2, 1),
                ChromaFormat::Yuv444 | ChromaFormat::Monochrome => (1, 1),
            };
            crop_x = crop(r, unit_x)?;
            crop_y = crop(r, unit_y)?;
        }
        let cropped = |size: u32, crop: u64| {
            let left = u64::from(size).checked_sub(crop).filter(|&left| left > 0)?;
            u32::try_from(left).ok()
        };
        self.width = cropped(width, crop_x).ok_or_else(|| r.malformed("conf_win_right_offset"))?;
        self.height = cropped(height, crop_y).ok_or_else(|| r.malformed("conf_win_bottom_offset"))?;
        Ok(())
    }

    /// Everything between the ordering information and the VUI.
    fn skip_tools(&self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        for _ in 0..6 {
            r.ue("log2_min_luma_coding_block_size_minus3")?;
        }
        if r.flag("scaling_list_enabled_flag")? && r.flag("sps_scaling_list_data_present_flag")? {
            skip_scaling_lists(r)?;
        }
        r.skip(2, "amp_enabled_flag")?;
        if r.flag("pcm_enabled_flag")? {
            r.skip(8, "pcm_sample_bit_depth_luma_minus1")?;
            r.ue("log2_min_pcm_luma_coding_block_size_minus3")?;
            r.ue("log2_diff_max_min_pcm_luma_coding_block_size")?;
            r.skip(1, "pcm_loop_filter_disabled_flag")?;
        }
        let sets = r.ue_max(MAX_SHORT_TERM_SETS, "num_short_term_ref_pic_sets")?;
        let mut previous = None;
        for _ in 0..sets {
            previous = Some(short_term_ref_pic_set(r, previous.as_ref())?);
        }
        if r.flag("long_term_ref_pics_present_flag")? {
            let count = u64::from(r.ue_max(32, "num_long_term_ref_pics_sps")?);
            let width = u64::from(self.log2_max_pic_order_cnt_lsb).saturating_add(1);
            r.skip(count.saturating_mul(width), "lt_ref_pic_poc_lsb_sps")?;
        }
        r.skip(2, "sps_temporal_mvp_enabled_flag")
    }

    /// The VUI up to the timing.
    fn vui(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        if r.flag("aspect_ratio_info_present_flag")? && r.small(8, "aspect_ratio_idc")? == EXTENDED_SAR {
            r.skip(32, "sar_width")?;
        }
        if r.flag("overscan_info_present_flag")? {
            r.skip(1, "overscan_appropriate_flag")?;
        }
        if r.flag("video_signal_type_present_flag")? {
            r.skip(3, "video_format")?;
            let full_range = r.flag("video_full_range_flag")?;
            let mut color = ColorInfo { primaries: 2, transfer: 2, matrix: 2, full_range };
            if r.flag("colour_description_present_flag")? {
                color.primaries = r.small(8, "colour_primaries")?;
                color.transfer = r.small(8, "transfer_characteristics")?;
                color.matrix = r.small(8, "matrix_coeffs")?;
            }
            self.color = Some(color);
        }
        if r.flag("chroma_loc_info_present_flag")? {
            r.ue("chroma_sample_loc_type_top_field")?;
            r.ue("chroma_sample_loc_type_bottom_field")?;
        }
        r.skip(3, "neutral_chroma_indication_flag")?;
        if r.flag("default_display_window_flag")? {
            for _ in 0..4 {
                r.ue("def_disp_win_left_offset")?;
            }
        }
        if r.flag("vui_timing_info_present_flag")? {
            let units = u64::from(r.bits(32, "vui_num_units_in_tick")?);
            self.frame_rate = frame_rate(u64::from(r.bits(32, "vui_time_scale")?), units);
        }
        Ok(())
    }

    /// What is true of the track.
    #[must_use]
    pub const fn video_params(&self) -> VideoParams {
        VideoParams {
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
            reorder_depth: Some(self.reorder_depth),
            bit_depth: self.bit_depth_luma,
            chroma: self.chroma,
            color: self.color,
            hdr: None,
        }
    }

    /// Sets what a record repeats of the parameter set in use.
    pub(super) const fn describe(&self, config: &mut HevcConfig) {
        let ptl = &self.ptl;
        config.profile_space = ptl.space;
        config.tier = ptl.tier;
        config.profile = ptl.profile;
        config.compatibility = ptl.compatibility;
        config.constraints = ptl.constraints;
        config.level = ptl.level;
        config.chroma_format = self.chroma as u8;
        config.bit_depth_luma = self.bit_depth_luma;
        config.bit_depth_chroma = self.bit_depth_chroma;
        config.temporal_layers = self.sub_layers;
        config.temporal_id_nested = self.temporal_id_nested;
    }
}

/// Two window offsets of one direction, in samples.
fn crop(r: &mut BitReader<'_>, unit: u64) -> DecodeResult<u64> {
    let near = u64::from(r.ue("conf_win_left_offset")?);
    let far = u64::from(r.ue("conf_win_right_offset")?);
    Ok(near.saturating_add(far).saturating_mul(unit))
}

/// Passes `scaling_list_data()` (7.3.4).
fn skip_scaling_lists(r: &mut BitReader<'_>) -> DecodeResult<()> {
    for size in 0..4_u32 {
        let matrices = if size == 3 { 2 } else { 6 };
        for _ in 0..matrices {
            if !r.flag("scaling_list_pred_mode_flag")? {
                r.ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size > 1 {
                r.se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..64.min(16_u32 << (size << 1)) {
                let delta = r.se("scaling_list_delta_coef")?;
                if !(-128..=127).contains(&delta) {
                    return Err(r.malformed("scaling_list_delta_coef"));
                }
            }
        }
    }
    Ok(())
}

/// `DeltaPocS0` and `DeltaPocS1`, one after the other, each from near to far.
type RefPicSet = SmallVec<[i32; MAX_REF_PICS]>;

/// `st_ref_pic_set()` (7.3.7) within a sequence parameter set, where a set can only lean on the one before it.
fn short_term_ref_pic_set(r: &mut BitReader<'_>, previous: Option<&RefPicSet>) -> DecodeResult<RefPicSet> {
    let mut set = RefPicSet::new();
    match previous {
        Some(previous) if r.flag("inter_ref_pic_set_prediction_flag")? => {
            let negative = r.flag("delta_rps_sign")?;
            let magnitude = r.ue_max(0x7FFF, "abs_delta_rps_minus1")?.saturating_add(1);
            let magnitude = i32::try_from(magnitude).unwrap_or(i32::MAX);
            let delta = if negative { magnitude.saturating_neg() } else { magnitude };
            for &base in previous.iter().chain(&[0]) {
                let used = r.flag("used_by_curr_pic_flag")?;
                let kept = used || r.flag("use_delta_flag")?;
                let order = base.saturating_add(delta);
                if kept && order != 0 {
                    set.push(order);
                }
            }
            set.sort_unstable_by_key(|&order| (order > 0, order.saturating_abs()));
        }
        _ => {
            let negative = r.ue_max(16, "num_negative_pics")?;
            let positive = r.ue_max(16, "num_positive_pics")?;
            for (count, sign) in [(negative, -1_i32), (positive, 1)] {
                let mut order = 0_i32;
                for _ in 0..count {
                    let step = r.ue_max(0x7FFF, "delta_poc_minus1")?.saturating_add(1);
                    order =
                        order.saturating_add(i32::try_from(step).unwrap_or(i32::MAX).saturating_mul(sign));
                    r.skip(1, "used_by_curr_pic_flag")?;
                    set.push(order);
                }
            }
        }
    }
    if set.len() > MAX_REF_PICS { Err(r.malformed("num_negative_pics")) } else { Ok(set) }
}
