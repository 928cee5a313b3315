//! Ranges of bytes in requests (RFC 9110 section 14).

/// What a `Range` header asks for of something that is so many bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// Everything: it is no range of bytes that is understood, or several (14.2 lets a server ignore them).
    Whole,
    /// From the first to the last byte, both included.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte, less than the length.
        last: u64,
    },
    /// Nothing of it is there: 416.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads the value of a `Range` header (14.1.2) for a representation of `len` bytes.
    #[must_use]
    pub fn of(value: &str, len: u64) -> Self {
        let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        let end = len.saturating_sub(1);
        match (number(first), number(last)) {
            (Some(Some(first)), Some(Some(last))) if first > last => Self::Whole,
            (Some(Some(first)), Some(_)) if first >= len => Self::Unsatisfiable,
            (Some(Some(first)), Some(last)) => Self::Part { first, last: last.unwrap_or(end).min(end) },
            (Some(None), Some(Some(count))) if count == 0 || len == 0 => Self::Unsatisfiable,
            (Some(None), Some(Some(count))) => Self::Part { first: len.saturating_sub(count), last: end },
            _ => Self::Whole,
        }
    }
}

/// A number, however large, or nothing; `None` for anything else.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9110_section_14_ranges() {
        use ByteRange::{Unsatisfiable, Whole};
        let of = |first, last| ByteRange::Part { first, last };
        for (value, expect) in [
            ("bytes=0-", of(0, 99)),
            ("bytes=0-9007199254740991", of(0, 99)),
            ("bytes=0-18446744073709551616", of(0, 99)),
            ("bytes=10-19", of(10, 19)),
            ("bytes=99-99", of(99, 99)),
            ("bytes=-10", of(90, 99)),
            ("bytes=-1000", of(0, 99)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=20-10", Whole),
            ("bytes=0-1,5-6", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("items=0-1", Whole),
            ("bytes=99999999999999999999-", Unsatisfiable),
        ] {
            assert_eq!(ByteRange::of(value, 100), expect, "{value}");
        }
        assert_eq!(ByteRange::of("bytes=0-", 0), Unsatisfiable);
        assert_eq!(ByteRange::of("bytes=-5", 0), Unsatisfiable);
    }
}
