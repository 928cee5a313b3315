use arcly_core::codec::{Av1Config, ChromaFormat, ColorInfo, FrameRate, VideoParams};
use arcly_core::wire::DecodeResult;

use crate::bits::BitReader;
use crate::rate::frame_rate;

/// Primaries, transfer and matrix that together mean sRGB, for which the sampling is implied.
const SRGB: (u8, u8, u8) = (1, 13, 0);
const UNSPECIFIED: u8 = 2;

/// A sequence header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx[0]`.
    pub level: u8,
    /// `seq_tier[0]`.
    pub tier: bool,
    /// `reduced_still_picture_header`.
    pub reduced_still_picture: bool,
    /// `max_frame_width_minus_1` + 1.
    pub width: u32,
    /// `max_frame_height_minus_1` + 1.
    pub height: u32,
    /// From the timing, where pictures are equally apart.
    pub frame_rate: Option<FrameRate>,
    /// `high_bitdepth`.
    pub high_bitdepth: bool,
    /// `twelve_bit`.
    pub twelve_bit: bool,
    /// `mono_chrome`.
    pub monochrome: bool,
    /// `subsampling_x`.
    pub subsampling_x: bool,
    /// `subsampling_y`.
    pub subsampling_y: bool,
    /// `chroma_sample_position`.
    pub sample_position: u8,
    /// Colour description.
    pub color: Option<ColorInfo>,
}

/// What operating points need to know of what came before them.
#[derive(Clone, Copy, Default)]
struct DecoderModel {
    /// `buffer_delay_length_minus_1` + 1, where there is decoder model information.
    delay_bits: Option<u64>,
}

impl SequenceHeader {
    /// Decodes the payload of a sequence header OBU.
    pub fn decode(payload: &[u8]) -> DecodeResult<Self> {
        let r = &mut BitReader::new(payload);
        let mut header = Self { profile: r.small(3, "seq_profile")?, ..Self::default() };
        if header.profile > 2 {
            return Err(r.malformed("seq_profile"));
        }
        r.skip(1, "still_picture")?;
        header.reduced_still_picture = r.flag("reduced_still_picture_header")?;
        if header.reduced_still_picture {
            header.level = r.small(5, "seq_level_idx")?;
        } else {
            let model = header.timing(r)?;
            header.operating_points(r, model)?;
        }
        let width_bits = r.bits(4, "frame_width_bits_minus_1")?.saturating_add(1);
        let height_bits = r.bits(4, "frame_height_bits_minus_1")?.saturating_add(1);
        header.width = r.bits(width_bits, "max_frame_width_minus_1")?.saturating_add(1);
        header.height = r.bits(height_bits, "max_frame_height_minus_1")?.saturating_add(1);
        header.skip_tools(r)?;
        header.color_config(r)?;
        r.skip(1, "film_grain_params_present")?;
        Ok(header)
    }

    fn timing(&mut self, r: &mut BitReader<'_>) -> DecodeResult<DecoderModel> {
        let mut model = DecoderModel::default();
        if r.flag("timing_info_present_flag")? {
            let units = u64::from(r.bits(32, "num_units_in_display_tick")?);
            let scale = u64::from(r.bits(32, "time_scale")?);
            if r.flag("equal_picture_interval")? {
                let ticks = u64::from(r.ue("num_ticks_per_picture_minus_1")?).saturating_add(1);
                self.frame_rate = frame_rate(scale, units.saturating_mul(ticks));
            }
            if r.flag("decoder_model_info_present_flag")? {
                model.delay_bits =
                    Some(u64::from(r.bits(5, "buffer_delay_length_minus_1")?).saturating_add(1));
                r.skip(42, "num_units_in_decoding_tick")?;
            }
        }
        Ok(model)
    }

    fn operating_points(&mut self, r: &mut BitReader<'_>, model: DecoderModel) -> DecodeResult<()> {
        let display_delay = r.flag("initial_display_delay_present_flag")?;
        let count = r.bits(5, "operating_points_cnt_minus_1")?.saturating_add(1);
        for point in 0..count {
            r.skip(12, "operating_point_idc")?;
            let level = r.small(5, "seq_level_idx")?;
            let tier = level > 7 && r.flag("seq_tier")?;
            if point == 0 {
                (self.level, self.tier) = (level, tier);
            }
            if let Some(bits) = model.delay_bits
                && r.flag("decoder_model_present_for_this_op")?
            {
                r.skip(bits.saturating_mul(2).saturating_add(1), "decoder_buffer_delay")?;
            }
            if display_delay && r.flag("initial_display_delay_present_for_this_op")? {
                r.skip(4, "initial_display_delay_minus_1")?;
            }
        }
        Ok(())
    }

    /// Everything between the size and the colours.
    fn skip_tools(&self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        if !self.reduced_still_picture && r.flag("frame_id_numbers_present_flag")? {
            r.skip(7, "delta_frame_id_length_minus_2")?;
        }
        r.skip(3, "use_128x128_superblock")?;
        if !self.reduced_still_picture {
            r.skip(4, "enable_interintra_compound")?;
            let order_hint = r.flag("enable_order_hint")?;
            if order_hint {
                r.skip(2, "enable_jnt_comp")?;
            }
            // Two is SELECT_SCREEN_CONTENT_TOOLS: each frame says for itself.
            let screen_content = if r.flag("seq_choose_screen_content_tools")? {
                2
            } else {
                r.bits(1, "seq_force_screen_content_tools")?
            };
            if screen_content > 0 && !r.flag("seq_choose_integer_mv")? {
                r.skip(1, "seq_force_integer_mv")?;
            }
            if order_hint {
                r.skip(3, "order_hint_bits_minus_1")?;
            }
        }
        r.skip(3, "enable_superres")
    }

    fn color_config(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        self.high_bitdepth = r.flag("high_bitdepth")?;
        self.twelve_bit = self.profile == 2 && self.high_bitdepth && r.flag("twelve_bit")?;
        self.monochrome = self.profile != 1 && r.flag("mono_chrome")?;
        let described = r.flag("color_description_present_flag")?;
        let mut color = ColorInfo {
            primaries: UNSPECIFIED,
            transfer: UNSPECIFIED,
            matrix: UNSPECIFIED,
            full_range: false,
        };
        if described {
            color.primaries = r.small(8, "color_primaries")?;
            color.transfer = r.small(8, "transfer_characteristics")?;
            color.matrix = r.small(8, "matrix_coefficients")?;
        }
        if self.monochrome {
            color.full_range = r.flag("color_range")?;
            (self.subsampling_x, self.subsampling_y) = (true, true);
        } else if (color.primaries, color.transfer, color.matrix) == SRGB {
            color.full_range = true;
        } else {
            color.full_range = r.flag("color_range")?;
            self.subsampling(r)?;
        }
        self.color = (described || color.full_range).then_some(color);
        if !self.monochrome {
            r.skip(1, "separate_uv_delta_q")?;
        }
        Ok(())
    }

    fn subsampling(&mut self, r: &mut BitReader<'_>) -> DecodeResult<()> {
        (self.subsampling_x, self.subsampling_y) = match self.profile {
            0 => (true, true),
            1 => (false, false),
            _ if self.twelve_bit => {
                let x = r.flag("subsampling_x")?;
                (x, x && r.flag("subsampling_y")?)
            }
            _ => (true, false),
        };
        if self.subsampling_x && self.subsampling_y {
            self.sample_position = r.small(2, "chroma_sample_position")?;
        }
        Ok(())
    }

    /// Bits per sample.
    #[must_use]
    pub const fn bit_depth(&self) -> u8 {
        match (self.high_bitdepth, self.twelve_bit) {
            (_, true) => 12,
            (true, false) => 10,
            (false, false) => 8,
        }
    }

    /// What is true of the track.
    #[must_use]
    pub const fn video_params(&self) -> VideoParams {
        VideoParams {
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
            reorder_depth: Some(0),
            bit_depth: self.bit_depth(),
            chroma: match (self.monochrome, self.subsampling_x, self.subsampling_y) {
                (true, ..) => ChromaFormat::Monochrome,
                (_, true, true) => ChromaFormat::Yuv420,
                (_, true, false) => ChromaFormat::Yuv422,
                _ => ChromaFormat::Yuv444,
            },
            color: self.color,
            hdr: None,
        }
    }

    /// A record of this sequence header; `config_obus` is left empty.
    #[must_use]
    pub fn config(&self) -> Av1Config {
        Av1Config {
            profile: self.profile,
            level: self.level,
            tier: self.tier,
            high_bitdepth: self.high_bitdepth,
            twelve_bit: self.twelve_bit,
            monochrome: self.monochrome,
            subsampling_x: self.subsampling_x,
            subsampling_y: self.subsampling_y,
            sample_position: self.sample_position,
            ..Av1Config::default()
        }
    }
}
