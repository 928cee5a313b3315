//! A plain HTTP/1.1 client, and the server under test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::process::Arcly;

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, in a folder of its own so that no configuration is found.
pub(crate) fn arcly(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcly"));
    command.args(args).current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ARCLY_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command
}

/// A server on free ports of loopback.
pub(crate) fn start(args: &[&str]) -> Arcly {
    Arcly::start(arcly(args).args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]))
}

/// A server with the test stream, once that is live.
pub(crate) fn start_demo() -> Arcly {
    let arcly = start(&["demo"]);
    let http = arcly.addr("http");
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", "").status == 200);
    arcly
}

/// Asks again until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A request without a body; `fields` are whole header lines, each with its CRLF.
pub(crate) fn get(addr: SocketAddr, path: &str, method: &str, fields: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{fields}\r\n");
    exchange(addr, request.as_bytes())
}

/// A request with a JSON body.
pub(crate) fn send_json(addr: SocketAddr, path: &str, method: &str, body: &str) -> Answer {
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{fields}\r\n{body}");
    exchange(addr, request.as_bytes())
}

/// Sends bytes and reads until the server closes.
pub(crate) fn exchange(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

/// Takes an answer apart; a chunked body is put together.
pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("not an answer: {}", bytes.escape_ascii());
    });
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = bytes[end + 4..].to_vec();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head, body: if chunked { dechunk(&body) } else { body } }
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap(), 16).unwrap();
        let data = &body[at + 2..];
        out.extend_from_slice(&data[..size.min(data.len())]);
        body = data.get(size + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    out
}

/// Reads what comes of a stream for a while, whole chunks or not.
pub(crate) fn read_for(addr: SocketAddr, path: &str, time: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // HTTP/1.0: no chunks, so that the body is the file.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n").unwrap();
    let (mut bytes, mut piece, mut end) = (Vec::new(), [0; 65_536], Instant::now() + PATIENCE);
    while Instant::now() < end {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                if bytes.is_empty() {
                    end = Instant::now() + time;
                }
                bytes.extend_from_slice(&piece[..count]);
            }
            Err(_) => {}
        }
    }
    parse(&bytes).body
}
