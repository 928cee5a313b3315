//! The one cursor that every wire format is read with, and the one error it can give.
//!
//! [`Reader`] cannot index out of bounds, cannot overflow and allocates nothing: each read either
//! returns the value or says which field was wrong. Three meanings are kept apart, because callers
//! act differently on them: the bytes are not all there yet ([`DecodeError::Incomplete`]), they can
//! never become valid ([`DecodeError::Malformed`]), or they are valid but larger than this program
//! is willing to hold ([`DecodeError::LimitExceeded`]).

use core::fmt;

/// Why bytes could not be decoded. `Copy`, so that hot loops can return it freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside `what`; at least `needed` more bytes are required.
    #[error("{what}: {needed} more bytes needed")]
    Incomplete {
        /// The field that is cut short.
        what: &'static str,
        /// A lower bound of the bytes that are missing.
        needed: usize,
    },
    /// No continuation can make the input valid.
    #[error("{what}: malformed at offset {offset}")]
    Malformed {
        /// The field that is wrong.
        what: &'static str,
        /// Bytes from the start of the decoded unit to the field.
        offset: usize,
    },
    /// The input is well formed so far, but asks for more than `limit`.
    #[error("{what}: limit of {limit} exceeded")]
    LimitExceeded {
        /// The thing that is bounded, a name from the limits table.
        what: &'static str,
        /// The bound that is in force.
        limit: u64,
    },
}

impl DecodeError {
    /// True when more bytes may turn the error into success.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        matches!(self, Self::Incomplete { .. })
    }

    /// Turns [`Incomplete`](Self::Incomplete) into [`Malformed`](Self::Malformed): for units whose
    /// outer length is known, where a field that runs over the end is a lie and not a short read.
    #[must_use]
    pub const fn in_closed_unit(self, offset: usize) -> Self {
        match self {
            Self::Incomplete { what, .. } => Self::Malformed { what, offset },
            other => other,
        }
    }
}

/// Result of a decoding step.
pub type DecodeResult<T> = Result<T, DecodeError>;

/// A forward-only cursor over borrowed bytes.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} of {})", self.pos, self.buf.len())
    }
}

macro_rules! integer_reads {
    ($($name:ident: $ty:ty = $from:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(&mut self, what: &'static str) -> DecodeResult<$ty> {
            self.array(what).map(<$ty>::$from)
        }
    )*};
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `buf`.
    #[must_use]
    pub const fn new(buf: &'a [u8]) -> Self {
        Self { buf, pos: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.pos
    }

    /// Bytes not yet read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.pos)
    }

    /// True when everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The bytes not yet read, without moving.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// The next byte, without moving.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.buf.get(self.pos).copied()
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> DecodeResult<&'a [u8]> {
        let rest = self.rest();
        let Some(taken) = rest.get(..len) else {
            return Err(DecodeError::Incomplete { what, needed: len.saturating_sub(rest.len()) });
        };
        self.pos = self.pos.saturating_add(len);
        Ok(taken)
    }

    /// The next `N` bytes by value.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> DecodeResult<[u8; N]> {
        let rest = self.rest();
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Incomplete { what, needed: N.saturating_sub(rest.len()) });
        };
        self.pos = self.pos.saturating_add(N);
        Ok(*taken)
    }

    /// A cursor over the next `len` bytes, which this cursor then has passed.
    pub fn sub(&mut self, len: usize, what: &'static str) -> DecodeResult<Self> {
        self.bytes(len, what).map(Self::new)
    }

    /// Passes `len` bytes.
    pub fn skip(&mut self, len: usize, what: &'static str) -> DecodeResult<()> {
        self.bytes(len, what).map(drop)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> DecodeResult<u8> {
        self.array::<1>(what).map(|[b]| b)
    }

    integer_reads! {
        u16: u16 = from_be_bytes, "Two bytes, big endian.";
        i16: i16 = from_be_bytes, "Two bytes, big endian, signed.";
        u32: u32 = from_be_bytes, "Four bytes, big endian.";
        i32: i32 = from_be_bytes, "Four bytes, big endian, signed.";
        u64: u64 = from_be_bytes, "Eight bytes, big endian.";
        f64: f64 = from_be_bytes, "An IEEE 754 double, big endian.";
        u16_le: u16 = from_le_bytes, "Two bytes, little endian.";
        u32_le: u32 = from_le_bytes, "Four bytes, little endian.";
    }

    /// Three bytes, big endian.
    pub fn u24(&mut self, what: &'static str) -> DecodeResult<u32> {
        self.array(what).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Three bytes, big endian, two's complement.
    pub fn i24(&mut self, what: &'static str) -> DecodeResult<i32> {
        // Placed in the upper three bytes first, so that the shift extends the sign.
        self.array(what).map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// Ends the decoding of a closed unit: bytes that are left over are an error.
    pub const fn finish(&self, what: &'static str) -> DecodeResult<()> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed(what)) }
    }

    /// The error for a field that was just found wrong.
    #[must_use]
    pub const fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { what, offset: self.pos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_width() {
        let bytes = [1, 2, 3, 0xFF, 0xFF, 0xFE, 0, 0, 1, 0, 5, 0, 0, 0, 9];
        let mut r = Reader::new(&bytes);
        assert_eq!(r.u24("a"), Ok(0x01_0203));
        assert_eq!(r.i24("b"), Ok(-2));
        assert_eq!(r.u32("c"), Ok(256));
        assert_eq!(r.u32_le("d"), Ok(5));
        assert_eq!(r.finish("unit"), Err(DecodeError::Malformed { what: "unit", offset: 14 }));
        assert_eq!(r.u8("e"), Ok(9));
        assert_eq!(r.finish("unit"), Ok(()));
    }

    #[test]
    fn a_short_read_names_the_field_and_moves_nothing() {
        let mut r = Reader::new(&[1, 2]);
        assert_eq!(r.u32("size"), Err(DecodeError::Incomplete { what: "size", needed: 2 }));
        assert_eq!(r.position(), 0);
        assert_eq!(
            r.bytes(usize::MAX, "body").map(<[u8]>::len),
            Err(DecodeError::Incomplete { what: "body", needed: usize::MAX - 2 })
        );
        assert_eq!(r.u16("tag"), Ok(0x0102));
    }

    #[test]
    fn an_overrun_in_a_closed_unit_is_malformed() {
        let error = Reader::new(&[]).u8("tag").unwrap_err().in_closed_unit(7);
        assert_eq!(error, DecodeError::Malformed { what: "tag", offset: 7 });
    }
}
