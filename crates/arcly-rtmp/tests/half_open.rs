//! F54: peers that the network cuts off without a word, in a network namespace whose loopback drops everything.
//!
//! That takes `nft`, and permission to make a namespace; without, the test is skipped. What it takes of the socket and
//! of the session is also tested without, in `io` and in `session`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::contract::observe::{EngineEvent, EventItem};
use arcly_core::{
    AppSpec, CloseReason, Engine, Phase, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest,
    Publisher, StreamKey,
};
use arcly_rtmp::{Client, Server, ServerConfig};
use arcly_testkit::media::Source;
use arcly_testkit::netns::{self, Place};
use arcly_testkit::{need, skip};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(15);
const CUT: &str =
    "table inet cut { chain input { type filter hook input priority 0; meta l4proto tcp drop; }; }";

fn run(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn f54_peers_behind_a_cut_are_gone_within_15_seconds() {
    let nft = need!(nft);
    let setup = format!("ip link set lo up\n'{}' flush ruleset", nft.display());
    match netns::enter(&setup) {
        Place::Inside => tokio::runtime::Runtime::new().unwrap().block_on(cut_off()),
        Place::Outside => {}
        Place::Impossible => skip!("no network namespace with a packet filter may be made here"),
    }
}

/// A publisher, a player of a stream that goes on, and a player of one that stands still; then the cut.
async fn cut_off() {
    let waiting = || Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let (engine, elsewhere) = (waiting(), waiting());
    let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
    let address = server.local_addr().unwrap();
    let mut events = engine.events();
    let shutdown = CancellationToken::new();
    let context = engine.context(shutdown.clone());
    tokio::spawn(async move { server.run(context).await });

    let key = |name: &str| StreamKey::new("live", name);
    let mut sources = Vec::new();
    for (engine, name) in [(&engine, "going"), (&engine, "still"), (&elsewhere, "sent")] {
        sources.push(publisher(engine, key(name)).await);
    }
    let client = |name: &str| Client::new(format!("rtmp://{address}/live/{name}")).unwrap();
    for name in ["going", "still"] {
        let (client, engine, key) = (client(name), Arc::clone(&elsewhere), key(name));
        tokio::spawn(async move { client.pull(engine, key, CancellationToken::new()).await });
    }
    let subscription = elsewhere.subscribe(PlayRequest::internal(key("sent"), "test")).await.unwrap();
    let sender = client("sent");
    tokio::spawn(async move { sender.push(subscription, &CancellationToken::new()).await });

    let feed = tokio::spawn(async move {
        for (at, frame) in Source::aac().seconds(30).into_iter().enumerate() {
            for (which, source) in sources.iter_mut().enumerate() {
                if which != 1 || at == 0 {
                    source.publish(frame.clone()).unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
    });
    for (engine, name) in [(&engine, "sent"), (&elsewhere, "going"), (&elsewhere, "still")] {
        let request = PlayRequest::internal(key(name), "test").wait(LIMIT);
        let mut reader = engine.subscribe(request).await.unwrap().into_frames();
        let read = tokio::time::timeout(LIMIT, reader.next()).await;
        read.expect("a frame comes through").unwrap();
    }

    let nft = arcly_testkit::tools::nft().unwrap();
    assert!(run(&nft.to_string_lossy(), &[CUT]));
    let since = Instant::now();
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let left = LIMIT.saturating_sub(since.elapsed());
        let event = tokio::time::timeout(left, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("after {LIMIT:?} only {reasons:?} have ended"));
        if let Some(EventItem::Event(EngineEvent::SessionClosed { reason, .. })) = event {
            reasons.push((reason, since.elapsed()));
        }
    }
    eprintln!("{reasons:?}");
    let is_gone = |reason| matches!(reason, CloseReason::SlowConsumer | CloseReason::Timeout(Phase::Idle));
    assert!(reasons.iter().all(|(reason, _)| is_gone(*reason)), "{reasons:?}");
    assert!(reasons.iter().any(|(reason, _)| *reason == CloseReason::Timeout(Phase::Idle)), "{reasons:?}");
    feed.abort();
    shutdown.cancel();
}

async fn publisher(engine: &Engine, key: StreamKey) -> Publisher {
    let mut publisher = engine.publish(PublishRequest::internal(key, "test")).await.unwrap();
    publisher.set_tracks(Source::aac().tracks()).unwrap();
    publisher
}
