//! Peers that are too many, know no RTMP, or have several streams on one connection.

use super::raw::Raw;
use super::*;

#[tokio::test]
async fn strangers_are_limited_and_the_others_are_not() {
    let mut config = ServerConfig::default();
    config.max_unauthorized_per_address = 2;
    let mut server = Running::with(Engine::builder().build(), config).await;
    let _two = (
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    );
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.closed().await, CloseReason::Overloaded);
    let _ = third.write_all(&[3]).await;
    assert!(!matches!(third.read(&mut [0]).await, Ok(1..)));
    drop(_two);
    assert_eq!(
        (server.closed().await, server.closed().await),
        (CloseReason::PeerClosed, CloseReason::PeerClosed)
    );
    let local = Engine::builder().build();
    let source = Source::h264();
    let mut publisher = publisher(&local, source.tracks()).await;
    let url = server.url("live/cam");
    let relays: Vec<_> = (0..4)
        .map(|n| RtmpRelay::new(Arc::clone(&local) as _, format!("{url}{n}")).unwrap())
        .map(|relay| tokio::spawn(relay.run(key(), CancellationToken::new())))
        .collect();
    feed(&mut publisher, &source.seconds(1)).await;
    // Those that came while two others were still strangers were refused.
    let refused = || relays.iter().filter(|relay| relay.is_finished()).count();
    until("authorised sessions make room", || server.engine.streams().len() + refused() >= 4).await;
    assert!(server.engine.streams().len() >= 2);
    relays.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn r01_bytes_that_are_no_rtmp_get_no_answer() {
    let mut server = Running::with(Engine::builder().build(), ServerConfig::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    assert_eq!(server.closed().await, CloseReason::Malformed);
}

#[tokio::test]
async fn several_streams_are_played_and_published_over_one_connection() {
    let server = Running::start().await;
    let frame = |name: &str, ms| {
        let payload = [&[0xFF, 0xFB, 0x90, 0x64][..], name.as_bytes()].concat();
        MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), payload.into())
            .with_flags(FrameFlags::KEYFRAME)
    };
    let mut publishers = Vec::new();
    for name in ["one", "two"] {
        let request = PublishRequest::internal(StreamKey::new("live", name), "test");
        let mut publisher = server.engine.publish(request).await.unwrap();
        let track = Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([track])).unwrap();
        publishers.push((name, publisher));
    }
    let mut client = Raw::connect(server.address).await;
    for _ in 0..3 {
        client.request(0, Request::CreateStream).await;
    }
    let play = |name: &str| Request::Play { name: name.into(), start: -2.0 };
    client.request(1, play("one")).await;
    publishers[0].1.publish(frame("one", 0)).unwrap();
    let first = client.media().await;
    assert_eq!((first.stream_id, first.payload.ends_with(b"one")), (1, true));

    // The second makes both share the socket; each message says whose it is, and none is torn.
    client.request(2, play("two")).await;
    publishers[1].1.publish(frame("two", 0)).unwrap();
    while client.media().await.stream_id != 2 {}
    let mut seen = [0, 0];
    for ms in 1..200 {
        for (name, publisher) in &mut publishers {
            publisher.publish(frame(name, ms * 10)).unwrap();
        }
        tokio::task::yield_now().await;
    }
    while seen[0] < 199 || seen[1] < 199 {
        let message = client.media().await;
        let at = message.stream_id as usize - 1;
        assert!(message.payload.ends_with(["one", "two"][at].as_bytes()));
        seen[at] += usize::from(message.timestamp > 0);
    }

    // And it publishes a third.
    client.request(3, Request::Publish { name: "three".into(), kind: "live".into() }).await;
    let body = [&[0x2F, 0xFF, 0xFB, 0x90, 0x64][..], &[0; 20]].concat();
    for _ in 0..20 {
        client.message(MessageType::Audio, 3, &body).await;
    }
    let three = StreamKey::new("live", "three");
    until("all of the third is in", || {
        server.engine.stream(&three).is_some_and(|stream| stream.info().frames_in == 20)
    })
    .await;
    drop(client);
    server.stop().await;
}
