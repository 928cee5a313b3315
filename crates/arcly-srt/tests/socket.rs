//! This crate's own ends over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use arcly_core::Phase;
use arcly_srt::socket::{Peer, Socket};
use arcly_srt::wire::{GroupKind, RejectReason};
use arcly_srt::{Config, SessionError, TransmissionMode};
use bytes::Bytes;

const LIMIT: Duration = Duration::from_secs(30);

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn config() -> Config {
    let mut config = Config::default();
    config.connect_timeout = LIMIT;
    config.receiver_latency = Duration::from_millis(500);
    config
}

async fn recv(peer: &Peer) -> Result<Bytes, SessionError> {
    tokio::time::timeout(LIMIT, peer.recv()).await.expect("in time").map(|message| message.payload)
}

/// A few messages each way.
async fn talk(a: &Peer, b: &Peer) {
    for (from, to) in [(a, b), (b, a)] {
        for n in 0..20_u8 {
            from.send(Bytes::from(vec![n; 100 + usize::from(n)])).await.expect("connected");
        }
        for n in 0..20_u8 {
            assert_eq!(recv(to).await, Ok(Bytes::from(vec![n; 100 + usize::from(n)])));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_and_listener_talk_until_one_of_them_goes() {
    let mut listener = Socket::listen(local()).expect("a port");
    let caller = Socket::bind(local()).expect("a port");
    let mut config = config();
    config.stream_id = Some("live/cam".to_owned());
    let (called, accepted) = tokio::join!(caller.call(listener.local_addr(), config.clone()), async {
        let incoming = listener.accept().await.expect("a caller");
        assert_eq!(incoming.stream_id(), Some("live/cam"));
        incoming.accept(config.clone()).await
    });
    let (called, accepted) = (called.expect("accepted"), accepted.expect("a caller"));
    talk(&called, &accepted).await;
    let statistics = called.statistics().await.expect("connected");
    assert_eq!((statistics.totals.pkt_sent_unique, statistics.totals.pkt_recv_unique), (20, 20));
    let too_long = called.send(Bytes::from(vec![0; 2_000])).await;
    assert!(matches!(too_long, Err(SessionError::Limit { what: "message", .. })));
    drop(called);
    assert_eq!(recv(&accepted).await, Err(SessionError::PeerClosed));
    assert_eq!(accepted.send(Bytes::from_static(b"x")).await, Err(SessionError::PeerClosed));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meet_in_a_rendezvous() {
    let (a, b) = (Socket::bind(local()).expect("a port"), Socket::bind(local()).expect("a port"));
    let (first, second) =
        tokio::join!(a.rendezvous(b.local_addr(), config()), b.rendezvous(a.local_addr(), config()));
    talk(&first.expect("it is there"), &second.expect("it is there")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_hears_why_and_who_finds_nobody_gives_up() {
    let mut listener = Socket::listen(local()).expect("a port");
    let caller = Socket::bind(local()).expect("a port");
    let (called, ()) = tokio::join!(caller.call(listener.local_addr(), config()), async {
        listener.accept().await.expect("a caller").reject(RejectReason::CONFLICT);
    });
    assert_eq!(called.err(), Some(SessionError::Rejected(RejectReason::CONFLICT)));
    // Dropped without a decision.
    let (called, ()) = tokio::join!(caller.call(listener.local_addr(), config()), async {
        drop(listener.accept().await);
    });
    assert_eq!(called.err(), Some(SessionError::Rejected(RejectReason::CLOSE)));
    let mut impatient = config();
    impatient.connect_timeout = Duration::from_millis(300);
    let nobody = caller.call(caller.local_addr(), impatient).await;
    assert_eq!(nobody.err(), Some(SessionError::Timeout(Phase::Handshake)));
}

/// Two ways to one listener: loopback has a whole network of addresses.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_one_peer_to_both_sides() {
    for kind in [GroupKind::Broadcast, GroupKind::Backup] {
        let mut listener = Socket::listen(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
        let at = |n: u8| SocketAddr::from(([127, 0, 0, n], listener.local_addr().port()));
        let paths = [(at(1), 2), (at(2), 1)];
        let caller = Socket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
        let mut config = config();
        config.stream_id = Some("live/cam".to_owned());
        let (called, accepted) = tokio::join!(caller.call_group(kind, &paths, config.clone()), async {
            let incoming = listener.accept().await.expect("a caller");
            assert_eq!((incoming.stream_id(), incoming.group()), (Some("live/cam"), Some(kind)));
            incoming.accept(config.clone()).await
        });
        let (called, accepted) = (called.expect("accepted"), accepted.expect("a caller"));
        talk(&called, &accepted).await;
        talk(&called, &accepted).await;
        drop(called);
        assert_eq!(recv(&accepted).await, Err(SessionError::PeerClosed));
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "{kind:?}: the other connection has asked nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_refused_is_refused_on_every_path() {
    let mut listener = Socket::listen(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
    let at = |n: u8| SocketAddr::from(([127, 0, 0, n], listener.local_addr().port()));
    let paths = [(at(1), 0), (at(2), 0)];
    let caller = Socket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
    let called = tokio::select! {
        called = caller.call_group(GroupKind::Broadcast, &paths, config()) => called,
        // Whichever asks first, and the other one if it asks after that.
        () = async {
            while let Some(incoming) = listener.accept().await {
                incoming.reject(RejectReason::CONFLICT);
            }
        } => panic!("the socket has failed"),
    };
    assert_eq!(called.err(), Some(SessionError::Rejected(RejectReason::CONFLICT)));
}

/// Who has called 127.0.0.2 hears nothing from 127.0.0.1.
#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_the_address_that_was_called() {
    let mut listener = Socket::listen(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
    let at = SocketAddr::from(([127, 0, 0, 2], listener.local_addr().port()));
    let caller = Socket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
    let (called, accepted) = tokio::join!(caller.call(at, config()), async {
        listener.accept().await.expect("a caller").accept(config()).await
    });
    talk(&called.expect("accepted"), &accepted.expect("a caller")).await;
}

/// Messages of any length keep their boundaries, and arrive although the sender is gone.
#[tokio::test(flavor = "multi_thread")]
async fn long_messages_arrive_whole_after_their_sender_has_gone() {
    let mut listener = Socket::listen(local()).expect("a port");
    let caller = Socket::bind(local()).expect("a port");
    let mut config = config();
    config.mode = TransmissionMode::Messages;
    config.linger = LIMIT;
    let (called, accepted) = tokio::join!(caller.call(listener.local_addr(), config.clone()), async {
        listener.accept().await.expect("a caller").accept(config.clone()).await
    });
    let (called, accepted) = (called.expect("accepted"), accepted.expect("a caller"));
    let lengths = [1, 1_456, 1_457, 100_000, 1 << 20, 7];
    for (n, length) in (0_u8..).zip(lengths) {
        called.send(Bytes::from(vec![n; length])).await.expect("connected");
    }
    let too_long = called.send(Bytes::from(vec![0; (1 << 20) + 1])).await;
    assert!(matches!(too_long, Err(SessionError::Limit { what: "message", .. })));
    drop(called);
    for (n, length) in (0_u8..).zip(lengths) {
        let got = recv(&accepted).await.expect("it was sent");
        assert!(got == vec![n; length], "{n}: {} bytes of {length}", got.len());
    }
    assert_eq!(recv(&accepted).await, Err(SessionError::PeerClosed));
}
