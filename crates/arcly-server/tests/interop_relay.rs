//! Streams pushed to and pulled from other servers: nginx-rtmp, FFmpeg in `-listen` mode, and arcly itself.

mod interop;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::clips;
use arcly_testkit::ffprobe::{self, Times};
use arcly_testkit::framehash::Listing;
use arcly_testkit::ports::free_address;
use arcly_testkit::program::Program;
use arcly_testkit::{framehash, http, need, process};
use interop::{LIMIT, Player, Scene, assert_received, certificate, publish};

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

/// An nginx of its own, in the foreground.
fn start_nginx(nginx: &Path, folder: PathBuf) -> (Program, SocketAddr) {
    let addr = free_address();
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

/// An FFmpeg that waits for somebody to publish `url`, and lists what it receives.
fn listen(scene: &Scene, name: &str, ffmpeg: &Path, addr: SocketAddr, url: &str) -> Program {
    let options = ["-listen", "1", "-f", "flv"];
    let mut listener =
        Program::start(name, &mut framehash::command(ffmpeg, &options, url, &scene.file(name)));
    until_it_listens(&mut listener, || process::is_listening(addr.port()));
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
    let file = clips::ONE_GOP.file(&ff5);
    publish("publisher", &ff5, &file, &scene.rtmp("live/x")).end_ok(LIMIT);
    assert_received(&framehash::of_file(&ff5, &file), &player.listing(), "through nginx");
}

#[test]
fn push_to_ffmpeg() {
    let (ff5, ff9) = (need!(ffmpeg), need!(ffmpeg9));
    let scene = Scene::start("relay_push_ffmpeg");
    let file = clips::ONE_GOP.file(&ff5);
    let mut listeners = Vec::new();
    for (name, ffmpeg) in [("ffmpeg5", &ff5), ("ffmpeg9", &ff9)] {
        let addr = free_address();
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
    let addr = free_address();
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
    let file = clips::ONE_GOP.file(&ff5);
    publish("publisher", &ff5, &file, &origin.rtmp("live/x")).end_ok(LIMIT);
    for player in players {
        let name = player.program.name().to_owned();
        assert_received(&framehash::of_file(&ff5, &file), &player.listing(), &name);
    }
}

/// The same over WebRTC: pushed by WHIP, pulled and probed by WHEP. Pictures arrive as they were sent, and
/// none is missing but those for which there was no room, as a machine that is busy may believe of its own loopback.
#[test]
fn from_arcly_to_arcly_to_arcly_over_webrtc() {
    let ff5 = need!(ffmpeg);
    let file = clips::H264_BASELINE.file(&ff5);
    let [origin, middle, edge] =
        ["origin", "middle", "edge"].map(|name| Scene::start(&format!("relay_webrtc_{name}")));
    let at = |role: &str| format!("{role}+http://{}/live/x/{role}", middle.addr("http"));
    origin.relay("live/x", &at("whip"));
    edge.relay(&at("whep"), "live/copy");
    let player = edge.ffmpeg_plays("player", &ff5, &edge.rtmp("live/copy"));
    edge.until_readers("live/copy", 1);
    // Over and over, so that nobody comes too late on a machine that is busy.
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]).arg(&file);
    let mut publisher =
        Program::start("publisher", command.args(["-c", "copy", "-f", "flv", &origin.rtmp("live/x")]));
    middle.until("live/x", "live", |stream| stream["publisher"]["protocol"] == "webrtc");
    let mut probe = Command::new(env!("CARGO_BIN_EXE_arcly"));
    let report = process::run_ok(probe.args(["probe", "--json", "--time", "1s", &at("whep")]), LIMIT);
    assert!(report.contains("\"h264\"") && report.contains("320"), "{report}");
    edge.until("live/copy", "there for a while", |stream| stream["frames_in"].as_u64() >= Some(90));
    publisher.signal("INT");
    publisher.end(LIMIT);
    let (sent, got) = (framehash::of_file(&ff5, &file).packets, player.listing().packets);
    let mut left = sent.iter().cycle().skip_while(|packet| packet.hash != got[0].hash);
    let skipped = got.iter().map(|packet| {
        let ahead = left.by_ref().take(sent.len()).position(|sent| sent.hash == packet.hash);
        ahead.unwrap_or_else(|| panic!("never sent: {packet:?}"))
    });
    // The push leaves out what its link has no room for, and so does the server in the middle; of the push nobody is told.
    let (skipped, thinned) = (skipped.sum::<usize>(), pictures_left_out(&middle));
    eprintln!("over WebRTC: {} packets, {skipped} skipped, {thinned} left out in the middle", got.len());
    assert!(got.len() >= 30, "{skipped} of {}", got.len());
}

/// The same over HTTPS, whose certificate the origin and the edge trust because they are told to. Whoever is not told so is shown nothing.
#[test]
fn whip_and_whep_over_https() {
    let ff5 = need!(ffmpeg);
    let file = clips::H264_BASELINE.file(&ff5);
    let ((cert, config), (other, _)) = (certificate("webrtc_shown"), certificate("webrtc_other"));
    let middle = Scene::start_with("relay_https_middle", &config, &[]);
    let at = |role: &str| format!("{role}+https://{}/live/x/{role}", middle.addr("https"));
    let trusting = |name: &str| Scene::start_with(name, "", &[("SSL_CERT_FILE", &cert)]);
    let (origin, edge) = (trusting("relay_https_origin"), trusting("relay_https_edge"));
    origin.relay("live/x", &at("whip"));
    edge.relay(&at("whep"), "live/copy");
    let player = edge.ffmpeg_plays("player", &ff5, &edge.rtmp("live/copy"));
    edge.until_readers("live/copy", 1);
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]).arg(&file);
    let mut publisher =
        Program::start("publisher", command.args(["-c", "copy", "-f", "flv", &origin.rtmp("live/x")]));
    edge.until("live/copy", "there for a while", |stream| stream["frames_in"].as_u64() >= Some(60));
    let url = at("whep");
    let probe = |trusted: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
        command.args(["probe", "--json", "--time", "1s", &url]);
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        command
    };
    let report = process::run_ok(&mut probe(&cert), LIMIT);
    assert!(report.contains("\"h264\""), "{report}");
    let refused = process::run(&mut probe(&other), LIMIT);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("certificate"), "{said}");
    publisher.signal("INT");
    publisher.end(LIMIT);
    assert_sent(player, &framehash::of_file(&ff5, &file));
}

/// Asserts that a player has got something, and that every picture of it is one that was sent.
fn assert_sent(player: Player, sent: &Listing) {
    let got = player.listing().packets;
    let is_sent = |hash: &str| sent.packets.iter().any(|packet| packet.hash == hash);
    assert!(got.len() >= 30 && got.iter().all(|packet| is_sent(&packet.hash)), "{} packets", got.len());
}

/// A server whose UDP goes nowhere: what it names as its own is a port of UDP that takes datagrams and answers none, and beside it one of
/// TCP from which connections go on to the server.
struct Firewall {
    udp: UdpSocket,
    connections: TcpListener,
}

impl Firewall {
    /// In front of a server that begins with this [configuration](Self::config).
    fn new() -> Self {
        let pair = || {
            let connections = TcpListener::bind("127.0.0.1:0").ok()?;
            let udp = UdpSocket::bind(connections.local_addr().ok()?).ok()?;
            Some(Self { udp, connections })
        };
        // The other's port may be taken.
        (0..100).find_map(|_| pair()).expect("a free port of both")
    }

    fn config(&self) -> String {
        format!("[webrtc]\npublic_port = {}\n", self.connections.local_addr().expect("bound").port())
    }

    /// Lets connections through from now on. Gives the port that swallows what comes.
    fn open(self, server: SocketAddr) -> UdpSocket {
        let Self { udp, connections } = self;
        std::thread::spawn(move || {
            for outside in connections.incoming().flatten() {
                let inside = TcpStream::connect(server).expect("the server listens");
                let ends = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                let ways = [(ends(&outside), ends(&inside)), (inside, outside)];
                for (mut from, mut to) in ways {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        udp
    }
}

/// Where a firewall lets no UDP through a push by WHIP and a pull by WHEP go over connections.
#[test]
fn whip_and_whep_go_over_tcp_where_udp_does_not_get_through() {
    let ff5 = need!(ffmpeg);
    let file = clips::H264_BASELINE.file(&ff5);
    let firewall = Firewall::new();
    let middle = Scene::start_with("relay_tcp_middle", &firewall.config(), &[]);
    let swallowed = firewall.open(middle.addr("webrtc-tcp"));
    let [origin, edge] = ["origin", "edge"].map(|name| Scene::start(&format!("relay_tcp_{name}")));
    let at = |role: &str| format!("{role}+http://{}/live/x/{role}", middle.addr("http"));
    origin.relay("live/x", &at("whip"));
    edge.relay(&at("whep"), "live/copy");
    let player = edge.ffmpeg_plays("player", &ff5, &edge.rtmp("live/copy"));
    edge.until_readers("live/copy", 1);
    let mut publisher = interop::publish_on("publisher", &ff5, &file, &origin.rtmp("live/x"));
    middle.until("live/x", "pushed over TCP", |stream| stream["publisher"]["webrtc"]["protocol"] == "tcp");
    edge.until("live/copy", "there for a while", |stream| stream["frames_in"].as_u64() >= Some(60));
    let is_pulled = |reader: &serde_json::Value| reader["webrtc"]["protocol"] == "tcp";
    middle.until_api("/api/v1/readers", "pulled over TCP", |readers| {
        readers["items"].as_array().is_some_and(|readers| readers.iter().any(is_pulled))
    });
    // UDP was tried.
    swallowed.set_read_timeout(Some(LIMIT)).expect("a time");
    assert!(swallowed.recv(&mut [0; 1_500]).expect("a check") > 20);
    publisher.signal("INT");
    publisher.end(LIMIT);
    assert_sent(player, &framehash::of_file(&ff5, &file));
}

/// Pictures for which viewers' links had no room, in all sessions over WebRTC that a server had; waits until the last one is over.
fn pictures_left_out(scene: &Scene) -> usize {
    let end = Instant::now() + LIMIT;
    loop {
        let metrics = http::get(scene.addr("http"), "/metrics", LIMIT).expect("it answers").text();
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}:\n{metrics}")).trim().parse::<usize>().expect("a number")
        };
        if value("arcly_webrtc_sessions ") == 0 {
            return value("arcly_webrtc_frames_thinned_total ");
        }
        assert!(Instant::now() < end, "sessions do not end:\n{metrics}");
        std::thread::sleep(Duration::from_millis(20));
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
