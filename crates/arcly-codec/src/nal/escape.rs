//! Emulation prevention (H.264 §7.4.1, H.265 §7.4.2, H.266 §7.4.2).

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[0, 0, 3]));

/// Where the first emulation prevention byte is.
pub(crate) fn find_escape(nal: &[u8]) -> Option<usize> {
    ESCAPE.find(nal).map(|hit| hit.saturating_add(2))
}

/// The raw byte sequence payload: `nal` without its emulation prevention bytes, borrowed when there are none.
///
/// Linear time. `unescape(&escape(x)) == x` for every `x`.
#[must_use]
pub fn unescape(nal: &[u8]) -> Cow<'_, [u8]> {
    let mut hits = ESCAPE.find_iter(nal).peekable();
    if hits.peek().is_none() {
        return Cow::Borrowed(nal);
    }
    let mut out = Vec::with_capacity(nal.len());
    let mut from = 0;
    for hit in hits {
        let escape = hit.saturating_add(2);
        out.extend_from_slice(nal.get(from..escape).unwrap_or_default());
        from = escape.saturating_add(1);
    }
    out.extend_from_slice(nal.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// A NAL unit's bytes from its raw payload: emulation prevention bytes inserted, also after a payload that
/// ends in two zeros, so that the unit can be framed by start codes.
#[must_use]
pub fn escape(rbsp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rbsp.len().saturating_add(rbsp.len() / 64).saturating_add(1));
    let mut zeros = 0_u8;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros.saturating_add(1) } else { 0 };
        out.push(byte);
    }
    if zeros >= 2 {
        out.push(3);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_table() {
        let cases: [(&[u8], &[u8]); 8] = [
            (&[], &[]),
            (&[0], &[0]),
            (&[0, 0], &[0, 0, 3]),
            (&[0, 0, 0], &[0, 0, 3, 0]),
            (&[0, 0, 1], &[0, 0, 3, 1]),
            (&[0, 0, 3], &[0, 0, 3, 3]),
            (&[0, 0, 4], &[0, 0, 4]),
            (&[0, 0, 0, 0, 0, 0], &[0, 0, 3, 0, 0, 3, 0, 0, 3]),
        ];
        for (rbsp, nal) in cases {
            assert_eq!(escape(rbsp), nal, "{rbsp:?}");
            assert_eq!(&*unescape(nal), rbsp, "{nal:?}");
        }
        assert!(matches!(unescape(&[1, 2, 3]), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn exact_round_trip(rbsp in proptest::collection::vec(0..5u8, 0..300)) {
            let nal = escape(&rbsp);
            prop_assert_eq!(&*unescape(&nal), &rbsp[..]);
            prop_assert!(memchr::memmem::find(&nal, &[0, 0, 0]).is_none());
            prop_assert!(memchr::memmem::find(&nal, &[0, 0, 1]).is_none());
            prop_assert!(memchr::memmem::find(&nal, &[0, 0, 2]).is_none());
        }
    }
}
