//! FLV files: header, tag headers, sizes between tags.

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Tag, TagKind};

const SIGNATURE: &[u8; 3] = b"FLV";
/// Bytes of a file header of version 1.
const HEADER_LEN: usize = 9;
const TAG_HEADER_LEN: usize = 11;
/// `PreviousTagSize`.
const SIZE_LEN: usize = 4;
/// A file header may be longer than we know, within reason.
const MAX_HEADER_LEN: usize = 1_024;
/// The largest tag that is taken from a file: an access unit of 8 MiB and its headers fit.
const MAX_TAG_BYTES: usize = 10 << 20;

/// A tag out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTag {
    /// What it carries.
    pub kind: TagKind,
    /// Milliseconds; wraps at 2^32.
    pub timestamp_ms: u32,
    /// Its body.
    pub body: Bytes,
}

/// Takes a file or an HTTP body apart as it comes in, in pieces of any size.
///
/// Nothing is searched for: what does not follow the format is malformed. At most one tag of 10 MiB and the
/// piece that completes it are held, and never more than was pushed.
#[derive(Debug, Default)]
pub struct FileDecoder {
    buf: BytesMut,
    header_done: bool,
}

impl FileDecoder {
    /// A decoder at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the file.
    pub fn push(&mut self, data: &[u8]) {
        self.buf.put_slice(data);
    }

    /// Bytes that were pushed and not given out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// The next tag; `None` until more was pushed. An error is final.
    pub fn next_tag(&mut self) -> DecodeResult<Option<FileTag>> {
        match self.step() {
            Ok(tag) => Ok(Some(tag)),
            Err(error) if error.is_incomplete() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn step(&mut self) -> DecodeResult<FileTag> {
        if !self.header_done {
            let len = header(&self.buf)?;
            self.buf.advance(len);
            self.header_done = true;
        }
        let mut r = Reader::new(&self.buf);
        let at = r;
        let first = r.u8("tag type")?;
        // Reserved bits and the filter bit: an encrypted body has a header of its own.
        let kind = TagKind::from_type_id(first).ok_or_else(|| at.malformed("tag type"))?;
        let size = usize::try_from(r.u24("tag size")?).unwrap_or(usize::MAX);
        if size > MAX_TAG_BYTES {
            return Err(DecodeError::LimitExceeded { what: "tag", limit: MAX_TAG_BYTES as u64 });
        }
        let low = r.u24("tag timestamp")?;
        let timestamp_ms = u32::from(r.u8("tag timestamp")?) << 24 | low;
        r.skip(3, "stream id")?;
        r.skip(size.saturating_add(SIZE_LEN), "tag")?;
        self.buf.advance(TAG_HEADER_LEN);
        let body = self.buf.split_to(size).freeze();
        self.buf.advance(SIZE_LEN);
        Ok(FileTag { kind, timestamp_ms, body })
    }
}

/// Checks the file header and the size field behind it; how long both are.
fn header(data: &[u8]) -> DecodeResult<usize> {
    let mut r = Reader::new(data);
    let at = r;
    let known = data.len().min(SIGNATURE.len());
    if data.get(..known) != SIGNATURE.get(..known) {
        return Err(at.malformed("FLV signature"));
    }
    r.skip(SIGNATURE.len(), "FLV signature")?;
    let at = r;
    if r.u8("FLV version")? != 1 {
        return Err(at.malformed("FLV version"));
    }
    r.u8("FLV flags")?;
    let at = r;
    let offset = usize::try_from(r.u32("FLV data offset")?).unwrap_or(usize::MAX);
    if !(HEADER_LEN..=MAX_HEADER_LEN).contains(&offset) {
        return Err(at.malformed("FLV data offset"));
    }
    let len = offset.saturating_add(SIZE_LEN);
    r.skip(len.saturating_sub(r.position()), "FLV header")?;
    Ok(len)
}

/// Appends a file header and the first size field.
pub fn put_file_header(out: &mut impl BufMut, audio: bool, video: bool) {
    out.put_slice(SIGNATURE);
    out.put_slice(&[1, u8::from(audio) << 2 | u8::from(video), 0, 0, 0, 9]);
    out.put_u32(0);
}

/// The header of a tag in a file. Behind it come [`Tag::header`], [`Tag::payload`], and four bytes with the
/// length of all three.
///
/// A body has at most 16 MiB − 1; a longer one cannot be written, and is cut short in its size field.
#[must_use]
pub fn tag_header(tag: &Tag) -> [u8; TAG_HEADER_LEN] {
    let [_, s0, s1, s2] = u32::try_from(tag.len()).unwrap_or(u32::MAX).min(0xFF_FFFF).to_be_bytes();
    let [t3, t0, t1, t2] = tag.timestamp_ms.to_be_bytes();
    [tag.kind.type_id(), s0, s1, s2, t0, t1, t2, t3, 0, 0, 0]
}

/// Bytes of a tag as it stands in a file, with the size field behind it.
#[must_use]
pub fn tag_len(tag: &Tag) -> usize {
    tag.len().saturating_add(TAG_HEADER_LEN).saturating_add(SIZE_LEN)
}

/// Appends a tag as it stands in a file, with the size field behind it: [`tag_len`] bytes.
pub fn put_tag(out: &mut BytesMut, tag: &Tag) {
    let len = tag.len().saturating_add(TAG_HEADER_LEN);
    out.reserve(tag_len(tag));
    out.put_slice(&tag_header(tag));
    out.put_slice(&tag.header);
    out.put_slice(&tag.payload);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}
