//! Frames to tags, once for all readers.

use std::sync::Arc;

use arcly_codec::flv::{Muxer, MuxerOptions, Tag, put_tag, tag_len};
use arcly_core::derived::{self, Headers, Packet};
use arcly_core::{MediaFrame, Timestamp, TrackSet};
use bytes::{Bytes, BytesMut};

use super::Framing;

/// Makes a derived log of FLV tags: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
///
/// A packet is a whole tag with the size field behind it, wrapped as its [`Framing`] says. The headers are `onMetaData` and the sequence headers, and
/// carry the time of the last frame before them, so that time does not run backwards for whoever was reading.
#[derive(Debug)]
pub struct Packetizer {
    muxer: Muxer,
    latest: Timestamp,
    framing: Framing,
}

impl Packetizer {
    /// A packetiser of plain tags that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::framed(Framing::Plain)
    }

    /// A packetiser that has seen nothing; its derived log is the variant [`Framing::variant`].
    #[must_use]
    pub fn framed(framing: Framing) -> Self {
        let options = MuxerOptions { encoder: Some("arcly".into()), ..MuxerOptions::default() };
        Self { muxer: Muxer::new(options), latest: Timestamp::ZERO, framing }
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
        let parts = tags.iter().map(|tag| (tag.track, serialize(tag, self.framing))).collect();
        Arc::new(Headers { tracks: Arc::clone(tracks), parts })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        self.latest = self.latest.max(frame.dts);
        let Some(tag) = self.muxer.frame(frame) else { return };
        let bytes = serialize(&tag, self.framing);
        out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes });
    }
}

fn serialize(tag: &Tag, framing: Framing) -> Bytes {
    let len = tag_len(tag);
    let mut out = BytesMut::with_capacity(framing.wrapped_len(len));
    framing.open(&mut out, len);
    put_tag(&mut out, tag);
    framing.close(&mut out);
    out.freeze()
}
