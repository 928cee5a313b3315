//! Agreement, good and bad packets, and the end.

use std::collections::HashMap;

use super::*;
use crate::config::TransmissionMode;
use crate::session::{SendError, SendOptions};
use crate::wire::{
    Ack, AckReport, DataHeader, DataPacket, HEADER_BYTES, KeyResponse, KmState, LossList, MsgNumber, Packet,
    Position, SeqRange,
};

fn data(index: u32, position: Position, message: u32) -> Bytes {
    let header = DataHeader {
        position,
        destination: LISTENER_ID,
        ..DataHeader::new(SEQ.plus(index), MsgNumber::new(message))
    };
    let mut datagram = BytesMut::new();
    DataPacket { header, payload: Bytes::from_static(b"data") }.encode(&mut datagram);
    datagram.freeze()
}

fn nak(ranges: &[(u32, u32)]) -> Bytes {
    let range = |&(first, last): &(u32, u32)| SeqRange::new(SEQ.plus(first), SEQ.plus(last)).unwrap();
    control(CALLER_ID, Control::Nak(ranges.iter().map(range).collect::<LossList>()))
}

fn retransmissions(sent: &VecDeque<Bytes>) -> Vec<u32> {
    let packets = sent.iter().filter_map(|datagram| match Packet::decode(datagram).unwrap() {
        Packet::Data(packet) if packet.header.retransmitted => Some(packet.header.seq),
        _ => None,
    });
    packets.map(|seq| u32::try_from(SEQ.distance_to(seq)).unwrap()).collect()
}

#[test]
fn messages_arrive_once_in_order_and_when_they_are_due() {
    let mut pair = Pair::live();
    let sent = pair.now;
    pair.caller.send(pair.now, b"one");
    pair.caller.send(pair.now, b"two");
    pair.run_for(ms(119));
    assert_eq!(pair.callee.messages(), [""; 0].map(str::as_bytes));
    pair.run_for(ms(2));
    assert_eq!(pair.callee.messages(), [b"one", b"two"]);
    let Some(Event::Message(first)) = pair.callee.events.first() else { panic!("no message") };
    assert_eq!((first.number, first.seq), (MsgNumber::FIRST, SEQ));
    assert_eq!(pair.now - sent, ms(121));
    pair.callee.send(pair.now, b"three");
    pair.run_for(ms(130));
    assert_eq!(pair.caller.messages(), [b"three"], "and the other way");
}

#[test]
fn the_greater_latency_counts_in_each_direction() {
    let config = |receiver, peer| Config {
        receiver_latency: ms(receiver),
        peer_latency: ms(peer),
        ..Config::default()
    };
    let pair = Pair::new(config(550, 250), config(300, 500));
    let (alice, bob) = (&pair.caller.connection, &pair.callee.connection);
    let latencies = |connection: &Connection| {
        connection.negotiated().map(|n| (n.receiver_latency, n.peer_latency)).unwrap()
    };
    assert_eq!(latencies(alice), (ms(550), ms(300)));
    assert_eq!(latencies(bob), (ms(300), ms(550)));
}

#[test]
fn s14_no_latency_is_longer_than_eight_seconds() {
    let config = Config { peer_latency: ms(65_535), ..Config::default() };
    let pair = Pair::new(config, Config::default());
    assert_eq!(pair.callee.connection.negotiated().unwrap().receiver_latency, ms(8_000));
}

#[test]
fn modes_that_differ_are_refused() {
    let file = Config { mode: TransmissionMode::File, ..Config::default() };
    assert_eq!(Pair::try_new(file.clone(), Config::default()).err(), Some(RejectReason::CONGESTION));
    assert_eq!(Pair::try_new(Config::default(), file).err(), Some(RejectReason::CONGESTION));
}

#[test]
fn s17_s18_what_is_for_another_socket_changes_nothing() {
    let mut pair = Pair::live();
    for packet in [Control::Shutdown, Control::KeepAlive] {
        pair.callee.hear(pair.now, control(SocketId(71), packet.clone()));
        pair.callee.hear(pair.now, control(SocketId::HANDSHAKE, packet));
    }
    assert_eq!(pair.callee.error, None);
    assert_eq!(pair.callee.connection.statistics(pair.now).totals.pkt_malformed, 4);
}

#[test]
fn s19_s20b_a_loss_list_costs_no_more_than_what_is_in_flight() {
    let mut pair = Pair::live();
    (0..100).for_each(|_| pair.caller.send(pair.now, b"data"));
    pair.caller.sent.clear();
    // Everything there may be, and what was never sent.
    pair.caller.hear(pair.now, nak(&[(0, 1 << 29), (200, 300), (0, 99)]));
    let repeated = retransmissions(&pair.caller.sent);
    assert_eq!(repeated, (0..100).collect::<Vec<_>>());
    pair.caller.sent.clear();
    pair.caller.hear(pair.now, nak(&[(100, 5_000)]));
    assert!(retransmissions(&pair.caller.sent).is_empty());
    // A reversed range does not decode: 5000 to 10.
    let mut bytes = nak(&[(10, 5_000)]).to_vec();
    let (first, last) = bytes[HEADER_BYTES..].split_at_mut(4);
    first.swap_with_slice(last);
    first[0] |= 0x80;
    last[0] &= 0x7F;
    let before = pair.caller.connection.statistics(pair.now).totals.pkt_malformed;
    pair.caller.hear(pair.now, bytes.into());
    assert_eq!(pair.caller.connection.statistics(pair.now).totals.pkt_malformed, before + 1);
    assert_eq!(pair.caller.error, None);
}

#[test]
fn s20b_a_peer_that_asks_all_the_time_gets_twice_the_bitrate_at_most() {
    let mut pair = Pair::live();
    for n in 0..10_000_u64 {
        if n % 2 == 0 {
            pair.caller
                .connection
                .send(pair.now, Bytes::from(vec![0; 1_316]), SendOptions::default())
                .unwrap();
        }
        // The round trip that it claims is nothing, so that nothing is too early.
        let report = AckReport { rtt_us: 1, rtt_variance_us: 0, buffer_available: 8_000, rates: None };
        let ack = Ack { number: 1, next: SEQ, report: Some(report) };
        pair.caller.hear(pair.now, control(CALLER_ID, Control::Ack(ack)));
        pair.caller.hear(pair.now, nak(&[(0, 1 << 20)]));
        pair.caller.time_out(pair.now);
        pair.caller.sent.clear();
        pair.now += ms(1);
    }
    let totals = pair.caller.connection.statistics(pair.now).totals;
    assert!(totals.pkt_retrans <= totals.pkt_sent_unique * 6 / 5, "{totals:?}");
}

/// What a peer says nothing of is repeated once in a round trip; what is repeated sooner is an eighth, of one that does not repeat its
/// requests as well.
#[test]
fn s20b_of_what_nobody_has_asked_for_an_eighth_is_repeated_in_a_hurry() {
    let latency = Config { receiver_latency: ms(2_000), peer_latency: ms(2_000), ..Config::default() };
    let mut pair = Pair::new(latency.clone(), Config { periodic_nak: false, ..latency });
    let round = pair.caller.connection.statistics(pair.now).instant.ms_rtt;
    let (mut left, mut hurried) = (HashMap::<u32, Instant>::new(), 0);
    for n in 0..2_000_u64 {
        if n < 1_000 {
            let payload = Bytes::from_static(&[0; 1_316]);
            pair.caller.connection.send(pair.now, payload, SendOptions::default()).unwrap();
            pair.caller.drain();
        }
        pair.caller.time_out(pair.now);
        for datagram in pair.caller.sent.drain(..) {
            let Packet::Data(packet) = Packet::decode(&datagram).unwrap() else { continue };
            let seq = u32::try_from(SEQ.distance_to(packet.header.seq)).unwrap();
            let before = left.insert(seq, pair.now);
            hurried += usize::from(before.is_some_and(|at| (pair.now - at).as_secs_f64() * 1_000.0 < round));
        }
        pair.now += ms(1);
    }
    let totals = pair.caller.connection.statistics(pair.now).totals;
    assert!(totals.pkt_retrans > 500, "{totals:?}");
    assert!(hurried <= 1_000 / 8 + 64, "{hurried} of {totals:?}");
}

#[test]
fn s21_an_acknowledgement_of_what_was_not_sent_changes_nothing() {
    let mut pair = Pair::live();
    (0..10).for_each(|_| pair.caller.send(pair.now, b"data"));
    let before = pair.caller.connection.statistics(pair.now).instant.pkt_flight_size;
    for next in [SEQ.plus(11), SeqNumber::new(0x3FFF_FFFF), SEQ.minus(1)] {
        let report = AckReport { rtt_us: 1, rtt_variance_us: 1, buffer_available: 1, rates: None };
        let ack = Ack { number: 5, next, report: Some(report) };
        pair.caller.sent.clear();
        pair.caller.hear(pair.now, control(CALLER_ID, Control::Ack(ack)));
        assert_eq!(pair.caller.connection.statistics(pair.now).instant.pkt_flight_size, before);
    }
    let ack = Ack { number: 6, next: SEQ.plus(10), report: None };
    pair.caller.hear(pair.now, control(CALLER_ID, Control::Ack(ack)));
    assert_eq!(pair.caller.connection.statistics(pair.now).instant.pkt_flight_size, 0);
}

#[test]
fn s22_s23_a_drop_request_does_not_move_the_window_beyond_what_has_come() {
    let mut pair = Pair::live();
    pair.callee.hear(pair.now, data(3, Position::Only, 4));
    for (first, last) in [(0, 1 << 29), (1_000, 2_000), (5, 5)] {
        let range = SeqRange::new(SEQ.plus(first), SEQ.plus(last)).unwrap();
        let request = Control::DropRequest { message: MsgNumber::new(9), range };
        pair.callee.hear(pair.now, control(LISTENER_ID, request));
    }
    for length in [0, 1, 4, 7] {
        let whole = control(
            LISTENER_ID,
            Control::DropRequest { message: MsgNumber::new(9), range: SeqRange::single(SEQ) },
        );
        pair.callee.hear(pair.now, whole.slice(..HEADER_BYTES + length));
    }
    pair.callee.hear(pair.now, data(4, Position::Only, 5));
    pair.run_for(ms(200));
    assert_eq!(pair.callee.messages(), [b"data", b"data"]);
}

#[test]
fn s25_pieces_without_a_message_are_dropped_and_what_follows_arrives() {
    for wrong in [Position::First, Position::Middle, Position::Last] {
        let mut pair = Pair::live();
        pair.callee.hear(pair.now, data(0, wrong, 1));
        pair.callee.hear(pair.now, data(1, wrong, 2));
        pair.callee.hear(pair.now, data(2, Position::Only, 3));
        pair.run_for(ms(200));
        assert_eq!(pair.callee.messages(), [b"data"], "{wrong:?}");
    }
}

#[test]
fn s26_empty_payloads_are_tolerated() {
    let mut pair = Pair::live();
    let whole = data(0, Position::Only, 1);
    pair.callee.hear(pair.now, whole.slice(..HEADER_BYTES));
    pair.callee.hear(pair.now, data(1, Position::Only, 2).slice(..HEADER_BYTES + 1));
    pair.run_for(ms(200));
    assert_eq!(pair.callee.error, None);
    assert_eq!(pair.callee.messages().last(), Some(&&b"d"[..]));
}

#[test]
fn s31_keys_out_of_nowhere_change_nothing() {
    let mut pair = Pair::live();
    for state in [KmState::BadSecret, KmState::Secured] {
        let response = Control::KeyResponse(KeyResponse::Refused(state));
        pair.callee.hear(pair.now, control(LISTENER_ID, response));
    }
    pair.caller.send(pair.now, b"data");
    pair.run_for(ms(200));
    assert_eq!((pair.callee.messages(), &pair.callee.error), (vec![&b"data"[..]], &None));
}

#[test]
fn s32_a_peer_that_says_nothing_is_gone_after_five_seconds() {
    let mut pair = Pair::live();
    let begin = pair.now;
    // Its conclusion, again and again, is no sign of life.
    while pair.callee.error.is_none() {
        pair.now += ms(250);
        pair.callee.hear(pair.now, pair.conclusion.clone());
        pair.callee.time_out(pair.now);
        pair.callee.sent.clear();
        assert!(pair.now - begin <= ms(5_000));
    }
    assert_eq!(pair.callee.error, Some(SessionError::Timeout(arcly_core::Phase::Idle)));
    assert!(pair.callee.connection.is_over());
}

#[test]
fn keep_alives_keep_a_silent_connection() {
    let mut pair = Pair::live();
    pair.run_for(Duration::from_secs(600));
    assert_eq!((&pair.caller.error, &pair.callee.error), (&None, &None));
}

#[test]
fn shutdown_hands_over_what_has_come_and_ends_it() {
    let mut pair = Pair::live();
    pair.caller.send(pair.now, b"one");
    pair.settle();
    pair.callee.hear(pair.now, data(2, Position::Only, 3));
    pair.caller.connection.close(pair.now);
    pair.caller.drain();
    pair.settle();
    assert_eq!(pair.callee.error, Some(SessionError::PeerClosed));
    assert_eq!(pair.callee.messages(), [&b"one"[..], b"data"], "and nobody waits for the one between");
    assert!(pair.caller.connection.is_over() && pair.callee.connection.is_over());
    let again = pair.caller.connection.send(pair.now, Bytes::from_static(b"x"), SendOptions::default());
    assert_eq!(again, Err(SendError::NotConnected));
}

#[test]
fn what_cannot_be_sent_is_refused_and_changes_nothing() {
    let mut pair = Pair::live();
    let mut send = |length: usize| {
        pair.caller.connection.send(pair.now, Bytes::from(vec![0; length]), SendOptions::default())
    };
    assert_eq!(send(0), Err(SendError::Empty));
    assert_eq!(send(1_317), Err(SendError::TooLong { limit: 1_316 }));
    let mut sent = 0;
    while send(1_316).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, send(1_316)), (8_192, Err(SendError::Full)));
}

#[test]
fn a_message_that_has_expired_is_not_repeated_and_the_peer_is_told() {
    let mut pair = Pair::live();
    let options = SendOptions { ttl: Some(ms(30)), ..SendOptions::default() };
    pair.caller.connection.send(pair.now, Bytes::from_static(b"old"), options).unwrap();
    pair.caller.drain();
    pair.caller.sent.clear();
    pair.now += ms(40);
    pair.caller.hear(pair.now, nak(&[(0, 0)]));
    assert!(retransmissions(&pair.caller.sent).is_empty());
    let dropped = pair.caller.sent.iter().filter_map(|datagram| ControlPacket::decode(datagram).ok());
    let dropped = dropped.filter(|packet| matches!(packet.control, Control::DropRequest { .. }));
    assert_eq!(dropped.count(), 1);
}

#[test]
fn a_jump_that_nothing_confirms_is_not_believed() {
    let mut pair = Pair::live();
    pair.callee.hear(pair.now, data(0, Position::Only, 1));
    pair.callee.hear(pair.now, data(4_000, Position::Only, 2));
    pair.callee.hear(pair.now, data(1, Position::Only, 2));
    assert_eq!(pair.callee.connection.statistics(pair.now).totals.pkt_rcv_loss, 0);
    pair.callee.hear(pair.now, data(4_000, Position::Only, 2));
    pair.callee.hear(pair.now, data(4_001, Position::Only, 3));
    assert_eq!(pair.callee.connection.statistics(pair.now).totals.pkt_rcv_loss, 3_999);
}

#[test]
fn any_bytes_at_all_are_survived() {
    let mut rng = Rng::new(11);
    let mut pair = Pair::live();
    (0..50).for_each(|_| pair.caller.send(pair.now, b"data"));
    let samples: Vec<Bytes> = pair
        .caller
        .sent
        .iter()
        .cloned()
        .chain([pair.induction.clone(), pair.conclusion.clone(), nak(&[(0, 9)]), data(3, Position::First, 1)])
        .collect();
    for n in 0..20_000 {
        let mut bytes = samples[usize::try_from(rng.below(samples.len() as u64)).unwrap()].to_vec();
        for _ in 0..rng.below(4) {
            let bit = usize::try_from(rng.below(bytes.len() as u64 * 8)).unwrap();
            // The header's first word, often: it decides what the rest means.
            let bit = if rng.chance(300) { bit % 32 } else { bit };
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        pair.callee.hear(pair.now, bytes.into());
        pair.callee.time_out(pair.now);
        pair.callee.sent.clear();
        pair.callee.events.clear();
        if pair.callee.error.is_some() {
            pair = Pair::live();
        }
        pair.now += ms(n % 3);
    }
}
