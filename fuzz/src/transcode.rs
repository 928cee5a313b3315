//! A target over chains from one audio codec to another.

use arcly_codec::{aac, opus};
use arcly_core::codec::PcmConfig;
use arcly_core::contract::transcode::{TranscodeTarget, Transcoder as _};
use arcly_core::{CodecConfig, CodecId, MediaFrame, TimeDelta, Timestamp, Track, TrackId};
use arcly_transcode::clock::MAX_FILL;
use arcly_transcode::{AudioBridge, Config};
use bytes::Bytes;

crate::targets!(transcode);

/// Frames that are looked at: each may cost as much as coding a second of silence.
const MAX_FRAMES: usize = 4;

/// The first byte chooses the source, the next one what is made of it; the first part is the source's configuration where it
/// has one, and the others are frames: a byte for the time since the one before, and the payload. What comes out is in order
/// and bounded.
pub fn transcode(data: &[u8]) {
    let [choice, codec, rest @ ..] = data else { return };
    let mut parts = crate::parts(rest);
    let record = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let pcm = PcmConfig { sample_rate: 8_000, channels: choice >> 4, bits_per_sample: 8 };
    let (source, config) = match choice % 4 {
        0 => match aac::decode_config(&record) {
            Ok(config) => (CodecId::Aac, CodecConfig::Aac(config)),
            Err(_) => return,
        },
        1 => match opus::decode_dops(&record) {
            Ok(config) => (CodecId::Opus, CodecConfig::Opus(config)),
            Err(_) => return,
        },
        2 => (CodecId::Pcma, CodecConfig::Pcm(pcm)),
        _ => (CodecId::Pcmu, CodecConfig::Pcm(pcm)),
    };
    let target =
        TranscodeTarget::new(TrackId::DATA, if codec % 2 == 0 { CodecId::Opus } else { CodecId::Aac });
    let source = Track::new(TrackId::AUDIO, source, config);
    let Ok(mut session) = AudioBridge::new(Config::default()).open(&source, &target) else { return };
    let (mut at, mut end) = (Timestamp::ZERO, Timestamp::ZERO);
    for part in parts.take(MAX_FRAMES) {
        let (step, payload) = part.split_first().unwrap_or((&0, &[]));
        at += TimeDelta::from_millis(i64::from(*step) * 4);
        let frame = MediaFrame::new(TrackId::AUDIO, at, Bytes::copy_from_slice(payload));
        assert!(session.put(&frame).map_or_else(|error| error.is_recoverable(), |()| true));
        let begin = end;
        while let Some(made) = session.take() {
            assert!(made.dts >= end && made.track == TrackId::DATA && made.payload.len() <= 2_048);
            end = made.dts + made.duration;
        }
        // A frame of the largest payload is two seconds of G.711.
        assert!(end - begin <= MAX_FILL + TimeDelta::from_millis(6_000));
    }
    session.finish();
}
