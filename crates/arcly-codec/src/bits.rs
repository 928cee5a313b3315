//! Bits, Exp-Golomb codes, and the raw byte sequence payload inside a NAL unit.
//!
//! | document | section | here |
//! |---|---|---|
//! | ITU-T H.264, H.265, H.266 | 7.2 `more_rbsp_data`, 7.4.1 emulation prevention | [`BitReader::rbsp`], [`BitReader::more_rbsp_data`] |
//! | | 9.1 / 9.2 `ue(v)`, `se(v)` | [`BitReader::ue`], [`BitReader::se`] |
//!
//! Guarantees: no allocation, no panic, linear time. Emulation prevention bytes are removed while reading,
//! so a slice header costs its own length and not the slice's. Units are closed: running over the end is
//! [`DecodeError::Malformed`], never `Incomplete`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::wire::{DecodeError, DecodeResult};

use crate::nal;

/// The most bits that one call of [`BitReader::bits`] gives.
pub const MAX_BITS: u32 = 32;

/// A forward-only cursor over bits, most significant first.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    pos: usize,
    escaped: bool,
    zeros: u8,
    /// Bits not yet given out, aligned to the top; below them zeros.
    cache: u64,
    cached: u32,
}

impl<'a> BitReader<'a> {
    /// A reader of plain bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, escaped: false, zeros: 0, cache: 0, cached: 0 }
    }

    /// A reader of the payload of a NAL unit, which passes over `emulation_prevention_three_byte`s.
    #[must_use]
    pub const fn rbsp(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, escaped: true, zeros: 0, cache: 0, cached: 0 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.pos)?;
        self.pos = self.pos.saturating_add(1);
        if self.escaped {
            if byte == 3 && self.zeros >= 2 {
                self.zeros = 0;
                byte = *self.bytes.get(self.pos)?;
                self.pos = self.pos.saturating_add(1);
            }
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        Some(byte)
    }

    fn refill(&mut self) {
        while self.cached <= 56 {
            let Some(byte) = self.next_byte() else { return };
            self.cache |= u64::from(byte) << 56_u32.saturating_sub(self.cached);
            self.cached = self.cached.saturating_add(8);
        }
    }

    fn consume(&mut self, count: u32) {
        self.cache = self.cache.checked_shl(count).unwrap_or(0);
        self.cached = self.cached.saturating_sub(count);
    }

    /// The error for a field that was just found wrong.
    #[must_use]
    pub const fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { what, offset: self.pos.saturating_sub(self.cached as usize / 8) }
    }

    /// `u(count)` for up to [`MAX_BITS`] bits.
    pub fn bits(&mut self, count: u32, what: &'static str) -> DecodeResult<u32> {
        debug_assert!(count <= MAX_BITS, "wider fields are read in two steps");
        if self.cached < count {
            self.refill();
        }
        if self.cached < count {
            return Err(self.malformed(what));
        }
        let shift = 64_u32.saturating_sub(count);
        let value = self.cache.checked_shr(shift).unwrap_or(0);
        self.consume(count);
        u32::try_from(value).map_err(|_| self.malformed(what))
    }

    /// `u(count)` for up to eight bits.
    pub fn small(&mut self, count: u32, what: &'static str) -> DecodeResult<u8> {
        let value = self.bits(count.min(8), what)?;
        u8::try_from(value).map_err(|_| self.malformed(what))
    }

    /// `u(16)`.
    pub fn u16(&mut self, what: &'static str) -> DecodeResult<u16> {
        let value = self.bits(16, what)?;
        u16::try_from(value).map_err(|_| self.malformed(what))
    }

    /// `u(1)`.
    pub fn flag(&mut self, what: &'static str) -> DecodeResult<bool> {
        Ok(self.bits(1, what)? == 1)
    }

    /// Passes `count` bits; the cost is that of a search for emulation prevention in the bytes that are there, whatever
    /// `count` says.
    pub fn skip(&mut self, count: u64, what: &'static str) -> DecodeResult<()> {
        let Some(left) = count.checked_sub(u64::from(self.cached)) else {
            self.consume(u32::try_from(count).unwrap_or(self.cached));
            return Ok(());
        };
        (self.cache, self.cached) = (0, 0);
        let bytes = usize::try_from(left / 8).unwrap_or(usize::MAX);
        let passed = if self.escaped { self.skip_escaped(bytes) } else { self.advance(bytes) };
        if !passed {
            return Err(self.malformed(what));
        }
        self.bits(u32::try_from(left % 8).unwrap_or_default(), what).map(drop)
    }

    /// Passes that many bytes as they are. False, and at the end, when there are not so many.
    fn advance(&mut self, count: usize) -> bool {
        let end = self.pos.saturating_add(count);
        self.pos = end.min(self.bytes.len());
        end == self.pos
    }

    /// Passes that many bytes of payload, and the emulation prevention between them.
    fn skip_escaped(&mut self, mut count: usize) -> bool {
        // Zeros just before this place belong to what emulation prevention may follow.
        let mut from = self.pos.saturating_sub(usize::from(self.zeros.min(2)));
        loop {
            let end = self.pos.saturating_add(count).min(self.bytes.len());
            let hit = nal::find_escape(self.bytes.get(from..end).unwrap_or_default());
            let Some(escape) = hit.map(|hit| from.saturating_add(hit)) else { break };
            count = count.saturating_sub(escape.saturating_sub(self.pos));
            self.pos = escape.saturating_add(1);
            from = self.pos;
        }
        let passed = self.advance(count);
        let before = self.bytes.get(from..self.pos).unwrap_or_default();
        let zeros = before.iter().rev().take(2).take_while(|&&byte| byte == 0).count();
        self.zeros = u8::try_from(zeros).unwrap_or_default();
        passed
    }

    /// `ue(v)`: 0 to 2³² − 2. A prefix of 32 zeros or more is malformed.
    pub fn ue(&mut self, what: &'static str) -> DecodeResult<u32> {
        if self.cached < MAX_BITS {
            self.refill();
        }
        let zeros = self.cache.leading_zeros();
        if zeros >= MAX_BITS || zeros >= self.cached {
            return Err(self.malformed(what));
        }
        self.consume(zeros.saturating_add(1));
        let suffix = u64::from(self.bits(zeros, what)?);
        let value = (1_u64 << zeros).saturating_sub(1).saturating_add(suffix);
        u32::try_from(value).map_err(|_| self.malformed(what))
    }

    /// `ue(v)` that must not exceed `max`.
    pub fn ue_max(&mut self, max: u32, what: &'static str) -> DecodeResult<u32> {
        let value = self.ue(what)?;
        if value > max { Err(self.malformed(what)) } else { Ok(value) }
    }

    /// `ue(v)` that must not exceed `max`, which fits a byte.
    pub fn ue_small(&mut self, max: u8, what: &'static str) -> DecodeResult<u8> {
        let value = self.ue_max(u32::from(max), what)?;
        u8::try_from(value).map_err(|_| self.malformed(what))
    }

    /// `se(v)`: −(2³¹ − 1) to 2³¹ − 1.
    pub fn se(&mut self, what: &'static str) -> DecodeResult<i32> {
        let code = i64::from(self.ue(what)?);
        let magnitude = code.saturating_add(1) / 2;
        let value = if code % 2 == 0 { magnitude.saturating_neg() } else { magnitude };
        i32::try_from(value).map_err(|_| self.malformed(what))
    }

    /// True when something other than the trailing bits (a one and zeros) is left.
    #[must_use]
    pub fn more_rbsp_data(&self) -> bool {
        let mut rest = *self;
        match rest.bits(1, "rbsp") {
            Err(_) => return false,
            Ok(0) => return true,
            Ok(_) => {}
        }
        rest.cache != 0 || core::iter::from_fn(|| rest.next_byte()).any(|byte| byte != 0)
    }
}

/// Writes bits, most significant first; the counterpart of [`BitReader`].
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    partial: u8,
    filled: u32,
}

impl BitWriter {
    /// An empty writer.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), partial: 0, filled: 0 }
    }

    /// `u(count)`: the lowest `count` bits of `value`.
    pub fn bits(&mut self, count: u32, value: u64) -> &mut Self {
        for shift in (0..count.min(64)).rev() {
            let bit = u8::from((value >> shift) & 1 == 1);
            self.partial = (self.partial << 1) | bit;
            self.filled = self.filled.saturating_add(1);
            if self.filled == 8 {
                self.bytes.push(self.partial);
                self.partial = 0;
                self.filled = 0;
            }
        }
        self
    }

    /// `u(1)`.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.bits(1, u64::from(value))
    }

    /// `ue(v)`.
    pub fn ue(&mut self, value: u32) -> &mut Self {
        let code = u64::from(value).saturating_add(1);
        let width = 64_u32.saturating_sub(code.leading_zeros());
        self.bits(width.saturating_sub(1), 0).bits(width, code)
    }

    /// `se(v)`; `i32::MIN` has no code and is written as its neighbour.
    pub fn se(&mut self, value: i32) -> &mut Self {
        let doubled = value.max(-i32::MAX).unsigned_abs().saturating_mul(2);
        self.ue(if value > 0 { doubled.saturating_sub(1) } else { doubled })
    }

    /// `rbsp_trailing_bits()`: a one, then zeros up to a whole byte.
    pub fn trailing(&mut self) -> &mut Self {
        self.flag(true).align()
    }

    /// Zeros up to a whole byte.
    pub fn align(&mut self) -> &mut Self {
        while self.filled != 0 {
            self.bits(1, 0);
        }
        self
    }

    /// What was written, filled up with zeros to a whole byte.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exp_golomb_codes_of_h264_table_9_2() {
        let cases: [(&str, u32, i32); 7] = [
            ("1", 0, 0),
            ("010", 1, 1),
            ("011", 2, -1),
            ("00100", 3, 2),
            ("00101", 4, -2),
            ("00110", 5, 3),
            ("00111", 6, -3),
        ];
        for (code, ue, se) in cases {
            let mut w = BitWriter::new();
            for bit in code.bytes() {
                w.flag(bit == b'1');
            }
            let bytes = w.finish();
            assert_eq!(BitReader::new(&bytes).ue("v"), Ok(ue), "{code}");
            assert_eq!(BitReader::new(&bytes).se("v"), Ok(se), "{code}");
        }
    }

    #[test]
    fn m03_a_prefix_of_32_zeros_is_malformed_at_once() {
        assert!(BitReader::new(&[0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0]).ue("v").is_err());
        assert_eq!(
            BitReader::new(&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE]).ue("v"),
            Ok(u32::MAX - 1),
            "31 zeros are the largest value"
        );
        let zeros = vec![0; 65_536];
        let mut r = BitReader::rbsp(&zeros);
        assert!(r.ue("v").is_err());
        assert!(r.pos <= 16, "the rest is not even looked at");
    }

    #[test]
    fn emulation_prevention_is_passed_over() {
        let mut r = BitReader::rbsp(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3]);
        assert_eq!(r.bits(32, "v"), Ok(0x0000_0100));
        assert_eq!(r.bits(24, "v"), Ok(0));
        assert!(r.bits(1, "v").is_err(), "a trailing 00 00 03 ends the payload");
        assert_eq!(BitReader::new(&[0, 0, 3]).bits(24, "v"), Ok(3));
    }

    #[test]
    fn trailing_bits_are_not_data() {
        let cases: [(&[u8], bool); 5] =
            [(&[0x80], false), (&[0x81], true), (&[0x40], true), (&[0x80, 0, 0, 3], false), (&[], false)];
        for (bytes, more) in cases {
            assert_eq!(BitReader::rbsp(bytes).more_rbsp_data(), more, "{bytes:?}");
        }
        let mut long = vec![0x80; 1];
        long.extend([0; 20]);
        long.push(1);
        assert!(BitReader::new(&long).more_rbsp_data());
    }

    #[test]
    fn a_huge_skip_costs_what_is_there() {
        assert!(BitReader::new(&[0; 8]).skip(u64::MAX, "v").is_err());
        assert!(BitReader::new(&[0; 8]).skip(64, "v").is_ok());
    }

    #[test]
    fn a_skip_over_megabytes_knows_the_zeros_it_passed() {
        let mut bytes = vec![0xAA; 8 << 20];
        bytes.extend([0, 0, 3, 1, 0x42]);
        let mut r = BitReader::rbsp(&bytes);
        assert_eq!(r.bits(4, "v"), Ok(0xA));
        assert_eq!(r.skip((8 << 23) + 12, "v"), Ok(()), "the two zeros as well");
        assert_eq!((r.bits(16, "v"), r.bits(1, "v").is_err()), (Ok(0x0142), true));
    }

    proptest! {
        /// Bytes of which many are zeros and threes: as bits are skipped, so they would have been read.
        #[test]
        fn a_skip_passes_what_reading_would(
            bytes in proptest::collection::vec(0..4u8, 0..80),
            skips in proptest::collection::vec((0..17u32, 0..200u64), 1..8),
        ) {
            for escaped in [true, false] {
                let new = if escaped { BitReader::rbsp } else { BitReader::new };
                let (mut skipping, mut reading) = (new(&bytes), new(&bytes));
                for &(bits, skip) in &skips {
                    let skipped = skipping.skip(skip, "v").is_ok();
                    let read = (0..skip).all(|_| reading.bits(1, "v").is_ok());
                    prop_assert_eq!(skipped, read);
                    if !skipped {
                        break;
                    }
                    prop_assert_eq!(skipping.more_rbsp_data(), reading.more_rbsp_data());
                    prop_assert_eq!(skipping.bits(bits, "v").ok(), reading.bits(bits, "v").ok());
                }
            }
        }

        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec((0..u32::MAX, -i32::MAX..=i32::MAX, 1..=32u32), 0..40)) {
            let mut w = BitWriter::new();
            for &(u, s, n) in &values {
                w.ue(u).se(s).bits(n, u64::from(u));
            }
            w.trailing();
            let bytes = w.finish();
            let mut r = BitReader::new(&bytes);
            for &(u, s, n) in &values {
                prop_assert_eq!(r.ue("u"), Ok(u));
                prop_assert_eq!(r.se("s"), Ok(s));
                prop_assert_eq!(u64::from(r.bits(n, "n").unwrap()), u64::from(u) & ((1 << n) - 1));
            }
            prop_assert!(!r.more_rbsp_data());
        }
    }
}
