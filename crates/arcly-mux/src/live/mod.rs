//! A live stream as a bounded window of segments: CMAF with parts, which HLS and DASH serve, or MPEG-TS for HLS.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-pantos-hls-rfc8216bis | 3 segments, 4.4.3.1 target duration, 4.4.4.9 parts | [`Plan`], [`Segmenter`] |
//! | | 4.4.4.3 discontinuities, 4.4.4.5 maps, 4.4.4.7 gaps | [`Segment`], [`Part`] |
//! | | 6.2.2 how long segments stay available | [`View`] |
//! | | 4.4.4.4 keys, 5.2 IV, 6.2.3 encryption | [`Encryption`], [`Key`] |
//! | | 4.4.5.1 date ranges, SCTE-35 | [`DateRange`] |
//! | ISO/IEC 23000-19 | 7.3 CMAF header, chunk, segment | through [`crate::fmp4`] |
//!
//! ```text
//!                         ┌ leader (first video, else sound) ── where segments begin ┐
//!   MediaFrame ─► Segmenter                                                          ├─► View of each rendition
//!                         └ followers ── cut where the leader was cut ───────────────┘   (immutable, shared)
//! ```
//!
//! [`TsSegmenter`] makes MPEG-TS of the same frames: segments of all tracks together, without parts.
//!
//! No clock, no runtime: frames come with the wall-clock time at which they arrived, and everything follows from them.
//!
//! Guarantees, each with its test in `tests.rs`:
//!
//! * A part is never longer than the part target, a segment never longer than the target duration, whatever the GOP and
//!   the frame rate, and neither target changes. A segment that has to begin without a keyframe says so.
//! * What a rendition lists follows without holes: time without media is listed as a gap.
//! * A change of codec, the return of a publisher and a jump of its clock begin a new segment with a discontinuity in
//!   every rendition at once; media sequence numbers go on.
//! * Memory: at most [`Config::max_bytes`] of media in a rendition, the newest segment apart, which is bounded by the
//!   target duration; frames that wait for the leader are bounded by [`MAX_WAITING`].
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

pub(crate) mod dates;
mod lane;
mod plan;
mod seal;
mod segmenter;
mod splice;
mod transport;
mod window;

#[cfg(test)]
mod tests;

pub use plan::Plan;
pub use seal::{Encryption, Key};
pub use segmenter::{Continuation, Segmenter};
pub use transport::TsSegmenter;
pub use window::{Container, Cue, DateRange, Init, Part, Segment, View};

use arcly_core::TimeDelta;

/// Frames of one track that wait until it is known to which segment they belong.
pub const MAX_WAITING: usize = 2_048;
/// The longest target duration that is chosen by itself.
pub const MAX_TARGET: TimeDelta = TimeDelta::from_millis(10_000);

/// Renditions that have ended and are kept for those who still read them.
const MAX_ENDED: usize = 4;
/// Messages that one segment carries.
const MAX_RANGES: usize = 32;

/// How a stream is cut, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long parts should be: what decides latency. The part target is the whole number of pictures nearest to it.
    pub part: TimeDelta,
    /// How long segments are at least: they end at the first keyframe from then on.
    pub segment: TimeDelta,
    /// How much is listed, at least three target durations. As much again stays available for those who have an older
    /// playlist.
    pub window: TimeDelta,
    /// Bytes of media that a rendition keeps; the oldest segments go first.
    pub max_bytes: usize,
    /// Segments are encrypted, whole, which leaves nothing to be listed of the one that is being made.
    pub encryption: Option<Encryption>,
}

impl Default for Config {
    /// Parts of 200 ms, segments of 2 s, 30 s listed, 64 MiB, nothing encrypted.
    fn default() -> Self {
        Self {
            part: TimeDelta::from_millis(200),
            segment: TimeDelta::from_millis(2_000),
            window: TimeDelta::from_millis(30_000),
            max_bytes: 64 << 20,
            encryption: None,
        }
    }
}
