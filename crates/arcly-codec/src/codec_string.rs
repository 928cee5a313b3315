//! Codec strings (RFC 6381): what `EXT-X-STREAM-INF`, DASH manifests and `MediaSource` call a track.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 6381 | 3.3, 3.4 | `mp4a.40.N` |
//! | ISO/IEC 14496-15 | annex E | `avc1`, `hvc1`, `vvc1` |
//! | AV1 ISOBMFF binding | 5 | `av01` |
//! | VP Codec ISOBMFF binding | codecs parameter string | `vp08`, `vp09` |
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use core::fmt::Write;

use arcly_core::codec::{
    AudioSpecificConfig, Av1Config, AvcConfig, CodecConfig, CodecId, ColorInfo, HevcConfig, VpxConfig,
    VvcConfig,
};
use arcly_core::track::Track;

/// The codec string of a track; `None` for codecs that have none, and where the parameters are not known yet.
#[must_use]
pub fn codec_string(track: &Track) -> Option<String> {
    let color = track.video().and_then(|video| video.color);
    match (&track.config, track.codec) {
        (CodecConfig::Avc(config), CodecId::H264) => Some(avc(config)),
        (CodecConfig::Hevc(config), CodecId::H265) => Some(hevc(config)),
        (CodecConfig::Vvc(config), CodecId::H266) => Some(vvc(config)),
        (CodecConfig::Av1(config), CodecId::Av1) => Some(av1(config, color)),
        (CodecConfig::Vpx(config), CodecId::Vp9) => Some(vpx("vp09", config)),
        (CodecConfig::Vpx(config), CodecId::Vp8) => Some(vpx("vp08", config)),
        (CodecConfig::Aac(config), CodecId::Aac) => Some(aac(config)),
        (_, CodecId::Vp8) => Some("vp8".into()),
        (_, CodecId::Opus) => Some("opus".into()),
        (_, CodecId::Mp3) => Some("mp4a.40.34".into()),
        (_, CodecId::Mp2) => Some("mp4a.40.33".into()),
        (_, CodecId::Ac3) => Some("ac-3".into()),
        (_, CodecId::Eac3) => Some("ec-3".into()),
        (_, CodecId::Flac) => Some("fLaC".into()),
        (_, CodecId::Pcma) => Some("alaw".into()),
        (_, CodecId::Pcmu) => Some("ulaw".into()),
        (_, CodecId::Mjpeg) => Some("mp4v.6C".into()),
        (_, CodecId::Mpeg2Video) => Some("mp4v.61".into()),
        _ => None,
    }
}

fn avc(config: &AvcConfig) -> String {
    format!("avc1.{:02x}{:02x}{:02x}", config.profile, config.compatibility, config.level)
}

fn hevc(config: &HevcConfig) -> String {
    const SPACES: [&str; 4] = ["", "A", "B", "C"];
    let space = SPACES.get(usize::from(config.profile_space & 3)).copied().unwrap_or_default();
    let tier = if config.tier { 'H' } else { 'L' };
    // The flags in reverse order of their bits, without leading zeros.
    let compatibility = config.compatibility.reverse_bits();
    let mut text = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", config.profile, config.level);
    let significant =
        config.constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
    for byte in config.constraints.iter().take(significant) {
        let _ = write!(text, ".{byte:X}");
    }
    text
}

fn vvc(config: &VvcConfig) -> String {
    let tier = if config.tier { 'H' } else { 'L' };
    let mut text = format!("vvc1.{}.{tier}{}", config.profile, config.level);
    if let Some(constraints) = vvc_constraints(&config.record) {
        let _ = write!(text, ".C{}", base32(constraints));
    }
    text
}

/// `general_constraint_info` of a record's front, without trailing zero bytes.
fn vvc_constraints(front: &[u8]) -> Option<&[u8]> {
    // First byte, ols_idx and what shares its 16 bits, bit depth; then the VvcPTLRecord.
    let count = usize::from(front.get(4)? & 0x3F);
    let info = front.get(7..)?.get(..count)?;
    let last = info.iter().rposition(|&byte| byte != 0)?;
    info.get(..=last)
}

/// RFC 4648 base 32 without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let bits = bytes.iter().flat_map(|&byte| (0..8).rev().map(move |bit| (byte >> bit) & 1));
    let bits: Vec<u8> = bits.collect();
    for group in bits.chunks(5) {
        let value =
            group.iter().chain(core::iter::repeat(&0)).take(5).fold(0_u8, |value, &bit| value << 1 | bit);
        let letter = if value < 26 {
            b'A'.saturating_add(value)
        } else {
            b'2'.saturating_add(value.saturating_sub(26))
        };
        text.push(char::from(letter));
    }
    text
}

fn av1(config: &Av1Config, color: Option<ColorInfo>) -> String {
    let tier = if config.tier { 'H' } else { 'M' };
    let depth = match (config.high_bitdepth, config.twelve_bit) {
        (_, true) => 12,
        (true, false) => 10,
        (false, false) => 8,
    };
    let mut text = format!("av01.{}.{:02}{tier}.{depth:02}", config.profile, config.level);
    let described = color
        .filter(|color| color.primaries != 2 || color.transfer != 2 || color.matrix != 2 || color.full_range);
    let usual_samples = !config.monochrome && config.subsampling_x && config.subsampling_y;
    if described.is_some() || !usual_samples {
        let color =
            described.unwrap_or(ColorInfo { primaries: 1, transfer: 1, matrix: 1, full_range: false });
        let position = if config.subsampling_x && config.subsampling_y { config.sample_position } else { 0 };
        let _ = write!(
            text,
            ".{}.{}{}{position}.{:02}.{:02}.{:02}.{}",
            u8::from(config.monochrome),
            u8::from(config.subsampling_x),
            u8::from(config.subsampling_y),
            color.primaries,
            color.transfer,
            color.matrix,
            u8::from(color.full_range)
        );
    }
    text
}

fn vpx(name: &str, config: &VpxConfig) -> String {
    // A level is mandatory in the string; 1 is the lowest, and players only compare it with what they can do.
    let level = if config.level == 0 { 10 } else { config.level };
    let mut text = format!("{name}.{:02}.{level:02}.{:02}", config.profile, config.bit_depth);
    if let Some(color) = config.color {
        let _ = write!(
            text,
            ".{:02}.{:02}.{:02}.{:02}.{:02}",
            config.chroma_subsampling,
            color.primaries,
            color.transfer,
            color.matrix,
            u8::from(color.full_range)
        );
    }
    text
}

/// The object type that a decoder needs: parametric stereo (29) over band replication (5) over the core.
fn aac(config: &AudioSpecificConfig) -> String {
    let object_type = match (config.parametric_stereo, config.sbr_sample_rate) {
        (true, _) => 29,
        (false, Some(_)) => 5,
        (false, None) => config.object_type,
    };
    format!("mp4a.40.{object_type}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arcly_core::codec::VideoParams;
    use arcly_core::track::TrackId;
    use bytes::Bytes;

    fn check(codec: CodecId, config: CodecConfig, expect: &str) {
        let track = Track::new(TrackId::VIDEO, codec, config);
        assert_eq!(codec_string(&track).as_deref(), Some(expect));
    }

    #[test]
    fn video_case_table() {
        let avc = AvcConfig { profile: 100, compatibility: 0, level: 31, ..AvcConfig::default() };
        check(CodecId::H264, CodecConfig::Avc(avc), "avc1.64001f");
        let mut hevc =
            HevcConfig { profile: 1, compatibility: 0x6000_0000, level: 93, ..HevcConfig::default() };
        hevc.constraints = [0xB0, 0, 0, 0, 0, 0];
        check(CodecId::H265, CodecConfig::Hevc(hevc.clone()), "hvc1.1.6.L93.B0");
        hevc = HevcConfig { profile_space: 1, tier: true, profile: 2, compatibility: 0x2000_0000, ..hevc };
        hevc.constraints = [0x90, 0, 8, 0, 0, 0];
        check(CodecId::H265, CodecConfig::Hevc(hevc), "hvc1.A2.4.H93.90.0.8");
        let record = Bytes::from_static(&[0xFF, 0, 0x65, 0x5F, 1, 2, 0x10, 0x80, 0, 0]);
        let vvc = VvcConfig { profile: 1, level: 51, record, ..VvcConfig::default() };
        check(CodecId::H266, CodecConfig::Vvc(vvc), "vvc1.1.L51.CQA");
        let vp9 = VpxConfig { level: 10, bit_depth: 8, chroma_subsampling: 1, ..VpxConfig::default() };
        check(CodecId::Vp9, CodecConfig::Vpx(vp9.clone()), "vp09.00.10.08");
        let color = Some(ColorInfo { primaries: 9, transfer: 16, matrix: 9, full_range: true });
        let vp9 = VpxConfig { profile: 2, bit_depth: 10, color, ..vp9 };
        check(CodecId::Vp9, CodecConfig::Vpx(vp9), "vp09.02.10.10.01.09.16.09.01");
        check(CodecId::Vp8, CodecConfig::None, "vp8");
    }

    #[test]
    fn av1_case_table() {
        let av1 = Av1Config { level: 4, subsampling_x: true, subsampling_y: true, ..Av1Config::default() };
        check(CodecId::Av1, CodecConfig::Av1(av1.clone()), "av01.0.04M.08");
        let wide =
            Av1Config { tier: true, level: 13, high_bitdepth: true, sample_position: 2, ..av1.clone() };
        let color = Some(ColorInfo { primaries: 9, transfer: 16, matrix: 9, full_range: false });
        let track = Track::new(TrackId::VIDEO, CodecId::Av1, CodecConfig::Av1(wide))
            .with_video(VideoParams { color, ..VideoParams::default() });
        assert_eq!(codec_string(&track).as_deref(), Some("av01.0.13H.10.0.112.09.16.09.0"));
        let mono = Av1Config { monochrome: true, ..av1 };
        check(CodecId::Av1, CodecConfig::Av1(mono), "av01.0.04M.08.1.110.01.01.01.0");
    }

    #[test]
    fn audio_case_table() {
        let lc =
            AudioSpecificConfig { object_type: 2, sample_rate: 24_000, ..AudioSpecificConfig::default() };
        check(CodecId::Aac, CodecConfig::Aac(lc.clone()), "mp4a.40.2");
        let he = AudioSpecificConfig { sbr_sample_rate: Some(48_000), ..lc };
        check(CodecId::Aac, CodecConfig::Aac(he.clone()), "mp4a.40.5");
        check(
            CodecId::Aac,
            CodecConfig::Aac(AudioSpecificConfig { parametric_stereo: true, ..he }),
            "mp4a.40.29",
        );
        for (codec, expect) in [
            (CodecId::Opus, "opus"),
            (CodecId::Mp3, "mp4a.40.34"),
            (CodecId::Ac3, "ac-3"),
            (CodecId::Eac3, "ec-3"),
            (CodecId::Flac, "fLaC"),
        ] {
            check(codec, CodecConfig::None, expect);
        }
        let unknown = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
        assert_eq!(codec_string(&unknown), None, "not known yet");
    }
}
