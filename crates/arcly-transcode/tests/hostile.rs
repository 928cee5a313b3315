//! Whatever comes in, what comes out is in order and bounded, and one bad frame costs itself alone.

mod support;

use arcly_core::codec::{AudioParams, PcmConfig};
use arcly_core::contract::transcode::{TranscodeError, TranscodeSession, TranscodeTarget, Transcoder};
use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId,
};
use arcly_transcode::clock::MAX_FILL;
use arcly_transcode::{AudioBridge, Config};
use proptest::prelude::*;
use support::{aac_source, from_zero, heard, open, opus_source};

fn telephone(law: CodecId) -> (Track, Vec<MediaFrame>) {
    let config = CodecConfig::Pcm(PcmConfig { sample_rate: 8_000, channels: 1, bits_per_sample: 8 });
    let track = Track::new(TrackId::AUDIO, law, config);
    let at = |n: i64| Timestamp::from_ticks(n * 160, Timescale::of(8_000));
    let byte = |n: i64| u8::try_from((n * 37) % 251).expect("below 251");
    let payload = |n: i64| (n * 160..n * 160 + 160).map(byte).collect();
    (track, (0..50).map(|n| MediaFrame::new(TrackId::AUDIO, at(n), payload(n))).collect())
}

/// Every kind of source that is decoded, and a codec that is made of it.
fn sources() -> Vec<(Track, Vec<MediaFrame>, CodecId)> {
    let mut sources = Vec::new();
    for (rate, channels, he) in [(44_100, 2, false), (48_000, 6, false), (48_000, 2, true)] {
        let (track, frames) = aac_source(rate, channels, 30, he);
        sources.push((track, frames, CodecId::Opus));
    }
    let (track, frames) = opus_source(2, 50);
    sources.push((track, frames, CodecId::Aac));
    for law in [CodecId::Pcma, CodecId::Pcmu] {
        let (track, frames) = telephone(law);
        sources.push((track.clone(), frames.clone(), CodecId::Aac));
        sources.push((track, frames, CodecId::Opus));
    }
    for (_, frames, _) in &mut sources {
        from_zero(frames);
    }
    sources
}

/// Takes out what there is, and checks it against what came before it.
fn drain(session: &mut dyn TranscodeSession, end: &mut Timestamp) -> TimeDelta {
    let mut sum = TimeDelta::ZERO;
    while let Some(frame) = session.take() {
        assert!(frame.dts >= *end && frame.pts == frame.dts && !frame.payload.is_empty());
        assert!(frame.payload.len() <= 2_048, "{} bytes", frame.payload.len());
        *end = frame.dts + frame.duration;
        sum += frame.duration;
    }
    sum
}

/// Damages a payload in one of a few ways.
fn damage(payload: &[u8], how: u64) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    let at = usize::try_from(how >> 8).expect("64 bits") % bytes.len().max(1);
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_within(..),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (how >> 5 & 7);
            }
        }
    }
    bytes
}

#[test]
fn damaged_frames_never_panic_and_the_next_good_one_is_heard() {
    for (source, frames, codec) in sources() {
        let mut session = open(&source, codec);
        let (mut seed, mut end, mut bad) = (7_u64, Timestamp::ZERO, 0);
        let last = frames.len() as i64 - 1;
        let step = TimeDelta((frames[1].pts - frames[0].pts).0);
        for n in 0..600_i64 {
            let frame = &frames[usize::try_from(n % last).expect("positive")];
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut sent = frame.clone();
            sent.pts = Timestamp(step.0 * n);
            sent.dts = sent.pts;
            if n < 550 {
                sent.payload = damage(&frame.payload, seed >> 16).into();
            }
            match session.put(&sent) {
                Ok(()) => {}
                Err(TranscodeError::Frame(_)) => bad += 1,
                Err(error) => panic!("{codec} of {}: {error}", source.codec),
            }
            let made = drain(&mut *session, &mut end);
            assert!(made <= MAX_FILL + TimeDelta::from_millis(200), "{} ms of one frame", made.to_millis());
        }
        session.finish();
        drain(&mut *session, &mut end);
        let whole = Timestamp(step.0 * 600);
        assert!((whole - end).abs() < TimeDelta::from_millis(100), "{}: {bad} bad frames", source.codec);
    }
}

#[test]
fn telephones_are_heard() {
    for (source, frames, codec) in sources().into_iter().filter(|(source, ..)| source.codec == CodecId::Pcmu)
    {
        let mut session = open(&source, codec);
        let out = support::transcode(&mut *session, &frames);
        let track = session.track().expect("known").clone();
        assert_eq!(track.audio().map(|audio| (audio.sample_rate, audio.channels)), Some((48_000, 1)));
        let sound = heard(&track, &out, 0, 40_000);
        let power: f32 = sound[20_000..].iter().map(|sample| sample * sample).sum::<f32>() / 20_000.0;
        assert!(power > 1e-4, "{codec}: {power}");
    }
}

#[test]
fn tracks_that_cannot_be_made_are_refused() {
    let bridge = AudioBridge::new(Config { max_sessions: 1, ..Config::default() });
    let (opus, _) = opus_source(2, 1);
    let to = |codec| TranscodeTarget::new(TrackId::AUDIO, codec);
    for (source, codec) in [
        (opus.clone(), CodecId::Opus),
        (opus.clone(), CodecId::Mp3),
        (Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None), CodecId::Aac),
        (Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::None), CodecId::Opus),
        (Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None), CodecId::Opus),
    ] {
        assert!(!bridge.supports(&source, &to(codec)), "{} to {codec}", source.codec);
        let unsupported = TranscodeError::Unsupported { from: source.codec, to: codec };
        assert_eq!(bridge.open(&source, &to(codec)).map(drop), Err(unsupported));
    }
    let first = bridge.open(&opus, &to(CodecId::Aac)).expect("the first");
    assert_eq!(bridge.open(&opus, &to(CodecId::Aac)).map(drop), Err(TranscodeError::Busy));
    drop(first);
    assert!(bridge.open(&opus, &to(CodecId::Aac)).is_ok());
}

#[test]
fn bitrates_are_what_was_asked_for() {
    let (source, frames) = aac_source(48_000, 2, 400, false);
    let mut sizes = Vec::new();
    for bitrate in [64_000, 128_000] {
        let bridge = AudioBridge::new(Config { opus_bitrate_bps: bitrate, ..Config::default() });
        let mut session =
            bridge.open(&source, &TranscodeTarget::new(TrackId::AUDIO, CodecId::Opus)).expect("supported");
        let out = support::transcode(&mut *session, &frames);
        let bits: usize = out.iter().map(|frame| frame.payload.len() * 8).sum();
        let rate = bits as f64 / (out.len() as f64 * 0.02);
        let ratio = rate / f64::from(bitrate);
        assert!((0.8..1.2).contains(&ratio), "{bitrate}: {rate}");
        sizes.push(bits);
    }
    assert!(sizes[0] * 3 < sizes[1] * 2);
}

#[test]
fn what_is_said_of_channels_need_not_be_true() {
    // The configuration says one channel, the packets have two.
    let (_, mut frames) = opus_source(2, 50);
    from_zero(&mut frames);
    let config = CodecConfig::Opus(arcly_codec::opus::default_config(1));
    let source = Track::new(TrackId::AUDIO, CodecId::Opus, config).with_audio(AudioParams::default());
    let out = support::transcode(&mut *open(&source, CodecId::Aac), &frames);
    assert!(out.len() > 40);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_timestamps_come_out_in_order(
        steps in proptest::collection::vec((-200_i64..2_000, any::<bool>()), 1..30), begin in any::<i32>(),
    ) {
        let (source, frames) = telephone(CodecId::Pcma);
        let mut session = open(&source, CodecId::Opus);
        let first = Timestamp::from_millis(begin.into());
        let (mut at, mut end, mut sum) = (first, first, TimeDelta::ZERO);
        let mut latest = first;
        for ((step, breaks), frame) in steps.iter().zip(frames.iter().cycle()) {
            let flags = if *breaks { FrameFlags::DISCONTINUITY } else { FrameFlags::empty() };
            let sent = MediaFrame { pts: at, dts: at, ..frame.clone() }.with_flags(flags);
            session.put(&sent).expect("G.711 is never damaged");
            sum += drain(&mut *session, &mut end);
            at += TimeDelta::from_millis(*step);
            latest = latest.max(at);
        }
        session.finish();
        sum += drain(&mut *session, &mut end);
        // Nothing is made up beyond the frame that came last, the encoder's delay and what fills its frame.
        prop_assert!(end <= latest + TimeDelta::from_millis(20 + 7 + 20));
        prop_assert!(sum <= end - first);
    }
}
