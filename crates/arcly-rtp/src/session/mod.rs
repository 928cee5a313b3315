//! One stream of packets, received: order, sources, reports, and the sender's clock.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 3550 | §6.4.1, A.3, A.8 losses and jitter | [`Reception`] |
//! | | §8.2, A.1 sources that change, sequences that jump | [`Receiver`] |
//! | | §6.4.1 wall clock and RTP clock | [`SenderClock`] |
//! | RFC 2198 | §3 what was lost, from what is repeated | [`Recovery`] |
//!
//! ```text
//!   packets ──► Receiver ──► packets in order, losses, restarts
//!                 │   ReorderBuffer   at most 512 packets, 200 ms
//!   reports ──► SenderClock           which moment a timestamp stands for
//!                 └──► Reception      what a receiver report says
//! ```
//!
//! Time is an argument everywhere. Guarantees: bounded by [`MAX_PACKETS`] and [`MAX_HELD`] packets, and no panic for any order
//! of any packets.

mod clock;
mod receiver;
mod reception;
mod recovery;
mod reorder;

pub use clock::{Drift, SenderClock};
pub use receiver::{
    Counters, Delivery, MAX_HELD, MAX_JUMP, MAX_TIMESTAMP_STEP, Received, Receiver, SOURCE_SILENCE,
};
pub use reception::Reception;
pub use recovery::{MAX_REMEMBERED, Recovered, Recovery};
pub use reorder::{Insertion, MAX_PACKETS, MAX_WAIT, Release, ReorderBuffer, START_HOLD};
