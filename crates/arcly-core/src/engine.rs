//! The engine: every stream, and the two doors to them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::app::AppSpec;
use crate::clock;
use crate::close::CloseReason;
use crate::contract::audit::{AuditAction, AuditRecord, AuditSink, NoAudit};
use crate::contract::auth::{Action, AllowAll, AuthRequest, Credentials, Grant, StreamAuthenticator};
use crate::contract::observe::{EngineEvent, EventReceiver, Observer};
use crate::contract::transcode::Transcoder;
use crate::error::{Result, StreamError};
use crate::events::Events;
use crate::key::StreamKey;
use crate::publisher::{Publisher, PublisherState};
use crate::registry::{
    ClientInfo, IngestContext, OnDemand, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest,
};
use crate::rendition::{self, TranscodeUsage, Workshop};
use crate::stream::{Stream, StreamInfo, StreamState, Upkeep};
use crate::subscriber::{ReaderState, Subscription};
use crate::track::TrackSet;
use crate::via::{Hop, Via};

/// How often streams are looked after.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Streams of one engine, unless the builder says otherwise.
pub const MAX_STREAMS: usize = 10_000;

/// Builds an [`Engine`].
#[must_use = "nothing happens before `build`"]
pub struct EngineBuilder {
    apps: HashMap<Arc<str>, Arc<AppSpec>>,
    default_app: Option<AppSpec>,
    authenticator: Arc<dyn StreamAuthenticator>,
    observers: Vec<Arc<dyn Observer>>,
    audit: Arc<dyn AuditSink>,
    on_demand: Option<Arc<dyn OnDemand>>,
    transcoder: Option<Arc<dyn Transcoder>>,
    linger: Duration,
    max_streams: usize,
}

impl core::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EngineBuilder").field("apps", &self.apps).finish_non_exhaustive()
    }
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            apps: HashMap::new(),
            default_app: Some(AppSpec::new("")),
            authenticator: Arc::new(AllowAll),
            observers: Vec::new(),
            audit: Arc::new(NoAudit),
            on_demand: None,
            transcoder: None,
            linger: rendition::LINGER,
            max_streams: MAX_STREAMS,
        }
    }
}

impl EngineBuilder {
    /// Adds an application with its own policy.
    pub fn app(mut self, app: AppSpec) -> Self {
        self.apps.insert(Arc::clone(&app.name), Arc::new(app));
        self
    }

    /// The policy of applications that were not added; its name does not matter. The default allows them with the
    /// default policy.
    pub fn default_app(mut self, app: AppSpec) -> Self {
        self.default_app = Some(app);
        self
    }

    /// Refuses applications that were not added.
    pub fn only_listed_apps(mut self) -> Self {
        self.default_app = None;
        self
    }

    /// Asks this authenticator before anybody from the network may publish or play. The default lets everybody.
    pub fn authenticator(mut self, authenticator: Arc<dyn StreamAuthenticator>) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// Tells this observer what happens.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Keeps a record of every decision about somebody from the network.
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = sink;
        self
    }

    /// Asks this hook for streams that readers wait for.
    pub fn on_demand(mut self, hook: Arc<dyn OnDemand>) -> Self {
        self.on_demand = Some(hook);
        self
    }

    /// Makes [renditions](crate::rendition) with this transcoder, for readers that cannot take a stream's sound. The
    /// default makes none.
    pub fn transcoder(mut self, transcoder: Arc<dyn Transcoder>) -> Self {
        self.transcoder = Some(transcoder);
        self
    }

    /// Keeps renditions that long that nobody reads. Default: [`LINGER`](crate::rendition::LINGER).
    pub const fn rendition_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Bounds the streams that may exist at once. Default: [`MAX_STREAMS`].
    pub const fn max_streams(mut self, max: usize) -> Self {
        self.max_streams = max;
        self
    }

    /// The engine. Inside a tokio runtime its upkeep (grace periods, idle streams, expired permissions) runs as a
    /// task that ends with the engine; elsewhere call [`Engine::maintain`] twice a second.
    #[must_use]
    pub fn build(self) -> Arc<Engine> {
        let policies =
            Policies { apps: self.apps, default_app: self.default_app, max_streams: self.max_streams };
        let engine = Arc::new(Engine {
            policies: ArcSwap::from_pointee(policies),
            authenticator: self.authenticator,
            audit: self.audit,
            on_demand: self.on_demand,
            workshop: Workshop::new(self.transcoder, self.linger),
            streams: RwLock::default(),
            next_id: AtomicU64::new(1),
            hops: RandomState::new(),
            events: Arc::new(Events::new(self.observers)),
            draining: CancellationToken::new(),
            dropped: CancellationToken::new(),
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(upkeep(Arc::downgrade(&engine), engine.dropped.clone()));
        }
        engine
    }
}

async fn upkeep(engine: Weak<Engine>, dropped: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = dropped.cancelled() => return,
        }
        let Some(engine) = engine.upgrade() else { return };
        engine.maintain(clock::now(), SystemTime::now());
    }
}

/// What an engine holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineUsage {
    /// Streams.
    pub streams: usize,
    /// Readers of them.
    pub readers: usize,
    /// Bytes in their logs.
    pub log_bytes: u64,
    /// Bytes in what formats have made of them.
    pub format_bytes: u64,
}

/// Every stream of a process, or of a part of one: engines share nothing.
///
/// The two doors are [`PublishRegistry`] and [`PlaybackRegistry`]; protocols know only those.
pub struct Engine {
    policies: ArcSwap<Policies>,
    authenticator: Arc<dyn StreamAuthenticator>,
    audit: Arc<dyn AuditSink>,
    on_demand: Option<Arc<dyn OnDemand>>,
    workshop: Arc<Workshop>,
    streams: RwLock<HashMap<StreamKey, Arc<Stream>>>,
    next_id: AtomicU64,
    /// Makes numbers of streams that no other engine makes.
    hops: RandomState,
    events: Arc<Events>,
    draining: CancellationToken,
    dropped: CancellationToken,
}

/// What holds for streams from their beginning to their end.
struct Policies {
    apps: HashMap<Arc<str>, Arc<AppSpec>>,
    default_app: Option<AppSpec>,
    max_streams: usize,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("streams", &self.streams.read().len()).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.dropped.cancel();
        for stream in self.streams.get_mut().values() {
            stream.end(CloseReason::Shutdown);
        }
    }
}

impl Engine {
    /// Begins to build an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The stream of that name, if there is one.
    #[must_use]
    pub fn stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.streams.read().get(key).cloned()
    }

    /// Every stream, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = self.streams.read().values().cloned().collect();
        streams.sort_by(|a, b| a.key().cmp(b.key()));
        streams
    }

    /// A picture of every stream, by name.
    #[must_use]
    pub fn infos(&self) -> Vec<StreamInfo> {
        self.streams().iter().map(|stream| stream.info()).collect()
    }

    /// What it holds at the moment.
    #[must_use]
    pub fn usage(&self) -> EngineUsage {
        self.streams().iter().map(|stream| stream.info()).fold(EngineUsage::default(), |sum, info| {
            EngineUsage {
                streams: sum.streams + 1,
                readers: sum.readers + info.readers,
                log_bytes: sum.log_bytes
                    + info.log.bytes
                    + info.renditions.iter().map(|rendition| rendition.log.bytes).sum::<u64>(),
                format_bytes: sum.format_bytes + info.format_bytes,
            }
        })
    }

    /// What renditions cost at the moment, and have cost.
    #[must_use]
    pub fn transcoding(&self) -> TranscodeUsage {
        self.workshop.usage()
    }

    /// The reader of that number, if there is one.
    #[must_use]
    pub fn reader(&self, id: u64) -> Option<Arc<ReaderState>> {
        self.streams().iter().flat_map(|stream| stream.readers()).find(|reader| reader.id == id)
    }

    /// A receiver of everything that happens from now on.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        self.events.subscribe()
    }

    /// What a protocol server needs of this engine. The server stops when `shutdown` fires.
    #[must_use]
    pub fn context(self: &Arc<Self>, shutdown: CancellationToken) -> IngestContext {
        IngestContext {
            publish: Arc::<Self>::clone(self),
            playback: Arc::<Self>::clone(self),
            observer: Arc::clone(&self.events) as Arc<dyn Observer>,
            shutdown,
        }
    }

    /// Decides whether somebody may do something; `None` for credentials is code inside this process, which may. The
    /// decision goes to the audit sink.
    ///
    /// # Errors
    /// [`StreamError::Refused`] with the authenticator's reason.
    pub async fn authenticate(
        &self,
        action: Action,
        key: &StreamKey,
        client: &ClientInfo,
        credentials: Option<Credentials>,
    ) -> Result<Grant> {
        let Some(credentials) = credentials else { return Ok(Grant::default()) };
        let request = AuthRequest::new(action, key.clone(), credentials);
        let answer = self.authenticator.authenticate(&request).await;
        let outcome = answer.as_ref().map(drop).map_err(|error| CloseReason::from(*error));
        let subject = answer.as_ref().ok().and_then(|grant| grant.subject.clone());
        let action = AuditAction::Access(action);
        self.audit.record(&AuditRecord::new(client.clone(), action, Some(key.clone()), outcome).by(subject));
        answer.map_err(|error| refused(key, error.into()))
    }

    /// True once [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Refuses new publishers and readers, and ends every stream: readers get what is in the log and then
    /// [`CloseReason::Shutdown`], publishers are revoked with it. Protocols say their good-byes on that.
    pub fn drain(&self) {
        self.draining.cancel();
        for stream in self.streams() {
            stream.end(CloseReason::Shutdown);
        }
    }

    /// Looks after every stream: ends those whose grace period is over, forgets those nobody needs, and ends
    /// whoever's permission has expired.
    pub fn maintain(&self, now: Instant, wall: SystemTime) {
        let over: Vec<_> = self
            .streams()
            .into_iter()
            .filter(|stream| stream.maintain(now, wall) == Upkeep::Remove)
            .collect();
        if over.is_empty() {
            return;
        }
        let mut streams = self.streams.write();
        for stream in over {
            if streams.get(stream.key()).is_some_and(|there| Arc::ptr_eq(there, &stream)) {
                streams.remove(stream.key());
            }
        }
    }

    /// Replaces the applications, the policy of those that are not listed (`None` refuses them) and the bound on streams,
    /// for streams that begin from now on. Streams that are there keep what they began with, and more of them than the
    /// bound are not ended.
    pub fn set_policies(
        &self,
        apps: impl IntoIterator<Item = AppSpec>,
        default_app: Option<AppSpec>,
        max_streams: usize,
    ) {
        let apps = apps.into_iter().map(|app| (Arc::clone(&app.name), Arc::new(app))).collect();
        self.policies.store(Arc::new(Policies { apps, default_app, max_streams }));
    }

    fn app(&self, key: &StreamKey) -> Result<Arc<AppSpec>> {
        let policies = self.policies.load();
        if let Some(app) = policies.apps.get(key.app()) {
            return Ok(Arc::clone(app));
        }
        let app = policies.default_app.clone().ok_or_else(|| refused(key, CloseReason::Forbidden))?;
        Ok(Arc::new(AppSpec { name: key.app().into(), ..app }))
    }

    /// The stream of that name, made if it is not there or has ended.
    fn stream_or_new(&self, key: &StreamKey) -> Result<Arc<Stream>> {
        if let Some(stream) = self.stream(key).filter(|stream| stream.log().closed().is_none()) {
            return Ok(stream);
        }
        let app = self.app(key)?;
        let mut streams = self.streams.write();
        if let Some(stream) = streams.get(key).filter(|stream| stream.log().closed().is_none()) {
            return Ok(Arc::clone(stream));
        }
        if streams.len() >= self.policies.load().max_streams && !streams.contains_key(key) {
            return Err(refused(key, CloseReason::Limit("streams")));
        }
        let hop = Hop::new(self.hops.hash_one(self.next_id()));
        let (events, workshop) = (Arc::clone(&self.events), Arc::clone(&self.workshop));
        let stream = Stream::new(key.clone(), hop, app, events, workshop);
        streams.insert(key.clone(), Arc::clone(&stream));
        Ok(stream)
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn admit(&self, key: &StreamKey, state: &Arc<PublisherState>) -> Result<Publisher> {
        loop {
            if self.is_draining() {
                return Err(refused(key, CloseReason::Shutdown));
            }
            let stream = self.stream_or_new(key)?;
            let id = self.next_id();
            match stream.admit(id, Arc::clone(state)) {
                Ok(()) => return Ok(Publisher::new(stream, id, Arc::clone(state))),
                // It ended between the look and the lock: there is a new one next time round.
                Err(_) if stream.log().closed().is_some() => {}
                Err(reason) => return Err(refused(key, reason)),
            }
        }
    }

    /// The stream that somebody may read, once it is there, and for how long they may.
    async fn find(&self, request: &PlayRequest) -> Result<(Arc<Stream>, Grant)> {
        let PlayRequest { key, client, credentials, wait, via, .. } = request;
        let grant = self.authenticate(Action::Play, key, client, credentials.clone()).await?;
        if self.is_draining() {
            return Err(refused(key, CloseReason::Shutdown));
        }
        let stream = self.wait_for(key, *wait).await?;
        if !via.is_empty() && via.meets(&stream.via()) {
            return Err(refused(key, CloseReason::Conflict));
        }
        Ok((stream, grant))
    }

    /// The stream, once somebody publishes it.
    async fn wait_for(&self, key: &StreamKey, wait: Option<Duration>) -> Result<Arc<Stream>> {
        let is_there = |stream: &Arc<Stream>| stream.is_there();
        if let Some(stream) = self.stream(key).filter(is_there) {
            return Ok(stream);
        }
        let wait = match wait {
            Some(wait) => wait,
            None => self.app(key)?.wait_for_stream.max(self.patience(key)),
        };
        if wait.is_zero() {
            self.want(key);
            return Err(refused(key, CloseReason::NotFound));
        }
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let stream = self.stream_or_new(key)?;
            let mut states = stream.watch();
            // Whoever is asked for it sees that it is watched.
            self.want(key);
            let there = states.wait_for(|_| stream.is_there() || stream.log().closed().is_some());
            tokio::select! {
                _ = there => {}
                () = tokio::time::sleep_until(deadline) => return Err(refused(key, CloseReason::NotFound)),
                () = self.draining.cancelled() => return Err(refused(key, CloseReason::Shutdown)),
            }
            if stream.is_there() {
                return Ok(stream);
            }
        }
    }

    fn patience(&self, key: &StreamKey) -> Duration {
        self.on_demand.as_ref().and_then(|hook| hook.patience(key)).unwrap_or_default()
    }

    fn want(&self, key: &StreamKey) {
        if let Some(hook) = &self.on_demand {
            hook.wanted(key);
        }
    }

    fn announce_reader(&self, stream: &Stream, client: ClientInfo, reader: u64) {
        self.events.emit(EngineEvent::ReaderJoined { key: stream.key().clone(), reader, client });
    }
}

fn refused(key: &StreamKey, reason: CloseReason) -> StreamError {
    StreamError::Refused { key: key.clone(), reason }
}

#[async_trait]
impl PublishRegistry for Engine {
    async fn publish(&self, request: PublishRequest) -> Result<Publisher> {
        let PublishRequest { key, client, credentials, via } = request;
        let grant = self.authenticate(Action::Publish, &key, &client, credentials).await?;
        if via.is_full() {
            return Err(refused(&key, CloseReason::Limit("hops")));
        }
        // Before whoever publishes it has to make room.
        if self.stream(&key).is_some_and(|stream| via.contains(stream.hop())) {
            return Err(refused(&key, CloseReason::Conflict));
        }
        let state = Arc::new(PublisherState::new(client.clone(), grant.expires_at, via));
        let publisher = self.admit(&key, &state)?;
        self.events.emit(EngineEvent::StreamPublished { key, client });
        Ok(publisher)
    }

    fn via(&self, key: &StreamKey) -> Via {
        self.stream(key).map(|stream| stream.via()).unwrap_or_default()
    }
}

#[async_trait]
impl PlaybackRegistry for Engine {
    async fn subscribe(&self, request: PlayRequest) -> Result<Subscription> {
        let (stream, grant) = self.find(&request).await?;
        let PlayRequest { key, client, start, lag, audio, .. } = request;
        let state = Arc::new(ReaderState::new(self.next_id(), key, client.clone(), grant.expires_at));
        stream.add_reader(Arc::clone(&state)).map_err(|reason| refused(stream.key(), reason))?;
        self.announce_reader(&stream, client, state.id);
        if stream.state() != StreamState::Live {
            self.want(stream.key());
        }
        if !stream.log().has_join_point() {
            stream.request_keyframe();
        }
        let place = (start.unwrap_or(stream.app().start), lag.unwrap_or(stream.app().lag));
        let feed = stream.feed_for(audio);
        Ok(Subscription::new(stream, feed, state, place))
    }

    async fn look(&self, request: PlayRequest) -> Result<Arc<TrackSet>> {
        let request = request.wait(Duration::ZERO);
        let (stream, _) = self.find(&request).await?;
        stream.has_room().map_err(|reason| refused(stream.key(), reason))?;
        if stream.state() != StreamState::Live {
            self.want(stream.key());
        }
        Ok(stream.tracks_for(request.audio))
    }
}
