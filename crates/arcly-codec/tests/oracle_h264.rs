//! H.264 parameter sets against an independent reader of them (`docs/decisions/0002-codec-parsers.md`).
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::{h264, nal};
use arcly_core::codec::ChromaFormat;
use h264_reader::nal::sps::{self, SeqParameterSet};
use h264_reader::rbsp::{BitReader, decode_nal};
use support::Capture;

fn oracle(unit: &[u8]) -> Option<SeqParameterSet> {
    SeqParameterSet::from_bits(BitReader::new(&*decode_nal(unit).ok()?)).ok()
}

/// Compares what both understand; false when one of them refuses.
fn compare(unit: &[u8]) -> bool {
    let (Ok(ours), Some(theirs)) = (h264::Sps::decode(unit), oracle(unit)) else { return false };
    let context = || format!("{unit:02x?}\n{ours:?}\n{theirs:?}");
    assert_eq!(Some((ours.width, ours.height)), theirs.pixel_dimensions().ok(), "{}", context());
    assert_eq!(u32::from(ours.id), u32::from(theirs.seq_parameter_set_id.id()));
    assert_eq!((ours.log2_max_frame_num, ours.level), (theirs.log2_max_frame_num(), theirs.level_idc));
    let chroma = match theirs.chroma_info.chroma_format {
        sps::ChromaFormat::Monochrome => Some(ChromaFormat::Monochrome),
        sps::ChromaFormat::YUV420 => Some(ChromaFormat::Yuv420),
        sps::ChromaFormat::YUV422 => Some(ChromaFormat::Yuv422),
        sps::ChromaFormat::YUV444 => Some(ChromaFormat::Yuv444),
        _ => None,
    };
    assert_eq!(Some(ours.chroma), chroma, "{}", context());
    if let Some(rate) = ours.frame_rate {
        let expect = theirs.fps().unwrap();
        assert!((rate.as_f64() - expect).abs() <= expect * 1e-9, "{}", context());
    }
    let restrictions = theirs.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
    let reorder = restrictions.map(|restrictions| restrictions.max_num_reorder_frames);
    assert_eq!(ours.max_num_reorder_frames.map(u32::from), reorder, "{}", context());
    true
}

#[test]
fn sequence_parameter_sets_mean_the_same_to_both_with_any_bit_flipped() {
    let names = ["x264_pyramid", "x264_open_gop", "x264_intra_refresh", "x264_interlaced_422"];
    for name in names {
        let config = h264::decode_config(&Capture::load(&format!("ffmpeg_5.1_{name}")).record).unwrap();
        let unit = config.sps[0].to_vec();
        assert!(compare(&unit), "{name}: both understand it");
        let mut both = 0;
        for bit in 8..unit.len() * 8 {
            let mut flipped = unit.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            both += usize::from(compare(&flipped));
        }
        assert!(both > unit.len(), "{name}: {both} of {} were compared", unit.len() * 8);
    }
}

#[test]
fn emulation_prevention_is_the_same_to_both() {
    for rbsp in [&[1, 0, 0, 1][..], &[0, 0, 0, 0, 0, 7], &[9, 0, 0, 3, 0, 0, 2, 5]] {
        let unit = [vec![0x67], nal::escape(rbsp)].concat();
        assert_eq!(decode_nal(&unit).unwrap(), rbsp);
        assert_eq!(nal::unescape(&unit)[1..], *rbsp);
    }
}
