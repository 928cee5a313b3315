//! What one reader of HTTP-FLV costs in memory once its connection is with a worker: its task, its place among the
//! connections, in the stream and at its worker, whatever the size of the GOP. What the operating system holds for a
//! socket is not counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, PublishRegistry as _, PublishRequest, Publisher, StreamKey,
    Timestamp, Track, TrackId, TrackSet,
};
use arcly_server::{Config, Server};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes per reader.
const LIMIT: usize = 8 << 10;
const READERS: usize = 100;
/// Readers that are there before anything is measured.
const FIRST: usize = 10;

/// A reader that has had the beginning of its answer, and what is left of it: a socket.
fn play(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /live/cam.flv HTTP/1.1\r\nHost: x\r\nUser-Agent: a player/1.0\r\n\r\n").unwrap();
    let mut head = [0; 400];
    socket.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Reads what is there.
fn drain(reader: &mut TcpStream) -> usize {
    let mut sink = [0; 64 << 10];
    core::iter::from_fn(|| reader.read(&mut sink).ok().filter(|n| *n > 0)).sum()
}

fn publish(publisher: &mut Publisher, n: i64, size: usize) {
    let flags = if n % 50 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
    let payload = vec![0; size].into();
    let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 20), payload).with_flags(flags);
    publisher.publish(frame).unwrap();
}

/// Heap bytes per reader, with a GOP of 50 frames of that size.
async fn per_reader(frame: usize) -> usize {
    let config = Config::from_toml(
        "[rtmp]\nlisten = 'off'\n[http]\nlisten = '127.0.0.1:0'\n[record]\ndir = '/nonexistent'\n",
    );
    let server = Server::start(config.unwrap(), false).unwrap();
    let address = server.addr("http").unwrap();
    let key = StreamKey::new("live", "cam");
    let mut publisher = server.engine().publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    publisher
        .set_tracks(TrackSet::new([Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None)]))
        .unwrap();
    let mut next = 0..;
    next.by_ref().take(1).for_each(|n| publish(&mut publisher, n, frame));
    let mut readers = Vec::with_capacity(FIRST + READERS);
    let mut used = [0; 2];
    // First so much that the logs forget as much as comes.
    for (used, (count, frames)) in used.iter_mut().zip([(FIRST, 400), (READERS, 50)]) {
        for _ in 0..count {
            readers.push(tokio::task::spawn_blocking(move || play(address)).await.unwrap());
        }
        for n in next.by_ref().take(frames) {
            publish(&mut publisher, n, frame);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut quiet = 0;
        while quiet < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let read: usize = readers.iter_mut().map(drain).sum();
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
        *used = dhat::HeapStats::get().curr_bytes;
    }
    assert_eq!(server.engine().stream(&key).unwrap().reader_count(), FIRST + READERS);
    drop(readers);
    server.shut_down().await;
    (used[1] - used[0]) / READERS
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
