//! Streams between engines over SRT: pulled and pushed, as caller, listener and in a rendezvous.
#![cfg(all(feature = "encryption", feature = "ts"))]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{ActionSet, NameRule};
use arcly_core::log::{Read, StartMode};
use arcly_core::{
    AppSpec, CodecId, Engine, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    StreamError, StreamKey, TrackSet,
};
use arcly_mux::ts::Muxer;
use arcly_srt::crypto::CryptoConfig;
use arcly_srt::server::StreamPassphrase;
use arcly_srt::socket::Socket;
use arcly_srt::wire::GroupKind;
use arcly_srt::{Client, Config, Server, ServerConfig};
use arcly_testkit::contribution;
use arcly_testkit::ports::free_port;
use bytes::{Bytes, BytesMut};
use tokio_util::sync::{CancellationToken, DropGuard};

const LIMIT: Duration = Duration::from_secs(60);

/// An engine whose streams are waited for, and end with their publisher.
fn engine() -> Arc<Engine> {
    Engine::builder().default_app(AppSpec::new("").grace(Duration::ZERO).wait_for_stream(LIMIT)).build()
}

fn serve(engine: &Arc<Engine>, config: ServerConfig) -> (SocketAddr, DropGuard) {
    serve_at("127.0.0.1:0", engine, config)
}

fn serve_at(address: &str, engine: &Arc<Engine>, config: ServerConfig) -> (SocketAddr, DropGuard) {
    let server = Server::bind(address.parse().expect("an address"), config).expect("a port");
    let (at, shutdown) = (server.local_addr(), CancellationToken::new());
    let context = engine.context(shutdown.clone());
    tokio::spawn(async move { server.run(context).await });
    (at, shutdown.drop_guard())
}

fn cam() -> StreamKey {
    StreamKey::new("live", "cam")
}

/// Publishes all of it, faster than it plays, once the beginning has been read of each of these.
async fn publish(engine: &Engine, ways: &[&Engine]) {
    let mut publisher = engine.publish(PublishRequest::internal(cam(), "test")).await.expect("free");
    publisher.set_tracks(contribution::tracks()).expect("tracks");
    for (at, frame) in contribution::seconds(3).into_iter().enumerate() {
        if at == BEGINNING {
            tokio::time::timeout(LIMIT, has_been_read(ways)).await.expect("somebody who reads");
        }
        publisher.publish(frame).expect("a frame");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Frames before the second keyframe, at which who comes later would begin.
const BEGINNING: usize = 40;

async fn has_been_read(ways: &[&Engine]) {
    for engine in ways {
        let readers = || engine.stream(&cam()).map(|stream| stream.readers()).unwrap_or_default();
        while readers().iter().all(|reader| reader.stats().items == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What is received of each codec and language until the stream ends.
async fn receive(engine: &Engine) -> Vec<(CodecId, Option<String>, Vec<Bytes>)> {
    let request = PlayRequest::internal(cam(), "test").wait(LIMIT).start(StartMode::Oldest);
    let mut reader = engine.subscribe(request).await.expect("it comes").into_frames();
    let mut tracks = Arc::<TrackSet>::default();
    let mut all: Vec<(CodecId, Option<String>, Vec<Bytes>)> = Vec::new();
    while let Some(read) = tokio::time::timeout(LIMIT, reader.next()).await.expect("in time").expect("whole")
    {
        match read {
            Read::Context(context) => tracks = context,
            Read::Item(frame) => {
                let track = tracks.get(frame.track).expect("a track");
                let language = track.language.as_deref().map(str::to_owned);
                let payload = frame.payload.clone();
                match all.iter_mut().find(|one| (one.0, &one.1) == (track.codec, &language)) {
                    Some((.., payloads)) => payloads.push(payload),
                    None => all.push((track.codec, language, vec![payload])),
                }
            }
            Read::Skipped(skip) => panic!("{skip:?}"),
        }
    }
    all
}

/// Everything has come, of each track from one frame on to the last.
#[track_caller]
fn assert_whole(got: &[(CodecId, Option<String>, Vec<Bytes>)]) {
    for track in &contribution::tracks() {
        let language = track.language.as_deref().map(str::to_owned);
        let got = got.iter().find(|one| (one.0, &one.1) == (track.codec, &language));
        let (.., got) = got.unwrap_or_else(|| panic!("no {} {language:?}", track.codec));
        let sent = contribution::seconds(3);
        let sent: Vec<_> =
            sent.iter().filter(|one| one.track == track.id).map(|one| one.payload.clone()).collect();
        assert!(!got.is_empty() && sent.ends_with(got), "{}: {} of {}", track.codec, got.len(), sent.len());
        assert!(got.len() * 10 >= sent.len() * 9, "{}: {} of {}", track.codec, got.len(), sent.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_track_is_kept_through_a_pull_and_a_push() {
    let [origin, middle, edge] = [engine(), engine(), engine()];
    let (from, _origin) = serve(&origin, ServerConfig::default());
    let (to, _edge) = serve(&edge, ServerConfig::default());
    let received = tokio::spawn(async move { receive(&edge).await });
    let pushing = tokio::spawn({
        let middle = Arc::clone(&middle);
        async move {
            let client =
                Client::new(format!("srt://{to}?streamid=publish:live/cam&latency=400")).expect("a URL");
            let request = PlayRequest::internal(cam(), "relay").wait(LIMIT);
            let subscription = middle.subscribe(request).await.expect("it comes");
            client.push(subscription, &CancellationToken::new()).await
        }
    });
    let way = Arc::clone(&middle);
    let pulling = tokio::spawn(async move {
        let client = Client::new(format!("srt://{from}?streamid=read:live/cam&latency=400")).expect("a URL");
        client.pull(middle, cam(), CancellationToken::new()).await
    });
    let connected = async {
        while origin.stream(&cam()).is_none_or(|stream| stream.info().waiting == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, connected).await.expect("somebody waits");
    publish(&origin, &[&origin, &way]).await;
    pulling.await.expect("no panic").expect("the stream was pulled to its end");
    pushing.await.expect("no panic").expect("the stream was pushed to its end");
    assert_whole(&received.await.expect("no panic"));
}

/// One client waits and another calls it; two clients meet.
#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_call_and_meet() {
    let key = "passphrase=0123456789abc&pbkeylen=24&latency=400&conntimeo=30000";
    let (listener, [one, other]) = (free_port(), [free_port(), free_port()]);
    let meets = |own: u16, far: u16| format!("srt://127.0.0.1:{far}?mode=rendezvous&localport={own}&{key}");
    for (from, to) in [
        (
            format!("srt://127.0.0.1:{listener}?mode=listener&{key}"),
            format!("srt://127.0.0.1:{listener}?{key}"),
        ),
        (meets(one, other), meets(other, one)),
    ] {
        let [source, sink] = [engine(), engine()];
        let received = tokio::spawn({
            let sink = Arc::clone(&sink);
            async move { receive(&sink).await }
        });
        let shutdown = CancellationToken::new();
        let _stop = shutdown.clone().drop_guard();
        let pull = Client::new(&from).expect("a URL").with_reconnect(arcly_core::net::Backoff::default());
        tokio::spawn(async move { pull.pull(sink, cam(), shutdown).await });
        let pushing = tokio::spawn({
            let (source, to) = (Arc::clone(&source), to.clone());
            async move {
                let request = PlayRequest::internal(cam(), "relay").wait(LIMIT);
                let subscription = source.subscribe(request).await.expect("it comes");
                Client::new(to).expect("a URL").push(subscription, &CancellationToken::new()).await
            }
        });
        publish(&source, &[&source]).await;
        pushing.await.expect("no panic").unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        let got = received.await.expect("no panic");
        assert!(
            got.iter().any(|(codec, ..)| *codec == CodecId::H264),
            "{from} to {to}: {} tracks",
            got.len()
        );
    }
}

/// A publisher that comes over two paths is one publisher, and what comes over both is published once.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_publishes_one_stream() {
    let (mut muxer, mut stream) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(&contribution::tracks());
    contribution::seconds(3).iter().for_each(|frame| muxer.frame(frame, &mut stream));
    let messages: Vec<Bytes> = stream.chunks(1_316).map(Bytes::copy_from_slice).collect();
    for kind in [GroupKind::Broadcast, GroupKind::Backup] {
        let engine = engine();
        let (server, _stop) = serve_at("0.0.0.0:0", &engine, ServerConfig::default());
        let received = tokio::spawn(async move { receive(&engine).await });
        let paths = [1, 2].map(|n| (SocketAddr::from(([127, 0, 0, n], server.port())), 1));
        let mut config = Config::default();
        config.stream_id = Some("publish:live/cam".to_owned());
        (config.connect_timeout, config.peer_latency) = (LIMIT, Duration::from_secs(2));
        let socket = Socket::bind("0.0.0.0:0".parse().expect("an address")).expect("a port");
        let peer = socket.call_group(kind, &paths, config).await.expect("nobody else publishes");
        let mut sent = 0;
        for some in messages.chunks(20) {
            for message in some {
                peer.send(message.clone()).await.expect("connected");
                sent += 1;
            }
            // All of it has come before more is sent, or the connections are closed.
            let all_there = async {
                loop {
                    let now = peer.statistics().await.expect("connected");
                    if now.totals.pkt_sent_unique >= sent && now.instant.pkt_snd_buf == 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(LIMIT, all_there).await.expect("it is acknowledged");
        }
        drop(peer);
        assert_whole(&received.await.expect("no panic"));
    }
}

/// A stream is pushed and pulled over two paths, and each of them is used.
#[tokio::test(flavor = "multi_thread")]
async fn clients_call_groups() {
    for (kind, url) in [
        (GroupKind::Broadcast, "srt://*?type=broadcast&nodes=127.0.0.1:PORT,127.0.0.2:PORT&latency=400"),
        (GroupKind::Backup, "srt://127.0.0.1:PORT,127.0.0.2:PORT?grouptype=backup&latency=400"),
    ] {
        let [source, middle, sink] = [engine(), engine(), engine()];
        let (server, _stop) = serve_at("0.0.0.0:0", &middle, ServerConfig::default());
        let url = url.replace("PORT", &server.port().to_string());
        let client = |what: &str| {
            Client::new(format!("{url}&conntimeo=30000&streamid={what}:live/cam")).expect("a URL")
        };
        let received = tokio::spawn({
            let sink = Arc::clone(&sink);
            async move { receive(&sink).await }
        });
        let push = client("publish");
        let pushing = tokio::spawn({
            let source = Arc::clone(&source);
            async move {
                let request = PlayRequest::internal(cam(), "relay").wait(LIMIT);
                let subscription = source.subscribe(request).await.expect("it comes");
                push.push(subscription, &CancellationToken::new()).await
            }
        });
        let pull = client("read");
        let pulling = tokio::spawn(async move { pull.pull(sink, cam(), CancellationToken::new()).await });
        let waits = async {
            while middle.stream(&cam()).is_none_or(|stream| stream.info().waiting == 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, waits).await.expect("somebody waits");
        publish(&source, &[&source, &middle]).await;
        pushing.await.expect("no panic").unwrap_or_else(|error| panic!("{kind:?} push: {error}"));
        pulling.await.expect("no panic").unwrap_or_else(|error| panic!("{kind:?} pull: {error}"));
        assert_whole(&received.await.expect("no panic"));
    }
}

/// What is at the door of the listener is a group.
#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_client_are_one_group() {
    let mut listener = Socket::listen("0.0.0.0:0".parse().expect("an address")).expect("a port");
    let port = listener.local_addr().port();
    let url = format!("srt://127.0.0.1:{port},127.0.0.2:{port}?grouptype=broadcast&conntimeo=30000");
    let source = engine();
    let mut publisher = source.publish(PublishRequest::internal(cam(), "test")).await.expect("free");
    publisher.set_tracks(contribution::tracks()).expect("tracks");
    let mut frames = contribution::seconds(3);
    let later = frames.split_off(frames.len() / 2);
    for frame in frames {
        publisher.publish(frame).expect("a frame");
    }
    let pushing = tokio::spawn(async move {
        let subscription =
            source.subscribe(PlayRequest::internal(cam(), "relay")).await.expect("it is there");
        Client::new(url).expect("a URL").push(subscription, &CancellationToken::new()).await
    });
    let incoming = tokio::time::timeout(LIMIT, listener.accept()).await.expect("in time").expect("a caller");
    assert_eq!(incoming.group(), Some(GroupKind::Broadcast));
    let peer = incoming.accept(Config::default()).await.expect("a group");
    for frame in later {
        publisher.publish(frame).expect("a frame");
    }
    drop(publisher);
    let mut messages = 0;
    while let Ok(message) = tokio::time::timeout(LIMIT, peer.recv()).await.expect("in time") {
        assert!(message.payload.len().is_multiple_of(188));
        messages += 1;
    }
    assert!(messages > 0);
    pushing.await.expect("no panic").expect("to its end");
}

/// The paths of a group have to go by the same protocol.
#[tokio::test]
async fn a_group_of_two_families_is_refused() {
    let client = Client::new("srt://127.0.0.1:1,[::1]:1?grouptype=backup").expect("a URL");
    let failed = client.pull(engine(), cam(), CancellationToken::new()).await.expect_err("no way");
    assert!(failed.to_string().contains("all IPv4 or all IPv6"), "{failed}");
}

/// And each of them goes somewhere else, whatever it is called.
#[tokio::test]
async fn a_group_of_one_way_twice_is_refused() {
    let mut config = arcly_srt::ClientConfig::default();
    config.addresses =
        ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"].map(|at| at.parse().expect("one")).into();
    let client = Client::new("srt://a.test:1,b.test:1,c.test:1?grouptype=backup").expect("a URL");
    let client = client.with_config(config);
    let failed = client.pull(engine(), cam(), CancellationToken::new()).await.expect_err("no way");
    assert!(failed.to_string().contains("the same address"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_passphrases_of_their_own() {
    let passphrase = |text: &str| Some(CryptoConfig::new(text.parse().expect("long enough")));
    let rule = |text: &str| NameRule::parse(text).expect("a rule");
    let mut config = ServerConfig::default();
    config.connection.crypto = passphrase("for all others");
    config.passphrases = vec![
        StreamPassphrase {
            streams: rule("live/cam"),
            actions: ActionSet::PLAY,
            crypto: passphrase("for players"),
        },
        StreamPassphrase { streams: rule("open/*"), actions: ActionSet::ALL, crypto: None },
    ];
    let engine = Engine::builder().build();
    let (at, _stop) = serve(&engine, config);
    let try_it = |id: &str, passphrase: &str| {
        let url = format!("srt://{at}?streamid={id}&passphrase={passphrase}&conntimeo=30000");
        let client = Client::new(url).expect("a URL");
        let sink = Engine::builder().build();
        async move {
            client
                .pull(sink, cam(), CancellationToken::new())
                .await
                .expect_err("nothing is there")
                .to_string()
        }
    };
    // Who gets past the passphrase is told that there is nothing.
    assert!(try_it("read:live/cam", "for players").await.contains("1404"));
    assert!(try_it("read:live/cam", "for all others").await.contains("passphrase is wrong"));
    assert!(try_it("read:live/else", "for all others").await.contains("1404"));
    assert!(try_it("read:live/else", "").await.contains("encrypted"));
    assert!(try_it("read:open/cam", "").await.contains("1404"));
    assert!(try_it("read:open/cam", "for players").await.contains("encrypted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_nothing_is_given_up_and_a_stop_is_at_once() {
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let url = format!("srt://{}?conntimeo=300", nobody.local_addr().expect("an address"));
    let client = Client::new(&url).expect("a URL");
    let failed = client.pull(engine(), cam(), CancellationToken::new()).await;
    assert!(matches!(failed, Err(StreamError::Closed(_))), "{failed:?}");
    let stopped = CancellationToken::new();
    stopped.cancel();
    let waiting = Client::new(format!("srt://:{}?mode=listener", free_port())).expect("a URL");
    assert!(waiting.pull(engine(), cam(), stopped).await.is_ok());
}
