//! The spatial layers of a VP9 picture as one frame of a container.
//!
//! | document | section | here |
//! |---|---|---|
//! | VP9 Bitstream | 6.2 uncompressed header | [`Vp9Layers`] |
//! | | annex B superframes | [`superframe`], [`put_superframe_index`] |
//!
//! Over RTP each spatial layer of a picture is a frame that is shown, and decoders give out the last of them. In a superframe one frame
//! is shown at most: players show each that says that it is. So that all layers but the highest can be hidden, and the highest of
//! those that a viewer is sent shown again, the header is written anew: it is one bit longer where the frame is hidden. What decoders make
//! of the frames stays the same: whether a frame was shown matters to the next one only if both have one size.
//!
//! Guarantees: no panic; a frame that cannot be understood stays as it is.

use arcly_core::wire::DecodeResult;
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::CS_RGB;
use crate::bits::{BitReader, BitWriter};

/// Frames of a superframe.
pub const MAX_FRAMES: usize = 8;
/// Bytes of a size in an index that is written.
const SIZE_BYTES: u8 = 4;
/// Frames that others refer to.
const SLOTS: usize = 8;

/// How large the frames of a stream are, as far as headers need it, from a key frame on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vp9Layers {
    sizes: [Size; SLOTS],
}

/// Width and height.
type Size = (u32, u32);

/// Where in a header what is.
struct Header {
    shown: bool,
    key: bool,
    intra_only: bool,
    size: Size,
    /// Bits up to `show_frame`.
    before: u32,
    /// Bits of it all.
    bits: u32,
}

impl Header {
    /// Bytes of it, behind which is the compressed header.
    const fn bytes(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }
}

/// A reader that knows where it is.
struct Cursor<'a> {
    reader: BitReader<'a>,
    bits: u32,
}

impl Cursor<'_> {
    fn bits(&mut self, count: u32, what: &'static str) -> DecodeResult<u32> {
        if count == 0 {
            return Ok(0);
        }
        self.bits = self.bits.saturating_add(count);
        self.reader.bits(count, what)
    }

    fn flag(&mut self, what: &'static str) -> DecodeResult<bool> {
        Ok(self.bits(1, what)? == 1)
    }

    /// A field that is there where a bit says so.
    fn optional(&mut self, count: u32, what: &'static str) -> DecodeResult<()> {
        if self.flag(what)? { self.bits(count, what).map(drop) } else { Ok(()) }
    }
}

impl Vp9Layers {
    /// Appends a frame that is hidden or shown, whatever it was. Frames of a stream have to come in order, without a gap behind a key frame.
    pub fn put(&mut self, frame: &[u8], shown: bool, out: &mut BytesMut) {
        match self.header(frame) {
            // Such a frame has to be hidden.
            Ok(Some(header)) if header.shown != shown && !(shown && header.intra_only) => {
                out.put_slice(&rewritten(frame, &header, shown).unwrap_or_else(|_| frame.to_vec()));
            }
            _ => out.put_slice(frame),
        }
    }

    /// Follows a frame.
    pub fn follow(&mut self, frame: &[u8]) {
        _ = self.header(frame);
    }

    /// The uncompressed header; none when it shows a frame that is there already.
    fn header(&mut self, frame: &[u8]) -> DecodeResult<Option<Header>> {
        let c = &mut Cursor { reader: BitReader::new(frame), bits: 0 };
        if c.bits(2, "frame_marker")? != 2 {
            return Err(c.reader.malformed("frame_marker"));
        }
        let profile = c.bits(1, "profile_low_bit")? | c.bits(1, "profile_high_bit")? << 1;
        if profile == 3 {
            c.flag("reserved_zero")?;
        }
        if c.flag("show_existing_frame")? {
            return Ok(None);
        }
        let key = !c.flag("frame_type")?;
        let before = c.bits;
        let shown = c.flag("show_frame")?;
        let resilient = c.flag("error_resilient_mode")?;
        let intra_only = !key && !shown && c.flag("intra_only")?;
        if !key && !resilient {
            c.bits(2, "reset_frame_context")?;
        }
        let (mut refreshed, size);
        if key || intra_only {
            c.bits(8, "frame_sync_code")?;
            c.bits(16, "frame_sync_code")?;
            if key || profile > 0 {
                color_config(c, profile)?;
            }
            refreshed = if key { 0xFF } else { c.bits(8, "refresh_frame_flags")? };
            size = frame_size(c)?;
        } else {
            refreshed = c.bits(8, "refresh_frame_flags")?;
            size = self.inter(c)?;
        }
        rest(c, resilient, size.0)?;
        let compressed = c.bits(16, "header_size_in_bytes")? as usize;
        let header = Header { shown, key, intra_only, size, before, bits: c.bits };
        let padding = c.bits.next_multiple_of(8).saturating_sub(c.bits);
        let is_whole = header.bytes().saturating_add(compressed) <= frame.len();
        // What was understood wrongly would end anywhere.
        if compressed == 0 || !is_whole || c.bits(padding, "trailing_bits")? != 0 {
            return Err(c.reader.malformed("header_size_in_bytes"));
        }
        for slot in &mut self.sizes {
            if refreshed & 1 == 1 {
                *slot = size;
            }
            refreshed >>= 1;
        }
        Ok(Some(header))
    }

    /// What only frames have that refer to others; gives the size.
    fn inter(&self, c: &mut Cursor<'_>) -> DecodeResult<Size> {
        let mut sizes = [(0, 0); 3];
        for size in &mut sizes {
            let slot = c.bits(3, "ref_frame_idx")? as usize;
            c.flag("ref_frame_sign_bias")?;
            *size = self.sizes.get(slot).copied().unwrap_or_default();
        }
        let mut found = None;
        for size in sizes {
            if c.flag("found_ref")? {
                found = Some(size);
                break;
            }
        }
        let size = match found {
            Some((0, _)) => return Err(c.reader.malformed("ref_frame_idx")),
            Some(size) => {
                c.optional(32, "render_size")?;
                size
            }
            None => frame_size(c)?,
        };
        c.flag("allow_high_precision_mv")?;
        if !c.flag("is_filter_switchable")? {
            c.bits(2, "raw_interpolation_filter")?;
        }
        Ok(size)
    }
}

fn color_config(c: &mut Cursor<'_>, profile: u32) -> DecodeResult<()> {
    if profile >= 2 {
        c.flag("ten_or_twelve_bit")?;
    }
    let odd = profile & 1 == 1;
    if c.bits(3, "color_space")? == u32::from(CS_RGB) {
        return c.bits(u32::from(odd), "reserved_zero").map(drop);
    }
    c.flag("color_range")?;
    c.bits(if odd { 3 } else { 0 }, "subsampling").map(drop)
}

/// `frame_size()` and `render_size()`; gives the first.
fn frame_size(c: &mut Cursor<'_>) -> DecodeResult<Size> {
    let width = c.bits(16, "frame_width_minus_1")?.saturating_add(1);
    let height = c.bits(16, "frame_height_minus_1")?.saturating_add(1);
    c.optional(32, "render_size")?;
    Ok((width, height))
}

/// What all headers end with.
fn rest(c: &mut Cursor<'_>, resilient: bool, width: u32) -> DecodeResult<()> {
    if !resilient {
        c.bits(2, "refresh_frame_context")?;
    }
    c.bits(2, "frame_context_idx")?;
    c.bits(6 + 3, "loop_filter")?;
    if c.flag("loop_filter_delta_enabled")? && c.flag("loop_filter_delta_update")? {
        for _ in 0..4 + 2 {
            c.optional(7, "loop_filter_delta")?;
        }
    }
    c.bits(8, "base_q_idx")?;
    for _ in 0..3 {
        c.optional(5, "delta_q")?;
    }
    if c.flag("segmentation_enabled")? {
        segmentation(c)?;
    }
    tiles(c, width)
}

fn segmentation(c: &mut Cursor<'_>) -> DecodeResult<()> {
    /// Bits of the values of features, and whether a sign follows.
    const FEATURES: [(u32, u32); 4] = [(8, 1), (6, 1), (2, 0), (0, 0)];
    if c.flag("segmentation_update_map")? {
        for _ in 0..7 {
            c.optional(8, "segmentation_tree_probs")?;
        }
        if c.flag("segmentation_temporal_update")? {
            for _ in 0..3 {
                c.optional(8, "segmentation_pred_prob")?;
            }
        }
    }
    if c.flag("segmentation_update_data")? {
        c.flag("segmentation_abs_or_delta_update")?;
        for (bits, sign) in [FEATURES; 8].as_flattened() {
            c.optional(bits.saturating_add(*sign), "feature_value")?;
        }
    }
    Ok(())
}

fn tiles(c: &mut Cursor<'_>, width: u32) -> DecodeResult<()> {
    let columns = width.div_ceil(64);
    let mut log2 = (0..6).find(|log2| 64 << log2 >= columns).unwrap_or(6);
    let most = (1..7).find(|log2| columns >> log2 < 4).unwrap_or(7_u32).saturating_sub(1);
    while log2 < most && c.flag("increment_tile_cols_log2")? {
        log2 = log2.saturating_add(1);
    }
    c.optional(1, "tile_rows_log2")
}

/// The frame with its header written anew.
fn rewritten(frame: &[u8], header: &Header, shown: bool) -> DecodeResult<Vec<u8>> {
    let (mut r, mut w) = (BitReader::new(frame), BitWriter::new());
    w.bits(header.before, r.bits(header.before, "header")?.into());
    r.flag("show_frame")?;
    w.flag(shown).flag(r.flag("error_resilient_mode")?);
    let mut left = header.bits.saturating_sub(header.before).saturating_sub(2);
    if !header.key && shown {
        r.flag("intra_only")?;
        left = left.saturating_sub(1);
    } else if !header.key {
        w.flag(false);
    }
    while left > 0 {
        let count = left.min(32);
        w.bits(count, r.bits(count, "header")?.into());
        left = left.saturating_sub(count);
    }
    w.align();
    let mut out = w.finish();
    out.extend_from_slice(frame.get(header.bytes()..).unwrap_or_default());
    Ok(out)
}

/// The size of what a superframe shows that begins with a key frame; none when it is one frame, or cannot be understood.
pub(super) fn shown_size(data: &[u8]) -> Option<Size> {
    let mut layers = Vp9Layers::default();
    let mut headers = superframe(data)?.into_iter().map_while(|frame| layers.header(frame).ok().flatten());
    headers.find(|header| header.shown).map(|header| header.size)
}

/// The frames of a superframe, without its index; none when it is one frame.
#[must_use]
pub fn superframe(data: &[u8]) -> Option<SmallVec<[&[u8]; MAX_FRAMES]>> {
    let marker = *data.last().filter(|marker| **marker & 0xE0 == 0xC0)?;
    let frames = usize::from(marker & 7).saturating_add(1);
    let bytes = usize::from(marker >> 3 & 3).saturating_add(1);
    let len = bytes.saturating_mul(frames).saturating_add(2);
    let (mut rest, index) = data.split_at_checked(data.len().checked_sub(len)?)?;
    let sizes = index.strip_prefix(&[marker])?;
    let mut out = SmallVec::new();
    for size in sizes.chunks_exact(bytes).take(frames) {
        let size = size.iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte));
        let (frame, more) = rest.split_at_checked(size)?;
        out.push(frame);
        rest = more;
    }
    Some(out)
}

/// Appends the index of a superframe whose frames end there.
pub fn put_superframe_index(ends: &[usize], out: &mut BytesMut) {
    let frames = u8::try_from(ends.len()).unwrap_or_default();
    let marker = 0xC0 | (SIZE_BYTES - 1) << 3 | frames.saturating_sub(1) & 7;
    out.put_u8(marker);
    let mut start = 0_usize;
    for end in ends {
        out.put_u32_le(u32::try_from(end.saturating_sub(start)).unwrap_or_default());
        start = *end;
    }
    out.put_u8(marker);
}
