//! What an elementary stream carries, from its stream type and its descriptors, and back.

use arcly_codec::opus;
use arcly_core::codec::OpusConfig;
use arcly_core::{CodecConfig, CodecId, FourCc, Track, TrackKind};
use bytes::{BufMut, Bytes, BytesMut};

use super::descriptor::{self, OPUS_EXTENSION, descriptors, tag};
use super::psi::StreamInfo;
use arcly_codec::language;

/// `stream_type`s (ISO/IEC 13818-1 table 2-34, ATSC A/53, SCTE 35).
pub mod stream_type {
    /// MPEG-1 video.
    pub const MPEG1_VIDEO: u8 = 0x01;
    /// MPEG-2 video.
    pub const MPEG2_VIDEO: u8 = 0x02;
    /// MPEG-1 audio, layers I to III.
    pub const MPEG1_AUDIO: u8 = 0x03;
    /// MPEG-2 audio, layers I to III.
    pub const MPEG2_AUDIO: u8 = 0x04;
    /// Private data in PES packets: its descriptors say what.
    pub const PRIVATE_PES: u8 = 0x06;
    /// AAC in ADTS frames.
    pub const ADTS: u8 = 0x0F;
    /// AAC in LOAS frames.
    pub const LATM: u8 = 0x11;
    /// Metadata in PES packets.
    pub const METADATA_PES: u8 = 0x15;
    /// H.264.
    pub const H264: u8 = 0x1B;
    /// H.265.
    pub const H265: u8 = 0x24;
    /// H.266.
    pub const H266: u8 = 0x33;
    /// AC-3 (ATSC).
    pub const AC3: u8 = 0x81;
    /// SCTE 35 splice information, in sections.
    pub const SCTE35: u8 = 0x86;
    /// E-AC-3 (ATSC).
    pub const EAC3: u8 = 0x87;
}

/// `format_identifier`s.
pub(super) mod format {
    use arcly_core::FourCc;

    pub(in crate::ts) const OPUS: FourCc = FourCc(*b"Opus");
    pub(in crate::ts) const KLV: FourCc = FourCc(*b"KLVA");
    pub(in crate::ts) const ID3: FourCc = FourCc(*b"ID3 ");
    pub(in crate::ts) const SCTE35: FourCc = FourCc(*b"CUEI");
    pub(in crate::ts) const AC3: FourCc = FourCc(*b"AC-3");
    pub(in crate::ts) const EAC3: FourCc = FourCc(*b"EAC3");
    pub(in crate::ts) const H265: FourCc = FourCc(*b"HEVC");
}

/// How a stream's payload is made of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// A byte stream with start codes.
    Video(CodecId),
    /// A byte stream of audio frames; `latm`: in LOAS frames.
    Audio { codec: CodecId, latm: bool, opus: Option<OpusConfig> },
    /// A PES packet is a message; `cells`: one behind a header for metadata access units (§2.12.4).
    Data { codec: CodecId, cells: bool },
    /// A section is a message.
    Sections(CodecId),
}

impl Carriage {
    /// What a stream is; `None` when it is of a kind that has no frames: sections of unknown tables.
    pub(super) fn of(info: &StreamInfo) -> Option<Self> {
        let said = descriptors(&info.descriptors);
        let audio = |codec| Self::Audio { codec, latm: false, opus: None };
        Some(match info.stream_type {
            stream_type::MPEG1_VIDEO | stream_type::MPEG2_VIDEO => Self::Video(CodecId::Mpeg2Video),
            stream_type::H264 => Self::Video(CodecId::H264),
            stream_type::H265 => Self::Video(CodecId::H265),
            stream_type::H266 => Self::Video(CodecId::H266),
            stream_type::MPEG1_AUDIO | stream_type::MPEG2_AUDIO => audio(CodecId::Mp2),
            stream_type::ADTS => audio(CodecId::Aac),
            stream_type::LATM => Self::Audio { codec: CodecId::Aac, latm: true, opus: None },
            stream_type::AC3 => audio(CodecId::Ac3),
            stream_type::EAC3 => audio(CodecId::Eac3),
            stream_type::SCTE35 => Self::Sections(CodecId::Scte35),
            stream_type::METADATA_PES => match said.metadata_format().or(said.registration()) {
                Some(format::ID3) => Self::Data { codec: CodecId::Id3, cells: false },
                Some(format::KLV) => Self::Data { codec: CodecId::Klv, cells: true },
                _ => Self::unknown(info),
            },
            stream_type::PRIVATE_PES => return Some(Self::private(info)),
            // Private sections, DSM-CC, IPMP: nothing with a time.
            0x05 | 0x08 | 0x0A..=0x0D | 0x12..=0x14 | 0x16..=0x1A => return None,
            _ => Self::unknown(info),
        })
    }

    fn private(info: &StreamInfo) -> Self {
        let said = descriptors(&info.descriptors);
        let audio = |codec, opus| Self::Audio { codec, latm: false, opus };
        match said.registration() {
            Some(format::OPUS) => audio(CodecId::Opus, Some(opus_config(said.opus_channels()))),
            Some(format::AC3) => audio(CodecId::Ac3, None),
            Some(format::EAC3) => audio(CodecId::Eac3, None),
            Some(format::KLV) => Self::Data { codec: CodecId::Klv, cells: false },
            Some(format::ID3) => Self::Data { codec: CodecId::Id3, cells: false },
            Some(format::H265) => Self::Video(CodecId::H265),
            _ if said.get(tag::AC3).is_some() => audio(CodecId::Ac3, None),
            _ if said.get(tag::EAC3).is_some() => audio(CodecId::Eac3, None),
            _ if said.opus_channels().is_some() => {
                audio(CodecId::Opus, Some(opus_config(said.opus_channels())))
            }
            _ => Self::unknown(info),
        }
    }

    /// A stream that is carried without being understood.
    fn unknown(info: &StreamInfo) -> Self {
        let registered = descriptors(&info.descriptors).registration();
        let code = registered.unwrap_or_else(|| FourCc(unknown_code(info.stream_type)));
        Self::Data { codec: CodecId::Other(TrackKind::Data, code), cells: false }
    }
}

/// `ts06`: a stream type as a name.
fn unknown_code(stream_type: u8) -> [u8; 4] {
    let digit = |value: u8| {
        if value < 10 { b'0'.wrapping_add(value) } else { b'a'.wrapping_add(value.wrapping_sub(10)) }
    };
    [b't', b's', digit(stream_type >> 4), digit(stream_type & 15)]
}

/// The stream type that [`unknown_code`] made a name of; private data for every other.
fn unknown_type(code: FourCc) -> u8 {
    let digits = code.0.strip_prefix(b"ts").and_then(|digits| core::str::from_utf8(digits).ok());
    digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(stream_type::PRIVATE_PES)
}

/// What `channel_config_code` says (the mappings of Vorbis order; 0 is dual mono).
fn opus_config(code: Option<u8>) -> OpusConfig {
    let channels = match code {
        Some(0) | None => 2,
        Some(code @ 1..=8) => code,
        // 0x80 + n: dual mono and other layouts of n channels.
        Some(code) => (code & 0x0F).clamp(1, 8),
    };
    let mut config = opus::default_config(channels);
    // RFC 7845 §5.1.1.2: streams, coupled streams and the order of channels.
    let mapping: &[u8] = match channels {
        3 => &[2, 1, 0, 2, 1],
        4 => &[2, 2, 0, 1, 2, 3],
        5 => &[3, 2, 0, 4, 1, 2, 3],
        6 => &[4, 2, 0, 4, 1, 2, 3, 5],
        7 => &[4, 3, 0, 4, 1, 2, 3, 5, 6],
        8 => &[5, 3, 0, 6, 1, 2, 3, 4, 5, 7],
        _ => &[],
    };
    if !mapping.is_empty() {
        config.mapping_family = 1;
        config.mapping = mapping.into();
    }
    config
}

/// What a track is in a transport stream: its stream type and its descriptors; `None` when there is no way to carry it.
pub(super) fn stream_info(track: &Track, pid: u16) -> Option<StreamInfo> {
    let mut said = BytesMut::new();
    let mut register = |code: FourCc| descriptor::put(&mut said, tag::REGISTRATION, &code.0);
    let stream_type = match track.codec {
        CodecId::H264 => stream_type::H264,
        CodecId::H265 => {
            register(format::H265);
            stream_type::H265
        }
        CodecId::H266 => stream_type::H266,
        CodecId::Mpeg2Video => stream_type::MPEG2_VIDEO,
        CodecId::Aac => stream_type::ADTS,
        CodecId::Mp2 | CodecId::Mp3 => stream_type::MPEG1_AUDIO,
        CodecId::Ac3 => {
            register(format::AC3);
            stream_type::AC3
        }
        CodecId::Eac3 => {
            register(format::EAC3);
            stream_type::EAC3
        }
        CodecId::Opus => {
            register(format::OPUS);
            let code = match &track.config {
                CodecConfig::Opus(config) => config.channels,
                _ => track.audio().map_or(2, |params| params.channels),
            };
            descriptor::put(&mut said, tag::EXTENSION, &[OPUS_EXTENSION, code]);
            stream_type::PRIVATE_PES
        }
        CodecId::Klv => {
            register(format::KLV);
            stream_type::PRIVATE_PES
        }
        CodecId::Scte35 => {
            descriptor::put(&mut said, tag::CUE_IDENTIFIER, &[1]);
            stream_type::SCTE35
        }
        CodecId::Id3 => {
            // metadata_service_id 0, no decoder configuration.
            descriptor::put(&mut said, tag::METADATA, b"\xFF\xFFID3 \xFFID3 \0\x0F");
            stream_type::METADATA_PES
        }
        CodecId::Other(TrackKind::Data, code) => {
            if let CodecConfig::Opaque(descriptors) = &track.config {
                said.put_slice(descriptors);
            }
            unknown_type(code)
        }
        _ => return None,
    };
    // What was carried as it came has its language among its descriptors.
    if let (Some(language), false) = (&track.language, matches!(track.codec, CodecId::Other(..)))
        && let Some([a, b, c]) = language::to_iso639_2(language)
    {
        descriptor::put(&mut said, tag::LANGUAGE, &[a, b, c, 0]);
    }
    Some(StreamInfo { stream_type, pid, descriptors: said.freeze() })
}

/// Descriptors of the program as a whole that its streams call for.
pub(super) fn program_descriptors(streams: &[StreamInfo]) -> Bytes {
    let mut out = BytesMut::new();
    let has = |kind: u8| streams.iter().any(|stream| stream.stream_type == kind);
    if has(stream_type::SCTE35) {
        descriptor::put(&mut out, tag::REGISTRATION, &format::SCTE35.0);
    }
    if has(stream_type::METADATA_PES) {
        // The metadata is in this program, number 1.
        descriptor::put(&mut out, tag::METADATA_POINTER, b"\xFF\xFFID3 \xFFID3 \0\x1F\0\x01");
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use arcly_core::TrackId;

    use super::*;

    fn check(codec: CodecId, config: CodecConfig, stream_type: u8) {
        let mut track = Track::new(TrackId::AUDIO, codec, config);
        track.language = Some("de".into());
        let info = stream_info(&track, 0x101).unwrap();
        assert_eq!(info.stream_type, stream_type, "{codec}");
        let back = match Carriage::of(&info).unwrap() {
            Carriage::Video(codec) | Carriage::Audio { codec, .. } => codec,
            Carriage::Data { codec, .. } | Carriage::Sections(codec) => codec,
        };
        assert_eq!(back, codec);
        if !matches!(codec, CodecId::Other(..)) {
            assert_eq!(descriptors(&info.descriptors).language(), Some(*b"deu"));
        }
    }

    #[test]
    fn every_codec_that_can_be_carried_comes_back() {
        check(CodecId::H264, CodecConfig::None, 0x1B);
        check(CodecId::H265, CodecConfig::None, 0x24);
        check(CodecId::H266, CodecConfig::None, 0x33);
        check(CodecId::Mpeg2Video, CodecConfig::None, 0x02);
        check(CodecId::Aac, CodecConfig::None, 0x0F);
        check(CodecId::Mp2, CodecConfig::None, 0x03);
        check(CodecId::Ac3, CodecConfig::None, 0x81);
        check(CodecId::Eac3, CodecConfig::None, 0x87);
        check(CodecId::Opus, CodecConfig::Opus(opus::default_config(2)), 0x06);
        check(CodecId::Klv, CodecConfig::None, 0x06);
        check(CodecId::Id3, CodecConfig::None, 0x15);
        check(CodecId::Scte35, CodecConfig::None, 0x86);
        let subtitles = CodecConfig::Opaque(Bytes::from_static(b"\x59\x08deu\x10\0\x01\0\x01"));
        check(CodecId::Other(TrackKind::Data, FourCc(*b"ts06")), subtitles, 0x06);
        check(CodecId::Other(TrackKind::Data, FourCc(*b"tsc1")), CodecConfig::None, 0xC1);
        let private = CodecConfig::Opaque(Bytes::from_static(b"\x05\x04ABCD"));
        check(CodecId::Other(TrackKind::Data, FourCc(*b"ABCD")), private, 0x06);
        for codec in [CodecId::Av1, CodecId::Vp9, CodecId::Flac, CodecId::Pcma, CodecId::Amf] {
            assert_eq!(stream_info(&Track::new(TrackId::VIDEO, codec, CodecConfig::None), 1), None);
        }
    }

    #[test]
    fn dvb_and_atsc_name_ac3_in_their_own_ways() {
        let info = |stream_type, said: &'static [u8]| StreamInfo {
            stream_type,
            pid: 1,
            descriptors: Bytes::from_static(said),
        };
        let audio = |codec| Some(Carriage::Audio { codec, latm: false, opus: None });
        assert_eq!(Carriage::of(&info(6, b"\x6A\x01\0")), audio(CodecId::Ac3));
        assert_eq!(Carriage::of(&info(6, b"\x7A\x01\0")), audio(CodecId::Eac3));
        assert_eq!(Carriage::of(&info(6, b"\x05\x04EAC3")), audio(CodecId::Eac3));
        assert_eq!(Carriage::of(&info(0x81, b"")), audio(CodecId::Ac3));
        assert_eq!(Carriage::of(&info(0x05, b"")), None);
        let klv = Carriage::Data { codec: CodecId::Klv, cells: true };
        assert_eq!(Carriage::of(&info(0x15, b"\x26\x09\x01\0\xFFKLVA\0\x0F")), Some(klv));
    }
}
