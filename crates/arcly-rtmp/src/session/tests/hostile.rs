//! The rows of bad-inputs.md that one session decides, by their ids, with the time as an argument; and what real
//! encoders send beyond the specification.

use CloseReason::{Forbidden, Limit, Malformed, NotFound, Timeout};
use arcly_core::Phase;

use super::*;

#[test]
fn r01_r02_no_rtmp_at_all() {
    for bytes in [&[0x50; 1][..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x06"] {
        let mut bench = Bench::new();
        bench.send(bytes).expect_closed(Malformed);
        assert!(bench.raw.is_empty(), "nothing is sent back");
    }
}

#[test]
fn r03_r04_r05_the_setup_has_ten_seconds_in_all() {
    let handshaken = |bench: &mut Bench| bench.handshake();
    let connected = |bench: &mut Bench| {
        bench.handshake();
        bench.connect(Connect { app: "live".into(), ..Connect::default() });
    };
    let cases: &[(&str, &dyn Fn(&mut Bench), Phase)] = &[
        ("R04 nothing", &|_| {}, Phase::Handshake),
        ("R03 part of C1", &|bench| _ = bench.send(&[&[3][..], &[0; 100]].concat()), Phase::Handshake),
        ("R05 C0 and C1", &|bench| _ = bench.send(&[&[3][..], &[0; 1_536]].concat()), Phase::Handshake),
        ("R05 never connect", &handshaken, Phase::Command),
        ("R05 never publish", &connected, Phase::Command),
    ];
    for (name, act, phase) in cases {
        let mut bench = Bench::new();
        bench.pass(secs(4.0));
        act(&mut bench);
        bench.pass(secs(5.999)).expect_open();
        bench.pass(secs(0.001));
        assert_eq!(bench.error, Some(SessionError::Timeout(*phase)), "{name}");
        bench.expect_closed(Timeout(*phase));
    }
}

#[test]
fn r05b_a_trickle_does_not_extend_the_setup() {
    let mut bench = Bench::new();
    bench.send(&[3]);
    for _ in 0..9 {
        bench.pass(secs(1.0)).send(&[0]).expect_open();
    }
    bench.pass(secs(1.0)).expect_closed(Timeout(Phase::Handshake));
}

#[test]
fn a_request_that_nobody_answers_runs_into_the_same_deadline() {
    let mut bench = Bench::created();
    bench.request(1, PUBLISH("cam")).pass(secs(10.0)).expect_closed(Timeout(Phase::Command));
    let mut bench = Bench::created();
    bench.request(1, PLAY("cam"));
    let stream = bench.events[0].stream();
    bench.server.hold(bench.now, stream);
    bench.pass(secs(29.0)).expect_open();
    assert!(!bench.server.is_unauthorized());
}

#[test]
fn r06_r08_chunk_sizes_that_are_none() {
    for size in [0_u32, 0x8000_1000] {
        let mut bench = Bench::handshaken();
        bench.message(MessageType::SetChunkSize, 0, &size.to_be_bytes()).expect_closed(Malformed);
    }
}

#[test]
fn r09_tiny_chunks_cost_their_sender() {
    let mut bench = Bench::publishing();
    bench.control(ControlMessage::SetChunkSize(1));
    let mut wire = BytesMut::new();
    let header =
        MessageHeader { csid: ChunkStreamId::VIDEO, timestamp: 0, kind: MessageType::Video, stream_id: 1 };
    encode_message(&mut wire, &header, &[&vec![0x17; 1 << 20]], 1);
    for piece in wire.chunks(64 << 10) {
        bench.send(piece);
        if bench.error.is_some() {
            break;
        }
    }
    bench.expect_closed(Limit("chunk_work"));

    // The same work spread over minutes is harmless, and so are chunks of the default size at any rate.
    let mut bench = Bench::publishing();
    bench.control(ControlMessage::SetChunkSize(1));
    for piece in wire[..200_000].chunks(1_000) {
        bench.pass(secs(1.0)).send(piece);
    }
    bench.expect_open();
    let mut bench = Bench::publishing();
    for _ in 0..200 {
        bench.message(MessageType::Video, 1, &[0x17; 20_000]);
    }
    bench.expect_open();
    assert_eq!(bench.events.len(), 201);
}

#[test]
fn r10_r14_messages_that_are_too_long() {
    let wire = [&[4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 0, 0, 0, 0][..], &[0; 128]].concat();
    Bench::connected().send(&wire).expect_closed(Limit("message_size"));
    let mut deep = Invoke::new("connect", 1.0, vec![]).encode();
    deep.truncate(19);
    deep.extend([3, 0, 1, b'a'].repeat(70_000));
    Bench::handshaken().message(MessageType::CommandAmf0, 0, &deep).expect_closed(Limit("message_size"));
    deep.truncate(60 << 10);
    Bench::handshaken().message(MessageType::CommandAmf0, 0, &deep).expect_closed(Limit("amf_depth"));
}

#[test]
fn r12_r13_first_chunks_without_a_full_header() {
    for first in [0xC7_u8, 0x47, 0x87] {
        Bench::connected().send(&[first, 0, 0, 0, 0, 0, 1, 9]).expect_closed(Malformed);
    }
}

#[test]
fn r15_to_r18_amf_that_lies_about_its_length() {
    let strict_array = [&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0][..], &[0; 8]].concat();
    let tails: [&[u8]; 4] = [
        &strict_array,
        &[0x08, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x0C, 0xFF, 0xFF, 0xFF, 0xFF, b'a'],
        &[0x02, 0xFF, 0xFF, b'a'],
    ];
    for tail in tails {
        let body = [&Invoke::new("connect", 1.0, vec![]).encode()[..], tail].concat();
        Bench::handshaken().message(MessageType::CommandAmf0, 0, &body).expect_closed(Malformed);
    }
}

#[test]
fn r21_r22_commands_out_of_order() {
    let out_of_order: &[(fn() -> Bench, u32, Request)] = &[
        (Bench::handshaken, 0, PUBLISH("cam")),
        (Bench::handshaken, 0, Request::CreateStream),
        (Bench::connected, 1, PUBLISH("cam")),
        (Bench::connected, 0, PLAY("cam")),
        (Bench::created, 2, PUBLISH("cam")),
        (Bench::connected, 0, Request::Connect(Box::default())),
        (Bench::publishing, 1, PUBLISH("cam")),
        (Bench::publishing, 1, PLAY("cam")),
        (Bench::playing, 1, PUBLISH("cam")),
    ];
    for (state, stream, request) in out_of_order {
        let mut bench = state();
        bench.request(*stream, request.clone());
        assert!(
            matches!(bench.error, Some(SessionError::Unexpected { .. })),
            "{request:?}: {:?}",
            bench.error
        );
        bench.expect_closed(Malformed);
    }
    Bench::handshaken().message(MessageType::Video, 1, VIDEO).expect_closed(Malformed);
}

#[test]
fn r24_to_r27_names() {
    let long = "x".repeat(65_000);
    let deep = "a/".repeat(255) + "a";
    let cases: &[(&str, CloseReason)] = &[
        (&long, Limit("name")),
        ("", Malformed),
        ("../../../tmp/pwn", Forbidden),
        ("/etc/x", Forbidden),
        ("a/./b", Forbidden),
        ("a//b", Forbidden),
        ("a\\..\\b", Forbidden),
        ("%2e%2e/x", Forbidden),
        (".", Forbidden),
        (&"a/".repeat(20), Forbidden),
        ("a\0b", Malformed),
        ("a\r\nb", Malformed),
        ("a\u{202E}b", Malformed),
    ];
    for (name, reason) in cases {
        let mut bench = Bench::created();
        bench.request(1, PUBLISH(name)).expect_closed(*reason);
        assert!(bench.codes().contains(&"NetStream.Publish.BadName".to_owned()));
        assert!(bench.events.is_empty(), "nobody hears of {name:?}");
        let mut bench = Bench::created();
        bench.request(1, PLAY(name)).expect_closed(*reason);
        assert!(bench.codes().contains(&"NetStream.Play.Failed".to_owned()));
    }
    // 511 bytes of segments are over the length before they are over the depth.
    Bench::created().request(1, PUBLISH(&deep)).expect_closed(Limit("name"));
    // Bytes that are not UTF-8.
    let mut bench = Bench::created();
    let mut body = PUBLISH("abcd").encode(5.0).encode();
    let at = body.windows(4).position(|w| w == b"abcd").unwrap();
    body[at..at + 4].copy_from_slice(&[b'a', 0xFF, 0xFE, b'b']);
    bench.message(MessageType::CommandAmf0, 1, &body).expect_closed(Malformed);
}

#[test]
fn r28_r29_acknowledgement_windows() {
    let acks = |bench: &Bench| {
        bench.controls().iter().filter(|c| matches!(c, ControlMessage::Acknowledgement(_))).count()
    };
    let send_20k = |bench: &mut Bench| {
        for _ in 0..20 {
            bench.pass(secs(0.001)).message(MessageType::Video, 1, &[0x17; 1_000]);
        }
    };
    let mut bench = Bench::publishing();
    bench.control(ControlMessage::WindowAckSize(0));
    send_20k(&mut bench);
    assert_eq!(acks(&bench), 0, "0 is ignored");
    let mut bench = Bench::publishing();
    bench.control(ControlMessage::WindowAckSize(1));
    send_20k(&mut bench);
    assert!((1..=2).contains(&acks(&bench)), "one in 10 ms, not one a message: {}", acks(&bench));
    let mut bench = Bench::publishing();
    bench.control(ControlMessage::WindowAckSize(5_000));
    for _ in 0..10 {
        bench.pass(secs(0.02)).message(MessageType::Video, 1, &[0x17; 1_000]);
    }
    assert_eq!(acks(&bench), 2, "every 5 000 bytes of 13 600, counting the handshake");
    let last = bench.controls().into_iter().rev().find(|c| matches!(c, ControlMessage::Acknowledgement(_)));
    let ControlMessage::Acknowledgement(sequence) = last.unwrap() else { unreachable!() };
    assert!(u64::from(sequence) <= bench.server.received_bytes() && sequence > 10_000);
}

#[test]
fn r30_r31_control_messages_that_are_too_short() {
    let kinds = [
        MessageType::SetChunkSize,
        MessageType::Abort,
        MessageType::Acknowledgement,
        MessageType::UserControl,
        MessageType::WindowAckSize,
        MessageType::SetPeerBandwidth,
    ];
    for kind in kinds {
        for len in 0..=2 {
            Bench::connected().message(kind, 0, &vec![0; len]).expect_closed(Malformed);
        }
    }
    Bench::connected().message(MessageType::UserControl, 0, &[0, 3, 0, 0, 0, 1, 0]).expect_closed(Malformed);
    for (kind, body) in [
        (MessageType::SetPeerBandwidth, &[0, 0, 0x10, 0, 9][..]),
        (MessageType::Abort, &[0, 0, 0, 77]),
        (MessageType::UserControl, &[0, 99]),
        (MessageType::Acknowledgement, &[0xFF; 4]),
    ] {
        Bench::connected().message(kind, 0, body).expect_open();
    }
}

#[test]
fn r32_media_messages_that_carry_nothing() {
    let mut bench = Bench::publishing();
    let before = bench.events.len();
    for len in [0, 1, 2].into_iter().cycle().take(16) {
        bench.message(MessageType::Audio, 1, &vec![0xAF; len]).expect_open();
    }
    assert_eq!(bench.events.len(), before);
    bench.message(MessageType::Video, 1, VIDEO).expect_open();
    for _ in 0..16 {
        bench.message(MessageType::Video, 1, &[0x17]).expect_open();
    }
    bench.message(MessageType::Video, 1, &[]).expect_closed(Malformed);
}

#[test]
fn media_on_a_stream_that_nobody_publishes_is_bad_too() {
    let mut bench = Bench::playing();
    for _ in 0..16 {
        bench
            .message(MessageType::Video, 1, VIDEO)
            .message(MessageType::Acknowledgement, 0, &[0; 4])
            .expect_open();
    }
    bench.message(MessageType::Video, 9, VIDEO).expect_closed(Malformed);
}

#[test]
fn r36_aggregates() {
    let sub = |kind: u8, time: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).unwrap();
        [&[kind, 0, 0, length, 0, 0, time, 0, 0, 0, 0][..], body, &[0; 4]].concat()
    };
    let mut bench = Bench::publishing();
    let body = [sub(9, 10, VIDEO), sub(8, 30, &[0xAF, 1, 0x21])].concat();
    bench.message_at(MessageType::Aggregate, 1, 1_000, &body).expect_open();
    let times: Vec<_> = bench.events.iter().filter_map(tag).map(|tag| (tag.kind, tag.timestamp)).collect();
    assert_eq!(times, [(TrackKind::Video, 1_000), (TrackKind::Audio, 1_020)]);
    bench.message(MessageType::Aggregate, 1, &sub(22, 0, &sub(9, 0, VIDEO))).expect_closed(Malformed);
    let lie = [&[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0][..], VIDEO].concat();
    Bench::publishing().message(MessageType::Aggregate, 1, &lie).expect_closed(Malformed);
}

fn tag(event: &ServerEvent) -> Option<&Tag> {
    match event {
        ServerEvent::Tag { tag, .. } => Some(tag),
        _ => None,
    }
}

#[test]
fn r37_timestamps_at_every_edge_arrive_as_they_are() {
    let times = [0xFFFF_FFF0, 0x10, 0x00FF_FFFF, 0x00FF_FFFE, 0];
    let mut bench = Bench::publishing();
    for time in times {
        bench.message_at(MessageType::Video, 1, time, VIDEO).expect_open();
    }
    assert_eq!(bench.events.iter().filter_map(tag).map(|tag| tag.timestamp).collect::<Vec<_>>(), times);
}

#[test]
fn r39_noise_after_the_handshake() {
    for seed in 0..100 {
        let mut state = 7_u64.wrapping_add(seed) << 32 | 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[2]
        });
        let noise: Vec<u8> = noise.take(200_000).collect();
        let mut bench = Bench::handshaken();
        for piece in noise.chunks(4_096) {
            if bench.error.is_none() {
                bench.send(piece);
            }
        }
        let reason = bench.server.closed().expect("noise does not last");
        assert!(matches!(reason, Malformed | Limit(_)), "{seed}: {reason}");
    }
}

#[test]
fn r41_r46_refusals_name_their_reason_to_the_client() {
    let cases: &[(Request, CloseReason, &str)] = &[
        (PUBLISH("cam"), CloseReason::Conflict, "NetStream.Publish.BadName"),
        (PUBLISH("cam"), CloseReason::Unauthorized, "NetStream.Publish.Rejected"),
        (PUBLISH("cam"), CloseReason::Unsupported, "NetStream.Publish.Rejected"),
        (PLAY("cam"), NotFound, "NetStream.Play.StreamNotFound"),
        (PLAY("cam"), CloseReason::Overloaded, "NetStream.Play.Failed"),
    ];
    for (request, reason, code) in cases {
        let mut bench = Bench::created();
        bench.request(1, request.clone());
        let stream = bench.events[0].stream();
        bench.server.reject(stream, *reason, "live/cam: no");
        bench.drain();
        assert_eq!(bench.server.closed(), Some(*reason));
        assert!(bench.codes().contains(&(*code).to_owned()), "{:?}", bench.codes());
        // What comes after is not looked at.
        bench.message(MessageType::Video, 1, VIDEO);
        assert_eq!((bench.error.as_ref(), bench.events.len()), (None, 1));
    }
}

#[test]
fn a_refused_stream_leaves_an_active_one_alone() {
    let mut bench = Bench::publishing();
    bench.request(0, Request::CreateStream).request(2, PLAY("nothing"));
    let stream = bench.events.last().unwrap().stream();
    assert_eq!(stream.get(), 2);
    bench.server.reject(stream, NotFound, "no such stream");
    bench.drain();
    bench.message(MessageType::Video, 1, VIDEO).expect_open();
    assert!(matches!(bench.events.last(), Some(ServerEvent::Tag { .. })));
}

#[test]
fn r42_a_peer_that_does_not_read() {
    let mut bench = Bench::publishing();
    bench.server.handle_backlog(bench.now, 100, true).unwrap();
    for _ in 0..4 {
        bench.pass(secs(1.0)).message(MessageType::Video, 1, VIDEO).expect_open();
        bench.server.handle_backlog(bench.now, 100, false).unwrap();
    }
    assert_eq!(bench.events.iter().filter_map(tag).count(), 4, "media counts until then");
    bench.pass(secs(1.0)).expect_closed(CloseReason::SlowConsumer);

    // Silent as well as stuck.
    let mut bench = Bench::publishing();
    bench.pass(secs(6.0));
    bench.server.handle_backlog(bench.now, 100, false).unwrap();
    bench.pass(secs(4.0)).expect_closed(CloseReason::SlowConsumer);

    // Any progress starts the time anew; so does an empty backlog.
    let mut bench = Bench::playing();
    for _ in 0..4 {
        bench.server.handle_backlog(bench.now, 100, true).unwrap();
        bench.pass(secs(9.0)).message(MessageType::Acknowledgement, 0, &[0; 4]);
    }
    bench.server.handle_backlog(bench.now, 0, true).unwrap();
    bench.pass(secs(20.0)).expect_open();
    let error = bench.server.handle_backlog(bench.now, (256 << 10) + 1, true);
    assert_eq!(error, Err(SessionError::SlowConsumer));
}

#[test]
fn f54_silence_ends_within_15_seconds() {
    // A publisher that says nothing, although it is asked.
    let mut bench = Bench::publishing();
    bench.pass(secs(9.9)).expect_open();
    let is_ping =
        |c: &ControlMessage| matches!(c, ControlMessage::User(crate::wire::UserControl::PingRequest(_)));
    assert!(bench.controls().iter().any(is_ping));
    bench.pass(secs(5.1)).expect_closed(Timeout(Phase::Idle));

    // A player that says nothing and takes nothing; one that takes what it is sent may be silent for longer.
    let mut bench = Bench::playing();
    bench.pass(secs(15.0)).expect_open();
    bench.server.handle_backlog(bench.now, 100, false).unwrap();
    bench.pass(secs(9.9)).expect_open();
    bench.pass(secs(5.1)).expect_closed(CloseReason::SlowConsumer);
}

#[test]
fn r47_floods_of_courtesies() {
    let requests = [
        Request::FcPublish("cam".into()),
        Request::ReleaseStream("cam".into()),
        Request::CheckBandwidth,
        Request::GetStreamLength("cam".into()),
        Request::Other("whatever".into()),
    ];
    let mut bench = Bench::publishing();
    let sent = 3;
    for request in requests.iter().cycle().take(1_000 - sent) {
        bench.request(0, request.clone()).expect_open();
    }
    bench.request(0, Request::CheckBandwidth).expect_closed(Limit("commands"));
    let mut bench = Bench::publishing();
    for request in requests.iter().cycle().take(2_000) {
        bench.pass(secs(0.0101)).request(0, request.clone()).message(MessageType::Video, 1, VIDEO);
    }
    bench.expect_open();
    let mut bench = Bench::publishing();
    for _ in 0..1_001 {
        bench.control(ControlMessage::User(crate::wire::UserControl::PingRequest(1)));
    }
    bench.expect_closed(Limit("commands"));
}

#[test]
fn streams_are_limited_and_their_ids_used_again() {
    let mut bench = Bench::connected();
    for _ in 0..16 {
        bench.request(0, Request::CreateStream).expect_open();
    }
    bench.request(0, Request::DeleteStream(3)).request(0, Request::CreateStream).expect_open();
    let last = Response::decode(bench.commands().last().unwrap());
    assert!(matches!(last, Response::Result { value, .. } if value.as_number() == Some(3.0)));
    bench.request(0, Request::CreateStream).expect_closed(Limit("streams"));
}

#[test]
fn f04_silence_is_answered_with_a_ping_and_then_with_the_end() {
    let pings = |bench: &Bench| {
        let ping =
            |c: &&ControlMessage| matches!(c, ControlMessage::User(crate::wire::UserControl::PingRequest(_)));
        bench.controls().iter().filter(ping).count()
    };
    let mut bench = Bench::publishing();
    bench.pass(secs(4.9));
    assert_eq!(pings(&bench), 0);
    bench.pass(secs(0.1));
    assert_eq!(pings(&bench), 1);
    // An answer counts as much as media.
    bench
        .control(ControlMessage::User(crate::wire::UserControl::PingResponse(0)))
        .pass(secs(9.9))
        .expect_open();
    assert_eq!(pings(&bench), 2);
    bench.pass(secs(0.1)).expect_closed(Timeout(Phase::Idle));

    let mut bench = Bench::playing();
    bench.pass(secs(59.0)).expect_open();
    assert_eq!(pings(&bench), 1);
    bench.pass(secs(1.0)).expect_closed(Timeout(Phase::Idle));
}

#[test]
fn a_connection_without_a_stream_does_not_last() {
    let mut bench = Bench::publishing();
    bench.request(1, Request::CloseStream).expect_open();
    assert!(matches!(bench.events.last(), Some(ServerEvent::Stopped { .. })));
    for _ in 0..6 {
        bench.pass(secs(9.9)).request(0, Request::CheckBandwidth).expect_open();
    }
    bench.pass(secs(0.6)).expect_closed(Timeout(Phase::Command));
}

#[test]
fn metadata_comes_without_its_envelope() {
    use arcly_codec::amf0::{Object, Value, encode_all};
    let meta = [Value::from("onMetaData"), Value::EcmaArray(Object::new().with("width", 640.0))];
    let bare = encode_all(&meta);
    let set = [&encode_all(&["@setDataFrame".into()])[..], &bare].concat();
    let amf3 = [&[0][..], &set].concat();
    let clear = encode_all(&["@clearDataFrame".into(), "onMetaData".into()]);
    let mut bench = Bench::publishing();
    bench.message(MessageType::DataAmf0, 1, &bare).message(MessageType::DataAmf0, 1, &set);
    bench.message(MessageType::DataAmf3, 1, &amf3).message(MessageType::DataAmf0, 1, &clear);
    let tags: Vec<_> = bench.events.iter().filter_map(tag).collect();
    assert_eq!(tags.len(), 3);
    assert!(tags.iter().all(|tag| tag.kind == TrackKind::Data && tag.payload == bare));
}

#[test]
fn what_encoders_send_is_answered() {
    let mut bench = Bench::connected();
    for request in
        [Request::ReleaseStream("cam".into()), Request::FcPublish("cam".into()), Request::CreateStream]
    {
        bench.request(0, request);
    }
    let names: Vec<_> = bench.commands().map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["_result", "_result", "onFCPublish", "_result", "_result"]);
    let transactions: Vec<_> = bench.commands().map(|c| c.transaction).collect();
    assert_eq!(transactions, [1.0, 2.0, 0.0, 3.0, 4.0]);
    bench.request(0, Request::Other("setPlaylist".into()));
    assert_eq!(bench.codes().last().unwrap(), "NetConnection.Call.Failed");
    bench.expect_open();
}

#[test]
fn players_pause_seek_and_choose() {
    let mut bench = Bench::playing();
    bench
        .request(1, Request::Pause { pause: true, ms: 0.0 })
        .request(1, Request::Pause { pause: false, ms: 0.0 });
    bench.request(1, Request::ReceiveAudio(false)).request(1, Request::Seek(5_000.0));
    let events = bench.events[1..].iter().map(|event| match event {
        ServerEvent::Paused { paused, .. } => format!("paused {paused}"),
        ServerEvent::Receive { audio, video, .. } => format!("receive {audio:?} {video:?}"),
        other => panic!("{other:?}"),
    });
    assert_eq!(events.collect::<Vec<_>>(), ["paused true", "paused false", "receive Some(false) None"]);
    let codes = bench.codes();
    let tail = ["NetStream.Pause.Notify", "NetStream.Unpause.Notify", "NetStream.Seek.Failed"];
    assert_eq!(codes[codes.len() - 3..], tail);
    bench.request(1, PLAY("other")).expect_open();
    assert!(matches!(
        bench.events[bench.events.len() - 2..],
        [ServerEvent::Stopped { .. }, ServerEvent::PlayRequest { .. }]
    ));
}

#[test]
fn f44_everybody_hears_of_the_shutdown() {
    let mut bench = Bench::playing();
    assert!(!bench.server.request_reconnect(None), "it did not say that it could");
    bench.server.shutdown();
    bench.drain();
    assert_eq!(bench.server.closed(), Some(CloseReason::Shutdown));
    assert!(bench.codes().contains(&"NetStream.Play.UnpublishNotify".to_owned()));
    let mut bench = Bench::publishing();
    bench.server.shutdown();
    bench.drain();
    assert!(bench.codes().contains(&"NetStream.Unpublish.Success".to_owned()));

    let mut bench = Bench::handshaken();
    let capabilities = SessionConfig::default().capabilities;
    bench.connect(Connect { app: "live".into(), capabilities, ..Connect::default() });
    assert!(bench.server.request_reconnect(Some("rtmp://other/live")));
    bench.drain();
    let Response::Status { status, info } = Response::decode(bench.commands().last().unwrap()) else {
        panic!()
    };
    assert_eq!(&*status.code, "NetConnection.Connect.ReconnectRequest");
    assert_eq!(info.str("tcUrl"), Some("rtmp://other/live"));
    bench.expect_open();
}

#[test]
fn amf3_connections_are_told_so() {
    let mut bench = Bench::handshaken();
    let body = Request::Connect(Box::new(Connect {
        app: "live".into(),
        object_encoding: 3.0,
        ..Connect::default()
    }));
    let body = [&[0][..], &body.encode(1.0).encode()].concat();
    bench.message(MessageType::CommandAmf3, 0, &body).expect_open();
    let Response::Result { properties, value, .. } = Response::decode(bench.commands().last().unwrap())
    else {
        panic!()
    };
    assert_eq!(value.as_object().unwrap().number("objectEncoding"), Some(3.0));
    assert!(properties.as_object().unwrap().get("fourCcList").is_some());
}
