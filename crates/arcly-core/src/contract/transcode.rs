//! Making one track from another: a codec that a reader cannot play into one that it can.
//!
//! A [`Transcoder`] says what it can do and opens sessions; a [`TranscodeSession`] takes frames in and gives frames out,
//! with no thread, clock or channel of its own. Whoever drives one owns the thread it runs on: coding takes
//! milliseconds, which an async worker does not have.

use std::sync::Arc;

use crate::codec::CodecId;
use crate::frame::MediaFrame;
use crate::track::{Track, TrackId};

/// What is wanted of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TranscodeTarget {
    /// The number of the track that is made.
    pub track: TrackId,
    /// Its codec.
    pub codec: CodecId,
    /// Its bitrate in bits per second; `None` leaves it to the transcoder.
    pub bitrate_bps: Option<u32>,
    /// Its picture height in pixels, the width following; `None` keeps it.
    pub height: Option<u32>,
}

impl TranscodeTarget {
    /// A track of that number and codec, otherwise like its source.
    #[must_use]
    pub const fn new(track: TrackId, codec: CodecId) -> Self {
        Self { track, codec, bitrate_bps: None, height: None }
    }
}

/// Why a track cannot be made from another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranscodeError {
    /// Nothing here makes that from this.
    #[error("cannot make {to:?} from {from:?}")]
    Unsupported {
        /// The source's codec.
        from: CodecId,
        /// The codec that was wanted.
        to: CodecId,
    },
    /// No further session fits.
    #[error("no transcoder is free")]
    Busy,
    /// A frame cannot be decoded. The session goes on at the next keyframe.
    #[error("a frame cannot be decoded: {0}")]
    Frame(Arc<str>),
    /// The session is over.
    #[error("the transcoder failed: {0}")]
    Failed(Arc<str>),
}

impl TranscodeError {
    /// True when the session goes on.
    #[must_use]
    pub const fn is_recoverable(&self) -> bool {
        matches!(self, Self::Frame(_))
    }
}

/// Makes tracks from others.
///
/// ```
/// use arcly_core::contract::transcode::{NoTranscoder, TranscodeTarget, Transcoder};
/// use arcly_core::{CodecConfig, CodecId, Track, TrackId};
///
/// let opus = Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None);
/// let target = TranscodeTarget::new(TrackId::AUDIO, CodecId::Aac);
/// assert!(!NoTranscoder.supports(&opus, &target));
/// ```
pub trait Transcoder: Send + Sync {
    /// True when [`open`](Self::open) would try. Cheap: asked for every reader.
    fn supports(&self, source: &Track, target: &TranscodeTarget) -> bool;

    /// Begins a session for a source track as it is now. When the source's configuration changes, its owner
    /// finishes the session and opens another.
    ///
    /// # Errors
    /// [`TranscodeError::Unsupported`] or [`TranscodeError::Busy`].
    fn open(
        &self,
        source: &Track,
        target: &TranscodeTarget,
    ) -> Result<Box<dyn TranscodeSession>, TranscodeError>;
}

/// One track being made from another.
///
/// The owner puts in one frame and then takes out all there is, again and again. How many frames a session holds back
/// (look-ahead, reordering) is bounded by the session; dts that come out never decrease, on the source's timeline.
pub trait TranscodeSession: Send {
    /// The track that is made: `None` until enough has been put in to know its configuration, and then unchanging.
    fn track(&self) -> Option<&Track>;

    /// Puts in a frame of the source, in order. May take as long as coding a frame takes.
    ///
    /// # Errors
    /// [`TranscodeError::Frame`] when it was of no use, [`TranscodeError::Failed`] when the session is over.
    fn put(&mut self, frame: &MediaFrame) -> Result<(), TranscodeError>;

    /// Takes out the next frame; `None` when more has to be put in first.
    fn take(&mut self) -> Option<MediaFrame>;

    /// Says that no more is put in; what was held back can then be taken out.
    fn finish(&mut self);
}

/// Makes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTranscoder;

impl Transcoder for NoTranscoder {
    fn supports(&self, _: &Track, _: &TranscodeTarget) -> bool {
        false
    }

    fn open(
        &self,
        source: &Track,
        target: &TranscodeTarget,
    ) -> Result<Box<dyn TranscodeSession>, TranscodeError> {
        Err(TranscodeError::Unsupported { from: source.codec, to: target.codec })
    }
}

/// Several transcoders, asked in order: the first that supports a target and has room makes it.
#[derive(Clone, Default)]
pub struct Transcoders(Vec<Arc<dyn Transcoder>>);

impl Transcoders {
    /// These, best first.
    #[must_use]
    pub fn new(transcoders: impl IntoIterator<Item = Arc<dyn Transcoder>>) -> Self {
        Self(transcoders.into_iter().collect())
    }
}

impl Transcoder for Transcoders {
    fn supports(&self, source: &Track, target: &TranscodeTarget) -> bool {
        self.0.iter().any(|transcoder| transcoder.supports(source, target))
    }

    fn open(
        &self,
        source: &Track,
        target: &TranscodeTarget,
    ) -> Result<Box<dyn TranscodeSession>, TranscodeError> {
        let mut last = TranscodeError::Unsupported { from: source.codec, to: target.codec };
        for transcoder in self.0.iter().filter(|transcoder| transcoder.supports(source, target)) {
            match transcoder.open(source, target) {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::codec::CodecConfig;
    use crate::time::Timestamp;

    /// "Codes" by reversing the payload, one frame behind.
    struct Reversing {
        track: Track,
        held: VecDeque<MediaFrame>,
        finished: bool,
    }

    impl TranscodeSession for Reversing {
        fn track(&self) -> Option<&Track> {
            Some(&self.track)
        }
        fn put(&mut self, frame: &MediaFrame) -> Result<(), TranscodeError> {
            if frame.payload.is_empty() {
                return Err(TranscodeError::Frame("it is empty".into()));
            }
            let payload = frame.payload.iter().rev().copied().collect();
            self.held.push_back(MediaFrame { track: self.track.id, payload, ..frame.clone() });
            Ok(())
        }
        fn take(&mut self) -> Option<MediaFrame> {
            if self.finished || self.held.len() > 1 { self.held.pop_front() } else { None }
        }
        fn finish(&mut self) {
            self.finished = true;
        }
    }

    /// Opens `Reversing` for Opus, unless it is busy.
    struct FromOpus {
        busy: bool,
    }

    impl Transcoder for FromOpus {
        fn supports(&self, source: &Track, _: &TranscodeTarget) -> bool {
            source.codec == CodecId::Opus
        }
        fn open(
            &self,
            _: &Track,
            target: &TranscodeTarget,
        ) -> Result<Box<dyn TranscodeSession>, TranscodeError> {
            if self.busy {
                return Err(TranscodeError::Busy);
            }
            let track = Track::new(target.track, target.codec, CodecConfig::None);
            Ok(Box::new(Reversing { track, held: VecDeque::new(), finished: false }))
        }
    }

    const TARGET: TranscodeTarget = TranscodeTarget::new(TrackId::DATA, CodecId::Aac);

    fn source(codec: CodecId) -> Track {
        Track::new(TrackId::AUDIO, codec, CodecConfig::None)
    }

    fn frame(dts: i64, payload: &'static [u8]) -> MediaFrame {
        MediaFrame::new(TrackId::AUDIO, Timestamp(dts), payload.into())
    }

    #[test]
    fn a_session_behind_the_trait_object() {
        let all = Transcoders::new([
            Arc::new(NoTranscoder) as Arc<dyn Transcoder>,
            Arc::new(FromOpus { busy: false }),
        ]);
        assert!(all.supports(&source(CodecId::Opus), &TARGET));
        let mut session = all.open(&source(CodecId::Opus), &TARGET).expect("supported");
        assert_eq!(session.track().map(|track| (track.id, track.codec)), Some((TrackId::DATA, CodecId::Aac)));
        session.put(&frame(1, b"abc")).expect("taken");
        assert_eq!(session.take(), None);
        let error = session.put(&frame(2, b"")).expect_err("empty");
        assert!(error.is_recoverable());
        session.put(&frame(3, b"def")).expect("taken");
        let out = session.take().expect("the first");
        assert_eq!((out.track, out.dts, &out.payload[..]), (TrackId::DATA, Timestamp(1), &b"cba"[..]));
        assert_eq!(session.take(), None);
        session.finish();
        assert_eq!(session.take().map(|f| f.dts), Some(Timestamp(3)));
        assert_eq!(session.take(), None);
    }

    #[test]
    fn the_first_that_has_room_makes_it() {
        let busy = || Arc::new(FromOpus { busy: true }) as Arc<dyn Transcoder>;
        let free = Arc::new(FromOpus { busy: false }) as Arc<dyn Transcoder>;
        let opus = source(CodecId::Opus);
        assert!(Transcoders::new([busy(), free]).open(&opus, &TARGET).is_ok());
        assert_eq!(Transcoders::new([busy()]).open(&opus, &TARGET).map(drop), Err(TranscodeError::Busy));
        let unsupported = Err(TranscodeError::Unsupported { from: CodecId::Mp3, to: CodecId::Aac });
        assert_eq!(Transcoders::new([busy()]).open(&source(CodecId::Mp3), &TARGET).map(drop), unsupported);
    }
}
