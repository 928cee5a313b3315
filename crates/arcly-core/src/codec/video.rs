use bytes::Bytes;
use core::num::NonZeroU32;
use smallvec::SmallVec;

use crate::time::{TimeDelta, Timescale};

/// NAL units of one kind of parameter set, without start code or length, in the order of their ids.
pub type ParameterSets = SmallVec<[Bytes; 1]>;

/// Pictures per second as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRate {
    /// Numerator.
    pub num: NonZeroU32,
    /// Denominator.
    pub den: NonZeroU32,
}

impl FrameRate {
    /// A frame rate; `None` when either part is zero.
    #[must_use]
    pub const fn new(num: u32, den: u32) -> Option<Self> {
        match (NonZeroU32::new(num), NonZeroU32::new(den)) {
            (Some(num), Some(den)) => Some(Self { num, den }),
            _ => None,
        }
    }

    /// How long one picture lasts.
    #[must_use]
    pub const fn frame_duration(self) -> TimeDelta {
        TimeDelta::from_ticks(self.den.get() as i64, Timescale::of(self.num.get()))
    }

    /// Pictures per second, for people.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.num.get()) / f64::from(self.den.get())
    }
}

/// Chroma sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChromaFormat {
    /// Luma only.
    Monochrome,
    /// 4:2:0.
    #[default]
    Yuv420,
    /// 4:2:2.
    Yuv422,
    /// 4:4:4.
    Yuv444,
}

/// Code points of ISO/IEC 23091-2 (H.273).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColorInfo {
    /// `colour_primaries`.
    pub primaries: u8,
    /// `transfer_characteristics`.
    pub transfer: u8,
    /// `matrix_coefficients`.
    pub matrix: u8,
    /// Full instead of limited range.
    pub full_range: bool,
}

/// Mastering display and content light level, in the units of the SEI messages (H.265 D.3.28, D.3.35).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HdrMetadata {
    /// Chromaticity of red, green, blue in increments of 0.00002: `[[x, y]; 3]`.
    pub primaries: [[u16; 2]; 3],
    /// White point, in increments of 0.00002.
    pub white_point: [u16; 2],
    /// Maximum luminance in 0.0001 cd/m².
    pub max_luminance: u32,
    /// Minimum luminance in 0.0001 cd/m².
    pub min_luminance: u32,
    /// Maximum content light level in cd/m², 0 when unknown.
    pub max_cll: u16,
    /// Maximum frame-average light level in cd/m², 0 when unknown.
    pub max_fall: u16,
}

/// What is true of a video track whatever its codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoParams {
    /// Displayed width in pixels, after cropping; 0 when unknown.
    pub width: u32,
    /// Displayed height in pixels, after cropping; 0 when unknown.
    pub height: u32,
    /// Declared frame rate.
    pub frame_rate: Option<FrameRate>,
    /// Pictures by which presentation may lag decoding; `None` when the stream does not say.
    pub reorder_depth: Option<u8>,
    /// Bits per luma sample; 0 when unknown.
    pub bit_depth: u8,
    /// Chroma sampling.
    pub chroma: ChromaFormat,
    /// Colour description.
    pub color: Option<ColorInfo>,
    /// Static HDR metadata.
    pub hdr: Option<HdrMetadata>,
}

/// H.264 parameters (AVCDecoderConfigurationRecord, ISO/IEC 14496-15 §5.3.3). NAL lengths are always 4 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AvcConfig {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte between profile and level: constraint_set flags.
    pub compatibility: u8,
    /// `level_idc`.
    pub level: u8,
    /// Sequence parameter sets.
    pub sps: ParameterSets,
    /// Picture parameter sets.
    pub pps: ParameterSets,
    /// Sequence parameter set extensions.
    pub sps_ext: ParameterSets,
}

/// H.265 parameters (HEVCDecoderConfigurationRecord, ISO/IEC 14496-15 §8.3.3). NAL lengths are always 4 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HevcConfig {
    /// `general_profile_space`, 2 bits.
    pub profile_space: u8,
    /// `general_tier_flag`.
    pub tier: bool,
    /// `general_profile_idc`, 5 bits.
    pub profile: u8,
    /// `general_profile_compatibility_flags`.
    pub compatibility: u32,
    /// `general_constraint_indicator_flags`, 48 bits, in transmission order.
    pub constraints: [u8; 6],
    /// `general_level_idc`.
    pub level: u8,
    /// `min_spatial_segmentation_idc`, 12 bits.
    pub min_spatial_segmentation: u16,
    /// `parallelismType`, 2 bits.
    pub parallelism: u8,
    /// `chroma_format_idc`, 2 bits.
    pub chroma_format: u8,
    /// Bits per luma sample.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample.
    pub bit_depth_chroma: u8,
    /// `avgFrameRate` in frames per 256 s; 0 when not given.
    pub avg_frame_rate: u16,
    /// `constantFrameRate`, 2 bits.
    pub constant_frame_rate: u8,
    /// `numTemporalLayers`, 3 bits.
    pub temporal_layers: u8,
    /// `temporalIdNested`.
    pub temporal_id_nested: bool,
    /// Video parameter sets.
    pub vps: ParameterSets,
    /// Sequence parameter sets.
    pub sps: ParameterSets,
    /// Picture parameter sets.
    pub pps: ParameterSets,
    /// Prefix and suffix SEI that the record carries.
    pub sei: ParameterSets,
}

/// H.266 parameters (VvcDecoderConfigurationRecord, ISO/IEC 14496-15 §11.2.4). NAL lengths are always 4 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VvcConfig {
    /// The `VvcPTLRecord` and the picture fields around it exactly as received, when there was a record.
    pub record: Bytes,
    /// `general_profile_idc`.
    pub profile: u8,
    /// `general_tier_flag`.
    pub tier: bool,
    /// `general_level_idc`.
    pub level: u8,
    /// Decoding capability information.
    pub dci: ParameterSets,
    /// Video parameter sets.
    pub vps: ParameterSets,
    /// Sequence parameter sets.
    pub sps: ParameterSets,
    /// Picture parameter sets.
    pub pps: ParameterSets,
}

/// AV1 parameters (AV1CodecConfigurationRecord, AV1 ISOBMFF binding §2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Av1Config {
    /// `seq_profile`, 3 bits.
    pub profile: u8,
    /// `seq_level_idx_0`, 5 bits.
    pub level: u8,
    /// `seq_tier_0`.
    pub tier: bool,
    /// `high_bitdepth`.
    pub high_bitdepth: bool,
    /// `twelve_bit`.
    pub twelve_bit: bool,
    /// `monochrome`.
    pub monochrome: bool,
    /// `chroma_subsampling_x`.
    pub subsampling_x: bool,
    /// `chroma_subsampling_y`.
    pub subsampling_y: bool,
    /// `chroma_sample_position`, 2 bits.
    pub sample_position: u8,
    /// `initial_presentation_delay_minus_one` plus one, where present.
    pub initial_presentation_delay: Option<u8>,
    /// The sequence header (and metadata) OBUs with size fields.
    pub config_obus: Bytes,
}

/// VP8/VP9 parameters (VPCodecConfigurationRecord, VP Codec ISOBMFF binding v1.0).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpxConfig {
    /// `profile`.
    pub profile: u8,
    /// `level`, ten times the number (10 = level 1); 0 when unknown.
    pub level: u8,
    /// `bitDepth`.
    pub bit_depth: u8,
    /// `chromaSubsampling`, 3 bits.
    pub chroma_subsampling: u8,
    /// Colour description.
    pub color: Option<ColorInfo>,
}
