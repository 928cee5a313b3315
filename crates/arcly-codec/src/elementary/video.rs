use arcly_core::codec::{ColorInfo, HdrMetadata, VideoParams, VpxConfig};
use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{CodecConfig, CodecId, FrameFlags, Track, TrackId};
use bytes::Bytes;

use crate::nal::{AccessUnit, Framing, LengthSize};
use crate::vpx::{self, Vp8Frame, Vp9Frame};
use crate::{av1, h264, h265, h266};

/// What a container says of colour beside the bitstream, which it goes before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Color {
    /// Code points; the range stays that of the bitstream.
    pub info: Option<ColorInfo>,
    /// Static HDR metadata.
    pub hdr: Option<HdrMetadata>,
}

/// A video track: a parser that follows its configuration, in records and in band.
pub struct VideoStream {
    codec: CodecId,
    stream: Stream,
    /// The record last taken; the same one again says nothing new, whatever was learnt in band since.
    record: Bytes,
    color: Option<Color>,
    /// The track may differ from what was last asked for.
    changed: bool,
}

impl core::fmt::Debug for VideoStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "VideoStream({})", self.codec)
    }
}

#[allow(clippy::large_enum_variant, reason = "a stream has a handful of them")]
enum Stream {
    Avc(h264::Parser, Framing),
    Hevc(h265::Parser, Framing),
    Vvc(h266::Parser, Framing),
    Av1(av1::Parser),
    Vp8(Option<VpxConfig>, Option<VideoParams>),
    Vp9(Option<VpxConfig>, VideoParams),
}

/// A picture in canonical form, and what is known of it.
pub type Picture = (Bytes, FrameFlags);

impl VideoStream {
    /// A stream of which nothing is known but its codec: H.264, H.265, H.266, AV1, VP8 or VP9.
    #[must_use]
    pub fn new(codec: CodecId) -> Self {
        const FOUR: Framing = Framing::Length(LengthSize::Four);
        let stream = match codec {
            CodecId::H265 => Stream::Hevc(h265::Parser::new(), FOUR),
            CodecId::H266 => Stream::Vvc(h266::Parser::new(), FOUR),
            CodecId::Av1 => Stream::Av1(av1::Parser::new()),
            CodecId::Vp8 => Stream::Vp8(None, None),
            CodecId::Vp9 => Stream::Vp9(None, VideoParams::default()),
            _ => Stream::Avc(h264::Parser::new(), FOUR),
        };
        Self { codec, stream, record: Bytes::new(), color: None, changed: false }
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

    /// True when there is all that a decoder needs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.stream {
            Stream::Avc(parser, _) => parser.config().is_some(),
            Stream::Hevc(parser, _) => parser.config().is_some(),
            Stream::Vvc(parser, _) => parser.config().is_some(),
            Stream::Av1(parser) => parser.config().is_some(),
            Stream::Vp8(_, params) => params.is_some(),
            Stream::Vp9(config, _) => config.is_some(),
        }
    }

    /// Colour metadata; some muxers leave the track's number out, so the codec has to fit as well.
    pub fn set_color(&mut self, codec: CodecId, color: Color) {
        if codec == self.codec && self.color != Some(color) {
            self.color = Some(color);
            self.changed = true;
        }
    }

    /// Takes a configuration record: avcC, hvcC, vvcC, av1C, or vpcC with or without its version. The record says how
    /// frames are framed from here on; the same one again says nothing.
    ///
    /// # Errors
    /// The record is malformed; what was known stays.
    pub fn set_record(&mut self, record: &Bytes) -> DecodeResult<()> {
        if record.is_empty() {
            return Err(DecodeError::Malformed { what: "empty sequence header", offset: 0 });
        }
        if self.record == record {
            return Ok(());
        }
        // The configuration outlives the tag, so it does not keep the tag's buffer alive.
        let record = Bytes::copy_from_slice(record);
        match &mut self.stream {
            Stream::Avc(parser, framing) => {
                *framing = Framing::Length(h264::record_length_size(&record)?);
                parser.set_config(h264::decode_config(&record)?)?;
            }
            Stream::Hevc(parser, framing) => {
                *framing = Framing::Length(h265::record_length_size(&record)?);
                parser.set_config(h265::decode_config(&record)?)?;
            }
            Stream::Vvc(parser, framing) => {
                *framing = Framing::Length(h266::record_length_size(&record)?);
                *parser = h266::Parser::with_config(h266::decode_config(&record)?)?;
            }
            Stream::Av1(parser) => *parser = av1::Parser::with_config(av1::decode_config(&record)?)?,
            Stream::Vp8(config, _) | Stream::Vp9(config, _) => *config = Some(vpx::decode_config(&record)?),
        }
        self.record = record;
        self.changed = true;
        Ok(())
    }

    /// AV1 out of MPEG-TS: a descriptor that ends like a record.
    pub fn descriptor(&mut self, descriptor: &Bytes) -> DecodeResult<()> {
        // descriptor_tag 0x80 and descriptor_length, then the four bytes of av1C.
        match (self.codec, descriptor.first()) {
            (CodecId::Av1, Some(0x80)) if descriptor.len() >= 6 => self.set_record(&descriptor.slice(2..)),
            _ => Err(DecodeError::Malformed { what: "AV1 video descriptor", offset: 0 }),
        }
    }

    /// A frame in canonical form; `None` when there is no picture in it. Whether decoding may start at it, its own bytes
    /// say, and not the container; that nothing refers to it, the container may know (`disposable`) where they do not.
    ///
    /// # Errors
    /// It is broken and has to be dropped; the stream goes on.
    pub fn frame(&mut self, data: &Bytes, disposable: bool) -> DecodeResult<Option<Picture>> {
        let (picture, config_changed) = match &mut self.stream {
            Stream::Avc(parser, framing) => access_unit(parser.push(data, *framing)?),
            Stream::Hevc(parser, framing) => access_unit(parser.push(data, *framing)?),
            Stream::Vvc(parser, framing) => access_unit(parser.push(data, *framing)?),
            Stream::Av1(parser) => {
                let unit = parser.push(data)?;
                let picture = (!unit.payload.is_empty()).then_some((unit.payload, unit.flags));
                (picture, unit.config_changed)
            }
            Stream::Vp8(_, params) => {
                let frame = Vp8Frame::decode(data)?;
                *params = frame.video_params().or(*params);
                let flags = if frame.key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
                (Some((data.clone(), flags)), false)
            }
            Stream::Vp9(config, params) => {
                let frame = Vp9Frame::decode(data)?;
                *params = frame.video_params().unwrap_or(*params);
                *config = newer(config.take(), frame.config());
                (Some((data.clone(), frame.flags())), false)
            }
        };
        let is_key = matches!(&picture, Some((_, flags)) if flags.contains(FrameFlags::KEYFRAME));
        self.changed |= config_changed || is_key;
        let said = if disposable && !is_key { FrameFlags::DISPOSABLE } else { FrameFlags::empty() };
        Ok(picture.map(|(payload, flags)| (payload, flags | said)))
    }

    /// The track as it is known now; `None` until it can be decoded.
    #[must_use]
    pub fn track(&self, id: TrackId) -> Option<Track> {
        let (config, params) = match &self.stream {
            Stream::Avc(parser, _) => (CodecConfig::Avc(parser.config()?.clone()), parser.video_params()),
            Stream::Hevc(parser, _) => (CodecConfig::Hevc(parser.config()?.clone()), parser.video_params()),
            Stream::Vvc(parser, _) => (CodecConfig::Vvc(parser.config()?.clone()), parser.video_params()),
            Stream::Av1(parser) => (CodecConfig::Av1(parser.config()?.clone()), parser.video_params()),
            Stream::Vp8(config, params) => {
                (config.clone().map_or(CodecConfig::None, CodecConfig::Vpx), (*params)?)
            }
            Stream::Vp9(config, params) => (CodecConfig::Vpx(config.clone()?), *params),
        };
        Some(Track::new(id, self.codec, config).with_video(self.with_color(params)))
    }

    /// Colour metadata of the container goes before that of the bitstream.
    fn with_color(&self, mut params: VideoParams) -> VideoParams {
        if let Some(color) = self.color {
            let full_range = params.color.is_some_and(|known| known.full_range);
            if let Some(mut info) = color.info {
                info.full_range = full_range;
                params.color = Some(info);
            }
            params.hdr = color.hdr.or(params.hdr);
        }
        params
    }
}

fn access_unit(unit: AccessUnit) -> (Option<Picture>, bool) {
    let changed = unit.config_changed;
    (unit.has_picture().then_some((unit.payload, unit.flags)), changed)
}

/// The record stays, as it knows more than a frame, until a key frame contradicts it.
fn newer(known: Option<VpxConfig>, seen: Option<VpxConfig>) -> Option<VpxConfig> {
    match (known, seen) {
        (Some(known), Some(seen)) if (known.profile, known.bit_depth) != (seen.profile, seen.bit_depth) => {
            Some(seen)
        }
        (known, seen) => known.or(seen),
    }
}
