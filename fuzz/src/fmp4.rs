//! Targets over the MP4 half of `arcly-mux`.

use std::sync::LazyLock;

use arcly_core::track::TrackMask;
use arcly_core::{MediaEvent, Timestamp, TrackSet};
use arcly_mux::fmp4::{
    DemuxError, Demuxer, Fragmenter, InitOptions, Mp4Track, Prefix, Reader, Run, Step, init_segment,
};
use bytes::Bytes;

crate::targets!(fmp4_demuxer, fmp4_boxes);

type Outcome = (Vec<MediaEvent>, Result<(), DemuxError>);

/// A file as the demuxer asks for it. It asks for what there could be, and not twice as often as there is something.
fn demux(file: &Bytes) -> Outcome {
    let (mut demuxer, mut events, mut reads) = (Demuxer::new(), Vec::new(), 0_usize);
    loop {
        match demuxer.poll() {
            Ok(Step::Event(event)) => events.push(event),
            Ok(Step::End) => return (events, Ok(())),
            Ok(Step::Read { offset, len }) => {
                reads += 1;
                // A header has eight bytes, a piece of media one.
                assert!(reads <= file.len() * 2 + 2 + events.len(), "it comes to an end");
                assert!(len > 0 && len <= 64 << 20);
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
                let to = from.saturating_add(len).min(file.len());
                if let Err(error) = demuxer.handle_data(file.slice(from..to)) {
                    return (events, Err(error));
                }
            }
            Err(error) => return (events, Err(error)),
        }
    }
}

/// The same in pieces of `size`.
fn read(file: &[u8], size: usize) -> Outcome {
    let mut reader = Reader::new();
    let mut result = Ok(());
    for piece in file.chunks(size) {
        result = reader.push(piece);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| reader.finish());
    (std::iter::from_fn(|| reader.poll_event()).collect(), result)
}

/// Frames belong to tracks that were announced, come in order, and are not shown before they are decoded; what comes out
/// can go in again.
fn check(events: &[MediaEvent]) {
    let (mut known, mut last) = (TrackMask::default(), [None::<Timestamp>; 64]);
    let mut fragmenter = None;
    for event in events {
        match event {
            MediaEvent::Tracks(set) => {
                assert!(!set.is_empty());
                known = set.iter().map(|track| track.id).collect();
                fragmenter = Some(writer(set));
            }
            MediaEvent::Frame(frame) => {
                assert!(known.contains(frame.track) && !frame.payload.is_empty());
                assert!(frame.pts >= frame.dts && last[frame.track.index()] <= Some(frame.dts));
                last[frame.track.index()] = Some(frame.dts);
                let run = Run { frames: std::slice::from_ref(frame), end: frame.dts + frame.duration };
                let fragmenter = fragmenter.as_mut().expect("announced");
                if let Ok(fragment) = fragmenter.chunk(run, &Prefix::default()) {
                    assert_eq!(fragment.chunks()[1].as_ptr(), frame.payload.as_ptr(), "shared, not copied");
                }
            }
        }
    }
}

fn writer(set: &TrackSet) -> Fragmenter {
    let tracks = set.iter().zip(1..).filter_map(|(track, number)| Mp4Track::new(track, number).ok());
    let tracks: Vec<_> = tracks.collect();
    assert!(!init_segment(&tracks, InitOptions::default()).is_empty());
    Fragmenter::new(tracks, Timestamp::ZERO)
}

/// A file where the demuxer asks for it, and in pieces of any size: the same events.
pub fn fmp4_demuxer(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let (events, result) = demux(&data);
    check(&events);
    for size in [1, 977, data.len().max(1)] {
        let (streamed, streaming) = read(&data, size);
        if streaming.is_ok() {
            assert_eq!((streamed, Ok(())), (events.clone(), result));
        }
    }
}

/// The start of a file with pictures and sound.
static START: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let source = arcly_testkit::media::Source::h264_aac().tracks();
    let tracks: Vec<_> =
        source.iter().zip(1..).filter_map(|(track, number)| Mp4Track::new(track, number).ok()).collect();
    init_segment(&tracks, InitOptions::default()).to_vec()
});

/// Boxes behind a good start: fragments, and what claims to be one.
pub fn fmp4_boxes(data: &[u8]) {
    let (events, _) = demux(&[&START[..], data].concat().into());
    check(&events);
}
