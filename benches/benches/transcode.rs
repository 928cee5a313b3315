//! Sound from one codec into another.
//!
//! **Question.** What does a second of sound cost that has to be made for readers, and how many such streams does a core
//! take?
//!
//! **Hypothesis.** Encoding is nearly all of it; the rest (decoding, mixing, the clock, resampling) is below a third.
//!
//! **Decision rule.** At most 33 ms for a second of stereo, in either direction and at any rate: thirty streams a core.

use arcly_benches::{Bench, Goal, Unit};
use arcly_core::contract::transcode::{TranscodeTarget, Transcoder as _};
use arcly_core::{CodecConfig, CodecId, MediaFrame, Timescale, Timestamp, Track, TrackId};
use arcly_transcode::codec::{AudioEncoder, aac, opus};
use arcly_transcode::{AudioBridge, Config};

/// Seconds that one iteration goes through.
const SECONDS: u64 = 10;
const TARGET_US: f64 = 33_000.0;

fn main() {
    let mut bench = Bench::new("transcode");
    let mut encoder = aac::Encoder::new(2, 128_000).expect("stereo");
    let config = CodecConfig::Aac(encoder.config().clone());
    let aac = Track::new(TrackId::AUDIO, CodecId::Aac, config);
    let frames = coded(&mut encoder);
    case(&mut bench, "AAC to Opus, 128 kbit/s stereo", (&aac, &frames), CodecId::Opus);
    let mut encoder = opus::Encoder::new(2, 128_000).expect("stereo");
    let opus = Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None);
    let frames = coded(&mut encoder);
    case(&mut bench, "Opus to AAC, 128 kbit/s stereo", (&opus, &frames), CodecId::Aac);
}

/// A chord over a little noise, as frames.
fn coded(encoder: &mut dyn AudioEncoder) -> Vec<MediaFrame> {
    let rate = 48_000.0;
    let len = encoder.frame_len();
    let count = SECONDS as usize * 48_000 / len;
    let mut noise = 1_u32;
    let mut sample = |n: usize| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let tone = |hertz: f32| (core::f32::consts::TAU * hertz * (n % 48_000) as f32 / rate).sin();
        0.2 * (tone(220.0) + tone(554.0) + tone(1_320.0)) + (noise >> 8) as f32 / 16_777_216.0 * 0.05
    };
    let frames = (0..count).map(|at| {
        let samples: Vec<f32> = (at * len..(at + 1) * len).flat_map(|n| [sample(n), sample(n)]).collect();
        let pts = Timestamp::from_ticks((at * len) as i64, Timescale::of(48_000));
        MediaFrame::new(TrackId::AUDIO, pts, encoder.encode(&samples).expect("coded"))
    });
    frames.collect()
}

fn case(bench: &mut Bench, name: &str, (source, frames): (&Track, &[MediaFrame]), codec: CodecId) {
    let bridge = AudioBridge::new(Config::default());
    let target = TranscodeTarget::new(TrackId::AUDIO, codec);
    bench.plain(name, Unit::MicrosPer("second", SECONDS), Goal::target(TARGET_US), || {
        let mut session = bridge.open(source, &target).expect("supported");
        let mut made = 0;
        for frame in frames {
            session.put(frame).expect("good");
            while session.take().is_some() {
                made += 1;
            }
        }
        made
    });
}
