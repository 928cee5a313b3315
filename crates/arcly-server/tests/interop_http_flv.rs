//! HTTP-FLV with FFmpeg 5 and 9 and a plain download, in both directions.

mod interop;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{self, Times};
use arcly_testkit::{framehash, http, need, process};
use interop::{LIMIT, Scene, assert_received, publish};

/// Publishes a clip, by RTMP or HTTP as `url` says, and plays it over both.
fn everybody_plays(test: &str, publisher: &Path, url: impl Fn(&Scene) -> String) {
    let (ff5, ff9, ffprobe) = (need!(ffmpeg), need!(ffmpeg9), need!(ffprobe));
    let file = clips::H264_AAC.file(&ff5);
    let sent = framehash::of_file(&ff5, &file);
    let scene = Scene::start(test);
    let players = [
        scene.ffmpeg_plays("ffmpeg5 http", &ff5, &scene.flv("live/x")),
        scene.ffmpeg_plays("ffmpeg9 http", &ff9, &scene.flv("live/x")),
        scene.ffmpeg_plays("ffmpeg9 rtmp", &ff9, &scene.rtmp("live/x")),
    ];
    let addr = scene.addr("http");
    let download = thread::spawn(move || http::get(addr, "/live/x.flv", LIMIT));
    scene.until_readers("live/x", 4);
    publish("publisher", publisher, &file, &url(&scene)).end_ok(LIMIT);
    for player in players {
        let name = player.program.name().to_owned();
        assert_received(&sent, &player.listing(), &name);
    }
    let answer = download.join().expect("the download does not panic").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.to_ascii_lowercase().contains("content-type: video/x-flv"), "{}", answer.head);
    let downloaded = scene.file("downloaded.flv");
    std::fs::write(&downloaded, answer.body).expect("the target folder is writable");
    let packets = |file: &Path| ffprobe::packets(&ffprobe, &file.display().to_string());
    ffprobe::assert_same(&packets(&file), &packets(&downloaded), Times::Shifted);
}

#[test]
fn rtmp_in_http_out() {
    everybody_plays("http_play", &need!(ffmpeg), |scene| scene.rtmp("live/x"));
}

#[test]
fn ffmpeg_5_posts() {
    everybody_plays("http_post5", &need!(ffmpeg), |scene| scene.flv("live/x"));
}

#[test]
fn ffmpeg_9_posts() {
    everybody_plays("http_post9", &need!(ffmpeg9), |scene| scene.flv("live/x"));
}

/// Enhanced FLV both ways over HTTP, and out over RTMP.
#[test]
fn enhanced_codecs() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start("http_enhanced");
    let start = |clip: Clip| {
        let path = format!("live/{}", clip.name);
        let players = [
            scene.ffmpeg_plays(&format!("{} http", clip.name), &ff9, &scene.flv(&path)),
            scene.enhanced_ffmpeg_plays(&format!("{} rtmp", clip.name), &ff9, &scene.rtmp(&path)),
        ];
        let file = clip.file(&ff9);
        scene.until_readers(&path, 2);
        (clip, players, publish("publisher", &ff9, &file, &scene.flv(&path)))
    };
    let running: Vec<_> = [clips::HEVC_AAC, clips::AV1_OPUS, clips::MULTITRACK].map(start).into();
    for (clip, players, mut publisher) in running {
        publisher.end_ok(LIMIT);
        let mut sent = framehash::of_file(&ff9, &clip.file(&ff9));
        let [http, rtmp] = players;
        assert_received(&sent, &http.listing(), &format!("{} by HTTP", clip.name));
        if clip == clips::MULTITRACK {
            // FFmpeg does not say over RTMP that it understands several tracks of a kind, and gets the first.
            sent.keep_tracks(&[0, 2]);
        }
        assert_received(&sent, &rtmp.listing(), &format!("{} by RTMP", clip.name));
    }
}

#[test]
fn late_joiner_decodes_from_the_first_packet() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("http_late");
    let _publisher = publish("publisher", &ff5, &clips::LONG.file(&ff5), &scene.rtmp("live/late"));
    scene.until("live/late", "2.5 s in", |stream| stream["frames_in"].as_u64() >= Some(192));
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-xerror", "-err_detect", "explode"]);
    command.args(["-i", &scene.flv("live/late"), "-t", "3", "-f", "null", "-"]);
    let output = process::run(&mut command, LIMIT);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_stream_that_is_not_there() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("http_missing");
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-i", &scene.flv("strict/nobody")]);
    let output = process::run(command.args(["-f", "null", "-"]), Duration::from_secs(20));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("404"), "{said}");
}
