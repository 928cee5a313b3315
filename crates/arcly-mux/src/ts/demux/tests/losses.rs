//! Garbage, losses, repetitions and what never ends.

use super::*;

#[test]
fn m16_garbage_between_packets_costs_what_it_covers() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(6);
    let file = mux(&source.tracks(), &sent);
    let middle = file.len() / 188 / 2 * 188;
    let mut rng = Rng::new(16);
    for len in [1, 187, 188, 5_000, 900_000] {
        let garbage = rng.bytes(len)[..len].to_vec();
        let broken = [&file[..middle], &garbage, &file[middle..]].concat();
        let (events, counters) = demux(&broken);
        let received = frames(&events);
        assert!(counters.sync_losses >= 1);
        assert!(received.len() + 14 >= sent.len(), "{len}: {} of {}", received.len(), sent.len());
    }
    let mut demuxer = Demuxer::default();
    demuxer.push(&file).unwrap();
    let error = (0..).find_map(|_| demuxer.push(&[0x46; 4_096]).err()).unwrap();
    assert!(matches!(error, DecodeError::Malformed { what: "transport stream without sync", .. }));
}

#[test]
fn m21_pes_packets_that_never_end_are_bounded_together() {
    let streams: Vec<(u8, u16)> = (0..32).map(|n| (0x1B, 0x100 + n)).collect();
    let mut demuxer = Demuxer::default();
    demuxer.push(&tables(&streams)).unwrap();
    let start = |pid: u16| {
        let [high, low] = pid.to_be_bytes();
        let mut packet =
            vec![SYNC_BYTE, 0x40 | high, low, 0x10, 0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
        packet.resize(188, 1);
        packet
    };
    let starts: Vec<u8> = streams.iter().flat_map(|(_, pid)| start(*pid)).collect();
    demuxer.push(&starts).unwrap();
    let mut round: Vec<u8> = starts.clone();
    for continuity in 1..(100 << 20) / 188 / 32 {
        for packet in round.chunks_exact_mut(188) {
            packet[1] &= 0xBF;
            packet[3] = 0x10 | u8::try_from(continuity & 15).unwrap();
        }
        demuxer.push(&round).unwrap();
        assert!(demuxer.buffered() <= MAX_HELD_BYTES + 4 * 188, "{}", demuxer.buffered());
    }
    assert!(demuxer.counters().oversized >= 1);
}

#[test]
fn m23_packets_that_come_twice_are_dropped_and_a_counter_that_stands_still_is_borne() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(3);
    let file = mux(&source.tracks(), &sent);
    let twice: Vec<u8> = file.chunks(188).flat_map(|packet| [packet, packet].concat()).collect();
    let (events, counters) = demux(&twice);
    assert_same(&sent, &frames(&events));
    assert!(counters.repeated > 100 && counters.gaps == 0, "{counters:?}");
    let mut still = file;
    still.chunks_mut(188).for_each(|packet| packet[3] &= 0xF0);
    let (events, _) = demux(&still);
    assert_same(&sent, &frames(&events));
}

#[test]
fn m23_a_lost_packet_is_counted_and_costs_its_frame() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(3);
    let file = mux(&source.tracks(), &sent);
    let packets = file.len() / 188;
    for lost in (20..packets).step_by(17) {
        let cut = [&file[..lost * 188], &file[(lost + 1) * 188..]].concat();
        let (events, counters) = demux(&cut);
        let received = frames(&events);
        let bad = received.iter().filter(|frame| frame.flags.contains(FrameFlags::CORRUPT)).count();
        assert!(counters.gaps <= 1 && bad <= 1, "{lost}: {counters:?}");
        assert!(received.len() + 1 >= sent.len(), "{lost}: {} of {}", received.len(), sent.len());
        let whole = received.iter().filter(|frame| !frame.flags.contains(FrameFlags::CORRUPT));
        let known: std::collections::HashSet<_> = sent.iter().map(|frame| frame.payload.clone()).collect();
        assert!(
            whole.clone().all(|frame| known.contains(&frame.payload)),
            "{lost}: a damaged frame passes as whole"
        );
    }
}

#[test]
fn m24_the_wrap_of_the_clock_is_no_event() {
    // 33 bits of 90 kHz are 26 h 30 min 43.7 s; the stream begins 2 s before.
    let wrap = Timestamp::from_ticks(1 << 33, Timescale::MPEG) - ORIGIN;
    let source = Source::h264_aac().starting_at(wrap - TimeDelta::from_millis(2_000));
    let set = source.tracks();
    let sent = source.seconds(4);
    let file = mux(&set, &sent);
    assert!(sent.first().unwrap().dts < wrap && sent.last().unwrap().dts > wrap);
    let (events, counters) = demux(&file);
    assert_eq!(counters, Counters::default());
    assert_same(&sent, &frames(&events));
    let ticks: Vec<_> = file
        .chunks(188)
        .filter_map(|packet| Packet::decode(packet.try_into().unwrap()).unwrap().adaptation.pcr)
        .collect();
    assert!(
        ticks.iter().all(|pcr| *pcr < (1 << 33) * 300) && ticks.windows(2).any(|w| w[1] < w[0]),
        "the clock wraps"
    );
}

#[test]
fn m34_a_stream_cut_or_changed_anywhere_is_borne() {
    let source = Source::h264_aac();
    let file = mux(&source.tracks(), &source.seconds(1));
    for cut in (0..file.len()).step_by(31) {
        let first = demux(&file[..cut]);
        assert_eq!(first, demux(&file[..cut]), "{cut}");
    }
    let short = &file[..6 * 188];
    for at in 0..short.len() {
        for flip in [1, 0x40, 0x80, 0xFF] {
            let mut bytes = short.to_vec();
            bytes[at] ^= flip;
            let _ = demux(&bytes);
        }
    }
}
