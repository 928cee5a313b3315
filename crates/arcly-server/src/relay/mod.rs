//! Streams copied from one place to another: on the command line, and as pulls and pushes of a server.
//!
//! | from \ to | stream of this server | `rtmp(s)://` | `http(s)://….flv` | file |
//! |---|---|---|---|---|
//! | stream of this server | | push | push | command line only |
//! | `rtmp(s)://`, `http(s)://….flv` | pull | command line only | command line only | command line only |
//! | file | command line only | command line only | command line only | command line only |

mod endpoint;
mod http_flv;
mod route;
mod rtmp;
mod run;
mod supervisor;

pub use endpoint::Endpoint;
pub use route::{Reach, RelayError};
pub(crate) use run::FileSource;
pub use run::{copy, pull, push};
pub use supervisor::{RelayInfo, RelayState, Relays};
