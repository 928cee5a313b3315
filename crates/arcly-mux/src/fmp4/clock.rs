//! When samples begin.

use arcly_core::{MediaFrame, TimeDelta, Timescale, Timestamp, TrackKind};

use super::Mp4Track;

/// How far a sound frame may be from where the one before it ends, and still be taken for its continuation: transports
/// that round to milliseconds are off by one at most, in either direction.
const TOLERANCE: TimeDelta = TimeDelta::from_millis(2);

/// Where the next sample of a track is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleClock {
    is_sound: bool,
    expected: Option<Timestamp>,
}

impl SampleClock {
    pub(crate) fn of(track: &Mp4Track) -> Self {
        Self { is_sound: track.track.kind() == TrackKind::Audio, expected: None }
    }

    /// When a sample begins whose frame says `dts`.
    pub(super) fn place(&self, dts: Timestamp) -> Timestamp {
        self.expected.filter(|expected| (dts - *expected).abs() <= TOLERANCE).unwrap_or(dts)
    }

    /// Goes on behind a frame.
    pub(super) fn advance(&mut self, frame: &MediaFrame) {
        let known = self.is_sound && frame.duration > TimeDelta::ZERO;
        self.expected = known.then(|| self.place(frame.dts) + frame.duration);
    }

    /// Puts a frame where its sample begins.
    pub(crate) fn settle(&mut self, frame: &mut MediaFrame) {
        let at = self.place(frame.dts);
        self.advance(frame);
        frame.pts += at - frame.dts;
        frame.dts = at;
    }
}

/// A time in ticks since `origin`; what lies before is zero.
pub(super) fn ticks(at: Timestamp, origin: Timestamp, scale: Timescale) -> u64 {
    u64::try_from((at - origin).to_ticks(scale)).unwrap_or_default()
}
