#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::sync::Arc;

use arcly_core::contract::auth::Credentials;
use arcly_core::{
    AppSpec, ClientInfo, Engine, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    StreamKey, Takeover,
};
use arcly_testkit::media::Source;
use http::{Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::flv::{Framing, Packetizer, Writer, file_header};

fn request(key: &str) -> PlayRequest {
    let peer = ([127, 0, 0, 1], 1).into();
    PlayRequest::new(
        StreamKey::parse(key).unwrap(),
        ClientInfo::new("http-flv", peer),
        Credentials::new("http-flv"),
    )
}

fn engine() -> (Arc<Engine>, HttpFlv) {
    let engine = Engine::builder().app(AppSpec::new("live").takeover(Takeover::Reject)).build();
    let flv = HttpFlv::new(&engine.context(CancellationToken::new()));
    (engine, flv)
}

async fn text(response: Response<FlvBody>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A stream as a file, made by the derived log itself.
async fn file(seconds: u32) -> Bytes {
    let (engine, key) = (Engine::builder().build(), StreamKey::new("live", "source"));
    let mut publisher = engine.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    let source = Source::h264_aac();
    publisher.set_tracks(source.tracks()).unwrap();
    for frame in source.seconds(seconds) {
        publisher.publish(frame).unwrap();
    }
    let play = PlayRequest::internal(key, "test").start(arcly_core::log::StartMode::Oldest);
    let mut reader = engine.subscribe(play).await.unwrap().into_derived(0, Packetizer::new);
    let (mut writer, mut file) = (Writer::new(), Vec::new());
    let unlimited = arcly_core::log::Budget::UNLIMITED;
    reader.read(unlimited, |read| writer.write(&read, |bytes| file.extend_from_slice(&bytes))).unwrap();
    file.into()
}

fn frames(file: &[u8]) -> Vec<arcly_core::MediaFrame> {
    let mut reader = Reader::new();
    reader.push(file).unwrap();
    std::iter::from_fn(|| reader.poll_event())
        .filter_map(|event| match event {
            MediaEvent::Frame(frame) => Some(frame),
            MediaEvent::Tracks(_) => None,
        })
        .collect()
}

#[tokio::test]
async fn a_body_in_pieces_of_any_size_is_published_and_played() {
    let file = file(3).await;
    let sent = frames(&file);
    for size in [7, 1_000, file.len()] {
        let (engine, flv) = engine();
        let pieces: Vec<_> = file
            .chunks(size)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        let answer = flv.handle(request("live/cam"), &Method::POST, body).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let stream = engine.stream(&StreamKey::new("live", "cam")).unwrap();
        assert_eq!(stream.info().frames_in, sent.len() as u64);

        let played = flv.handle(request("live/cam"), &Method::GET, Full::<Bytes>::default()).await;
        assert_eq!(played.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        engine.drain();
        let body = played.into_body().collect().await.unwrap().to_bytes();
        let got = frames(&body);
        let tail = &sent[sent.len() - got.len()..];
        assert!(got.len() > 30 && tail[0].is_keyframe());
        assert!(
            got.iter().zip(tail).all(|(got, sent)| got.payload == sent.payload && got.flags == sent.flags)
        );
    }
}

#[tokio::test]
async fn a_body_gives_its_subscription_up_until_it_is_polled() {
    let (engine, flv) = engine();
    let file = file(1).await;
    let posted = flv.handle(request("live/cam"), &Method::POST, Full::new(file.clone())).await;
    assert_eq!(posted.status(), StatusCode::NO_CONTENT);
    let play = || flv.handle(request("live/cam"), &Method::GET, Full::<Bytes>::default());
    let mut polled = play().await.into_body();
    assert!(polled.frame().await.unwrap().unwrap().into_data().unwrap().starts_with(b"FLV"));
    let polled = polled.into_subscription().unwrap_err();
    let mut wrapped = Vec::new();
    for framing in [Framing::Plain, Framing::Chunked, Framing::WebSocket] {
        let subscription = play().await.into_body().into_subscription().unwrap();
        let mut bytes = framing.wrap(&file_header(&subscription.tracks())).to_vec();
        let make = || Packetizer::framed(framing);
        let mut reader = subscription.into_derived(framing.variant(), make);
        let unlimited = arcly_core::log::Budget::UNLIMITED;
        let read = reader.read(unlimited, |read| match read {
            Read::Context(headers) => {
                headers.parts.iter().for_each(|(_, part)| bytes.extend_from_slice(part));
            }
            Read::Item(packet) => bytes.extend_from_slice(&packet.bytes),
            Read::Skipped(_) => {}
        });
        assert!(read.is_ok());
        bytes.extend_from_slice(framing.end());
        wrapped.push(bytes);
    }
    let [plain, chunked, messages] = &wrapped[..] else { unreachable!() };
    assert!(unframed(chunked, chunk) == *plain && unframed(messages, message) == *plain);
    engine.drain();
    assert_eq!(*polled.collect().await.unwrap().to_bytes(), plain[13..], "the file header has been taken");
}

/// Takes pieces apart: `head` tells where a piece begins and ends, and where the next one is.
fn unframed(mut bytes: &[u8], head: fn(&[u8]) -> (usize, usize, usize)) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (begin, end, next) = head(bytes);
        out.extend_from_slice(&bytes[begin..end]);
        bytes = &bytes[next..];
    }
    out
}

fn chunk(bytes: &[u8]) -> (usize, usize, usize) {
    let line = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
    let len = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
    assert_eq!(bytes[line + 2 + len..][..2], *b"\r\n");
    (line + 2, line + 2 + len, line + 4 + len)
}

fn message(bytes: &[u8]) -> (usize, usize, usize) {
    assert_eq!(bytes[0], 0x82);
    let (begin, len): (usize, usize) = match bytes[1] {
        126 => (4, u16::from_be_bytes(bytes[2..4].try_into().unwrap()).into()),
        127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()).try_into().unwrap()),
        len => (2, len.into()),
    };
    (begin, begin + len, begin + len)
}

#[tokio::test]
async fn errors_are_problems_with_a_reason() {
    let (engine, flv) = engine();
    let key = StreamKey::new("live", "taken");
    let _incumbent = engine.publish(PublishRequest::internal(key, "test")).await.unwrap();
    let good = file(1).await;
    let cut = good.slice(..good.len() - 10);
    let cases = [
        ("live/none", Method::GET, Bytes::new(), 404, "not_found"),
        ("live/none", Method::HEAD, Bytes::new(), 404, ""),
        ("live/taken", Method::POST, good, 409, "conflict"),
        ("live/a", Method::POST, Bytes::from_static(b"GIF89a"), 400, "malformed"),
        ("live/b", Method::PUT, Bytes::new(), 400, "malformed"),
        ("live/c", Method::POST, cut, 400, "malformed"),
        ("live/d", Method::DELETE, Bytes::new(), 405, ""),
    ];
    for (key, method, body, status, reason) in cases {
        let (got, problem) = text(flv.handle(request(key), &method, Full::new(body)).await).await;
        assert_eq!(got.as_u16(), status, "{method} {key}: {problem}");
        let expect = if reason.is_empty() { String::new() } else { format!("\"reason\":\"{reason}\"") };
        assert!(problem.contains(&expect), "{method} {key}: {problem}");
    }
    let (_, missing) = text(flv.play(request("live/none")).await).await;
    assert!(missing.contains("live/none"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_falls_silent_is_given_up() {
    let (_engine, flv) = engine();
    let silent =
        http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let (status, problem) = text(flv.handle(request("live/cam"), &Method::POST, silent).await).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(problem.contains("timeout(idle)"), "{problem}");
}

#[tokio::test]
async fn a_publisher_that_is_sent_away_is_told() {
    let (engine, flv) = engine();
    let silent =
        http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let publishing =
        tokio::spawn(async move { text(flv.handle(request("live/cam"), &Method::POST, silent).await).await });
    let key = StreamKey::new("live", "cam");
    while engine.stream(&key).is_none() {
        tokio::task::yield_now().await;
    }
    engine.stream(&key).unwrap().disconnect_publishers(CloseReason::Shutdown);
    let (status, problem) = publishing.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem.contains("\"reason\":\"shutdown\""), "{problem}");
}
