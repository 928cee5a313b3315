//! Connections and listeners as machines: bytes and time in, bytes and events out.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-sharabayko-srt-01 | 4.3 handshake | [`Listener`], [`Connection::connect`], [`Connection::rendezvous`] |
//! | | 4.4, 4.5 time-stamp based delivery | `receive/tsbpd.rs` |
//! | | 4.6 too late packet drop | `receive.rs`, `send.rs` |
//! | | 4.8 acknowledgements, loss lists | `receive/acks.rs`, `receive/losses.rs` |
//! | | 4.10 round trip | `rtt.rs` |
//! | libsrt, `docs/features/socket-groups.md` | broadcast, main/backup | [`Group`] |
//! | draft | 5.1 LiveCC, 5.2 FileCC | `send/pacing.rs`, `send/file.rs` |
//!
//! ```text
//!  Caller ─────────┐                 ┌── Sender    queue, flight, pace
//!  Listener ───────┼── Connection ───┤
//!  Rendezvous ─────┘                 └── Receiver  buffer, losses, acknowledgements, delivery
//! ```
//!
//! Nothing in here reads a clock, makes a random number or opens a socket: the same machine runs over tokio and in a
//! simulator. What does not decode, and what is not for this connection, is counted and passed over; what cannot be done is
//! an error that ends one connection.
//!
//! Bounds: a connection holds at most what [`Config`](crate::Config) says of packets and bytes in each direction; a loss
//! list costs a few passes over what is in flight, whatever it names; what is repeated is at most as much as is sent for the
//! first time.

mod clock;
mod connection;
mod group;
mod handshake;
mod listener;
mod meter;
mod receive;
mod rtt;
mod send;
mod statistics;

pub use connection::{Connection, Event, SendError, SendOptions};
pub use group::{Group, GroupEvent, GroupOutput, MAX_MEMBERS};
pub use handshake::{Endpoint, Negotiated};
pub use listener::{Listener, MAX_DECIDED, MAX_PENDING, Request, Verdict};
pub use receive::Message;
pub use statistics::{InstantStatistics, Statistics, Totals};

#[cfg(test)]
mod tests;
