//! HLS on the types of the `http` and `http-body` crates, to mount in axum, hyper or anything else that speaks them.
//!
//! | request, below the stream's name | answer |
//! |---|---|
//! | `index.m3u8` | the multivariant playlist, once there is a complete segment |
//! | `video0.m3u8`, `audio1.m3u8` | a media playlist; `_HLS_msn`, `_HLS_part` wait for what they name, `_HLS_skip` leaves out what is known |
//! | `…_part170.m4s` | a part; the one that is hinted at is waited for |
//! | `…_seg17.m4s`, `…_init0.m4s` | a segment, an initialisation segment; the segment that is being made comes as it is made |
//! | `index.m3u8?container=ts`, `video0_ts.m3u8`, `…_seg17.ts` | the same for players that know no CMAF, in MPEG-TS |
//! | `…_seg16.m4s.key`, `…_seg16.ts.key` | a key, where segments are encrypted |
//! | `manifest.mpd` | the same stream for DASH and LL-DASH; not where segments are encrypted, which it has no word for |
//!
//! `GET` and `HEAD`; ranges of media; playlists compressed for those who take that. Errors are `application/problem+json`
//! (RFC 9457): 400 for directives that cannot be followed, 404, 429 for an address of which too many requests wait, 503 for
//! what did not come within three target durations, and what the engine refuses.
//!
//! A stream is muxed from the first request on, from what its log holds, so that who comes late has segments at once; and
//! until nobody has asked for [`Config::idle`]; for MPEG-TS by itself, from the first request for that on. Clients are readers of the stream: each is known by its address, its
//! program and its credentials, for there are no cookies, and is authenticated once. Credentials in the query of a
//! playlist's URL are put behind the URIs in it.
//!
//! Every version of a playlist is rendered at most once in full and once as a delta, compressed at most once, and shared
//! by everybody (`tests.rs`); whoever waits for a version is woken with the others.
//!
//! What stays with whoever mounts it: routing ([`File::split`] takes paths apart), CORS, and the deadlines of sockets.

mod body;
mod muxer;
mod refusals;
mod response;
mod session;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arcly_core::subscriber::ReaderState;
use arcly_core::{
    IngestContext, PlayRequest, PlaybackRegistry, Stream, StreamKey, Subscription, TrackId, TrackKind,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

pub use body::HlsBody;

use muxer::{Lane, Muxer, new_run};
use refusals::{Refusal, bad_directives, not_in_dash, not_in_ts, nothing, sent_away, too_late, too_many};
use response::{Wishes, problem};
use session::ClientKey;

use super::{Directives, File, MediaPlaylist, Run, multivariant, ts_multivariant};
use crate::dash::Manifest;
use crate::live::{self, Container, TsSegmenter, View};

/// Streams that were muxed before and whose numbers are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// A request waits for so many target durations at most.
const PATIENCE: u32 = 3;
/// Before there is a target duration.
const FIRST_PATIENCE: Duration = Duration::from_secs(12);

/// How streams are muxed, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How streams are cut, and how much of them is kept.
    pub live: live::Config,
    /// How long a stream is muxed that nobody watches.
    pub idle: Duration,
    /// Muxers that were started run for as long as their stream, whether anybody watches or not.
    pub always: bool,
    /// After how long without a request a client is gone.
    pub session_idle: Duration,
    /// Requests of one address that may wait for one rendition.
    pub max_waiting: usize,
}

impl Default for Config {
    /// [`live::Config::default`]; 60 s, not always, 20 s, 64.
    fn default() -> Self {
        Self {
            live: live::Config::default(),
            idle: Duration::from_secs(60),
            always: false,
            session_idle: Duration::from_secs(20),
            max_waiting: 64,
        }
    }
}

/// What muxing costs at the moment, and has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that are muxed.
    pub streams: usize,
    /// Clients.
    pub sessions: usize,
    /// Bytes of media held.
    pub bytes: usize,
    /// Requests that wait.
    pub waiting: u64,
    /// Versions of playlists so far.
    pub versions: u64,
    /// Playlists rendered so far, in full and as deltas: at most two for each version.
    pub rendered: u64,
    /// Requests for media playlists so far.
    pub playlist_requests: u64,
}

#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicU64,
    versions: AtomicU64,
    rendered: AtomicU64,
    playlist_requests: AtomicU64,
}

/// Serves streams over HLS. Cheap to clone; what it muxes ends with the last clone.
#[derive(Clone)]
pub struct Hls {
    shared: Arc<Shared>,
}

impl core::fmt::Debug for Hls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hls").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

struct Shared {
    playback: Arc<dyn PlaybackRegistry>,
    config: Config,
    muxers: Mutex<HashMap<Name, Entry>>,
    /// Where the numbers of streams go on that are muxed no more.
    remembered: Mutex<HashMap<Name, live::Continuation>>,
    counters: Arc<Counters>,
}

/// What is muxed: a stream, into what.
type Name = (StreamKey, Container);

/// A muxer and its task, which ends with the entry.
struct Entry {
    muxer: Arc<Muxer>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a request is about, once it is known who asks.
struct Asked {
    muxer: Arc<Muxer>,
    reader: Arc<ReaderState>,
    address: IpAddr,
    wishes: Wishes,
    directives: Directives,
}

impl Hls {
    /// A server of an engine's streams, given the engine's [`context`](arcly_core::Engine::context).
    #[must_use]
    pub fn new(context: &IngestContext, config: Config) -> Self {
        let shared = Shared {
            playback: Arc::clone(&context.playback),
            config,
            muxers: Mutex::default(),
            remembered: Mutex::default(),
            counters: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Muxes a stream although nobody has asked for it yet. Must be called within a tokio runtime.
    pub fn start(&self, stream: &Arc<Stream>) {
        self.muxer(stream, Container::Cmaf);
    }

    /// What muxing costs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let muxers: Vec<_> =
            self.shared.muxers.lock().values().map(|entry| Arc::clone(&entry.muxer)).collect();
        Stats {
            streams: muxers.len(),
            sessions: muxers.iter().map(|muxer| muxer.sessions.len()).sum(),
            bytes: muxers.iter().map(|muxer| muxer.bytes()).sum(),
            waiting: counters.waiting.load(Ordering::Relaxed),
            versions: counters.versions.load(Ordering::Relaxed),
            rendered: counters.rendered.load(Ordering::Relaxed),
            playlist_requests: counters.playlist_requests.load(Ordering::Relaxed),
        }
    }

    /// Answers a request for a file of the stream that `request` asks for; the query is in its credentials.
    ///
    /// Cancel safe: a dropped call leaves nothing behind.
    pub async fn handle(
        &self,
        request: PlayRequest,
        file: File,
        method: &Method,
        headers: &HeaderMap,
    ) -> Response<HlsBody> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "HLS is read with GET", None);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let query = request.credentials.as_ref().and_then(|shown| shown.query.clone());
        let file = file.in_container(query.as_deref());
        let directives = match Directives::from_query(query.as_deref()) {
            Ok(directives) => directives,
            Err(error) => return bad_directives(error),
        };
        let client = ClientKey::of(&request);
        let address = request.client.remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip());
        let wishes = Wishes::new(method, headers, client.has_credentials(), client.query().to_owned());
        let (muxer, reader) = match self.admit(request, &client, file).await {
            Ok(admitted) => admitted,
            Err(refusal) => return *refusal,
        };
        let busy = Busy::new(&muxer, client);
        let asked = Asked { muxer, reader: Arc::clone(&reader), address, wishes, directives };
        let response = self.answer(asked, file).await;
        drop(busy);
        reader.count_served(u64::from(response.status().is_success()), response.body().len());
        response
    }

    /// Who asks, and the stream: a client that is known, or one that may come in.
    async fn admit(
        &self,
        request: PlayRequest,
        client: &ClientKey,
        file: File,
    ) -> Result<(Arc<Muxer>, Arc<ReaderState>), Refusal> {
        let container = file.container();
        let name = (request.key.clone(), container);
        let known = self.shared.muxers.lock().get(&name).map(|entry| Arc::clone(&entry.muxer));
        if let Some(muxer) = known
            && let Some(found) = muxer.sessions.find(client)
        {
            let ended = muxer.stream.log().closed().is_some();
            let returned =
                if ended { self.subscribe(request, Some(Duration::ZERO)).await.ok() } else { None };
            match (found, returned) {
                (_, Some(subscription)) => return self.enter(client, subscription, container),
                (Ok(reader), None) => return Ok((muxer, reader)),
                (Err(reason), None) => return Err(sent_away(reason)),
            }
        }
        // Only who asks for a playlist can be before the stream.
        let begins = match file {
            File::Multivariant
            | File::TsMultivariant
            | File::Manifest
            | File::Media(..)
            | File::TsMedia(..) => true,
            File::Init(..) | File::Segment(..) | File::Part(..) | File::TsSegment(..) | File::Key(..) => {
                false
            }
        };
        let wait = if begins { None } else { Some(Duration::ZERO) };
        self.enter(client, self.subscribe(request, wait).await?, container)
    }

    async fn subscribe(
        &self,
        mut request: PlayRequest,
        wait: Option<Duration>,
    ) -> Result<Subscription, Refusal> {
        request.wait = wait.or(request.wait);
        self.shared.playback.subscribe(request).await.map_err(|error| Box::new(response::refused(&error)))
    }

    fn enter(
        &self,
        client: &ClientKey,
        subscription: Subscription,
        container: Container,
    ) -> Result<(Arc<Muxer>, Arc<ReaderState>), Refusal> {
        let tracks = subscription.stream().tracks();
        if container == Container::Ts && !tracks.is_empty() && !TsSegmenter::can_carry(&tracks) {
            return Err(Box::new(not_in_ts()));
        }
        let muxer = self.muxer(subscription.stream(), container);
        let reader = muxer.sessions.enter(client.clone(), subscription);
        Ok((muxer, reader))
    }

    /// The muxer of a stream, started if there is none. That of an earlier stream of the name makes place, and its
    /// numbers go on.
    fn muxer(&self, stream: &Arc<Stream>, container: Container) -> Arc<Muxer> {
        let mut muxers = self.shared.muxers.lock();
        let name = (stream.key().clone(), container);
        let before = match muxers.get(&name) {
            Some(entry) if Arc::ptr_eq(&entry.muxer.stream, stream) => return Arc::clone(&entry.muxer),
            Some(entry) => Some(entry.muxer.continuation()),
            None => self.shared.remembered.lock().remove(&name),
        };
        let counters = Arc::clone(&self.shared.counters);
        let muxer = Muxer::new(Arc::clone(stream), container, new_run(), counters, before);
        let muxer = Arc::new(muxer);
        let task = tokio::spawn(drive(Arc::downgrade(&self.shared), Arc::clone(&muxer), before));
        let entry = Entry { muxer: Arc::clone(&muxer), task: task.abort_handle() };
        let replaced = muxers.insert(name, entry);
        drop(muxers);
        drop(replaced);
        muxer
    }

    async fn answer(&self, asked: Asked, file: File) -> Response<HlsBody> {
        match file {
            File::Multivariant | File::TsMultivariant => self.multivariant(&asked).await,
            File::Media(kind, track) | File::TsMedia(kind, track) => {
                self.media_playlist(&asked, kind, track).await
            }
            File::Init(_, track, run, number) => {
                let found = find_init(&asked, track, run, number).await;
                found
                    .map_or_else(nothing, |bytes| asked.wishes.media(HlsBody::new([bytes]), media_type(file)))
            }
            File::Key(_, _, track, run, number) => asked.key(track, run, number),
            File::Manifest if self.shared.config.live.encryption.is_some() => not_in_dash(),
            File::Manifest => self.manifest(&asked).await,
            File::Segment(_, track, run, number) | File::TsSegment(_, track, run, number) => {
                match asked.lane(track, run) {
                    Some(lane) => self.segment(&asked, &lane, number, media_type(file)).await,
                    None => nothing(),
                }
            }
            File::Part(_, track, run, number) => match asked.lane(track, run) {
                Some(lane) => self.part(&asked, &lane, number, media_type(file)).await,
                None => nothing(),
            },
        }
    }

    async fn multivariant(&self, asked: &Asked) -> Response<HlsBody> {
        let renditions = tokio::time::timeout(FIRST_PATIENCE, asked.muxer.wait_for_renditions()).await;
        match renditions {
            Ok(renditions) if !renditions.is_empty() => {
                let text = match asked.muxer.container {
                    Container::Cmaf => multivariant(&renditions),
                    Container::Ts => ts_multivariant(&renditions),
                };
                asked.wishes.playlist(&text, Duration::ZERO)
            }
            Ok(_) => nothing(),
            Err(_) => too_late(),
        }
    }

    async fn manifest(&self, asked: &Asked) -> Response<HlsBody> {
        let renditions = tokio::time::timeout(FIRST_PATIENCE, asked.muxer.wait_for_renditions()).await;
        let Ok(renditions) = renditions else { return too_late() };
        let views: Vec<Arc<View>> = renditions.into_iter().map(|one| one.view).collect();
        let Some(epoch) = asked.muxer.epoch(&views) else { return nothing() };
        let (now, run) = (SystemTime::now(), asked.muxer.run.0);
        let manifest = Manifest { views: &views, epoch, now, run, query: asked.wishes.query() };
        asked.wishes.manifest(manifest.render())
    }

    /// A segment that is complete; the one that is being made, or the one to come, as it is made.
    async fn segment(
        &self,
        asked: &Asked,
        lane: &Arc<Lane>,
        number: u64,
        media_type: &'static str,
    ) -> Response<HlsBody> {
        if let Some(segment) = lane.playlist().view().segment(number) {
            if segment.is_gap() {
                return nothing();
            }
            let parts = segment.parts.iter().map(|part| part.bytes.clone());
            return asked.wishes.media(HlsBody::new(parts), media_type);
        }
        let begun = |playlist: &Arc<MediaPlaylist>| {
            let view = playlist.view();
            if !view.low_latency {
                return Some(false);
            }
            let has_part = |open: &Arc<live::Segment>| open.msn == number && !open.parts.is_empty();
            match view.segment(number).is_some() || view.open.as_ref().is_some_and(has_part) {
                true => Some(true),
                // The one that is about to begin, and the next: no manifest promises later ones.
                false => {
                    let comes = view.next_msn..=view.next_msn.saturating_add(1);
                    (view.ended || !comes.contains(&number)).then_some(false)
                }
            }
        };
        match self.wait(asked, lane, begun).await {
            Ok(true) => {
                let parts = lane.parts(number, Arc::clone(&asked.reader));
                asked.wishes.growing(HlsBody::growing(parts), media_type)
            }
            Ok(false) => nothing(),
            Err(refusal) => *refusal,
        }
    }

    async fn media_playlist(&self, asked: &Asked, kind: TrackKind, track: TrackId) -> Response<HlsBody> {
        self.shared.counters.playlist_requests.fetch_add(1, Ordering::Relaxed);
        let lane = match asked.muxer.lane(track) {
            Some(lane) => lane,
            None if asked.muxer.stream.tracks().get(track).is_none() => return nothing(),
            None => match tokio::time::timeout(FIRST_PATIENCE, asked.muxer.wait_for_lane(track)).await {
                Ok(Some(lane)) => lane,
                _ => return too_late(),
            },
        };
        if lane.kind != kind {
            return nothing();
        }
        let directives = asked.directives;
        let is_met = |playlist: &Arc<MediaPlaylist>| match directives.is_met(playlist.view()) {
            Ok(true) => Some(Ok(Arc::clone(playlist))),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        match self.wait(asked, &lane, is_met).await {
            Ok(Ok(playlist)) => self.render(asked, &playlist),
            Ok(Err(error)) => bad_directives(error),
            Err(refusal) => *refusal,
        }
    }

    fn render(&self, asked: &Asked, playlist: &MediaPlaylist) -> Response<HlsBody> {
        let rendered = || {
            self.shared.counters.rendered.fetch_add(1, Ordering::Relaxed);
            asked.muxer.reports()
        };
        let delta = asked.directives.skip;
        let text = if delta { playlist.delta(rendered) } else { playlist.full(rendered) };
        let plan = playlist.view().plan;
        // What a blocking request names never changes but for the end of the list (Apple's table of caching times).
        let fresh =
            if asked.directives.msn.is_some() { plan.skip_boundary().to_duration() } else { Duration::ZERO };
        asked.wishes.playlist(text, fresh)
    }

    async fn part(
        &self,
        asked: &Asked,
        lane: &Lane,
        number: u64,
        media_type: &'static str,
    ) -> Response<HlsBody> {
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
        match self.wait(asked, lane, find).await {
            Ok(Some(bytes)) if !bytes.is_empty() => asked.wishes.media(HlsBody::new([bytes]), media_type),
            Ok(_) => nothing(),
            Err(refusal) => *refusal,
        }
    }

    /// Waits until `is_met` says something of a version, for three target durations.
    async fn wait<T>(
        &self,
        asked: &Asked,
        lane: &Lane,
        mut is_met: impl FnMut(&Arc<MediaPlaylist>) -> Option<T>,
    ) -> Result<T, Refusal> {
        let playlist = lane.playlist();
        if let Some(met) = is_met(&playlist) {
            return Ok(met);
        }
        let max = self.shared.config.max_waiting;
        let Some(_waiter) = asked.muxer.begin_to_wait(lane.track, asked.address, max) else {
            return Err(too_many());
        };
        let patience = playlist.view().plan.target.to_duration().saturating_mul(PATIENCE);
        match tokio::time::timeout(patience, lane.wait(is_met)).await {
            Ok(Some(met)) => Ok(met),
            Ok(None) => Err(Box::new(nothing())),
            Err(_) => Err(Box::new(too_late())),
        }
    }
}

impl Asked {
    /// The rendition of a track, if the media of that run are still there.
    fn lane(&self, track: TrackId, run: Run) -> Option<Arc<Lane>> {
        self.muxer.lane(track).filter(|_| run == self.muxer.run)
    }

    /// A key, for those who may have what it is of.
    fn key(&self, track: TrackId, run: Run, number: u64) -> Response<HlsBody> {
        let lane = self.lane(track, run);
        let key = lane.and_then(|lane| lane.playlist().view().key(number).map(Arc::clone));
        key.map_or_else(nothing, |key| self.wishes.key(bytes::Bytes::copy_from_slice(key.bytes())))
    }
}

/// An initialisation segment, and the one that is hinted at before it is needed.
async fn find_init(asked: &Asked, track: TrackId, run: Run, number: u64) -> Option<bytes::Bytes> {
    let lane = asked.lane(track, run)?;
    let init = lane.playlist().view().init(number).map(|init| init.bytes.clone());
    init.filter(|bytes| !bytes.is_empty())
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

/// Runs a muxer, and takes it out of the list when it is done.
async fn drive(shared: Weak<Shared>, muxer: Arc<Muxer>, before: Option<live::Continuation>) {
    let Some(config) = shared.upgrade().map(|shared| shared.config) else { return };
    muxer.run(&config, before).await;
    let Some(shared) = shared.upgrade() else { return };
    let name = (muxer.stream.key().clone(), muxer.container);
    let mut muxers = shared.muxers.lock();
    let is_listed = muxers.get(&name).is_some_and(|entry| Arc::ptr_eq(&entry.muxer, &muxer));
    let entry = if is_listed { muxers.remove(&name) } else { None };
    drop(muxers);
    if entry.is_some() {
        let mut remembered = shared.remembered.lock();
        if remembered.len() < MAX_REMEMBERED {
            remembered.insert(name, muxer.continuation());
        }
    }
}

/// A request of a client that is being answered.
struct Busy {
    muxer: Arc<Muxer>,
    client: ClientKey,
}

impl Busy {
    fn new(muxer: &Arc<Muxer>, client: ClientKey) -> Self {
        muxer.sessions.set_busy(&client, true);
        Self { muxer: Arc::clone(muxer), client }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.muxer.sessions.set_busy(&self.client, false);
    }
}

#[cfg(test)]
mod tests;
