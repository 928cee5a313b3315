//! HLS and Low-Latency HLS: playlists of a live stream's segments and parts.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-pantos-hls-rfc8216bis | 4.4.3, 4.4.4, 4.4.5 media playlists | [`MediaPlaylist`] |
//! | | 4.4.6 multivariant playlists | [`multivariant`] |
//! | | 6.2.5.1 delta updates | [`MediaPlaylist::delta`] |
//! | | 6.2.5.2 blocking reload, 6.2.6 blocking requests for hinted parts | [`Directives`], module `http`, feature `http` |
//! | RFC 6381 | `CODECS` | through [`crate::fmp4::Mp4Track::codecs`] |
//!
//! ```text
//!   live::View ──► MediaPlaylist ──► Text   plain and compressed, rendered once for everybody who asks for that version
//! ```
//!
//! Every track is a rendition of its own: pictures are variants, sounds a group beside them. The names of parts count over
//! all segments, so that the hinted part is the next one wherever segments end.
//!
//! Deviations, and why: `EXT-X-INDEPENDENT-SEGMENTS` goes from the playlists of a stream once a segment had to begin
//! without a keyframe, although 6.2.1 does not foresee that: the other way would be untrue.
//!
//! Not here: encryption, subtitles, segments in MPEG-TS; SCTE-35 is listed as `SCTE35-CMD` at the time at which it came,
//! for the splice time of a message counts on a clock that ends at ingest.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod directives;
#[cfg(feature = "http")]
pub mod http;
mod media;
mod multivariant;
mod name;
mod text;

pub use directives::{DirectiveError, Directives};
pub use media::{MediaPlaylist, Report};
pub use multivariant::{Rendition, multivariant};
pub use name::{File, Run};
pub use text::Text;

/// The media type of playlists.
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";
/// The version of the protocol that playlists need: 9, for `EXT-X-SKIP` (section 8).
pub const VERSION: u32 = 9;

#[cfg(test)]
mod tests;
