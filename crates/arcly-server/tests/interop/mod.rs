//! What the interop tests share: a server, programs that publish to it and play from it, and what they received.
//!
//! Nothing here waits by sleeping for a while: readers are counted through the API before anybody publishes, and the
//! end of a publication ends its readers. A test that fails shows the last lines of every program that took part.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod joiner;
pub(crate) mod transport;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::ffprobe::{self, Packet, Times};
use arcly_testkit::framehash::{self, Listing};
use arcly_testkit::process::{self, Arcly};
use arcly_testkit::program::Program;
use arcly_testkit::{clips, http};
use serde_json::Value;

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Everything but the polls of the API.
const LOG: &str = "debug,arcly_server::http=info";
const POLL: Duration = Duration::from_millis(20);
/// What FFmpeg 9 can play, in the words of Enhanced RTMP.
const FOURCCS: &str = "avc1,hvc1,vvc1,av01,vp09,mp4a,Opus,fLaC,ac-3,ec-3";

/// Readers wait for their stream, and end with its publisher; except in the app `sticky`, whose streams outlive it.
const CONFIG: &str = r#"
[apps.default]
wait_for_stream = "60s"
grace = "0s"

[apps.sticky]
wait_for_stream = "60s"
grace = "20s"

[apps.strict]
wait_for_stream = "0s"
grace = "0s"
"#;

/// A certificate for this machine's own address, in a file, and the configuration of a server that has it.
pub(crate) fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let put = |suffix: &str, text: String| {
        let path = clips::scratch().join(format!("{name}.{suffix}"));
        std::fs::write(&path, text).expect("the target folder is writable");
        path.display().to_string()
    };
    let (cert, key) = (put("cert", made.cert.pem()), put("key", made.signing_key.serialize_pem()));
    let config = format!("[tls]\ncert = '{cert}'\nkey = '{key}'\n");
    (cert, config)
}

/// A server for one test, and a folder for what the test receives.
pub(crate) struct Scene {
    arcly: Arcly,
    folder: PathBuf,
}

impl Scene {
    /// A server of its own for the test of that name.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, "", &[])
    }

    /// The same with more configuration and environment.
    pub(crate) fn start_with(name: &str, config: &str, env: &[(&str, &str)]) -> Self {
        let folder = clips::scratch().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the target folder is writable");
        let file = folder.join("arcly.toml");
        std::fs::write(&file, format!("{CONFIG}{config}")).expect("the target folder is writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
        command.arg("serve").arg("-c").arg(&file);
        for listen in ["--rtmp", "--rtsp", "--srt", "--webrtc", "--http"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(folder.join("data")).args(["--log", LOG]).envs(env.iter().copied());
        Self { arcly: Arcly::start(&mut command), folder }
    }

    /// Where the server listens for that protocol.
    pub(crate) fn addr(&self, protocol: &str) -> SocketAddr {
        self.arcly.addr(protocol)
    }

    /// The RTMP URL of a stream.
    pub(crate) fn rtmp(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.addr("rtmp"))
    }

    /// The HTTP-FLV URL of a stream.
    pub(crate) fn flv(&self, path: &str) -> String {
        format!("http://{}/{path}.flv", self.addr("http"))
    }

    /// A file of this test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        self.arcly.log()
    }

    /// What the API says at that path; null when it says 404.
    pub(crate) fn api(&self, path: &str) -> Value {
        let answer = http::get(self.addr("http"), path, LIMIT).expect("the API answers");
        match answer.status {
            404 => Value::Null,
            200 => serde_json::from_slice(&answer.body).expect("the API speaks JSON"),
            status => panic!("GET {path}: {status}\n{}", answer.text()),
        }
    }

    /// Asks the API to start a relay.
    pub(crate) fn relay(&self, from: &str, to: &str) {
        let body = serde_json::json!({ "from": from, "to": to }).to_string();
        let answer = http::request(self.addr("http"), "POST", "/api/v1/relays", &body, LIMIT);
        let answer = answer.expect("the API answers");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// Waits until the API says so of a stream, and returns what it says.
    pub(crate) fn until(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.until_api(&format!("/api/v1/streams/{path}"), what, is_so)
    }

    /// Waits until the API says so at that path, and returns what it says.
    pub(crate) fn until_api(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let shown = self.api(path);
            if is_so(&shown) {
                return shown;
            }
            assert!(Instant::now() < end, "{path}: still not {what} after {LIMIT:?}: {shown:#}");
            std::thread::sleep(POLL);
        }
    }

    /// Ends a reader by the API.
    pub(crate) fn end_reader(&self, id: u64) {
        let path = format!("/api/v1/readers/{id}");
        let answer = http::request(self.addr("http"), "DELETE", &path, "", LIMIT).expect("the API answers");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Waits until that many readers read the stream, or wait for it.
    pub(crate) fn until_readers(&self, path: &str, count: u64) {
        self.until(path, &format!("{count} readers"), |stream| {
            stream["readers"].as_u64().unwrap_or(0) + stream["waiting"].as_u64().unwrap_or(0) == count
        });
    }

    /// Starts `ffmpeg` to receive `url` and list its packets.
    pub(crate) fn ffmpeg_plays(&self, name: &str, ffmpeg: &Path, url: &str) -> Player {
        self.ffmpeg_plays_with(name, ffmpeg, &[], url)
    }

    /// The same for Enhanced RTMP, which FFmpeg 9 understands but does not announce unless told to.
    pub(crate) fn enhanced_ffmpeg_plays(&self, name: &str, ffmpeg: &Path, url: &str) -> Player {
        self.ffmpeg_plays_with(name, ffmpeg, &["-rtmp_enhanced_codecs", FOURCCS], url)
    }

    fn ffmpeg_plays_with(&self, name: &str, ffmpeg: &Path, options: &[&str], url: &str) -> Player {
        let output = self.file(&format!("{name}.framehash"));
        let mut command = framehash::command(ffmpeg, options, url, &output);
        // Into a file as well, to be decoded later.
        command
            .args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "flv", "-y"])
            .arg(self.copy_of(name));
        Player { program: Program::start(name, &mut command), output }
    }

    /// The file into which the FFmpeg of that name wrote what it received.
    pub(crate) fn copy_of(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.flv"))
    }

    /// Starts rtmpdump to write the stream at `url` to a file.
    pub(crate) fn rtmpdump_plays(&self, rtmpdump: &Path, url: &str) -> Player {
        let output = self.file("rtmpdump.flv");
        let mut command = Command::new(rtmpdump);
        command.args(["--live", "-r", url, "-o"]).arg(&output);
        Player { program: Program::start("rtmpdump", &mut command), output }
    }

    /// Starts GStreamer's `rtmp2src` to write the stream at `url` to a file.
    pub(crate) fn gstreamer_plays(&self, gst_launch: &Path, url: &str) -> Player {
        let output = self.file("gstreamer.flv");
        let mut command = Command::new(gst_launch);
        command.arg("-q").arg("rtmp2src").arg(format!("location={url}")).args(["!", "filesink"]);
        command.arg(format!("location={}", output.display()));
        Player { program: Program::start("gstreamer", &mut command), output }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- arcly, last lines:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A program that receives a stream until it ends.
pub(crate) struct Player {
    pub(crate) program: Program,
    output: PathBuf,
}

impl Player {
    /// Waits for the end of the stream: what was received, as an FFmpeg lists it. Anything that FFmpeg had to
    /// complain about fails the test.
    pub(crate) fn listing(mut self) -> Listing {
        self.program.end_ok(LIMIT);
        framehash::read(&self.output)
    }

    /// Waits for the end of the stream: what is in the file that was written, keyframe marks included.
    pub(crate) fn packets(mut self, ffprobe: &Path) -> Vec<Packet> {
        self.program.end_ok(LIMIT);
        ffprobe::packets(ffprobe, &self.output.display().to_string())
    }
}

/// Starts `ffmpeg` to publish a file as it is, in real time.
pub(crate) fn publish(name: &str, ffmpeg: &Path, file: &Path, url: &str) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re", "-i"]).arg(file);
    command.args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "flv", url]);
    Program::start(name, &mut command)
}

/// The same over and over, for tests that take as long as the machine does.
pub(crate) fn publish_on(name: &str, ffmpeg: &Path, file: &Path, url: &str) -> Program {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]).arg(file);
    command.args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "flv", url]);
    Program::start(name, &mut command)
}

/// Waits until a program has written some media into a file.
pub(crate) fn until_written(file: &Path) {
    let end = Instant::now() + LIMIT;
    while std::fs::metadata(file).map_or(0, |file| file.len()) < 32 << 10 {
        assert!(Instant::now() < end, "{} stays empty", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that a player received what was sent: the same tracks, and on each the same packets, bit for bit, with the
/// same times relative to the first.
///
/// The codec configuration has to be there but may be written in another way.
pub(crate) fn assert_received(sent: &Listing, got: &Listing, who: &str) {
    eprintln!("{who}: {} packets", got.packets.len());
    let tracks = |listing: &Listing| -> Vec<(String, bool)> {
        listing.tracks.iter().map(|track| (track.codec.clone(), track.config.is_some())).collect()
    };
    assert_eq!(tracks(sent), tracks(got), "{who}: tracks sent, and received");
    ffprobe::assert_same(&sent.packets, &got.packets, Times::Shifted);
}

/// Asserts that every picture and every sound of a file can be decoded.
pub(crate) fn assert_decodes(ffmpeg: &Path, file: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-xerror", "-i"]).arg(file);
    process::run_ok(command.args(["-map", "0:v?", "-map", "0:a?", "-f", "null", "-"]), LIMIT);
}
