//! RTMPS: the same streams inside TLS, and what else comes to that port.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::observe::{EngineEvent, EventItem, EventReceiver};
use arcly_core::log::{LagPolicy, Read};
use arcly_core::{
    AppSpec, CloseReason, Engine, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest,
    StreamError, StreamKey,
};
use arcly_rtmp::{Client, ClientConfig, RtmpRelay, Server, ServerConfig};
use arcly_testkit::media::Source;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(10);

/// A server for `localhost`, and a client configuration that trusts it.
async fn start(engine: &Arc<Engine>) -> (SocketAddr, ClientConfig, EventReceiver) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server_tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client_tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
    let server = server.with_tls(Arc::new(server_tls));
    let (address, events) = (server.local_addr().unwrap(), engine.events());
    let context = engine.context(CancellationToken::new());
    tokio::spawn(async move { server.run(context).await });
    let mut config = ClientConfig::default();
    config.tls = Some(Arc::new(client_tls));
    (address, config, events)
}

async fn closed(events: &mut EventReceiver) -> (&'static str, CloseReason) {
    let next = async {
        loop {
            let event = events.next().await;
            if let Some(EventItem::Event(EngineEvent::SessionClosed { protocol, reason, .. })) = event {
                return (protocol, reason);
            }
        }
    };
    tokio::time::timeout(LIMIT, next).await.expect("a session ends")
}

#[tokio::test]
async fn a_stream_goes_up_and_down_through_tls() {
    let key = StreamKey::new("live", "cam");
    let remote = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let (address, config, _events) = start(&remote).await;
    let url = format!("rtmps://localhost:{}/live/cam", address.port());

    let (from, to) = (Engine::builder().build(), Engine::builder().build());
    let source = Source::h264_aac();
    let mut publisher = from.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    publisher.set_tracks(source.tracks()).unwrap();
    let relay = RtmpRelay::new(Arc::clone(&from) as _, &url).unwrap().with_config(config.clone());
    tokio::spawn(relay.run(key.clone(), CancellationToken::new()));
    let (client, engine, pulled) =
        (Client::new(&url).unwrap().with_config(config), Arc::clone(&to), key.clone());
    tokio::spawn(async move { client.pull(engine, pulled, CancellationToken::new()).await });
    let request = PlayRequest::internal(key, "test").lag(LagPolicy::PATIENT).wait(LIMIT);
    let mut reader = to.subscribe(request).await.unwrap().into_frames();

    let sent = source.seconds(1);
    sent.iter().for_each(|frame| _ = publisher.publish(frame.clone()).unwrap());
    let mut got = Vec::new();
    while got.len() < sent.len() {
        match tokio::time::timeout(LIMIT, reader.next()).await.unwrap().unwrap().unwrap() {
            Read::Item(frame) => got.push(frame.payload.clone()),
            Read::Context(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(sent.iter().map(|frame| &frame.payload).eq(&got));
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    let engine = Engine::builder().build();
    let (address, mut config, mut events) = start(&engine).await;
    let url = format!("rtmps://localhost:{}/live/cam", address.port());
    let roots = rustls::RootCertStore::empty();
    let nobody = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.tls = Some(Arc::new(nobody));
    let pull = |config: Option<ClientConfig>| {
        let client = Client::new(&url).unwrap().with_config(config.unwrap_or_default());
        let engine = Arc::clone(&engine);
        async move { client.pull(engine, StreamKey::new("live", "x"), CancellationToken::new()).await }
    };
    assert!(pull(Some(config)).await.is_err());
    assert_eq!(closed(&mut events).await.0, "rtmps");
    let error = pull(None).await.unwrap_err();
    assert!(matches!(error, StreamError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn r45_what_is_no_tls_is_malformed() {
    let engine = Engine::builder().build();
    let (address, _, mut events) = start(&engine).await;
    let plain = [&[3][..], &[0; 1_536]].concat();
    for bytes in [&plain[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xFF, 0xFF, 0, 0]] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(&[3]), "no RTMP in the clear");
        assert_eq!(closed(&mut events).await, ("rtmps", CloseReason::Malformed), "{bytes:?}");
    }
}
