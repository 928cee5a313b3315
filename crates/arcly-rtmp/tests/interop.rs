//! Against programs that are not ours: FFmpeg old and new, rtmpdump, GStreamer, nginx-rtmp. Each is skipped, loudly, where it
//! is not installed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::{
    AppSpec, Engine, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, StreamKey, TrackId,
};
use arcly_rtmp::{Backoff, Client, RtmpRelay, Server, ServerConfig};
use arcly_testkit::ffprobe::{self, Times};
use arcly_testkit::media::Source;
use arcly_testkit::ports::free_port;
use arcly_testkit::process::{self, Guard, is_listening};
use arcly_testkit::{need, tools};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
const SOON: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_millis(200) };

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let all = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect(what);
}

fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Publishes four seconds of the source at twice their speed once the first frame is read, and ends the stream.
async fn publish(engine: &Arc<Engine>) {
    let source = Source::h264_aac();
    let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher.set_tracks(source.tracks()).unwrap();
    let mut frames = source.seconds(4).into_iter();
    publisher.publish(frames.next().unwrap()).unwrap();
    let readers = || engine.stream(&key()).map(|stream| stream.readers()).unwrap_or_default();
    until("somebody who reads", || readers().iter().any(|reader| reader.stats().items > 0)).await;
    // Time for the program behind it to start.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let began = tokio::time::Instant::now();
    for frame in frames {
        tokio::time::sleep_until(began + (frame.dts - arcly_core::Timestamp::ZERO).to_duration() / 2).await;
        publisher.publish(frame).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    engine.drain();
}

/// Payload sizes of the source's frames of one track.
fn sent_sizes(track: TrackId) -> Vec<usize> {
    Source::h264_aac().seconds(4).iter().filter(|f| f.track == track).map(|f| f.payload.len()).collect()
}

/// Asserts that a relay delivered the stream from one of its keyframes to its end.
fn assert_tail(sent: &[usize], got: &[usize], what: &str) {
    assert!(sent.ends_with(got) && got.len() * 2 > sent.len(), "{what}: {} of {}", got.len(), sent.len());
}

async fn relay_to_listening(ffmpeg: PathBuf, ffprobe: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relayed.flv");
    let port = free_port();
    let url = format!("rtmp://127.0.0.1:{port}/live/x");
    let mut command = quiet(&ffmpeg);
    command.args(["-v", "error", "-f", "flv", "-listen", "1", "-i", &url, "-c", "copy"]).arg(&file);
    let mut listening = Guard::spawn(&mut command);
    until("FFmpeg listens", || is_listening(port)).await;
    let engine = Engine::builder().build();
    let relay = RtmpRelay::new(Arc::clone(&engine) as _, &url).unwrap().with_reconnect(SOON);
    let feeding = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { publish(&engine).await }
    });
    while engine.stream(&key()).is_none() {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(LIMIT, relay.run(key(), CancellationToken::new())).await.unwrap().unwrap();
    feeding.await.unwrap();
    tokio::task::block_in_place(|| listening.wait_for(LIMIT)).expect("FFmpeg ends with the stream");
    let packets = ffprobe::packets(ffprobe, file.to_str().unwrap());
    for (kind, track) in [("video", TrackId::VIDEO), ("audio", TrackId::AUDIO)] {
        let got: Vec<_> = ffprobe::of_kind(&packets, kind).iter().map(|packet| packet.size).collect();
        assert_tail(&sent_sizes(track), &got, kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_feeds_ffmpeg_5() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    relay_to_listening(ffmpeg, &ffprobe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_feeds_ffmpeg_9() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg9), need!(ffprobe));
    relay_to_listening(ffmpeg, &ffprobe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_through_nginx_unchanged() {
    let nginx = need!(nginx);
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let at = folder.path().display();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; error_log {at}/error.log info; pid {at}/pid; worker_processes 1;\n\
         events {{ worker_connections 64; }}\n\
         rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let _nginx =
        Guard::spawn(quiet(&nginx).arg("-c").arg(&file).arg("-e").arg(folder.path().join("early.log")));
    until("nginx listens", || is_listening(port)).await;

    let (from, to) =
        (Engine::builder().build(), Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)));
    let to = to.build();
    let (url, stop) = (format!("rtmp://127.0.0.1:{port}/live/cam"), CancellationToken::new());
    let client = Client::new(&url).unwrap().with_reconnect(SOON);
    let pull = tokio::spawn({
        let (engine, stop) = (Arc::clone(&to), stop.clone());
        async move { client.pull(engine, key(), stop).await }
    });
    let relay = RtmpRelay::new(Arc::clone(&from) as _, &url).unwrap().with_reconnect(SOON);
    let feeding = tokio::spawn({
        let from = Arc::clone(&from);
        async move { publish(&from).await }
    });
    while from.stream(&key()).is_none() {
        tokio::task::yield_now().await;
    }
    let relay = tokio::spawn(relay.run(key(), stop.clone()));
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    let mut reader = to.subscribe(request).await.unwrap().into_frames();
    feeding.await.unwrap();
    relay.await.unwrap().unwrap();
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    while let Ok(Ok(Some(read))) = tokio::time::timeout(Duration::from_secs(5), reader.next()).await {
        if let Read::Item(frame) = read {
            if frame.track == TrackId::VIDEO { &mut video } else { &mut audio }.push(frame.payload.len());
        }
    }
    assert_tail(&sent_sizes(TrackId::VIDEO), &video, "video");
    assert_tail(&sent_sizes(TrackId::AUDIO), &audio, "audio");
    stop.cancel();
    pull.await.unwrap().unwrap();
}

async fn server() -> (SocketAddr, Arc<Engine>) {
    let engine =
        Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT).grace(Duration::ZERO)).build();
    let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
    let (address, context) = (server.local_addr().unwrap(), engine.context(CancellationToken::new()));
    tokio::spawn(async move { server.run(context).await });
    (address, engine)
}

/// Three seconds of H.264 with B-frames and AAC.
fn clip(ffmpeg: &Path, folder: &Path) -> PathBuf {
    let file = folder.join("clip.flv");
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
    command.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "4"]);
    command.args(["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-bf", "2", "-pix_fmt", "yuv420p"]);
    command.args(["-c:a", "aac", "-f", "flv"]).arg(&file);
    process::run_ok(&mut command, LIMIT);
    file
}

/// Publishes a clip with one program while others wait for it, and compares what each of them got.
#[tokio::test(flavor = "multi_thread")]
async fn real_publishers_and_real_players() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let folder = tempfile::tempdir().unwrap();
    let clip = tokio::task::block_in_place(|| clip(&ffmpeg, folder.path()));
    let expected = ffprobe::packets(&ffprobe, clip.to_str().unwrap());
    let (address, engine) = server().await;
    for (n, publisher) in [Some(ffmpeg.clone()), tools::ffmpeg9()].into_iter().flatten().enumerate() {
        let url = format!("rtmp://{address}/live/cam{n}");
        let file = |name: &str| folder.path().join(format!("{name}{n}.flv"));
        let mut players = Vec::new();
        for (name, player) in [("ffmpeg5", Some(ffmpeg.clone())), ("ffmpeg9", tools::ffmpeg9())] {
            let Some(player) = player else { continue };
            let mut command = quiet(&player);
            command.args(["-v", "error", "-i", &url, "-c", "copy"]).arg(file(name));
            players.push((file(name), Guard::spawn(&mut command)));
        }
        if let Some(rtmpdump) = tools::rtmpdump() {
            let mut command = quiet(&rtmpdump);
            command.args(["-q", "-v", "-r", &url, "-o"]).arg(file("rtmpdump"));
            players.push((file("rtmpdump"), Guard::spawn(&mut command)));
        }
        if let Some(gst) = tools::gst_launch() {
            let mut command = quiet(&gst);
            command.args(["-q", "rtmp2src", &format!("location={url}"), "!", "filesink"]);
            command.arg(format!("location={}", file("gst").display()));
            players.push((file("gst"), Guard::spawn(&mut command)));
        }
        let cam = StreamKey::new("live", &format!("cam{n}"));
        until("all of them wait", || {
            engine.stream(&cam).is_some_and(|stream| stream.info().waiting >= players.len())
        })
        .await;
        let mut command = Command::new(&publisher);
        command.args(["-v", "error", "-re", "-i"]).arg(&clip).args(["-c", "copy", "-f", "flv", &url]);
        tokio::task::block_in_place(|| process::run_ok(&mut command, LIMIT));
        for (file, mut player) in players {
            tokio::task::block_in_place(|| player.wait_for(LIMIT))
                .unwrap_or_else(|| panic!("{file:?} goes on"));
            let got = ffprobe::packets(&ffprobe, file.to_str().unwrap());
            let count = ffprobe::assert_part(&expected, &got, Times::Shifted);
            assert!(count * 4 > expected.len() * 3, "{file:?}: {count} of {}", expected.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_publishes() {
    let gst = need!(gst_launch);
    let (address, engine) = server().await;
    let pipeline = format!(
        "videotestsrc num-buffers=45 is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         x264enc tune=zerolatency key-int-max=15 speed-preset=ultrafast ! h264parse ! flvmux streamable=true ! \
         rtmp2sink location=rtmp://{address}/live/cam"
    );
    let mut reader = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move {
            let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest);
            engine.subscribe(request).await.unwrap().into_frames()
        }
    });
    tokio::task::block_in_place(|| {
        process::run_ok(quiet(&gst).arg("-q").args(pipeline.split(' ').filter(|s| !s.is_empty())), LIMIT)
    });
    let mut reader = (&mut reader).await.unwrap();
    let mut frames = 0;
    while let Ok(Ok(Some(read))) = tokio::time::timeout(Duration::from_secs(1), reader.next()).await {
        frames += usize::from(matches!(read, Read::Item(_)));
    }
    assert_eq!(frames, 45);
}
