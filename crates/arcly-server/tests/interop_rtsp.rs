//! RTSP with FFmpeg and GStreamer on the other side, and to and from the other protocols.

mod interop;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use arcly_testkit::ffprobe::{self, Packet};
use arcly_testkit::framehash::{self, Listing};
use arcly_testkit::program::Program;
use arcly_testkit::{clips, need, process};
use interop::{LIMIT, Player, Scene, assert_decodes};

/// GStreamer smooths times as it receives packets, and says how far pictures and sound are apart when it has sent for some seconds: what
/// counts is that each packet is there, bit for bit and in order.
const ANY_TIME: i64 = i64::MAX;
/// What RTMP and FLV round times to, and one tick of RTP's clocks each way.
const ROUNDING_US: i64 = 1_000 + 2 * 21;

fn rtsp(addr: SocketAddr, path: &str) -> String {
    format!("rtsp://{addr}/{path}")
}

/// FFmpeg publishes a file over RTSP, in real time.
fn announces(name: &str, ffmpeg: &Path, file: &Path, transport: &str, url: &str) -> Program {
    announces_with(&[], name, ffmpeg, file, (transport, url))
}

/// The same again and again: nobody comes too late for it.
fn announces_without_end(ffmpeg: &Path, file: &Path, url: &str) -> Program {
    announces_with(&["-stream_loop", "-1"], "publisher", ffmpeg, file, ("tcp", url))
}

fn announces_with(
    options: &[&str],
    name: &str,
    ffmpeg: &Path,
    file: &Path,
    (transport, url): (&str, &str),
) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re"]).args(options).arg("-i").arg(file);
    command.args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "rtsp"]);
    command.args(["-rtsp_transport", transport, url]);
    Program::start(name, &mut command)
}

/// Asserts that on each track the packets are those that were sent, bit for bit and from the first to the last but for `missing` at
/// either end, and that pictures and sound are as far apart as they were.
#[track_caller]
fn assert_arrived(sent: &[Packet], got: &[Packet], missing: usize, who: &str) {
    assert_arrived_within(ROUNDING_US, sent, got, missing, who);
}

#[track_caller]
fn assert_arrived_within(rounding_us: i64, sent: &[Packet], got: &[Packet], missing: usize, who: &str) {
    let (sent, got) = (ffprobe::tracks(sent), ffprobe::tracks(got));
    assert_eq!(sent.len(), got.len(), "{who}: tracks");
    let mut shift = None;
    for (sent, got) in sent.iter().zip(&got) {
        let kind = &sent[0].kind;
        let first = sent.iter().position(|packet| packet.hash == got[0].hash);
        let first = first.unwrap_or_else(|| panic!("{who}: {kind} begins with something that nobody sent"));
        let rest = &sent[first..];
        assert!(
            first <= missing && got.len() <= rest.len() && got.len() + missing >= rest.len(),
            "{who}: {} of {} packets of {kind}, from {first}",
            got.len(),
            sent.len()
        );
        for (n, (sent, got)) in rest.iter().zip(got).enumerate() {
            assert_eq!((&sent.hash, sent.size), (&got.hash, got.size), "{who}: packet {n} of {kind}");
            let delay = got.pts_us.expect("a time") - sent.pts_us.expect("a time");
            let off = delay - *shift.get_or_insert(delay);
            assert!(off.abs() <= rounding_us, "{who}: packet {n} of {kind} is off by {off} us");
        }
    }
    eprintln!("{who}: {} packets", got.iter().map(Vec::len).sum::<usize>());
}

fn listed(player: Player) -> (String, Listing) {
    (player.program.name().to_owned(), player.listing())
}

#[test]
fn ffmpeg_publishes_over_rtsp_and_everybody_plays() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let file = clips::H264_AAC.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    for (test, ffmpeg, transport) in [("rtsp_ff5_tcp", &ff5, "tcp"), ("rtsp_ff9_tcp", &ff9, "tcp")] {
        let scene = Scene::start(test);
        let url = rtsp(scene.addr("rtsp"), "live/x");
        let players = [
            scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp("live/x")),
            scene.ffmpeg_plays("http-flv", &ff9, &scene.flv("live/x")),
        ];
        scene.until_readers("live/x", 2);
        announces("publisher", ffmpeg, &file, transport, &url).end_ok(LIMIT);
        for (name, listing) in players.map(listed) {
            assert_arrived(&sent, &listing.packets, 8, &format!("{test} to {name}"));
        }
    }
}

/// Published over RTSP, seen over HLS.
#[test]
fn rtsp_in_hls_out() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtsp_hls");
    let file = clips::LONG.file(&ff5);
    let _publisher = announces_without_end(&ff5, &file, &rtsp(scene.addr("rtsp"), "live/x"));
    let mut command = Command::new(&ff5);
    let url = format!("http://{}/live/x/index.m3u8", scene.addr("http"));
    command.args([
        "-hide_banner",
        "-nostdin",
        "-v",
        "error",
        "-xerror",
        "-i",
        &url,
        "-t",
        "3",
        "-f",
        "null",
        "-",
    ]);
    process::run_ok(&mut command, LIMIT);
}

#[test]
fn relays_and_probes_speak_rtsp() {
    let (ff5, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let file = clips::LONG.file(&ff5);
    let (origin, edge) = (Scene::start("rtsp_origin"), Scene::start("rtsp_edge"));
    let url = rtsp(origin.addr("rtsp"), "live/x");
    let _publisher = announces_without_end(&ff5, &file, &url);
    origin.until("live/x", "live", |stream| stream["state"] == "live");
    let arcly = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
        command.args(args);
        command
    };
    let report = process::run_ok(&mut arcly(&["probe", "--time", "2s", &url]), LIMIT);
    assert!(report.contains("h264") && report.contains("aac"), "{report}");
    let sees = |scene: &Scene, path: &str| {
        scene.until(path, "flowing", |stream| stream["frames_in"].as_u64() > Some(50));
    };
    edge.relay(&url, "live/pulled");
    sees(&edge, "live/pulled");
    edge.relay("live/pulled", &rtsp(origin.addr("rtsp"), "live/back"));
    sees(&origin, "live/back");
    let copy = origin.file("copy.mp4");
    // The probe has left.
    origin.until_readers("live/x", 1);
    let mut relay = Program::start("relay", &mut arcly(&["relay", &url, &copy.display().to_string()]));
    origin.until_readers("live/x", 2);
    let there = origin.api("/api/v1/streams/live/x")["frames_in"].as_u64().expect("a count");
    origin.until("live/x", "3.5 s further on", |stream| stream["frames_in"].as_u64() > Some(there + 250));
    relay.signal("TERM");
    relay.end_ok(LIMIT);
    assert_decodes(&ff5, &copy);
    let packets = ffprobe::packets(&ffprobe, &copy.display().to_string());
    assert!(packets.iter().any(|packet| packet.kind == "video") && packets.iter().any(|p| p.kind == "audio"));
}

/// Where it listens for that.
const SECURE: &[(&str, &str)] = &[("ARCLY_RTSP__TLS_LISTEN", "127.0.0.1:0")];

/// A server that is configured to pull over RTSPS, and pushes what it gets back over RTSPS: what is read at either is what was published.
#[test]
fn rtsps_from_server_to_server() {
    let ff5 = need!(ffmpeg);
    let file = clips::ONE_GOP.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    let (cert, config) = interop::certificate("origin");
    let origin = Scene::start_with("rtsps_origin", &config, SECURE);
    let rtsps = |path: &str| format!("rtsps://{}/{path}", origin.addr("rtsps"));
    let config = format!("[[relays]]\nfrom = '{}'\nto = 'live/pulled'\n", rtsps("live/x"));
    let edge = Scene::start_with("rtsps_edge", &config, &[("SSL_CERT_FILE", &cert)]);
    edge.relay("live/pulled", &rtsps("live/back"));
    let pulled = edge.ffmpeg_plays("pulled", &ff5, &edge.rtmp("live/pulled"));
    let back = origin.ffmpeg_plays("back", &ff5, &origin.rtmp("live/back"));
    origin.until_readers("live/x", 1);
    edge.until_readers("live/pulled", 2);
    origin.until_readers("live/back", 1);
    interop::publish("publisher", &ff5, &file, &origin.rtmp("live/x")).end_ok(LIMIT);
    assert_arrived(&sent, &pulled.listing().packets, 2, "RTMP to RTSPS to RTMP");
    assert_arrived(&sent, &back.listing().packets, 2, "RTMP to RTSPS to RTSPS to RTMP");
}

/// Relays and probes of the command line show nothing of a server whose certificate they have no reason to trust.
#[test]
fn certificates_of_rtsps_are_verified() {
    let ff5 = need!(ffmpeg);
    let ((cert, config), (other, _)) = (interop::certificate("shown"), interop::certificate("other"));
    let origin = Scene::start_with("rtsps_verified", &config, SECURE);
    let _publisher =
        announces_without_end(&ff5, &clips::LONG.file(&ff5), &rtsp(origin.addr("rtsp"), "live/x"));
    origin.until("live/x", "live", |stream| stream["state"] == "live");
    let url = format!("rtsps://{}/live/x", origin.addr("rtsps"));
    let arcly = |trusted: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
        command.args(args).env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        command
    };
    let probe = ["probe", "--time", "2s", &url];
    let report = process::run_ok(&mut arcly(&cert, &probe), LIMIT);
    assert!(report.contains("h264") && report.contains("aac"), "{report}");
    let refused = process::run(&mut arcly(&other, &probe), LIMIT);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("certificate"), "{said}");
    let copy = origin.file("copy.mp4");
    let to = copy.display().to_string();
    origin.until_readers("live/x", 0);
    let mut relay = Program::start("relay", &mut arcly(&cert, &["relay", &url, &to]));
    origin.until_readers("live/x", 1);
    let there = origin.api("/api/v1/streams/live/x")["frames_in"].as_u64().expect("a count");
    origin.until("live/x", "3.5 s further on", |stream| stream["frames_in"].as_u64() > Some(there + 250));
    relay.signal("TERM");
    relay.end_ok(LIMIT);
    assert_decodes(&ff5, &copy);
}

/// A camera that is pulled when somebody asks for its stream over another protocol.
#[test]
fn a_camera_on_demand() {
    let ff5 = need!(ffmpeg);
    let origin = Scene::start("rtsp_camera");
    let url = rtsp(origin.addr("rtsp"), "live/x");
    let _publisher = announces_without_end(&ff5, &clips::LONG.file(&ff5), &url);
    origin.until("live/x", "live", |stream| stream["state"] == "live");
    let config =
        format!("[[relays]]\nfrom = '{url}'\nto = 'strict/cam'\non_demand = true\nclose_after = '500ms'\n");
    let edge = Scene::start_with("rtsp_on_demand", &config, &[]);
    let state = || edge.api("/api/v1/relays")["items"][0]["state"].clone();
    assert_eq!(state(), "idle");
    let mut command = Command::new(&ff5);
    let url = edge.rtmp("strict/cam");
    command.args([
        "-hide_banner",
        "-nostdin",
        "-v",
        "error",
        "-xerror",
        "-i",
        &url,
        "-t",
        "2",
        "-f",
        "null",
        "-",
    ]);
    process::run_ok(&mut command, LIMIT);
    let end = Instant::now() + LIMIT;
    while state() != "idle" {
        assert!(Instant::now() < end, "it is still {}", state());
        thread::sleep(Duration::from_millis(50));
    }
    origin.until_readers("live/x", 0);
}

/// What FFmpeg is told when there is nothing to play.
#[test]
fn a_stream_that_is_not_there() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtsp_missing");
    let mut command = Command::new(&ff5);
    let url = rtsp(scene.addr("rtsp"), "strict/nobody");
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-rtsp_transport", "tcp", "-i", &url]);
    let output = process::run(command.args(["-f", "null", "-"]), Duration::from_secs(20));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("404"), "{said}");
    assert!(scene.log().contains("strict/nobody") || said.contains("strict/nobody"), "{said}");
}

/// A pipeline of GStreamer's.
fn pipeline(name: &str, gst: &Path, words: &str) -> Program {
    Program::start(name, Command::new(gst).arg("-q").args(words.split_whitespace()))
}

/// GStreamer's `rtspclientsink` publishes a file in real time; it sends AAC in LATM. What is in the file has come once the server has
/// counted it: whether the sink notices that it is at the end is not waited for, as it does not always.
#[test]
fn gstreamer_publishes() {
    let (ff5, gst) = (need!(ffmpeg), need!(gst_rtsp));
    let file = clips::H264_AAC.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    for transport in ["tcp", "udp"] {
        let scene = Scene::start(&format!("rtsp_gst_publishes_{transport}"));
        let player = scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp("live/x"));
        scene.until_readers("live/x", 1);
        let publisher = pipeline(
            "rtspclientsink",
            &gst,
            &format!(
                "filesrc location={} ! flvdemux name=d \
                 d.video ! queue ! h264parse ! identity sync=true ! s. \
                 d.audio ! queue ! aacparse ! identity sync=true ! s. \
                 rtspclientsink name=s location={} protocols={transport} latency=0",
                file.display(),
                rtsp(scene.addr("rtsp"), "live/x"),
            ),
        );
        let all = sent.len() as u64;
        scene.until("live/x", "all there", |stream| stream["frames_in"].as_u64() >= Some(all - 4));
        drop(publisher);
        assert_arrived_within(ANY_TIME, &sent, &player.listing().packets, 4, transport);
    }
}

/// `rtspsrc` writes what it receives to a file. Its two pads come at once from two threads, and `gst-launch` links each to whatever takes its
/// caps. With a filter in a link both threads may put one in at a time, after which neither is linked (`not-linked` in the log of
/// `rtpjitterbuffer`), and the muxer waits for that track for ever: depayloaders say themselves what they take.
fn rtspsrc(gst: &Path, url: &str, transport: &str, file: &Path) -> Program {
    let words = format!(
        "rtspsrc name=s location={url} protocols={transport} latency=500 buffer-mode=none matroskamux name=m streamable=true ! \
         filesink buffer-mode=unbuffered location={} \
         s. ! rtph264depay ! h264parse ! queue ! m. \
         s. ! rtpmp4gdepay ! aacparse ! queue ! m.",
        file.display()
    );
    pipeline(&format!("rtspsrc {transport}"), gst, &words)
}

/// The packets that are in GStreamer's file once they are enough, or it has ended. Its own end is not waited for: `rtspsrc` hangs or crashes
/// on its way out now and then (GStreamer 1.22, one in a hundred times), when everything has been written.
fn written(
    ffmpeg: &Path,
    player: &mut Program,
    output: &Path,
    is_enough: impl Fn(&[Packet]) -> bool,
) -> Vec<Packet> {
    let end = Instant::now() + LIMIT;
    loop {
        let has_ended = player.process().try_wait().is_some();
        let packets = framehash::so_far(ffmpeg, output).packets;
        if has_ended || is_enough(&packets) {
            return packets;
        }
        assert!(Instant::now() < end, "{} has {} packets", player.name(), packets.len());
        thread::sleep(Duration::from_millis(50));
    }
}

/// What RTMP brings is played by GStreamer, by FFmpeg over RTMP, and by FFmpeg from another server that pulls it over RTSP: pictures and
/// sound stay as far apart as they were.
#[test]
fn rtmp_in_rtsp_out() {
    let (ff5, gst) = (need!(ffmpeg), need!(gst_rtsp));
    let file = clips::ONE_GOP.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    let (scene, edge) = (Scene::start("rtsp_gst_plays"), Scene::start("rtsp_gst_plays_edge"));
    let url = rtsp(scene.addr("rtsp"), "live/x");
    let outputs = ["tcp", "udp"].map(|transport| (transport, scene.file(&format!("{transport}.mkv"))));
    let mut players = outputs.each_ref().map(|(transport, output)| rtspsrc(&gst, &url, transport, output));
    edge.relay(&url, "live/pulled");
    let relayed = edge.ffmpeg_plays("relayed", &ff5, &edge.rtmp("live/pulled"));
    scene.until_readers("live/x", 3);
    interop::publish("publisher", &ff5, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    assert_arrived(&sent, &relayed.listing().packets, 2, "RTMP to RTSP to RTMP");
    for ((transport, output), player) in outputs.iter().zip(&mut players) {
        let of = |packets: &[Packet], kind: &str| packets.iter().filter(|packet| packet.kind == kind).count();
        let got = written(&ff5, player, output, |got| {
            ["video", "audio"].iter().all(|kind| of(got, kind) + 2 >= of(&sent, kind))
        });
        assert_arrived_within(ANY_TIME, &sent, &got, 2, transport);
    }
}

/// A picture at once: the keyframe that was there before the player asked. (Of the B-frames that come in the burst behind it, `matroskamux`
/// leaves some out, as their times fall together; FFmpeg's packets are compared in `arcly-rtsp`.)
#[test]
fn gstreamer_joins_at_the_keyframe_that_is_there() {
    let (ff5, ffprobe, gst) = (need!(ffmpeg), need!(ffprobe), need!(gst_rtsp));
    let file = clips::LONG.file(&ff5);
    let sent = framehash::of_file(&ff5, &file).packets;
    let pictures: Vec<&Packet> = sent.iter().filter(|packet| packet.kind == "video").collect();
    let keys = ffprobe::packets(&ffprobe, &file.display().to_string());
    let keys: Vec<bool> =
        keys.iter().filter(|packet| packet.kind == "video").map(|packet| packet.key).collect();
    let scene = Scene::start("rtsp_gst_joins");
    let frames = || scene.api("/api/v1/streams/live/x")["frames_in"].as_u64().unwrap_or_default();
    let publisher = interop::publish("publisher", &ff5, &file, &scene.rtmp("live/x"));
    scene.until("live/x", "under way", |stream| stream["frames_in"].as_u64() > Some(200));
    let outputs = ["tcp", "udp"].map(|transport| (transport, scene.file(&format!("{transport}.mkv"))));
    let url = rtsp(scene.addr("rtsp"), "live/x");
    let mut players = outputs.each_ref().map(|(transport, output)| rtspsrc(&gst, &url, transport, output));
    scene.until_readers("live/x", 2);
    let there = frames();
    scene.until("live/x", "seen", |stream| stream["frames_in"].as_u64() > Some(there + 100));
    drop(publisher);
    for ((transport, output), player) in outputs.iter().zip(&mut players) {
        let is_picture = |packet: &Packet| packet.kind == "video";
        let got = written(&ff5, player, output, |got| got.iter().any(is_picture));
        let first = got.iter().find(|packet| packet.kind == "video").expect("pictures");
        let place = pictures.iter().position(|packet| packet.hash == first.hash).expect("one of those sent");
        assert!(keys[place] && (1..=there).contains(&(place as u64)), "{transport}: {place} of {there}");
    }
}

/// What GStreamer encodes and `rtspclientsink` sends, over TCP and UDP by turns, FFmpeg decodes.
#[test]
fn gstreamer_publishes_in_many_codecs_and_two_voices() {
    const PICTURE: &str =
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=15/1";
    const SOUND: &str = "audiotestsrc is-live=true";
    let (ff5, gst) = (need!(ffmpeg), need!(gst_rtsp));
    let cases: [(&str, &str, &[&str]); 4] = [
        ("x265enc tune=zerolatency key-int-max=15 speed-preset=ultrafast ! h265parse", "tcp", &["mulawenc"]),
        ("vp8enc deadline=1 keyframe-max-dist=15 ! video/x-vp8,profile=(string)0", "udp", &["alawenc"]),
        ("vp9enc deadline=1 keyframe-max-dist=15 ! video/x-vp9,profile=(string)0", "tcp", &["opusenc"]),
        ("x264enc tune=zerolatency key-int-max=15 ! h264parse", "tcp", &["opusenc", "opusenc"]),
    ];
    let scene = Scene::start("rtsp_gst_codecs");
    for (n, (video, transport, voices)) in cases.into_iter().enumerate() {
        let path = format!("live/{n}");
        let url = rtsp(scene.addr("rtsp"), &path);
        let mut words = format!("{PICTURE} ! {video} ! s. ");
        for voice in voices {
            let rate = if *voice == "opusenc" { 48_000 } else { 8_000 };
            words += &format!("{SOUND} ! audio/x-raw,rate={rate},channels=1 ! {voice} ! s. ");
        }
        words += &format!("rtspclientsink name=s location={url} protocols={transport} latency=0");
        let _publisher = pipeline(&path, &gst, &words);
        let stream = scene.until(&path, "flowing", |stream| stream["frames_in"].as_u64() > Some(20));
        let tracks = stream["tracks"].as_array().map_or(0, Vec::len);
        assert_eq!(tracks, 1 + voices.len(), "{video}: {stream:#}");
        let mut command = Command::new(&ff5);
        command.args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "error",
            "-xerror",
            "-rtsp_transport",
            "tcp",
            "-i",
            &url,
        ]);
        command.args(["-map", "0", "-t", "2", "-vsync", "passthrough", "-f", "null", "-"]);
        process::run_ok(&mut command, LIMIT);
    }
}
