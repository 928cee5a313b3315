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
//! playlist's URL are put behind the URIs in it. A player asks some twenty times a second, mostly on one connection: who
//! remembers its [`Pass`] there need not find out again who it is.
//!
//! Every version of a playlist is rendered at most once in full and once as a delta, compressed at most once, and shared
//! by everybody (`tests.rs`); whoever waits for a version is woken with the others.
//!
//! What stays with whoever mounts it: routing ([`File::split`] takes paths apart), CORS, and the deadlines of sockets.

mod answer;
mod body;
mod muxer;
mod refusals;
mod response;
mod session;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arcly_core::feed::Feed;
use arcly_core::rendition::HLS_AUDIO;
use arcly_core::{IngestContext, PlayRequest, PlaybackRegistry, Stream, StreamKey, Subscription};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

pub use body::HlsBody;

use answer::Asked;
use muxer::{Muxer, new_run};
use refusals::{Refusal, bad_directives, not_in_ts, sent_away};
use response::{Wishes, problem};
use session::{ClientKey, Session};

use super::{Directives, File};
use crate::live::{self, Container, TsSegmenter};

/// Streams that were muxed before and whose numbers are remembered.
const MAX_REMEMBERED: usize = 10_000;

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

/// A client that was let in.
struct Admitted {
    muxer: Arc<Muxer>,
    session: Arc<Session>,
}

impl Admitted {
    fn pass(&self) -> Pass {
        Pass { muxer: Arc::downgrade(&self.muxer), session: Arc::downgrade(&self.session) }
    }

    /// True for a file of what this client was let in to: the other container has another muxer.
    fn may_have(&self, file: File) -> bool {
        self.muxer.container == file.container()
    }
}

/// What a client was let in with, to be shown with its next requests: [`Hls::handle_again`]. Keeps nothing alive. The default
/// one is good for nothing.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    muxer: Weak<Muxer>,
    session: Weak<Session>,
}

impl Pass {
    /// The client, as long as it may read, and the stream goes on.
    fn admitted(&self) -> Option<Admitted> {
        let (muxer, session) = (self.muxer.upgrade()?, self.session.upgrade()?);
        let good = muxer.feed.log().closed().is_none() && session.reader().close_reason().is_none();
        good.then_some(Admitted { muxer, session })
    }
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
        self.muxer((stream, &stream.feed_for(HLS_AUDIO)), Container::Cmaf);
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

    /// Answers a request for a file of the stream that `request` asks for; the query is in its credentials. The answer to a
    /// client that was let in has a [`Pass`] in its extensions.
    ///
    /// Cancel safe: a dropped call leaves nothing behind.
    pub async fn handle(
        &self,
        request: PlayRequest,
        file: File,
        method: &Method,
        headers: &HeaderMap,
    ) -> Response<HlsBody> {
        if !is_reading(method) {
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
        let admitted = match self.admit(request, client, file).await {
            Ok(admitted) => admitted,
            Err(refusal) => return *refusal,
        };
        let mut response = self.serve(&admitted, file, directives, (method, headers)).await;
        response.extensions_mut().insert(admitted.pass());
        response
    }

    /// The same for a further request of a client that has a [`Pass`], at a fraction of the cost. `None` when the pass is good
    /// no more, or not for this file: [`handle`](Self::handle) says why, or lets the client in again.
    ///
    /// It is the caller's to see that the request is of the same client: for the same stream, from the same address, and with
    /// the same `User-Agent`, credentials and query, [directives](Directives::others) aside.
    ///
    /// Cancel safe: a dropped call leaves nothing behind.
    pub async fn handle_again(
        &self,
        pass: &Pass,
        (file, query): (File, Option<&str>),
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Response<HlsBody>> {
        let file = file.in_container(query);
        let admitted = pass.admitted().filter(|admitted| admitted.may_have(file) && is_reading(method))?;
        Some(match Directives::from_query(query) {
            Ok(directives) => self.serve(&admitted, file, directives, (method, headers)).await,
            Err(error) => bad_directives(error),
        })
    }

    async fn serve(
        &self,
        admitted: &Admitted,
        file: File,
        directives: Directives,
        (method, headers): (&Method, &HeaderMap),
    ) -> Response<HlsBody> {
        let Admitted { muxer, session } = admitted;
        let _busy = session.begin();
        let wishes = Wishes::new(method, headers, session.client());
        let response = Asked { shared: &self.shared, muxer, session, wishes, directives }.answer(file).await;
        session.reader().count_served(u64::from(response.status().is_success()), response.body().len());
        response
    }

    /// Who asks, and the stream: a client that is known, or one that may come in.
    async fn admit(&self, request: PlayRequest, client: ClientKey, file: File) -> Result<Admitted, Refusal> {
        let container = file.container();
        let name = (request.key.clone(), container);
        let known = self.shared.muxers.lock().get(&name).map(|entry| Arc::clone(&entry.muxer));
        if let Some(muxer) = known
            && let Some(session) = muxer.sessions.find(&client)
        {
            let ended = muxer.feed.log().closed().is_some();
            let returned =
                if ended { self.subscribe(request, Some(Duration::ZERO)).await.ok() } else { None };
            return match (returned, session.reader().close_reason()) {
                (Some(subscription), _) => self.enter(client, subscription, container),
                (None, None) => Ok(Admitted { muxer, session }),
                (None, Some(reason)) => Err(sent_away(reason)),
            };
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
        // The same for all clients: they share a muxer.
        request.audio = HLS_AUDIO;
        self.shared.playback.subscribe(request).await.map_err(|error| Box::new(response::refused(&error)))
    }

    fn enter(
        &self,
        client: ClientKey,
        subscription: Subscription,
        container: Container,
    ) -> Result<Admitted, Refusal> {
        let tracks = subscription.tracks();
        if container == Container::Ts && !tracks.is_empty() && !TsSegmenter::can_carry(&tracks) {
            return Err(Box::new(not_in_ts()));
        }
        let muxer = self.muxer((subscription.stream(), subscription.feed()), container);
        let session = muxer.sessions.enter(client, subscription);
        Ok(Admitted { muxer, session })
    }

    /// The muxer of what is read of a stream, started if there is none. That of an earlier stream of the name, or of other
    /// sound, makes place, and its numbers go on.
    fn muxer(&self, (stream, feed): (&Arc<Stream>, &Arc<Feed>), container: Container) -> Arc<Muxer> {
        let mut muxers = self.shared.muxers.lock();
        let name = (stream.key().clone(), container);
        let before = match muxers.get(&name) {
            Some(entry) if Arc::ptr_eq(&entry.muxer.feed, feed) => return Arc::clone(&entry.muxer),
            Some(entry) => Some(entry.muxer.continuation()),
            None => self.shared.remembered.lock().remove(&name),
        };
        let counters = Arc::clone(&self.shared.counters);
        let read = (Arc::clone(stream), Arc::clone(feed));
        let muxer = Muxer::new(read, container, new_run(), counters, before);
        let muxer = Arc::new(muxer);
        let task = tokio::spawn(drive(Arc::downgrade(&self.shared), Arc::clone(&muxer), before));
        let entry = Entry { muxer: Arc::clone(&muxer), task: task.abort_handle() };
        let replaced = muxers.insert(name, entry);
        drop(muxers);
        drop(replaced);
        muxer
    }
}

const fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
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

#[cfg(test)]
mod tests;
