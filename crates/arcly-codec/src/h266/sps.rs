use arcly_core::codec::{ChromaFormat, VideoParams};
use arcly_core::wire::DecodeResult;

use crate::bits::BitReader;

/// Samples per row or column: beyond every level.
const MAX_SIZE: u32 = 65_536;
/// Flags and numbers of `general_constraints_info()` before the count of additional bits (7.3.3.2).
const CONSTRAINT_BITS: u64 = 71;

/// A sequence parameter set, up to the bit depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`.
    pub id: u8,
    /// `general_profile_idc`; 0 where the VPS says it.
    pub profile: u8,
    /// `general_tier_flag`.
    pub tier: bool,
    /// `general_level_idc`.
    pub level: u8,
    /// Chroma sampling.
    pub chroma: ChromaFormat,
    /// Width in samples after cropping.
    pub width: u32,
    /// Height in samples after cropping.
    pub height: u32,
    /// Bits per sample; 0 when behind subpictures.
    pub bit_depth: u8,
}

impl Sps {
    /// Decodes a NAL unit, header bytes included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let r = &mut BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        let mut sps = Self { id: r.small(4, "sps_seq_parameter_set_id")?, ..Self::default() };
        r.skip(4, "sps_video_parameter_set_id")?;
        let sub_layers = r.small(3, "sps_max_sublayers_minus1")?;
        sps.chroma = match r.bits(2, "sps_chroma_format_idc")? {
            0 => ChromaFormat::Monochrome,
            1 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            _ => ChromaFormat::Yuv444,
        };
        r.skip(2, "sps_log2_ctu_size_minus5")?;
        if r.flag("sps_ptl_dpb_hrd_params_present_flag")? {
            sps.profile_tier_level(r, sub_layers)?;
        }
        r.skip(1, "sps_gdr_enabled_flag")?;
        if r.flag("sps_ref_pic_resampling_enabled_flag")? {
            r.skip(1, "sps_res_change_in_clvs_allowed_flag")?;
        }
        sps.size(r)?;
        if !r.flag("sps_subpic_info_present_flag")? {
            sps.bit_depth = r.ue_small(8, "sps_bitdepth_minus8")?.saturating_add(8);
        }
        Ok(sps)
    }

    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(16, "nal_unit_header")?;
        r.small(4, "sps_seq_parameter_set_id")
    }

    /// `profile_tier_level(1, sub_layers)`. It starts on a byte: 32 bits are before it.
    fn profile_tier_level(&mut self, r: &mut BitReader<'_>, sub_layers: u8) -> DecodeResult<()> {
        self.profile = r.small(7, "general_profile_idc")?;
        self.tier = r.flag("general_tier_flag")?;
        self.level = r.small(8, "general_level_idc")?;
        r.skip(2, "ptl_frame_only_constraint_flag")?;
        // Three bits so far in this byte, with the flag; what follows fills up to whole bytes.
        if r.flag("gci_present_flag")? {
            r.skip(CONSTRAINT_BITS, "general_constraints_info")?;
            let additional = u64::from(r.bits(8, "gci_num_additional_bits")?);
            r.skip(additional, "gci_reserved_bit")?;
            let used = CONSTRAINT_BITS.saturating_add(8).saturating_add(additional).saturating_add(3);
            r.skip(used.wrapping_neg() & 7, "gci_alignment_zero_bit")?;
        } else {
            r.skip(5, "gci_alignment_zero_bit")?;
        }
        if sub_layers > 0 {
            let flags = r.bits(8, "ptl_sublayer_level_present_flag")?;
            // The flags are at the top of the byte, the rest is alignment.
            let present = flags >> 8_u32.saturating_sub(u32::from(sub_layers));
            r.skip(u64::from(present.count_ones()).saturating_mul(8), "sublayer_level_idc")?;
        }
        let sub_profiles = u64::from(r.bits(8, "ptl_num_sub_profiles")?);
        r.skip(sub_profiles.saturating_mul(32), "general_sub_profile_idc")
    }

    fn size(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        let width = r.ue_max(MAX_SIZE, "sps_pic_width_max_in_luma_samples")?;
        let height = r.ue_max(MAX_SIZE, "sps_pic_height_max_in_luma_samples")?;
        let (mut crop_x, mut crop_y) = (0, 0);
        if r.flag("sps_conformance_window_flag")? {
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
        self.width = cropped(width, crop_x).ok_or_else(|| r.malformed("sps_conf_win_right_offset"))?;
        self.height = cropped(height, crop_y).ok_or_else(|| r.malformed("sps_conf_win_bottom_offset"))?;
        Ok(())
    }

    /// What is true of the track.
    #[must_use]
    pub fn video_params(&self) -> VideoParams {
        VideoParams {
            width: self.width,
            height: self.height,
            bit_depth: self.bit_depth,
            chroma: self.chroma,
            ..VideoParams::default()
        }
    }
}

/// Two window offsets of one direction, in samples.
fn crop(r: &mut BitReader<'_>, unit: u64) -> DecodeResult<u64> {
    let near = u64::from(r.ue("sps_conf_win_left_offset")?);
    let far = u64::from(r.ue("sps_conf_win_right_offset")?);
    Ok(near.saturating_add(far).saturating_mul(unit))
}
