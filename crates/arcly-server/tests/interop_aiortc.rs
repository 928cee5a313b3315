//! aiortc, an implementation of WebRTC that shares nothing with browsers' nor with str0m, as a publisher by WHIP and a viewer by WHEP.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod interop;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use arcly_testkit::program::Program;
use arcly_testkit::{clips, need, process};
use interop::{LIMIT, Scene};
use serde_json::Value;

/// Of what is published or played, in frames: more than three seconds.
const PICTURES: usize = 100;
const SOUNDS: usize = 160;
/// Messages over a data channel: three seconds of them.
const MESSAGES: usize = 30;

/// Starts `interop/peer.py`.
fn peer(python: &Path, what: &str, url: &str, more: &[&str]) -> Program {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.py")).args([what, url]).args(more);
    Program::start(what, &mut command)
}

/// What a peer says behind that word.
fn said(peer: &Program, word: &str) -> Value {
    let word = format!("{word} ");
    peer.expect_log(&word, LIMIT);
    let log = peer.log();
    let said = log.lines().find_map(|line| line.strip_prefix(&word)).expect("a whole line");
    serde_json::from_str(said).unwrap()
}

/// Has a peer leave by `DELETE`, upon which the server closes its session.
fn leaves(mut peer: Program) {
    peer.signal("TERM");
    assert_eq!(said(&peer, "left")["status"], 200);
    peer.end_ok(LIMIT);
}

/// FFmpeg plays pictures, each of which decodes, and three seconds of sound: how many of the pictures differ, and how loud it is.
fn plays(scene: &Scene, ffmpeg: &Path, input: &[&str]) -> (usize, f64) {
    let sums = scene.file("pictures.framecrc");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-nostats", "-y", "-xerror"]).args(input);
    command.args(["-map", "0:v", "-frames:v", &PICTURES.to_string(), "-f", "framecrc"]).arg(&sums);
    command.args(["-map", "0:a", "-t", "3", "-af", "volumedetect", "-f", "null", "-"]);
    let run = process::run(&mut command, LIMIT);
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{log}");
    let sums = std::fs::read_to_string(sums).unwrap();
    let pictures = sums.lines().filter(|line| !line.starts_with('#'));
    let differ = pictures.filter_map(|line| line.rsplit(' ').next()).collect::<BTreeSet<_>>().len();
    let volume = log.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    (differ, volume.unwrap_or_else(|| panic!("no volume:\n{log}")))
}

#[test]
fn aiortc_publishes_vp8_or_h264_and_opus_by_whip() {
    let (ffmpeg, python) = (need!(ffmpeg), need!(aiortc));
    for codec in ["VP8", "H264"] {
        let scene = Scene::start(&format!("aiortc_whip_{codec}"));
        let publisher =
            peer(&python, "publish", &format!("http://{}/live/x/whip", scene.addr("http")), &[codec]);
        let stream = scene.until("live/x", "published", |stream| {
            stream["tracks"].as_array().is_some_and(|tracks| tracks.len() == 2)
        });
        let tracks = stream["tracks"].as_array().unwrap();
        let codecs: Vec<_> = tracks.iter().map(|track| track["codec"].as_str().unwrap()).collect();
        assert_eq!(codecs, [codec.to_lowercase().as_str(), "opus"], "{stream:#}");
        assert_eq!(stream["publisher"]["protocol"], "webrtc", "{stream:#}");

        let rtsp = format!("rtsp://{}/live/x", scene.addr("rtsp"));
        let flv = format!("{}?audio=aac", scene.flv("live/x"));
        let over_rtsp = ["-rtsp_transport", "tcp", "-i", &rtsp];
        // FFmpeg 5 knows neither VP8 nor Opus in FLV.
        let over_flv = ["-i", &flv];
        let inputs: &[&[&str]] = if codec == "VP8" { &[&over_rtsp] } else { &[&over_rtsp, &over_flv] };
        for input in inputs {
            let (differ, volume) = plays(&scene, &ffmpeg, input);
            assert!(differ >= PICTURES * 9 / 10, "{codec}, {input:?}: {differ} pictures differ");
            // A sine of half the full scale.
            assert!((-15.0..-4.0).contains(&volume), "{codec}, {input:?}: {volume} dB");
            eprintln!(
                "{codec} over {}: {differ} of {PICTURES} pictures differ, {volume} dB",
                input[input.len() - 1]
            );
        }
        leaves(publisher);
        scene.until("live/x", "gone", Value::is_null);
    }
}

#[test]
fn aiortc_sees_and_hears_by_whep_what_ffmpeg_publishes_over_rtmp() {
    let (ffmpeg, python) = (need!(ffmpeg), need!(aiortc));
    let scene = Scene::start("aiortc_whep");
    let _publisher =
        interop::publish_on("ffmpeg", &ffmpeg, &clips::LONG.file(&ffmpeg), &scene.rtmp("live/x"));
    scene.until("live/x", "live", |stream| stream["frames_in"].as_u64() > Some(40));
    let url = format!("http://{}/live/x/whep", scene.addr("http"));
    let viewer = peer(&python, "play", &url, &[&PICTURES.to_string(), &SOUNDS.to_string()]);
    let seen = said(&viewer, "played");
    assert_eq!(seen["sizes"], serde_json::json!([[320, 180]]), "{seen:#}");
    assert!(seen["rms"].as_f64() > Some(0.01), "{seen:#}");
    eprintln!("aiortc by WHEP: {seen}");

    let is_there = || {
        scene.api("/api/v1/readers")["items"].as_array().unwrap().iter().any(|r| r["protocol"] == "webrtc")
    };
    assert!(is_there(), "{}", scene.log());
    leaves(viewer);
    scene.until("live/x", "without readers", |stream| stream["readers"] == 0);
    assert!(!is_there(), "{}", scene.log());
}

/// What `peer.py` says over its channel.
fn message(n: u16) -> Vec<u8> {
    let mut message = b"\x06\x0E\x2B\x34 key ".to_vec();
    message.extend(n.to_be_bytes());
    message.resize(20 + usize::from(n) * 397 % 3_000, n.to_be_bytes()[1]);
    message
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(core::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

#[test]
fn what_aiortc_says_over_a_data_channel_another_aiortc_hears() {
    let python = need!(aiortc);
    let scene = Scene::start("aiortc_data");
    let publisher = peer(&python, "say", &format!("http://{}/live/x/whip", scene.addr("http")), &[]);
    let stream = scene.until("live/x", "published", |stream| {
        stream["tracks"].as_array().is_some_and(|tracks| tracks.len() == 1)
    });
    let track = &stream["tracks"][0];
    assert_eq!((&track["kind"], &track["codec"]), (&"data".into(), &"klv".into()), "{stream:#}");

    let url = format!("http://{}/live/x/whep", scene.addr("http"));
    let viewer = peer(&python, "hear", &url, &[&MESSAGES.to_string()]);
    let heard = said(&viewer, "heard");
    assert_eq!((&heard["label"], &heard["protocol"]), (&"klv".into(), &"klv".into()), "{heard:#}");
    let messages: Vec<_> = heard["messages"].as_array().unwrap().iter().map(bytes).collect();
    let number =
        |got: &Vec<u8>| (0..u16::MAX).find(|n| message(*n) == *got).expect("one that was said, bit for bit");
    let numbers: Vec<u16> = messages.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // On a machine that is busy for more than a second some are too old to be sent.
    let missing = usize::from(numbers[MESSAGES - 1] - numbers[0]) + 1 - MESSAGES;
    assert!(missing <= MESSAGES / 10, "{numbers:?}");
    eprintln!("aiortc over a data channel: {numbers:?}");
    leaves(viewer);
    leaves(publisher);
    scene.until("live/x", "gone", Value::is_null);
}
