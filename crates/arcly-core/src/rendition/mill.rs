//! What becomes of a stream's entries in a rendition: no task, no thread, no clock.

use std::sync::Arc;

use super::{is_made, target};
use crate::codec::CodecId;
use crate::contract::transcode::{TranscodeSession, Transcoder};
use crate::frame::{FrameFlags, MediaFrame};
use crate::log::Read;
use crate::track::{Track, TrackId, TrackSet};

/// An entry of the rendition's log: a frame, what it refers to, and whether a reader may begin with it.
pub(super) type Entry = (MediaFrame, Arc<TrackSet>, bool);

/// What has been coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) frames_in: u64,
    pub(super) frames_out: u64,
    pub(super) failed: u64,
}

/// A track that is being made.
struct Lane {
    source: Track,
    /// `None` once it has failed: the track stays, and is silent.
    session: Option<Box<dyn TranscodeSession>>,
    /// The track as it is in force.
    made: Option<Track>,
    /// Readers may begin with the next frame that comes out.
    join: bool,
}

impl Lane {
    /// True when what goes into a decoder is as it was.
    fn goes_on(&self, track: &Track) -> bool {
        let source = &self.source;
        source.id == track.id
            && source.codec == track.codec
            && source.config == track.config
            && source.params == track.params
    }
}

/// Turns entries of a stream into those of a rendition, in order.
pub(super) struct Mill {
    transcoder: Arc<dyn Transcoder>,
    codec: CodecId,
    lanes: Vec<Lane>,
    /// In force in the stream, and in the rendition.
    source: Arc<TrackSet>,
    tracks: Arc<TrackSet>,
    counts: Counts,
}

impl Mill {
    pub(super) fn new(transcoder: &Arc<dyn Transcoder>, codec: CodecId) -> Self {
        Self {
            transcoder: Arc::clone(transcoder),
            codec,
            lanes: Vec::new(),
            source: Arc::default(),
            tracks: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// Tracks that are being made.
    pub(super) const fn sessions(&self) -> usize {
        self.lanes.len()
    }

    /// What has been coded since this was last asked.
    pub(super) fn take_counts(&mut self) -> Counts {
        core::mem::take(&mut self.counts)
    }

    /// True when `reads` take no coding, and so no time.
    pub(super) fn is_quick(&self, reads: &[Read<MediaFrame>]) -> bool {
        reads.iter().all(|read| match read {
            Read::Item(frame) => !self.lanes.iter().any(|lane| lane.source.id == frame.track),
            Read::Skipped(_) => true,
            Read::Context(_) => false,
        })
    }

    /// Appends what becomes of `reads`.
    pub(super) fn grind(&mut self, reads: Vec<Read<MediaFrame>>, out: &mut Vec<Entry>) {
        for read in reads {
            match read {
                Read::Context(tracks) => self.set_tracks(tracks, out),
                Read::Item(frame) => self.frame(&frame, frame.is_join(), out),
                // Sessions see by its time that something is missing before the next frame.
                Read::Skipped(_) => {}
            }
        }
    }

    /// Takes out what sessions have held back; nothing comes after it.
    pub(super) fn finish(&mut self, out: &mut Vec<Entry>) {
        for lane in core::mem::take(&mut self.lanes) {
            self.retire(lane, out);
        }
    }

    fn set_tracks(&mut self, source: Arc<TrackSet>, out: &mut Vec<Entry>) {
        let (stay, go): (Vec<_>, Vec<_>) = core::mem::take(&mut self.lanes)
            .into_iter()
            .partition(|lane| source.get(lane.source.id).is_some_and(|track| lane.goes_on(track)));
        self.lanes = stay;
        for lane in go {
            self.retire(lane, out);
        }
        for track in source.iter() {
            let has_lane = self.lanes.iter().any(|lane| lane.source.id == track.id);
            if !has_lane && is_made(track, &*self.transcoder, self.codec) {
                self.open(track);
            }
        }
        self.source = source;
        self.compose();
    }

    /// Begins to make a track; one that cannot be made passes as it is.
    fn open(&mut self, track: &Track) {
        match self.transcoder.open(track, &target(track, self.codec)) {
            Ok(session) => {
                let source = track.clone();
                self.lanes.push(Lane { source, session: Some(session), made: None, join: false });
            }
            Err(error) => {
                tracing::warn!(track = %track.id, from = %track.codec, to = %self.codec, %error, "sound passes as it is");
            }
        }
    }

    fn retire(&mut self, lane: Lane, out: &mut Vec<Entry>) {
        let Some(mut session) = lane.session else { return };
        session.finish();
        let mut join = lane.join;
        while let Some(frame) = session.take() {
            self.counts.frames_out = self.counts.frames_out.saturating_add(1);
            out.push((coded(frame, lane.source.id), Arc::clone(&self.tracks), core::mem::take(&mut join)));
        }
    }

    /// Says anew which tracks there are.
    fn compose(&mut self) {
        let mut tracks = TrackSet::clone(&self.source);
        for lane in &mut self.lanes {
            if let Some(session) = &lane.session {
                lane.made = session.track().cloned();
            }
            match &lane.made {
                Some(track) => tracks.insert(Track { id: lane.source.id, ..track.clone() }),
                None => drop(tracks.remove(lane.source.id)),
            }
        }
        tracks.version = self.tracks.version.wrapping_add(1);
        self.tracks = Arc::new(tracks);
    }

    fn frame(&mut self, frame: &MediaFrame, join: bool, out: &mut Vec<Entry>) {
        let Some(at) = self.lanes.iter().position(|lane| lane.source.id == frame.track) else {
            out.push((frame.clone(), Arc::clone(&self.tracks), join));
            return;
        };
        if self.put(at, frame, join) {
            self.compose();
        }
        let Some(lane) = self.lanes.get_mut(at) else { return };
        while let Some(made) = lane.session.as_mut().and_then(|session| session.take()) {
            self.counts.frames_out = self.counts.frames_out.saturating_add(1);
            let join = core::mem::take(&mut lane.join);
            out.push((coded(made, frame.track), Arc::clone(&self.tracks), join));
        }
    }

    /// Puts a frame into its lane. True when what the lane makes has become known with it.
    fn put(&mut self, at: usize, frame: &MediaFrame, join: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(at) else { return false };
        lane.join |= join;
        let Some(session) = &mut lane.session else { return false };
        self.counts.frames_in = self.counts.frames_in.saturating_add(1);
        if let Err(error) = session.put(frame) {
            self.counts.failed = self.counts.failed.saturating_add(1);
            if !error.is_recoverable() {
                tracing::warn!(track = %frame.track, %error, "a track falls silent");
                lane.session = None;
                return false;
            }
            tracing::debug!(track = %frame.track, %error, "sound is missing");
        }
        lane.made.as_ref() != session.track()
    }
}

/// A frame of a track that was made: like all sound, every one of them is a place to begin decoding.
fn coded(frame: MediaFrame, track: TrackId) -> MediaFrame {
    MediaFrame { track, flags: frame.flags | FrameFlags::KEYFRAME, ..frame }
}
