//! H.265 (RFC 7798), without decoding order numbers.

use arcly_codec::h265::{NalHeader, nal_type};
use arcly_core::CodecConfig;
use arcly_core::wire::{DecodeError, DecodeResult};
use smallvec::{SmallVec, smallvec};

use super::nal::{Content, Header, NalFormat};

const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
const START: u8 = 0x80;
const END: u8 = 0x40;
/// `forbidden_zero_bit` and the upper bit of `nuh_layer_id`.
const NOT_TYPE: u8 = 0x81;

#[derive(Debug)]
pub(super) struct H265;

impl NalFormat for H265 {
    fn content(payload: &[u8]) -> DecodeResult<Content<'_>> {
        let malformed = |what| DecodeError::Malformed { what, offset: 0 };
        if matches!(payload, [0, 0, 1, _, ..] | [0, 0, 0, 1, _, ..]) {
            return Ok(Content::Single(payload));
        }
        let [first, second, rest @ ..] = payload else { return Err(malformed("h265 payload")) };
        match first >> 1 & 0x3F {
            0..AGGREGATION if !rest.is_empty() => Ok(Content::Single(payload)),
            AGGREGATION if !rest.is_empty() => Ok(Content::Aggregate(rest)),
            FRAGMENTATION => {
                let (fu, data) = rest.split_first().ok_or_else(|| malformed("fu header"))?;
                let kind = fu & 0x3F;
                if kind >= AGGREGATION {
                    return Err(malformed("fu type"));
                }
                let header = smallvec![first & NOT_TYPE | kind << 1, *second];
                Ok(Content::Fragment { start: fu & START != 0, end: fu & END != 0, header, data })
            }
            _ => Err(malformed("h265 packet type")),
        }
    }

    fn starts_picture(unit: &[u8]) -> bool {
        let Some(header) = NalHeader::of(unit) else { return false };
        match header.kind {
            // first_slice_segment_in_pic_flag.
            0..=nal_type::RSV_VCL31 => unit.get(2).is_some_and(|byte| byte & 0x80 != 0),
            nal_type::VPS..=nal_type::AUD | nal_type::PREFIX_SEI => true,
            _ => false,
        }
    }

    fn continues_picture(unit: &[u8]) -> bool {
        NalHeader::of(unit).is_some_and(|header| header.kind <= nal_type::RSV_VCL31)
            && unit.get(2).is_some_and(|byte| byte & 0x80 == 0)
    }

    fn may_aggregate(unit: &[u8]) -> bool {
        unit.len() <= usize::from(u16::MAX)
    }

    fn aggregate_header(units: &[&[u8]]) -> Header {
        // The lowest layer and temporal identifier (§4.4.2).
        let headers = || units.iter().filter_map(|unit| NalHeader::of(unit));
        let layer = headers().map(|header| header.layer).min().unwrap_or(0);
        let temporal = headers().map(|header| header.temporal_id).min().unwrap_or(0);
        smallvec![AGGREGATION << 1 | layer >> 5, layer << 3 | temporal.saturating_add(1)]
    }

    fn fragment_header(unit: &[u8], start: bool, end: bool) -> (SmallVec<[u8; 3]>, usize) {
        let (first, second) = match unit {
            [first, second, ..] => (*first, *second),
            _ => (0, 0),
        };
        let flags = if start { START } else { 0 } | if end { END } else { 0 };
        (smallvec![first & NOT_TYPE | FRAGMENTATION << 1, second, flags | first >> 1 & 0x3F], 2)
    }

    fn parameter_sets(config: &CodecConfig) -> SmallVec<[&[u8]; 4]> {
        let CodecConfig::Hevc(config) = config else { return SmallVec::new() };
        [&config.vps, &config.sps, &config.pps].into_iter().flatten().map(|set| &set[..]).collect()
    }
}
