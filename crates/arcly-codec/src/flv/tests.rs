use arcly_core::codec::{ColorInfo, FrameRate, HdrMetadata, VideoParams};
use arcly_core::wire::DecodeError;
use arcly_core::{
    CloseReason, CodecConfig, CodecId, FourCc, FrameFlags, MediaEvent, MediaFrame, MetaValue, Metadata,
    TimeDelta, Timestamp, Track, TrackId, TrackSet,
};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::amf0::{self, Object, Value};

const AVC_AAC: &[u8] = include_bytes!("../../tests/captures/ffmpeg_5.1_avc_aac.flv");
const ENHANCED: &[&[u8]] = &[
    include_bytes!("../../tests/captures/ffmpeg_9.0_hevc_opus.flv"),
    include_bytes!("../../tests/captures/ffmpeg_9.0_av1_flac.flv"),
    include_bytes!("../../tests/captures/ffmpeg_9.0_vp9_ac3_eac3.flv"),
    include_bytes!("../../tests/captures/ffmpeg_9.0_multitrack.flv"),
];

fn file_tags(file: &[u8]) -> Vec<FileTag> {
    let mut decoder = FileDecoder::new();
    decoder.push(file);
    core::iter::from_fn(|| decoder.next_tag().expect("a valid file")).collect()
}

/// The first tag of that kind whose body begins so.
fn tag(kind: TagKind, start: &[u8]) -> Bytes {
    let found = file_tags(AVC_AAC).into_iter().find(|tag| tag.kind == kind && tag.body.starts_with(start));
    found.expect("such a tag").body
}

fn avc_header() -> Bytes {
    tag(TagKind::Video, &[0x17, 0])
}

fn avc_keyframe() -> Bytes {
    tag(TagKind::Video, &[0x17, 1])
}

fn aac_header() -> Bytes {
    tag(TagKind::Audio, &[0xAF, 0])
}

fn bytes(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

struct Feed(Demuxer);

impl Feed {
    fn new() -> Self {
        Self(Demuxer::default())
    }

    fn video(&mut self, ms: i64, body: impl Into<Bytes>) -> Result<Vec<MediaEvent>, Error> {
        self.tag(TagKind::Video, ms, body.into())
    }

    fn audio(&mut self, ms: i64, body: impl Into<Bytes>) -> Result<Vec<MediaEvent>, Error> {
        self.tag(TagKind::Audio, ms, body.into())
    }

    fn script(&mut self, values: &[Value]) -> Result<Vec<MediaEvent>, Error> {
        self.tag(TagKind::Script, 0, amf0::encode_all(values).into())
    }

    fn tag(&mut self, kind: TagKind, ms: i64, body: Bytes) -> Result<Vec<MediaEvent>, Error> {
        self.0.handle_tag(kind, ms, body)?;
        Ok(core::iter::from_fn(|| self.0.poll_event()).collect())
    }
}

/// What events there are, in letters: `T`racks and `F`rames.
fn letters(events: &[MediaEvent]) -> String {
    events.iter().map(|event| if matches!(event, MediaEvent::Tracks(_)) { 'T' } else { 'F' }).collect()
}

fn frame(events: &[MediaEvent]) -> &MediaFrame {
    match events.last() {
        Some(MediaEvent::Frame(frame)) => frame,
        other => panic!("{other:?} is not a frame"),
    }
}

fn tracks(events: &[MediaEvent]) -> &TrackSet {
    match events.first() {
        Some(MediaEvent::Tracks(set)) => set,
        other => panic!("{other:?} are not tracks"),
    }
}

#[test]
fn tracks_come_before_the_first_frame_and_only_when_they_change() {
    let mut feed = Feed::new();
    let metadata = Object::new().with("framerate", 25.0).with("title", "x");
    assert_eq!(feed.script(&["onMetaData".into(), Value::EcmaArray(metadata)]), Ok(vec![]));
    assert_eq!(feed.video(0, avc_header()), Ok(vec![]));
    assert_eq!(feed.audio(0, aac_header()), Ok(vec![]));
    let events = feed.video(0, avc_keyframe()).expect("a keyframe");
    assert_eq!(letters(&events), "TF", "headers and metadata make one event");
    let set = tracks(&events);
    assert_eq!(set.metadata.get("title"), Some(&MetaValue::Text("x".into())));
    let video = set.get(TrackId::VIDEO).expect("video").video().expect("parameters");
    assert_eq!((video.width, video.height), (128, 72));
    let audio = set.get(TrackId::AUDIO).expect("audio").audio().expect("parameters");
    assert_eq!((audio.sample_rate, audio.channels), (44_100, 1));
    assert!(frame(&events).is_keyframe());
    for header in [avc_header(), avc_header()] {
        assert_eq!(feed.video(40, header), Ok(vec![]));
    }
    assert_eq!(letters(&feed.video(40, avc_keyframe()).expect("again")), "F", "the same configuration");
    let stereo = bytes(&[&[0xAF, 0, 0x12, 0x10]]);
    feed.audio(41, stereo).expect("a new configuration");
    assert_eq!(letters(&feed.video(80, avc_keyframe()).expect("again")), "TF");
    assert_eq!(feed.0.counters(), Counters::default());
}

#[test]
fn r32_short_tags_are_counted_and_fatal_when_nothing_else_comes() {
    let short: &[(TagKind, &[u8])] = &[
        (TagKind::Video, &[]),
        (TagKind::Video, &[0x17]),
        (TagKind::Video, &[0x17, 0x01]),
        (TagKind::Video, &[0x90]),
        (TagKind::Video, &[0x00, 0x00]),
        (TagKind::Audio, &[]),
        (TagKind::Audio, &[0xAF]),
        (TagKind::Audio, &[0xAF, 0x01]),
        (TagKind::Audio, &[0x91, b'O']),
    ];
    let mut feed = Feed::new();
    let mut send = |count: usize| {
        let mut last = Ok(());
        for (kind, body) in short.iter().cycle().take(count) {
            last = feed.0.handle_tag(*kind, 0, Bytes::from_static(body));
        }
        (last, feed.0.counters().bad_tags)
    };
    assert_eq!(send(15), (Ok(()), 15));
    feed.video(0, avc_header()).expect("a good one between");
    let mut send = |count: usize| {
        let mut last = Ok(());
        for (kind, body) in short.iter().cycle().take(count) {
            last = feed.0.handle_tag(*kind, 0, Bytes::from_static(body));
        }
        (last, feed.0.counters().bad_tags)
    };
    assert_eq!(send(15), (Ok(()), 30));
    let (last, bad) = send(1);
    let error = last.expect_err("the sixteenth in a row");
    assert!(matches!(error, Error::TooManyBroken { what: "tags", count: 16, .. }), "{error}");
    assert_eq!((bad, CloseReason::from(error)), (31, CloseReason::Malformed));
}

#[test]
fn r34_access_units_with_impossible_lengths_are_counted_and_fatal_in_a_row() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    let broken = bytes(&[&[0x27, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x41, 0x9A]]);
    for _ in 0..15 {
        assert_eq!(feed.video(0, broken.clone()), Ok(vec![]));
    }
    assert_eq!(letters(&feed.video(0, avc_keyframe()).expect("a good one")), "TF");
    for _ in 0..15 {
        assert_eq!(feed.video(0, broken.clone()), Ok(vec![]));
    }
    let error = feed.video(0, broken).expect_err("the sixteenth in a row");
    assert!(matches!(error, Error::TooManyBroken { what: "access units", count: 16, .. }), "{error}");
    assert_eq!(feed.0.counters().bad_access_units, 31);
}

#[test]
fn r35_enhanced_headers_that_lie_are_malformed_at_once() {
    let chain = |count: usize| {
        let mut body = vec![0x97];
        // Three bytes of nanoseconds, then: again a ModEx.
        (0..count).for_each(|_| body.extend([2, 0, 0, 1, 0x07]));
        body
    };
    let malformed: &[&[u8]] = &[
        b"\x97\xFF\xFF\xFF\xFF\xFF",
        b"\x97\x05\0\0",
        b"\x96\x00avc1",
        b"\x96\x10avc1\x00\xFF\xFF\xFFx",
        b"\x96\x20hvc1\x00\x00\x00\x01xavc",
        b"\x96\x30avc1\x00",
        b"\x96\x06avc1\x00",
        b"\x96\x07avc1\x00",
        b"\x98avc1x",
        b"\x91hvc1\x00\x00",
        b"\x90hv",
    ];
    for body in malformed {
        let error = Feed::new().video(0, Bytes::from_static(body)).expect_err("a lie");
        assert!(matches!(error, Error::Decode(DecodeError::Malformed { .. })), "{body:02X?}: {error}");
        assert_eq!(CloseReason::from(error), CloseReason::Malformed);
    }
    let error = Feed::new().video(0, chain(10_000)).expect_err("a chain");
    assert_eq!(CloseReason::from(error), CloseReason::Limit("mod_ex"));
    let mut modest = chain(3);
    *modest.last_mut().expect("a byte") = 0x01;
    modest.extend(b"av01\x12\x00");
    assert!(VideoTag::decode(&modest.into()).is_ok_and(|tag| tag.nanos == 1));
}

#[test]
fn r35_unknown_codecs_are_unsupported_and_named() {
    let cases: &[(TagKind, &[u8], &str)] = &[
        (TagKind::Video, b"\x90zzzz", "codec 'zzzz' is not supported"),
        (TagKind::Video, b"\x90Opusx", "codec 'Opus' is not supported"),
        (TagKind::Video, b"\x96\x20zzzz\x00\x00\x00\x00", "codec 'zzzz' is not supported"),
        (TagKind::Video, &[0x12, 0, 0], "codec video codec 2 is not supported"),
        (TagKind::Audio, b"\x90zzzz", "codec 'zzzz' is not supported"),
        (TagKind::Audio, &[0x6F, 0, 0], "codec sound format 6 is not supported"),
    ];
    for (kind, body, text) in cases {
        let error = Feed::new().tag(*kind, 0, Bytes::from_static(body)).expect_err(text);
        assert_eq!((error.to_string().as_str(), CloseReason::from(error)), (*text, CloseReason::Unsupported));
    }
}

#[test]
fn r43_metadata_is_coalesced_into_the_next_tracks() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    for round in 0..3 {
        for n in 0..1_000 {
            let metadata = Object::new().with("n", f64::from(round * 1_000 + n));
            assert_eq!(
                feed.script(&["@setDataFrame".into(), "onMetaData".into(), metadata.into()]),
                Ok(vec![])
            );
        }
        let events = feed.video(0, avc_keyframe()).expect("a keyframe");
        assert_eq!(letters(&events), "TF");
        let latest = f64::from(round * 1_000 + 999);
        assert_eq!(tracks(&events).metadata.get("n"), Some(&MetaValue::Number(latest)));
    }
}

#[test]
fn script_limits_and_faults() {
    let mut feed = Feed::new();
    let error = feed.tag(TagKind::Script, 0, vec![5; 65_537].into()).expect_err("too long");
    assert_eq!(CloseReason::from(error), CloseReason::Limit("script"));
    let nested = [&amf0::encode_all(&["onMetaData".into()])[..], &[3, 0, 1, b'a'].repeat(40)].concat();
    let error = feed.tag(TagKind::Script, 0, nested.into()).expect_err("too deep");
    assert_eq!(CloseReason::from(error), CloseReason::Limit("amf_depth"));
    for broken in [&[][..], &[5], b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\x05width"] {
        assert_eq!(feed.tag(TagKind::Script, 0, Bytes::from_static(broken)), Ok(vec![]));
    }
    assert_eq!(feed.0.counters().bad_tags, 3);
}

#[test]
fn messages_of_other_names_are_frames_of_a_data_track() {
    let mut feed = Feed::new();
    let values = ["onTextData".into(), Object::new().with("text", "hello").into()];
    let prefixed = [&["@setDataFrame".into()][..], &values].concat();
    let events = feed.script(&prefixed).expect("a message");
    assert_eq!(letters(&events), "TF");
    assert_eq!(tracks(&events).get(TrackId::DATA).map(|track| track.codec), Some(CodecId::Amf));
    assert_eq!(amf0::decode_all(&frame(&events).payload), Ok(values.to_vec()));
    for notice in ["|RtmpSampleAccess", "onStatus"] {
        assert_eq!(feed.script(&[notice.into(), true.into()]), Ok(vec![]), "{notice}");
    }
    feed.script(&["onMetaData".into(), Object::new().with("a", 1.0).into()]).expect("metadata");
    feed.script(&["@clearDataFrame".into(), "onMetaData".into()]).expect("cleared");
    let events = feed.script(&values).expect("a message");
    assert_eq!(tracks(&events).metadata.entries.len(), 0);
}

#[test]
fn m29_composition_offsets_at_their_extremes() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    let key = avc_keyframe();
    let with_offset = |cts: [u8; 3]| bytes(&[&key[..2], &cts, &key[5..]]);
    let events = feed.video(1_000, with_offset([0x7F, 0xFF, 0xFF])).expect("the latest");
    assert_eq!(frame(&events).composition_offset(), TimeDelta::from_millis((1 << 23) - 1));
    for offset in [[0x80, 0, 0], [0xFF, 0xFF, 0xFF]] {
        let events = feed.video(1_000, with_offset(offset)).expect("a negative one");
        assert_eq!(frame(&events).pts, Timestamp::from_millis(1_000), "never before its decode time");
        assert!(frame(&events).flags.contains(FrameFlags::CLAMPED));
    }
    assert_eq!(feed.0.counters().clamped_offsets, 2);
    for _ in 0..1_000 {
        assert_eq!(letters(&feed.video(1_000, key.clone()).expect("equal decode times")), "F");
    }
}

#[test]
fn m30_access_units_are_limited() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    let unit = |len: usize| {
        let mut body = vec![0x17, 1, 0, 0, 0];
        body.extend(u32::try_from(len - 4).expect("small").to_be_bytes());
        body.push(0x65);
        body.resize(len + 5, 0x55);
        body
    };
    assert_eq!(letters(&feed.video(0, unit(8 << 20)).expect("8 MiB")), "TF");
    let error = feed.video(0, unit((8 << 20) + 1)).expect_err("a byte more");
    assert_eq!(CloseReason::from(error), CloseReason::Limit("access_unit"));
    let mut opus = b"\x91Opus".to_vec();
    opus.resize((8 << 20) + 6, 0xFC);
    let error = Feed::new().audio(0, opus).expect_err("audio as well");
    assert_eq!(CloseReason::from(error), CloseReason::Limit("access_unit"));
}

#[test]
fn tracks_are_limited() {
    let mut feed = Feed::new();
    let mut count = 0;
    let error = (0..=255u8).find_map(|id| {
        let result = feed.audio(0, bytes(&[&[0x95, 0x01], b"Opus", &[id, 0xFC, 1]]));
        count += usize::from(result.is_ok());
        result.err()
    });
    assert_eq!((count, error.map(CloseReason::from)), (16, Some(CloseReason::Limit("tracks"))));
}

#[test]
fn f11_parameter_sets_may_come_in_band_and_late() {
    let key = avc_keyframe();
    let header = avc_header();
    let record = crate::h264::decode_config(&header.slice(5..)).expect("a record");
    let in_band =
        |unit: &Bytes| [&u32::try_from(unit.len()).expect("small").to_be_bytes()[..], unit].concat();
    let with_sets = bytes(&[&key[..5], &in_band(&record.sps[0]), &in_band(&record.pps[0]), &key[5..]]);
    let mut feed = Feed::new();
    for _ in 0..20 {
        assert_eq!(feed.video(0, key.clone()), Ok(vec![]), "nothing is announced until it can be decoded");
    }
    assert_eq!(feed.0.counters().without_config, 20);
    let events = feed.video(40, with_sets).expect("now it can");
    assert_eq!(letters(&events), "TF");
    assert_eq!(frame(&events).payload, key.slice(5..), "without its parameter sets");
    let Some(CodecConfig::Avc(config)) = tracks(&events).get(TrackId::VIDEO).map(|track| &track.config)
    else {
        panic!("an AVC configuration");
    };
    assert_eq!((&config.sps, &config.pps), (&record.sps, &record.pps));
}

#[test]
fn keyframes_are_what_the_nal_units_say() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    let key = avc_keyframe();
    let said_inter = bytes(&[&[0x27], &key[1..]]);
    assert!(frame(&feed.video(0, said_inter).expect("an IDR picture")).is_keyframe());
    let inter = tag(TagKind::Video, &[0x27, 1]);
    let said_key = bytes(&[&[0x17], &inter[1..]]);
    assert!(!frame(&feed.video(40, said_key).expect("a P picture")).is_keyframe());
    let said_disposable = bytes(&[&[0x37], &inter[1..]]);
    let events = feed.video(80, said_disposable).expect("a P picture");
    assert!(frame(&events).flags.contains(FrameFlags::DISPOSABLE));
}

#[test]
fn canonical_payloads_are_slices_of_their_tag() {
    let mut feed = Feed::new();
    feed.video(0, avc_header()).expect("a header");
    feed.audio(0, aac_header()).expect("a header");
    for (kind, body, head) in
        [(TagKind::Video, avc_keyframe(), 5), (TagKind::Audio, tag(TagKind::Audio, &[0xAF, 1]), 2)]
    {
        let events = feed.tag(kind, 0, body.clone()).expect("a frame");
        assert_eq!(frame(&events).payload.as_ptr(), body[head..].as_ptr(), "{kind:?}");
    }
}

#[test]
fn audio_formats_of_the_legacy_header() {
    let cases: &[(&[u8], CodecId, u32, u8, i64)] = &[
        (&[0x7E; 161], CodecId::Pcma, 8_000, 1, 20),
        (&[0x8F; 161], CodecId::Pcmu, 8_000, 2, 10),
        (&[0x3F; 177], CodecId::PcmLe, 44_100, 2, 1),
        (&[0xB2; 40], CodecId::Speex, 16_000, 1, 0),
        (&[0x2F, 0xFF, 0xFB, 0x90, 0x00, 1, 2], CodecId::Mp3, 44_100, 2, 26),
    ];
    for (body, codec, rate, channels, ms) in cases {
        let mut feed = Feed::new();
        let events = feed.audio(0, Bytes::from_static(body)).expect("a frame");
        let track = tracks(&events).get(TrackId::AUDIO).expect("a track");
        let params = track.audio().expect("parameters");
        assert_eq!((track.codec, params.sample_rate, params.channels), (*codec, *rate, *channels));
        assert_eq!(frame(&events).duration.to_millis(), *ms, "{codec}");
        assert_eq!(letters(&feed.audio(0, Bytes::from_static(body)).expect("again")), "F");
    }
}

#[test]
fn adts_inside_aac_tags_is_taken_off() {
    let config = crate::aac::decode_config(&Bytes::from_static(&[0x12, 0x10])).expect("LC");
    let header = crate::aac::AdtsHeader::for_access_unit(&config, 4).expect("fits").encode();
    let events = Feed::new().audio(0, bytes(&[&[0xAF, 1], &header, b"\x21aaa"])).expect("a frame");
    assert_eq!(&frame(&events).payload[..], b"\x21aaa");
    assert_eq!(
        tracks(&events).get(TrackId::AUDIO).map(|track| &track.config),
        Some(&CodecConfig::Aac(config))
    );
}

#[test]
fn nanoseconds_refine_the_timestamp() {
    let mut feed = Feed::new();
    let body = bytes(&[&[0x97, 2, 0x05, 0x16, 0x15, 0x01], b"\x4F\x70\x75\x73\xFC"]);
    let events = feed.audio(33, body).expect("a frame");
    let nanos = frame(&events).dts - Timestamp::from_millis(33);
    assert_eq!(nanos, TimeDelta::from_ticks(333_333, arcly_core::Timescale::of(1_000_000_000)));
}

#[test]
fn many_tracks_in_one_tag() {
    let (first, second) = (b"\xFCone".as_slice(), b"\xFCthe other".as_slice());
    let sized =
        |id: u8, data: &[u8]| [&[id, 0, 0, u8::try_from(data.len()).expect("small")][..], data].concat();
    let same_codec = bytes(&[&[0x95, 0x11], b"Opus", &sized(0, first), &sized(7, second)]);
    let own_codecs = bytes(&[&[0x95, 0x21], b"Opus", &sized(0, first), b"Opus", &sized(7, second)]);
    for body in [same_codec, own_codecs] {
        let events = Feed::new().audio(5, body).expect("two frames");
        let got: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                MediaEvent::Frame(frame) => Some((frame.track.index(), &frame.payload[..])),
                MediaEvent::Tracks(_) => None,
            })
            .collect();
        assert_eq!(got, [(1, first), (3, second)]);
    }
}

#[test]
fn hevc_under_its_unofficial_number() {
    let enhanced = file_tags(ENHANCED[0]);
    let video: Vec<_> = enhanced.into_iter().filter(|tag| tag.kind == TagKind::Video).collect();
    let record = &video.iter().find(|tag| tag.body.starts_with(b"\x90hvc1")).expect("a header").body[5..];
    let coded = &video.iter().find(|tag| tag.body.starts_with(b"\x91hvc1")).expect("a keyframe").body[5..];
    let mut feed = Feed::new();
    feed.video(0, bytes(&[&[0x1C, 0, 0, 0, 0], record])).expect("a header");
    let events = feed.video(0, bytes(&[&[0x1C, 1], coded])).expect("a keyframe");
    assert_eq!(tracks(&events).get(TrackId::VIDEO).map(|track| track.codec), Some(CodecId::H265));
    assert_eq!(frame(&events).composition_offset(), TimeDelta::from_millis(80));
}

#[test]
fn colour_metadata_both_ways() {
    let color = ColorInfo { primaries: 9, transfer: 16, matrix: 9, full_range: false };
    let hdr = HdrMetadata {
        primaries: [[34_000, 16_000], [13_250, 34_500], [7_500, 3_000]],
        white_point: [15_635, 16_450],
        max_luminance: 10_000_000,
        min_luminance: 1,
        max_cll: 1_000,
        max_fall: 400,
    };
    let encoded = script::encode_color(Some(color), Some(hdr), 10);
    let decoded = script::decode_color(&encoded).expect("own encoding");
    assert_eq!(decoded, Some(crate::elementary::Color { info: Some(color), hdr: Some(hdr) }));
    let reset = amf0::encode_all(&["colorInfo".into(), Value::Undefined]);
    assert_eq!(script::decode_color(&reset), Ok(Some(crate::elementary::Color::default())));
    assert_eq!(script::decode_color(&amf0::encode_all(&["else".into(), Value::Null])), Ok(None));
}

#[test]
fn frame_rates_are_fractions() {
    let cases = [
        (25.0, 25, 1),
        (29.97, 30_000, 1_001),
        (30_000.0 / 1_001.0, 30_000, 1_001),
        (23.976, 24_000, 1_001),
        (59.94, 60_000, 1_001),
        (12.5, 12_500, 1_000),
        (60.0, 60, 1),
    ];
    for (fps, num, den) in cases {
        assert_eq!(script::frame_rate(fps), FrameRate::new(num, den), "{fps}");
    }
    for fps in [0.0, -1.0, 1e9, f64::NAN, f64::INFINITY] {
        assert_eq!(script::frame_rate(fps), None, "{fps}");
    }
}

fn set(tracks: &[(u8, CodecId)]) -> TrackSet {
    TrackSet::new(tracks.iter().map(|(id, codec)| {
        let id = TrackId::new(*id).expect("a number");
        Track::new(id, *codec, CodecConfig::Opaque(Bytes::from_static(b"rec")))
    }))
}

#[test]
fn players_need_what_the_tags_are_written_in() {
    let enhanced = |tag: &[u8; 4]| Some(TagClass::Enhanced(FourCc(*tag)));
    let tracks = set(&[
        (0, CodecId::H264),
        (1, CodecId::Aac),
        (2, CodecId::Amf),
        (3, CodecId::H264),
        (4, CodecId::Opus),
        (5, CodecId::Pcma),
        (6, CodecId::Klv),
        (7, CodecId::H265),
    ]);
    let got: Vec<_> = tracks.iter().map(|track| needs(track, &tracks)).collect();
    let legacy = Some(TagClass::Legacy);
    let expected =
        [legacy, legacy, legacy, enhanced(b"avc1"), enhanced(b"Opus"), None, None, enhanced(b"hvc1")];
    assert_eq!(got, expected);
}

#[test]
fn headers_are_written_as_the_specifications_say() {
    let tracks = set(&[(0, CodecId::H265), (1, CodecId::Opus), (3, CodecId::H264), (4, CodecId::Aac)]);
    let mut muxer = Muxer::new(MuxerOptions { nano_offset: true, ..MuxerOptions::default() });
    let announced = muxer.tracks(&tracks, Timestamp::ZERO);
    let heads: Vec<_> = announced.iter().map(|tag| tag.header.to_vec()).collect();
    assert_eq!(
        heads[1..],
        [
            b"\x90hvc1".to_vec(),
            b"\x90Opus".to_vec(),
            b"\x96\x00avc1\x01".to_vec(),
            b"\x95\x00mp4a\x01".to_vec(),
        ]
    );
    assert!(announced[1..].iter().all(|tag| &tag.payload[..] == b"rec"));
    let head = |track: u8, dts: Timestamp, offset_ms: i64, flags| {
        let frame = MediaFrame::new(TrackId::new(track).expect("a number"), dts, Bytes::from_static(b"x"));
        let frame = frame.with_pts(dts + TimeDelta::from_millis(offset_ms)).with_flags(flags);
        let tag = muxer.frame(&frame).expect("announced");
        (tag.timestamp_ms, tag.header.to_vec())
    };
    let (none, key) = (FrameFlags::empty(), FrameFlags::KEYFRAME);
    let ms = Timestamp::from_millis;
    let half = |whole: i64| ms(whole) + TimeDelta(352_800);
    assert_eq!(head(0, ms(7), 0, key), (7, b"\x93hvc1".to_vec()));
    assert_eq!(head(0, ms(7), 80, none), (7, b"\xA1hvc1\0\0\x50".to_vec()));
    assert_eq!(head(1, ms(7), 0, key), (7, b"\x91Opus".to_vec()));
    assert_eq!(head(3, ms(7), 40, none), (7, b"\xA6\x01avc1\x01\0\0\x28".to_vec()));
    assert_eq!(head(4, half(7), 0, key), (7, b"\x97\x02\x07\xA1\x20\x05\x01mp4a\x01".to_vec()));
    assert_eq!(head(3, half(7), 40, none), (7, b"\xA7\x02\x07\xA1\x20\x06\x01avc1\x01\0\0\x28".to_vec()));
    assert_eq!(head(0, ms((1 << 32) + 5), 0, key).0, 5, "milliseconds wrap");
}

#[test]
fn legacy_times_are_rounded_one_by_one() {
    let mut muxer = Muxer::default();
    muxer.tracks(&set(&[(0, CodecId::H264)]), Timestamp::ZERO);
    let rate = arcly_core::Timescale::of(30_000);
    for n in 0..100_000i64 {
        let at = |n: i64| Timestamp::from_ticks(n * 1_001, rate);
        let frame = MediaFrame::new(TrackId::VIDEO, at(n), Bytes::from_static(b"x")).with_pts(at(n + 2));
        let tag = muxer.frame(&frame).expect("announced");
        let [_, _, a, b, c] = tag.header[..] else { panic!("five bytes") };
        let dts = i64::from(tag.timestamp_ms);
        let pts = dts + i64::from(u32::from_be_bytes([0, a, b, c]));
        assert_eq!((dts, pts), (at(n).to_millis(), at(n + 2).to_millis()), "frame {n}");
    }
}

#[test]
fn on_meta_data_describes_the_first_tracks_and_keeps_the_rest() {
    let params = VideoParams {
        width: 1_280,
        height: 720,
        frame_rate: FrameRate::new(30_000, 1_001),
        ..VideoParams::default()
    };
    let mut tracks = TrackSet::new([
        Track::new(TrackId::VIDEO, CodecId::H265, CodecConfig::None).with_video(params),
        Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::None),
    ]);
    let said = [
        ("title", MetaValue::Text("t".into())),
        ("width", 1.0.into_number()),
        ("filesize", 9.0.into_number()),
    ];
    let entries = said.into_iter().map(|(name, value)| (name.into(), value)).collect();
    tracks.metadata = Metadata { entries }.into();
    let options =
        MuxerOptions { set_data_frame: true, encoder: Some("arcly".into()), ..MuxerOptions::default() };
    let tag = Muxer::new(options).tracks(&tracks, Timestamp::from_millis(9)).swap_remove(0);
    assert_eq!((tag.kind, tag.track, tag.timestamp_ms), (TagKind::Script, None, 0));
    let values = amf0::decode_all(&tag.payload).expect("own encoding");
    assert_eq!(values[..2], ["@setDataFrame".into(), "onMetaData".into()]);
    let object = values[2].as_object().expect("an array");
    assert_eq!((object.number("width"), object.number("height")), (Some(1_280.0), Some(720.0)));
    assert_eq!(object.number("videocodecid"), Some(f64::from(u32::from_be_bytes(*b"hvc1"))));
    assert_eq!(object.number("audiocodecid"), Some(10.0));
    assert_eq!((object.str("title"), object.str("encoder")), (Some("t"), Some("arcly")));
    assert_eq!(object.get("filesize"), None);
    assert_eq!(object.iter().filter(|(name, _)| &**name == "width").count(), 1);
}

trait IntoNumber {
    fn into_number(self) -> MetaValue;
}

impl IntoNumber for f64 {
    fn into_number(self) -> MetaValue {
        MetaValue::Number(self)
    }
}

#[test]
fn files_are_read_in_pieces_of_any_size() {
    let whole = file_tags(AVC_AAC);
    for size in [1, 7, 1_000, AVC_AAC.len()] {
        let (mut decoder, mut tags) = (FileDecoder::new(), Vec::new());
        for piece in AVC_AAC.chunks(size) {
            decoder.push(piece);
            tags.extend(core::iter::from_fn(|| decoder.next_tag().expect("a valid file")));
        }
        assert_eq!(tags, whole, "pieces of {size}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let tags =
        [(TagKind::Video, 0, &b"head"[..], &b"payload"[..]), (TagKind::Script, 0xFFFF_FFFE, b"", b"x")];
    let mut out = BytesMut::new();
    put_file_header(&mut out, true, true);
    for (kind, timestamp_ms, header, payload) in tags {
        let header = header.iter().copied().collect();
        put_tag(&mut out, &Tag { kind, track: None, timestamp_ms, header, payload: payload.into() });
    }
    let read: Vec<_> =
        file_tags(&out).into_iter().map(|tag| (tag.kind, tag.timestamp_ms, tag.body)).collect();
    let written = tags.map(|(kind, at, header, payload)| (kind, at, bytes(&[header, payload])));
    assert_eq!(read, written);
    assert_eq!(&out[..13], b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
    assert_eq!(&out[out.len() - 4..], 12u32.to_be_bytes());
}

#[test]
fn files_that_are_none_are_malformed_as_soon_as_it_shows() {
    let start = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
    let cases: &[(&[u8], CloseReason)] = &[
        (b"G", CloseReason::Malformed),
        (b"FLW", CloseReason::Malformed),
        (b"FLV\x02", CloseReason::Malformed),
        (b"FLV\x01\x05\0\0\0\x08", CloseReason::Malformed),
        (b"FLV\x01\x05\xFF\xFF\xFF\xFF", CloseReason::Malformed),
        (&[&start[..], &[0x0A]].concat(), CloseReason::Malformed),
        (&[&start[..], &[0x29]].concat(), CloseReason::Malformed),
        (&[&start[..], &[0x09, 0xFF, 0xFF, 0xFF]].concat(), CloseReason::Limit("tag")),
    ];
    for (bytes, reason) in cases {
        let mut decoder = FileDecoder::new();
        decoder.push(&bytes[..bytes.len() - 1]);
        assert_eq!(decoder.next_tag(), Ok(None), "{bytes:02X?}");
        decoder.push(&bytes[bytes.len() - 1..]);
        assert_eq!(decoder.next_tag().map_err(CloseReason::from), Err(*reason), "{bytes:02X?}");
    }
}

#[test]
fn m34_tags_cut_and_flipped_anywhere_give_the_same_answer_twice() {
    let run = |kind: TagKind, body: &Bytes| {
        let mut feed = Feed::new();
        feed.video(0, avc_header()).expect("a header");
        feed.audio(0, aac_header()).expect("a header");
        format!("{:?} {:?}", feed.tag(kind, 0, body.clone()), feed.0.counters())
    };
    // Short tags, one for each way in which they begin.
    let mut samples: Vec<FileTag> = Vec::new();
    for tag in ENHANCED.iter().chain([&AVC_AAC]).flat_map(|file| file_tags(file)) {
        let head = |tag: &FileTag| (tag.kind, tag.body.slice(..tag.body.len().min(6)));
        let new = tag.kind != TagKind::Script && samples.iter().all(|known| head(known) != head(&tag));
        if new && tag.body.len() <= 70 && samples.len() < 30 {
            samples.push(tag);
        }
    }
    for FileTag { kind, body, .. } in samples {
        for cut in 0..body.len() {
            let cut = body.slice(..cut);
            assert_eq!(run(kind, &cut), run(kind, &cut));
        }
        for at in 0..body.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut hostile = body.to_vec();
                hostile[at] ^= flip;
                let hostile = Bytes::from(hostile);
                let decoded = || format!("{:?} {:?}", VideoTag::decode(&hostile), AudioTag::decode(&hostile));
                assert_eq!(decoded(), decoded());
                if flip == 255 {
                    assert_eq!(run(kind, &hostile), run(kind, &hostile));
                }
            }
        }
    }
}
