//! What one reader of the derived log sends.

use arcly_codec::flv::put_file_header;
use arcly_core::derived::Packet;
use arcly_core::log::Read;
use arcly_core::{TrackKind, TrackSet};
use bytes::{Bytes, BytesMut};

/// Turns what is read of the derived log into a file: its header first, then headers and tags as they come.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> arcly_core::Result<()> {
/// use arcly_core::{Engine, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest, StreamKey};
/// use arcly_core::{CodecConfig, CodecId, MediaFrame, Timestamp, Track, TrackId, TrackSet};
/// use arcly_mux::flv::{Packetizer, Writer};
///
/// let (engine, key) = (Engine::builder().build(), StreamKey::new("live", "cam"));
/// let mut publisher = engine.publish(PublishRequest::internal(key.clone(), "example")).await?;
/// publisher.set_tracks(TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None)]))?;
/// publisher.publish(MediaFrame::new(TrackId::AUDIO, Timestamp::ZERO, b"mp3"[..].into()))?;
///
/// let subscription = engine.subscribe(PlayRequest::internal(key, "example")).await?;
/// let mut reader = subscription.into_derived(0, Packetizer::new);
/// let (mut writer, mut file) = (Writer::new(), Vec::new());
/// reader.read(Default::default(), |read| writer.write(&read, |bytes| file.extend_from_slice(&bytes)))?;
/// assert!(file.starts_with(b"FLV\x01\x04"), "sound, no pictures");
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    /// A writer at the start of a file.
    #[must_use]
    pub const fn new() -> Self {
        Self { begun: false }
    }

    /// Hands what has to be sent for `read` to `send`, in order. Nothing is copied but the file header.
    pub fn write(&mut self, read: &Read<Packet>, mut send: impl FnMut(Bytes)) {
        match read {
            Read::Context(headers) => {
                if !core::mem::replace(&mut self.begun, true) {
                    send(file_header(&headers.tracks));
                }
                headers.parts.iter().for_each(|(_, part)| send(part.clone()));
            }
            Read::Item(packet) => send(packet.bytes.clone()),
            Read::Skipped(_) => {}
        }
    }
}

/// What a file or a body begins with, before any tag: which kinds of tracks there are.
#[must_use]
pub fn file_header(tracks: &TrackSet) -> Bytes {
    let has = |kind| tracks.first(kind).is_some();
    let mut header = BytesMut::new();
    put_file_header(&mut header, has(TrackKind::Audio), has(TrackKind::Video));
    header.freeze()
}
