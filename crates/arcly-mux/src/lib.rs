//! Containers on top of arcly's codecs.
//!
//! | module | |
//! |---|---|
//! | [`dash`] | the manifest of DASH and LL-DASH |
//! | [`flv`] | FLV as a stream: packets that all readers share, files, and (feature `http`) handlers to mount in any HTTP server |
//! | [`fmp4`] | fragmented MP4 and CMAF: initialisation segments and fragments, without copying media; files, fragmented and plain, both ways; a stream as a file without end |
//! | [`hls`] | HLS and LL-HLS: playlists, and (feature `http`) handlers |
//! | [`live`] | a live stream as a bounded window of CMAF segments and parts, or of MPEG-TS segments, which HLS and DASH serve; encrypted with feature `encryption` |
//! | `record` | recordings, and an index of them (feature `record`) |
//! | [`scte35`] | what a splice message says about breaks |
//! | [`ts`] | MPEG transport streams: demuxer, muxer, packets that all readers share, segments; HTTP (feature `http`), UDP (feature `udp`) |
//! | `http` | streams over HTTP as one body without end, whatever the container (feature `http`) |
//!
//! What is deliberately not here: HTTP routing, authentication and configuration, which are the embedder's.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod dash;
pub mod flv;
pub mod fmp4;
pub mod hls;
#[cfg(feature = "http")]
pub mod http;
pub mod live;
#[cfg(feature = "record")]
pub mod record;
pub mod scte35;
pub mod ts;
