//! What comes over a connection, taken apart: requests, responses and interleaved frames, in whatever pieces the bytes
//! arrive.
//!
//! ```text
//!   bytes ──► push ──► line by line ──► headers ──► body ──► Item::Request | Item::Response
//!                  └─► `$` ─► header ─► packet ────────────► Item::Frame
//! ```
//!
//! Bounds: a line is judged as soon as it is longer than its limit, a length as soon as it is read; nothing is allocated
//! before the bytes for it have come. What cannot become a message any more is an error at the first byte that says so.
//!
//! Tolerated: empty lines between messages (RFC 7826 §5.2), lines that end in LF alone, folded header lines (RFC 2326 §4),
//! blanks around header names and values, header values that are no UTF-8 (what is not is replaced), a response without a
//! reason, `Content-Length` said twice with one value.

use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_rtp::media::INTERLEAVED_HEADER;
use bytes::{Buf, Bytes, BytesMut};

use super::interleaved::{DOLLAR, Frame};
use super::message::{Headers, Protocol, Request, Response, Status, Version, cseq, number};

/// What a peer can make a decoder hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageLimits {
    /// Bytes of a request or status line, without its end.
    pub start_line: usize,
    /// Bytes of a header line, folded ones together.
    pub header_line: usize,
    /// Header fields.
    pub headers: usize,
    /// Bytes of start line and header lines.
    pub head: usize,
    /// Bytes of a body.
    pub body: usize,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self { start_line: 4 << 10, header_line: 4 << 10, headers: 64, head: 32 << 10, body: 128 << 10 }
    }
}

/// One thing that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
    /// A packet on a channel.
    Frame(Frame),
}

#[derive(Debug)]
enum Start {
    Request(Request),
    Response(Response),
}

impl Start {
    const fn headers_mut(&mut self) -> &mut Headers {
        match self {
            Self::Request(request) => &mut request.headers,
            Self::Response(response) => &mut response.headers,
        }
    }

    const fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    fn with_body(self, body: Bytes) -> Item {
        match self {
            Self::Request(request) => Item::Request(Request { body, ..request }),
            Self::Response(response) => Item::Response(Response { body, ..response }),
        }
    }
}

/// A message whose head has begun.
#[derive(Debug)]
struct Pending {
    start: Start,
    /// Bytes of its lines so far.
    head: usize,
    /// The length of its body, once its head is whole.
    body: Option<usize>,
}

/// Takes a connection's bytes apart. After an error it has nothing more to say.
#[derive(Debug)]
pub struct Decoder {
    limits: MessageLimits,
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that have no line end among them.
    scanned: usize,
    pending: Option<Pending>,
    frames: bool,
}

impl Decoder {
    /// A decoder that has seen nothing, and knows of no channel.
    #[must_use]
    pub fn new(limits: MessageLimits) -> Self {
        Self { limits, buffer: BytesMut::new(), scanned: 0, pending: None, frames: false }
    }

    /// Whether interleaved frames may come: not before a channel was agreed on.
    pub const fn allow_frames(&mut self, allowed: bool) {
        self.frames = allowed;
    }

    /// Takes bytes, to be [polled](Self::poll) for.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that were taken and are not part of anything that came out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Everything that was pushed and not decoded, for whoever goes on in another protocol (a tunnel).
    pub fn take_rest(&mut self) -> Bytes {
        self.scanned = 0;
        self.buffer.split().freeze()
    }

    /// The number of the request that is being read, for the answer to one that cannot be read to its end.
    #[must_use]
    pub fn pending_cseq(&self) -> Option<u32> {
        self.pending.as_ref().and_then(|pending| cseq(pending.start.headers()))
    }

    /// The next thing, `None` until more bytes have come.
    ///
    /// # Errors
    /// What came cannot be a message or a frame, or is one beyond the limits.
    pub fn poll(&mut self) -> DecodeResult<Option<Item>> {
        loop {
            match &mut self.pending {
                None => match self.buffer.first() {
                    None => return Ok(None),
                    Some(&DOLLAR) => return self.frame(),
                    Some(b'\r' | b'\n') => self.buffer.advance(1),
                    Some(_) => {
                        let Some(line) = self.line("request_line", self.limits.start_line)? else {
                            return Ok(None);
                        };
                        let start = start_line(&line)?;
                        self.pending = Some(Pending { start, head: line.len(), body: None });
                    }
                },
                Some(Pending { body: Some(len), .. }) => {
                    let len = *len;
                    if self.buffer.len() < len {
                        return Ok(None);
                    }
                    let body = self.buffer.split_to(len).freeze();
                    let Some(pending) = self.pending.take() else { return Ok(None) };
                    return Ok(Some(pending.start.with_body(body)));
                }
                Some(Pending { body: None, .. }) => {
                    let Some(line) = self.line("header_line", self.limits.header_line)? else {
                        return Ok(None);
                    };
                    self.header(&line)?;
                }
            }
        }
    }

    fn frame(&mut self) -> DecodeResult<Option<Item>> {
        if !self.frames {
            return Err(malformed("interleaved frame before setup"));
        }
        let Some(&[_, channel, high, low]) = self.buffer.first_chunk::<INTERLEAVED_HEADER>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if self.buffer.len().saturating_sub(INTERLEAVED_HEADER) < len {
            return Ok(None);
        }
        self.buffer.advance(INTERLEAVED_HEADER);
        Ok(Some(Item::Frame(Frame { channel, payload: self.buffer.split_to(len).freeze() })))
    }

    /// The next line without its end.
    fn line(&mut self, what: &'static str, limit: usize) -> DecodeResult<Option<Bytes>> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let exceeded = DecodeError::LimitExceeded { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) };
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            if self.pending.is_none() && !unseen.iter().all(|byte| is_text(*byte) || *byte == b'\r') {
                return Err(malformed("start line"));
            }
            self.scanned = self.buffer.len();
            // One byte more may be the first of a line end.
            return if self.scanned > limit.saturating_add(1) { Err(exceeded) } else { Ok(None) };
        };
        let end = self.scanned.saturating_add(at);
        self.scanned = 0;
        let mut line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len().saturating_sub(1));
        }
        if line.len() > limit { Err(exceeded) } else { Ok(Some(line)) }
    }

    fn header(&mut self, line: &[u8]) -> DecodeResult<()> {
        let limits = self.limits;
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.head = pending.head.saturating_add(line.len());
        if pending.head > limits.head {
            return Err(exceeded("head", limits.head));
        }
        if line.is_empty() {
            pending.body = Some(match &pending.start {
                // What an HTTP request says of its body is about all that will come through its tunnel.
                Start::Request(request) if request.version.protocol == Protocol::Http => 0,
                start => content_length(start.headers(), limits.body)?,
            });
            return Ok(());
        }
        let headers = pending.start.headers_mut();
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(malformed("header"));
        }
        let text = String::from_utf8_lossy(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            let value = headers.last_mut().ok_or(malformed("folded header"))?;
            value.push(' ');
            value.push_str(text.trim());
            let folded = value.len() > limits.header_line;
            return if folded { Err(exceeded("header_line", limits.header_line)) } else { Ok(()) };
        }
        if headers.len() >= limits.headers {
            return Err(exceeded("headers", limits.headers));
        }
        let (name, value) = text.split_once(':').ok_or(malformed("header"))?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(malformed("header name"));
        }
        headers.push(name, value.trim());
        Ok(())
    }
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what, offset: 0 }
}

fn exceeded(what: &'static str, limit: usize) -> DecodeError {
    DecodeError::LimitExceeded { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) }
}

const fn is_text(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E)
}

/// RFC 2326 §15.1 `token`.
const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

fn start_line(line: &[u8]) -> DecodeResult<Start> {
    if !line.iter().copied().all(is_text) {
        return Err(malformed("start line"));
    }
    let text = str::from_utf8(line).map_err(|_| malformed("start line"))?;
    let mut parts = text.split(' ').filter(|part| !part.is_empty());
    let first = parts.next().ok_or(malformed("start line"))?;
    if first.starts_with("RTSP/") || first.starts_with("HTTP/") {
        let version = first.parse().map_err(|_| malformed("version"))?;
        let status = parts.next().and_then(number).and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (100..1_000).contains(status)).ok_or(malformed("status"))?;
        let reason: Vec<&str> = parts.collect();
        let response = Response { version, reason: reason.join(" "), ..Response::new(Status(status)) };
        return Ok(Start::Response(response));
    }
    if !first.bytes().all(is_token) {
        return Err(malformed("method"));
    }
    let (Some(uri), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed("request line"));
    };
    let version: Version = version.parse().map_err(|_| malformed("version"))?;
    Ok(Start::Request(Request { version, ..Request::new(first.into(), uri) }))
}

/// The length of the body. One that 63 bits cannot hold is no length, as a negative one is none; two that differ are an
/// attempt to have the message end in two places.
fn content_length(headers: &Headers, limit: usize) -> DecodeResult<usize> {
    let mut found = None;
    for value in headers.all("Content-Length") {
        let length = number(value.trim()).ok_or(malformed("content-length"))?;
        if found.is_some_and(|found| found != length) {
            return Err(malformed("content-length"));
        }
        found = Some(length);
    }
    let length = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
    if length > limit { Err(exceeded("body", limit)) } else { Ok(length) }
}

#[cfg(test)]
#[path = "tests/decoder.rs"]
mod tests;
