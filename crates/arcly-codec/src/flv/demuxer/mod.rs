//! Tags to media.

use std::collections::VecDeque;
use std::sync::Arc;

use arcly_core::codec::PcmConfig;
use arcly_core::track::{MAX_TRACKS, TrackParams};
use arcly_core::wire::DecodeError;
use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaEvent, MediaFrame, Metadata, TimeDelta, Timescale, Timestamp,
    Track, TrackId, TrackKind, TrackSet,
};
use bytes::Bytes;

use super::body::{AudioTag, Body, FrameType, LegacyAudio, Packet, VideoTag};
use super::codec::sound;
use super::script::{self, Script};
use super::{Error, TagKind};
use crate::elementary::{AudioStream, VideoStream};
use crate::nal::MAX_ACCESS_UNIT_BYTES;

const NANOS: Timescale = Timescale::of(1_000_000_000);

/// What a demuxer takes before it gives up on a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one frame.
    pub max_access_unit: usize,
    /// Bytes of one script tag.
    pub max_script_bytes: usize,
    /// Tracks of one stream.
    pub max_tracks: usize,
    /// Broken tags, or broken access units, with nothing good between them.
    pub max_bad_in_a_row: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_access_unit: MAX_ACCESS_UNIT_BYTES,
            max_script_bytes: 64 << 10,
            max_tracks: 16,
            max_bad_in_a_row: 16,
        }
    }
}

/// What was tolerated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tags that were too short or otherwise broken.
    pub bad_tags: u64,
    /// Access units that were dropped because their inside is broken.
    pub bad_access_units: u64,
    /// Frames that were dropped because the configuration of their track was not known yet.
    pub without_config: u64,
    /// Frames whose presentation time lay before their decode time, and was moved up to it.
    pub clamped_offsets: u64,
}

/// Why a tag, or a part of one, gave nothing.
enum Fault {
    Tag(DecodeError),
    AccessUnit(DecodeError),
    Fatal(Error),
}

impl Fault {
    /// For the inside of a frame: broken is tolerated, too much is not.
    const fn access_unit(error: DecodeError) -> Self {
        match error {
            DecodeError::LimitExceeded { .. } => Self::Fatal(Error::Decode(error)),
            error => Self::AccessUnit(error),
        }
    }

    const fn tag(error: DecodeError) -> Self {
        match error {
            DecodeError::LimitExceeded { .. } => Self::Fatal(Error::Decode(error)),
            error => Self::Tag(error),
        }
    }
}

/// Whether a tag counts as a sign of health.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Good,
    Neutral,
}

/// A track as FLV numbers it.
struct Slot {
    kind: TrackKind,
    flv_id: u8,
    id: TrackId,
    source: Source,
    track: Option<Track>,
}

#[allow(clippy::large_enum_variant, reason = "a stream has a handful of them")]
enum Source {
    Video(VideoStream),
    Audio(AudioStream),
    Data,
}

/// Turns tags into tracks and frames.
///
/// Each call of [`handle_tag`](Self::handle_tag) makes a few events at most, and they wait until
/// [`poll_event`](Self::poll_event) has given them all out. An error is final.
///
/// A [`MediaEvent::Tracks`] comes before the first frame that needs it, when a configuration or the metadata
/// has changed. So sequence headers and `onMetaData` that come one after the other make one event.
pub struct Demuxer {
    limits: Limits,
    slots: Vec<Slot>,
    metadata: Arc<Metadata>,
    changed: bool,
    events: VecDeque<MediaEvent>,
    counters: Counters,
    bad_tags_in_a_row: u32,
    bad_units_in_a_row: u32,
}

impl core::fmt::Debug for Demuxer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Demuxer({} tracks, {:?})", self.slots.len(), self.counters)
    }
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Demuxer {
    /// A demuxer that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            metadata: Arc::default(),
            changed: false,
            events: VecDeque::new(),
            counters: Counters::default(),
            bad_tags_in_a_row: 0,
            bad_units_in_a_row: 0,
        }
    }

    /// Takes a tag. `timestamp_ms` is its timestamp, already widened to 64 bits.
    pub fn handle_tag(&mut self, kind: TagKind, timestamp_ms: i64, body: Bytes) -> Result<(), Error> {
        let at = Timestamp::from_millis(timestamp_ms);
        let outcome = match kind {
            TagKind::Audio => self.audio(at, &body),
            TagKind::Video => self.video(at, &body),
            TagKind::Script => self.script(at, &body),
        };
        self.judge(outcome)
    }

    /// The next event; `None` until another tag was taken.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    /// What was tolerated so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The tracks and metadata as they are known now.
    #[must_use]
    pub fn tracks(&self) -> TrackSet {
        let mut set = TrackSet::new(self.slots.iter().filter_map(|slot| slot.track.clone()));
        set.metadata = Arc::clone(&self.metadata);
        set
    }

    fn judge(&mut self, outcome: Result<Progress, Fault>) -> Result<(), Error> {
        let (what, count, last) = match outcome {
            Ok(Progress::Good) => {
                (self.bad_tags_in_a_row, self.bad_units_in_a_row) = (0, 0);
                return Ok(());
            }
            Ok(Progress::Neutral) => return Ok(()),
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Tag(last)) => {
                self.counters.bad_tags = self.counters.bad_tags.saturating_add(1);
                self.bad_tags_in_a_row = self.bad_tags_in_a_row.saturating_add(1);
                ("tags", self.bad_tags_in_a_row, last)
            }
            Err(Fault::AccessUnit(last)) => {
                self.counters.bad_access_units = self.counters.bad_access_units.saturating_add(1);
                self.bad_units_in_a_row = self.bad_units_in_a_row.saturating_add(1);
                ("access units", self.bad_units_in_a_row, last)
            }
        };
        if count < self.limits.max_bad_in_a_row {
            return Ok(());
        }
        Err(Error::TooManyBroken { what, count, last })
    }

    fn audio(&mut self, at: Timestamp, body: &Bytes) -> Result<Progress, Fault> {
        let tag = AudioTag::decode(body).map_err(|error| header_fault(TagKind::Audio, error, body))?;
        let at = at + TimeDelta::from_ticks(tag.nanos.into(), NANOS);
        each(tag.packets, |packet| self.audio_packet(at, packet, tag.legacy))
    }

    fn video(&mut self, at: Timestamp, body: &Bytes) -> Result<Progress, Fault> {
        let tag = VideoTag::decode(body).map_err(|error| header_fault(TagKind::Video, error, body))?;
        let at = at + TimeDelta::from_ticks(tag.nanos.into(), NANOS);
        each(tag.packets, |packet| self.video_packet(at, tag.frame_type, packet))
    }

    fn script(&mut self, at: Timestamp, body: &Bytes) -> Result<Progress, Fault> {
        check_size("script", body.len(), self.limits.max_script_bytes)?;
        match script::decode(body).map_err(Fault::tag)? {
            Script::Metadata(metadata) => self.set_metadata(metadata),
            Script::Clear => self.set_metadata(Metadata::default()),
            Script::Message(message) => {
                let slot = self.slot(TrackKind::Data, 0, CodecId::Amf)?;
                let id = self.refresh(slot);
                self.emit(MediaFrame::new(id, at, message).with_flags(FrameFlags::KEYFRAME));
            }
            Script::Ignored => {}
        }
        Ok(Progress::Good)
    }

    fn audio_packet(
        &mut self,
        at: Timestamp,
        packet: Packet,
        legacy: Option<LegacyAudio>,
    ) -> Result<Progress, Fault> {
        let index = self.slot(TrackKind::Audio, packet.track, packet.codec)?;
        let Some(Slot { source: Source::Audio(track), .. }) = self.slots.get_mut(index) else {
            return Ok(Progress::Neutral);
        };
        match packet.body {
            Body::SequenceStart(record) => track.set_record(&record).map_err(Fault::tag)?,
            Body::ChannelConfig(layout) => track.channel_config(&layout).map_err(Fault::tag)?,
            Body::Frame { data, .. } => {
                check_size("access_unit", data.len(), self.limits.max_access_unit)?;
                if data.is_empty() {
                    return Err(Fault::Tag(DecodeError::Malformed { what: "empty frame", offset: 0 }));
                }
                let Some((data, duration)) =
                    track.frame(data, legacy.map(pcm_of)).map_err(Fault::access_unit)?
                else {
                    return Ok(self.without_config());
                };
                let id = self.refresh(index);
                let frame = MediaFrame::new(id, at, data).with_duration(duration);
                self.emit(frame.with_flags(FrameFlags::KEYFRAME));
                return Ok(Progress::Good);
            }
            _ => return Ok(Progress::Neutral),
        }
        self.refresh(index);
        Ok(Progress::Good)
    }

    fn video_packet(
        &mut self,
        at: Timestamp,
        frame_type: FrameType,
        packet: Packet,
    ) -> Result<Progress, Fault> {
        if let Body::Metadata(metadata) = &packet.body {
            return self.video_metadata(&packet, metadata);
        }
        let index = self.slot(TrackKind::Video, packet.track, packet.codec)?;
        let Some(Slot { source: Source::Video(track), .. }) = self.slots.get_mut(index) else {
            return Ok(Progress::Neutral);
        };
        match packet.body {
            Body::SequenceStart(record) => track.set_record(&record).map_err(Fault::tag)?,
            Body::Mpeg2TsSequenceStart(descriptor) => track.descriptor(&descriptor).map_err(Fault::tag)?,
            Body::Frame { cts_ms, data } => {
                check_size("access_unit", data.len(), self.limits.max_access_unit)?;
                if data.is_empty() {
                    return Err(Fault::Tag(DecodeError::Malformed { what: "empty frame", offset: 0 }));
                }
                let picture =
                    track.frame(&data, frame_type == FrameType::Disposable).map_err(Fault::access_unit)?;
                let ready = track.is_ready();
                let id = self.refresh(index);
                if !ready {
                    return Ok(self.without_config());
                }
                if let Some((payload, flags)) = picture {
                    self.picture(MediaFrame::new(id, at, payload).with_flags(flags), cts_ms);
                }
                return Ok(Progress::Good);
            }
            _ => return Ok(Progress::Neutral),
        }
        self.refresh(index);
        Ok(Progress::Good)
    }

    /// Colour metadata. Some muxers leave the track number out, so the codec has to fit as well.
    fn video_metadata(&mut self, packet: &Packet, metadata: &[u8]) -> Result<Progress, Fault> {
        let Some(color) = script::decode_color(metadata).map_err(Fault::tag)? else {
            return Ok(Progress::Neutral);
        };
        let is_meant = |slot: &Slot| slot.kind == TrackKind::Video && slot.flv_id == packet.track;
        if let Some(index) = self.slots.iter().position(is_meant) {
            if let Some(Slot { source: Source::Video(track), .. }) = self.slots.get_mut(index) {
                track.set_color(packet.codec, color);
            }
            self.refresh(index);
        }
        Ok(Progress::Good)
    }

    fn picture(&mut self, mut frame: MediaFrame, cts_ms: i32) {
        if cts_ms < 0 {
            self.counters.clamped_offsets = self.counters.clamped_offsets.saturating_add(1);
            frame = frame.with_flags(FrameFlags::CLAMPED);
        }
        let pts = frame.dts + TimeDelta::from_millis(cts_ms.max(0).into());
        self.emit(frame.with_pts(pts));
    }

    const fn without_config(&mut self) -> Progress {
        self.counters.without_config = self.counters.without_config.saturating_add(1);
        Progress::Neutral
    }

    /// The slot of a track, new when it is; a track that changes its codec starts over.
    fn slot(&mut self, kind: TrackKind, flv_id: u8, codec: CodecId) -> Result<usize, Fault> {
        let known = self.slots.iter().position(|slot| slot.kind == kind && slot.flv_id == flv_id);
        if let Some(slot) = known.and_then(|index| self.slots.get_mut(index)) {
            if slot.source.codec() != codec {
                slot.source = Source::new(codec);
            }
            return Ok(known.unwrap_or_default());
        }
        let limit = Fault::Fatal(Error::Decode(DecodeError::LimitExceeded {
            what: "tracks",
            limit: self.limits.max_tracks as u64,
        }));
        if self.slots.len() >= self.limits.max_tracks {
            return Err(limit);
        }
        let id = match (kind, flv_id) {
            (TrackKind::Video, 0) => TrackId::VIDEO,
            (TrackKind::Audio, 0) => TrackId::AUDIO,
            (TrackKind::Data, _) => TrackId::DATA,
            _ => self.free_id().ok_or(limit)?,
        };
        self.slots.push(Slot { kind, flv_id, id, source: Source::new(codec), track: None });
        Ok(self.slots.len().saturating_sub(1))
    }

    fn free_id(&self) -> Option<TrackId> {
        let first = TrackId::DATA.index().saturating_add(1);
        let mut ids = (first..MAX_TRACKS).filter_map(|n| TrackId::new(u8::try_from(n).ok()?));
        ids.find(|id| self.slots.iter().all(|slot| slot.id != *id))
    }

    /// Compares a track with what was announced of it, when something may have changed; gives its id.
    fn refresh(&mut self, index: usize) -> TrackId {
        let Some(slot) = self.slots.get_mut(index) else { return TrackId::DATA };
        if slot.source.take_changed()
            && let Some(track) = slot.source.track(slot.id, &self.metadata)
            && slot.track.as_ref() != Some(&track)
        {
            slot.track = Some(track);
            self.changed = true;
        }
        slot.id
    }

    /// Tracks are completed from the metadata, so they may change with it.
    fn set_metadata(&mut self, metadata: Metadata) {
        if *self.metadata == metadata {
            return;
        }
        self.metadata = Arc::new(metadata);
        self.changed = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.track.is_some()) {
            slot.track = slot.source.track(slot.id, &self.metadata);
        }
    }

    fn emit(&mut self, frame: MediaFrame) {
        if core::mem::take(&mut self.changed) {
            self.events.push_back(MediaEvent::Tracks(self.tracks()));
        }
        self.events.push_back(MediaEvent::Frame(frame));
    }
}

impl Source {
    fn new(codec: CodecId) -> Self {
        match codec.kind() {
            TrackKind::Video => Self::Video(VideoStream::new(codec)),
            TrackKind::Audio => Self::Audio(AudioStream::new(codec)),
            TrackKind::Data => Self::Data,
        }
    }

    const fn codec(&self) -> CodecId {
        match self {
            Self::Video(track) => track.codec(),
            Self::Audio(track) => track.codec(),
            Self::Data => CodecId::Amf,
        }
    }

    fn take_changed(&mut self) -> bool {
        match self {
            Self::Video(track) => track.take_changed(),
            Self::Audio(track) => track.take_changed(),
            Self::Data => true,
        }
    }

    /// The track as it is to be announced; `None` as long as it could not be decoded.
    fn track(&self, id: TrackId, metadata: &Metadata) -> Option<Track> {
        let rate = |name| script::number(metadata, name).map(|kbps| script::whole(kbps * 1_000.0));
        match self {
            Self::Video(source) => {
                let mut track = source.track(id)?;
                if id == TrackId::VIDEO {
                    complete(&mut track, metadata);
                    track.bitrate_bps = rate("videodatarate");
                }
                Some(track)
            }
            Self::Audio(source) => {
                let mut track = source.track(id)?;
                if id == TrackId::AUDIO {
                    track.bitrate_bps = rate("audiodatarate");
                }
                Some(track)
            }
            Self::Data => Some(Track::new(id, CodecId::Amf, CodecConfig::None)),
        }
    }
}

/// Fills in from `onMetaData` what the bitstream leaves open.
fn complete(track: &mut Track, metadata: &Metadata) {
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

const fn pcm_of(legacy: LegacyAudio) -> PcmConfig {
    let LegacyAudio { sample_rate, bits_per_sample, channels } = legacy;
    PcmConfig { sample_rate, channels, bits_per_sample }
}

/// Runs all packets of a tag; of several faults the first counts, but a fatal one ends it.
fn each(
    packets: impl IntoIterator<Item = Packet>,
    mut one: impl FnMut(Packet) -> Result<Progress, Fault>,
) -> Result<Progress, Fault> {
    let (mut progress, mut fault) = (Progress::Neutral, None);
    for packet in packets {
        match one(packet) {
            Ok(Progress::Neutral) => {}
            Ok(Progress::Good) => progress = Progress::Good,
            Err(fatal @ Fault::Fatal(_)) => return Err(fatal),
            Err(other) => fault = fault.or(Some(other)),
        }
    }
    fault.map_or(Ok(progress), Err)
}

/// A tag of up to two bytes, or a legacy one that is cut short, is a hiccup; an Enhanced RTMP header that
/// contradicts itself is not.
fn header_fault(kind: TagKind, error: Error, body: &Bytes) -> Fault {
    let first = body.first().copied().unwrap_or_default();
    let enhanced = if kind == TagKind::Audio { first >> 4 == sound::EX_HEADER } else { first & 0x80 != 0 };
    match error {
        _ if body.len() <= 2 => Fault::Tag(DecodeError::Malformed { what: "short tag", offset: body.len() }),
        Error::Decode(error) if !enhanced => Fault::tag(error),
        error => Fault::Fatal(error),
    }
}

fn check_size(what: &'static str, len: usize, limit: usize) -> Result<(), Fault> {
    if len > limit {
        let error = DecodeError::LimitExceeded { what, limit: limit as u64 };
        return Err(Fault::Fatal(Error::Decode(error)));
    }
    Ok(())
}
