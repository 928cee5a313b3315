//! MPEG-TS over HTTP: [`HttpStream`] with transport packets in it.

use arcly_core::derived::Packet;
use arcly_core::log::Read;
use arcly_core::rendition::{AudioChoice, TS_AUDIO};
use arcly_core::{CloseReason, MediaEvent, TrackSet};
use bytes::Bytes;

use super::{Demuxer, MEDIA_TYPE, Muxer, Packetizer};
use crate::http::{Container, Failure, HttpStream, Reader, StreamBody};

/// Plays and publishes MPEG-TS over HTTP.
pub type HttpTs = HttpStream<Ts>;
/// The body of a response.
pub type TsBody = StreamBody<Ts>;

/// MPEG-TS as the body of requests and responses.
#[derive(Clone, Copy, Debug)]
pub enum Ts {}

impl Container for Ts {
    const NAME: &'static str = "MPEG-TS";
    const AUDIO: AudioChoice = TS_AUDIO;
    const MEDIA_TYPE: &'static str = MEDIA_TYPE;
    type Packetizer = Packetizer;
    type Writer = ();
    type Reader = Demuxer;

    /// The packets are the stream; there is nothing besides.
    fn write((): &mut (), read: &Read<Packet>, mut send: impl FnMut(Bytes)) {
        if let Read::Item(packet) = read {
            send(packet.bytes.clone());
        }
    }

    fn can_carry(tracks: &TrackSet) -> bool {
        tracks.is_empty() || Muxer::can_carry(tracks)
    }
}

impl Reader for Demuxer {
    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        Self::push(self, data).map_err(|error| {
            (CloseReason::from(error), format!("this is not MPEG-TS that can be published: {error}"))
        })
    }

    fn poll_event(&mut self) -> Option<MediaEvent> {
        Self::poll_event(self)
    }

    /// A stream may end anywhere: it has no end of its own.
    fn finish(&mut self) -> Result<(), Failure> {
        Self::finish(self).map_err(|error| (CloseReason::from(error), error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use std::sync::Arc;

    use arcly_core::{
        CodecConfig, CodecId, Engine, PlayRequest, PublishRegistry as _, PublishRequest, StreamKey, Track,
        TrackId,
    };
    use arcly_testkit::media::Source;
    use bytes::BytesMut;
    use http::{Method, StatusCode, header};
    use http_body_util::{BodyExt as _, Full};
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn engine() -> (Arc<Engine>, HttpTs) {
        let engine = Engine::builder().build();
        let handlers = HttpTs::new(&engine.context(CancellationToken::new()));
        (engine, handlers)
    }

    fn request(key: &str) -> PlayRequest {
        PlayRequest::internal(StreamKey::parse(key).unwrap(), "http-ts")
    }

    fn file(seconds: u32) -> (usize, Bytes) {
        let source = Source::h264_aac();
        let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
        muxer.set_tracks(&source.tracks());
        let frames = source.seconds(seconds);
        frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
        (frames.len(), out.freeze())
    }

    fn frames(data: &[u8]) -> Vec<arcly_core::MediaFrame> {
        let mut demuxer = Demuxer::default();
        demuxer.push(data).unwrap();
        demuxer.finish().unwrap();
        assert_eq!(demuxer.counters(), crate::ts::Counters::default());
        core::iter::from_fn(|| demuxer.poll_event())
            .filter_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame) } else { None })
            .collect()
    }

    #[tokio::test]
    async fn what_is_posted_is_played_from_its_newest_gop_on() {
        let (engine, ts) = engine();
        let (count, file) = file(3);
        let played = {
            let posted = ts.handle(request("live/cam"), &Method::POST, Full::new(file.clone())).await;
            assert_eq!(posted.status(), StatusCode::NO_CONTENT);
            ts.handle(request("live/cam"), &Method::GET, Full::<Bytes>::default()).await
        };
        assert_eq!(played.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        engine.drain();
        let body = played.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(&[0x47, 0x40, 0]), "tables first");
        let (sent, got) = (frames(&file), frames(&body));
        assert_eq!(sent.len(), count);
        assert!(got.len() > 30 && got[0].is_keyframe());
        for id in [TrackId::VIDEO, TrackId::AUDIO] {
            let of = |frames: &[arcly_core::MediaFrame]| -> Vec<_> {
                frames.iter().filter(|frame| frame.track == id).map(|frame| frame.payload.clone()).collect()
            };
            assert!(of(&sent).ends_with(&of(&got)), "{id}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_joins_sound_begins_with_tables() {
        let (engine, ts) = engine();
        let source = Source::aac();
        let mut publisher =
            engine.publish(PublishRequest::internal(StreamKey::new("live", "radio"), "test")).await.unwrap();
        publisher.set_tracks(source.tracks()).unwrap();
        for frame in source.seconds(10) {
            publisher.publish(frame).unwrap();
        }
        // The first reader makes the derived log; the second joins it.
        let _first = ts.handle(request("live/radio"), &Method::GET, Full::<Bytes>::default()).await;
        let second = ts.handle(request("live/radio"), &Method::GET, Full::<Bytes>::default()).await;
        let data = second.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(data.starts_with(&[0x47, 0x40, 0]), "{:02X?}", &data[..4]);
    }

    #[tokio::test]
    async fn errors_are_problems_with_a_reason() {
        let (engine, ts) = engine();
        let key = StreamKey::new("live", "av1");
        let mut publisher = engine.publish(PublishRequest::internal(key, "test")).await.unwrap();
        let track = Track::new(TrackId::AUDIO, CodecId::Flac, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([track])).unwrap();
        let frame = arcly_core::MediaFrame::new(TrackId::AUDIO, arcly_core::Timestamp::ZERO, b"x"[..].into());
        publisher.publish(frame).unwrap();
        let flv = Bytes::from_static(b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
        let cases = [
            ("live/none", Method::GET, Bytes::new(), 404, "not_found"),
            ("live/av1", Method::GET, Bytes::new(), 415, "unsupported"),
            ("live/b", Method::POST, flv, 400, "send MPEG-TS"),
            ("live/c", Method::POST, Bytes::from(vec![0; 2 << 20]), 400, "malformed"),
            ("live/d", Method::DELETE, Bytes::new(), 405, ""),
        ];
        for (key, method, body, status, says) in cases {
            let response = ts.handle(request(key), &method, Full::new(body)).await;
            assert_eq!(response.status().as_u16(), status, "{method} {key}");
            let text = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(text.contains(says), "{method} {key}: {text}");
        }
    }
}
