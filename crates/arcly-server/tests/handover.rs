//! Readers of HTTP-FLV whose connections go from the HTTP library to an egress worker: what was before on the connection,
//! what the reader sees, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_codec::flv::FileDecoder;
use arcly_testkit::process::run;
use support::bench::Bench;
use support::eventually;
use support::feed::{FILE_HEADER, Feed, FlvTag, Sequence};
use support::http::{Answer, FlvPublisher, FlvReader, Http, get};
use support::peer::{PATIENCE, Peer};

const CROWD: usize = 300;

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A stream of a second, and its publisher.
struct Stream {
    bench: Bench,
    publisher: Peer,
    feed: Feed,
}

impl Stream {
    fn start() -> Self {
        Self::with("")
    }

    fn with(config: &str) -> Self {
        let bench = Bench::start_alone(&[], config);
        let publisher = Peer::open(bench.rtmp).publishing("cam");
        let mut stream = Self { bench, publisher, feed: Feed::new() };
        stream.feed.headers().iter().for_each(|tag| _ = stream.publisher.tag(tag));
        stream.send(1_000);
        let live = || get(stream.bench.http, "/api/v1/streams/live/cam").body.contains("h264");
        assert!(eventually(PATIENCE, live));
        stream
    }

    /// Publishes that much more of it; the last tag.
    fn send(&mut self, ms: i64) -> FlvTag {
        let tags = self.feed.millis(ms);
        tags.iter().for_each(|tag| _ = self.publisher.tag(tag));
        tags.last().unwrap().clone()
    }

    fn http(&self) -> Http {
        Http::open(self.bench.http)
    }

    fn readers(&self) -> Vec<serde_json::Value> {
        let body = get(self.bench.http, "/api/v1/readers").body;
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["items"].as_array().unwrap().clone()
    }

    /// Connections that were closed for that reason.
    fn closed(&self, reason: &str) -> u64 {
        self.bench.metrics().closed().get(&("http".into(), reason.into())).copied().unwrap_or(0)
    }

    #[track_caller]
    fn has_readers(&self, count: usize) {
        assert!(eventually(PATIENCE, || self.readers().len() == count), "{:?}", self.readers());
    }
}

/// Reads up to that tag, which must come with nothing lost before.
#[track_caller]
fn read_to(reader: &mut FlvReader, last: &FlvTag, sequence: &mut Sequence) {
    loop {
        let tag = reader.next_tag(soon()).expect("more of the stream");
        sequence.note(&tag);
        if (tag.kind, tag.timestamp) == (last.kind, last.timestamp) {
            break;
        }
    }
    assert_eq!((sequence.lost, sequence.repeated), (0, 0));
}

#[test]
fn a_stream_is_the_last_answer_of_a_connection() {
    let mut stream = Stream::start();
    let mut http = stream.http();
    assert_eq!(http.request("GET /healthz", "").answer().unwrap().status, 200);
    let missing = http.request("GET /live/none.flv", "Origin: https://page.example\r\n").answer().unwrap();
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("content-type"), Some("application/problem+json"));
    assert_eq!(missing.header("access-control-allow-origin"), Some("*"));
    assert!(missing.body.contains("live/none") && missing.body.contains("not_found"), "{}", missing.body);
    let head = http.request("HEAD /live/cam.flv", "").head(soon()).unwrap();
    assert_eq!((head.status, head.header("connection")), (200, None), "{}", head.head);

    let mut reader = FlvReader::over(http, "/live/cam.flv").unwrap();
    let mut sequence = Sequence::default();
    for _ in 0..3 {
        let last = stream.send(400);
        read_to(&mut reader, &last, &mut sequence);
    }
    let shown = stream.readers();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["protocol"], "http-flv");
    let counted = || stream.readers()[0]["items_out"].as_u64().unwrap() >= u64::from(sequence.received);
    assert!(eventually(PATIENCE, counted), "{shown:?}");
    assert_eq!(stream.bench.metrics().labelled("arcly_sessions", "role=\"play\""), 1.0);

    // An operator ends it: in order, and not as a fault of the connection.
    let id = shown[0]["id"].as_u64().unwrap();
    let delete = stream.http().request(&format!("DELETE /api/v1/readers/{id}"), "").answer().unwrap();
    assert!(delete.status < 300, "{}", delete.status);
    assert!(reader.wait_end(PATIENCE) && reader.is_complete(), "ended, and not cut off");
    stream.has_readers(0);
    assert!(eventually(PATIENCE, || stream.closed("shutdown") == 1), "{:?}", stream.bench.metrics().closed());
}

#[test]
fn the_head_is_what_every_answer_has() {
    let stream = Stream::start();
    let ask = |request: &str| {
        let mut http = stream.http();
        let request = format!("{request}\r\nHost: 127.0.0.1\r\nOrigin: https://page.example\r\n\r\n");
        http.send(request.as_bytes()).head(soon()).unwrap()
    };
    let names = |answer: &Answer, less: &[&str]| {
        let mut names: Vec<String> = answer.head.lines().skip(1).map(str::to_owned).collect();
        names.retain(|line| {
            let name = line.split(':').next().unwrap();
            !less.contains(&name) && name != "date"
        });
        names.sort();
        names
    };
    let (get, head) = (ask("GET /live/cam.flv HTTP/1.1"), ask("HEAD /live/cam.flv HTTP/1.1"));
    let framing = ["connection", "transfer-encoding", "content-length"];
    assert_eq!(names(&get, &framing), names(&head, &framing), "the same but for the framing");
    assert!(get.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", get.head);
    assert_eq!((get.header("connection"), get.header("transfer-encoding")), (Some("close"), Some("chunked")));
    assert_eq!(get.header("content-length"), None);
    assert!(get.header("date").is_some_and(|date| date.ends_with(" GMT")), "{}", get.head);
    let old = ask("GET /live/cam.flv HTTP/1.0");
    assert!(old.head.starts_with("HTTP/1.0 200 OK\r\n"), "{}", old.head);
    assert_eq!((old.header("connection"), old.header("transfer-encoding")), (Some("close"), None));
    assert_eq!(old.header("content-length"), None);
}

#[test]
fn http_1_0_gets_the_file_itself() {
    let mut stream = Stream::start();
    let mut socket = TcpStream::connect(stream.bench.http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET /live/cam.flv HTTP/1.0\r\n\r\n").unwrap();
    stream.has_readers(1);
    let last = stream.send(200);
    let (mut bytes, mut file, mut seen) = (Vec::new(), FileDecoder::new(), false);
    let mut piece = [0; 4_096];
    while !seen {
        let count = socket.read(&mut piece).unwrap();
        assert_ne!(count, 0);
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        file = FileDecoder::new();
        file.push(&bytes[end + 4..]);
        while let Some(tag) = file.next_tag().unwrap() {
            seen |= (tag.kind, tag.timestamp_ms) == (last.kind, last.timestamp);
        }
    }
    assert_eq!(file.buffered(), 0);
}

#[test]
fn what_was_answered_before_is_written_before() {
    let mut stream = Stream::start();
    // The answers do not fit into the socket, and who reads them is slow.
    let mut slow = Http::open_from(stream.bench.http, "127.0.0.1", Some(4_096));
    let assets = 60;
    let page = get(stream.bench.http, "/live/cam").body;
    let name = page.split('"').find(|text| text.contains("/assets/mpegts")).expect("the player's library");
    let one = format!("GET {name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let all = format!("{}GET /live/cam.flv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", one.repeat(assets));
    slow.send(all.as_bytes());
    std::thread::sleep(Duration::from_millis(300));
    assert!(stream.readers().is_empty(), "its turn has not come");
    let alone = stream.http().request(&format!("GET {name}"), "").answer().unwrap();
    assert!(alone.body.len() > 100_000, "{}", alone.body.len());
    for _ in 0..assets {
        let answer = slow.answer().unwrap();
        assert!(answer.status == 200 && answer.body == alone.body, "{}", answer.head);
    }
    let head = slow.head(soon()).unwrap();
    assert_eq!(head.status, 200);
    let mut reader = FlvReader::of(slow, &head);
    let last = stream.send(300);
    read_to(&mut reader, &last, &mut Sequence::default());
}

#[test]
fn what_comes_behind_is_not_answered() {
    let mut stream = Stream::start();
    let mut http = stream.http();
    let two = "GET /live/cam.flv HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = http.send(two.as_bytes()).head(soon()).unwrap();
    let mut reader = FlvReader::of(http, &head);
    let mut sequence = Sequence::default();
    let last = stream.send(300);
    read_to(&mut reader, &last, &mut sequence);
    // Nor is anything else, however much it is. What is too much for its socket fails or waits.
    reader.http.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..64 {
        let _ = reader.http.socket.write(&[b'x'; 16 << 10]);
    }
    let last = stream.send(300);
    read_to(&mut reader, &last, &mut sequence);
    drop(reader);
    let left = eventually(PATIENCE, || {
        stream.send(40);
        stream.readers().is_empty()
    });
    assert!(left, "the write side sees that it has left");
}

#[test]
fn a_peer_that_leaves_is_noticed() {
    let stream = Stream::start();
    type Leave = fn(FlvReader) -> Option<FlvReader>;
    let leaves: [(&str, Leave); 3] = [
        ("its half", |reader| {
            reader.http.socket.shutdown(Shutdown::Write).unwrap();
            Some(reader)
        }),
        ("all", |_| None),
        ("reset", |reader| {
            reader.http.reset();
            None
        }),
    ];
    for (n, (what, leave)) in leaves.into_iter().enumerate() {
        let reader = FlvReader::open(stream.bench.http, "/live/cam.flv").unwrap();
        stream.has_readers(1);
        // Nothing is published meanwhile: the write side sees nothing of it.
        let mut left = leave(reader);
        stream.has_readers(0);
        assert!(left.as_mut().is_none_or(|reader| reader.wait_end(PATIENCE)), "{what}");
        let said = |line: &&str| line.contains("reader left") && line.contains("peer_closed");
        let count = || stream.bench.log().lines().filter(said).count();
        assert!(eventually(PATIENCE, || count() == n + 1), "{what}: {}", stream.bench.log());
    }
    assert!(!stream.bench.log().contains("panicked"));
}

#[test]
fn a_stream_that_has_not_begun_is_waited_for() {
    let bench = Bench::start_alone(&[], "");
    let mut publisher = FlvPublisher::open(bench.http, "/live/late.flv");
    bench.await_published("late");
    let mut reader = FlvReader::open(bench.http, "/live/late.flv").expect("the head comes at once");
    let gone = FlvReader::open(bench.http, "/live/late.flv").unwrap();
    let readers = |count: usize| {
        eventually(PATIENCE, || get(bench.http, "/api/v1/readers").body.matches("\"id\"").count() == count)
    };
    assert!(readers(2));
    drop(gone);
    assert!(readers(1), "who leaves while waiting is noticed");
    let mut feed = Feed::new();
    feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
    let tags = feed.millis(400);
    tags.iter().for_each(|tag| _ = publisher.tag(tag));
    read_to(&mut reader, tags.last().unwrap(), &mut Sequence::default());
    assert_eq!(FILE_HEADER[4], 5, "sound and pictures, as the reader was told");
}

#[test]
fn a_reader_says_how_late_it_may_be() {
    let mut stream = Stream::start();
    for query in ["", "?latency=low", "?latency=throughput", "?latency=nonsense"] {
        let mut reader = FlvReader::open(stream.bench.http, &format!("/live/cam.flv{query}")).unwrap();
        let last = stream.send(200);
        read_to(&mut reader, &last, &mut Sequence::default());
    }
}

#[test]
fn over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) =
        (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()));
    let config = format!(
        "[tls]\ncert = '{cert}'\nkey = '{key}'\n[http]\ntls_listen = '127.0.0.1:0'\n[rtmp]\ntls_listen = 'off'\n"
    );
    let mut stream = Stream::with(&config);
    let https = stream.bench.addr("https").port();
    // With ALPN, curl would ask for HTTP/1.0 by name.
    for version in [&["--http1.0", "--no-alpn"][..], &["--http1.1"], &["--http2"]] {
        let file = dir.path().join("file.flv");
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "6", "--cacert", &cert, "-o"]).arg(&file).args(version);
        command.args(["--resolve", &format!("localhost:{https}:127.0.0.1")]);
        command.arg(format!("https://localhost:{https}/live/cam.flv"));
        let playing = std::thread::spawn(move || run(&mut command, 2 * PATIENCE));
        let there = eventually(PATIENCE, || stream.readers().len() == 1 || playing.is_finished());
        let last = stream.send(1_000);
        let output = playing.join().unwrap();
        assert!(there, "{version:?}: {output:?}");
        assert_eq!(
            output.status.code(),
            Some(28),
            "{version:?}: curl has had enough and not the server: {output:?}"
        );
        let mut decoder = FileDecoder::new();
        decoder.push(&std::fs::read(&file).unwrap());
        let tags = core::iter::from_fn(|| decoder.next_tag().expect("good FLV"));
        assert_eq!(tags.last().map(|tag| tag.timestamp_ms), Some(last.timestamp), "{version:?}");
        stream.has_readers(0);
    }
}

#[test]
fn a_crowd_leaves_no_connection_open() {
    let stream = Stream::start();
    let fds = stream.bench.usage().fds;
    let crowd: Vec<FlvReader> =
        (0..CROWD).map(|_| FlvReader::open(stream.bench.http, "/live/cam.flv").unwrap()).collect();
    stream.has_readers(CROWD);
    drop(crowd);
    stream.has_readers(0);
    assert!(stream.bench.settles_to(fds, PATIENCE), "{} open files", stream.bench.usage().fds);
}
