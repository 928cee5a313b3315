//! The RTMP rows of the catalogue of bad inputs, over real sockets, next to a stream that nothing may disturb.
//!
//! What one session decides is also tested in `arcly-rtmp`, in virtual time and step by step. Here the same bytes
//! meet the whole server: the log, the metrics, the memory, and everybody else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::type_complexity, reason = "case tables")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arcly_codec::amf0::{Object, Value, encode_all};
use arcly_codec::flv::TagKind;
use arcly_rtmp::wire::handshake::PACKET;
use arcly_rtmp::wire::{Capabilities, Connect, ControlMessage, MessageType, Request, UserControl};
use arcly_testkit::media::Source;
use support::bench::{Bench, Row};
use support::feed::{Feed, FlvTag, Sequence};
use support::noise;
use support::peer::{PATIENCE, Peer};

const MIB: u64 = 1 << 20;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn has(codes: &[String], code: &str) -> bool {
    codes.iter().any(|c| c == code)
}

// The handshake.

#[test]
fn r01_a_wrong_version() {
    let row = Row::new("R01");
    let mut peer = row.peer();
    peer.send(&[0x50]).send(&[0x41; PACKET]);
    row.closed("malformed", peer);
}

#[test]
fn r02_http_on_the_rtmp_port() {
    let row = Row::new("R02");
    let mut peer = row.peer();
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(peer.wait_end(PATIENCE));
    assert_eq!(peer.received, 0, "nothing is answered");
    row.closed("malformed", peer);
}

#[test]
fn h28_a_proxy_header_from_a_stranger() {
    let row = Row::new("H28");
    let mut peer = row.peer();
    peer.send(b"PROXY TCP4 203.0.113.9 203.0.113.1 4242 1935\r\n\x03");
    row.closed("malformed", peer);
}

/// Everything that is decided after 10 or 15 seconds, all at the same time.
#[test]
fn r03_r04_r05_r05b_r42_time_runs_out() {
    let bench = Arc::new(Bench::start(&[], ""));
    let row = Row::on(&bench, "R03, R04, R05, R05b, R42").memory(16 * MIB).cpu(secs(3));
    let stage = |act: fn(&mut Peer)| {
        let mut peer = row.peer();
        let since = Instant::now();
        thread::spawn(move || {
            act(&mut peer);
            assert!(peer.wait_end(secs(14)), "not closed after {:?}", since.elapsed());
            (peer.name(), since.elapsed())
        })
    };
    let handshake = [
        ("R03 part of C1", stage(|peer| _ = peer.send(&[3]).send(&[0; 100]))),
        ("R04 nothing", stage(|_| {})),
        ("R05 no C2", stage(|peer| _ = peer.send(&[3]).send(&[0; PACKET]))),
        (
            "R05b a byte a second",
            stage(|peer| {
                while !peer.ended {
                    peer.send(if peer.received == 0 { &[3] } else { &[0] }).wait_end(secs(1));
                }
            }),
        ),
    ];
    let command = [
        ("R05 no connect", stage(|peer| _ = peer.handshake())),
        ("R05 no stream", stage(|peer| _ = peer.handshake().connect("live", Capabilities::default()))),
    ];
    let deaf = deaf_publisher(&row);
    let mut named = Vec::new();
    for (reason, stages) in
        [("timeout(handshake)", Vec::from(handshake)), ("timeout(command)", Vec::from(command))]
    {
        for (name, stage) in stages {
            let (peer, after) = stage.join().unwrap_or_else(|_| panic!("{name}"));
            assert!((secs(9)..secs(12)).contains(&after), "{name}: closed after {after:?}");
            named.push((peer, reason));
        }
    }
    named.push((deaf.join().unwrap(), "slow_consumer"));
    let closed = [
        ("rtmp", "timeout(handshake)", 4),
        ("rtmp", "timeout(command)", 2),
        ("rtmp", "slow_consumer", 1),
        ("rtmp", "peer_closed", 1),
    ];
    row.finish(&closed, &named);
}

/// R42: a publisher that asks and asks and never reads the answers. Its media counts until it is closed.
fn deaf_publisher(row: &Row) -> thread::JoinHandle<std::net::SocketAddr> {
    let (rtmp, mut deaf) = (row.bench.rtmp, Peer::open_from(row.bench.rtmp, "127.0.0.1", Some(4_096)));
    deaf.handshake().connect("live", Capabilities::default()).create_stream();
    deaf.publish("deaf").expect_code("NetStream.Publish.Start");
    let mut player = Peer::open(rtmp).playing("deaf");
    thread::spawn(move || {
        let since = Instant::now();
        let mut feed = Feed::new();
        let mut sequence = Sequence::default();
        feed.headers().iter().for_each(|tag| _ = deaf.tag(tag));
        let (mut sent, mut queue, mut queued, mut grown) = (0, vec![0; 64 << 10], 0, Vec::new());
        deaf.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        while !deaf.broken && since.elapsed() < secs(25) {
            let tag = feed.frame();
            let due = since + Duration::from_millis(tag.timestamp.into());
            while let Some(tag) = player.next_tag(due) {
                sequence.note(&tag);
            }
            // 72 answers a second, within the limit of commands; they overflow its few KiB of receive buffer.
            deaf.request(0, Request::GetStreamLength("deaf".into())).tag(&tag);
            sent += 1;
            let arrived = deaf.socket.peek(&mut queue).unwrap_or(0);
            if arrived > queued {
                queued = arrived;
                grown.push((Instant::now(), arrived));
            }
        }
        // The window is full once next to nothing more arrives: a full one takes a few bytes now and then all the same.
        let full = grown.iter().find(|(_, arrived)| *arrived >= queued / 10 * 9).map_or(since, |(at, _)| *at);
        let (open, after) = (full - since, full.elapsed());
        assert!(
            (secs(3)..secs(15)).contains(&after),
            "R42: closed {after:?} after its window, full after {open:?}"
        );
        while let Some(tag) = player.next_tag(Instant::now() + Duration::from_millis(300)) {
            sequence.note(&tag);
        }
        assert_eq!((sequence.lost, sequence.repeated), (0, 0));
        assert!(sequence.received > sent / 2, "R42: {} of {sent} frames came through", sequence.received);
        deaf.name()
    })
}

#[test]
fn r44_a_digest_that_does_not_fit() {
    let row = Row::new("R44");
    let mut peer = row.peer();
    // The version of a client that signs, and nothing that could be a signature.
    let mut c1 = vec![0, 0, 0, 0, 128, 0, 7, 2];
    c1.extend(noise(44).take(PACKET - 8));
    peer.send(&[3]).send(&c1);
    let mut answer = vec![0; 1 + 2 * PACKET];
    peer.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Read::read_exact(&mut &peer.socket, &mut answer).unwrap();
    assert_eq!(&answer[1 + PACKET + 8..], &c1[8..], "S2 is the echo of the plain handshake");
    let c2 = answer[1..=PACKET].to_vec();
    peer.speaks().send(&c2).connect("live", Capabilities::default()).create_stream();
    row.tolerated(vec![peer]);
}

// Chunks.

#[test]
fn r06_r08_chunk_sizes_that_are_none() {
    for (id, size) in [("R06", [0, 0, 0, 0]), ("R08", [0x80, 0, 0x10, 0])] {
        let row = Row::new(id);
        let mut peer = row.peer().handshaken();
        peer.send(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).send(&size);
        peer.request(0, Request::Connect(Box::new(Connect { app: "live".into(), ..Connect::default() })));
        row.closed("malformed", peer);
    }
}

#[test]
fn r09_tiny_chunks() {
    let row = Row::new("R09").memory(12 * MIB).cpu(Duration::from_millis(1_500));
    let mut peer = row.peer().publishing("r09");
    peer.set_chunk_size(1).video(0, &vec![0x17; 1 << 20]);
    row.closed("limit(chunk_work)", peer);
}

#[test]
fn r10_a_message_of_16_mib() {
    let row = Row::new("R10");
    let mut peer = row.peer().connected();
    peer.send(&[4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 0, 0, 0, 0]).send(&[0; 128]);
    for _ in 0..2_000 {
        peer.send(&[0xC4]).send(&[0; 128]);
    }
    row.closed("limit(message_size)", peer);
}

#[test]
fn r12_r13_first_chunks_without_a_header() {
    for (id, first) in [("R12", 0xC7), ("R13 type 1", 0x47), ("R13 type 2", 0x87)] {
        let row = Row::new(id);
        let mut peer = row.peer().connected();
        peer.send(&[first, 0, 0, 0, 0, 0, 1, 9]);
        row.closed("malformed", peer);
    }
}

#[test]
fn r40_extended_timestamps_in_both_dialects() {
    for repeat in [true, false] {
        let (id, name) = if repeat { ("R40 repeated", "r40-repeated") } else { ("R40 once", "r40-once") };
        let row = Row::new(id);
        let mut publisher = row.peer().publishing(name);
        let mut feed = Feed::of(Source::h264().with_pictures_of(2_000));
        feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
        let sent: Vec<FlvTag> = (0..12).map(|_| feed.frame()).collect();
        let mut chunks = sent.iter().map(|tag| extended(0x0100_0000 + tag.timestamp, &tag.body, repeat));
        publisher.send(&chunks.next().unwrap());
        let mut player = row.peer().playing(name);
        chunks.for_each(|chunk| _ = publisher.send(&chunk));
        let end = Instant::now() + PATIENCE;
        let got =
            std::iter::from_fn(|| player.next_tag(end)).filter(|tag| tag.mark().is_some()).take(sent.len());
        let got: Vec<_> = got.map(|tag| tag.body).collect();
        assert!(got.iter().eq(sent.iter().map(|tag| &tag.body)), "bit for bit");
        row.tolerated(vec![publisher, player]);
    }
}

/// A video message in chunks of 128 bytes whose continuations repeat the extended timestamp, or do not.
fn extended(timestamp: u32, body: &[u8], repeat: bool) -> Vec<u8> {
    let mut out = vec![6, 0xFF, 0xFF, 0xFF];
    out.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    out.extend([9, 1, 0, 0, 0]);
    out.extend(timestamp.to_be_bytes());
    for (n, chunk) in body.chunks(128).enumerate() {
        if n > 0 {
            out.push(0xC6);
            out.extend(timestamp.to_be_bytes().iter().take(if repeat { 4 } else { 0 }));
        }
        out.extend(chunk);
    }
    out
}

#[test]
fn r39_noise_after_the_handshake() {
    let row = Row::new("R39").memory(12 * MIB).cpu(secs(8));
    let (mut names, mut reasons) = (Vec::new(), std::collections::BTreeMap::<String, u64>::new());
    let closed = || {
        let mut closed = row.bench.metrics().closed();
        closed.retain(|(protocol, _), _| protocol == "rtmp");
        closed
    };
    let before = closed();
    for seed in 7..107 {
        let mut peer = row.peer().handshaken();
        peer.send(&noise(seed).take(200_000).collect::<Vec<_>>());
        assert!(peer.wait_end(secs(2)), "seed {seed}: noise does not last");
        names.push(peer.name());
    }
    support::eventually(secs(1), || {
        reasons = closed().into_iter().map(|((_, reason), n)| (reason, n)).collect();
        for ((_, reason), n) in &before {
            *reasons.get_mut(reason).unwrap() -= n;
        }
        reasons.retain(|_, n| *n > 0);
        reasons.values().sum::<u64>() == 100
    });
    assert!(reasons.keys().all(|r| r == "malformed" || r.starts_with("limit(")), "{reasons:?}");
    let expect: Vec<_> = reasons.iter().map(|(reason, n)| ("rtmp", reason.as_str(), *n)).collect();
    // Some of it may look like a limit, so that only the name is looked for.
    let named: Vec<_> = names.into_iter().map(|name| (name, "")).collect();
    row.finish(&expect, &named);
}

// AMF.

#[test]
fn r14_amf_that_nests_for_ever() {
    for (size, reason) in [(70_000 * 4, "limit(message_size)"), (60 << 10, "limit(amf_depth)")] {
        let row = Row::new("R14");
        let mut peer = row.peer().handshaken();
        let mut deep = [3, 0, 1, b'a'].repeat(70_000);
        deep.truncate(size);
        peer.command_with("connect", &deep);
        row.closed(reason, peer);
    }
}

#[test]
fn r15_r16_r17_r18_amf_that_lies_about_its_length() {
    let tails: [(&str, &[u8]); 4] = [
        ("R15 strict array", b"\x0A\xFF\xFF\xFF\xFF\0\x3F\xF0\0\0\0\0\0\0"),
        ("R16 ECMA array", b"\x08\xFF\xFF\xFF\xFF"),
        ("R17 long string", b"\x0C\xFF\xFF\xFF\xFFabc"),
        ("R18 string", b"\x02\xFF\xFFabc"),
    ];
    for (id, tail) in tails {
        let row = Row::new(id);
        let mut peer = row.peer().handshaken();
        peer.command_with("connect", tail);
        row.closed("malformed", peer);
    }
}

// Commands.

#[test]
fn r21_r22_commands_out_of_order() {
    let publish = || Request::Publish { name: "x".into(), kind: "live".into() };
    let connect = || Request::Connect(Box::new(Connect { app: "live".into(), ..Connect::default() }));
    let cases: [(&str, fn(Peer) -> Peer, Request); 4] = [
        ("R21 publish before connect", Peer::handshaken, publish()),
        ("R21 publish before createStream", Peer::connected, publish()),
        ("R21 createStream before connect", Peer::handshaken, Request::CreateStream),
        ("R22 connect twice", Peer::connected, connect()),
    ];
    for (id, stage, request) in cases {
        let row = Row::new(id);
        let mut peer = stage(row.peer());
        peer.request(1, request);
        row.closed("malformed", peer);
    }
}

#[test]
fn r24_r25_r26_r27_names() {
    let long = "x".repeat(65_000);
    let deep = "a/".repeat(20) + "a";
    let deepest = "a/".repeat(255) + "a";
    let cases: [(&str, &str, &str); 13] = [
        ("R24", &long, "limit(name)"),
        ("R25", "", "malformed"),
        ("R26", "../../../tmp/pwn", "forbidden"),
        ("R26", "/etc/x", "forbidden"),
        ("R26", "a/./b", "forbidden"),
        ("R26", "a//b", "forbidden"),
        ("R26", "a\\..\\b", "forbidden"),
        ("R26", "%2e%2e/x", "forbidden"),
        ("R26", ".", "forbidden"),
        ("R26", &deep, "forbidden"),
        ("R26", &deepest, "limit(name)"),
        ("R27", "a\0b", "malformed"),
        ("R27", "a\r\nb\u{202E}", "malformed"),
    ];
    for (id, name, reason) in cases {
        let row = Row::new(&format!("{id} {}", name.escape_debug().take(20).collect::<String>()));
        let files = row.bench.files();
        let mut peer = row.peer().created();
        peer.publish(name);
        let bench = Arc::clone(&row.bench);
        let codes = row.closed(reason, peer);
        assert!(has(&codes, "NetStream.Publish.BadName"), "{id}: {codes:?}");
        assert_eq!(bench.files(), files, "{id}: nothing is made on the disk");
    }
    let row = Row::new("R27 not UTF-8");
    let mut peer = row.peer().created();
    let mut body = Request::Publish { name: "abcd".into(), kind: "live".into() }.encode(5.0).encode();
    let at = body.windows(4).position(|w| w == b"abcd").unwrap();
    body[at + 1..at + 3].copy_from_slice(&[0xFF, 0xFE]);
    peer.message(MessageType::CommandAmf0, 1, 0, &body);
    row.closed("malformed", peer);
}

#[test]
fn r41_a_live_publisher_is_not_hijacked() {
    let row = Row::new("R41 (b)");
    let mut peer = row.peer().created();
    peer.publish("witness");
    let codes = row.closed("conflict", peer);
    assert!(has(&codes, "NetStream.Publish.BadName"), "{codes:?}");
}

/// Waits until so many plays have been refused.
#[track_caller]
fn refused(peer: &mut Peer, count: usize) {
    let end = Instant::now() + PATIENCE;
    let so_far = |peer: &Peer| peer.codes.iter().filter(|c| *c == "NetStream.Play.StreamNotFound").count();
    while so_far(peer) < count {
        assert!(peer.next_message(end).is_some(), "{} came; ended: {}", so_far(peer), peer.ended);
    }
    peer.codes.clear();
}

/// 100 connections that each play ten names at a time that nobody publishes, so many times.
fn play_names(bench: &Bench, times: usize) -> Vec<Peer> {
    const STREAMS: u32 = 10;
    let mut peers: Vec<Peer> = (0..100).map(|_| Peer::open(bench.rtmp).playing("witness")).collect();
    for peer in &mut peers {
        (0..STREAMS).for_each(|_| _ = peer.request(0, Request::CreateStream));
    }
    let since = Instant::now();
    for ten in 0..times {
        if ten == 90 {
            // 1 000 commands in ten seconds are allowed, and each has sent 13 besides.
            thread::sleep(secs(10).saturating_sub(since.elapsed()));
        }
        // A hundred at a time: it is how many there are that this is about.
        for (group, peers) in peers.chunks_mut(10).enumerate() {
            for (connection, peer) in peers.iter_mut().enumerate() {
                let plays = (2..2 + STREAMS).map(|stream| {
                    let name = format!("r46-{group}-{connection}-{ten}-{stream}").into();
                    (stream, Request::Play { name, start: -2.0 })
                });
                peer.requests(plays);
            }
            peers.iter_mut().for_each(|peer| refused(peer, STREAMS as usize));
        }
    }
    peers
}

#[test]
fn r46_plays_of_streams_that_are_not_there() {
    // The connections also play the witness, so that a refusal does not end them; and have ten further message streams for
    // the names. 100 000 commands are more than a row's 250 ms of CPU time.
    // Some of it before: what an allocator keeps after so many the first time is no leak, the second time it would be.
    let row = Row::new("R46: 100 connections, 1 000 names each");
    drop(play_names(&row.bench, 10));
    let row = row.again().memory(12 * MIB).cpu(secs(12));
    let streams = row.bench.metrics().sum("arcly_streams");
    let peers = play_names(&row.bench, 100);
    // Streams of earlier rows may end meanwhile.
    assert!(row.bench.metrics().sum("arcly_streams") <= streams, "names leave nothing behind");
    row.tolerated(peers);

    let row = Row::new("R46: one name, one connection");
    let mut peer = row.peer().created();
    peer.play("r46");
    let codes = row.closed("not_found", peer);
    assert!(has(&codes, "NetStream.Play.StreamNotFound"), "{codes:?}");
}

#[test]
fn r47_floods_of_commands() {
    let row = Row::new("R47").cpu(secs(1)).memory(6 * MIB);
    let mut peer = row.peer().connected();
    for n in 0..2_500 {
        let request = match n % 4 {
            0 => Request::FcPublish("cam".into()),
            1 => Request::ReleaseStream("cam".into()),
            2 => Request::CheckBandwidth,
            _ => Request::GetStreamLength("cam".into()),
        };
        peer.request(0, request);
    }
    row.closed("limit(commands)", peer);
    let row = Row::new("R47: streams");
    let mut peer = row.peer().connected();
    for _ in 0..17 {
        peer.request(0, Request::CreateStream);
    }
    row.closed("limit(streams)", peer);
}

// Control messages.

#[test]
fn r28_r29_acknowledgement_windows() {
    for (id, window) in [("R28", 0), ("R29", 1)] {
        let row = Row::new(id);
        let mut peer = row.peer().publishing(id);
        let mut feed = Feed::of(Source::h264().with_pictures_of(1_000));
        feed.headers().iter().for_each(|tag| _ = peer.tag(tag));
        let since = Instant::now();
        peer.control(ControlMessage::WindowAckSize(window));
        for _ in 0..20 {
            peer.tag(&feed.frame());
        }
        let mut acks = 0;
        peer.read_until(Duration::from_millis(200), |message| {
            acks += u32::from(message.kind == MessageType::Acknowledgement);
            false
        });
        let most = if window == 0 { 0 } else { u32::try_from(since.elapsed().as_millis() / 10).unwrap() };
        assert!(acks <= most.min(5), "{id}: {acks} acknowledgements of 20 kB");
        row.tolerated(vec![peer]);
    }
}

#[test]
fn r30_r31_control_messages_that_are_short_or_strange() {
    let kinds = [
        MessageType::SetChunkSize,
        MessageType::Abort,
        MessageType::Acknowledgement,
        MessageType::UserControl,
        MessageType::WindowAckSize,
        MessageType::SetPeerBandwidth,
    ];
    let row = Row::new("R30");
    let peers = kinds.iter().flat_map(|kind| (0..3).map(move |len| (*kind, len))).map(|(kind, len)| {
        let mut peer = row.peer().connected();
        peer.message(kind, 0, 0, &vec![0; len]);
        peer
    });
    let peers = peers.collect();
    row.closed_all("malformed", peers);
    let row = Row::new("R30 SetBufferLength");
    let mut peer = row.peer().connected();
    peer.message(MessageType::UserControl, 0, 0, &[0, 3, 0, 0, 0, 1, 0]);
    row.closed("malformed", peer);

    let row = Row::new("R31");
    let mut peer = row.peer().connected();
    peer.message(MessageType::SetPeerBandwidth, 0, 0, &[0, 0, 0x10, 0, 9]);
    peer.message(MessageType::Abort, 0, 0, &[0, 0, 0, 77]).message(MessageType::UserControl, 0, 0, &[0, 99]);
    peer.message(MessageType::Acknowledgement, 0, 0, &[0xFF; 4]);
    peer.control(ControlMessage::User(UserControl::PingRequest(7))).create_stream();
    row.tolerated(vec![peer]);
}

// Media messages.

#[test]
fn r32_media_messages_that_carry_nothing() {
    let row = Row::new("R32");
    let mut peer = row.peer().publishing("r32");
    for len in [0, 1, 2].into_iter().cycle().take(16) {
        peer.message(MessageType::Audio, 1, 0, &[0xAF, 1][..len.min(1)]);
    }
    assert!(!peer.wait_end(Duration::from_millis(200)), "16 are forgiven");
    for _ in 0..17 {
        peer.video(0, &[0x17]);
    }
    row.closed("malformed", peer);
}

#[test]
fn r36_aggregates_within_aggregates() {
    let sub = |kind: u8, body: &[u8]| {
        let mut out = vec![kind];
        out.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        out.extend([0; 7]);
        out.extend(body);
        out.extend([0; 4]);
        out
    };
    let nested = (0..1_000).fold(vec![], |body, _| sub(22, &body));
    let lie = [&[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0][..], &[0x17, 1, 0, 0, 0]].concat();
    for (id, body) in [("R36", nested), ("R36-lie", lie)] {
        let row = Row::new(id);
        let mut peer = row.peer().publishing(id);
        peer.message(MessageType::Aggregate, 1, 0, &body);
        row.closed("malformed", peer);
    }
}

#[test]
fn r37_timestamps_at_the_edges() {
    let row = Row::new("R37");
    let mut publisher = row.peer().publishing("r37");
    let mut feed = Feed::of(Source::h264());
    feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
    let keyframe = feed.frame();
    publisher.video(0xFFFF_FF00, &keyframe.body);
    let mut player = row.peer().playing("r37");
    let mut times = Vec::new();
    let end = Instant::now() + PATIENCE;
    // The first before the others: each is a keyframe, and players begin at the newest.
    for timestamp in [None, Some(0xFFFF_FFF0), Some(0x10), Some(0x00FF_FFFF), Some(0x00FF_FFFE), Some(0)] {
        timestamp.map(|timestamp| publisher.video(timestamp, &keyframe.body));
        let mut frames = std::iter::from_fn(|| player.next_tag(end)).filter(|tag| tag.mark().is_some());
        times.push(frames.next().expect("every frame comes through").timestamp);
    }
    assert!(times.is_sorted(), "never backwards: {times:?}");
    assert!(times[1] - times[0] == 0xF0 && times[2] - times[1] == 0x20, "the wrap is none: {times:?}");
    row.tolerated(vec![publisher, player]);
}

#[test]
fn r43_metadata_at_line_rate() {
    // 64 MiB of it, and a player that reads nothing meanwhile.
    let row = Row::new("R43").memory(12 * MIB).cpu(secs(4));
    let mut publisher = row.peer().publishing("r43");
    let mut feed = Feed::new();
    feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
    publisher.tag(&feed.frame()).set_chunk_size(60_000);
    let player = Peer::open_from(row.bench.rtmp, "127.0.0.1", Some(4_096)).playing("r43");
    let junk = Object::new().with("width", 640.0).with("junk", "x".repeat(50_000).as_str());
    let body = encode_all(&["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(junk)]);
    for n in 0..(64 << 20) / body.len() {
        publisher.message(MessageType::DataAmf0, 1, u32::try_from(n / 50).unwrap(), &body);
    }
    row.tolerated(vec![publisher, player]);
}

#[test]
fn r34_access_units_that_lie_about_their_length() {
    let row = Row::new("R34");
    let mut publisher = row.peer().publishing("r34");
    let mut feed = Feed::of(Source::h264());
    feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
    let frames = feed.millis(400);
    publisher.tag(&frames[0]);
    let mut player = row.peer().playing("r34");
    let lie = [0x27, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x65, 1, 2];
    publisher.video(20, &lie).tag(&frames[1]).video(60, &lie);
    let end = Instant::now() + PATIENCE;
    let mut marks = std::iter::from_fn(|| player.next_tag(end)).filter(|tag| tag.kind == TagKind::Video);
    let marks: Vec<_> = marks.by_ref().filter_map(|tag| tag.mark()).take(2).collect();
    assert_eq!(marks, [0, 1], "what is good comes through, what is not does not");
    for _ in 0..17 {
        publisher.video(80, &lie);
    }
    assert!(publisher.wait_end(secs(1)), "17 in a row are no accident");
    let name = publisher.name();
    drop((publisher, player));
    row.finish(&[("rtmp", "malformed", 1), ("rtmp", "peer_closed", 1)], &[(name, "malformed")]);
}

#[test]
fn r35_enhanced_tags_that_overflow() {
    let chain = [0x97].into_iter().chain([0, 0, 0x07].into_iter().cycle().take(30_000)).collect::<Vec<u8>>();
    let cases: [(&[u8], &str); 4] = [
        (&[0x97, 0xFF, 0xFF, 0xFF, 0xFF], "malformed"),
        (&[0x96, 0x00, b'a', b'v', b'c', b'1'], "malformed"),
        (&chain, "limit(mod_ex)"),
        (b"\x90zzzz\x01\x02\x03", "unsupported"),
    ];
    for (n, (body, reason)) in cases.into_iter().enumerate() {
        let row = Row::new(&format!("R35 {:02x?}", &body[..4]));
        let mut peer = row.peer().publishing(&format!("r35-{n}"));
        for _ in 0..17 {
            peer.video(0, body);
        }
        let codes = row.closed(reason, peer);
        assert!(has(&codes, "NetStream.Publish.Rejected"), "{codes:?}");
    }
}
