use arcly_core::codec::VideoParams;
use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{CodecConfig, CodecId, FrameFlags, Metadata, Track, TrackId};
use bytes::Bytes;

use crate::flv::FrameType;
use crate::flv::script::{self, Color};
use crate::h264;
use crate::nal::{AccessUnit, Framing, LengthSize};

/// A video track: a parser that follows its configuration, in sequence headers and in band.
pub(super) struct VideoTrack {
    codec: CodecId,
    stream: Stream,
    color: Option<Color>,
}

#[allow(clippy::large_enum_variant, reason = "a stream has a handful of them")]
enum Stream {
    Avc(h264::Parser, Framing),
    /// Carried, not understood: the sender's word counts.
    Opaque(Option<Bytes>),
}

/// A picture in canonical form.
type Picture = (Bytes, FrameFlags);

impl VideoTrack {
    pub(super) fn new(codec: CodecId) -> Self {
        const FOUR: Framing = Framing::Length(LengthSize::Four);
        let stream = match codec {
            CodecId::H264 => Stream::Avc(h264::Parser::new(), FOUR),
            _ => Stream::Opaque(None),
        };
        Self { codec, stream, color: None }
    }

    pub(super) const fn codec(&self) -> CodecId {
        self.codec
    }

    /// True when there is all that a decoder needs.
    pub(super) fn is_ready(&self) -> bool {
        match &self.stream {
            Stream::Avc(parser, _) => parser.config().is_some(),
            Stream::Opaque(record) => record.is_some() || self.codec == CodecId::Vp8,
        }
    }

    pub(super) fn set_color(&mut self, codec: CodecId, color: Color) {
        if codec == self.codec {
            self.color = Some(color);
        }
    }

    pub(super) fn sequence_start(&mut self, record: &Bytes) -> DecodeResult<()> {
        if record.is_empty() {
            return Err(DecodeError::Malformed { what: "empty sequence header", offset: 0 });
        }
        // The configuration outlives the tag, so it does not keep the tag's buffer alive.
        let record = Bytes::copy_from_slice(record);
        match &mut self.stream {
            Stream::Avc(parser, framing) => {
                let config = h264::decode_config(&record)?;
                let size = h264::record_length_size(&record)?;
                // A header that says nothing new must not forget what was learnt in band.
                if parser.config() != Some(&config) {
                    parser.set_config(config)?;
                }
                *framing = Framing::Length(size);
            }
            Stream::Opaque(known) => *known = Some(record),
        }
        Ok(())
    }

    /// AV1 out of MPEG-TS: a descriptor that ends in the same record.
    pub(super) fn descriptor(&mut self, descriptor: &Bytes) -> DecodeResult<()> {
        // descriptor_tag 0x80 and descriptor_length, then the four bytes of av1C.
        match (self.codec, descriptor.first()) {
            (CodecId::Av1, Some(0x80)) if descriptor.len() >= 6 => {
                self.sequence_start(&descriptor.slice(2..))
            }
            _ => Err(DecodeError::Malformed { what: "AV1 video descriptor", offset: 0 }),
        }
    }

    /// A frame; `None` when there is no picture in it.
    pub(super) fn frame(&mut self, data: &Bytes, frame_type: FrameType) -> DecodeResult<Option<Picture>> {
        let mut said = FrameFlags::empty();
        said.set(FrameFlags::KEYFRAME, frame_type == FrameType::Key);
        said.set(FrameFlags::DISPOSABLE, frame_type == FrameType::Disposable);
        match &mut self.stream {
            Stream::Avc(parser, framing) => Ok(picture(parser.push(data, *framing)?, said)),
            Stream::Opaque(_) => Ok(Some((data.clone(), said))),
        }
    }

    pub(super) fn track(&self, id: TrackId) -> Option<Track> {
        let (config, params) = match &self.stream {
            Stream::Avc(parser, _) => (CodecConfig::Avc(parser.config()?.clone()), parser.video_params()),
            Stream::Opaque(record) => {
                (record.clone().map_or(CodecConfig::None, CodecConfig::Opaque), VideoParams::default())
            }
        };
        if !self.is_ready() {
            return None;
        }
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
    pub(super) fn complete(&self, track: &mut Track, metadata: &Metadata) {
        let Some(mut params) = track.video().copied() else { return };
        if params.width == 0 || params.height == 0 {
            let size = |name| script::number(metadata, name).map_or(0, script::whole);
            (params.width, params.height) = (size("width"), size("height"));
        }
        if params.frame_rate.is_none() {
            params.frame_rate = script::number(metadata, "framerate").and_then(script::frame_rate);
        }
        track.params = arcly_core::track::TrackParams::Video(params);
    }
}

/// Whether decoding may start at a picture, its NAL units say; only whether it may be dropped, the header may.
fn picture(unit: AccessUnit, said: FrameFlags) -> Option<Picture> {
    if !unit.has_picture() {
        return None;
    }
    Some((unit.payload, unit.flags | (said & FrameFlags::DISPOSABLE)))
}
