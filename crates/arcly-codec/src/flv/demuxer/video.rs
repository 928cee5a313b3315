use arcly_core::codec::{VideoParams, VpxConfig};
use arcly_core::track::TrackParams;
use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{CodecConfig, CodecId, FrameFlags, Metadata, Track, TrackId};
use bytes::Bytes;

use crate::flv::FrameType;
use crate::flv::script::{self, Color};
use crate::nal::{AccessUnit, Framing, LengthSize};
use crate::vpx::{self, Vp8Frame, Vp9Frame};
use crate::{av1, h264, h265, h266};

/// A video track: a parser that follows its configuration, in sequence headers and in band.
pub(super) struct VideoTrack {
    codec: CodecId,
    stream: Stream,
    /// The sequence header last taken; the same one again says nothing new, whatever was learnt in band since.
    record: Bytes,
    color: Option<Color>,
    /// The track may differ from what was last asked for.
    changed: bool,
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

/// A picture in canonical form.
type Picture = (Bytes, FrameFlags);

impl VideoTrack {
    pub(super) fn new(codec: CodecId) -> Self {
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

    pub(super) const fn codec(&self) -> CodecId {
        self.codec
    }

    pub(super) const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    /// True when there is all that a decoder needs.
    pub(super) fn is_ready(&self) -> bool {
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
    pub(super) fn set_color(&mut self, codec: CodecId, color: Color) {
        if codec == self.codec && self.color != Some(color) {
            self.color = Some(color);
            self.changed = true;
        }
    }

    pub(super) fn sequence_start(&mut self, record: &Bytes) -> DecodeResult<()> {
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
    pub(super) fn descriptor(&mut self, descriptor: &Bytes) -> DecodeResult<()> {
        // descriptor_tag 0x80 and descriptor_length, then the four bytes of av1C.
        match (self.codec, descriptor.first()) {
            (CodecId::Av1, Some(0x80)) if descriptor.len() >= 6 => {
                self.sequence_start(&descriptor.slice(2..))
            }
            _ => Err(DecodeError::Malformed { what: "AV1 video descriptor", offset: 0 }),
        }
    }

    /// A frame; `None` when there is no picture in it. Whether decoding may start at it, its own bytes say, not
    /// the tag.
    pub(super) fn frame(&mut self, data: &Bytes, frame_type: FrameType) -> DecodeResult<Option<Picture>> {
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
        // That nothing refers to it, the tag may know where the bytes do not say.
        let disposable = frame_type == FrameType::Disposable && !is_key;
        let said = if disposable { FrameFlags::DISPOSABLE } else { FrameFlags::empty() };
        Ok(picture.map(|(payload, flags)| (payload, flags | said)))
    }

    pub(super) fn track(&self, id: TrackId) -> Option<Track> {
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

    /// Fills in from `onMetaData` what the bitstream leaves open.
    pub(super) fn complete(track: &mut Track, metadata: &Metadata) {
        let Some(mut params) = track.video().copied() else { return };
        if params.width == 0 || params.height == 0 {
            let size = |name| script::number(metadata, name).map_or(0, script::whole);
            (params.width, params.height) = (size("width"), size("height"));
        }
        if params.frame_rate.is_none() {
            params.frame_rate = script::number(metadata, "framerate").and_then(script::frame_rate);
        }
        track.params = TrackParams::Video(params);
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
