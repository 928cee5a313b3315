//! Targets over the FLV half of `arcly-codec`.

use arcly_codec::flv::{AudioTag, Demuxer, FileDecoder, Muxer, TagKind, VideoTag};
use arcly_core::track::TrackMask;
use arcly_core::{MediaEvent, MediaFrame};
use bytes::Bytes;

use crate::parts;

crate::targets!(flv_tag, flv_demuxer, flv_file);

/// A tag body as video and as audio: no packet holds more than there was.
pub fn flv_tag(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(tag) = VideoTag::decode(&body) {
        assert!(tag.packets.len() <= 64 && tag.nanos < 1_000_000);
    }
    if let Ok(tag) = AudioTag::decode(&body) {
        assert!((1..=64).contains(&tag.packets.len()) && tag.nanos < 1_000_000);
    }
}

/// A sequence of tags ([`parts`]: the first byte chooses the kind, the second the time since the one before).
/// Frames belong to tracks that were announced, are not shown before they are decoded, and can be muxed.
pub fn flv_demuxer(data: &[u8]) {
    let (mut demuxer, mut checker, mut at) = (Demuxer::default(), Checker::default(), 0i64);
    for part in parts(data) {
        let [kind, step, body @ ..] = part else { continue };
        let kind = match kind % 3 {
            0 => TagKind::Video,
            1 => TagKind::Audio,
            _ => TagKind::Script,
        };
        at += i64::from(*step);
        let result = demuxer.handle_tag(kind, at, Bytes::copy_from_slice(body));
        while let Some(event) = demuxer.poll_event() {
            checker.event(&event);
        }
        if result.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Checker {
    known: TrackMask,
    muxer: Muxer,
    announced: bool,
}

impl Checker {
    fn event(&mut self, event: &MediaEvent) {
        match event {
            MediaEvent::Tracks(set) => {
                assert!(!set.is_empty(), "tracks are announced for a frame");
                self.known = set.iter().map(|track| track.id).collect();
                self.muxer.tracks(set, arcly_core::Timestamp::ZERO);
                self.announced = true;
            }
            MediaEvent::Frame(frame) => self.frame(frame),
        }
    }

    fn frame(&self, frame: &MediaFrame) {
        assert!(self.announced && self.known.contains(frame.track));
        assert!(frame.pts >= frame.dts && !frame.payload.is_empty());
        if let Some(tag) = self.muxer.frame(frame) {
            assert_eq!(tag.payload.as_ptr(), frame.payload.as_ptr(), "shared, not copied");
        }
    }
}

/// A file in one piece and byte by byte gives the same tags.
pub fn flv_file(data: &[u8]) {
    let read = |size: usize| {
        let (mut decoder, mut tags) = (FileDecoder::new(), Vec::new());
        for piece in data.chunks(size) {
            decoder.push(piece);
            loop {
                match decoder.next_tag() {
                    Ok(Some(tag)) => tags.push(tag),
                    Ok(None) => break,
                    Err(error) => return (tags, Some(error)),
                }
            }
        }
        (tags, None)
    };
    assert_eq!(read(data.len().max(1)), read(1));
}
