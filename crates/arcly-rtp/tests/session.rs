//! Order, sources and reports, with time as an argument.

use std::time::{Duration, Instant};

use arcly_core::Timescale;
use arcly_rtp::session::{
    Counters, Delivery, Insertion, MAX_HELD, MAX_PACKETS, MAX_WAIT, Receiver, Reception, Release,
    ReorderBuffer, SOURCE_SILENCE, START_HOLD, SenderClock,
};
use arcly_rtp::wire::rtcp::{Goodbye, SenderReport};
use arcly_rtp::wire::{Header, NtpTime, RtpPacket};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn drain<T>(buffer: &mut ReorderBuffer<T>, now: Instant) -> Vec<Release<T>> {
    std::iter::from_fn(|| buffer.release(now)).collect()
}

#[test]
fn f53_a_gap_is_waited_for_and_then_given_up() {
    let start = Instant::now();
    let mut buffer = ReorderBuffer::new(MAX_WAIT);
    buffer.insert(start, 10, 10);
    assert_eq!(drain(&mut buffer, start), [Release::Packet(10)]);
    assert_eq!(buffer.insert(start, 13, 13), Insertion::Placed);
    assert_eq!(buffer.insert(start + 50 * MS, 12, 12), Insertion::Placed);
    assert_eq!(buffer.missing().collect::<Vec<_>>(), [11]);
    assert_eq!(buffer.deadline(), Some(start + MAX_WAIT), "since the first packet behind the gap");
    assert_eq!(drain(&mut buffer, start + MAX_WAIT - Duration::from_nanos(1)), []);
    let expect = [Release::Lost(1), Release::Packet(12), Release::Packet(13)];
    assert_eq!(drain(&mut buffer, start + MAX_WAIT), expect);
    assert_eq!(buffer.insert(start + MAX_WAIT, 11, 11), Insertion::Late);
    assert_eq!(buffer.insert(start + MAX_WAIT, 14, 14), Insertion::Placed);
    assert_eq!(buffer.insert(start + MAX_WAIT, 14, 14), Insertion::Duplicate);
}

/// A task that the machine held up for longer than anything is waited for: what it finds then has all arrived, and nothing of it is
/// given up because what is behind it is looked at later.
#[test]
fn f53_what_has_arrived_is_not_given_up_because_it_is_looked_at_late() {
    let start = Instant::now();
    let (mut receiver, mut sender) = (receiver(), Sender::new(9, 65_534, 0));
    let packets: Vec<_> = (0..8).map(|_| sender.next()).collect();
    for at in [0, 2] {
        receiver.handle_packet(start, packets[at].clone());
    }
    assert_eq!(taken(&mut receiver), [0]);
    let late = start + 10 * MAX_WAIT;
    for at in [3, 4, 5] {
        receiver.handle_packet(late, packets[at].clone());
        assert_eq!(taken(&mut receiver), [0; 0], "1 may be next");
    }
    assert_eq!(receiver.deadline(), Some(start + MAX_WAIT), "it is due, for who finds nothing more");
    receiver.handle_packet(late, packets[1].clone());
    assert_eq!(taken(&mut receiver), [1, 2, 3, 4, 5].map(|n| n * 1_800));
    receiver.handle_packet(late, packets[7].clone());
    receiver.handle_timeout(late + MAX_WAIT);
    assert_eq!(taken(&mut receiver), [-1, 7 * 1_800], "what has not come is given up");
    let counters = receiver.counters();
    assert_eq!((counters.lost, counters.late), (1, 0));
    assert_eq!(receiver.report(late).map(|block| block.cumulative_lost), Some(1), "and is all that is told");
}

#[test]
fn f53_a_start_out_of_order_is_put_in_order() {
    let start = Instant::now();
    let mut buffer = ReorderBuffer::new(MAX_WAIT).with_start_hold();
    assert_eq!(buffer.deadline(), None);
    assert_eq!(buffer.insert(start, 12, 12), Insertion::Placed);
    assert_eq!(drain(&mut buffer, start), []);
    assert_eq!(buffer.insert(start + MS, 10, 10), Insertion::Placed);
    assert_eq!(buffer.insert(start + MS, 10, 10), Insertion::Duplicate);
    assert_eq!(buffer.missing().collect::<Vec<_>>(), [11]);
    assert_eq!(buffer.deadline(), Some(start + START_HOLD));
    assert_eq!(drain(&mut buffer, start + START_HOLD - Duration::from_nanos(1)), []);
    assert_eq!(drain(&mut buffer, start + START_HOLD), [Release::Packet(10)]);
    assert_eq!(buffer.insert(start + START_HOLD, 9, 9), Insertion::Late, "the stream has begun");
    assert_eq!(buffer.insert(start + START_HOLD, 11, 11), Insertion::Placed);
    assert_eq!(drain(&mut buffer, start + START_HOLD), [Release::Packet(11), Release::Packet(12)]);
    assert_eq!(buffer.insert(start + START_HOLD, 13, 13), Insertion::Placed);
    assert_eq!(drain(&mut buffer, start + START_HOLD), [Release::Packet(13)], "nothing waits any more");
    buffer.reset();
    assert_eq!(buffer.insert(start + MAX_WAIT, 5, 5), Insertion::Placed);
    assert_eq!(drain(&mut buffer, start + MAX_WAIT), [], "a start again");
}

#[test]
fn f53_a_start_is_held_no_longer_than_anything_else_and_within_the_bound() {
    let now = Instant::now();
    let mut ordered = ReorderBuffer::new(Duration::ZERO).with_start_hold();
    ordered.insert(now, 7, 7);
    assert_eq!(drain(&mut ordered, now), [Release::Packet(7)], "what keeps order waits for nothing");
    let bound = i64::try_from(MAX_PACKETS).unwrap();
    let mut buffer = ReorderBuffer::new(MAX_WAIT).with_start_hold();
    buffer.insert(now, bound, bound);
    assert_eq!(buffer.insert(now, 0, 0), Insertion::Late, "too far before what is held");
    assert_eq!(buffer.insert(now, 1, 1), Insertion::Placed);
    assert_eq!(drain(&mut buffer, now), [Release::Packet(1)], "as much is held as may be");
    assert_eq!(buffer.len(), MAX_PACKETS - 1);
}

/// Who looks at the packets late begins with the earliest of those that have arrived.
#[test]
fn f53_a_start_that_is_looked_at_late_is_put_in_order() {
    let start = Instant::now();
    let (mut receiver, mut sender) = (receiver().with_start_hold(), Sender::new(9, 65_534, u32::MAX));
    let packets: Vec<_> = (0..4).map(|_| sender.next()).collect();
    for (at, now) in [(2, start), (1, start + MAX_WAIT), (0, start + MAX_WAIT), (3, start + MAX_WAIT)] {
        receiver.handle_packet(now, packets[at].clone());
        assert_eq!(taken(&mut receiver), [0; 0]);
    }
    receiver.handle_timeout(start + MAX_WAIT);
    assert_eq!(taken(&mut receiver), [-3_600, -1_800, 0, 1_800], "from zero at what arrived first");
    let report = receiver.report(start + MAX_WAIT).expect("a source");
    assert_eq!(
        (report.cumulative_lost, report.highest_sequence),
        (0, 1),
        "wraps count from what arrived first"
    );
    assert_eq!((receiver.counters().lost, receiver.counters().late), (0, 0));
}

#[test]
fn the_reorder_buffer_holds_its_bound() {
    let now = Instant::now();
    let mut buffer = ReorderBuffer::new(MAX_WAIT);
    buffer.insert(now, 0, 0);
    drain(&mut buffer, now);
    let bound = i64::try_from(MAX_PACKETS).unwrap();
    for number in 2..=bound {
        buffer.insert(now, number, number);
        assert_eq!(drain(&mut buffer, now), [], "{number} waits for 1");
    }
    assert_eq!(buffer.len(), MAX_PACKETS);
    buffer.insert(now, bound + 1, bound + 1);
    assert_eq!(drain(&mut buffer, now).len(), MAX_PACKETS + 1, "one lost, the others come out");
    assert!(buffer.is_empty());
    assert_eq!(buffer.insert(now, 2 * bound + 2, 0), Insertion::TooFar);
}

proptest! {
    /// Whatever comes in whatever order: out comes an ascending sequence without a double, whose gaps are said.
    #[test]
    fn what_comes_out_is_in_order_and_accounted_for(
        steps in proptest::collection::vec((-20..40_i64, 0..60_u64), 1..300), wait in 0..250_u64,
    ) {
        let (mut now, mut at) = (Instant::now(), 1_000_i64);
        let mut buffer = ReorderBuffer::new(Duration::from_millis(wait));
        let (mut next, mut placed, mut out) = (None, 0, 0);
        for (step, later) in steps {
            at = (at + step).max(0);
            now += Duration::from_millis(later);
            placed += usize::from(buffer.insert(now, at, at) == Insertion::Placed);
            next.get_or_insert(at);
            for release in drain(&mut buffer, now) {
                match release {
                    Release::Packet(number) => {
                        prop_assert_eq!(Some(number), next);
                        next = Some(number + 1);
                        out += 1;
                    }
                    Release::Lost(count) => next = next.map(|next| next + i64::try_from(count).unwrap()),
                }
            }
            prop_assert!(buffer.len() <= MAX_PACKETS);
            prop_assert!(buffer.deadline().is_none_or(|deadline| deadline > now));
            if wait == 0 {
                prop_assert!(buffer.is_empty());
            }
        }
        prop_assert!(out <= placed);
    }
}

proptest! {
    /// However the network mixes what comes within the hold, all of it comes out in order.
    #[test]
    fn f53_a_start_in_any_order_loses_nothing(
        order in Just((0..100_i64).collect::<Vec<_>>()).prop_shuffle(), steps in proptest::collection::vec(0..800_u64, 100),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut buffer = ReorderBuffer::new(MAX_WAIT).with_start_hold();
        for (number, step) in order.into_iter().zip(steps) {
            now += Duration::from_micros(step);
            prop_assert_eq!(buffer.insert(now, number, number), Insertion::Placed);
            prop_assert_eq!(drain(&mut buffer, now), []);
        }
        let deadline = buffer.deadline().expect("it is held");
        prop_assert!(deadline > now && deadline <= start + START_HOLD + Duration::from_micros(800));
        let all: Vec<_> = (0..100).map(Release::Packet).collect();
        prop_assert_eq!(drain(&mut buffer, deadline), all);
    }
}

/// A sender of one packet each 20 ms.
struct Sender {
    header: Header,
}

impl Sender {
    fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self { header: Header { marker: true, payload_type: 96, sequence, timestamp, ssrc } }
    }

    fn next(&mut self) -> RtpPacket {
        let packet = RtpPacket { header: self.header, payload: vec![1; 10].into(), ..RtpPacket::default() };
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(1_800);
        packet
    }
}

fn receiver() -> Receiver {
    Receiver::new(Timescale::MPEG, &[96, 97], MAX_WAIT)
}

/// What came out: ticks of packets, `-1` for each loss, `-2` for each restart.
fn taken(receiver: &mut Receiver) -> Vec<i64> {
    let deliveries = std::iter::from_fn(|| receiver.poll());
    deliveries
        .map(|delivery| match delivery {
            Delivery::Packet(packet) => packet.ticks,
            Delivery::Lost(_) => -1,
            Delivery::Restart => -2,
        })
        .collect()
}

#[test]
fn f23_offsets_are_removed_and_wraps_go_on() {
    let mut now = Instant::now();
    let (mut receiver, mut sender) = (receiver(), Sender::new(7, 65_000, u32::MAX - 3_000));
    for n in 0..3_000 {
        receiver.handle_packet(now, sender.next());
        assert_eq!(taken(&mut receiver), [n * 1_800]);
        now += 20 * MS;
    }
    assert_eq!(receiver.counters().packets, 3_000);
    assert_eq!(
        receiver.report(now).map(|block| (block.cumulative_lost, block.highest_sequence)),
        Some((0, 65_000 + 2_999))
    );
}

/// A thousand wraps of the sequence number, and 27 of the timestamp: of 500 packets one comes.
#[test]
fn f23_a_thousand_wraps() {
    let mut now = Instant::now();
    let mut receiver = Receiver::new(Timescale::MPEG, &[96], Duration::ZERO);
    let mut sender = Sender::new(7, 0, 1);
    for n in 0..131_072_i64 {
        receiver.handle_packet(now, sender.next());
        let expect: &[i64] = if n == 0 { &[0] } else { &[-1, n * 900_000] };
        assert_eq!(taken(&mut receiver), expect);
        sender.header.sequence = sender.header.sequence.wrapping_add(499);
        sender.header.timestamp = sender.header.timestamp.wrapping_add(499 * 1_800);
        now += Duration::from_secs(10);
    }
    assert_eq!(receiver.counters().lost, 131_071 * 499);
    let report = receiver.report(now).expect("a source");
    assert_eq!((report.cumulative_lost, report.highest_sequence), (0x7F_FFFF, 131_071 * 500));
}

#[test]
fn t32_jumps_are_one_discontinuity_when_they_are_believed() {
    let mut now = Instant::now();
    let mut receiver = receiver();
    let mut send = |receiver: &mut Receiver, sequence: u16, timestamp: u32| {
        now += 20 * MS;
        let mut sender = Sender::new(7, sequence, timestamp);
        receiver.handle_packet(now, sender.next());
        taken(receiver)
    };
    assert_eq!(send(&mut receiver, 65_535, 0), [0]);
    assert_eq!(send(&mut receiver, 0, 1_800), [1_800], "a wrap");
    assert_eq!(send(&mut receiver, 30_000, 3_600), [0; 0], "a single one is not believed");
    assert_eq!(send(&mut receiver, 29_999, 3_600), [0; 0]);
    assert_eq!(send(&mut receiver, 1, 3_600), [3_600], "the sequence goes on");
    assert_eq!(receiver.counters().foreign_source, 2);
    assert_eq!(send(&mut receiver, 30_000, 7_200), [0; 0]);
    assert_eq!(
        send(&mut receiver, 30_001, 9_000),
        [-2, 7_200, 9_000],
        "two in a row are, and nothing is lost"
    );
    assert_eq!(receiver.counters().restarts, 1);
    // A jump of the timestamp that comes with one is a new clock; time goes on as it passed.
    assert_eq!(send(&mut receiver, 50_000, 3_000_000_000), [0; 0]);
    assert_eq!(send(&mut receiver, 50_001, 3_000_001_800), [-2, 12_600, 14_400]);
}

#[test]
fn t40_sources_that_change_and_sources_that_interfere() {
    let mut now = Instant::now();
    let (mut receiver, mut first, mut second) =
        (receiver(), Sender::new(1, 5, 9_000), Sender::new(2, 60_000, 77));
    for n in 0..200 {
        receiver.handle_packet(now, first.next());
        receiver.handle_packet(now, second.next());
        assert_eq!(taken(&mut receiver), [n * 1_800], "the other source is not heard");
        now += 20 * MS;
    }
    assert_eq!(receiver.counters().restarts, 0);
    // The first falls silent: the other one takes over, with what was held of it.
    now += SOURCE_SILENCE;
    receiver.handle_packet(now, second.next());
    let out = taken(&mut receiver);
    assert_eq!((out.len(), out[0]), (MAX_HELD + 1, -2));
    assert!(out[1..].is_sorted() && out[1] > 199 * 1_800, "time does not run backwards: {:?}", &out[..3]);
    assert_eq!(receiver.counters().restarts, 1);
    // A goodbye of somebody else changes nothing; one of the source lets the next begin at once.
    assert!(!receiver.handle_goodbye(&Goodbye { sources: [1].into_iter().collect(), ..Goodbye::default() }));
    assert!(receiver.handle_goodbye(&Goodbye { sources: [2].into_iter().collect(), ..Goodbye::default() }));
    let mut third = Sender::new(3, 0, 0);
    receiver.handle_packet(now + MS, third.next());
    receiver.handle_packet(now + MS, third.next());
    assert_eq!((taken(&mut receiver).first(), receiver.ssrc()), (Some(&-2), Some(3)));
}

#[test]
fn t40_payload_types_that_were_not_agreed_on() {
    let now = Instant::now();
    let (mut receiver, mut sender) = (receiver(), Sender::new(1, 5, 9_000));
    let mut packet = sender.next();
    packet.header.payload_type = 13;
    receiver.handle_packet(now, packet);
    assert_eq!(taken(&mut receiver), [0; 0]);
    assert_eq!(receiver.counters(), {
        let mut c = Counters::default();
        c.foreign_type = 1;
        c
    });
    packet = sender.next();
    packet.header.payload_type = 97;
    receiver.handle_packet(now, packet);
    assert!(matches!(receiver.poll(), Some(Delivery::Packet(packet)) if packet.header.payload_type == 97));
}

/// RFC 3550 A.8 and §6.4.1.
#[test]
fn reports_count_losses_and_jitter() {
    let start = Instant::now();
    let mut reception = Reception::new(Timescale::of(8_000), start, 100);
    for n in 0..100_u32 {
        // Every tenth is lost, and every second comes 10 ms late: 80 ticks.
        if n % 10 != 9 {
            let late = Duration::from_millis(u64::from(n % 2) * 10);
            reception.packet(
                start + Duration::from_millis(u64::from(n) * 20) + late,
                100 + i64::from(n),
                n * 160,
            );
        }
    }
    let now = start + Duration::from_secs(3);
    reception.sender_report(now - Duration::from_millis(500), NtpTime(0x1234_5678_9ABC_DEF0));
    let report = reception.report(now, 7);
    assert_eq!((report.ssrc, report.cumulative_lost, report.highest_sequence), (7, 9, 198));
    assert_eq!(report.fraction_lost, u8::try_from(9 * 256 / 99).unwrap());
    assert!((70..=80).contains(&report.jitter), "{}", report.jitter);
    assert_eq!((report.last_sender_report, report.delay_since_last), (0x5678_9ABC, 32_768));
    assert_eq!(reception.report(now, 7).fraction_lost, 0, "counted anew");
    reception.packet(now, 198, 0);
    assert_eq!(reception.report(now, 7).cumulative_lost, 8, "a packet that comes twice makes up for one");
}

#[test]
fn f23_f26_a_senders_clock_holds_over_wraps_and_its_drift_is_measured() {
    let start = Instant::now();
    let mut clock = SenderClock::new(Timescale::MPEG);
    let wall = 3_900_000_000_u64;
    for n in 0..5_000_u32 {
        // The wall clock runs true, the media clock 0.5 % fast: 13.25 h and more.
        let ntp = NtpTime((wall + u64::from(n) * 10) << 32);
        clock.report(start + Duration::from_secs(u64::from(n) * 10), ntp, i64::from(n) * 904_500);
    }
    let drift = clock.drift().unwrap();
    assert_eq!((drift.media_ppm, drift.sender_ppm), (5_000, 0));
    let last = 4_999 * 904_500;
    let at = |ticks| clock.wall(ticks).unwrap();
    assert_eq!(at(last + 90_000).duration_since(at(last)).unwrap(), Duration::from_secs(1));
    assert_eq!(at(last), NtpTime((wall + 49_990) << 32).to_system_time().unwrap());
    assert_eq!(clock.moment(last + 1).unwrap() - clock.moment(last).unwrap(), 7_840);
}

#[test]
fn f25_reports_that_come_before_the_first_packet_count_and_those_without_a_clock_do_not() {
    let now = Instant::now();
    let (mut receiver, mut sender) = (receiver(), Sender::new(9, 1, 50_000));
    let report = SenderReport {
        ssrc: 9,
        ntp: NtpTime(3_900_000_000 << 32),
        rtp_timestamp: 50_000,
        ..SenderReport::default()
    };
    assert!(!receiver.handle_sender_report(now, &report), "of a source that is not there yet");
    receiver.handle_packet(now, sender.next());
    assert_eq!(receiver.wall(0), report.ntp.to_system_time());
    assert_eq!(receiver.ticks_of(50_900), Some(900));
    let silent = SenderReport { ntp: NtpTime(0), ..report.clone() };
    assert!(receiver.handle_sender_report(now, &silent));
    assert_eq!(receiver.wall(0), report.ntp.to_system_time(), "the last one that said something");
    let foreign = SenderReport { ssrc: 10, ..report };
    assert!(!receiver.handle_sender_report(now, &foreign));
}

#[test]
fn missing_packets_are_asked_for() {
    let now = Instant::now();
    let (mut receiver, mut sender) = (receiver(), Sender::new(9, 65_534, 0));
    let packets: Vec<_> = (0..6).map(|_| sender.next()).collect();
    for at in [0, 3, 5] {
        receiver.handle_packet(now, packets[at].clone());
    }
    let nack = receiver.nack(77).unwrap();
    assert_eq!((nack.sender, nack.media), (77, 9));
    assert_eq!(nack.sequences().collect::<Vec<_>>(), [65_535, 0, 2]);
    for at in [1, 2, 4] {
        receiver.handle_packet(now, packets[at].clone());
    }
    assert_eq!(receiver.nack(77), None);
    assert_eq!(taken(&mut receiver).len(), 6);
    assert_eq!(receiver.counters().lost, 0);
}
