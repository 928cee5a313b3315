//! H.266 against a real stream, and cut records.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::h266::{self, Parser};
use arcly_codec::nal::{self, Framing, LengthSize};
use arcly_core::FrameFlags;
use arcly_core::codec::ChromaFormat;
use arcly_core::wire::DecodeError;
use bytes::BytesMut;
use support::Capture;

const VVENC: &str = "ffmpeg_9.0_vvenc";

#[test]
fn the_record_round_trips_byte_for_byte_and_describes_the_pictures() {
    let capture = Capture::load(VVENC);
    let config = h266::decode_config(&capture.record).unwrap();
    assert_eq!(h266::encode_config(&config), capture.record);
    assert_eq!(h266::record_length_size(&capture.record), Ok(LengthSize::Four));
    assert_eq!((config.profile, config.tier, config.level), (1, false, 16));
    let params = h266::video_params(&config).unwrap();
    assert_eq!((params.width, params.height), capture.size());
    assert_eq!((params.chroma, params.bit_depth), (ChromaFormat::Yuv420, 10));
}

#[test]
fn m11_records_cut_at_every_byte() {
    let record = Capture::load(VVENC).record;
    for len in 0..record.len() {
        let cut = h266::decode_config(&record.slice(..len));
        assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{len}: {cut:?}");
    }
}

#[test]
fn keyframes_and_in_band_parameter_sets_of_a_real_stream() {
    let capture = Capture::load(VVENC);
    let config = h266::decode_config(&capture.record).unwrap();
    let mut known = Parser::with_config(config.clone()).unwrap();
    let mut payloads = vec![];
    for (index, sample) in capture.samples.iter().enumerate() {
        let unit = known.push(&sample.data, Framing::Length(LengthSize::Four)).unwrap();
        assert_eq!(unit.flags.contains(FrameFlags::KEYFRAME), sample.key, "{index}");
        assert!(!unit.config_changed && unit.fault.is_none());
        if unit.counts.removed == 0 {
            assert_eq!(unit.payload.as_ptr(), sample.data.as_ptr(), "canonical input is not copied");
        }
        payloads.push(unit.payload);
    }

    let mut stream = BytesMut::from(&[0, 0, 0, 1, 0, 0xA1, 0x28][..]);
    for set in config.sps.iter().chain(&config.pps) {
        stream.extend_from_slice(&[0, 0, 1]);
        stream.extend_from_slice(set);
    }
    nal::put_annex_b(&capture.samples[0].data, &mut stream).unwrap();
    let mut parser = Parser::new();
    let unit = parser.push(&stream.freeze(), Framing::AnnexB).unwrap();
    assert!(unit.config_changed && unit.counts.removed >= 3);
    assert_eq!(unit.payload, payloads[0]);
    assert!(payloads.iter().all(|payload| !payload.is_empty()));
    let found = parser.config().unwrap();
    assert_eq!((&found.sps, &found.pps, found.profile, found.level), (&config.sps, &config.pps, 1, 16));
    assert_eq!((parser.video_params().width, parser.video_params().height), capture.size());
    assert_eq!(
        h266::decode_config(&h266::encode_config(found)).unwrap().sps,
        config.sps,
        "also without a front"
    );
}
