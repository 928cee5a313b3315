//! The server over real sockets: what players and publishers get, and what hostile peers do not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers};
use arcly_core::egress::{Egress, EgressStats};
use arcly_core::{CloseReason, MediaEvent, PublishRegistry as _, PublishRequest, Timestamp, TrackId};
use arcly_rtp::media::{Event, LaneSpec, MediaReceiver, MediaReceiverOptions};
use arcly_rtp::sdp::{Format, SessionDescription};
use arcly_rtp::wire::RtpPacket;
use arcly_rtp::wire::rtcp::{RtcpPacket, compound};
use arcly_rtsp::ServerConfig;
use arcly_rtsp::wire::authorization::{Answers, Login, challenges};
use arcly_rtsp::wire::rtp_info::RtpInfo;
use arcly_rtsp::wire::{Frame, Method, Request, Status};
use arcly_testkit::media::Source;
use bytes::Bytes;

use serving::{LIMIT, LONG, Raw, Serving, announce, key, port_pair, publication};

/// Sets up both media over the connection, and plays.
async fn play(raw: &mut Raw, url: &str) -> RtpInfo {
    for track in 0..2 {
        let setup = Request::new(Method::Setup, format!("{url}/trackID={track}"));
        let setup = raw.ask(setup.with("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")).await;
        assert_eq!(setup.status, Status::OK);
    }
    let play = raw.ask(Request::new(Method::Play, url).with("Range", "npt=0.000-")).await;
    assert_eq!(play.status, Status::OK);
    play.headers.get("RTP-Info").unwrap().parse().unwrap()
}

/// A player that joins in the middle of a GOP is sent its keyframe at once; what it was told is what comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_joins_at_a_keyframe_and_is_told_exactly_where() {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    // In the middle of the second GOP.
    tokio::time::sleep(Duration::from_millis(1_400)).await;
    let mut raw = Raw::connect(serving.address).await;
    let info = play(&mut raw, &serving.url()).await;
    for (channel, info) in [0, 2].into_iter().zip(&info.streams) {
        let report = raw.frame(channel + 1).await.unwrap();
        let first = RtpPacket::decode(&raw.frame(channel).await.unwrap()).unwrap();
        assert_eq!(Some(first.header.sequence), info.sequence, "{info:?}");
        let told = info.timestamp.unwrap();
        let ahead = first.header.timestamp.wrapping_sub(told);
        assert!(ahead <= 90_000, "{info:?}: {ahead} ticks after the moment that all begin with");
        let packets: Vec<_> = compound(&report).map(Result::unwrap).collect();
        let [RtcpPacket::SenderReport(report), RtcpPacket::SourceDescription(_)] = &packets[..] else {
            panic!("{packets:?}");
        };
        assert_eq!(report.ssrc, first.header.ssrc);
    }
    // Pausing stops it, and playing goes on at a keyframe.
    assert_eq!(raw.ask(Request::new(Method::Pause, serving.url())).await.status, Status::OK);
    raw.frames.clear();
    let again = raw.ask(Request::new(Method::Play, serving.url())).await;
    assert_eq!(again.status, Status::OK);
    let info: RtpInfo = again.headers.get("RTP-Info").unwrap().parse().unwrap();
    raw.frames.clear();
    let first = RtpPacket::decode(&raw.frame(0).await.unwrap()).unwrap();
    assert_eq!(Some(first.header.sequence), info.streams[0].sequence);
    assert_eq!(raw.ask(Request::new(Method::Teardown, serving.url())).await.status, Status::OK);
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_stream_is_said_in_rtcp_and_rtsp() {
    let serving = Serving::start().await;
    let source = Source::h264_aac();
    let publishing = serving.publish_to_a_reader(source.tracks(), source.seconds(1));
    let mut raw = Raw::connect(serving.address).await;
    play(&mut raw, &serving.url()).await;
    publishing.await.unwrap();
    serving.stop.cancel();
    goodbye(&mut raw).await;
    assert!(raw.is_closed().await);
    assert_eq!(serving.reasons(1).await, [CloseReason::Shutdown]);
}

/// Reads up to the packet that says that it is over.
async fn goodbye(raw: &mut Raw) {
    let goodbye = async {
        loop {
            let packet = raw.frame(1).await.expect("a goodbye");
            if compound(&packet).any(|packet| matches!(packet, Ok(RtcpPacket::Goodbye(_)))) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, goodbye).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_is_shown_out_is_told_as_well() {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    let mut raw = Raw::connect(serving.address).await;
    play(&mut raw, &serving.url()).await;
    let stream = serving.engine.stream(&key()).expect("a stream");
    stream.readers().iter().for_each(|reader| reader.end(CloseReason::Shutdown));
    goodbye(&mut raw).await;
    assert!(raw.is_closed().await);
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn t28_t29_t34_packets_that_are_none_are_dropped_and_too_many_end_the_publisher() {
    let serving = Serving::start().await;
    let mut raw = Raw::connect(serving.address).await;
    announce(
        &mut raw,
        &serving.url(),
        &Source::h264_aac(),
        ["RTP/AVP/TCP;interleaved=0-1", "RTP/AVP/TCP;interleaved=2-3"],
    )
    .await;
    let frame =
        |channel, payload: &[u8]| Frame { channel, payload: Bytes::copy_from_slice(payload) }.to_bytes();
    // Too short, another version, sources that are not there, an extension and padding that are longer than all there is.
    let good = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0];
    for len in 0..12 {
        raw.send(&frame(0, &good[..len])).await;
    }
    for first in [0x40, 0x8F, 0x90, 0xA0] {
        let mut bad = good;
        bad[0] = first;
        raw.send(&frame(0, &bad)).await;
    }
    raw.send(&frame(0x63, &good)).await;
    for control in [&[][..], &[0x81], &[0x9F, 201, 0, 1], &[0x80, 200, 0xFF, 0xFF]] {
        raw.send(&frame(1, control)).await;
    }
    assert_eq!(
        raw.ask(Request::new(Method::GetParameter, serving.url())).await.status,
        Status::OK,
        "still there"
    );
    for _ in 0..64 {
        raw.send(&frame(0, &good[..11])).await;
    }
    assert!(raw.is_closed().await);
    assert_eq!(serving.reasons(1).await, [CloseReason::Malformed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t26_a_second_publisher_is_told_of_the_first() {
    let serving = Serving::start().await;
    let mut publisher = serving.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    let source = Source::h264_aac();
    publisher.set_tracks(source.tracks()).unwrap();
    source.seconds(1).into_iter().for_each(|frame| _ = publisher.publish(frame).unwrap());
    let mut raw = Raw::connect(serving.address).await;
    let (sdp, _) = publication(&Source::h264_aac());
    let request = Request::new(Method::Announce, serving.url()).with_body("application/sdp", sdp);
    assert_eq!(raw.ask(request).await.status, Status::CONFLICT);
    assert!(raw.is_closed().await);
    assert_eq!(serving.reasons(1).await, [CloseReason::Conflict]);
    assert_eq!(publisher.close_reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn t39_a_user_of_the_engine_logs_in_by_digest_and_by_basic() {
    let users =
        StaticUsers::new().with_user("ann", "right", ActionSet::PLAY, NameRule::parse("live/*").unwrap());
    let serving = Serving::with(ServerConfig::default(), Some(Arc::new(users.unwrap()))).await;
    let publishing = serving.publish(LONG);
    for scheme in 0..3 {
        let mut raw = Raw::connect(serving.address).await;
        let url = serving.url();
        for (password, expect) in [("wrong", Status::UNAUTHORIZED), ("right", Status::OK)] {
            let asked = raw.ask(Request::new(Method::Describe, &url)).await;
            assert_eq!(asked.status, Status::UNAUTHORIZED);
            let offered: Vec<_> = challenges(asked.headers.all("WWW-Authenticate")).unwrap();
            let mut answers = Answers::new(Login::new("ann", password), [3; 16]);
            assert!(answers.take(&offered[scheme..]));
            let shown = answers.answer("DESCRIBE", &url).unwrap();
            let answered = raw.ask(Request::new(Method::Describe, &url).with("Authorization", shown)).await;
            assert_eq!(answered.status, expect, "{scheme}");
        }
    }
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_leaves_after_a_401_was_not_authorised() {
    let serving = Serving::with(ServerConfig::default(), Some(Arc::new(StaticUsers::new()))).await;
    let mut raw = Raw::connect(serving.address).await;
    assert_eq!(raw.ask(Request::new(Method::Describe, serving.url())).await.status, Status::UNAUTHORIZED);
    drop(raw);
    assert_eq!(serving.reasons(1).await, [CloseReason::Unauthorized]);
}

/// Each of these ends at once, with its reason, and a reader of a stream beside it misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn t01_to_t44_hostile_peers_end_alone() {
    use CloseReason::{Forbidden, Limit, Malformed, Unsupported};
    /// No timeout of a session is shorter, and a machine may stand still for some seconds.
    const AT_ONCE: Duration = Duration::from_secs(10);
    let serving = Serving::start().await;
    let source = Source::h264_aac();
    let publishing = serving.publish_to_a_reader(source.tracks(), source.seconds(4));
    let mut witness = Raw::connect(serving.address).await;
    play(&mut witness, &serving.url()).await;
    let url = serving.url();
    let announce = |sdp: &str| {
        Request::new(Method::Announce, &url)
            .with("CSeq", 1)
            .with_body("application/sdp", sdp.to_owned())
            .to_bytes()
    };
    let with = |headers: &str| Bytes::from(format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n\r\n"));
    let setup = Request::new(Method::Setup, format!("{url}/trackID=0")).with("CSeq", 1);
    let setup = setup.with("Transport", "RTP/AVP/TCP").to_bytes();
    let stray = Frame { channel: 0x63, payload: Bytes::from_static(b"x") }.to_bytes().repeat(64);
    let mut noise = arcly_testkit::rng::Rng::new(10).bytes(4_096);
    noise[0] = 0;
    let cases: Vec<(&str, Bytes, CloseReason)> = vec![
        ("t01", vec![b'A'; 1 << 20].into(), Limit("request_line")),
        ("t02", with(&"A: b\r\n".repeat(10_000)), Limit("headers")),
        ("t03", with("Content-Length: -1"), Malformed),
        ("t04", with("Content-Length: 9223372036854775808"), Malformed),
        ("t05", with("Content-Length: 4294967295\r\n\r\nabc"), Limit("body")),
        ("t06", with("Content-Length: 1\r\nContent-Length: 2"), Malformed),
        ("t07", "OPTIONS * RTSP/1.0\r\n\r\n".into(), Malformed),
        ("t09", "OPTIONS * RTSP/9.9\r\nCSeq: 1\r\n\r\n".into(), Unsupported),
        ("t10", noise.into(), Malformed),
        ("t11", [&b"$\x00\xFF\xFF"[..], &[0; 65_535]].concat().into(), Malformed),
        ("t17", announce(&"a".repeat(200 << 10)), Limit("body")),
        ("t18", announce(&"m=video 0 RTP/AVP 96\r\n".repeat(1_001)), Limit("sdp_media")),
        ("t20", announce("m=video 0 RTP/AVP 300\r\n"), Malformed),
        ("t22", "DESCRIBE rtsp://h/../../etc/x RTSP/1.0\r\nCSeq: 1\r\n\r\n".into(), Forbidden),
        ("t34", [setup, stray.into()].concat().into(), Malformed),
        ("t44", with(&format!("Session: {}", "x".repeat(64 << 10))), Limit("header_line")),
    ];
    let mut reasons = Vec::new();
    for (row, bytes, reason) in cases {
        let began = Instant::now();
        let mut raw = Raw::connect(serving.address).await;
        raw.send(&bytes).await;
        assert!(raw.is_closed().await);
        assert!(began.elapsed() < AT_ONCE, "{row}: {:?}", began.elapsed());
        reasons.push(reason);
        assert_eq!(serving.reasons(reasons.len()).await, reasons, "{row}");
    }
    publishing.await.unwrap();
    serving.engine.drain();
    let mut numbers = Vec::new();
    while let Some(packet) = witness.frame(0).await {
        numbers.push(RtpPacket::decode(&packet).unwrap().header.sequence);
    }
    assert!(numbers.len() > 75, "{}", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "the witness misses nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_is_not_found() {
    let serving = Serving::start().await;
    let mut raw = Raw::connect(serving.address).await;
    let response = raw.ask(Request::new(Method::Describe, serving.url())).await;
    assert_eq!(response.status, Status::NOT_FOUND);
    assert_eq!(serving.reasons(1).await, [CloseReason::NotFound]);
}

/// What a player costs: a picture is many packets, which lie behind each other and are written at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_one_write_to_each_player() {
    const PLAYERS: usize = 20;
    const PICTURES: usize = 60;
    /// Writes to a player that joins: what it is told, and the picture that is there.
    const JOINING: usize = 2;
    let egress = Arc::new(Egress::start(1));
    let serving =
        Serving::made(ServerConfig::default(), None, |server| server.with_egress(Arc::clone(&egress))).await;
    let source = Source::h264().with_pictures_of(20_000);
    let mut publisher = serving.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher.set_tracks(source.tracks()).unwrap();
    let mut pictures = source;
    publisher.publish(pictures.next().unwrap()).unwrap();
    let mut players = Vec::new();
    for _ in 0..PLAYERS {
        let mut player = Raw::connect(serving.address).await;
        let setup = Request::new(Method::Setup, format!("{}/trackID=0", serving.url()));
        let setup = player.ask(setup.with("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")).await;
        assert_eq!(setup.status, Status::OK);
        assert_eq!(player.ask(Request::new(Method::Play, serving.url())).await.status, Status::OK);
        assert!(picture(&mut player).await > 10);
        players.push(player);
    }
    let before = until_written(&egress, JOINING * PLAYERS).await;
    for frame in pictures.take(PICTURES) {
        publisher.publish(frame).unwrap();
        for player in &mut players {
            assert!(picture(player).await > 10, "packets");
        }
    }
    let after = until_written(&egress, PLAYERS * (JOINING + PICTURES)).await;
    assert_eq!(after.batches - before.batches, u64::try_from(PICTURES).unwrap(), "put together once for all");
}

/// Waits until the worker shows so many writes, which it does some time after what they wrote has come. There may be no more.
async fn until_written(egress: &Egress, writes: usize) -> EgressStats {
    let writes = u64::try_from(writes).unwrap();
    let counted = async {
        while egress.stats().writes < writes {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("what was read was written");
    let stats = egress.stats();
    assert_eq!(stats.writes, writes);
    stats
}

/// Reads to the end of the next picture: how many packets it has.
async fn picture(player: &mut Raw) -> usize {
    let mut packets = 1;
    while !RtpPacket::decode(&player.frame(0).await.unwrap()).unwrap().header.marker {
        packets += 1;
    }
    packets
}

/// What VLC 3 (LIVE555) asks for, in its order and with its headers. Nothing more is published once it has come: what it sees first was
/// there before it asked.
#[tokio::test(flavor = "multi_thread")]
async fn vlc_joins_in_the_middle_of_a_gop_and_sees_its_keyframe_at_once() {
    for over_udp in [false, true] {
        let serving = Serving::start().await;
        let source = Source::h264_aac();
        let mut publisher = serving.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
        publisher.set_tracks(source.tracks()).unwrap();
        let sent: Vec<_> = source.clone().take(120).collect();
        sent.iter().for_each(|frame| _ = publisher.publish(frame.clone()).unwrap());
        let keyframe =
            sent.iter().rfind(|frame| frame.track == TrackId::VIDEO && frame.is_keyframe()).unwrap();
        assert!(
            keyframe.dts > Timestamp::ZERO && keyframe.dts < sent.last().unwrap().dts,
            "in the middle of a GOP"
        );

        let mut raw = Raw::connect(serving.address).await;
        let vlc = |method, uri: &str| {
            let agent = "LibVLC/3.0.20 (LIVE555 Streaming Media v2016.11.28)";
            Request::new(method, uri).with("User-Agent", agent)
        };
        let url = serving.url();
        assert_eq!(raw.ask(vlc(Method::Options, &url)).await.status, Status::OK);
        let described = raw.ask(vlc(Method::Describe, &url).with("Accept", "application/sdp")).await;
        let sdp: SessionDescription = str::from_utf8(&described.body).unwrap().parse().unwrap();
        let base = described.headers.get("Content-Base").unwrap().to_owned();
        let pairs = [port_pair(), port_pair()];
        let mut lanes = Vec::new();
        for (at, (medium, (rtp, rtcp))) in sdp.media.iter().zip(&pairs).enumerate() {
            let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
            let transport = match over_udp {
                true => format!("RTP/AVP;unicast;client_port={}-{}", port(rtp), port(rtcp)),
                false => format!("RTP/AVP/TCP;unicast;interleaved={}-{}", 2 * at, 2 * at + 1),
            };
            let setup = vlc(Method::Setup, &format!("{base}{}", medium.attribute("control").unwrap()));
            assert_eq!(raw.ask(setup.with("Transport", transport)).await.status, Status::OK);
            let track = TrackId::new(u8::try_from(at).unwrap()).unwrap();
            lanes.push(LaneSpec { track, formats: Format::offered(medium).unwrap() });
        }
        let played = raw.ask(vlc(Method::Play, &base).with("Range", "npt=0.000-")).await;
        assert_eq!(played.status, Status::OK);
        let info: RtpInfo = played.headers.get("RTP-Info").unwrap().parse().unwrap();
        assert_eq!(raw.ask(vlc(Method::GetParameter, &base)).await.status, Status::OK, "its keep-alive");

        let [(rtp, _), _] = &pairs;
        let rtp = tokio::net::UdpSocket::from_std(nonblocking(rtp)).unwrap();
        let mut receiver = MediaReceiver::new(lanes, MediaReceiverOptions::ordered());
        let mut packets: Vec<RtpPacket> = Vec::new();
        // The pictures behind it show in which order they are to be seen.
        while packets.iter().filter(|packet| packet.header.marker).count() < 5 {
            let packet = if over_udp { datagram(&rtp).await } else { raw.frame(0).await.unwrap() };
            packets.push(RtpPacket::decode(&packet).unwrap());
        }
        let now = Instant::now();
        assert_eq!(Some(packets[0].header.sequence), info.streams[0].sequence);
        packets.into_iter().for_each(|packet| receiver.handle_packet(now, 0, packet));
        // Nobody waits for the sound.
        receiver.handle_timeout(now + Duration::from_secs(5));
        let first = std::iter::from_fn(|| receiver.poll_event()).find_map(|event| match event {
            Event::Media(MediaEvent::Frame(frame)) => Some(frame),
            _ => None,
        });
        let first = first.expect("a picture");
        assert!(first.is_keyframe());
        assert_eq!(first.payload, keyframe.payload);
    }
}

fn nonblocking(socket: &UdpSocket) -> UdpSocket {
    let socket = socket.try_clone().unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

async fn datagram(socket: &tokio::net::UdpSocket) -> Bytes {
    let mut buffer = [0; 2_048];
    let (len, _) =
        tokio::time::timeout(LIMIT, socket.recv_from(&mut buffer)).await.expect("a datagram").unwrap();
    Bytes::copy_from_slice(&buffer[..len])
}
