//! What the path of each frame costs in memory: nothing, when the frame is canonical already.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use arcly_codec::nal::{Framing, LengthSize};
use arcly_codec::{av1, h264, h265, vpx};
use support::Capture;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CANONICAL: Framing = Framing::Length(LengthSize::Four);

fn allocations(work: impl FnOnce()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

// One test: the counter is of the whole process.
#[test]
fn canonical_frames_are_neither_copied_nor_allocated_for() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for name in ["ffmpeg_5.1_x264_pyramid", "ffmpeg_5.1_x264_interlaced_422", "ffmpeg_5.1_x264_intra_refresh"]
    {
        let capture = Capture::load(name);
        let mut parser = h264::Parser::with_config(h264::decode_config(&capture.record).unwrap()).unwrap();
        let count = allocations(|| {
            for sample in &capture.samples {
                let unit = parser.push(&sample.data, CANONICAL).unwrap();
                assert_eq!(unit.payload.as_ptr(), sample.data.as_ptr());
            }
        });
        assert_eq!(count, 0, "{name}: {} access units", capture.samples.len());
    }

    let capture = Capture::load("ffmpeg_5.1_x265_open_gop");
    let mut parser = h265::Parser::with_config(h265::decode_config(&capture.record).unwrap()).unwrap();
    let count = allocations(|| {
        for sample in &capture.samples {
            let unit = parser.push(&sample.data, CANONICAL).unwrap();
            assert_eq!(unit.payload.as_ptr(), sample.data.as_ptr());
        }
    });
    assert_eq!(count, 0, "H.265");

    let capture = Capture::load("ffmpeg_5.1_aom_10bit");
    let mut parser = av1::Parser::with_config(av1::decode_config(&capture.record).unwrap()).unwrap();
    let count =
        allocations(|| capture.samples.iter().for_each(|sample| drop(parser.push(&sample.data).unwrap())));
    assert_eq!(count, 0, "AV1");

    let capture = Capture::load("ffmpeg_5.1_vp9");
    let count =
        allocations(|| capture.samples.iter().for_each(|s| assert!(vpx::Vp9Frame::decode(&s.data).is_ok())));
    assert_eq!(count, 0, "VP9");
}
