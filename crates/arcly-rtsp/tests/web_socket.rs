//! RTSP over a WebSocket (ONVIF Streaming §5.1.4): its binary messages are the connection's bytes, wherever they are cut.
#![cfg(feature = "websocket")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use arcly_core::TrackId;
use arcly_core::derived::Packetizer as _;
use arcly_core::log::Read;
use arcly_rtp::wire::RtpPacket;
use arcly_rtsp::ServerConfig;
use arcly_rtsp::wire::{Method, Request, Status};
use arcly_testkit::media::Source;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use serving::{LIMIT, LONG, Raw, Serving, announce, publication};

/// Bytes of a client's message: requests and packets are cut where they are not to be.
const PIECE: usize = 777;

/// The key of RFC 6455 §1.3, and what is made of it.
const HELLO: &str = "GET /live/cam HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A client that speaks RTSP through a WebSocket.
async fn connect(serving: &Serving) -> Raw {
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT), "{head}");
    assert!(head.contains("rtsp.onvif.org"), "{head}");
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(carry(socket, far));
    Raw::over(near)
}

/// Carries bytes in messages, both ways, until one side ends.
async fn carry(mut socket: WebSocketStream<TcpStream>, mut far: tokio::io::DuplexStream) {
    let mut piece = [0; PIECE];
    loop {
        tokio::select! {
            read = far.read(&mut piece) => match read {
                Ok(count) if count > 0 => {
                    let message = Message::Binary(bytes::Bytes::copy_from_slice(&piece[..count]));
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => far.write_all(&bytes).await.unwrap_or_default(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_a_stream_through_a_web_socket() {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    let mut raw = connect(&serving).await;
    let url = serving.url();
    let setup = Request::new(Method::Setup, format!("{url}/trackID=0"));
    let setup = raw.ask(setup.with("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")).await;
    assert_eq!(setup.status, Status::OK);
    assert_eq!(raw.ask(Request::new(Method::Play, &url)).await.status, Status::OK);
    let mut before = None;
    for _ in 0..40 {
        let number = RtpPacket::decode(&raw.frame(0).await.unwrap()).unwrap().header.sequence;
        assert!(before.is_none_or(|before: u16| number == before.wrapping_add(1)), "{before:?}, {number}");
        before = Some(number);
    }
    assert_eq!(raw.ask(Request::new(Method::Teardown, &url)).await.status, Status::OK);
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_sends_a_stream_through_a_web_socket() {
    let serving = Serving::with(ServerConfig::default(), None).await;
    let source = Source::h264_aac();
    let mut raw = connect(&serving).await;
    let transports = ["RTP/AVP/TCP;interleaved=0-1", "RTP/AVP/TCP;interleaved=2-3"];
    announce(&mut raw, &serving.url(), &source, transports).await;
    let mut reader = serving.reader().await;
    let (_, mut packetizer) = publication(&source);
    let (mut packets, frames) = (Vec::new(), source.seconds(2));
    frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    for packet in packets {
        raw.send(&packet.bytes).await;
    }
    let pictures: Vec<_> = frames.iter().filter(|frame| frame.track == TrackId::VIDEO).collect();
    let mut came = Vec::new();
    let all = async {
        while came.len() < 40 {
            if let Some(Read::Item(frame)) = reader.next().await.unwrap()
                && frame.track == TrackId::VIDEO
            {
                came.push(frame.payload.clone());
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("pictures");
    came.iter().zip(pictures).for_each(|(came, sent)| assert_eq!(*came, sent.payload));
}
