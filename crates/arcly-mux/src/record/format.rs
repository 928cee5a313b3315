//! The containers of recordings.

use arcly_codec::flv::{self, MuxerOptions, put_file_header, put_tag};
use arcly_core::{MediaFrame, TimeDelta, Timestamp, TrackKind, TrackSet};
use bytes::{Bytes, BytesMut};

use crate::fmp4::{self, FileOptions, FileWriter, MuxError, Patch};
use crate::ts;

/// The container of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// MP4: fragmented while it is written, a fragment for each part; plain when it is finished.
    #[default]
    Mp4,
    /// An MPEG transport stream.
    Ts,
    /// FLV.
    Flv,
}

impl Format {
    const ALL: [Self; 3] = [Self::Mp4, Self::Ts, Self::Flv];

    /// What its files' names end in, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Ts => "ts",
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
            Self::Ts => ts::MEDIA_TYPE,
            Self::Flv => crate::flv::MEDIA_TYPE,
        }
    }

    /// A muxer for one file whose time 0 is `origin`, with parts of that length.
    ///
    /// # Errors
    /// No track can be carried, or one's parameters are not known yet.
    pub(super) fn muxer(
        self,
        tracks: &TrackSet,
        origin: Timestamp,
        part: TimeDelta,
    ) -> Result<Box<dyn FileMuxer>, MuxError> {
        Ok(match self {
            Self::Mp4 => Box::new(Mp4(Some(FileWriter::new(tracks, FileOptions { part })?))),
            Self::Flv => Box::new(Flv::new(tracks, origin)),
            Self::Ts => Box::new(Ts(ts::SegmentMuxer::new(tracks))),
        })
    }
}

/// Makes one file, front to back.
pub(super) trait FileMuxer: Send {
    /// What has to be appended for a frame; some wait for those behind them.
    fn push(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>);
    /// What has to be appended in the end, and then replaced.
    fn finish(&mut self, out: &mut Vec<Bytes>) -> Option<Patch>;
    /// True when what comes of `push` is a part, and need not wait for more.
    fn makes_parts(&self) -> bool;
}

/// A fragment for each part while it is written, a plain file when it is finished.
struct Mp4(Option<FileWriter>);

impl FileMuxer for Mp4 {
    fn push(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>) {
        if let Some(writer) = &mut self.0 {
            // The bounds of the engine are below those of a fragment.
            let _ = writer.push(frame, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Bytes>) -> Option<Patch> {
        self.0.take()?.finish(out).ok()?
    }

    fn makes_parts(&self) -> bool {
        true
    }
}

/// A tag for each frame, with times from the file's beginning.
struct Flv {
    muxer: flv::Muxer,
    origin: Timestamp,
    header: Option<Bytes>,
}

impl Flv {
    fn new(tracks: &TrackSet, origin: Timestamp) -> Self {
        let options = MuxerOptions { encoder: Some("arcly".into()), ..MuxerOptions::default() };
        let (mut muxer, mut header) = (flv::Muxer::new(options), BytesMut::new());
        let has = |kind| tracks.first(kind).is_some();
        put_file_header(&mut header, has(TrackKind::Audio), has(TrackKind::Video));
        muxer.tracks(tracks, Timestamp::ZERO).iter().for_each(|tag| put_tag(&mut header, tag));
        Self { muxer, origin, header: Some(header.freeze()) }
    }
}

impl FileMuxer for Flv {
    fn push(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>) {
        out.extend(self.header.take());
        let moved = MediaFrame {
            dts: Timestamp::ZERO + (frame.dts - self.origin),
            pts: Timestamp::ZERO + (frame.pts - self.origin),
            ..frame.clone()
        };
        let Some(tag) = self.muxer.frame(&moved) else { return };
        let mut bytes = BytesMut::with_capacity(tag.len().saturating_add(16));
        put_tag(&mut bytes, &tag);
        out.push(bytes.freeze());
    }

    fn finish(&mut self, _: &mut Vec<Bytes>) -> Option<Patch> {
        None
    }

    fn makes_parts(&self) -> bool {
        false
    }
}

/// The stream's own times, as a transport stream has them.
struct Ts(ts::SegmentMuxer);

impl FileMuxer for Ts {
    fn push(&mut self, frame: &MediaFrame, out: &mut Vec<Bytes>) {
        self.0.push(frame);
        out.push(self.0.take());
    }

    fn finish(&mut self, _: &mut Vec<Bytes>) -> Option<Patch> {
        None
    }

    fn makes_parts(&self) -> bool {
        false
    }
}
