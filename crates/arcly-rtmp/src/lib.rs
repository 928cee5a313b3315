//! RTMP and Enhanced RTMP v2: sans-IO sessions, a server, a client and a relay.
//!
//! | document | section | here |
//! |---|---|---|
//! | Adobe RTMP 1.0 | 5 chunk stream, 6 messages, 7 commands | [`wire`], [`session`] |
//! | (unpublished) digest handshake of Flash Player 9 | | [`wire::handshake`] |
//! | Enhanced RTMP v2 | connect capabilities, reconnect request; tags in `arcly-codec` | [`wire::capability`], [`media`] |
//! | RTMPS | RTMP within TLS | [`Server`], [`Client`], feature `tls` |
//!
//! ```text
//!  wire/       bytes <-> messages          no I/O, no clock
//!  session/    ServerSession ClientSession  machines: time is an argument, randomness is injected
//!  media.rs    tags -> engine, frames -> messages (once per stream, shared by every player)
//!  Server      accepts, and runs sessions against an engine       Peer  one connection, driven by its owner
//!  Client      pulls into an engine, pushes out of it             RtmpRelay  pushes on for as long as a stream lives
//! ```
//!
//! # Entry points
//!
//! [`Server::run`] serves an engine until it is told to stop; [`Peer`] is for programs that want to see each request
//! and each tag themselves. The sessions alone, without tokio, are for everything else.
//!
//! # What is deliberately not done
//!
//! * RTMPE and RTMPT: encryption without authentication, and tunnelling over HTTP, that nobody needs next to RTMPS.
//! * Shared objects, remote procedure calls, recorded streams and seeking: messages about them are answered or ignored.
//! * Adobe and Limelight challenge authentication (`authmod=`): credentials go into the URL, over RTMPS.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod config;
pub mod error;
mod io;
pub mod media;
pub mod peer;
pub mod relay;
pub mod server;
pub mod session;
pub mod url;
pub mod wire;

pub use client::{Backoff, Client, ClientConfig};
pub use config::{Limits, ServerConfig, SessionConfig, Timeouts};
pub use error::{PeerError, SessionError};
pub use peer::Peer;
pub use relay::RtmpRelay;
pub use server::Server;
pub use session::{ClientEvent, ClientSession, Intent, ServerEvent, ServerSession, StreamId, Tag, Target};
pub use url::{RtmpUrl, UrlError};
