//! H.264 against real streams, ffprobe's view of them, and hostile parameter sets.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::bits::BitWriter;
use arcly_codec::h264::{self, Parser, PicOrderCntType, Sps};
use arcly_codec::nal::{self, Framing, LengthSize};
use arcly_codec::reorder::DtsDeriver;
use arcly_core::codec::ChromaFormat;
use arcly_core::wire::DecodeError;
use arcly_core::{FrameFlags, Timestamp};
use bytes::{Bytes, BytesMut};
use support::Capture;

const CANONICAL: Framing = Framing::Length(LengthSize::Four);

const CAPTURES: [&str; 5] = [
    "ffmpeg_5.1_x264_pyramid",
    "ffmpeg_5.1_x264_open_gop",
    "ffmpeg_5.1_x264_intra_refresh",
    "ffmpeg_5.1_x264_interlaced_422",
    "ffmpeg_9.0_openh264",
];

fn parser(capture: &Capture) -> Parser {
    Parser::with_config(h264::decode_config(&capture.record).unwrap()).unwrap()
}

#[test]
fn records_round_trip_byte_for_byte() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let config = h264::decode_config(&capture.record).unwrap();
        assert_eq!(h264::encode_config(&config), capture.record, "{name}");
        assert_eq!(h264::record_length_size(&capture.record), Ok(LengthSize::Four));
    }
}

#[test]
fn parameters_are_those_that_ffprobe_sees() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let params = h264::video_params(&h264::decode_config(&capture.record).unwrap()).unwrap();
        assert_eq!((params.width, params.height), capture.size(), "{name}");
        let (chroma, depth) = match capture.entry("pix_fmt") {
            "yuv422p10le" => (ChromaFormat::Yuv422, 10),
            "yuv420p" => (ChromaFormat::Yuv420, 8),
            other => panic!("{other}"),
        };
        assert_eq!((params.chroma, params.bit_depth), (chroma, depth), "{name}");
        if name.contains("x264") {
            assert_eq!(params.reorder_depth.unwrap().to_string(), capture.entry("has_b_frames"), "{name}");
            assert_eq!(params.frame_rate.map(|r| (r.num.get(), r.den.get())), Some((25, 1)), "{name}");
        }
        if name.contains("422") {
            let color = params.color.unwrap();
            assert_eq!((color.primaries, color.transfer, color.matrix, color.full_range), (1, 1, 1, false));
        }
    }
}

#[test]
fn f13_derived_decoding_times_are_those_of_the_encoder() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let depth = h264::video_params(&h264::decode_config(&capture.record).unwrap())
            .unwrap()
            .reorder_depth
            .unwrap();
        let mut deriver = DtsDeriver::new(depth);
        capture.samples.iter().for_each(|s| deriver.push(Timestamp(s.pts), s.dts));
        deriver.restart(depth);
        let mut derived = 0;
        while let Some(d) = deriver.poll() {
            assert!(!d.clamped, "{name}");
            assert_eq!(d.dts, Timestamp(d.item), "{name}, picture {derived}");
            derived += 1;
        }
        assert_eq!(derived, capture.samples.len());
    }
}

#[test]
fn keyframes_picture_order_and_payload_of_real_streams() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let mut parser = parser(&capture);
        let mut in_gop: Vec<(i32, i64)> = Vec::new();
        for (index, sample) in capture.samples.iter().enumerate() {
            let unit = parser.push(&sample.data, CANONICAL).unwrap();
            assert_eq!(unit.fault, None, "{name} {index}");
            assert!(!unit.config_changed);
            assert_eq!(
                unit.payload.as_ptr(),
                sample.data.as_ptr(),
                "{name} {index}: canonical input is not copied"
            );
            // The first gradual refresh after an IDR picture may be the only one; readers still start at the IDR.
            let key = sample.key && !(name.contains("refresh") && index == 10);
            assert_eq!(unit.flags.contains(FrameFlags::KEYFRAME), key, "{name} {index}");
            if index == 0 || (key && !name.contains("open_gop") && !name.contains("refresh")) {
                in_gop.clear();
            }
            in_gop.push((unit.picture_order.unwrap(), sample.pts));
            let mut by_order = in_gop.clone();
            by_order.sort_unstable();
            assert!(
                by_order.is_sorted_by_key(|&(_, pts)| pts),
                "{name} {index}: order of output is that of pts"
            );
        }
    }
}

#[test]
fn f13_open_gop_leading_pictures_are_flagged_and_leaves_disposable() {
    let capture = Capture::load("ffmpeg_5.1_x264_open_gop");
    let mut parser = parser(&capture);
    let (mut key_pts, mut leading, mut disposable) = (0, 0, 0);
    for sample in &capture.samples {
        let flags = parser.push(&sample.data, CANONICAL).unwrap().flags;
        if flags.contains(FrameFlags::KEYFRAME) {
            key_pts = sample.pts;
        }
        assert_eq!(flags.contains(FrameFlags::LEADING), sample.pts < key_pts);
        leading += usize::from(flags.contains(FrameFlags::LEADING));
        disposable += usize::from(flags.contains(FrameFlags::DISPOSABLE));
    }
    assert!(leading > 0, "the test is about something");
    assert!((8..20).contains(&disposable), "B pictures that nobody refers to: {disposable}");
}

#[test]
fn f14_without_idr_recovery_points_are_join_points() {
    let capture = Capture::load("ffmpeg_5.1_x264_intra_refresh");
    let mut parser = parser(&capture);
    let tail = capture.samples.iter().skip(1);
    let keys: Vec<_> =
        tail.map(|s| parser.push(&s.data, CANONICAL).unwrap().flags.contains(FrameFlags::KEYFRAME)).collect();
    let expect: Vec<_> = capture.samples.iter().skip(1).map(|s| s.key).collect();
    assert_eq!(keys, expect);
    assert!(keys.contains(&true), "the test is about something");
}

/// The sample as a byte stream with delimiter and parameter sets in front.
fn in_band(capture: &Capture, sample: &Bytes) -> Bytes {
    let config = h264::decode_config(&capture.record).unwrap();
    let mut data = BytesMut::from(&[0, 0, 0, 1, 9, 0xF0][..]);
    for set in config.sps.iter().chain(&config.pps) {
        data.extend_from_slice(&[0, 0, 1]);
        data.extend_from_slice(set);
    }
    nal::put_annex_b(sample, &mut data).unwrap();
    data.freeze()
}

#[test]
fn f11_in_band_parameter_sets_become_the_configuration() {
    let capture = Capture::load("ffmpeg_5.1_x264_pyramid");
    let mut parser = Parser::new();
    let before = parser
        .push(&nal::length_prefixed_to_annex_b(&capture.samples[1].data).unwrap(), Framing::AnnexB)
        .unwrap();
    assert!(before.has_picture() && !before.config_changed);
    assert!(parser.config().is_none(), "nothing to announce yet");

    let first = parser.push(&in_band(&capture, &capture.samples[0].data), Framing::AnnexB).unwrap();
    assert!(first.config_changed);
    assert_eq!(
        first.payload, capture.samples[0].data,
        "canonical form has neither delimiter nor parameter sets"
    );
    assert_eq!((first.counts.removed, first.flags), (3, FrameFlags::KEYFRAME));
    assert_eq!(h264::encode_config(parser.config().unwrap()), capture.record);
    assert_eq!((parser.video_params().width, parser.video_params().height), capture.size());

    let again = parser.push(&in_band(&capture, &capture.samples[0].data), Framing::AnnexB).unwrap();
    assert!(!again.config_changed, "the same sets again are no change");
}

#[test]
fn f10_a_different_sps_of_the_same_id_is_a_new_configuration() {
    let old = Capture::load("ffmpeg_5.1_x264_pyramid");
    let new = Capture::load("ffmpeg_5.1_x264_interlaced_422");
    let mut parser = parser(&old);
    let unit = parser.push(&in_band(&new, &new.samples[0].data), Framing::AnnexB).unwrap();
    assert!(unit.config_changed);
    assert_eq!(h264::encode_config(parser.config().unwrap()), new.record);
    assert_eq!((parser.video_params().width, parser.video_params().height), new.size());
}

#[test]
fn f17_delimiter_sei_filler_and_empty_units_are_no_picture() {
    let mut parser = Parser::new();
    let cases: [&[u8]; 4] = [
        &[0, 0, 1, 9, 0xF0],
        &[0, 0, 1, 6, 5, 1, 0xAA, 0x80],
        &[0, 0, 1, 12, 0xFF, 0xFF, 0x80],
        &[0, 0, 1, 0, 0, 1, 0, 0, 1],
    ];
    for data in cases {
        let unit = parser.push(&Bytes::copy_from_slice(data), Framing::AnnexB).unwrap();
        assert!(!unit.has_picture(), "{data:?}");
        assert_eq!(unit.flags, FrameFlags::empty());
        let counts = unit.counts;
        assert!(counts.removed + counts.other + counts.empty > 0, "{data:?}: counted");
    }
}

#[test]
fn start_codes_where_lengths_belong_are_understood() {
    let capture = Capture::load("ffmpeg_5.1_x264_pyramid");
    let mut parser = Parser::new();
    let unit = parser.push(&in_band(&capture, &capture.samples[0].data), CANONICAL).unwrap();
    assert_eq!(unit.payload, capture.samples[0].data);
}

/// An SPS of Baseline profile up to the picture size, which `rest` then writes.
fn sps(rest: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
    let mut w = BitWriter::new();
    w.bits(8, 0x67).bits(24, 0x42_00_1E).ue(0).ue(0).ue(2).ue(1).flag(false);
    rest(&mut w);
    w.trailing();
    let raw = w.finish();
    let mut unit = raw[..1].to_vec();
    unit.extend(nal::escape(&raw[1..]));
    unit
}

#[test]
fn m01_sps_crop_beyond_the_picture() {
    for (left, right) in [(0, 1 << 31), (8, 0), (u32::MAX - 1, u32::MAX - 1), (0, 8)] {
        let unit = sps(|w| {
            w.ue(0).ue(0).flag(true).flag(true).flag(true).ue(left).ue(right).ue(0).ue(0).flag(false);
        });
        let what = "frame_crop_right_offset";
        assert!(
            matches!(Sps::decode(&unit), Err(DecodeError::Malformed { what: w, .. }) if w == what),
            "{left} {right}"
        );
    }
    let fits = sps(|w| {
        w.ue(0).ue(0).flag(true).flag(true).flag(true).ue(0).ue(7).ue(3).ue(4).flag(false);
    });
    assert_eq!(Sps::decode(&fits).map(|s| (s.width, s.height)), Ok((2, 2)));
}

#[test]
fn m02_sps_cycle_of_four_billion_reference_frames() {
    let cycle = |count: u32, present: u32| {
        let mut w = BitWriter::new();
        w.bits(8, 0x67).bits(24, 0x42_00_1E).ue(0).ue(0).ue(1).flag(false).se(-1).se(2).ue(count);
        for _ in 0..present {
            w.se(1);
        }
        w.ue(1).flag(false).ue(0).ue(0).flag(true).flag(true).flag(false).flag(false).trailing();
        w.finish()
    };
    for count in [256, u32::MAX - 1] {
        let what = "num_ref_frames_in_pic_order_cnt_cycle";
        assert!(
            matches!(Sps::decode(&cycle(count, 0)), Err(DecodeError::Malformed { what: w, .. }) if w == what)
        );
    }
    let PicOrderCntType::Cycle { offsets, .. } = Sps::decode(&cycle(255, 255)).unwrap().pic_order else {
        panic!()
    };
    assert_eq!(offsets.len(), 255);
}

#[test]
fn m03_all_zero_parameter_sets() {
    let mut unit = vec![0x67];
    unit.resize(65_536, 0);
    assert!(Sps::decode(&unit).is_err());
    let fault = Parser::new().push(&[&[0, 1, 0, 0], &unit[..]].concat().into(), CANONICAL).unwrap().fault;
    assert!(matches!(fault, Some(DecodeError::Malformed { .. })), "{fault:?}");
}

/// The VUI after the size of a 16×16 picture.
fn with_vui(vui: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
    sps(|w| {
        w.ue(0).ue(0).flag(true).flag(true).flag(false).flag(true);
        vui(w);
    })
}

#[test]
fn m05_vui_timing_that_means_nothing() {
    let timing = |units: u64, scale: u64| {
        with_vui(|w| {
            w.bits(4, 0).flag(true).bits(32, units).bits(32, scale).flag(true).bits(4, 0);
        })
    };
    let max = u64::from(u32::MAX);
    for (units, scale) in [(0, 50), (1, 0), (0, 0), (max, 50), (1, max), (max, max)] {
        assert_eq!(Sps::decode(&timing(units, scale)).unwrap().frame_rate, None, "{units} {scale}");
    }
    let rate = Sps::decode(&timing(1_001, 60_000)).unwrap().frame_rate.unwrap();
    assert_eq!((rate.num.get(), rate.den.get()), (30_000, 1_001));
}

#[test]
fn m06_hrd_counts_and_scaling_list_deltas() {
    let hrd = |count: u32| {
        with_vui(|w| {
            w.bits(5, 0).flag(true).ue(count);
        })
    };
    for count in [32, u32::MAX - 1] {
        let what = "cpb_cnt_minus1";
        assert!(matches!(Sps::decode(&hrd(count)), Err(DecodeError::Malformed { what: w, .. }) if w == what));
    }
    for delta in [128, -129, i32::MAX, -i32::MAX] {
        let mut w = BitWriter::new();
        w.bits(8, 0x67)
            .bits(24, 0x64_00_1E)
            .ue(0)
            .ue(1)
            .ue(0)
            .ue(0)
            .flag(false)
            .flag(true)
            .flag(true)
            .se(delta);
        w.bits(64, u64::MAX).trailing();
        let error = Sps::decode(&w.finish());
        assert!(
            matches!(error, Err(DecodeError::Malformed { what: "delta_scale", .. })),
            "{delta}: {error:?}"
        );
    }
}

#[test]
fn m10_records_with_three_byte_lengths_are_rejected() {
    let mut record = Capture::load(CAPTURES[0]).record.to_vec();
    record[4] = 0xFE;
    assert!(h264::decode_config(&record.into()).is_err());
}

#[test]
fn m11_records_cut_or_lying() {
    let record = Capture::load("ffmpeg_9.0_openh264").record;
    h264::decode_config(&record).unwrap();
    for len in 0..record.len() {
        let cut = h264::decode_config(&record.slice(..len));
        assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{len}: {cut:?}");
    }
    for counts in [5, 6] {
        let mut lying = record.to_vec();
        lying[if counts == 5 { 5 } else { record.len() - 7 }] = 0xFF;
        assert!(h264::decode_config(&lying.into()).is_err());
    }
    let many = [&[1, 66, 0, 30, 0xFF, 0xE0, 255][..], &[0, 1, 0x68].repeat(255)].concat();
    assert_eq!(
        h264::decode_config(&many.into()),
        Err(DecodeError::LimitExceeded { what: "parameter_sets", limit: 64 })
    );
}

#[test]
fn parameter_sets_are_bounded_in_size_and_number() {
    let mut parser = Parser::new();
    for id in 0..100_u32 {
        let mut w = BitWriter::new();
        w.bits(8, 0x68).ue(id).ue(0).bits(8, 0).trailing();
        let unit = parser.push_units(&[w.finish().into()]).unwrap();
        assert_eq!(unit.fault.is_some(), id >= 64, "{id}: {:?}", unit.fault);
    }
    let mut large = sps(|w| {
        w.ue(0).ue(0).flag(true).flag(true).flag(false).flag(false);
    });
    large.resize(4_097, 0xFF);
    assert_eq!(
        parser.push_units(&[large.clone().into()]).unwrap().fault,
        Some(DecodeError::LimitExceeded { what: "parameter_set", limit: 4_096 })
    );
    large.truncate(4_096);
    assert_eq!(parser.push_units(&[large.into()]).unwrap().fault, None);
}

#[test]
fn m30_access_units_up_to_eight_mebibytes() {
    const MIB: usize = 1 << 20;
    for (len, ok) in [(8 * MIB - MIB / 10, true), (8 * MIB, true), (8 * MIB + 1, false)] {
        let mut data = vec![0x65; len];
        let prefix = u32::try_from(len - 4).unwrap().to_be_bytes();
        data[..4].copy_from_slice(&prefix);
        let result = Parser::new().push(&data.into(), CANONICAL);
        match result {
            Ok(unit) => assert!(ok && unit.payload.len() == len && unit.flags.contains(FrameFlags::KEYFRAME)),
            Err(error) => {
                assert!(!ok);
                assert_eq!(error, DecodeError::LimitExceeded { what: "access_unit", limit: 8 << 20 });
            }
        }
    }
}

/// ITU-T H.264 F.7.3.1.1: a prefix NAL unit of SVC has the temporal layer of the slice behind it, one of MVC has not.
#[test]
fn annex_f_temporal_layers_of_prefix_units() {
    let capture = Capture::load(CAPTURES[0]);
    let mut parser = parser(&capture);
    for (flags, temporal_id, expected) in [(0x80, 2, 2), (0x80, 7, 7), (0x00, 2, 0)] {
        let prefix = [0, 0, 0, 4, 0x6E, flags | 1, 0, temporal_id << 5 | 7];
        let data: Bytes = [&prefix[..], &capture.samples[1].data].concat().into();
        let unit = parser.push(&data, CANONICAL).unwrap();
        assert_eq!((unit.flags.temporal_id(), unit.payload), (expected, data), "as it came");
    }
    let cut: Bytes = [&[0, 0, 0, 3, 0x6E, 0x81, 0][..], &capture.samples[1].data].concat().into();
    assert_eq!(parser.push(&cut, CANONICAL).unwrap().flags.temporal_id(), 0);
}
