use arcly_core::codec::{ParameterSets, VvcConfig};
use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_DCI, MAX_PPS, MAX_SPS, MAX_VPS, nal_type};
use crate::nal::{LengthSize, check_parameter_set};

/// Reserved ones, 4-byte lengths, no profile, tier and level: the start of a record made from parameter sets.
const BARE: u8 = 0xFE;

/// Decodes a VvcDecoderConfigurationRecord. The record is a closed unit: what is cut short is malformed.
pub fn decode_config(record: &Bytes) -> DecodeResult<VvcConfig> {
    let mut r = Reader::new(record);
    decode(&mut r, record).map_err(|error| error.in_closed_unit(r.position()))
}

/// How the access units that belong to a record are framed.
pub fn record_length_size(record: &[u8]) -> DecodeResult<LengthSize> {
    let first = Reader::new(record).u8("vvcC").map_err(|error| error.in_closed_unit(0))?;
    LengthSize::from_minus_one(first >> 1)
}

fn decode(r: &mut Reader<'_>, record: &Bytes) -> DecodeResult<VvcConfig> {
    let first = r.u8("LengthSizeMinusOne")?;
    LengthSize::from_minus_one(first >> 1)?;
    let mut config = VvcConfig::default();
    if first & 1 == 1 {
        profile_tier_level(r, &mut config)?;
    }
    config.record = record.slice(..r.position());
    for _ in 0..r.u8("num_of_arrays")? {
        array(r, record, &mut config)?;
    }
    Ok(config)
}

/// `VvcPTLRecord` and the picture fields around it.
fn profile_tier_level(r: &mut Reader<'_>, config: &mut VvcConfig) -> DecodeResult<()> {
    let sub_layers = (r.u16("ols_idx")? >> 4) & 7;
    r.skip(1, "bit_depth_minus8")?;
    let constraint_bytes = usize::from(r.u8("num_bytes_constraint_info")? & 0x3F);
    let profile = r.u8("general_profile_idc")?;
    config.profile = profile >> 1;
    config.tier = profile & 1 == 1;
    config.level = r.u8("general_level_idc")?;
    r.skip(constraint_bytes, "general_constraint_info")?;
    if sub_layers > 1 {
        // One flag per sub-layer but the highest, from the top of the byte.
        let flags = u32::from(r.u8("ptl_sublayer_level_present_flag")?);
        let present = flags >> 9_u32.saturating_sub(u32::from(sub_layers));
        r.skip(usize::try_from(present.count_ones()).unwrap_or(0), "sublayer_level_idc")?;
    }
    let sub_profiles = usize::from(r.u8("general_num_sub_profiles")?);
    r.skip(sub_profiles.saturating_mul(4), "general_sub_profile_idc")?;
    r.skip(6, "max_picture_width")
}

fn array(r: &mut Reader<'_>, record: &Bytes, config: &mut VvcConfig) -> DecodeResult<()> {
    let kind = r.u8("NAL_unit_type")? & 0x1F;
    let mut target = match kind {
        nal_type::DCI => Some((&mut config.dci, MAX_DCI)),
        nal_type::VPS => Some((&mut config.vps, MAX_VPS)),
        nal_type::SPS => Some((&mut config.sps, MAX_SPS)),
        nal_type::PPS => Some((&mut config.pps, MAX_PPS)),
        _ => None,
    };
    let count = if is_single(kind) { 1 } else { r.u16("num_nalus")? };
    for _ in 0..count {
        let len = usize::from(r.u16("nal_unit_length")?);
        let unit = r.bytes(len, "nal_unit")?;
        if let (Some((sets, max)), false) = (&mut target, unit.is_empty()) {
            check_parameter_set(unit, sets.len(), *max)?;
            sets.push(record.slice_ref(unit));
        }
    }
    Ok(())
}

/// Types of which there is one, without a count.
const fn is_single(kind: u8) -> bool {
    matches!(kind, nal_type::DCI | nal_type::OPI)
}

/// Encodes a VvcDecoderConfigurationRecord with 4-byte lengths: the front as it was received, then the arrays.
#[must_use]
pub fn encode_config(config: &VvcConfig) -> Bytes {
    const LENGTH_SIZE_4: u8 = 3 << 1;
    let mut out = BytesMut::with_capacity(256);
    match config.record.split_first() {
        Some((first, rest)) => {
            out.put_u8(first | LENGTH_SIZE_4);
            out.put_slice(rest);
        }
        None => out.put_u8(BARE),
    }
    let arrays = [
        (nal_type::DCI, &config.dci),
        (nal_type::VPS, &config.vps),
        (nal_type::SPS, &config.sps),
        (nal_type::PPS, &config.pps),
    ];
    let present = || arrays.iter().filter(|(_, sets)| !sets.is_empty());
    out.put_u8(u8::try_from(present().count()).unwrap_or(0));
    for (kind, sets) in present() {
        put_array(*kind, sets, &mut out);
    }
    out.freeze()
}

fn put_array(kind: u8, sets: &ParameterSets, out: &mut BytesMut) {
    const COMPLETE: u8 = 0x80;
    out.put_u8(COMPLETE | kind);
    let count = if is_single(kind) { 1 } else { u16::try_from(sets.len()).unwrap_or(u16::MAX) };
    if !is_single(kind) {
        out.put_u16(count);
    }
    for set in sets.iter().take(usize::from(count)) {
        // Bounded by MAX_PARAMETER_SET_BYTES wherever sets come from.
        let len = u16::try_from(set.len()).unwrap_or(u16::MAX);
        out.put_u16(len);
        out.put_slice(set.get(..usize::from(len)).unwrap_or_default());
    }
}
