//! What the files of a stream are called.

use core::fmt;
use core::str::FromStr;

use arcly_core::{TrackId, TrackKind};

use crate::live::Container;

/// The name of the multivariant playlist.
const INDEX: &str = "index.m3u8";
/// The name of the DASH manifest.
const MANIFEST: &str = "manifest.mpd";
/// The multivariant playlist of segments in MPEG-TS.
const TS_INDEX: &str = "index.m3u8?container=ts";

/// Tells the files of one run of a stream from those of another, so that what was cached of the one is not taken for the
/// other: names of media are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run(pub u64);

/// A file below a stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum File {
    /// `index.m3u8`.
    Multivariant,
    /// `index.m3u8?container=ts`, of segments in MPEG-TS. As the query is no part of a path, [`split`](Self::split) does not
    /// find it; [`in_container`](Self::in_container) does.
    TsMultivariant,
    /// `manifest.mpd`, of DASH, whose media have the names of HLS.
    Manifest,
    /// `video0.m3u8`, `audio1.m3u8`.
    Media(TrackKind, TrackId),
    /// `video0_ts.m3u8`.
    TsMedia(TrackKind, TrackId),
    /// `video0_RUN_init0.m4s`.
    Init(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_seg17.m4s`, by its media sequence number.
    Segment(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_part170.m4s`, counted over all segments.
    Part(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_seg17.ts`.
    TsSegment(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_seg16.m4s.key`, `video0_RUN_seg16.ts.key`, by the first segment that needs it.
    Key(Container, TrackKind, TrackId, Run, u64),
}

impl File {
    /// The path of a stream, and the file below it, of a path such as `live/cam/index.m3u8`.
    #[must_use]
    pub fn split(path: &str) -> Option<(&str, Self)> {
        let at = path.bytes().rposition(|byte| byte == b'/')?;
        Some((path.get(..at)?, path.get(at.saturating_add(1)..)?.parse().ok()?))
    }

    /// The playlist of the same in MPEG-TS, where the query asks for that: `container=ts`.
    #[must_use]
    pub fn in_container(self, query: Option<&str>) -> Self {
        let wanted = query.unwrap_or_default().split('&').any(|pair| pair == "container=ts");
        match self {
            Self::Multivariant if wanted => Self::TsMultivariant,
            Self::Media(kind, track) if wanted => Self::TsMedia(kind, track),
            other => other,
        }
    }

    /// What the stream's segments are made of where this file is of.
    #[must_use]
    pub const fn container(&self) -> Container {
        match self {
            Self::TsMultivariant | Self::TsMedia(..) | Self::TsSegment(..) => Container::Ts,
            Self::Key(container, ..) => *container,
            _ => Container::Cmaf,
        }
    }

    /// The rendition that it is of; `None` for what is of all.
    #[must_use]
    pub const fn track(&self) -> Option<TrackId> {
        match self {
            Self::Multivariant | Self::TsMultivariant | Self::Manifest => None,
            Self::Media(_, track)
            | Self::TsMedia(_, track)
            | Self::Init(_, track, ..)
            | Self::Segment(_, track, ..)
            | Self::TsSegment(_, track, ..)
            | Self::Key(_, _, track, ..)
            | Self::Part(_, track, ..) => Some(*track),
        }
    }
}

const fn extension(container: Container) -> &'static str {
    match container {
        Container::Cmaf => "m4s",
        Container::Ts => "ts",
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str(INDEX),
            Self::TsMultivariant => f.write_str(TS_INDEX),
            Self::Manifest => f.write_str(MANIFEST),
            Self::Media(kind, track) => write!(f, "{kind}{track}.m3u8"),
            Self::TsMedia(kind, track) => write!(f, "{kind}{track}_ts.m3u8"),
            Self::Init(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_init{n}.m4s", run.0),
            Self::Segment(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_seg{n}.m4s", run.0),
            Self::Part(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_part{n}.m4s", run.0),
            Self::TsSegment(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_seg{n}.ts", run.0),
            Self::Key(container, kind, track, run, n) => {
                write!(f, "{kind}{track}_{:x}_seg{n}.{}.key", run.0, extension(*container))
            }
        }
    }
}

/// Not the name of a file of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a file of a stream")]
pub struct NotAFile;

impl FromStr for File {
    type Err = NotAFile;

    /// Only names as they are written here: one file has one name.
    fn from_str(name: &str) -> Result<Self, NotAFile> {
        match name {
            INDEX => Ok(Self::Multivariant),
            TS_INDEX => Ok(Self::TsMultivariant),
            MANIFEST => Ok(Self::Manifest),
            name => decode(name).ok_or(NotAFile),
        }
    }
}

fn decode(name: &str) -> Option<File> {
    let kinds = [TrackKind::Video, TrackKind::Audio];
    let (kind, rest) = kinds.into_iter().find_map(|kind| Some((kind, name.strip_prefix(kind.as_str())?)))?;
    let track = |text: &str| TrackId::new(u8::try_from(decimal(text)?).ok()?);
    if let Some(name) = rest.strip_suffix(".m3u8") {
        return match name.strip_suffix("_ts") {
            Some(name) => Some(File::TsMedia(kind, track(name)?)),
            None => Some(File::Media(kind, track(name)?)),
        };
    }
    let (rest, of) = split_at(rest, b'.')?;
    let (of_track, rest) = split_at(rest, b'_')?;
    let (run, file) = split_at(rest, b'_')?;
    let (track, run) = (track(of_track)?, Run(hexadecimal(run)?));
    let segment = || decimal(file.strip_prefix("seg")?);
    match (of, file.as_bytes().first()?) {
        ("m4s", b'p') => Some(File::Part(kind, track, run, decimal(file.strip_prefix("part")?)?)),
        ("m4s", b'i') => Some(File::Init(kind, track, run, decimal(file.strip_prefix("init")?)?)),
        ("m4s", _) => Some(File::Segment(kind, track, run, segment()?)),
        ("ts", _) => Some(File::TsSegment(kind, track, run, segment()?)),
        ("m4s.key", _) => Some(File::Key(Container::Cmaf, kind, track, run, segment()?)),
        ("ts.key", _) => Some(File::Key(Container::Ts, kind, track, run, segment()?)),
        _ => None,
    }
}

/// What stands before the first such byte, and behind it. Names are too short for a search that has to be prepared.
fn split_at(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|one| one == byte)?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// A number without a sign and without zeros before it, as it is written.
fn decimal(text: &str) -> Option<u64> {
    let is_ours =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_ours)
}

/// The same in hexadecimal digits, small letters.
fn hexadecimal(text: &str) -> Option<u64> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_ours = text.bytes().all(is_digit) && (text.len() == 1 || !text.starts_with('0'));
    u64::from_str_radix(text, 16).ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let (track, run) = (TrackId::AUDIO, Run(0x1A2B));
        for (name, expect) in [
            ("index.m3u8", Some(File::Multivariant)),
            ("manifest.mpd", Some(File::Manifest)),
            ("audio1.m3u8", Some(File::Media(TrackKind::Audio, track))),
            ("audio1_1a2b_init0.m4s", Some(File::Init(TrackKind::Audio, track, run, 0))),
            ("video1_1a2b_seg17.m4s", Some(File::Segment(TrackKind::Video, track, run, 17))),
            ("video1_1a2b_part170.m4s", Some(File::Part(TrackKind::Video, track, run, 170))),
            ("index.m3u8?container=ts", Some(File::TsMultivariant)),
            ("audio1_ts.m3u8", Some(File::TsMedia(TrackKind::Audio, track))),
            ("video1_1a2b_seg17.ts", Some(File::TsSegment(TrackKind::Video, track, run, 17))),
            ("video1_1a2b_seg6.m4s.key", Some(File::Key(Container::Cmaf, TrackKind::Video, track, run, 6))),
            ("video1_1a2b_seg6.ts.key", Some(File::Key(Container::Ts, TrackKind::Video, track, run, 6))),
            ("video1_1a2b_part6.ts", None),
            ("video1_1a2b_seg6.key", None),
            ("video1_ts_ts.m3u8", None),
            ("video01.m3u8", None),
            ("video64.m3u8", None),
            ("video+1.m3u8", None),
            ("video1_1A2B_seg17.m4s", None),
            ("video1_1a2b_seg017.m4s", None),
            ("video1_1a2b_seg99999999999999999999.m4s", None),
            ("data1.m3u8", None),
            ("video1_1a2b_.m4s", None),
            ("video1_01a2b_seg17.m4s", None),
            ("video1_+1a2b_seg17.m4s", None),
            ("video1_1a2b_seg+17.m4s", None),
            ("video1_1a2b_seg_17.m4s", None),
            ("video1_1a2b_partial.m4s", None),
            ("video256_1a2b_seg1.m4s", None),
            ("video1__seg1.m4s", None),
            ("", None),
        ] {
            let file: Option<File> = name.parse().ok();
            assert_eq!(file, expect, "{name}");
            assert!(file.is_none_or(|file| file.to_string() == name), "one file has one name: {name}");
        }
        assert_eq!(File::split("live/a/b/index.m3u8"), Some(("live/a/b", File::Multivariant)));
        assert_eq!(File::split("index.m3u8"), None);
        let media = File::Media(TrackKind::Audio, track);
        assert_eq!(File::Multivariant.in_container(Some("a=b&container=ts")), File::TsMultivariant);
        assert_eq!(media.in_container(Some("container=ts")), File::TsMedia(TrackKind::Audio, track));
        assert_eq!(media.in_container(Some("container=tsx")), media);
        assert_eq!(File::Manifest.in_container(Some("container=ts")), File::Manifest);
    }
}
