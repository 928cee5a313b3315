use std::io;

use super::clip::{Frame, HEAD};
use super::peer::Peer;

const FILE_HEADER: usize = 9 + 4;
const TAG_HEADER: usize = 11;
const PREVIOUS_TAG_SIZE: usize = 4;
/// A response's head.
const MAX_HEAD: usize = 8 << 10;

/// Reads FLV without keeping what is in it.
#[derive(Debug)]
pub(crate) struct FlvSkimmer {
    /// The front of the tag that is being passed: its header, and the first bytes of its body.
    head: [u8; TAG_HEADER + HEAD],
    passed: usize,
    length: usize,
    /// Bytes to pass before the next tag.
    skip: usize,
}

impl FlvSkimmer {
    /// At the start of a file.
    pub(crate) const fn new() -> Self {
        Self { head: [0; TAG_HEADER + HEAD], passed: 0, length: TAG_HEADER, skip: FILE_HEADER }
    }

    pub(crate) fn skim(&mut self, mut input: &[u8], frames: &mut dyn FnMut(Frame)) {
        while !input.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(input.len());
                self.skip -= skipped;
                input = &input[skipped..];
                continue;
            }
            let (now, later) = input.split_at((self.length - self.passed).min(input.len()));
            input = later;
            if let Some(room) = self.head.get_mut(self.passed..) {
                let kept = room.len().min(now.len());
                room[..kept].copy_from_slice(&now[..kept]);
            }
            self.passed += now.len();
            if self.passed == self.length {
                self.complete(frames);
            }
        }
    }

    fn complete(&mut self, frames: &mut dyn FnMut(Frame)) {
        let [kind, a, b, c, ..] = self.head;
        let body = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.length == TAG_HEADER && body > 0 {
            self.length = TAG_HEADER + body;
            return;
        }
        let head = &self.head[TAG_HEADER..self.length.min(self.head.len())];
        Frame::from_head(kind, head).into_iter().for_each(frames);
        (self.passed, self.length, self.skip) = (0, TAG_HEADER, PREVIOUS_TAG_SIZE);
    }
}

/// Appends a tag with its trailer.
pub(crate) fn put_tag(out: &mut Vec<u8>, kind: u8, timestamp: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.push(kind);
    out.extend_from_slice(&length[1..]);
    let [high, rest @ ..] = timestamp.to_be_bytes();
    out.extend_from_slice(&rest);
    out.extend([high, 0, 0, 0]);
    out.extend_from_slice(body);
    out.extend(u32::try_from(body.len() + TAG_HEADER).unwrap_or(u32::MAX).to_be_bytes());
}

/// An HTTP/1.1 client of one `.flv`, chunked or not.
#[derive(Debug)]
pub struct HttpFlvPeer {
    path: String,
    head: Option<Vec<u8>>,
    chunked: Option<Dechunk>,
    flv: FlvSkimmer,
}

impl HttpFlvPeer {
    /// A client of the stream `app/name`.
    #[must_use]
    pub fn new(app: &str, stream: &str) -> Self {
        let path = format!("/{app}/{stream}.flv");
        Self { path, head: Some(Vec::new()), chunked: None, flv: FlvSkimmer::new() }
    }

    /// Passes the response's head; what follows it is handed back.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Some(head) = &mut self.head else { return Ok(bytes) };
        for (n, &byte) in bytes.iter().enumerate() {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(head).to_ascii_lowercase();
                if !text.starts_with("http/1.1 200") {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
                }
                self.chunked = text.contains("transfer-encoding: chunked").then(Dechunk::default);
                self.head = None;
                return Ok(&bytes[n + 1..]);
            }
            if head.len() > MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP: the head has no end"));
            }
        }
        Ok(&[])
    }
}

impl Peer for HttpFlvPeer {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend(format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", self.path).into_bytes());
    }

    fn receive(&mut self, bytes: &[u8], _: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        let mut bytes = self.head(bytes)?;
        let Some(chunked) = &mut self.chunked else {
            self.flv.skim(bytes, frames);
            return Ok(());
        };
        while !bytes.is_empty() {
            let data = chunked.take(&mut bytes)?;
            self.flv.skim(data, frames);
        }
        Ok(())
    }
}

/// What `rawfan` sends: FLV tags, and nothing before them.
#[derive(Debug)]
pub struct RawFlvPeer(FlvSkimmer);

impl Default for RawFlvPeer {
    fn default() -> Self {
        let mut flv = FlvSkimmer::new();
        flv.skip = 0;
        Self(flv)
    }
}

impl Peer for RawFlvPeer {
    fn open(&mut self, _: &mut Vec<u8>) {}

    fn receive(&mut self, bytes: &[u8], _: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        self.0.skim(bytes, frames);
        Ok(())
    }
}

/// RFC 9112, section 7.1, without extensions and trailers.
#[derive(Debug, Default)]
struct Dechunk {
    /// Bytes of the chunk that are still to come.
    data: usize,
    /// The size line so far, and whether it has begun.
    size: usize,
    digits: bool,
}

impl Dechunk {
    /// Takes data, or a byte of what is between.
    fn take<'a>(&mut self, input: &mut &'a [u8]) -> io::Result<&'a [u8]> {
        if self.data > 0 {
            let (data, rest) = input.split_at(self.data.min(input.len()));
            self.data -= data.len();
            *input = rest;
            return Ok(data);
        }
        let Some((&byte, rest)) = input.split_first() else { return Ok(&[]) };
        *input = rest;
        match (byte, char::from(byte).to_digit(16)) {
            (_, Some(digit)) => {
                self.size = self.size << 4 | digit as usize;
                self.digits = true;
            }
            (b'\n', _) if self.digits => {
                if self.size == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                (self.data, self.size, self.digits) = (self.size, 0, false);
            }
            (b'\r' | b'\n', _) => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP: chunk size")),
        }
        Ok(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::super::clip::{Clip, Shape};
    use super::*;

    const FLV_HEADER: [u8; FILE_HEADER] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

    #[test]
    fn every_frame_of_a_response_is_seen_whatever_the_cuts() {
        let clip = Clip::new(Shape::LOW);
        let mut position = clip.position();
        let mut bodies = vec![FLV_HEADER.to_vec()];
        for (kind, body) in clip.headers() {
            let mut tag = Vec::new();
            put_tag(&mut tag, kind, 0, body);
            bodies.push(tag);
        }
        for n in 0..100 {
            let tag = clip.next(&mut position);
            let (mut body, mut out) = (Vec::new(), Vec::new());
            tag.put(&mut body, n);
            put_tag(&mut out, tag.kind, tag.timestamp(), &body);
            bodies.push(out);
        }
        let mut plain = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n".to_vec();
        plain.extend(bodies.concat());
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for body in &bodies {
            chunked.extend(format!("{:x}\r\n", body.len()).into_bytes());
            chunked.extend(body);
            chunked.extend(b"\r\n");
        }
        for bytes in [plain, chunked] {
            for step in [1, 100, bytes.len()] {
                let mut peer = HttpFlvPeer::new("live", "cam");
                let mut sent = Vec::new();
                for piece in bytes.chunks(step) {
                    let mut each = |frame: Frame| sent.push(frame.marker.sent_ns);
                    peer.receive(piece, &mut Vec::new(), &mut each).expect("our own bytes");
                }
                assert_eq!(sent, (0..100).collect::<Vec<_>>(), "{step}");
            }
        }
    }
}
