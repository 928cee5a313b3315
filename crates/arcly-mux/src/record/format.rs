//! The containers of recordings.

use arcly_codec::flv::{self, MuxerOptions, put_file_header, put_tag};
use arcly_core::{MediaFrame, TimeDelta, Timestamp, TrackKind, TrackSet};
use bytes::{Bytes, BytesMut};

use crate::fmp4;

/// The container of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Fragmented MP4: a fragment for each part.
    #[default]
    Mp4,
    /// FLV.
    Flv,
}

impl Format {
    const ALL: [Self; 2] = [Self::Mp4, Self::Flv];

    /// What its files' names end in, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Flv => "flv",
        }
    }

    /// The format of files whose names end in that.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Mp4 => fmp4::MEDIA_TYPE,
            Self::Flv => crate::flv::MEDIA_TYPE,
        }
    }

    /// A muxer for one file whose time 0 is `origin`.
    pub(super) fn muxer(self, tracks: &TrackSet, origin: Timestamp) -> Box<dyn FileMuxer> {
        match self {
            Self::Mp4 => Box::new(Mp4::new(tracks, origin)),
            Self::Flv => Box::new(Flv::new(tracks, origin)),
        }
    }
}

/// Makes one file, front to back.
pub(super) trait FileMuxer: Send {
    /// The file's first bytes.
    fn header(&mut self) -> Vec<Bytes>;
    /// What `frames`, in log order, come to; `next` is the frame behind them, when there is one.
    fn part(&mut self, frames: &[MediaFrame], next: Option<&MediaFrame>) -> Vec<Bytes>;
    /// The file's last bytes.
    fn trailer(&mut self) -> Vec<Bytes>;
}

/// A fragment for each part, all tracks in it.
struct Mp4 {
    fragmenter: fmp4::Fragmenter,
    tracks: Vec<fmp4::Mp4Track>,
}

impl Mp4 {
    /// Tracks that MP4 cannot carry are left out.
    fn new(tracks: &TrackSet, origin: Timestamp) -> Self {
        let described =
            tracks.iter().zip(1..).filter_map(|(track, number)| fmp4::Mp4Track::new(track, number).ok());
        let tracks: Vec<_> = described.collect();
        Self { fragmenter: fmp4::Fragmenter::new(tracks.clone(), origin), tracks }
    }
}

impl FileMuxer for Mp4 {
    fn header(&mut self) -> Vec<Bytes> {
        let options = fmp4::InitOptions { start: Some(TimeDelta::ZERO), ..fmp4::InitOptions::default() };
        vec![fmp4::init_segment(&self.tracks, options)]
    }

    fn part(&mut self, frames: &[MediaFrame], next: Option<&MediaFrame>) -> Vec<Bytes> {
        let lanes: Vec<Vec<&MediaFrame>> = self
            .tracks
            .iter()
            .map(|track| frames.iter().filter(|frame| frame.track == track.id()).collect())
            .collect();
        let with_frames = self.tracks.iter().zip(&lanes).filter(|(_, lane)| !lane.is_empty());
        let runs: Vec<_> = with_frames
            .map(|(track, lane)| {
                let follows = next.filter(|next| next.track == track.id()).map(|next| next.dts);
                fmp4::Run {
                    frames: lane.as_slice(),
                    end: follows.unwrap_or_else(|| track.expected_end(lane)),
                }
            })
            .collect();
        // Parts are bounded far below what a fragment holds, and never empty of all tracks but those left out.
        self.fragmenter
            .fragment(&runs, &fmp4::Prefix::default())
            .map_or_else(|_| Vec::new(), fmp4::Fragment::into_chunks)
    }

    fn trailer(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// A tag for each frame, with times from the file's beginning.
struct Flv {
    muxer: flv::Muxer,
    origin: Timestamp,
    header: Bytes,
}

impl Flv {
    fn new(tracks: &TrackSet, origin: Timestamp) -> Self {
        let options = MuxerOptions { encoder: Some("arcly".into()), ..MuxerOptions::default() };
        let (mut muxer, mut header) = (flv::Muxer::new(options), BytesMut::new());
        let has = |kind| tracks.first(kind).is_some();
        put_file_header(&mut header, has(TrackKind::Audio), has(TrackKind::Video));
        muxer.tracks(tracks, Timestamp::ZERO).iter().for_each(|tag| put_tag(&mut header, tag));
        Self { muxer, origin, header: header.freeze() }
    }

    fn tag(&self, frame: &MediaFrame) -> Option<Bytes> {
        let moved = MediaFrame {
            dts: Timestamp::ZERO + (frame.dts - self.origin),
            pts: Timestamp::ZERO + (frame.pts - self.origin),
            ..frame.clone()
        };
        let tag = self.muxer.frame(&moved)?;
        let mut out = BytesMut::with_capacity(tag.len().saturating_add(16));
        put_tag(&mut out, &tag);
        Some(out.freeze())
    }
}

impl FileMuxer for Flv {
    fn header(&mut self) -> Vec<Bytes> {
        vec![self.header.clone()]
    }

    fn part(&mut self, frames: &[MediaFrame], _: Option<&MediaFrame>) -> Vec<Bytes> {
        frames.iter().filter_map(|frame| self.tag(frame)).collect()
    }

    fn trailer(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}
