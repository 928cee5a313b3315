//! What fragments cost in memory: the same for one frame and for many, and nothing of their payloads.

mod support;

use arcly_core::Timestamp;
use arcly_mux::fmp4::{Fragmenter, Prefix, Run};
use arcly_testkit::media::Source;

use support::mp4_tracks;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

// One test: the counter is of the whole process.
#[test]
fn a_fragment_is_two_allocations_and_no_copy() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let source = Source::h264().with_pictures_of(20_000);
    let mut fragmenter = Fragmenter::new(mp4_tracks(&source.tracks()), Timestamp::ZERO);
    let frames = source.seconds(4);
    for count in [1, 5, 100] {
        let end = frames.get(count).map_or(Timestamp::from_millis(4_000), |next| next.dts);
        let run = Run { frames: &frames[..count], end };
        let before = dhat::HeapStats::get();
        let fragment = fragmenter.chunk(run, &Prefix::default()).expect("a fragment");
        let after = dhat::HeapStats::get();
        assert_eq!(after.total_blocks - before.total_blocks, 2, "{count} frames");
        // The description, and a handle for each payload.
        let bytes = after.total_bytes - before.total_bytes;
        assert!(bytes <= 200 + 64 * count as u64, "{bytes} bytes for {count} frames");
        assert!(fragment.len() > count * 20_000);
    }
}
