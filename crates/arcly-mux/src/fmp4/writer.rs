//! What one reader of the derived log sends.

use std::sync::Arc;

use arcly_core::derived::{Headers, Packet};
use arcly_core::log::Read;
use arcly_core::{Timestamp, TrackSet};
use bytes::Bytes;

use super::{InitOptions, Mp4Track, file, init_segment};

/// Turns what is read of the derived log into a file: `ftyp` and `moov` first, then fragments as they come.
///
/// Presentation starts with the first frame that the reader gets, whenever that was on the stream. What decoders are told
/// stands at the front of a file and cannot change: when it does, the file ends ([`is_complete`](Self::is_complete)), and
/// whoever reads it asks again.
#[derive(Debug, Default)]
pub struct Writer {
    /// What the next packet needs in front of it.
    waiting: Option<Arc<Headers>>,
    /// What the file was begun with.
    begun: Option<Vec<Mp4Track>>,
    complete: bool,
}

impl Writer {
    /// A writer at the start of a file.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: None, begun: None, complete: false }
    }

    /// True when nothing more can be added to the file.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Hands what has to be sent for `read` to `send`, in order. Of the media nothing is copied.
    pub fn write(&mut self, read: &Read<Packet>, mut send: impl FnMut(Bytes)) {
        match read {
            Read::Context(headers) => match &self.begun {
                None => self.waiting = Some(Arc::clone(headers)),
                Some(begun) => self.complete |= !file::are_same(begun, &headers.tracks),
            },
            Read::Item(packet) if !self.complete => {
                if let Some(headers) = self.waiting.take() {
                    send(self.begin(&headers.tracks, packet.dts));
                }
                send(packet.bytes.clone());
            }
            Read::Item(_) | Read::Skipped(_) => {}
        }
    }

    fn begin(&mut self, tracks: &TrackSet, at: Timestamp) -> Bytes {
        let tracks = file::carried(tracks).unwrap_or_default();
        let start = Some(at - Timestamp::ZERO);
        let init = init_segment(&tracks, InitOptions { start, cmaf: false });
        self.begun = Some(tracks);
        init
    }
}
