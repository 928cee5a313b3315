//! DASH and Low-Latency DASH: the manifest of a live stream's segments.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 23009-1 | 5.3 hierarchical data model, 5.3.9.6 `SegmentTimeline` | [`Manifest`] |
//! | | 5.3.9.5.3 `availabilityTimeOffset`, 5.12 `ProducerReferenceTime`, K.3 `ServiceDescription` | the same |
//! | | 5.8.4.11 `UTCTiming` | the same: `urn:mpeg:dash:utc:direct:2014` |
//! | DASH-IF IOP part 5, low-latency | chunked transfer of the segment in the making | the handlers of HLS, feature `http` |
//!
//! ```text
//!   live::View of each rendition ──► Manifest ──► MPD     periods where decoders begin anew, one adaptation set a track
//! ```
//!
//! The files are those of HLS. A segment is listed as soon as it is begun, as long as the one before it; what the players get
//! of it is what there is, and the rest as it is made. When it has become longer or shorter, the next manifest says so.
//!
//! All times are those of the stream: media begins at `availabilityStartTime` plus its time, which is the wall-clock
//! time at which it came.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod mpd;

pub use mpd::{Manifest, epoch};

/// The media type of manifests.
pub const MEDIA_TYPE: &str = "application/dash+xml";

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests;
