//! One track on its way out: its identifier, and what stands before its frames.

use arcly_codec::aac::AdtsHeader;
use arcly_codec::nal::LengthSize;
use arcly_codec::nal::length_prefixed;
use arcly_core::codec::ParameterSets;
use arcly_core::{CodecConfig, CodecId, MediaFrame, Track, TrackId, TrackKind};

use crate::ts::kind::{self, stream_type};
use crate::ts::pes::stream_id;
use crate::ts::psi::StreamInfo;

/// The packet identifier of track 0; the others follow by number.
const FIRST_PID: u16 = 0x100;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What stands before a frame.
#[derive(Debug)]
enum Prefix {
    None,
    /// A delimiter, and before keyframes the parameter sets.
    NalUnits {
        delimiter: Vec<u8>,
        key_delimiter: Vec<u8>,
        parameter_sets: Vec<u8>,
    },
    /// An ADTS header without its length.
    Adts([u8; 7]),
    /// An Opus control header.
    Opus,
}

/// A track that can be carried.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: TrackId,
    pub(super) kind: TrackKind,
    pub(super) info: StreamInfo,
    pub(super) stream_id: u8,
    /// `continuity_counter` of its last packet.
    pub(super) continuity: u8,
    prefix: Prefix,
}

impl Stream {
    /// `None` when a transport stream cannot carry the track.
    pub(super) fn new(track: &Track) -> Option<Self> {
        let pid = FIRST_PID.saturating_add(u16::try_from(track.id.index()).ok()?);
        let info = kind::stream_info(track, pid)?;
        let prefix = match (&track.config, track.codec) {
            (CodecConfig::Avc(config), _) => {
                let sets = parameter_sets(&[&config.sps, &config.sps_ext, &config.pps]);
                Prefix::nal_units(&[0x09, 0xF0], &[0x09, 0xF0], sets)
            }
            (CodecConfig::Hevc(config), _) => {
                let sets = parameter_sets(&[&config.vps, &config.sps, &config.pps, &config.sei]);
                Prefix::nal_units(&[0x46, 0x01, 0x50], &[0x46, 0x01, 0x50], sets)
            }
            (CodecConfig::Vvc(config), _) => {
                let sets = parameter_sets(&[&config.dci, &config.vps, &config.sps, &config.pps]);
                // aud_irap_or_gdr_flag, and slices of any type.
                Prefix::nal_units(&[0x00, 0xA1, 0x28], &[0x00, 0xA1, 0xA8], sets)
            }
            (CodecConfig::Aac(config), _) => {
                let header = AdtsHeader { frame_len: 0, ..AdtsHeader::for_access_unit(config, 0)? };
                Prefix::Adts(*header.encode().first_chunk()?)
            }
            // Nothing tells a decoder what it is.
            (_, CodecId::H264 | CodecId::H265 | CodecId::H266 | CodecId::Aac) => return None,
            (_, CodecId::Opus) => Prefix::Opus,
            _ => Prefix::None,
        };
        let stream_id = match track.codec {
            CodecId::Aac | CodecId::Mp2 | CodecId::Mp3 => stream_id::AUDIO,
            codec if codec.kind() == TrackKind::Video => stream_id::VIDEO,
            _ => stream_id::PRIVATE_1,
        };
        Some(Self { id: track.id, kind: track.kind(), info, stream_id, continuity: 0x0F, prefix })
    }

    /// Its frames are sections, and no PES packets.
    pub(super) const fn is_sections(&self) -> bool {
        self.info.stream_type == stream_type::SCTE35
    }

    /// Its frames are NAL units.
    pub(super) const fn is_nal_units(&self) -> bool {
        matches!(self.prefix, Prefix::NalUnits { .. })
    }

    /// Bytes that stand before a frame's own.
    pub(super) fn prefix_len(&self, frame: &MediaFrame) -> usize {
        match &self.prefix {
            Prefix::None => 0,
            Prefix::NalUnits { delimiter, parameter_sets, .. } => {
                delimiter.len().saturating_add(if frame.is_keyframe() { parameter_sets.len() } else { 0 })
            }
            Prefix::Adts(header) => header.len(),
            Prefix::Opus => (frame.payload.len() / 255).saturating_add(3),
        }
    }

    /// Appends what stands before a frame; `None` when the frame cannot be carried.
    pub(super) fn put_prefix(&self, frame: &MediaFrame, out: &mut Vec<u8>) -> Option<()> {
        match &self.prefix {
            Prefix::None => {}
            Prefix::NalUnits { delimiter, key_delimiter, parameter_sets } => {
                // A frame that is no NAL units would break the byte stream.
                if length_prefixed(&frame.payload, LengthSize::Four).any(|unit| unit.is_err()) {
                    return None;
                }
                if frame.is_keyframe() {
                    out.extend_from_slice(key_delimiter);
                    out.extend_from_slice(parameter_sets);
                } else {
                    out.extend_from_slice(delimiter);
                }
            }
            Prefix::Adts(header) => out.extend_from_slice(&adts(*header, frame.payload.len())?),
            Prefix::Opus => {
                // control_header_prefix, no trimming, no extension; then the size in parts of 255.
                out.extend_from_slice(&[0x7F, 0xE0]);
                let len = frame.payload.len();
                out.resize(out.len().saturating_add(len / 255), 0xFF);
                out.push(u8::try_from(len % 255).unwrap_or_default());
            }
        }
        Some(())
    }
}

impl Prefix {
    fn nal_units(delimiter: &[u8], key_delimiter: &[u8], parameter_sets: Vec<u8>) -> Self {
        let unit = |bytes: &[u8]| [&START_CODE, bytes].concat();
        Self::NalUnits { delimiter: unit(delimiter), key_delimiter: unit(key_delimiter), parameter_sets }
    }
}

fn parameter_sets(kinds: &[&ParameterSets]) -> Vec<u8> {
    let sets = kinds.iter().flat_map(|sets| sets.iter());
    sets.flat_map(|set| START_CODE.iter().chain(set.iter())).copied().collect()
}

/// The header with its length, 13 bits across three bytes.
fn adts(mut header: [u8; 7], len: usize) -> Option<[u8; 7]> {
    let len = u16::try_from(len.checked_add(header.len())?).ok().filter(|len| *len < 1 << 13)?;
    let [high, low] = (len << 3).to_be_bytes();
    let [_, _, _, channels, middle, end, _] = &mut header;
    // The top two bits share a byte with the channels.
    *channels |= high >> 6;
    *middle = high << 2 | low >> 6;
    *end |= low << 2 & 0xE0;
    Some(header)
}

#[cfg(test)]
mod tests {
    use arcly_core::codec::AudioSpecificConfig;

    use super::*;

    #[test]
    fn adts_headers_are_those_of_the_codec() {
        let config = AudioSpecificConfig {
            object_type: 2,
            sample_rate: 44_100,
            channel_config: 6,
            channels: 6,
            ..AudioSpecificConfig::default()
        };
        let template = AdtsHeader { frame_len: 0, ..AdtsHeader::for_access_unit(&config, 0).unwrap() };
        let template = *template.encode().first_chunk().unwrap();
        for len in 0..8_184 {
            let expect = AdtsHeader::for_access_unit(&config, len).unwrap().encode();
            assert_eq!(adts(template, len).unwrap()[..], expect, "{len}");
        }
        assert_eq!(adts(template, 8_185), None);
    }
}
