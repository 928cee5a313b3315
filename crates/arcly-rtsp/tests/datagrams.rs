//! Media in datagrams over real sockets: whose they are, where they go, and what is lost of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::collections::{HashSet, VecDeque};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use arcly_core::derived::Packetizer as _;
use arcly_core::log::Read;
use arcly_core::{FrameFlags, MediaFrame, PublishRegistry as _, PublishRequest, Subscriber, TrackId};
use arcly_rtp::media::interleaved;
use arcly_rtp::payload::DEFAULT_MTU;
use arcly_rtp::wire::RtpPacket;
use arcly_rtp::wire::rtcp::{ReportBlock, RtcpPacket, compound};
use arcly_rtsp::wire::rtp_info::RtpInfo;
use arcly_rtsp::wire::{Method, Request, Status, Transport};
use arcly_testkit::media::Source;
use arcly_testkit::rng::Rng;
use bytes::Bytes;

use serving::{LIMIT, LONG, Raw, Serving, announce, key, port_pair, publication};

type Pair = (UdpSocket, UdpSocket);

/// What a publisher says that it sends from.
fn offer((rtp, rtcp): &Pair) -> String {
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    format!("RTP/AVP;unicast;client_port={}-{};mode=record", port(rtp), port(rtcp))
}

/// The next datagram, and the port that it comes from.
fn receive(socket: &UdpSocket) -> (Bytes, u16) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = [0; 2_048];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (Bytes::copy_from_slice(&buffer[..len]), from.port())
}

async fn received(socket: UdpSocket) -> (Bytes, u16) {
    tokio::task::spawn_blocking(move || receive(&socket)).await.unwrap()
}

/// The next frame that comes out.
async fn next(reader: &mut Subscriber) -> MediaFrame {
    loop {
        match tokio::time::timeout(LIMIT, reader.next()).await.expect("a frame in time").unwrap() {
            Some(Read::Item(frame)) => return (*frame).clone(),
            Some(Read::Context(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Only what comes from the client's own address and ports counts.
#[tokio::test(flavor = "multi_thread")]
async fn t37_datagrams_from_elsewhere_are_dropped() {
    let serving = Serving::start().await;
    let pairs = [port_pair(), port_pair()];
    let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut raw = Raw::connect(serving.address).await;
    let source = Source::h264_aac();
    announce(&mut raw, &serving.url(), &source, [&offer(&pairs[0]), &offer(&pairs[1])]).await;
    let mut reader = serving.reader().await;
    let to = ("127.0.0.1", serving.ports.rtp);
    let (frames, (_, mut packetizer)) = (source.clone().seconds(1), publication(&source));
    let mut packets = Vec::new();
    frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    let mut sent = 0_u64;
    for (channel, packet) in packets.into_iter().flat_map(|packet| interleaved(packet.bytes)) {
        let from = &pairs[usize::from(channel / 2)].0;
        // The same, spoilt, from a stranger; it would be a duplicate that comes first.
        let mut spoilt = packet.to_vec();
        spoilt.iter_mut().skip(12).for_each(|byte| *byte = !*byte);
        foreign.send_to(&spoilt, to).unwrap();
        from.send_to(&packet, to).unwrap();
        sent += 1;
        if sent.is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let came = async {
        let mut came = Vec::new();
        while came.len() < 20 {
            if let Some(Read::Item(frame)) = reader.next().await.unwrap()
                && frame.track == TrackId::VIDEO
            {
                assert!(!frame.flags.contains(FrameFlags::CORRUPT));
                came.push(frame.payload.clone());
            }
        }
        came
    };
    let came = tokio::time::timeout(LIMIT, came).await.unwrap();
    let pictures: Vec<_> = frames.iter().filter(|frame| frame.track == TrackId::VIDEO).collect();
    came.iter().zip(&pictures).for_each(|(came, sent)| assert_eq!(*came, sent.payload));
    let counted = async {
        while serving.server.datagram_counters().bad_source < sent {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("every foreign datagram is counted");
    assert_eq!(serving.server.datagram_counters().bad_source, sent);
}

/// A player over UDP is sent to the ports that it named, at the address that it came from.
#[tokio::test(flavor = "multi_thread")]
async fn t23_datagrams_go_to_where_the_connection_comes_from() {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    let (rtp, rtcp) = port_pair();
    let ports = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let mut raw = Raw::connect(serving.address).await;
    let setup = Request::new(Method::Setup, format!("{}/trackID=0", serving.url()));
    let transport = format!("RTP/AVP;unicast;destination=127.0.0.9;client_port={}-{}", ports.0, ports.1);
    let setup = raw.ask(setup.with("Transport", transport)).await;
    let agreed: Transport = setup.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!(agreed.server_port, Some(serving.ports));
    let play = raw.ask(Request::new(Method::Play, serving.url())).await;
    let info: RtpInfo = play.headers.get("RTP-Info").unwrap().parse().unwrap();
    let (packet, from) = received(rtp).await;
    let packet = RtpPacket::decode(&packet).unwrap();
    assert_eq!((from, Some(packet.header.sequence)), (serving.ports.rtp, info.streams[0].sequence));
    assert_eq!(agreed.ssrc, Some(packet.header.ssrc));
    let (report, from) = received(rtcp).await;
    assert_eq!(from, serving.ports.rtcp);
    assert!(matches!(compound(&report).next(), Some(Ok(RtcpPacket::SenderReport(_)))));
    publishing.abort();
}

/// The ports of a session are free for others once it is over, although its connection goes on with another one.
#[tokio::test(flavor = "multi_thread")]
async fn ports_of_a_session_that_is_over_are_free() {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    let (rtp, rtcp) = port_pair();
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let datagrams = format!("RTP/AVP;unicast;client_port={}-{}", port(&rtp), port(&rtcp));
    let url = serving.url();
    let setup = |transport: &str| {
        Request::new(Method::Setup, format!("{url}/trackID=0")).with("Transport", transport)
    };
    let request = |method| Request::new(method, url.clone());

    let mut first = Raw::connect(serving.address).await;
    assert_eq!(first.ask(setup(&datagrams)).await.status, Status::OK);
    assert_eq!(first.ask(request(Method::Play)).await.status, Status::OK);
    assert_eq!(first.ask(request(Method::Pause)).await.status, Status::OK);
    first.session = None;
    assert_eq!(first.ask(setup("RTP/AVP/TCP;unicast;interleaved=0-1")).await.status, Status::OK);
    assert_eq!(first.ask(request(Method::Play)).await.status, Status::OK);

    let mut second = Raw::connect(serving.address).await;
    assert_eq!(second.ask(setup(&datagrams)).await.status, Status::OK);
    assert_eq!(second.ask(request(Method::Play)).await.status, Status::OK);
    assert_eq!(second.ask(request(Method::GetParameter)).await.status, Status::OK, "they are its own");
    assert!(first.frame(0).await.is_some(), "over the connection");
    publishing.abort();
}

/// F57: what travels in datagrams fits a path of 1 280 bytes, which IPv6 takes 48 of, and SRTP 14.
#[tokio::test(flavor = "multi_thread")]
async fn f57_datagrams_have_1200_bytes_at_most() {
    let serving = Serving::start().await;
    let source = Source::h264().with_pictures_of(50_000);
    let mut publisher = serving.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher.set_tracks(source.tracks()).unwrap();
    source.take(2).for_each(|frame| _ = publisher.publish(frame).unwrap());
    let pair = port_pair();
    let mut raw = Raw::connect(serving.address).await;
    let setup = Request::new(Method::Setup, format!("{}/trackID=0", serving.url()));
    let offer = offer(&pair).replace(";mode=record", "");
    assert_eq!(raw.ask(setup.with("Transport", offer)).await.status, Status::OK);
    assert_eq!(raw.ask(Request::new(Method::Play, serving.url())).await.status, Status::OK);
    let longest = tokio::task::spawn_blocking(move || {
        let (mut longest, mut packets) = (0, 0);
        loop {
            let packet = receive(&pair.0).0;
            (longest, packets) = (longest.max(packet.len()), packets + 1);
            if RtpPacket::decode(&packet).unwrap().header.marker {
                assert!(packets > 40, "{packets} packets");
                return longest;
            }
        }
    });
    let longest = longest.await.unwrap();
    assert!((DEFAULT_MTU - 100..=DEFAULT_MTU).contains(&longest), "{longest}");
    const _: () = assert!(DEFAULT_MTU <= 1_280 - 48 - 14);
}

/// A packet of a publication: the medium, the frame's place among those of the medium, and whether it arrives.
struct Sent {
    medium: usize,
    frame: usize,
    packet: Bytes,
    lost: bool,
}

/// Packets that are sent one behind the other, before it is made sure that the server has taken them.
const CHUNK: usize = 16;
/// By how many places a packet comes late.
const REORDER: usize = 5;
/// A chunk that took longer than this was held up by the machine: what is late by that much may count as lost, and it says nothing.
const HELD_UP: Duration = Duration::from_millis(150);

/// F53: two packets in a hundred are lost, and others come up to five places late. What is lost is counted exactly, what is late is put in
/// its place, and each frame of which nothing is lost comes out, whole and at its time: no other.
#[tokio::test(flavor = "multi_thread")]
async fn f53_what_is_lost_is_counted_and_nothing_comes_that_is_not_whole() {
    for seed in 1..20 {
        if lossy_publication(seed).await {
            return;
        }
    }
    panic!("the machine was held up twenty times");
}

/// True when the machine kept up.
async fn lossy_publication(seed: u64) -> bool {
    let serving = Serving::start().await;
    let pairs = [port_pair(), port_pair()];
    let source = Source::h264_aac().with_pictures_of(2_500);
    let mut raw = Raw::connect(serving.address).await;
    announce(&mut raw, &serving.url(), &source, [&offer(&pairs[0]), &offer(&pairs[1])]).await;
    let mut reader = serving.reader().await;
    let frames = source.clone().seconds(6);
    let sent = lossy(&source, &frames, seed);
    if !send(&serving, &pairs, &sent).await {
        return false;
    }
    for (medium, (_, rtcp)) in pairs.iter().enumerate() {
        let of_medium = || sent.iter().filter(|sent| sent.medium == medium);
        let last = RtpPacket::decode(&of_medium().last().unwrap().packet).unwrap().header.sequence;
        let lost = of_medium().filter(|sent| sent.lost).count();
        assert!(lost > 0, "medium {medium} loses nothing");
        let counted = reported(rtcp.try_clone().unwrap(), last).await;
        assert_eq!(usize::try_from(counted.cumulative_lost).unwrap(), lost, "medium {medium}, seed {seed}");
    }
    assert_eq!(serving.server.datagram_counters().overrun, 0);
    assert_exact(&mut reader, &frames, &sent).await;
    true
}

/// The packets of these frames as they are sent: some are lost, in neither the first second nor the last, and some are late.
fn lossy(source: &Source, frames: &[MediaFrame], seed: u64) -> Vec<Sent> {
    let (_, mut packetizer) = publication(source);
    let (mut rng, mut sent) = (Rng::new(seed), Vec::new());
    let second = arcly_core::TimeDelta::from_millis(1_000);
    let rough = frames[0].dts + second..frames.last().unwrap().dts - second;
    let mut counts = [0; 2];
    for what in frames {
        let mut packets = Vec::new();
        packetizer.packetize(what, &mut packets);
        let count = &mut counts[medium_of(what)];
        let frame = *count;
        *count += 1;
        for (channel, packet) in packets.into_iter().flat_map(|packet| interleaved(packet.bytes)) {
            let lost = rough.contains(&what.dts) && (sent.len() as u64 + seed).is_multiple_of(50);
            sent.push(Sent { medium: usize::from(channel / 2), frame, packet, lost });
        }
    }
    for chunk in sent.chunks_mut(CHUNK).skip(1) {
        let late = usize::try_from(rng.below(u64::try_from(CHUNK).unwrap())).unwrap();
        if late + REORDER < chunk.len() {
            chunk[late..=late + REORDER].rotate_left(1);
        }
    }
    sent
}

/// Sends what is not lost; true when the server took each chunk at once.
async fn send(serving: &Serving, pairs: &[Pair], sent: &[Sent]) -> bool {
    // What comes behind a chunk from nobody is counted when the chunk was taken.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = ("127.0.0.1", serving.ports.rtp);
    for (n, chunk) in sent.chunks(CHUNK).enumerate() {
        let began = Instant::now();
        for Sent { medium, packet, .. } in chunk.iter().filter(|sent| !sent.lost) {
            pairs[*medium].0.send_to(packet, to).unwrap();
        }
        nobody.send_to(b"taken?", to).unwrap();
        let taken = async {
            while serving.server.datagram_counters().bad_source <= u64::try_from(n).unwrap() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, taken).await.expect("the server takes datagrams");
        if began.elapsed() > HELD_UP {
            return false;
        }
    }
    true
}

/// What a publisher is told of its packets, once it is told of the one with that number.
async fn reported(rtcp: UdpSocket, last: u16) -> ReportBlock {
    let told = tokio::task::spawn_blocking(move || {
        loop {
            let (packet, _) = receive(&rtcp);
            for part in compound(&packet) {
                if let Ok(RtcpPacket::ReceiverReport(report)) = part
                    && let Some(block) = report.reports.first()
                    && block.highest_sequence & 0xFFFF == u32::from(last)
                {
                    return *block;
                }
            }
        }
    });
    tokio::time::timeout(LIMIT, told).await.expect("a report").unwrap()
}

fn medium_of(frame: &MediaFrame) -> usize {
    usize::from(frame.track != TrackId::VIDEO)
}

/// What comes out is each frame of which no packet is lost, whole, in order and at its time, and no other; pictures are marked from the
/// loss of one to the next keyframe, and nothing else is.
async fn assert_exact(reader: &mut Subscriber, frames: &[MediaFrame], sent: &[Sent]) {
    let lost: HashSet<_> =
        sent.iter().filter(|sent| sent.lost).map(|sent| (sent.medium, sent.frame)).collect();
    let mut expected = [VecDeque::new(), VecDeque::new()];
    let (mut counts, mut broken) = ([0; 2], false);
    for frame in frames {
        let medium = medium_of(frame);
        let whole = !lost.contains(&(medium, counts[medium]));
        counts[medium] += 1;
        if medium == 0 {
            broken = (broken && !frame.is_keyframe()) || !whole;
        }
        if whole {
            expected[medium].push_back((frame, medium == 0 && broken));
        }
    }
    let count: usize = expected.iter().map(VecDeque::len).sum();
    let mut shifts = [None; 2];
    // The last pictures wait for those that would be shown before them.
    for n in 0..count - 4 {
        let came = next(reader).await;
        let medium = medium_of(&came);
        let (frame, broken) = expected[medium].pop_front().expect("no more than was sent");
        let what = format!("frame {n}, at {:?} on {}", frame.dts, frame.track);
        assert!(
            came.payload == frame.payload,
            "{what}: {} bytes of {}",
            came.payload.len(),
            frame.payload.len()
        );
        assert_eq!(came.flags.contains(FrameFlags::CORRUPT), broken, "{what}");
        let shift = came.pts - frame.pts;
        assert_eq!(*shifts[medium].get_or_insert(shift), shift, "{what}: out of time");
    }
}

/// A translation of addresses on the way forgets a publisher, and gives it other ports: it is heard again, from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_ports_change_on_the_way_goes_on() {
    let serving = Serving::start().await;
    let pairs = [port_pair(), port_pair()];
    let translated = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    let source = Source::h264_aac();
    let mut raw = Raw::connect(serving.address).await;
    announce(&mut raw, &serving.url(), &source, [&offer(&pairs[0]), &offer(&pairs[1])]).await;
    let mut reader = serving.reader().await;
    let (_, mut packetizer) = publication(&source);
    let (mut source, to) = (source, ("127.0.0.1", serving.ports.rtp));
    let mut send = |from: [&UdpSocket; 2]| {
        let (frame, mut packets) = (source.next().unwrap(), Vec::new());
        packetizer.packetize(&frame, &mut packets);
        for (channel, packet) in packets.into_iter().flat_map(|packet| interleaved(packet.bytes)) {
            from[usize::from(channel / 2)].send_to(&packet, to).unwrap();
        }
        frame
    };
    let first: Vec<MediaFrame> = (0..60).map(|_| send([&pairs[0].0, &pairs[1].0])).collect();
    let shift = next(&mut reader).await.pts - first[0].pts;
    let moved = || serving.server.datagram_counters().moved;
    let began = Instant::now();
    while moved() < 2 {
        send([&translated[0], &translated[1]]);
        assert!(began.elapsed() < LIMIT, "{} of two ports", moved());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let behind: Vec<MediaFrame> = (0..100).map(|_| send([&translated[0], &translated[1]])).collect();
    while next(&mut reader).await.pts < behind[0].pts + shift {}
    assert_eq!(raw.ask(Request::new(Method::GetParameter, serving.url())).await.status, Status::OK);
}
