//! Streams copied from one place to another: on the command line, and as pulls and pushes of a server.
//!
//! | from \ to | stream of this server | `rtmp(s)://`, `rtsp(s)://`, `srt://`, `whip+http(s)://`, `http(s)://….flv` or `.ts` | `udp://`, `.flv`, `.ts` or `.mp4` file |
//! |---|---|---|---|
//! | stream of this server | | push | command line only |
//! | `rtmp(s)://`, `rtsp(s)://`, `srt://`, `whep+http(s)://`, `http(s)://….flv` or `.ts` | pull | command line only | command line only |
//! | `udp://`, `.flv`, `.ts` or `.mp4` file | command line only | command line only | command line only |
//!
//! A pull of a server runs always, or while somebody reads its stream.
//!
//! A server takes and sends `udp://` under `[udp]`; see [`udp`](crate::udp).

mod clients;
mod container;
mod demand;
mod endpoint;
mod file;
mod http;
mod route;
mod run;
mod spec;
mod supervisor;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use demand::Demand;
pub use endpoint::Endpoint;
pub(crate) use file::FileSource;
pub use route::{Reach, RelayError};
pub use run::{copy, pull, push};
pub use spec::{RelaySpec, WrongSpec};
pub use supervisor::{RelayInfo, RelayState, Relays};
