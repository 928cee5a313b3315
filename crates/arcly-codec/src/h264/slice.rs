use arcly_core::wire::DecodeResult;

use super::{PicOrderCntType, Sps, nal_ref_idc, nal_type, nal_unit_type};
use crate::bits::BitReader;

/// A picture parameter set, as far as slice headers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pps {
    /// `pic_parameter_set_id`.
    pub id: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub sps_id: u8,
    /// `bottom_field_pic_order_in_frame_present_flag`.
    pub bottom_field_order: bool,
}

impl Pps {
    /// Decodes a NAL unit, header byte included.
    pub fn decode(unit: &[u8]) -> DecodeResult<Self> {
        let mut r = BitReader::rbsp(unit);
        r.skip(8, "nal_unit_header")?;
        let id = r.ue_small(u8::MAX, "pic_parameter_set_id")?;
        let sps_id = r.ue_small(31, "seq_parameter_set_id")?;
        r.skip(1, "entropy_coding_mode_flag")?;
        Ok(Self { id, sps_id, bottom_field_order: r.flag("bottom_field_pic_order_in_frame_present_flag")? })
    }

    /// The id of a PPS, without decoding the rest.
    pub(super) fn id_of(unit: &[u8]) -> DecodeResult<u8> {
        let mut r = BitReader::rbsp(unit);
        r.skip(8, "nal_unit_header")?;
        r.ue_small(u8::MAX, "pic_parameter_set_id")
    }
}

/// The start of a slice header: what comes before anything that needs a parameter set.
#[derive(Clone, Copy, Debug)]
pub(super) struct SliceStart<'a> {
    /// `slice_type` modulo 5: 0 P, 1 B, 2 I, 3 SP, 4 SI.
    pub(super) slice_type: u8,
    pub(super) pps_id: u8,
    rest: BitReader<'a>,
    header: u8,
}

impl<'a> SliceStart<'a> {
    pub(super) fn decode(unit: &'a [u8]) -> DecodeResult<Self> {
        let mut rest = BitReader::rbsp(unit);
        let header = rest.small(8, "nal_unit_header")?;
        rest.ue("first_mb_in_slice")?;
        let slice_type = rest.ue_small(9, "slice_type")? % 5;
        let pps_id = rest.ue_small(u8::MAX, "pic_parameter_set_id")?;
        Ok(Self { slice_type, pps_id, rest, header })
    }

    pub(super) const fn is_intra(&self) -> bool {
        matches!(self.slice_type, 2 | 4)
    }
}

/// A slice header as far as picture order needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHeader {
    /// It belongs to an IDR picture.
    pub idr: bool,
    /// Other pictures refer to this one.
    pub reference: bool,
    /// `slice_type` modulo 5: 0 P, 1 B, 2 I, 3 SP, 4 SI.
    pub slice_type: u8,
    /// `frame_num`.
    pub frame_num: u32,
    /// `field_pic_flag`.
    pub field: bool,
    /// `bottom_field_flag`.
    pub bottom: bool,
    /// `pic_order_cnt_lsb`.
    pub pic_order_cnt_lsb: u32,
    /// `delta_pic_order_cnt_bottom`.
    pub delta_bottom: i32,
    /// `delta_pic_order_cnt`.
    pub delta: [i32; 2],
}

impl SliceHeader {
    /// Decodes the header of a slice NAL unit with the parameter sets it refers to.
    pub fn decode(unit: &[u8], sps: &Sps, pps: &Pps) -> DecodeResult<Self> {
        Self::after(&SliceStart::decode(unit)?, sps, pps)
    }

    pub(super) fn after(start: &SliceStart<'_>, sps: &Sps, pps: &Pps) -> DecodeResult<Self> {
        let mut r = start.rest;
        let mut slice = Self {
            idr: nal_unit_type(start.header) == nal_type::IDR,
            reference: nal_ref_idc(start.header) != 0,
            slice_type: start.slice_type,
            frame_num: 0,
            field: false,
            bottom: false,
            pic_order_cnt_lsb: 0,
            delta_bottom: 0,
            delta: [0; 2],
        };
        if sps.separate_planes {
            r.skip(2, "colour_plane_id")?;
        }
        slice.frame_num = r.bits(u32::from(sps.log2_max_frame_num), "frame_num")?;
        if !sps.frame_mbs_only {
            slice.field = r.flag("field_pic_flag")?;
            slice.bottom = slice.field && r.flag("bottom_field_flag")?;
        }
        if slice.idr {
            r.ue_max(65_535, "idr_pic_id")?;
        }
        slice.order(&mut r, sps, pps)?;
        Ok(slice)
    }

    fn order(&mut self, r: &mut BitReader<'_>, sps: &Sps, pps: &Pps) -> DecodeResult<()> {
        let both = pps.bottom_field_order && !self.field;
        match sps.pic_order {
            PicOrderCntType::Lsb { log2_max } => {
                self.pic_order_cnt_lsb = r.bits(u32::from(log2_max), "pic_order_cnt_lsb")?;
                if both {
                    self.delta_bottom = r.se("delta_pic_order_cnt_bottom")?;
                }
            }
            PicOrderCntType::Cycle { always_zero: false, .. } => {
                let first = r.se("delta_pic_order_cnt[0]")?;
                let second = if both { r.se("delta_pic_order_cnt[1]")? } else { 0 };
                self.delta = [first, second];
            }
            PicOrderCntType::Cycle { .. } | PicOrderCntType::DecodingOrder => {}
        }
        Ok(())
    }
}

/// Derives picture order counts (8.2.1) from slice headers in decoding order.
///
/// Numbers are wide and saturating, so that hostile headers give a wrong order and nothing worse.
#[derive(Clone, Copy, Debug, Default)]
pub struct PictureOrder {
    prev_msb: i64,
    prev_lsb: i64,
    prev_frame_num: u32,
    frame_num_offset: i64,
}

impl PictureOrder {
    /// The picture order count of the picture that `slice` begins.
    pub fn next(&mut self, slice: &SliceHeader, sps: &Sps) -> i32 {
        let order = match &sps.pic_order {
            PicOrderCntType::Lsb { log2_max } => self.type_0(slice, *log2_max),
            PicOrderCntType::Cycle { offset_for_non_ref, offset_top_to_bottom, offsets, .. } => {
                let frame = self.frame_number(slice, sps);
                let expected = expected_delta(frame, offsets, slice.reference, *offset_for_non_ref);
                let [first, second] = slice.delta.map(i64::from);
                let to_bottom = i64::from(*offset_top_to_bottom);
                let top = expected.saturating_add(first);
                let bottom = top.saturating_add(to_bottom).saturating_add(second);
                if slice.field {
                    if slice.bottom { top.saturating_add(to_bottom) } else { top }
                } else {
                    top.min(bottom)
                }
            }
            PicOrderCntType::DecodingOrder => {
                let frame = self.frame_number(slice, sps).saturating_mul(2);
                frame.saturating_sub(i64::from(!slice.reference))
            }
        };
        i32::try_from(order).unwrap_or(if order < 0 { i32::MIN } else { i32::MAX })
    }

    /// Type 0 (8.2.1.1).
    fn type_0(&mut self, slice: &SliceHeader, log2_max: u8) -> i64 {
        if slice.idr {
            (self.prev_msb, self.prev_lsb) = (0, 0);
        }
        let max = 1_i64 << log2_max.min(16);
        let lsb = i64::from(slice.pic_order_cnt_lsb);
        let back = self.prev_lsb.saturating_sub(lsb);
        let msb = if back >= max / 2 {
            self.prev_msb.saturating_add(max)
        } else if back < (max / 2).saturating_neg() {
            self.prev_msb.saturating_sub(max)
        } else {
            self.prev_msb
        };
        if slice.reference {
            (self.prev_msb, self.prev_lsb) = (msb, lsb);
        }
        let order = msb.saturating_add(lsb);
        if slice.field { order } else { order.saturating_add(i64::from(slice.delta_bottom).min(0)) }
    }

    /// `FrameNumOffset + frame_num` (8.2.1.2).
    fn frame_number(&mut self, slice: &SliceHeader, sps: &Sps) -> i64 {
        if slice.idr {
            self.frame_num_offset = 0;
        } else if self.prev_frame_num > slice.frame_num {
            let max = 1_i64 << sps.log2_max_frame_num.min(16);
            self.frame_num_offset = self.frame_num_offset.saturating_add(max);
        }
        self.prev_frame_num = slice.frame_num;
        self.frame_num_offset.saturating_add(i64::from(slice.frame_num))
    }
}

/// `expectedPicOrderCnt` of type 1 (8.2.1.2), in one step instead of a loop over all cycles.
fn expected_delta(frame: i64, offsets: &[i32], reference: bool, for_non_ref: i32) -> i64 {
    let cycle = i64::try_from(offsets.len()).unwrap_or(i64::MAX);
    let number = if cycle == 0 { 0 } else { frame }.saturating_sub(i64::from(!reference));
    let mut expected = 0_i64;
    if number > 0 {
        let done = number.saturating_sub(1).checked_div(cycle).unwrap_or(0);
        let within = number.saturating_sub(1).checked_rem(cycle).unwrap_or(0);
        let sum =
            |part: &[i32]| part.iter().fold(0_i64, |sum, &offset| sum.saturating_add(i64::from(offset)));
        let within = usize::try_from(within).unwrap_or(0);
        let partial = sum(offsets.get(..=within).unwrap_or(offsets));
        expected = done.saturating_mul(sum(offsets)).saturating_add(partial);
    }
    if reference { expected } else { expected.saturating_add(i64::from(for_non_ref)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.2.1.2: a cycle of two frames that are 4 and 2 apart, non-reference pictures one before.
    #[test]
    fn expected_picture_order_of_type_1() {
        let offsets = [4, 2];
        let references: Vec<_> = (0..6).map(|n| expected_delta(n, &offsets, true, -1)).collect();
        assert_eq!(references, [0, 4, 6, 10, 12, 16]);
        assert_eq!(expected_delta(3, &offsets, false, -1), 5);
        assert_eq!(expected_delta(3, &[], true, -1), 0);
    }
}
