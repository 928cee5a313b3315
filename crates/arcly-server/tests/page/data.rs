//! Data channels: the KLV that FFmpeg publishes in MPEG-TS is read by Chromium and by another server, and what a page says is a track.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaEvent, MediaFrame, Timestamp, Track, TrackId, TrackSet,
};
use arcly_mux::ts;
use arcly_testkit::need;
use arcly_testkit::process::{Arcly, Guard, run_ok};
use bytes::{Bytes, BytesMut};

use super::{PATIENCE, alone, report, until};

/// Messages that are waited for: three seconds of them.
const MESSAGES: usize = 30;

/// The universal label that KLV begins with, a number, and more of it than fits into one datagram now and then.
fn message(n: u16) -> Bytes {
    let mut message = b"\x06\x0E\x2B\x34 key ".to_vec();
    message.extend(n.to_be_bytes());
    message.resize(20 + usize::from(n) * 397 % 3_000, n.to_be_bytes()[1]);
    message.into()
}

/// A file of nothing but KLV, ten times a second for two minutes.
fn file() -> PathBuf {
    let track = Track::new(TrackId::DATA, CodecId::Klv, CodecConfig::None);
    let (mut muxer, mut out) = (ts::Muxer::new(), BytesMut::new());
    muxer.set_tracks(&TrackSet::new([track]));
    for n in 0..1_200_u16 {
        let frame = MediaFrame::new(TrackId::DATA, Timestamp::from_millis(i64::from(n) * 100), message(n));
        muxer.frame(&frame.with_flags(FrameFlags::KEYFRAME), &mut out);
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("klv.ts");
    std::fs::write(&path, &out).expect("a file");
    path
}

fn publish(ffmpeg: &Path, server: &Arcly) -> Guard {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error"]);
    command.args(["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]);
    command.arg("-re").arg("-i").arg(file()).args(["-map", "0:v", "-map", "1:d"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25"]);
    command.args(["-pix_fmt", "yuv420p", "-c:d", "copy", "-f", "mpegts"]);
    command.arg(format!("srt://{}?streamid=publish:live/klv", server.addr("srt")));
    Guard::spawn(command.stdout(Stdio::null()))
}

/// The data in a transport stream that may still be written.
fn data_of(path: &Path) -> Vec<Bytes> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut demuxer = ts::Demuxer::default();
    demuxer.push(&bytes[..bytes.len() / 188 * 188]).expect("MPEG-TS");
    let (mut tracks, mut data) = (TrackSet::default(), Vec::new());
    while let Some(event) = demuxer.poll_event() {
        match event {
            MediaEvent::Tracks(now) => tracks = now,
            MediaEvent::Frame(frame) => {
                let codec = tracks.get(frame.track).map(|track| track.codec);
                data.extend((codec == Some(CodecId::Klv)).then_some(frame.payload));
            }
        }
    }
    data
}

/// These, byte by byte and in order, with hardly any left out: on a machine that is busy for more than a second some are too old to be sent.
fn assert_in_order(data: &[Bytes], who: &str) {
    let number = |data: &Bytes| (0..1_200_u16).find(|n| message(*n) == *data);
    let numbers: Vec<u16> =
        data.iter().map(|data| number(data).expect("one of those that were sent")).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{who}: {numbers:?}");
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { panic!("{who}: nothing") };
    let missing = usize::from(last - first) + 1 - numbers.len();
    assert!(missing <= numbers.len() / 10, "{who}: {numbers:?}");
    eprintln!("{who}: {} messages of KLV, {missing} left out", numbers.len());
}

#[test]
fn klv_that_ffmpeg_publishes_is_read_by_chromium_and_another_server_and_a_page_publishes_its_own() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let mut arcly = Command::new(env!("CARGO_BIN_EXE_arcly"));
    arcly.args(["serve", "--rtmp", "off", "--rtsp", "off"]);
    for listen in ["--srt", "--http", "--webrtc"] {
        arcly.args([listen, "127.0.0.1:0"]);
    }
    let arcly = Arcly::start(arcly.env("ARCLY_HLS__ALWAYS", "true"));
    let _publisher = publish(&ffmpeg, &arcly);
    until(&arcly, "/live/klv/video0.m3u8", "#EXTINF", 1);

    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("klv_copy.ts");
    let mut relay = Command::new(env!("CARGO_BIN_EXE_arcly"));
    relay.arg("relay").arg(format!("whep+http://{}/live/klv/whep", arcly.addr("http"))).arg(&copy);
    let relay = Guard::spawn(&mut relay);

    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/data.mjs"));
    node.arg(format!("http://{}", arcly.addr("http"))).args(["live/klv", "live/page"]);
    node.arg(MESSAGES.to_string()).arg(&modules).arg(&chromium);
    let report = report(&run_ok(&mut node, 3 * PATIENCE));
    assert_eq!(report["errors"], serde_json::json!([]), "{report:#}\n{}", arcly.log());

    let channel = |label| serde_json::json!([{ "label": label, "protocol": "klv", "ordered": true, "maxPacketLifeTime": 1_000 }]);
    assert_eq!(report["played"]["channels"], channel("klv"), "{report:#}");
    let messages = report["played"]["messages"].as_array().expect("a list");
    let byte = |digits: &[u8]| {
        u8::from_str_radix(core::str::from_utf8(digits).expect("digits"), 16).expect("a byte")
    };
    let bytes =
        |hex: &serde_json::Value| hex.as_str().expect("text").as_bytes().chunks(2).map(byte).collect();
    let messages: Vec<Bytes> = messages.iter().map(bytes).collect();
    assert!(messages.len() >= MESSAGES);
    assert_in_order(&messages, "Chromium");

    let tracks = report["tracks"].as_array().expect("a list");
    let named =
        |name: &str| tracks.iter().map(|track| track[name].as_str().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(
        (named("kind"), named("codec"), named("label")),
        (vec!["data"], vec!["klv"], vec!["telemetry"])
    );
    assert_eq!(report["heard"]["channels"], channel("telemetry"), "{report:#}");
    // The last one of before it came, and all since.
    let heard: Vec<Bytes> =
        report["heard"]["messages"].as_array().expect("a list").iter().map(bytes).collect();
    let said = (1..=50_u8).map(|n| Bytes::from(vec![n, n]));
    let expected: Vec<Bytes> = core::iter::once(Bytes::from_static(&[0])).chain(said).collect();
    assert!(heard == expected || heard == expected[1..], "{heard:?}");

    let end = Instant::now() + PATIENCE;
    while data_of(&copy).len() < MESSAGES {
        assert!(Instant::now() < end, "{} messages in the copy", data_of(&copy).len());
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(relay);
    assert_in_order(&data_of(&copy), "the other server");
}
