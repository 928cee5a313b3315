//! Streams copied from one place to another: on the command line, and as pulls and pushes of a server.
//!
//! | from \ to | stream of this server | `rtmp(s)://`, `http(s)://….flv` or `.ts` | `udp://`, `.flv`, `.ts` or `.mp4` file |
//! |---|---|---|---|
//! | stream of this server | | push | command line only |
//! | `rtmp(s)://`, `http(s)://….flv` or `.ts` | pull | command line only | command line only |
//! | `udp://`, `.flv`, `.ts` or `.mp4` file | command line only | command line only | command line only |
//!
//! A server takes and sends `udp://` under `[udp]`; see [`udp`](crate::udp).

mod container;
mod endpoint;
mod file;
mod http;
mod route;
mod rtmp;
mod run;
mod supervisor;

pub use endpoint::Endpoint;
pub(crate) use file::FileSource;
pub use route::{Reach, RelayError};
pub use run::{copy, pull, push};
pub use supervisor::{RelayInfo, RelayState, Relays};
