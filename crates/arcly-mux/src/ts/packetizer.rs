//! Frames to packets, once for all readers.

use std::sync::Arc;

use arcly_core::derived::{self, Headers, Packet};
use arcly_core::{MediaFrame, TrackSet};
use bytes::BytesMut;

use super::Muxer;

/// Makes a derived log of transport packets: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
///
/// A packet holds all transport packets of one frame, and before it the tables wherever a reader may begin. There are no
/// headers besides: what a reader gets is the stream itself, and its continuity counters have no seam.
#[derive(Debug, Default)]
pub struct Packetizer {
    muxer: Muxer,
}

impl Packetizer {
    /// A packetiser that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl derived::Packetizer for Packetizer {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        self.muxer.set_tracks(tracks);
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: Vec::new() })
    }

    fn join(&mut self) {
        self.muxer.begin();
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        let mut bytes = BytesMut::new();
        self.muxer.frame(frame, &mut bytes);
        if !bytes.is_empty() {
            let bytes = bytes.freeze();
            out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes });
        }
    }
}
