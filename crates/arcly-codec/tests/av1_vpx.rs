//! AV1, VP8 and VP9 against real streams, ffprobe's view of them, and hostile input.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::av1::{self, SequenceHeader};
use arcly_codec::bits::BitWriter;
use arcly_codec::vpx::{self, Vp8Frame, Vp9Frame};
use arcly_core::FrameFlags;
use arcly_core::codec::{ChromaFormat, VpxConfig};
use arcly_core::wire::DecodeError;
use bytes::Bytes;
use support::Capture;

const SVT: &str = "ffmpeg_5.1_svtav1";
const AOM: &str = "ffmpeg_5.1_aom_10bit";

#[test]
fn av1_records_round_trip_and_describe_the_pictures() {
    for name in [SVT, AOM] {
        let capture = Capture::load(name);
        let config = av1::decode_config(&capture.record).unwrap();
        assert_eq!(av1::encode_config(&config), capture.record, "{name}");
        let params = av1::video_params(&config).unwrap();
        assert_eq!((params.width, params.height), capture.size(), "{name}");
        assert_eq!(
            (params.bit_depth, params.chroma),
            (if name == AOM { 10 } else { 8 }, ChromaFormat::Yuv420)
        );
        if name == AOM {
            let color = params.color.unwrap();
            assert_eq!((color.primaries, color.transfer, color.matrix, color.full_range), (9, 16, 9, false));
        }
    }
}

#[test]
fn av1_keyframes_and_payload_of_real_streams() {
    for name in [SVT, AOM] {
        let capture = Capture::load(name);
        let mut parser = av1::Parser::with_config(av1::decode_config(&capture.record).unwrap()).unwrap();
        for (index, sample) in capture.samples.iter().enumerate() {
            let unit = parser.push(&sample.data).unwrap();
            // SVT-AV1 1.4 puts other tools into the record than into the stream; the stream is right.
            let changed = name == SVT && index == 0;
            assert_eq!((unit.fault, unit.config_changed), (None, changed), "{name} {index}");
            assert_eq!(unit.flags.contains(FrameFlags::KEYFRAME), sample.key, "{name} {index}");
            assert_eq!(unit.payload.as_ptr(), sample.data.as_ptr(), "canonical input is not copied");
            assert_eq!(unit.payload, sample.data);
            assert!(!unit.flags.contains(FrameFlags::DELIMITED));
        }
        assert_eq!((parser.video_params().width, parser.video_params().height), capture.size());
    }
}

#[test]
fn av1_delimiters_go_and_the_sequence_header_becomes_the_configuration() {
    let capture = Capture::load(SVT);
    let data: Bytes = [&[0x12, 0][..], &capture.samples[0].data].concat().into();
    let mut parser = av1::Parser::new();
    assert!(parser.config().is_none());
    let unit = parser.push(&data).unwrap();
    assert!(unit.config_changed);
    assert_eq!(unit.payload, capture.samples[0].data);
    assert_eq!(unit.payload.as_ptr(), data[2..].as_ptr(), "a leading delimiter costs no copy");
    assert!(unit.flags.contains(FrameFlags::DELIMITED), "and can be put back");
    let twice = parser.push(&[&av1::DELIMITER[..], &data].concat().into()).unwrap();
    assert_eq!(twice.payload, capture.samples[0].data);
    assert!(!twice.flags.contains(FrameFlags::DELIMITED), "one that is wrong cannot");
    let mut parser = av1::Parser::new();
    parser.push(&data).unwrap();
    let (config, record) = (parser.config().unwrap(), av1::decode_config(&capture.record).unwrap());
    assert_eq!(av1::encode_config(config)[..4], capture.record[..4]);
    assert_eq!(av1::video_params(config), av1::video_params(&record));
    assert!(!parser.push(&data).unwrap().config_changed);
    assert!(
        parser.push(&Bytes::from_static(&[0x12, 0])).unwrap().payload.is_empty(),
        "F17: nothing but a delimiter"
    );

    // As RTP would give it: the last OBU without its size.
    let sample = &capture.samples[1].data;
    let last = av1::obus(sample).last().unwrap().unwrap();
    let before = &sample[..sample.len() - last.raw.len()];
    let bare = [before, &[last.raw[0] & !2], last.payload].concat();
    assert_eq!(parser.push(&bare.into()).unwrap().payload, capture.samples[1].data);
}

#[test]
fn m12_temporal_units_of_many_obus_and_sequence_headers_of_many_points() {
    let mut parser = av1::Parser::new();
    let padding = |count| Bytes::from([0x7A, 0].repeat(count));
    assert!(parser.push(&padding(64)).is_ok());
    let limit = Err(DecodeError::LimitExceeded { what: "obus", limit: 64 });
    assert_eq!(parser.push(&padding(65)), limit);
    assert_eq!(parser.push(&padding(1_000_000)), limit);

    let points = |present: u32| {
        let mut w = BitWriter::new();
        w.bits(3, 0).flag(false).flag(false).flag(false).flag(false).bits(5, 31);
        for _ in 0..present {
            w.bits(12, 0).bits(5, 8).flag(true);
        }
        w.finish()
    };
    for present in [0, 1, 31] {
        assert!(matches!(SequenceHeader::decode(&points(present)), Err(DecodeError::Malformed { .. })));
    }
    let whole = [points(32), vec![0; 12]].concat();
    assert_eq!(SequenceHeader::decode(&whole).map(|s| (s.level, s.tier)), Ok((8, true)));
}

#[test]
fn m11_av1_and_vpx_records_cut_at_every_byte() {
    let record = Capture::load(SVT).record;
    for len in (0..record.len()).filter(|&len| len != 4) {
        let cut = av1::decode_config(&record.slice(..len));
        assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{len}: {cut:?}");
    }
    assert!(av1::decode_config(&record.slice(..4)).unwrap().config_obus.is_empty(), "no OBUs is allowed");

    let record = vpx::encode_config(&VpxConfig { bit_depth: 8, ..VpxConfig::default() });
    for len in 0..8 {
        assert!(
            matches!(vpx::decode_config(&record.slice(..len)), Err(DecodeError::Malformed { .. })),
            "{len}"
        );
    }
}

#[test]
fn vp9_headers_of_real_streams() {
    for (name, profile, depth, chroma) in [
        ("ffmpeg_5.1_vp9", 0, 8, ChromaFormat::Yuv420),
        ("ffmpeg_5.1_vp9_profile3", 3, 12, ChromaFormat::Yuv444),
    ] {
        let capture = Capture::load(name);
        for (index, sample) in capture.samples.iter().enumerate() {
            let frame = Vp9Frame::decode(&sample.data).unwrap();
            assert_eq!(frame.flags().contains(FrameFlags::KEYFRAME), sample.key, "{name} {index}");
            assert_eq!(frame.profile, profile);
            if let Some(params) = frame.video_params() {
                assert_eq!((params.width, params.height), capture.size(), "{name} {index}");
                assert_eq!((params.bit_depth, params.chroma), (depth, chroma));
                let config = frame.config().unwrap();
                assert_eq!(vpx::decode_config(&vpx::encode_config(&config)), Ok(config));
            }
            assert_eq!(frame.video_params().is_some(), sample.key);
        }
    }
}

#[test]
fn vp9_record_as_ffmpeg_9_writes_it_to_flv() {
    let record = Bytes::from_static(&[1, 0, 0, 0, 0, 0x0A, 0x82, 2, 2, 2, 0, 0]);
    let config = vpx::decode_config(&record).unwrap();
    assert_eq!(config, VpxConfig { profile: 0, level: 10, bit_depth: 8, chroma_subsampling: 1, color: None });
    assert_eq!(vpx::encode_config(&config), record);
    assert_eq!(vpx::decode_config(&record.slice(4..)), Ok(config), "tolerated: without version and flags");
}

#[test]
fn vp8_headers_of_real_streams() {
    let capture = Capture::load("ffmpeg_5.1_vp8");
    for (index, sample) in capture.samples.iter().enumerate() {
        let frame = Vp8Frame::decode(&sample.data).unwrap();
        assert_eq!(frame.flags().contains(FrameFlags::KEYFRAME), sample.key, "{index}");
        assert_eq!(frame.size, sample.key.then_some(capture.size()), "{index}");
    }
    assert!(Vp8Frame::decode(&[0x10, 0, 0, 0x9D, 0x01, 0x2B, 0, 0, 0, 0]).is_err());
    assert!(Vp8Frame::decode(&[]).is_err());
    assert!(Vp9Frame::decode(&[0x49]).is_err());
}

/// AV1 §5.3.3: the temporal layer is in the extension of the frame's OBU.
#[test]
fn av1_temporal_layers() {
    let capture = Capture::load(SVT);
    let sample = &capture.samples[1].data;
    let last = av1::obus(sample).last().unwrap().unwrap();
    for id in 0..8 {
        let bare = [&[last.raw[0] & !2 | 4, id << 5], last.payload].concat();
        let mut parser = av1::Parser::with_config(av1::decode_config(&capture.record).unwrap()).unwrap();
        assert_eq!(parser.push(&bare.into()).unwrap().flags.temporal_id(), id);
    }
}
