//! Sessions as state machines ([`Machine`](arcly_core::machine::Machine)): no I/O, and time is an argument.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod client;
mod presentation;
mod server;
mod target;

pub use presentation::{Agreed, Group, Intent, Medium, Presentation};
pub use server::{Access, Proof, ServerEvent, ServerSession, Start};
pub use target::Target;

/// How often a sender is told what of its packets arrives.
pub const REPORT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);
