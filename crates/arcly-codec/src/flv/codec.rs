//! Which codec goes by which number and FourCC.

use arcly_core::{CodecId, FourCc, Track, TrackKind, TrackSet};

use super::{CodecTag, Error};

/// `SoundFormat`s of the legacy audio tag.
pub(super) mod sound {
    pub(crate) const PCM_PLATFORM: u8 = 0;
    pub(crate) const MP3: u8 = 2;
    pub(crate) const PCM_LE: u8 = 3;
    pub(crate) const ALAW: u8 = 7;
    pub(crate) const ULAW: u8 = 8;
    /// Not a format: an Enhanced RTMP header follows.
    pub(crate) const EX_HEADER: u8 = 9;
    pub(crate) const AAC: u8 = 10;
    pub(crate) const SPEEX: u8 = 11;
    pub(crate) const MP3_8K: u8 = 14;
}

/// `CodecID`s of the legacy video tag.
pub(super) mod video {
    pub(crate) const AVC: u8 = 7;
    /// Never standardised, but what encoders sent before Enhanced RTMP.
    pub(crate) const HEVC: u8 = 12;
}

const FOURCCS: &[(FourCc, CodecId)] = &[
    (FourCc(*b"avc1"), CodecId::H264),
    (FourCc(*b"hvc1"), CodecId::H265),
    (FourCc(*b"vvc1"), CodecId::H266),
    (FourCc(*b"av01"), CodecId::Av1),
    (FourCc(*b"vp08"), CodecId::Vp8),
    (FourCc(*b"vp09"), CodecId::Vp9),
    (FourCc(*b"mp4a"), CodecId::Aac),
    (FourCc(*b"Opus"), CodecId::Opus),
    (FourCc(*b".mp3"), CodecId::Mp3),
    (FourCc(*b"fLaC"), CodecId::Flac),
    (FourCc(*b"ac-3"), CodecId::Ac3),
    (FourCc(*b"ec-3"), CodecId::Eac3),
];

/// The FourCC of a codec in Enhanced RTMP; `None` when it has none.
#[must_use]
pub fn fourcc_of(codec: CodecId) -> Option<FourCc> {
    FOURCCS.iter().find(|(_, known)| *known == codec).map(|(tag, _)| *tag)
}

/// The codec of a FourCC, when it is one of that kind.
pub(super) fn codec_of(tag: FourCc, kind: TrackKind) -> Result<CodecId, Error> {
    let known = FOURCCS.iter().find(|(known, codec)| *known == tag && codec.kind() == kind);
    known.map(|(_, codec)| *codec).ok_or(Error::Unsupported(CodecTag::FourCc(tag)))
}

pub(super) const fn codec_of_sound(format: u8) -> Result<CodecId, Error> {
    Ok(match format {
        sound::PCM_PLATFORM | sound::PCM_LE => CodecId::PcmLe,
        sound::MP3 | sound::MP3_8K => CodecId::Mp3,
        sound::ALAW => CodecId::Pcma,
        sound::ULAW => CodecId::Pcmu,
        sound::AAC => CodecId::Aac,
        sound::SPEEX => CodecId::Speex,
        other => return Err(Error::Unsupported(CodecTag::Sound(other))),
    })
}

pub(super) const fn codec_of_video(id: u8) -> Result<CodecId, Error> {
    match id {
        video::AVC => Ok(CodecId::H264),
        video::HEVC => Ok(CodecId::H265),
        other => Err(Error::Unsupported(CodecTag::Video(other))),
    }
}

/// What a player has to understand to receive a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagClass {
    /// The tags that every FLV and RTMP player knows.
    Legacy,
    /// Enhanced RTMP with this FourCC; for a further track of a kind, multitrack as well.
    Enhanced(FourCc),
}

/// What a player has to understand to receive `track` of `tracks`; `None` when FLV cannot carry it.
///
/// AVC, AAC, MP3, G.711, Speex and PCM are legacy where they are the first of their kind.
#[must_use]
pub fn needs(track: &Track, tracks: &TrackSet) -> Option<TagClass> {
    if track.kind() == TrackKind::Data {
        return (track.codec == CodecId::Amf).then_some(TagClass::Legacy);
    }
    let primary = tracks.first(track.kind()).is_some_and(|first| first.id == track.id);
    class_of(track.codec, primary)
}

pub(super) fn class_of(codec: CodecId, primary: bool) -> Option<TagClass> {
    let legacy = codec == CodecId::H264 || sound_of(codec).is_some();
    if primary && legacy { Some(TagClass::Legacy) } else { fourcc_of(codec).map(TagClass::Enhanced) }
}

/// The legacy `SoundFormat` that is written for a codec.
pub(super) const fn sound_of(codec: CodecId) -> Option<u8> {
    Some(match codec {
        CodecId::Aac => sound::AAC,
        CodecId::Mp3 => sound::MP3,
        CodecId::Pcma => sound::ALAW,
        CodecId::Pcmu => sound::ULAW,
        CodecId::Speex => sound::SPEEX,
        CodecId::PcmLe => sound::PCM_LE,
        _ => return None,
    })
}
