//! What the files of a stream are called.

use core::fmt;
use core::str::FromStr;

use arcly_core::{TrackId, TrackKind};

/// The name of the multivariant playlist.
const INDEX: &str = "index.m3u8";
/// The name of the DASH manifest.
const MANIFEST: &str = "manifest.mpd";

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
    /// `manifest.mpd`, of DASH, whose media have the names of HLS.
    Manifest,
    /// `video0.m3u8`, `audio1.m3u8`.
    Media(TrackKind, TrackId),
    /// `video0_RUN_init0.m4s`.
    Init(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_seg17.m4s`, by its media sequence number.
    Segment(TrackKind, TrackId, Run, u64),
    /// `video0_RUN_part170.m4s`, counted over all segments.
    Part(TrackKind, TrackId, Run, u64),
}

impl File {
    /// The path of a stream, and the file below it, of a path such as `live/cam/index.m3u8`.
    #[must_use]
    pub fn split(path: &str) -> Option<(&str, Self)> {
        let (stream, file) = path.rsplit_once('/')?;
        Some((stream, file.parse().ok()?))
    }

    /// The rendition that it is of; `None` for what is of all.
    #[must_use]
    pub const fn track(&self) -> Option<TrackId> {
        match self {
            Self::Multivariant | Self::Manifest => None,
            Self::Media(_, track)
            | Self::Init(_, track, ..)
            | Self::Segment(_, track, ..)
            | Self::Part(_, track, ..) => Some(*track),
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str(INDEX),
            Self::Manifest => f.write_str(MANIFEST),
            Self::Media(kind, track) => write!(f, "{kind}{track}.m3u8"),
            Self::Init(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_init{n}.m4s", run.0),
            Self::Segment(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_seg{n}.m4s", run.0),
            Self::Part(kind, track, run, n) => write!(f, "{kind}{track}_{:x}_part{n}.m4s", run.0),
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
        let file = match name {
            INDEX => Some(Self::Multivariant),
            MANIFEST => Some(Self::Manifest),
            name => decode(name),
        };
        file.filter(|file| file.to_string() == name).ok_or(NotAFile)
    }
}

fn decode(name: &str) -> Option<File> {
    let kinds = [TrackKind::Video, TrackKind::Audio];
    let (kind, rest) = kinds.into_iter().find_map(|kind| Some((kind, name.strip_prefix(kind.as_str())?)))?;
    if let Some(track) = rest.strip_suffix(".m3u8") {
        return Some(File::Media(kind, TrackId::new(track.parse().ok()?)?));
    }
    let mut fields = rest.strip_suffix(".m4s")?.splitn(3, '_');
    let track = TrackId::new(fields.next()?.parse().ok()?)?;
    let run = Run(u64::from_str_radix(fields.next()?, 16).ok()?);
    let file = fields.next()?;
    type Make = fn(TrackKind, TrackId, Run, u64) -> File;
    let makers: [(&str, Make); 3] = [("init", File::Init), ("seg", File::Segment), ("part", File::Part)];
    makers.into_iter().find_map(|(prefix, make)| {
        let number = file.strip_prefix(prefix)?.parse().ok()?;
        Some(make(kind, track, run, number))
    })
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
            ("video01.m3u8", None),
            ("video64.m3u8", None),
            ("video+1.m3u8", None),
            ("video1_1A2B_seg17.m4s", None),
            ("video1_1a2b_seg017.m4s", None),
            ("video1_1a2b_seg99999999999999999999.m4s", None),
            ("data1.m3u8", None),
            ("video1_1a2b_.m4s", None),
            ("", None),
        ] {
            assert_eq!(name.parse().ok(), expect, "{name}");
        }
        assert_eq!(File::split("live/a/b/index.m3u8"), Some(("live/a/b", File::Multivariant)));
        assert_eq!(File::split("index.m3u8"), None);
    }
}
