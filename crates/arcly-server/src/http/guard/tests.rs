use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn guarded(capacity: usize) -> (Guarded<DuplexStream>, DuplexStream, Arc<Connection>) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let connection = Connection::new(([127, 0, 0, 1], 1).into(), None);
    (Guarded::lend(ours, Arc::clone(&connection)).0, theirs, connection)
}

async fn read_head(io: &mut Guarded<DuplexStream>) {
    let mut head = vec![0; HEAD.len()];
    io.read_exact(&mut head).await.unwrap();
    assert_eq!(head, HEAD);
}

/// Reads until the guard gives up; how long that took in seconds.
async fn until_timeout(io: &mut Guarded<DuplexStream>) -> u64 {
    let begun = Instant::now();
    let error = io.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    begun.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn h05_a_head_has_ten_seconds_however_it_trickles() {
    let (mut io, mut peer, connection) = guarded(1024);
    let trickle = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nHost: a-long-name.example\r\n" {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if peer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        peer
    });
    assert_eq!(until_timeout(&mut io).await, 10);
    assert_eq!(connection.reason(), Some(CloseReason::Timeout(Phase::Handshake)));
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_ten_seconds_of_its_own() {
    let (mut io, mut peer, connection) = guarded(1024);
    peer.write_all(HEAD).await.unwrap();
    read_head(&mut io).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    peer.write_all(b"GET").await.unwrap();
    assert_eq!(until_timeout(&mut io).await, 10);
    assert_eq!(connection.reason(), Some(CloseReason::Timeout(Phase::Command)));
}

#[tokio::test(start_paused = true)]
async fn h11_idle_connections_end_after_a_minute_and_busy_ones_do_not() {
    let (mut io, mut peer, connection) = guarded(1024);
    peer.write_all(HEAD).await.unwrap();
    read_head(&mut io).await;
    let busy = connection.begin();
    let waited = tokio::time::timeout(Duration::from_secs(3_600), io.read(&mut [0; 64])).await;
    assert!(waited.is_err(), "a request that is being answered keeps its connection");
    drop(busy);
    assert_eq!(until_timeout(&mut io).await, 60);
    assert_eq!(connection.reason(), Some(CloseReason::Timeout(Phase::Idle)));
}

#[tokio::test(start_paused = true)]
async fn h07_a_peer_that_takes_nothing_is_given_up_after_fifteen_seconds() {
    let (mut io, _peer, connection) = guarded(16);
    let begun = Instant::now();
    let error = io.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 15));
    assert_eq!(connection.reason(), Some(CloseReason::SlowConsumer));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_little_is_kept() {
    let (mut io, mut peer, connection) = guarded(16);
    let reader = tokio::spawn(async move {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(14)).await;
            peer.read_exact(&mut [0; 8]).await.unwrap();
        }
        peer
    });
    io.write_all(&[0; 64]).await.unwrap();
    assert_eq!(connection.reason(), None);
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn violations_are_answered_and_end_the_connection() {
    let (mut io, mut peer, connection) = guarded(4096);
    peer.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n").await.unwrap();
    assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 0, "nothing of a bad request is passed on");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.contains("not exactly one Host"), "{answer}");
    assert_eq!(connection.reason(), Some(CloseReason::Malformed));
}

#[tokio::test(start_paused = true)]
async fn bodies_pass_without_a_copy_and_pipelined_heads_are_framed() {
    let (mut io, mut peer, _) = guarded(4096);
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let all = [&post[..], HEAD].concat();
    peer.write_all(&all).await.unwrap();
    let mut got = vec![0; all.len()];
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(got, all);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_request_is_answered_is_judged_afterwards() {
    let (mut io, mut peer, connection) = guarded(4096);
    peer.write_all(HEAD).await.unwrap();
    read_head(&mut io).await;
    let busy = connection.begin();
    peer.write_all(b"\r\n\r\nrubbish\r\n").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(1), io.read(&mut [0; 64])).await;
    assert!(waited.is_err() && connection.reason().is_none(), "{:?}", connection.reason());
    drop(busy);
    assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 0);
    assert_eq!(connection.reason(), Some(CloseReason::Malformed));
}
