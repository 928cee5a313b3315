//! Chunks back to messages.

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::super::message::{Message, MessageType};
use super::{DEFAULT_CHUNK_SIZE, EXTENDED};

/// Basic header (3), message header (11), extended timestamp (4).
const MAX_HEADER: usize = 18;

/// A message buffer starts at no more than this before any of its bytes has arrived.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// What a peer can make the decoder hold.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Longest audio, video or aggregate message. Room for any access unit (8 MiB) and its headers.
    pub media_message_bytes: usize,
    /// Longest message of any other type: commands and metadata are a few hundred bytes.
    pub command_message_bytes: usize,
    /// Sum of the partial messages of a connection.
    pub partial_bytes: usize,
    /// Chunk streams with a partial message at one time; encoders use two or three.
    pub partial_messages: usize,
    /// Chunk streams ever used on a connection.
    pub chunk_streams: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            media_message_bytes: 10 << 20,
            command_message_bytes: 64 << 10,
            partial_bytes: 12 << 20,
            partial_messages: 8,
            chunk_streams: 64,
        }
    }
}

/// One direction of a connection, taken apart.
#[derive(Debug)]
pub struct ChunkDecoder {
    limits: ChunkLimits,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// The stream whose chunk body comes next, and how much of it is missing.
    body: Option<(usize, usize)>,
    carry: Carry,
    partial_messages: usize,
    partial_bytes: usize,
    headers: u64,
}

/// The start of a header whose rest has not arrived; for a moment also the start of a body that could have been
/// part of the header.
#[derive(Debug, Default)]
struct Carry {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: MessageType,
    length: usize,
    stream_id: u32,
    timestamp: u32,
    /// What a type 3 chunk that begins a message adds.
    delta: u32,
    /// The extended timestamp field of the last header that had one.
    extended: Option<u32>,
    /// A type 3 chunk without the extended timestamp was seen here, so that there will be no other kind.
    unrepeated: bool,
    /// A message has begun and is not complete.
    partial: bool,
    buffer: BytesMut,
}

/// A chunk header, as far as it can be read without changing anything.
#[derive(Clone, Copy, Debug)]
struct ChunkHeader {
    csid: u32,
    known: Option<usize>,
    fields: Fields,
    extended: Option<u32>,
    unrepeated: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fields {
    /// Type 0.
    Full { timestamp: u32, length: usize, kind: MessageType, stream_id: u32 },
    /// Type 1.
    Message { delta: u32, length: usize, kind: MessageType },
    /// Type 2.
    Delta { delta: u32 },
    /// Type 3.
    Nothing,
}

impl ChunkDecoder {
    /// A decoder at the start of a connection, after the handshake.
    #[must_use]
    pub fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            body: None,
            carry: Carry::default(),
            partial_messages: 0,
            partial_bytes: 0,
            headers: 0,
        }
    }

    /// The peer announced its chunk size; zero is taken as one.
    pub fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX).max(1);
    }

    /// Chunk headers decoded so far: the work that a peer caused, whatever its bytes amounted to.
    #[must_use]
    pub const fn headers(&self) -> u64 {
        self.headers
    }

    /// Bytes held in partial messages.
    #[must_use]
    pub const fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Lets go of room for chunk streams that have not been used so far.
    pub fn shrink(&mut self) {
        self.streams.shrink_to_fit();
    }

    /// The peer will not send the rest of the partial message on this chunk stream; unknown ones are ignored.
    pub fn abort(&mut self, csid: u32) {
        let Some(stream) = self.streams.iter_mut().find(|s| s.id == csid && s.partial) else { return };
        stream.partial = false;
        self.partial_bytes = self.partial_bytes.saturating_sub(stream.buffer.len());
        self.partial_messages = self.partial_messages.saturating_sub(1);
        stream.buffer = BytesMut::new();
    }

    /// The next whole message, from the front of `input`. When it returns `None`, all of `input` was consumed.
    ///
    /// # Errors
    /// A header that cannot be, or a limit; the connection cannot be read any further.
    pub fn decode(&mut self, input: &mut &[u8]) -> DecodeResult<Option<Message>> {
        loop {
            let message = match self.body {
                Some((stream, missing)) if self.carry.len > 0 => {
                    let held = self.carry.bytes;
                    let mut body = held.get(..self.carry.len).unwrap_or_default();
                    let message = self.take_body(stream, missing, &mut body)?;
                    self.carry.pass(self.carry.len.saturating_sub(body.len()));
                    message
                }
                Some((stream, missing)) => self.take_body(stream, missing, input)?,
                None => match self.take_header(input)? {
                    Some(header) => self.begin_chunk(&header)?,
                    None => return Ok(None),
                },
            };
            if message.is_some() || (input.is_empty() && self.carry.len == 0 && self.body.is_some()) {
                return Ok(message);
            }
        }
    }

    /// Reads a header out of what was carried over and `input`; `None` when both together are too short.
    fn take_header(&mut self, input: &mut &[u8]) -> DecodeResult<Option<ChunkHeader>> {
        if self.carry.len == 0 {
            let mut r = Reader::new(input);
            match self.decode_header(&mut r) {
                Ok(header) => {
                    *input = r.rest();
                    return Ok(Some(header));
                }
                Err(error) if !error.is_incomplete() => return Err(error),
                Err(_) => {}
            }
        }
        let carried = self.carry.len;
        self.carry.fill(input);
        let filled = self.carry.bytes;
        let mut r = Reader::new(filled.get(..self.carry.len).unwrap_or_default());
        match self.decode_header(&mut r) {
            Ok(header) => {
                let used = r.position();
                *input = input.get(used.saturating_sub(carried)..).unwrap_or_default();
                // What looked like the start of a repeated timestamp can turn out to be the start of the body.
                self.carry.len = carried;
                self.carry.pass(used);
                Ok(Some(header))
            }
            Err(error) if error.is_incomplete() => {
                *input = &[];
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn decode_header(&self, r: &mut Reader<'_>) -> DecodeResult<ChunkHeader> {
        let first = r.u8("chunk basic header")?;
        let csid = match first & 0x3F {
            0 => u32::from(r.u8("chunk stream id")?).saturating_add(64),
            1 => u32::from(r.u16_le("chunk stream id")?).saturating_add(64),
            small => u32::from(small),
        };
        let known = self.streams.iter().position(|s| s.id == csid);
        let stream = known.and_then(|at| self.streams.get(at));
        let fields = Fields::decode(first >> 6, r)?;
        let mut header = ChunkHeader { csid, known, fields, extended: None, unrepeated: false };
        match fields {
            Fields::Full { timestamp: time, .. }
            | Fields::Message { delta: time, .. }
            | Fields::Delta { delta: time } => {
                if time == EXTENDED {
                    header.extended = Some(r.u32("extended timestamp")?);
                }
            }
            Fields::Nothing => {
                let stream = stream.ok_or_else(|| r.malformed("chunk type 3 on a new chunk stream"))?;
                header.extended = stream.extended;
                header.unrepeated = stream.skip_repeated(r)?;
            }
        }
        if stream.is_none() && !matches!(fields, Fields::Full { .. }) {
            return Err(r.malformed("chunk type 1 or 2 on a new chunk stream"));
        }
        Ok(header)
    }

    /// Applies a header; a message without a body is complete with it.
    fn begin_chunk(&mut self, header: &ChunkHeader) -> DecodeResult<Option<Message>> {
        self.headers = self.headers.saturating_add(1);
        let at = match header.known {
            Some(at) => at,
            None => self.add_stream(header.csid)?,
        };
        let Some(stream) = self.streams.get_mut(at) else { return Ok(None) };
        let begins = !stream.partial;
        stream.apply(header)?;
        if begins {
            let limit = if stream.kind.is_media() {
                self.limits.media_message_bytes
            } else {
                self.limits.command_message_bytes
            };
            at_most(stream.length, limit, "message_size")?;
            if stream.length == 0 {
                return Ok(Some(stream.finish()));
            }
            at_most(
                self.partial_messages.saturating_add(1),
                self.limits.partial_messages,
                "partial_messages",
            )?;
            self.partial_messages = self.partial_messages.saturating_add(1);
            stream.partial = true;
            stream.buffer = BytesMut::with_capacity(stream.length.min(FIRST_ALLOCATION));
        }
        let missing = stream.length.saturating_sub(stream.buffer.len());
        self.body = Some((at, missing.min(self.chunk_size)));
        Ok(None)
    }

    fn add_stream(&mut self, csid: u32) -> DecodeResult<usize> {
        let at = self.streams.len();
        at_most(at.saturating_add(1), self.limits.chunk_streams, "chunk_streams")?;
        self.streams.push(ChunkStream::new(csid));
        Ok(at)
    }

    fn take_body(&mut self, at: usize, missing: usize, input: &mut &[u8]) -> DecodeResult<Option<Message>> {
        let Some(stream) = self.streams.get_mut(at) else { return Ok(None) };
        let (now, later) = input.split_at(missing.min(input.len()));
        *input = later;
        self.partial_bytes = self.partial_bytes.saturating_add(now.len());
        at_most(self.partial_bytes, self.limits.partial_bytes, "partial_bytes")?;
        stream.append(now);
        let missing = missing.saturating_sub(now.len());
        self.body = (missing > 0).then_some((at, missing));
        if stream.buffer.len() < stream.length {
            return Ok(None);
        }
        self.partial_messages = self.partial_messages.saturating_sub(1);
        self.partial_bytes = self.partial_bytes.saturating_sub(stream.length);
        Ok(Some(stream.finish()))
    }
}

fn at_most(value: usize, limit: usize, what: &'static str) -> DecodeResult<()> {
    if value <= limit { Ok(()) } else { Err(DecodeError::LimitExceeded { what, limit: limit as u64 }) }
}

impl Carry {
    /// Takes from `input` what fits, without consuming it there.
    fn fill(&mut self, input: &[u8]) {
        let mut room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = room.len().min(input.len());
        room.put_slice(input.get(..taken).unwrap_or_default());
        self.len = self.len.saturating_add(taken);
    }

    /// Forgets the first `used` bytes.
    fn pass(&mut self, used: usize) {
        let used = used.min(self.len);
        self.bytes.copy_within(used..self.len, 0);
        self.len = self.len.saturating_sub(used);
    }
}

impl Fields {
    fn decode(format: u8, r: &mut Reader<'_>) -> DecodeResult<Self> {
        if format == 3 {
            return Ok(Self::Nothing);
        }
        let time = r.u24("chunk timestamp")?;
        if format == 2 {
            return Ok(Self::Delta { delta: time });
        }
        let length = usize::try_from(r.u24("message length")?).unwrap_or(usize::MAX);
        let kind = MessageType::from_id(r.u8("message type id")?);
        if format == 1 {
            return Ok(Self::Message { delta: time, length, kind });
        }
        Ok(Self::Full { timestamp: time, length, kind, stream_id: r.u32_le("message stream id")? })
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            kind: MessageType::Other(0),
            length: 0,
            stream_id: 0,
            timestamp: 0,
            delta: 0,
            extended: None,
            unrepeated: false,
            partial: false,
            buffer: BytesMut::new(),
        }
    }

    /// Passes the repeated extended timestamp of a type 3 chunk, if this chunk has one. True when it is
    /// certain that it has none.
    fn skip_repeated(&self, r: &mut Reader<'_>) -> DecodeResult<bool> {
        let Some(extended) = self.extended.filter(|_| !self.unrepeated) else { return Ok(self.unrepeated) };
        let expected = extended.to_be_bytes();
        let there = r.rest().get(..4).unwrap_or(r.rest());
        if !expected.starts_with(there) {
            return Ok(true);
        }
        r.skip(4, "repeated extended timestamp").map(|()| false)
    }

    fn apply(&mut self, header: &ChunkHeader) -> DecodeResult<()> {
        if self.partial {
            // "Type 3 … used for the remaining chunks of a message" (5.3.1.2.4).
            if !matches!(header.fields, Fields::Nothing) {
                return Err(DecodeError::Malformed { what: "chunk header within a message", offset: 0 });
            }
            self.unrepeated = header.unrepeated;
            return Ok(());
        }
        match header.fields {
            Fields::Full { timestamp, length, kind, stream_id } => {
                (self.length, self.kind, self.stream_id) = (length, kind, stream_id);
                self.timestamp = header.extended.unwrap_or(timestamp);
                // A type 3 chunk after a type 0 one repeats its time as the delta (5.3.1.2.4).
                self.delta = self.timestamp;
            }
            Fields::Message { delta, length, kind } => {
                (self.length, self.kind) = (length, kind);
                self.advance(header.extended.unwrap_or(delta));
            }
            Fields::Delta { delta } => self.advance(header.extended.unwrap_or(delta)),
            Fields::Nothing => {
                self.unrepeated = header.unrepeated;
                self.advance(self.delta);
            }
        }
        self.extended = header.extended;
        Ok(())
    }

    const fn advance(&mut self, delta: u32) {
        self.delta = delta;
        self.timestamp = self.timestamp.wrapping_add(delta);
    }

    /// Grows by doubling, never past the declared length: a message of the common size is allocated once, and
    /// a peer that declares much and sends little holds little.
    fn append(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len().saturating_add(bytes.len());
        if needed > self.buffer.capacity() {
            let target = needed.max(self.buffer.capacity().saturating_mul(2)).min(self.length);
            self.buffer.reserve(target.saturating_sub(self.buffer.len()));
        }
        self.buffer.put_slice(bytes);
    }

    fn finish(&mut self) -> Message {
        self.partial = false;
        let payload: Bytes = core::mem::take(&mut self.buffer).freeze();
        Message { kind: self.kind, timestamp: self.timestamp, stream_id: self.stream_id, payload }
    }
}

#[cfg(test)]
impl ChunkDecoder {
    pub(super) fn streams_for_test(&self) -> Vec<u32> {
        self.streams.iter().map(|s| s.id).collect()
    }

    pub(super) fn capacity_for_test(&self) -> usize {
        self.streams.iter().map(|s| s.buffer.capacity()).sum()
    }
}
