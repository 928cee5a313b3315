//! Sound for readers that cannot take what was published: FFmpeg publishes a flash and a beep each second, FFmpeg plays it, and
//! both are still at the same time.

mod interop;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::program::Program;
use arcly_testkit::{clips, http, need, process};
use interop::{LIMIT, Scene};

/// How far sound may move against pictures.
const BOUND_SECONDS: f64 = 0.005;
/// Seconds that are published.
const SECONDS: &str = "8";

/// A clip whose picture is white, and whose sound is loud, in the first tenth of each second.
fn flashes_and_beeps(ffmpeg: &Path, name: &str, sound: &[&str]) -> PathBuf {
    let file = clips::scratch().join(format!("{name}.mkv"));
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]);
    command.args([
        "-f",
        "lavfi",
        "-i",
        "color=black:s=160x90:r=50,geq=lum='if(lt(mod(T,1),0.1),235,16)':cb=128:cr=128",
    ]);
    command.args(["-f", "lavfi", "-i", "aevalsrc='0.9*lt(mod(t,1),0.1)*sin(6283.1853*t)':s=48000:c=stereo"]);
    command.args([
        "-t",
        SECONDS,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "50",
    ]);
    process::run_ok(command.args(sound).arg(&file), LIMIT);
    file
}

/// Publishes a file as it is, in real time.
fn publish(ffmpeg: &Path, file: &Path, format: &[&str], url: &str) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re", "-i"]).arg(file);
    command.args(["-c", "copy"]).args(format).arg(url);
    Program::start("publisher", &mut command)
}

/// Receives a stream until it ends, as it is.
fn play(ffmpeg: &Path, options: &[&str], url: &str, file: &Path) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-y"]).args(options).args(["-i", url]);
    command.args(["-c", "copy"]).arg(file);
    Program::start(&file.display().to_string(), &mut command)
}

/// When the flashes and the beeps of a file begin, in seconds, without the first ones. What the filters say last is the file's end.
fn onsets(ffmpeg: &Path, file: &Path) -> (Vec<f64>, Vec<f64>) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "info", "-i"]).arg(file);
    command.args([
        "-vf",
        "blackdetect=d=0.3:pix_th=0.5",
        "-af",
        "silencedetect=n=-12dB:d=0.3",
        "-f",
        "null",
        "-",
    ]);
    let said = process::run(&mut command, LIMIT);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let after = |word: &str| -> Vec<f64> {
        let number =
            |rest: &str| rest.trim_start().split([' ', '|']).next().and_then(|text| text.parse().ok());
        let mut found: Vec<f64> = said.split(word).skip(1).filter_map(number).collect();
        found.pop();
        found
    };
    (after("black_end:"), after("silence_end:"))
}

/// How long after its flash each beep comes.
fn offsets(ffmpeg: &Path, file: &Path) -> Vec<f64> {
    let (flashes, beeps) = onsets(ffmpeg, file);
    let nearest = |flash: &f64| {
        let offsets = beeps.iter().map(|beep| beep - flash);
        offsets.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|offset| offset.abs() < 0.4)
    };
    flashes.iter().filter_map(nearest).collect()
}

/// Asserts that sound and pictures of a file are as far apart as those of what was sent, and that there are enough of them.
#[track_caller]
fn assert_in_sync(ffmpeg: &Path, sent: &Path, got: &Path) {
    let (sent, received) = (offsets(ffmpeg, sent), offsets(ffmpeg, got));
    assert!(received.len() >= 4, "{}: flashes with a beep: {received:?}", got.display());
    let expected = sent[0];
    let worst = received.iter().map(|offset| (offset - expected).abs()).fold(0.0, f64::max);
    eprintln!("{}: {} beeps, at most {:.1} ms off", got.display(), received.len(), worst * 1_000.0);
    assert!(worst <= BOUND_SECONDS, "{}: sent {sent:?}, received {received:?}", got.display());
}

/// The audio codec of a file.
fn sound_of(ffprobe: &Path, file: &Path) -> String {
    let mut command = Command::new(ffprobe);
    command.args([
        "-v",
        "error",
        "-select_streams",
        "a",
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
    ]);
    // Once for the file, and once for each of its programs.
    process::run_ok(command.arg(file), LIMIT).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn aac_over_rtmp_is_opus_for_who_asks_for_it() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let clip = flashes_and_beeps(&ffmpeg, "beeps_aac", &["-c:a", "aac", "-b:a", "128k"]);
    let scene = Scene::start("transcode_to_opus");
    let url = format!("rtsp://{}/live/x?audio=opus", scene.addr("rtsp"));
    let (asked, plain) = (scene.file("asked.mkv"), scene.file("plain.mkv"));
    let mut players = [
        play(&ffmpeg, &["-rtsp_transport", "tcp"], &url, &asked),
        play(&ffmpeg, &["-rtsp_transport", "tcp"], url.trim_end_matches("?audio=opus"), &plain),
    ];
    scene.until_readers("live/x", 2);
    let _publisher = publish(&ffmpeg, &clip, &["-f", "flv"], &scene.rtmp("live/x"));
    for player in &mut players {
        player.end(LIMIT);
    }
    assert_eq!(sound_of(&ffprobe, &asked), "opus");
    assert_eq!(sound_of(&ffprobe, &plain), "aac");
    assert_in_sync(&ffmpeg, &clip, &asked);
}

#[test]
fn opus_over_rtsp_is_aac_for_players_that_know_no_other() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let clip = flashes_and_beeps(&ffmpeg, "beeps_opus", &["-c:a", "libopus", "-b:a", "128k"]);
    let scene = Scene::start("transcode_to_aac");
    let format = ["-f", "rtsp", "-rtsp_transport", "tcp"];
    let (rtmp, ts) = (scene.file("rtmp.flv"), scene.file("http.ts"));
    let mut players = [
        play(&ffmpeg, &[], &scene.rtmp("live/x"), &rtmp),
        play(&ffmpeg, &[], &format!("http://{}/live/x.ts", scene.addr("http")), &ts),
    ];
    scene.until_readers("live/x", 2);
    let _publisher = publish(&ffmpeg, &clip, &format, &format!("rtsp://{}/live/x", scene.addr("rtsp")));
    scene.until("live/x", "live", |stream| stream["frames_in"].as_u64() > Some(20));
    let transcoders = || {
        let metrics = http::get(scene.addr("http"), "/metrics", LIMIT).expect("answers").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("arcly_transcoders "));
        line.expect("it is counted").to_owned()
    };
    let end = Instant::now() + LIMIT;
    while transcoders() == "0" {
        assert!(Instant::now() < end, "nobody transcodes");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(transcoders(), "1", "made once for both");
    let playlist = http::get(scene.addr("http"), "/live/x/index.m3u8", LIMIT).expect("answers").text();
    assert!(playlist.contains("mp4a.40.2") && !playlist.contains("opus"), "{playlist}");
    for player in &mut players {
        player.end(LIMIT);
    }
    for file in [&rtmp, &ts] {
        assert_eq!(sound_of(&ffprobe, file), "aac");
        assert_in_sync(&ffmpeg, &clip, file);
    }
}
