//! The rows of the catalogue of bad inputs about relays: where they may lead (H21), and that none feeds itself (H23).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use serde_json::Value;
use support::bench::Bench;
use support::eventually;
use support::feed::Feed;
use support::http::{Answer, FlvReader, Http, get};
use support::peer::{PATIENCE, Peer};

/// Somebody with credentials for the API, who may be anywhere.
const ADMIN: &str = "Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==\r\n";
const CREDENTIALS: &str = "[[auth.users]]\nname = 'admin'\npassword = 'correct horse'\nactions = ['api']\n";

fn post(bench: &Bench, from: &str, to: &str) -> Answer {
    let body = serde_json::json!({ "from": from, "to": to }).to_string();
    let head = format!("{ADMIN}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let mut http = Http::open(bench.http);
    http.request("POST /api/v1/relays", &head).send(body.as_bytes()).answer().expect("an answer")
}

/// The relays there are.
fn relays(bench: &Bench) -> Vec<Value> {
    let answer = Http::open(bench.http).request("GET /api/v1/relays", ADMIN).answer().expect("an answer");
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    json["items"].as_array().unwrap().clone()
}

/// Waits until the relay that goes to `to` says something about its failure that contains `words`.
#[track_caller]
fn fails(bench: &Bench, to: &str, words: &str) {
    let error = || {
        let relay = relays(bench).into_iter().find(|relay| relay["to"] == to);
        relay.and_then(|relay| Some(relay["last_error"].as_str()?.to_owned()))
    };
    let so = eventually(PATIENCE, || error().is_some_and(|error| error.contains(words)));
    assert!(so, "the relay to {to} does not say {words:?}: {:?}", error());
}

#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["reason"], reason);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{words:?}: {problem}");
}

/// A server that nobody may be led to.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    #[track_caller]
    fn is_alone(&self) {
        let came = self.0.accept().map(|(_, peer)| peer).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "somebody was led here");
    }

    fn is_reached(&self) -> bool {
        eventually(PATIENCE, || self.0.accept().is_ok())
    }
}

#[test]
fn h21_addresses_that_only_the_server_reaches() {
    let bench = Bench::start_alone(&[], CREDENTIALS);
    let canary = Canary::new();
    let port = canary.addr().port();
    let hosts = [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("127.255.255.254", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f000001", "loopback"),
        ("127.1", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("[::]", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.3.4", "private"),
        ("192.168.1.1", "private"),
        ("[fd00::1]", "private"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("[::ffff:169.254.169.254]", "link-local"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
    ];
    for (host, class) in hosts {
        let [http, rtmp, rtsp] =
            ["http", "rtmp", "rtsp"].map(|scheme| format!("{scheme}://{host}:{port}/live/a"));
        for url in [http + ".flv", rtmp, rtsp] {
            refused(&post(&bench, &url, "live/a"), 403, "forbidden", class);
            refused(&post(&bench, "live/a", &url), 403, "forbidden", class);
        }
    }
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/x", "rtsp://[::1]:api", "rtmp://[::1]:api/live/a"] {
        assert_eq!(post(&bench, url, "live/a").status, 400, "{url}");
    }
    assert_eq!(relays(&bench), Vec::<Value>::new());
    canary.is_alone();
}

#[test]
fn h21_redirects_are_not_followed() {
    let bench = Bench::start_alone(&[], &format!("[auth]\nprivate_relays = true\n{CREDENTIALS}"));
    let (canary, listener) = (Canary::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let at = listener.local_addr().unwrap();
    assert_eq!(post(&bench, &format!("http://{at}/live/a.flv"), "live/a").status, 201, "it is configured");
    let (mut socket, _) = listener.accept().unwrap();
    let mut head = [0; 4_096];
    assert!(socket.read(&mut head).unwrap() > 0);
    let to = canary.addr();
    write!(socket, "HTTP/1.1 302 Found\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n").unwrap();
    fails(&bench, "live/a", "302");
    canary.is_alone();
}

#[test]
fn h21_the_operator_may_relay_anything() {
    let canary = Canary::new();
    let relay = format!("[[relays]]\nfrom = 'http://{}/live/a.flv'\nto = 'live/a'\n", canary.addr());
    let _bench = Bench::start_alone(&[], &format!("{CREDENTIALS}{relay}"));
    assert!(canary.is_reached(), "a relay of the configuration goes wherever it is sent");
}

#[test]
fn h21_without_credentials_only_loopback_asks() {
    let (bench, canary) = (Bench::start_alone(&[], ""), Canary::new());
    assert_eq!(post(&bench, &format!("http://{}/live/a.flv", canary.addr()), "live/a").status, 201);
    assert!(canary.is_reached());
}

#[test]
fn h23_a_server_that_feeds_itself() {
    let bench = Bench::start_alone(&["--http", "127.0.0.1:0"], "");
    let (rtmp, http) = (bench.rtmp, bench.http);
    for (from, to) in [
        ("live/a".to_owned(), format!("rtmp://{rtmp}/live/a")),
        (format!("rtmp://{rtmp}/live/a"), "live/a".to_owned()),
        ("live/a".to_owned(), format!("rtmp://localhost:{}/live/a?x=y", rtmp.port())),
        ("live/a".to_owned(), format!("http://{http}/live/a.flv")),
        (format!("http://{http}/live/%61.flv"), "live/a".to_owned()),
    ] {
        refused(&post(&bench, &from, &to), 409, "conflict", "live/a");
    }
    assert_eq!(post(&bench, "live/a", "live/b").status, 201);
    let second = post(&bench, "live/b", &format!("rtmp://{rtmp}/live/c"));
    assert_eq!(second.status, 201);
    let back = format!("http://{http}/live/c.flv");
    refused(&post(&bench, &back, "live/a"), 409, "conflict", "live/c");
    assert_eq!(post(&bench, &back, "live/d").status, 201, "a tree is no loop");
    let second = second.header("location").unwrap().to_owned();
    let stopped = Http::open(http).request(&format!("DELETE {second}"), "").answer().expect("an answer");
    assert_eq!(stopped.status, 204);
    assert_eq!(post(&bench, &back, "live/a").status, 201, "the loop was opened elsewhere");
}

#[test]
fn h23_a_configuration_that_feeds_itself() {
    let relay = |from, to| format!("[[relays]]\nfrom = '{from}'\nto = '{to}'\n");
    let bench = Bench::start_alone(&[], &(relay("live/a", "live/b") + &relay("live/b", "live/a")));
    let loops = || {
        let says =
            |relay: &Value| relay["last_error"].as_str().is_some_and(|error| error.contains("conflict"));
        relays(&bench).iter().filter(|relay| says(relay)).count()
    };
    assert!(eventually(PATIENCE, || loops() == 1), "one of the two gives way: {:?}", relays(&bench));
}

/// Two servers where the newcomer wins, and a camera on the first.
struct Loop {
    a: Bench,
    b: Bench,
    camera: Peer,
    feed: Feed,
}

impl Loop {
    fn new() -> Self {
        let start = || Bench::start_alone(&["--rtsp", "127.0.0.1:0"], "apps.default.takeover = 'replace'\n");
        let (a, b) = (start(), start());
        let (mut camera, mut feed) = (Peer::open(a.rtmp).publishing("cam"), Feed::new());
        feed.headers().iter().for_each(|tag| _ = camera.tag(tag));
        camera.tag(&feed.frame());
        Self { a, b, camera, feed }
    }

    /// The camera goes on until `done`; false when it takes too long.
    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        eventually(PATIENCE, || {
            self.camera.tag(&self.feed.frame());
            self.camera.wait_end(Duration::from_millis(20));
            done(self)
        })
    }
}

#[test]
fn h23_two_servers_that_feed_each_other() {
    let pushes = |bench: &Bench, to: &str| assert_eq!(post(bench, "live/cam", to).status, 201);
    let pulls = |bench: &Bench, from: &str| assert_eq!(post(bench, from, "live/cam").status, 201);
    for (scheme, there_by_push, back_by_push) in [
        ("rtmp", true, true),
        ("rtmp", true, false),
        ("rtmp", false, true),
        ("rtmp", false, false),
        ("http", true, true),
        ("http", false, false),
        ("rtsp", true, true),
        ("rtsp", true, false),
        ("rtsp", false, true),
        ("rtsp", false, false),
    ] {
        let mut servers = Loop::new();
        let url = |bench: &Bench| match scheme {
            "rtmp" => format!("rtmp://{}/live/cam", bench.rtmp),
            "rtsp" => format!("rtsp://{}/live/cam", bench.addr("rtsp")),
            _ => format!("http://{}/live/cam.flv", bench.http),
        };
        let (a, b) = (&servers.a, &servers.b);
        if there_by_push {
            pushes(a, &url(b))
        } else {
            pulls(b, &url(a))
        }
        let is_there =
            |servers: &Loop| get(servers.b.http, "/api/v1/streams/live/cam").body.contains("frames_in");
        assert!(servers.until(is_there), "{scheme}: it does not get there");
        let (a, b) = (&servers.a, &servers.b);
        if back_by_push {
            pushes(b, &url(a))
        } else {
            pulls(a, &url(b))
        }
        let refused = |servers: &Loop| {
            let closing = if back_by_push { &servers.b } else { &servers.a };
            let last = relays(closing).into_iter().next_back().unwrap();
            last["last_error"].as_str().is_some_and(|error| error.to_lowercase().contains("conflict"))
        };
        let way = format!("{scheme}, there by push: {there_by_push}, back by push: {back_by_push}");
        assert!(servers.until(refused), "{way}: {:?} {:?}", relays(&servers.a), relays(&servers.b));
        assert!(!servers.camera.ended, "{way}: the camera stays, though whoever comes later wins");
        let mut reader = FlvReader::open(servers.b.http, "/live/cam.flv").expect("the stream");
        reader.next_tag(Instant::now() + PATIENCE).expect("it goes on over there");
    }
}

#[test]
fn h23_by_way_of_a_server_that_only_passes_on_the_metadata() {
    let mut servers = Loop::new();
    let mut player = Peer::open(servers.a.rtmp).playing("cam");
    let end = Instant::now() + PATIENCE;
    let metadata =
        std::iter::from_fn(|| player.next_tag(end)).find(|tag| tag.body.windows(8).any(|w| w == b"arclyVia"));
    let metadata = metadata.expect("where it comes from");
    let mut back = Peer::open(servers.a.rtmp).publishing("cam");
    let mut feed = Feed::new();
    feed.headers().iter().filter(|tag| tag.kind != TagKind::Script).for_each(|tag| _ = back.tag(tag));
    back.tag(&metadata).tag(&feed.frame());
    assert!(back.wait_end(PATIENCE), "not closed");
    assert!(back.codes.iter().any(|code| code == "NetStream.Publish.BadName"), "{:?}", back.codes);
    // Nothing tells it from any other newcomer before that, and newcomers win here.
    assert!(servers.camera.wait_end(PATIENCE));
}
