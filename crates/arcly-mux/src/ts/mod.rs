//! MPEG transport streams: over HTTP and UDP, into files and segments, and out of them.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 13818-1 (H.222.0) | §2.4.3.2–2.4.3.5 transport packet, adaptation field | [`packet`] |
//! | | §2.4.4, annex A sections, checksum | [`section`] |
//! | | §2.4.4.3, §2.4.4.8 program association and map | [`psi`] |
//! | | §2.4.3.6 PES packet | [`pes`] |
//! | | §2.6 descriptors | [`descriptor`] |
//! | | §2.12.4 metadata access units (KLV) | [`Demuxer`] |
//! | ETSI TS 101 154, ATSC A/53 | AC-3, E-AC-3 | [`stream_type`] |
//! | Opus in MPEG-TS (draft), as FFmpeg and GStreamer do it | control header, descriptor | [`Demuxer`], [`Muxer`] |
//! | SCTE 35 | §8 descriptors; the sections are carried as they are | |
//! | HLS timed metadata | ID3 in PES packets | |
//!
//! ```text
//!   stream ──► Packetizer ──► derived log ──► one reader's bytes        packets are made once, and shared
//!   frames ──► SegmentMuxer ──► segments
//!   bytes  ──► Demuxer ──► MediaEvent ──► Publisher
//! ```
//!
//! | carried | in | out |
//! |---|---|---|
//! | H.264, H.265, H.266, MPEG-2 video | yes | yes |
//! | AAC | ADTS, LATM in LOAS frames | ADTS |
//! | MPEG audio, AC-3, E-AC-3, Opus | yes | yes |
//! | KLV | private data, metadata cells | private data |
//! | ID3, SCTE 35 | yes | yes |
//! | anything else in PES packets: subtitles, teletext | as it is, with its descriptors | the same |
//!
//! Guarantees: no panic on any input; of an incoming stream at most [`MAX_HELD_BYTES`] are held; timestamps are widened once,
//! and no remux rounds. An access unit may lie in several PES packets, and a PES packet may hold several access units.
//!
//! Tolerated: packets that come twice or with a counter that stands still, tables and clocks that change, garbage between packets,
//! PES packets without timestamps. What is lost is counted ([`Counters`]); a picture that lost a part is flagged, a sound that did is
//! dropped.
//!
//! Not done: conditional access, 192-byte and 204-byte packets, AV1 (its mapping is a draft that FFmpeg does not read), AAC that ADTS
//! cannot say (USAC, low delay) on the way out, and constant bit rate by null packets.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod demux;
pub mod descriptor;
#[cfg(feature = "http")]
pub mod http;
mod kind;
mod mux;
pub mod packet;
mod packetizer;
pub mod pes;
pub mod psi;
pub mod section;
mod segment;
#[cfg(feature = "udp")]
pub mod udp;

pub use demux::{
    Counters, Demuxer, DemuxerOptions, MAX_GARBAGE, MAX_HELD_BYTES, MAX_PES_BYTES, MAX_WITHOUT_PROGRAM,
};
pub use kind::stream_type;
pub use mux::{CLOCK_INTERVAL, CLOCK_LEAD, Muxer, ORIGIN, TABLE_INTERVAL};
pub use packetizer::Packetizer;
pub use segment::SegmentMuxer;

/// The media type of transport streams.
pub const MEDIA_TYPE: &str = "video/mp2t";
