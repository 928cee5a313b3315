//! Programs and their tables, and those that lie.

use super::*;

#[test]
fn m18_tables_that_change_with_every_packet_are_looked_at_ten_times_a_second() {
    let mut demuxer = Demuxer::default();
    let (sent, stream) = pictures(1);
    let mut data = Vec::new();
    let mut continuity = 0;
    let mut version = 0;
    for (bytes, pts, dts) in &stream {
        for _ in 0..20 {
            version = (version + 1) & 31;
            let streams = [(0x1B, VIDEO_PID), (0x06, 0x200 + u16::from(version))];
            data.extend(section_packet(0, version, &pat(version, &[(1, PMT_PID)])));
            data.extend(section_packet(PMT_PID, version, &pmt(1, version, &streams)));
        }
        let header = PesHeader { stream_id: 0xE0, pts: Some(*pts), dts: Some(*dts), aligned: false };
        data.extend(pes_packets(VIDEO_PID, header, bytes, &mut continuity));
    }
    demuxer.push(&data).unwrap();
    demuxer.finish().unwrap();
    let events: Vec<_> = core::iter::from_fn(|| demuxer.poll_event()).collect();
    assert_same(&sent, &frames(&events));
    // A second of media, and 20 × 25 × 2 × 188 bytes.
    assert!(tracks(&events).len() <= 14, "{} track sets", tracks(&events).len());
}

#[test]
fn m18_bad_checksums_long_sections_and_300_programs_leave_the_stream_alone() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(3);
    let file = mux(&source.tracks(), &sent);
    let mut bad = pat(3, &[(9, 0x900)]);
    bad[9] ^= 1;
    let long = [&[0, 0xBF, 0xFF][..], &[0; 100]].concat();
    let hostile =
        [section_packet(0, 5, &bad), section_packet(0, 6, &long), section_packet(0, 7, &[])].concat();
    let mut broken = Vec::new();
    for (n, packet) in file.chunks(188).enumerate() {
        broken.extend_from_slice(packet);
        if n % 10 == 5 {
            broken.extend_from_slice(&hostile);
        }
    }
    let (events, counters) = demux(&broken);
    assert!(counters.bad_sections > 10);
    assert_same(&sent, &frames(&events));
    let many: Vec<(u16, u16)> = (1..=16).map(|n| (n, 0x1F00 + n)).collect();
    let mut demuxer = Demuxer::default();
    demuxer.push(&section_packet(0, 0, &pat(0, &many)).repeat(5)).unwrap();
    assert_eq!(demuxer.programs().count(), 16);
}

#[test]
fn m19_a_stream_whose_type_flips_changes_once_a_second() {
    let (_, stream) = pictures(5);
    let (mut data, mut continuity, mut version) = (tables(&[(0x1B, VIDEO_PID)]), 0, 0);
    for (bytes, pts, dts) in &stream {
        version = (version + 1) & 31;
        let kind = if version % 2 == 0 { 0x1B } else { 0x24 };
        data.extend(section_packet(PMT_PID, version, &pmt(1, version, &[(kind, VIDEO_PID)])));
        let header = PesHeader { stream_id: 0xE0, pts: Some(*pts), dts: Some(*dts), aligned: false };
        data.extend(pes_packets(VIDEO_PID, header, bytes, &mut continuity));
    }
    let (events, _) = demux(&data);
    assert!((1..=6).contains(&tracks(&events).len()), "{} track sets", tracks(&events).len());
}

#[test]
fn m19_maps_on_reserved_identifiers_are_no_programs() {
    for pid in [0, 0x0F, NULL_PID] {
        let data = [
            section_packet(0, 0, &pat(0, &[(1, pid)])),
            section_packet(pid, 1, &pmt(1, 0, &[(0x1B, VIDEO_PID)])),
        ];
        let mut demuxer = Demuxer::default();
        demuxer.push(&data.concat().repeat(10)).unwrap();
        assert_eq!(demuxer.program(), None, "{pid}");
    }
    let error = {
        let mut demuxer = Demuxer::default();
        let null = section_packet(NULL_PID, 0, &[]).repeat(1_000);
        (0..1_000).find_map(|_| demuxer.push(&null).err()).unwrap()
    };
    assert!(matches!(error, DecodeError::Malformed { what: "transport stream without program", .. }));
}

#[test]
fn a_program_is_chosen_by_number_and_the_first_playable_else() {
    let (sent, stream) = pictures(1);
    let programs = [(1, 0x1001), (2, 0x1002), (3, 0x1003)];
    let mut data = [
        section_packet(0, 0, &pat(0, &programs)),
        section_packet(0x1001, 0, &pmt(1, 0, &[(0x05, 0x500)])),
        section_packet(0x1002, 0, &pmt(2, 0, &[(0x1B, VIDEO_PID)])),
        section_packet(0x1003, 0, &pmt(3, 0, &[(0x0F, 0x101)])),
    ]
    .concat();
    let mut continuity = 0;
    for (bytes, pts, dts) in &stream {
        let header = PesHeader { stream_id: 0xE0, pts: Some(*pts), dts: Some(*dts), aligned: false };
        data.extend(pes_packets(VIDEO_PID, header, bytes, &mut continuity));
    }
    for (wanted, chosen, count) in [(None, 2, sent.len()), (Some(2), 2, sent.len()), (Some(3), 3, 0)] {
        let mut demuxer = Demuxer::new(DemuxerOptions { program: wanted });
        demuxer.push(&data).unwrap();
        demuxer.finish().unwrap();
        assert_eq!(demuxer.program(), Some(chosen));
        assert_eq!(demuxer.programs().collect::<Vec<_>>(), [1, 2, 3]);
        let events: Vec<_> = core::iter::from_fn(|| demuxer.poll_event()).collect();
        assert_eq!(frames(&events).len(), count);
    }
}

#[test]
fn a_track_that_comes_later_is_announced_then() {
    let source = Source::h264_aac();
    let video = TrackSet::new(source.tracks().get(TrackId::VIDEO).cloned());
    let sent = source.clone().seconds(4);
    let late = Timestamp::from_millis(2_000);
    let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(&video);
    let mut switched = false;
    for frame in &sent {
        if frame.dts >= late && !core::mem::replace(&mut switched, true) {
            muxer.set_tracks(&source.tracks());
        }
        muxer.frame(frame, &mut out);
    }
    let (events, counters) = demux(&out);
    assert_eq!(counters, Counters::default());
    let sets = tracks(&events);
    assert_eq!(sets.iter().map(TrackSet::len).collect::<Vec<_>>(), [1, 2]);
    let expect: Vec<_> =
        sent.iter().filter(|f| f.track == TrackId::VIDEO || f.dts >= late).cloned().collect();
    assert_same(&expect, &frames(&events));
}
