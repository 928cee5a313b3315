use core::fmt::Write as _;

use arcly_codec::{aac, av1};
use arcly_core::codec::{ParameterSets, PcmConfig};
use arcly_core::{CodecConfig, CodecId, Timescale, Track, TrackId, TrackKind, TrackSet};
use base64ct::{Base64, Encoding as _};
use bytes::{Bytes, BytesMut};

use super::{Attribute, Format, MAX_MEDIA, MediaDescription};
use crate::payload::{AuSizes, Encoding};

/// The first payload type whose meaning is agreed on (RFC 3551 §6).
const FIRST_DYNAMIC: u8 = 96;

/// The formats that a stream's tracks are sent in, at most [`MAX_MEDIA`]: which payload type a track has follows from the set alone.
/// Tracks that RTP has no format for are left out.
#[must_use]
pub fn formats(tracks: &TrackSet) -> Vec<(TrackId, Format)> {
    let payload_types = FIRST_DYNAMIC..;
    let formats = tracks.iter().filter_map(|track| Some((track, encoding(track)?)));
    formats
        .take(MAX_MEDIA)
        .zip(payload_types)
        .map(|((track, (encoding, clock)), dynamic)| {
            let payload_type = static_type(track, &encoding).unwrap_or(dynamic);
            let (config, parameter_sets) = (track.config.clone(), parameter_sets(&track.config));
            (track.id, Format { payload_type, encoding, clock, config, parameter_sets })
        })
        .collect()
}

fn encoding(track: &Track) -> Option<(Encoding, Timescale)> {
    let rate = |rate: u32| Timescale::new(rate);
    let sample_rate = track.audio().map_or(0, |audio| audio.sample_rate);
    Some(match (track.codec, &track.config) {
        (CodecId::H264, CodecConfig::Avc(_)) => (Encoding::H264, Timescale::MPEG),
        (CodecId::H265, CodecConfig::Hevc(_)) => (Encoding::H265, Timescale::MPEG),
        (CodecId::Av1, _) => (Encoding::Av1, Timescale::MPEG),
        (CodecId::Vp8, _) => (Encoding::Vp8, Timescale::MPEG),
        (CodecId::Vp9, _) => (Encoding::Vp9, Timescale::MPEG),
        (CodecId::Opus, _) => (Encoding::Opus, rate(48_000)?),
        (CodecId::Aac, CodecConfig::Aac(config)) => {
            (Encoding::Mpeg4Generic(AuSizes::HBR), rate(config.sample_rate)?)
        }
        (CodecId::Pcmu, CodecConfig::Pcm(config)) => (Encoding::Pcmu, rate(config.sample_rate)?),
        (CodecId::Pcma, CodecConfig::Pcm(config)) => (Encoding::Pcma, rate(config.sample_rate)?),
        (CodecId::G722, _) => (Encoding::G722, rate(8_000)?),
        (CodecId::PcmBe, CodecConfig::Pcm(config)) => match config.bits_per_sample {
            16 => (Encoding::L16, rate(config.sample_rate)?),
            24 => (Encoding::L24, rate(config.sample_rate)?),
            _ => return None,
        },
        (CodecId::Mp2 | CodecId::Mp3, _) => (Encoding::MpegAudio, Timescale::MPEG),
        (CodecId::Ac3, _) => (Encoding::Ac3, rate(sample_rate)?),
        (CodecId::Klv, _) => (Encoding::Klv, Timescale::MPEG),
        _ => return None,
    })
}

fn static_type(track: &Track, encoding: &Encoding) -> Option<u8> {
    let pcm = match &track.config {
        CodecConfig::Pcm(config) => *config,
        _ => PcmConfig::default(),
    };
    match (encoding, pcm.sample_rate, pcm.channels) {
        (Encoding::Pcmu, 8_000, 1) => Some(0),
        (Encoding::Pcma, 8_000, 1) => Some(8),
        (Encoding::G722, ..) => Some(9),
        (Encoding::L16, 44_100, 2) => Some(10),
        (Encoding::L16, 44_100, 1) => Some(11),
        (Encoding::MpegAudio, ..) => Some(14),
        _ => None,
    }
}

fn parameter_sets(config: &CodecConfig) -> Bytes {
    let mut out = BytesMut::new();
    let lists: [&[Bytes]; 3] = match config {
        CodecConfig::Avc(config) => [&config.sps, &config.pps, &[]],
        CodecConfig::Hevc(config) => [&config.vps, &config.sps, &config.pps],
        _ => return Bytes::new(),
    };
    lists.into_iter().flatten().for_each(|set| arcly_codec::nal::put_length_prefixed(set, &mut out));
    out.freeze()
}

/// A medium that sends one track in one format, to port 0.
#[must_use]
pub fn describe(track: &Track, format: &Format) -> MediaDescription {
    let (name, channels) = encoding_name(track, &format.encoding);
    let mut map = format!("{} {name}/{}", format.payload_type, format.clock.get());
    if channels > 1 {
        let _ = write!(map, "/{channels}");
    }
    let mut attributes = vec![Attribute::new("rtpmap", map)];
    if let Some(parameters) = parameters(track, format) {
        attributes.push(Attribute::new("fmtp", format!("{} {parameters}", format.payload_type)));
    }
    MediaDescription {
        kind: match track.kind() {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            TrackKind::Data => "application",
        }
        .to_owned(),
        protocol: "RTP/AVP".to_owned(),
        formats: vec![format.payload_type.to_string()],
        attributes,
        ..MediaDescription::default()
    }
}

fn encoding_name(track: &Track, encoding: &Encoding) -> (&'static str, u8) {
    let channels = match &track.config {
        CodecConfig::Pcm(config) => config.channels,
        _ => track.audio().map_or(1, |audio| audio.channels),
    };
    match encoding {
        Encoding::H264 => ("H264", 1),
        Encoding::H265 => ("H265", 1),
        Encoding::Av1 => ("AV1", 1),
        Encoding::Vp8 => ("VP8", 1),
        Encoding::Vp9 => ("VP9", 1),
        // Two, whatever is in the packets (RFC 7587 §4.1).
        Encoding::Opus => ("opus", 2),
        Encoding::Mpeg4Generic(_) => ("mpeg4-generic", channels),
        Encoding::Latm(_) => ("MP4A-LATM", channels),
        Encoding::Pcmu => ("PCMU", channels),
        Encoding::Pcma => ("PCMA", channels),
        Encoding::G722 => ("G722", 1),
        Encoding::L16 => ("L16", channels),
        Encoding::L24 => ("L24", channels),
        Encoding::MpegAudio => ("MPA", 1),
        Encoding::Ac3 => ("AC3", channels),
        Encoding::Mp2t => ("MP2T", 1),
        Encoding::Klv => ("smpte336m", 1),
    }
}

fn parameters(track: &Track, format: &Format) -> Option<String> {
    match (&format.encoding, &track.config) {
        (Encoding::H264, CodecConfig::Avc(config)) => {
            let sets = base64(&[&config.sps, &config.pps]);
            let (profile, compatibility, level) = (config.profile, config.compatibility, config.level);
            Some(format!(
                "packetization-mode=1; profile-level-id={profile:02X}{compatibility:02X}{level:02X}; sprop-parameter-sets={sets}"
            ))
        }
        (Encoding::H265, CodecConfig::Hevc(config)) => {
            let (vps, sps, pps) = (base64(&[&config.vps]), base64(&[&config.sps]), base64(&[&config.pps]));
            Some(format!("sprop-vps={vps}; sprop-sps={sps}; sprop-pps={pps}"))
        }
        (Encoding::Av1, CodecConfig::Av1(config)) => {
            let tier = u8::from(config.tier);
            Some(format!("profile={}; level-idx={}; tier={tier}", config.profile, config.level))
                .filter(|_| av1::video_params(config).is_ok())
        }
        (Encoding::Vp9, CodecConfig::Vpx(config)) => Some(format!("profile-id={}", config.profile)),
        (Encoding::Opus, CodecConfig::Opus(config)) => {
            Some(format!("sprop-stereo={}", u8::from(config.channels > 1)))
        }
        (Encoding::Mpeg4Generic(sizes), CodecConfig::Aac(config)) => {
            let mut text = format!(
                "streamtype=5; profile-level-id=1; mode=AAC-hbr; sizelength={}; indexlength={}; indexdeltalength={}; config=",
                sizes.size, sizes.index, sizes.index_delta
            );
            aac::encode_config(config).iter().for_each(|byte| _ = write!(text, "{byte:02X}"));
            Some(text)
        }
        _ => None,
    }
}

fn base64(lists: &[&ParameterSets]) -> String {
    let sets: Vec<String> = lists.iter().copied().flatten().map(|set| Base64::encode_string(set)).collect();
    sets.join(",")
}
