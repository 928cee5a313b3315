//! Transport streams over real sockets on loopback: unicast, multicast, source filters, foreign senders.
#![cfg(feature = "udp")]

use std::sync::Arc;
use std::time::Duration;

use arcly_core::{
    Engine, MediaEvent, MediaFrame, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    StreamKey, TrackId,
};
use arcly_mux::ts::udp::{Receiver, Sender, UdpUrl};
use arcly_mux::ts::{Muxer, Packetizer};
use arcly_testkit::media::Source;
use arcly_testkit::ports::free_port;
use bytes::BytesMut;
use tokio::net::UdpSocket;

const LIMIT: Duration = Duration::from_secs(20);

fn url(text: &str) -> UdpUrl {
    text.parse().expect("a URL")
}

/// Frames until so many have come.
async fn take(receiver: &mut Receiver, count: usize) -> Vec<MediaFrame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let event = tokio::time::timeout(LIMIT, receiver.next()).await.expect("in time").expect("a stream");
        if let MediaEvent::Frame(frame) = event {
            frames.push(frame);
        }
    }
    frames
}

fn stream(seconds: u32) -> (Vec<MediaFrame>, bytes::Bytes) {
    let source = Source::h264_aac();
    let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(&source.tracks());
    let frames = source.seconds(seconds);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    (frames, out.freeze())
}

/// Sends a stream of the engine from one URL to the other; what arrives is what was published.
async fn check(to: &str, at: &str) {
    let (engine, key) = (Engine::builder().build(), StreamKey::new("live", "cam"));
    let source = Source::h264_aac();
    let mut publisher =
        engine.publish(PublishRequest::internal(key.clone(), "test")).await.expect("a publisher");
    publisher.set_tracks(source.tracks()).expect("tracks");
    let sent: Vec<_> = source.seconds(1);
    for frame in &sent {
        publisher.publish(frame.clone()).expect("a frame");
    }
    let mut receiver = Receiver::bind(&url(at)).expect("a socket");
    let mut sender = Sender::connect(&url(to)).await.expect("a socket");
    let reader = engine.subscribe(PlayRequest::internal(key, "test")).await.expect("a reader");
    let sending = tokio::spawn(async move { sender.run(reader.into_derived(0, Packetizer::new)).await });
    // Pictures are not whole before their successor has begun, as long as that is not known of the stream.
    let received = take(&mut receiver, sent.len() - 10).await;
    assert_eq!(receiver.demuxer().counters().gaps, 0);
    let known: Vec<_> = sent.iter().map(|frame| (frame.track, frame.payload.clone())).collect();
    assert!(received.iter().all(|frame| known.contains(&(frame.track, frame.payload.clone()))));
    engine.drain();
    let _ = tokio::time::timeout(LIMIT, sending).await.expect("the sender ends with the stream");
    let _ = Arc::clone(&engine);
}

#[tokio::test]
async fn a_stream_goes_from_one_machine_to_another() {
    let port = free_port();
    check(&format!("udp://127.0.0.1:{port}"), &format!("udp://127.0.0.1:{port}")).await;
}

#[tokio::test]
async fn a_stream_goes_to_a_group() {
    let port = free_port();
    let group = format!("udp://239.255.77.1:{port}?localaddr=127.0.0.1");
    check(&group, &group).await;
}

#[tokio::test]
async fn a_stream_goes_to_a_group_of_one_source() {
    let port = free_port();
    let to = format!("udp://232.1.77.1:{port}?localaddr=127.0.0.1");
    check(&to, &format!("udp://127.0.0.1@232.1.77.1:{port}?localaddr=127.0.0.1")).await;
}

#[tokio::test]
async fn a_second_sender_does_not_get_in_between() {
    let port = free_port();
    let mut receiver = Receiver::bind(&url(&format!("udp://127.0.0.1:{port}"))).expect("a socket");
    let (frames, data) = stream(2);
    let first = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let second = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
    for (n, datagram) in data.chunks(1_316).enumerate() {
        first.send_to(datagram, ("127.0.0.1", port)).await.expect("sent");
        if n > 0 {
            second.send_to(&[0x47; 1_316], ("127.0.0.1", port)).await.expect("sent");
        }
    }
    let received = take(&mut receiver, frames.len() - 10).await;
    assert!(receiver.foreign() > 10);
    assert_eq!(receiver.sender(), first.local_addr().ok());
    for id in [TrackId::VIDEO, TrackId::AUDIO] {
        let of = |frames: &[MediaFrame]| -> Vec<_> {
            frames.iter().filter(|frame| frame.track == id).map(|frame| frame.payload.clone()).collect()
        };
        assert!(of(&frames).starts_with(&of(&received)), "{id}");
    }
    assert_eq!(receiver.demuxer().counters(), arcly_mux::ts::Counters::default());
}

#[tokio::test]
async fn m16_what_is_no_transport_stream_is_an_error_and_the_next_is_not() {
    let port = free_port();
    let mut receiver = Receiver::bind(&url(&format!("udp://127.0.0.1:{port}"))).expect("a socket");
    let sender = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let garbage = async {
        loop {
            sender.send_to(&[0; 1_316], ("127.0.0.1", port)).await.expect("sent");
            tokio::task::yield_now().await;
        }
    };
    let error = tokio::select! {
        event = receiver.next() => event.expect_err("no stream"),
        () = garbage => unreachable!("it does not end"),
    };
    assert_eq!(error.reason(), arcly_core::CloseReason::Malformed);
    receiver.reset();
    let (frames, data) = stream(1);
    for datagram in data.chunks(1_316) {
        sender.send_to(datagram, ("127.0.0.1", port)).await.expect("sent");
    }
    take(&mut receiver, frames.len() - 10).await;
}
