//! Packets that come back, those that do not, and what both ends agree on.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::{DataHeader, DataPacket, KeySpec, MsgNumber, SeqNumber, SocketId, TimeStamp};

fn layout(text: &str) -> FecLayout {
    text.parse::<FilterConfig>().unwrap().layout().unwrap()
}

/// Packets of different lengths, times and keys, and behind each what the filter makes of them.
fn stream(layout: FecLayout, first: SeqNumber, count: u32) -> Vec<DataPacket> {
    let mut sender = FecSender::new(layout, first);
    let mut sent = Vec::new();
    for n in 0..count {
        let header = DataHeader {
            timestamp: TimeStamp::new(n.wrapping_mul(2_654_435_761)),
            key: KeySpec::from_bits(n / 7 % 3).unwrap(),
            destination: SocketId(9),
            ..DataHeader::new(first.plus(n), MsgNumber::FIRST.offset(n.try_into().unwrap()))
        };
        let len = usize::try_from(n * 37 % 200).unwrap();
        let payload = Bytes::from(vec![u8::try_from(n % 251).unwrap(); len]);
        sender.handle_packet(&header, &payload);
        sent.push(DataPacket { header, payload });
        sent.extend(std::iter::from_fn(|| sender.poll_packet()));
    }
    sent
}

struct Result {
    /// Numbers of packets that came back, counted from the first.
    recovered: Vec<i32>,
    losses: Vec<i32>,
}

/// Loses what `lost` says of data (by number) and of the filter's packets (by how many of them came before).
fn run(layout: FecLayout, first: SeqNumber, count: u32, lost: &dyn Fn(bool, i32) -> bool) -> Result {
    let sent = stream(layout, first, count);
    let mut receiver = FecReceiver::new(layout, first);
    let (mut result, mut parities) = (Result { recovered: Vec::new(), losses: Vec::new() }, 0);
    for packet in &sent {
        let n = first.distance_to(packet.header.seq);
        let is_data = packet.header.message != MsgNumber::CONTROL;
        parities += i32::from(!is_data);
        if lost(is_data, if is_data { n } else { parities - 1 }) {
            continue;
        }
        receiver.handle_packet(packet);
        while let Some(packet) = receiver.poll_recovered() {
            let n = first.distance_to(packet.header.seq);
            let original = sent.iter().find(|sent| {
                sent.header.seq == packet.header.seq && sent.header.message != MsgNumber::CONTROL
            });
            let original = original.expect("only what was sent comes back");
            assert!(packet.header.retransmitted);
            let header = DataHeader { retransmitted: false, ..packet.header };
            assert_eq!((header, &packet.payload), (original.header, &original.payload), "packet {n}");
            result.recovered.push(n);
        }
        while let Some(range) = receiver.poll_loss() {
            result.losses.extend(range.iter().map(|seq| first.distance_to(seq)));
        }
    }
    result
}

const FIRST: SeqNumber = SeqNumber::new(SeqNumber::MAX - 20);

#[test]
fn what_configurations_say() {
    for (text, expected) in [
        ("fec,cols:10", "fec,cols:10,rows:1,layout:staircase,arq:onreq"),
        ("fec,cols:10,rows:5,layout:even,arq:never", "fec,cols:10,rows:5,layout:even,arq:never"),
        ("fec,cols:4,rows:-6,arq:always", "fec,cols:4,rows:-6,layout:staircase,arq:always"),
    ] {
        assert_eq!(layout(text).to_string(), expected);
        assert_eq!(text.parse::<FilterConfig>().unwrap().to_string(), text);
    }
    for (text, error) in [
        ("adaptive", FilterError::Unknown),
        ("fec,cols", FilterError::Value("syntax")),
        ("fec,cols:1", FilterError::Value("cols")),
        ("fec,cols:128", FilterError::Value("cols")),
        ("fec,rows:0", FilterError::Value("rows")),
        ("fec,rows:-1", FilterError::Value("rows")),
        ("fec,rows:257", FilterError::Value("rows")),
        ("fec,rows:-32768", FilterError::Value("rows")),
        ("fec,layout:odd", FilterError::Value("layout")),
        ("fec,arq:sometimes", FilterError::Value("arq")),
        ("fec,level:3", FilterError::Value("key")),
    ] {
        assert_eq!(text.parse::<FilterConfig>(), Err(error), "{text}");
    }
    let fec = |text: &str| text.parse::<FilterConfig>().unwrap();
    assert_eq!(fec("fec").layout(), Err(FilterError::NoColumns));
    assert_eq!(fec("fec,cols:100,rows:100").layout(), Err(FilterError::Value("rows")));
    assert_eq!(fec("fec").merge(&fec("fec,cols:5")), Ok(fec("fec,cols:5")));
    assert_eq!(fec("fec,cols:5,arq:never").merge(&fec("fec,rows:3")), Ok(fec("fec,cols:5,rows:3,arq:never")));
    assert_eq!(fec("fec,cols:5").merge(&fec("fec,cols:6")), Err(FilterError::Differs("cols")));
}

#[test]
fn parity_comes_where_libsrt_sends_it() {
    // As in the guide: the numbers of the packets that parity follows.
    let places = |text: &str, count| {
        let packets = stream(layout(text), SeqNumber::new(500), count);
        let parities = packets.iter().filter(|packet| packet.header.message == MsgNumber::CONTROL);
        parities
            .map(|packet| (packet.payload[0].cast_signed(), packet.header.seq.value()))
            .collect::<Vec<_>>()
    };
    assert_eq!(places("fec,cols:10", 20), [(-1, 509), (-1, 519)]);
    let even = places("fec,cols:10,rows:5,layout:even", 50);
    assert_eq!(even[3..6], [(-1, 539), (0, 540), (1, 541)]);
    assert_eq!(even[13..], [(9, 549), (-1, 549)]);
    let staircase = places("fec,cols:10,rows:5,layout:staircase", 60);
    let from_537 = staircase.iter().filter(|(_, seq)| *seq >= 537).copied().collect::<Vec<_>>();
    assert_eq!(from_537, [(-1, 539), (0, 540), (5, 545), (-1, 549), (1, 551), (6, 556), (-1, 559)]);
    assert_eq!(places("fec,cols:3,rows:-2,layout:even", 6), [(0, 503), (1, 504), (2, 505)]);
}

#[test]
fn a_row_brings_one_packet_back() {
    for text in ["fec,cols:5", "fec,cols:5,arq:always", "fec,cols:5,arq:never"] {
        let result = run(layout(text), FIRST, 100, &|is_data, n| is_data && n % 5 == n / 5 % 5);
        assert_eq!(result.recovered, (0..20).map(|row| row * 5 + row % 5).collect::<Vec<_>>(), "{text}");
        assert_eq!(result.losses, [], "{text}");
    }
}

#[test]
fn a_burst_is_brought_back_by_columns() {
    for text in ["fec,cols:10,rows:4,layout:even", "fec,cols:10,rows:-4", "fec,cols:10,rows:4"] {
        let result = run(layout(text), FIRST, 400, &|is_data, n| is_data && (81..91).contains(&n));
        let mut recovered = result.recovered;
        recovered.sort_unstable();
        assert_eq!(recovered, (81..91).collect::<Vec<_>>(), "{text}");
        assert_eq!(result.losses, [], "{text}");
    }
}

#[test]
fn what_rows_and_columns_bring_back_helps_each_other() {
    // Two in one row, and one of them alone in its column: the column brings that one back, and then the row the other,
    // whose column has lost another one, which that column then brings back.
    let lost = |is_data: bool, n: i32| is_data && [41, 42, 52].contains(&n);
    let mut result = run(layout("fec,cols:10,rows:4,layout:even"), FIRST, 100, &lost);
    result.recovered.sort_unstable();
    assert_eq!((result.recovered, result.losses), (vec![41, 42, 52], vec![]));
}

#[test]
fn what_does_not_come_back_is_said_once_and_in_time() {
    let lost = |is_data: bool, n: i32| is_data && (21..24).contains(&n);
    assert_eq!(run(layout("fec,cols:5"), FIRST, 30, &lost).losses, [21, 22, 23]);
    assert_eq!(run(layout("fec,cols:5,arq:never"), FIRST, 30, &lost).losses, []);
    assert_eq!(run(layout("fec,cols:5,arq:always"), FIRST, 30, &lost).losses, []);
    // A square of four cannot be brought back, and is said when its columns are through: rows 4 to 7.
    let square = |is_data: bool, n: i32| is_data && [41, 42, 51, 52].contains(&n);
    let mut losses = run(layout("fec,cols:10,rows:4,layout:even"), FIRST, 80, &square).losses;
    losses.sort_unstable();
    assert_eq!(losses, [41, 42, 51, 52]);
    assert_eq!(run(layout("fec,cols:10,rows:4,layout:even"), FIRST, 75, &square).losses, []);
    // The beginning of a staircase is in no column.
    let start = |is_data: bool, n: i32| is_data && [5, 6].contains(&n);
    let losses = run(layout("fec,cols:10,rows:4"), FIRST, 80, &start).losses;
    assert_eq!(losses, [5, 6]);
}

#[test]
fn a_jump_over_everything_begins_anew() {
    let lost =
        |is_data: bool, n: i32| (is_data && (50..300).contains(&n)) || (!is_data && (10..60).contains(&n));
    let result = run(layout("fec,cols:5"), FIRST, 400, &lost);
    assert_eq!(result.losses, (50..300).collect::<Vec<_>>());
    let after = |is_data: bool, n: i32| lost(is_data, n) || (is_data && n == 333);
    assert_eq!(run(layout("fec,cols:5"), FIRST, 400, &after).recovered, [333]);
}

#[test]
fn parity_that_lies_makes_no_packet_that_is_longer_than_one() {
    let layout = layout("fec,cols:3");
    let mut receiver = FecReceiver::new(layout, FIRST);
    let packets = stream(layout, FIRST, 3);
    receiver.handle_packet(&packets[0]);
    receiver.handle_packet(&packets[1]);
    for payload in
        [&b""[..], b"\xFF", b"\xFF\0\xFF", b"\xFF\x03\xFF\xFFabc", b"\x7F\0\0\x01a", b"\x03\0\0\x01a"]
    {
        let header = DataHeader::new(FIRST.plus(2), MsgNumber::CONTROL);
        let mut receiver = FecReceiver::new(layout, FIRST);
        receiver.handle_packet(&packets[0]);
        receiver.handle_packet(&packets[1]);
        receiver.handle_packet(&DataPacket { header, payload: Bytes::from_static(payload) });
        assert_eq!(receiver.poll_recovered(), None, "{payload:?}");
    }
}

#[test]
fn a_sender_that_leaves_packets_out_sends_no_parity_over_them() {
    let layout = layout("fec,cols:3");
    let mut sender = FecSender::new(layout, FIRST);
    for n in [0, 1, 3, 4, 5, 6] {
        sender.handle_packet(&DataHeader::new(FIRST.plus(n), MsgNumber::FIRST), b"x");
    }
    assert_eq!(sender.poll_packet().map(|packet| packet.header.seq), Some(FIRST.plus(5)));
    assert_eq!(sender.poll_packet(), None);
}

fn any_layout() -> impl Strategy<Value = FecLayout> {
    let config = (2..12_u16, prop_oneof![Just(1), 2..8_i16, -7..-1_i16], any::<bool>()).prop_map(
        |(columns, rows, even)| {
            let layout = if even { Layout::Even } else { Layout::Staircase };
            FilterConfig { columns: Some(columns), rows: Some(rows), layout: Some(layout), arq: None }
        },
    );
    config.prop_map(|config| config.layout().unwrap())
}

proptest! {
    /// Whatever is lost, comes twice or out of order: what comes back is what was sent, nothing comes back twice, and
    /// everything that is lost and in a group that is through comes back or is said to be lost.
    #[test]
    fn nothing_is_made_up(
        layout in any_layout(),
        fates in proptest::collection::vec(0..20_u8, 400),
        first in 0..=SeqNumber::MAX,
    ) {
        let first = SeqNumber::new(first);
        let sent = stream(layout, first, 250);
        let mut order: Vec<&DataPacket> = Vec::new();
        for (n, packet) in sent.iter().enumerate() {
            match fates[n % fates.len()] {
                0 | 1 => {}
                2 => order.extend([packet, packet]),
                3 if !order.is_empty() => order.insert(order.len() - 1, packet),
                _ => order.push(packet),
            }
        }
        let is_data = |packet: &DataPacket| packet.header.message != MsgNumber::CONTROL;
        let came: Vec<SeqNumber> = order.iter().filter(|p| is_data(p)).map(|p| p.header.seq).collect();
        let mut receiver = FecReceiver::new(layout, first);
        let (mut back, mut lost) = (Vec::new(), Vec::new());
        for packet in order {
            receiver.handle_packet(packet);
            while let Some(packet) = receiver.poll_recovered() {
                let original = sent.iter().find(|p| is_data(p) && p.header.seq == packet.header.seq).unwrap();
                prop_assert_eq!(&original.payload, &packet.payload);
                prop_assert_eq!(original.header.timestamp, packet.header.timestamp);
                prop_assert_eq!(original.header.message, packet.header.message);
                prop_assert!(!back.contains(&packet.header.seq));
                back.push(packet.header.seq);
            }
            lost.extend(std::iter::from_fn(|| receiver.poll_loss()).flat_map(|range| range.iter().collect::<Vec<_>>()));
        }
        let through = 250 - 2 * layout.matrix() - 2 * u32::from(layout.columns());
        for n in 0..through {
            let seq = first.plus(n);
            prop_assert!(came.contains(&seq) || back.contains(&seq) || lost.contains(&seq), "packet {}", n);
        }
        for seq in &lost {
            prop_assert!(lost.iter().filter(|other| *other == seq).count() == 1, "said once");
        }
    }
}
