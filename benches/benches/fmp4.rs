//! Fragments of MP4, both ways.
//!
//! **Question.** At what rate do frames become CMAF chunks, shared and in one piece, and a file frames again, against copying
//! the same bytes; and what does a frame cost of which only the description counts?
//!
//! **Hypothesis.** A chunk is two allocations and the description of its frames, whatever they weigh: its payloads are
//! shared. In one piece it is one copy more. A file is taken apart without copying at all, as frames are slices of what
//! was read.
//!
//! **Decision rule.** Frames become shared chunks of 200 ms at 8 GB/s or more, at 250 ns a frame; a chunk in one piece takes
//! at most twice the time of the copy; a file becomes frames at 4 GB/s or more.

use arcly_benches::{Bench, Goal, Media, Unit};
use arcly_core::{MediaFrame, TimeDelta, Timestamp, TrackKind};
use arcly_mux::fmp4::{Demuxer, Fragmenter, InitOptions, Mp4Track, Prefix, Run, Step, init_segment};
use arcly_testkit::media::Source;
use bytes::Bytes;

const PART: TimeDelta = TimeDelta::from_millis(200);
const FRAME_TARGET: f64 = 250.0;

fn main() {
    let mut bench = Bench::new("fmp4");
    let media = Media::h264_aac();
    let track = Mp4Track::new(media.tracks().first(TrackKind::Video).expect("video"), 1).expect("H.264");
    let frames: Vec<_> = media.second().into_iter().filter(|frame| frame.track == track.id()).collect();
    let parts: Vec<&[MediaFrame]> = frames.chunk_by(|a, b| a.dts.0 / PART.0 == b.dts.0 / PART.0).collect();
    let payload: usize = frames.iter().map(|frame| frame.payload.len()).sum();
    let unit = Unit::Throughput(payload as u64);

    let mut copied = Vec::new();
    let copy = bench.plain("copy", unit, Goal::NONE, || {
        copied.clear();
        copied.extend(frames.iter().map(|frame| frame.payload.to_vec()));
    });
    let mut fragmenter = Fragmenter::new([track.clone()], Timestamp::ZERO);
    let mut chunk = |part: &[MediaFrame]| {
        let run = Run { frames: part, end: track.expected_end(part) };
        fragmenter.chunk(run, &Prefix::default()).expect("a fragment")
    };
    bench.plain("frames to chunks, shared", unit, Goal::target(8.0).over(copy, "copy"), || {
        parts.iter().map(|part| chunk(part).len()).sum::<usize>()
    });
    let half = Goal { target: copy.map(|copy| copy * 0.5), ..Goal::NONE }.over(copy, "copy");
    bench.plain("frames to chunks, in one piece", unit, half, || {
        parts.iter().map(|part| chunk(part).to_bytes().len()).sum::<usize>()
    });
    let per_frame = Unit::NanosPer("frame", frames.len() as u64);
    bench.plain("description of a frame", per_frame, Goal::target(FRAME_TARGET), || {
        parts.iter().map(|part| chunk(part).len()).sum::<usize>()
    });
    let whole = file(&track, &parts);
    bench.plain("file to frames", unit, Goal::target(4.0).over(copy, "copy"), || demux(&whole));
    let sound = sound();
    bench.plain("sound file to frames", Unit::NanosPer("frame", 47), Goal::NONE, || demux(&sound));
}

fn file(track: &Mp4Track, parts: &[&[MediaFrame]]) -> Bytes {
    let mut out = init_segment(core::slice::from_ref(track), InitOptions::default()).to_vec();
    let mut fragmenter = Fragmenter::new([track.clone()], Timestamp::ZERO);
    for part in parts {
        let run = Run { frames: part, end: track.expected_end(part) };
        out.extend_from_slice(&fragmenter.chunk(run, &Prefix::default()).expect("a fragment").to_bytes());
    }
    out.into()
}

fn sound() -> Bytes {
    let source = Source::aac();
    let track = Mp4Track::new(source.tracks().first(TrackKind::Audio).expect("sound"), 1).expect("AAC");
    let frames = source.seconds(1);
    let parts: Vec<_> = frames.chunks(10).collect();
    file(&track, &parts)
}

/// Reads where it is asked, out of memory.
fn demux(file: &Bytes) -> usize {
    let (mut demuxer, mut frames) = (Demuxer::new(), 0);
    loop {
        match demuxer.poll().expect("our own file") {
            Step::Event(_) => frames += 1,
            Step::End => return frames,
            Step::Read { offset, len } => {
                let from = usize::try_from(offset).unwrap_or_default().min(file.len());
                let data = file.slice(from..(from + len).min(file.len()));
                demuxer.handle_data(data).expect("our own file");
            }
        }
    }
}
