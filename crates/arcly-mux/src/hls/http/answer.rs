//! What is answered to a client that was let in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use arcly_core::{TrackId, TrackKind};
use bytes::Bytes;
use http::Response;

use super::muxer::{Lane, Muxer};
use super::refusals::{Refusal, bad_directives, not_in_dash, nothing, too_late, too_many};
use super::response::Wishes;
use super::session::Session;
use super::{HlsBody, Shared};
use crate::dash::Manifest;
use crate::hls::{Directives, File, MediaPlaylist, Run, multivariant, ts_multivariant};
use crate::live::{Container, Segment, View};

/// A request waits for so many target durations at most.
const PATIENCE: u32 = 3;
/// Before there is a target duration.
const FIRST_PATIENCE: Duration = Duration::from_secs(12);

/// What a request is about, once it is known who asks.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Shared,
    pub(super) muxer: &'a Arc<Muxer>,
    pub(super) session: &'a Arc<Session>,
    pub(super) wishes: Wishes<'a>,
    pub(super) directives: Directives,
}

impl Asked<'_> {
    pub(super) async fn answer(&self, file: File) -> Response<HlsBody> {
        match file {
            File::Media(kind, track) | File::TsMedia(kind, track) => self.media_playlist(kind, track).await,
            File::Part(_, track, run, number) => match self.lane(track, run) {
                Some(lane) => self.part(&lane, number, media_type(file)).await,
                None => nothing(),
            },
            // What is asked for seldom, apart, so that what is asked for all the time stays small.
            other => Box::pin(self.answer_seldom(other)).await,
        }
    }

    async fn answer_seldom(&self, file: File) -> Response<HlsBody> {
        match file {
            File::Multivariant | File::TsMultivariant => self.multivariant().await,
            File::Init(_, track, run, number) => {
                let init = self.init(track, run, number);
                init.map_or_else(nothing, |bytes| self.wishes.media(bytes.into(), media_type(file)))
            }
            File::Key(_, _, track, run, number) => self.key(track, run, number),
            File::Manifest if self.shared.config.live.encryption.is_some() => not_in_dash(),
            File::Manifest => self.manifest().await,
            File::Segment(_, track, run, number) | File::TsSegment(_, track, run, number) => {
                match self.lane(track, run) {
                    Some(lane) => self.segment(&lane, number, media_type(file)).await,
                    None => nothing(),
                }
            }
            File::Media(..) | File::TsMedia(..) | File::Part(..) => nothing(),
        }
    }

    /// The rendition of a track, if the media of that run are still there.
    fn lane(&self, track: TrackId, run: Run) -> Option<Arc<Lane>> {
        self.muxer.lane(track).filter(|_| run == self.muxer.run)
    }

    /// A key, for those who may have what it is of.
    fn key(&self, track: TrackId, run: Run, number: u64) -> Response<HlsBody> {
        let lane = self.lane(track, run);
        let key = lane.and_then(|lane| lane.playlist().view().key(number).map(Arc::clone));
        key.map_or_else(nothing, |key| self.wishes.key(Bytes::copy_from_slice(key.bytes())))
    }

    /// An initialisation segment, and the one that is hinted at before it is needed.
    fn init(&self, track: TrackId, run: Run, number: u64) -> Option<Bytes> {
        let lane = self.lane(track, run)?;
        let init = lane.playlist().view().init(number).map(|init| init.bytes.clone());
        init.filter(|bytes| !bytes.is_empty())
    }

    async fn multivariant(&self) -> Response<HlsBody> {
        let renditions = tokio::time::timeout(FIRST_PATIENCE, self.muxer.wait_for_renditions()).await;
        match renditions {
            Ok(renditions) if !renditions.is_empty() => {
                let text = match self.muxer.container {
                    Container::Cmaf => multivariant(&renditions),
                    Container::Ts => ts_multivariant(&renditions),
                };
                self.wishes.playlist(&text, Duration::ZERO)
            }
            Ok(_) => nothing(),
            Err(_) => too_late(),
        }
    }

    async fn manifest(&self) -> Response<HlsBody> {
        let renditions = tokio::time::timeout(FIRST_PATIENCE, self.muxer.wait_for_renditions()).await;
        let Ok(renditions) = renditions else { return too_late() };
        let views: Vec<Arc<View>> = renditions.into_iter().map(|one| one.view).collect();
        let Some(epoch) = self.muxer.epoch(&views) else { return nothing() };
        let (now, run) = (SystemTime::now(), self.muxer.run.0);
        let manifest = Manifest { views: &views, epoch, now, run, query: self.wishes.query() };
        self.wishes.manifest(manifest.render())
    }

    /// A segment that is complete; the one that is being made, or the one to come, as it is made.
    async fn segment(&self, lane: &Arc<Lane>, number: u64, media_type: &'static str) -> Response<HlsBody> {
        if let Some(segment) = lane.playlist().view().segment(number) {
            if segment.is_gap() {
                return nothing();
            }
            let parts = segment.parts.iter().map(|part| part.bytes.clone());
            return self.wishes.media(HlsBody::new(parts), media_type);
        }
        let begun = |playlist: &Arc<MediaPlaylist>| {
            let view = playlist.view();
            if !view.low_latency {
                return Some(false);
            }
            let has_part = |open: &Arc<Segment>| open.msn == number && !open.parts.is_empty();
            match view.segment(number).is_some() || view.open.as_ref().is_some_and(has_part) {
                true => Some(true),
                // The one that is about to begin, and the next: no manifest promises later ones.
                false => {
                    let comes = view.next_msn..=view.next_msn.saturating_add(1);
                    (view.ended || !comes.contains(&number)).then_some(false)
                }
            }
        };
        match self.wait(lane, begun).await {
            Ok(true) => {
                let parts = lane.parts(number, Arc::clone(self.session.reader()));
                self.wishes.growing(HlsBody::growing(parts), media_type)
            }
            Ok(false) => nothing(),
            Err(refusal) => *refusal,
        }
    }

    async fn media_playlist(&self, kind: TrackKind, track: TrackId) -> Response<HlsBody> {
        self.shared.counters.playlist_requests.fetch_add(1, Ordering::Relaxed);
        let lane = match self.muxer.lane(track) {
            Some(lane) => lane,
            None => match Box::pin(self.first_of(track)).await {
                Ok(lane) => lane,
                Err(refusal) => return *refusal,
            },
        };
        if lane.kind != kind {
            return nothing();
        }
        let is_met = |playlist: &Arc<MediaPlaylist>| match self.directives.is_met(playlist.view()) {
            Ok(true) => Some(Ok(Arc::clone(playlist))),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        match self.wait(&lane, is_met).await {
            Ok(Ok(playlist)) => self.render(&playlist),
            Ok(Err(error)) => bad_directives(error),
            Err(refusal) => *refusal,
        }
    }

    /// A rendition that is not there yet.
    async fn first_of(&self, track: TrackId) -> Result<Arc<Lane>, Refusal> {
        if self.muxer.feed.tracks().get(track).is_none() {
            return Err(Box::new(nothing()));
        }
        match tokio::time::timeout(FIRST_PATIENCE, self.muxer.wait_for_lane(track)).await {
            Ok(Some(lane)) => Ok(lane),
            _ => Err(Box::new(too_late())),
        }
    }

    fn render(&self, playlist: &MediaPlaylist) -> Response<HlsBody> {
        let rendered = || {
            self.shared.counters.rendered.fetch_add(1, Ordering::Relaxed);
            self.muxer.reports()
        };
        let delta = self.directives.skip;
        let text = if delta { playlist.delta(rendered) } else { playlist.full(rendered) };
        let plan = playlist.view().plan;
        // What a blocking request names never changes but for the end of the list (Apple's table of caching times).
        let fresh =
            if self.directives.msn.is_some() { plan.skip_boundary().to_duration() } else { Duration::ZERO };
        self.wishes.playlist(text, fresh)
    }

    async fn part(&self, lane: &Lane, number: u64, media_type: &'static str) -> Response<HlsBody> {
        // `None` within: it never comes.
        let find = |playlist: &Arc<MediaPlaylist>| {
            let view: &View = playlist.view();
            match view.part(number) {
                _ if !view.low_latency => Some(None),
                Some(part) => Some(Some(part.bytes.clone())),
                None if number == view.next_part && !view.ended => None,
                None => Some(None),
            }
        };
        match self.wait(lane, find).await {
            Ok(Some(bytes)) if !bytes.is_empty() => self.wishes.media(bytes.into(), media_type),
            Ok(_) => nothing(),
            Err(refusal) => *refusal,
        }
    }

    /// Waits until `is_met` says something of a version, for three target durations.
    async fn wait<T>(
        &self,
        lane: &Lane,
        mut is_met: impl FnMut(&Arc<MediaPlaylist>) -> Option<T>,
    ) -> Result<T, Refusal> {
        let playlist = lane.playlist();
        if let Some(met) = is_met(&playlist) {
            return Ok(met);
        }
        let (address, max) = (self.session.client().address(), self.shared.config.max_waiting);
        let Some(_waiter) = self.muxer.begin_to_wait(lane.track, address, max) else {
            return Err(too_many());
        };
        let patience = playlist.view().plan.target.to_duration().saturating_mul(PATIENCE);
        drop(playlist);
        match tokio::time::timeout(patience, lane.wait(is_met)).await {
            Ok(Some(met)) => Ok(met),
            Ok(None) => Err(Box::new(nothing())),
            Err(_) => Err(Box::new(too_late())),
        }
    }
}

const fn media_type(file: File) -> &'static str {
    match file {
        File::Init(TrackKind::Audio, ..)
        | File::Segment(TrackKind::Audio, ..)
        | File::Part(TrackKind::Audio, ..) => crate::fmp4::AUDIO_MEDIA_TYPE,
        File::TsSegment(..) => crate::ts::MEDIA_TYPE,
        _ => crate::fmp4::MEDIA_TYPE,
    }
}
