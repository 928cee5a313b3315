//! An HTTP client over a blocking socket that goes wrong wherever a test wants it to, and HTTP-FLV on top of it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use arcly_codec::flv::FileDecoder;
use socket2::SockRef;

use super::feed::{FILE_HEADER, FlvTag};
use super::peer::{PATIENCE, is_timeout};

/// An answer's head, and its body as far as it has a length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// One connection to an HTTP listener.
pub struct Http {
    pub socket: TcpStream,
    pending: Vec<u8>,
    pub ended: bool,
}

impl Http {
    pub fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    /// A connection from that local address, with a receive buffer of that size where it is given.
    pub fn open_from(addr: SocketAddr, local: &str, receive_buffer: Option<usize>) -> Self {
        Self::over(super::connect_from(addr, local, receive_buffer))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, pending: Vec::new(), ended: false }
    }

    /// What the server knows this peer as.
    pub fn name(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.try_send(bytes).ok();
        self
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)
    }

    /// Sends a request without a body: `GET /x` and further header lines, each with its CRLF.
    pub fn request(&mut self, what: &str, fields: &str) -> &mut Self {
        self.send(format!("{what} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n").as_bytes())
    }

    /// Reads an answer; `None` when the connection ends before one, or takes longer than a patient client waits.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_within(PATIENCE)
    }

    pub fn answer_within(&mut self, limit: Duration) -> Option<Answer> {
        let end = Instant::now() + limit;
        let mut answer = self.head(end)?;
        let length = answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        while self.pending.len() < length {
            if !self.receive(end) {
                return None;
            }
        }
        answer.body = String::from_utf8_lossy(&self.pending[..length]).into_owned();
        self.pending.drain(..length);
        Some(answer)
    }

    /// Reads the head of an answer, and leaves its body.
    pub fn head(&mut self, end: Instant) -> Option<Answer> {
        loop {
            if let Some(at) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.pending[..at + 2]).into_owned();
                self.pending.drain(..at + 4);
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                return Some(Answer { status, head, body: String::new() });
            }
            if !self.receive(end) {
                return None;
            }
        }
    }

    /// Reads until the server closes the connection; true when it does within `limit`. A reset counts.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.receive(end) {
            self.pending.clear();
        }
        self.ended
    }

    /// Reads once. False when `end` came first, or the connection has ended.
    fn receive(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if self.ended || left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut buf = vec![0; 64 << 10];
        match (&self.socket).read(&mut buf) {
            Ok(0) => self.ended = true,
            Ok(count) => self.pending.extend_from_slice(&buf[..count]),
            Err(error) if is_timeout(&error) => return false,
            Err(_) => self.ended = true,
        }
        !self.ended
    }

    /// Ends the connection with a reset, as when a process is killed.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// One request on a connection of its own.
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    let mut http = Http::open(addr);
    http.request(&format!("GET {path}"), "Connection: close\r\n").answer().expect("an answer")
}

/// A reader of HTTP-FLV.
pub struct FlvReader {
    pub http: Http,
    chunked: bool,
    /// Bytes left of the chunk that is being read, its CRLF included.
    chunk: usize,
    /// The answer is complete.
    done: bool,
    file: FileDecoder,
}

impl FlvReader {
    /// Asks for a stream; the answer when it is not 200.
    pub fn open(addr: SocketAddr, path: &str) -> Result<Self, Answer> {
        Self::over(Http::open(addr), path)
    }

    pub fn over(mut http: Http, path: &str) -> Result<Self, Answer> {
        http.request(&format!("GET {path}"), "");
        let answer = http.head(Instant::now() + PATIENCE).expect("an answer");
        if answer.status != 200 {
            return Err(answer);
        }
        Ok(Self::of(http, &answer))
    }

    /// The reader of an answer whose head has been read.
    pub fn of(http: Http, head: &Answer) -> Self {
        let chunked = head.header("transfer-encoding") == Some("chunked");
        Self { http, chunked, chunk: 0, done: false, file: FileDecoder::new() }
    }

    /// True when the answer has ended, and not been cut off.
    pub const fn is_complete(&self) -> bool {
        self.done
    }

    /// The next tag, unless `end` comes first or the answer ends.
    pub fn next_tag(&mut self, end: Instant) -> Option<FlvTag> {
        loop {
            if let Some(tag) = self.file.next_tag().expect("arcly sends good FLV") {
                return Some(FlvTag { kind: tag.kind, timestamp: tag.timestamp_ms, body: tag.body });
            }
            if !self.unwrap_body() && (self.done || !self.http.receive(end)) {
                return None;
            }
        }
    }

    /// Moves what has come from the connection to the file; false when nothing could be moved.
    fn unwrap_body(&mut self) -> bool {
        let pending = &mut self.http.pending;
        if !self.chunked {
            self.file.push(pending);
            return !std::mem::take(pending).is_empty();
        }
        if self.chunk == 0 {
            let Some(at) = pending.windows(2).position(|w| w == b"\r\n") else { return false };
            let size = std::str::from_utf8(&pending[..at]).unwrap();
            self.chunk = usize::from_str_radix(size, 16).expect("a chunk size") + 2;
            self.done = self.chunk == 2;
            pending.drain(..at + 2);
        }
        let taken = self.chunk.min(pending.len());
        let data = taken.min(self.chunk.saturating_sub(2));
        self.file.push(&pending[..data]);
        pending.drain(..taken);
        self.chunk -= taken;
        taken > 0
    }

    /// True when the answer ends within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.next_tag(end).is_some() {}
        self.http.ended || self.done
    }
}

/// A publisher over HTTP-FLV.
pub struct FlvPublisher(pub Http);

impl FlvPublisher {
    /// Begins a request; what comes of it shows while it goes on.
    pub fn open(addr: SocketAddr, path: &str) -> Self {
        let mut http = Http::open(addr);
        http.request(&format!("POST {path}"), "Content-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n");
        let mut publisher = Self(http);
        publisher.send(&FILE_HEADER);
        publisher
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.0.send(&chunk);
        self
    }

    pub fn tag(&mut self, tag: &FlvTag) -> &mut Self {
        self.send(&tag.to_file())
    }

    /// Ends the file, and says how the request was answered.
    pub fn finish(mut self) -> Option<Answer> {
        self.0.send(b"0\r\n\r\n").answer()
    }
}

/// Reads the metrics over one connection, so that reading them ends none.
pub struct Scraper(Http);

/// Closed sessions by protocol and reason.
pub type Closed = BTreeMap<(String, String), u64>;

impl Scraper {
    pub fn open(addr: SocketAddr) -> Self {
        Self(Http::open(addr))
    }

    /// Asks for something, as whoever has connected has ten seconds to do.
    pub fn opened(mut self) -> Self {
        self.0.request("GET /healthz", "").answer().expect("an answer");
        self
    }

    pub fn scrape(&mut self) -> Metrics {
        let answer = self.0.request("GET /metrics", "").answer().expect("metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Metrics(answer.body)
    }
}

/// Prometheus text.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of a metric's samples.
    pub fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// The sum of a metric's samples whose labels contain `label`, such as `state="live"`.
    pub fn labelled(&self, name: &str, label: &str) -> f64 {
        self.samples(name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    pub fn closed(&self) -> Closed {
        let label = |labels: &str, name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        self.samples("arcly_sessions_closed_total")
            .map(|(labels, value)| {
                ((label(labels, "protocol").unwrap(), label(labels, "reason").unwrap()), value as u64)
            })
            .collect()
    }

    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics() {
        let text = "# TYPE arcly_sessions_closed_total counter\n\
                    arcly_sessions_closed_total{protocol=\"rtmp\",reason=\"limit(name)\"} 3\n\
                    arcly_panics_total 0\narcly_streams{state=\"live\"} 2\narcly_streams{state=\"grace\"} 1\n";
        let metrics = Metrics(text.into());
        assert_eq!(metrics.closed().get(&("rtmp".into(), "limit(name)".into())), Some(&3));
        assert_eq!(metrics.sum("arcly_streams"), 3.0);
        assert_eq!(metrics.labelled("arcly_streams", "state=\"live\""), 2.0);
    }
}
