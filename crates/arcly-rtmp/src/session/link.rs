//! What both ends of a connection do alike: chunks, acknowledgements, pings, and the bounds on a peer's demands.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::machine::Output;
use arcly_core::wire::DecodeResult;
use arcly_core::{Phase, TrackKind};
use bytes::{Bytes, BytesMut};

use crate::config::{Limits, SessionConfig};
use crate::error::SessionError;
use crate::wire::command::amf_body;
use crate::wire::{
    ChunkDecoder, ChunkStreamId, ControlMessage, Invoke, Message, MessageHeader, MessageType, UserControl,
    encode_message,
};

/// The smallest window that is acknowledged; smaller ones would be answered more than they are worth (R29).
const MIN_ACK_WINDOW: u32 = 4 << 10;
/// The least time between two acknowledgements.
const ACK_INTERVAL: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const COMMAND_WINDOW: Duration = Duration::from_secs(10);
/// Audio and video messages up to this long carry no frame.
const EMPTY_TAG: usize = 2;
/// The name in front of metadata that a publisher wants kept.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";

/// An FLV tag body out of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Video, audio, or script data.
    pub kind: TrackKind,
    /// Milliseconds on the publisher's clock, modulo 2^32.
    pub timestamp: u32,
    /// The body; of script data, from the name on and without `@setDataFrame`.
    pub payload: Bytes,
}

impl Tag {
    /// The tag in a message, unless the message is of another type or carries nothing.
    pub(super) fn from_message(message: Message) -> Option<Self> {
        let (kind, payload) = match message.kind {
            MessageType::Audio => (TrackKind::Audio, message.payload),
            MessageType::Video => (TrackKind::Video, message.payload),
            MessageType::DataAmf0 | MessageType::DataAmf3 => {
                let body = amf_body(message.kind, &message.payload);
                let body = body.strip_prefix(SET_DATA_FRAME).unwrap_or(body);
                (TrackKind::Data, message.payload.slice_ref(body))
            }
            _ => return None,
        };
        let carries = match kind {
            TrackKind::Data => !payload.is_empty() && !payload.starts_with(CLEAR_DATA_FRAME),
            _ => payload.len() > EMPTY_TAG,
        };
        carries.then_some(Self { kind, timestamp: message.timestamp, payload })
    }
}

#[derive(Debug)]
pub(super) struct Link {
    decoder: ChunkDecoder,
    limits: Limits,
    chunk_size: u32,
    out: BytesMut,
    acks: Acks,
    work: Work,
    commands: Rate,
    liveness: Liveness,
    stall: Option<Instant>,
    /// How long it may last.
    stall_limit: Duration,
    backlog: usize,
}

/// Acknowledgements that this side owes.
#[derive(Debug)]
struct Acks {
    window: u32,
    received: u64,
    acknowledged: u64,
    last: Option<Instant>,
}

/// Chunk headers against bytes in the current second.
#[derive(Debug)]
struct Work {
    since: Instant,
    headers: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Rate {
    since: Instant,
    count: u32,
}

/// When the peer was last heard, and what is done about silence.
#[derive(Debug)]
struct Liveness {
    heard: Instant,
    /// When the peer was asked whether it is there. It has as long to answer from then on, however late that was.
    pinged: Option<Instant>,
    idle: Option<Duration>,
}

impl Link {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        Self {
            decoder: ChunkDecoder::new(config.limits.chunks),
            limits: config.limits,
            chunk_size: crate::wire::chunk::DEFAULT_CHUNK_SIZE as u32,
            out: BytesMut::new(),
            acks: Acks { window: config.window_ack_size, received: 0, acknowledged: 0, last: None },
            work: Work { since: now, headers: 0, bytes: 0 },
            commands: Rate { since: now, count: 0 },
            liveness: Liveness { heard: now, pinged: None, idle: None },
            stall: None,
            stall_limit: config.timeouts.write_stall,
            backlog: 0,
        }
    }

    /// Lets go of the room for what does not come any more.
    pub(super) fn shrink(&mut self) {
        self.decoder.shrink();
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) const fn received(&self) -> u64 {
        self.acks.received
    }

    // Receiving.

    /// Accounts for bytes that are about to be decoded.
    pub(super) fn receive(&mut self, now: Instant, bytes: usize) {
        let bytes = bytes as u64;
        self.acks.received = self.acks.received.saturating_add(bytes);
        self.liveness.heard = now;
        self.liveness.pinged = None;
        if now.saturating_duration_since(self.work.since) >= SECOND {
            self.work = Work { since: now, headers: self.decoder.headers(), bytes: 0 };
        }
        self.work.bytes = self.work.bytes.saturating_add(bytes);
    }

    pub(super) fn decode(&mut self, input: &mut &[u8]) -> DecodeResult<Option<Message>> {
        self.decoder.decode(input)
    }

    /// After the input: acknowledges it where due, and looks at what it cost.
    pub(super) fn settle(&mut self, now: Instant) -> Result<(), SessionError> {
        self.acknowledge(now);
        let headers = self.decoder.headers().saturating_sub(self.work.headers);
        let by_bytes = (self.work.bytes >> 10).saturating_mul(self.limits.chunk_headers_per_kib);
        let limit = self.limits.chunk_headers.saturating_add(by_bytes);
        if headers > limit && self.acks.received > self.limits.free_bytes {
            return Err(SessionError::Limit { what: "chunk_work", limit });
        }
        Ok(())
    }

    fn acknowledge(&mut self, now: Instant) {
        let due = self.acks.received.saturating_sub(self.acks.acknowledged) >= u64::from(self.acks.window);
        let soon = self.acks.last.is_some_and(|last| now.saturating_duration_since(last) < ACK_INTERVAL);
        if due && !soon {
            self.acks.acknowledged = self.acks.received;
            self.acks.last = Some(now);
            // The sequence number is the count modulo 2^32 (5.4.3).
            self.control(ControlMessage::Acknowledgement((self.acks.received & 0xFFFF_FFFF) as u32));
        }
    }

    /// Acts on a control message; user control events that concern a stream are handed back.
    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        message: ControlMessage,
    ) -> Result<Option<UserControl>, SessionError> {
        match message {
            ControlMessage::SetChunkSize(size) => self.decoder.set_chunk_size(size),
            ControlMessage::Abort(csid) => self.decoder.abort(csid),
            ControlMessage::WindowAckSize(0) | ControlMessage::Acknowledgement(_) => {}
            ControlMessage::WindowAckSize(window) => self.acks.window = window.max(MIN_ACK_WINDOW),
            // "The peer receiving this message SHOULD respond with a Window Acknowledgement Size" (5.4.5); what this
            // side sends is limited by TCP and by what the stream has.
            ControlMessage::SetPeerBandwidth { window, .. } => {
                self.count_command(now)?;
                self.control(ControlMessage::WindowAckSize(window));
            }
            ControlMessage::User(event) => {
                self.count_command(now)?;
                if let UserControl::PingRequest(token) = event {
                    self.control(ControlMessage::User(UserControl::PingResponse(token)));
                }
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    pub(super) fn count_command(&mut self, now: Instant) -> Result<(), SessionError> {
        if now.saturating_duration_since(self.commands.since) >= COMMAND_WINDOW {
            self.commands = Rate { since: now, count: 0 };
        }
        self.commands.count = self.commands.count.saturating_add(1);
        let limit = self.limits.commands_per_10s;
        if self.commands.count > limit {
            return Err(SessionError::Limit { what: "commands", limit: limit.into() });
        }
        Ok(())
    }

    // Sending.

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn control(&mut self, message: ControlMessage) {
        message.encode(&mut self.out);
    }

    /// Announces the chunk size and sends with it from here on.
    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.control(ControlMessage::SetChunkSize(size));
        self.chunk_size = size;
    }

    pub(super) fn command(&mut self, stream_id: u32, invoke: &Invoke) {
        let csid = if stream_id == 0 { ChunkStreamId::COMMAND } else { ChunkStreamId::STREAM };
        self.message(csid, MessageType::CommandAmf0, stream_id, &invoke.encode());
    }

    pub(super) fn message(&mut self, csid: ChunkStreamId, kind: MessageType, stream_id: u32, body: &[u8]) {
        let header = MessageHeader { csid, timestamp: 0, kind, stream_id };
        encode_message(&mut self.out, &header, &[body], self.chunk_size as usize);
    }

    /// What is to be sent, if anything.
    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| core::mem::take(&mut self.out).freeze())
    }

    /// What the session's owner does next: sends, then hears of what happened, then waits, for `deadline` among others.
    /// A session that is over (`closed`) waits for nothing.
    pub(super) fn poll_output<E>(
        &mut self,
        events: &mut VecDeque<E>,
        deadline: Option<Instant>,
        closed: bool,
    ) -> Output<E> {
        if let Some(bytes) = self.transmit() {
            return Output::Transmit(bytes);
        }
        match events.pop_front() {
            Some(event) => Output::Event(event),
            None => Output::Wait(earlier(deadline, self.next_timeout()).filter(|_| !closed)),
        }
    }

    // Time.

    /// From here on, silence of half that is answered with a ping, and of that with the end.
    pub(super) const fn set_idle(&mut self, now: Instant, idle: Option<Duration>) {
        self.liveness.idle = idle;
        self.liveness.heard = now;
        self.liveness.pinged = None;
    }

    /// From here on, a socket may stand still for so long.
    pub(super) const fn set_stall(&mut self, limit: Duration) {
        self.stall_limit = limit;
    }

    /// The socket took some of what was written to it (`progress`), and `backlog` bytes wait for it.
    pub(super) fn handle_backlog(&mut self, now: Instant, backlog: usize, progress: bool) {
        if backlog == 0 {
            self.stall = None;
        } else if progress || self.stall.is_none() {
            self.stall = Some(now);
        }
        self.backlog = backlog;
    }

    /// Bytes that wait for the socket, as last reported.
    pub(super) fn check_backlog(&self) -> Result<(), SessionError> {
        if self.backlog > self.limits.backlog_bytes { Err(SessionError::SlowConsumer) } else { Ok(()) }
    }

    /// Time has passed. `setup` is when the set-up has to be over and what it is at, while it goes on.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        setup: Option<(Instant, Phase)>,
    ) -> Result<(), SessionError> {
        if let Some((_, phase)) = setup.filter(|(deadline, _)| now >= *deadline) {
            return Err(SessionError::Timeout(phase));
        }
        if self.stall.is_some_and(|since| now >= since + self.stall_limit) {
            return Err(SessionError::SlowConsumer);
        }
        let Some(idle) = self.liveness.idle else { return Ok(()) };
        if self.liveness.pinged.is_some_and(|at| now >= at + idle / 2) {
            // Who says nothing and takes nothing is stuck; who says nothing while its socket takes everything is gone.
            let stuck = self.stall.is_some();
            return Err(if stuck { SessionError::SlowConsumer } else { SessionError::Timeout(Phase::Idle) });
        }
        if self.liveness.pinged.is_none() && now >= self.liveness.heard + idle / 2 {
            self.liveness.pinged = Some(now);
            self.control(ControlMessage::User(UserControl::PingRequest(0)));
        }
        Ok(())
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let stall = self.stall.map(|since| since + self.stall_limit);
        let idle =
            self.liveness.idle.map(|idle| self.liveness.pinged.unwrap_or(self.liveness.heard) + idle / 2);
        earlier(stall, idle)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.decoder.partial_bytes() <= self.limits.chunks.partial_bytes + 65_536);
        assert!(self.acks.acknowledged <= self.acks.received);
        assert!(self.acks.window >= MIN_ACK_WINDOW);
        assert!(self.out.len() <= 1 << 20, "{} bytes of answers to one input", self.out.len());
    }
}

/// The earlier of two deadlines, where there are any.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
