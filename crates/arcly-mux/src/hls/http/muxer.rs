//! One stream, muxed for as long as somebody watches.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arcly_core::feed::Feed;
use arcly_core::log::{Budget, Cursor, LagPolicy, Progress, Read, StartMode};
use arcly_core::subscriber::ReaderState;
use arcly_core::{MediaFrame, Stream as LiveStream, TimeDelta, TrackId, TrackKind, TrackSet, clock};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::poll_fn;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::session::Sessions;
use super::{Config, Counters};
use crate::dash;
use crate::hls::{MediaPlaylist, Rendition, Report, Run};
use crate::live::{Container, Continuation, Segmenter, TsSegmenter, View};

/// How often sessions are looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long a segment that is being made may wait for its next part before it is given up.
const STALL: Duration = Duration::from_secs(15);
/// Taken from the log at a time.
const BATCH: Budget = Budget { items: 256, bytes: 8 << 20, time: TimeDelta(i64::MAX) };

/// The playlists of one track, one version after the other.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) track: TrackId,
    pub(super) kind: TrackKind,
    playlist: watch::Sender<Arc<MediaPlaylist>>,
}

impl Lane {
    /// The newest version.
    pub(super) fn playlist(&self) -> Arc<MediaPlaylist> {
        Arc::clone(&self.playlist.borrow())
    }

    /// The parts of a segment, those that are still to come as they are made.
    pub(super) fn parts(
        self: &Arc<Self>,
        msn: u64,
        reader: Arc<ReaderState>,
    ) -> impl Stream<Item = Bytes> + use<> {
        let lane = Arc::clone(self);
        futures_util::stream::unfold((lane, reader, 0_usize), move |(lane, reader, sent)| async move {
            let piece = tokio::time::timeout(STALL, lane.wait(|list| part_of(list.view(), msn, sent)));
            let (bytes, sent) = piece.await.ok().flatten().flatten()?;
            reader.count_served(0, bytes.len() as u64);
            Some((bytes, (lane, reader, sent)))
        })
    }

    /// The first version, from now on, of which `is_met` says something. Cancel safe.
    pub(super) async fn wait<T>(
        &self,
        mut is_met: impl FnMut(&Arc<MediaPlaylist>) -> Option<T>,
    ) -> Option<T> {
        let mut versions = self.playlist.subscribe();
        loop {
            let playlist = Arc::clone(&versions.borrow_and_update());
            if let Some(met) = is_met(&playlist) {
                return Some(met);
            }
            versions.changed().await.ok()?;
        }
    }
}

/// A muxed stream: what its task makes, and who watches.
#[derive(Debug)]
pub(super) struct Muxer {
    pub(super) stream: Arc<LiveStream>,
    /// What is read of it.
    pub(super) feed: Arc<Feed>,
    pub(super) container: Container,
    pub(super) run: Run,
    pub(super) sessions: Sessions,
    lanes: watch::Sender<Vec<Arc<Lane>>>,
    continuation: Mutex<Continuation>,
    /// Requests that wait, by rendition and address.
    waiting: Mutex<HashMap<(TrackId, IpAddr), usize>>,
    /// When time zero of the stream was, for manifests of DASH, once somebody has asked.
    epoch: OnceLock<SystemTime>,
    counters: Arc<Counters>,
}

impl Muxer {
    pub(super) fn new(
        (stream, feed): (Arc<LiveStream>, Arc<Feed>),
        container: Container,
        run: Run,
        counters: Arc<Counters>,
        before: Option<Continuation>,
    ) -> Self {
        Self {
            stream,
            feed,
            container,
            run,
            sessions: Sessions::default(),
            lanes: watch::Sender::new(Vec::new()),
            continuation: Mutex::new(before.unwrap_or_default()),
            waiting: Mutex::default(),
            epoch: OnceLock::new(),
            counters,
        }
    }

    /// Where a muxer that takes this one's place goes on.
    pub(super) fn continuation(&self) -> Continuation {
        *self.continuation.lock()
    }

    /// The playlists of a track.
    pub(super) fn lane(&self, track: TrackId) -> Option<Arc<Lane>> {
        self.lanes.borrow().iter().find(|lane| lane.track == track).cloned()
    }

    /// The playlists of a track, once they are there. Cancel safe.
    pub(super) async fn wait_for_lane(&self, track: TrackId) -> Option<Arc<Lane>> {
        let mut lanes = self.lanes.subscribe();
        let there = lanes.wait_for(|lanes| lanes.iter().any(|lane| lane.track == track)).await;
        there.ok()?.iter().find(|lane| lane.track == track).cloned()
    }

    /// Every rendition with something in it, once one of them has a complete segment, or the stream has ended. Cancel safe.
    pub(super) async fn wait_for_renditions(&self) -> Vec<Rendition> {
        let mut lanes = self.lanes.subscribe();
        loop {
            let there = lanes.borrow_and_update().clone();
            let ready = there.iter().map(|lane| Box::pin(lane.wait(is_ready)));
            futures_util::future::join_all(ready).await;
            // One that came meanwhile belongs to it too.
            if !there.is_empty() && !lanes.has_changed().unwrap_or(false) {
                let views = there.iter().map(|lane| Arc::clone(lane.playlist().view()));
                return views.filter_map(Rendition::new).collect();
            }
            if there.is_empty() && lanes.changed().await.is_err() {
                return Vec::new();
            }
        }
    }

    /// When time zero of the stream was, the same for as long as the stream is muxed.
    pub(super) fn epoch(&self, views: &[Arc<View>]) -> Option<SystemTime> {
        match self.epoch.get() {
            Some(epoch) => Some(*epoch),
            None => dash::epoch(views).map(|epoch| *self.epoch.get_or_init(|| epoch)),
        }
    }

    /// How far the renditions have come.
    pub(super) fn reports(&self) -> Vec<Report> {
        let lanes = self.lanes.borrow().clone();
        let reports = lanes.iter().filter_map(|lane| {
            let (msn, part) = lane.playlist().view().last_part()?;
            Some(Report { kind: lane.kind, track: lane.track, msn, part })
        });
        reports.collect()
    }

    /// A place among those that wait for a rendition; `None` when the address has too many.
    pub(super) fn begin_to_wait(
        self: &Arc<Self>,
        track: TrackId,
        address: IpAddr,
        max: usize,
    ) -> Option<Waiter> {
        let mut waiting = self.waiting.lock();
        let count = waiting.entry((track, address)).or_default();
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiter { muxer: Arc::clone(self), key: (track, address) })
    }

    /// Bytes of media held.
    pub(super) fn bytes(&self) -> usize {
        self.lanes.borrow().iter().map(|lane| lane.playlist().view().bytes()).fold(0, usize::saturating_add)
    }

    /// Muxes until the stream has ended and nobody watches any more, or nobody watches a stream that is on.
    pub(super) async fn run(&self, config: &Config, before: Option<Continuation>) {
        let gop = self.stream.info().qos.iter().find_map(|(_, qos)| qos.last_gop).map(|gop| gop.duration);
        let mut work = Work {
            muxer: self,
            cursor: Some(Cursor::new(Arc::clone(self.feed.log()), StartMode::Oldest, LagPolicy::PATIENT)),
            segmenter: match self.container {
                Container::Cmaf => AnySegmenter::Cmaf(Box::new(Segmenter::new(config.live, gop, before))),
                Container::Ts => AnySegmenter::Ts(Box::new(TsSegmenter::new(config.live, gop, before))),
            },
            published: HashMap::new(),
        };
        let mut watched = clock::now();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = work.ready() => work.take(),
                _ = ticks.tick() => {
                    let now = clock::now();
                    if self.sessions.expire(now, config.session_idle) > 0 {
                        watched = now;
                    }
                    let linger = if work.cursor.is_some() && config.always { Duration::MAX } else { config.idle };
                    if now.saturating_duration_since(watched) >= linger {
                        return;
                    }
                }
            }
        }
    }
}

/// The first part with media from `sent` on, and where the next one is; `None` within when the segment has no more, and
/// outside when that is not known yet.
fn part_of(view: &View, msn: u64, sent: usize) -> Option<Option<(Bytes, usize)>> {
    let complete = view.segment(msn);
    let open = view.open.as_ref().filter(|open| open.msn == msn);
    let Some(segment) = complete.or(open) else {
        let comes = view.next_msn <= msn && !view.ended;
        return if comes { None } else { Some(None) };
    };
    let mut parts = segment.parts.iter().enumerate().skip(sent);
    match parts.find(|(_, part)| !part.is_gap()) {
        Some((at, part)) => Some(Some((part.bytes.clone(), at.saturating_add(1)))),
        None if complete.is_some() || view.ended => Some(None),
        None => None,
    }
}

/// True once a rendition can be played from.
fn is_ready(playlist: &Arc<MediaPlaylist>) -> Option<()> {
    let view = playlist.view();
    (!view.listed().is_empty() || view.ended).then_some(())
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    muxer: Arc<Muxer>,
    key: (TrackId, IpAddr),
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.muxer.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(&self.key);
            }
        }
        self.muxer.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What makes the segments.
enum AnySegmenter {
    Cmaf(Box<Segmenter>),
    Ts(Box<TsSegmenter>),
}

impl AnySegmenter {
    fn set_tracks(&mut self, tracks: &TrackSet) {
        match self {
            Self::Cmaf(segmenter) => segmenter.set_tracks(tracks),
            Self::Ts(segmenter) => segmenter.set_tracks(tracks),
        }
    }

    fn push(&mut self, wall: SystemTime, frame: &MediaFrame) {
        match self {
            Self::Cmaf(segmenter) => segmenter.push(wall, frame),
            Self::Ts(segmenter) => segmenter.push(wall, frame),
        }
    }

    fn end(&mut self) {
        match self {
            Self::Cmaf(segmenter) => segmenter.end(),
            Self::Ts(segmenter) => segmenter.end(),
        }
    }

    fn versions(&self) -> Vec<(TrackId, u64)> {
        match self {
            Self::Cmaf(segmenter) => segmenter.versions().collect(),
            Self::Ts(segmenter) => segmenter.versions().collect(),
        }
    }

    fn view(&self, track: TrackId) -> Option<View> {
        match self {
            Self::Cmaf(segmenter) => segmenter.view(track),
            Self::Ts(segmenter) => segmenter.view(track),
        }
    }

    fn continuation(&self) -> Continuation {
        match self {
            Self::Cmaf(segmenter) => segmenter.continuation(),
            Self::Ts(segmenter) => segmenter.continuation(),
        }
    }
}

/// What the task of a muxer works with.
struct Work<'a> {
    muxer: &'a Muxer,
    /// `None` once the stream has ended.
    cursor: Option<Cursor<MediaFrame>>,
    segmenter: AnySegmenter,
    published: HashMap<TrackId, u64>,
}

impl Work<'_> {
    async fn ready(&mut self) {
        match &mut self.cursor {
            Some(cursor) => poll_fn(|cx| cursor.poll_ready(cx)).await,
            None => std::future::pending().await,
        }
    }

    /// Takes what is in the log, and publishes what that made.
    fn take(&mut self) {
        let Some(mut cursor) = self.cursor.take() else { return };
        let (wall, newest) = (SystemTime::now(), self.muxer.feed.log().last().map(|last| last.dts));
        let read = cursor.read(clock::now(), BATCH, |read| match read {
            Read::Context(tracks) => self.segmenter.set_tracks(&tracks),
            Read::Item(frame) => {
                // What was logged before this task looked arrived earlier.
                let behind = newest.map_or(TimeDelta::ZERO, |newest| newest - frame.dts);
                self.segmenter.push(wall.checked_sub(behind.to_duration()).unwrap_or(wall), &frame);
            }
            // The times of the frames tell what is missing.
            Read::Skipped(_) => {}
        });
        if matches!(read, Ok(Progress::Ended(_)) | Err(_)) {
            self.segmenter.end();
        } else {
            self.cursor = Some(cursor);
        }
        self.publish();
    }

    fn publish(&mut self) {
        let changed: Vec<(TrackId, u64)> = self
            .segmenter
            .versions()
            .into_iter()
            .filter(|(track, version)| *version > 0 && self.published.get(track) != Some(version))
            .collect();
        for (track, version) in changed {
            self.published.insert(track, version);
            if let Some(view) = self.segmenter.view(track) {
                self.publish_view(track, Arc::new(view));
            }
        }
        *self.muxer.continuation.lock() = self.segmenter.continuation();
    }

    fn publish_view(&self, track: TrackId, view: Arc<View>) {
        let Some(kind) = view.newest_init().map(|init| init.track.kind()) else { return };
        let playlist = Arc::new(MediaPlaylist::new(kind, self.muxer.run, view));
        self.muxer.counters.versions.fetch_add(1, Ordering::Relaxed);
        match self.muxer.lane(track) {
            Some(lane) => drop(lane.playlist.send_replace(playlist)),
            None => self.muxer.lanes.send_modify(|lanes| {
                lanes.push(Arc::new(Lane { track, kind, playlist: watch::Sender::new(playlist) }));
            }),
        }
    }
}

/// A number for what nobody has used.
pub(super) fn new_run() -> Run {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or_default();
    let last =
        LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last.saturating_add(1))));
    Run(last.map_or(now, |last| now.max(last.saturating_add(1))))
}
