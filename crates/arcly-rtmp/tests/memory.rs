//! What one player costs in memory: its task, its session, its place in the stream and at its worker, whatever the size
//! of the GOP and whether it reads or not. What the operating system holds for a socket is not counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use arcly_core::machine::{Machine as _, Output};
use arcly_core::{Engine, PublishRegistry as _, PublishRequest, StreamKey};
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::{ClientEvent, ClientSession, Intent, RtmpUrl, Server, ServerConfig};
use arcly_testkit::footprint::{Footprint, READERS};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes per player.
const LIMIT: usize = 8 << 10;

/// A player that has its first frame, and what is left of it: a socket.
fn play(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let url: RtmpUrl = format!("rtmp://{address}/live/cam").parse().unwrap();
    let entropy = Entropy::from_fn(|bytes| bytes.fill(7));
    let now = Instant::now();
    let mut session = ClientSession::new(Arc::default(), url, Intent::Play, &entropy, now);
    let mut buffer = vec![0; 4_096];
    loop {
        match session.poll_output() {
            Output::Transmit(bytes) => socket.write_all(&bytes).unwrap(),
            Output::Event(ClientEvent::Tag(_)) => return socket,
            Output::Event(_) => {}
            Output::Wait(_) => {
                let n = socket.read(&mut buffer).unwrap();
                assert!(n > 0, "the server has closed");
                session.handle_input(now, &buffer[..n]).unwrap();
            }
        }
    }
}

/// Heap bytes per player, with frames of that size; players read everything, or nothing more.
async fn per_player(frame: usize, reads: bool) -> usize {
    let engine = Engine::builder().build();
    let key = StreamKey::new("live", "cam");
    let publisher = engine.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    let mut config = ServerConfig::default();
    config.max_unauthorized_per_address = READERS;
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let context = engine.context(shutdown.clone());
    let running = tokio::spawn(async move { server.run(context).await });
    let footprint = Footprint::new(publisher, frame);
    let mut footprint = if reads { footprint } else { footprint.unread() };
    let measured = tokio::task::spawn_blocking(move || {
        let bytes = footprint.measure(|| play(address), || dhat::HeapStats::get().curr_bytes);
        (bytes, footprint)
    });
    let (bytes, footprint) = measured.await.unwrap();
    assert_eq!(engine.stream(&key).unwrap().reader_count(), READERS);
    drop(footprint);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_costs_less_than_8_kib_whatever_the_gop() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for (frame, reads) in [(1_000, true), (40_000, true), (40_000, false)] {
        let bytes = per_player(frame, reads).await;
        println!("frames of {frame} bytes, reads: {reads}: {bytes} bytes per player");
        assert!(bytes <= LIMIT, "frames of {frame} bytes, reads: {reads}: {bytes} bytes per player");
    }
}
