//! H.264 (RFC 6184), packetization modes 0 and 1.

use arcly_codec::h264::{nal_ref_idc, nal_type, nal_unit_type};
use arcly_core::CodecConfig;
use arcly_core::wire::{DecodeError, DecodeResult};
use smallvec::{SmallVec, smallvec};

use super::nal::{Content, Header, NalFormat};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const START: u8 = 0x80;
const END: u8 = 0x40;
/// `forbidden_zero_bit` and `nal_ref_idc`.
const NOT_TYPE: u8 = 0xE0;
/// First of the types that may only stand before the first slice of a picture besides delimiters, parameter sets and SEI.
const PREFIX: u8 = 14;

#[derive(Debug)]
pub(super) struct H264;

impl NalFormat for H264 {
    fn content(payload: &[u8]) -> DecodeResult<Content<'_>> {
        let malformed = |what| DecodeError::Malformed { what, offset: 0 };
        match payload {
            [] => Err(malformed("h264 payload")),
            [0, 0, 1, _, ..] | [0, 0, 0, 1, _, ..] => Ok(Content::Single(payload)),
            [first, rest @ ..] => match nal_unit_type(*first) {
                1..STAP_A => Ok(Content::Single(payload)),
                STAP_A if !rest.is_empty() => Ok(Content::Aggregate(rest)),
                FU_A => {
                    let (fu, data) = rest.split_first().ok_or_else(|| malformed("fu header"))?;
                    let kind = nal_unit_type(*fu);
                    if !(1..STAP_A).contains(&kind) {
                        return Err(malformed("fu type"));
                    }
                    let header = smallvec![first & NOT_TYPE | kind];
                    Ok(Content::Fragment { start: fu & START != 0, end: fu & END != 0, header, data })
                }
                _ => Err(malformed("h264 packet type")),
            },
        }
    }

    fn starts_picture(unit: &[u8]) -> bool {
        match unit {
            [first, rest @ ..] => match nal_unit_type(*first) {
                // first_mb_in_slice is 0: one bit, set.
                nal_type::SLICE | nal_type::PARTITION_A | nal_type::IDR => {
                    rest.first().is_some_and(|b| b & 0x80 != 0)
                }
                nal_type::SEI..=nal_type::AUD | PREFIX..=18 => true,
                _ => false,
            },
            [] => false,
        }
    }

    fn continues_picture(unit: &[u8]) -> bool {
        matches!(unit, [first, second, ..]
            if matches!(nal_unit_type(*first), nal_type::SLICE | nal_type::IDR) && second & 0x80 == 0)
    }

    fn may_aggregate(unit: &[u8]) -> bool {
        unit.len() <= usize::from(u16::MAX)
    }

    fn aggregate_header(units: &[&[u8]]) -> Header {
        // The highest nal_ref_idc, and the forbidden bit if any has it (§5.7.1).
        let first = |unit: &&[u8]| unit.first().copied().unwrap_or(0);
        let idc = units.iter().map(|unit| nal_ref_idc(first(unit))).max().unwrap_or(0);
        let forbidden = units.iter().fold(0, |bits, unit| bits | first(unit) & 0x80);
        smallvec![forbidden | idc << 5 | STAP_A]
    }

    fn fragment_header(unit: &[u8], start: bool, end: bool) -> (SmallVec<[u8; 3]>, usize) {
        let first = unit.first().copied().unwrap_or(0);
        let flags = if start { START } else { 0 } | if end { END } else { 0 };
        (smallvec![first & NOT_TYPE | FU_A, flags | nal_unit_type(first)], 1)
    }

    fn parameter_sets(config: &CodecConfig) -> SmallVec<[&[u8]; 4]> {
        let CodecConfig::Avc(config) = config else { return SmallVec::new() };
        [&config.sps, &config.sps_ext, &config.pps].into_iter().flatten().map(|set| &set[..]).collect()
    }
}
