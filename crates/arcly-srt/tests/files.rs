//! Files with libsrt's own `srt-file-transmit`: every byte arrives, whoever calls and whoever sends.
#![cfg(feature = "encryption")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arcly_srt::crypto::CryptoConfig;
use arcly_srt::socket::{Peer, Socket};
use arcly_srt::{Config, SessionError, TransmissionMode};
use arcly_testkit::need;
use arcly_testkit::ports::free_address;
use arcly_testkit::process::Guard;
use arcly_testkit::rng::Rng;
use bytes::Bytes;

const LIMIT: Duration = Duration::from_secs(60);
const PASSPHRASE: &str = "0123456789abc";
/// No multiple of anything.
const LENGTH: usize = 3_000_017;
/// What a program has read and not written: a stream of the C++ library keeps eight kibibytes.
const KEPT_BACK: u64 = 64 << 10;
/// Looks at a file without a change, after which its writer has read all that it was sent.
const SETTLED: u32 = 10;

/// It comes with `srt-live-transmit`.
fn file_transmit(live: &Path) -> PathBuf {
    live.with_file_name("srt-file-transmit")
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn config(encrypted: bool) -> Config {
    let mut config = Config::default();
    config.mode = TransmissionMode::File;
    config.connect_timeout = LIMIT;
    config.linger = LIMIT;
    config.crypto = encrypted.then(|| CryptoConfig::new(PASSPHRASE.parse().expect("long enough")));
    config
}

fn uri(at: SocketAddr, mode: &str, encrypted: bool) -> String {
    let key = if encrypted { format!("&passphrase={PASSPHRASE}&pbkeylen=16") } else { String::new() };
    format!("srt://{at}?mode={mode}{key}")
}

/// A folder with the file that is sent in it.
fn folder(name: &str) -> (PathBuf, Vec<u8>) {
    let folder = std::env::temp_dir().join(format!("arcly-srt-files-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let contents = Rng::new(9).bytes(LENGTH);
    std::fs::write(folder.join("sent"), &contents).expect("a file");
    (folder, contents)
}

fn transmit(program: &Path, from: &str, to: &str) -> Guard {
    let mut command = Command::new(program);
    Guard::spawn(command.args(["-q", from, to]).stdin(Stdio::null()).stdout(Stdio::null()))
}

async fn receive(peer: &Peer) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        match tokio::time::timeout(LIMIT, peer.recv()).await.expect("it goes on") {
            Ok(message) => got.extend_from_slice(&message.payload),
            Err(error) => {
                assert_eq!(error, SessionError::PeerClosed);
                return got;
            }
        }
    }
}

/// Sends a file that the program writes to `to`. `srt-file-transmit` ends as soon as it hears that its peer has gone, whatever it has
/// received and not read by then: the connection stays until it writes no more.
async fn send(peer: Peer, contents: Vec<u8>, to: &Path) {
    let mut rest = Bytes::from(contents);
    while !rest.is_empty() {
        peer.send(rest.split_to(rest.len().min(100_000))).await.expect("connected");
    }
    let written = || std::fs::metadata(to).map_or(0, |file| file.len());
    let settled = async {
        let (mut last, mut looks) = (0, 0);
        while looks < SETTLED {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = written();
            looks = if now == last && now + KEPT_BACK >= LENGTH as u64 { looks + 1 } else { 0 };
            last = now;
        }
    };
    tokio::time::timeout(LIMIT, settled).await.expect("it writes all of it");
}

/// Waits for the program's end without holding up the socket.
async fn end(mut guard: Guard) {
    let wait = tokio::task::spawn_blocking(move || guard.wait_for(LIMIT));
    let status = wait.await.expect("no panic").expect("it ends");
    assert!(status.success(), "{status}");
}

async fn accept(socket: &mut Socket, encrypted: bool) -> Peer {
    let incoming = tokio::time::timeout(LIMIT, socket.accept()).await.expect("in time").expect("a caller");
    incoming.accept(config(encrypted)).await.expect("the same passphrase")
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_calls_and_sends_a_file() {
    let program = file_transmit(&need!(srt_live_transmit));
    let (folder, contents) = folder("cs");
    for encrypted in [false, true] {
        let mut socket = Socket::listen(local()).expect("a port");
        let from = format!("file://{}", folder.join("sent").display());
        let guard = transmit(&program, &from, &uri(socket.local_addr(), "caller", encrypted));
        let got = receive(&accept(&mut socket, encrypted).await).await;
        assert!(got == contents, "{} bytes of {LENGTH}", got.len());
        end(guard).await;
    }
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_calls_and_receives_a_file() {
    let program = file_transmit(&need!(srt_live_transmit));
    let (folder, contents) = folder("cr");
    for encrypted in [false, true] {
        let mut socket = Socket::listen(local()).expect("a port");
        let got = folder.join(format!("got-{encrypted}"));
        let to = format!("file://{}", got.display());
        let guard = transmit(&program, &uri(socket.local_addr(), "caller", encrypted), &to);
        send(accept(&mut socket, encrypted).await, contents.clone(), &got).await;
        end(guard).await;
        assert!(std::fs::read(got).expect("a file") == contents, "encrypted: {encrypted}");
    }
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_listens_and_files_go_both_ways() {
    let program = file_transmit(&need!(srt_live_transmit));
    let (folder, contents) = folder("l");
    for encrypted in [false, true] {
        let socket = Socket::bind(local()).expect("a port");
        let at = free_address();
        let from = format!("file://{}", folder.join("sent").display());
        let guard = transmit(&program, &from, &uri(at, "listener", encrypted));
        let peer = socket.call(at, config(encrypted)).await.expect("it listens");
        let got = receive(&peer).await;
        assert!(got == contents, "{} bytes of {LENGTH}", got.len());
        end(guard).await;

        let at = free_address();
        let got = folder.join(format!("got-{encrypted}"));
        let to = format!("file://{}", got.display());
        let guard = transmit(&program, &uri(at, "listener", encrypted), &to);
        let peer = socket.call(at, config(encrypted)).await.expect("it listens");
        send(peer, contents.clone(), &got).await;
        end(guard).await;
        assert!(std::fs::read(got).expect("a file") == contents, "encrypted: {encrypted}");
    }
    std::fs::remove_dir_all(folder).expect("it is there");
}
