//! HLS as the specification wants it: a parser of playlists, and a checker that follows them over time.
//!
//! | draft-pantos-hls-rfc8216bis | rule, as [`Violation`] names it |
//! |---|---|
//! | 4.1, 4.3, 8 | `form`: first line, known tags once, attributes that are required, versions |
//! | 4.4.3.1 | `target-duration` |
//! | 4.4.3.8 | `server-control` |
//! | 4.4.4.3, 6.2.2 | `discontinuity-sequence` |
//! | 4.4.4.4 | `form`: attributes of keys, and initialisation segments in the clear |
//! | 4.4.4.5 | `map` |
//! | 4.4.4.6 | `date` |
//! | 4.4.4.9 | `part-duration`, `part-order` |
//! | 4.4.5.1 | `date-range` |
//! | 4.4.5.3 | `hint` |
//! | 4.4.5.4 | `report` |
//! | 4.4.6 | `multivariant` |
//! | 6.2.1, 6.2.2 | `constant`, `unchanged`, `sequence`, `removal`, `end` |
//! | 6.2.5.1 | `delta` |
//!
//! The parser is the checker's own: what writes playlists has no part in judging them.

mod checker;
mod multivariant;
mod parse;

pub use checker::{Checker, Violation};
pub use multivariant::{Multivariant, check_multivariant};
pub use parse::{Media, Part, Segment};

#[cfg(test)]
mod tests;
