//! RTSP 1.0: sans-IO sessions, a server, and a client.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 2326 | §4 to §7, §12 messages and headers | [`wire`] |
//! | | §10 methods, appendix A states | [`session`] |
//! | | §10.12 packets between messages | [`wire::interleaved`] |
//! | RFC 7616, RFC 7617 | Digest, Basic | [`wire::authorization`] |
//! | RFC 3711, RFC 3830, RFC 4567 | SRTP, and MIKEY for its keys, over RTSPS | [`srtp`], [`wire::key_mgmt`] |
//! | RFC 7826 | what of RTSP 2.0 is tolerance towards RTSP 1.0 | [`wire`] |
//!
//! ```text
//!  wire/       text <-> messages           no I/O, no clock
//!  session/    ServerSession ClientSession machines: time is an argument, randomness is injected
//!  media.rs    packets -> engine, frames -> packets (once per stream, shared by every player)
//!  Server      accepts, and runs sessions against an engine
//!  Client      pulls into an engine, pushes out of it     RtspPull RtspRelay  for as long as it is wanted
//! ```
//!
//! Packets, control packets and session descriptions are `arcly-rtp`'s.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod config;
pub mod error;
pub mod media;
#[cfg(feature = "onvif")]
pub mod onvif;
pub mod server;
pub mod session;
pub mod srtp;
pub mod url;
pub mod wire;

pub use client::{Client, ClientConfig, RtspPull, RtspRelay};
pub use config::{GroupRange, Limits, Multicast, Schemes, ServerConfig, SessionConfig, Timeouts};
pub use error::SessionError;
pub use server::Server;
pub use session::client::{Carriage, ClientError, ClientEvent, ClientSession, ClientSessionConfig, Datagram};
pub use session::{ServerEvent, ServerSession, Target};
pub use url::{RtspUrl, UrlError};
