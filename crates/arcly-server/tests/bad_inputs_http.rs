//! The HTTP rows of the catalogue of bad inputs: requests, the API, credentials; over real sockets, next to a stream
//! that nothing may disturb.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arcly_core::contract::auth::{ActionSet, Claims, NameRule, mint};
use arcly_testkit::media::Source;
use support::bench::{Bench, Row};
use support::feed::Feed;
use support::http::{FlvPublisher, FlvReader, Http, Scraper, get};
use support::peer::{PATIENCE, Peer};

const MIB: u64 = 1 << 20;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// Requests.

#[test]
fn h01_h03_paths_that_lead_elsewhere() {
    let paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/..%5c..%5cetc/passwd",
        "/live/a%00.flv",
        "//etc/passwd",
        "/a/../../../etc/passwd",
        "/%252e%252e/etc/passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "/assets/../../etc/passwd",
        "/assets/..%2f..%2f..%2fCargo.toml",
        "/assets/%2e%2e%2fconfig",
        "//evil.example/x",
        "//evil.example/%2f..",
        "/..%2f..%2fetc/passwd.flv",
        "/../live/witness.flv",
    ];
    let row = Row::new("H01, H03");
    let mut bodies = std::collections::BTreeSet::new();
    for path in paths {
        let answer = get(row.bench.http, path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.head);
        assert_eq!(answer.header("location"), None, "{path}");
        assert!(
            !answer.body.contains("root:") && !answer.body.contains("[package]"),
            "{path}: {}",
            answer.body
        );
        // What is no asset is told so wherever the path leads.
        if answer.status == 404 && !path.starts_with("/assets/") {
            bodies.insert(answer.body);
        }
    }
    assert!(bodies.len() <= 1, "an answer tells something: {bodies:#?}");
    row.finish(&[("http", "peer_closed", paths.len() as u64)], &[]);
}

#[test]
fn h02_a_head_of_two_mebibytes() {
    let row = Row::new("H02");
    let mut http = row.http();
    http.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n");
    for _ in 0..2_048 {
        http.send(&[&b"X-Long: "[..], &[b'a'; 1_014], b"\r\n"].concat());
    }
    // The answer may be lost in the reset that cuts off such a sender; the small one below always arrives.
    row.http_closed("limit(head)", http);
    for (id, name, fields, status, reason) in [
        ("H02 17 KiB", "", format!("X-Long: {}\r\n", "a".repeat(17 << 10)), 431, "limit(head)"),
        ("H02 101 fields", "", "A: b\r\n".repeat(101), 431, "limit(headers)"),
    ] {
        let row = Row::new(id);
        let mut http = row.http();
        let answer = http.request("GET /healthz", &format!("{name}{fields}")).answer().expect("an answer");
        assert_eq!(answer.status, status, "{id}");
        row.http_closed(reason, http);
    }
}

#[test]
fn h06_h28_h29_requests_that_two_servers_would_read_differently() {
    let hosts = "a".repeat(8 << 10);
    let long_host = format!("GET / HTTP/1.1\r\nHost: {hosts}\r\n\r\n");
    let cases: [(&str, &str); 13] = [
        (
            "H06 both",
            "POST /live/x.flv HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "H06 lengths",
            "POST /live/x.flv HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        ),
        ("H06 length", "POST /live/x.flv HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nabcd"),
        ("H06 folded", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        ("H06 LF", "GET / HTTP/1.1\nHost: x\n\n"),
        ("H06 space", "GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
        (
            "H06 encoding",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        ("H29 long", &long_host),
        ("H29 none", "GET / HTTP/1.1\r\n\r\n"),
        ("H29 two", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        ("H29 not a name", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n"),
        ("H28 PROXY", "PROXY TCP4 203.0.113.9 203.0.113.1 4242 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("H06 not HTTP", "\x16\x03\x01\x02\0\x01\0\x01\x7C\x03\x03\r\n\r\n"),
    ];
    for (id, request) in cases {
        let row = Row::new(id);
        let mut http = row.http();
        let answer = http.send(request.as_bytes()).answer().expect("an answer");
        assert_eq!(answer.status, 400, "{id}: {}", answer.head);
        row.http_closed("malformed", http);
    }
}

#[test]
fn h06_a_chunk_of_64_bits() {
    let row = Row::new("H06 chunk size");
    let mut publisher = FlvPublisher::open(row.bench.http, "/live/h06.flv");
    publisher.0.send(b"FFFFFFFFFFFFFFFF\r\nabc");
    let name = publisher.0.name();
    assert!(publisher.0.wait_end(secs(1)), "closed");
    drop(publisher);
    row.finish(&[("http", "malformed", 1)], &[(name, "malformed")]);
}

#[test]
fn h28_who_a_request_says_that_it_comes_from() {
    let row = Row::new("H28 X-Forwarded-For");
    let fields = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n";
    let mut http = row.http();
    let answer = http.request("GET /live/nothing.flv", fields).answer().expect("an answer");
    assert_eq!(answer.status, 404);
    let mut reader = FlvReader::over(row.http(), "/live/witness.flv").ok().unwrap();
    reader.next_tag(Instant::now() + PATIENCE).expect("a tag");
    let readers = get(row.bench.http, "/api/v1/readers").body;
    let name = reader.http.name().to_string();
    assert!(readers.contains(&name) && !readers.contains("203.0.113.9"), "{readers}");
    assert!(!row.log().contains("203.0.113.9"), "{}", row.log());
}

// The API.

#[test]
fn h12_h13_pages_of_other_origins() {
    let row = Row::new("H12, H13");
    let relay = "{\"from\":\"live/witness\",\"to\":\"rtmp://127.0.0.1:1/live/x\"}";
    let post = |fields: &str| {
        let mut http = row.http();
        let head = format!("{fields}Content-Length: {}\r\nConnection: close\r\n", relay.len());
        http.request("POST /api/v1/relays", &head).send(relay.as_bytes()).answer().expect("an answer")
    };
    let cases = [
        ("Origin: https://evil.example\r\nContent-Type: application/json\r\n", 403),
        ("Origin: null\r\nContent-Type: application/json\r\n", 403),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("", 415),
    ];
    for (fields, status) in cases {
        assert_eq!(post(fields).status, status, "{fields}");
    }
    let relays = get(row.bench.http, "/api/v1/relays");
    assert_eq!(relays.body, "{\"items\":[]}", "nothing was started");
    let mut http = row.http();
    let foreign = "Origin: https://evil.example\r\nConnection: close\r\n";
    let delete = http.request("DELETE /api/v1/streams/live/witness", foreign).answer().expect("an answer");
    assert_eq!(delete.status, 403);

    let preflight = |path: &str| {
        let fields =
            "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n";
        let mut http = row.http();
        http.request(&format!("OPTIONS {path}"), fields).answer().expect("an answer")
    };
    for path in ["/api/v1/relays", "/api/v1/streams", "/metrics"] {
        assert_eq!(preflight(path).header("access-control-allow-origin"), None, "{path}");
    }
    let media = preflight("/live/witness.flv");
    assert_eq!(media.header("access-control-allow-credentials"), None, "never with cookies");
}

#[test]
fn h13_only_configured_origins_are_let_in() {
    let bench = Bench::start_alone(&[], "http.cors_origins = ['https://good.example']\n");
    for (origin, expect) in
        [("https://good.example", Some("https://good.example")), ("https://evil.example", None)]
    {
        let fields = format!("Origin: {origin}\r\nConnection: close\r\n");
        for method in ["OPTIONS", "GET"] {
            let mut http = Http::open(bench.http);
            let answer = http.request(&format!("{method} /live/x.flv"), &fields).answer().expect("an answer");
            assert_eq!(answer.header("access-control-allow-origin"), expect, "{method} {origin}");
        }
    }
}

#[test]
fn h14_the_api_is_for_loopback_until_there_are_credentials() {
    // The address by which this machine reaches others, if it has one; a datagram socket finds out without sending.
    let outside = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let outside = outside.connect("192.0.2.1:9").and_then(|()| outside.local_addr());
    let outside = match outside {
        Ok(addr) if !addr.ip().is_loopback() => addr.ip(),
        _ => arcly_testkit::skip!("this machine has no address but loopback"),
    };
    let bench = Bench::start_alone(&["--http", "0.0.0.0:0"], "");
    let port = bench.http.port();
    for path in ["/api/v1/info", "/metrics", "/api/v1/streams"] {
        assert_eq!(get(SocketAddr::new(outside, port), path).status, 403, "{path} from {outside}");
        assert_eq!(get(SocketAddr::new("127.0.0.1".parse().unwrap(), port), path).status, 200, "{path}");
    }
    assert_eq!(get(SocketAddr::new(outside, port), "/healthz").status, 200);
    // A name that somebody made resolve to loopback.
    let mut http = Http::open(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    let answer = http.send(b"GET /api/v1/info HTTP/1.1\r\nHost: evil.example\r\n\r\n").answer().unwrap();
    assert_eq!(answer.status, 403);
}

#[test]
fn h14_a_secret_from_the_documentation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arcly.toml");
    let user =
        |password: &str| format!("[[auth.users]]\nname = 'a'\npassword = '{password}'\nactions = ['api']\n");
    for (password, code) in [("changeme", 2), ("a good one", 0)] {
        std::fs::write(&file, user(password)).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_arcly"));
        let output = arcly_testkit::process::run(command.arg("check").arg("-c").arg(&file), secs(20));
        assert_eq!(output.status.code(), Some(code), "{password}: {output:?}");
    }
}

#[test]
fn h26_five_hundred_streams_in_the_metrics() {
    // Once before: what an allocator keeps after so much the first time is no leak, the second time it would be.
    // Ten at a time, because the first of them is closed if the last takes too long: it sends nothing.
    let publishers = |bench: &Bench| -> Vec<Peer> {
        let some = |from: u32| {
            let names = (from..from + 50).map(|n| format!("h26-{n}"));
            names.map(|name| Peer::open(bench.rtmp).publishing(&name)).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..500).step_by(50).map(|from| scope.spawn(move || some(from))).collect();
            all.into_iter().flat_map(|some| some.join().unwrap()).collect()
        })
    };
    let row = Row::new("H26");
    drop(publishers(&row.bench));
    let streams = || row.bench.metrics().sum("arcly_streams");
    assert!(support::eventually(secs(10), || streams() == 1.0), "{} streams are left", streams());
    let row = row.again().memory(16 * MIB).cpu(secs(2));
    let publishers = publishers(&row.bench);
    let since = Instant::now();
    let metrics = row.bench.metrics();
    let took = since.elapsed();
    // 100 ms for 10 000 in an optimised build.
    assert!(took < Duration::from_millis(500), "the scrape took {took:?}");
    assert_eq!(metrics.sum("arcly_streams"), 501.0);
    let lines = metrics.0.lines().count();
    assert!(lines < 400, "{lines} lines: the number of series grows with the number of streams");
    assert!(!metrics.0.contains("h26-"), "names are no labels");
    for publisher in publishers {
        drop(publisher);
        // It is the scrape that this is about, not that all of them go in one moment.
        thread::sleep(Duration::from_millis(2));
    }
    row.finish(&[("rtmp", "peer_closed", 500)], &[]);
}

#[test]
fn h26_a_name_that_would_break_out_of_a_label() {
    let row = Row::new("H26 name");
    let mut peer = row.peer().created();
    peer.publish("a\"}\nevil 1");
    row.closed("malformed", peer);
}

// Time.

#[test]
fn h05_h07_time_runs_out() {
    let bench = Arc::new(Bench::start(&[], ""));
    let going = Going::start(&bench);
    // The stream and what is made of it are as long as they get: they come and go by a GOP at a time.
    let most = bench.grown();
    let row = Row::on(&bench, "H05, H07").cpu(secs(2)).above(most);
    let trickle = |head: &'static [u8]| {
        let mut http = row.http();
        thread::spawn(move || {
            let since = Instant::now();
            http.send(head);
            while !http.ended {
                assert!(since.elapsed() < secs(14), "H05: still open");
                http.send(b"a").wait_end(secs(1));
            }
            (http.name(), since.elapsed())
        })
    };
    let slow = [trickle(b""), trickle(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")];
    let http = Http::open_from(bench.http, "127.0.0.1", Some(4_096));
    let mut deaf = FlvReader::over(http, "/live/h07.flv").expect("the stream is there").http;
    let evicted = || bench.metrics().closed().contains_key(&("http".into(), "slow_consumer".into()));
    assert!(support::eventually(secs(15), evicted), "H07: still open");
    assert!(deaf.wait_end(secs(1)));
    let mut named = vec![(deaf.name(), "slow_consumer")];
    for slow in slow {
        let (name, after) = slow.join().unwrap();
        assert!((secs(9)..secs(12)).contains(&after), "H05: closed after {after:?}");
        named.push((name, "timeout(handshake)"));
    }
    row.finish(&[("http", "timeout(handshake)", 2), ("http", "slow_consumer", 1)], &named);
    going.stop();
}

/// A stream of 8 Mb/s, and a reader that keeps up with it.
struct Going {
    stop: Arc<AtomicBool>,
    threads: [thread::JoinHandle<()>; 2],
}

impl Going {
    fn start(bench: &Bench) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = || {
            let stop = Arc::clone(&stop);
            move || stop.load(Ordering::Acquire)
        };
        let mut publisher = Peer::open(bench.rtmp).publishing("h07");
        publisher.set_chunk_size(60_000);
        let mut feed = Feed::of(Source::h264().with_pictures_of(40_000));
        feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
        publisher.tag(&feed.frame());
        let mut reader = FlvReader::open(bench.http, "/live/h07.flv").expect("the stream");
        let (since, over) = (Instant::now(), stops());
        let publishing = thread::spawn(move || {
            while !over() {
                let tag = feed.frame();
                let due = since + Duration::from_millis(tag.timestamp.into());
                thread::sleep(due.saturating_duration_since(Instant::now()));
                publisher.tag(&tag);
            }
            assert!(!publisher.broken, "the publisher waits for nobody");
        });
        let over = stops();
        let reading = thread::spawn(move || {
            while !over() {
                reader.next_tag(Instant::now() + PATIENCE).expect("it goes on");
            }
        });
        Self { stop, threads: [reading, publishing] }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn h11_under_pressure_the_longest_idle_connection_goes() {
    let bench = Bench::start_alone(&[], "limits.http_connections = 40\n");
    let mut idle: Vec<Http> = Vec::new();
    for _ in 0..100 {
        let mut http = Http::open(bench.http);
        // Whoever has asked and got an answer is idle; the newest is served whatever the number of the others.
        let answer = http.request("GET /healthz", "").answer().expect("room is made");
        assert_eq!(answer.status, 200);
        idle.push(http);
    }
    let open =
        idle.iter_mut().filter_map(|http| (!http.wait_end(Duration::from_millis(5))).then_some(())).count();
    assert!((35..=40).contains(&open), "{open} are open");
    assert!(idle[0].ended && !idle[99].ended, "the oldest go first");
    let closed = Scraper::open(bench.http).scrape().closed();
    let evicted = closed.get(&("http".into(), "overloaded".into())).copied().unwrap_or(0);
    assert!(evicted >= 60, "{closed:?}");
}

// Credentials.

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const AUTH: &str = "
    [[auth.keys]]
    id = 'k1'
    secret = '0123456789abcdef0123456789abcdef'
    [[auth.users]]
    name = 'studio'
    password = 'correct horse'
    actions = ['publish', 'play', 'api']
    streams = 'live/a'
    [[auth.users]]
    name = 'ops'
    password = 'battery staple'
    actions = ['api']
    [auth]
    public_play = ['open/*']
    public_publish = ['open/*']
";

fn claims(actions: ActionSet, name: &str) -> Claims {
    Claims::new(actions, NameRule::parse(name).unwrap()).until(SystemTime::now() + secs(600))
}

fn signed(claims: &Claims) -> String {
    mint("k1", KEY, claims).unwrap()
}

/// An address that has not failed to log in yet.
fn another_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    format!("127.0.1.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What RTMP answers to a publish or a play: `ok`, or the reason why the connection was closed.
fn over_rtmp(bench: &Bench, publish: bool, name: &str) -> &'static str {
    let mut peer = Peer::open_from(bench.rtmp, &another_address(), None).created();
    if publish {
        peer.publish(name)
    } else {
        peer.play(name)
    };
    let end = Instant::now() + PATIENCE;
    let started = |code: &String| matches!(code.as_str(), "NetStream.Publish.Start" | "NetStream.Play.Start");
    while peer.next_message(end).is_some() {
        if peer.codes.iter().any(started) {
            return "ok";
        }
    }
    assert!(peer.ended, "{name}: neither accepted nor closed: {:?}", peer.codes);
    let name = peer.name().to_string();
    let reasons = ["unauthorized", "forbidden", "not_found", "malformed", "limit(name)", "conflict"];
    let line = || {
        bench.log().lines().rfind(|line| line.contains(&name) && line.contains("reason=")).map(str::to_owned)
    };
    support::eventually(secs(1), || line().is_some());
    let line = line().unwrap_or_default();
    reasons
        .into_iter()
        .find(|reason| line.contains(reason))
        .unwrap_or_else(|| panic!("{name}: {}", bench.log()))
}

/// What HTTP-FLV answers.
fn over_http(bench: &Bench, publish: bool, path: &str, query: &str) -> u16 {
    let mut http = Http::open_from(bench.http, &another_address(), None);
    let method = if publish { "POST" } else { "GET" };
    let fields = if publish { "Transfer-Encoding: chunked\r\n" } else { "" };
    http.request(&format!("{method} /{path}.flv{query}"), fields);
    if publish {
        let mut feed = Feed::new();
        let mut publisher = FlvPublisher(http);
        publisher.send(&support::feed::FILE_HEADER);
        feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
        publisher.tag(&feed.frame());
        return publisher.finish().map_or(0, |answer| answer.status);
    }
    http.head(Instant::now() + PATIENCE).map_or(0, |answer| answer.status)
}

#[test]
fn h16_h18_tokens() {
    let bench = Bench::start_alone(&[], AUTH);
    let now = SystemTime::now();
    let good = signed(&claims(ActionSet::ALL, "live/t"));
    let once = signed(&claims(ActionSet::PLAY, "live/t").once("a1"));
    let (body, tag) = good.split_once('.').unwrap();
    let expired = claims(ActionSet::ALL, "live/t").until(now - secs(5));
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJsaXZlL3QifQ.".to_owned();
    let cases: Vec<(&str, String, &str, u16)> = vec![
        ("good", good.clone(), "ok", 200),
        ("expired", signed(&expired), "unauthorized", 401),
        ("for another stream", signed(&claims(ActionSet::ALL, "live/other")), "forbidden", 403),
        ("to publish only", signed(&claims(ActionSet::PUBLISH, "live/t")), "forbidden", 403),
        ("alg none", none, "unauthorized", 401),
        ("unknown key", mint("k2", KEY, &claims(ActionSet::ALL, "live/t")).unwrap(), "unauthorized", 401),
        ("wrong key", mint("k1", &[7; 32], &claims(ActionSet::ALL, "live/t")).unwrap(), "unauthorized", 401),
        ("cut", good[..good.len() - 1].to_owned(), "unauthorized", 401),
        ("no tag", body.to_owned(), "unauthorized", 401),
        ("another tag", format!("{body}.{}", tag.chars().rev().collect::<String>()), "unauthorized", 401),
        ("8 KiB", "x".repeat(8 << 10), "unauthorized", 401),
        ("not yet", signed(&claims(ActionSet::ALL, "live/t").from(now + secs(100))), "unauthorized", 401),
        ("none", String::new(), "unauthorized", 401),
    ];
    let mut publisher = Peer::open(bench.rtmp).created();
    publisher.publish(&format!("t?token={good}")).expect_code("NetStream.Publish.Start");
    for (what, token, rtmp, http) in &cases {
        publisher.wait_end(Duration::from_millis(5));
        assert_eq!(over_rtmp(&bench, false, &format!("t?token={token}")), *rtmp, "{what} over RTMP");
        assert_eq!(over_http(&bench, false, "live/t", &format!("?token={token}")), *http, "{what} over HTTP");
    }
    assert_eq!(over_rtmp(&bench, false, &format!("t?token={once}")), "ok", "once");
    assert_eq!(over_http(&bench, false, "live/t", &format!("?token={once}")), 401, "not twice");
    let play_only = signed(&claims(ActionSet::PLAY, "live/u"));
    assert_eq!(over_rtmp(&bench, true, &format!("u?token={play_only}")), "forbidden", "R41 (a)");
    assert_eq!(over_http(&bench, true, "live/u", &format!("?token={play_only}")), 403);

    // H18: nothing of that is to be found anywhere.
    let mut http = Http::open(bench.http);
    let answer = http.request(&format!("GET /live/nothing?token={good}"), "").answer().unwrap();
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert!(!answer.head.contains(tag) && answer.header("location").is_none(), "{}", answer.head);
    let metrics = get_with(&bench, "/metrics", "ops:battery staple").body;
    for (what, token, ..) in cases.iter().filter(|(_, token, ..)| token.len() > 8) {
        let log = bench.log();
        assert!(!log.contains(token.as_str()), "{what} is in the log:\n{log}");
        assert!(!metrics.contains(token.as_str()), "{what} is in the metrics");
    }
}

fn get_with(bench: &Bench, path: &str, login: &str) -> support::http::Answer {
    let mut http = Http::open(bench.http);
    let login = base64(login.as_bytes());
    let fields = format!("Authorization: Basic {login}\r\nConnection: close\r\n");
    http.request(&format!("GET {path}"), &fields).answer().expect("an answer")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * n)) as usize & 63]);
            out.push(if n <= three.len() { digit } else { '=' });
        }
    }
    out
}

#[test]
fn h17_permissions_end_with_their_token() {
    let bench = Bench::start_alone(&[], AUTH);
    let forever = signed(&claims(ActionSet::ALL, "live/t"));
    let short = |actions, name| signed(&claims(actions, name).until(SystemTime::now() + secs(3)));
    let mut main = Peer::open(bench.rtmp).created();
    main.publish(&format!("t?token={forever}")).expect_code("NetStream.Publish.Start");
    let mut feed = Feed::new();
    feed.headers().iter().for_each(|tag| _ = main.tag(tag));
    main.tag(&feed.frame());
    let mut publisher = Peer::open(bench.rtmp).created();
    let token = short(ActionSet::PUBLISH, "live/u");
    publisher.publish(&format!("u?token={token}")).expect_code("NetStream.Publish.Start");
    let token = short(ActionSet::PLAY, "live/t");
    let mut player = Peer::open(bench.rtmp).created();
    player.play(&format!("t?token={token}")).expect_code("NetStream.Play.Start");
    let mut reader = FlvReader::open(bench.http, &format!("/live/t.flv?token={token}")).ok().unwrap();

    let since = Instant::now();
    let end = since + secs(13);
    let main_goes_on = thread::spawn(move || {
        while Instant::now() < end && !main.ended {
            main.tag(&feed.frame()).wait_end(Duration::from_millis(30));
        }
        main
    });
    assert!(player.wait_end(secs(13)), "RTMP player\n{}", bench.log());
    assert!(publisher.wait_end(secs(1)), "RTMP publisher\n{}", bench.log());
    assert!(reader.wait_end(secs(1)), "HTTP-FLV reader\n{}", bench.log());
    assert!(since.elapsed() >= secs(1), "the token was good at first");
    for name in [player.name(), publisher.name()] {
        let tells = |line: &str| line.contains(&name.to_string()) && line.contains("unauthorized");
        assert!(support::eventually(secs(1), || bench.log().lines().any(tells)), "{name}:\n{}", bench.log());
    }
    let main = main_goes_on.join().unwrap();
    assert!(!main.ended, "who may, goes on");
}

#[test]
fn h15_one_name_one_decision() {
    let bench = Bench::start_alone(&[], AUTH);
    let token = signed(&claims(ActionSet::ALL, "live/a"));
    let names = [
        // As RTMP writes it, after `live/`; as HTTP writes it; what each answers.
        ("a", "live/a", "ok", 200),
        ("/a", "live//a", "forbidden", 404),
        ("./a", "live/./a", "forbidden", 404),
        ("a/", "live/a/", "forbidden", 404),
        ("A", "live/A", "forbidden", 403),
        ("%2Fa", "live%2Fa", "forbidden", 404),
        ("a%00", "live/a%00", "forbidden", 404),
        ("a\0", "live/a\u{1}", "malformed", 400),
    ];
    let mut publisher = Peer::open(bench.rtmp).created();
    publisher.publish(&format!("a?token={token}")).expect_code("NetStream.Publish.Start");
    for (rtmp, path, reason, status) in names {
        assert_eq!(over_rtmp(&bench, false, &format!("{rtmp}?token={token}")), reason, "RTMP {rtmp:?}");
        assert_eq!(over_http(&bench, false, path, &format!("?token={token}")), status, "HTTP {path:?}");
        // The API names streams by the same rules; whether it decodes a slash first is its own affair.
        let api = get_with(&bench, &format!("/api/v1/streams/{path}"), "ops:battery staple").status;
        assert!(api == 200 || reason != "ok", "API {path:?}: {api}");
        assert!(api != 200 || reason == "ok" || path == "live%2Fa", "API {path:?}: {api}");
    }
    // `LIVE/a` is another application.
    let mut peer = Peer::open(bench.rtmp);
    peer.handshake().connect("LIVE", Default::default()).create_stream().play(&format!("a?token={token}"));
    peer.wait_end(secs(2));
    assert!(peer.codes.iter().any(|code| code == "NetStream.Play.Failed"), "{:?}", peer.codes);
    assert_eq!(over_http(&bench, false, "LIVE/a", &format!("?token={token}")), 403);
}

#[test]
fn h20_whoever_fails_to_log_in_waits() {
    let bench = Bench::start_alone(&[], AUTH);
    let attempt = |local: &str, login: &str| {
        let mut http = Http::open_from(bench.http, local, None);
        let login = base64(login.as_bytes());
        let since = Instant::now();
        let fields = format!("Authorization: Basic {login}\r\nConnection: close\r\n");
        let status = http.request("GET /api/v1/info", &fields).answer().expect("an answer").status;
        (status, since.elapsed())
    };
    for n in 0..5 {
        assert_eq!(attempt("127.0.0.66", &format!("ops:{n}")).0, 401);
    }
    let before = bench.usage();
    thread::scope(|scope| {
        let guesses: Vec<_> =
            (0..40).map(|n| scope.spawn(move || attempt("127.0.0.66", &format!("ops:guess{n}")))).collect();
        thread::sleep(Duration::from_millis(200));
        // Everybody else is let in meanwhile.
        let (status, took) = attempt("127.0.0.77", "ops:battery staple");
        assert!(status == 200 && took < Duration::from_millis(500), "{status} after {took:?}");
        for guess in guesses {
            let (status, took) = guess.join().unwrap();
            assert_eq!(status, 401);
            assert!(took >= Duration::from_millis(950), "answered after {took:?}");
        }
    });
    let held = bench.usage().rss_bytes.saturating_sub(before.rss_bytes);
    assert!(held <= 4 * MIB, "{held} bytes for 40 guesses");
    let (status, took) = attempt("127.0.0.66", "ops:battery staple");
    assert_eq!(status, 200, "who knows the password gets in all the same");
    assert!(took >= Duration::from_millis(950), "though not at once: {took:?}");
}
