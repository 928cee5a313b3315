//! WebRTC in the pages: what FFmpeg publishes is played by WHEP, the camera is published by WHIP, and what cannot be played so is
//! played otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arcly_testkit::need;
use arcly_testkit::process::{Arcly, Guard, run, run_ok};
use serde_json::Value;

use super::{PATIENCE, alone, publish, publish_with, report, until};

/// Seconds of a window, unless `ARCLY_WATCH_SECONDS` says otherwise.
const WATCHED: u32 = 10;
/// How often each stream is joined on a machine that is left alone.
const JOINS: u32 = 11;
/// What is published over each of the protocols.
const PROTOCOLS: [&str; 3] = ["live/rtmp", "live/srt", "live/rtsp"];
/// What has it watch for longer, on a machine that is left alone: only there is a freeze the server's fault.
const WATCH_SECONDS: &str = "ARCLY_WATCH_SECONDS";
/// Windows that are watched at most.
const WINDOWS: u32 = 3;
/// Two pictures of three that no other refers to: what WebRTC has no place for, and encoders do unless they are told not to.
const B_FRAMES: [&str; 6] = ["-bf", "2", "-b_strategy", "0", "-x264-params", "b-pyramid=none"];
/// From the offer to the first picture, on a machine that is left alone.
const FIRST_PICTURE_MS: f64 = 500.0;
/// The tone that is published, and how far from it the loudest of an analyser's lines may be.
const TONE: core::ops::RangeInclusive<f64> = 425.0..=455.0;

fn watched() -> u32 {
    std::env::var(WATCH_SECONDS).map_or(WATCHED, |seconds| seconds.parse().expect("a number of seconds"))
}

fn serve() -> Arcly {
    serve_with("serve", &["--rtmp"])
}

/// A server that is started like this and listens for these protocols, and for WebRTC.
fn serve_with(command: &str, protocols: &[&str]) -> Arcly {
    let mut arcly = Command::new(env!("CARGO_BIN_EXE_arcly"));
    arcly.arg(command);
    for listen in protocols.iter().chain(&["--http", "--webrtc"]) {
        arcly.args([listen, "127.0.0.1:0"]);
    }
    Arcly::start(arcly.env("ARCLY_HLS__ALWAYS", "true"))
}

/// Waits until the stream has begun: an offer before its first keyframe is refused, which a browser calls an error.
fn until_there(arcly: &Arcly) {
    until(arcly, "/api/v1/streams", "\"aac\"", 1);
    until(arcly, "/live/demo/video0.m3u8", "#EXTINF", 1);
}

/// Has the script do that with a stream.
fn browse(arcly: &Arcly, task: &str, stream: &str, (chromium, modules): (&Path, &Path)) -> Value {
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("webrtc-{task}.png"));
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/webrtc.mjs"));
    node.arg(task).arg(format!("http://{}", arcly.addr("http"))).arg(stream).arg(watched().to_string());
    node.arg(if is_left_alone() { JOINS } else { 1 }.to_string());
    node.arg(modules).arg(chromium).arg(&screenshot);
    let streams = u32::try_from(stream.split(',').count()).expect("a few");
    let limit = (3 + streams) * PATIENCE + Duration::from_secs((streams * WINDOWS * watched()).into());
    let report = report(&run_ok(&mut node, limit));
    assert_eq!(report["errors"], Value::Array(vec![]), "{report:#}\n{}", arcly.log());
    assert_eq!(report["foreign"], Value::Array(vec![]), "pages ask nobody else");
    assert_eq!(report["fits"], true, "a phone does not scroll sideways: {report:#}");
    let awkward = report["awkward"].as_array().is_none_or(Vec::is_empty);
    assert!(awkward, "a finger finds everything on a phone, and nothing is cut off: {report:#}");
    report
}

fn text<'a>(report: &'a Value, name: &str) -> &'a str {
    report[name].as_str().unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// One live encoder that publishes over each of the protocols, under its name: `live/rtmp`, `live/srt`, `live/rtsp`.
fn publish_over_each(ffmpeg: &Path, server: &Arcly) -> Guard {
    let mut command = Command::new(ffmpeg);
    command.args([
        "-hide_banner",
        "-nostdin",
        "-v",
        "error",
        "-re",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25",
    ]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25"]);
    command.args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-flags", "+global_header"]);
    command.args(["-map", "0:v", "-map", "1:a", "-f", "tee"]).arg(format!(
        "[f=flv]rtmp://{}/live/rtmp|[f=mpegts]srt://{}?streamid=publish:live/srt|[f=rtsp:rtsp_transport=tcp]rtsp://{}/live/rtsp",
        server.addr("rtmp"),
        server.addr("srt"),
        server.addr("rtsp"),
    ));
    Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn chromium_plays_by_whep_what_ffmpeg_publishes_over_rtmp_srt_and_rtsp() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let arcly = serve_with("demo", &["--rtmp", "--srt", "--rtsp"]);
    let _publisher = publish_over_each(&ffmpeg, &arcly);
    for stream in PROTOCOLS {
        until(&arcly, &format!("/{stream}/video0.m3u8"), "#EXTINF", 1);
    }
    let report = browse(&arcly, "play", &PROTOCOLS.join(","), (&chromium, &modules));
    for stream in PROTOCOLS {
        assert_seen(stream, &report["seen"][stream]);
    }
    assert_eq!(report["restarted"], true, "{report:#}");
    assert_eq!((&report["came"], &report["left"]), (&true.into(), &true.into()), "{report:#}");
    // The test stream beside them has nothing that WebRTC has no place for.
    assert_eq!(report["demo"], true, "{report:#}");
    assert!(!arcly.log().contains("B-frames"), "{}", arcly.log());
}

/// Pictures and sound all the while; without a freeze, and soon, on a machine that is left alone.
fn assert_seen(stream: &str, seen: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{stream}: {seen:#}"));
    let after = &seen["after"];
    assert_eq!((&after["shown"], &after["protocol"]), (&"whep".into(), &"udp".into()), "{stream}: {seen:#}");
    assert_eq!(after["codecs"], serde_json::json!(["H264", "opus"]), "{stream}: {seen:#}");
    assert_eq!(number(&after["width"]), 640.0, "{stream}: {seen:#}");
    assert!(TONE.contains(&number(&seen["tone"])), "{stream}: {seen:#}");
    assert_eq!(
        (&seen["muted"], &seen["goesOn"]),
        (&false.into(), &true.into()),
        "{stream}: the button turns the sound on: {seen:#}"
    );
    let windows = seen["windows"].as_array().expect("a list");
    for window in windows {
        assert!(number(&window["frames"]) > 0.0 && number(&window["energy"]) > 0.0, "{stream}: {seen:#}");
    }
    let last = windows.last().expect("at least one was watched");
    let mut firsts: Vec<f64> = seen["firsts"].as_array().expect("a list").iter().map(number).collect();
    firsts.sort_by(f64::total_cmp);
    let (median, slowest) = (firsts[firsts.len() / 2], firsts[firsts.len() - 1]);
    let is_smooth = number(&last["freezes"]) == 0.0;
    assert!((is_smooth && median < FIRST_PICTURE_MS) || !is_left_alone(), "{stream}: {seen:#}");
    // Where the machine is not left alone one window is enough: in the others the browser may have had no time.
    let moves = |window: &Value| number(&window["frozen"]) < f64::from(watched()) / 2.0;
    assert!(if is_left_alone() { moves(last) } else { windows.iter().any(moves) }, "{stream}: {seen:#}");
    // On a busy machine it is printed, and not asserted: the browser is what is late.
    eprintln!(
        "{stream} by WHEP: first picture {median} ms after the offer, {slowest} ms at most of {}; {} s behind the server; lost {}; {windows:?}",
        firsts.len(),
        seen["latency"],
        after["lost"]
    );
}

#[test]
fn chromium_publishes_its_camera_from_the_page() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let arcly = serve();
    let report = browse(&arcly, "publish", "live/web", (&chromium, &modules));
    assert_eq!(report["seen"], true, "{report:#}");
    assert_eq!(report["received"]["codecs"][1], "opus", "{report:#}");
    // A browser whose machine is too slow for them makes its pictures smaller.
    let sizes = ["640×360", "480×270", "320×180", "240×135", "160×90"];
    assert!(sizes.iter().any(|size| text(&report, "rows").contains(size)), "{report:#}");
    assert_eq!(report["limit"], 500_000, "the bitrate is changed while it is live: {report:#}");
    assert_eq!(report["same"], true, "and the camera, in the same session: {report:#}");
    assert!(text(&report, "refused").contains("has a publisher already"), "{report:#}");
    assert!(text(&report, "ended").contains("The server has ended this"), "{report:#}");
    assert_eq!((&report["stopped"], &report["gone"]), (&true.into(), &true.into()), "{report:#}");
    eprintln!(
        "WHIP: {}, of {}; {}",
        report["received"]["codecs"][0],
        report["codecs"],
        text(&report, "rows")
    );
}

#[test]
fn sound_that_chromium_sends_twice_is_whole_where_one_datagram_of_twenty_is_lost() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let report = browse(&serve(), "twice", "live/twice", (&chromium, &modules));
    assert!(report["recovered"].as_u64().is_some_and(|packets| packets > 5), "{report:#}");
    eprintln!(
        "WHIP with sound twice: {} packets were made again; {}",
        report["recovered"],
        text(&report, "rows")
    );
}

#[test]
fn without_udp_chromium_plays_and_publishes_over_tcp() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let arcly = serve();
    let _publisher = publish_with(&ffmpeg, &arcly, "640x360", &B_FRAMES);
    until_there(&arcly);
    let report = browse(&arcly, "tcp", "live/demo", (&chromium, &modules));
    let received = &report["received"];
    assert_eq!((&received["shown"], &received["protocol"]), (&"whep".into(), &"tcp".into()), "{report:#}");
    assert_eq!(received["codecs"], serde_json::json!(["H264", "opus"]), "{report:#}");
    assert!(report["tone"].as_f64().is_some_and(|tone| TONE.contains(&tone)), "{report:#}");
    assert_eq!((&report["goesOn"], &report["published"]), (&true.into(), &true.into()), "{report:#}");
    eprintln!(
        "WHEP over TCP, of a stream with B-frames: first picture {} ms after the offer",
        report["first"]
    );
}

/// True on a machine that is left alone, where what a browser has no time for says something about the server.
fn is_left_alone() -> bool {
    std::env::var_os(WATCH_SECONDS).is_some()
}

#[test]
fn chromium_plays_on_where_one_datagram_of_twenty_is_lost() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let arcly = serve();
    let _publisher = publish(&ffmpeg, &arcly, "640x360");
    until_there(&arcly);
    let report = browse(&arcly, "lossy", "live/demo", (&chromium, &modules));
    assert_eq!(report["goesOn"], true, "{report:#}");
    assert!(report["repaired"].as_u64().is_some_and(|packets| packets > 0), "{report:#}");
    // A round trip and a half at the least: otherwise pictures are shown before what was lost of them can have come again.
    assert!(report["target"].as_f64().is_some_and(|ms| ms >= 150.0), "{report:#}");
    assert!(report["redundant"].as_u64().is_some_and(|packets| packets > 100), "{report:#}");
    eprintln!(
        "WHEP over a bad link: {} packets came again; held back {} ms; {}; then {}; without redundancy {}",
        report["repaired"], report["target"], report["received"], report["watched"], report["plain"]
    );
}

/// Where the machine is left alone: three encoders and two players are more than some machines have time for.
#[test]
fn chromium_publishes_three_sizes_and_a_viewer_on_a_thin_link_gets_a_smaller_one() {
    if !is_left_alone() {
        return;
    }
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let arcly = serve();
    let report = browse(&arcly, "simulcast", "live/web", (&chromium, &modules));
    let labels: Vec<_> =
        report["tracks"].as_array().expect("a list").iter().map(|track| &track["label"]).collect();
    assert_eq!(labels, ["layer full", "layer half", "layer quarter"], "{report:#}");
    assert!(report["best"].as_f64() >= report["thin"].as_f64().map(|width| 1.5 * width), "{report:#}");
    assert!(text(&report, "sizes").contains("Sizes"), "{report:#}");
    eprintln!(
        "simulcast: {} bit/s at {} wide; over three quarters of that {} wide",
        report["rate"], report["best"], report["thin"]
    );
}

#[test]
fn a_viewer_gets_a_smaller_size_while_the_link_is_narrow() {
    let _alone = alone();
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let arcly = serve();
    let report = browse(&arcly, "narrows", "live/web", (&chromium, &modules));
    let labels: Vec<_> =
        report["tracks"].as_array().expect("a list").iter().map(|track| &track["label"]).collect();
    assert_eq!(labels, ["layer full", "layer half", "layer quarter"], "{report:#}");
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name}: {report:#}"));
    assert!(number("best") >= 1.5 * number("thin") && number("again") >= number("best"), "{report:#}");
    assert_eq!((&report["thinGoesOn"], &report["goesOn"]), (&true.into(), &true.into()), "{report:#}");
    assert!(report["switches"][0].as_u64().is_some_and(|times| times >= 2), "{report:#}");
    let named = (&report["thinIsNamed"], &report["bestIsNamed"]);
    assert_eq!(named, (&true.into(), &true.into()), "the API says which: {report:#}");
    // When is printed, and not asserted: it is the browser's network that is measured, and its machine may be busy.
    eprintln!(
        "simulcast: {} bit/s at {} wide; over three quarters of that {} wide after {} ms; wide again, {} after {} ms; switched {}",
        report["rate"],
        report["best"],
        report["thin"],
        report["down"],
        report["again"],
        report["up"],
        report["switches"][0]
    );
}

/// Sees that a publisher's layers are left out for a viewer on a thin link, and that FFmpeg decodes all pictures of the stream without a fault,
/// each once.
fn fewer_layers(task: &str, mode: &str) {
    let _alone = alone();
    let (chromium, modules, ffprobe) = (need!(chromium), need!(node_modules), need!(ffprobe));
    let arcly = serve();
    let report = browse(&arcly, task, "live/svc", (&chromium, &modules));
    assert_eq!(
        (&report["mode"], &report["goesOn"]),
        (&serde_json::json!([mode]), &true.into()),
        "{report:#}"
    );
    let mut decode = Command::new(ffprobe);
    decode.args(["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts"]);
    decode.args(["-of", "csv=print_section=0"]).arg(text(&report, "file"));
    let output = run(&mut decode, PATIENCE);
    // The file was cut off where the test had enough of it.
    let errors = String::from_utf8_lossy(&output.stderr);
    let faults = errors.lines().filter(|line| line.contains("vp9"));
    assert_eq!(faults.collect::<Vec<_>>(), [""; 0], "{report:#}");
    let pictures = String::from_utf8_lossy(&output.stdout);
    let times: Vec<i64> = pictures.lines().map(|time| time.parse().expect("a time")).collect();
    assert!(times.len() > 20 && times.is_sorted_by(|one, next| one < next), "each once: {pictures}");
    eprintln!("{mode}: {} bit/s: {}; on a thin link {}", report["rate"], report["best"], report["thin"]);
}

#[test]
fn chromium_publishes_temporal_layers_and_a_viewer_on_a_thin_link_gets_fewer() {
    fewer_layers("temporal", "L1T3");
}

#[test]
fn chromium_publishes_spatial_layers_and_a_viewer_on_a_thin_link_gets_fewer() {
    fewer_layers("spatial", "L3T3_KEY");
}

#[test]
fn the_player_falls_back_to_ll_hls_when_whep_is_refused() {
    let _alone = alone();
    let (chromium, modules, ffmpeg) = (need!(chromium), need!(node_modules), need!(ffmpeg));
    let arcly = serve();
    let _publisher = publish(&ffmpeg, &arcly, "640x360");
    until(&arcly, "/live/demo/video0.m3u8", "#EXTINF", 3);
    let report = browse(&arcly, "fall-back", "live/demo", (&chromium, &modules));
    let notice = text(&report, "notice");
    assert!(notice.contains("the stream is AV1") && notice.contains("over LL-HLS instead"), "{report:#}");
    assert!(text(&report, "address").ends_with("/live/demo?player=flv"), "{report:#}");
    assert_eq!(report["quiet"], true, "what was chosen needs no explanation: {report:#}");
}
