use arcly_core::codec::{ChromaFormat, ColorInfo, FrameRate, VideoParams};
use arcly_core::wire::DecodeResult;
use smallvec::SmallVec;

use crate::bits::BitReader;
use crate::rate::frame_rate;

/// Macroblocks per row or column: 65 536 samples, beyond every level.
const MAX_SIZE_IN_MBS_MINUS1: u32 = 4_095;
/// Frames in the decoded picture buffer (A.3.1).
const MAX_DPB_FRAMES: u8 = 16;
const EXTENDED_SAR: u8 = 255;

/// How pictures say where they stand in output order (8.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PicOrderCntType {
    /// Type 0: least significant bits in each slice.
    Lsb {
        /// `log2_max_pic_order_cnt_lsb_minus4` + 4.
        log2_max: u8,
    },
    /// Type 1: expected differences, and corrections.
    Cycle {
        /// `delta_pic_order_always_zero_flag`.
        always_zero: bool,
        /// `offset_for_non_ref_pic`.
        offset_for_non_ref: i32,
        /// `offset_for_top_to_bottom_field`.
        offset_top_to_bottom: i32,
        /// `offset_for_ref_frame[i]`.
        offsets: SmallVec<[i32; 4]>,
    },
    /// Type 2: output order is decoding order.
    DecodingOrder,
}

/// A sequence parameter set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags.
    pub compatibility: u8,
    /// `level_idc`.
    pub level: u8,
    /// Chroma sampling.
    pub chroma: ChromaFormat,
    /// The three colour planes are coded separately.
    pub separate_planes: bool,
    /// Bits per luma sample.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample.
    pub bit_depth_chroma: u8,
    /// `log2_max_frame_num_minus4` + 4.
    pub log2_max_frame_num: u8,
    /// How pictures are put in order.
    pub pic_order: PicOrderCntType,
    /// `max_num_ref_frames`.
    pub max_num_ref_frames: u32,
    /// Coded width in macroblocks.
    pub width_mbs: u32,
    /// Coded height in macroblocks, of a frame.
    pub height_mbs: u32,
    /// `frame_mbs_only_flag`: never interlaced.
    pub frame_mbs_only: bool,
    /// Width in samples after cropping.
    pub width: u32,
    /// Height in samples after cropping.
    pub height: u32,
    /// From the VUI timing.
    pub frame_rate: Option<FrameRate>,
    /// From the VUI.
    pub color: Option<ColorInfo>,
    /// `max_num_reorder_frames` where the VUI gives it.
    pub max_num_reorder_frames: Option<u8>,
}

impl Sps {
    /// Decodes a NAL unit, header byte included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::rbsp(unit);
        r.skip(8, "nal_unit_header")?;
        let mut sps = Self::front(&mut r)?;
        sps.size(&mut r)?;
        if r.flag("vui_parameters_present_flag")? {
            sps.vui(&mut r)?;
        }
        Ok(sps)
    }

    /// The id of an SPS, without decoding the rest.
    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(32, "profile_idc")?;
        r.ue_small(31, "seq_parameter_set_id")
    }

    /// The id of an SPS extension.
    pub(super) fn ext_id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(8, "nal_unit_header")?;
        r.ue_small(31, "seq_parameter_set_id")
    }

    /// Everything before the picture size.
    fn front(r: &mut BitReader<'_>) -> DecodeResult<Self> {
        let mut sps = Self {
            profile: r.small(8, "profile_idc")?,
            compatibility: r.small(8, "constraint_set_flags")?,
            level: r.small(8, "level_idc")?,
            id: r.ue_small(31, "seq_parameter_set_id")?,
            chroma: ChromaFormat::Yuv420,
            separate_planes: false,
            bit_depth_luma: 8,
            bit_depth_chroma: 8,
            log2_max_frame_num: 4,
            pic_order: PicOrderCntType::DecodingOrder,
            max_num_ref_frames: 0,
            width_mbs: 0,
            height_mbs: 0,
            frame_mbs_only: true,
            width: 0,
            height: 0,
            frame_rate: None,
            color: None,
            max_num_reorder_frames: None,
        };
        if has_sample_format(sps.profile) {
            sps.sample_format(r)?;
        }
        sps.log2_max_frame_num = r.ue_small(12, "log2_max_frame_num_minus4")?.saturating_add(4);
        sps.pic_order = pic_order(r)?;
        sps.max_num_ref_frames = r.ue_max(u32::from(MAX_DPB_FRAMES), "max_num_ref_frames")?;
        r.skip(1, "gaps_in_frame_num_value_allowed_flag")?;
        Ok(sps)
    }

    fn sample_format(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        self.chroma = match r.ue_small(3, "chroma_format_idc")? {
            0 => ChromaFormat::Monochrome,
            1 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            _ => ChromaFormat::Yuv444,
        };
        if self.chroma == ChromaFormat::Yuv444 {
            self.separate_planes = r.flag("separate_colour_plane_flag")?;
        }
        self.bit_depth_luma = r.ue_small(6, "bit_depth_luma_minus8")?.saturating_add(8);
        self.bit_depth_chroma = r.ue_small(6, "bit_depth_chroma_minus8")?.saturating_add(8);
        r.skip(1, "qpprime_y_zero_transform_bypass_flag")?;
        if r.flag("seq_scaling_matrix_present_flag")? {
            let lists = if self.chroma == ChromaFormat::Yuv444 { 12 } else { 8 };
            for list in 0..lists {
                if r.flag("seq_scaling_list_present_flag")? {
                    skip_scaling_list(r, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(())
    }

    fn size(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        self.width_mbs = r.ue_max(MAX_SIZE_IN_MBS_MINUS1, "pic_width_in_mbs_minus1")?.saturating_add(1);
        let map_units = r.ue_max(MAX_SIZE_IN_MBS_MINUS1, "pic_height_in_map_units_minus1")?.saturating_add(1);
        self.frame_mbs_only = r.flag("frame_mbs_only_flag")?;
        let field_factor = if self.frame_mbs_only { 1 } else { 2 };
        self.height_mbs = map_units.saturating_mul(field_factor);
        if !self.frame_mbs_only {
            r.skip(1, "mb_adaptive_frame_field_flag")?;
        }
        r.skip(1, "direct_8x8_inference_flag")?;
        let (unit_x, unit_y) = match self.chroma {
            _ if self.separate_planes => (1, 1),
            ChromaFormat::Yuv420 => (2, 2),
            ChromaFormat::Yuv422 => (2, 1),
            ChromaFormat::Yuv444 | ChromaFormat::Monochrome => (1, 1),
        };
        let (mut crop_x, mut crop_y) = (0, 0);
        if r.flag("frame_cropping_flag")? {
            crop_x = crop(r, unit_x)?;
            crop_y = crop(r, u64::from(field_factor).saturating_mul(unit_y))?;
        }
        let cropped = |mbs: u32, crop: u64| {
            let left = u64::from(mbs).saturating_mul(16).checked_sub(crop).filter(|&left| left > 0)?;
            u32::try_from(left).ok()
        };
        self.width = cropped(self.width_mbs, crop_x).ok_or_else(|| r.malformed("frame_crop_right_offset"))?;
        self.height =
            cropped(self.height_mbs, crop_y).ok_or_else(|| r.malformed("frame_crop_bottom_offset"))?;
        Ok(())
    }

    fn vui(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        if r.flag("aspect_ratio_info_present_flag")? && r.small(8, "aspect_ratio_idc")? == EXTENDED_SAR {
            r.skip(32, "sar_width")?;
        }
        if r.flag("overscan_info_present_flag")? {
            r.skip(1, "overscan_appropriate_flag")?;
        }
        if r.flag("video_signal_type_present_flag")? {
            self.color = Some(video_signal_type(r)?);
        }
        if r.flag("chroma_loc_info_present_flag")? {
            r.ue("chroma_sample_loc_type_top_field")?;
            r.ue("chroma_sample_loc_type_bottom_field")?;
        }
        if r.flag("timing_info_present_flag")? {
            let units = u64::from(r.bits(32, "num_units_in_tick")?);
            let scale = u64::from(r.bits(32, "time_scale")?);
            r.skip(1, "fixed_frame_rate_flag")?;
            // A tick is a field: two of them are a frame (E.2.1).
            self.frame_rate = frame_rate(scale, units.saturating_mul(2));
        }
        let nal = r.flag("nal_hrd_parameters_present_flag")?;
        if nal {
            skip_hrd(r)?;
        }
        let vcl = r.flag("vcl_hrd_parameters_present_flag")?;
        if vcl {
            skip_hrd(r)?;
        }
        if nal || vcl {
            r.skip(1, "low_delay_hrd_flag")?;
        }
        r.skip(1, "pic_struct_present_flag")?;
        if r.flag("bitstream_restriction_flag")? {
            self.bitstream_restriction(r)?;
        }
        Ok(())
    }

    fn bitstream_restriction(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        r.skip(1, "motion_vectors_over_pic_boundaries_flag")?;
        r.ue("max_bytes_per_pic_denom")?;
        r.ue("max_bits_per_mb_denom")?;
        r.ue("log2_max_mv_length_horizontal")?;
        r.ue("log2_max_mv_length_vertical")?;
        self.max_num_reorder_frames = Some(r.ue_small(MAX_DPB_FRAMES, "max_num_reorder_frames")?);
        r.ue_max(u32::from(MAX_DPB_FRAMES), "max_dec_frame_buffering")?;
        Ok(())
    }

    /// Frames by which output may lag decoding, with the defaults of E.2.1 where the VUI says nothing.
    #[must_use]
    pub fn reorder_depth(&self) -> u8 {
        const CONSTRAINT_SET3: u8 = 1 << 4;
        if self.pic_order == PicOrderCntType::DecodingOrder {
            return 0;
        }
        if let Some(depth) = self.max_num_reorder_frames {
            return depth;
        }
        let intra_only = matches!(self.profile, 44 | 86 | 100 | 110 | 122 | 244)
            && self.compatibility & CONSTRAINT_SET3 != 0;
        // Baseline has no B slices (A.2.1). The standard would still assume a full buffer; no encoder is known
        // that reorders P pictures, and half a second of delay for every camera is too high a price for one.
        if intra_only || self.profile == 66 { 0 } else { self.max_dpb_frames() }
    }

    /// `MaxDpbFrames` (A.3.1).
    fn max_dpb_frames(&self) -> u8 {
        let level_1b =
            self.level == 11 && self.compatibility & (1 << 4) != 0 && matches!(self.profile, 66 | 77 | 88);
        let max_dpb_mbs = match self.level {
            _ if level_1b => 396,
            0..=10 => 396,
            11 => 900,
            12..=20 => 2_376,
            21 => 4_752,
            22..=30 => 8_100,
            31 => 18_000,
            32 => 20_480,
            33..=41 => 32_768,
            42..=49 => 34_816,
            50 => 110_400,
            51..=59 => 184_320,
            _ => 696_320_u32,
        };
        let frames = max_dpb_mbs.checked_div(self.width_mbs.saturating_mul(self.height_mbs)).unwrap_or(0);
        u8::try_from(frames).unwrap_or(MAX_DPB_FRAMES).min(MAX_DPB_FRAMES)
    }

    /// What is true of the track.
    #[must_use]
    pub fn video_params(&self) -> VideoParams {
        VideoParams {
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
            reorder_depth: Some(self.reorder_depth()),
            bit_depth: self.bit_depth_luma,
            chroma: self.chroma,
            color: self.color,
            hdr: None,
        }
    }
}

const fn has_sample_format(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// Two crop offsets of one direction, in samples.
fn crop(r: &mut BitReader<'_>, unit: u64) -> DecodeResult<u64> {
    let near = u64::from(r.ue("frame_crop_left_offset")?);
    let far = u64::from(r.ue("frame_crop_right_offset")?);
    Ok(near.saturating_add(far).saturating_mul(unit))
}

fn pic_order(r: &mut BitReader<'_>) -> DecodeResult<PicOrderCntType> {
    Ok(match r.ue_max(2, "pic_order_cnt_type")? {
        0 => PicOrderCntType::Lsb {
            log2_max: r.ue_small(12, "log2_max_pic_order_cnt_lsb_minus4")?.saturating_add(4),
        },
        1 => {
            let always_zero = r.flag("delta_pic_order_always_zero_flag")?;
            let offset_for_non_ref = r.se("offset_for_non_ref_pic")?;
            let offset_top_to_bottom = r.se("offset_for_top_to_bottom_field")?;
            let count = r.ue_small(u8::MAX, "num_ref_frames_in_pic_order_cnt_cycle")?;
            let offsets = (0..count).map(|_| r.se("offset_for_ref_frame")).collect::<DecodeResult<_>>()?;
            PicOrderCntType::Cycle { always_zero, offset_for_non_ref, offset_top_to_bottom, offsets }
        }
        _ => PicOrderCntType::DecodingOrder,
    })
}

/// Passes a scaling list (7.3.2.1.1.1). Deltas out of range are malformed, so the scale stays a byte.
fn skip_scaling_list(r: &mut BitReader<'_>, size: u32) -> DecodeResult<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            let delta = r.se("delta_scale")?;
            if !(-128..=127).contains(&delta) {
                return Err(r.malformed("delta_scale"));
            }
            next = last.wrapping_add(delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

fn video_signal_type(r: &mut BitReader<'_>) -> DecodeResult<ColorInfo> {
    r.skip(3, "video_format")?;
    let full_range = r.flag("video_full_range_flag")?;
    let mut color = ColorInfo { primaries: 2, transfer: 2, matrix: 2, full_range };
    if r.flag("colour_description_present_flag")? {
        color.primaries = r.small(8, "colour_primaries")?;
        color.transfer = r.small(8, "transfer_characteristics")?;
        color.matrix = r.small(8, "matrix_coefficients")?;
    }
    Ok(color)
}

fn skip_hrd(r: &mut BitReader<'_>) -> DecodeResult<()> {
    let count = r.ue_max(31, "cpb_cnt_minus1")?.saturating_add(1);
    r.skip(8, "bit_rate_scale")?;
    for _ in 0..count {
        r.ue("bit_rate_value_minus1")?;
        r.ue("cpb_size_value_minus1")?;
        r.skip(1, "cbr_flag")?;
    }
    r.skip(20, "initial_cpb_removal_delay_length_minus1")
}
