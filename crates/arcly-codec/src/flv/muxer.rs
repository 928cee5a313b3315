//! Media to tags.

use std::sync::Arc;

use arcly_core::track::TrackParams;
use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use bytes::Bytes;
use smallvec::SmallVec;

use super::body::{multitrack, packet_type};
use super::codec::{TagClass, class_of, sound_of, video};
use super::{TagKind, script};
use crate::{aac, amf0, av1, h264, h265, h266, opus, vpx};

const NANOS: Timescale = Timescale::of(1_000_000_000);

/// How tags are written.
#[derive(Clone, Debug, Default)]
pub struct MuxerOptions {
    /// Write the part of a decode time below a millisecond into Enhanced RTMP tags, as a ModEx packet. Only
    /// for readers that are known to understand it; others would take the tag for broken.
    pub nano_offset: bool,
    /// Put `@setDataFrame` before `onMetaData`, as publishers do.
    pub set_data_frame: bool,
    /// `encoder` in `onMetaData`, unless the publisher named one.
    pub encoder: Option<Arc<str>>,
}

/// A tag whose body is `header` and `payload`, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it carries.
    pub kind: TagKind,
    /// The track it belongs to; `None` for `onMetaData`.
    pub track: Option<TrackId>,
    /// Milliseconds; wraps at 2^32.
    pub timestamp_ms: u32,
    /// The body's first bytes.
    pub header: SmallVec<[u8; 16]>,
    /// The rest: the frame's payload, shared.
    pub payload: Bytes,
}

impl Tag {
    /// Bytes of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.len().saturating_add(self.payload.len())
    }

    /// True when the body is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How one track is written.
#[derive(Clone, Copy, Debug)]
struct Output {
    id: TrackId,
    kind: TrackKind,
    codec: CodecId,
    class: TagClass,
    /// The number among the tracks of its kind.
    flv_id: u8,
    /// The first byte of a legacy audio tag.
    sound: u8,
}

/// Turns tracks and frames into tags.
#[derive(Debug, Default)]
pub struct Muxer {
    options: MuxerOptions,
    outputs: Vec<Output>,
}

impl Muxer {
    /// A muxer that knows no tracks.
    #[must_use]
    pub const fn new(options: MuxerOptions) -> Self {
        Self { options, outputs: Vec::new() }
    }

    /// The tags that announce `tracks` from `at` on: `onMetaData`, then a sequence header for each track that
    /// needs one. Tracks that FLV cannot carry are left out.
    pub fn tracks(&mut self, tracks: &TrackSet, at: Timestamp) -> SmallVec<[Tag; 4]> {
        let timestamp_ms = wrapping_ms(at.to_millis());
        let mut tags = SmallVec::new();
        tags.push(self.on_meta_data(tracks));
        let known = core::mem::take(&mut self.outputs);
        for track in tracks {
            let Some(output) = self.output(track, tracks, &known) else { continue };
            self.outputs.push(output);
            announce(&output, track, timestamp_ms, &mut tags);
        }
        tags
    }

    /// The tag of a frame; `None` when its track was not announced or FLV cannot carry it.
    #[must_use]
    pub fn frame(&self, frame: &MediaFrame) -> Option<Tag> {
        let output = self.outputs.iter().find(|output| output.id == frame.track)?;
        let (timestamp_ms, nanos) = self.time(frame, output.class);
        let header = match (output.kind, output.class) {
            (TrackKind::Data, _) => SmallVec::new(),
            (TrackKind::Audio, TagClass::Legacy) => legacy_audio(output, 1),
            (TrackKind::Video, TagClass::Legacy) => legacy_video(frame, 1, offset_ms(frame, nanos)),
            (_, TagClass::Enhanced(_)) => coded_frames(output, frame, nanos),
        };
        let kind = match output.kind {
            TrackKind::Video => TagKind::Video,
            TrackKind::Audio => TagKind::Audio,
            TrackKind::Data => TagKind::Script,
        };
        let payload = frame.payload.clone();
        Some(Tag { kind, track: Some(frame.track), timestamp_ms: wrapping_ms(timestamp_ms), header, payload })
    }

    /// Whole milliseconds of the decode time, and nanoseconds where they may be written.
    ///
    /// Times are rounded one by one, so that an error never grows.
    fn time(&self, frame: &MediaFrame, class: TagClass) -> (i64, Option<u32>) {
        let nearest = frame.dts.to_millis();
        if !self.options.nano_offset || !matches!(class, TagClass::Enhanced(_)) {
            return (nearest, None);
        }
        let early = Timestamp::from_millis(nearest) > frame.dts;
        let whole = nearest.saturating_sub(i64::from(early));
        let rest = (frame.dts - Timestamp::from_millis(whole)).to_ticks(NANOS);
        let nanos = u32::try_from(rest).unwrap_or_default().min(999_999);
        (whole, (nanos > 0).then_some(nanos))
    }

    fn on_meta_data(&self, tracks: &TrackSet) -> Tag {
        let mut out = Vec::new();
        if self.options.set_data_frame {
            amf0::Value::from("@setDataFrame").encode(&mut out);
        }
        amf0::Value::from("onMetaData").encode(&mut out);
        script::on_meta_data(tracks, self.options.encoder.as_ref()).encode(&mut out);
        // At 0 whatever the stream's time: FFmpeg takes later ones for subtitles, and announces a track for them.
        Tag {
            kind: TagKind::Script,
            track: None,
            timestamp_ms: 0,
            header: SmallVec::new(),
            payload: out.into(),
        }
    }

    fn output(&self, track: &Track, tracks: &TrackSet, known: &[Output]) -> Option<Output> {
        let kind = track.kind();
        let flv_id = self.flv_id(track, tracks, known)?;
        let class = match kind {
            TrackKind::Data if track.codec == CodecId::Amf => TagClass::Legacy,
            TrackKind::Data => return None,
            _ => class_of(track.codec, flv_id == 0)?,
        };
        let sound = sound_of(track.codec).map_or(0, |format| sound_byte(format, track));
        Some(Output { id: track.id, kind, codec: track.codec, class, flv_id, sound })
    }

    /// A track keeps its number as long as it is there; the first of a kind has 0.
    fn flv_id(&self, track: &Track, tracks: &TrackSet, known: &[Output]) -> Option<u8> {
        let kind = track.kind();
        if tracks.first(kind).is_some_and(|first| first.id == track.id) {
            return Some(0);
        }
        if let Some(output) = known.iter().find(|output| output.id == track.id && output.flv_id != 0) {
            return Some(output.flv_id);
        }
        let taken = |id| self.outputs.iter().chain(known).any(|o| o.kind == kind && o.flv_id == id);
        (1..=u8::MAX).find(|id| !taken(*id))
    }
}

/// Adds the tags that have to come before a track's first frame.
fn announce(output: &Output, track: &Track, timestamp_ms: u32, tags: &mut SmallVec<[Tag; 4]>) {
    let (kind, record) = match track.kind() {
        TrackKind::Video => (TagKind::Video, video_record(&track.config)),
        TrackKind::Audio => (TagKind::Audio, audio_record(&track.config)),
        TrackKind::Data => return,
    };
    let mut push = |header, payload| {
        tags.push(Tag { kind, track: Some(output.id), timestamp_ms, header, payload });
    };
    match (output.class, output.kind, record) {
        (TagClass::Legacy, TrackKind::Video, Some(record)) => {
            push([0x10 | video::AVC, 0, 0, 0, 0].into_iter().collect(), record);
        }
        (TagClass::Legacy, _, Some(record)) => push(legacy_audio(output, 0), record),
        (TagClass::Legacy, _, None) => {}
        (TagClass::Enhanced(_), _, record) => {
            let start = packet_type::SEQUENCE_START;
            push(enhanced(output, 1, start, None), record.unwrap_or_default());
        }
    }
    if let (TagClass::Enhanced(_), TrackParams::Video(params)) = (output.class, &track.params)
        && (params.color.is_some() || params.hdr.is_some())
    {
        let color = script::encode_color(params.color, params.hdr, params.bit_depth);
        // The frame type means nothing here; 5 is what others write.
        push(enhanced(output, 5, packet_type::METADATA, None), color.into());
    }
}

/// What a sequence header carries; `None` when the codec needs none.
fn video_record(config: &CodecConfig) -> Option<Bytes> {
    match config {
        CodecConfig::Avc(config) => Some(h264::encode_config(config)),
        CodecConfig::Hevc(config) => Some(h265::encode_config(config)),
        CodecConfig::Vvc(config) => Some(h266::encode_config(config)),
        CodecConfig::Av1(config) => Some(av1::encode_config(config)),
        CodecConfig::Vpx(config) => Some(vpx::encode_config(config)),
        CodecConfig::Opaque(record) => Some(record.clone()),
        _ => None,
    }
}

fn audio_record(config: &CodecConfig) -> Option<Bytes> {
    match config {
        CodecConfig::Aac(config) => Some(aac::encode_config(config)),
        CodecConfig::Opus(config) => Some(opus::encode_head(config)),
        // Bare, as FFmpeg reads and writes it.
        CodecConfig::Flac(config) => Some(config.stream_info.clone()),
        CodecConfig::Opaque(record) => Some(record.clone()),
        _ => None,
    }
}

/// Format, rate, size and channels of a legacy audio tag (E.4.2.1).
fn sound_byte(format: u8, track: &Track) -> u8 {
    let params = track.audio().copied().unwrap_or_default();
    let (rate, size, channels) = match track.codec {
        // Fixed: the sequence header says what is true.
        CodecId::Aac => (3, 1, 1),
        CodecId::Speex => (0, 1, 0),
        _ => {
            let rate = match params.sample_rate {
                0..8_000 => 0,
                8_000..16_000 => 1,
                16_000..32_000 => 2,
                _ => 3,
            };
            (rate, u8::from(params.bits_per_sample != 8), u8::from(params.channels > 1))
        }
    };
    format << 4 | rate << 2 | size << 1 | channels
}

fn legacy_audio(output: &Output, aac_packet_type: u8) -> SmallVec<[u8; 16]> {
    let mut header = SmallVec::new();
    header.push(output.sound);
    if output.codec == CodecId::Aac {
        header.push(aac_packet_type);
    }
    header
}

fn legacy_video(frame: &MediaFrame, avc_packet_type: u8, cts: i32) -> SmallVec<[u8; 16]> {
    let mut header = SmallVec::new();
    header.push(frame_type(frame) << 4 | video::AVC);
    header.push(avc_packet_type);
    header.extend(i24(cts));
    header
}

/// 1 for a keyframe, else 2. Type 3 is for H.263 only, and players have been seen to drop it.
const fn frame_type(frame: &MediaFrame) -> u8 {
    if frame.flags.contains(FrameFlags::KEYFRAME) { 1 } else { 2 }
}

/// The head of a CodedFrames packet; CodedFramesX where a composition time of zero may be left out.
fn coded_frames(output: &Output, frame: &MediaFrame, nanos: Option<u32>) -> SmallVec<[u8; 16]> {
    let has_offset = matches!(output.codec, CodecId::H264 | CodecId::H265 | CodecId::H266);
    let cts = offset_ms(frame, nanos);
    let packet_type = match has_offset && cts == 0 {
        true => packet_type::CODED_FRAMES_X,
        false => packet_type::CODED_FRAMES,
    };
    let mut header = enhanced(output, frame_type(frame), packet_type, nanos);
    if packet_type == packet_type::CODED_FRAMES && has_offset {
        header.extend(i24(cts));
    }
    if frame.flags.contains(FrameFlags::DELIMITED) {
        header.extend(av1::DELIMITER);
    }
    header
}

/// The head of an Enhanced RTMP packet up to its body. A track of number 0 is written without a number.
fn enhanced(output: &Output, frame_type: u8, packet_type: u8, nanos: Option<u32>) -> SmallVec<[u8; 16]> {
    let TagClass::Enhanced(fourcc) = output.class else { return SmallVec::new() };
    let mut header = SmallVec::new();
    let (first, multitrack_type) = match output.kind {
        TrackKind::Video => (0x80 | frame_type << 4, packet_type::VIDEO_MULTITRACK),
        _ => (super::codec::sound::EX_HEADER << 4, packet_type::AUDIO_MULTITRACK),
    };
    let outer = if output.flv_id == 0 { packet_type } else { multitrack_type };
    match nanos {
        Some(nanos) => {
            let [_, a, b, c] = nanos.to_be_bytes();
            // Three bytes of data (the size is written less one), ModEx type 0, and the type of what follows.
            header.extend([first | packet_type::MOD_EX, 2, a, b, c, outer]);
        }
        None => header.push(first | outer),
    }
    if output.flv_id != 0 {
        header.push(multitrack::ONE_TRACK << 4 | packet_type);
    }
    header.extend(fourcc.0);
    if output.flv_id != 0 {
        header.push(output.flv_id);
    }
    header
}

/// `pts - dts` in milliseconds: the difference of two rounded times, or, where the decode time is exact, the
/// rounded difference.
fn offset_ms(frame: &MediaFrame, nanos: Option<u32>) -> i32 {
    let offset = match nanos {
        Some(_) => frame.composition_offset().to_millis(),
        None => frame.pts.to_millis().saturating_sub(frame.dts.to_millis()),
    };
    i32::try_from(offset.clamp(-(1 << 23), (1 << 23) - 1)).unwrap_or_default()
}

fn i24(value: i32) -> [u8; 3] {
    let [_, a, b, c] = value.to_be_bytes();
    [a, b, c]
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "wrapping is what the format does"
)]
const fn wrapping_ms(ms: i64) -> u32 {
    ms as u32
}
