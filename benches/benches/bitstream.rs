//! Bitstreams: start codes, length prefixes, parameter sets.
//!
//! **Question.** How fast is an Annex B stream scanned and brought into canonical form, and what do codec headers
//! cost that are parsed once per key frame or per frame?
//!
//! **Hypothesis.** The scan is a vectorised search for `00 00 01` and touches each byte once; going from one length
//! to the next touches no payload at all; a sequence header is a few hundred bits.
//!
//! **Decision rule.** The scan at least 12 GB/s, or nine tenths of `memmem` on the same bytes where the machine does
//! not reach that; between Annex B and canonical at least a third of the rate of a copy, as the scan is a pass of its
//! own; H.264 access units parsed at 2 µs each.

use arcly_benches::{Bench, Goal, Media, Unit};
use arcly_codec::nal::{
    Framing, LengthSize, annex_b, annex_b_to_length_prefixed, length_prefixed, length_prefixed_to_annex_b,
};
use arcly_codec::{aac, av1, h264, h265};
use arcly_core::{CodecConfig, TrackId};
use arcly_testkit::media::Source;
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

const SCAN_TARGET: f64 = 12.0;
const NALS: usize = 100;
const NAL: usize = 10_000;

fn main() {
    let mut bench = Bench::new("bitstream");
    framing(&mut bench);
    headers(&mut bench);
}

/// What an encoder's entropy coder puts out looks like noise; emulation prevention keeps start codes out of it.
fn coded_unit(rng: &mut Rng) -> Vec<u8> {
    let mut unit = vec![0x41];
    unit.extend(rng.bytes(NAL));
    let mut unit = arcly_codec::nal::escape(&unit);
    unit.push(0x80);
    unit
}

fn framing(bench: &mut Bench) {
    let mut rng = Rng::new(7);
    let units: Vec<Vec<u8>> = (0..NALS).map(|_| coded_unit(&mut rng)).collect();
    let mut stream = BytesMut::new();
    for unit in &units {
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(unit);
    }
    let stream = stream.freeze();
    let canonical = annex_b_to_length_prefixed(&stream).expect("our own stream");
    let unit = Unit::Throughput(stream.len() as u64);

    let copy = bench.plain("copy", unit, Goal::NONE, || stream.to_vec());
    let finder = Finder::new(&[0, 0, 1]);
    let memmem = bench.plain("memmem", unit, Goal::NONE, || finder.find_iter(&stream).count());
    let reachable = memmem.map_or(SCAN_TARGET, |rate| SCAN_TARGET.min(rate * 0.9));
    bench.plain("start-code scan", unit, Goal::target(reachable).over(memmem, "memmem"), || {
        assert_eq!(annex_b(&stream).count(), NALS);
    });
    let third = Goal { target: copy.map(|copy| copy / 3.0), ..Goal::NONE }.over(copy, "copy");
    bench.plain("Annex B to lengths", unit, third, || annex_b_to_length_prefixed(&stream));
    bench.plain("lengths to Annex B", unit, third, || length_prefixed_to_annex_b(&canonical));
    bench.plain("walk over lengths", Unit::NanosPer("NAL unit", NALS as u64), Goal::NONE, || {
        assert_eq!(length_prefixed(&canonical, LengthSize::Four).count(), NALS);
    });
}

macro_rules! capture {
    ($name:literal) => {
        Bytes::from_static(include_bytes!(concat!("../../crates/arcly-codec/tests/captures/", $name)))
    };
}

fn headers(bench: &mut Bench) {
    let each = Unit::NanosPer("record", 1);
    let avc = capture!("ffmpeg_5.1_x264_pyramid.record.bin");
    let hevc = capture!("ffmpeg_5.1_x265_hdr10.record.bin");
    let av1 = capture!("ffmpeg_5.1_svtav1.record.bin");
    let asc = Bytes::from_static(&[0x11, 0x90]);
    bench.plain("avcC and its SPS", each, Goal::NONE, || {
        h264::decode_config(&avc).and_then(|config| h264::video_params(&config)).expect("a real avcC")
    });
    bench.plain("hvcC and its SPS", each, Goal::NONE, || {
        h265::decode_config(&hevc).and_then(|config| h265::video_params(&config)).expect("a real hvcC")
    });
    bench.plain("av1C and its sequence header", each, Goal::NONE, || {
        av1::decode_config(&av1).and_then(|config| av1::video_params(&config)).expect("a real av1C")
    });
    bench.plain("AudioSpecificConfig", each, Goal::NONE, || aac::decode_config(&asc).expect("AAC-LC"));

    let media = Media::new(Source::h264());
    let config = media.tracks().get(TrackId::VIDEO).map(|track| track.config.clone());
    let Some(CodecConfig::Avc(config)) = config else { panic!("the testkit's video is H.264") };
    let mut parser = h264::Parser::with_config(config).expect("a real avcC");
    let frames = media.second();
    let unit = Unit::NanosPer("access unit", frames.len() as u64);
    bench.plain("H.264 access unit", unit, Goal::target(2_000.0), || {
        for frame in &frames {
            let unit = parser.push(&frame.payload, Framing::Length(LengthSize::Four));
            assert!(std::hint::black_box(unit).is_ok_and(|unit| unit.has_picture()));
        }
    });
}
