//! Sessions against each other over a virtual network, and servers against what hostile peers send.

mod client;
mod hostile;
mod pair;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine, Output};
use arcly_core::{CloseReason, TrackKind};
use bytes::BytesMut;

use super::*;
use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::wire::handshake::digest::Scheme;
use crate::wire::handshake::{ClientHandshake, Entropy};
use crate::wire::{
    ChunkDecoder, ChunkLimits, ChunkStreamId, Connect, ControlMessage, Invoke, Message, MessageHeader,
    MessageType, Request, Response, Status, encode_message,
};

pub(crate) fn entropy(seed: u64) -> Entropy {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    Entropy::from_fn(|bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[3];
        }
    })
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A server session, and a hand-driven client that can send anything.
struct Bench {
    now: Instant,
    server: ServerSession,
    decoder: ChunkDecoder,
    handshake_left: usize,
    replies: Vec<Message>,
    raw: Vec<u8>,
    events: Vec<ServerEvent>,
    error: Option<SessionError>,
    transaction: f64,
}

impl Bench {
    fn new() -> Self {
        Self::with(SessionConfig::default())
    }

    fn with(config: SessionConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            server: ServerSession::new(Arc::new(config), entropy(1), now),
            decoder: ChunkDecoder::new(ChunkLimits::default()),
            handshake_left: 1 + 2 * crate::wire::handshake::PACKET,
            replies: Vec::new(),
            raw: Vec::new(),
            events: Vec::new(),
            error: None,
            transaction: 0.0,
        }
    }

    fn handshaken() -> Self {
        let mut bench = Self::new();
        bench.handshake();
        bench
    }

    fn handshake(&mut self) {
        let (_, c0c1) = ClientHandshake::new(&entropy(2), Scheme::First);
        self.send(&c0c1);
        self.send(&[0; crate::wire::handshake::PACKET]);
    }

    fn connected() -> Self {
        let mut bench = Self::handshaken();
        bench.connect(Connect { app: "live".into(), ..Connect::default() });
        bench
    }

    fn connect(&mut self, connect: Connect) {
        self.request(0, Request::Connect(Box::new(connect)));
    }

    /// Connected, with stream 1.
    fn created() -> Self {
        let mut bench = Self::connected();
        bench.request(0, Request::CreateStream);
        bench
    }

    fn publishing() -> Self {
        let mut bench = Self::created();
        bench.request(1, Request::Publish { name: "cam".into(), kind: "live".into() });
        let stream = bench.events.last().unwrap().stream();
        bench.server.accept_publish(bench.now, stream);
        bench.drain();
        bench
    }

    fn playing() -> Self {
        let mut bench = Self::created();
        bench.request(1, Request::Play { name: "cam".into(), start: -2.0 });
        let stream = bench.events.last().unwrap().stream();
        bench.server.accept_play(bench.now, stream);
        bench.drain();
        bench
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        for piece in bytes.chunks(64 << 10) {
            if let Err(error) = self.server.handle_input(self.now, piece) {
                assert!(self.error.is_none(), "an error is final");
                self.error = Some(error);
            }
            self.drain();
        }
        self
    }

    fn message(&mut self, kind: MessageType, stream_id: u32, body: &[u8]) -> &mut Self {
        self.message_at(kind, stream_id, 0, body)
    }

    fn message_at(&mut self, kind: MessageType, stream_id: u32, timestamp: u32, body: &[u8]) -> &mut Self {
        let mut out = BytesMut::new();
        let header = MessageHeader { csid: ChunkStreamId::COMMAND, timestamp, kind, stream_id };
        encode_message(&mut out, &header, &[body], 128);
        self.send(&out)
    }

    fn request(&mut self, stream_id: u32, request: Request) -> &mut Self {
        self.transaction += 1.0;
        let body = request.encode(self.transaction).encode();
        self.message(MessageType::CommandAmf0, stream_id, &body)
    }

    fn control(&mut self, message: ControlMessage) -> &mut Self {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.send(&out)
    }

    /// Lets time pass, in the steps that the session asks for.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        loop {
            let wake = self.drain().filter(|&wake| wake <= end);
            self.now = wake.unwrap_or(end).max(self.now);
            if let Err(error) = self.server.handle_timeout(self.now) {
                assert!(self.error.is_none());
                self.error = Some(error);
            }
            if wake.is_none() {
                self.drain();
                return self;
            }
        }
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            self.server.check_invariants();
            match self.server.poll_output() {
                Output::Transmit(bytes) => {
                    self.raw.extend_from_slice(&bytes);
                    let skipped = self.handshake_left.min(bytes.len());
                    self.handshake_left -= skipped;
                    let mut input = &bytes[skipped..];
                    while let Some(message) = self.decoder.decode(&mut input).unwrap() {
                        if let Ok(Some(ControlMessage::SetChunkSize(size))) =
                            ControlMessage::decode(message.kind, &message.payload)
                        {
                            self.decoder.set_chunk_size(size);
                        }
                        self.replies.push(message);
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Wait(until) => return until,
            }
        }
    }

    fn commands(&self) -> impl DoubleEndedIterator<Item = Invoke> + '_ {
        let commands = self.replies.iter().filter(|m| m.kind == MessageType::CommandAmf0);
        commands.map(|m| Invoke::decode(m.kind, &m.payload).unwrap())
    }

    /// Codes of all statuses that were sent.
    fn codes(&self) -> Vec<String> {
        let statuses = self.commands().filter_map(|invoke| match Response::decode(invoke) {
            Response::Status { status, .. } | Response::Error { status, .. } => Some(status),
            Response::Result { value, .. } => {
                let value = value.as_object().cloned()?;
                value.str("code").map(|code| Status::good(code, ""))
            }
            Response::Other(_) => None,
        });
        statuses.map(|status| status.code.to_string()).collect()
    }

    fn controls(&self) -> Vec<ControlMessage> {
        self.replies.iter().filter_map(|m| ControlMessage::decode(m.kind, &m.payload).unwrap()).collect()
    }

    #[track_caller]
    fn expect_closed(&self, reason: CloseReason) {
        assert_eq!(self.error.as_ref().map(SessionError::reason), Some(reason), "{:?}", self.error);
        assert_eq!(self.server.closed(), Some(reason));
    }

    #[track_caller]
    fn expect_open(&self) {
        assert_eq!(self.error, None);
        assert_eq!(self.server.closed(), None);
    }
}

const PUBLISH: fn(&str) -> Request = |name| Request::Publish { name: name.into(), kind: "live".into() };
const PLAY: fn(&str) -> Request = |name| Request::Play { name: name.into(), start: -2.0 };

/// An AVC keyframe's header, and then something.
const VIDEO: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65];
