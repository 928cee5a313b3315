//! What one reader of HTTP-FLV costs in memory once its connection is with a worker: its task, its place among the
//! connections, in the stream and at its worker, whatever the size of the GOP. What the operating system holds for a
//! socket is not counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use arcly_core::{PublishRegistry as _, PublishRequest, StreamKey};
use arcly_server::{Config, Server};
use arcly_testkit::footprint::{Footprint, READERS};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes per reader.
const LIMIT: usize = 8 << 10;

/// A reader that has had the beginning of its answer, and what is left of it: a socket.
fn play(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /live/cam.flv HTTP/1.1\r\nHost: x\r\nUser-Agent: a player/1.0\r\n\r\n").unwrap();
    let mut head = [0; 400];
    socket.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
    socket
}

/// Heap bytes per reader, with frames of that size.
async fn per_reader(frame: usize) -> usize {
    let config = Config::from_toml(
        "[rtmp]\nlisten = 'off'\n[rtsp]\nlisten = 'off'\n[webrtc]\nlisten = 'off'\n[http]\nlisten = '127.0.0.1:0'\n[record]\ndir = '/nonexistent'\n",
    );
    let server = Server::start(config.unwrap(), false).unwrap();
    let address = server.addr("http").unwrap();
    let key = StreamKey::new("live", "cam");
    let publisher = server.engine().publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    let mut footprint = Footprint::new(publisher, frame);
    let measured = tokio::task::spawn_blocking(move || {
        let bytes = footprint.measure(|| play(address), || dhat::HeapStats::get().curr_bytes);
        (bytes, footprint)
    });
    let (bytes, footprint) = measured.await.unwrap();
    assert_eq!(server.engine().stream(&key).unwrap().reader_count(), READERS);
    drop(footprint);
    server.shut_down().await;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_costs_less_than_8_kib_whatever_the_gop() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for frame in [1_000, 40_000] {
        let bytes = per_reader(frame).await;
        println!("frames of {frame} bytes: {bytes} bytes per reader");
        assert!(bytes <= LIMIT, "frames of {frame} bytes: {bytes} bytes per reader");
    }
}
