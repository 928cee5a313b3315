//! Sound that says what time it is, and how far from that time it is heard.
#![allow(dead_code, reason = "every test program needs a part of it")]

use arcly_core::codec::{AudioParams, AudioSpecificConfig};
use arcly_core::contract::transcode::{TranscodeSession, TranscodeTarget, Transcoder};
use arcly_core::{CodecConfig, CodecId, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId};
use arcly_transcode::codec::{aac, opus};
use arcly_transcode::{AudioBridge, AudioDecoder, AudioEncoder, Config};
use bytes::Bytes;

/// How far a lag is looked for, either way, in samples.
const MAX_LAG: usize = 1_500;

/// Samples per second of everything that comes out.
pub(crate) const OUT: i64 = 48_000;

/// The sound at an instant: sweeps from 300 Hz to 6 kHz, four a second, no two alike.
pub(crate) fn sweep(seconds: f64) -> f32 {
    if seconds < 0.0 {
        return 0.0;
    }
    let number = (seconds * 4.0).floor();
    let within = seconds - number / 4.0;
    let low = 300.0 + 37.0 * (number % 11.0);
    let phase = low * within + (6_000.0 - low) * 2.0 * within * within;
    (0.4 * (core::f64::consts::TAU * phase).sin()) as f32
}

/// `len` samples of the sweep at `rate` from `first` on, the same in each of `channels`.
pub(crate) fn sweeps(rate: i64, channels: usize, first: i64, len: usize) -> Vec<f32> {
    (0..len as i64)
        .flat_map(|n| core::iter::repeat_n(sweep((first + n) as f64 / rate as f64), channels))
        .collect()
}

/// AAC of the sweep: the track, and frames whose timestamps are exact.
pub(crate) fn aac_source(rate: u32, channels: usize, frames: usize, he: bool) -> (Track, Vec<MediaFrame>) {
    let bitrate = if he { 64_000 } else { 80_000 * channels as u32 };
    let options = syom::EncodeOptions::raw().with_bitrate_bps(bitrate).with_he(he);
    let mut encoder = syom::Encoder::new(rate, channels, &options).expect("an encoder");
    let config = arcly_codec::aac::decode_config(&Bytes::copy_from_slice(encoder.asc())).expect("a record");
    let params = arcly_codec::aac::audio_params(&config);
    let (len, delay) = if he { (2_048, 3_018) } else { (1_024, 1_024) };
    let mut units = Vec::new();
    let mut fed = 0;
    while units.len() < frames {
        let plane = sweeps(rate.into(), 1, fed, len);
        fed += len as i64;
        let planes: Vec<&[f32]> = (0..channels).map(|_| &plane[..]).collect();
        let kept = encoder.feed(&planes, |frame| {
            units.push(Bytes::copy_from_slice(frame.au));
            Ok(())
        });
        kept.expect("encoded");
    }
    let track = Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::Aac(config)).with_audio(params);
    (track, stamped(units, rate, len as i64, delay))
}

/// Opus of the sweep.
pub(crate) fn opus_source(channels: usize, frames: usize) -> (Track, Vec<MediaFrame>) {
    let mut encoder = opus::Encoder::new(channels, 128_000).expect("an encoder");
    let units = (0..frames as i64).map(|n| {
        let samples = sweeps(OUT, channels, n * opus::FRAME_LEN as i64, opus::FRAME_LEN);
        encoder.encode(&samples).expect("encoded")
    });
    let frames = stamped(units.collect(), 48_000, 960, 312);
    let config = arcly_codec::opus::default_config(u8::try_from(channels).expect("one or two"));
    let track = Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::Opus(config));
    (track, frames)
}

fn stamped(units: Vec<Bytes>, rate: u32, len: i64, delay: i64) -> Vec<MediaFrame> {
    let at = |n: usize| Timestamp::from_ticks(n as i64 * len - delay, Timescale::of(rate));
    units.into_iter().enumerate().map(|(n, unit)| MediaFrame::new(TrackId::AUDIO, at(n), unit)).collect()
}

/// Moves frames so that none is before zero, as a stream's timeline does.
pub(crate) fn from_zero(frames: &mut [MediaFrame]) -> TimeDelta {
    let by = Timestamp::ZERO - frames[0].pts;
    for frame in frames {
        frame.pts += by;
        frame.dts = frame.pts;
    }
    by
}

pub(crate) fn open(source: &Track, codec: CodecId) -> Box<dyn TranscodeSession> {
    let bridge = AudioBridge::new(Config::default());
    bridge.open(source, &TranscodeTarget::new(TrackId::AUDIO, codec)).expect("supported")
}

/// Everything that becomes of `frames`.
pub(crate) fn transcode(session: &mut dyn TranscodeSession, frames: &[MediaFrame]) -> Vec<MediaFrame> {
    let mut out = Vec::new();
    for frame in frames {
        session.put(frame).expect("put");
        out.extend(core::iter::from_fn(|| session.take()));
    }
    session.finish();
    out.extend(core::iter::from_fn(|| session.take()));
    out
}

/// The decoder of a track that was made.
pub(crate) fn decoder(track: &Track) -> Box<dyn AudioDecoder> {
    match &track.config {
        CodecConfig::Aac(config) => Box::new(aac::Decoder::new(config).expect("AAC")),
        CodecConfig::Opus(config) => Box::new(opus::Decoder::new(config).expect("Opus")),
        other => panic!("nobody makes {other:?}"),
    }
}

/// The first channel of what is heard, from the sample at `from` (in samples of 48 kHz) on; what nothing says is silence.
pub(crate) fn heard(track: &Track, frames: &[MediaFrame], from: i64, len: usize) -> Vec<f32> {
    let channels = usize::from(track.audio().expect("sound").channels);
    let mut decoder = decoder(track);
    let mut out = vec![0.0; len];
    for frame in frames {
        let mut samples = Vec::new();
        decoder.decode(&frame.payload, &mut samples).expect("decodes");
        let at = frame.pts.to_ticks(Timescale::of(48_000)) - from;
        for (n, sample) in (at..).zip(samples.chunks_exact(channels)) {
            if let Some(slot) = usize::try_from(n).ok().and_then(|n| out.get_mut(n)) {
                *slot = sample[0];
            }
        }
    }
    out
}

/// How many samples of 48 kHz `sound` is behind the sweep that begins at its sample `begin`: where both are most alike,
/// looked for over `len` samples from `at` on; and how alike they are there, 1 being the same.
pub(crate) fn lag(sound: &[f32], begin: i64, at: usize, len: usize) -> (i64, f64) {
    let window: Vec<f64> = sound[at..at + len].iter().map(|&sample| sample.into()).collect();
    let power: f64 = window.iter().map(|sample| sample * sample).sum();
    let first = at as i64 - begin - MAX_LAG as i64;
    let expected: Vec<f64> =
        (first..first + (len + 2 * MAX_LAG) as i64).map(|n| sweep(n as f64 / OUT as f64).into()).collect();
    let alike = |from: usize| {
        let expected = &expected[from..from + len];
        let product: f64 = window.iter().zip(expected).map(|(a, b)| a * b).sum();
        let own: f64 = expected.iter().map(|sample| sample * sample).sum();
        product / (power * own).sqrt().max(f64::MIN_POSITIVE)
    };
    let best = (0..=2 * MAX_LAG).map(|from| (from, alike(from))).max_by(|a, b| a.1.total_cmp(&b.1));
    let (from, alike) = best.expect("there are lags");
    (MAX_LAG as i64 - from as i64, alike)
}

/// The parameters that a track says it has.
pub(crate) fn params(track: &Track) -> AudioParams {
    *track.audio().expect("sound")
}

/// What an AAC track says of itself.
pub(crate) fn config(track: &Track) -> &AudioSpecificConfig {
    match &track.config {
        CodecConfig::Aac(config) => config,
        other => panic!("not AAC: {other:?}"),
    }
}
