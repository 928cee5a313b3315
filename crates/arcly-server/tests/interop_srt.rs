//! SRT with libsrt's own programs, FFmpeg and GStreamer on the other side, to and from the other protocols, and between two
//! arclys.

mod interop;

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arcly_core::{CodecId, MediaEvent, TrackSet};
use arcly_mux::ts;
use arcly_testkit::contribution;
use arcly_testkit::ffprobe::{self, Packet};
use arcly_testkit::ports::free_port;
use arcly_testkit::process::{Guard, run, run_ok};
use arcly_testkit::program::Program;
use arcly_testkit::{clips, framehash, need};
use bytes::{Bytes, BytesMut};
use interop::transport::{assert_arrived, assert_run, read_flv, read_ts, sends, sends_on};
use interop::{LIMIT, Scene, assert_decodes};

const PASSPHRASE: &str = "correct-horse";
/// Streams below `secret` are encrypted.
const CONFIG: &str = "
[srt]
latency = '500ms'
stream_id = 'publish:live/door'
[[srt.passphrases]]
streams = 'secret/*'
passphrase = 'correct-horse'
";
/// Lengths of keys; `None` in the clear.
const KEYS: [Option<u32>; 4] = [None, Some(16), Some(24), Some(32)];
/// Frames of a track that FFmpeg and `srt-live-transmit` may keep for themselves: they close a connection without waiting until
/// what was sent last has left.
const TAIL: usize = 16;

fn srt(scene: &Scene, stream_id: &str) -> String {
    format!("srt://{}?streamid={stream_id}", scene.addr("srt"))
}

fn key(length: Option<u32>) -> String {
    length.map(|length| format!("&passphrase={PASSPHRASE}&pbkeylen={length}")).unwrap_or_default()
}

fn app(length: Option<u32>) -> &'static str {
    if length.is_some() { "secret" } else { "live" }
}

/// `srt-live-transmit` that copies from one place to another.
fn transmits(name: &str, program: &Path, from: &str, to: &str) -> Program {
    let mut command = Command::new(program);
    command.args(["-q", "-a:no", "-chunk:1316", "-buffering:1", from, to]);
    Program::start(name, &mut command)
}

/// The same, into a file.
fn receives(program: &Path, from: &str, file: &Path) -> Guard {
    let output = std::fs::File::create(file).expect("the target folder is writable");
    let mut command = Command::new(program);
    command.args(["-q", "-a:no", "-chunk:1316", from, "file://con"]).stdin(Stdio::null());
    Guard::spawn(command.stdout(output).stderr(Stdio::null()))
}

/// As many packets of each track as were received, if only the last few are missing.
#[track_caller]
fn beginning(sent: &[Packet], got: &[Packet]) -> Vec<Packet> {
    let pairs = ffprobe::tracks(sent).into_iter().zip(ffprobe::tracks(got));
    let cut = pairs.map(|(mut sent, got)| {
        assert!(sent.len() <= got.len() + TAIL, "{} of {} {}", got.len(), sent.len(), sent[0].kind);
        sent.truncate(got.len());
        sent
    });
    cut.flatten().cloned().collect()
}

fn arcly(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    command.args(args);
    command
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn ffmpeg_publishes_over_srt_and_everybody_plays() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let file = clips::H264_AAC.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    for (test, ffmpeg, length) in [("srt_ff5", &ff5, None), ("srt_ff9", &ff9, Some(32))] {
        let scene = Scene::start_with(test, CONFIG, &[]);
        let path = format!("{}/x", app(length));
        let players = [
            scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp(&path)),
            scene.ffmpeg_plays("http-flv", &ff9, &scene.flv(&path)),
        ];
        let received = scene.file("received.ts");
        let mut relay = Program::start(
            "relay",
            &mut arcly(&[
                "relay",
                &(srt(&scene, &format!("read:{path}")) + &key(length) + "&conntimeo=20000"),
                &text(&received),
            ]),
        );
        scene.until_readers(&path, 3);
        let url = srt(&scene, &format!("publish:{path}")) + &key(length) + "&latency=500000";
        sends("publisher", ffmpeg, &file, &[], &url).end_ok(LIMIT);
        for player in players {
            let name = player.program.name().to_owned();
            eprintln!("{test} to {name}");
            let got = player.listing().packets;
            assert_arrived(&beginning(&sent, &got), &got);
        }
        relay.end_ok(LIMIT);
        let got = std::fs::read(&received).expect("what the relay wrote");
        assert_run(&read_flv(&file), &read_ts(&got), [0, TAIL], &format!("{test} to srt"));
    }
}

/// FFmpeg plays what is published over RTMP: old and new, in the clear and encrypted, from the middle of the stream.
#[test]
fn ffmpeg_plays_over_srt() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let scene = Scene::start_with("srt_plays", CONFIG, &[]);
    let file = clips::LONG.file(&ff5);
    for length in [None, Some(16)] {
        let path = format!("{}/x", app(length));
        let _publisher = interop::publish_on("publisher", &ff5, &file, &scene.rtmp(&path));
        scene.until(&path, "live", |stream| stream["frames_in"].as_u64() > Some(40));
        for ffmpeg in [&ff5, &ff9] {
            let url = srt(&scene, &format!("read:{path}")) + &key(length) + "&latency=500000";
            let mut command = Command::new(ffmpeg);
            command.args(["-hide_banner", "-nostdin", "-v", "error", "-xerror", "-i", &url, "-map", "0:v"]);
            run_ok(command.args(["-map", "0:a", "-t", "2", "-f", "null", "-"]), LIMIT);
        }
    }
}

/// `srt-live-transmit` calls: it publishes what FFmpeg sends it, and plays it, with every length of key.
#[test]
fn libsrt_calls_to_publish_and_to_play() {
    let (ff5, program) = (need!(ffmpeg), need!(srt_live_transmit));
    let file = clips::H264_AAC.file(&ff5);
    let sent = read_flv(&file);
    let scene = Scene::start_with("srt_libsrt", CONFIG, &[]);
    for length in KEYS {
        let path = format!("{}/k{}", app(length), length.unwrap_or(0));
        let id = |action: &str| srt(&scene, &format!("#!::m={action},r={path}")) + &key(length);
        let received = scene.file(&format!("{}.ts", length.unwrap_or(0)));
        let mut player = receives(&program, &(id("request") + "&latency=500"), &received);
        scene.until_readers(&path, 1);
        let port = free_port();
        let into = format!("udp://127.0.0.1:{port}");
        let mut publisher = transmits("publisher", &program, &into, &(id("publish") + "&latency=500"));
        scene.until(&path, "published", |stream| stream["publisher"]["protocol"] == "srt");
        sends("source", &ff5, &file, &[], &format!("udp://127.0.0.1:{port}?pkt_size=1316")).end_ok(LIMIT);
        scene.until(&path, "whole", |stream| stream["frames_in"].as_u64() >= Some(sent.len() as u64 - 8));
        publisher.signal("TERM");
        publisher.end(LIMIT);
        // The stream is over, and with it the player's connection.
        scene.until(&path, "over", serde_json::Value::is_null);
        assert!(player.wait_for(LIMIT).is_some(), "it does not notice the end");
        let got = std::fs::read(&received).expect("what it wrote");
        let whole = got.len() / 188 * 188;
        // What is missing at the end is what FFmpeg's last sounds and `srt-live-transmit` keep for themselves.
        assert_run(&sent, &read_ts(&got[..whole]), [0, TAIL], &format!("{length:?}"));
    }
}

/// `srt-live-transmit` listens: arcly pulls from it, and pushes to it.
#[test]
fn libsrt_listens_and_is_pulled_from_and_pushed_to() {
    let (ff5, program) = (need!(ffmpeg), need!(srt_live_transmit));
    let file = clips::H264_AAC.file(&ff5);
    let sent = read_flv(&file);
    let scene = Scene::start_with("srt_listens", CONFIG, &[]);
    for length in KEYS {
        let (input, from, to) = (free_port(), free_port(), free_port());
        let path = format!("live/l{}", length.unwrap_or(0));
        let query = format!("latency=500{}", key(length));
        let listen = |port: u16| format!("srt://127.0.0.1:{port}?mode=listener&{query}");
        let received = scene.file(&format!("{}.ts", length.unwrap_or(0)));
        let mut sink = receives(&program, &listen(to), &received);
        let mut source = transmits("source", &program, &format!("udp://127.0.0.1:{input}"), &listen(from));
        scene.relay(&format!("srt://127.0.0.1:{from}?{query}"), &path);
        scene.relay(&path, &format!("srt://127.0.0.1:{to}?{query}"));
        scene.until(&path, "published and read", |stream| {
            stream["publisher"]["protocol"] == "srt" && stream["readers"] == 1
        });
        sends("ffmpeg", &ff5, &file, &[], &format!("udp://127.0.0.1:{input}?pkt_size=1316")).end_ok(LIMIT);
        scene.until(&path, "whole", |stream| stream["frames_in"].as_u64() >= Some(sent.len() as u64 - 8));
        source.signal("TERM");
        source.end(LIMIT);
        scene.until(&path, "over", |stream| stream["publisher"].is_null());
        assert!(sink.wait_for(LIMIT).is_some(), "it does not notice the end");
        let got = std::fs::read(&received).expect("what it wrote");
        let whole = got.len() / 188 * 188;
        assert_run(&sent, &read_ts(&got[..whole]), [0, TAIL], &format!("{length:?}"));
    }
}

/// What is in a transport stream: codec, language, and the payloads in their order.
fn by_track(data: &[u8]) -> Vec<(CodecId, Option<String>, Vec<Bytes>)> {
    let mut demuxer = ts::Demuxer::default();
    demuxer.push(data).expect("MPEG-TS");
    demuxer.finish().expect("MPEG-TS");
    assert_eq!(demuxer.counters(), ts::Counters::default(), "nothing is lost or odd");
    let (mut tracks, mut all) = (TrackSet::default(), Vec::new());
    while let Some(event) = demuxer.poll_event() {
        match event {
            MediaEvent::Tracks(now) => tracks = now,
            MediaEvent::Frame(frame) => {
                let track = tracks.get(frame.track).expect("a track");
                let name = (track.codec, track.language.as_deref().map(str::to_owned));
                match all.iter_mut().find(|(codec, language, _)| (codec, language) == (&name.0, &name.1)) {
                    Some((.., payloads)) => Vec::push(payloads, frame.payload),
                    None => all.push((name.0, name.1, vec![frame.payload])),
                }
            }
        }
    }
    all
}

/// Sound in two languages, KLV and splice information, from one `srt-live-transmit` through the server to another.
#[test]
fn every_track_of_a_contribution_goes_through() {
    let program = need!(srt_live_transmit);
    let scene = Scene::start_with("srt_tracks", CONFIG, &[]);
    let id = |action: &str| srt(&scene, &format!("#!::m={action},r=live/all")) + "&latency=500";
    let received = scene.file("received.ts");
    let mut player = receives(&program, &id("request"), &received);
    scene.until_readers("live/all", 1);
    let port = free_port();
    let mut publisher = transmits("publisher", &program, &format!("udp://127.0.0.1:{port}"), &id("publish"));
    scene.until("live/all", "published", |stream| stream["publisher"]["protocol"] == "srt");
    let frames = contribution::seconds(4);
    let (mut muxer, mut stream) = (ts::Muxer::new(), BytesMut::new());
    muxer.set_tracks(&contribution::tracks());
    frames.iter().for_each(|frame| muxer.frame(frame, &mut stream));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let pace = Duration::from_secs(4) / u32::try_from(stream.len() / 1_316).expect("not much");
    for message in stream.chunks(1_316) {
        socket.send_to(message, ("127.0.0.1", port)).expect("sent");
        std::thread::sleep(pace);
    }
    scene.until("live/all", "whole", |stream| stream["frames_in"].as_u64() >= Some(frames.len() as u64 - 8));
    publisher.signal("TERM");
    publisher.end(LIMIT);
    scene.until("live/all", "over", serde_json::Value::is_null);
    assert!(player.wait_for(LIMIT).is_some(), "it does not notice the end");
    let got = std::fs::read(&received).expect("what it wrote");
    let got = by_track(&got[..got.len() / 188 * 188]);
    for track in &contribution::tracks() {
        let sent = frames.iter().filter(|frame| frame.track == track.id).map(|frame| frame.payload.clone());
        let sent: Vec<Bytes> = sent.collect();
        let language = track.language.as_deref();
        let is_it =
            |one: &&(CodecId, Option<String>, _)| (one.0, one.1.as_deref()) == (track.codec, language);
        let got = got.iter().find(is_it).map_or(&[][..], |(.., payloads)| payloads);
        // What is missing at the end `srt-live-transmit` keeps for itself; data ends a second before.
        let missing = if matches!(track.codec, CodecId::Klv | CodecId::Scte35) { 0 } else { TAIL };
        assert!(sent.len() <= got.len() + missing, "{}: {} of {}", track.codec, got.len(), sent.len());
        assert!(sent.starts_with(got), "{} {language:?} is not what was sent", track.codec);
    }
}

/// GStreamer's elements, which have an SRT of their own between them and libsrt.
#[test]
fn gstreamer_publishes_and_plays() {
    let (ff5, gst) = (need!(ffmpeg), need!(gst_launch));
    let scene = Scene::start_with("srt_gstreamer", CONFIG, &[]);
    let file = clips::H264_AAC.file(&ff5);
    let input = scene.file("input.ts");
    run_ok(&mut arcly(&["relay", &text(&file), &text(&input)]), LIMIT);
    for length in [None, Some(32)] {
        through_gstreamer(&scene, &gst, &file, &input, length);
    }
}

fn through_gstreamer(scene: &Scene, gst: &Path, file: &Path, input: &Path, length: Option<u32>) {
    let (path, received) = (format!("{}/g", app(length)), scene.file("received.ts"));
    let uri =
        |action: &str| format!("uri={}&latency=500{}", srt(scene, &format!("{action}:{path}")), key(length));
    let mut player = Command::new(gst);
    player.args(["-q", "srtsrc", &uri("read"), "!", "filesink"]);
    player.arg(format!("location={}", received.display())).arg("buffer-mode=unbuffered");
    let player = Program::start("player", &mut player);
    scene.until_readers(&path, 1);
    let mut publisher = Command::new(gst);
    publisher.args(["-q", "filesrc", &format!("location={}", input.display()), "!", "tsparse"]);
    publisher.args(["set-timestamps=true", "alignment=7", "!", "srtsink", &uri("publish")]);
    publisher.arg("wait-for-connection=false");
    Program::start("publisher", &mut publisher).end_ok(LIMIT);
    // Its connection stays until what was sent last has been played.
    let end = Instant::now() + LIMIT;
    while !scene.log().contains(&format!("reader left stream={path}")) {
        assert!(Instant::now() < end, "the player is not let go");
        std::thread::sleep(Duration::from_millis(20));
    }
    player.signal("INT");
    drop(player);
    let (sent, got) = (read_flv(file), std::fs::read(&received).expect("what it wrote"));
    let whole = got.len() / 188 * 188;
    // It lets go what it sends before it is connected, and may what it has in hand when its file ends.
    assert_run(&sent, &read_ts(&got[..whole]), [sent.len(), TAIL], &format!("gstreamer, {length:?}"));
}

/// From one arcly to another: pulled, pushed back, probed, copied to a file, and pulled on demand.
#[test]
fn relays_and_probes_speak_srt() {
    let (ff5, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let file = clips::LONG.file(&ff5);
    let origin = Scene::start_with("srt_origin", CONFIG, &[]);
    let url = srt(&origin, "read:secret/x") + &key(Some(24));
    let config =
        format!("[[relays]]\nfrom = '{url}'\nto = 'strict/cam'\non_demand = true\nclose_after = '500ms'\n");
    let edge = Scene::start_with("srt_edge", &config, &[]);
    let publish = srt(&origin, "publish:secret/x") + &key(Some(24)) + "&latency=500000";
    let _publisher = sends_on("publisher", &ff5, &file, &publish);
    origin.until("secret/x", "live", |stream| stream["state"] == "live");
    let report = run_ok(&mut arcly(&["probe", "--time", "2s", &url]), LIMIT);
    assert!(report.contains("h264") && report.contains("aac"), "{report}");
    let sees = |scene: &Scene, path: &str| {
        scene.until(path, "flowing", |stream| stream["frames_in"].as_u64() > Some(50));
    };
    edge.relay(&url, "live/pulled");
    sees(&edge, "live/pulled");
    edge.relay("live/pulled", &srt(&origin, "publish:live/back"));
    sees(&origin, "live/back");
    let statistics = origin.api("/api/v1/streams/live/back")["publisher"]["srt"].clone();
    assert!(statistics["pktRecvUniqueTotal"].as_u64() > Some(10), "{statistics:#}");
    let state = || edge.api("/api/v1/relays")["items"][0]["state"].clone();
    assert_eq!(state(), "idle");
    let copy = edge.file("copy.mp4");
    let mut relay = Program::start("relay", &mut arcly(&["relay", &edge.rtmp("strict/cam"), &text(&copy)]));
    edge.until("strict/cam", "flowing", |stream| stream["frames_in"].as_u64() > Some(100));
    interop::until_written(&copy);
    relay.signal("TERM");
    relay.end_ok(LIMIT);
    assert_decodes(&ff5, &copy);
    assert!(ffprobe::packets(&ffprobe, &text(&copy)).iter().any(|packet| packet.kind == "video"));
    let end = Instant::now() + LIMIT;
    while state() != "idle" {
        assert!(Instant::now() < end, "it is still {}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where a stream id leads, and what those hear who may not go there.
#[test]
fn stream_ids_lead_where_they_say() {
    let (ff5, program) = (need!(ffmpeg), need!(srt_live_transmit));
    let config = format!(
        "{CONFIG}[[auth.users]]\nname = 'me'\npassword = 'battery-staple'\nactions = ['publish', 'play', 'api']\n"
    );
    let scene = Scene::start_with("srt_ids", &config, &[]);
    let log_says = |words: &str| {
        let end = Instant::now() + LIMIT;
        while !scene.log().contains(words) {
            assert!(Instant::now() < end, "no {words:?} in the log");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let refused = |id: &str, reason: &str| {
        let output = run(
            Command::new(&ff5).args(["-hide_banner", "-nostdin", "-v", "info", "-i", &srt(&scene, id)]),
            LIMIT,
        );
        assert!(!output.status.success(), "{id}");
        log_says(&format!("reason={reason}"));
    };
    refused("read:live/none", "unauthorized");
    refused("read:strict/none:me:battery-staple", "not_found");
    refused("read:secret/none:me:battery-staple", "unauthorized");
    let file = clips::LONG.file(&ff5);
    let short = sends("short", &ff5, &file, &[], &srt(&scene, "publish:live/a:me:battery-staple"));
    let keyed = srt(&scene, "#!::r=live/b,m=publish,u=me,s=battery-staple");
    let port = free_port();
    let libsrt = transmits("libsrt", &program, &format!("udp://127.0.0.1:{port}"), &keyed);
    let source = sends("source", &ff5, &file, &[], &format!("udp://127.0.0.1:{port}?pkt_size=1316"));
    log_says("stream=live/a");
    log_says("stream=live/b");
    drop((short, libsrt, source));
}
