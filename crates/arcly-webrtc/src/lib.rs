//! WebRTC for live media: browsers publish by WHIP and play by WHEP, all of them over one UDP port, and one of TCP for those whose
//! network lets no UDP through.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 9725 (WHIP), draft-ietf-wish-whep (WHEP) | requests and answers | [`http`], `client` |
//! | RFC 8445 §2.4, §2.5, RFC 7675, RFC 8829 | ICE as a lite agent, as a full one in clients; consent, offers and answers | [`session`] |
//! | RFC 8840, RFC 8489, RFC 7983 | fragments of descriptions, checks, demultiplexing | [`wire`] |
//! | RFC 6544, RFC 4571 | ICE and media over TCP: servers take connections, clients open them | [`wire`], [`server`], `client` |
//! | RFC 6184, RFC 7798, RFC 7741, RFC 9628, AV1, RFC 7587, RFC 3551 | payload formats | [`arcly_rtp::payload`] |
//! | RFC 6464 | how loud sound is, read where it comes in | [`session`] |
//! | RFC 8831, RFC 8832, RFC 8841 | data channels: a track is a channel, a frame a message | [`session`] |
//! | `scalabilityMode` (W3C webrtc-svc): RFC 7741 §4.2, RFC 9628 §4.2 | layers within an encoding, and which of them a viewer gets | [`session`], [`media`] |
//! | RFC 8853 (simulcast) | a publisher's layers, and which of them a viewer gets | [`session`] |
//! | RFC 8827: DTLS, SRTP; RFC 4588: RTX; transport-wide congestion control | | [str0m](https://docs.rs/str0m) |
//!
//! ```text
//!  wire/     datagrams, offers, fragments     no I/O, no clock
//!  session/  one peer                         machines: time is an argument
//!  media     frames to packets that all viewers share
//!  http/     WHIP and WHEP on the types of the `http` crate
//!  server/   tokio: one UDP socket, a task per session; connections of peers over TCP
//!  client/   tokio: pulls by WHEP, pushes by WHIP (feature `client`; `tls` for https)
//! ```
//!
//! # What is not done
//!
//! AV1's spatial layers one by one (all of them are sent) and its dependency descriptor, and sound in a codec
//! that browsers do not know: a stream with AAC is played without sound where nobody makes Opus of it.
//!
//! Guarantees: no datagram costs memory before it has shown that it belongs to a session; everything that a peer can make grow has
//! a named bound; one peer's fault ends one peer.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod http;
mod line;
pub mod media;
pub mod server;
pub mod session;
#[cfg(feature = "client")]
pub mod url;
pub mod wire;

#[cfg(feature = "client")]
pub use self::url::{Login, UrlError, WebRtcUrl};
#[cfg(feature = "client")]
pub use client::{Client, ClientConfig, WhepPull, WhipRelay};
pub use config::{Addresses, IceServer, ServerConfig};
pub use server::Server;
