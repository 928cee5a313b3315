//! An elementary stream: its packets, its PES packets, and what they hold.

use std::sync::Arc;

use arcly_codec::language;
use arcly_core::track::MAX_TRACKS;
use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{CodecConfig, CodecId, Track, TrackId, TrackKind};
use bytes::Bytes;

use super::assembler::{Continuity, Counter, Pes, PesAssembler};
use super::audio::AudioStream;
use super::clock::Clock;
use super::count;
use super::data::{DataStream, message};
use super::video::{Output, VideoStream};
use crate::scte35::SpliceInfo;
use crate::ts::descriptor::descriptors;
use crate::ts::kind::Carriage;
use crate::ts::packet::Packet;
use crate::ts::psi::{Pmt, StreamInfo};
use crate::ts::section::{MAX_SECTION_BYTES, SectionAssembler};

#[allow(clippy::large_enum_variant, reason = "a program has a handful of them")]
#[derive(Debug)]
enum Content {
    Video(VideoStream),
    Audio(AudioStream),
    Data(CodecId, DataStream),
    Sections(CodecId, SectionAssembler),
}

/// What is enough to know a packet again: its length, its start with the timestamps, and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fingerprint {
    len: usize,
    start: u128,
    end: u64,
}

impl Fingerprint {
    fn of(payload: &[u8]) -> Self {
        let start = payload.first_chunk().map_or(0, |bytes| u128::from_ne_bytes(*bytes));
        let end = payload.last_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        Self { len: payload.len(), start, end }
    }
}

/// One elementary stream of the program that is played.
#[derive(Debug)]
pub(super) struct Stream {
    id: TrackId,
    info: StreamInfo,
    carriage: Carriage,
    counter: Counter,
    last: Fingerprint,
    /// The packet before was a repetition; a packet comes twice at most.
    repeated: bool,
    pes: PesAssembler,
    content: Content,
    /// As it is known now.
    track: Option<Track>,
}

impl Stream {
    /// True when a program has a stream with media in it.
    pub(super) fn any(pmt: &Pmt) -> bool {
        pmt.streams.iter().any(|info| Carriage::of(info).is_some())
    }

    /// A stream that has seen nothing, under a number that none of the others has; `None` when it holds nothing that
    /// has a time, or no number is left.
    pub(super) fn new(info: &StreamInfo, others: &[Self]) -> Option<Self> {
        let carriage = Carriage::of(info)?;
        let (kind, content) = match carriage.clone() {
            Carriage::Video(codec) => (TrackKind::Video, Content::Video(VideoStream::new(codec))),
            Carriage::Audio { codec, latm, opus } => {
                (TrackKind::Audio, Content::Audio(AudioStream::new(codec, latm, opus)))
            }
            Carriage::Data { codec, cells } => {
                (TrackKind::Data, Content::Data(codec, DataStream::new(cells)))
            }
            Carriage::Sections(codec) => {
                (TrackKind::Data, Content::Sections(codec, SectionAssembler::new(MAX_SECTION_BYTES)))
            }
        };
        let mut stream = Self {
            id: free_id(kind, others)?,
            info: info.clone(),
            carriage,
            counter: Counter::new(),
            last: Fingerprint::default(),
            repeated: false,
            pes: PesAssembler::default(),
            content,
            track: None,
        };
        stream.track = stream.current_track();
        Some(stream)
    }

    pub(super) const fn id(&self) -> TrackId {
        self.id
    }

    pub(super) const fn pid(&self) -> u16 {
        self.info.pid
    }

    /// The track as it was known last.
    pub(super) const fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// True when it shows what it is only with its frames.
    pub(super) const fn is_open(&self) -> bool {
        self.track.is_none()
    }

    /// True when a map keeps it as it is.
    pub(super) fn stays_in(&self, pmt: &Pmt) -> bool {
        let info = pmt.streams.iter().find(|info| info.pid == self.info.pid);
        info.is_some_and(|info| Carriage::of(info).as_ref() == Some(&self.carriage))
    }

    /// True when a map makes something else of it.
    pub(super) fn changes_with(&self, pmt: &Pmt) -> bool {
        pmt.streams.iter().any(|info| info.pid == self.info.pid) && !self.stays_in(pmt)
    }

    /// Takes over what a map says of it; false when it is no longer there.
    pub(super) fn adopt(&mut self, pmt: &Pmt) -> bool {
        if !self.stays_in(pmt) {
            return false;
        }
        if let Some(info) = pmt.streams.iter().find(|info| info.pid == self.info.pid) {
            self.info = info.clone();
        }
        self.track = self.current_track().or(self.track.take());
        true
    }

    /// The track, when it differs from what was known.
    pub(super) fn refresh(&mut self) -> Option<Option<Track>> {
        let changed = match &mut self.content {
            Content::Video(video) => video.take_changed(),
            Content::Audio(audio) => audio.take_changed(),
            Content::Data(..) | Content::Sections(..) => false,
        };
        if !changed && self.track.is_some() {
            return None;
        }
        let track = self.current_track();
        (track.is_some() && track != self.track).then(|| core::mem::replace(&mut self.track, track))
    }

    fn current_track(&self) -> Option<Track> {
        let mut track = match &self.content {
            Content::Video(video) => video.track(self.id)?,
            Content::Audio(audio) => audio.track(self.id)?,
            Content::Data(codec @ CodecId::Other(..), _) => {
                Track::new(self.id, *codec, CodecConfig::Opaque(self.info.descriptors.clone()))
            }
            Content::Data(codec, _) | Content::Sections(codec, _) => {
                Track::new(self.id, *codec, CodecConfig::None)
            }
        };
        let code = descriptors(&self.info.descriptors).language();
        track.language = code.and_then(language::from_iso639_2).map(Arc::from);
        Some(track)
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        let content = match &self.content {
            Content::Video(video) => video.buffered(),
            Content::Audio(audio) => audio.buffered(),
            Content::Data(_, data) => data.buffered(),
            Content::Sections(..) => 0,
        };
        self.pes.buffered().saturating_add(content)
    }

    /// Drops what waits.
    pub(super) fn discard(&mut self) {
        self.pes.discard();
        match &mut self.content {
            Content::Video(video) => video.discard(),
            Content::Audio(audio) => audio.discard(),
            Content::Data(_, data) => data.discard(),
            Content::Sections(_, sections) => sections.reset(),
        }
    }

    /// Takes a packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, clock: &mut Clock, out: &mut Output<'_>) {
        let continuity = self.counter.check(packet);
        let Some(payload) = packet.payload.filter(|payload| !payload.is_empty()) else { return };
        let fingerprint = Fingerprint::of(payload);
        let seen = core::mem::replace(&mut self.last, fingerprint) == fingerprint;
        match continuity {
            Continuity::Next => self.repeated = false,
            Continuity::Repeated if seen && !self.repeated => {
                self.repeated = true;
                return count(&mut out.counters.repeated);
            }
            // A counter that stands still, as some senders have it, says nothing.
            Continuity::Repeated => count(&mut out.counters.gaps),
            Continuity::Gap => {
                count(&mut out.counters.gaps);
                self.lost(clock, out);
            }
        }
        if let Content::Sections(codec, sections) = &mut self.content {
            let codec = *codec;
            let Some(stamp) = clock.latest() else { return count(&mut out.counters.without_time) };
            let mut found = Vec::new();
            if sections
                .push(payload, packet.unit_start, |section| found.push(Bytes::copy_from_slice(section)))
                .is_err()
            {
                count(&mut out.counters.bad_sections);
            }
            return found.into_iter().for_each(|section| {
                // A splice message is presented when it applies.
                let splice = (codec == CodecId::Scte35).then(|| SpliceInfo::decode(&section).ok()?.time);
                let applies = splice.flatten().and_then(|time| clock.latest_for(time));
                message(section, applies.unwrap_or(stamp), out);
            });
        }
        if packet.unit_start {
            let before = self.pes.finish(false);
            self.take(before, clock, out);
        }
        let whole = if packet.unit_start { self.pes.begin(payload) } else { self.pes.append(payload) };
        match whole {
            Ok(false) => {}
            Ok(true) => {
                let whole = self.pes.finish(false);
                self.take(whole, clock, out);
            }
            Err(error) => self.take(Err(error), clock, out),
        }
    }

    /// Packets are missing: what has begun ends here.
    fn lost(&mut self, clock: &mut Clock, out: &mut Output<'_>) {
        let pes = self.pes.finish(true);
        self.take(pes, clock, out);
        match &mut self.content {
            Content::Video(video) => video.lost(out),
            Content::Audio(audio) => audio.discard(),
            Content::Data(_, data) => data.discard(),
            Content::Sections(_, sections) => sections.reset(),
        }
    }

    /// Ends the stream: what waited for more comes out as it is.
    pub(super) fn finish(&mut self, clock: &mut Clock, out: &mut Output<'_>) {
        let pes = self.pes.finish(false);
        self.take(pes, clock, out);
        match &mut self.content {
            Content::Video(video) => video.flush(out),
            Content::Audio(audio) => audio.flush(out),
            Content::Data(..) | Content::Sections(..) => {}
        }
    }

    fn take(&mut self, pes: DecodeResult<Option<Pes>>, clock: &mut Clock, out: &mut Output<'_>) {
        let pes = match pes {
            Ok(Some(pes)) => pes,
            Ok(None) => return,
            Err(DecodeError::LimitExceeded { .. }) => return count(&mut out.counters.oversized),
            Err(_) => return count(&mut out.counters.bad_pes),
        };
        let stamp = clock.stamp(&pes.header);
        if stamp.is_some_and(|stamp| stamp.clamped) {
            count(&mut out.counters.clamped);
        }
        match &mut self.content {
            Content::Video(video) => video.push(pes.payload, stamp, pes.corrupt, out),
            Content::Audio(audio) => {
                audio.push(pes.payload, stamp, out);
                if pes.corrupt {
                    audio.discard();
                }
            }
            Content::Data(_, data) if pes.corrupt => data.discard(),
            Content::Data(_, data) => data.push(pes.payload.freeze(), stamp.or_else(|| clock.latest()), out),
            Content::Sections(..) => {}
        }
    }
}

/// The number that streams of one kind go by when they are alone, or a further one.
fn free_id(kind: TrackKind, others: &[Stream]) -> Option<TrackId> {
    let usual = match kind {
        TrackKind::Video => TrackId::VIDEO,
        TrackKind::Audio => TrackId::AUDIO,
        TrackKind::Data => TrackId::DATA,
    };
    let further = TrackId::DATA.index().saturating_add(1)..MAX_TRACKS;
    let further = further.filter_map(|index| TrackId::new(u8::try_from(index).ok()?));
    core::iter::once(usual).chain(further).find(|id| others.iter().all(|other| other.id != *id))
}
