//! Streams pushed to and pulled from other servers: nginx-rtmp, FFmpeg in `-listen` mode, and arcly itself.

mod interop;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::clips;
use arcly_testkit::ffprobe::{self, Times};
use arcly_testkit::program::Program;
use arcly_testkit::{framehash, need, process};
use interop::{LIMIT, Scene, assert_received, publish};

const NGINX: &str = r#"
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
master_process off;
pid nginx.pid;
error_log stderr info;
events { worker_connections 64; }
rtmp {
    server {
        listen ADDR;
        application live { live on; sync 10ms; wait_key on; wait_video on; publish_notify on; }
    }
}
"#;

/// A loopback address that was free a moment ago; for programs that cannot choose a port by themselves.
fn free_addr() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address")
}

/// An nginx of its own, in the foreground.
fn start_nginx(nginx: &Path, folder: PathBuf) -> (Program, SocketAddr) {
    let addr = free_addr();
    std::fs::create_dir_all(folder.join("logs")).expect("the target folder is writable");
    std::fs::write(folder.join("nginx.conf"), NGINX.replace("ADDR", &addr.to_string())).expect("writable");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&folder).args(["-e", "stderr", "-c", "nginx.conf"]);
    let mut program = Program::start("nginx", &mut command);
    until_it_listens(&mut program, || TcpStream::connect(addr).is_ok());
    (program, addr)
}

fn until_it_listens(program: &mut Program, listens: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !listens() {
        assert!(program.process().try_wait().is_none(), "{} ended before it listened", program.name());
        assert!(Instant::now() < end, "{} does not listen", program.name());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True when a socket listens there; unlike a connection, this does not use up the only one `-listen` takes.
fn is_listening(addr: SocketAddr) -> bool {
    let port = format!(":{:04X} ", addr.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| format!("{local} ").ends_with(&port));
        // 0A is LISTEN.
        local && fields.nth(1) == Some("0A")
    })
}

/// An FFmpeg that waits for somebody to publish `url`, and lists what it receives.
fn listen(scene: &Scene, name: &str, ffmpeg: &Path, addr: SocketAddr, url: &str) -> Program {
    let options = ["-listen", "1", "-f", "flv"];
    let mut listener =
        Program::start(name, &mut framehash::command(ffmpeg, &options, url, &scene.file(name)));
    until_it_listens(&mut listener, || is_listening(addr));
    listener
}

#[test]
fn push_to_nginx() {
    let (ff5, nginx) = (need!(ffmpeg), need!(nginx));
    let scene = Scene::start("relay_push_nginx");
    let (nginx, addr) = start_nginx(&nginx, scene.file("nginx"));
    let upstream = format!("rtmp://{addr}/live/copy");
    let player = scene.ffmpeg_plays("player at nginx", &ff5, &upstream);
    nginx.expect_log("play: name='copy'", LIMIT);
    scene.relay("live/x", &upstream);
    scene.until_readers("live/x", 1);
    let file = clips::H264_AAC.file(&ff5);
    publish("publisher", &ff5, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    assert_received(&framehash::of_file(&ff5, &file), &player.listing(), "through nginx");
}

#[test]
fn push_to_ffmpeg() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let scene = Scene::start("relay_push_ffmpeg");
    let file = clips::H264_AAC.file(&ff5);
    let mut listeners = Vec::new();
    for (name, ffmpeg) in [("ffmpeg5", &ff5), ("ffmpeg9", &ff9)] {
        let addr = free_addr();
        let url = format!("rtmp://{addr}/live/copy");
        let listener = listen(&scene, name, ffmpeg, addr, &url);
        scene.relay("live/x", &url);
        listeners.push(listener);
    }
    scene.until_readers("live/x", 2);
    publish("publisher", &ff5, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    for mut listener in listeners {
        listener.end_ok(LIMIT);
        let name = listener.name().to_owned();
        assert_received(&framehash::of_file(&ff5, &file), &framehash::read(&scene.file(&name)), &name);
    }
}

/// What Enhanced RTMP carries goes out to a listener that understands it.
#[test]
fn push_hevc_to_ffmpeg_9() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start("relay_push_hevc");
    let file = clips::HEVC_AAC.file(&ff9);
    let addr = free_addr();
    let url = format!("rtmp://{addr}/live/copy");
    let mut listener = listen(&scene, "listener", &ff9, addr, &url);
    scene.relay("live/x", &url);
    scene.until_readers("live/x", 1);
    publish("publisher", &ff9, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    listener.end_ok(LIMIT);
    assert_received(&framehash::of_file(&ff9, &file), &framehash::read(&scene.file("listener")), "HEVC");
}

#[test]
fn pull_from_nginx() {
    let (ff5, nginx) = (need!(ffmpeg), need!(nginx));
    let scene = Scene::start("relay_pull_nginx");
    let (nginx, addr) = start_nginx(&nginx, scene.file("nginx"));
    let upstream = format!("rtmp://{addr}/live/x");
    scene.relay(&upstream, "live/pulled");
    nginx.expect_log("play: name='x'", LIMIT);
    let player = scene.ffmpeg_plays("player", &ff5, &scene.rtmp("live/pulled"));
    scene.until_readers("live/pulled", 1);
    let file = clips::H264_AAC.file(&ff5);
    publish("publisher", &ff5, &file, &upstream).end_ok(LIMIT);
    assert_received(&framehash::of_file(&ff5, &file), &player.listing(), "out of nginx");
}

/// A chain of three servers: pushed from the first to the second, pulled by the third over RTMP and HTTP-FLV.
#[test]
fn from_arcly_to_arcly_to_arcly() {
    let ff5 = need!(ffmpeg);
    let [origin, middle, edge] =
        ["origin", "middle", "edge"].map(|name| Scene::start(&format!("relay_{name}")));
    origin.relay("live/x", &middle.rtmp("live/x"));
    edge.relay(&middle.rtmp("live/x"), "live/by_rtmp");
    edge.relay(&middle.flv("live/x"), "live/by_http");
    let players = ["live/by_rtmp", "live/by_http"].map(|path| {
        let player = edge.ffmpeg_plays(path.trim_start_matches("live/"), &ff5, &edge.rtmp(path));
        edge.until_readers(path, 1);
        player
    });
    origin.until_readers("live/x", 1);
    middle.until_readers("live/x", 2);
    let file = clips::H264_AAC.file(&ff5);
    publish("publisher", &ff5, &file, &origin.rtmp("live/x")).end_ok(LIMIT);
    for player in players {
        let name = player.program.name().to_owned();
        assert_received(&framehash::of_file(&ff5, &file), &player.listing(), &name);
    }
}

/// The command line: a file to a server, and the server to a file.
#[test]
fn arcly_relay_reads_and_writes_files() {
    let (ff5, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scene = Scene::start("relay_files");
    let file = clips::H264_AAC.file(&ff5);
    let copy = scene.file("copy.flv");
    let relay = |name: &str, from: &str, to: &str| {
        Program::start(name, Command::new(env!("CARGO_BIN_EXE_arcly")).args(["relay", from, to]))
    };
    let text = |path: &Path| path.display().to_string();
    let mut writes = relay("from server to file", &scene.rtmp("live/x"), &text(&copy));
    scene.until_readers("live/x", 1);
    relay("from file to server", &text(&file), &scene.rtmp("live/x")).end_ok(LIMIT);
    writes.end_ok(LIMIT);
    let packets = |file: &Path| ffprobe::packets(&ffprobe, &text(file));
    ffprobe::assert_same(&packets(&file), &packets(&copy), Times::Shifted);
    let decodes = ["-v", "error", "-xerror", "-i", &text(&copy), "-f", "null", "-"];
    process::run_ok(Command::new(&ff5).args(decodes), LIMIT);
}
