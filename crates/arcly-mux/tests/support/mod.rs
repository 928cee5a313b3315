//! Streams as fragmented MP4, for tests that look at them from outside.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;

use arcly_core::{MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, TrackKind, TrackSet};
use arcly_mux::flv;
use arcly_mux::fmp4::{DemuxError, Demuxer, FileOptions, FileWriter, Reader, Step};
use arcly_mux::fmp4::{Fragmenter, InitOptions, Mp4Track, Prefix, Run, init_segment};
use arcly_testkit::clips::Clip;
use arcly_testkit::ffprobe::Packet;
use bytes::Bytes;

/// Every track and frame of an FLV file; the tracks are those of its end.
pub(crate) fn read_flv(path: &Path) -> (TrackSet, Vec<MediaFrame>) {
    let mut reader = flv::Reader::new();
    reader.push(&std::fs::read(path).expect("the clip")).expect("FLV");
    split(std::iter::from_fn(|| reader.poll_event()))
}

/// A clip over and over, for a minute and more. Pictures repeat with the clip, which lasts whole seconds; sound goes on as if
/// it had never ended, in the milliseconds of FLV.
pub(crate) fn minute(clip: Clip, encoder: &Path) -> (TrackSet, Vec<MediaFrame>) {
    let (tracks, frames) = read_flv(&clip.file(encoder));
    let turns = 60_u32.div_ceil(clip.seconds);
    let mut out = Vec::new();
    for track in &tracks {
        let once: Vec<_> = frames.iter().filter(|frame| frame.track == track.id).collect();
        let begin = once.first().expect("frames").dts;
        let mut at = begin;
        for turn in 0..turns {
            let shift = TimeDelta::from_millis(i64::from(turn * clip.seconds) * 1_000);
            for frame in &once {
                let mut frame = (*frame).clone();
                if track.kind() == TrackKind::Audio {
                    (frame.dts, frame.pts) = (in_millis(at), in_millis(at));
                    at += frame.duration;
                } else {
                    (frame.dts, frame.pts) = (frame.dts + shift, frame.pts + shift);
                }
                out.push(frame);
            }
        }
    }
    out.sort_by_key(|frame| frame.dts);
    (tracks, out)
}

/// The nearest whole millisecond.
fn in_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millis((at + TimeDelta::from_units(1, Timescale::of(2_000))).to_millis())
}

/// Events as the last tracks and all frames.
pub(crate) fn split(events: impl Iterator<Item = MediaEvent>) -> (TrackSet, Vec<MediaFrame>) {
    let (mut tracks, mut frames) = (TrackSet::default(), Vec::new());
    for event in events {
        match event {
            MediaEvent::Tracks(set) => tracks = set,
            MediaEvent::Frame(frame) => frames.push(frame),
        }
    }
    (tracks, frames)
}

/// The tracks that MP4 can carry, numbered from 1.
pub(crate) fn mp4_tracks(tracks: &TrackSet) -> Vec<Mp4Track> {
    tracks.iter().zip(1..).filter_map(|(track, number)| Mp4Track::new(track, number).ok()).collect()
}

/// A whole file: a fragment for each `step` of time, with all tracks. Presentation begins at the first picture or sound.
pub(crate) fn fragmented(tracks: &TrackSet, frames: &[MediaFrame], step: TimeDelta) -> Vec<u8> {
    let tracks = mp4_tracks(tracks);
    let origin = frames.iter().map(|frame| frame.dts).min().expect("frames");
    let start = frames.iter().map(|frame| frame.pts).min().expect("frames") - origin;
    let options = InitOptions { start: Some(start), ..InitOptions::default() };
    let mut file = init_segment(&tracks, options).to_vec();
    let mut fragmenter = Fragmenter::new(tracks.clone(), origin);
    let end = frames.iter().map(|frame| frame.dts).max().expect("frames");
    let mut at = origin;
    while at <= end {
        let parts: Vec<_> = tracks.iter().map(|track| part(track, frames, (at, at + step))).collect();
        let runs: Vec<_> = parts
            .iter()
            .filter(|(part, _)| !part.is_empty())
            .map(|(part, end)| Run { frames: part.as_slice(), end: *end })
            .collect();
        if !runs.is_empty() {
            let fragment = fragmenter.fragment(&runs, &Prefix::default()).expect("a fragment");
            file.extend_from_slice(&fragment.to_bytes());
        }
        at += step;
    }
    file
}

/// The frames of a track within a span, and when the one after them begins.
fn part<'a>(
    track: &Mp4Track,
    frames: &'a [MediaFrame],
    (from, to): (Timestamp, Timestamp),
) -> (Vec<&'a MediaFrame>, Timestamp) {
    let mine = || frames.iter().filter(|frame| frame.track == track.id());
    let part: Vec<_> = mine().filter(|frame| frame.dts >= from && frame.dts < to).collect();
    let next = mine().find(|frame| frame.dts >= to).map(|frame| frame.dts);
    let end = next.unwrap_or_else(|| track.expected_end(&part));
    (part, end)
}

/// Asserts that what ffprobe reads are these frames: times to the microsecond that it prints, sizes, keyframes.
/// `shift` is added to the frames' times; those of sound may differ by `sound_tolerance` microseconds.
pub(crate) fn assert_frames(
    tracks: &TrackSet,
    frames: &[MediaFrame],
    packets: &[Packet],
    (shift, sound_tolerance): (TimeDelta, i64),
) {
    let got = arcly_testkit::ffprobe::tracks(packets);
    let ordered = [TrackKind::Video, TrackKind::Audio]
        .into_iter()
        .flat_map(|kind| tracks.iter().filter(move |track| track.kind() == kind));
    let ordered: Vec<_> = ordered.collect();
    assert_eq!(got.len(), ordered.len(), "tracks");
    for (track, packets) in ordered.into_iter().zip(got) {
        let mine: Vec<_> = frames.iter().filter(|frame| frame.track == track.id).collect();
        assert_eq!(packets.len(), mine.len(), "frames of {}", track.codec);
        let video = track.kind() == TrackKind::Video;
        let tolerance = if video { 1 } else { sound_tolerance };
        for (n, (frame, packet)) in mine.iter().zip(&packets).enumerate() {
            let micros = |at: Timestamp| (at + shift).to_ticks(Timescale::MICROS);
            let close = |at, got: Option<i64>| got.is_some_and(|got| (got - micros(at)).abs() <= tolerance);
            let same = close(frame.dts, packet.dts_us) && close(frame.pts, packet.pts_us);
            let same = same && (!video || packet.key == frame.is_keyframe());
            assert!(
                same && packet.size == frame.payload.len(),
                "{} {n}: dts {} pts {} key {} {} bytes, not {packet:?}",
                track.codec,
                micros(frame.dts),
                micros(frame.pts),
                frame.is_keyframe(),
                frame.payload.len()
            );
        }
    }
}

/// Asserts that on each sound track every packet begins where the one before it ends.
pub(crate) fn assert_sound_is_even(tracks: &TrackSet, frames: &[MediaFrame], packets: &[Packet]) {
    let sound: Vec<_> = tracks.iter().filter(|track| track.kind() == TrackKind::Audio).collect();
    let got = arcly_testkit::ffprobe::tracks(packets);
    for (track, packets) in sound.iter().rev().zip(got.into_iter().rev()) {
        let begin = packets.first().and_then(|packet| packet.dts_us).unwrap_or_default();
        let mut at = TimeDelta::ZERO;
        let mine = frames.iter().filter(|frame| frame.track == track.id);
        for (n, (frame, packet)) in mine.zip(&packets).enumerate() {
            let expect = begin + at.to_ticks(Timescale::MICROS);
            let got = packet.dts_us.unwrap_or_default();
            assert!((got - expect).abs() <= 2, "{} {n}: {got} and not {expect}", track.codec);
            at += frame.duration;
        }
    }
}

/// Every event of a file, which is read where the demuxer asks; and why it ended before its end.
pub(crate) fn demux(file: &[u8]) -> (Vec<MediaEvent>, Option<DemuxError>) {
    let file = Bytes::copy_from_slice(file);
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    loop {
        match demuxer.poll() {
            Ok(Step::Event(event)) => events.push(event),
            Ok(Step::End) => return (events, None),
            Ok(Step::Read { offset, len }) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
                let data = file.slice(from..from.saturating_add(len).min(file.len()));
                if let Err(error) = demuxer.handle_data(data) {
                    return (events, Some(error));
                }
            }
            Err(error) => return (events, Some(error)),
        }
    }
}

/// Tracks and frames of a good file, read with seeking; and, where its `moov` comes first, in pieces of `size` as well.
pub(crate) fn read_mp4(file: &[u8], moov_first: bool, size: usize) -> (TrackSet, Vec<MediaFrame>) {
    let (events, error) = demux(file);
    assert_eq!(error, None);
    let mut reader = Reader::new();
    let mut streamed = Vec::new();
    let mut result = Ok(());
    for piece in file.chunks(size) {
        result = result.and_then(|()| reader.push(piece));
        streamed.extend(std::iter::from_fn(|| reader.poll_event()));
    }
    result = result.and_then(|()| reader.finish());
    streamed.extend(std::iter::from_fn(|| reader.poll_event()));
    if moov_first {
        assert_eq!(result, Ok(()));
        assert!(streamed == events, "in pieces, and where the demuxer asks");
    } else {
        assert!(matches!(result, Err(DemuxError::Passed { .. })), "{result:?}");
    }
    split(events.into_iter())
}

/// A file as [`FileWriter`] leaves it before it is finished, and after.
pub(crate) fn written(tracks: &TrackSet, frames: &[MediaFrame], options: FileOptions) -> (Vec<u8>, Vec<u8>) {
    let mut writer = FileWriter::new(tracks, options).expect("tracks");
    let mut out = Vec::new();
    for frame in frames {
        writer.push(frame, &mut out).expect("a frame");
    }
    let unfinished = out.concat();
    let patch = writer.finish(&mut out).expect("an end").expect("media");
    let mut finished = out.concat();
    let at = usize::try_from(patch.offset).expect("small");
    finished[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    (unfinished, finished)
}
