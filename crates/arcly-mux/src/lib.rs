//! Containers on top of arcly's codecs.
//!
//! | module | |
//! |---|---|
//! | [`flv`] | FLV as a stream: packets that all readers share, files, and (feature `http`) handlers to mount in any HTTP server |
//!
//! What is deliberately not here: HTTP routing, authentication and configuration, which are the embedder's; MPEG-TS,
//! fragmented MP4, HLS and DASH, which do not exist yet.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod flv;
