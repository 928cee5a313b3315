//! AAC by `syom`.

use arcly_core::codec::AudioSpecificConfig;
use bytes::Bytes;
use smallvec::SmallVec;
use syom::{Channel, DecodeOptions, EncodeOptions};

use super::{AudioDecoder, AudioEncoder, CodecError, MAX_FRAME_BYTES};
use crate::SAMPLE_RATE;
use crate::pcm::{Format, Speaker};

/// Samples of each channel in one frame of AAC-LC.
pub const FRAME_LEN: usize = 1_024;

fn failed(error: impl core::fmt::Display) -> CodecError {
    CodecError::new("aac", &error)
}

/// Decodes AAC-LC, HE-AAC and AAC-LD, of any number of channels up to eight.
pub struct Decoder {
    config: Bytes,
    decoder: syom::Decoder,
}

impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("aac::Decoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder of what `config` says.
    ///
    /// # Errors
    /// The object type, the sample rate or the channels are none that it decodes.
    pub fn new(config: &AudioSpecificConfig) -> Result<Self, CodecError> {
        let record =
            if config.raw.is_empty() { arcly_codec::aac::encode_config(config) } else { config.raw.clone() };
        let decoder = fresh(&record)?;
        Ok(Self { config: record, decoder })
    }
}

fn fresh(record: &[u8]) -> Result<syom::Decoder, CodecError> {
    let options = DecodeOptions::unbounded().with_max_sample_rate(96_000);
    syom::Decoder::from_asc(record, options).map_err(failed)
}

impl AudioDecoder for Decoder {
    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<Format, CodecError> {
        if payload.len() > MAX_FRAME_BYTES {
            return Err(failed(format_args!("a frame of {} bytes", payload.len())));
        }
        let mut format = None;
        let decoded = self.decoder.decode_au(payload, |frame| {
            let speakers: SmallVec<_> = frame.meta.labels().map(speaker).collect();
            let channels = frame.planar.len();
            let labelled = speakers.len() == channels && channels > 2;
            format = Some(match labelled {
                true => Format { sample_rate: frame.sample_rate, speakers },
                false => Format::plain(frame.sample_rate, channels),
            });
            out.reserve(frame.samples * channels);
            for at in 0..frame.samples {
                out.extend(frame.planar.iter().map(|plane| plane.get(at).copied().unwrap_or_default()));
            }
            Ok(())
        });
        if let Err(error) = decoded {
            // It takes nothing more once it has failed.
            self.decoder = fresh(&self.config)?;
            return Err(failed(error));
        }
        format.ok_or_else(|| failed("a frame without channels"))
    }
}

const fn speaker(channel: Channel) -> Speaker {
    match channel {
        Channel::FrontLeft => Speaker::FrontLeft,
        Channel::FrontRight => Speaker::FrontRight,
        Channel::FrontCenter => Speaker::FrontCenter,
        Channel::Lfe => Speaker::Lfe,
        Channel::BackLeft | Channel::SideLeft => Speaker::SurroundLeft,
        Channel::BackRight | Channel::SideRight => Speaker::SurroundRight,
        Channel::BackCenter => Speaker::BackCenter,
        _ => Speaker::Unknown,
    }
}

/// Encodes AAC-LC of one or two channels at 48 kHz.
pub struct Encoder {
    encoder: syom::Encoder,
    config: AudioSpecificConfig,
    channels: usize,
    planes: [Vec<f32>; 2],
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("aac::Encoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder of so many channels, at so many bits per second in all.
    ///
    /// # Errors
    /// There are neither one nor two channels, or the bitrate is none that AAC has.
    pub fn new(channels: usize, bitrate_bps: u32) -> Result<Self, CodecError> {
        if !(1..=2).contains(&channels) {
            return Err(failed(format_args!("{channels} channels")));
        }
        let options = EncodeOptions::raw().with_bitrate_bps(bitrate_bps);
        let encoder = syom::Encoder::new(SAMPLE_RATE, channels, &options).map_err(failed)?;
        let record = Bytes::copy_from_slice(encoder.asc());
        let config = arcly_codec::aac::decode_config(&record).map_err(failed)?;
        Ok(Self { encoder, config, channels, planes: Default::default() })
    }

    /// What a decoder has to know.
    #[must_use]
    pub const fn config(&self) -> &AudioSpecificConfig {
        &self.config
    }
}

impl AudioEncoder for Encoder {
    fn frame_len(&self) -> usize {
        FRAME_LEN
    }

    /// The first half of each window is the frame before.
    fn delay(&self) -> usize {
        FRAME_LEN
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        let [left, right] = &mut self.planes;
        left.clear();
        right.clear();
        for frame in samples.chunks_exact(self.channels) {
            // Filters overshoot, and it takes nothing beyond full scale.
            left.extend(frame.first().map(|sample| sample.clamp(-1.0, 1.0)));
            right.extend(frame.get(1).map(|sample| sample.clamp(-1.0, 1.0)));
        }
        let mut unit = None;
        let planes = [left.as_slice(), right.as_slice()];
        let planes = planes.get(..self.channels).unwrap_or_default();
        let fed = self.encoder.feed(planes, |frame| {
            unit = Some(Bytes::copy_from_slice(frame.au));
            Ok(())
        });
        if let Err(error) = fed {
            self.encoder.reset().map_err(failed)?;
            return Err(failed(error));
        }
        unit.ok_or_else(|| failed("too few samples"))
    }
}
