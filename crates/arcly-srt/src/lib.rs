//! SRT (Secure Reliable Transport): packets over UDP that are repeated for as long as there is time for it, and delivered
//! with the spacing that they were sent with.
//!
//! | document | section | here |
//! |---|---|---|
//! | draft-sharabayko-srt-01 | §3 packets | [`wire`] |
//! | | §4.3 handshake, §4.4 to §4.10 transmission, §5 pacing | [`session`] |
//! | | §6 encryption | [`crypto`], feature `encryption` |
//! | libsrt, `docs/features/packet-filtering-and-fec.md` | forward error correction | [`filter`] |
//! | libsrt, `docs/features/socket-groups.md` | bonding | [`session::Group`] |
//! | libsrt, `docs/features/access-control.md` | stream ids, rejection codes | [`wire::StreamId`], [`wire::RejectReason`] |
//!
//! ```text
//!  wire/      bytes <-> packets         no I/O, no clock
//!  crypto/    keys: derived, wrapped, changed while packets flow; payloads sealed and opened
//!  filter/    packets that make up for lost ones
//!  session/   connections, listeners    machines: time is an argument, randomness is injected
//!  socket/    tokio: one task for a UDP socket and all its connections; messages in and out
//!  media      MPEG-TS to an engine, and of an engine (feature `ts`)
//!  server     for callers who publish and play
//!  client     pulls and pushes: as caller, listener or in a rendezvous
//! ```
//!
//! # Entry points
//!
//! [`socket::Socket`] carries messages for any program, as caller, listener or in a rendezvous.
#![cfg_attr(feature = "ts", doc = "[`Server`] serves an engine, and [`Client`] connects it with others.")]
//! The machines in [`session`] alone, without tokio, are for everything else.
//!
//! # What is not done
//!
//! Groups that share their load (libsrt's balancing, which it has not finished either), and groups over sockets of several
//! addresses.
//!
//! Where the draft is silent, libsrt 1.5 decides: it is what everybody else speaks.
//!
//! Guarantees: no panic on any input; a peer holds nothing before its cookie has come back; everything that a peer can make grow has a named bound ([`config`]).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "ts")]
pub mod client;
pub mod config;
pub mod crypto;
pub mod error;
pub mod filter;
#[cfg(feature = "ts")]
mod media;
#[cfg(feature = "ts")]
pub mod server;
pub mod session;
pub mod socket;
#[cfg(feature = "ts")]
pub mod url;
pub mod wire;

#[cfg(feature = "ts")]
pub use client::{Client, ClientConfig};
pub use config::{Bandwidth, Config, TransmissionMode};
pub use error::SessionError;
#[cfg(feature = "ts")]
pub use server::{Server, ServerConfig};
#[cfg(feature = "ts")]
pub use url::SrtUrl;
