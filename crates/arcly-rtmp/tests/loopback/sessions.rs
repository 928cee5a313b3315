//! How sessions are refused, how they end, and what their owner is shown.

use super::raw::Raw;
use super::*;

#[tokio::test]
async fn refusals_carry_the_servers_words() {
    let mut server = Running::with(Engine::builder().build(), ServerConfig::default()).await;
    let pull = |url: String| async move {
        let engine = Engine::builder().build();
        Client::new(url).unwrap().pull(engine, key(), CancellationToken::new()).await
    };
    let error = pull(server.url("live/nothing")).await.unwrap_err();
    assert_eq!(error.to_string(), "rejected by upstream: stream live/nothing: not_found");
    assert_eq!(server.closed().await, CloseReason::NotFound);
    let error = pull(server.url("live/..%2f")).await.unwrap_err();
    assert!(matches!(&error, StreamError::Rejected(words) if words.contains("character")), "{error}");
    assert_eq!(server.closed().await, CloseReason::Forbidden);

    let users = StaticUsers::new()
        .with_user("joe", "p@ss", ActionSet::PUBLISH, NameRule::parse("live/*").unwrap())
        .unwrap();
    let engine = Engine::builder().authenticator(Arc::new(users)).build();
    let mut server = Running::with(engine, ServerConfig::default()).await;
    let local = Engine::builder().build();
    let _publisher = publisher(&local, Source::h264().tracks()).await;
    let address = server.address;
    let relay = |userinfo: &str, query: &str| {
        let url = format!("rtmp://{userinfo}{address}/live/cam{query}");
        RtmpRelay::new(Arc::clone(&local) as _, url).unwrap().run(key(), CancellationToken::new())
    };
    for (userinfo, query) in [("", ""), ("joe:wrong@", ""), ("", "?user=joe&pass=wrong")] {
        let error = tokio::time::timeout(LIMIT, relay(userinfo, query)).await.unwrap().unwrap_err();
        assert!(matches!(&error, StreamError::Rejected(words) if words.contains("unauthorized")), "{error}");
    }
    for _ in 0..3 {
        assert_eq!(server.closed().await, CloseReason::Unauthorized);
    }
    let accepted = tokio::spawn(relay("joe:p%40ss@", ""));
    live(&server.engine).await;
    accepted.abort();
}

#[tokio::test]
async fn f03_a_player_ends_when_the_stream_turns_into_what_it_cannot_take() {
    let mut server = Running::start().await;
    let opus = TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None)]);
    let mp3 = TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None)]);
    let mut publisher = publisher(&server.engine, mp3).await;
    let frame = |ms| {
        let payload = vec![0xFF, 0xFB, 0x90, 0x64, 0, 0, 0, 0].into();
        MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), payload).with_flags(FrameFlags::KEYFRAME)
    };
    publisher.publish(frame(0)).unwrap();

    let mut legacy = ClientConfig::default();
    legacy.session.capabilities = Default::default();
    let client = Client::new(server.url("live/cam")).unwrap().with_config(legacy);
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let engine = Arc::clone(&local);
    let pull = tokio::spawn(async move { client.pull(engine, key(), CancellationToken::new()).await });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    assert_eq!(frames(&mut reader, 1).await.1.len(), 1);
    publisher.set_tracks(opus).unwrap();
    publisher.publish(frame(20)).unwrap();
    publisher.publish(frame(40)).unwrap();
    let error = tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, StreamError::Rejected(words) if words.contains("unsupported")), "{error}");
    assert_eq!(server.closed().await, CloseReason::Unsupported);
}

#[tokio::test]
async fn f44_a_shutdown_ends_publishers_and_players_and_then_the_server() {
    let mut server = Running::start().await;
    let source = Source::h264_aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    feed(&mut publisher, &source.seconds(1)).await;
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let mut config = ClientConfig::default();
    config.session.capabilities.extensions = Default::default();
    let client = Client::new(server.url("live/cam")).unwrap().with_config(config);
    let engine = Arc::clone(&local);
    let pull = tokio::spawn(async move { client.pull(engine, key(), CancellationToken::new()).await });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    frames(&mut reader, 1).await;

    server.shutdown.cancel();
    assert!(tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().is_ok(), "told, not cut off");
    assert_eq!(server.closed().await, CloseReason::Shutdown);
    assert!(TcpStream::connect(server.address).await.is_err() || server.task.is_finished());
    server.stop().await;
}

/// F31 where the stream is so thin that TCP gives up before the send buffer has filled and its time has run out, and
/// tells one half of the connection only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f31_players_of_a_thin_stream_that_do_not_read() {
    const PLAYERS: usize = 8;
    let mut server = Running::start().await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut frames = source.seconds(20).into_iter();
    publisher.publish(frames.next().unwrap()).unwrap();
    let mut deaf = Vec::new();
    for _ in 0..PLAYERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut client = Raw::over(socket.connect(server.address).await.unwrap()).await;
        client.request(0, Request::CreateStream).await;
        client.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
        client.media().await;
        deaf.push(client);
    }
    let feed = tokio::spawn(async move {
        for frame in frames {
            publisher.publish(frame).unwrap();
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
    });
    let all_closed = async {
        let mut reasons = Vec::new();
        while reasons.len() < PLAYERS {
            if let Some(EventItem::Event(EngineEvent::SessionClosed { reason, .. })) =
                server.events.next().await
            {
                reasons.push(reason);
            }
        }
        reasons
    };
    let reasons = tokio::time::timeout(Duration::from_secs(15), all_closed).await.expect("all are closed");
    assert_eq!(reasons, [CloseReason::SlowConsumer; PLAYERS]);
    feed.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_player_stays_for_longer_than_any_setup_or_stall() {
    let server = Running::start().await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut frames = source.seconds(60).into_iter();
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
    publisher.publish(frames.next().unwrap()).unwrap();
    client.media().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(40) {
        publisher.publish(frames.next().unwrap()).unwrap();
        client.media().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(server.engine.stream(&key()).unwrap().info().readers == 1);
}

#[tokio::test]
async fn a_peer_shows_its_owner_every_request_and_tag() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let owner = tokio::spawn(async move {
        let (socket, remote) = listener.accept().await.unwrap();
        let mut peer = Peer::new(socket.into_split(), remote, Arc::default()).unwrap();
        let mut tags = 0;
        while let Some(event) = peer.next().await.unwrap() {
            match event {
                ServerEvent::PublishRequest { stream, target } => {
                    assert_eq!(target.key, key());
                    peer.accept_publish(stream);
                }
                ServerEvent::Tag { .. } => tags += 1,
                ServerEvent::Stopped { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        tags
    });
    let engine = Engine::builder().build();
    let source = Source::aac();
    let mut publisher = publisher(&engine, source.tracks()).await;
    let url = format!("rtmp://{address}/live/cam");
    let stop = CancellationToken::new();
    let relay = tokio::spawn(RtmpRelay::new(Arc::clone(&engine) as _, url).unwrap().run(key(), stop.clone()));
    until("the relay reads", || engine.stream(&key()).is_some_and(|stream| stream.reader_count() == 1)).await;
    let logged = feed(&mut publisher, &source.seconds(1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    relay.await.unwrap().unwrap();
    let tags = tokio::time::timeout(LIMIT, owner).await.unwrap().unwrap();
    assert!(tags >= logged / 2, "{tags} of {logged}, after the headers");
}

#[tokio::test]
async fn r35_a_codec_that_nobody_knows_is_refused_by_name() {
    let mut server = Running::start().await;
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Publish { name: "cam".into(), kind: "live".into() }).await;
    client.message(MessageType::Video, 1, b"\x90zzzz....").await;
    loop {
        let message = client.next().await;
        if message.kind == MessageType::CommandAmf0 {
            let response = Response::decode(Invoke::decode(message.kind, &message.payload).unwrap());
            let Response::Status { status, .. } = response else { continue };
            if &*status.code == "NetStream.Publish.Rejected" {
                assert!(status.description.contains("zzzz"), "{status:?}");
                break;
            }
        }
    }
    assert_eq!(server.closed().await, CloseReason::Unsupported);
}

/// Panics when a stream of a certain name is published: a fault in a session's own task.
struct Tripwire;

impl Observer for Tripwire {
    fn on_event(&self, event: &EngineEvent) {
        if let EngineEvent::StreamPublished { key, .. } = event {
            assert_ne!(key.stream(), "trip", "as the test wants it");
        }
    }
}

#[tokio::test]
async fn f47_a_session_that_panics_ends_alone() {
    let engine = Engine::builder().observer(Arc::new(Tripwire)).build();
    let mut server = Running::with(engine, ServerConfig::default()).await;
    let source = Source::aac();
    let mut publisher = publisher(&server.engine, source.tracks()).await;
    let mut witness = Raw::connect(server.address).await;
    witness.request(0, Request::CreateStream).await;
    witness.request(1, Request::Play { name: "cam".into(), start: -2.0 }).await;
    let mut client = Raw::connect(server.address).await;
    client.request(0, Request::CreateStream).await;
    client.request(1, Request::Publish { name: "trip".into(), kind: "live".into() }).await;
    assert_eq!(server.closed().await, CloseReason::Internal);
    feed(&mut publisher, &source.seconds(1)).await;
    for _ in 0..10 {
        witness.media().await;
    }
    server.stop().await;
}
