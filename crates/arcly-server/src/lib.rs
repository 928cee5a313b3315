//! The arcly media server as a library: what the `arcly` binary is made of, for tests and for those who embed a
//! whole server.
//!
//! | module | |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | file, environment and flags to one typed tree |
//! | [`server`] | listeners and sessions, from bind to drain |
//! | [`http`] | the HTTP listener: media, pages, API, metrics |
//! | [`relay`], [`probe`], [`demo`] | streams copied, looked at and made up |
//!
//! ```
//! use arcly_server::{Config, Server};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::from_toml("rtmp.listen = '127.0.0.1:0'\nhttp.listen = '127.0.0.1:0'")?;
//! let server = Server::start(config, false)?;
//! assert!(server.addr("http").is_some_and(|addr| addr.port() != 0));
//! server.shut_down().await;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod auth;
mod certificate;
pub mod cli;
pub mod config;
pub mod demo;
mod figures;
pub mod http;
pub mod log;
mod net;
pub mod probe;
mod process;
mod recording;
pub mod relay;
pub mod server;
mod srt;
pub mod stats;
mod tls;
mod transcode;
pub mod udp;
mod webrtc;

pub use config::Config;
pub use server::Server;
