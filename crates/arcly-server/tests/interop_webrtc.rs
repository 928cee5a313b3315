//! WebRTC with FFmpeg 9's WHIP muxer and str0m on the other side, to and from the other protocols.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod interop;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_codec::opus::default_config;
use arcly_core::contract::auth::{ActionSet, Claims, NameRule, mint};
use arcly_testkit::program::Program;
use arcly_testkit::{clips, need, process};
use arcly_transcode::AudioDecoder as _;
use arcly_transcode::codec::opus::Decoder;
use interop::{LIMIT, Scene};
use str0m::media::Direction;
use support::bench::{Bench, lock};
use support::eventually;
use support::webrtc::{self, BOTH, FRAGMENT, Offer, Peer};

/// Of what is published over WebRTC, in frames.
const PICTURES: usize = 100;
const SOUNDS: usize = 200;

/// FFmpeg publishes a picture that moves and a tone by WHIP, six seconds of them.
fn publishes_over_whip(ffmpeg: &Path, url: &str, options: &[&str]) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning"]);
    command.args(["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "6"]);
    command.args([
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-profile:v",
        "baseline",
        "-preset",
        "ultrafast",
    ]);
    command.args(["-tune", "zerolatency", "-g", "25", "-bf", "0"]);
    command.args(["-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "64k"]);
    command.args(["-f", "whip", "-handshake_timeout", "60000"]).args(options).arg(url);
    Program::start("whip", &mut command)
}

/// How loud a file is, in decibels of full scale.
fn mean_volume(ffmpeg: &Path, file: &Path) -> f64 {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-i"]).arg(file);
    let said = process::run(command.args(["-map", "0:a", "-af", "volumedetect", "-f", "null", "-"]), LIMIT);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let number = said.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{}: no volume:\n{said}", file.display()))
}

#[test]
fn ffmpeg_publishes_over_whip_and_everybody_plays() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let scene = Scene::start("whip_ffmpeg");
    let rtsp = format!("rtsp://{}/live/x", scene.addr("rtsp"));
    let player = scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp("live/x"));
    let recorded = scene.file("rtsp.mkv");
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-y", "-rtsp_transport", "tcp", "-i", &rtsp]);
    let mut over_rtsp = Program::start("rtsp", command.args(["-c", "copy"]).arg(&recorded));
    scene.until_readers("live/x", 2);
    let url = format!("http://{}/live/x/whip", scene.addr("http"));
    let mut publisher = publishes_over_whip(&ff9, &url, &[]);
    let stream = scene.until("live/x", "published", |stream| {
        stream["publisher"]["protocol"] == "webrtc"
            && stream["tracks"].as_array().is_some_and(|t| t.len() == 2)
    });
    assert_eq!(
        (&stream["tracks"][0]["codec"], &stream["tracks"][1]["codec"]),
        (&"h264".into(), &"opus".into())
    );
    publisher.end_ok(LIMIT);
    let packets = player.listing().packets;
    let of = |kind: &str| packets.iter().filter(|packet| packet.kind == kind).count();
    // Sound over RTMP is AAC, whose frames are longer.
    assert!(of("video") >= PICTURES && of("audio") >= SOUNDS / 2, "{}, {}", of("video"), of("audio"));
    let volume = mean_volume(&ff5, &scene.copy_of("rtmp"));
    assert!(volume > -40.0, "rtmp: {volume} dB");
    over_rtsp.end(LIMIT);
    let volume = mean_volume(&ff5, &recorded);
    assert!(volume > -40.0, "rtsp: {volume} dB");
    let says = || scene.log().contains("publisher left stream=live/x");
    assert!(eventually(LIMIT, says), "{}", scene.log());
}

/// How loud packets of Opus are, as the root of the mean square of their samples.
fn loudness(packets: &[impl AsRef<[u8]>]) -> f32 {
    let mut decoder = Decoder::new(&default_config(2)).unwrap();
    let mut samples = Vec::new();
    for packet in packets {
        decoder.decode(packet.as_ref(), &mut samples).unwrap();
    }
    let squares: f32 = samples.iter().map(|sample| sample * sample).sum();
    (squares / samples.len() as f32).sqrt()
}

/// True for an access unit in Annex B form that nothing before it is needed for (H.264 §7.4.1: type 5).
fn is_idr(unit: &[u8]) -> bool {
    unit.windows(4).any(|four| four[..3] == [0, 0, 1] && four[3] & 0x1F == 5)
}

/// H.264 with B-frames and AAC, published over RTMP: viewers see it, and hear Opus; one of them by way of another server that has
/// to fetch the stream first.
#[test]
fn an_rtmp_stream_is_seen_and_heard_over_whep() {
    let ff5 = need!(ffmpeg);
    let origin = Scene::start("whep_origin");
    let config =
        format!("[[relays]]\nfrom = '{}'\nto = 'strict/cam'\non_demand = true\n", origin.rtmp("live/x"));
    let edge = Scene::start_with("whep_edge", &config, &[]);
    let clip = clips::LONG.file(&ff5);
    let _publisher = interop::publish_on("publisher", &ff5, &clip, &origin.rtmp("live/x"));
    origin.until("live/x", "live", |stream| stream["frames_in"].as_u64() > Some(40));
    for (scene, path) in [(&origin, "live/x"), (&edge, "strict/cam")] {
        let mut viewer = Peer::viewing(scene.addr("http"), path).up();
        viewer.until("pictures and sound", |viewer| {
            viewer.frames[0].len() >= 30 && viewer.frames[1].len() >= 60
        });
        assert!(is_idr(&viewer.frames[0][0]), "{path}: it begins with a keyframe");
        let loudness = loudness(&viewer.frames[1][10..]);
        assert!(loudness > 0.02, "{path}: {loudness}");

        let readers = scene.api("/api/v1/readers");
        let is_it = |reader: &&serde_json::Value| reader["protocol"] == "webrtc" && reader["path"] == path;
        let listed = readers["items"].as_array().unwrap().iter().find(is_it);
        let listed = listed.unwrap_or_else(|| panic!("{readers:#}"));
        assert!(listed["bytes_out"].as_u64() > Some(1_000), "{listed:#}");
        let id = listed["id"].as_u64().unwrap();
        let layer = || scene.api(&format!("/api/v1/readers/{id}"))["webrtc"]["layer"].clone();
        assert!(eventually(LIMIT, || layer()["track"] == 0), "{:#}", layer());
        assert_eq!((&layer()["rid"], &layer()["spatial"]["of"]), (&serde_json::Value::Null, &1.into()));
        scene.end_reader(id);
        viewer.until("told to go", |viewer| viewer.closed);
        let says = || scene.log().contains(&format!("reader left stream={path} peer=webrtc://127.0.0.1:"));
        assert!(eventually(LIMIT, says), "{}", scene.log());
    }
}

const KEY: &[u8] = b"0123456789abcdef";
const CONFIG: &str = "
[apps.default]
grace = '0s'
[[auth.keys]]
id = 'k1'
secret = '0123456789abcdef'
[http]
cors_origins = ['https://page.example']
[webrtc]
public_addresses = ['127.0.0.1']
[[webrtc.ice_servers]]
url = 'stun:stun.example:3478'
[[webrtc.ice_servers]]
url = 'turn:turn.example:3478?transport=udp'
username = 'arcly'
credential = 'battery staple'
";

fn token(actions: ActionSet) -> String {
    mint("k1", KEY, &Claims::new(actions, NameRule::parse("live/*").unwrap())).unwrap()
}

/// What a publisher and a viewer do over HTTP, with tokens, from pages, and to the end of the server.
#[test]
fn credentials_pages_and_the_end() {
    let bench = Bench::start_alone(&["--webrtc", "127.0.0.1:0"], CONFIG);
    let (http, media) = (bench.http, bench.addr("webrtc"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (publish, play) = (token(ActionSet::PUBLISH), token(ActionSet::PLAY));
    let offer = Offer::new(Direction::SendOnly, BOTH);
    let refused = webrtc::post(http, "/live/cam/whip", "", &offer.sdp);
    assert_eq!(refused.status, 401, "{}", refused.body);
    assert!(
        refused.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")),
        "{}",
        refused.head
    );
    assert_eq!(webrtc::post(http, "/live/cam/whip", &bearer(&play), &offer.sdp).status, 403);
    assert_eq!(
        webrtc::post(http, "/live/cam/whep", "", &offer.sdp).status,
        400,
        "an offer to send is none to receive"
    );

    let page = "Origin: https://page.example\r\n";
    let preflight = webrtc::ask(http, "OPTIONS /live/cam/whip", page, b"");
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (204, Some("https://page.example"))
    );
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default();
    assert!(allowed.contains("Authorization") && allowed.contains("If-Match"), "{}", preflight.head);
    let elsewhere = format!("Origin: https://evil.example\r\n{}", bearer(&publish));
    let foreign = webrtc::post(http, "/live/cam/whip", &elsewhere, &offer.sdp);
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
    let own = format!("Origin: http://127.0.0.1\r\n{}", bearer(&publish));
    let answer = webrtc::post(http, "/live/cam/whip", &own, &offer.sdp);
    assert!(answer.head.contains("<stun:stun.example:3478>; rel=\"ice-server\""), "{}", answer.head);
    assert!(answer.head.contains("credential=\"battery staple\""), "{}", answer.head);
    let candidate = format!(" 127.0.0.1 {} typ host", media.port());
    assert!(answer.body.contains("a=ice-lite") && answer.body.contains(&candidate), "{}", answer.body);
    let mut publisher = offer.answered(&answer).up();

    let offer = Offer::new(Direction::RecvOnly, BOTH);
    let mut waiting = Some(offer);
    let (mut viewer, end) = (None::<Peer>, Instant::now() + LIMIT);
    for n in 0.. {
        assert!(Instant::now() < end, "the viewer gets what is published");
        publisher.write_both(n);
        publisher.step();
        if let Some(viewer) = &mut viewer {
            viewer.step();
            if viewer.frames.iter().all(|frames| frames.len() >= 5) {
                break;
            }
        } else if n % 30 == 1 {
            let path = format!("/live/cam/whep?token={play}");
            let answer = webrtc::post(http, &path, "", &waiting.as_ref().unwrap().sdp);
            // It is not there before its first keyframe.
            if answer.status == 201 {
                viewer = waiting.take().map(|offer| offer.answered(&answer));
            }
        }
    }
    let mut viewer = viewer.unwrap();
    assert_eq!(*viewer.frames[1][0], [0xF8, 1, 2, 3]);
    let candidates =
        b"a=ice-ufrag:x\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let fields = format!("Content-Type: {FRAGMENT}\r\nIf-Match: {}\r\n", viewer.etag);
    let patched = webrtc::ask(http, &format!("PATCH {}", viewer.location), &fields, candidates);
    assert_eq!(patched.status, 204, "{}", patched.body);
    assert_eq!(webrtc::ask(http, "GET /live/cam/whep", "", b"").status, 405);

    let began = Instant::now();
    lock(&bench.arcly).process().signal("TERM");
    viewer.until("told that the server goes", |viewer| viewer.closed);
    publisher.until("told that the server goes", |publisher| publisher.closed);
    let status = lock(&bench.arcly).process().wait_for(Duration::from_secs(10)).expect("it ends within 10 s");
    assert!(status.success() && began.elapsed() < Duration::from_secs(5), "{status}, {:?}", began.elapsed());
    let lines =
        ["publisher left stream=live/cam peer=webrtc://", "reader left stream=live/cam peer=webrtc://"];
    // What a process has said last is read after its end.
    eventually(LIMIT, || lines.iter().all(|words| bench.log().contains(words)));
    let log = bench.log();
    for words in lines {
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}:\n{log}"));
        assert!(line.contains("reason=shutdown"), "{line}");
    }
    assert!(!log.contains(&publish) && !log.contains(&play) && !log.contains("staple"), "{log}");
}
