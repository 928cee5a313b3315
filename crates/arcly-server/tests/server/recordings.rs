//! Recordings as operators and viewers meet them, made of the test stream.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arcly_testkit::process::{Arcly, run};
use arcly_testkit::{ffprobe, need};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{arcly, get, send_json, wait_until};

const API: &str = "/api/v1/recordings";

/// A server that publishes and records the test stream.
fn start(folder: &Path, record: &str) -> Arcly {
    let config = folder.join("arcly.toml");
    std::fs::write(&config, format!("[record]\npart = \"500ms\"\n{record}")).unwrap();
    let (config, data) = (config.to_string_lossy(), folder.to_string_lossy());
    let args = ["demo", "-c", &config, "--data-dir", &data, "--rtmp", "off", "--http", "127.0.0.1:0"];
    Arcly::start(&mut arcly(&args))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn items(http: SocketAddr) -> Vec<Value> {
    get(http, API, "GET", "").json()["items"].as_array().unwrap().clone()
}

/// Plays the file as whoever knows nothing of arcly would, and returns how many pictures and sounds are in it.
fn play(path: &Path, ffmpeg: &Path, probe: &Path) -> [usize; 2] {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-i"]).arg(path);
    let output = run(command.args(["-f", "null", "-"]), Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", path.display());
    let packets = ffprobe::packets(probe, &path.to_string_lossy());
    ["video", "audio"].map(|kind| ffprobe::of_kind(&packets, kind).len())
}

#[test]
fn the_test_stream_is_recorded_listed_played_and_removed() {
    let (ffmpeg, probe, folder) = (need!(ffmpeg), need!(ffprobe), folder());
    for format in ["mp4", "ts", "flv"] {
        let data = folder.path().join(format);
        std::fs::create_dir(&data).unwrap();
        let server =
            start(&data, &format!("streams = [\"live/*\"]\nformat = \"{format}\"\nsegment = \"2s\"\n"));
        let http = server.addr("http");
        wait_until("two files are complete", || items(http).len() >= 2);
        assert_eq!(get(http, API, "GET", "").json()["recording"], serde_json::json!(["live/demo"]));
        assert_eq!(get(http, &format!("{API}/live/demo"), "DELETE", "").status, 204);
        wait_until("it is recorded no more", || {
            get(http, API, "GET", "").json()["recording"].as_array().is_some_and(Vec::is_empty)
        });
        let items = items(http);
        assert_eq!(items[1]["continues"], true);
        let url = items[0]["url"].as_str().unwrap();
        let whole = get(http, url, "GET", "");
        assert_eq!((whole.status, whole.body.len() as u64), (200, items[0]["bytes"].as_u64().unwrap()));
        let part = get(http, url, "GET", "Range: bytes=100-199\r\n");
        assert_eq!((part.status, &part.body), (206, &whole.body[100..200].to_vec()));
        assert_eq!(get(http, url, "GET", "Range: bytes=999999999-\r\n").status, 416);
        assert!(get(http, url, "HEAD", "").body.is_empty());
        let file = data.join(format!("played.{format}"));
        std::fs::write(&file, &whole.body).unwrap();
        let [pictures, sounds] = play(&file, &ffmpeg, &probe);
        let seconds = items[0]["duration_seconds"].as_f64().unwrap();
        assert!(
            (2.0..4.1).contains(&seconds) && pictures > 40 && sounds > 40,
            "{seconds} s, {pictures}, {sounds}"
        );
        let span =
            format!("/live/demo/recordings.mp4?start={}&duration=3s", items[0]["start"].as_str().unwrap());
        let span = get(http, &span, "GET", "");
        assert_eq!(span.status, 200, "{}", span.text());
        std::fs::write(&file, &span.body).unwrap();
        let [pictures, _] = play(&file, &ffmpeg, &probe);
        assert!(pictures > 60, "{pictures} pictures of 3 s, across two files");
        assert_eq!(get(http, "/live/demo/recordings.mp4?start=now", "GET", "").status, 400);
        let past = "/live/demo/recordings.mp4?start=2020-01-01T00:00:00Z&duration=1s";
        assert_eq!(get(http, past, "GET", "").status, 404);
        let listed = get(http, "/live/demo/recordings", "GET", "").json();
        assert_eq!(listed["items"].as_array().unwrap().len(), items.len());
        let name = url.rsplit('/').next().unwrap();
        assert_eq!(get(http, &format!("{API}/live/demo?file={name}"), "DELETE", "").status, 204);
        assert_eq!(get(http, url, "GET", "").status, 404);
    }
}

#[test]
fn streams_and_clips_are_recorded_on_demand() {
    let folder = folder();
    let server = start(folder.path(), "");
    let http = server.addr("http");
    assert_eq!(items(http).len(), 0);
    let post = |body: &str| send_json(http, API, "POST", body).status;
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", "").status == 200);
    assert_eq!(post(r#"{"path":"live/none"}"#), 404);
    assert_eq!(post(r#"{"path":"../x"}"#), 400);
    assert_eq!(post(r#"{"path":"live/demo","duration":"25h"}"#), 400);
    assert_eq!(post(r#"{"path":"live/demo","pre_roll":"1s","duration":"1s"}"#), 202);
    wait_until("the clip is there", || items(http).len() == 1);
    assert_eq!(post(r#"{"path":"live/demo"}"#), 201);
    assert_eq!(post(r#"{"path":"live/demo"}"#), 409);
    assert_eq!(get(http, &format!("{API}/live/demo"), "DELETE", "").status, 204);
    assert_eq!(get(http, &format!("{API}/live/none"), "DELETE", "").status, 404);
}

/// F42: the process is killed; what it leaves plays, misses at most a part, and is listed by the next one, which records
/// beside it.
#[test]
fn f42_a_killed_server_leaves_files_that_play() {
    let (ffmpeg, probe, folder) = (need!(ffmpeg), need!(ffprobe), folder());
    for format in ["mp4", "ts", "flv"] {
        let data = folder.path().join(format);
        std::fs::create_dir(&data).unwrap();
        let record = format!("streams = [\"live/*\"]\nformat = \"{format}\"\n");
        let mut server = start(&data, &record);
        let parts = data.join("recordings/live/demo");
        let size = || {
            let files = std::fs::read_dir(&parts).into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum::<u64>()
        };
        wait_until("something is on disk", || size() > 40_000);
        server.process().kill();
        drop(server);
        let left: Vec<_> = std::fs::read_dir(&parts).unwrap().flatten().map(|file| file.path()).collect();
        let [left] = left.as_slice() else { panic!("{left:?}") };
        let written = std::fs::read(left).unwrap();
        let server = start(&data, &record);
        let http = server.addr("http");
        wait_until("the file is listed", || items(http).len() == 1);
        let name = items(http)[0]["name"].as_str().unwrap().to_owned();
        let [pictures, sounds] = play(&data.join("recordings").join(name), &ffmpeg, &probe);
        assert!(pictures > 20 && sounds > 20, "{format}: {pictures}, {sounds}");
        wait_until("a new file is being written", || {
            std::fs::read_dir(&parts).unwrap().flatten().count() == 2
        });
        assert!(std::fs::read(left.with_extension("")).unwrap() == written, "{format}: as it was left");
    }
}

/// H24: a link that lies in the folder of recordings.
#[test]
fn h24_a_link_leads_no_recording_out_of_its_folder() {
    let folder = folder();
    let (outside, live) = (folder.path().join("outside"), folder.path().join("recordings/live"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir_all(&live).unwrap();
    std::os::unix::fs::symlink(&outside, live.join("demo")).unwrap();
    std::fs::write(outside.join("1.mp4"), "secret").unwrap();
    let server = start(folder.path(), "streams = [\"live/*\"]\nname = \"%path/%s\"\n");
    let http = server.addr("http");
    wait_until("it is refused", || {
        server.log().lines().any(|line| {
            line.contains("recording failed")
                && line.contains("reason=forbidden")
                && line.contains("live/demo")
        })
    });
    assert_eq!(items(http).len(), 0);
    assert_eq!(get(http, "/live/demo/recordings/1000000.mp4", "GET", "").status, 404);
    std::fs::remove_file(live.join("demo")).unwrap();
    wait_until("it is recorded where it belongs", || live.join("demo").is_dir());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "nothing was created outside");
}

/// F44: what is being recorded when the server goes down is complete.
#[test]
fn f44_a_server_that_goes_down_completes_its_recordings() {
    let (ffmpeg, probe, folder) = (need!(ffmpeg), need!(ffprobe), folder());
    let mut server = start(folder.path(), "streams = [\"live/*\"]\n");
    let parts = folder.path().join("recordings/live/demo");
    wait_until("something is being recorded", || parts.is_dir());
    std::thread::sleep(Duration::from_secs(2));
    assert!(server.terminate(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let files: Vec<_> = std::fs::read_dir(&parts).unwrap().flatten().map(|file| file.path()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].extension().is_some_and(|extension| extension == "mp4"), "{files:?}");
    let [pictures, _] = play(&files[0], &ffmpeg, &probe);
    assert!(pictures > 20, "{pictures}");
}
