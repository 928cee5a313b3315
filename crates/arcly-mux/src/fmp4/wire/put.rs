//! Writing boxes.

use bytes::BufMut;

/// Bytes of a box header with a 32-bit size.
pub(crate) const HEADER_LEN: usize = 8;

/// Writes a box: its header, and what `body` writes. The size is filled in afterwards.
pub(crate) fn put_box(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    // What is written this way is a description of media and not media: far below 4 GiB.
    let size = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..).and_then(|from| from.first_chunk_mut()) {
        *field = size.to_be_bytes();
    }
}

/// Writes a box that begins with a version and 24 bits of flags.
pub(crate) fn put_full_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    (version, flags): (u8, u32),
    body: impl FnOnce(&mut Vec<u8>),
) {
    put_box(out, kind, |out| {
        out.put_u8(version);
        out.put_uint(flags.into(), 3);
        body(out);
    });
}

/// Writes zeros.
pub(crate) fn put_zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len().saturating_add(count), 0);
}

/// Writes text and the zero behind it. Zeros within end it early.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}
