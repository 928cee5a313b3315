use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use arcly_testkit::process::{Arcly, Guard, run};

use crate::client::{PATIENCE, arcly, get, start};

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(command, PATIENCE);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn every_listener_has_its_line_and_ready_comes_last() {
    let server = start(&[]);
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], format!("listening protocol=rtmp addr={}", server.addr("rtmp")));
    assert_eq!(lines[1], format!("listening protocol=http addr={}", server.addr("http")));
    assert_eq!(lines[2], "ready");
    assert_ne!(server.addr("http").port(), 0);
}

#[test]
fn listeners_can_be_off() {
    let server =
        Arcly::start(&mut arcly(&["serve", "--rtmp", "off", "--http", "127.0.0.1:0", "--srt", "off"]));
    assert!(!server.log().contains("protocol=rtmp"), "{}", server.log());
}

#[test]
fn the_last_of_a_flag_counts() {
    let server = Arcly::start(&mut arcly(&[
        "serve",
        "--rtmp",
        ":1935",
        "--http",
        "off",
        "--http",
        "127.0.0.1:0",
        "--rtmp",
        "off",
    ]));
    assert!(server.addr("http").port() != 0 && !server.log().contains("protocol=rtmp"), "{}", server.log());
}

#[test]
fn what_the_user_must_change_ends_with_2_and_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--rtmp", &taken, "--http", "off"], &["cannot listen", &taken, "in use"]),
        (&["--rtmp", "nonsense"], &["nonsense"]),
        (&["--webrtc", "nonsense"], &["nonsense"]),
        (&["-c", "/nonexistent/arcly.toml"], &["/nonexistent/arcly.toml"]),
        (&["--log", "a=b=c=d"], &["log.filter"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["relay", "rtmp://h/live/a", "out.avi"], &["out.avi", ".flv", ".ts"]),
        (&["relay", "gopher://h/a", "out.flv"], &["gopher"]),
        (&["probe", "nowhere"], &["nowhere"]),
    ];
    for (args, words) in cases {
        let (code, _, stderr) = output(&mut arcly(args));
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        for word in *words {
            assert!(stderr.contains(word), "{args:?}: {word:?} is not in {stderr:?}");
        }
    }
}

#[test]
fn flag_beats_environment_beats_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arcly.toml");
    std::fs::write(&file, "[rtmp]\nlisten = 'off'\n[http]\nlisten = 'off'\n").unwrap();
    let mut command = arcly(&["-c", file.to_str().unwrap(), "--http", "127.0.0.1:0"]);
    command.env("ARCLY_HTTP__LISTEN", "nonsense:0").env("ARCLY_RTMP__LISTEN", "127.0.0.1:0");
    // The variable is not even an address that can be bound, and the flag is still what counts.
    let server = Arcly::start(&mut command);
    assert!(server.addr("http").port() != 0 && server.addr("rtmp").port() != 0);
}

#[test]
fn check_prints_the_effective_configuration_or_names_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arcly.toml");
    std::fs::write(&file, "[apps.live]\ngrace = '3s'\n").unwrap();
    let path = file.to_str().unwrap();
    let (code, stdout, stderr) = output(arcly(&["check", "-c", path]).env("ARCLY_RTMP__LISTEN", ":1940"));
    assert_eq!(code, Some(0), "{stderr}");
    let printed = arcly_server::Config::from_toml(&stdout).unwrap();
    assert_eq!(printed.apps["live"].grace.to_string(), "3s");
    assert_eq!(printed.rtmp.listen.to_string(), ":1940");

    std::fs::write(&file, "[apps.live]\ngrase = '3s'\n").unwrap();
    let (code, _, stderr) = output(&mut arcly(&["check", "-c", path]));
    assert_eq!(code, Some(2));
    for word in ["line 2", "grase", "did you mean `grace`?"] {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn json_logs_are_json() {
    let server = start(&["demo", "--log-format", "json"]);
    assert!(server.wait_for_log("\"message\":\"publishing\"", PATIENCE), "{}", server.log());
    for line in server.log().lines().filter(|line| line.starts_with('{')) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = event["timestamp"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut command = arcly(&["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.args(["--rtsp", "off", "--srt", "off", "--webrtc", "off"]);
    let mut server = Guard::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
    let mut stderr = BufReader::new(server.child().stderr.take().unwrap());
    let mut listening: BTreeMap<String, SocketAddr> = BTreeMap::new();
    loop {
        let mut line = String::new();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it has ended");
        if line == "ready\n" {
            break;
        }
        let (protocol, addr) =
            line.trim().strip_prefix("listening protocol=").unwrap().split_once(' ').unwrap();
        listening.insert(protocol.to_owned(), addr.strip_prefix("addr=").unwrap().parse().unwrap());
    }
    // From here on nobody reads the pipe, which holds 64 KiB: some 350 of these lines.
    for _ in 0..1_000 {
        let mut stranger = TcpStream::connect(listening["rtmp"]).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(b"x").unwrap();
        // Closed with a reset or without.
        let closed = stranger.read(&mut [0]);
        assert!(!matches!(&closed, Err(error) if error.kind() == ErrorKind::WouldBlock), "{closed:?}");
    }
    assert_eq!(get(listening["http"], "/healthz", "GET", "").status, 200);
    // And it ends, though what waits cannot be written.
    server.signal("TERM");
    assert!(server.wait_for(PATIENCE).is_some_and(|status| status.success()));
}
