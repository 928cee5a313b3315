//! Numbers that wrap: their order is that of the shorter way around.

use core::fmt;

/// A packet sequence number: 31 bits. It wraps, so that there is no order on it but between two that are closer than half
/// the circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNumber(u32);

impl SeqNumber {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// The largest value; [`ZERO`](Self::ZERO) is next.
    pub const MAX: u32 = 0x7FFF_FFFF;

    /// The lower 31 bits of `value`.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value & Self::MAX)
    }

    /// The number, 31 bits.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The number behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The number before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        self.minus(1)
    }

    /// `n` numbers on.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Self::new(self.0.wrapping_add(n))
    }

    /// `n` numbers back.
    #[must_use]
    pub const fn minus(self, n: u32) -> Self {
        Self::new(self.0.wrapping_sub(n))
    }

    /// How far it is to `other`: positive when `other` is later, −2³⁰ to 2³⁰ − 1.
    #[must_use]
    pub const fn distance_to(self, other: Self) -> i32 {
        // The 31-bit difference in the upper bits, so that the shift back extends its sign.
        (other.0.wrapping_sub(self.0) << 1).cast_signed() >> 1
    }

    /// True when `other` is later.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.distance_to(other) > 0
    }

    /// True when `other` is later, or the same.
    #[must_use]
    pub const fn is_at_or_before(self, other: Self) -> bool {
        self.distance_to(other) >= 0
    }

    /// The later of two.
    #[must_use]
    pub const fn later(self, other: Self) -> Self {
        if self.is_before(other) { other } else { self }
    }

    /// The earlier of two.
    #[must_use]
    pub const fn earlier(self, other: Self) -> Self {
        if self.is_before(other) { self } else { other }
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sequence numbers from the first to the last, both of them in it: never empty, never reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    first: SeqNumber,
    last: SeqNumber,
}

impl SeqRange {
    /// `None` when `last` is before `first`.
    #[must_use]
    pub const fn new(first: SeqNumber, last: SeqNumber) -> Option<Self> {
        if first.is_at_or_before(last) { Some(Self { first, last }) } else { None }
    }

    /// One number.
    #[must_use]
    pub const fn single(seq: SeqNumber) -> Self {
        Self { first: seq, last: seq }
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> SeqNumber {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> SeqNumber {
        self.last
    }

    /// How many there are: 1 to 2³⁰.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u32 {
        self.first.distance_to(self.last).unsigned_abs().saturating_add(1)
    }

    /// True when `seq` is one of them.
    #[must_use]
    pub const fn contains(self, seq: SeqNumber) -> bool {
        self.first.is_at_or_before(seq) && seq.is_at_or_before(self.last)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.later(other.first), self.last.earlier(other.last))
    }

    /// Each of them. A peer can name 2³⁰: take the [`intersection`](Self::intersection) with what there is first.
    pub fn iter(self) -> impl Iterator<Item = SeqNumber> {
        (0..self.len()).map(move |n| self.first.plus(n))
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// A message number: 26 bits, wraps to 1. [`CONTROL`](Self::CONTROL) marks what a packet filter made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsgNumber(u32);

impl MsgNumber {
    /// Zero: no message, but a packet filter's own.
    pub const CONTROL: Self = Self(0);
    /// The first of a connection.
    pub const FIRST: Self = Self(1);
    /// The largest value; [`FIRST`](Self::FIRST) is next.
    pub const MAX: u32 = 0x03FF_FFFF;

    /// The lower 26 bits of `value`.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value & Self::MAX)
    }

    /// The number, 26 bits.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The number behind this one, never [`CONTROL`](Self::CONTROL).
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 >= Self::MAX { Self::FIRST } else { Self(self.0.saturating_add(1)) }
    }

    /// `n` numbers on, or back when it is negative, never [`CONTROL`](Self::CONTROL).
    #[must_use]
    pub fn offset(self, n: i32) -> Self {
        // Numbers 1..=MAX are a circle of MAX.
        let position = i64::from(self.0.max(1)).saturating_sub(1).saturating_add(n.into());
        let wrapped = position.rem_euclid(Self::MAX.into());
        u32::try_from(wrapped).map_or(Self::FIRST, |value| Self(value.saturating_add(1)))
    }
}

/// Microseconds on the sender's clock for this connection: 32 bits, wraps after 71 minutes and 35 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimeStamp(u32);

impl TimeStamp {
    /// From the 32 bits that are sent.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// From microseconds since the sender's start, which may be past the wrap.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the upper bits are what is wrapped away")]
    pub const fn from_micros(micros: u64) -> Self {
        Self((micros & u32::MAX as u64) as u32)
    }

    /// The 32 bits.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Microseconds to `other`: positive when it is later, at most half the circle (35 minutes and 47 seconds).
    #[must_use]
    pub const fn distance_to(self, other: Self) -> i32 {
        other.0.wrapping_sub(self.0).cast_signed()
    }
}

/// Who a packet is for, among the connections of one UDP port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

impl SocketId {
    /// Where packets go that open a connection.
    pub const HANDSHAKE: Self = Self(0);
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(value: u32) -> SeqNumber {
        SeqNumber::new(value)
    }

    #[test]
    fn sequence_numbers_go_the_shorter_way_around() {
        let cases = [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, -1),
            (SeqNumber::MAX, 0, 1),
            (0, SeqNumber::MAX, -1),
            (SeqNumber::MAX - 4, 5, 10),
            (0, (1 << 30) - 1, (1 << 30) - 1),
            (0, 1 << 30, -(1 << 30)),
        ];
        for (from, to, distance) in cases {
            assert_eq!(seq(from).distance_to(seq(to)), distance, "{from} to {to}");
        }
        assert_eq!(seq(SeqNumber::MAX).next(), SeqNumber::ZERO);
        assert_eq!(SeqNumber::ZERO.previous(), seq(SeqNumber::MAX));
        assert_eq!(
            (seq(3).later(seq(SeqNumber::MAX)), seq(3).earlier(seq(SeqNumber::MAX))),
            (seq(3), seq(SeqNumber::MAX))
        );
    }

    #[test]
    fn ranges_are_never_reversed() {
        assert_eq!(SeqRange::new(seq(5000), seq(10)), None);
        let over_the_wrap = SeqRange::new(seq(SeqNumber::MAX), seq(1)).unwrap();
        assert_eq!(over_the_wrap.len(), 3);
        assert_eq!(over_the_wrap.iter().map(SeqNumber::value).collect::<Vec<_>>(), [SeqNumber::MAX, 0, 1]);
        assert!(over_the_wrap.contains(seq(0)) && !over_the_wrap.contains(seq(2)));
        assert_eq!(SeqRange::single(seq(7)).len(), 1);
        assert_eq!(SeqRange::new(seq(0), seq((1 << 30) - 1)).unwrap().len(), 1 << 30);
        let have = SeqRange::new(seq(100), seq(199)).unwrap();
        let asked = SeqRange::new(seq(0), seq((1 << 30) - 1)).unwrap();
        assert_eq!(asked.intersection(have), Some(have));
        assert_eq!(SeqRange::single(seq(200)).intersection(have), None);
    }

    #[test]
    fn message_numbers_skip_zero() {
        assert_eq!(MsgNumber::new(MsgNumber::MAX).next(), MsgNumber::FIRST);
        assert_eq!(MsgNumber::FIRST.offset(-1), MsgNumber::new(MsgNumber::MAX));
        assert_eq!(MsgNumber::new(MsgNumber::MAX).offset(2), MsgNumber::new(2));
        assert_eq!(MsgNumber::new(7).offset(0), MsgNumber::new(7));
    }

    #[test]
    fn times_wrap() {
        assert_eq!(TimeStamp::from_micros(u64::from(u32::MAX) + 6), TimeStamp::new(5));
        assert_eq!(TimeStamp::new(u32::MAX).distance_to(TimeStamp::new(9)), 10);
        assert_eq!(TimeStamp::new(9).distance_to(TimeStamp::new(u32::MAX)), -10);
    }

    proptest! {
        #[test]
        fn distance_is_the_inverse_of_plus(from in 0..=SeqNumber::MAX, n in 0..1_u32 << 30) {
            let from = seq(from);
            prop_assert_eq!(from.distance_to(from.plus(n)), i32::try_from(n).unwrap());
            prop_assert_eq!(from.plus(n).distance_to(from), -i32::try_from(n).unwrap());
            prop_assert_eq!(from.plus(n).minus(n), from);
        }

        #[test]
        fn message_offsets_agree_with_next(from in 1..=MsgNumber::MAX, n in 0..300_i32) {
            let from = MsgNumber::new(from);
            let stepped = (0..n).fold(from, |number, _| number.next());
            prop_assert_eq!(from.offset(n), stepped);
            prop_assert_eq!(stepped.offset(-n), from);
        }
    }
}
