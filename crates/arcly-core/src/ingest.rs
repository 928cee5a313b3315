//! Whose frames go into a stream's log, and where on its timeline.

use std::sync::Arc;
use std::time::Instant;

use crate::app::{AppSpec, Takeover};
use crate::close::CloseReason;
use crate::codec::TrackKind;
use crate::feed::Feed;
use crate::frame::{FrameFlags, MediaFrame};
use crate::level::{AudioLevel, LevelMeter, TrackLevel};
use crate::log::Writer;
use crate::publisher::PublisherState;
use crate::qos::{TrackMeter, TrackQos};
use crate::time::{TimeDelta, Timestamp};
use crate::timeline::Timeline;
use crate::track::{TrackId, TrackMask, TrackSet};
use crate::via::{Hop, Via};

/// Publishers that one stream may have, the active one and those that stand by.
pub const MAX_PUBLISHERS: usize = 8;
/// Bytes of one access unit.
pub const MAX_ACCESS_UNIT: usize = 8 << 20;

/// Without video, readers may start once in this time.
const AUDIO_JOIN_INTERVAL: TimeDelta = TimeDelta::from_millis(1_000);

/// Sound before the first picture that belongs to the first GOP.
const MAX_PRELUDE: TimeDelta = TimeDelta::from_millis(1_000);

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Published {
    /// It is in the log.
    Logged,
    /// Its track has not had a keyframe yet, so that nobody could decode it.
    BeforeKeyframe,
    /// Another publisher is active; this one stands by.
    Standby,
    /// Its track was never announced.
    UnknownTrack,
}

struct Session {
    id: u64,
    state: Arc<PublisherState>,
    /// Where its stream has come through before.
    via: Via,
    tracks: TrackSet,
    /// The tracks are in force in the log.
    applied: bool,
    /// There once the session is, or has been, on air.
    timeline: Option<Timeline>,
    /// Video tracks that have not had a keyframe since they were announced.
    awaiting: TrackMask,
    last_frame: Instant,
}

impl Session {
    /// True when a session may go on air with this frame: at a keyframe of its first video track, or with sound when
    /// it has no video. A stream's first session may begin with the sound before its first keyframe as well: there is
    /// no picture yet that would have to go on.
    fn can_begin_with(&self, frame: &MediaFrame, first_session: bool) -> bool {
        let is_audio = self.tracks.get(frame.track).is_some_and(|track| track.kind() == TrackKind::Audio);
        match self.tracks.first(TrackKind::Video) {
            Some(video) => (frame.track == video.id && frame.is_keyframe()) || (is_audio && first_session),
            None => is_audio || self.tracks.first(TrackKind::Audio).is_none(),
        }
    }
}

/// The publishing side of a stream. Locked by publishers, by the engine's upkeep and by relays that join, never by readers.
pub(crate) struct Ingest {
    feed: Arc<Feed>,
    writer: Writer<MediaFrame>,
    hop: Hop,
    sessions: Vec<Session>,
    active: Option<u64>,
    /// In force in the log.
    tracks: Arc<TrackSet>,
    /// Where the timeline has got to.
    end: Option<End>,
    last_audio_join: Option<Timestamp>,
    /// Where the stream began, while that was sound and its first picture is still to come.
    prelude: Option<Timestamp>,
    meters: Vec<(TrackId, TrackMeter)>,
    /// How loud tracks are that say so.
    levels: Vec<(TrackId, LevelMeter)>,
    /// Since when nobody publishes.
    vacant_since: Instant,
}

impl Ingest {
    /// `writer` is the one of `feed`.
    pub(crate) fn new(feed: Arc<Feed>, writer: Writer<MediaFrame>, hop: Hop, now: Instant) -> Self {
        Self {
            feed,
            writer,
            hop,
            sessions: Vec::new(),
            active: None,
            tracks: Arc::default(),
            end: None,
            last_audio_join: None,
            prelude: None,
            meters: Vec::new(),
            levels: Vec::new(),
            vacant_since: now,
        }
    }

    /// Lets a publisher in, or says why not. Those that it takes the place of are revoked.
    pub(crate) fn admit(
        &mut self,
        app: &AppSpec,
        now: Instant,
        id: u64,
        state: Arc<PublisherState>,
    ) -> Result<(), CloseReason> {
        if let Some(reason) = self.writer.log().closed() {
            return Err(reason);
        }
        if app.takeover == Takeover::Standby {
            if self.sessions.len() >= MAX_PUBLISHERS {
                return Err(CloseReason::Limit("publishers"));
            }
        } else if let Some(incumbent) = self.sessions.first() {
            let silent = now.saturating_duration_since(incumbent.last_frame) >= app.silence;
            if app.takeover == Takeover::Reject || (app.takeover == Takeover::WhenSilent && !silent) {
                return Err(CloseReason::Conflict);
            }
            self.revoke_all(CloseReason::Conflict, now);
        }
        let tracks = TrackSet::default();
        self.sessions.push(Session {
            id,
            via: state.via.clone(),
            state,
            tracks,
            applied: false,
            timeline: None,
            awaiting: TrackMask::ALL,
            last_frame: now,
        });
        Ok(())
    }

    /// A publisher leaves. The stream goes on without it for its grace period.
    pub(crate) fn release(&mut self, id: u64, now: Instant) {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.id != id);
        if self.active == Some(id) {
            self.active = None;
        }
        if self.sessions.is_empty() && before != 0 {
            self.vacant_since = now;
        }
    }

    pub(crate) fn revoke_all(&mut self, reason: CloseReason, now: Instant) {
        for session in self.sessions.drain(..) {
            session.state.revoke(reason);
        }
        self.active = None;
        self.vacant_since = now;
    }

    /// Ends the log; readers get what is there and then the reason.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Instant) {
        self.revoke_all(reason, now);
        self.writer.close(reason);
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(crate) const fn vacant_since(&self) -> Instant {
        self.vacant_since
    }

    /// True once a frame was logged.
    pub(crate) const fn has_begun(&self) -> bool {
        self.end.is_some()
    }

    fn first_session(&self) -> Option<&Session> {
        let on_air = self.sessions.iter().find(|session| Some(session.id) == self.active);
        on_air.or_else(|| self.sessions.first())
    }

    /// The publisher on air, or the one that waits longest to be.
    pub(crate) fn publisher(&self) -> Option<&Arc<PublisherState>> {
        self.first_session().map(|session| &session.state)
    }

    /// Where the stream has come through, itself last.
    pub(crate) fn via(&self) -> Via {
        let via = self.first_session().map(|session| session.via.clone()).unwrap_or_default();
        via.and(&self.hop.into())
    }

    pub(crate) fn publishers(&self) -> impl Iterator<Item = &Arc<PublisherState>> {
        self.sessions.iter().map(|session| &session.state)
    }

    pub(crate) fn qos(&self, now: Instant) -> Vec<(TrackId, TrackQos)> {
        self.meters.iter().map(|(track, meter)| (*track, meter.snapshot(now))).collect()
    }

    /// How loud the tracks of a publisher are that says so; nothing when there is none.
    pub(crate) fn levels(&self, now: Instant) -> Vec<(TrackId, TrackLevel)> {
        let is_there = |track: TrackId| self.active.is_some() && self.tracks.get(track).is_some();
        let on_air = self.levels.iter().filter(|(track, _)| is_there(*track));
        on_air.map(|(track, meter)| (*track, meter.level(now))).collect()
    }

    /// Takes how loud a track of a session is; of one that is not on air it counts for nothing.
    pub(crate) fn handle_level(&mut self, now: Instant, id: u64, track: TrackId, level: AudioLevel) {
        let is_audio = self.tracks.get(track).is_some_and(|track| track.kind() == TrackKind::Audio);
        if self.active != Some(id) || !is_audio {
            return;
        }
        match self.levels.iter_mut().find(|(known, _)| *known == track) {
            Some((_, meter)) => meter.handle_level(now, level),
            None => {
                let mut meter = LevelMeter::default();
                meter.handle_level(now, level);
                self.levels.push((track, meter));
            }
        }
    }

    /// Announces a session's tracks. They come into force with its next frame in the log.
    pub(crate) fn set_tracks(&mut self, id: u64, mut tracks: TrackSet) -> Result<(), CloseReason> {
        let session = Self::session(&mut self.sessions, id)?;
        let via = session.state.via.clone().and(&Via::of(&tracks.metadata));
        if via.contains(self.hop) {
            return Err(CloseReason::Conflict);
        }
        if via.is_full() {
            return Err(CloseReason::Limit("hops"));
        }
        tracks.metadata = Arc::new(via.clone().and(&self.hop.into()).mark(&tracks.metadata));
        session.via = via;
        for track in tracks.iter().filter(|track| track.kind() == TrackKind::Video) {
            if session
                .tracks
                .get(track.id)
                .is_none_or(|old| old.codec != track.codec || old.config != track.config)
            {
                session.awaiting.insert(track.id);
            }
        }
        session.tracks = tracks;
        session.applied = false;
        Ok(())
    }

    fn session(sessions: &mut [Session], id: u64) -> Result<&mut Session, CloseReason> {
        // Whoever was revoked is no longer in the list, and was told why when that happened.
        sessions.iter_mut().find(|session| session.id == id).ok_or(CloseReason::Conflict)
    }

    /// Takes a frame of a session. The tracks that came into force with it, if they did, are returned beside.
    pub(crate) fn publish(
        &mut self,
        app: &AppSpec,
        now: Instant,
        id: u64,
        mut frame: MediaFrame,
    ) -> Result<(Published, Option<Arc<TrackSet>>), CloseReason> {
        if frame.payload.len() > MAX_ACCESS_UNIT {
            return Err(CloseReason::Limit("access_unit"));
        }
        let on_air = self.active == Some(id) || self.may_go_on_air(app, now, id);
        let session = Self::session(&mut self.sessions, id)?;
        session.last_frame = now;
        if !on_air {
            return Ok((Published::Standby, None));
        }
        let Some(kind) = session.tracks.get(frame.track).map(crate::track::Track::kind) else {
            return Ok((Published::UnknownTrack, None));
        };
        if self.active != Some(id) || session.timeline.is_none() {
            if !session.can_begin_with(&frame, self.end.is_none()) {
                return Ok((Published::BeforeKeyframe, None));
            }
            session.timeline = Some(Timeline::new(resume_at(self.end, now)));
            session.awaiting = TrackMask::ALL;
            session.applied = false;
            self.levels.clear();
            self.active = Some(id);
        }
        if kind != TrackKind::Video {
            frame.flags.insert(FrameFlags::KEYFRAME);
        }
        if session.awaiting.contains(frame.track) {
            if !frame.is_keyframe() {
                return Ok((Published::BeforeKeyframe, None));
            }
            session.awaiting.remove(frame.track);
        }
        if let Some(timeline) = &mut session.timeline {
            timeline.map(now, &mut frame);
            self.end = timeline.end().map(|end| End { at: end, last_dts: frame.dts, arrived: now });
        }
        let changed =
            !core::mem::replace(&mut session.applied, true) && !self.tracks.same_content(&session.tracks);
        if changed {
            let version = self.tracks.version.wrapping_add(1);
            let mut tracks = session.tracks.clone();
            tracks.version = version;
            self.tracks = Arc::new(tracks);
            // Before the frame, so that whoever is woken by it knows the tracks.
            self.feed.set_tracks(Arc::clone(&self.tracks));
        }
        self.log(now, frame);
        Ok((Published::Logged, changed.then(|| Arc::clone(&self.tracks))))
    }

    /// True when the publisher on air has left or fallen silent.
    fn may_go_on_air(&self, app: &AppSpec, now: Instant, id: u64) -> bool {
        let on_air = self.sessions.iter().find(|session| Some(session.id) == self.active && session.id != id);
        on_air.is_none_or(|session| now.saturating_duration_since(session.last_frame) >= app.silence)
    }

    fn measure(&mut self, now: Instant, frame: &MediaFrame) {
        match self.meters.iter_mut().find(|(track, _)| *track == frame.track) {
            Some((_, meter)) => meter.update(now, frame),
            None => {
                let mut meter = TrackMeter::new();
                meter.update(now, frame);
                self.meters.push((frame.track, meter));
            }
        }
    }

    fn log(&mut self, now: Instant, frame: MediaFrame) {
        self.measure(now, &frame);
        let begins = self.writer.log().last().is_none();
        let join = match self.tracks.first(TrackKind::Video) {
            Some(video) if video.id == frame.track && frame.is_keyframe() => {
                // Readers of the first GOP get the sound before it too, if that is not much.
                self.prelude.take().is_none_or(|began| frame.dts - began > MAX_PRELUDE)
            }
            Some(_) if begins => {
                self.prelude = Some(frame.dts);
                true
            }
            Some(_) => false,
            None => self.last_audio_join.is_none_or(|last| (frame.dts - last).abs() >= AUDIO_JOIN_INTERVAL),
        };
        if join {
            self.last_audio_join = Some(frame.dts);
        }
        self.writer.append(frame, &self.tracks, join);
    }
}

/// Where a timeline has got to: the end of its last frame, and when that frame came.
#[derive(Clone, Copy)]
struct End {
    at: Timestamp,
    last_dts: Timestamp,
    arrived: Instant,
}

/// Where the first frame of a session lands on a timeline that has got to `end`: right behind it, or as much later as
/// nothing came, so that the stream's clock keeps step with real time.
fn resume_at(end: Option<End>, now: Instant) -> Option<Timestamp> {
    end.map(|end| {
        end.at.max(end.last_dts + TimeDelta::from_duration(now.saturating_duration_since(end.arrived)))
    })
}
