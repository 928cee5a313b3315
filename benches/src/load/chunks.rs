use std::io;

use super::clip::HEAD;

/// RTMP's message types that the generator knows.
pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
pub(crate) const USER_CONTROL: u8 = 4;
pub(crate) const WINDOW_ACK_SIZE: u8 = 5;
pub(crate) const COMMAND: u8 = 20;

const MAX_HEADER: usize = 18;
const EXTENDED: u32 = 0x00FF_FFFF;
/// Longest message; the generator asks for nothing longer.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of a message that are kept. Long enough for a command's name, a control message, and a frame's marker.
const KEPT: usize = if HEAD > 64 { HEAD } else { 64 };

/// Reads RTMP chunks without keeping what is in them: of each message there is its type and its first bytes.
#[derive(Debug)]
pub(crate) struct ChunkSkimmer {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The chunk that is being passed: which stream, and how much of it is missing.
    body: Option<(usize, usize)>,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: u8,
    length: usize,
    extended: bool,
    /// Bytes of the message that have passed; `length` between messages.
    passed: usize,
    head: [u8; KEPT],
}

impl ChunkSkimmer {
    pub(crate) const fn new(chunk_size: usize) -> Self {
        Self { chunk_size, streams: Vec::new(), header: [0; MAX_HEADER], header_len: 0, body: None }
    }

    /// Passes `input`, and calls `each` with the type and the first bytes of every message that ends in it.
    pub(crate) fn skim(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(u8, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !input.is_empty() {
            let Some((at, missing)) = self.body else {
                self.take_header(&mut input)?;
                continue;
            };
            let Some(stream) = self.streams.get_mut(at) else { return Err(bad("chunk stream")) };
            let (now, later) = input.split_at(missing.min(input.len()));
            input = later;
            if let Some(room) = stream.head.get_mut(stream.passed.min(KEPT)..) {
                let kept = room.len().min(now.len());
                room[..kept].copy_from_slice(&now[..kept]);
            }
            stream.passed += now.len();
            self.body = (missing > now.len()).then_some((at, missing - now.len()));
            if stream.passed == stream.length {
                let head = &stream.head[..stream.length.min(KEPT)];
                if let (SET_CHUNK_SIZE, Some(size)) = (stream.kind, head.first_chunk()) {
                    self.chunk_size = u32::from_be_bytes(*size).max(1) as usize;
                }
                each(stream.kind, head)?;
            }
        }
        Ok(())
    }

    /// Takes a byte at a time, as headers are short and seldom cut.
    fn take_header(&mut self, input: &mut &[u8]) -> io::Result<()> {
        while let Some((&byte, rest)) = input.split_first() {
            let place = self.header.get_mut(self.header_len).ok_or_else(|| bad("chunk header"))?;
            *place = byte;
            self.header_len += 1;
            *input = rest;
            if self.begin_chunk()? {
                self.header_len = 0;
                return Ok(());
            }
        }
        Ok(())
    }

    /// True when the header is complete.
    fn begin_chunk(&mut self) -> io::Result<bool> {
        let header = &self.header[..self.header_len];
        let first = header[0];
        let (basic, id) = match (first & 0x3F, header.get(1), header.get(2)) {
            (0, Some(&low), _) => (2, u32::from(low) + 64),
            (1, Some(&low), Some(&high)) => (3, u32::from(low) + 256 * u32::from(high) + 64),
            (0 | 1, ..) => return Ok(false),
            (id, ..) => (1, u32::from(id)),
        };
        let fields = [11, 7, 3, 0][usize::from(first >> 6)];
        let Some(message) = header.get(basic..basic + fields) else { return Ok(false) };
        let at = self.streams.iter().position(|stream| stream.id == id);
        let known = at.and_then(|at| self.streams.get(at));
        let u24 = |at: usize| u32::from_be_bytes([0, message[at], message[at + 1], message[at + 2]]);
        let extended =
            if fields > 0 { u24(0) == EXTENDED } else { known.is_some_and(|stream| stream.extended) };
        if header.len() < basic + fields + if extended { 4 } else { 0 } {
            return Ok(false);
        }
        let at = match at {
            Some(at) => at,
            None if fields == 11 => {
                self.streams.push(ChunkStream {
                    id,
                    kind: 0,
                    length: 0,
                    extended: false,
                    passed: 0,
                    head: [0; KEPT],
                });
                self.streams.len() - 1
            }
            None => return Err(bad("first chunk of a stream")),
        };
        let described = (fields >= 7).then(|| (u24(3) as usize, message[6]));
        let Some(stream) = self.streams.get_mut(at) else { return Err(bad("chunk stream")) };
        if let Some((length, kind)) = described {
            (stream.length, stream.kind) = (length, kind);
            stream.passed = length;
        }
        stream.extended = extended;
        if stream.passed == stream.length {
            stream.passed = 0;
        }
        if stream.length == 0 || stream.length > MAX_MESSAGE {
            return Err(bad("message length"));
        }
        self.body = Some((at, self.chunk_size.min(stream.length - stream.passed)));
        Ok(true)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("RTMP: {what}"))
}

/// Appends an RTMP message as chunks with a full header, as an encoder does.
pub fn put_message(out: &mut Vec<u8>, kind: u8, timestamp: u32, body: &[u8], chunk_size: usize) {
    // Commands, audio and video on chunk streams of their own, as encoders do.
    let (csid, stream_id) = match kind {
        8 => (4, 1_u32),
        9 => (6, 1),
        COMMAND => (3, 0),
        _ => (2, 0),
    };
    put_message_on(out, (csid, stream_id), kind, timestamp, body, chunk_size);
}

/// The same on a chunk stream and a message stream of choice.
pub(crate) fn put_message_on(
    out: &mut Vec<u8>,
    (csid, stream_id): (u8, u32),
    kind: u8,
    timestamp: u32,
    body: &[u8],
    chunk_size: usize,
) {
    let extended = timestamp >= EXTENDED;
    out.push(csid);
    out.extend_from_slice(&timestamp.min(EXTENDED).to_be_bytes()[1..]);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream_id.to_le_bytes());
    for (n, piece) in body.chunks(chunk_size.max(1)).enumerate() {
        if n > 0 {
            out.push(0xC0 | csid);
        }
        if extended {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skim(skimmer: &mut ChunkSkimmer, bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            let each = |kind, head: &[u8]| {
                seen.push((kind, head.to_vec()));
                Ok(())
            };
            skimmer.skim(piece, each).expect("our own chunks");
        }
        seen
    }

    #[test]
    fn what_is_put_is_seen_whatever_the_cuts() {
        let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut bytes = Vec::new();
        put_message(&mut bytes, SET_CHUNK_SIZE, 0, &4_096_u32.to_be_bytes(), 128);
        for (kind, at) in [(9, 40), (8, EXTENDED + 7), (9, EXTENDED)] {
            put_message(&mut bytes, kind, at, &body, 4_096);
        }
        put_message(&mut bytes, COMMAND, 0, &body[..5], 4_096);
        let head = body[..KEPT].to_vec();
        let expect = [
            (SET_CHUNK_SIZE, vec![0, 0, 16, 0]),
            (9, head.clone()),
            (8, head.clone()),
            (9, head),
            (COMMAND, body[..5].to_vec()),
        ];
        for step in [1, 7, 4_096, bytes.len()] {
            assert_eq!(skim(&mut ChunkSkimmer::new(128), &bytes, step), expect, "{step}");
        }
    }

    #[test]
    fn short_headers_and_interleaving_are_understood() {
        let mut bytes = Vec::new();
        put_message_on(&mut bytes, (6, 1), 9, 0, &[1; 10], 128);
        // Type 1 with a length of its own, begun; audio comes between its chunks; then type 2 and type 3 begin messages.
        bytes.extend([0x46, 0, 0, 40, 0, 0, 200, 9]);
        bytes.extend([2; 128]);
        put_message_on(&mut bytes, (4, 1), 8, 0, &[3; 4], 128);
        bytes.push(0xC6);
        bytes.extend([2; 72]);
        bytes.extend([0x84, 0, 0, 21]);
        bytes.extend([4; 4]);
        bytes.push(0xC4);
        bytes.extend([5; 4]);
        let heads: Vec<(u8, u8, usize)> = skim(&mut ChunkSkimmer::new(128), &bytes, 5)
            .into_iter()
            .map(|(kind, head)| (kind, head[0], head.len()))
            .collect();
        assert_eq!(heads, [(9, 1, 10), (8, 3, 4), (9, 2, 64), (8, 4, 4), (8, 5, 4)]);
        assert!(ChunkSkimmer::new(128).skim(&[0xC6], |_, _| Ok(())).is_err());
    }
}
