//! Many publishers on one server, whose sockets are looked at once per tick: nothing is lost, whoever wants each frame gets it, and
//! they end as any other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::machine::{Machine as _, Output};
use arcly_core::{Engine, PlayRequest, PlaybackRegistry as _, StreamKey, StreamState, Subscriber};
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::wire::{ChunkStreamId, MessageHeader, MessageType, encode_message};
use arcly_rtmp::{ClientEvent, ClientSession, Intent, Server, ServerConfig};
use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

/// More than a server takes as they come.
const CROWD: usize = 40;
const LIMIT: Duration = Duration::from_secs(20);
/// The rounds in which all of them publish.
const ROUNDS: u32 = 12;
/// The chunk size that clients announce.
const CHUNK: usize = arcly_rtmp::config::CHUNK_SIZE as usize;
/// More than one read takes, and more than a socket holds.
const LARGE: usize = 3 << 20;

fn key(n: usize) -> StreamKey {
    StreamKey::new("live", &format!("cam{n}"))
}

/// A publisher that may send.
fn publish(address: SocketAddr, n: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let url = format!("rtmp://{address}/{}", key(n)).parse().unwrap();
    let entropy = Entropy::from_fn(|bytes| bytes.fill(7));
    let now = Instant::now();
    let mut session = ClientSession::new(Arc::default(), url, Intent::Publish, &entropy, now);
    let mut buffer = vec![0; 4_096];
    loop {
        match session.poll_output() {
            Output::Transmit(bytes) => socket.write_all(&bytes).unwrap(),
            Output::Event(ClientEvent::Started { .. }) => return socket,
            Output::Event(_) => {}
            Output::Wait(_) => {
                let n = socket.read(&mut buffer).unwrap();
                assert!(n > 0, "the server has closed");
                session.handle_input(now, &buffer[..n]).unwrap();
            }
        }
    }
}

/// Sends a sound of that many bytes, which begins with its number.
fn send(socket: &mut TcpStream, number: u32, len: usize) {
    let mut body = vec![0x2F, 0xFF, 0xFB, 0x90, 0x64];
    body.extend(number.to_be_bytes());
    body.resize(len.max(body.len()), 0);
    let header = MessageHeader {
        csid: ChunkStreamId::AUDIO,
        timestamp: number * 20,
        kind: MessageType::Audio,
        stream_id: 1,
    };
    let mut bytes = BytesMut::new();
    encode_message(&mut bytes, &header, &[&body], CHUNK);
    socket.write_all(&bytes).unwrap();
}

/// The number and length of the next frame.
async fn next(reader: &mut Subscriber) -> (u32, usize) {
    loop {
        let read = tokio::time::timeout(LIMIT, reader.next()).await.expect("a frame in time").unwrap();
        if let Read::Item(frame) = read.expect("the stream goes on") {
            let number = frame.payload[4..8].try_into().unwrap();
            return (u32::from_be_bytes(number), frame.payload.len());
        }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_publishers_loses_nothing() {
    let engine = Engine::builder().build();
    let mut config = ServerConfig::default();
    config.max_unauthorized_per_address = 2 * CROWD;
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let context = engine.context(shutdown.clone());
    let running = tokio::spawn(async move { server.run(context).await });

    let connect = move || (0..CROWD).map(|n| publish(address, n)).collect::<Vec<_>>();
    let mut sockets = tokio::task::spawn_blocking(connect).await.unwrap();
    // Nobody reads: they rest.
    for round in 0..ROUNDS {
        sockets.iter_mut().for_each(|socket| send(socket, round, 100));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let arrived = |n| engine.stream(&key(n)).map_or(0, |stream| stream.info().frames_in);
    until("all that was sent is in", || (0..CROWD).all(|n| arrived(n) == u64::from(ROUNDS))).await;

    // Somebody reads one of them frame by frame, from its beginning.
    let request = PlayRequest::internal(key(0), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    let mut reader = engine.subscribe(request).await.unwrap().into_frames();
    assert!(engine.stream(&key(0)).unwrap().is_awaited());
    assert!(!engine.stream(&key(1)).unwrap().is_awaited());
    for round in 0..ROUNDS {
        assert_eq!(next(&mut reader).await, (round, 99));
    }
    // And gets more than a socket holds in one piece, which no rest is to cut.
    let mut first = sockets.remove(0);
    let sending = tokio::task::spawn_blocking(move || {
        send(&mut first, ROUNDS, LARGE);
        first
    });
    assert_eq!(next(&mut reader).await, (ROUNDS, LARGE - 1));
    let first = sending.await.unwrap();

    // One that leaves while it rests has left.
    drop(sockets.pop());
    let last = engine.stream(&key(CROWD - 1)).unwrap();
    until("its stream waits for it", || last.state() != StreamState::Live).await;

    // And those that are there when the server goes down are told so.
    sockets.push(first);
    shutdown.cancel();
    let ended = tokio::task::spawn_blocking(move || {
        sockets.iter_mut().all(|socket| {
            let mut said = Vec::new();
            let _ = socket.read_to_end(&mut said);
            said.windows(9).any(|word| word == b"NetStream")
        })
    });
    tokio::time::timeout(LIMIT, running).await.expect("the server stops").unwrap().unwrap();
    assert!(ended.await.unwrap(), "a publisher was not told");
}
