use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, BytesMut};

/// `obu_type` (6.2.2).
pub mod obu_type {
    /// Sequence header.
    pub const SEQUENCE_HEADER: u8 = 1;
    /// Temporal delimiter.
    pub const TEMPORAL_DELIMITER: u8 = 2;
    /// Frame header on its own.
    pub const FRAME_HEADER: u8 = 3;
    /// Tiles on their own.
    pub const TILE_GROUP: u8 = 4;
    /// Metadata.
    pub const METADATA: u8 = 5;
    /// Frame header and tiles.
    pub const FRAME: u8 = 6;
    /// The frame header once more.
    pub const REDUNDANT_FRAME_HEADER: u8 = 7;
    /// Nothing.
    pub const PADDING: u8 = 15;
}

/// The most bytes of a `leb128()`.
const MAX_LEB128_BYTES: usize = 8;

/// `leb128()`: up to eight bytes, up to 2³² − 1.
pub fn leb128(r: &mut Reader<'_>, what: &'static str) -> DecodeResult<u32> {
    let mut value = 0_u64;
    for index in 0..MAX_LEB128_BYTES {
        let byte = r.u8(what)?;
        value |= u64::from(byte & 0x7F) << index.saturating_mul(7);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| r.malformed(what));
        }
    }
    Err(r.malformed(what))
}

/// Appends a `leb128()` of the fewest bytes.
pub fn put_leb128(value: u32, out: &mut BytesMut) {
    let mut left = value;
    while left >= 0x80 {
        out.put_u8(u8::try_from(left & 0x7F).unwrap_or(0) | 0x80);
        left >>= 7;
    }
    out.put_u8(u8::try_from(left).unwrap_or(0));
}

/// One open bitstream unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obu<'a> {
    /// `obu_type`.
    pub kind: u8,
    /// `temporal_id`.
    pub temporal_id: u8,
    /// `spatial_id`.
    pub spatial_id: u8,
    /// It says its own size.
    pub has_size: bool,
    /// What is after header and size.
    pub payload: &'a [u8],
    /// All of it.
    pub raw: &'a [u8],
}

impl Obu<'_> {
    /// Appends the OBU with a size field.
    pub fn put(&self, out: &mut BytesMut) {
        if self.has_size {
            out.put_slice(self.raw);
            return;
        }
        const EXTENSION: u8 = 4;
        const HAS_SIZE: u8 = 2;
        let header = self.raw.first().copied().unwrap_or(0);
        out.put_u8(header | HAS_SIZE);
        if header & EXTENSION != 0 {
            out.put_u8(self.raw.get(1).copied().unwrap_or(0));
        }
        put_leb128(u32::try_from(self.payload.len()).unwrap_or(u32::MAX), out);
        out.put_slice(self.payload);
    }
}

/// Iterates over the OBUs of a temporal unit.
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    data: &'a [u8],
    reader: Reader<'a>,
}

/// The OBUs in `data`, in the low-overhead format (section 5.2); the last one may lack its size. An error is
/// the last item.
#[must_use]
pub const fn obus(data: &[u8]) -> Obus<'_> {
    Obus { data, reader: Reader::new(data) }
}

impl<'a> Obus<'a> {
    fn obu(&mut self) -> DecodeResult<Obu<'a>> {
        let r = &mut self.reader;
        let start = r.position();
        let header = r.u8("obu_header")?;
        if header & 0x80 != 0 {
            return Err(r.malformed("obu_forbidden_bit"));
        }
        let extension = if header & 4 != 0 { r.u8("obu_extension_header")? } else { 0 };
        let has_size = header & 2 != 0;
        let size = if has_size {
            usize::try_from(leb128(r, "obu_size")?).unwrap_or(usize::MAX)
        } else {
            r.remaining()
        };
        let payload = r.bytes(size, "obu")?;
        Ok(Obu {
            kind: (header >> 3) & 0x0F,
            temporal_id: extension >> 5,
            spatial_id: (extension >> 3) & 3,
            has_size,
            payload,
            raw: self.data.get(start..r.position()).unwrap_or_default(),
        })
    }
}

impl<'a> Iterator for Obus<'a> {
    type Item = DecodeResult<Obu<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let at = self.reader.position();
        let obu = self.obu().map_err(|error| error.in_closed_unit(at));
        if obu.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(obu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn m12_leb128_of_ten_bytes_and_sizes_over_the_end() {
        let cases: [(&[u8], bool); 7] = [
            (&[0xFF; 10], false),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], true),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], false),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], true),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x1F], false),
            (&[0x80], false),
            (&[], false),
        ];
        for (bytes, ok) in cases {
            assert_eq!(leb128(&mut Reader::new(bytes), "v").is_ok(), ok, "{bytes:?}");
        }
        for data in [&[0x32, 5, 1, 2][..], &[0x32, 0xFF, 0xFF], &[0x32], &[0x36, 0], &[0x80]] {
            let mut units = obus(data);
            assert!(units.next().unwrap().is_err(), "{data:?}");
            assert!(units.next().is_none());
        }
    }

    #[test]
    fn an_obu_without_size_reaches_to_the_end_and_gets_one() {
        let obu = obus(&[0x34, 0x28, 9, 9]).next().unwrap().unwrap();
        assert_eq!((obu.kind, obu.temporal_id, obu.spatial_id, obu.payload), (6, 1, 1, &[9, 9][..]));
        let mut out = BytesMut::new();
        obu.put(&mut out);
        assert_eq!(&out[..], [0x36, 0x28, 2, 9, 9]);
    }

    proptest! {
        #[test]
        fn leb128_round_trip(value: u32) {
            let mut out = BytesMut::new();
            put_leb128(value, &mut out);
            let mut r = Reader::new(&out);
            prop_assert_eq!(leb128(&mut r, "v"), Ok(value));
            prop_assert!(r.is_empty());
        }
    }
}
