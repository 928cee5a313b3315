//! NAL units in a byte stream (Annex B) and with length prefixes (ISO/IEC 14496-15 §4.3).

use std::sync::LazyLock;

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem::Finder;

use super::{MAX_ACCESS_UNIT_BYTES, MAX_NALS_PER_ACCESS_UNIT};

static START_CODE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[0, 0, 1]));

/// Bytes of the length before each NAL unit. Three is not allowed by the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthSize {
    /// One byte.
    One,
    /// Two bytes.
    Two,
    /// Four bytes: the canonical form.
    #[default]
    Four,
}

impl LengthSize {
    /// From `lengthSizeMinusOne` of a codec record.
    pub const fn from_minus_one(value: u8) -> DecodeResult<Self> {
        match value & 3 {
            0 => Ok(Self::One),
            1 => Ok(Self::Two),
            3 => Ok(Self::Four),
            _ => Err(DecodeError::Malformed { what: "lengthSizeMinusOne", offset: 4 }),
        }
    }
}

/// The NAL units of a byte stream, without start codes and trailing zeros; empty ones are passed over.
#[derive(Debug)]
pub struct AnnexB<'a> {
    data: &'a [u8],
    /// Behind the last start code.
    start: Option<usize>,
    empty: usize,
}

/// Iterates over the NAL units of an Annex B byte stream. Bytes before the first start code are passed over.
#[must_use]
pub fn annex_b(data: &[u8]) -> AnnexB<'_> {
    AnnexB { data, start: START_CODE.find(data).map(after_code), empty: 0 }
}

const fn after_code(at: usize) -> usize {
    at.saturating_add(3)
}

impl AnnexB<'_> {
    /// Zero-length NAL units passed over so far.
    #[must_use]
    pub const fn empty(&self) -> usize {
        self.empty
    }

    /// Passes over start codes that follow right upon each other: a search for each would cost more than all of them.
    fn pass_over_codes(&mut self, mut start: usize) -> usize {
        while let Some(rest) = self.data.get(start..) {
            let zeros = rest.iter().take_while(|&&b| b == 0).count();
            if zeros < 2 || rest.get(zeros) != Some(&1) {
                break;
            }
            start = start.saturating_add(zeros).saturating_add(1);
            self.empty = self.empty.saturating_add(1);
        }
        start
    }
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let start = self.start?;
            let start = self.pass_over_codes(start);
            let next = START_CODE.find(self.data.get(start..)?).map(|at| start.saturating_add(at));
            let unit = self.data.get(start..next.unwrap_or(self.data.len()))?;
            self.start = next.map(after_code);
            // No NAL unit ends in a zero byte: what does is the first byte of a longer start code, or stuffing.
            let len = unit.iter().rposition(|&b| b != 0).map_or(0, |last| last.saturating_add(1));
            if len > 0 {
                return unit.get(..len);
            }
            self.empty = self.empty.saturating_add(1);
        }
    }
}

/// The NAL units of a length-prefixed access unit; empty ones are passed over.
#[derive(Debug)]
pub struct LengthPrefixed<'a> {
    reader: Reader<'a>,
    size: LengthSize,
    empty: usize,
}

/// Iterates over length-prefixed NAL units. A length that runs over the end is an error, and the last item.
#[must_use]
pub const fn length_prefixed(data: &[u8], size: LengthSize) -> LengthPrefixed<'_> {
    LengthPrefixed { reader: Reader::new(data), size, empty: 0 }
}

impl<'a> LengthPrefixed<'a> {
    /// Zero-length NAL units passed over so far.
    #[must_use]
    pub const fn empty(&self) -> usize {
        self.empty
    }

    fn unit(&mut self) -> DecodeResult<&'a [u8]> {
        const WHAT: &str = "NAL unit length";
        let r = &mut self.reader;
        let len = match self.size {
            LengthSize::One => u32::from(r.u8(WHAT)?),
            LengthSize::Two => u32::from(r.u16(WHAT)?),
            LengthSize::Four => r.u32(WHAT)?,
        };
        r.bytes(usize::try_from(len).unwrap_or(usize::MAX), "NAL unit")
    }
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = DecodeResult<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.reader.is_empty() {
            let at = self.reader.position();
            match self.unit() {
                Ok([]) => self.empty = self.empty.saturating_add(1),
                Ok(unit) => return Some(Ok(unit)),
                Err(error) => {
                    self.reader = Reader::new(&[]);
                    return Some(Err(error.in_closed_unit(at)));
                }
            }
        }
        None
    }
}

/// Checks the size of an access unit against [`MAX_ACCESS_UNIT_BYTES`].
pub const fn check_access_unit_size(len: usize) -> DecodeResult<()> {
    if len > MAX_ACCESS_UNIT_BYTES {
        return Err(DecodeError::LimitExceeded { what: "access_unit", limit: MAX_ACCESS_UNIT_BYTES as u64 });
    }
    Ok(())
}

/// Appends `unit` with a 4-byte length.
pub fn put_length_prefixed(unit: &[u8], out: &mut BytesMut) {
    // Units come out of access units of at most 8 MiB.
    let len = u32::try_from(unit.len()).unwrap_or(u32::MAX);
    out.put_u32(len);
    out.put_slice(unit);
}

/// A byte stream in canonical form: the same NAL units with 4-byte lengths.
pub fn annex_b_to_length_prefixed(data: &[u8]) -> DecodeResult<Bytes> {
    check_access_unit_size(data.len())?;
    // A 3-byte start code grows by one; the estimate is right for all but that.
    let mut out = BytesMut::with_capacity(data.len().saturating_add(16));
    for unit in annex_b(data).take(MAX_NALS_PER_ACCESS_UNIT) {
        put_length_prefixed(unit, &mut out);
    }
    Ok(out.freeze())
}

/// Appends a canonical access unit as a byte stream with 4-byte start codes: exactly `data.len()` bytes.
pub fn put_annex_b(data: &[u8], out: &mut BytesMut) -> DecodeResult<()> {
    check_access_unit_size(data.len())?;
    out.reserve(data.len());
    for unit in length_prefixed(data, LengthSize::Four) {
        out.put_u32(1);
        out.put_slice(unit?);
    }
    Ok(())
}

/// A canonical access unit as a byte stream with 4-byte start codes.
pub fn length_prefixed_to_annex_b(data: &[u8]) -> DecodeResult<Bytes> {
    let mut out = BytesMut::new();
    put_annex_b(data, &mut out)?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(data: &[u8], expect: &[&[u8]], empty: usize) {
        let mut units = annex_b(data);
        assert_eq!(units.by_ref().collect::<Vec<_>>(), expect, "{data:?}");
        assert_eq!(units.empty(), empty, "{data:?}");
    }

    #[test]
    fn annex_b_case_table() {
        check(&[], &[], 0);
        check(&[1, 2, 3], &[], 0);
        check(&[0, 0, 1], &[], 1);
        check(&[0, 0, 1, 9], &[&[9]], 0);
        check(&[0, 0, 0, 1, 9, 0, 0, 0, 1, 8, 7], &[&[9], &[8, 7]], 0);
        check(&[0, 0, 1, 9, 0, 0, 1, 8], &[&[9], &[8]], 0);
        check(&[0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0], &[&[9]], 0);
        check(&[5, 5, 0, 0, 1, 9], &[&[9]], 0);
        check(&[0, 0, 1, 0, 0, 1, 0, 0, 1, 9], &[&[9]], 2);
        check(&[0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 9], &[&[0, 9]], 2);
        check(&[0, 0, 1, 0, 1, 0, 0, 0], &[&[0, 1]], 0);
        check(&[0, 0, 1, 0, 0, 0], &[], 1);
        check(&[0, 0, 1, 9, 0, 0, 3, 1, 0, 0], &[&[9, 0, 0, 3, 1]], 0);
    }

    #[test]
    fn m10_length_prefix_case_table() {
        let units = |data: &[u8], size| {
            length_prefixed(data, size).map(|u| u.map(<[u8]>::to_vec)).collect::<Vec<_>>()
        };
        assert_eq!(units(&[1, 7, 2, 8, 9], LengthSize::One), [Ok(vec![7]), Ok(vec![8, 9])]);
        assert_eq!(units(&[0, 1, 7], LengthSize::Two), [Ok(vec![7])]);
        assert_eq!(units(&[0, 0, 0, 0, 0, 0, 0, 1, 7], LengthSize::Four), [Ok(vec![7])]);
        let over = units(&[0xFF, 0xFF, 0xFF, 0xFF, 1], LengthSize::Four);
        assert_eq!(over, [Err(DecodeError::Malformed { what: "NAL unit", offset: 0 })]);
        let cut = units(&[0, 0, 0, 1, 7, 0, 0], LengthSize::Four);
        assert_eq!(cut, [Ok(vec![7]), Err(DecodeError::Malformed { what: "NAL unit length", offset: 5 })]);
        assert!(LengthSize::from_minus_one(2).is_err());
    }

    proptest! {
        #[test]
        fn both_ways(units in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..20)) {
            let mut stream = BytesMut::new();
            let mut canonical = BytesMut::new();
            for rbsp in &units {
                let mut unit = super::super::escape(rbsp);
                unit.push(0x80);
                put_length_prefixed(&unit, &mut canonical);
                stream.put_u32(1);
                stream.put_slice(&unit);
            }
            prop_assert_eq!(&annex_b_to_length_prefixed(&stream).unwrap(), &canonical);
            prop_assert_eq!(&length_prefixed_to_annex_b(&canonical).unwrap(), &stream);
        }
    }
}
