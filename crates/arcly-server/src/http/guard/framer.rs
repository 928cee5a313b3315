//! Where requests begin and end on an HTTP/1 connection, decided strictly.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 9112 | 2.2, 3, 5 message parsing, 5.1 no space before colon, 5.2 no folding | [`Framer::feed`] |
//! | RFC 9112 | 6.1, 6.3, 11.2 request smuggling: length *or* chunked, and one of it | [`Framing`] |
//! | RFC 9112 | 7.1 chunked | [`Chunked`] |
//! | RFC 9110 | 7.2 exactly one Host | `Fields` |
//!
//! The HTTP library behind this is liberal in what it takes (bare LF, several lengths); a server that stands next to
//! proxies must not be, for whoever disagrees with a proxy about where a request ends can be made to answer the
//! wrong one. Heads are held back until they are complete and good; bodies pass through while they are counted.
//!
//! At most [`MAX_HEAD`] bytes are held. Nothing here panics or indexes. Tolerated: one empty line before a request
//! (RFC 9112 2.2), chunk extensions (ignored), HTTP/1.0 without Host.

use arcly_core::CloseReason;
use bytes::BytesMut;
use memchr::{memchr, memchr_iter, memchr3_iter};

/// Bytes of a request line and its fields.
pub(super) const MAX_HEAD: usize = 16 << 10;
/// Fields of a request.
pub(crate) const MAX_FIELDS: usize = 100;
/// Bytes of a Host field.
const MAX_HOST: usize = 255;
/// Bytes of a chunk's size line, extension included, and of all trailers together.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 1 << 10;
/// Hexadecimal digits of a chunk size; a chunk stays below 4 GiB.
const MAX_CHUNK_DIGITS: usize = 8;
/// What an HTTP/2 connection begins with, up to the end of its first line.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// `malformed` or the limit that was exceeded.
    pub reason: CloseReason,
    /// The status to answer with.
    pub status: u16,
    /// What is wrong, for people.
    pub what: &'static str,
    /// False when it was found in a body, whose request is being answered already.
    pub in_head: bool,
}

const fn malformed(what: &'static str) -> Violation {
    Violation { reason: CloseReason::Malformed, status: 400, what, in_head: true }
}

const fn limit(status: u16, name: &'static str, what: &'static str) -> Violation {
    Violation { reason: CloseReason::Limit(name), status, what, in_head: true }
}

/// How a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// The connection becomes something else: WebSocket.
    Opaque,
    /// The connection is one of HTTP/2.
    Multiplexed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    Chunk(Chunked),
    Opaque,
    Multiplexed,
}

/// The place within a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    /// In the size line: its value and digits so far, whether an extension has begun, bytes seen, and a CR last.
    Size {
        value: u64,
        digits: usize,
        extension: bool,
        seen: usize,
        cr: bool,
    },
    Data(u64),
    /// Behind a chunk's data: bytes of CRLF seen.
    DataEnd(usize),
    /// In the trailers: bytes seen, bytes in this line, and a CR last.
    Trailer {
        seen: usize,
        line: usize,
        cr: bool,
    },
}

impl Chunked {
    const START: Self = Self::Size { value: 0, digits: 0, extension: false, seen: 0, cr: false };
}

/// Cuts what a peer sends into heads and bodies.
#[derive(Debug)]
pub(crate) struct Framer {
    state: State,
    head: Vec<u8>,
    /// An empty line before this request was dropped.
    blank: bool,
}

impl Framer {
    /// A framer at the beginning of a connection.
    pub(crate) const fn new() -> Self {
        Self { state: State::Head, head: Vec::new(), blank: false }
    }

    /// True between requests: no byte of the next has come.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Head && self.head.is_empty()
    }

    /// True while a head is incomplete.
    pub(crate) fn is_in_head(&self) -> bool {
        self.state == State::Head && !self.head.is_empty()
    }

    /// True when the connection is one of HTTP/2.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.state == State::Multiplexed
    }

    /// How many bytes of a body may be read past this framer; tell it with [`pass`](Self::pass).
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Body(left) | State::Chunk(Chunked::Data(left)) => Some(left),
            State::Opaque | State::Multiplexed => Some(u64::MAX),
            _ => None,
        }
    }

    /// Tells that `count` bytes of a body were read past this framer.
    pub(crate) fn pass(&mut self, count: u64) {
        self.state = match self.state {
            State::Body(left) if left <= count => State::Head,
            State::Body(left) => State::Body(left - count),
            State::Chunk(Chunked::Data(left)) if left <= count => State::Chunk(Chunked::DataEnd(0)),
            State::Chunk(Chunked::Data(left)) => State::Chunk(Chunked::Data(left - count)),
            other => other,
        };
    }

    /// Takes bytes from the peer, and appends to `out` those that may be passed on.
    ///
    /// # Errors
    /// The first [`Violation`]; the connection must end.
    pub(crate) fn feed(&mut self, mut input: &[u8], out: &mut BytesMut) -> Result<(), Violation> {
        while !input.is_empty() {
            input = match self.state {
                State::Head => self.feed_head(input, out)?,
                State::Body(left) | State::Chunk(Chunked::Data(left)) => self.feed_body(left, input, out),
                State::Chunk(at) => feed_chunked(&mut self.state, at, input, out)?,
                State::Opaque | State::Multiplexed => self.feed_body(u64::MAX, input, out),
            };
        }
        Ok(())
    }

    fn feed_head<'a>(&mut self, input: &'a [u8], out: &mut BytesMut) -> Result<&'a [u8], Violation> {
        if self.head.is_empty()
            && let Some((head, rest)) = whole_head(input)
        {
            self.end_head(check(head)?);
            out.extend_from_slice(head);
            return Ok(rest);
        }
        for (at, &byte) in input.iter().enumerate() {
            self.push(byte)?;
            if self.head == b"\r\n" {
                if core::mem::replace(&mut self.blank, true) {
                    return Err(malformed("empty lines before the request"));
                }
                self.head.clear();
            } else if self.head.ends_with(b"\r\n\r\n") {
                self.end_head(check(&self.head)?);
                out.extend_from_slice(&self.head);
                self.head.clear();
                return Ok(input.get(at + 1..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    /// A head is complete and good.
    const fn end_head(&mut self, framing: Framing) {
        self.blank = false;
        self.state = match framing {
            Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Chunk(Chunked::START),
            Framing::Opaque => State::Opaque,
            Framing::Multiplexed => State::Multiplexed,
        };
    }

    fn push(&mut self, byte: u8) -> Result<(), Violation> {
        match (self.head.last(), byte) {
            (Some(b'\r'), b'\n') => {}
            (Some(b'\r'), _) => return Err(malformed("a CR without LF in the head")),
            (_, b'\n') => return Err(malformed("a line that ends in LF without CR")),
            (_, 0) => return Err(malformed("a NUL in the head")),
            _ => {}
        }
        if self.head.len() >= MAX_HEAD {
            return Err(limit(431, "head", "the request's head is larger than 16 KiB"));
        }
        self.head.push(byte);
        Ok(())
    }

    fn feed_body<'a>(&mut self, left: u64, input: &'a [u8], out: &mut BytesMut) -> &'a [u8] {
        let (taken, rest) = split_within(input, left);
        out.extend_from_slice(taken);
        self.pass(taken.len() as u64);
        rest
    }
}

/// The head at the front of `input` and what follows it, when all of it is there and its lines end as they should: nearly
/// always. Every other one is looked at byte by byte, which finds out what is wrong with it.
fn whole_head(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut marks = memchr3_iter(b'\r', b'\n', 0, input.get(..MAX_HEAD).unwrap_or(input));
    let mut line = 0;
    loop {
        let cr = marks.next()?;
        let lf = marks.next()?;
        if lf != cr + 1 || input.get(cr..=lf)? != b"\r\n" {
            return None;
        }
        if cr == line {
            return if line == 0 { None } else { input.split_at_checked(lf + 1) };
        }
        line = lf + 1;
    }
}

fn feed_chunked<'a>(
    state: &mut State,
    at: Chunked,
    input: &'a [u8],
    out: &mut BytesMut,
) -> Result<&'a [u8], Violation> {
    let Some((&byte, rest)) = input.split_first() else { return Ok(&[]) };
    let next = at.step(byte).map_err(|violation| Violation { in_head: false, ..violation })?;
    *state = next.map_or(State::Head, State::Chunk);
    out.extend_from_slice(&[byte]);
    Ok(rest)
}

impl Chunked {
    /// The place after one more byte outside of chunk data; `None` when the body has ended.
    fn step(self, byte: u8) -> Result<Option<Self>, Violation> {
        match self {
            Self::Size { value, cr: true, .. } => match (byte, value) {
                (b'\n', 0) => Ok(Some(Self::Trailer { seen: 0, line: 0, cr: false })),
                (b'\n', size) => Ok(Some(Self::Data(size))),
                _ => Err(malformed("a chunk size that does not end in CRLF")),
            },
            Self::Size { value, digits, extension, seen, cr: false } => {
                if seen >= MAX_CHUNK_LINE {
                    return Err(limit(
                        400,
                        "chunk_extension",
                        "a chunk's size line is longer than 256 bytes",
                    ));
                }
                let seen = seen + 1;
                let hex = char::from(byte).to_digit(16).filter(|_| !extension);
                match (byte, hex) {
                    (_, Some(_)) if digits >= MAX_CHUNK_DIGITS => {
                        Err(malformed("a chunk size beyond 32 bits"))
                    }
                    (_, Some(digit)) => {
                        let value = (value << 4) | u64::from(digit);
                        Ok(Some(Self::Size { value, digits: digits + 1, extension, seen, cr: false }))
                    }
                    _ if digits == 0 => Err(malformed("a chunk without a size")),
                    (b'\r', _) => Ok(Some(Self::Size { value, digits, extension, seen, cr: true })),
                    (b';', _) => Ok(Some(Self::Size { value, digits, extension: true, seen, cr: false })),
                    (b'\n' | 0, _) => Err(malformed("a chunk size that does not end in CRLF")),
                    _ if extension => Ok(Some(Self::Size { value, digits, extension, seen, cr: false })),
                    _ => Err(malformed("a chunk size that is not hexadecimal")),
                }
            }
            Self::Data(_) => Ok(Some(self)),
            Self::DataEnd(seen) => match (seen, byte) {
                (0, b'\r') => Ok(Some(Self::DataEnd(1))),
                (1, b'\n') => Ok(Some(Self::START)),
                _ => Err(malformed("a chunk that is not as long as it says")),
            },
            Self::Trailer { seen, .. } if seen >= MAX_TRAILERS => {
                Err(limit(400, "trailers", "trailers are longer than 1 KiB"))
            }
            Self::Trailer { seen, line, cr } => match (byte, cr) {
                (b'\n', true) if line == 0 => Ok(None),
                (b'\n', true) => Ok(Some(Self::Trailer { seen: seen + 1, line: 0, cr: false })),
                (_, true) | (b'\n' | 0, false) => Err(malformed("a trailer line that does not end in CRLF")),
                (b'\r', false) => Ok(Some(Self::Trailer { seen: seen + 1, line, cr: true })),
                (_, false) => Ok(Some(Self::Trailer { seen: seen + 1, line: line + 1, cr: false })),
            },
        }
    }
}

fn split_within(input: &[u8], left: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    input.split_at(at)
}

/// The fields of a head that decide about framing.
#[derive(Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    hosts: usize,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(limit(431, "headers", "the request has more than 100 header fields"));
        }
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name.len() {
            4 if is("host") => self.take_host(value)?,
            7 if is("upgrade") => self.upgrade = true,
            14 if is("content-length") => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let length = core::str::from_utf8(value).ok().filter(|_| digits).and_then(|v| v.parse().ok());
                let length = length.ok_or(malformed("a Content-Length that is not a number"))?;
                if self.length.replace(length).is_some() {
                    return Err(malformed("more than one Content-Length"));
                }
            }
            17 if is("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed("a Transfer-Encoding other than `chunked`, once"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), Violation> {
        self.hosts += 1;
        if value.len() > MAX_HOST
            || !value.iter().all(|b| b.is_ascii_alphanumeric() || b".-_~:[]%".contains(b))
        {
            return Err(malformed("a Host that is not a host name"));
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Violation> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(malformed("both Content-Length and Transfer-Encoding")),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) if self.upgrade => Ok(Framing::Opaque),
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Checks a complete head, its empty line included, and tells how the body ends.
fn check(head: &[u8]) -> Result<Framing, Violation> {
    if head == H2_PREFACE {
        return Ok(Framing::Multiplexed);
    }
    let mut from = 0;
    let mut lines = memchr_iter(b'\n', head).map(|at| {
        let line = head.get(from..at).unwrap_or_default();
        from = at + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let request = lines.next().unwrap_or_default();
    let modern = request.ends_with(b" HTTP/1.1");
    if !modern && !request.ends_with(b" HTTP/1.0") {
        return Err(malformed("a first line that is not an HTTP/1 request"));
    }
    let mut fields = Fields::default();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(malformed("a folded header line"));
        }
        let at = memchr(b':', line).ok_or(malformed("a header line without a colon"))?;
        let (name, value) = line.split_at(at);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(malformed("a header name with a character that it cannot have"));
        }
        let value = value.get(1..).unwrap_or_default();
        fields.take(name, value.trim_ascii())?;
    }
    if modern && fields.hosts != 1 || fields.hosts > 1 {
        return Err(malformed("not exactly one Host"));
    }
    if !modern && fields.chunked {
        return Err(malformed("a Transfer-Encoding in HTTP/1.0"));
    }
    fields.framing()
}

/// The characters of a token (RFC 9110 5.6.2).
const TOKEN: [bool; 256] = {
    let mut is_token = [false; 256];
    let mut byte = u8::MIN;
    while byte < u8::MAX {
        is_token[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        byte += 1;
    }
    is_token
};

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests;
