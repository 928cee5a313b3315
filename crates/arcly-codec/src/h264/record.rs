use arcly_core::codec::{AvcConfig, ChromaFormat, ParameterSets};
use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_PPS, MAX_SPS, MAX_SPS_EXT, Sps};
use crate::nal::{LengthSize, check_parameter_set};

/// Decodes an AVCDecoderConfigurationRecord. The record is a closed unit: what is cut short is malformed.
pub fn decode_config(record: &Bytes) -> DecodeResult<AvcConfig> {
    let mut r = Reader::new(record);
    decode(&mut r, record).map_err(|error| error.in_closed_unit(r.position()))
}

/// How the access units that belong to a record are framed.
pub fn record_length_size(record: &[u8]) -> DecodeResult<LengthSize> {
    let byte = Reader::new(record).array::<5>("avcC").map_err(|error| error.in_closed_unit(0))?;
    LengthSize::from_minus_one(byte[4])
}

fn decode(r: &mut Reader<'_>, record: &Bytes) -> DecodeResult<AvcConfig> {
    if r.u8("configurationVersion")? != 1 {
        return Err(r.malformed("configurationVersion"));
    }
    let mut config = AvcConfig {
        profile: r.u8("AVCProfileIndication")?,
        compatibility: r.u8("profile_compatibility")?,
        level: r.u8("AVCLevelIndication")?,
        ..AvcConfig::default()
    };
    LengthSize::from_minus_one(r.u8("lengthSizeMinusOne")?)?;
    let count = r.u8("numOfSequenceParameterSets")? & 0x1F;
    config.sps = parameter_sets(r, record, count, MAX_SPS)?;
    let count = r.u8("numOfPictureParameterSets")?;
    config.pps = parameter_sets(r, record, count, MAX_PPS)?;
    if has_extension(config.profile) && !r.is_empty() {
        // chroma_format, bit_depth_luma_minus8, bit_depth_chroma_minus8: the same is in the SPS.
        r.skip(3, "chroma_format")?;
        let count = r.u8("numOfSequenceParameterSetExt")?;
        config.sps_ext = parameter_sets(r, record, count, MAX_SPS_EXT)?;
    }
    Ok(config)
}

/// Profiles whose record ends with the sample format (66, 77 and 88 are always 4:2:0 with 8 bits).
const fn has_extension(profile: u8) -> bool {
    !matches!(profile, 66 | 77 | 88)
}

fn parameter_sets(r: &mut Reader<'_>, record: &Bytes, count: u8, max: usize) -> DecodeResult<ParameterSets> {
    let mut sets = ParameterSets::new();
    for _ in 0..count {
        let len = usize::from(r.u16("parameterSetLength")?);
        let set = r.bytes(len, "parameterSetNALUnit")?;
        if !set.is_empty() {
            check_parameter_set(set, sets.len(), max)?;
            sets.push(record.slice_ref(set));
        }
    }
    Ok(sets)
}

/// Encodes an AVCDecoderConfigurationRecord with 4-byte lengths.
#[must_use]
pub fn encode_config(config: &AvcConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(&[1, config.profile, config.compatibility, config.level, 0xFF]);
    put_parameter_sets(&config.sps, 31, 0xE0, &mut out);
    put_parameter_sets(&config.pps, u8::MAX, 0, &mut out);
    if has_extension(config.profile) {
        let sps = config.sps.first().and_then(|sps| Sps::decode(sps).ok());
        let (chroma, luma_bits, chroma_bits) = sps.map_or((ChromaFormat::Yuv420, 8, 8), |sps| {
            (sps.chroma, sps.bit_depth_luma, sps.bit_depth_chroma)
        });
        out.put_u8(0xFC | chroma as u8);
        out.put_u8(0xF8 | luma_bits.saturating_sub(8));
        out.put_u8(0xF8 | chroma_bits.saturating_sub(8));
        put_parameter_sets(&config.sps_ext, u8::MAX, 0, &mut out);
    }
    out.freeze()
}

fn put_parameter_sets(sets: &ParameterSets, max: u8, reserved: u8, out: &mut BytesMut) {
    let count = u8::try_from(sets.len()).unwrap_or(max).min(max);
    out.put_u8(reserved | count);
    for set in sets.iter().take(usize::from(count)) {
        // Bounded by MAX_PARAMETER_SET_BYTES wherever sets come from.
        let len = u16::try_from(set.len()).unwrap_or(u16::MAX);
        out.put_u16(len);
        out.put_slice(set.get(..usize::from(len)).unwrap_or_default());
    }
}
