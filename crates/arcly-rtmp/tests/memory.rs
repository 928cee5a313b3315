//! What one player costs in memory: its task, its session, its place in the stream and at its worker, whatever the size
//! of the GOP and whether it reads or not. What the operating system holds for a socket is not counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine as _, Output};
use arcly_core::{
    CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, PublishRegistry, PublishRequest, Publisher,
    StreamKey, Timestamp, Track, TrackId, TrackSet,
};
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::{ClientEvent, ClientSession, Intent, RtmpUrl, Server, ServerConfig};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes per player.
const LIMIT: usize = 8 << 10;
const PLAYERS: usize = 100;
/// Players that are there before anything is measured.
const FIRST: usize = 10;

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

/// Reads what is there.
fn drain(player: &mut TcpStream) -> usize {
    let mut sink = [0; 64 << 10];
    core::iter::from_fn(|| player.read(&mut sink).ok().filter(|n| *n > 0)).sum()
}

fn publish(publisher: &mut Publisher, n: i64, size: usize) {
    let flags = if n % 50 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
    let payload = vec![0; size].into();
    let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 20), payload).with_flags(flags);
    publisher.publish(frame).unwrap();
}

/// Heap bytes per player, with a GOP of 50 frames of that size; players read everything, or nothing more.
async fn per_player(frame: usize, reads: bool) -> usize {
    let engine = Engine::builder().build();
    let request = PublishRequest::internal(StreamKey::new("live", "cam"), "test");
    let mut publisher = engine.publish(request).await.unwrap();
    publisher
        .set_tracks(TrackSet::new([Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None)]))
        .unwrap();
    let mut config = ServerConfig::default();
    config.max_unauthorized_per_address = PLAYERS;
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let context = engine.context(shutdown.clone());
    let running = tokio::spawn(async move { server.run(context).await });
    let mut next = 0..;
    next.by_ref().take(1).for_each(|n| publish(&mut publisher, n, frame));
    let mut players = Vec::with_capacity(FIRST + PLAYERS);
    let mut used = [0; 2];
    // First so much that the logs forget as much as comes.
    for (used, (count, frames)) in used.iter_mut().zip([(FIRST, 400), (PLAYERS, 50)]) {
        for _ in 0..count {
            let player = tokio::task::spawn_blocking(move || play(address)).await.unwrap();
            player.set_nonblocking(true).unwrap();
            players.push(player);
        }
        for n in next.by_ref().take(frames) {
            publish(&mut publisher, n, frame);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut quiet = 0;
        while quiet < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let readers = if reads { players.len() } else { FIRST };
            let read: usize = players.iter_mut().take(readers).map(drain).sum();
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
        *used = dhat::HeapStats::get().curr_bytes;
    }
    assert_eq!(engine.stream(&StreamKey::new("live", "cam")).unwrap().reader_count(), FIRST + PLAYERS);
    drop(players);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    (used[1] - used[0]) / PLAYERS
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
