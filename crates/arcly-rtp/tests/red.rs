//! Redundant audio data (RFC 2198): the example of its section 5, inputs that lie, and what is recovered of what was lost.

use arcly_core::wire::DecodeError;
use arcly_rtp::sdp::{Redundancy, SessionDescription};
use arcly_rtp::session::{MAX_REMEMBERED, Recovery};
use arcly_rtp::wire::{
    Header, MAX_RED_BLOCK_BYTES, MAX_RED_BLOCKS, MAX_RED_OFFSET, Red, RedBlock, RtpPacket,
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn encoded(red: &Red<'_>) -> Bytes {
    let mut out = BytesMut::new();
    red.encode(&mut out);
    assert_eq!(out.len(), red.encoded_len());
    out.freeze()
}

/// §5: DVI4 (5) at 8 kHz, of 20 ms, repeated by LPC (7): 14 bytes from 160 ticks before, and 84 that are new.
#[test]
fn rfc2198_5_example() {
    let mut bytes = vec![0x87, 0x02, 0x80, 14, 5];
    bytes.extend([0xAA; 14]);
    bytes.extend([0xBB; 84]);
    let red = Red::decode(&bytes).unwrap();
    let [block] = &red.redundant[..] else { panic!("{red:?}") };
    assert_eq!((block.payload_type(), block.offset(), block.data()), (7, 160, &[0xAA; 14][..]));
    assert_eq!((red.payload_type, red.data), (5, &[0xBB; 84][..]));
    assert_eq!(encoded(&red), bytes);
    // Every strict prefix that has no end of its headers or of its redundancy lacks something.
    for len in 0..19 {
        assert!(Red::decode(&bytes[..len]).unwrap_err().is_incomplete(), "{len}");
    }
}

#[test]
fn the_largest_that_headers_can_say() {
    let data = [7; MAX_RED_BLOCK_BYTES];
    let block = RedBlock::new(127, MAX_RED_OFFSET.into(), &data).unwrap();
    let bytes = encoded(&Red { redundant: [block].into_iter().collect(), payload_type: 127, data: &[] });
    assert_eq!(bytes[..5], [0xFF, 0xFF, 0xFF, 0xFF, 127]);
    let red = Red::decode(&bytes).unwrap();
    assert_eq!((&red.redundant[..], red.payload_type, red.data), (&[block][..], 127, &[][..]));
    assert_eq!(RedBlock::new(128, 0, &[]), None);
    assert_eq!(RedBlock::new(0, 1 << 14, &[]), None);
    assert_eq!(RedBlock::new(0, 0, &[0; MAX_RED_BLOCK_BYTES + 1]), None);
}

#[test]
fn headers_that_lie() {
    let incomplete: [(&str, &[u8]); 4] = [
        ("nothing", &[]),
        ("half a block header", &[0xEF, 0, 4]),
        ("a block header and no end of them", &[0xEF, 0, 4, 1]),
        ("a block longer than all", &[0xEF, 0, 7, 0xFF, 111, 1, 2, 3]),
    ];
    for (what, bytes) in incomplete {
        assert!(matches!(Red::decode(bytes), Err(error) if error.is_incomplete()), "{what}");
    }
    let many = |blocks: usize| [[0xEF, 0, 4, 0].repeat(blocks), vec![111]].concat();
    assert_eq!(Red::decode(&many(MAX_RED_BLOCKS)).map(|red| red.redundant.len()), Ok(MAX_RED_BLOCKS));
    let limit = DecodeError::LimitExceeded { what: "red_blocks", limit: MAX_RED_BLOCKS as u64 };
    for blocks in [MAX_RED_BLOCKS + 1, 350] {
        assert_eq!(Red::decode(&many(blocks)), Err(limit));
    }
    assert_eq!(Red::decode(&[111]).map(|red| red.data), Ok(&[][..]), "a frame of nothing");
}

#[test]
fn rfc2198_4_redundancy_in_descriptions() {
    let of = |attributes: &str| {
        let text = format!(
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\na=rtpmap:111 opus/48000/2\r\n{attributes}\r\n"
        );
        let session: SessionDescription = text.parse().unwrap();
        Redundancy::offered(&session.media[0]).map(|red| (red.payload_type, red.of))
    };
    assert_eq!(of("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111"), Some((63, 111)));
    assert_eq!(of("a=rtpmap:63 RED/48000/2\r\na=fmtp:63 111/111/111"), Some((63, 111)));
    for none in [
        "a=rtpmap:63 red/48000/2",
        "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111",
        "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/0",
        "a=rtpmap:63 red/48000/2\r\na=fmtp:63 63/63",
        "a=rtpmap:63 red/48000/2\r\na=fmtp:63 x/y",
        "a=rtpmap:63 red/8000\r\na=fmtp:63 111/111",
        "a=rtpmap:64 red/48000/2\r\na=fmtp:64 111/111",
        "a=rtpmap:63 rtx/48000/2\r\na=fmtp:63 111/111",
    ] {
        assert_eq!(of(none), None, "{none}");
    }
}

const FORMATS: Redundancy = Redundancy { payload_type: 63, of: 111 };
const FRAME: u32 = 960;

/// A packet whose payload says which number it is, with the frames that are so far before it.
fn packet(number: u16, timestamp: u32, repeats: &[(u16, u32)]) -> RtpPacket {
    let payloads: Vec<(u32, [u8; 2])> =
        repeats.iter().map(|(number, then)| (timestamp.wrapping_sub(*then), number.to_be_bytes())).collect();
    let data = number.to_be_bytes();
    let redundant = payloads.iter().map(|(offset, data)| RedBlock::new(111, *offset, data).expect("it fits"));
    let red = Red { redundant: redundant.collect(), payload_type: 111, data: &data };
    let (payload_type, payload) =
        if repeats.is_empty() { (111, Bytes::copy_from_slice(&data)) } else { (63, encoded(&red)) };
    let header = Header { marker: true, payload_type, sequence: number, timestamp, ssrc: 9 };
    RtpPacket { header, payload, ..RtpPacket::default() }
}

/// The numbers that come out, each as its header and its payload have it.
fn numbers(recovery: &mut Recovery, packet: RtpPacket) -> Vec<u16> {
    let own = packet.header.sequence;
    let out = recovery.handle_packet(packet).expect("well formed");
    for packet in &out {
        assert_eq!(packet.payload[..], packet.header.sequence.to_be_bytes());
        assert_eq!((packet.header.payload_type, packet.header.ssrc), (111, 9));
        assert_eq!(packet.header.marker, packet.header.sequence == own);
    }
    out.iter().map(|packet| packet.header.sequence).collect()
}

/// Numbers wrap and timestamps, too.
fn at(n: u16) -> (u16, u32) {
    (n.wrapping_add(65_530), u32::from(n).wrapping_mul(FRAME).wrapping_sub(5 * FRAME))
}

fn red(n: u16, distances: &[u16]) -> RtpPacket {
    let repeats: Vec<_> = distances.iter().filter_map(|back| n.checked_sub(*back)).map(at).collect();
    packet(at(n).0, at(n).1, &repeats)
}

#[test]
fn what_was_lost_comes_out_of_the_next_packet_once() {
    let mut recovery = Recovery::new(FORMATS);
    let mut out = Vec::new();
    for n in (0..40).filter(|n| n % 3 != 1) {
        out.extend(numbers(&mut recovery, red(n, &[2, 1])));
    }
    assert_eq!(out, (0..40).map(|n| at(n).0).collect::<Vec<_>>());
}

#[test]
fn blocks_go_where_their_moments_are_whatever_distance_a_sender_chose() {
    for distances in [&[5, 3, 1][..], &[4, 2], &[1, 2, 3], &[3]] {
        let mut recovery = Recovery::new(FORMATS);
        let lost = 20..23;
        let mut out = Vec::new();
        for n in (0..40).filter(|n| !lost.contains(n)) {
            out.extend(numbers(&mut recovery, red(n, distances)));
        }
        out.sort_by_key(|number| number.wrapping_sub(at(0).0));
        let whole = (0..40).map(|n| at(n).0).collect::<Vec<_>>();
        assert_eq!(out, whole, "{distances:?}");
    }
}

#[test]
fn pauses_do_not_put_a_frame_in_the_wrong_place() {
    // Nothing is sent for half a second between 2 and 3: the last of them is the only one that is missing, or one of two.
    let stamps = [0, 960, 1_920, 26_000, 26_960, 27_920];
    let packet = |n: u16, back: &[u16]| {
        let repeats: Vec<_> = back.iter().map(|back| (n - back, stamps[usize::from(n - back)])).collect();
        packet(n, stamps[usize::from(n)], &repeats)
    };
    let mut recovery = Recovery::new(FORMATS);
    assert_eq!(numbers(&mut recovery, packet(1, &[])), [1]);
    assert_eq!(numbers(&mut recovery, packet(2, &[])), [2]);
    assert_eq!(numbers(&mut recovery, packet(4, &[1])), [3, 4]);
    let mut recovery = Recovery::new(FORMATS);
    numbers(&mut recovery, packet(1, &[]));
    assert_eq!(numbers(&mut recovery, packet(4, &[1])), [4], "2 or 3: nobody can say");
}

#[test]
fn what_was_only_late_and_what_is_of_another_source_are_passed_on() {
    let mut recovery = Recovery::new(FORMATS);
    for n in [0, 2] {
        numbers(&mut recovery, red(n, &[1]));
    }
    assert_eq!(numbers(&mut recovery, red(1, &[1])), [at(1).0], "a receiver knows that it has it");
    // A sequence that is elsewhere has nothing before it.
    assert_eq!(numbers(&mut recovery, red(1_000, &[1])), [at(1_000).0]);
    let mut other = red(1_002, &[1]);
    other.header.ssrc = 10;
    assert_eq!(recovery.handle_packet(other).unwrap().len(), 1, "another source");
    let mut foreign = red(1_003, &[1]);
    foreign.payload = Bytes::from_static(&[0xEF, 0, 4, 0, 110, 1]);
    assert!(recovery.handle_packet(foreign).is_err(), "what is new is of another format");
}

proptest! {
    #[test]
    fn payloads_come_back(
        blocks in proptest::collection::vec(
            (0..128_u8, 0..=u32::from(MAX_RED_OFFSET), proptest::collection::vec(any::<u8>(), 0..30)), 0..=MAX_RED_BLOCKS),
        payload_type in 0..128_u8,
        data in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let bytes;
        let redundant = blocks.iter().map(|(of, offset, data)| RedBlock::new(*of, *offset, data).unwrap());
        let red = Red { redundant: redundant.collect(), payload_type, data: &data };
        bytes = encoded(&red);
        prop_assert_eq!(Red::decode(&bytes), Ok(red));
    }

    #[test]
    fn whatever_is_lost_what_comes_out_is_right_and_comes_once(
        lost in proptest::collection::vec(any::<bool>(), 200), distances in proptest::collection::vec(1..8_u16, 1..4),
    ) {
        let mut recovery = Recovery::new(FORMATS);
        let mut seen = std::collections::BTreeSet::new();
        for (n, _) in (0..).zip(&lost).filter(|(_, lost)| !**lost) {
            for number in numbers(&mut recovery, red(n, &distances)) {
                prop_assert!(seen.insert(number), "{} twice", number);
            }
        }
        prop_assert!(seen.len() >= lost.iter().filter(|lost| !**lost).count());
    }

    #[test]
    fn any_packets_are_bounded(packets in proptest::collection::vec(
        (any::<bool>(), 0..300_u16, 0..3_000_u32, proptest::collection::vec(any::<u8>(), 0..40)), 0..200)) {
        let mut recovery = Recovery::new(FORMATS);
        for (is_red, sequence, timestamp, payload) in packets {
            let payload_type = if is_red { 63 } else { 111 };
            let header = Header { payload_type, sequence, timestamp, ..Header::default() };
            let packet = RtpPacket { header, payload: payload.into(), ..RtpPacket::default() };
            let out = recovery.handle_packet(packet).unwrap_or_default();
            prop_assert!(out.len() <= MAX_RED_BLOCKS + 1 && out.len() < MAX_REMEMBERED);
        }
    }
}
