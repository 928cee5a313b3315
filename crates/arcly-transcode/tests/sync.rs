//! Sound stays where it was: what goes in says what time it is, and what comes out is decoded and compared, to the sample.

mod support;

use arcly_core::{CodecId, FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track};
use support::{aac_source, from_zero, heard, lag, open, opus_source, params, transcode};

/// Samples of 48 kHz that are looked at, from one second on: 200 ms.
const AT: usize = 48_000;
const LEN: usize = 9_600;
/// 5 ms.
const BOUND: i64 = 240;

/// How far behind its time the sound is that comes of `frames`, at each of `at` (samples of 48 kHz).
fn lags(source: &Track, frames: &[MediaFrame], codec: CodecId, begin: i64, at: &[usize]) -> Vec<i64> {
    lags_over(LEN, (source, frames), codec, begin, at)
}

/// The same by so many samples.
fn lags_over(
    len: usize,
    (source, frames): (&Track, &[MediaFrame]),
    codec: CodecId,
    begin: i64,
    at: &[usize],
) -> Vec<i64> {
    let mut session = open(source, codec);
    let out = transcode(&mut *session, frames);
    check_order(&out);
    let track = session.track().expect("known").clone();
    let sound = heard(&track, &out, 0, at.iter().max().expect("one") + LEN);
    let lag = |&at: &usize| {
        let (lag, alike) = lag(&sound, begin, at, len);
        assert!(alike > 0.8, "nothing is alike at {at}: {alike}");
        lag
    };
    at.iter().map(lag).collect()
}

/// Frames that come out follow each other.
fn check_order(out: &[MediaFrame]) {
    for pair in out.windows(2) {
        let end = pair[0].pts + pair[0].duration;
        assert!(pair[1].pts >= end, "{:?} after {end:?}", pair[1].pts);
        assert!(pair[1].flags.contains(FrameFlags::DISCONTINUITY) || pair[1].pts == end, "a gap at {end:?}");
    }
    assert!(out.iter().all(|frame| frame.pts == frame.dts && frame.is_keyframe()));
}

fn begin_of(frames: &mut [MediaFrame]) -> i64 {
    from_zero(frames).to_ticks(Timescale::of(48_000))
}

#[test]
fn every_source_is_in_sync_to_the_sample() {
    for (rate, channels, he) in [
        (48_000, 2, false),
        (44_100, 2, false),
        (44_100, 1, false),
        (32_000, 2, false),
        (24_000, 1, false),
        (48_000, 6, false),
        (48_000, 2, true),
    ] {
        let (source, mut frames) = aac_source(rate, channels, 80, he);
        let begin = begin_of(&mut frames);
        for lag in lags(&source, &frames, CodecId::Opus, begin, &[24_000, AT]) {
            assert!(lag.abs() <= 1, "{rate} Hz, {channels} channels, HE {he}: {lag} samples behind");
        }
    }
    for channels in [1, 2] {
        let (source, mut frames) = opus_source(channels, 80);
        let begin = begin_of(&mut frames);
        for lag in lags(&source, &frames, CodecId::Aac, begin, &[24_000, AT]) {
            assert!(lag.abs() <= 1, "Opus, {channels} channels: {lag} samples behind");
        }
    }
}

#[test]
fn milliseconds_are_not_heard() {
    let (source, mut frames) = aac_source(44_100, 2, 200, false);
    let begin = begin_of(&mut frames);
    for frame in &mut frames {
        frame.pts = Timestamp::from_millis(frame.pts.to_millis());
        frame.dts = frame.pts;
    }
    for lag in lags(&source, &frames, CodecId::Opus, begin, &[24_000, AT, 4 * AT]) {
        assert!(lag.abs() <= 48, "{lag} samples behind");
    }
}

#[test]
fn timestamps_that_jitter_stay_within_5_ms() {
    let (source, mut frames) = aac_source(44_100, 2, 200, false);
    let begin = begin_of(&mut frames);
    for (n, frame) in frames.iter_mut().enumerate().skip(1) {
        frame.pts += TimeDelta::from_millis([4, -6, 1, 6, -5][n % 5]);
        frame.dts = frame.pts;
    }
    for lag in lags(&source, &frames, CodecId::Opus, begin, &[24_000, AT, 4 * AT]) {
        assert!(lag.abs() <= BOUND, "{lag} samples behind");
    }
}

#[test]
fn a_sender_whose_samples_are_too_many_or_too_few_stays_in_sync() {
    for ppm in [-500, 500] {
        // 70 s: 35 ms apart, were nothing done about it.
        let (source, mut frames) = aac_source(44_100, 1, 3_000, false);
        let begin = begin_of(&mut frames);
        for frame in &mut frames {
            frame.pts = Timestamp(frame.pts.0 + frame.pts.0 / 1_000_000 * ppm);
            frame.dts = frame.pts;
        }
        // What was at 60 s in samples is at 60 s and 30 ms in time: that much is no lag.
        let at = 60 * AT;
        let moved = at as i64 * ppm / 1_000_000;
        // Little enough for what is a little faster or slower to be alike.
        for lag in lags_over(LEN / 4, (&source, &frames), CodecId::Opus, begin, &[at]) {
            assert!((lag - moved).abs() <= BOUND, "{ppm} ppm: {} samples behind", lag - moved);
        }
    }
}

#[test]
fn frames_that_are_lost_leave_the_rest_where_it_is() {
    let (source, mut frames) = aac_source(44_100, 2, 200, false);
    let begin = begin_of(&mut frames);
    frames.drain(60..61);
    frames.drain(100..120);
    for lag in lags(&source, &frames, CodecId::Opus, begin, &[AT / 2, 2 * AT, 4 * AT]) {
        assert!(lag.abs() <= 1, "{lag} samples behind");
    }
}

#[test]
fn after_a_long_gap_the_sound_begins_anew_in_its_place() {
    for codec in [CodecId::Opus, CodecId::Aac] {
        let (source, mut frames) = match codec {
            CodecId::Opus => aac_source(44_100, 2, 200, false),
            _ => opus_source(2, 300),
        };
        let begin = begin_of(&mut frames);
        frames.drain(50..130);
        for lag in lags(&source, &frames, codec, begin, &[20_000, 4 * AT]) {
            assert!(lag.abs() <= 1, "{codec}: {lag} samples behind");
        }
    }
}

#[test]
fn a_publisher_that_returns_goes_on_in_its_place() {
    let (source, mut frames) = aac_source(44_100, 2, 200, false);
    let begin = begin_of(&mut frames);
    // The second half comes three seconds later, flagged.
    for frame in frames.iter_mut().skip(100) {
        frame.pts += TimeDelta::from_millis(3_000);
        frame.dts = frame.pts;
    }
    frames[100].flags |= FrameFlags::DISCONTINUITY;
    let mut session = open(&source, CodecId::Opus);
    let out = transcode(&mut *session, &frames);
    check_order(&out);
    assert_eq!(out.iter().filter(|frame| frame.flags.contains(FrameFlags::DISCONTINUITY)).count(), 1);
    let track = session.track().expect("known").clone();
    let sound = heard(&track, &out, 0, 8 * AT);
    let (before, _) = lag(&sound, begin, AT, LEN);
    let (after, alike) = lag(&sound, begin + 3 * AT as i64, 6 * AT, LEN);
    assert!(before.abs() <= 1 && after.abs() <= 1 && alike > 0.9, "{before}, {after}, {alike}");
}

#[test]
fn a_session_that_takes_over_goes_on_where_the_other_ended() {
    // As when the configuration changes: the first is finished, and another one opened.
    let (source, mut frames) = opus_source(2, 200);
    let begin = begin_of(&mut frames);
    let (first, second) = frames.split_at(100);
    let mut sound = vec![0.0; 3 * AT];
    for part in [first, second] {
        let mut session = open(&source, CodecId::Aac);
        let out = transcode(&mut *session, part);
        assert!(out[0].pts >= part[0].pts);
        let track = session.track().expect("known").clone();
        let heard = heard(&track, &out, 0, 3 * AT);
        sound.iter_mut().zip(heard).for_each(|(sum, sample)| *sum += sample);
    }
    for at in [AT, 2 * AT + LEN] {
        let (lag, alike) = lag(&sound, begin, at, LEN);
        assert!(lag.abs() <= 1 && alike > 0.9, "{lag} samples behind at {at}");
    }
}

#[test]
fn nothing_comes_before_its_source_and_little_is_held_back() {
    for (codec, bound_ms) in [(CodecId::Opus, 60), (CodecId::Aac, 65)] {
        let (source, mut frames) = match codec {
            CodecId::Opus => aac_source(44_100, 2, 200, false),
            _ => opus_source(2, 200),
        };
        from_zero(&mut frames);
        let mut session = open(&source, codec);
        let mut end = None;
        for frame in &frames {
            session.put(frame).expect("put");
            while let Some(made) = session.take() {
                assert!(made.pts >= Timestamp::ZERO && made.pts < frame.pts + TimeDelta::from_millis(24));
                end = Some(made.pts + made.duration);
            }
            if frame.pts > Timestamp::from_millis(200) {
                let behind = frame.pts - end.expect("something came");
                assert!(behind < TimeDelta::from_millis(bound_ms), "{codec}: {} ms", behind.to_millis());
            }
        }
    }
}

#[test]
fn tracks_say_what_they_are() {
    let (source, _) = aac_source(44_100, 2, 1, false);
    let opus = open(&source, CodecId::Opus).track().expect("known").clone();
    assert_eq!((opus.codec, params(&opus).sample_rate, params(&opus).channels), (CodecId::Opus, 48_000, 2));
    assert_eq!((params(&opus).samples_per_frame, opus.bitrate_bps), (Some(960), Some(128_000)));
    let (source, _) = opus_source(1, 1);
    let aac = open(&source, CodecId::Aac).track().expect("known").clone();
    let config = support::config(&aac);
    assert_eq!((config.object_type, config.sample_rate, config.channels), (2, 48_000, 1));
    assert_eq!((params(&aac).samples_per_frame, aac.bitrate_bps), (Some(1_024), Some(64_000)));
}
