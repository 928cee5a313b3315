//! Streams in and out of an engine over SRT: FFmpeg old and new, and this crate's own ends.
#![cfg(all(feature = "encryption", feature = "ts"))]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{AuthError, AuthRequest, Grant, StreamAuthenticator};
use arcly_core::log::Read;
use arcly_core::{
    CodecId, Engine, MediaEvent, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    Publisher, StreamKey, TrackKind, TrackSet,
};
use arcly_mux::ts::Demuxer;
use arcly_srt::crypto::CryptoConfig;
use arcly_srt::socket::{Peer, Socket};
use arcly_srt::wire::{KeyLength, RejectReason};
use arcly_srt::{Client, Config, Server, ServerConfig, SessionError, SrtUrl};
use arcly_testkit::media::Source;
use arcly_testkit::need;
use arcly_testkit::ports::free_address;
use arcly_testkit::process::{Guard, run};
use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

const PASSPHRASE: &str = "0123456789abc";
const LIMIT: Duration = Duration::from_secs(60);

/// Lets `me` in with `secret`, and everybody whom nothing is known of.
struct Door;

#[async_trait]
impl StreamAuthenticator for Door {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        let credentials = &request.credentials;
        match (credentials.user.as_deref(), credentials.password.as_deref()) {
            (None, None) | (Some("me"), Some("secret")) => Ok(Grant::unlimited()),
            _ => Err(AuthError::Unauthorized),
        }
    }
}

struct Running {
    engine: Arc<Engine>,
    at: SocketAddr,
    _stop: DropGuard,
}

fn crypto(length: KeyLength) -> CryptoConfig {
    CryptoConfig::new(PASSPHRASE.parse().expect("long enough")).with_key_length(length)
}

fn start(encrypted: bool) -> Running {
    let engine = Engine::builder().authenticator(Arc::new(Door)).build();
    let mut config = ServerConfig::default();
    config.connection.crypto = encrypted.then(|| crypto(KeyLength::Aes128));
    config.connection.receiver_latency = Duration::from_millis(500);
    let server = Server::bind("127.0.0.1:0".parse().expect("an address"), config).expect("a port");
    let (at, shutdown) = (server.local_addr(), CancellationToken::new());
    let context = engine.context(shutdown.clone());
    tokio::spawn(async move { server.run(context).await });
    Running { engine, at, _stop: shutdown.drop_guard() }
}

async fn call(at: SocketAddr, id: &str, key: Option<&str>) -> Result<Peer, SessionError> {
    let mut config = Config::default();
    config.stream_id = Some(id.to_owned()).filter(|id| !id.is_empty());
    config.receiver_latency = Duration::from_millis(500);
    config.connect_timeout = LIMIT;
    config.crypto = key.map(|key| CryptoConfig::new(key.parse().expect("long enough")));
    Socket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port").call(at, config).await
}

/// A stream that is there: two seconds of it, and more when it is asked for.
async fn publisher(engine: &Engine) -> Publisher {
    let request = PublishRequest::internal(StreamKey::new("live", "cam"), "test");
    let mut publisher = engine.publish(request).await.expect("free");
    let source = Source::h264_aac();
    publisher.set_tracks(source.tracks()).expect("tracks");
    source.seconds(2).into_iter().for_each(|frame| _ = publisher.publish(frame).expect("a frame"));
    publisher
}

/// A transport stream as an encoder would send it.
fn transport_stream(seconds: u32) -> Vec<Bytes> {
    let (source, mut muxer) = (Source::h264_aac(), arcly_mux::ts::Muxer::new());
    let mut out = bytes::BytesMut::new();
    muxer.set_tracks(&source.tracks());
    source.seconds(seconds).iter().for_each(|frame| muxer.frame(frame, &mut out));
    out.chunks(1_316).map(Bytes::copy_from_slice).collect()
}

/// Frames of a stream until it ends, or there are so many: pictures and sound.
async fn frames(engine: &Engine, count: usize) -> (usize, usize) {
    let request = PlayRequest::internal(StreamKey::new("live", "cam"), "test").wait(LIMIT);
    let mut reader = engine.subscribe(request).await.expect("it comes").into_frames();
    let (mut pictures, mut sounds, mut tracks) = (0, 0, Arc::<TrackSet>::default());
    while pictures + sounds < count {
        match tokio::time::timeout(LIMIT, reader.next()).await.expect("in time").expect("not ended") {
            Some(Read::Item(frame)) => match tracks.get(frame.track).map(|track| track.kind()) {
                Some(TrackKind::Video) => pictures += 1,
                _ => sounds += 1,
            },
            Some(Read::Context(context)) => tracks = context,
            Some(Read::Skipped(_)) => {}
            None => break,
        }
    }
    (pictures, sounds)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_what_is_not_to_be_had_is_told_why() {
    let running = start(false);
    let _publisher = publisher(&running.engine).await;
    for (id, reason) in [
        ("read:live/none", RejectReason::NOT_FOUND),
        ("#!::r=live/cam,m=bidirectional", RejectReason::BAD_MODE),
        ("#!::r=../../x,m=publish", RejectReason::FORBIDDEN),
        ("#!::novalue", RejectReason::BAD_REQUEST),
        ("", RejectReason::UNAUTHORIZED),
        ("read:live/cam:me:wrong", RejectReason::UNAUTHORIZED),
        ("publish:live/cam", RejectReason::CONFLICT),
    ] {
        let refused = call(running.at, id, None).await.err();
        assert_eq!(refused, Some(SessionError::Rejected(reason)), "{id}");
    }
    let refused = call(running.at, "read:live/cam", Some(PASSPHRASE)).await.err();
    assert_eq!(refused, Some(SessionError::Rejected(RejectReason::UNSECURE)));
    assert!(call(running.at, "read:live/cam:me:secret", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_nobody_takes_a_stream_with_a_wrong_passphrase() {
    let running = start(true);
    let wrong = call(running.at, "publish:live/cam", Some("another passphrase")).await.err();
    assert_eq!(wrong, Some(SessionError::Rejected(RejectReason::BAD_SECRET)));
    let clear = call(running.at, "publish:live/cam", None).await.err();
    assert_eq!(clear, Some(SessionError::Rejected(RejectReason::UNSECURE)));
    assert!(call(running.at, "publish:live/cam", Some(PASSPHRASE)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_in_and_out_whole() {
    let running = start(true);
    let sender = call(running.at, "publish:live/cam", Some(PASSPHRASE)).await.expect("nobody else publishes");
    let stream = transport_stream(3);
    for message in &stream {
        sender.send(message.clone()).await.expect("connected");
    }
    let reader = call(running.at, "read:live/cam?x=y", Some(PASSPHRASE)).await;
    // The stream is there once its first packets were due.
    let reader = match reader {
        Ok(reader) => reader,
        Err(_) => loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Ok(reader) = call(running.at, "read:live/cam", Some(PASSPHRASE)).await {
                break reader;
            }
        },
    };
    let mut demuxer = Demuxer::default();
    let mut keyframes = 0;
    while keyframes < 2 {
        let message = tokio::time::timeout(LIMIT, reader.recv()).await.expect("in time").expect("more comes");
        demuxer.push(&message.payload).expect("a transport stream");
        while let Some(event) = demuxer.poll_event() {
            match event {
                MediaEvent::Tracks(tracks) => {
                    let codecs: Vec<CodecId> = tracks.iter().map(|track| track.codec).collect();
                    assert_eq!(codecs, [CodecId::H264, CodecId::Aac]);
                }
                MediaEvent::Frame(frame) => keyframes += usize::from(frame.is_keyframe()),
            }
        }
        if keyframes == 1 {
            // What the demuxer waits for, to know that a picture has ended.
            for message in transport_stream(1) {
                _ = sender.try_send(message);
            }
            keyframes = 2;
        }
    }
    assert_eq!(demuxer.counters().gaps, 0);
}

fn source(ffmpeg: &Path, to: &str) -> Guard {
    let video = "testsrc2=size=320x180:rate=25";
    let sound = "sine=frequency=440:sample_rate=48000";
    Guard::spawn(
        Command::new(ffmpeg)
            .args(["-v", "error", "-re", "-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound, "-t", "30"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p"])
            .args(["-c:a", "aac", "-f", "mpegts", to])
            .stdin(Stdio::null()),
    )
}

/// FFmpeg publishes, with every kind of key, and FFmpeg plays it.
async fn interop(ffmpeg: &Path) {
    for length in [None, Some(KeyLength::Aes128), Some(KeyLength::Aes256)] {
        let running = start(length.is_some());
        let key = length.map(|length| format!("&passphrase={PASSPHRASE}&pbkeylen={}", length.bytes()));
        let url = |id: &str| {
            format!("srt://{}?streamid={id}&latency=500000{}", running.at, key.clone().unwrap_or_default())
        };
        let _source = source(ffmpeg, &url("publish:live/cam"));
        let (pictures, sounds) = frames(&running.engine, 100).await;
        assert!(pictures > 20 && sounds > 40, "{length:?}: {pictures} pictures, {sounds} pieces of sound");
        let mut player = Command::new(ffmpeg);
        player.args(["-v", "error", "-xerror", "-i", &url("read:live/cam"), "-map", "0", "-t", "2"]);
        player.args(["-f", "null", "-"]);
        let output = tokio::task::spawn_blocking(move || run(&mut player, LIMIT)).await.expect("no panic");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{length:?}: {errors}");
        // What libsrt says of controls that it passes over.
        assert!(!errors.contains("INVALID SIZE"), "{length:?}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_5_publishes_and_plays() {
    interop(&need!(ffmpeg)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_9_publishes_and_plays() {
    interop(&need!(ffmpeg9)).await;
}

/// FFmpeg 9's libsrt has AES-GCM, and takes it of a caller that has chosen it: it listens, and the stream goes either way.
#[tokio::test(flavor = "multi_thread")]
async fn gcm_goes_both_ways_with_ffmpeg_9() {
    let ffmpeg = need!(ffmpeg9);
    for length in [KeyLength::Aes128, KeyLength::Aes256] {
        let listener =
            || format!("srt://{}?mode=listener&passphrase={PASSPHRASE}&latency=500000", free_address());
        // A caller repeats itself until the listener is there.
        let caller = |listener: &str| {
            let options = format!("cryptomode=2&pbkeylen={}&conntimeo=60000&mode=caller", length.bytes());
            listener.replace("mode=listener", &options).replace("latency=500000", "latency=500")
        };
        let from = listener();
        let _source = source(&ffmpeg, &from);
        let engine = Engine::builder().build();
        let pulling = tokio::spawn({
            let (engine, client) = (Arc::clone(&engine), Client::new(caller(&from)).expect("a URL"));
            async move { client.pull(engine, StreamKey::new("live", "cam"), CancellationToken::new()).await }
        });
        let (pictures, sounds) = frames(&engine, 100).await;
        assert!(pictures > 20 && sounds > 40, "{length:?}: {pictures} pictures, {sounds} pieces of sound");
        pulling.abort();

        let to = listener();
        let mut player = Command::new(&ffmpeg);
        player.args(["-v", "error", "-xerror", "-i", &to, "-map", "0", "-c", "copy", "-t", "2"]);
        player.args(["-f", "null", "-"]);
        let playing = tokio::task::spawn_blocking(move || run(&mut player, LIMIT));
        let url: SrtUrl = caller(&to).parse().expect("a URL");
        let at = SocketAddr::new(url.host.parse().expect("an address"), url.port);
        let socket = Socket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let peer = socket.call(at, url.config).await.expect("it listens");
        // It goes when it has had enough.
        for message in transport_stream(20) {
            if peer.send(message).await.is_err() {
                break;
            }
        }
        let output = playing.await.expect("no panic");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !errors.contains("INVALID SIZE"), "{length:?}: {errors}");
    }
}
