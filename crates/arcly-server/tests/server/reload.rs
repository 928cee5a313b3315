//! A configuration that changes while the server runs (F61).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use arcly_testkit::process::Arcly;

use crate::client::{PATIENCE, arcly, get, send_json, wait_until};

fn write(file: &Path, config: &str) {
    std::fs::write(file, config).unwrap();
}

fn demo(file: &Path) -> Arcly {
    let flags = ["demo", "--rtmp", "off", "--http", "127.0.0.1:0", "-c"];
    let server = Arcly::start(arcly(&flags).arg(file));
    let http = server.addr("http");
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", "").status == 200);
    server
}

const OPEN: &str = "[limits]\nreaders_per_stream = 10\n";
const CLOSED: &str = "
    data_dir = 'elsewhere'
    [[auth.users]]
    name = 'studio'
    password = 'correct horse'
    actions = ['publish', 'play', 'api']
    [http]
    cors_origins = ['https://page.example']
    [log]
    filter = 'debug'
";

#[test]
fn f61_what_can_change_changes_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arcly.toml");
    write(&file, OPEN);
    let mut server = demo(&file);
    let http = server.addr("http");
    let mut reader = TcpStream::connect(http).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(reader, "GET /live/demo.flv HTTP/1.1\r\nHost: {http}\r\n\r\n").unwrap();
    let mut goes_on = || reader.read_exact(&mut [0; 20_000]).is_ok();
    assert!(goes_on());

    write(&file, CLOSED);
    server.process().signal("HUP");
    assert!(server.wait_for_log("need a restart", PATIENCE), "{}", server.log());
    let log = server.log();
    let named = log.lines().find(|line| line.contains("need a restart")).unwrap();
    assert!(named.contains("data_dir") && !named.contains("auth") && !named.contains("filter"), "{named}");
    let head = |login: &str| {
        get(http, "/live/demo.flv", "HEAD", &format!("Origin: https://other.example\r\n{login}"))
    };
    assert_eq!(head("").status, 401, "new sessions need credentials");
    let known = head("Authorization: Basic c3R1ZGlvOmNvcnJlY3QgaG9yc2U=\r\n");
    assert_eq!((known.status, known.header("access-control-allow-origin")), (200, None));
    assert_eq!(get(http, "/api/v1/streams", "GET", "").status, 401, "so does the API");
    assert!(server.wait_for_log("DEBUG", PATIENCE), "the log says more");
    assert!(goes_on(), "who was let in stays in");

    write(&file, "[limits]\nstreams = 1\n");
    server.process().signal("HUP");
    // Who may is decided before how much there may be: said is what is in force as a whole.
    let in_force = || server.log().matches("the configuration is in force").count();
    wait_until("all of it is in force", || in_force() == 2);
    assert_eq!(head("").status, 200, "everybody may again");
    assert!(goes_on());
    let refused = send_json(http, "/live/one-more.flv", "POST", "FLV");
    assert_eq!(
        (refused.status, &refused.json()["reason"]),
        (413, &"limit(streams)".into()),
        "the limit counts"
    );
}

#[test]
fn f61_what_cannot_be_used_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arcly.toml");
    write(&file, CLOSED.trim_end());
    let flags = ["demo", "--rtmp", "off", "--http", "127.0.0.1:0", "-c"];
    let mut server = Arcly::start(arcly(&flags).arg(&file));
    let http = server.addr("http");
    let bad = [
        ("[limits]\nstraems = 3\n", "streams"),
        (
            "[[auth.users]]\nname = 'a'\npassword = { file = '/nonexistent' }\nactions = ['play']\n",
            "auth.users",
        ),
        ("[log]\nfilter = 'arcly=nolevel'\n", "log.filter"),
        ("not toml", "arcly.toml"),
    ];
    for (count, (config, names)) in bad.into_iter().enumerate() {
        write(&file, config);
        server.process().signal("HUP");
        let refusals = || {
            let log = server.log();
            let lines = log.lines().filter(|line| line.contains("the configuration has not changed"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        wait_until("it is refused", || refusals().len() == count + 1);
        let last = refusals().pop().unwrap();
        assert!(last.contains(names), "{config}: {last}");
        assert_eq!(get(http, "/live/demo.flv", "HEAD", "").status, 401, "{config}: the old one is in force");
    }
}
