//! RTP packets, both ways.
//!
//! **Question.** At what rate do frames become packets and packets frames again, against copying the same bytes; and what does a packet
//! cost of which only the headers count?
//!
//! **Hypothesis.** The media is copied once on the way out, 1 188 bytes at a time, into the bytes that all readers share. On the way in it is
//! copied once, into the access unit, and searched for start codes that some cameras leave in it; sound is not copied.
//!
//! **Decision rule.** Frames become packets at a third of the rate of a copy or more; packets become frames at 2 GB/s or more; a packet of
//! sound in 300 ns. How often memory is allocated, `crates/arcly-rtp/tests/allocations.rs` holds.

use std::time::Instant;

use arcly_benches::{Bench, Goal, Media, Unit};
use arcly_core::derived::Packetizer as _;
use arcly_core::{MediaFrame, TrackSet};
use arcly_rtp::media::{
    LaneSpec, MediaReceiver, MediaReceiverOptions, Packetizer, PacketizerOptions, interleaved,
};
use arcly_rtp::sdp::formats;
use arcly_testkit::media::Source;
use bytes::Bytes;

/// Gigabytes a second.
const RECEIVE_TARGET: f64 = 2.0;
const SOUND_TARGET: f64 = 300.0;

fn main() {
    let mut bench = Bench::new("rtp");
    let media = Media::new(Source::h264());
    let (tracks, frames) = (media.tracks(), media.second());
    let payload: usize = frames.iter().map(|frame| frame.payload.len()).sum();
    let unit = Unit::Throughput(payload as u64);

    let mut copied = Vec::new();
    let copy = bench.plain("copy", unit, Goal::NONE, || {
        copied.clear();
        copied.extend(frames.iter().map(|frame| frame.payload.to_vec()));
    });
    let third = Goal { target: copy.map(|copy| copy / 3.0), ..Goal::NONE }.over(copy, "copy");
    let mut packetizer = packetizer(&tracks);
    let mut packets = Vec::new();
    bench.plain("frames to packets, shared", unit, third, || {
        packets.clear();
        frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    });
    let datagrams = datagrams(&tracks, &frames);
    bench.plain("packets to frames", unit, Goal::target(RECEIVE_TARGET).over(copy, "copy"), || {
        receive(&tracks, &datagrams)
    });

    let source = Source::aac();
    let tracks = source.tracks();
    let sounds = source.seconds(1);
    let unit = Unit::NanosPer("packet", sounds.len() as u64);
    let mut packetizer = self::packetizer(&tracks);
    bench.plain("sound to packets", unit, Goal::target(SOUND_TARGET), || {
        packets.clear();
        sounds.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    });
    let datagrams = self::datagrams(&tracks, &sounds);
    bench.plain("packets to sound", unit, Goal::target(SOUND_TARGET), || receive(&tracks, &datagrams));
}

fn packetizer(tracks: &TrackSet) -> Packetizer {
    let mut packetizer = Packetizer::new(PacketizerOptions::new(1));
    packetizer.headers(&tracks.clone().into());
    packetizer
}

fn datagrams(tracks: &TrackSet, frames: &[MediaFrame]) -> Vec<Bytes> {
    let (mut packetizer, mut packets) = (packetizer(tracks), Vec::new());
    frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    packets.into_iter().flat_map(|packet| interleaved(packet.bytes)).map(|(_, packet)| packet).collect()
}

/// All frames of one lane: how many events there were.
fn receive(tracks: &TrackSet, datagrams: &[Bytes]) -> usize {
    let lanes = formats(tracks).into_iter().map(|(track, format)| LaneSpec { track, formats: vec![format] });
    let mut receiver = MediaReceiver::new(lanes.collect(), MediaReceiverOptions::ordered());
    let (now, mut events) = (Instant::now(), 0);
    for datagram in datagrams {
        receiver.handle_rtp(now, 0, datagram).expect("our own packets");
        while receiver.poll_event().is_some() {
            events += 1;
        }
    }
    events
}
