//! What the tests against a running `arcly` share.
//!
//! | module | for |
//! |---|---|
//! | [`bench`] | one server with a witness stream, and what every hostile input must leave as it was |
//! | [`crowd`] | thousands of readers, and hundreds of publishers |
//! | [`peer`] | an RTMP client that sends anything |
//! | [`http`] | an HTTP client that sends anything, and readers and publishers of HTTP-FLV |
//! | [`feed`] | tags of a real stream whose frames are numbered |
//! | [`rtsp`] | an RTSP client that sends anything, and a camera made of one |
//! | [`srt`] | an SRT caller that sends anything |
//! | [`webrtc`] | a peer of WebRTC |
//! | [`starved`] | how long a process has waited for a core |
//! | [`witness`] | a publisher and two readers that count what they lose |
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod bench;
pub mod crowd;
pub mod feed;
pub mod http;
pub mod peer;
pub mod rtsp;
pub mod srt;
pub mod starved;
pub mod webrtc;
pub mod witness;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// A connection from that local address, with a receive buffer of that size where it is given.
pub fn connect_from(addr: SocketAddr, local: &str, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.bind(&SocketAddr::new(local.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.into()
}

/// Asks until `done` says yes; false when `limit` passes.
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that look random and are the same every time (xorshift).
pub fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed << 32 | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    })
}
