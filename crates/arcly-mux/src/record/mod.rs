//! Recordings: streams as files, copied and never encoded anew; what was recorded, and how to get it back.
//!
//! ```text
//!   stream ─► cursor ─► Segmenter ─► parts ─► bounded queue ─► StorageBackend ─► Index
//!                       (keyframes)            (32 MiB)         NAME.part, NAME
//! ```
//!
//! A recorder is a reader like any other: it never holds up the stream. What waits for a slow disk is bounded by
//! [`MAX_QUEUE_BYTES`]; when that is full the recorder's place in the log stays where it is, and once the log has
//! forgotten it, whole GOPs are missing in the recording, counted in the reader's statistics and told as
//! [`FramesSkipped`](arcly_core::contract::observe::EngineEvent::FramesSkipped).
//!
//! | what happens | what is left |
//! |---|---|
//! | the process dies | a file that plays, less at most one part ([`RecordOptions::part_duration`]); [`Index::open`] finds it |
//! | the disk is full, or fails | what was written so far, as a file that plays; a new one is tried with the first keyframe after 1 s, then 2 s; it is told once |
//! | the tracks change | a new file |
//! | the publisher leaves and returns in time | one file |
//!
//! Not done: encryption at rest, and upload to object stores, which an own [`StorageBackend`] does.
//!
//! [`StorageBackend`]: arcly_core::contract::storage::StorageBackend
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod disk;
mod format;
mod index;
mod name;
mod playback;
mod recorder;
mod recordings;
mod segmenter;
mod source;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests choose their numbers")]
mod tests;

pub use format::Format;
pub use index::{INDEX_NAME, Index, Recording};
pub use name::{NameTemplate, TemplateError};
pub use playback::{Playback, PlaybackError};
pub use recorder::{Clip, MAX_QUEUE_BYTES, Recorder};
pub use recordings::{Keep, Recordings};

use std::time::Duration;

/// How streams are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOptions {
    /// The container.
    pub format: Format,
    /// What files are called.
    pub name: NameTemplate,
    /// A file ends at the first keyframe from then on.
    pub segment_duration: Duration,
    /// The same for its size.
    pub segment_bytes: u64,
    /// How much media is written at a time: what a crash can lose.
    pub part_duration: Duration,
}

impl Default for RecordOptions {
    /// Fragmented MP4; an hour or 4 GiB in a file, a second in a part.
    fn default() -> Self {
        Self {
            format: Format::default(),
            name: NameTemplate::default(),
            segment_duration: Duration::from_secs(3_600),
            segment_bytes: 4 << 30,
            part_duration: Duration::from_secs(1),
        }
    }
}
