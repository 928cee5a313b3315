//! Streams that are pulled from a server and pushed to one.

use super::*;

/// A client that understands reconnect requests follows one, and its readers see one stream.
#[tokio::test]
async fn a_pull_that_reconnects_outlives_its_server() {
    // At an address where nobody else takes the port between the two servers.
    let listener = TcpListener::bind("127.44.44.44:0").await.unwrap();
    let app = AppSpec::new("").wait_for_stream(LIMIT);
    let server = Server::from_listener(listener, ServerConfig::default());
    let mut server = Running::serve(Engine::builder().default_app(app).build(), server);
    let source = Source::h264_aac();
    let tracks = source.tracks();
    let sent = source.seconds(2);
    let mut first = publisher(&server.engine, tracks.clone()).await;
    feed(&mut first, &sent).await;
    let local = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT).grace(LIMIT)).build();
    let backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(100) };
    let client = Client::new(server.url("live/cam")).unwrap().with_reconnect(backoff);
    let (engine, stop) = (Arc::clone(&local), CancellationToken::new());
    let pull = tokio::spawn({
        let stop = stop.clone();
        async move { client.pull(engine, key(), stop).await }
    });
    let mut reader = local.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
    let (_, before) = frames(&mut reader, 5).await;

    server.shutdown.cancel();
    assert_eq!(server.closed().await, CloseReason::PeerClosed, "it left by itself");
    let address = server.address;
    server.stop().await;
    let engine = Engine::builder().build();
    let mut second = publisher(&engine, tracks).await;
    feed(&mut second, &sent).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Running::serve(engine, Server::from_listener(listener, ServerConfig::default()));
    let after = tokio::time::timeout(LIMIT, async {
        loop {
            let (_, got) = frames(&mut reader, 1).await;
            if got[0].flags.contains(FrameFlags::DISCONTINUITY) {
                return got[0].clone();
            }
        }
    });
    let after = after.await.expect("the stream goes on");
    assert!(after.is_keyframe() && after.dts > before[0].dts);
    stop.cancel();
    assert!(tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().is_ok());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_wedges_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = Engine::builder().build();
    let _publisher = publisher(&engine, Source::h264().tracks()).await;
    let relay = RtmpRelay::new(engine, format!("rtmp://{}/live/cam", silent.local_addr().unwrap())).unwrap();
    let began = tokio::time::Instant::now();
    let error = relay.run(key(), CancellationToken::new()).await.unwrap_err();
    let timeout = matches!(error.reason(), CloseReason::Timeout(Phase::Handshake | Phase::Connect));
    assert!(timeout && began.elapsed() >= Duration::from_secs(10), "{error} after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn urls_that_cannot_be_relayed_to_say_what_is_missing() {
    let engine = Engine::builder().build();
    let cases = [
        ("http://h/live/cam", "rtmp"),
        ("rtmp://h/live", "stream"),
        ("rtmp://h", "application"),
        ("rtmp:///live/cam", "host"),
    ];
    for (url, missing) in cases {
        let error = RtmpRelay::new(Arc::clone(&engine) as _, url).unwrap_err();
        assert!(matches!(error, StreamError::Protocol(_)) && error.to_string().contains(missing), "{error}");
    }
}
