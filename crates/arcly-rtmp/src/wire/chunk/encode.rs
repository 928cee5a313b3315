//! One message to one contiguous run of chunks.

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::super::message::MessageType;
use super::{ChunkStreamId, EXTENDED};

/// Everything of a message but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// The chunk stream it is sent on.
    pub csid: ChunkStreamId,
    /// Milliseconds, modulo 2^32. Always sent in full, so that the bytes depend on no earlier message.
    pub timestamp: u32,
    /// What it carries.
    pub kind: MessageType,
    /// The message stream.
    pub stream_id: u32,
}

const FULL_HEADER: usize = 12;
/// With the extended timestamp.
const MAX_FULL_HEADER: usize = FULL_HEADER + 4;

/// What [`encode_message`] puts before a body of `body` bytes that fits into one chunk: such a message is this and its body.
#[must_use]
pub fn message_head(header: &MessageHeader, body: usize) -> SmallVec<[u8; 32]> {
    let mut buffer = [0; MAX_FULL_HEADER];
    let mut room = &mut buffer[..];
    put_full_header(&mut room, header, body);
    let used = MAX_FULL_HEADER.saturating_sub(room.len());
    SmallVec::from_slice(buffer.get(..used).unwrap_or_default())
}

/// How many bytes [`encode_message`] appends for a body of `body` bytes.
#[must_use]
pub fn encoded_len(timestamp: u32, body: usize, chunk_size: usize) -> usize {
    let extended = if timestamp >= EXTENDED { 4 } else { 0 };
    let chunk_size = chunk_size.max(1);
    let continued = body.saturating_sub(1).checked_div(chunk_size).unwrap_or_default();
    let continuation: usize = if timestamp >= EXTENDED { 5 } else { 1 };
    let headers = continued.saturating_mul(continuation).saturating_add(FULL_HEADER).saturating_add(extended);
    body.saturating_add(headers)
}

/// Appends a message whose body is the concatenation of `parts`, cut into chunks of `chunk_size`.
///
/// The header is of type 0 and the continuations of type 3, with the extended timestamp repeated as the
/// specification asks. A body is at most 16 MiB - 1, which every caller's own limits keep well clear of.
pub fn encode_message(out: &mut BytesMut, header: &MessageHeader, parts: &[&[u8]], chunk_size: usize) {
    let chunk_size = chunk_size.max(1);
    let body = parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(body <= 0x00FF_FFFF, "a message of {body} bytes has no encoding");
    out.reserve(encoded_len(header.timestamp, body, chunk_size));
    put_full_header(out, header, body);
    let mut room = chunk_size;
    for mut part in parts.iter().copied() {
        while !part.is_empty() {
            if room == 0 {
                put_continuation(out, header);
                room = chunk_size;
            }
            let (now, later) = part.split_at(room.min(part.len()));
            out.put_slice(now);
            room = room.saturating_sub(now.len());
            part = later;
        }
    }
}

fn put_full_header(out: &mut impl BufMut, header: &MessageHeader, body: usize) {
    out.put_u8(header.csid.0);
    out.put_uint(u64::from(header.timestamp.min(EXTENDED)), 3);
    out.put_uint(body as u64, 3);
    out.put_u8(header.kind.id());
    out.put_u32_le(header.stream_id);
    if header.timestamp >= EXTENDED {
        out.put_u32(header.timestamp);
    }
}

fn put_continuation(out: &mut BytesMut, header: &MessageHeader) {
    out.put_u8(0xC0 | header.csid.0);
    if header.timestamp >= EXTENDED {
        out.put_u32(header.timestamp);
    }
}

/// Overwrites the message stream id in an encoded message, which is what differs between two readers of the same
/// message. Does nothing to bytes that are too short to be one.
pub fn restamp_stream_id(encoded: &mut [u8], stream_id: u32) {
    if let Some(field) = encoded.get_mut(8..FULL_HEADER) {
        field.copy_from_slice(&stream_id.to_le_bytes());
    }
}

/// [`restamp_stream_id`] for messages that follow one another, all of them encoded with `chunk_size` as
/// [`encode_message`] does it. Stops at what is not one of them.
pub fn restamp_all(mut encoded: &mut [u8], stream_id: u32, chunk_size: usize) {
    while let Some(&[_, t0, t1, t2, l0, l1, l2, ..]) = encoded.first_chunk::<FULL_HEADER>() {
        let body = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let len = encoded_len(u32::from_be_bytes([0, t0, t1, t2]), body, chunk_size);
        restamp_stream_id(encoded, stream_id);
        let Some((_, rest)) = encoded.split_at_mut_checked(len) else { return };
        encoded = rest;
    }
}
