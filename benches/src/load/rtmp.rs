use std::io;

use super::chunks::{
    ACKNOWLEDGEMENT, COMMAND, ChunkSkimmer, SET_CHUNK_SIZE, USER_CONTROL, WINDOW_ACK_SIZE, put_message,
    put_message_on,
};
use super::clip::Frame;
use super::peer::Peer;

const DEFAULT_CHUNK_SIZE: usize = 128;
const HANDSHAKE: usize = 1_536;
const STREAM: u32 = 1;

/// What an RTMP client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To play.
    Play,
    /// To publish with that chunk size.
    Publish(usize),
}

/// An RTMP client: simple handshake, `connect`, `createStream`, `play` or `publish`, each after the answer to the last;
/// acknowledges and answers pings. Shares no code with arcly's.
#[derive(Debug)]
pub struct RtmpPeer {
    role: Role,
    app: String,
    stream: String,
    state: State,
    chunks: ChunkSkimmer,
    window: u64,
    received: u64,
    acknowledged: u64,
    ready: bool,
}

#[derive(Debug)]
enum State {
    /// What has come of S0, S1 and S2.
    Handshake(Vec<u8>),
    Connecting,
    Creating,
    Going,
}

impl RtmpPeer {
    /// A client of the stream `app/name`.
    #[must_use]
    pub fn new(role: Role, app: &str, stream: &str) -> Self {
        Self {
            role,
            app: app.to_owned(),
            stream: stream.to_owned(),
            state: State::Handshake(Vec::new()),
            chunks: ChunkSkimmer::new(DEFAULT_CHUNK_SIZE),
            window: 0,
            received: 0,
            acknowledged: 0,
            ready: false,
        }
    }

    /// True when the server has said that it may publish.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    fn handshake<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let State::Handshake(got) = &mut self.state else { return bytes };
        let (now, later) = bytes.split_at((1 + 2 * HANDSHAKE - got.len()).min(bytes.len()));
        got.extend_from_slice(now);
        if got.len() == 1 + 2 * HANDSHAKE {
            out.extend_from_slice(&got[1..=HANDSHAKE]);
            self.state = State::Connecting;
            self.connect(out);
        }
        later
    }

    fn connect(&self, out: &mut Vec<u8>) {
        if let Role::Publish(chunk_size) = self.role {
            let size = u32::try_from(chunk_size).unwrap_or(u32::MAX).to_be_bytes();
            put_message(out, SET_CHUNK_SIZE, 0, &size, DEFAULT_CHUNK_SIZE);
        }
        let mut body = Amf::command("connect", 1.0);
        body.0.push(3);
        body.property("app", &self.app);
        body.property("flashVer", "FMLE/3.0 (compatible; bench)");
        body.property("tcUrl", &format!("rtmp://127.0.0.1/{}", self.app));
        body.0.extend([0, 0, 9]);
        self.send(out, 0, &body.0);
    }

    fn send(&self, out: &mut Vec<u8>, stream_id: u32, body: &[u8]) {
        let chunk_size = match self.role {
            Role::Publish(size) => size,
            Role::Play => DEFAULT_CHUNK_SIZE,
        };
        put_message_on(out, (3, stream_id), COMMAND, 0, body, chunk_size);
    }

    /// Goes on with what an answer allows.
    fn handle_command(&mut self, head: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let name = command_name(head);
        match (&self.state, name) {
            (_, b"_error") => return Err(refused(head)),
            (State::Connecting, b"_result") => {
                self.state = State::Creating;
                let mut body = Amf::command("createStream", 2.0);
                body.0.push(5);
                self.send(out, 0, &body.0);
            }
            (State::Creating, b"_result") => {
                self.state = State::Going;
                let (name, transaction) =
                    if self.role == Role::Play { ("play", 4.0) } else { ("publish", 5.0) };
                let mut body = Amf::command(name, transaction);
                body.0.push(5);
                body.string(&self.stream);
                if self.role != Role::Play {
                    body.string("live");
                }
                self.send(out, STREAM, &body.0);
            }
            (State::Going, b"onStatus") => self.ready = true,
            _ => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, out: &mut Vec<u8>) {
        if self.window > 0 && self.received - self.acknowledged >= self.window {
            self.acknowledged = self.received;
            let count = (self.received & 0xFFFF_FFFF) as u32;
            put_message(out, ACKNOWLEDGEMENT, 0, &count.to_be_bytes(), DEFAULT_CHUNK_SIZE);
        }
    }
}

impl Peer for RtmpPeer {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.push(3);
        out.extend([0; 8]);
        out.extend((0..HANDSHAKE - 8).map(|n| (n % 251) as u8));
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        self.received += bytes.len() as u64;
        let bytes = self.handshake(bytes, out);
        let mut chunks = core::mem::replace(&mut self.chunks, ChunkSkimmer::new(0));
        let result = chunks.skim(bytes, |kind, head| {
            match (kind, head) {
                (COMMAND, _) => self.handle_command(head, out)?,
                (WINDOW_ACK_SIZE, &[a, b, c, d, ..]) => self.window = u32::from_be_bytes([a, b, c, d]).into(),
                // PingRequest, and PingResponse.
                (USER_CONTROL, &[0, 6, a, b, c, d, ..]) => {
                    put_message(out, USER_CONTROL, 0, &[0, 7, a, b, c, d], DEFAULT_CHUNK_SIZE);
                }
                _ => Frame::from_head(kind, head).into_iter().for_each(&mut *frames),
            }
            Ok(())
        });
        self.chunks = chunks;
        self.acknowledge(out);
        result
    }
}

/// What `rawfan` sends: RTMP chunks of 60 000, and nothing before them.
#[derive(Debug)]
pub struct RawRtmpPeer(ChunkSkimmer);

impl RawRtmpPeer {
    /// A reader.
    #[must_use]
    pub const fn new(chunk_size: usize) -> Self {
        Self(ChunkSkimmer::new(chunk_size))
    }
}

impl Peer for RawRtmpPeer {
    fn open(&mut self, _: &mut Vec<u8>) {}

    fn receive(&mut self, bytes: &[u8], _: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        self.0.skim(bytes, |kind, head| {
            Frame::from_head(kind, head).into_iter().for_each(&mut *frames);
            Ok(())
        })
    }
}

/// The name in a command's first bytes.
fn command_name(head: &[u8]) -> &[u8] {
    let [2, high, low, rest @ ..] = head else { return &[] };
    rest.get(..usize::from(u16::from_be_bytes([*high, *low]))).unwrap_or_default()
}

fn refused(head: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, String::from_utf8_lossy(head).into_owned())
}

/// The little of AMF0 that clients say.
struct Amf(Vec<u8>);

impl Amf {
    fn command(name: &str, transaction: f64) -> Self {
        let mut amf = Self(Vec::new());
        amf.string(name);
        amf.0.push(0);
        amf.0.extend(transaction.to_be_bytes());
        amf
    }

    fn string(&mut self, text: &str) {
        self.0.push(2);
        self.bare(text);
    }

    fn bare(&mut self, text: &str) {
        self.0.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn property(&mut self, name: &str, value: &str) {
        self.bare(name);
        self.string(value);
    }
}
