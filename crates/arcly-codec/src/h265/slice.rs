use arcly_core::wire::DecodeResult;

use super::{NalHeader, Pps, Sps, nal_type};
use crate::bits::BitReader;

/// The header of a picture's first slice segment, as far as picture order needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHeader {
    /// The NAL unit's header.
    pub nal: NalHeader,
    /// `slice_type`: 0 B, 1 P, 2 I.
    pub slice_type: u8,
    /// `slice_pic_order_cnt_lsb`; zero in IDR pictures.
    pub pic_order_cnt_lsb: u32,
}

/// The start of a slice segment header: what comes before anything that needs a parameter set.
#[derive(Clone, Copy, Debug)]
pub(super) struct SliceStart<'a> {
    pub(super) first: bool,
    pub(super) pps_id: u8,
    rest: BitReader<'a>,
    nal: NalHeader,
}

impl<'a> SliceStart<'a> {
    pub(super) fn decode(unit: &'a [u8]) -> DecodeResult<Self> {
        let mut rest = BitReader::rbsp(unit);
        rest.skip(16, "nal_unit_header")?;
        let nal = NalHeader::of(unit).ok_or_else(|| rest.malformed("nal_unit_header"))?;
        let first = rest.flag("first_slice_segment_in_pic_flag")?;
        if nal.is_irap() {
            rest.skip(1, "no_output_of_prior_pics_flag")?;
        }
        let pps_id = rest.ue_small(63, "slice_pic_parameter_set_id")?;
        Ok(Self { first, pps_id, rest, nal })
    }
}

impl SliceHeader {
    /// Decodes the header of a picture's first slice segment with the parameter sets it refers to.
    pub fn decode(unit: &[u8], sps: &Sps, pps: &Pps) -> DecodeResult<Self> {
        let start = SliceStart::decode(unit)?;
        if !start.first {
            return Err(start.rest.malformed("first_slice_segment_in_pic_flag"));
        }
        Self::after(&start, sps, pps)
    }

    pub(super) fn after(start: &SliceStart<'_>, sps: &Sps, pps: &Pps) -> DecodeResult<Self> {
        let mut r = start.rest;
        r.skip(u64::from(pps.extra_slice_header_bits), "slice_reserved_flag")?;
        let slice_type = r.ue_small(2, "slice_type")?;
        if pps.output_flag_present {
            r.skip(1, "pic_output_flag")?;
        }
        if sps.separate_planes {
            r.skip(2, "colour_plane_id")?;
        }
        let mut pic_order_cnt_lsb = 0;
        if !start.nal.is_idr() {
            pic_order_cnt_lsb =
                r.bits(u32::from(sps.log2_max_pic_order_cnt_lsb), "slice_pic_order_cnt_lsb")?;
        }
        Ok(Self { nal: start.nal, slice_type, pic_order_cnt_lsb })
    }
}

/// Derives picture order counts (8.3.1) from slice headers in decoding order.
#[derive(Clone, Copy, Debug, Default)]
pub struct PictureOrder {
    prev_msb: i64,
    prev_lsb: i64,
    started: bool,
}

impl PictureOrder {
    /// The picture order count of the picture that `slice` begins.
    pub fn next(&mut self, slice: &SliceHeader, sps: &Sps) -> i32 {
        let max = 1_i64 << sps.log2_max_pic_order_cnt_lsb.min(16);
        let lsb = i64::from(slice.pic_order_cnt_lsb);
        let bla = (nal_type::BLA_W_LP..nal_type::IDR_W_RADL).contains(&slice.nal.kind);
        let back = self.prev_lsb.saturating_sub(lsb);
        let msb = if slice.nal.is_idr() || bla || !self.started {
            0
        } else if back >= max / 2 {
            self.prev_msb.saturating_add(max)
        } else if back < (max / 2).saturating_neg() {
            self.prev_msb.saturating_sub(max)
        } else {
            self.prev_msb
        };
        self.started = true;
        let nal = slice.nal;
        let leading = (nal_type::RADL_N..=nal_type::RASL_R).contains(&nal.kind);
        if nal.temporal_id == 0 && !leading && !nal.is_sub_layer_non_reference() {
            (self.prev_msb, self.prev_lsb) = (msb, lsb);
        }
        let order = msb.saturating_add(lsb);
        i32::try_from(order).unwrap_or(if order < 0 { i32::MIN } else { i32::MAX })
    }
}
