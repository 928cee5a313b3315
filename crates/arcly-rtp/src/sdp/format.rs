use arcly_codec::nal::{MAX_PARAMETER_SET_BYTES, put_length_prefixed};
use arcly_codec::{aac, opus};
use arcly_core::codec::PcmConfig;
use arcly_core::{CodecConfig, CodecId, Timescale};
use base64ct::{Base64Unpadded, Encoding as _};
use bytes::{Bytes, BytesMut};

use super::{MediaDescription, RtpMap, SdpError};
use crate::payload::{AuSizes, Encoding, decode_mux_config};

/// Parameter sets in a `fmtp` line.
const MAX_SETS: usize = 32;
/// The highest payload type.
const MAX_PAYLOAD_TYPE: u8 = 127;

/// One format of a medium: a payload type, and all that has to be known to make frames of its packets and packets of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The payload type, at most 127.
    pub payload_type: u8,
    /// How frames are packed.
    pub encoding: Encoding,
    /// Ticks per second of the timestamps.
    pub clock: Timescale,
    /// What is known of the track's configuration: of audio all, of video what the description says.
    pub config: CodecConfig,
    /// Parameter sets of H.264 and H.265 with 4-byte lengths; empty when the description has none.
    pub parameter_sets: Bytes,
}

/// A payload type with a meaning of its own (RFC 3551 table 4 and 5).
const fn static_map(payload_type: u8) -> Option<RtpMap<'static>> {
    let (encoding, clock_rate, channels) = match payload_type {
        0 => ("PCMU", 8_000, 1),
        8 => ("PCMA", 8_000, 1),
        9 => ("G722", 8_000, 1),
        10 => ("L16", 44_100, 2),
        11 => ("L16", 44_100, 1),
        14 => ("MPA", 90_000, 1),
        33 => ("MP2T", 90_000, 1),
        _ => return None,
    };
    Some(RtpMap { encoding, clock_rate, channels })
}

impl Format {
    /// The formats of a medium that are understood, in its order of preference. One that is not sent over RTP has none.
    ///
    /// # Errors
    /// A payload type is no number up to 127.
    pub fn offered(media: &MediaDescription) -> Result<Vec<Self>, SdpError> {
        let mut formats = Vec::new();
        if !media.protocol.to_ascii_uppercase().contains("RTP") {
            return Ok(formats);
        }
        for format in &media.formats {
            let payload_type: u8 = format.parse().map_err(|_| SdpError::PayloadType)?;
            if payload_type > MAX_PAYLOAD_TYPE {
                return Err(SdpError::PayloadType);
            }
            formats.extend(Self::of(media, payload_type));
        }
        Ok(formats)
    }

    fn of(media: &MediaDescription, payload_type: u8) -> Option<Self> {
        let map = media.rtp_map(payload_type).or_else(|| static_map(payload_type))?;
        let (encoding, config) = Self::encoding(media, payload_type, map)?;
        let parameter_sets = match encoding {
            Encoding::H264 => sets(media, payload_type, &["sprop-parameter-sets"]),
            Encoding::H265 => sets(media, payload_type, &["sprop-vps", "sprop-sps", "sprop-pps"]),
            _ => Bytes::new(),
        };
        let rate = if map.clock_rate == 0 { default_rate(&encoding) } else { map.clock_rate };
        Some(Self { payload_type, encoding, clock: Timescale::new(rate)?, config, parameter_sets })
    }

    fn encoding(
        media: &MediaDescription,
        payload_type: u8,
        map: RtpMap<'_>,
    ) -> Option<(Encoding, CodecConfig)> {
        let (rate, channels) = (map.clock_rate, map.channels);
        let pcm = |sample_rate, bits_per_sample| {
            CodecConfig::Pcm(PcmConfig { sample_rate, channels, bits_per_sample })
        };
        let audio = rate > 0 && channels > 0;
        Some(match map.encoding.to_ascii_uppercase().as_str() {
            "H264" => (Encoding::H264, CodecConfig::None),
            "H265" | "HEVC" => (Encoding::H265, CodecConfig::None),
            "AV1" => (Encoding::Av1, CodecConfig::None),
            "VP8" => (Encoding::Vp8, CodecConfig::None),
            "VP9" => (Encoding::Vp9, CodecConfig::None),
            "OPUS" => {
                let mono = media.parameter(payload_type, "sprop-stereo") == Some("0");
                (Encoding::Opus, CodecConfig::Opus(opus::default_config(if mono { 1 } else { 2 })))
            }
            "MPEG4-GENERIC" => mpeg4(media, payload_type)?,
            "MP4A-LATM" => latm(media, payload_type)?,
            "PCMU" if audio => (Encoding::Pcmu, pcm(rate, 8)),
            "PCMA" if audio => (Encoding::Pcma, pcm(rate, 8)),
            // The clock is wrong by a factor of two, and stays so (RFC 3551 §4.5.2).
            "G722" => (Encoding::G722, pcm(16_000, 8)),
            "L16" if audio => (Encoding::L16, pcm(rate, 16)),
            "L24" if audio => (Encoding::L24, pcm(rate, 24)),
            "MPA" => (Encoding::MpegAudio, CodecConfig::None),
            "AC3" => (Encoding::Ac3, CodecConfig::None),
            "MP2T" => (Encoding::Mp2t, CodecConfig::None),
            "SMPTE336M" => (Encoding::Klv, CodecConfig::None),
            _ => return None,
        })
    }

    /// What the track carries; `None` for a transport stream, which carries tracks of its own.
    #[must_use]
    pub const fn codec(&self) -> Option<CodecId> {
        Some(match self.encoding {
            Encoding::H264 => CodecId::H264,
            Encoding::H265 => CodecId::H265,
            Encoding::Av1 => CodecId::Av1,
            Encoding::Vp8 => CodecId::Vp8,
            Encoding::Vp9 => CodecId::Vp9,
            Encoding::Opus => CodecId::Opus,
            Encoding::Mpeg4Generic(_) | Encoding::Latm(_) => CodecId::Aac,
            Encoding::Pcmu => CodecId::Pcmu,
            Encoding::Pcma => CodecId::Pcma,
            Encoding::G722 => CodecId::G722,
            Encoding::L16 | Encoding::L24 => CodecId::PcmBe,
            Encoding::MpegAudio => CodecId::Mp3,
            Encoding::Ac3 => CodecId::Ac3,
            Encoding::Klv => CodecId::Klv,
            Encoding::Mp2t => return None,
        })
    }

    /// How far frames of one packet are apart on the clock, where the format does not say itself; 0 where it does.
    #[must_use]
    pub fn samples_per_frame(&self) -> u32 {
        let CodecConfig::Aac(config) = &self.config else { return 0 };
        u32::try_from(aac::frame_duration(config).to_ticks(self.clock)).unwrap_or(0)
    }
}

const fn default_rate(encoding: &Encoding) -> u32 {
    match encoding {
        Encoding::Opus => opus::SAMPLE_RATE,
        Encoding::G722 => 8_000,
        _ => 90_000,
    }
}

fn mpeg4(media: &MediaDescription, payload_type: u8) -> Option<(Encoding, CodecConfig)> {
    let number = |name, default: u8| match media.parameter(payload_type, name) {
        Some(value) => value.parse().ok(),
        None => Some(default),
    };
    let mode = media.parameter(payload_type, "mode").unwrap_or("AAC-hbr").to_ascii_lowercase();
    let usual = if mode == "aac-lbr" { AuSizes::LBR } else { AuSizes::HBR };
    let sizes = AuSizes {
        size: number("sizelength", usual.size)?,
        index: number("indexlength", usual.index)?,
        index_delta: number("indexdeltalength", usual.index_delta)?,
    };
    let config = hex(media.parameter(payload_type, "config")?)?;
    let config = aac::decode_config(&config).ok()?;
    Some((Encoding::Mpeg4Generic(sizes), CodecConfig::Aac(config)))
}

fn latm(media: &MediaDescription, payload_type: u8) -> Option<(Encoding, CodecConfig)> {
    let in_band = media.parameter(payload_type, "cpresent").is_none_or(|value| value != "0");
    let config = media.parameter(payload_type, "config").and_then(hex);
    let decoded = config.as_ref().and_then(|config| decode_mux_config(config).ok());
    if in_band {
        return Some((Encoding::Latm(None), decoded.map_or(CodecConfig::None, CodecConfig::Aac)));
    }
    Some((Encoding::Latm(config), CodecConfig::Aac(decoded?)))
}

fn hex(text: &str) -> Option<Bytes> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    text.trim_matches('"').as_bytes().chunks(2).map(pair).collect()
}

/// Parameter sets in base64, with commas between them. What is none is passed over.
fn sets(media: &MediaDescription, payload_type: u8, names: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    let values = names.iter().filter_map(|name| media.parameter(payload_type, name));
    for text in values.flat_map(|value| value.split(',')).take(MAX_SETS) {
        let text = text.trim().trim_end_matches('=');
        let Ok(set) = Base64Unpadded::decode_vec(text) else { continue };
        // Some cameras put a start code before each.
        let code = set.iter().take_while(|byte| **byte == 0).count();
        let set = if code >= 2 { set.get(code.saturating_add(1)..) } else { set.get(..) }.unwrap_or_default();
        if !set.is_empty() && set.len() <= MAX_PARAMETER_SET_BYTES {
            put_length_prefixed(set, &mut out);
        }
    }
    out.freeze()
}
