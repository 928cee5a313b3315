//! Connections with libsrt's own `srt-live-transmit`, both ways round, with every kind of key.
#![cfg(feature = "encryption")]

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arcly_srt::crypto::CryptoConfig;
use arcly_srt::socket::{Peer, Socket};
use arcly_srt::wire::{KeyLength, RejectReason};
use arcly_srt::{Config, SessionError};
use arcly_testkit::need;
use arcly_testkit::ports::free_address;
use arcly_testkit::process::Guard;
use bytes::Bytes;

const LOCAL: &str = "127.0.0.1:0";
/// Bytes of one message: what `srt-live-transmit` takes from its input at once.
const CHUNK: usize = 1_316;
const CHUNKS: &str = "-chunk:1316";
const MESSAGES: usize = 120;
const LIMIT: Duration = Duration::from_secs(20);
const PASSPHRASE: &str = "0123456789abc";

/// `None` and each length of key, as `srt-live-transmit` and as this crate is told of it.
const KINDS: [Option<KeyLength>; 4] =
    [None, Some(KeyLength::Aes128), Some(KeyLength::Aes192), Some(KeyLength::Aes256)];

fn query(kind: Option<KeyLength>) -> String {
    let key = kind.map(|length| format!("&passphrase={PASSPHRASE}&pbkeylen={}", length.bytes()));
    // Seconds of latency: what a busy machine does late is not too late.
    format!("latency=2000{}", key.unwrap_or_default())
}

fn config(kind: Option<KeyLength>) -> Config {
    let mut config = Config::default();
    config.receiver_latency = Duration::from_secs(2);
    config.connect_timeout = LIMIT;
    let crypto = |length| CryptoConfig::new(PASSPHRASE.parse().expect("long enough")).with_key_length(length);
    config.crypto = kind.map(crypto);
    config
}

/// Numbered messages.
fn message(n: usize) -> Vec<u8> {
    let mut message = vec![u8::try_from(n % 251).expect("a byte"); CHUNK];
    message[..8].copy_from_slice(&(n as u64).to_be_bytes());
    message
}

fn all_messages() -> Vec<u8> {
    (0..MESSAGES).flat_map(message).collect()
}

struct Transmit {
    guard: Guard,
    input: ChildStdin,
    output: Option<ChildStdout>,
}

impl Transmit {
    /// Takes messages from its input, and sends them to `uri`.
    fn sending(program: &Path, uri: &str) -> Self {
        Self::start(Command::new(program).args(["-q", "-buffering:1", CHUNKS, "file://con", uri]))
    }

    /// Writes what it receives from `uri` to its output.
    fn receiving(program: &Path, uri: &str) -> Self {
        Self::start(Command::new(program).args(["-q", "-buffering:1", CHUNKS, uri, "file://con"]))
    }

    fn start(command: &mut Command) -> Self {
        let mut guard =
            Guard::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()));
        let input = guard.child().stdin.take().expect("a pipe");
        let output = guard.child().stdout.take();
        Self { guard, input, output }
    }

    /// Writes messages until `enough` says so.
    fn write_until(mut self, enough: &AtomicBool) {
        for n in 0.. {
            if enough.load(Ordering::Relaxed) || self.input.write_all(&message(n)).is_err() {
                return;
            }
            // A message is what one read gives.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// As many bytes as there are messages.
    fn read_all(mut self) -> Vec<u8> {
        let mut bytes = vec![0; MESSAGES * CHUNK];
        self.output.take().expect("once").read_exact(&mut bytes).expect("everything comes");
        drop(self.guard);
        bytes
    }
}

/// Receives as many messages as there are, one behind the other from the first that comes: what `srt-live-transmit` reads
/// before it is connected it throws away.
async fn receive(peer: &Peer, kind: Option<KeyLength>) {
    let mut next = None;
    for _ in 0..MESSAGES {
        let got = match tokio::time::timeout(LIMIT, peer.recv()).await {
            Ok(got) => got.expect("more comes"),
            Err(_) => panic!("{kind:?}: {next:?} is missing: {:?}", peer.statistics().await),
        };
        let number = got.payload.first_chunk().map(|number| u64::from_be_bytes(*number));
        let number = usize::try_from(number.expect("a number")).expect("a small one");
        assert!(next.is_none_or(|next| next == number), "{kind:?}: {number} instead of {next:?}");
        assert!(got.payload == message(number), "{kind:?}: {number} is what was sent");
        next = Some(number + 1);
    }
}

/// Sends every message, and some more: `srt-live-transmit` keeps the last few kilobytes of its output for itself.
async fn send(peer: &Peer) {
    for n in 0..MESSAGES + 8 {
        peer.send(Bytes::from(message(n))).await.expect("connected");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn check(bytes: &[u8], kind: Option<KeyLength>) {
    assert!(bytes == all_messages(), "{kind:?}: {} bytes of {}", bytes.len(), MESSAGES * CHUNK);
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_calls_and_sends() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let mut socket = Socket::listen(LOCAL.parse().expect("an address")).expect("a port");
        let uri =
            format!("srt://{}?mode=caller&streamid=publish:live/cam&{}", socket.local_addr(), query(kind));
        let program = program.clone();
        let enough = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&enough);
        let sending = tokio::spawn(blocking(move || Transmit::sending(&program, &uri).write_until(&until)));
        let incoming = socket.accept().await.expect("a caller");
        assert_eq!((incoming.stream_id(), incoming.encrypted()), (Some("publish:live/cam"), kind));
        let peer = incoming.accept(config(kind)).await.expect("the same passphrase");
        receive(&peer, kind).await;
        assert_eq!((peer.negotiated().encrypted, peer.dropped()), (kind, 0));
        enough.store(true, Ordering::Relaxed);
        sending.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_calls_and_receives() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let mut socket = Socket::listen(LOCAL.parse().expect("an address")).expect("a port");
        let uri = format!("srt://{}?mode=caller&streamid=read:live/cam&{}", socket.local_addr(), query(kind));
        let program = program.clone();
        let receiving = tokio::spawn(blocking(move || Transmit::receiving(&program, &uri).read_all()));
        let incoming = socket.accept().await.expect("a caller");
        let peer = incoming.accept(config(kind)).await.expect("the same passphrase");
        send(&peer).await;
        check(&receiving.await.expect("no panic"), kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_listens_and_receives() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let at = free_address();
        let uri = format!("srt://{at}?mode=listener&{}", query(kind));
        let program = program.clone();
        let receiving = tokio::spawn(blocking(move || Transmit::receiving(&program, &uri).read_all()));
        let socket = Socket::bind(LOCAL.parse().expect("an address")).expect("a port");
        let peer = socket.call(at, config(kind)).await.expect("it listens");
        send(&peer).await;
        check(&receiving.await.expect("no panic"), kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_listens_and_sends() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let at = free_address();
        let uri = format!("srt://{at}?mode=listener&{}", query(kind));
        let program = program.clone();
        let socket = Socket::bind(LOCAL.parse().expect("an address")).expect("a port");
        let enough = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&enough);
        let sending = tokio::spawn(blocking(move || Transmit::sending(&program, &uri).write_until(&until)));
        let peer = socket.call(at, config(kind)).await.expect("it listens");
        receive(&peer, kind).await;
        enough.store(true, Ordering::Relaxed);
        sending.await.expect("no panic");
    }
}

/// Both call each other, and either may turn out to be the one who asks.
#[tokio::test(flavor = "multi_thread")]
async fn libsrt_meets_and_receives() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let (socket, uri) = meeting(kind);
        let program = program.clone();
        let at = uri.0;
        let receiving = tokio::spawn(blocking(move || Transmit::receiving(&program, &uri.1).read_all()));
        let peer = socket.rendezvous(at, config(kind)).await.expect("it is there");
        assert_eq!(peer.negotiated().encrypted, kind);
        send(&peer).await;
        check(&receiving.await.expect("no panic"), kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libsrt_meets_and_sends() {
    let program = need!(srt_live_transmit);
    for kind in KINDS {
        let (socket, uri) = meeting(kind);
        let program = program.clone();
        let at = uri.0;
        let enough = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&enough);
        let sending = tokio::spawn(blocking(move || Transmit::sending(&program, &uri.1).write_until(&until)));
        let peer = socket.rendezvous(at, config(kind)).await.expect("it is there");
        receive(&peer, kind).await;
        enough.store(true, Ordering::Relaxed);
        sending.await.expect("no panic");
    }
}

/// A socket, where `srt-live-transmit` is to be, and what it is told.
fn meeting(kind: Option<KeyLength>) -> (Socket, (SocketAddr, String)) {
    let socket = Socket::bind(LOCAL.parse().expect("an address")).expect("a port");
    let at = free_address();
    let (here, there) = (socket.local_addr(), at.port());
    let uri = format!("srt://{here}?mode=rendezvous&adapter=127.0.0.1&port={there}&{}", query(kind));
    (socket, (at, uri))
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_a_wrong_passphrase_is_refused_both_ways() {
    let program = need!(srt_live_transmit);
    let mut wrong = config(None);
    wrong.crypto = Some(CryptoConfig::new("another passphrase".parse().expect("long enough")));

    let at = free_address();
    let uri = format!("srt://{at}?mode=listener&{}", query(Some(KeyLength::Aes128)));
    let listening = {
        let program = program.clone();
        blocking(move || Transmit::receiving(&program, &uri)).await
    };
    let socket = Socket::bind(LOCAL.parse().expect("an address")).expect("a port");
    let refused = socket.call(at, wrong.clone()).await.expect_err("another passphrase");
    assert_eq!(refused, SessionError::Rejected(RejectReason::BAD_SECRET));
    drop(listening);

    let mut socket = Socket::listen(LOCAL.parse().expect("an address")).expect("a port");
    let uri = format!("srt://{}?mode=caller&{}", socket.local_addr(), query(Some(KeyLength::Aes128)));
    let calling = Transmit::receiving(&program, &uri);
    let refused =
        socket.accept().await.expect("a caller").accept(wrong).await.expect_err("another passphrase");
    assert_eq!(refused, SessionError::Refused(RejectReason::BAD_SECRET));
    drop(calling);
}
