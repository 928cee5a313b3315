//! The SRT rows of the catalogue of bad inputs, over real sockets, next to a stream that nothing may disturb.
//!
//! What one session, one listener or one parser decides is also tested in `arcly-srt`, in virtual time and step by step, and
//! what a transport stream can be wrong in (S37) in `arcly-mux`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_srt::wire::{
    Cipher, DataPacket, Extensions, HandshakeKind, KeyFlags, KeyLength, KeyMaterial, KmExtension, Position,
    RejectReason, SocketId,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use support::bench::{Bench, Row};
use support::noise;
use support::peer::PATIENCE;
use support::srt::{ACK, DROP_REQUEST, EXTENSION, NAK, SHUTDOWN, Srt};

/// A peer that sends nothing is gone after five seconds.
const IDLE: Duration = Duration::from_secs(7);

fn addr(row: &Row) -> SocketAddr {
    row.bench.addr("srt")
}

/// A row on a server that has had a publisher over SRT: what the first of them leaves with the allocator is of no row.
fn warm(id: &str) -> Row {
    let row = Row::new(id);
    let reason = ("srt".to_owned(), "peer_closed".to_owned());
    let left = || row.bench.metrics().closed().get(&reason).copied().unwrap_or(0);
    let before = left();
    let mut publisher = Srt::publishing(addr(&row), "warm");
    publisher.media(100);
    publisher.leave();
    assert!(support::eventually(Duration::from_secs(5), || left() > before), "{}", row.log());
    row.again()
}

/// Datagrams that were passed over for this reason.
fn ignored(row: &Row, reason: &str) -> f64 {
    row.bench.metrics().labelled("arcly_srt_ignored_datagrams_total", &format!("reason=\"{reason}\""))
}

/// Waits until so many more datagrams than before were passed over for this reason.
#[track_caller]
fn passed_over(row: &Row, reason: &str, before: f64, count: f64) {
    let mut now = 0.0;
    let enough = support::eventually(Duration::from_secs(2), || {
        now = ignored(row, reason) - before;
        now >= count
    });
    assert!(enough, "{reason}: {now} of {count}");
}

/// The caller has been refused for this reason.
#[track_caller]
fn refused(row: Row, reason: &str, caller: &Srt) {
    row.finish(&[("srt", reason, 1)], &[(caller.name(), reason)]);
}

/// The publisher's stream still comes in, and the publisher goes by itself.
#[track_caller]
fn goes_on(row: Row, mut publisher: Srt, name: &str) {
    let asked = comes_in(&row, &mut publisher, name);
    publisher.leave();
    row.finish(&[("srt", "peer_closed", 1), ("http", "peer_closed", asked)], &[]);
}

/// Sends until the stream has more frames than it had; returns how often the server was asked.
#[track_caller]
fn comes_in(row: &Row, publisher: &mut Srt, name: &str) -> u64 {
    let mut asked = 0;
    let mut frames = || {
        asked += 1;
        let stream = support::http::get(row.bench.http, &format!("/api/v1/streams/live/{name}"));
        let body: serde_json::Value = serde_json::from_str(&stream.body).unwrap();
        body["frames_in"].as_u64().unwrap_or(0)
    };
    let before = frames();
    let more = support::eventually(Duration::from_secs(5), || {
        publisher.media(20);
        frames() > before + 10
    });
    assert!(more, "nothing comes any more:\n{}", row.log());
    asked
}

// Before there is a connection.

#[test]
fn s01_datagrams_that_are_too_short() {
    let row = warm("S01");
    let (caller, before) = (Srt::open(addr(&row)), ignored(&row, "short"));
    (1..16).for_each(|len| _ = caller.send(&vec![0x80; len]));
    passed_over(&row, "short", before, 15.0);
    caller.hears_nothing();
    row.finish(&[], &[]);
}

#[test]
fn s02_s03_inductions_are_answered_with_no_more_than_they_are_or_not_at_all() {
    let row = warm("S02-S03");
    let caller = Srt::open(addr(&row));
    let induction = caller.encoded(caller.handshake(HandshakeKind::Induction));
    caller.send(&induction);
    let answer = caller.receive(Duration::from_secs(2)).expect("an answer");
    assert!(induction.len() == 64 && answer.len() <= induction.len(), "{} bytes", answer.len());
    caller.hears_nothing();
    caller.send(&induction[..36]);
    caller.hears_nothing();
    row.finish(&[], &[]);
}

#[test]
fn s04_s05_conclusions_without_their_cookie() {
    let row = warm("S04-S05");
    let (caller, before) = (Srt::open(addr(&row)), ignored(&row, "cookie"));
    let mut conclusion = caller.handshake(HandshakeKind::Conclusion);
    conclusion.set_extensions(&caller.extensions("publish:live/s04"));
    for cookie in [0xDEAD_BEEF, 0] {
        conclusion.cookie = cookie;
        caller.send(&caller.encoded(conclusion.clone()));
    }
    passed_over(&row, "cookie", before, 2.0);
    caller.hears_nothing();
    row.finish(&[], &[]);
}

#[test]
fn s06_s07_s15_extensions_that_lie() {
    let long_key = [&[0, 3, 0x01, 0x45][..], &[0x5A; 1_300]].concat();
    let cases: [(&str, Vec<u8>); 4] = [
        ("S06", vec![0, 1, 0xFF, 0xFF, 0, 1, 5, 1]),
        ("S07", vec![0, 1, 0, 0]),
        ("S07", Vec::new()),
        ("S15", long_key),
    ];
    for (id, extensions) in cases {
        let row = warm(id);
        let mut caller = Srt::open(addr(&row));
        let mut conclusion = caller.conclusion(&caller.extensions("publish:live/s06"));
        conclusion.extensions = Bytes::from(extensions);
        let told = caller.conclude(conclusion).expect_err("refused");
        assert!(
            matches!(told, RejectReason::ROGUE | RejectReason::UNSECURE | RejectReason::BAD_SECRET),
            "{told}"
        );
        refused(row, "malformed", &caller);
    }
}

/// A stream id as it is on the wire: words of four bytes, each the other way round.
fn stream_id_extension(id: &[u8]) -> Bytes {
    let mut words = id.to_vec();
    words.resize(id.len().next_multiple_of(4), 0);
    let mut out = BytesMut::new();
    out.put_u16(5);
    out.put_u16(u16::try_from(words.len() / 4).unwrap());
    words.chunks(4).for_each(|word| out.extend(word.iter().rev()));
    out.freeze()
}

#[test]
fn s08_s09_stream_ids_that_are_too_much_or_nothing() {
    let keys = format!("#!::{}", "a=1,".repeat(100));
    let cases: [(&str, Vec<u8>, RejectReason, &str); 9] = [
        ("S08", vec![b'x'; 1_320], RejectReason::BAD_REQUEST, "limit(streamid)"),
        ("S08", vec![b'x'; 513], RejectReason::BAD_REQUEST, "limit(streamid)"),
        ("S08", b"publish:live/\xFF\xFE".to_vec(), RejectReason::ROGUE, "malformed"),
        ("S08", b"publish:live/a\0b".to_vec(), RejectReason::ROGUE, "malformed"),
        ("S08", keys.into(), RejectReason::BAD_REQUEST, "malformed"),
        ("S08", b"#!::m=publish,r=../../x".to_vec(), RejectReason::FORBIDDEN, "forbidden"),
        ("S08", b"publish:live//a".to_vec(), RejectReason::FORBIDDEN, "forbidden"),
        ("S08", b"#!::m=bidirectional,r=live/a".to_vec(), RejectReason::BAD_MODE, "forbidden"),
        ("S09", Vec::new(), RejectReason::UNAUTHORIZED, "unauthorized"),
    ];
    for (id, name, expect, reason) in cases {
        let row = warm(id);
        let shown = String::from_utf8_lossy(&name).into_owned();
        let mut caller = Srt::open(addr(&row));
        let mut conclusion = caller.conclusion(&caller.extensions("x"));
        let without = Extensions { stream_id: None, ..caller.extensions("") }.encode();
        conclusion.extensions = match name.is_empty() {
            true => without,
            false => [without, stream_id_extension(&name)].concat().into(),
        };
        let told = caller.conclude(conclusion).map(|_| ());
        assert_eq!(told, Err(expect), "{shown:.40}");
        refused(row, reason, &caller);
    }
}

#[test]
fn s10_s11_a_packet_size_that_holds_nothing() {
    for mtu in [0, 31] {
        let row = warm("S10-S11");
        let mut caller = Srt::open(addr(&row));
        let mut conclusion = caller.conclusion(&caller.extensions("publish:live/s10"));
        conclusion.mtu = mtu;
        assert_eq!(caller.conclude(conclusion).map(|_| ()), Err(RejectReason::ROGUE));
        refused(row, "malformed", &caller);
    }
}

#[test]
fn s14_a_latency_of_a_minute() {
    let row = warm("S14");
    let mut caller = Srt::open(addr(&row));
    let mut extensions = caller.extensions("publish:live/s14");
    let hs = extensions.hs.as_mut().unwrap();
    (hs.receiver_delay_ms, hs.sender_delay_ms) = (65_535, 65_535);
    let answer = caller.conclude(caller.conclusion(&extensions)).expect("a connection");
    let hs = answer.decode_extensions().unwrap().hs.expect("what holds");
    assert_eq!((hs.receiver_delay_ms, hs.sender_delay_ms), (8_000, 8_000));
    caller.leave();
    row.finish(&[("srt", "peer_closed", 1)], &[]);
}

#[test]
fn s16_to_s18_who_does_not_call_is_not_answered() {
    let row = warm("S16-S18");
    let (caller, before) = (Srt::open(addr(&row)), ignored(&row, "no_handshake"));
    caller.send(&caller.encoded(caller.handshake(HandshakeKind::WaveAHand)));
    for kind in [ACK, NAK, SHUTDOWN, DROP_REQUEST, EXTENSION] {
        caller.send(&caller.control_to(SocketId(0x1234_5678), (kind, 0), 7, &[0; 16]));
    }
    let mut data = vec![0; 16];
    data.extend([0x47; 1_316]);
    caller.send(&data);
    passed_over(&row, "no_handshake", before, 5.0);
    caller.hears_nothing();
    row.finish(&[], &[]);
}

#[test]
fn s30_five_thousand_inductions_leave_nothing() {
    let row = warm("S30").memory(3 << 20).cpu(Duration::from_secs(4));
    let at = addr(&row);
    for n in 0..5_000_u32 {
        let caller = Srt::open_from(at, &format!("127.1.{}.{}", n / 250, n % 250 + 1));
        caller.send(&caller.encoded(caller.handshake(HandshakeKind::Induction)));
        if n % 50 == 0 {
            assert!(caller.receive(Duration::from_secs(5)).is_some(), "the {n}th is not answered");
        }
    }
    row.finish(&[], &[]);
}

// Connections.

#[test]
fn s19_to_s23_and_s31_control_packets_that_lie() {
    let word = |n: u32| n.to_be_bytes();
    let range = |first: u32, last: u32| [word(first | 1 << 31), word(last)].concat();
    let row = warm("S19-S31");
    let publisher = Srt::publishing(addr(&row), "s19");
    for list in [range(5_000, 10), range(0, 0x3FFF_FFFF), range(900, 0x7FFF_FFFF), vec![0; 3], Vec::new()] {
        publisher.control(NAK, 0, &list);
    }
    publisher.control(ACK, 1, &word(0x3FFF_FFFF));
    publisher.control(ACK, 2, &[word(0x7FFF_FFFF), [0xFF; 4], [0xFF; 4], [0; 4]].concat());
    publisher.control(ACK, 3, &[1]);
    for bytes in [0, 1, 4, 7] {
        publisher.control(DROP_REQUEST, 1, &vec![0; bytes]);
    }
    let far = publisher.next.0.value() + 100_000;
    for (first, last) in [(0, 0x7FFF_FFFE), (10, 5), (far, far + 10)] {
        publisher.control(DROP_REQUEST, 1, &[word(first), word(last)].concat());
    }
    let extension = |subtype| publisher.control_to(publisher.peer, (EXTENSION, subtype), 0, &[0x5A; 1_352]);
    for subtype in [3, 4, 9] {
        publisher.send(&extension(subtype));
    }
    goes_on(row, publisher, "s19");
}

#[test]
fn s20b_a_thousand_loss_lists_for_everything_at_once() {
    let row = warm("S20b").cpu(Duration::from_secs(2)).memory(16 << 20);
    let reader = Srt::connected(addr(&row), "read:live/witness");
    let (first, mut bytes) = (reader.next.0.value(), 0);
    let list = [(first | 1 << 31).to_be_bytes(), (first + 25_000).to_be_bytes()].concat();
    let end = Instant::now() + Duration::from_secs(1);
    let mut lists = 0;
    while Instant::now() < end {
        if lists < 1_000 {
            reader.control(NAK, 0, &list);
            lists += 1;
        }
        while let Some(datagram) = reader.receive(Duration::from_millis(1)) {
            bytes += datagram.len();
        }
    }
    // The witness is about 2 Mbit/s at the most; its GOP, once, twice over.
    assert!(bytes < 4 << 20, "{bytes} bytes in a second");
    reader.leave();
    row.finish(&[("srt", "peer_closed", 1)], &[]);
}

#[test]
fn s25_s26_messages_that_are_odd() {
    let row = warm("S25-S26");
    let mut publisher = Srt::publishing(addr(&row), "s25");
    for (position, payload) in [
        (Position::First, &[0x47; 188][..]),
        (Position::Middle, &[0x47; 188]),
        (Position::Last, &[0x47; 188]),
        (Position::Only, &[]),
        (Position::Only, &[0x47]),
    ] {
        let header = publisher.header();
        let header = arcly_srt::wire::DataHeader { position, ..header };
        let mut out = BytesMut::new();
        DataPacket { header, payload: Bytes::copy_from_slice(payload) }.encode(&mut out);
        publisher.send(&out);
    }
    goes_on(row, publisher, "s25");
}

#[test]
fn s29_a_good_bye_from_somebody_else() {
    let row = warm("S29");
    let (publisher, stranger) = (Srt::publishing(addr(&row), "s29"), Srt::open(addr(&row)));
    let before = ignored(&row, "source");
    stranger.send(&stranger.control_to(publisher.peer, (SHUTDOWN, 0), 0, &[0; 4]));
    passed_over(&row, "source", before, 1.0);
    stranger.hears_nothing();
    goes_on(row, publisher, "s29");
}

#[test]
fn s32_a_publisher_that_never_says_anything_and_its_name() {
    let row = warm("S32").deadline(IDLE);
    let mut silent = Srt::connected(addr(&row), "publish:live/s32");
    let mut other = Srt::open(addr(&row));
    assert_eq!(other.call("publish:live/s32").map(|_| ()), Err(RejectReason::CONFLICT));
    let name = silent.name().to_string();
    let gone = |line: &str| line.contains(&name) && line.contains("timeout(idle)");
    assert!(support::eventually(IDLE, || row.log().lines().any(gone)), "{}", row.log());
    silent.ended = true;
    Srt::connected(addr(&row), "publish:live/s32").leave();
    row.finish(
        &[("srt", "timeout(idle)", 1), ("srt", "conflict", 1), ("srt", "peer_closed", 1)],
        &[(other.name(), "conflict")],
    );
}

#[test]
fn a_name_is_free_at_once_when_its_publisher_says_good_bye() {
    let row = warm("S32b").memory(8 << 20);
    for _ in 0..5 {
        Srt::publishing(addr(&row), "bye").leave();
        // The good-bye is before what comes next on the same socket of the server.
        let next = Srt::connected(addr(&row), "publish:live/bye");
        next.leave();
    }
    row.finish(&[("srt", "peer_closed", 10)], &[]);
}

#[test]
fn s33_data_that_says_it_is_encrypted_on_a_connection_that_is_not() {
    let row = warm("S33");
    let mut publisher = Srt::publishing(addr(&row), "s33");
    for bits in 1..4_u8 {
        let mut out = BytesMut::new();
        DataPacket { header: publisher.header(), payload: Bytes::from_static(&[0x47; 188]) }.encode(&mut out);
        // KK is the fourth and fifth bit of the message number's word.
        out[4] |= bits << 3;
        publisher.send(&out);
    }
    goes_on(row, publisher, "s33");
}

/// Keys that nobody can unwrap, each of which costs as many hashes as any other.
fn wrong_keys(seed: u64) -> KeyMaterial {
    let mut random = noise(seed);
    let salt = std::array::from_fn(|_| random.next().unwrap());
    let wrapped: Vec<u8> = random.take(24).collect();
    KeyMaterial::new(Cipher::Ctr, KeyFlags::Even, salt, KeyLength::Aes128, &wrapped)
}

/// A burst of callers with wrong passphrases, whom finding that out costs thousands of hashes each: one who publishes is not
/// held up, and one who comes in the middle of it gets in.
#[test]
fn s33_a_burst_of_wrong_passphrases_holds_nobody_up() {
    let config = "[[srt.passphrases]]\nstreams = 'secret/*'\npassphrase = 'correct horse battery'\n";
    let bench = Arc::new(Bench::start(&["--srt", "127.0.0.1:0"], config));
    let row = Row::on(&bench, "S33b").memory(8 << 20).kept(4 << 20).cpu(Duration::from_secs(20));
    let at = addr(&row);
    let mut callers = Vec::new();
    for n in 0..400_u32 {
        let caller = Srt::open_from(at, &format!("127.2.{}.1", n % 50));
        let extensions = Extensions {
            km: Some(KmExtension::Request(wrong_keys(n.into()))),
            ..caller.extensions("publish:secret/cam")
        };
        let conclusion = caller.conclusion(&extensions);
        callers.push((caller.encoded(conclusion), caller));
    }
    let mut publisher = Srt::publishing(at, "s33b");
    for some in callers.chunks(40) {
        some.iter().for_each(|(conclusion, caller)| _ = caller.send(conclusion));
        // Answered at once, and behind them in the server's socket, which has room for so many whatever the system.
        Srt::open(at).cookie();
    }
    // In the middle of it.
    let began = Instant::now();
    let next = Srt::connected(at, "publish:live/next");
    let waited = began.elapsed();
    publisher.media(50);
    for (n, (_, caller)) in callers.iter().enumerate() {
        let mut told = None;
        // They are not answered in their order: one may have to wait for all the others.
        support::eventually(Duration::from_secs(60), || {
            publisher.keep_alive();
            next.keep_alive();
            told = caller.answer_within(Duration::from_millis(500)).map(|answer| answer.kind);
            told.is_some()
        });
        assert_eq!(
            told,
            Some(HandshakeKind::Rejected(RejectReason::BAD_SECRET)),
            "the {n}th:\n{}",
            row.log()
        );
    }
    eprintln!("S33b: a caller in the clear waited {waited:?}, all were refused after {:?}", began.elapsed());
    next.leave();
    publisher.leave();
    row.finish(&[("srt", "unauthorized", 400), ("srt", "peer_closed", 2)], &[]);
}

/// Six seconds and more, of fifteen: as many datagrams as an encoder of 4 Mbit/s sends in those.
#[test]
fn s34_one_datagram_in_a_hundred_has_a_bit_changed() {
    let row = warm("S34").memory(16 << 20).kept(8 << 20).cpu(Duration::from_secs(4));
    let mut publisher = Srt::publishing(addr(&row), "s34");
    publisher.flip(Some(34));
    for _ in 0..15 {
        publisher.media(400);
        if publisher.wait_end(Duration::from_millis(1)) {
            publisher = Srt::connected(addr(&row), "publish:live/s34");
            publisher.flip(Some(35));
        }
    }
    publisher.flip(None);
    let frames = || {
        let stream = support::http::get(row.bench.http, "/api/v1/streams/live/s34");
        let body: serde_json::Value = serde_json::from_str(&stream.body).unwrap_or_default();
        body["frames_in"].as_u64().unwrap_or(0)
    };
    let mut before = frames();
    let more = support::eventually(PATIENCE, || {
        // What was flipped last may still end it.
        if publisher.wait_end(Duration::from_millis(1)) {
            publisher = Srt::connected(addr(&row), "publish:live/s34");
            before = 0;
        }
        publisher.media(20);
        frames() > before + 10
    });
    assert!(more, "nothing comes any more:\n{}", row.log());
    row.undisturbed(publisher);
}

#[test]
fn s35_a_conclusion_a_hundred_times_and_once_more_after_the_end() {
    let row = warm("S35");
    let before = ignored(&row, "repeated");
    let mut publisher = Srt::open(addr(&row));
    let conclusion = publisher.conclusion(&publisher.extensions("publish:live/s35"));
    let encoded = publisher.encoded(conclusion.clone());
    publisher.conclude(conclusion).expect("a connection");
    (0..100).for_each(|_| _ = publisher.send(&encoded));
    let asked = comes_in(&row, &mut publisher, "s35");
    let socket = publisher.socket.try_clone().unwrap();
    publisher.leave();
    while socket.recv(&mut [0; 2_048]).is_ok() {}
    socket.send(&encoded).unwrap();
    passed_over(&row, "repeated", before, 1.0);
    row.finish(&[("srt", "peer_closed", 1), ("http", "peer_closed", asked)], &[]);
}

#[test]
fn s36_a_second_publisher_is_told_of_the_first() {
    let row = warm("S36");
    let mut publisher = Srt::publishing(addr(&row), "s36");
    let mut second = Srt::open(addr(&row));
    publisher.media(5);
    assert_eq!(second.call("#!::m=publish,r=live/s36").map(|_| ()), Err(RejectReason::CONFLICT));
    let name = second.name();
    publisher.media(20);
    publisher.leave();
    row.finish(&[("srt", "conflict", 1), ("srt", "peer_closed", 1)], &[(name, "conflict")]);
}

#[test]
fn s37_what_is_no_transport_stream() {
    let row = warm("S37").memory(6 << 20).cpu(Duration::from_secs(1));
    let mut publisher = Srt::connected(addr(&row), "publish:live/s37");
    for n in 0..1_000_u64 {
        let payload: Vec<u8> = noise(n + 1).map(|byte| byte & 0x3F).take(1_316).collect();
        publisher.paced(&payload);
        if n % 4 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(publisher.wait_end(Duration::from_secs(3)), "not closed:\n{}", row.log());
    let name = publisher.name();
    row.finish(&[("srt", "malformed", 1)], &[(name, "malformed")]);
}

#[test]
fn sixty_five_strangers_from_one_address_are_one_too_many() {
    let config = "[apps.slow]\nwait_for_stream = '60s'\n";
    let bench = Arc::new(Bench::start(&["--srt", "127.0.0.1:0"], config));
    let row = Row::on(&bench, "strangers").memory(8 << 20).kept(4 << 20);
    let at = addr(&row);
    // Who waits for a stream that is not there is not authorised yet.
    let mut waiting: Vec<Srt> = (0..64).map(|_| Srt::open(at)).collect();
    for caller in &waiting {
        let conclusion = caller.conclusion(&caller.extensions("read:slow/none"));
        caller.send(&caller.encoded(conclusion));
    }
    let mut last = Srt::open(at);
    assert_eq!(last.call("read:live/witness").map(|_| ()), Err(RejectReason::OVERLOAD));
    let mut elsewhere = Srt::open_from(at, "127.0.0.7");
    assert_eq!(elsewhere.call("read:live/none").map(|_| ()), Err(RejectReason::NOT_FOUND));
    for caller in &mut waiting {
        caller.peer = caller.answer().expect("connected while it waits").socket_id;
    }
    waiting.into_iter().for_each(Srt::leave);
    row.finish(
        &[("srt", "overloaded", 1), ("srt", "not_found", 1), ("srt", "peer_closed", 64)],
        &[(last.name(), "overloaded")],
    );
}
