#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]

use std::time::{Duration, SystemTime};

use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timestamp, TrackId, TrackSet};
use arcly_testkit::media::Source;
use proptest::prelude::*;

use super::*;

const VIDEO: TrackId = TrackId::VIDEO;
const AUDIO: TrackId = TrackId::AUDIO;

fn ms(ms: i64) -> TimeDelta {
    TimeDelta::from_millis(ms)
}

/// Feeds a segmenter in virtual time, and checks after each frame what has to hold always.
struct Bench {
    segmenter: Segmenter,
    frames: u64,
}

impl Bench {
    fn new(config: Config, gop: Option<i64>, tracks: &TrackSet) -> Self {
        let mut segmenter = Segmenter::new(config, gop.map(ms), None);
        segmenter.set_tracks(tracks);
        Self { segmenter, frames: 0 }
    }

    fn of(source: &Source) -> Self {
        Self::new(Config::default(), Some(1_000), &source.tracks())
    }

    fn feed(&mut self, frames: impl IntoIterator<Item = MediaFrame>) -> &mut Self {
        for frame in frames {
            let arrival = SystemTime::UNIX_EPOCH
                + Duration::from_secs(1_000_000)
                + (frame.dts - Timestamp::ZERO).to_duration();
            self.segmenter.push(arrival, &frame);
            self.frames += 1;
            if self.frames.is_multiple_of(16) {
                self.check();
            }
        }
        self.check();
        self
    }

    fn view(&self, track: TrackId) -> View {
        self.segmenter.view(track).unwrap_or_else(|| panic!("no rendition of track {track}"))
    }

    /// What holds of every rendition at any moment.
    fn check(&self) {
        for (track, _) in self.segmenter.versions() {
            let view = self.view(track);
            let plan = view.plan;
            let mut before: Option<&Segment> = None;
            for segment in view.kept().iter().chain(&view.open) {
                check_segment(segment, &plan);
                if let Some(before) = before {
                    assert_eq!(segment.msn, before.msn + 1, "a playlist tells only the first number");
                    assert_eq!(
                        segment.parts.first().map(|part| part.number),
                        before.parts.last().map(|part| part.number + 1).filter(|_| !segment.parts.is_empty())
                    );
                    assert!(segment.date >= before.date, "dates do not run backwards");
                    if !segment.discontinuity {
                        let apart = (segment.start - before.end()).abs();
                        assert!(apart <= ms(100), "track {track}: hole of {apart:?} before {}", segment.msn);
                    }
                }
                before = Some(segment);
            }
            let listed = view.listed().iter().fold(TimeDelta::ZERO, |sum, segment| sum + segment.duration);
            assert!(listed <= plan.window + plan.max_segment + ms(100), "{listed:?}");
        }
    }
}

fn check_segment(segment: &Segment, plan: &Plan) {
    let sum = segment.parts.iter().fold(TimeDelta::ZERO, |sum, part| sum + part.duration);
    assert_eq!(sum, segment.duration);
    let rounded = (segment.duration.to_millis() + 500) / 1_000;
    assert!(rounded <= plan.target.to_millis() / 1_000, "{}: {:?}", segment.msn, segment.duration);
    for (at, part) in segment.parts.iter().enumerate() {
        assert!(part.duration <= plan.part_target, "{:?}", part.duration);
        let last = at + 1 == segment.parts.len();
        let before_gap = segment.parts.get(at + 1).is_some_and(Part::is_gap);
        let exempt = last || before_gap || part.independent || part.is_gap();
        assert!(exempt || part.duration.0 * 100 >= plan.part_target.0 * 85, "{:?}", part.duration);
    }
}

fn seconds(source: Source, from: i64, to: i64) -> Vec<MediaFrame> {
    let at = |frame: &MediaFrame| frame.dts.to_millis();
    source
        .skip_while(move |frame| at(frame) < from * 1_000)
        .take_while(|frame| at(frame) < to * 1_000)
        .collect()
}

/// The payload bytes of a rendition's media, as they are behind the headers.
fn payloads(view: &View) -> Vec<u8> {
    let parts = view.kept().iter().chain(&view.open).flat_map(|segment| &segment.parts);
    parts.flat_map(|part| mdat(&part.bytes)).collect()
}

fn mdat(chunk: &[u8]) -> Vec<u8> {
    let at = chunk.windows(4).position(|window| window == b"mdat");
    at.map_or_else(Vec::new, |at| chunk[at + 4..].to_vec())
}

#[test]
fn segments_begin_with_keyframes_and_sound_is_cut_with_them() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    bench.feed(source.seconds(21));
    let (video, audio) = (bench.view(VIDEO), bench.view(AUDIO));
    assert_eq!((video.plan.target_seconds(), video.plan.part_target), (2, ms(200)));
    assert_eq!(video.listed().len(), 10);
    for (number, segment) in video.listed().iter().enumerate() {
        assert_eq!(
            (segment.msn, segment.start),
            (number as u64, Timestamp::from_millis(number as i64 * 2_000))
        );
        assert_eq!((segment.parts.len(), segment.duration), (10, ms(2_000)));
        assert!(segment.is_independent() && !segment.discontinuity);
        assert!(segment.parts.iter().enumerate().all(|(at, part)| part.independent == (at % 5 == 0)));
    }
    for (picture, sound) in video.listed().iter().zip(audio.listed()) {
        assert_eq!(picture.msn, sound.msn);
        let apart = sound.presented - picture.presented;
        assert!(apart >= ms(0) && apart < ms(22), "{apart:?}");
        let dates = sound.date.duration_since(picture.date).expect("sound is not earlier");
        assert!(dates < Duration::from_millis(30), "{dates:?}");
    }
    assert!(video.independent && !video.ended);
}

#[test]
fn every_byte_is_there_once_and_in_order() {
    let source = Source::h264_aac();
    let frames = source.clone().seconds(9);
    let mut bench = Bench::of(&source);
    bench.feed(frames.clone()).segmenter.end();
    for track in [VIDEO, AUDIO] {
        let view = bench.view(track);
        assert!(view.ended && view.open.is_none());
        let sent: Vec<u8> =
            frames.iter().filter(|f| f.track == track).flat_map(|f| f.payload.iter().copied()).collect();
        assert!(payloads(&view) == sent, "track {track}");
    }
}

#[test]
fn f18_m31_a_gop_without_end_is_cut_in_time_and_memory_is_bounded() {
    let source = Source::h264().with_pictures_of(50_000);
    let config = Config { max_bytes: 16 << 20, ..Config::default() };
    let mut bench = Bench::new(config, None, &source.tracks());
    let frames = source.take(25 * 600).enumerate().map(|(n, mut frame)| {
        frame.flags.set(FrameFlags::KEYFRAME, n == 0);
        frame
    });
    bench.feed(frames);
    let view = bench.view(VIDEO);
    assert_eq!(view.plan.target_seconds(), 4);
    assert!(view.bytes() < (16 << 20) + 6 * 25 * 50_000, "{}", view.bytes());
    assert!(!view.independent);
    assert!(view.listed().iter().all(|segment| !segment.is_independent() && segment.duration > ms(4_000)));
}

#[test]
fn f15_frame_rates_from_one_to_120_and_a_freeze_keep_both_targets() {
    let mut times = vec![0_i64];
    let mut run = |count: usize, step: i64| {
        for _ in 0..count {
            times.push(times.last().unwrap() + step);
        }
    };
    run(10, 40);
    run(8, 1_000);
    run(1_200, 8);
    run(1, 5_000);
    run(100, 40);
    run(12, 1_000);
    let source = Source::h264();
    let end = *times.last().unwrap();
    let frames = source.clone().zip(&times).map(|(mut frame, at)| {
        (frame.dts, frame.pts) = (Timestamp::from_millis(*at), Timestamp::from_millis(*at));
        frame
    });
    let config = Config { window: ms(120_000), ..Config::default() };
    let mut bench = Bench::new(config, None, &source.tracks());
    bench.feed(frames).segmenter.end();
    let view = bench.view(VIDEO);
    let listed = view.listed().iter().fold(TimeDelta::ZERO, |sum, segment| sum + segment.duration);
    assert!((listed - ms(end)).abs() <= ms(1_000), "{listed:?} of {end} ms: within a frame");
    assert!(view.listed().iter().all(|segment| !segment.discontinuity));
    assert!(view.listed().iter().any(|segment| segment.parts.iter().any(Part::is_gap)));
}

#[test]
fn f01_a_publisher_that_returns_makes_one_discontinuity_everywhere() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    bench.feed(seconds(source.clone(), 0, 5));
    let again = source.starting_at(Timestamp::from_millis(7_500)).take_while(|f| f.dts.to_millis() < 13_000);
    bench.feed(
        again.enumerate().map(
            |(n, frame)| {
                if n == 0 { frame.with_flags(FrameFlags::DISCONTINUITY) } else { frame }
            },
        ),
    );
    for track in [VIDEO, AUDIO] {
        let view = bench.view(track);
        let all: Vec<_> = view.listed().iter().chain(&view.open).collect();
        let breaks: Vec<_> = all.iter().filter(|segment| segment.discontinuity).collect();
        assert_eq!(breaks.len(), 1, "track {track}");
        assert_eq!((breaks[0].msn, breaks[0].discontinuity_sequence), (3, 1), "numbers go on");
        assert_eq!(breaks[0].init.number, 0, "nothing changed");
        let gap = breaks[0].date.duration_since(all[2].date).unwrap();
        assert!(gap >= Duration::from_millis(3_400) && gap < Duration::from_millis(3_700), "{gap:?}");
    }
}

#[test]
fn f02_f10_another_configuration_makes_another_initialisation_segment() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    bench.feed(seconds(source.clone(), 0, 5));
    let mut tracks = source.tracks();
    let mut video = tracks.get(VIDEO).unwrap().clone();
    if let arcly_core::CodecConfig::Avc(config) = &mut video.config {
        config.pps.push(bytes::Bytes::from_static(&[0x68, 1, 2, 3]));
    }
    tracks.insert(video);
    bench.segmenter.set_tracks(&tracks);
    bench.feed(seconds(source, 5, 8));
    let (video, audio) = (bench.view(VIDEO), bench.view(AUDIO));
    let numbers = |view: &View| -> Vec<(u64, bool)> {
        let all = view.listed().iter().chain(&view.open);
        all.map(|segment| (segment.init.number, segment.discontinuity)).collect()
    };
    assert_eq!(numbers(&video), [(0, false), (0, false), (0, false), (1, true), (1, false)]);
    assert_eq!(numbers(&audio), [(0, false), (0, false), (0, false), (0, true), (0, false)]);
    assert_ne!(video.init(0).unwrap().bytes, video.init(1).unwrap().bytes);
    // The same tracks again: nothing happens.
    bench.segmenter.set_tracks(&tracks);
    assert_eq!(numbers(&bench.view(VIDEO)).len(), 5);
}

#[test]
fn f12_silence_of_one_track_does_not_hold_up_the_other() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    let quiet =
        |frame: &MediaFrame| frame.track == VIDEO || !(5_000..35_000).contains(&frame.dts.to_millis());
    for frame in seconds(source, 0, 40).into_iter().filter(quiet) {
        let at = frame.dts;
        bench.feed([frame]);
        if at.to_millis() < 2_000 {
            continue;
        }
        for track in [VIDEO, AUDIO] {
            let view = bench.view(track);
            let end = view.open.as_ref().or(view.listed().last()).map(|last| last.end()).unwrap();
            assert!(at - end < ms(1_400), "track {track} at {end:?}, stream at {at:?}");
        }
    }
    let audio = bench.view(AUDIO);
    assert!(audio.listed().iter().any(|segment| segment.is_gap()));
    assert!(audio.listed().last().is_some_and(|segment| !segment.is_gap()), "sound is back");
    assert_eq!(bench.view(VIDEO).listed().last().map(|s| s.msn), audio.listed().last().map(|s| s.msn));
}

#[test]
fn f12_sound_alone_leads_until_pictures_come() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    let late = |frame: &MediaFrame| frame.track == AUDIO || frame.dts.to_millis() >= 8_000;
    let mut first = None;
    for frame in seconds(source, 0, 14).into_iter().filter(late) {
        let at = frame.dts;
        bench.feed([frame]);
        let listed = bench.segmenter.view(AUDIO).is_some_and(|view| !view.listed().is_empty());
        if listed && first.is_none() {
            first = Some(at);
        }
    }
    assert!(first.is_some_and(|at| at.to_millis() <= 4_000), "{first:?}");
    let (video, audio) = (bench.view(VIDEO), bench.view(AUDIO));
    assert!(video.listed()[0].start.to_millis() == 8_000 && video.listed()[0].is_independent());
    let joined: Vec<_> = audio.listed().iter().filter(|segment| segment.discontinuity).collect();
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].msn, video.listed()[0].msn, "they go on together");
}

#[test]
fn f12_sound_only_and_pictures_only() {
    for (source, track) in [(Source::aac(), AUDIO), (Source::h264(), VIDEO)] {
        let mut bench = Bench::new(Config::default(), None, &source.tracks());
        bench.feed(source.seconds(20));
        let view = bench.view(track);
        assert!(view.listed().len() >= 4 && view.listed().iter().all(|segment| segment.is_independent()));
        assert_eq!(bench.segmenter.versions().count(), 1);
    }
}

#[test]
fn a_loss_is_listed_as_gaps_and_a_long_one_begins_anew() {
    for (lost, gaps, breaks) in [(3_000, true, 0), (60_000, false, 1)] {
        let source = Source::h264_aac();
        let mut bench =
            Bench::new(Config { window: ms(60_000), ..Config::default() }, Some(1_000), &source.tracks());
        bench.feed(seconds(source.clone(), 0, 5));
        let after = source.starting_at(Timestamp::from_millis(5_000 + lost));
        bench.feed(after.take_while(|frame| frame.dts.to_millis() < 11_000 + lost));
        for track in [VIDEO, AUDIO] {
            let view = bench.view(track);
            assert_eq!(
                view.listed().iter().any(|s| s.parts.iter().any(Part::is_gap)),
                gaps,
                "{lost} {track}"
            );
            assert_eq!(view.listed().iter().filter(|s| s.discontinuity).count(), breaks, "{lost} {track}");
        }
    }
}

#[test]
fn a_track_that_leaves_ends_and_goes_on_when_it_returns() {
    let source = Source::h264_aac();
    let mut bench = Bench::of(&source);
    bench.feed(seconds(source.clone(), 0, 5));
    bench.segmenter.set_tracks(&Source::aac().tracks());
    let sound = |from, to| seconds(source.clone(), from, to).into_iter().filter(|f| f.track == AUDIO);
    bench.feed(sound(5, 9));
    assert!(bench.view(VIDEO).ended, "F03: pictures disappear");
    assert!(bench.view(AUDIO).listed().last().unwrap().start.to_millis() >= 6_000);
    bench.segmenter.set_tracks(&source.tracks());
    bench.feed(seconds(source, 9, 13));
    let video = bench.view(VIDEO);
    assert!(!video.ended && video.listed().last().unwrap().start.to_millis() >= 9_000);
    let breaks: Vec<_> =
        video.listed().iter().filter(|s| s.discontinuity).map(|s| s.discontinuity_sequence).collect();
    assert_eq!(breaks, [2]);
}

#[test]
fn a_stream_that_begins_again_goes_on_with_its_numbers() {
    let source = Source::h264();
    let mut bench = Bench::of(&source);
    bench.feed(source.clone().seconds(5)).segmenter.end();
    let continuation = bench.segmenter.continuation();
    assert_eq!(continuation, Continuation { msn: 3, discontinuity_sequence: 1 });
    let mut segmenter = Segmenter::new(Config::default(), Some(ms(1_000)), Some(continuation));
    segmenter.set_tracks(&source.tracks());
    let mut again = Bench { segmenter, frames: 0 };
    again.feed(source.seconds(5));
    let view = again.view(VIDEO);
    assert_eq!((view.listed()[0].msn, view.listed()[0].discontinuity), (3, true));
    assert_eq!(view.listed()[0].discontinuity_sequence, 1);
}

#[test]
fn what_left_the_list_stays_for_as_long_as_the_list_is() {
    let source = Source::h264();
    let mut bench = Bench::of(&source);
    bench.feed(source.seconds(120));
    let view = bench.view(VIDEO);
    let first = view.listed()[0].msn;
    assert!(view.segment(first - 15).is_some() && view.segment(first - 20).is_none());
    let part = view.segment(first - 15).unwrap().parts[3].clone();
    assert_eq!(view.part(part.number), Some(&part));
    assert_eq!(view.part(view.next_part), None);
    let newest = view.open.as_ref().unwrap().parts.last().unwrap();
    assert_eq!(view.part(view.next_part - 1), Some(newest));
    let (msn, index) = view.last_part().unwrap();
    assert!(view.has(msn, Some(index)) && !view.has(msn, Some(index + 1)) && !view.has(msn, None));
    assert!(view.has(msn - 1, None) && view.has(msn - 1, Some(500)));
}

#[test]
fn sound_that_is_always_late_is_waited_for() {
    let source = Source::h264_aac();
    let mut frames = source.clone().seconds(40);
    let lag = |frame: &MediaFrame| frame.dts.to_millis() + if frame.track == AUDIO { 2_500 } else { 0 };
    frames.sort_by_key(lag);
    let mut bench = Bench::of(&source);
    bench.feed(frames);
    let audio = bench.view(AUDIO);
    let late = &audio.listed()[audio.listed().len() - 5..];
    assert!(late.iter().all(|segment| segment.parts.iter().all(|part| !part.is_gap())));
}

/// One step of a stream that nobody would make on purpose.
#[derive(Clone, Copy, Debug)]
struct Step {
    audio: bool,
    key: bool,
    forward_ms: i64,
    composition_ms: i64,
    rebased: bool,
    reconfigured: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_sequence_of_frames_breaks_a_promise(
        steps in proptest::collection::vec(
            (any::<bool>(), 0..20_u8, prop_oneof![0..60_i64, 0..60_i64, 0..60_i64, 0..9_000_i64, 0..100_000_i64], 0..200_i64, 0..100_u8)
                .prop_map(|(audio, key, forward_ms, composition_ms, rare)| Step {
                    audio,
                    key: key == 0,
                    forward_ms,
                    composition_ms,
                    rebased: rare == 0,
                    reconfigured: rare == 1,
                }),
            1..400,
        ),
        start in -100_000..100_000_i64,
    ) {
        let source = Source::h264_aac();
        let (plain, mut other) = (source.tracks(), source.tracks());
        let mut video = other.get(VIDEO).unwrap().clone();
        if let arcly_core::CodecConfig::Avc(config) = &mut video.config {
            config.pps.push(bytes::Bytes::from_static(&[0x68, 1, 2, 3]));
        }
        other.insert(video);
        let mut bench = Bench::new(Config::default(), None, &plain);
        let mut at = [start, start];
        for (n, step) in steps.iter().enumerate() {
            if step.reconfigured {
                bench.segmenter.set_tracks(if n % 2 == 0 { &other } else { &plain });
            }
            let lane = usize::from(step.audio);
            // Each track runs forward by itself, and neither is left behind for ever.
            at[lane] = (at[lane] + step.forward_ms).max(at[1 - lane] - 12_000);
            let track = if step.audio { AUDIO } else { VIDEO };
            let dts = Timestamp::from_millis(at[lane]);
            let composition = if step.audio { 0 } else { step.composition_ms };
            let mut frame = MediaFrame::new(track, dts, bytes::Bytes::from_static(&[0, 0, 0, 1, 65]));
            frame.pts = dts + ms(composition);
            frame.flags.set(FrameFlags::KEYFRAME, step.audio || step.key);
            frame.flags.set(FrameFlags::DISCONTINUITY, step.rebased);
            bench.feed([frame]);
        }
        bench.segmenter.end();
        bench.check();
    }
}
