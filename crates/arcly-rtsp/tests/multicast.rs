//! Streams that are sent to groups, in network namespaces whose loopback carries them. Skipped where none may be made.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::{
    AppSpec, Engine, FrameFlags, MediaFrame, PlayRequest, PlaybackRegistry as _, StreamKey, Subscriber,
    TrackId,
};
use arcly_rtp::sdp::SessionDescription;
use arcly_rtp::wire::RtpPacket;
use arcly_rtp::wire::rtcp::{RtcpPacket, compound};
use arcly_rtsp::wire::rtp_info::RtpInfo;
use arcly_rtsp::wire::{Cast, Method, Request, Status, Transport};
use arcly_rtsp::{Carriage, Client, ClientConfig, Multicast, ServerConfig};
use arcly_testkit::media::Source;
use arcly_testkit::netns::{self, Place};
use arcly_testkit::program::Program;
use arcly_testkit::{need, skip};
use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use serving::{LIMIT, LONG, Raw, Serving, key};

const SETUP: &str = "ip link set lo up multicast on\nip route add 224.0.0.0/4 dev lo";

/// Runs a test in a namespace of its own: what is sent to a group there reaches nobody else.
fn inside<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    match netns::enter(SETUP) {
        Place::Inside => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        }
        Place::Outside => {}
        Place::Impossible => skip!("no such network namespace may be made here"),
    }
}

async fn serving() -> Serving {
    let mut groups = Multicast::default();
    groups.range = "239.192.7.0/31".parse().unwrap();
    groups.ttl = 3;
    // Where the routes lead over the loopback they name no source.
    groups.interface = Some(Ipv4Addr::LOCALHOST);
    Serving::made(ServerConfig::default(), None, |server| server.with_multicast(groups).unwrap()).await
}

fn member(group: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((group, port)).into()).unwrap();
    socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket.into()).unwrap()
}

async fn datagram(socket: &UdpSocket) -> Bytes {
    let mut buffer = [0; 2_048];
    let received = tokio::time::timeout(LIMIT, socket.recv(&mut buffer));
    let len = received.await.expect("something comes").unwrap();
    Bytes::copy_from_slice(&buffer[..len])
}

/// What a client is told of one medium: the group and its RTP port.
async fn set_up(raw: &mut Raw, url: &str, medium: usize) -> (Ipv4Addr, Transport) {
    let setup = Request::new(Method::Setup, format!("{url}/trackID={medium}"));
    let setup = raw.ask(setup.with("Transport", "RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1")).await;
    assert_eq!(setup.status, Status::OK);
    let transport: Transport = setup.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!((transport.cast, transport.ttl), (Some(Cast::Multicast), Some(3)));
    (transport.destination.as_deref().unwrap().parse().unwrap(), transport)
}

async fn play(raw: &mut Raw, url: &str) -> RtpInfo {
    let play = raw.ask(Request::new(Method::Play, url)).await;
    assert_eq!(play.status, Status::OK);
    play.headers.get("RTP-Info").unwrap().parse().unwrap()
}

/// Waits for something that others bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect(what);
}

#[test]
fn a_stream_is_sent_to_its_group_once_from_the_first_reader_to_the_last() {
    inside(|| async {
        let serving = serving().await;
        let url = serving.url();
        let publishing = serving.publish(LONG);
        let mut raws = [Raw::connect(serving.address).await, Raw::connect(serving.address).await];

        // The description names the group where the URL asks for it, and not where it does not.
        let described = raws[0].ask(Request::new(Method::Describe, format!("{url}?multicast"))).await;
        let sdp: SessionDescription = str::from_utf8(&described.body).unwrap().parse().unwrap();
        let group = Ipv4Addr::new(239, 192, 7, 0);
        for (medium, port) in sdp.media.iter().zip([8_002, 8_004]) {
            assert_eq!((sdp.address(medium), medium.port), (Some(IpAddr::V4(group)), port));
        }
        let described = raws[1].ask(Request::new(Method::Describe, &url)).await;
        assert!(!str::from_utf8(&described.body).unwrap().contains("239.192"));

        let video = member(group, 8_002);
        let reports = member(group, 8_003);
        let mut sources = Vec::new();
        for raw in &mut raws {
            for (medium, port) in [8_002, 8_004].into_iter().enumerate() {
                let (address, transport) = set_up(raw, &url, medium).await;
                assert_eq!((address, transport.port.unwrap().rtp), (group, port), "the same for both");
                sources.push(transport.ssrc.unwrap());
            }
        }
        let info = play(&mut raws[0], &url).await;
        assert!(info.streams.iter().all(|stream| stream.sequence.is_none() && stream.timestamp.is_some()));
        let mut numbers = Vec::new();
        let receive = async |count: usize, numbers: &mut Vec<u16>| {
            for _ in 0..count {
                let packet = RtpPacket::decode(&datagram(&video).await).unwrap();
                assert_eq!(packet.header.ssrc, sources[0]);
                numbers.push(packet.header.sequence);
            }
        };
        receive(20, &mut numbers).await;
        let report: Vec<_> = compound(&datagram(&reports).await).map(Result::unwrap).collect();
        assert!(
            matches!(&report[..], [RtcpPacket::SenderReport(r), RtcpPacket::SourceDescription(_)] if r.ssrc == sources[0])
        );
        // A second reader changes nothing of what is sent.
        play(&mut raws[1], &url).await;
        receive(20, &mut numbers).await;
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
        let stream = serving.engine.stream(&key()).unwrap();
        assert_eq!(stream.reader_count(), 3, "both, and what is sent");

        // Nor does the end of the first.
        let [mut first, second] = raws;
        assert_eq!(first.ask(Request::new(Method::Teardown, &url)).await.status, Status::OK);
        receive(20, &mut numbers).await;
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
        drop(second);
        until("nothing is sent to nobody", || stream.reader_count() == 0).await;

        // There are two groups, and the one that was let go is free for others.
        let mut third = Raw::connect(serving.address).await;
        let (address, _) = set_up(&mut third, &url, 0).await;
        assert_eq!(address, Ipv4Addr::new(239, 192, 7, 1), "the one that was free for longest");
        // It has begun with this medium, and the others go the same way.
        let setup = Request::new(Method::Setup, format!("{url}/trackID=1"));
        let setup = third.ask(setup.with("Transport", "RTP/AVP/TCP;interleaved=2-3")).await;
        assert_eq!(setup.status, Status::UNSUPPORTED_TRANSPORT);
        publishing.abort();
    });
}

#[test]
fn the_end_of_a_stream_is_said_to_its_group_and_to_each_of_its_readers() {
    inside(|| async {
        let serving = serving().await;
        let publishing = serving.publish(LONG);
        let mut raws = [Raw::connect(serving.address).await, Raw::connect(serving.address).await];
        let mut group = Ipv4Addr::UNSPECIFIED;
        for raw in &mut raws {
            group = set_up(raw, &serving.url(), 0).await.0;
            play(raw, &serving.url()).await;
        }
        let reports = member(group, 8_003);
        publishing.abort();
        serving.engine.drain();
        loop {
            let report = datagram(&reports).await;
            if compound(&report).any(|packet| matches!(packet, Ok(RtcpPacket::Goodbye(_)))) {
                break;
            }
        }
        for raw in &mut raws {
            assert!(raw.is_closed().await);
        }
    });
}

/// More streams than groups: what is left is the connection, as the client's next choice.
#[test]
fn without_a_group_the_next_choice_counts() {
    inside(|| async {
        let mut groups = Multicast::default();
        groups.range = "239.192.7.1".parse().unwrap();
        let serving =
            Serving::made(ServerConfig::default(), None, |server| server.with_multicast(groups).unwrap())
                .await;
        let publishing = serving.publish(LONG);
        let other = serving.publish_as(StreamKey::new("live", "other"), LONG);
        let mut raws = [Raw::connect(serving.address).await, Raw::connect(serving.address).await];
        let urls = [serving.url(), serving.url().replace("cam", "other")];
        let mut answers = Vec::new();
        for (raw, url) in raws.iter_mut().zip(urls) {
            let setup = Request::new(Method::Setup, format!("{url}/trackID=0"));
            let offers = "RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1";
            let setup = raw.ask(setup.with("Transport", offers)).await;
            let transport: Transport = setup.headers.get("Transport").unwrap().parse().unwrap();
            answers.push(transport.cast);
        }
        assert_eq!(answers, [Some(Cast::Multicast), Some(Cast::Unicast)]);
        publishing.abort();
        other.abort();
    });
}

/// Pulls into an engine of its own.
fn pull(url: &str) -> (Arc<Engine>, CancellationToken, tokio::task::JoinHandle<arcly_core::Result<()>>) {
    let engine = Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build();
    let mut config = ClientConfig::default();
    config.session.carriage = Carriage::Multicast;
    let client = Client::new(url).unwrap().with_config(config);
    let stop = CancellationToken::new();
    let (registry, shutdown) = (Arc::clone(&engine), stop.clone());
    let task = tokio::spawn(async move { client.pull(registry, key(), shutdown).await });
    (engine, stop, task)
}

async fn frames(engine: &Engine, count: usize) -> Vec<MediaFrame> {
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    let mut reader: Subscriber = engine.subscribe(request.wait(LIMIT)).await.unwrap().into_frames();
    let all = async {
        let mut frames = Vec::new();
        while frames.len() < count {
            if let Some(Read::Item(frame)) = reader.next().await.unwrap() {
                frames.push((*frame).clone());
            }
        }
        frames
    };
    tokio::time::timeout(LIMIT, all).await.expect("frames")
}

#[test]
fn two_of_our_clients_receive_from_one_group() {
    inside(|| async {
        let serving = serving().await;
        let publishing = serving.publish(LONG);
        let pulls = [pull(&serving.url()), pull(&serving.url())];
        let pictures = |frames: &[MediaFrame]| -> Vec<Bytes> {
            let pictures = frames.iter().filter(|frame| frame.track == TrackId::VIDEO);
            pictures.map(|frame| frame.payload.clone()).collect()
        };
        let mut came = Vec::new();
        for (engine, ..) in &pulls {
            let frames = frames(engine, 120).await;
            assert!(frames.iter().all(|frame| !frame.flags.contains(FrameFlags::CORRUPT)));
            let tracks: BTreeSet<_> = frames.iter().map(|frame| frame.track).collect();
            assert_eq!(tracks, BTreeSet::from([TrackId::VIDEO, TrackId::AUDIO]));
            came.push(pictures(&frames));
        }
        let stream = serving.engine.stream(&key()).unwrap();
        assert_eq!(stream.reader_count(), 3, "both, and what is sent");
        let sent = pictures(&Source::h264_aac().seconds(LONG));
        for came in came {
            assert!(sent.windows(came.len()).any(|part| part == came), "bit for bit");
        }
        for (_, stop, task) in pulls {
            stop.cancel();
            task.await.unwrap().unwrap();
        }
        until("the last one has left", || stream.reader_count() == 0).await;
        publishing.abort();
    });
}

fn ffmpeg_receives(ffmpeg: &Path) {
    inside(|| async {
        let serving = serving().await;
        let publishing = serving.publish(LONG);
        let listing = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-rtsp_transport", "udp_multicast"]);
        command.args(["-analyzeduration", "500000", "-i", &serving.url(), "-map", "0:v", "-map", "0:a"]);
        command.args(["-c", "copy", "-frames:v", "60", "-f", "framehash", "-hash", "md5", "-y"]);
        let mut program = Program::start("ffmpeg", command.arg(listing.path()));
        tokio::task::spawn_blocking(move || program.end_ok(LIMIT)).await.unwrap();
        let text = std::fs::read_to_string(listing.path()).unwrap();
        let count = |stream: &str| text.lines().filter(|line| line.starts_with(stream)).count();
        assert_eq!(count("0,"), 60, "{text}");
        assert!(count("1,") > 60, "{text}");
        publishing.abort();
    });
}

#[test]
fn ffmpeg_5_receives_from_a_group() {
    ffmpeg_receives(&need!(ffmpeg));
}

#[test]
fn ffmpeg_9_receives_from_a_group() {
    ffmpeg_receives(&need!(ffmpeg9));
}
