//! Vectors, round trips, every prefix, and what must not be taken.

use std::net::{IpAddr, Ipv4Addr};

use arcly_core::wire::DecodeError;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn seq(value: u32) -> SeqNumber {
    SeqNumber::new(value)
}

fn range(first: u32, last: u32) -> SeqRange {
    SeqRange::new(seq(first), seq(last)).unwrap()
}

/// A control packet with a header as the draft draws it.
fn control(kind: &str, info: &str, contents: &str) -> Bytes {
    bytes(&format!("{kind} {info} 00000010 0000002A {contents}"))
}

/// Decodes to what is expected, encodes to the same bytes, and says what is missing of every prefix.
fn check(datagram: &Bytes, expected: Control) {
    let packet =
        ControlPacket { timestamp: TimeStamp::new(16), destination: SocketId(42), control: expected };
    assert_eq!(ControlPacket::decode(datagram).as_ref(), Ok(&packet));
    let mut out = BytesMut::new();
    packet.encode(&mut out);
    assert_eq!(&out, datagram);
    assert_eq!(packet.encoded_len(), out.len());
    assert_eq!(destination(datagram), Some(SocketId(42)));
}

/// Every prefix shorter than `whole` bytes is cut short, and nothing else.
fn check_prefixes(datagram: &Bytes, whole: usize) {
    for len in 0..whole {
        let result = Packet::decode(&datagram.slice(..len));
        assert!(result.as_ref().is_err_and(DecodeError::is_incomplete), "{len} bytes: {result:?}");
    }
}

#[test]
fn section_3_1_data_packets() {
    let datagram = bytes("0000002A E4000007 00000064 00000005 4711");
    let packet = DataPacket::decode(&datagram).unwrap();
    let header = DataHeader {
        in_order: true,
        retransmitted: true,
        timestamp: TimeStamp::new(100),
        destination: SocketId(5),
        ..DataHeader::new(seq(42), MsgNumber::new(7))
    };
    assert_eq!(packet, DataPacket { header, payload: Bytes::from_static(&[0x47, 0x11]) });
    assert_eq!(Packet::Data(packet).to_bytes(), datagram);
    check_prefixes(&datagram, HEADER_BYTES);
    for (word, position, key) in [
        ("80000001", Position::First, KeySpec::None),
        ("08000001", Position::Middle, KeySpec::Even),
        ("50000001", Position::Last, KeySpec::Odd),
    ] {
        let header =
            DataPacket::decode(&bytes(&format!("00000001 {word} 00000000 00000000"))).unwrap().header;
        assert_eq!((header.position, header.key, header.message), (position, key, MsgNumber::FIRST));
    }
}

#[test]
fn s26_data_of_no_and_of_one_byte_is_data() {
    for payload in ["", "47"] {
        let datagram = bytes(&format!("00000001 C0000001 00000000 00000000 {payload}"));
        assert_eq!(DataPacket::decode(&datagram).unwrap().payload.len(), payload.len() / 2);
    }
}

#[test]
fn s33_a_data_packet_has_one_key() {
    let datagram = bytes("00000001 D8000001 00000000 00000000 47");
    assert_eq!(DataPacket::decode(&datagram), Err(DecodeError::Malformed { what: "key flags", offset: 4 }));
}

#[test]
fn s01_datagrams_shorter_than_a_header_are_nobodys() {
    let whole = control("80010000", "00000000", "");
    for len in 0..HEADER_BYTES {
        assert_eq!(destination(&whole[..len]), None);
        assert!(Packet::decode(&whole.slice(..len)).is_err());
    }
}

#[test]
fn section_3_2_controls_without_contents() {
    for (kind, info, expected) in [
        ("80010000", "00000000", Control::KeepAlive),
        ("80040000", "00000000", Control::CongestionWarning),
        ("80050000", "00000000", Control::Shutdown),
        ("80060000", "00000009", Control::AckAck { number: 9 }),
        ("80080000", "00000FA0", Control::PeerError { code: 4000 }),
    ] {
        // libsrt pads them, and wants them padded.
        check(&control(kind, info, "00000000"), expected.clone());
        check_prefixes(&control(kind, info, "00000000"), HEADER_BYTES);
        let bare = ControlPacket::decode(&control(kind, info, "")).unwrap();
        assert_eq!(bare.control, expected);
    }
}

#[test]
fn section_3_2_4_acknowledgements() {
    let report = AckReport { rtt_us: 100_000, rtt_variance_us: 50_000, buffer_available: 8_191, rates: None };
    let rates =
        AckRates { packets_per_second: 500, capacity_packets_per_second: 1_000, bytes_per_second: 658_000 };
    let light = control("80020000", "00000000", "0000002A");
    check(&light, Control::Ack(Ack::light(seq(42))));
    check_prefixes(&light, light.len());
    let small = control("80020000", "00000000", "0000002A 000186A0 0000C350 00001FFF");
    check(&small, Control::Ack(Ack { report: Some(report), ..Ack::light(seq(42)) }));
    let full =
        control("80020000", "00000003", "0000002A 000186A0 0000C350 00001FFF 000001F4 000003E8 000A0A50");
    let whole = AckReport { rates: Some(rates), ..report };
    check(&full, Control::Ack(Ack { number: 3, next: seq(42), report: Some(whole) }));
    let early = ControlPacket::decode(&full.slice(..full.len() - 4)).unwrap();
    let told = AckReport { rates: Some(AckRates { bytes_per_second: 0, ..rates }), ..report };
    assert_eq!(early.control, Control::Ack(Ack { number: 3, next: seq(42), report: Some(told) }));
    for len in [21, 24, 28, 31, 33, 36, 39, 41, 43] {
        assert!(ControlPacket::decode(&full.slice(..len)).is_err_and(|error| error.is_incomplete()), "{len}");
    }
    assert!(ControlPacket::decode(&control("80020000", "00000000", "8000002A")).is_err());
}

#[test]
fn appendix_a_loss_lists() {
    let list = |ranges: &[SeqRange]| Control::Nak(ranges.iter().copied().collect());
    let one = control("80030000", "00000000", "00000007");
    check(&one, list(&[range(7, 7)]));
    check_prefixes(&one, one.len());
    check(
        &control("80030000", "00000000", "00000007 80000009 0000000F FFFFFFFE 00000002"),
        list(&[range(7, 7), range(9, 15), range(SeqNumber::MAX - 1, 2)]),
    );
    let cut = ControlPacket::decode(&control("80030000", "00000000", "80000009"));
    assert!(cut.is_err_and(|error| error.is_incomplete()));
}

#[test]
fn s19_reversed_loss_ranges_are_refused() {
    for contents in ["80001388 0000000A", "80000000 7FFFFFFE", "80000009 8000000F"] {
        let result = ControlPacket::decode(&control("80030000", "00000000", contents));
        assert_eq!(result, Err(DecodeError::Malformed { what: "loss range", offset: 24 }), "{contents}");
    }
}

#[test]
fn s20b_a_loss_range_of_half_the_circle_is_one_entry() {
    let packet = ControlPacket::decode(&control("80030000", "00000000", "80000000 3FFFFFFF")).unwrap();
    let Control::Nak(list) = packet.control else { panic!("a loss list") };
    assert_eq!((list.ranges().len(), list.ranges()[0].len()), (1, 1 << 30));
}

#[test]
fn loss_lists_fit_into_a_packet() {
    assert_eq!(LossList::capacity(1_500), 364);
    assert_eq!(LossList::capacity(10), 0);
    let mut list = LossList::default();
    assert!(list.push(range(1, 1), 3) && list.push(range(3, 9), 3));
    assert!(!list.push(range(11, 11), 3) && list.words() == 3 && !list.is_empty());
}

#[test]
fn s22_s23_drop_requests_that_are_cut_or_reversed_are_refused() {
    let whole = control("80070000", "00000007", "0000000A 0000000C");
    check(&whole, Control::DropRequest { message: MsgNumber::new(7), range: range(10, 12) });
    check_prefixes(&whole, whole.len());
    for contents in ["00000000 7FFFFFFE", "0000000C 0000000A", "8000000A 0000000C"] {
        let result = ControlPacket::decode(&control("80070000", "00000000", contents));
        assert!(matches!(result, Err(DecodeError::Malformed { what: "dropped packets", .. })), "{contents}");
    }
}

#[test]
fn unknown_controls_are_kept_as_they_are() {
    let other = Control::Other { kind: 0x7FFF, subtype: 9, info: 1, data: Bytes::from_static(&[1, 2, 3]) };
    check(&control("FFFF0009", "00000001", "010203"), other);
}

/// The induction of libsrt 1.5.1 calling 127.0.0.1: version 4, socket type 2, the address with its lowest byte first.
const INDUCTION: &str = "00000004 0000 0002 1A2B3C4D 000005DC 00002000 00000001 2E0B5A7C 00000000
                         0100007F 00000000 00000000 00000000";

fn induction() -> Handshake {
    Handshake {
        version: 4,
        encryption: 0,
        extension_field: Handshake::DATAGRAM,
        initial_seq: seq(0x1A2B_3C4D),
        mtu: 1_500,
        flow_window: 8_192,
        kind: HandshakeKind::Induction,
        socket_id: SocketId(0x2E0B_5A7C),
        cookie: 0,
        peer_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        extensions: Bytes::new(),
    }
}

#[test]
fn section_3_2_1_handshakes() {
    let datagram = control("80000000", "00000000", INDUCTION);
    check(&datagram, Control::Handshake(induction()));
    check_prefixes(&datagram, datagram.len());
    for (kind, word) in [
        (HandshakeKind::WaveAHand, "00000000"),
        (HandshakeKind::Conclusion, "FFFFFFFF"),
        (HandshakeKind::Agreement, "FFFFFFFE"),
        (HandshakeKind::Done, "FFFFFFFD"),
        (HandshakeKind::Rejected(RejectReason::ROGUE), "000003EC"),
        (HandshakeKind::Rejected(RejectReason::NOT_FOUND), "00000964"),
    ] {
        let datagram = control("80000000", "00000000", &INDUCTION.replace("00000001", word));
        check(&datagram, Control::Handshake(Handshake { kind, ..induction() }));
    }
    for word in ["00000002", "000003E7", "0001FFFF", "80000000", "FFFFFFFC"] {
        let datagram = control("80000000", "00000000", &INDUCTION.replace("00000001", word));
        assert!(ControlPacket::decode(&datagram).is_err(), "{word}");
    }
}

#[test]
fn s03_a_truncated_induction_is_cut_short() {
    let datagram = control("80000000", "00000000", INDUCTION).slice(..36);
    assert!(Packet::decode(&datagram).is_err_and(|error| error.is_incomplete()));
}

#[test]
fn ipv6_addresses_have_each_word_turned_round() {
    let address: IpAddr = "2001:db8::1:2".parse().unwrap();
    let text =
        INDUCTION.replace("0100007F 00000000 00000000 00000000", "B80D0120 00000000 00000000 02000100");
    let datagram = control("80000000", "00000000", &text);
    check(&datagram, Control::Handshake(Handshake { peer_ip: address, ..induction() }));
}

fn keys(length: KeyLength, flags: KeyFlags) -> KeyMaterial {
    let wrapped = vec![0xAB; length.bytes() * flags.count() + 8];
    KeyMaterial::new(Cipher::Ctr, flags, [7; SALT_BYTES], length, &wrapped)
}

fn extensions() -> Extensions {
    Extensions {
        hs: Some(HsExtension {
            response: false,
            version: SrtVersion::new(1, 5, 1),
            flags: HsFlags::from_bits_retain(0xBF),
            receiver_delay_ms: 120,
            sender_delay_ms: 0,
        }),
        km: Some(KmExtension::Request(keys(KeyLength::Aes128, KeyFlags::Even))),
        stream_id: Some("publish:live/cam".to_owned()),
        congestion: Some("live".to_owned()),
        filter: Some("fec,cols:10".to_owned()),
        group: Some(GroupExtension { id: 0x4000_0001, kind: GroupKind::Backup, flags: 1, weight: 9 }),
    }
}

#[test]
fn section_3_2_1_1_extensions() {
    let encoded = extensions().encode();
    let expected = "00010003 00010501 000000BF 0078 0000
                    00050004 6C627570 3A687369 6576696C 6D61632F
                    00060001 6576696C
                    00070003 2C636566 736C6F63 0030313A
                    00080002 40000001 02 01 0009
                    0003000E 12202901 00000000 02000200 00000404";
    let expected = bytes(expected);
    assert_eq!(encoded.slice(..expected.len()), expected);
    assert_eq!(Extensions::decode(&encoded), Ok(extensions()));
    assert_eq!(extensions().flags(), 7);
    for len in 1..encoded.len() {
        let known = Extensions::decode(&encoded[..len]);
        assert!(
            !known.is_err_and(|error| error.is_incomplete()),
            "an extension list is a closed unit: {len}"
        );
    }
}

#[test]
fn unknown_extensions_are_passed_over_and_type_0_ends_the_list() {
    let padded = bytes("00630001 DEADBEEF 00060001 6576696C 00000000 FFFFFFFF");
    assert_eq!(Extensions::decode(&padded).unwrap().congestion.as_deref(), Some("live"));
    assert_eq!(Extensions::decode(&[]), Ok(Extensions::default()));
}

#[test]
fn s06_s07_extension_lengths_that_lie_are_rogue() {
    for text in ["0005FFFF 61616161", "00010000", "00030000", "0003", "000100030001"] {
        let error = Extensions::decode(&bytes(text)).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }), "{text}: {error}");
        assert_eq!(RejectReason::from(error), RejectReason::ROGUE);
    }
    // Contents of no length are no loop, and no stream id.
    assert_eq!(Extensions::decode(&bytes(&"00050000".repeat(300))), Ok(Extensions::default()));
}

#[test]
fn s08_stream_ids_are_at_most_512_bytes_of_text() {
    let with = |id: &[u8]| {
        let mut out = BytesMut::new();
        bytes::BufMut::put_u32(&mut out, 5 << 16 | u32::try_from(id.len().div_ceil(4)).unwrap());
        for word in id.chunks(4) {
            let mut word = word.to_vec();
            word.resize(4, 0);
            word.reverse();
            out.extend_from_slice(&word);
        }
        Extensions::decode(&out).map(|extensions| extensions.stream_id)
    };
    let limit = DecodeError::LimitExceeded { what: "streamid", limit: 512 };
    assert_eq!(with(&[b'x'; 512]).unwrap().map(|id| id.len()), Some(512));
    assert_eq!(with(&[b'x'; 513]), Err(limit));
    assert_eq!(with(&[b'x'; 1_320]), Err(limit));
    assert_eq!(RejectReason::from(limit), RejectReason::BAD_REQUEST);
    assert!(with(&[0xFF, 0xFE, 1, 2]).is_err(), "not UTF-8");
    assert!(with(b"live\0cam").is_err(), "NUL");
    assert_eq!(with(&[0; 512]), Ok(None));
    let long = Extensions { stream_id: Some("ä".repeat(300)), ..Extensions::default() };
    assert_eq!(Extensions::decode(&long.encode()).unwrap().stream_id, Some("ä".repeat(256)));
}

#[test]
fn s15_key_material_is_at_most_104_bytes() {
    for length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
        for flags in [KeyFlags::Even, KeyFlags::Odd, KeyFlags::Both] {
            let keys = keys(length, flags);
            let datagram = Packet::Control(ControlPacket {
                timestamp: TimeStamp::new(16),
                destination: SocketId(42),
                control: Control::KeyRequest(keys.clone()),
            })
            .to_bytes();
            check(&datagram, Control::KeyRequest(keys.clone()));
            check_prefixes(&datagram, datagram.len());
            assert!(keys.encoded_len() <= KeyMaterial::MAX_BYTES);
            let mut longer = BytesMut::from(&datagram[..]);
            longer.extend_from_slice(&[0; 1_200]);
            assert!(ControlPacket::decode(&longer.freeze()).is_err(), "what is left over is an error");
        }
    }
    assert_eq!(keys(KeyLength::Aes256, KeyFlags::Both).encoded_len(), KeyMaterial::MAX_BYTES);
}

#[test]
fn key_material_that_nobody_knows_is_refused() {
    let good = "12202901 00000000 02000200 00000404 0707070707070707 0707070707070707
                ABABABABABABABAB ABABABABABABABAB ABABABABABABABAB";
    let decode = |text: &str| ControlPacket::decode(&control("FFFF0003", "00000000", text));
    let parsed = decode(good).unwrap().control;
    assert_eq!(parsed, Control::KeyRequest(keys(KeyLength::Aes128, KeyFlags::Even)));
    for (from, to) in [
        ("12202901", "22202901"),     // version
        ("12202901", "12202A01"),     // signature
        ("12202901", "12202900"),     // no key
        ("12202901", "12202905"),     // reserved bits
        (" 00000000 ", " 00000001 "), // another wrapping key
        ("02000200", "03000200"),     // cipher
        ("02000200", "04000200"),     // GCM without its authentication
        ("02000200", "02000201"),     // reserved
        ("00000404", "00000304"),     // salt
        ("00000404", "00000405"),     // key length
        ("00000404", "00000406"),     // key length that the rest has not
    ] {
        assert!(decode(&good.replacen(from, to, 1)).is_err(), "{from} to {to}");
    }
    let gcm = decode(&good.replace("02000200", "04010200")).unwrap().control;
    assert!(matches!(gcm, Control::KeyRequest(KeyMaterial { cipher: Cipher::Gcm, .. })));
}

#[test]
fn s31_key_responses_are_one_word_or_key_material() {
    let decode =
        |text: &str| ControlPacket::decode(&control("FFFF0004", "00000000", text)).map(|p| p.control);
    assert_eq!(decode("00000004"), Ok(Control::KeyResponse(KeyResponse::Refused(KmState::BadSecret))));
    assert_eq!(decode("03000000"), Ok(Control::KeyResponse(KeyResponse::Refused(KmState::NoSecret))));
    assert!(decode("00000006").is_err());
    assert!(decode(&"41".repeat(1_352)).is_err());
    let keys = keys(KeyLength::Aes192, KeyFlags::Odd);
    let datagram = Packet::Control(ControlPacket {
        timestamp: TimeStamp::new(16),
        destination: SocketId(42),
        control: Control::KeyResponse(KeyResponse::Accepted(keys.clone())),
    });
    check(&datagram.to_bytes(), Control::KeyResponse(KeyResponse::Accepted(keys)));
}

#[test]
fn reasons_have_names() {
    assert_eq!(RejectReason::NOT_FOUND.to_string(), "there is no such stream (1404)");
    assert_eq!(RejectReason::new(2_123).to_string(), "rejection 2123");
    assert_eq!(SrtVersion::new(1, 5, 1).to_string(), "1.5.1");
    assert!(SrtVersion::new(1, 4, 9) < SrtVersion::CURRENT);
}

prop_compose! {
    fn any_header()(
        numbers in (0..=SeqNumber::MAX, 0..=MsgNumber::MAX, any::<u32>(), any::<u32>()),
        flags in (0..4_u32, any::<bool>(), 0..3_u32, any::<bool>()),
    ) -> DataHeader {
        DataHeader {
            seq: SeqNumber::new(numbers.0),
            position: [Position::Middle, Position::Last, Position::First, Position::Only][flags.0 as usize],
            in_order: flags.1,
            key: KeySpec::from_bits(flags.2).unwrap(),
            retransmitted: flags.3,
            message: MsgNumber::new(numbers.1),
            timestamp: TimeStamp::new(numbers.2),
            destination: SocketId(numbers.3),
        }
    }
}

proptest! {
    #[test]
    fn data_packets_round_trip(header in any_header(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let packet = Packet::Data(DataPacket { header, payload: payload.into() });
        prop_assert_eq!(Packet::decode(&packet.to_bytes()), Ok(packet));
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = Packet::decode(&data.into()) {
            prop_assert_eq!(Packet::decode(&packet.to_bytes()), Ok(packet));
        }
    }

    #[test]
    fn stream_ids_round_trip(id in "[ -~äöü]{1,128}") {
        let extensions = Extensions { stream_id: Some(id), ..Extensions::default() };
        prop_assert_eq!(Extensions::decode(&extensions.encode()), Ok(extensions));
    }
}
