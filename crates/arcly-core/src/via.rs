//! Where a stream has come through: what keeps relays from feeding a stream with itself.
//!
//! Every [`Stream`](crate::Stream) has a [`Hop`], a random number that it keeps for as long as it exists and that names
//! nothing else. A relay tells the server that it pushes to which hops the stream has passed ([`Via`]), and the one that
//! it pulls from which stream it feeds; who finds itself in the one, or the other in itself, refuses with
//! [`Conflict`](crate::CloseReason::Conflict). Between two servers that feed each other that is one hop after the first.
//!
//! | where it travels | as |
//! |---|---|
//! | RTMP `connect`, of a client that pushes or pulls | the property [`PROPERTY`] of the command object |
//! | HTTP-FLV requests, RTSP's DESCRIBE and ANNOUNCE of a relay | the header [`HEADER`] |
//! | answers to RTSP's DESCRIBE, which have no metadata | the header [`HEADER`], as the stream is then |
//! | metadata of the stream itself (`onMetaData`) | the entry [`PROPERTY`], put there by the stream |
//!
//! The last is for loops by way of servers that are no arcly: those that pass on the metadata they get close the loop
//! visibly, if only once the stream is there. One that writes metadata of its own (nginx-rtmp, unless told `meta copy`)
//! hides it, and a loop through such a server shows only as a stream that feeds on itself (`docs/decisions/0008-*` says why
//! that is left at that).
//!
//! A recording carries the hops of the stream it was made of, and may be published under that stream's name once that
//! stream has ended: the next one has another hop.

use core::fmt;

use smallvec::SmallVec;

use crate::track::{MetaValue, Metadata};

/// The name of the list of hops in RTMP's command object and in metadata.
pub const PROPERTY: &str = "arclyVia";
/// The name of the list of hops in requests of HTTP and RTSP.
pub const HEADER: &str = "arcly-via";
/// Hops of one list. A stream that has passed so many is not taken any further.
pub const MAX_HOPS: usize = 16;
/// Hexadecimal digits of a hop.
const DIGITS: usize = 16;

/// One stream of one server, for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop(u64);

impl Hop {
    /// A hop of that number, which must be random: two that are the same look like a loop.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    fn decode(text: &str) -> Option<Self> {
        let is_hop = text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_hop.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

/// The hops that a stream has passed, the oldest first; [`MAX_HOPS`] at most. Written with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(SmallVec<[Hop; 2]>);

impl Via {
    /// The hops of a list. What is no hop is left out, and so is what comes after [`MAX_HOPS`] of them.
    #[must_use]
    pub fn decode(text: &str) -> Self {
        let mut via = Self::default();
        text.split(',').filter_map(|hop| Hop::decode(hop.trim())).for_each(|hop| via.push(hop));
        via
    }

    /// The hops that metadata tells of.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        match metadata.get(PROPERTY) {
            Some(MetaValue::Text(text)) => Self::decode(text),
            _ => Self::default(),
        }
    }

    /// Adds a hop to the end, unless it is there already or there is no room.
    pub fn push(&mut self, hop: Hop) {
        if !self.contains(hop) && !self.is_full() {
            self.0.push(hop);
        }
    }

    /// The same list with another one behind it.
    #[must_use]
    pub fn and(mut self, further: &Self) -> Self {
        further.0.iter().for_each(|hop| self.push(*hop));
        self
    }

    /// True when the stream has passed that hop.
    #[must_use]
    pub fn contains(&self, hop: Hop) -> bool {
        self.0.contains(&hop)
    }

    /// True when both lists have a hop in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().any(|hop| other.contains(*hop))
    }

    /// True when the list has no room for a further hop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_HOPS
    }

    /// True when the stream comes from where it is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The metadata with this list in it, in place of the one that it had.
    #[must_use]
    pub(crate) fn mark(&self, metadata: &Metadata) -> Metadata {
        let mut entries = metadata.entries.clone();
        entries.retain(|(name, _)| &**name != PROPERTY);
        entries.push((PROPERTY.into(), MetaValue::Text(self.to_string().into())));
        Metadata { entries }
    }
}

impl From<Hop> for Via {
    fn from(hop: Hop) -> Self {
        let mut via = Self::default();
        via.push(hop);
        via
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, hop) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            hop.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_as_they_were_written() {
        let cases = [
            ("", ""),
            ("00000000000000ff", "00000000000000ff"),
            ("00000000000000ff, 0123456789ABCDEF", "00000000000000ff,0123456789abcdef"),
            ("00000000000000ff,00000000000000ff", "00000000000000ff"),
            ("ff,+0000000000000ff,00000000000000fg,\u{e4}0000000000000,,", ""),
            ("1.1 proxy.example, 00000000000000ff", "00000000000000ff"),
        ];
        for (text, expect) in cases {
            let via = Via::decode(text);
            assert_eq!(via.to_string(), expect, "{text:?}");
            assert_eq!(Via::decode(&via.to_string()), via);
            assert_eq!(via.is_empty(), expect.is_empty());
        }
    }

    #[test]
    fn a_list_has_an_end() {
        let text = (0..2 * MAX_HOPS).map(|n| format!("{n:016x},")).collect::<String>();
        let via = Via::decode(&text);
        assert!(via.is_full());
        assert_eq!(via.to_string().len(), MAX_HOPS * (DIGITS + 1) - 1);
        assert!(via.contains(Hop::new(0)) && !via.contains(Hop::new(MAX_HOPS as u64)));
        assert!(via.meets(&Hop::new(1).into()) && !via.meets(&Hop::new(99).into()));
    }

    #[test]
    fn metadata_carries_one_list() {
        let said = Metadata { entries: vec![("title".into(), MetaValue::Text("x".into()))] };
        assert!(Via::of(&said).is_empty());
        let first = Via::from(Hop::new(1)).mark(&said);
        let second = Via::of(&first).and(&Hop::new(2).into()).mark(&first);
        assert_eq!(second.entries.len(), 2);
        assert_eq!(second.get("title"), said.get("title"));
        assert_eq!(Via::of(&second).to_string(), "0000000000000001,0000000000000002");
    }
}
