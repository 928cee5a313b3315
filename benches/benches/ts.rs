//! Transport packets, both ways.
//!
//! **Question.** At what rate do frames become transport packets and packets frames again, against copying the same bytes; and
//! what does a frame cost of which only the headers count?
//!
//! **Hypothesis.** The media is copied once on the way out, into its packets, 184 bytes at a time; lengths become start codes
//! in place. On the way in it is copied twice: out of the packets, and into canonical form behind a search for start codes.
//!
//! **Decision rule.** Frames become packets at 6 GB/s or more, a sound in 300 ns; packets become frames at 2 GB/s or more.

use arcly_benches::{Bench, Goal, Media, Unit};
use arcly_core::derived::Packetizer as _;
use arcly_mux::ts::{Demuxer, Muxer, Packetizer};
use arcly_testkit::media::Source;
use bytes::BytesMut;

const PIECE: usize = 64 << 10;
const SOUND_TARGET: f64 = 300.0;

fn main() {
    let mut bench = Bench::new("ts");
    let media = Media::h264_aac();
    let (tracks, frames) = (media.tracks(), media.second());
    let payload: usize = frames.iter().map(|frame| frame.payload.len()).sum();
    let unit = Unit::Throughput(payload as u64);

    let mut copied = Vec::new();
    let copy = bench.plain("copy", unit, Goal::NONE, || {
        copied.clear();
        copied.extend(frames.iter().map(|frame| frame.payload.to_vec()));
    });
    let mut muxer = Muxer::new();
    muxer.set_tracks(&tracks);
    let mut out = BytesMut::new();
    bench.plain("frames to packets, in one piece", unit, Goal::target(6.0).over(copy, "copy"), || {
        out.clear();
        frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
        out.len()
    });
    let mut packetizer = Packetizer::new();
    packetizer.headers(&tracks.into());
    let mut packets = Vec::new();
    bench.plain("frames to packets, shared", unit, Goal::target(6.0).over(copy, "copy"), || {
        packets.clear();
        frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    });
    let file = out.split().freeze();
    bench.plain("packets to frames", unit, Goal::target(2.0).over(copy, "copy"), || demux(&file));

    let source = Source::aac();
    let mut muxer = Muxer::new();
    muxer.set_tracks(&source.tracks());
    let sounds = source.seconds(1);
    let unit = Unit::NanosPer("frame", sounds.len() as u64);
    bench.plain("sound to packets", unit, Goal::target(SOUND_TARGET), || {
        out.clear();
        sounds.iter().for_each(|frame| muxer.frame(frame, &mut out));
        out.len()
    });
    let file = out.split().freeze();
    bench.plain("packets to sound", unit, Goal::NONE, || demux(&file));
}

fn demux(file: &[u8]) -> usize {
    let (mut demuxer, mut frames) = (Demuxer::default(), 0);
    for piece in file.chunks(PIECE) {
        demuxer.push(piece).expect("our own file");
        while demuxer.poll_event().is_some() {
            frames += 1;
        }
    }
    frames
}
