use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::{Message, MessageType};

fn decode_all(decoder: &mut ChunkDecoder, pieces: &[&[u8]]) -> DecodeResult<Vec<Message>> {
    let mut messages = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(message) = decoder.decode(&mut input)? {
            messages.push(message);
        }
        assert!(input.is_empty());
    }
    Ok(messages)
}

fn decode(wire: &[u8]) -> DecodeResult<Vec<Message>> {
    decode_all(&mut ChunkDecoder::new(ChunkLimits::default()), &[wire])
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn brief(messages: &[Message]) -> Vec<(u8, u32, u32, usize)> {
    messages.iter().map(|m| (m.kind.id(), m.timestamp, m.stream_id, m.payload.len())).collect()
}

/// RTMP 1.0, 5.3.2.1, example 1: four audio messages of 32 bytes, 20 ms apart.
#[test]
fn spec_5_3_2_1_audio_messages() {
    let body = "11".repeat(32);
    let wire = hex(&format!("03 0003E8 000020 08 39300000 {body}  83 000014 {body}  C3 {body}  C3 {body}"));
    assert_eq!(wire.len(), 44 + 36 + 33 + 33);
    let got = brief(&decode(&wire).unwrap());
    assert_eq!(
        got,
        [(8, 1_000, 12_345, 32), (8, 1_020, 12_345, 32), (8, 1_040, 12_345, 32), (8, 1_060, 12_345, 32)]
    );
}

/// RTMP 1.0, 5.3.2.2, example 2: a video message of 307 bytes in chunks of 128.
#[test]
fn spec_5_3_2_2_message_in_three_chunks() {
    let (full, last) = ("AB".repeat(128), "CD".repeat(51));
    let wire = hex(&format!("04 0003E8 000133 09 3A300000 {full} C4 {full} C4 {last}"));
    assert_eq!(wire.len(), 140 + 129 + 52);
    let messages = decode(&wire).unwrap();
    assert_eq!(brief(&messages), [(9, 1_000, 12_346, 307)]);
    assert_eq!(messages[0].payload, hex(&format!("{full}{full}{last}")));
}

#[test]
fn every_form_of_chunk_stream_id() {
    for (basic, csid) in
        [("03", 3), ("00 00", 64), ("00 FF", 319), ("01 00 00", 64), ("01 01 00", 65), ("01 FF FF", 65_599)]
    {
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        let wire = hex(&format!("{basic} 000001 000002 08 01000000 AA BB"));
        let got = decode_all(&mut decoder, &[&wire]).unwrap();
        assert_eq!(brief(&got), [(8, 1, 1, 2)], "{basic}");
        assert_eq!(decoder.streams_for_test(), [csid]);
    }
}

#[test]
fn a_type_3_chunk_after_type_0_repeats_its_time() {
    let wire = hex("03 00000A 000001 08 01000000 AA  C3 BB  83 000003 CC  C3 DD");
    let times: Vec<_> = decode(&wire).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [10, 20, 23, 26]);
}

/// Both dialects of R40, at the extended timestamp's own edges and at 2^32 (F20, F21, R37).
#[test]
fn r40_extended_timestamps_in_both_dialects() {
    let body: Vec<u8> = (0..300_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    for timestamp in [0x00FF_FFFE, 0x00FF_FFFF, 0x0100_0000, 0xFFFF_FFF0, u32::MAX] {
        let header =
            MessageHeader { csid: ChunkStreamId::VIDEO, timestamp, kind: MessageType::Video, stream_id: 1 };
        let mut repeated = BytesMut::new();
        for _ in 0..3 {
            encode_message(&mut repeated, &header, &[&body], 128);
        }
        let once = encoded_len(timestamp, body.len(), 128);
        assert_eq!(repeated.len(), once * 3);
        let mut unrepeated = Vec::new();
        for message in repeated.chunks(once) {
            let mut extended = timestamp.to_be_bytes().to_vec();
            extended.truncate(if timestamp >= EXTENDED { 4 } else { 0 });
            let first = 12 + extended.len() + 128;
            unrepeated.extend_from_slice(&message[..first]);
            for chunk in message[first..].chunks(1 + extended.len() + 128) {
                assert_eq!(chunk[1..=extended.len()], extended);
                unrepeated.push(chunk[0]);
                unrepeated.extend_from_slice(&chunk[1 + extended.len()..]);
            }
        }
        let (a, b) = (decode(&repeated).unwrap(), decode(&unrepeated).unwrap());
        assert_eq!(brief(&a), [(9, timestamp, 1, 300); 3]);
        assert_eq!(a, b, "{timestamp:#x}");
        // Byte by byte, the decoder never waits for a field that this dialect does not send.
        let pieces: Vec<&[u8]> = unrepeated.chunks(1).collect();
        assert_eq!(decode_all(&mut ChunkDecoder::new(ChunkLimits::default()), &pieces).unwrap(), a);
    }
}

/// A body may begin like the timestamp that its chunk does not repeat, and the network may cut right there.
#[test]
fn r40_a_body_that_begins_like_the_timestamp_is_kept_however_it_is_cut() {
    let tail = "0100 01FF 2233".repeat(4);
    let wire = hex(&format!("06 FFFFFF 000098 09 01000000 01000022 {} C6 {tail}", "AB".repeat(128)));
    let mut whole = decode(&wire).unwrap();
    assert_eq!(whole.len(), 1);
    let whole = whole.remove(0).payload;
    assert_eq!(whole[128..], hex(&tail));
    for size in 1..wire.len() {
        let pieces: Vec<&[u8]> = wire.chunks(size).collect();
        let got = decode_all(&mut ChunkDecoder::new(ChunkLimits::default()), &pieces).unwrap();
        assert_eq!(got.iter().map(|m| &m.payload).collect::<Vec<_>>(), [&whole], "pieces of {size}");
    }
}

#[test]
fn extended_deltas_wrap_at_32_bits() {
    let wire =
        hex("04 FFFFFF 000001 09 01000000 FFFFFFF0 AA  84 000010 BB  84 FFFFFF 01000000 CC  C4 01000000 DD");
    let times: Vec<_> = decode(&wire).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [0xFFFF_FFF0, 0, 0x0100_0000, 0x0200_0000]);
}

#[test]
fn r12_r13_a_chunk_stream_begins_with_a_full_header() {
    for wire in ["C7 AA", "47 000000 000001 09 AA", "87 000000 AA"] {
        assert!(matches!(decode(&hex(wire)), Err(DecodeError::Malformed { .. })), "{wire}");
    }
    let interrupted = format!("04 000000 000100 09 01000000 {} 44 000000 000001 09 AA", "00".repeat(128));
    assert!(matches!(decode(&hex(&interrupted)), Err(DecodeError::Malformed { .. })));
}

#[test]
fn r10_declared_lengths_are_refused_on_the_header_or_allocate_nothing() {
    let check = |wire: &str, expect: Result<usize, &str>| {
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        let got = decode_all(&mut decoder, &[&hex(wire)]).map(|m| m.len());
        let got = got.map_err(|e| match e {
            DecodeError::LimitExceeded { what, .. } => what,
            other => panic!("{other:?}"),
        });
        assert_eq!(got, expect, "{wire}");
        assert!(decoder.capacity_for_test() <= 64 << 10);
    };
    check("04 000000 FFFFFF 09 00000000", Err("message_size"));
    check("04 000000 A00001 09 00000000", Err("message_size"));
    check("04 000000 A00000 09 00000000 AA", Ok(0));
    check("03 000000 010000 14 00000000 AA", Ok(0));
    check("03 000000 010001 14 00000000", Err("message_size"));
    check("03 000000 010001 12 00000000", Err("message_size"));
    check("02 000000 010001 04 00000000", Err("message_size"));
}

#[test]
fn limits_hold_at_n_and_not_at_n_plus_one() {
    // Every stream but the last leaves a message open; body bytes fill the one chunk each.
    let open = |csid: u8| hex(&format!("{csid:02X} 000000 000081 09 01000000 {}", "00".repeat(128)));
    let wire: Vec<u8> = (3..11).flat_map(open).collect();
    assert_eq!(decode(&wire), Ok(vec![]));
    let wire: Vec<u8> = (3..12).flat_map(open).collect();
    assert_eq!(decode(&wire), Err(DecodeError::LimitExceeded { what: "partial_messages", limit: 8 }));

    let used = |n: u8| {
        (0..n).flat_map(|i| hex(&format!("00 {i:02X} 000000 000000 09 01000000"))).collect::<Vec<_>>()
    };
    assert_eq!(decode(&used(64)).map(|m| m.len()), Ok(64));
    assert_eq!(decode(&used(65)), Err(DecodeError::LimitExceeded { what: "chunk_streams", limit: 64 }));

    let limits = ChunkLimits { partial_bytes: 256, ..ChunkLimits::default() };
    let wire = [open(3), open(4)].concat();
    let mut decoder = ChunkDecoder::new(limits);
    assert_eq!(decode_all(&mut decoder, &[&wire]), Ok(vec![]));
    assert_eq!(decoder.partial_bytes(), 256);
    let got = decode_all(&mut decoder, &[&hex("C3 00")]).map(|m| m.len());
    assert_eq!(got, Err(DecodeError::LimitExceeded { what: "partial_bytes", limit: 256 }));
}

#[test]
fn an_aborted_message_leaves_nothing_and_the_stream_goes_on() {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    let open = hex(&format!("04 000000 000100 09 01000000 {}", "00".repeat(128)));
    assert_eq!(decode_all(&mut decoder, &[&open]), Ok(vec![]));
    decoder.abort(77);
    assert_eq!(decoder.partial_bytes(), 128);
    decoder.abort(4);
    assert_eq!(decoder.partial_bytes(), 0);
    let got = decode_all(&mut decoder, &[&hex("44 000005 000001 09 AA")]).unwrap();
    assert_eq!(brief(&got), [(9, 5, 1, 1)]);
}

#[test]
fn a_restamped_message_differs_in_its_stream_alone() {
    let encode = |stream_id| {
        let mut out = BytesMut::new();
        let header =
            MessageHeader { csid: ChunkStreamId::AUDIO, timestamp: 5, kind: MessageType::Audio, stream_id };
        encode_message(&mut out, &header, &[b"af", b"", b"payload"], 4);
        out
    };
    let mut one = encode(1);
    restamp_stream_id(&mut one, 0x0102_0304);
    assert_eq!(one, encode(0x0102_0304));
    restamp_stream_id(&mut [0; 5], 1);
}

#[test]
fn a_run_of_messages_is_restamped_throughout() {
    let run = |stream_id| {
        let mut out = BytesMut::new();
        for (timestamp, body) in [(5, 9_usize), (0x00FF_FFFF, 9), (u32::MAX, 0), (7, 0), (8, 4)] {
            let header =
                MessageHeader { csid: ChunkStreamId::AUDIO, timestamp, kind: MessageType::Audio, stream_id };
            encode_message(&mut out, &header, &[&vec![0xC4; body]], 4);
        }
        out
    };
    let mut one = run(1);
    restamp_all(&mut one, 0x0102_0304, 4);
    assert_eq!(one, run(0x0102_0304));
    for end in 0..one.len() {
        restamp_all(&mut one[..end], 1, 4);
    }
}

fn messages() -> impl Strategy<Value = Vec<(u8, u32, u32, Vec<u8>)>> {
    let kinds = prop::sample::select(vec![8_u8, 9, 18, 20]);
    let times = prop_oneof![any::<u32>(), 0_u32..100, 0x00FF_FFF0_u32..0x0100_0010];
    prop::collection::vec((kinds, times, 0_u32..3, prop::collection::vec(any::<u8>(), 0..700)), 0..12)
}

proptest! {
    #[test]
    fn round_trip_in_any_pieces(messages in messages(), chunk_size in 1_u32..600, cuts in prop::collection::vec(1_usize..200, 1..60)) {
        let mut wire = BytesMut::new();
        let chunk = usize::try_from(chunk_size).unwrap();
        for (kind, timestamp, stream_id, body) in &messages {
            let kind = MessageType::from_id(*kind);
            let csid = if kind == MessageType::Audio { ChunkStreamId::AUDIO } else { ChunkStreamId::VIDEO };
            let header = MessageHeader { csid, timestamp: *timestamp, kind, stream_id: *stream_id };
            let before = wire.len();
            let (a, b) = body.split_at(body.len() / 3);
            encode_message(&mut wire, &header, &[a, b], chunk);
            prop_assert_eq!(wire.len() - before, encoded_len(*timestamp, body.len(), chunk));
        }
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        decoder.set_chunk_size(chunk_size);
        let (mut got, mut rest, mut cuts) = (Vec::new(), &wire[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = later;
            while let Some(m) = decoder.decode(&mut piece).unwrap() {
                got.push((m.kind.id(), m.timestamp, m.stream_id, m.payload.to_vec()));
            }
        }
        prop_assert_eq!(got, messages);
        prop_assert_eq!(decoder.partial_bytes(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_stay_bounded(wire in prop::collection::vec(any::<u8>(), 0..4_000), chunk_size in 1_u32..300) {
        let limits = ChunkLimits { partial_bytes: 2_000, ..ChunkLimits::default() };
        let mut decoder = ChunkDecoder::new(limits);
        decoder.set_chunk_size(chunk_size);
        let _ = decode_all(&mut decoder, &wire.chunks(7).collect::<Vec<_>>()[..]);
        prop_assert!(decoder.partial_bytes() <= 2_000 + 300);
    }
}
