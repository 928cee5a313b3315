//! Sans-IO sessions: bytes and the time go in, bytes and events come out.
//!
//! | document | section | here |
//! |---|---|---|
//! | Adobe RTMP 1.0 | 5.4 protocol control, 6.2 user control | `link` |
//! | Adobe RTMP 1.0 | 7.2 commands, server side | [`ServerSession`] |
//! | Adobe RTMP 1.0 | 7.2 commands, client side | [`ClientSession`] |
//! | Enhanced RTMP v2 | connect capabilities, reconnect request | both |
//!
//! ```text
//!              handle_input(now, bytes)   handle_timeout(now)   accept_*, reject, end_play, shutdown
//!                         ╲                      │                     ╱
//!                          ▼                     ▼                    ▼
//!                                   ServerSession / ClientSession
//!                                               │
//!                    poll_output() ─▶ Transmit(bytes) · Event(event) · Wait(until)
//! ```
//!
//! Both are [`Machine`](arcly_core::machine::Machine)s. They read no clock, hold no socket, and behave the same however
//! the bytes are cut. Guarantees: no panic whatever comes in; memory within [`Limits`](crate::config::Limits); an error
//! is final. Media that is sent does not pass through a session: it is serialised once per stream (`media`), and its
//! owner writes it between the session's own messages.

mod client;
mod link;
mod server;
mod target;

pub use client::{ClientEvent, ClientSession, Intent};
pub use link::Tag;
pub use server::{ServerEvent, ServerSession, StreamId};
pub use target::Target;

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "case tables")]
mod tests;
