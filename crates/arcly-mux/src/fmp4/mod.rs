//! Fragmented MP4 and CMAF.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 14496-12 | 8.2 to 8.7 `moov`, 8.8 movie fragments | [`init_segment`], [`Fragmenter`] |
//! | | 8.16 `sidx`, `styp`, `prft`, 12.1.5 `colr`, 12.1.6 `mdcv`, `clli` | [`Prefix`], [`segment_index`] |
//! | ISO/IEC 14496-14, 14496-15 | sample entries `mp4a`, `avc1`, `hvc1`, `vvc1` | [`Mp4Track`] |
//! | AV1, VP, Opus, FLAC in ISOBMFF; ETSI TS 102 366 annex F | `av01`, `vp08`, `vp09`, `Opus`, `fLaC`, `ac-3`, `ec-3` | the same |
//! | ISO/IEC 23000-19 | 7.3 CMAF header, chunk, fragment, segment | [`InitOptions::cmaf`], [`Fragmenter::chunk`] |
//! | ISO/IEC 23009-1 | 5.10.3.3 `emsg` | [`EventMessage`] |
//! | ISO/IEC 14496-12 | 8.6, 8.7 sample tables, 8.8 fragments | [`Demuxer`], [`Reader`] |
//!
//! ```text
//!   tracks ──► Mp4Track ──► init_segment                       once
//!   frames ──► Run ───────► Fragmenter::fragment ──► Fragment  header, and the frames' own bytes
//!   stream ──► Packetizer ──► derived log ──► Writer            one reader's file without end
//!   frames ──► FileWriter ──► a file that survives a crash at any point, and can be sought when it is finished
//!   file   ──► Demuxer ───► MediaEvent
//! ```
//!
//! Times are exact: each track has a clock in which its times are whole numbers (see [`Mp4Track`]), decode times are those
//! of the frames, and a frame that is shown before it is decoded has a negative offset (`trun` version 1).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod boxes;
mod clock;
mod demux;
mod entry;
mod error;
mod file;
mod fragment;
#[cfg(feature = "http")]
pub mod http;
mod index;
mod init;
mod packetizer;
mod track;
mod wire;
mod writer;

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests choose their numbers"
)]
mod tests;

pub(crate) use clock::SampleClock;

pub use boxes::{EventMessage, IndexEntry, Prefix, ProducerClock, ProducerTime, SegmentType, segment_index};
pub use demux::{DemuxError, Demuxer, MAX_MOOF_BYTES, MAX_MOVIE_BYTES, Reader, Step};
pub use error::MuxError;
pub use file::{FileOptions, FileWriter, MAX_INDEXED_SAMPLES, Patch};
pub use fragment::{Fragment, Fragmenter, MAX_FRAGMENT_BYTES, MAX_SAMPLES_PER_RUN, Run};
pub use init::{InitOptions, init_segment};
pub use packetizer::Packetizer;
pub use track::Mp4Track;
pub use writer::Writer;

/// The media type of MP4 with pictures.
pub const MEDIA_TYPE: &str = "video/mp4";
/// The media type of MP4 with sound only.
pub const AUDIO_MEDIA_TYPE: &str = "audio/mp4";
