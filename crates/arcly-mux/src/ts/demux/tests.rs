//! What whole streams become: round trips, splits, losses, tables that lie.

use arcly_codec::opus;
use arcly_core::codec::{AudioParams, AudioSpecificConfig, OpusConfig};
use arcly_core::{
    CodecConfig, CodecId, FourCc, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, Track,
    TrackId, TrackKind, TrackSet,
};
use arcly_testkit::media::{Source, picture_of};
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

use super::*;
use crate::ts::packet::{NULL_PID, SYNC_BYTE};
use crate::ts::pes::PesHeader;
use crate::ts::psi::{Pat, StreamInfo};
use crate::ts::{Muxer, ORIGIN};

const VIDEO_PID: u16 = 0x100;
const PMT_PID: u16 = 0x1000;

fn mux(tracks: &TrackSet, frames: &[MediaFrame]) -> BytesMut {
    let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(tracks);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    out
}

/// The events of a stream that comes in pieces, and what was tolerated.
fn demux_in(data: &[u8], piece: usize) -> (Vec<MediaEvent>, Counters) {
    let (mut demuxer, mut events) = (Demuxer::default(), Vec::new());
    for piece in data.chunks(piece) {
        demuxer.push(piece).unwrap();
        events.extend(core::iter::from_fn(|| demuxer.poll_event()));
    }
    demuxer.finish().unwrap();
    events.extend(core::iter::from_fn(|| demuxer.poll_event()));
    (events, demuxer.counters())
}

fn demux(data: &[u8]) -> (Vec<MediaEvent>, Counters) {
    demux_in(data, 1_316)
}

fn frames(events: &[MediaEvent]) -> Vec<MediaFrame> {
    let frame = |event: &MediaEvent| match event {
        MediaEvent::Frame(frame) => Some(frame.clone()),
        MediaEvent::Tracks(_) => None,
    };
    events.iter().filter_map(frame).collect()
}

fn tracks(events: &[MediaEvent]) -> Vec<TrackSet> {
    let set = |event: &MediaEvent| match event {
        MediaEvent::Tracks(set) => Some(set.clone()),
        MediaEvent::Frame(_) => None,
    };
    events.iter().filter_map(set).collect()
}

/// As it comes back: a second later, in ticks of 90 kHz.
fn expected(frame: &MediaFrame) -> (TrackId, i64, i64, Bytes, bool) {
    let ticks = |at: Timestamp| (at + ORIGIN).to_ticks(Timescale::MPEG);
    (frame.track, ticks(frame.pts), ticks(frame.dts), frame.payload.clone(), frame.is_keyframe())
}

fn got(frame: &MediaFrame) -> (TrackId, i64, i64, Bytes, bool) {
    let ticks = |at: Timestamp| at.to_ticks(Timescale::MPEG);
    (frame.track, ticks(frame.pts), ticks(frame.dts), frame.payload.clone(), frame.is_keyframe())
}

/// Asserts that the frames of each track are those that went in.
fn assert_same(sent: &[MediaFrame], received: &[MediaFrame]) {
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|frame| frame.track).collect();
    for id in ids {
        let sent: Vec<_> = sent.iter().filter(|frame| frame.track == id).map(expected).collect();
        let received: Vec<_> = received.iter().filter(|frame| frame.track == id).map(got).collect();
        assert_eq!(sent.len(), received.len(), "frames of track {id}");
        for (n, (sent, received)) in sent.iter().zip(&received).enumerate() {
            assert_eq!(sent, received, "frame {n} of track {id}");
        }
    }
}

fn aac_config(sample_rate: u32) -> AudioSpecificConfig {
    let config = AudioSpecificConfig {
        object_type: 2,
        sample_rate,
        channel_config: 2,
        channels: 2,
        ..AudioSpecificConfig::default()
    };
    AudioSpecificConfig { raw: arcly_codec::aac::encode_config(&config), ..config }
}

/// Frames of one track at a steady pace.
fn steady(track: TrackId, count: i64, step: TimeDelta, payload: impl Fn(i64) -> Vec<u8>) -> Vec<MediaFrame> {
    let frame = |n| {
        MediaFrame::new(track, Timestamp(step.0 * n), payload(n).into())
            .with_duration(step)
            .with_flags(FrameFlags::KEYFRAME)
    };
    (0..count).map(frame).collect()
}

#[test]
fn a_stream_comes_back_as_it_went_in() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(5);
    let file = mux(&source.tracks(), &sent);
    let (events, counters) = demux(&file);
    assert_eq!(counters, Counters::default());
    assert_same(&sent, &frames(&events));
    let sets = tracks(&events);
    assert_eq!(sets.len(), 1, "all tracks at once: {sets:#?}");
    for track in &source.tracks() {
        let found = sets[0].get(track.id).unwrap();
        assert_eq!((found.codec, &found.config), (track.codec, &track.config));
    }
    for piece in [1, 7, 188, 1_000_000] {
        assert_eq!(demux_in(&file, piece).0, events, "pieces of {piece}");
    }
}

#[test]
fn a_stream_begins_with_its_first_frame() {
    let source = Source::h264_aac();
    let sent = source.clone().seconds(2);
    let first = frames(&demux(&mux(&source.tracks(), &sent)).0).remove(0);
    assert_eq!(got(&first), expected(&sent[0]), "a picture, although the sound beside it is whole earlier");
}

#[test]
fn every_codec_and_language_comes_back() {
    let step = TimeDelta::from_millis(24);
    let id = |n| TrackId::new(n).unwrap();
    let mut ac3 = vec![0x0B, 0x77, 0, 0, 0x08, 0x40, 0x2F, 0x84, 9];
    ac3.resize(256, 0);
    // 48 kHz, six blocks, stereo; 100 words.
    let mut eac3 = vec![0x0B, 0x77, 0, 99, 0x34, 0x84, 0, 0];
    eac3.resize(200, 1);
    let mut mp3 = vec![0xFF, 0xFB, 0x94, 0x00];
    mp3.resize(384, 2);
    let mut mp2 = vec![0xFF, 0xFD, 0xA4, 0x00];
    mp2.resize(576, 3);
    let surround = OpusConfig {
        mapping_family: 1,
        mapping: [4, 2, 0, 4, 1, 2, 3, 5].as_slice().into(),
        ..opus::default_config(6)
    };
    let subtitles = Bytes::from_static(b"\x59\x08deu\x10\0\x01\0\x01");
    let splice: &[u8] = b"\xFC\x30\x12\0\0\0\0\0\0\0\0\xFF\xF0\0\0\0\0\x7A\x4F\xBF\xFF";
    let cases: Vec<(CodecId, CodecConfig, Option<&str>, Vec<u8>)> = vec![
        (CodecId::Opus, CodecConfig::Opus(surround), Some("de"), [&[0xFC], &[7; 700][..]].concat()),
        (CodecId::Ac3, CodecConfig::None, Some("fr"), ac3),
        (CodecId::Eac3, CodecConfig::None, None, eac3),
        (CodecId::Mp3, CodecConfig::None, Some("en"), mp3),
        (CodecId::Mp2, CodecConfig::None, Some("mul"), mp2),
        (CodecId::Klv, CodecConfig::None, None, b"\x06\x0E\x2B\x34 key".to_vec()),
        (CodecId::Id3, CodecConfig::None, None, b"ID3\x04".to_vec()),
        (CodecId::Scte35, CodecConfig::None, None, splice.to_vec()),
        (
            CodecId::Other(TrackKind::Data, FourCc(*b"ts06")),
            CodecConfig::Opaque(subtitles),
            Some("de"),
            b"sub".to_vec(),
        ),
    ];
    let mut set = TrackSet::default();
    let mut sent = steady(id(1), 40, step, |n| vec![u8::try_from(n).unwrap(); 300]);
    set.insert(Track::new(id(1), CodecId::Aac, CodecConfig::Aac(aac_config(48_000))));
    for (n, (codec, config, language, payload)) in (3..).zip(&cases) {
        let mut track = Track::new(id(n), *codec, config.clone());
        track.language = language.map(Into::into);
        set.insert(track);
        // Splice information has no time of its own; it gets that of what came before it.
        sent.extend(steady(id(n), 40, step, |_| payload.clone()));
    }
    sent.sort_by_key(|frame| frame.dts);
    let (events, counters) = demux(&mux(&set, &sent));
    assert_eq!(counters, Counters::default());
    let found = tracks(&events).pop().unwrap();
    // Streams are numbered by what they are, so that they are told apart by their codec here.
    for track in &set {
        let same = found.iter().find(|found| found.codec == track.codec).unwrap();
        assert_eq!(same.language, track.language, "{}", track.codec);
        if !matches!(track.config, CodecConfig::None) {
            assert_eq!(same.config, track.config, "{}", track.codec);
        }
        let of = |id, frames: &[MediaFrame]| -> Vec<_> {
            let frames = frames.iter().filter(|frame| frame.track == id);
            frames.map(|frame| (frame.pts.to_millis(), frame.payload.clone())).collect()
        };
        let shifted: Vec<_> =
            of(track.id, &sent).into_iter().map(|(at, payload)| (at + 1_000, payload)).collect();
        assert_eq!(of(same.id, &frames(&events)), shifted, "{}", track.codec);
    }
}

/// 10 000 random access units each of H.264, H.265 and AAC: sizes from 1 byte to 100 kB, any content.
#[test]
fn m32_ten_thousand_random_access_units_come_back() {
    let mut rng = Rng::new(32);
    let source = Source::h264_aac();
    let CodecConfig::Avc(avc) = source.tracks().get(TrackId::VIDEO).unwrap().config.clone() else { panic!() };
    let set = TrackSet::new([
        Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::Avc(avc)),
        Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::Aac(aac_config(44_100))),
    ]);
    let mut sent = Vec::new();
    let picture = TimeDelta::from_ticks(1_001, Timescale::of(30_000));
    let sound = TimeDelta::from_ticks(1_024, Timescale::of(44_100));
    for n in 0..10_000_i64 {
        let reorder = TimeDelta(picture.0 * i64::try_from(rng.below(4)).unwrap());
        let dts = Timestamp(picture.0 * n);
        let mut payload = BytesMut::new();
        for slice in 0..=rng.below(4) {
            let max = if rng.chance(10) { 100_000 } else { 3_000 };
            let len = usize::try_from(1 + rng.below(max)).unwrap();
            let mut unit = unit_bytes(&mut rng, len);
            // A reference slice that is not the first of a picture, but for the first.
            unit.splice(0..0, [0x61, if slice == 0 { 0x9A } else { 0x40 }]);
            payload.extend_from_slice(&u32::try_from(unit.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(&unit);
        }
        if n == 0 {
            payload = BytesMut::from(&source.clone().seconds(1)[0].payload[..]);
        }
        let flags = if n == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        let frame = MediaFrame::new(TrackId::VIDEO, dts, payload.freeze()).with_flags(flags);
        sent.push(frame.with_pts(dts + reorder));
        let len = usize::try_from(1 + rng.below(2_000)).unwrap();
        sent.push(
            MediaFrame::new(TrackId::AUDIO, Timestamp(sound.0 * n), rng.bytes(len)[..len].to_vec().into())
                .with_flags(FrameFlags::KEYFRAME),
        );
    }
    let (events, counters) = demux_in(&mux(&set, &sent), 64 << 10);
    let received = frames(&events);
    for id in [TrackId::VIDEO, TrackId::AUDIO] {
        let of = |frames: &[MediaFrame], to: fn(&MediaFrame) -> (TrackId, i64, i64, Bytes, bool)| -> Vec<_> {
            frames
                .iter()
                .filter(|frame| frame.track == id)
                .map(to)
                .map(|(_, pts, dts, bytes, _)| (pts, dts, bytes))
                .collect()
        };
        let (sent, received) = (of(&sent, expected), of(&received, got));
        assert_eq!(sent.len(), received.len(), "{id}: {counters:?}");
        assert!(sent == received, "{id}");
    }
}

/// Bytes of a NAL unit: any, but for start codes and a zero at the end.
fn unit_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut unit = rng.bytes(len);
    unit.truncate(len);
    let mut zeros = 0;
    for byte in &mut unit {
        if zeros >= 2 && *byte <= 3 {
            *byte = 4;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
    }
    unit.push(0x80);
    unit
}

/// Packets of one PES packet of that payload.
fn pes_packets(pid: u16, header: PesHeader, payload: &[u8], continuity: &mut u8) -> Vec<u8> {
    let mut pes = Vec::new();
    header.encode(payload.len(), &mut pes);
    pes.extend_from_slice(payload);
    let mut out = Vec::new();
    for (n, chunk) in pes.chunks(184).enumerate() {
        *continuity = (*continuity + 1) & 15;
        let stuffing = 184 - chunk.len();
        let start = if n == 0 { 0x40 } else { 0 };
        let [high, low] = pid.to_be_bytes();
        let control = if stuffing > 0 { 0x30 } else { 0x10 };
        out.extend_from_slice(&[SYNC_BYTE, start | high, low, control | *continuity]);
        if stuffing > 0 {
            out.push(u8::try_from(stuffing - 1).unwrap());
            out.extend((1..stuffing).map(|n| if n == 1 { 0 } else { 0xFF }));
        }
        out.extend_from_slice(chunk);
    }
    out
}

fn section_packet(pid: u16, continuity: u8, section: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let mut packet = vec![SYNC_BYTE, 0x40 | high, low, 0x10 | continuity & 15, 0];
    packet.extend_from_slice(section);
    packet.resize(188, 0xFF);
    packet
}

fn pat(version: u8, programs: &[(u16, u16)]) -> BytesMut {
    let mut section = BytesMut::new();
    Pat { transport_stream: 1, version, programs: programs.to_vec() }.encode(&mut section);
    section
}

fn pmt(program: u16, version: u8, streams: &[(u8, u16)]) -> BytesMut {
    let info = |(stream_type, pid): &(u8, u16)| StreamInfo {
        stream_type: *stream_type,
        pid: *pid,
        descriptors: Bytes::new(),
    };
    let mut section = BytesMut::new();
    let streams: Vec<_> = streams.iter().map(info).collect();
    let pcr_pid = streams.first().map_or(NULL_PID, |stream| stream.pid);
    Pmt { program, version, pcr_pid, descriptors: Bytes::new(), streams }.encode(&mut section);
    section
}

fn tables(streams: &[(u8, u16)]) -> Vec<u8> {
    [section_packet(0, 0, &pat(0, &[(1, PMT_PID)])), section_packet(PMT_PID, 0, &pmt(1, 0, streams))].concat()
}

/// The byte stream of a source's pictures, delimiters and parameter sets included, each with its times in ticks.
fn pictures(seconds: u32) -> (Vec<MediaFrame>, Vec<(Vec<u8>, u64, u64)>) {
    let source = Source::h264();
    let CodecConfig::Avc(avc) = source.tracks().get(TrackId::VIDEO).unwrap().config.clone() else { panic!() };
    let frames = source.seconds(seconds);
    let stream = frames.iter().map(|frame| {
        let mut bytes = vec![0, 0, 0, 1, 9, 0xF0];
        if frame.is_keyframe() {
            for set in avc.sps.iter().chain(&avc.pps) {
                bytes.extend_from_slice(&[0, 0, 0, 1]);
                bytes.extend_from_slice(set);
            }
        }
        bytes.extend_from_slice(&arcly_codec::nal::length_prefixed_to_annex_b(&frame.payload).unwrap());
        let ticks = |at: Timestamp| (at + ORIGIN).to_ticks(Timescale::MPEG).unsigned_abs();
        (bytes, ticks(frame.pts), ticks(frame.dts))
    });
    let stream = stream.collect();
    (frames, stream)
}

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
