//! Packets that make up for lost ones: forward error correction as libsrt's built-in filter `fec` does it.
//!
//! | document | section | here |
//! |---|---|---|
//! | libsrt, `docs/features/packet-filtering-and-fec.md` | configuration | [`FilterConfig`], [`FecLayout`] |
//! | | sending, FEC packet header | [`FecSender`] |
//! | | receiving, cooperation with retransmission | [`FecReceiver`] |
//!
//! ```text
//!   rows ──▶   0   1   2   3 │F      packets in the order of their numbers; F is the XOR of its row,
//!              4   5   6   7 │F      f the XOR of its column: of the packets' times, key flags, lengths
//!              8   9  10  11 │F      and payloads. Any one packet of a row or a column can be had from
//!            ─────────────────       the others, and what comes back that way may help the other kind.
//!              f   f   f   f
//! ```
//!
//! Columns are below each other (`even`), or each begins a row lower than the one before (`staircase`), so that their packets
//! do not come all at once.
//!
//! It works on payloads as they are sent: sealed, when the connection is encrypted.
//!
//! | bound | value |
//! |---|---|
//! | columns, rows | [`MAX_COLUMNS`], [`MAX_ROWS`] |
//! | packets of columns × rows | [`MAX_MATRIX`] |
//! | packets that a receiver remembers | two matrices and two rows |

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod config;
mod group;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use config::{ArqLevel, FecLayout, FilterConfig, FilterError, Layout, MAX_COLUMNS, MAX_MATRIX, MAX_ROWS};
pub use receiver::FecReceiver;
pub use sender::FecSender;
