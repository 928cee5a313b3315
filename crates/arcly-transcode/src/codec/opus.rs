//! Opus by `opus-pure`.

use arcly_core::codec::OpusConfig;
use bytes::Bytes;
use opus_pure::{Application, MAX_PACKET_BYTES, MAX_PACKET_SAMPLES, OpusDecoder, OpusEncoder, OpusMSDecoder};
use smallvec::SmallVec;

use super::{AudioDecoder, AudioEncoder, CodecError, MAX_FRAME_BYTES};
use crate::SAMPLE_RATE;
use crate::pcm::{Format, Speaker};

/// Samples of each channel in one frame: 20 ms, what WebRTC sends.
pub const FRAME_LEN: usize = 960;
/// How much of what it could do for better sound the encoder does, of ten. From seven on it looks at what it is given before
/// it codes it, which takes a fifth more time and changes nothing at the rates used here.
const COMPLEXITY: i32 = 5;
const RATE: i32 = SAMPLE_RATE.cast_signed();

fn failed(error: impl core::fmt::Display) -> CodecError {
    CodecError::new("opus", &error)
}

enum Inner {
    Plain(Box<OpusDecoder>),
    Surround(Box<OpusMSDecoder>),
}

/// Decodes Opus at 48 kHz: one or two channels, or surround sound in the order of RFC 7845 §5.1.1.2.
pub struct Decoder {
    inner: Inner,
    format: Format,
    samples: Vec<f32>,
}

impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("opus::Decoder").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder of what `config` says.
    ///
    /// # Errors
    /// There are more channels than it knows the places of, or they are mapped in a way of their own.
    pub fn new(config: &OpusConfig) -> Result<Self, CodecError> {
        let channels = usize::from(config.channels);
        let (inner, speakers) = match (config.mapping_family, channels) {
            (0, 1 | 2) => {
                let mut decoder = OpusDecoder::new(RATE, channels).map_err(failed)?;
                decoder.gain_q8 = config.output_gain.into();
                (Inner::Plain(Box::new(decoder)), Format::plain(SAMPLE_RATE, channels).speakers)
            }
            (1, 1..=8) => {
                let mut decoder = OpusMSDecoder::new(RATE, channels, 1).map_err(failed)?;
                decoder
                    .streams_mut()
                    .iter_mut()
                    .for_each(|stream| stream.gain_q8 = config.output_gain.into());
                (Inner::Surround(Box::new(decoder)), surround(channels))
            }
            (family, channels) => {
                return Err(failed(format_args!("{channels} channels of mapping family {family}")));
            }
        };
        let format = Format { sample_rate: SAMPLE_RATE, speakers };
        Ok(Self { inner, format, samples: vec![0.0; MAX_PACKET_SAMPLES * channels] })
    }
}

/// Where the channels of mapping family 1 are heard.
fn surround(channels: usize) -> SmallVec<[Speaker; 8]> {
    use Speaker::{
        BackCenter as Back, FrontCenter as Center, FrontLeft as Left, FrontRight as Right, Lfe,
        SurroundLeft as SideLeft, SurroundRight as SideRight,
    };
    let speakers: &[Speaker] = match channels {
        3 => &[Left, Center, Right],
        4 => &[Left, Right, SideLeft, SideRight],
        5 => &[Left, Center, Right, SideLeft, SideRight],
        6 => &[Left, Center, Right, SideLeft, SideRight, Lfe],
        7 => &[Left, Center, Right, SideLeft, SideRight, Back, Lfe],
        8 => &[Left, Center, Right, SideLeft, SideRight, SideLeft, SideRight, Lfe],
        _ => return Format::plain(SAMPLE_RATE, channels).speakers,
    };
    SmallVec::from_slice(speakers)
}

impl AudioDecoder for Decoder {
    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<Format, CodecError> {
        // Nothing at all would ask for what may have been lost.
        if payload.is_empty() || payload.len() > MAX_FRAME_BYTES {
            return Err(failed(format_args!("a packet of {} bytes", payload.len())));
        }
        let frames = match &mut self.inner {
            Inner::Plain(decoder) => decoder.decode(payload, MAX_PACKET_SAMPLES, &mut self.samples),
            Inner::Surround(decoder) => decoder.decode(payload, MAX_PACKET_SAMPLES, &mut self.samples),
        };
        let frames = frames.map_err(failed)?;
        out.extend(self.samples.iter().take(frames.saturating_mul(self.format.speakers.len())));
        Ok(self.format.clone())
    }
}

/// Encodes Opus of one or two channels, 20 ms at a time.
pub struct Encoder {
    encoder: Box<OpusEncoder>,
    packet: Vec<u8>,
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.encoder.fmt(f)
    }
}

impl Encoder {
    /// An encoder of so many channels, at so many bits per second in all.
    ///
    /// # Errors
    /// There are neither one nor two channels.
    pub fn new(channels: usize, bitrate_bps: u32) -> Result<Self, CodecError> {
        let mut encoder = OpusEncoder::new(RATE, channels, Application::Audio).map_err(failed)?;
        encoder.bitrate_bps = i32::try_from(bitrate_bps).map_err(failed)?;
        encoder.complexity = COMPLEXITY;
        Ok(Self { encoder: Box::new(encoder), packet: vec![0; MAX_PACKET_BYTES] })
    }
}

impl AudioEncoder for Encoder {
    fn frame_len(&self) -> usize {
        FRAME_LEN
    }

    fn delay(&self) -> usize {
        self.encoder.lookahead()
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        let len = self.encoder.encode(samples, FRAME_LEN, &mut self.packet).map_err(failed)?;
        Ok(Bytes::copy_from_slice(self.packet.get(..len).unwrap_or_default()))
    }
}
