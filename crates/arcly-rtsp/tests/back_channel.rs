//! Players that are heard: what they say over the back-channel is a stream of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers};
use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::{CodecId, PlayRequest, PlaybackRegistry as _, StreamKey, Subscriber};
use arcly_rtp::wire::Header;
use arcly_rtsp::ServerConfig;
use arcly_rtsp::wire::{Frame, Method, Request, Status, Transport};
use bytes::Bytes;

use serving::{LIMIT, LONG, Raw, Serving, port_pair};

const TALK: &str = "www.onvif.org/ver20/backchannel";

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.session.back_channel = Some("talk".to_owned());
    config
}

/// The n-th 20 ms of A-law.
fn word(n: u8) -> Bytes {
    let header = Header {
        payload_type: 8,
        sequence: n.into(),
        timestamp: u32::from(n) * 160,
        ssrc: 7,
        ..Header::default()
    };
    [&header.encode()[..], &[n; 160]].concat().into()
}

async fn listener(serving: &Serving) -> Subscriber {
    let key = StreamKey::parse("live/cam/talk").unwrap();
    let request = PlayRequest::internal(key, "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    let listening = tokio::time::timeout(LIMIT, serving.engine.subscribe(request.wait(LIMIT)));
    listening.await.unwrap().unwrap().into_frames()
}

/// Hears the first `count` words.
async fn hear(listener: &mut Subscriber, count: u8) {
    let mut heard = 0;
    let all = async {
        while heard < count {
            match listener.next().await.unwrap().expect("it goes on") {
                Read::Context(tracks) => {
                    assert!(tracks.iter().all(|track| track.codec == CodecId::Pcma));
                }
                Read::Item(frame) => {
                    assert_eq!(frame.payload[..], [heard; 160]);
                    heard += 1;
                }
                Read::Skipped(skip) => panic!("{skip:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("all of it");
}

async fn describe(raw: &mut Raw, url: &str) {
    let described = raw.ask(Request::new(Method::Describe, url).with("Require", TALK)).await;
    assert_eq!(described.status, Status::OK);
    assert!(str::from_utf8(&described.body).unwrap().contains("a=sendonly"));
}

async fn set_up(raw: &mut Raw, url: &str, medium: usize, transport: &str) -> Option<Transport> {
    let setup = Request::new(Method::Setup, format!("{url}/trackID={medium}")).with("Require", TALK);
    let setup = raw.ask(setup.with("Transport", transport)).await;
    (setup.status == Status::OK).then(|| setup.headers.get("Transport").unwrap().parse().unwrap())
}

/// The transport of datagrams to these ports.
fn datagrams((rtp, rtcp): &(UdpSocket, UdpSocket)) -> String {
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    format!("RTP/AVP;unicast;client_port={}-{}", port(rtp), port(rtcp))
}

/// Plays in datagrams from these ports, and may say something.
async fn play(raw: &mut Raw, url: &str, pairs: &[(UdpSocket, UdpSocket); 2]) {
    describe(raw, url).await;
    for (medium, pair) in [0, 2].into_iter().zip(pairs) {
        set_up(raw, url, medium, &datagrams(pair)).await.unwrap();
    }
    assert_eq!(raw.ask(Request::new(Method::Play, url)).await.status, Status::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_player_says_over_the_connection_is_a_stream() {
    let serving = Serving::with(config(), None).await;
    let (url, publishing) = (serving.url(), serving.publish(LONG));
    let mut raw = Raw::connect(serving.address).await;
    describe(&mut raw, &url).await;
    set_up(&mut raw, &url, 0, "RTP/AVP/TCP;interleaved=0-1").await.unwrap();
    set_up(&mut raw, &url, 2, "RTP/AVP/TCP;interleaved=4-5").await.unwrap();
    assert_eq!(raw.ask(Request::new(Method::Play, &url)).await.status, Status::OK);
    for n in 0..20 {
        raw.send(&Frame { channel: 4, payload: word(n) }.to_bytes()).await;
    }
    let mut listener = listener(&serving).await;
    hear(&mut listener, 20).await;
    assert!(raw.frame(0).await.is_some(), "and it is sent what it plays");
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_player_says_in_datagrams_is_a_stream() {
    let serving = Serving::with(config(), None).await;
    let (url, publishing) = (serving.url(), serving.publish(LONG));
    let mut raw = Raw::connect(serving.address).await;
    let pairs = [port_pair(), port_pair()];
    play(&mut raw, &url, &pairs).await;
    for n in 0..20 {
        pairs[1].0.send_to(&word(n), ("127.0.0.1", serving.ports.rtp)).unwrap();
    }
    hear(&mut listener(&serving).await, 20).await;
    publishing.abort();
}

/// What was said before has its time for what is still on the way, and what is played anew does not end with it: its ports stay its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_begins_anew_at_once_keeps_its_ports_for_longer_than_what_was_before_would_have_had_them()
 {
    let serving = Serving::with(config(), None).await;
    let (url, publishing) = (serving.url(), serving.publish(LONG));
    let mut raw = Raw::connect(serving.address).await;
    let pairs = [port_pair(), port_pair()];
    play(&mut raw, &url, &pairs).await;
    assert_eq!(raw.ask(Request::new(Method::Teardown, &url)).await.status, Status::OK);
    raw.session = None;
    // It only listens from now on.
    describe(&mut raw, &url).await;
    set_up(&mut raw, &url, 0, &datagrams(&pairs[0])).await.unwrap();
    assert_eq!(raw.ask(Request::new(Method::Play, &url)).await.status, Status::OK);
    // In real time, which is longer than a publisher's last datagrams are waited for.
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..10 {
        turns.tick().await;
        let mut other = Raw::connect(serving.address).await;
        describe(&mut other, &url).await;
        set_up(&mut other, &url, 0, &datagrams(&pairs[0])).await.unwrap();
        other.ask(Request::new(Method::Play, &url)).await;
        assert!(other.is_closed().await, "they are the first one's");
    }
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_play_and_not_publish_is_not_heard() {
    let users =
        StaticUsers::new().with_user("ann", "right", ActionSet::PLAY, NameRule::parse("live/*").unwrap());
    let serving = Serving::with(config(), Some(Arc::new(users.unwrap()))).await;
    let publishing = serving.publish(LONG);
    let mut raw = Raw::connect(serving.address).await;
    let url = serving.url().replace("rtsp://", "rtsp://ann:right@");
    describe(&mut raw, &url).await;
    assert!(set_up(&mut raw, &url, 2, "RTP/AVP/TCP;interleaved=4-5").await.is_none());
    set_up(&mut raw, &url, 0, "RTP/AVP/TCP;interleaved=0-1").await.unwrap();
    assert_eq!(raw.ask(Request::new(Method::Play, &url)).await.status, Status::OK);
    assert!(raw.frame(0).await.is_some());
    publishing.abort();
}
