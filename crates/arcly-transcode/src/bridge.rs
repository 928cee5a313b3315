//! Chains for an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arcly_core::codec::{AudioParams, OpusConfig};
use arcly_core::contract::transcode::{TranscodeError, TranscodeSession, TranscodeTarget, Transcoder};
use arcly_core::{CodecConfig, CodecId, MediaFrame, Track};

use crate::SAMPLE_RATE;
use crate::codec::pcm::Law;
use crate::codec::{AudioDecoder, AudioEncoder, CodecError, aac, opus, pcm};
use crate::transcoder::AudioTranscoder;

/// How sound is encoded, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bits per second of Opus in stereo; mono takes half of it.
    pub opus_bitrate_bps: u32,
    /// Bits per second of AAC in stereo; mono takes half of it.
    pub aac_bitrate_bps: u32,
    /// Tracks that are made at a time; one more is refused as busy.
    pub max_sessions: usize,
}

impl Default for Config {
    /// 128 kbit/s; 256 tracks.
    fn default() -> Self {
        Self { opus_bitrate_bps: 128_000, aac_bitrate_bps: 128_000, max_sessions: 256 }
    }
}

impl Config {
    /// Bits per second that both codecs can have in stereo.
    pub const BITRATES_BPS: core::ops::RangeInclusive<u32> = 32_000..=510_000;
}

/// Opens [`AudioTranscoder`]s: AAC, Opus and G.711 into AAC and Opus.
#[derive(Clone, Debug, Default)]
pub struct AudioBridge {
    config: Config,
    running: Arc<AtomicUsize>,
}

impl AudioBridge {
    /// A bridge that encodes as `config` says; bitrates beyond [`Config::BITRATES_BPS`] are moved to its ends.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, running: Arc::default() }
    }

    fn transcoder(
        &self,
        source: &Track,
        target: &TranscodeTarget,
    ) -> Result<Option<AudioTranscoder>, CodecError> {
        let Some(decoder) = decoder(source)? else { return Ok(None) };
        let channels = channels(source);
        let (track, encoder) = match target.codec {
            CodecId::Opus => self.opus(source, target, channels)?,
            CodecId::Aac => self.aac(source, target, channels)?,
            _ => return Ok(None),
        };
        Ok(Some(AudioTranscoder::new(track, channels, decoder, encoder)))
    }

    fn opus(
        &self,
        source: &Track,
        target: &TranscodeTarget,
        channels: usize,
    ) -> Result<(Track, Box<dyn AudioEncoder>), CodecError> {
        let bitrate = bitrate(target.bitrate_bps, self.config.opus_bitrate_bps, channels);
        let encoder = opus::Encoder::new(channels, bitrate)?;
        let config = OpusConfig {
            channels: count(channels),
            pre_skip: u16::try_from(encoder.delay()).unwrap_or(u16::MAX),
            input_sample_rate: SAMPLE_RATE,
            ..OpusConfig::default()
        };
        let track = made(source, target, CodecConfig::Opus(config), (channels, encoder.frame_len(), bitrate));
        Ok((track, Box::new(encoder)))
    }

    fn aac(
        &self,
        source: &Track,
        target: &TranscodeTarget,
        channels: usize,
    ) -> Result<(Track, Box<dyn AudioEncoder>), CodecError> {
        let bitrate = bitrate(target.bitrate_bps, self.config.aac_bitrate_bps, channels);
        let encoder = aac::Encoder::new(channels, bitrate)?;
        let config = CodecConfig::Aac(encoder.config().clone());
        let track = made(source, target, config, (channels, encoder.frame_len(), bitrate));
        Ok((track, Box::new(encoder)))
    }

    /// A place among those that run.
    fn enter(&self) -> Option<Place> {
        let max = self.config.max_sessions;
        let entered = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
            (running < max).then_some(running + 1)
        });
        entered.ok().map(|_| Place(Arc::clone(&self.running)))
    }
}

/// The decoder of a track; `None` when its codec is none that is decoded here.
fn decoder(source: &Track) -> Result<Option<Box<dyn AudioDecoder>>, CodecError> {
    Ok(Some(match (source.codec, &source.config) {
        (CodecId::Aac, CodecConfig::Aac(config)) => Box::new(aac::Decoder::new(config)?),
        (CodecId::Opus, CodecConfig::Opus(config)) => Box::new(opus::Decoder::new(config)?),
        (CodecId::Opus, _) => Box::new(opus::Decoder::new(&arcly_codec::opus::default_config(2))?),
        (CodecId::Pcma, CodecConfig::Pcm(config)) => Box::new(pcm::Decoder::new(Law::A, config)?),
        (CodecId::Pcmu, CodecConfig::Pcm(config)) => Box::new(pcm::Decoder::new(Law::Mu, config)?),
        _ => return Ok(None),
    }))
}

/// How many channels are made of a track: one of one, two of any other number.
fn channels(source: &Track) -> usize {
    let one = match &source.config {
        // What says one channel at a low rate may be parametric stereo that is not announced.
        CodecConfig::Aac(config) => {
            config.channels == 1 && !config.parametric_stereo && config.sample_rate > 24_000
        }
        CodecConfig::Opus(config) => config.channels == 1,
        CodecConfig::Pcm(config) => config.channels == 1,
        _ => false,
    };
    if one { 1 } else { 2 }
}

fn count(channels: usize) -> u8 {
    u8::try_from(channels).unwrap_or(u8::MAX)
}

fn bitrate(wanted: Option<u32>, configured: u32, channels: usize) -> u32 {
    let range = Config::BITRATES_BPS;
    let stereo = configured.clamp(*range.start(), *range.end());
    let usual = if channels == 1 { stereo / 2 } else { stereo };
    // AAC-LC has 6144 bits for a channel's frame, which is 288 kbit/s at 48 kHz.
    wanted.unwrap_or(usual).clamp(*range.start() / 2, 255_000 * u32::from(count(channels)))
}

/// The track that is made, with what is known of its source whatever its codec.
fn made(
    source: &Track,
    target: &TranscodeTarget,
    config: CodecConfig,
    (channels, frame_len, bitrate): (usize, usize, u32),
) -> Track {
    let params = AudioParams {
        sample_rate: SAMPLE_RATE,
        channels: count(channels),
        bits_per_sample: 0,
        samples_per_frame: u32::try_from(frame_len).ok(),
    };
    let mut track = Track::new(target.track, target.codec, config).with_audio(params);
    (track.language, track.label) = (source.language.clone(), source.label.clone());
    track.bitrate_bps = Some(bitrate);
    track
}

/// One of those that run.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A chain in its place.
struct Placed {
    transcoder: AudioTranscoder,
    _place: Place,
}

impl TranscodeSession for Placed {
    fn track(&self) -> Option<&Track> {
        self.transcoder.track()
    }
    fn put(&mut self, frame: &MediaFrame) -> Result<(), TranscodeError> {
        self.transcoder.put(frame)
    }
    fn take(&mut self) -> Option<MediaFrame> {
        self.transcoder.take()
    }
    fn finish(&mut self) {
        self.transcoder.finish();
    }
}

impl Transcoder for AudioBridge {
    fn supports(&self, source: &Track, target: &TranscodeTarget) -> bool {
        use arcly_codec::aac::object_type::{ER_LD, LC, PS, SBR};
        let decodes = match (source.codec, &source.config) {
            (CodecId::Aac, CodecConfig::Aac(config)) => matches!(config.object_type, LC | SBR | PS | ER_LD),
            (CodecId::Opus, CodecConfig::Opus(config)) => config.mapping_family <= 1,
            (CodecId::Opus, _) => true,
            (CodecId::Pcma | CodecId::Pcmu, CodecConfig::Pcm(config)) => {
                (1..=crate::pcm::MAX_CHANNELS).contains(&usize::from(config.channels))
            }
            _ => false,
        };
        decodes && matches!(target.codec, CodecId::Aac | CodecId::Opus) && source.codec != target.codec
    }

    fn open(
        &self,
        source: &Track,
        target: &TranscodeTarget,
    ) -> Result<Box<dyn TranscodeSession>, TranscodeError> {
        let unsupported = TranscodeError::Unsupported { from: source.codec, to: target.codec };
        if !self.supports(source, target) {
            return Err(unsupported);
        }
        let place = self.enter().ok_or(TranscodeError::Busy)?;
        match self.transcoder(source, target) {
            Ok(Some(transcoder)) => Ok(Box::new(Placed { transcoder, _place: place })),
            Ok(None) => Err(unsupported),
            Err(error) => Err(TranscodeError::Failed(error.to_string().into())),
        }
    }
}
