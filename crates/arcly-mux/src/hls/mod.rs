//! HLS and Low-Latency HLS: playlists of a live stream's segments and parts.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-pantos-hls-rfc8216bis | 4.4.3, 4.4.4, 4.4.5 media playlists | [`MediaPlaylist`] |
//! | | 4.4.4.4 encryption | [`File::Key`]; segments are encrypted in [`crate::live`] |
//! | | 4.4.5.1.1 SCTE-35 | date ranges: breaks from `SCTE35-OUT` to `SCTE35-IN`, other messages as `SCTE35-CMD` |
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
//! Segments in MPEG-TS are for players that know no CMAF, so that their playlists have nothing either that came later than
//! version 3 of the protocol: no parts, no deltas, no maps. A programme has the pictures with the first sound; further sounds are
//! renditions of their own. Players that know tags of later versions may still wait for what comes next (`CAN-BLOCK-RELOAD`).
//!
//! Encryption is of whole segments, so that there is nothing to be listed of the one in the making: playlists of encrypted
//! segments have no parts. 4.4.4.9 would allow parts, encrypted each by itself, but names no initialisation vector for them. The
//! initialisation segments stay in the clear: `EXT-X-MAP` stands where no key is in force.
//!
//! Not here: subtitles, `SAMPLE-AES`.
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
pub use multivariant::{Rendition, multivariant, ts_multivariant};
pub use name::{File, Run};
pub use text::Text;

/// The media type of playlists.
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";
/// The version of the protocol that playlists need: 9, for `EXT-X-SKIP` (section 8).
pub const VERSION: u32 = 9;
/// The same of encrypted segments in CMAF, which have no deltas: 6, for `EXT-X-MAP`.
pub const MAP_VERSION: u32 = 6;
/// The same of segments in MPEG-TS: 3, for durations in fractions of a second.
pub const TS_VERSION: u32 = 3;

#[cfg(test)]
mod tests;
