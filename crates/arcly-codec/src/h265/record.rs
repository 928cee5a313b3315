use arcly_core::codec::{HevcConfig, ParameterSets};
use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_PPS, MAX_SPS, MAX_VPS, NalHeader, nal_type};
use crate::nal::{LengthSize, check_parameter_set};

/// SEI messages that a record carries.
const MAX_SEI: usize = 16;
/// Where `lengthSizeMinusOne` is.
const LENGTH_SIZE_OFFSET: usize = 21;

/// Decodes an HEVCDecoderConfigurationRecord. The record is a closed unit: what is cut short is malformed.
pub fn decode_config(record: &Bytes) -> DecodeResult<HevcConfig> {
    let mut r = Reader::new(record);
    decode(&mut r, record).map_err(|error| error.in_closed_unit(r.position()))
}

/// How the access units that belong to a record are framed.
pub fn record_length_size(record: &[u8]) -> DecodeResult<LengthSize> {
    let mut r = Reader::new(record);
    let byte = r.skip(LENGTH_SIZE_OFFSET, "hvcC").and_then(|()| r.u8("lengthSizeMinusOne"));
    LengthSize::from_minus_one(byte.map_err(|error| error.in_closed_unit(r.position()))?)
}

fn decode(r: &mut Reader<'_>, record: &Bytes) -> DecodeResult<HevcConfig> {
    if r.u8("configurationVersion")? > 1 {
        return Err(r.malformed("configurationVersion"));
    }
    let profile = r.u8("general_profile_idc")?;
    let mut config = HevcConfig {
        profile_space: profile >> 6,
        tier: profile & 0x20 != 0,
        profile: profile & 0x1F,
        compatibility: r.u32("general_profile_compatibility_flags")?,
        constraints: r.array("general_constraint_indicator_flags")?,
        level: r.u8("general_level_idc")?,
        min_spatial_segmentation: r.u16("min_spatial_segmentation_idc")? & 0x0FFF,
        parallelism: r.u8("parallelismType")? & 3,
        chroma_format: r.u8("chroma_format_idc")? & 3,
        bit_depth_luma: (r.u8("bit_depth_luma_minus8")? & 7).saturating_add(8),
        bit_depth_chroma: (r.u8("bit_depth_chroma_minus8")? & 7).saturating_add(8),
        avg_frame_rate: r.u16("avgFrameRate")?,
        ..HevcConfig::default()
    };
    let flags = r.u8("lengthSizeMinusOne")?;
    LengthSize::from_minus_one(flags)?;
    config.constant_frame_rate = flags >> 6;
    config.temporal_layers = (flags >> 3) & 7;
    config.temporal_id_nested = flags & 4 != 0;
    for _ in 0..r.u8("numOfArrays")? {
        array(r, record, &mut config)?;
    }
    // In the order that they are written again: prefix before suffix.
    config.sei.sort_by_key(|unit| NalHeader::of(unit).map(|header| header.kind));
    Ok(config)
}

fn array(r: &mut Reader<'_>, record: &Bytes, config: &mut HevcConfig) -> DecodeResult<()> {
    let kind = r.u8("NAL_unit_type")? & 0x3F;
    let mut target = match kind {
        nal_type::VPS => Some((&mut config.vps, MAX_VPS)),
        nal_type::SPS => Some((&mut config.sps, MAX_SPS)),
        nal_type::PPS => Some((&mut config.pps, MAX_PPS)),
        nal_type::PREFIX_SEI | nal_type::SUFFIX_SEI => Some((&mut config.sei, MAX_SEI)),
        _ => None,
    };
    for _ in 0..r.u16("numNalus")? {
        let len = usize::from(r.u16("nalUnitLength")?);
        let unit = r.bytes(len, "nalUnit")?;
        // A unit in the array of another kind would be taken for that kind by whoever reads the record next.
        let belongs = NalHeader::of(unit).is_some_and(|header| header.kind == kind);
        if let (Some((sets, max)), true) = (&mut target, belongs) {
            check_parameter_set(unit, sets.len(), *max)?;
            sets.push(record.slice_ref(unit));
        }
    }
    Ok(())
}

/// Encodes an HEVCDecoderConfigurationRecord with 4-byte lengths. The arrays of parameter sets are marked
/// complete, because canonical access units carry none.
#[must_use]
pub fn encode_config(config: &HevcConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(1);
    out.put_u8(config.profile_space << 6 | u8::from(config.tier) << 5 | (config.profile & 0x1F));
    out.put_u32(config.compatibility);
    out.put_slice(&config.constraints);
    out.put_u8(config.level);
    out.put_u16(0xF000 | config.min_spatial_segmentation);
    out.put_u8(0xFC | config.parallelism);
    out.put_u8(0xFC | config.chroma_format);
    out.put_u8(0xF8 | config.bit_depth_luma.saturating_sub(8));
    out.put_u8(0xF8 | config.bit_depth_chroma.saturating_sub(8));
    out.put_u16(config.avg_frame_rate);
    let nested = u8::from(config.temporal_id_nested) << 2;
    out.put_u8(config.constant_frame_rate << 6 | (config.temporal_layers & 7) << 3 | nested | 3);
    let sei_of = |wanted: u8| -> ParameterSets {
        let of_kind = |unit: &&Bytes| NalHeader::of(unit).is_some_and(|header| header.kind == wanted);
        config.sei.iter().filter(of_kind).cloned().collect()
    };
    let (prefix, suffix) = (sei_of(nal_type::PREFIX_SEI), sei_of(nal_type::SUFFIX_SEI));
    const COMPLETE: u8 = 0x80;
    let arrays = [
        (COMPLETE | nal_type::VPS, &config.vps),
        (COMPLETE | nal_type::SPS, &config.sps),
        (COMPLETE | nal_type::PPS, &config.pps),
        (nal_type::PREFIX_SEI, &prefix),
        (nal_type::SUFFIX_SEI, &suffix),
    ];
    let present = || arrays.iter().filter(|(_, sets)| !sets.is_empty());
    out.put_u8(u8::try_from(present().count()).unwrap_or(0));
    for (kind, sets) in present() {
        put_array(*kind, sets, &mut out);
    }
    out.freeze()
}

fn put_array(kind: u8, sets: &ParameterSets, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u16(u16::try_from(sets.len()).unwrap_or(u16::MAX));
    for set in sets {
        // Bounded by MAX_PARAMETER_SET_BYTES wherever sets come from.
        let len = u16::try_from(set.len()).unwrap_or(u16::MAX);
        out.put_u16(len);
        out.put_slice(set.get(..usize::from(len)).unwrap_or_default());
    }
}
