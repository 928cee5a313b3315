//! H.265 against real streams, ffprobe's view of them, and hostile parameter sets.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::bits::BitWriter;
use arcly_codec::h265::{self, NalHeader, Parser, Sps};
use arcly_codec::nal::{self, Framing, LengthSize};
use arcly_codec::reorder::DtsDeriver;
use arcly_core::codec::{ChromaFormat, HdrMetadata};
use arcly_core::wire::DecodeError;
use arcly_core::{FrameFlags, Timestamp};
use bytes::{Bytes, BytesMut};
use support::Capture;

const CANONICAL: Framing = Framing::Length(LengthSize::Four);
const OPEN: &str = "ffmpeg_5.1_x265_open_gop";
const CLOSED: &str = "ffmpeg_5.1_x265_closed_gop";
const HDR: &str = "ffmpeg_5.1_x265_hdr10";
const CAPTURES: [&str; 3] = [OPEN, CLOSED, HDR];

fn parser(capture: &Capture) -> Parser {
    Parser::with_config(h265::decode_config(&capture.record).unwrap()).unwrap()
}

#[test]
fn records_round_trip_byte_for_byte() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let config = h265::decode_config(&capture.record).unwrap();
        assert_eq!(h265::decode_config(&h265::encode_config(&config)).unwrap(), config, "{name}");
        assert_eq!(h265::encode_config(&config).len(), capture.record.len(), "{name}");
        assert_eq!(h265::record_length_size(&capture.record), Ok(LengthSize::Four));
    }
    let open = Capture::load(OPEN).record;
    assert_eq!(h265::encode_config(&h265::decode_config(&open).unwrap()), open);
}

#[test]
fn parameters_are_those_that_ffprobe_sees() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let params = h265::video_params(&h265::decode_config(&capture.record).unwrap()).unwrap();
        assert_eq!((params.width, params.height), capture.size(), "{name}");
        let depth = if name == HDR { 10 } else { 8 };
        assert_eq!((params.chroma, params.bit_depth), (ChromaFormat::Yuv420, depth), "{name}");
        assert_eq!(params.reorder_depth.unwrap().to_string(), capture.entry("has_b_frames"), "{name}");
        assert_eq!(params.frame_rate.map(|r| (r.num.get(), r.den.get())), Some((25, 1)), "{name}");
    }
}

#[test]
fn hdr_comes_from_the_stream_and_reaches_the_parameters() {
    let expect = HdrMetadata {
        primaries: [[34_000, 16_000], [13_250, 34_500], [7_500, 3_000]],
        white_point: [15_635, 16_450],
        max_luminance: 10_000_000,
        min_luminance: 1,
        max_cll: 1_000,
        max_fall: 400,
    };
    let capture = Capture::load(HDR);
    let mut parser = parser(&capture);
    for sample in &capture.samples {
        parser.push(&sample.data, CANONICAL).unwrap();
    }
    let params = parser.video_params();
    assert_eq!(params.hdr, Some(expect));
    let color = params.color.unwrap();
    assert_eq!((color.primaries, color.transfer, color.matrix, color.full_range), (9, 16, 9, false));
}

#[test]
fn f13_derived_decoding_times_are_those_of_the_encoder() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let depth = parser(&capture).video_params().reorder_depth.unwrap();
        let mut deriver = DtsDeriver::new(depth);
        capture.samples.iter().for_each(|s| deriver.push(Timestamp(s.pts), s.dts));
        deriver.restart(depth);
        let derived: Vec<_> = core::iter::from_fn(|| deriver.poll()).collect();
        assert_eq!(derived.len(), capture.samples.len());
        assert!(derived.iter().all(|d| !d.clamped && d.dts == Timestamp(d.item)), "{name}");
    }
}

#[test]
fn f13_keyframes_leading_pictures_and_order_of_real_streams() {
    for name in CAPTURES {
        let capture = Capture::load(name);
        let mut parser = parser(&capture);
        let (mut key_pts, mut leading, mut disposable, mut orders) = (0, 0, 0, vec![]);
        for (index, sample) in capture.samples.iter().enumerate() {
            let unit = parser.push(&sample.data, CANONICAL).unwrap();
            assert_eq!(unit.fault, None, "{name} {index}");
            assert_eq!(unit.flags.contains(FrameFlags::KEYFRAME), sample.key, "{name} {index}");
            if sample.key {
                key_pts = sample.pts;
            }
            assert_eq!(unit.flags.contains(FrameFlags::LEADING), sample.pts < key_pts, "{name} {index}");
            leading += usize::from(unit.flags.contains(FrameFlags::LEADING));
            disposable += usize::from(unit.flags.contains(FrameFlags::DISPOSABLE));
            if sample.key && name == CLOSED {
                orders.clear();
            }
            orders.push((unit.picture_order.unwrap(), sample.pts));
            let mut sorted = orders.clone();
            sorted.sort_unstable();
            assert!(
                sorted.is_sorted_by_key(|&(_, pts)| pts),
                "{name} {index}: order of output is that of pts"
            );
            if name != HDR {
                assert_eq!(unit.payload.as_ptr(), sample.data.as_ptr(), "canonical input is not copied");
            }
        }
        assert_eq!(leading > 0, name == OPEN, "{name}: {leading}");
        assert_eq!(disposable > 0, name != HDR, "{name}: {disposable}");
    }
}

fn in_band(capture: &Capture, sample: &Bytes) -> Bytes {
    let config = h265::decode_config(&capture.record).unwrap();
    let mut data = BytesMut::from(&[0, 0, 0, 1, 0x46, 1, 0x50][..]);
    for set in config.vps.iter().chain(&config.sps).chain(&config.pps) {
        data.extend_from_slice(&[0, 0, 1]);
        data.extend_from_slice(set);
    }
    nal::put_annex_b(sample, &mut data).unwrap();
    data.freeze()
}

#[test]
fn f11_in_band_parameter_sets_become_the_configuration() {
    let capture = Capture::load(OPEN);
    let mut parser = Parser::new();
    let unit = parser.push(&in_band(&capture, &capture.samples[0].data), Framing::AnnexB).unwrap();
    assert!(unit.config_changed);
    assert_eq!((unit.counts.removed, unit.flags), (4, FrameFlags::KEYFRAME));
    assert_eq!(unit.payload, capture.samples[0].data);
    let expect = h265::decode_config(&capture.record).unwrap();
    assert_eq!(
        parser.config(),
        Some(&expect),
        "all that the muxer's record says follows from the parameter sets"
    );
    assert!(
        !parser.push(&in_band(&capture, &capture.samples[0].data), Framing::AnnexB).unwrap().config_changed
    );

    let other = Capture::load(CLOSED);
    let unit = parser.push(&in_band(&other, &other.samples[0].data), Framing::AnnexB).unwrap();
    assert!(unit.config_changed, "F10: a different set of the same id");
    assert_eq!(parser.config(), Some(&h265::decode_config(&other.record).unwrap()));
}

#[test]
fn f17_units_without_a_picture_are_no_picture() {
    for data in [
        &[0, 0, 1, 0x46, 1, 0x50][..],
        &[0, 0, 1, 0x4E, 1, 1, 1, 0x80],
        &[0, 0, 1, 0x4C, 1, 0xFF, 0x80],
        &[0, 0, 1, 7],
    ] {
        let unit = Parser::new().push(&Bytes::copy_from_slice(data), Framing::AnnexB).unwrap();
        assert!(!unit.has_picture() && unit.flags.is_empty(), "{data:?}");
    }
}

#[test]
fn nal_unit_types_of_table_7_1() {
    let header = |kind: u8, tid: u8| NalHeader::of(&[kind << 1, tid + 1]).unwrap();
    let of = |test: fn(NalHeader) -> bool| (0..64).filter(|&kind| test(header(kind, 0))).collect::<Vec<_>>();
    assert_eq!(of(NalHeader::is_irap), [16, 17, 18, 19, 20, 21, 22, 23]);
    assert_eq!(of(NalHeader::is_rasl), [8, 9]);
    assert_eq!(of(NalHeader::is_sub_layer_non_reference), [0, 2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(of(NalHeader::is_sub_layer_access), [2, 3, 4, 5]);
    assert_eq!(header(1, 3).temporal_id, 3);
    assert_eq!(NalHeader::of(&[0x43, 0x09]), Some(NalHeader { kind: 33, layer: 33, temporal_id: 0 }));
}

/// An SPS of Main profile up to the chroma format, which `rest` then writes.
fn sps(rest: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
    let mut w = BitWriter::new();
    w.bits(8, 1).bits(8, 1).bits(32, 0x6000_0000).bits(48, 0).bits(8, 93).ue(0).ue(1);
    rest(&mut w);
    w.trailing();
    [vec![0x42, 1], nal::escape(&w.finish())].concat()
}

#[test]
fn m01_conformance_window_beyond_the_picture() {
    for right in [8, 1 << 31, u32::MAX - 1] {
        let unit = sps(|w| {
            w.ue(16).ue(16).flag(true).ue(0).ue(right).ue(0).ue(0);
        });
        let error = Sps::decode(&unit);
        assert!(
            matches!(error, Err(DecodeError::Malformed { what: "conf_win_right_offset", .. })),
            "{error:?}"
        );
    }
}

#[test]
fn m06_counts_of_reference_picture_sets_and_scaling_lists() {
    let up_to_tools = |w: &mut BitWriter| {
        w.ue(16).ue(16).flag(false).ue(0).ue(0).ue(4).flag(true).ue(4).ue(0).ue(0);
        for _ in 0..6 {
            w.ue(0);
        }
    };
    let sets = |count: u32, negative: u32| {
        sps(|w| {
            up_to_tools(w);
            w.flag(false).bits(3, 0).ue(count).ue(negative).ue(0);
        })
    };
    for unit in [sets(65, 0), sets(u32::MAX - 1, 0), sets(1, 17), sets(1, u32::MAX - 1)] {
        assert!(matches!(Sps::decode(&unit), Err(DecodeError::Malformed { .. })));
    }
    let deltas = sps(|w| {
        up_to_tools(w);
        w.flag(true).flag(true).flag(true).se(128);
    });
    assert!(matches!(
        Sps::decode(&deltas),
        Err(DecodeError::Malformed { what: "scaling_list_delta_coef", .. })
    ));
}

#[test]
fn m11_records_cut_or_lying() {
    let record = Capture::load(OPEN).record;
    for len in 0..record.len() {
        let cut = h265::decode_config(&record.slice(..len));
        assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{len}: {cut:?}");
    }
    for (at, value) in [(22, 31), (22, 255), (24, 255), (21, 0x0E)] {
        let mut lying = record.to_vec();
        lying[at] = value;
        assert!(h265::decode_config(&lying.into()).is_err(), "{at} = {value}");
    }
    let mut many = record[..22].to_vec();
    many.extend([1, 0xA2, 0xFF, 0xFF]);
    many.extend([0, 2, 0x44, 1].repeat(0xFFFF));
    let limit = Err(DecodeError::LimitExceeded { what: "parameter_sets", limit: 64 });
    assert_eq!(h265::decode_config(&many.into()), limit);
}

#[test]
fn a_record_with_any_bit_flipped_still_round_trips_once_it_decodes() {
    let record = include_bytes!("captures/ffmpeg_5.1_x265_hdr10.record.bin");
    let mut decoded = 0;
    for bit in 0..record.len() * 8 {
        let mut flipped = record.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(config) = h265::decode_config(&Bytes::from(flipped)) else { continue };
        assert_eq!(h265::decode_config(&h265::encode_config(&config)), Ok(config), "bit {bit}");
        decoded += 1;
    }
    assert!(decoded > 1_000, "{decoded}");
}

/// §7.4.2.2: sub-layers by their headers, and where they can be gone over to: at TSA and STSA pictures, and where they are nested
/// behind each picture of a lower one.
#[test]
fn section_7_4_2_2_sub_layers() {
    for (name, kind) in [(CLOSED, 1), (CLOSED, 3), (CLOSED, 5)] {
        let capture = Capture::load(name);
        let mut parser = parser(&capture);
        let is_nested = h265::decode_config(&capture.record).unwrap().temporal_id_nested;
        let mut flags = |kind: u8, id: u8| {
            let unit = [0, 0, 0, 4, kind << 1, id + 1, 0x80, 0];
            let flags = parser.push(&Bytes::copy_from_slice(&unit), CANONICAL).unwrap().flags;
            (flags.temporal_id(), flags.contains(FrameFlags::LAYER_SYNC))
        };
        flags(1, 0);
        let is_access = kind > 1;
        assert_eq!(flags(kind, 2), (2, is_nested || is_access));
        assert_eq!(flags(kind, 2), (2, is_access));
        assert_eq!(flags(kind, 1), (1, is_nested || is_access));
        assert_eq!(flags(kind, 2), (2, is_nested || is_access));
    }
}
