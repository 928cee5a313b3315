//! Wire formats: examples, truncation at every byte, and round trips.

use std::time::{Duration, UNIX_EPOCH};

use arcly_core::wire::DecodeError;
use arcly_rtp::wire::rtcp::{
    App, FullIntra, Goodbye, Nack, NackEntry, Other, PictureLoss, ReceiverReport, Remb, ReportBlock,
    RtcpPacket, SdesChunk, SdesItem, SenderReport, TransportFeedback, compound, sdes,
};
use arcly_rtp::wire::{Extension, Header, NtpTime, RtpPacket, is_rtcp};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn rtp(bytes: &[u8]) -> Result<RtpPacket, DecodeError> {
    RtpPacket::decode(&Bytes::copy_from_slice(bytes))
}

fn rtcp(bytes: &[u8]) -> Result<Vec<RtcpPacket>, DecodeError> {
    compound(&Bytes::copy_from_slice(bytes)).collect()
}

fn encoded(packets: &[RtcpPacket]) -> Bytes {
    let mut out = BytesMut::new();
    packets.iter().for_each(|packet| packet.encode(&mut out));
    out.freeze()
}

/// A header with everything: padding, an extension, two contributing sources, marker (RFC 3550 §5.1).
const FULL: &[u8] = &[
    0xB2, 0xE0, 0x12, 0x34, 0xDE, 0xAD, 0xBE, 0xEF, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0, 0, 0, 2, 0xBE,
    0xDE, 0, 1, 0x10, 0xAA, 0x20, 0xBB, 1, 2, 3, 0, 0, 3,
];

#[test]
fn rfc3550_5_1_header() {
    let packet = rtp(FULL).unwrap();
    let header = Header {
        marker: true,
        payload_type: 96,
        sequence: 0x1234,
        timestamp: 0xDEAD_BEEF,
        ssrc: 0x1122_3344,
    };
    assert_eq!(packet.header, header);
    assert_eq!((&packet.csrc[..], &packet.payload[..], packet.padding), (&[1, 2][..], &[1, 2, 3][..], 3));
    let elements: Vec<_> = packet.extension.as_ref().unwrap().elements().collect();
    assert_eq!(elements, [(1, &[0xAA][..]), (2, &[0xBB][..])]);
    let mut out = BytesMut::new();
    packet.encode(&mut out);
    assert_eq!(&out[..], FULL);
    assert_eq!(packet.encoded_len(), FULL.len());
}

#[test]
fn rfc8285_elements_of_both_forms() {
    let data = [0x10, 0xAA, 0, 0, 0x21, 1, 2, 0, 0xF0, 0x10, 0xAA, 0];
    let one = Extension { profile: 0xBEDE, data: Bytes::copy_from_slice(&data) };
    assert_eq!(
        one.elements().collect::<Vec<_>>(),
        [(1, &[0xAA][..]), (2, &[1, 2][..])],
        "padding, and 15 ends"
    );
    let two = Extension { profile: 0x1003, data: Bytes::from_static(&[1, 0, 2, 2, 7, 8, 0, 0, 3, 9, 1, 1]) };
    assert_eq!(two.elements().collect::<Vec<_>>(), [(1, &[][..]), (2, &[7, 8][..])], "the third lies");
    let other = Extension { profile: 0x1234, data: Bytes::from_static(&[1; 4]) };
    assert_eq!(other.elements().count(), 0);
    assert_eq!(Extension::of(&[(1, &[0xAA]), (2, &[0xBB])]).unwrap().profile, 0xBEDE);
    assert_eq!(
        Extension::of(&[(1, &[])]).unwrap().profile,
        0x1000,
        "an empty element needs two bytes of header"
    );
    assert_eq!(Extension::of(&[(20, &[7])]).unwrap().get(20), Some(&[7][..]));
    assert_eq!(Extension::of(&[(0, &[7])]), None);
    assert_eq!(Extension::of(&[(1, &[0; 256])]), None);
}

#[test]
fn t28_t29_headers_that_lie() {
    for len in 0..12 {
        assert!(matches!(rtp(&FULL[..len]), Err(DecodeError::Incomplete { .. })), "{len} bytes");
    }
    let cases: [(&str, &[u8]); 8] = [
        ("version 1", &[0x40, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("version 0", &[0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("fifteen sources, none there", &[0x8F, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]),
        (
            "an extension of 65535 words",
            &[0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xBE, 0xDE, 0xFF, 0xFF, 1, 2],
        ),
        ("an extension cut short", &[0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xBE, 0xDE, 0]),
        ("padding of 255", &[0xA0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 255]),
        ("padding of 0", &[0xA0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0]),
        ("padding, and nothing there", &[0xA0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, bytes) in cases {
        assert!(rtp(bytes).is_err(), "{what}");
    }
    // All padding is allowed: such packets keep a path open or probe it.
    assert_eq!(rtp(&[0xA0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap().payload, Bytes::new());
}

fn examples() -> Vec<RtcpPacket> {
    let block = ReportBlock {
        ssrc: 9,
        fraction_lost: 25,
        cumulative_lost: -3,
        highest_sequence: 0x1_FFFF,
        jitter: 17,
        last_sender_report: 0xAABB_CCDD,
        delay_since_last: 65_536,
    };
    let sender = SenderReport {
        ssrc: 1,
        ntp: NtpTime(0xEEDD_CCBB_AA99_8877),
        rtp_timestamp: 5,
        packets: 6,
        octets: 7,
        reports: [block, block].into_iter().collect(),
    };
    let chunk = |ssrc, text: &'static str| SdesChunk {
        ssrc,
        items: [
            SdesItem { kind: 1, text: Bytes::from_static(text.as_bytes()) },
            SdesItem { kind: 2, text: Bytes::new() },
        ]
        .into_iter()
        .collect(),
    };
    vec![
        RtcpPacket::SenderReport(sender),
        RtcpPacket::ReceiverReport(ReceiverReport { ssrc: 2, reports: [block].into_iter().collect() }),
        RtcpPacket::SourceDescription(vec![
            chunk(3, "a@b"),
            chunk(4, ""),
            chunk(5, "four"),
            chunk(6, "fives"),
        ]),
        RtcpPacket::Goodbye(Goodbye {
            sources: [3, 4].into_iter().collect(),
            reason: Bytes::from_static(b"bye"),
        }),
        RtcpPacket::Goodbye(Goodbye::default()),
        RtcpPacket::App(App { subtype: 3, ssrc: 1, name: *b"test", data: Bytes::from_static(&[1, 2, 3, 4]) }),
        RtcpPacket::Nack(Nack::of(1, 2, [65_534, 0, 14, 15, 3_000])),
        RtcpPacket::PictureLoss(PictureLoss { sender: 1, media: 2 }),
        RtcpPacket::FullIntra(FullIntra {
            sender: 1,
            media: 0,
            requests: [(2, 200), (3, 1)].into_iter().collect(),
        }),
        RtcpPacket::Remb(Remb {
            sender: 1,
            media: 0,
            bitrate_bps: 2_500_000,
            sources: [9].into_iter().collect(),
        }),
        RtcpPacket::TransportFeedback(TransportFeedback {
            sender: 1,
            media: 2,
            base: 65_530,
            reference: 0xABCDEF,
            count: 7,
            arrivals: [vec![Some(4), None, Some(255), Some(256), Some(-1)], vec![None; 40], vec![Some(1); 9]]
                .concat(),
        }),
        RtcpPacket::Other(Other { kind: 207, count: 0, body: Bytes::from_static(&[0, 0, 0, 1]) }),
    ]
}

#[test]
fn every_kind_of_control_packet_comes_back_alone_and_together() {
    for packet in examples() {
        assert_eq!(rtcp(&encoded(std::slice::from_ref(&packet))), Ok(vec![packet]));
    }
    let all = encoded(&examples());
    assert!(is_rtcp(&all) && !is_rtcp(FULL));
    assert_eq!(rtcp(&all), Ok(examples()));
}

#[test]
fn a_compound_packet_cut_at_any_byte_gives_what_was_whole() {
    let all = encoded(&examples());
    let mut whole = 0;
    let mut end = 0;
    for cut in 0..all.len() {
        let found: Vec<_> = compound(&all.slice(..cut)).collect();
        while whole < examples().len() && end + encoded(&examples()[whole..=whole]).len() <= cut {
            end += encoded(&examples()[whole..=whole]).len();
            whole += 1;
        }
        let good: Vec<_> = found.iter().filter_map(|packet| packet.as_ref().ok().cloned()).collect();
        assert_eq!(good, examples()[..whole], "cut at {cut}");
        assert_eq!(found.len() - good.len(), usize::from(cut > end), "cut at {cut}");
    }
}

#[test]
fn t33_w24_control_packets_that_lie() {
    let cases: [(&str, &[u8]); 13] = [
        ("one byte", &[0x80]),
        ("length 65535", &[0x80, 201, 0xFF, 0xFF, 0, 0, 0, 1]),
        ("31 blocks, none there", &[0x9F, 201, 0, 1, 0, 0, 0, 1]),
        ("a sender report of 4 bytes", &[0x80, 200, 0, 1, 0, 0, 0, 1]),
        ("an SDES list without end", &[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, 65, 66]),
        ("an SDES text that runs over", &[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 200, 65, 66]),
        ("padding of 255", &[0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 255]),
        ("padding of 0", &[0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("version 1", &[0x40, 201, 0, 1, 0, 0, 0, 1]),
        ("31 sources leave, none there", &[0x9F, 203, 0, 0]),
        (
            "feedback on 65535 packets",
            &[0x8F, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 255, 255, 0, 0, 0, 0, 0x3F, 0xFF, 0, 0],
        ),
        (
            "feedback that runs for nothing",
            &[0x8F, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "REMB of 255 sources",
            &[0x8F, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 255, 0, 0, 1],
        ),
    ];
    for (what, bytes) in cases {
        assert!(rtcp(bytes).is_err(), "{what}");
    }
    assert_eq!(rtcp(&[]), Ok(vec![]), "an empty datagram says nothing");
    let many = [0x80, 192, 0, 0].repeat(65);
    assert_eq!(rtcp(&many), Err(DecodeError::LimitExceeded { what: "rtcp_packets", limit: 64 }));
    assert_eq!(rtcp(&many[..256]).map(|packets| packets.len()), Ok(64));
    // Extended reports are passed over, whatever they say of themselves.
    assert!(matches!(rtcp(&[0x80, 207, 0, 1, 9, 9, 9, 9]).as_deref(), Ok([RtcpPacket::Other(_)])));
}

#[test]
fn rfc4585_6_2_1_nack_numbers() {
    let nack = Nack::of(1, 2, [100, 101, 116, 117]);
    let expect = [NackEntry { first: 100, following: 0x8001 }, NackEntry { first: 117, following: 0 }];
    assert_eq!(&nack.entries[..], expect);
    assert_eq!(nack.sequences().collect::<Vec<_>>(), [100, 101, 116, 117]);
    let wrap = Nack::of(1, 2, [65_535, 0, 0, 5]);
    assert_eq!(wrap.sequences().collect::<Vec<_>>(), [65_535, 0, 5]);
}

#[test]
fn remb_rates_of_every_size() {
    for rate in [0, 1, 262_143, 262_144, 2_500_000, u64::from(u32::MAX), u64::MAX] {
        let packet = Remb { sender: 1, media: 0, bitrate_bps: rate, ..Remb::default() };
        let Ok(back) = rtcp(&encoded(&[RtcpPacket::Remb(packet)])) else { panic!("our own") };
        let [RtcpPacket::Remb(back)] = &back[..] else { panic!("a REMB") };
        assert!(
            back.bitrate_bps <= rate && rate - back.bitrate_bps <= rate >> 17,
            "{rate}: {}",
            back.bitrate_bps
        );
    }
}

#[test]
fn ntp_times_and_moments() {
    // RFC 868: 2 208 988 800 is the first second of 1970.
    let epoch = NtpTime(2_208_988_800 << 32 | 1 << 31);
    assert_eq!(epoch.to_system_time(), Some(UNIX_EPOCH + Duration::from_millis(500)));
    assert_eq!(NtpTime::from_system_time(UNIX_EPOCH + Duration::from_millis(500)), epoch);
    assert_eq!(epoch.middle(), 0x7E80_8000);
    assert_eq!(NtpTime(0).to_system_time(), None, "no clock");
    assert_eq!(NtpTime(86_400 << 32).to_system_time(), None, "a day since it was switched on");
    // Behind February 2036 the seconds begin again.
    let later = UNIX_EPOCH + Duration::from_secs(2_500_000_000);
    assert_eq!(NtpTime::from_system_time(later).to_system_time(), Some(later));
    assert_eq!(NtpTime(1).since(NtpTime(u64::MAX)), 2);
}

proptest! {
    #[test]
    fn packets_come_back(
        header in (any::<bool>(), 0..128_u8, any::<u16>(), any::<u32>(), any::<u32>()),
        csrc in proptest::collection::vec(any::<u32>(), 0..16),
        words in proptest::option::of(proptest::collection::vec(any::<u32>(), 0..8)),
        payload in proptest::collection::vec(any::<u8>(), 0..50),
        padding: u8,
    ) {
        let (marker, payload_type, sequence, timestamp, ssrc) = header;
        let data = |words: Vec<u32>| words.into_iter().flat_map(u32::to_be_bytes).collect();
        let packet = RtpPacket {
            header: Header { marker, payload_type, sequence, timestamp, ssrc },
            csrc: csrc.into_iter().collect(),
            extension: words.map(|words| Extension { profile: 0xBEDE, data: data(words) }),
            payload: payload.into(),
            padding,
        };
        let mut out = BytesMut::new();
        packet.encode(&mut out);
        prop_assert_eq!(out.len(), packet.encoded_len());
        prop_assert_eq!(RtpPacket::decode(&out.freeze()), Ok(packet));
    }

    #[test]
    fn transport_feedback_comes_back(
        arrivals in proptest::collection::vec(
            prop_oneof![4 => Just(None), 4 => (0..256_i16).prop_map(Some), 1 => any::<i16>().prop_map(Some)], 0..200),
        run in 0..9_000_usize,
        base: u16, reference in 0..1_u32 << 24, count: u8,
    ) {
        let mut arrivals = arrivals;
        arrivals.extend(vec![None; run.min(8_192 - arrivals.len())]);
        let packet =
            RtcpPacket::TransportFeedback(TransportFeedback { sender: 1, media: 2, base, reference, count, arrivals });
        prop_assert_eq!(rtcp(&encoded(std::slice::from_ref(&packet))), Ok(vec![packet]));
    }

    #[test]
    fn extensions_come_back(elements in proptest::collection::vec((1..255_u8, proptest::collection::vec(any::<u8>(), 0..40)), 0..6)) {
        let elements: Vec<(u8, &[u8])> = elements.iter().map(|(id, value)| (*id, &value[..])).collect();
        let extension = Extension::of(&elements).unwrap();
        prop_assert_eq!(extension.data.len() % 4, 0);
        prop_assert_eq!(extension.elements().collect::<Vec<_>>(), elements);
    }

    #[test]
    fn names_come_back(ssrc: u32, name in "[a-z@.]{0,80}") {
        let Ok(back) = rtcp(&encoded(&[sdes(ssrc, &name)])) else { panic!("our own") };
        let [RtcpPacket::SourceDescription(chunks)] = &back[..] else { panic!("an SDES") };
        prop_assert_eq!(chunks[0].cname(), Some(name.as_bytes()));
    }

    #[test]
    fn anything_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = rtp(&bytes);
        if let Ok(packets) = rtcp(&bytes) {
            prop_assert!(packets.len() * 4 <= bytes.len());
        }
    }
}
