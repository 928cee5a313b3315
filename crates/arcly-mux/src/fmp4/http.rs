//! Progressive MP4 over HTTP: [`HttpStream`] with fragments in it.
//!
//! A player gets `ftyp` and `moov`, the newest GOP in fragments, and on, until the stream ends or its codecs change: what
//! decoders are told stands at the front. A publisher sends MP4 whose `moov` comes first, fragmented or plain.

use arcly_core::derived::Packet;
use arcly_core::log::Read;
use arcly_core::rendition::{AudioChoice, MP4_AUDIO};
use arcly_core::{CloseReason, MediaEvent, TrackSet};
use bytes::Bytes;

use super::{MEDIA_TYPE, Packetizer, Reader, Writer, file};
use crate::http::{Container, Failure, HttpStream, Reader as BodyReader, StreamBody};

/// Plays and publishes MP4 over HTTP.
pub type HttpMp4 = HttpStream<Mp4>;
/// The body of a response.
pub type Mp4Body = StreamBody<Mp4>;

/// MP4 as the body of requests and responses.
#[derive(Clone, Copy, Debug)]
pub enum Mp4 {}

impl Container for Mp4 {
    const NAME: &'static str = "MP4";
    const AUDIO: AudioChoice = MP4_AUDIO;
    const MEDIA_TYPE: &'static str = MEDIA_TYPE;
    type Packetizer = Packetizer;
    type Writer = Writer;
    type Reader = Reader;

    fn write(writer: &mut Writer, read: &Read<Packet>, send: impl FnMut(Bytes)) {
        writer.write(read, send);
    }

    fn is_complete(writer: &Writer) -> bool {
        writer.is_complete()
    }

    fn can_carry(tracks: &TrackSet) -> bool {
        tracks.is_empty() || file::carried(tracks).is_ok()
    }
}

impl BodyReader for Reader {
    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        Self::push(self, data).map_err(|error| {
            (CloseReason::from(error), format!("this is not MP4 that can be published: {error}"))
        })
    }

    fn poll_event(&mut self) -> Option<MediaEvent> {
        Self::poll_event(self)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Self::finish(self).map_err(|error| (CloseReason::from(error), error.to_string()))?;
        match self.is_truncated() {
            true => Err((CloseReason::Malformed, "the body ends within a box".into())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests choose their numbers")]
mod tests {
    use arcly_core::{Engine, PlayRequest, StreamKey, TimeDelta, Timestamp};
    use arcly_testkit::media::Source;
    use http::{Method, StatusCode, header};
    use http_body_util::{BodyExt as _, Full};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::fmp4::{FileOptions, FileWriter};

    fn frames(file: &[u8]) -> Vec<arcly_core::MediaFrame> {
        let mut reader = Reader::new();
        reader.push(file).unwrap();
        reader.finish().unwrap();
        let events = core::iter::from_fn(|| reader.poll_event());
        events
            .filter_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame) } else { None })
            .collect()
    }

    fn request(key: &str) -> PlayRequest {
        PlayRequest::internal(StreamKey::parse(key).unwrap(), "http-mp4")
    }

    /// Three seconds, in fragments.
    fn file() -> Bytes {
        let source = Source::h264_aac();
        let options = FileOptions { part: TimeDelta::from_millis(100) };
        let (mut writer, mut out) = (FileWriter::new(&source.tracks(), options).unwrap(), Vec::new());
        for frame in source.seconds(3) {
            writer.push(&frame, &mut out).unwrap();
        }
        out.concat().into()
    }

    #[tokio::test]
    async fn what_is_posted_is_played_from_its_newest_gop_on() {
        let engine = Engine::builder().build();
        let mp4 = HttpMp4::new(&engine.context(CancellationToken::new()));
        let sent = frames(&file());
        let posted = mp4.handle(request("live/cam"), &Method::POST, Full::new(file())).await;
        assert_eq!(posted.status(), StatusCode::NO_CONTENT);
        let played = mp4.handle(request("live/cam"), &Method::GET, Full::<Bytes>::default()).await;
        assert_eq!(played.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        engine.drain();
        let got = frames(&played.into_body().collect().await.unwrap().to_bytes());
        let tail = &sent[sent.len() - got.len()..];
        assert!(got.len() > 30 && tail[0].is_keyframe() && got[0].dts == Timestamp::ZERO);
        assert!(
            got.iter().zip(tail).all(|(got, sent)| got.payload == sent.payload && got.flags == sent.flags)
        );
    }

    #[tokio::test]
    async fn a_body_that_is_no_mp4_or_is_cut_short_is_refused() {
        let engine = Engine::builder().build();
        let mp4 = HttpMp4::new(&engine.context(CancellationToken::new()));
        let good = file();
        for (name, body) in [
            ("live/a", Bytes::from_static(b"GIF89a, and more than sixteen bytes of it")),
            ("live/b", good.slice(..good.len() - 10)),
            ("live/c", Bytes::new()),
        ] {
            let answer = mp4.handle(request(name), &Method::POST, Full::new(body)).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}");
        }
    }
}
