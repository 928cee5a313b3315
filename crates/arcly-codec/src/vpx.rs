//! VP8 and VP9.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 6386 | 9.1 VP8 frame header | [`Vp8Frame`] |
//! | VP9 Bitstream | 6.2 uncompressed header | [`Vp9Frame`] |
//! | VP Codec ISOBMFF binding | `vpcC` | [`decode_config`], [`encode_config`] |
//!
//! A VP9 superframe is one frame here: its first frame says whether decoding may start at it. The spatial layers of a picture are one
//! in which all but the highest are hidden ([`Vp9Layers`]).
//!
//! Guarantees: no panic, no allocation in the headers.
//!
//! Tolerated: records without the version and flags of a full box (Enhanced RTMP has them, older senders not).
//!
//! Not done: disposable VP8 frames (that flag is inside the arithmetic-coded part).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod layers;

use arcly_core::FrameFlags;
use arcly_core::codec::{ChromaFormat, ColorInfo, VideoParams, VpxConfig};
use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;

pub use layers::{MAX_FRAMES, Vp9Layers, put_superframe_index, superframe};

const VP8_START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];
const VP9_SYNC_CODE: u32 = 0x49_83_42;
/// `color_space` of VP9 that stands for RGB.
const CS_RGB: u8 = 7;
/// Version and flags of the full box.
const FULL_BOX: [u8; 4] = [1, 0, 0, 0];
const UNSPECIFIED: u8 = 2;

/// What a VP8 frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Frame {
    /// It decodes on its own.
    pub key: bool,
    /// `version`: which filters are used.
    pub version: u8,
    /// `show_frame`.
    pub shown: bool,
    /// Width and height, of key frames.
    pub size: Option<(u32, u32)>,
}

impl Vp8Frame {
    /// Decodes the header of a frame.
    pub fn decode(frame: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(frame);
        Self::header(&mut r).map_err(|error| error.in_closed_unit(r.position()))
    }

    fn header(r: &mut Reader<'_>) -> DecodeResult<Self> {
        let [first, _, _] = r.array("frame_tag")?;
        let mut frame =
            Self { key: first & 1 == 0, version: (first >> 1) & 7, shown: first & 0x10 != 0, size: None };
        if frame.key {
            if r.array::<3>("start_code")? != VP8_START_CODE {
                return Err(r.malformed("start_code"));
            }
            // The upper two bits of each are a hint for upscaling.
            let width = u32::from(r.u16_le("width")? & 0x3FFF);
            let height = u32::from(r.u16_le("height")? & 0x3FFF);
            frame.size = Some((width, height));
        }
        Ok(frame)
    }

    /// What is known of the frame.
    #[must_use]
    pub const fn flags(&self) -> FrameFlags {
        if self.key { FrameFlags::KEYFRAME } else { FrameFlags::empty() }
    }

    /// What is true of the track, of key frames.
    #[must_use]
    pub fn video_params(&self) -> Option<VideoParams> {
        let (width, height) = self.size?;
        Some(VideoParams { width, height, reorder_depth: Some(0), bit_depth: 8, ..VideoParams::default() })
    }
}

/// What a VP9 frame's uncompressed header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp9Frame {
    /// `profile`, 0 to 3.
    pub profile: u8,
    /// It is a key frame.
    pub key: bool,
    /// `show_frame`.
    pub shown: bool,
    /// No later frame refers to it.
    pub disposable: bool,
    /// What only key frames say.
    pub format: Option<Vp9Format>,
}

/// Size and samples of the pictures from a key frame on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Format {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits per sample.
    pub bit_depth: u8,
    /// Chroma sampling.
    pub chroma: ChromaFormat,
    /// Colours, where the stream says.
    pub color: Option<ColorInfo>,
}

impl Vp9Frame {
    /// Decodes the header of a frame or superframe.
    pub fn decode(data: &[u8]) -> DecodeResult<Self> {
        let r = &mut BitReader::new(data);
        if r.bits(2, "frame_marker")? != 2 {
            return Err(r.malformed("frame_marker"));
        }
        let (low, high) = (r.small(1, "profile_low_bit")?, r.small(1, "profile_high_bit")?);
        let mut frame = Self { profile: low | high << 1, ..Self::default() };
        if frame.profile == 3 && r.flag("reserved_zero")? {
            return Err(r.malformed("reserved_zero"));
        }
        if r.flag("show_existing_frame")? {
            frame.shown = true;
            return Ok(frame);
        }
        frame.key = !r.flag("frame_type")?;
        frame.shown = r.flag("show_frame")?;
        let error_resilient = r.flag("error_resilient_mode")?;
        if frame.key {
            let mut format = frame.format(r)?;
            // Of spatial layers it is the highest that is shown.
            (format.width, format.height) = layers::shown_size(data).unwrap_or((format.width, format.height));
            frame.format = Some(format);
        } else {
            let refreshed = frame.refresh_frame_flags(r, error_resilient)?;
            frame.disposable = refreshed == 0 && !is_superframe(data);
        }
        Ok(frame)
    }

    fn format(self, r: &mut BitReader<'_>) -> DecodeResult<Vp9Format> {
        sync_code(r)?;
        let bit_depth = self.bit_depth(r)?;
        let space = r.small(3, "color_space")?;
        let mut chroma = ChromaFormat::Yuv420;
        let mut full_range = true;
        if space == CS_RGB {
            chroma = ChromaFormat::Yuv444;
            r.skip(if self.profile & 1 == 1 { 1 } else { 0 }, "reserved_zero")?;
        } else {
            full_range = r.flag("color_range")?;
            if self.profile & 1 == 1 {
                chroma = match r.bits(3, "subsampling_x")? >> 1 {
                    0 => ChromaFormat::Yuv444,
                    2 => ChromaFormat::Yuv422,
                    _ => ChromaFormat::Yuv420,
                };
            }
        }
        let width = u32::from(r.u16("frame_width_minus_1")?).saturating_add(1);
        let height = u32::from(r.u16("frame_height_minus_1")?).saturating_add(1);
        Ok(Vp9Format { width, height, bit_depth, chroma, color: color(space, full_range) })
    }

    fn bit_depth(self, r: &mut BitReader<'_>) -> DecodeResult<u8> {
        if self.profile < 2 {
            return Ok(8);
        }
        Ok(if r.flag("ten_or_twelve_bit")? { 12 } else { 10 })
    }

    fn refresh_frame_flags(self, r: &mut BitReader<'_>, error_resilient: bool) -> DecodeResult<u8> {
        let intra_only = !self.shown && r.flag("intra_only")?;
        if !error_resilient {
            r.skip(2, "reset_frame_context")?;
        }
        if intra_only {
            sync_code(r)?;
            if self.profile > 0 {
                let depth = self.bit_depth(r)?;
                let space = r.small(3, "color_space")?;
                let odd = self.profile & 1 == 1;
                let rest = if space == CS_RGB {
                    u64::from(odd)
                } else if odd {
                    4
                } else {
                    1
                };
                debug_assert!(depth >= 8, "read for its bits only");
                r.skip(rest, "color_range")?;
            }
        }
        r.small(8, "refresh_frame_flags")
    }

    /// What is known of the frame.
    #[must_use]
    pub fn flags(&self) -> FrameFlags {
        let mut flags = FrameFlags::empty();
        flags.set(FrameFlags::KEYFRAME, self.key);
        flags.set(FrameFlags::DISPOSABLE, self.disposable);
        flags
    }

    /// What is true of the track, of key frames.
    #[must_use]
    pub fn video_params(&self) -> Option<VideoParams> {
        let format = self.format?;
        Some(VideoParams {
            width: format.width,
            height: format.height,
            reorder_depth: Some(0),
            bit_depth: format.bit_depth,
            chroma: format.chroma,
            color: format.color,
            ..VideoParams::default()
        })
    }

    /// A record for a track that came without one, of key frames. The level is unknown.
    #[must_use]
    pub fn config(&self) -> Option<VpxConfig> {
        let format = self.format?;
        Some(VpxConfig {
            profile: self.profile,
            level: 0,
            bit_depth: format.bit_depth,
            chroma_subsampling: match format.chroma {
                ChromaFormat::Yuv422 => 2,
                ChromaFormat::Yuv444 => 3,
                // Co-located with luma: what VP9 encoders mean unless they say otherwise.
                ChromaFormat::Monochrome | ChromaFormat::Yuv420 => 1,
            },
            color: format.color,
        })
    }
}

fn sync_code(r: &mut BitReader<'_>) -> DecodeResult<()> {
    if r.bits(24, "frame_sync_code")? == VP9_SYNC_CODE { Ok(()) } else { Err(r.malformed("frame_sync_code")) }
}

/// A superframe ends in its index (annex B): several frames, of which only the first was looked at.
fn is_superframe(data: &[u8]) -> bool {
    data.last().is_some_and(|&marker| marker & 0xE0 == 0xC0)
}

fn color(space: u8, full_range: bool) -> Option<ColorInfo> {
    let (primaries, transfer, matrix) = match space {
        1 => (5, 6, 5),
        2 => (1, 1, 1),
        3 => (6, 6, 6),
        4 => (7, 7, 7),
        5 => (9, UNSPECIFIED, 9),
        CS_RGB => (1, 13, 0),
        _ if full_range => (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED),
        _ => return None,
    };
    Some(ColorInfo { primaries, transfer, matrix, full_range })
}

/// Decodes a VPCodecConfigurationRecord, with or without the version and flags of its box.
pub fn decode_config(record: &Bytes) -> DecodeResult<VpxConfig> {
    let body = record.strip_prefix(&FULL_BOX[..]).filter(|body| body.len() >= 8).unwrap_or(record);
    let mut r = Reader::new(body);
    let [profile, level, format, primaries, transfer, matrix] =
        r.array("VPCodecConfigurationRecord").map_err(|error| error.in_closed_unit(0))?;
    let size = r.u16("codecInitializationDataSize").map_err(|error| error.in_closed_unit(6))?;
    r.skip(usize::from(size), "codecInitializationData").map_err(|error| error.in_closed_unit(8))?;
    let color = ColorInfo { primaries, transfer, matrix, full_range: format & 1 == 1 };
    let unsaid =
        ColorInfo { primaries: UNSPECIFIED, transfer: UNSPECIFIED, matrix: UNSPECIFIED, full_range: false };
    Ok(VpxConfig {
        profile,
        level,
        bit_depth: format >> 4,
        chroma_subsampling: (format >> 1) & 7,
        color: (color != unsaid).then_some(color),
    })
}

/// Encodes a VPCodecConfigurationRecord with the version and flags of its box.
#[must_use]
pub fn encode_config(config: &VpxConfig) -> Bytes {
    let color = config.color.unwrap_or(ColorInfo {
        primaries: UNSPECIFIED,
        transfer: UNSPECIFIED,
        matrix: UNSPECIFIED,
        full_range: false,
    });
    let mut out = BytesMut::with_capacity(12);
    out.put_slice(&FULL_BOX);
    out.put_u8(config.profile);
    out.put_u8(config.level);
    out.put_u8(config.bit_depth << 4 | (config.chroma_subsampling & 7) << 1 | u8::from(color.full_range));
    out.put_slice(&[color.primaries, color.transfer, color.matrix, 0, 0]);
    out.freeze()
}

/// What a record says of the pictures. It does not know their size; the first key frame does.
#[must_use]
pub const fn video_params(config: &VpxConfig) -> VideoParams {
    VideoParams {
        width: 0,
        height: 0,
        frame_rate: None,
        reorder_depth: Some(0),
        bit_depth: config.bit_depth,
        chroma: match config.chroma_subsampling {
            2 => ChromaFormat::Yuv422,
            3 => ChromaFormat::Yuv444,
            _ => ChromaFormat::Yuv420,
        },
        color: config.color,
        hdr: None,
    }
}
