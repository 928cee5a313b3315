//! An RTSP client over a blocking socket that goes wrong wherever a test wants it to, and a camera made of one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;

use super::feed::{Feed, FlvTag};
use super::http::Answer;
use super::peer::{PATIENCE, is_timeout};

/// One connection to an RTSP listener.
pub struct Rtsp {
    pub socket: TcpStream,
    pending: Vec<u8>,
    cseq: u32,
    /// What the server calls the session.
    pub session: Option<String>,
    /// Interleaved frames that came: channel and packet.
    pub frames: Vec<(u8, Vec<u8>)>,
    pub ended: bool,
}

impl Rtsp {
    /// A connection on which nothing has been sent.
    pub fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    /// The same from a local address of its own.
    pub fn open_from(addr: SocketAddr, local: &str, receive_buffer: Option<usize>) -> Self {
        Self::over(super::connect_from(addr, local, receive_buffer))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, pending: Vec::new(), cseq: 0, session: None, frames: Vec::new(), ended: false }
    }

    /// What the server knows this peer as.
    pub fn name(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn url(&self, name: &str) -> String {
        format!("rtsp://{}/live/{name}", self.socket.peer_addr().unwrap())
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        // That a server has closed the connection meanwhile shows in what comes.
        let _ = (&self.socket).write_all(bytes);
        self
    }

    /// Sends a request with its number, its session if it has one, and further header lines, each with its CRLF.
    pub fn ask(&mut self, method: &str, url: &str, fields: &str, body: &str) -> &mut Self {
        self.cseq += 1;
        let session = self.session.iter().map(|id| format!("Session: {id}\r\n")).collect::<String>();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{session}{fields}{length}\r\n", self.cseq);
        self.send(head.as_bytes()).send(body.as_bytes())
    }

    /// The same, and its answer.
    #[track_caller]
    pub fn request(&mut self, method: &str, url: &str, fields: &str, body: &str) -> Answer {
        self.ask(method, url, fields, body);
        self.answer().unwrap_or_else(|| panic!("{method} {url} is not answered"))
    }

    /// A request that is granted; the session that comes with the answer is kept.
    #[track_caller]
    pub fn granted(&mut self, method: &str, url: &str, fields: &str, body: &str) -> Answer {
        let answer = self.request(method, url, fields, body);
        assert_eq!(answer.status, 200, "{method} {url}: {}", answer.head);
        if let Some(session) = answer.header("session") {
            self.session = Some(session.split(';').next().unwrap_or_default().to_owned());
        }
        answer
    }

    /// The next answer; frames in between are kept. `None` when the connection ends before one, or a patient client gives up.
    pub fn answer(&mut self) -> Option<Answer> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.take_frames();
            if !self.pending.starts_with(b"$")
                && let Some(at) = self.pending.windows(4).position(|four| four == b"\r\n\r\n")
            {
                let head = String::from_utf8_lossy(&self.pending[..at + 2]).into_owned();
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                let mut answer = Answer { status, head, body: String::new() };
                let length =
                    answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
                if self.pending.len() >= at + 4 + length {
                    let body = self.pending.drain(..at + 4 + length).skip(at + 4).collect::<Vec<_>>();
                    answer.body = String::from_utf8_lossy(&body).into_owned();
                    return Some(answer);
                }
            }
            if !self.receive(end) {
                return None;
            }
        }
    }

    /// Reads until so many frames have come; false when it takes longer.
    pub fn wait_frames(&mut self, count: usize, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.frames.len() < count {
            self.take_frames();
            if self.frames.len() < count && !self.receive(end) {
                return false;
            }
        }
        true
    }

    /// Reads until the server closes the connection; true when it does within `limit`. A reset counts.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.receive(end) {}
        self.ended
    }

    fn take_frames(&mut self) {
        while let [b'$', channel, high, low, ..] = self.pending[..] {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if self.pending.len() < 4 + len {
                return;
            }
            let packet = self.pending.drain(..4 + len).skip(4).collect();
            self.frames.push((channel, packet));
        }
    }

    /// Reads once. False when `end` came first, or the connection has ended.
    fn receive(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if self.ended || left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut piece = [0; 16 << 10];
        match (&self.socket).read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => self.pending.extend_from_slice(&piece[..count]),
            Err(error) if is_timeout(&error) => return false,
            Err(_) => self.ended = true,
        }
        !self.ended
    }

    /// An interleaved frame.
    pub fn frame(&mut self, channel: u8, packet: &[u8]) -> &mut Self {
        let [high, low] = u16::try_from(packet.len()).unwrap().to_be_bytes();
        self.send(&[&[b'$', channel, high, low], packet].concat())
    }
}

/// The SDP of a stream of H.264 whose parameter sets come with its pictures.
pub const H264_SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n";

/// A camera that publishes numbered pictures over its own connection.
pub struct Camera {
    pub rtsp: Rtsp,
    pub feed: Feed,
    pub ssrc: u32,
    pub seq: u16,
    /// The RTP time of the picture that comes next.
    pub time: u32,
    parameter_sets: Vec<Vec<u8>>,
}

impl Camera {
    /// A camera that has been let in.
    #[track_caller]
    pub fn publishing(addr: SocketAddr, name: &str) -> Self {
        let mut camera = Self::new(addr);
        let url = camera.rtsp.url(name);
        camera.rtsp.granted("ANNOUNCE", &url, "Content-Type: application/sdp\r\n", H264_SDP);
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
        camera.rtsp.granted("SETUP", &format!("{url}/trackID=0"), transport, "");
        camera.rtsp.granted("RECORD", &url, "", "");
        camera
    }

    /// A camera that has not said anything.
    pub fn new(addr: SocketAddr) -> Self {
        let mut feed = Feed::new();
        let headers = feed.headers();
        let config = headers.iter().find(|tag| tag.body.starts_with(&[0x17, 0])).expect("H.264");
        let parameter_sets = parameter_sets(&config.body[5..]);
        Self {
            rtsp: Rtsp::open(addr),
            feed,
            ssrc: 0x1234_5678,
            seq: 0xFFF0,
            time: 0xFFFF_0000,
            parameter_sets,
        }
    }

    /// An RTP packet of this camera.
    pub fn packet(&mut self, payload: &[u8], marker: bool) -> Vec<u8> {
        let packet = rtp(96 | u8::from(marker) << 7, self.seq, self.time, self.ssrc, payload);
        self.seq = self.seq.wrapping_add(1);
        packet
    }

    /// The packets of the next picture.
    pub fn picture(&mut self) -> Vec<Vec<u8>> {
        let tag = std::iter::repeat_with(|| self.feed.frame()).find(|tag| tag.kind == TagKind::Video);
        let tag = tag.expect("endless");
        self.packets(&tag)
    }

    fn packets(&mut self, tag: &FlvTag) -> Vec<Vec<u8>> {
        let composition = i32::from_be_bytes([tag.body[2], tag.body[3], tag.body[4], 0]) >> 8;
        let time = u32::try_from(i64::from(tag.timestamp) + i64::from(composition)).unwrap().wrapping_mul(90);
        let base = self.time;
        self.time = base.wrapping_add(time);
        let mut units = if tag.body[0] >> 4 == 1 { self.parameter_sets.clone() } else { Vec::new() };
        let mut rest = &tag.body[5..];
        while let [a, b, c, d, behind @ ..] = rest {
            let (unit, behind) = behind.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
            units.push(unit.to_vec());
            rest = behind;
        }
        let last = units.len() - 1;
        let packets = units.iter().enumerate().map(|(n, unit)| self.packet(unit, n == last)).collect();
        self.time = base;
        packets
    }

    /// Sends so many pictures.
    pub fn pictures(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            for packet in self.picture() {
                self.rtsp.frame(0, &packet);
            }
        }
        self
    }
}

/// An RTP packet: marker and payload type, sequence number, time, source, payload.
pub fn rtp(kind: u8, seq: u16, time: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, kind];
    packet.extend(seq.to_be_bytes());
    packet.extend(time.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// The SPS and PPS of an `avcC` record with one of each.
fn parameter_sets(record: &[u8]) -> Vec<Vec<u8>> {
    let (mut sets, mut at) = (Vec::new(), 6);
    for _ in 0..2 {
        let len = usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
        sets.push(record[at + 2..at + 2 + len].to_vec());
        // Behind the SPS is the number of PPS.
        at += 2 + len + 1;
    }
    sets
}
