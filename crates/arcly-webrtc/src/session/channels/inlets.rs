use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::{
    CodecConfig, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timestamp, Track, TrackId, TrackSet,
};
use bytes::Bytes;

use super::codec_of;
use crate::session::{Channel, MAX_CHANNELS};

/// Messages of a publisher's channels, all together, that become frames in a second: sixteen tracks at sixty in a second. Those beyond are
/// dropped; each is an entry in the stream's log.
pub const MAX_MESSAGES_PER_SECOND: u32 = 1_000;
/// Their bytes in a second: four megabits, as much as a picture has.
pub const MAX_MESSAGE_BYTES_PER_SECOND: usize = 512 << 10;
/// How long data wait for pictures and sound that were agreed on, so that a stream does not begin without them.
pub const DATA_WAIT: Duration = Duration::from_secs(3);
/// Messages that wait for that.
const MAX_EARLY: usize = 64;
/// Data that are further than this from where they should be on the timeline are put there at once.
const JUMP: TimeDelta = TimeDelta::from_millis(1_000);
/// Of the distance of a frame that was late, the part by which the timeline follows it.
const FOLLOW: i64 = 256;

/// A channel that has become a track.
#[derive(Debug)]
struct Inlet {
    track: Track,
    channel: Option<Channel>,
    /// The time of the last message.
    last: Timestamp,
}

/// A message that came before there were pictures.
#[derive(Debug)]
struct Early {
    at: Instant,
    track: TrackId,
    data: Bytes,
}

/// Where what arrives now is on the stream's timeline, which is that of pictures and sound. Those that took least time on their way say
/// where, and those that were late only if all are.
#[derive(Debug, Default)]
struct Timeline {
    /// What the arrival of the first is on the timeline.
    zero: Option<(Instant, TimeDelta)>,
    /// What pictures and sound are moved by that came behind data.
    shift: TimeDelta,
    has_media: bool,
}

impl Timeline {
    /// Where a message is that came at `now`.
    fn at(&mut self, now: Instant) -> Timestamp {
        let (origin, offset) = *self.zero.get_or_insert((now, TimeDelta::ZERO));
        // One that came before the first picture did is no earlier than the stream.
        let late = TimeDelta::from_duration(now.saturating_duration_since(origin));
        let early = TimeDelta::from_duration(origin.saturating_duration_since(now));
        (Timestamp::ZERO + offset + late - early).max(Timestamp::ZERO)
    }

    /// Pictures and sound go on behind data that were there before them.
    fn handle_frame(&mut self, now: Instant, frame: &mut MediaFrame) {
        if !core::mem::replace(&mut self.has_media, true) && self.zero.is_some() {
            self.shift = (self.at(now) - frame.dts).max(TimeDelta::ZERO);
        }
        frame.dts += self.shift;
        frame.pts += self.shift;
        let (origin, offset) = *self.zero.get_or_insert((now, frame.dts - Timestamp::ZERO));
        let arrived = TimeDelta::from_duration(now.saturating_duration_since(origin));
        let away = (frame.dts - Timestamp::ZERO) - arrived - offset;
        let moved =
            if away > TimeDelta::ZERO || away.abs() > JUMP { away } else { TimeDelta(away.0 / FOLLOW) };
        self.zero = Some((origin, offset + moved));
    }
}

/// What has come in this second.
#[derive(Debug)]
struct Rate {
    since: Instant,
    messages: u32,
    bytes: usize,
}

impl Rate {
    fn admits(&mut self, now: Instant, bytes: usize) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, messages: 0, bytes: 0 };
        }
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.messages <= MAX_MESSAGES_PER_SECOND && self.bytes <= MAX_MESSAGE_BYTES_PER_SECOND
    }
}

/// A publisher's channels: each is a track, from the first time that it is there to the end of the session.
#[derive(Debug)]
pub(in crate::session) struct Inlets {
    inlets: Vec<Inlet>,
    /// Numbers that other tracks have.
    taken: Vec<TrackId>,
    /// Pictures and sound as they were announced last.
    media: TrackSet,
    /// Pictures or sound are waited for, from when on there was something to wait.
    waits: bool,
    since: Option<Instant>,
    early: VecDeque<Early>,
    timeline: Timeline,
    rate: Rate,
    dropped: u64,
    events: VecDeque<MediaEvent>,
}

impl Inlets {
    /// Of a publisher who has agreed on those tracks of pictures and sound.
    pub(in crate::session) fn new(taken: Vec<TrackId>, now: Instant) -> Self {
        Self {
            inlets: Vec::new(),
            waits: !taken.is_empty(),
            taken,
            media: TrackSet::default(),
            since: None,
            early: VecDeque::new(),
            timeline: Timeline::default(),
            rate: Rate { since: now, messages: 0, bytes: 0 },
            dropped: 0,
            events: VecDeque::new(),
        }
    }

    /// Messages that became nothing.
    pub(in crate::session) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Pictures and sound: as they were, where there are no channels.
    pub(in crate::session) fn handle_media(&mut self, now: Instant, media: MediaEvent) {
        match media {
            MediaEvent::Tracks(tracks) => {
                self.media = tracks;
                self.waits = false;
                self.announce();
            }
            MediaEvent::Frame(mut frame) => {
                self.timeline.handle_frame(now, &mut frame);
                self.events.push_back(MediaEvent::Frame(frame));
                self.flush();
            }
        }
    }

    /// A channel is there. False when it is one too many.
    pub(in crate::session) fn handle_open(
        &mut self,
        now: Instant,
        channel: Channel,
        (label, protocol): (String, String),
    ) -> bool {
        let codec = codec_of(&label, &protocol);
        let label = (!label.is_empty()).then(|| Arc::from(label));
        let is_same = |inlet: &&mut Inlet| {
            inlet.channel.is_none() && inlet.track.codec == codec && inlet.track.label == label
        };
        if let Some(inlet) = self.inlets.iter_mut().find(is_same) {
            inlet.channel = Some(channel);
            return true;
        }
        let Some(id) = self.free_track().filter(|_| self.inlets.len() < MAX_CHANNELS) else { return false };
        let track = Track { label, ..Track::new(id, codec, CodecConfig::None) };
        self.inlets.push(Inlet { track, channel: Some(channel), last: Timestamp::ZERO });
        self.since.get_or_insert(now);
        if !self.waits {
            self.announce();
        }
        true
    }

    /// A message of a channel.
    pub(in crate::session) fn handle_message(&mut self, now: Instant, channel: Channel, data: Bytes) {
        let inlet = self.inlets.iter().find(|inlet| inlet.channel == Some(channel));
        let has_room = !data.is_empty() && self.early.len() < MAX_EARLY;
        match inlet.map(|inlet| inlet.track.id).filter(|_| has_room && self.rate.admits(now, data.len())) {
            Some(track) => {
                self.early.push_back(Early { at: now, track, data });
                self.flush();
            }
            None => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// A channel is gone; its track stays.
    pub(in crate::session) fn handle_close(&mut self, channel: Channel) {
        let inlet = self.inlets.iter_mut().find(|inlet| inlet.channel == Some(channel));
        inlet.into_iter().for_each(|inlet| inlet.channel = None);
    }

    /// Time has passed.
    pub(in crate::session) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|due| due <= now) {
            self.waits = false;
            self.announce();
            self.flush();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(in crate::session) fn deadline(&self) -> Option<Instant> {
        self.since.filter(|_| self.waits)?.checked_add(DATA_WAIT)
    }

    /// What comes next.
    pub(in crate::session) fn poll(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    fn free_track(&self) -> Option<TrackId> {
        let is_free =
            |id: &TrackId| !self.taken.contains(id) && !self.inlets.iter().any(|inlet| inlet.track.id == *id);
        (TrackId::DATA.index()..).map_while(|index| TrackId::new(u8::try_from(index).ok()?)).find(is_free)
    }

    fn announce(&mut self) {
        let data = self.inlets.iter().map(|inlet| inlet.track.clone());
        let tracks = TrackSet::new(self.media.iter().cloned().chain(data));
        self.events.push_back(MediaEvent::Tracks(tracks));
    }

    /// Makes frames of what waits: once the first picture has said when it is.
    fn flush(&mut self) {
        if self.waits || (!self.media.is_empty() && !self.timeline.has_media) {
            return;
        }
        while let Some(Early { at, track, data }) = self.early.pop_front() {
            let at = self.timeline.at(at);
            let Some(inlet) = self.inlets.iter_mut().find(|inlet| inlet.track.id == track) else { continue };
            inlet.last = inlet.last.max(at);
            let frame = MediaFrame::new(track, inlet.last, data).with_flags(FrameFlags::KEYFRAME);
            self.events.push_back(MediaEvent::Frame(frame));
        }
    }
}
