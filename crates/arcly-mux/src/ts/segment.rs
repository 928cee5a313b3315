//! Segments: pieces of one transport stream, each of which can be played on its own.

use arcly_core::{MediaFrame, TrackSet};
use bytes::{Bytes, BytesMut};

use super::Muxer;

/// Cuts a stream's frames into segments, for HLS and for files.
///
/// Each segment begins with its program tables. Counters and clock go on from one to the next, as players expect
/// of segments that follow each other.
///
/// ```
/// use arcly_core::{CodecConfig, CodecId, MediaFrame, Timestamp, Track, TrackId, TrackSet};
/// use arcly_mux::ts::SegmentMuxer;
///
/// let tracks = TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None)]);
/// let mut segments = SegmentMuxer::new(&tracks);
/// segments.push(&MediaFrame::new(TrackId::AUDIO, Timestamp::ZERO, b"mp3"[..].into()));
/// let first = segments.finish();
/// assert_eq!(first.len(), 3 * 188, "two tables and a frame");
/// assert!(segments.finish().is_empty());
/// ```
#[derive(Debug)]
pub struct SegmentMuxer {
    muxer: Muxer,
    segment: BytesMut,
}

impl SegmentMuxer {
    /// A muxer at the start of its first segment.
    #[must_use]
    pub fn new(tracks: &TrackSet) -> Self {
        let mut muxer = Muxer::new();
        muxer.set_tracks(tracks);
        Self { muxer, segment: BytesMut::new() }
    }

    /// From here on these are the tracks. They take effect with the next frame; a segment that began with others should be
    /// finished before.
    pub fn set_tracks(&mut self, tracks: &TrackSet) {
        self.muxer.set_tracks(tracks);
    }

    /// Appends a frame to the segment.
    pub fn push(&mut self, frame: &MediaFrame) {
        self.muxer.frame(frame, &mut self.segment);
    }

    /// Takes what the segment has so far without ending it: a part of it.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.segment.split().freeze()
    }

    /// Ends the segment and takes what was not [taken](Self::take) of it; the next frame begins another.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        self.muxer.begin();
        self.take()
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.segment.len()
    }
}
