use arcly_core::codec::{Ac3Config, AudioParams, PcmConfig};
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{CodecConfig, CodecId, TimeDelta, Timescale, Track, TrackId};
use bytes::Bytes;

use crate::{aac, ac3, flac, g711, mpeg_audio, opus};

/// An audio track: its configuration, from a record or from the frames themselves.
#[derive(Debug)]
pub struct AudioStream {
    codec: CodecId,
    config: CodecConfig,
    params: Option<AudioParams>,
    /// `channelCount` of a channel layout, for frames that do not say.
    layout_channels: u8,
    /// The track may differ from what was last asked for.
    changed: bool,
}

impl AudioStream {
    /// A stream of which nothing is known but its codec.
    #[must_use]
    pub const fn new(codec: CodecId) -> Self {
        Self { codec, config: CodecConfig::None, params: None, layout_channels: 0, changed: false }
    }

    /// Its codec.
    #[must_use]
    pub const fn codec(&self) -> CodecId {
        self.codec
    }

    /// True once when [`track`](Self::track) may differ from what it was.
    pub const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    /// Takes a configuration as a value, and what follows from it.
    pub fn set(&mut self, config: CodecConfig, params: AudioParams) {
        if self.params != Some(params) || self.config != config {
            (self.config, self.params, self.changed) = (config, Some(params), true);
        }
    }

    /// The track as it is known now; `None` until it can be decoded.
    #[must_use]
    pub fn track(&self, id: TrackId) -> Option<Track> {
        let mut params = self.params?;
        if params.channels == 0 {
            params.channels = self.layout_channels;
        }
        Some(Track::new(id, self.codec, self.config.clone()).with_audio(params))
    }

    /// Takes a configuration record as FLV has them: an AudioSpecificConfig, `OpusHead`, the start of a FLAC stream. Codecs
    /// whose frames say everything have none.
    ///
    /// # Errors
    /// The record is malformed; what was known stays.
    pub fn set_record(&mut self, record: &Bytes) -> DecodeResult<()> {
        // The configuration outlives the tag, so it does not keep the tag's buffer alive.
        let record = Bytes::copy_from_slice(record);
        let (config, params) = match self.codec {
            CodecId::Aac => {
                let config = aac::decode_config(&record)?;
                let params = aac::audio_params(&config);
                (CodecConfig::Aac(config), params)
            }
            CodecId::Opus => {
                let config = opus::decode_head(&record)?;
                let params = opus::audio_params(&config);
                (CodecConfig::Opus(config), params)
            }
            CodecId::Flac => {
                let config = flac::decode_config(&record)?;
                let params = flac::audio_params(&config);
                (CodecConfig::Flac(config), params)
            }
            // MP3, AC-3, G.711: the record is empty, and the frames say everything.
            _ => return Ok(()),
        };
        self.set(config, params);
        Ok(())
    }

    /// Takes a channel layout of Enhanced RTMP: order, count, and a mask or mapping.
    ///
    /// # Errors
    /// It is cut short.
    pub fn channel_config(&mut self, layout: &[u8]) -> DecodeResult<()> {
        let mut r = Reader::new(layout);
        r.u8("audio channel order")?;
        self.layout_channels = r.u8("audio channel count")?;
        self.changed = true;
        Ok(())
    }

    /// A frame in canonical form and its duration; `None` when it cannot be decoded yet. `pcm` is what the container says of
    /// plain samples.
    ///
    /// # Errors
    /// It is broken and has to be dropped; the stream goes on.
    pub fn frame(&mut self, data: Bytes, pcm: Option<PcmConfig>) -> DecodeResult<Option<(Bytes, TimeDelta)>> {
        let duration = match self.codec {
            CodecId::Aac => return self.aac(data),
            CodecId::Opus => self.opus(&data)?,
            CodecId::Flac => match self.flac(&data)? {
                Some(duration) => duration,
                None => return Ok(None),
            },
            CodecId::Mp3 => {
                let header = mpeg_audio::FrameHeader::decode(&data).map_err(closed)?;
                self.set(CodecConfig::None, header.audio_params());
                header.duration()
            }
            CodecId::Ac3 | CodecId::Eac3 => self.ac3(&data)?,
            _ => match pcm {
                Some(pcm) => self.samples(pcm, data.len()),
                None => return Ok(None),
            },
        };
        Ok(Some((data, duration)))
    }

    fn aac(&mut self, mut data: Bytes) -> DecodeResult<Option<(Bytes, TimeDelta)>> {
        // A raw access unit cannot begin with twelve ones: that would be its end marker and then rubbish.
        if let Ok(header) = aac::AdtsHeader::decode(&data)
            && usize::from(header.frame_len) == data.len()
        {
            data = data.slice(usize::from(header.header_len)..);
            if self.params.is_none() {
                let config = header.config();
                let params = aac::audio_params(&config);
                self.set(CodecConfig::Aac(config), params);
            }
        }
        match &self.config {
            CodecConfig::Aac(config) if !data.is_empty() => Ok(Some((data, aac::frame_duration(config)))),
            _ => Ok(None),
        }
    }

    fn opus(&mut self, data: &[u8]) -> DecodeResult<TimeDelta> {
        opus::packet_samples(data).map_err(closed)?;
        if self.params.is_none() {
            // Bit 2 of the TOC byte: stereo.
            let stereo = data.first().is_some_and(|toc| toc & 4 != 0);
            let config = opus::default_config(if stereo { 2 } else { 1 });
            let params = opus::audio_params(&config);
            self.set(CodecConfig::Opus(config), params);
        }
        Ok(opus::packet_duration(data))
    }

    fn flac(&self, data: &[u8]) -> DecodeResult<Option<TimeDelta>> {
        let Some(rate) = self.params.and_then(|params| Timescale::new(params.sample_rate)) else {
            return Ok(None);
        };
        let samples = flac::frame_samples(data).map_err(closed)?;
        Ok(Some(TimeDelta::from_units(samples.into(), rate)))
    }

    fn ac3(&mut self, data: &[u8]) -> DecodeResult<TimeDelta> {
        let header = ac3::FrameHeader::decode(data)?;
        // With a variable bit rate every frame would be a new configuration.
        let same =
            |known: &Ac3Config| *known == Ac3Config { bit_rate: known.bit_rate, ..header.config.clone() };
        let known = matches!(&self.config, CodecConfig::Ac3(known) if same(known));
        if !known || self.params != Some(header.audio_params()) {
            self.set(CodecConfig::Ac3(header.config.clone()), header.audio_params());
        }
        Ok(header.duration())
    }

    /// Formats that only the container describes.
    fn samples(&mut self, pcm: PcmConfig, len: usize) -> TimeDelta {
        let PcmConfig { sample_rate, channels, bits_per_sample } = pcm;
        let (config, duration) = match self.codec {
            CodecId::Pcma | CodecId::Pcmu => {
                let config = PcmConfig { bits_per_sample: 8, ..pcm };
                (CodecConfig::Pcm(config), g711::duration(&config, len))
            }
            CodecId::PcmLe => {
                let samples = if bits_per_sample == 8 { len } else { len / 2 };
                (CodecConfig::Pcm(pcm), g711::duration(&PcmConfig { bits_per_sample: 8, ..pcm }, samples))
            }
            // Speex: frames of 20 ms, but a packet may hold several and does not say.
            _ => (CodecConfig::None, TimeDelta::ZERO),
        };
        self.set(config, AudioParams { sample_rate, channels, bits_per_sample, samples_per_frame: None });
        duration
    }
}

/// A frame is a closed unit.
const fn closed(error: DecodeError) -> DecodeError {
    error.in_closed_unit(0)
}
