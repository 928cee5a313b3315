//! RTMP and Enhanced RTMP: sans-IO sessions, a server, a client, a relay.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod config;
pub mod error;
mod io;
pub mod media;
pub mod relay;
pub mod server;
pub mod session;
pub mod url;
pub mod wire;

pub use client::{Backoff, Client, ClientConfig};
pub use config::{Limits, ServerConfig, SessionConfig, Timeouts};
pub use error::SessionError;
pub use relay::RtmpRelay;
pub use server::Server;
pub use session::{ClientEvent, ClientSession, Intent, ServerEvent, ServerSession, StreamId, Tag, Target};
pub use url::{RtmpUrl, UrlError};
