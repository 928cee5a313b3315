//! An RTMP client over a blocking socket that goes wrong wherever a test wants it to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use arcly_codec::amf0::Value;
use arcly_rtmp::wire::handshake::PACKET;
use arcly_rtmp::wire::{
    Capabilities, ChunkDecoder, ChunkLimits, ChunkStreamId, Connect, ControlMessage, Invoke, Message,
    MessageHeader, MessageType, Request, Response, UserControl, encode_message,
};
use bytes::BytesMut;
use socket2::SockRef;

use super::feed::FlvTag;

/// How long a well-behaved step may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What arcly answers to a client is cut into chunks of at most this, whatever else is on the connection.
const READ: usize = 64 << 10;

/// One connection to an RTMP listener.
pub struct Peer {
    pub socket: TcpStream,
    decoder: ChunkDecoder,
    pending: Vec<u8>,
    /// What comes is messages and no longer the handshake.
    speaks: bool,
    chunk_size: usize,
    transaction: f64,
    /// Bytes that the server has sent.
    pub received: usize,
    /// Codes of statuses and errors that the server has sent.
    pub codes: Vec<String>,
    /// The server has closed the connection.
    pub ended: bool,
    /// The server has taken no more, or has reset the connection.
    pub broken: bool,
}

impl Peer {
    /// A connection on which nothing has been sent.
    pub fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    /// The same from a local address of its own, with a receive buffer of that size where it is given.
    pub fn open_from(addr: SocketAddr, local: &str, receive_buffer: Option<usize>) -> Self {
        Self::over(super::connect_from(addr, local, receive_buffer))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        // A server that has stopped reading must not hold up the test.
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let limits = ChunkLimits { command_message_bytes: 10 << 20, ..ChunkLimits::default() };
        Self {
            socket,
            decoder: ChunkDecoder::new(limits),
            pending: Vec::new(),
            speaks: false,
            chunk_size: 128,
            transaction: 0.0,
            received: 0,
            codes: Vec::new(),
            ended: false,
            broken: false,
        }
    }

    /// What the server knows this peer as.
    pub fn name(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    // Sending.

    /// Sends bytes; a server that has closed the connection meanwhile is not this method's business.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.broken |= (&self.socket).write_all(bytes).is_err();
        self
    }

    /// A message in chunks of the size that was announced last.
    pub fn message(&mut self, kind: MessageType, stream_id: u32, timestamp: u32, body: &[u8]) -> &mut Self {
        let csid = match kind {
            MessageType::Video => ChunkStreamId::VIDEO,
            MessageType::Audio => ChunkStreamId::AUDIO,
            _ if stream_id == 0 => ChunkStreamId::COMMAND,
            _ => ChunkStreamId::STREAM,
        };
        let mut out = BytesMut::new();
        let header = MessageHeader { csid, timestamp, kind, stream_id };
        encode_message(&mut out, &header, &[body], self.chunk_size);
        self.send(&out)
    }

    /// Several requests in one write, none of which waits for an answer.
    pub fn requests(&mut self, requests: impl Iterator<Item = (u32, Request)>) -> &mut Self {
        let mut out = BytesMut::new();
        for (stream_id, request) in requests {
            let kind = MessageType::CommandAmf0;
            let header = MessageHeader { csid: ChunkStreamId::STREAM, timestamp: 0, kind, stream_id };
            encode_message(&mut out, &header, &[&request.encode(0.0).encode()], self.chunk_size);
        }
        self.send(&out)
    }

    pub fn video(&mut self, timestamp: u32, body: &[u8]) -> &mut Self {
        self.message(MessageType::Video, 1, timestamp, body)
    }

    pub fn tag(&mut self, tag: &FlvTag) -> &mut Self {
        self.message(MessageType::from_id(tag.kind.type_id()), 1, tag.timestamp, &tag.body)
    }

    pub fn control(&mut self, message: ControlMessage) -> &mut Self {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.send(&out)
    }

    pub fn set_chunk_size(&mut self, size: u32) -> &mut Self {
        self.control(ControlMessage::SetChunkSize(size));
        self.chunk_size = size as usize;
        self
    }

    pub fn request(&mut self, stream_id: u32, request: Request) -> &mut Self {
        self.transaction += 1.0;
        let body = request.encode(self.transaction).encode();
        self.message(MessageType::CommandAmf0, stream_id, 0, &body)
    }

    /// A command whose arguments end in bytes that are no AMF.
    pub fn command_with(&mut self, name: &str, tail: &[u8]) -> &mut Self {
        let body = [&Invoke::new(name, 1.0, Vec::<Value>::new()).encode()[..], tail].concat();
        self.message(MessageType::CommandAmf0, 0, 0, &body)
    }

    /// What comes is no longer looked at: something else has read from the socket.
    pub fn stop_listening(&mut self) -> &mut Self {
        self.speaks = false;
        self
    }

    /// The handshake was done by hand: messages follow.
    pub fn speaks(&mut self) -> &mut Self {
        self.speaks = true;
        self
    }

    // Steps of a well-behaved client.

    pub fn handshake(&mut self) -> &mut Self {
        let mut c0c1 = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
        c0c1.extend(super::noise(1).take(PACKET - 8));
        self.send(&c0c1);
        let mut answer = vec![0; 1 + 2 * PACKET];
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (&self.socket).read_exact(&mut answer).expect("S0, S1 and S2");
        self.received += answer.len();
        self.speaks = true;
        let s1 = &answer[1..=PACKET];
        self.send(s1)
    }

    pub fn connect(&mut self, app: &str, capabilities: Capabilities) -> &mut Self {
        let connect = Connect {
            app: app.into(),
            tc_url: format!("rtmp://127.0.0.1/{app}").into(),
            flash_ver: "FMLE/3.0 (arcly's tests)".into(),
            capabilities,
            ..Connect::default()
        };
        self.request(0, Request::Connect(Box::new(connect))).expect_code("NetConnection.Connect.Success")
    }

    pub fn create_stream(&mut self) -> &mut Self {
        self.request(0, Request::CreateStream);
        let transaction = self.transaction;
        let created = self.read_until(PATIENCE, |message| {
            matches!(response(message), Some(Response::Result { transaction: of, .. }) if of == transaction)
        });
        assert!(created, "no answer to createStream: {:?}", self.codes);
        self
    }

    pub fn publish(&mut self, name: &str) -> &mut Self {
        self.request(1, Request::Publish { name: name.into(), kind: "live".into() })
    }

    pub fn play(&mut self, name: &str) -> &mut Self {
        self.request(1, Request::Play { name: name.into(), start: -2.0 })
    }

    // Stages.

    pub fn handshaken(mut self) -> Self {
        self.handshake();
        self
    }

    pub fn connected(mut self) -> Self {
        self.handshake().connect("live", Capabilities::default());
        self
    }

    pub fn created(mut self) -> Self {
        self.handshake().connect("live", Capabilities::default()).create_stream();
        self
    }

    pub fn publishing(self, name: &str) -> Self {
        let mut peer = self.created();
        peer.publish(name).expect_code("NetStream.Publish.Start");
        peer
    }

    pub fn playing(self, name: &str) -> Self {
        let mut peer = self.created();
        peer.play(name).expect_code("NetStream.Play.Start");
        peer
    }

    // Receiving.

    /// Reads until a status with this code has come.
    #[track_caller]
    pub fn expect_code(&mut self, code: &str) -> &mut Self {
        let heard = |codes: &[String]| codes.iter().any(|c| c == code);
        let end = Instant::now() + PATIENCE;
        while !heard(&self.codes) {
            let message = self.next_message(end);
            assert!(message.is_some(), "{code} did not come, only {:?}; ended: {}", self.codes, self.ended);
        }
        self
    }

    /// Reads messages until `is_it` likes one; false when `limit` passes or the server closes before.
    pub fn read_until(&mut self, limit: Duration, mut is_it: impl FnMut(&Message) -> bool) -> bool {
        let end = Instant::now() + limit;
        while let Some(message) = self.next_message(end) {
            if is_it(&message) {
                return true;
            }
        }
        false
    }

    /// Reads tags of the stream that is played until `is_it` likes one.
    pub fn next_tag(&mut self, end: Instant) -> Option<FlvTag> {
        loop {
            let message = self.next_message(end)?;
            if let Some(kind) = arcly_codec::flv::TagKind::from_type_id(message.kind.id()) {
                return Some(FlvTag { kind, timestamp: message.timestamp, body: message.payload });
            }
        }
    }

    /// Reads until the server closes the connection; true when it does within `limit`. A reset counts.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.next_message(end).is_some() {}
        self.ended
    }

    /// The next message of any kind, unless `end` comes first or the connection ends.
    pub fn next_message(&mut self, end: Instant) -> Option<Message> {
        loop {
            if let Some(message) = self.decode() {
                return Some(message);
            }
            if self.ended || !self.receive(end) {
                return None;
            }
        }
    }

    fn decode(&mut self) -> Option<Message> {
        if !self.speaks {
            return None;
        }
        let mut input = &self.pending[..];
        let decoded = self.decoder.decode(&mut input).expect("arcly sends good chunks");
        let taken = self.pending.len() - input.len();
        self.pending.drain(..taken);
        let message = decoded?;
        self.note(&message);
        Some(message)
    }

    fn note(&mut self, message: &Message) {
        match ControlMessage::decode(message.kind, &message.payload) {
            Ok(Some(ControlMessage::SetChunkSize(size))) => self.decoder.set_chunk_size(size),
            Ok(Some(ControlMessage::User(UserControl::PingRequest(at)))) => {
                self.control(ControlMessage::User(UserControl::PingResponse(at)));
            }
            _ => {}
        }
        match response(message) {
            Some(Response::Status { status, .. } | Response::Error { status, .. }) => {
                self.codes.push(status.code.to_string());
            }
            Some(Response::Result { value, .. }) => {
                let code = value.as_object().and_then(|info| info.str("code"));
                self.codes.extend(code.map(str::to_owned));
            }
            _ => {}
        }
    }

    /// Reads once. False when `end` came first, or the connection has ended.
    fn receive(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut buf = vec![0; READ];
        match (&self.socket).read(&mut buf) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.received += count;
                self.pending.extend_from_slice(&buf[..count]);
            }
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

fn response(message: &Message) -> Option<Response> {
    if !matches!(message.kind, MessageType::CommandAmf0 | MessageType::CommandAmf3) {
        return None;
    }
    Some(Response::decode(Invoke::decode(message.kind, &message.payload).expect("arcly sends good commands")))
}

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
