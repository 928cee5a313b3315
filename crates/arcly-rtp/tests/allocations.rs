//! What packets cost in memory: a constant for each frame on the way out, less than one allocation for each packet on the way in.

use std::time::{Duration, Instant};

use arcly_core::derived::Packetizer as _;
use arcly_core::{MediaEvent, MediaFrame};
use arcly_rtp::media::{
    Event, LaneSpec, MediaReceiver, MediaReceiverOptions, Packetizer, PacketizerOptions, interleaved,
};
use arcly_rtp::sdp::formats;
use arcly_testkit::media::Source;
use bytes::Bytes;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn counted<T>(code: impl FnOnce() -> T) -> (u64, u64, T) {
    let before = dhat::HeapStats::get();
    let value = code();
    let after = dhat::HeapStats::get();
    (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes, value)
}

// One test: the counter is of the whole process.
#[test]
fn frames_become_packets_in_two_allocations_and_packets_frames_in_less_than_one_each() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let source = Source::h264().with_pictures_of(20_000);
    let tracks = source.tracks();
    let frames = source.seconds(10);
    let mut packetizer = Packetizer::new(PacketizerOptions::new(1));
    packetizer.headers(&tracks.clone().into());
    let mut packets = Vec::with_capacity(frames.len());
    let (blocks, bytes, ()) =
        counted(|| frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets)));
    let count = u64::try_from(frames.len()).expect("small");
    let media: u64 = frames.iter().map(|frame| frame.payload.len() as u64).sum();
    assert!(blocks <= 2 * count, "{blocks} allocations for {count} frames");
    assert!(bytes <= media * 105 / 100, "{bytes} bytes for {media} of media: copied once");

    let datagrams: Vec<Bytes> =
        packets.into_iter().flat_map(|packet| interleaved(packet.bytes)).map(|(_, packet)| packet).collect();
    let lanes = formats(&tracks)
        .into_iter()
        .map(|(track, format)| LaneSpec { track, formats: vec![format] })
        .collect();
    let mut receiver = MediaReceiver::new(lanes, MediaReceiverOptions::ordered());
    let now = Instant::now();
    let mut received: Vec<MediaFrame> = Vec::with_capacity(frames.len());
    let (blocks, _, ()) = counted(|| {
        for (n, datagram) in (0..).zip(&datagrams) {
            receiver.handle_rtp(now + Duration::from_millis(n), 0, datagram).expect("RTP");
            while let Some(event) = receiver.poll_event() {
                if let Event::Media(MediaEvent::Frame(frame)) = event {
                    received.push(frame);
                }
            }
        }
    });
    assert_eq!(received.len(), frames.len());
    let each = 100 * blocks / u64::try_from(datagrams.len()).expect("small");
    assert!(each <= 25, "{blocks} allocations for {} packets", datagrams.len());
    eprintln!("{each} allocations for 100 packets of video on the way in");
}
