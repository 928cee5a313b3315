//! Reading boxes.

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

/// What a box begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoxHeader {
    pub(crate) kind: [u8; 4],
    /// Bytes of the header.
    pub(crate) len: u64,
    /// Bytes of the whole box; `None` when it reaches to the end of the file.
    pub(crate) size: Option<u64>,
}

impl BoxHeader {
    /// The longest form, with a 64-bit size.
    pub(crate) const MAX_LEN: usize = 16;

    pub(crate) fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        let at = *r;
        let size = r.u32("box size")?;
        let kind = r.array("box type")?;
        let (len, size) = match size {
            0 => (8, None),
            1 => (16, Some(r.u64("box largesize")?)),
            size => (8, Some(size.into())),
        };
        match size {
            Some(size) if size < len || i64::try_from(size).is_err() => Err(at.malformed("box size")),
            size => Ok(Self { kind, len, size }),
        }
    }
}

/// The boxes in the body of another, one after the other. The body is a closed unit.
pub(crate) struct Boxes<'a> {
    parent: &'a Bytes,
    reader: Reader<'a>,
}

pub(crate) fn boxes(parent: &Bytes) -> Boxes<'_> {
    Boxes { parent, reader: Reader::new(parent) }
}

impl Boxes<'_> {
    fn read(&mut self) -> DecodeResult<([u8; 4], Bytes)> {
        let header = BoxHeader::decode(&mut self.reader)?;
        // Within another box, none reaches "to the end of the file".
        let size = header.size.ok_or_else(|| self.reader.malformed("box size"))?;
        let body = usize::try_from(size.saturating_sub(header.len)).unwrap_or(usize::MAX);
        let body = self.reader.bytes(body, "box")?;
        Ok((header.kind, self.parent.slice_ref(body)))
    }
}

impl Iterator for Boxes<'_> {
    type Item = DecodeResult<([u8; 4], Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some writers end a container with four zero bytes.
        if self.reader.remaining() < 8 {
            return None;
        }
        let at = self.reader.position();
        let read = self.read().map_err(|error| error.in_closed_unit(at));
        if read.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(read)
    }
}

/// The first box of a kind.
pub(crate) fn find(parent: &Bytes, kind: &[u8; 4]) -> DecodeResult<Option<Bytes>> {
    for child in boxes(parent) {
        let (found, body) = child?;
        if found == *kind {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// The first box of a kind, which has to be there.
pub(crate) fn require(parent: &Bytes, kind: &[u8; 4], what: &'static str) -> DecodeResult<Bytes> {
    find(parent, kind)?.ok_or(DecodeError::Malformed { what, offset: 0 })
}

/// Version and flags.
pub(crate) fn full_box(r: &mut Reader<'_>, what: &'static str) -> DecodeResult<(u8, u32)> {
    Ok((r.u8(what)?, r.u24(what)?))
}

/// Runs a reading of a closed unit: what is cut short in it is malformed.
pub(crate) fn closed<T>(
    data: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> DecodeResult<T>,
) -> DecodeResult<T> {
    let mut r = Reader::new(data);
    read(&mut r).map_err(|error| error.in_closed_unit(r.position()))
}
