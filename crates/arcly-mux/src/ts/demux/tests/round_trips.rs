//! What our own muxer writes comes back as it was.

use super::*;

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
