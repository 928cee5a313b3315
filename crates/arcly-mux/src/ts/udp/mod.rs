//! Transport streams over UDP: unicast, and multicast with or without a source filter.
//!
//! ```text
//!   socket ──► Receiver ──► MediaEvent ──► Publisher
//!   derived log ──► Sender (Pacer) ──► socket, seven packets a datagram
//! ```
//!
//! | in the URL | means |
//! |---|---|
//! | `udp://239.0.0.1:1234` | in: join the group; out: send to it |
//! | `udp://10.0.0.7@232.1.1.1:1234`, `?sources=10.0.0.7` | in: from that source only (SSM where the group is IPv4) |
//! | `udp://:1234`, `udp://@:1234`, `udp://127.0.0.1:1234` | in: listen there; out: send there |
//! | `?localaddr=192.168.1.5` | the interface of a group |
//! | `?ttl=4` | hops of multicast, 1 unless said |
//! | `?pkt_size=1316` | bytes of a datagram, whole packets |
//! | `?buffer_size=4194304` | bytes that the system buffers |
//! | `?program=2` | in: `program_number` of the program to play |
//!
//! Without a source filter whoever sends first is the sender, and datagrams of others are dropped until it has been silent for
//! [`SENDER_SILENCE`]: two senders would make one broken stream.
//!
//! UDP has no flow control: what the network or a slow receiver loses is lost. Not done: RTP around the stream, and FEC.

mod pacer;
mod receiver;
mod sender;
mod url;

pub use pacer::{MAX_DELAY, Pacer};
pub use receiver::{Receiver, SENDER_SILENCE};
pub use sender::Sender;
pub use url::{DATAGRAM_LEN, UdpUrl, UdpUrlError};
