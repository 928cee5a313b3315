//! Frames to fragments, once for all readers of a stream.

use std::sync::Arc;

use arcly_core::derived::{self, Headers, Packet};
use arcly_core::{MediaFrame, Timestamp, TrackSet};

use super::{Fragmenter, Prefix, Run, file};

/// Makes a derived log of fragments: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
///
/// A packet is a fragment of one frame, so that no frame waits for another: about a hundred bytes more each. Its time is that
/// of the stream; how long it lasts is what it says itself ([`Mp4Track::expected_end`](super::Mp4Track::expected_end)), and the
/// decode time of the next one stands. There are no shared headers, because the start of a file says where it starts: the
/// [`Writer`](super::Writer) of each reader makes its own.
#[derive(Debug, Default)]
pub struct Packetizer {
    fragmenter: Option<Fragmenter>,
}

impl Packetizer {
    /// A packetiser that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { fragmenter: None }
    }
}

impl derived::Packetizer for Packetizer {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        self.fragmenter = file::carried(tracks).ok().map(|tracks| Fragmenter::new(tracks, Timestamp::ZERO));
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: Vec::new() })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        let Some(fragmenter) = &mut self.fragmenter else { return };
        let frames = core::slice::from_ref(frame);
        let Some(track) = fragmenter.tracks().find(|track| track.id() == frame.track) else { return };
        let run = Run { frames, end: track.expected_end(frames) };
        // The bounds of the engine are narrower than those of a fragment.
        let Ok(fragment) = fragmenter.chunk(run, &Prefix::default()) else { return };
        let bytes = fragment.to_bytes();
        out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes });
    }
}
