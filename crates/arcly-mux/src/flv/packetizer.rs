//! Frames to tags, once for all readers.

use std::sync::Arc;

use arcly_codec::flv::{Muxer, MuxerOptions, Tag, put_tag};
use arcly_core::derived::{self, Headers, Packet};
use arcly_core::{MediaFrame, Timestamp, TrackSet};
use bytes::{Bytes, BytesMut};

/// Makes a derived log of FLV tags: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
///
/// A packet is a whole tag with the size field behind it. The headers are `onMetaData` and the sequence headers, and
/// carry the time of the last frame before them, so that time does not run backwards for whoever was reading.
#[derive(Debug)]
pub struct Packetizer {
    muxer: Muxer,
    latest: Timestamp,
}

impl Packetizer {
    /// A packetiser that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        let options = MuxerOptions { encoder: Some("arcly".into()), ..MuxerOptions::default() };
        Self { muxer: Muxer::new(options), latest: Timestamp::ZERO }
    }
}

impl Default for Packetizer {
    fn default() -> Self {
        Self::new()
    }
}

impl derived::Packetizer for Packetizer {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        let tags = self.muxer.tracks(tracks, self.latest);
        let parts = tags.iter().map(|tag| (tag.track, serialize(tag))).collect();
        Arc::new(Headers { tracks: Arc::clone(tracks), parts })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        self.latest = self.latest.max(frame.dts);
        let Some(tag) = self.muxer.frame(frame) else { return };
        out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes: serialize(&tag) });
    }
}

fn serialize(tag: &Tag) -> Bytes {
    let mut out = BytesMut::new();
    put_tag(&mut out, tag);
    out.freeze()
}
