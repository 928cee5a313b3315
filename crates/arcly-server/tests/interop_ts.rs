//! MPEG-TS over HTTP and UDP and in files, with FFmpeg on the other side.

mod interop;

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use arcly_core::{MediaFrame, TimeDelta, TrackId};
use arcly_testkit::ports::free_port;
use arcly_testkit::program::Program;
use arcly_testkit::{clips, framehash, http, need, process};
use interop::transport::{MILLISECOND, assert_arrived, read_flv, read_ts, sends, sends_on};
use interop::{LIMIT, Scene, assert_decodes, publish};

/// Asserts that frames are those that were sent, with the same times relative to the first picture.
#[track_caller]
fn assert_same(sent: &[MediaFrame], got: &[MediaFrame]) {
    assert_near(sent, got, TimeDelta::ZERO);
}

/// The same, where sounds may be off by so much: those that share a PES packet get their times from the first, and FLV rounds
/// each to a millisecond.
#[track_caller]
fn assert_near(sent: &[MediaFrame], got: &[MediaFrame], sound: TimeDelta) {
    let first = |frames: &[MediaFrame]| {
        frames.iter().find(|frame| frame.track == TrackId::VIDEO).expect("a picture").dts
    };
    let (sent_at, got_at) = (first(sent), first(got));
    for id in [TrackId::VIDEO, TrackId::AUDIO] {
        let of = |frames: &[MediaFrame], zero| -> Vec<_> {
            let frames = frames.iter().filter(|frame| frame.track == id);
            frames.map(|f| ((f.dts - zero), (f.pts - zero), f.is_keyframe(), f.payload.clone())).collect()
        };
        let (sent, got) = (of(sent, sent_at), of(got, got_at));
        assert_eq!(sent.len(), got.len(), "frames of track {id}");
        let tolerance = if id == TrackId::AUDIO { sound } else { TimeDelta::ZERO };
        let near = |a: TimeDelta, b: TimeDelta| (a - b).abs() <= tolerance;
        let differs = sent.iter().zip(&got).position(|(sent, got)| {
            !near(sent.0, got.0) || !near(sent.1, got.1) || (sent.2, &sent.3) != (got.2, &got.3)
        });
        assert_eq!(differs, None, "frame of track {id} that differs");
    }
}

#[test]
fn http_post_in_and_get_out() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let file = clips::H264_AAC.file(&ff5);
    for (test, ffmpeg) in [("ts_post5", &ff5), ("ts_post9", &ff9)] {
        let scene = Scene::start(test);
        let addr = scene.addr("http");
        let player = scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp("live/x"));
        let download = thread::spawn(move || http::get(addr, "/live/x.ts", LIMIT));
        scene.until_readers("live/x", 2);
        let url = format!("http://{addr}/live/x.ts");
        sends("publisher", ffmpeg, &file, &["-method", "POST"], &url).end_ok(LIMIT);
        assert_arrived(&framehash::of_file(&ff5, &file).packets, &player.listing().packets);
        let answer = download.join().expect("the download does not panic").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.head.to_ascii_lowercase().contains("content-type: video/mp2t"), "{}", answer.head);
        assert_near(&read_flv(&file), &read_ts(&answer.body), MILLISECOND);
        let downloaded = scene.file("downloaded.ts");
        std::fs::write(&downloaded, answer.body).expect("the target folder is writable");
        assert_decodes(&ff5, &downloaded);
    }
}

#[test]
fn rtmp_in_http_ts_out_to_ffmpeg() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let file = clips::H264_AAC.file(&ff5);
    let scene = Scene::start("ts_play");
    let url = format!("http://{}/live/x.ts", scene.addr("http"));
    let record = |name: &str, ffmpeg: &Path| {
        let mut command = Command::new(ffmpeg);
        command.args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "warning",
            "-copyts",
            "-i",
            &url,
            "-c",
            "copy",
            "-y",
        ]);
        Program::start(name, command.arg(scene.file(&format!("{name}.ts"))))
    };
    let mut players = [record("ffmpeg5", &ff5), record("ffmpeg9", &ff9)];
    scene.until_readers("live/x", 2);
    publish("publisher", &ff5, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    for player in &mut players {
        player.end_ok(LIMIT);
        // FFmpeg 9 takes the end of every body for an error whose length was not announced, whoever sends it, also behind
        // the last chunk: `ffmpeg5` and `http_post_in_and_get_out` see that it is there.
        let log = player.log();
        let said = log.lines().filter(|line| {
            player.name() != "ffmpeg9" || !line.ends_with("Error during demuxing: Input/output error")
        });
        assert_eq!(said.collect::<Vec<_>>(), Vec::<&str>::new(), "{} complains", player.name());
        let received = std::fs::read(scene.file(&format!("{}.ts", player.name()))).expect("what it wrote");
        assert_near(&read_flv(&file), &read_ts(&received), MILLISECOND);
    }
}

#[test]
fn udp_in_and_out() {
    let ff5 = need!(ffmpeg);
    let file = clips::LONG.file(&ff5);
    let (port, out) = (free_port(), free_port());
    let config = format!(
        "[[udp.input]]\nurl = \"udp://127.0.0.1:{port}\"\npath = \"live/u\"\n\
         [[udp.output]]\nurl = \"udp://127.0.0.1:{out}\"\npath = \"live/u\"\n"
    );
    let scene = Scene::start_with("ts_udp", &config, &[]);
    assert_eq!(scene.addr("udp").port(), port);
    let player = scene.ffmpeg_plays("rtmp", &ff5, &scene.rtmp("live/u"));
    let recorded = scene.file("recorded.ts");
    let mut command = Command::new(&ff5);
    command.args([
        "-hide_banner",
        "-nostdin",
        "-v",
        "error",
        "-i",
        &format!("udp://127.0.0.1:{out}?fifo_size=50000"),
    ]);
    let mut records = Program::start("records", command.args(["-t", "4", "-c", "copy", "-y"]).arg(&recorded));
    // One player and the output.
    scene.until_readers("live/u", 2);
    let url = format!("udp://127.0.0.1:{port}?pkt_size=1316");
    sends("publisher", &ff5, &file, &[], &url).end_ok(LIMIT);
    records.end_ok(LIMIT);
    assert_decodes(&ff5, &recorded);
    // The stream ends when its input has been silent for ten seconds.
    let (sent, got) = (framehash::of_file(&ff5, &file).packets, player.listing().packets);
    assert_arrived(&sent, &got);
}

/// The command line: a file to MPEG-TS and back, over a server and without; and what is in it.
#[test]
fn arcly_relays_and_probes_files() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("ts_files");
    let file = clips::H264_AAC.file(&ff5);
    let text = |path: &Path| path.display().to_string();
    let arcly = |args: &[&str]| process::run_ok(Command::new(env!("CARGO_BIN_EXE_arcly")).args(args), LIMIT);
    let (there, back) = (scene.file("there.ts"), scene.file("back.flv"));
    arcly(&["relay", &text(&file), &text(&there)]);
    arcly(&["relay", &text(&there), &text(&back)]);
    assert_same(&read_flv(&file), &read_ts(&std::fs::read(&there).expect("a file")));
    assert_same(&read_flv(&file), &read_flv(&back));
    assert_decodes(&ff5, &there);
    let report: serde_json::Value =
        serde_json::from_str(&arcly(&["probe", "--json", &text(&there)])).expect("JSON");
    let codecs: Vec<_> =
        report["tracks"].as_array().into_iter().flatten().map(|track| &track["codec"]).collect();
    assert_eq!(codecs, ["h264", "aac"], "{report:#}");

    let received = scene.file("received.ts");
    let url = format!("http://{}/live/x.ts", scene.addr("http"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let mut writes = Program::start("writes", command.args(["relay", &url, &text(&received)]));
    scene.until_readers("live/x", 1);
    arcly(&["relay", &text(&there), &url]);
    writes.end_ok(LIMIT);
    assert_same(&read_flv(&file), &read_ts(&std::fs::read(&received).expect("a file")));
}

#[test]
fn m16_what_is_no_transport_stream_is_malformed_and_the_next_one_plays() {
    let ff5 = need!(ffmpeg);
    let port = free_port();
    let config = format!("[[udp.input]]\nurl = \"udp://127.0.0.1:{port}\"\npath = \"live/u\"\n");
    let scene = Scene::start_with("ts_garbage", &config, &[]);
    let garbage = "x".repeat(2 << 20);
    let answer = http::request(scene.addr("http"), "POST", "/live/x.ts", &garbage, LIMIT).expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("malformed"), "{}", answer.text());
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let end = std::time::Instant::now() + LIMIT;
    while !scene.log().contains("the UDP input starts over") {
        assert!(std::time::Instant::now() < end, "it is never said to be malformed");
        (0..100).for_each(|_| _ = sender.send_to(&[0; 1_316], ("127.0.0.1", port)));
        thread::sleep(Duration::from_millis(2));
    }
    assert!(scene.log().contains("reason=malformed"), "{}", scene.log());
    let file = clips::H264_AAC.file(&ff5);
    // It is listened to once what is still in the socket of the garbage has been silent for a while.
    let _publisher = sends_on("publisher", &ff5, &file, &format!("udp://127.0.0.1:{port}?pkt_size=1316"));
    scene.until("live/u", "published", |stream| stream["publisher"]["protocol"] == "udp");
    scene.until("live/u", "flowing", |stream| stream["frames_in"].as_u64() > Some(50));
}
