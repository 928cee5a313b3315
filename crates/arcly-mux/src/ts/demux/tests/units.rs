//! Access units, however they are spread over PES packets.

use super::*;

#[test]
fn access_units_split_over_pes_packets_and_several_in_one_come_back() {
    let (sent, stream) = pictures(4);
    let video = |pts, dts| PesHeader { stream_id: 0xE0, pts: Some(pts), dts: Some(dts), aligned: false };
    let without = PesHeader { stream_id: 0xE0, ..PesHeader::default() };
    for split in [1, 5, 50, 90, 150, 5_000] {
        let (mut data, mut continuity) = (tables(&[(0x1B, VIDEO_PID)]), 0);
        for (bytes, pts, dts) in &stream {
            let (first, rest) = bytes.split_at(split.min(bytes.len()));
            data.extend(pes_packets(VIDEO_PID, video(*pts, *dts), first, &mut continuity));
            for part in rest.chunks(split.max(50)) {
                data.extend(pes_packets(VIDEO_PID, without, part, &mut continuity));
            }
        }
        let (events, counters) = demux(&data);
        assert_eq!(counters, Counters::default(), "split at {split}");
        assert_same(&sent, &frames(&events));
    }
    // Two pictures in a packet: the second has no time of its own.
    let (mut data, mut continuity) = (tables(&[(0x1B, VIDEO_PID)]), 0);
    for pair in stream.chunks(2) {
        let both: Vec<u8> = pair.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
        data.extend(pes_packets(VIDEO_PID, video(pair[0].1, pair[0].2), &both, &mut continuity));
    }
    let received = frames(&demux(&data).0);
    assert_eq!(received.len(), sent.len());
    for (sent, received) in sent.iter().zip(&received) {
        assert_eq!(sent.payload, received.payload);
        assert_eq!((sent.dts + ORIGIN).to_ticks(Timescale::MPEG), received.dts.to_ticks(Timescale::MPEG));
    }
}

#[test]
fn several_frames_of_sound_in_a_packet_and_frames_split_over_packets() {
    let config = aac_config(44_100);
    let adts = |n: i64| {
        let payload = vec![u8::try_from(n % 200).unwrap(); 100 + usize::try_from(n % 7).unwrap()];
        let header = arcly_codec::aac::AdtsHeader::for_access_unit(&config, payload.len()).unwrap();
        [header.encode(), payload].concat()
    };
    let file: Vec<Vec<u8>> = (0..100).map(adts).collect();
    let step = TimeDelta::from_ticks(1_024, Timescale::of(44_100));
    let at = |n: i64| (Timestamp(step.0 * n) + ORIGIN).to_ticks(Timescale::MPEG).unsigned_abs();
    let all: Vec<u8> = file.concat();
    let starts: Vec<usize> = file
        .iter()
        .scan(0, |at, frame| {
            let start = *at;
            *at += frame.len();
            Some(start)
        })
        .collect();
    for size in [10, 60, 333, 1_000, 4_000] {
        let (mut data, mut continuity) = (tables(&[(0x0F, VIDEO_PID)]), 0);
        for (n, chunk) in all.chunks(size).enumerate() {
            // The first frame that begins in the packet.
            let first = starts
                .iter()
                .position(|start| *start >= n * size)
                .filter(|i| starts[*i] < n * size + chunk.len());
            let pts = first.map(|first| at(i64::try_from(first).unwrap()));
            let header = PesHeader { stream_id: 0xC0, pts, ..PesHeader::default() };
            data.extend(pes_packets(VIDEO_PID, header, chunk, &mut continuity));
        }
        let (events, counters) = demux(&data);
        assert_eq!(counters, Counters::default());
        let received = frames(&events);
        assert_eq!(received.len(), file.len(), "packets of {size}");
        for (n, frame) in received.iter().enumerate() {
            assert_eq!(frame.payload, file[n][7..]);
            let off = frame.dts.to_ticks(Timescale::MPEG) - at(i64::try_from(n).unwrap()).cast_signed();
            assert!(off.abs() <= 1, "frame {n} is {off} ticks off");
            assert_eq!(frame.duration, step);
        }
    }
}

#[test]
fn loas_frames_give_their_access_units() {
    // AudioMuxElement with a configuration (LC, 48 kHz, stereo), then one with the same.
    let with = |payload: &[u8]| {
        let mut w = arcly_codec::bits::BitWriter::new();
        w.bits(1, 0).bits(1, 0).bits(1, 1).bits(6, 0).bits(4, 0).bits(3, 0);
        w.bits(5, 2).bits(4, 3).bits(4, 2).bits(3, 0);
        w.bits(3, 0).bits(8, 0xFF).bits(1, 0).bits(1, 0);
        w.bits(8, payload.len() as u64);
        payload.iter().for_each(|byte| {
            w.bits(8, u64::from(*byte));
        });
        w.align();
        w.finish()
    };
    let loas = |body: Vec<u8>| {
        let len = u16::try_from(body.len()).unwrap();
        [&[0x56, 0xE0 | len.to_be_bytes()[0], len.to_be_bytes()[1]], &body[..]].concat()
    };
    let (mut data, mut continuity) = (tables(&[(0x11, VIDEO_PID)]), 0);
    for n in 0..4_u8 {
        let pes = [loas(with(&[n; 50])), loas(with(&[100 + n; 60]))].concat();
        let header =
            PesHeader { stream_id: 0xC0, pts: Some(90_000 + u64::from(n) * 3_840), ..PesHeader::default() };
        data.extend(pes_packets(VIDEO_PID, header, &pes, &mut continuity));
    }
    let (events, counters) = demux(&data);
    assert_eq!(counters, Counters::default());
    let received = frames(&events);
    assert_eq!(
        received.iter().map(|frame| frame.payload[0]).collect::<Vec<_>>(),
        [0, 100, 1, 101, 2, 102, 3, 103]
    );
    assert_eq!(received[1].dts.to_ticks(Timescale::MPEG), 91_920);
    let track = tracks(&events)[0].get(TrackId::AUDIO).unwrap().clone();
    let params =
        AudioParams { sample_rate: 48_000, channels: 2, bits_per_sample: 0, samples_per_frame: Some(1_024) };
    assert_eq!((track.codec, track.audio().copied()), (CodecId::Aac, Some(params)));
}

#[test]
fn m30_pictures_up_to_eight_mebibytes() {
    const MIB: usize = 1 << 20;
    let source = Source::h264();
    for (len, ok) in [(79 * MIB / 10, true), (8 * MIB, true), (8 * MIB + 1, false)] {
        let mut sent = source.clone().seconds(2);
        let at = 10 + sent[10..].iter().position(MediaFrame::is_keyframe).unwrap();
        sent[at] = picture_of(&sent[at], len);
        let file = mux(&source.tracks(), &sent);
        if ok {
            assert_same(&sent, &frames(&demux(&file).0));
            continue;
        }
        let mut demuxer = Demuxer::default();
        let error = file.chunks(1_316).find_map(|piece| demuxer.push(piece).err());
        assert_eq!(error, Some(DecodeError::LimitExceeded { what: "access_unit", limit: 8 << 20 }));
        let events: Vec<_> = core::iter::from_fn(|| demuxer.poll_event()).collect();
        assert_same(&sent[..at], &frames(&events));
    }
}
