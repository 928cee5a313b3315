//! RTSPS, and packets that are protected with keys which come over it, against our own client, FFmpeg and GStreamer.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::{
    AppSpec, CloseReason, Engine, FrameFlags, MediaFrame, PlayRequest, PlaybackRegistry as _,
    PublishRegistry as _, PublishRequest, TrackId,
};
use arcly_rtp::wire::rtcp::{RtcpPacket, compound};
use arcly_rtp::wire::{NtpTime, RtpPacket};
use arcly_rtsp::srtp::{Keyring, Message, Receiver};
use arcly_rtsp::wire::rtp_info::RtpInfo;
use arcly_rtsp::wire::{KeyMgmt, Method, Request, Status};
use arcly_rtsp::{Carriage, ClientConfig, RtspPull, RtspRelay, ServerConfig};
use arcly_testkit::media::Source;
use arcly_testkit::need;
use arcly_testkit::program::Program;
use bytes::Bytes;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

use serving::{LIMIT, LONG, Raw, Serving, key, until_written};

/// A server with a certificate of its own, and what trusts it.
async fn secure() -> (Serving, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut config = ClientConfig::default();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.tls = Some(Arc::new(client));
    let serving = Serving::made(ServerConfig::default(), None, |server| server.with_tls(Arc::new(tls)));
    (serving.await, config)
}

fn url(serving: &Serving) -> String {
    serving.url().replace("rtsp://", "rtsps://")
}

fn pictures(frames: &[MediaFrame]) -> Vec<Bytes> {
    let pictures = frames.iter().filter(|frame| frame.track == TrackId::VIDEO);
    pictures.map(|frame| frame.payload.clone()).collect()
}

/// The first frames of a stream.
async fn frames(engine: &Engine, count: usize) -> Vec<MediaFrame> {
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    let mut reader = engine.subscribe(request.wait(LIMIT)).await.unwrap().into_frames();
    let all = async {
        let mut frames = Vec::new();
        while frames.len() < count {
            if let Some(Read::Item(frame)) = reader.next().await.unwrap() {
                assert!(!frame.flags.contains(FrameFlags::CORRUPT));
                frames.push((*frame).clone());
            }
        }
        frames
    };
    tokio::time::timeout(LIMIT, all).await.expect("frames")
}

fn engine() -> Arc<Engine> {
    Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build()
}

async fn pulled(carriage: Carriage, query: &str) {
    let (serving, mut config) = secure().await;
    config.session.carriage = carriage;
    let publishing = serving.publish(LONG);
    let (here, stop) = (engine(), CancellationToken::new());
    let url = format!("{}{query}", url(&serving));
    let pull = RtspPull::new(Arc::clone(&here) as _, url).unwrap().with_config(config);
    let pull = tokio::spawn(pull.run(key(), stop.clone()));
    let got = pictures(&frames(&here, 120).await);
    stop.cancel();
    tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().unwrap();
    publishing.abort();
    let sent = pictures(&Source::h264_aac().seconds(LONG));
    assert!(got.len() > 20 && sent.windows(got.len()).any(|part| part == got), "bit for bit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_over_tls_is_what_was_sent() {
    pulled(Carriage::Automatic, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_protected_packets_over_the_connection_is_what_was_sent() {
    pulled(Carriage::Tcp, "?srtp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_protected_datagrams_is_what_was_sent() {
    pulled(Carriage::Udp, "?srtp").await;
}

/// Datagrams in the clear are not what somebody wants who comes by TLS.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_beside_tls_are_protected_ones() {
    let (serving, mut config) = secure().await;
    config.session.carriage = Carriage::Udp;
    let publishing = serving.publish(LONG);
    let pull = RtspPull::new(engine() as _, url(&serving)).unwrap().with_config(config);
    let refused = tokio::time::timeout(LIMIT, pull.run(key(), CancellationToken::new())).await.unwrap();
    assert!(refused.unwrap_err().to_string().contains("461"));
    publishing.abort();
}

async fn pushed(carriage: Carriage, query: &str) {
    let (serving, mut config) = secure().await;
    config.session.carriage = carriage;
    let here = Serving::start().await;
    let publishing = here.publish(LONG);
    let url = format!("{}{query}", url(&serving));
    let relay = RtspRelay::new(Arc::clone(&here.engine) as _, url).unwrap().with_config(config);
    let stop = CancellationToken::new();
    let relay = tokio::spawn(relay.run(key(), stop.clone()));
    let got = pictures(&frames(&serving.engine, 100).await);
    let sent = pictures(&Source::h264_aac().seconds(LONG));
    assert!(got.len() > 20 && sent.windows(got.len()).any(|part| part == got), "bit for bit");
    stop.cancel();
    tokio::time::timeout(LIMIT, relay).await.unwrap().unwrap().unwrap();
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_tls_is_what_was_sent() {
    pushed(Carriage::Automatic, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_protected_packets_over_the_connection_is_what_was_sent() {
    pushed(Carriage::Automatic, "?srtp").await;
}

/// The server takes no others beside TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_protected_datagrams_is_what_was_sent() {
    pushed(Carriage::Udp, "").await;
}

/// A player that says what it is told, over TLS.
async fn over_tls(serving: &Serving, config: &ClientConfig) -> Raw {
    let connector = tokio_rustls::TlsConnector::from(config.tls.clone().unwrap());
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio::net::TcpStream::connect(serving.address).await.unwrap();
    Raw::over(connector.connect(name, stream).await.unwrap())
}

/// Sends the request for media to flow, and takes so many pictures apart: the numbers of their packets, and what was told of the first.
async fn play(raw: &mut Raw, url: &str, receiver: &mut Receiver, pictures: usize) -> (Vec<u16>, u16) {
    let played = raw.ask(Request::new(Method::Play, url)).await;
    assert_eq!(played.status, Status::OK);
    let info: RtpInfo = played.headers.get("RTP-Info").unwrap().parse().unwrap();
    let (mut numbers, mut seen) = (Vec::new(), 0);
    while seen < pictures {
        let packet = receiver.unprotect(&raw.frame(0).await.unwrap()).expect("what the server made, once");
        let header = RtpPacket::decode(&packet).unwrap().header;
        numbers.push(header.sequence);
        seen += usize::from(header.marker);
    }
    (numbers, info.streams[0].sequence.unwrap())
}

/// What is played again after a pause is the keyframe that there was, under the numbers that the stream's packets have: a key is used
/// with each number once all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_of_protected_packets_may_pause_and_is_told_the_end() {
    let (serving, config) = secure().await;
    let source = Source::h264();
    let mut publisher = serving.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher.set_tracks(source.tracks()).unwrap();
    // A GOP of 25 pictures, and ten of the next.
    source.take(35).for_each(|frame| _ = publisher.publish(frame).unwrap());
    let url = format!("{}?srtp", url(&serving));
    let mut raw = over_tls(&serving, &config).await;
    let ours = Keyring::new(Box::new([7; Keyring::RANDOM]), NtpTime(1)).message(0, 1).unwrap();
    let setup = Request::new(Method::Setup, format!("{url}/trackID=0"));
    let setup = setup.with("Transport", "RTP/SAVP/TCP;unicast;interleaved=0-1");
    let setup = setup.with("KeyMgmt", KeyMgmt { uri: url.clone(), data: ours.to_base64() });
    let setup = raw.ask(setup).await;
    assert_eq!(setup.status, Status::OK);
    let theirs: KeyMgmt = setup.headers.get("KeyMgmt").unwrap().parse().unwrap();
    let theirs = Message::from_base64(&theirs.data).unwrap();
    let mut receiver = Receiver::new(&theirs.key);
    let mut before = None;
    for _ in 0..5 {
        let (numbers, told) = play(&mut raw, &url, &mut receiver, 10).await;
        assert_eq!(numbers[0], told);
        assert!(
            before.is_none_or(|last: u16| numbers[0] == last.wrapping_add(1)),
            "{numbers:?} behind {before:?}"
        );
        assert!(numbers.windows(2).all(|two| two[1] == two[0].wrapping_add(1)), "{numbers:?}");
        before = numbers.last().copied();
        assert_eq!(raw.ask(Request::new(Method::Pause, &url)).await.status, Status::OK);
        assert!(raw.frames.iter().all(|(channel, _)| *channel == 1), "nothing more of it comes");
    }
    play(&mut raw, &url, &mut receiver, 10).await;
    drop(publisher);
    serving.engine.drain();
    loop {
        let report = receiver.unprotect_rtcp(&raw.frame(1).await.expect("a goodbye")).unwrap();
        if compound(&report).any(|packet| matches!(packet, Ok(RtcpPacket::Goodbye(_)))) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_malformed() {
    let (serving, _) = secure().await;
    let mut raw = Raw::connect(serving.address).await;
    raw.send(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").await;
    assert_eq!(serving.reasons(1).await, [CloseReason::Malformed]);
}

/// Neither verifies the certificate: the old one never does, and the new one is told.
async fn ffmpeg_plays(ffmpeg: &Path, unverified: &[&str]) {
    let (serving, _) = secure().await;
    let publishing = serving.publish(LONG);
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-rtsp_transport", "tcp"]).args(unverified);
    command.args(["-analyzeduration", "500000", "-i", &url(&serving), "-map", "0:v", "-map", "0:a"]);
    let mut program =
        Program::start("ffmpeg", command.args(["-c", "copy", "-frames:v", "50", "-f", "null", "-"]));
    tokio::task::spawn_blocking(move || program.end_ok(LIMIT)).await.unwrap();
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_5_plays_over_tls() {
    ffmpeg_plays(&need!(ffmpeg), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_9_plays_over_tls() {
    ffmpeg_plays(&need!(ffmpeg9), &["-tls_verify", "0"]).await;
}

/// GStreamer takes the key out of the description, and says its own when it sets media up.
async fn gstreamer_plays(protocols: &str) {
    let gst = need!(gst_launch);
    let (serving, _) = secure().await;
    // Pictures alone: GStreamer ends with an error when the first packets are of a stream that goes nowhere.
    let source = Source::h264();
    let publishing = serving.publish_frames(source.tracks(), source.seconds(LONG));
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(gst);
    command.args(["-q", "rtspsrc", "name=s", "tls-validation-flags=0", "latency=200"]);
    command.arg(format!("location={}?srtp", url(&serving))).arg(format!("protocols={protocols}"));
    command.args(["s.", "!", "rtph264depay", "!"]);
    command.args(["video/x-h264,stream-format=byte-stream,alignment=au", "!", "filesink"]);
    command.arg("buffer-mode=unbuffered").arg(format!("location={}", out.path().display()));
    let program = Program::start("gst-launch-1.0", &mut command);
    let frames = Source::h264().seconds(1);
    // The source is one GOP again and again, and each of its pictures is another one.
    let is_in =
        |came: &[u8], picture: &Bytes| came.windows(picture.len() - 4).any(|part| *part == picture[4..]);
    let pictures = pictures(&frames);
    until_written("the pictures", || {
        let came = std::fs::read(out.path()).unwrap();
        pictures.iter().all(|picture| is_in(&came, picture))
    })
    .await;
    drop(program);
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_plays_protected_packets_over_the_connection() {
    gstreamer_plays("tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_plays_protected_datagrams() {
    gstreamer_plays("udp").await;
}
