//! The two doors of the engine, as protocols see them: publish and subscribe.

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::contract::auth::Credentials;
use crate::contract::observe::Observer;
use crate::error::Result;
use crate::key::StreamKey;
use crate::log::{LagPolicy, StartMode};
use crate::publisher::Publisher;
use crate::rendition::{AudioChoice, audio_from_query};
use crate::subscriber::Subscription;
use crate::track::TrackSet;
use crate::via::Via;

/// Who is at the other end, for the log, the API and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The protocol's short name: `rtmp`, `http-flv`, `relay`, `demo`.
    pub protocol: &'static str,
    /// The peer's address; `None` for something inside this process.
    pub remote: Option<SocketAddr>,
    /// What the peer calls itself (flashVer, User-Agent), as sent; shorten and escape before showing.
    pub agent: Option<Arc<str>>,
}

impl ClientInfo {
    /// A peer on the network.
    #[must_use]
    pub const fn new(protocol: &'static str, remote: SocketAddr) -> Self {
        Self { protocol, remote: Some(remote), agent: None }
    }

    /// Something inside this process.
    #[must_use]
    pub const fn internal(protocol: &'static str) -> Self {
        Self { protocol, remote: None, agent: None }
    }
}

impl fmt::Display for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => write!(f, "{}://{remote}", self.protocol),
            None => f.write_str(self.protocol),
        }
    }
}

/// A wish to publish.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishRequest {
    /// The stream.
    pub key: StreamKey,
    /// Who asks.
    pub client: ClientInfo,
    /// What they prove it with. `None` is code inside this process, which is trusted.
    pub credentials: Option<Credentials>,
    /// Where the stream has come through before, as a relay says.
    pub via: Via,
}

impl PublishRequest {
    /// A request by a peer, to be authenticated.
    #[must_use]
    pub fn new(key: StreamKey, client: ClientInfo, credentials: Credentials) -> Self {
        Self { key, client, credentials: Some(credentials), via: Via::default() }
    }

    /// A request by code inside this process.
    #[must_use]
    pub fn internal(key: StreamKey, protocol: &'static str) -> Self {
        Self { key, client: ClientInfo::internal(protocol), credentials: None, via: Via::default() }
    }

    /// The same request for a stream that has come through those hops.
    #[must_use]
    pub fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }
}

/// A wish to read a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlayRequest {
    /// The stream.
    pub key: StreamKey,
    /// Who asks.
    pub client: ClientInfo,
    /// What they prove it with. `None` is code inside this process, which is trusted.
    pub credentials: Option<Credentials>,
    /// Where to begin; the application's choice when `None`.
    pub start: Option<StartMode>,
    /// When the reader counts as late; the application's choice when `None`.
    pub lag: Option<LagPolicy>,
    /// How long to wait for a stream that is not there; the application's choice when `None`.
    pub wait: Option<Duration>,
    /// What sound the reader can take, the best first; any when `None`. Where a stream has other sound, and the engine a
    /// transcoder that makes the first of these of it, the reader gets a [rendition](crate::rendition).
    pub audio: AudioChoice,
    /// The streams that the reader feeds with it, as a relay says: refused when it has come through one of them.
    pub via: Via,
}

impl PlayRequest {
    /// A request by a peer, to be authenticated.
    #[must_use]
    pub fn new(key: StreamKey, client: ClientInfo, credentials: Credentials) -> Self {
        Self { client, credentials: Some(credentials), ..Self::internal(key, "") }
    }

    /// A request by code inside this process.
    #[must_use]
    pub fn internal(key: StreamKey, protocol: &'static str) -> Self {
        let client = ClientInfo::internal(protocol);
        Self {
            key,
            client,
            credentials: None,
            start: None,
            lag: None,
            wait: None,
            audio: None,
            via: Via::default(),
        }
    }

    /// The same request with a place to begin.
    #[must_use]
    pub fn start(mut self, start: StartMode) -> Self {
        self.start = Some(start);
        self
    }

    /// The same request with a lag policy.
    #[must_use]
    pub fn lag(mut self, lag: LagPolicy) -> Self {
        self.lag = Some(lag);
        self
    }

    /// The same request by a reader that can take such sound.
    #[must_use]
    pub const fn audio(mut self, audio: AudioChoice) -> Self {
        self.audio = audio;
        self
    }

    /// The same, unless the query that came with the request asks for other sound: `audio=opus`, `aac` or `any`.
    #[must_use]
    pub fn audio_or_as_asked(self, audio: AudioChoice) -> Self {
        let query = self.credentials.as_ref().and_then(|shown| shown.query.as_deref());
        let asked = query.and_then(audio_from_query);
        self.audio(asked.unwrap_or(audio))
    }

    /// The same request, waiting that long for a stream that is not there.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The same request by a reader that feeds those streams.
    #[must_use]
    pub fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }
}

/// Where streams are published.
#[async_trait]
pub trait PublishRegistry: Send + Sync {
    /// Asks to publish. Cancel safe: a dropped call has published nothing.
    ///
    /// # Errors
    /// [`Refused`](crate::StreamError::Refused) with `unauthorized`, `forbidden`, `conflict`, `overloaded`, `shutdown`, or `limit(hops)`
    /// of a stream that has come through [`MAX_HOPS`](crate::via::MAX_HOPS).
    async fn publish(&self, request: PublishRequest) -> Result<Publisher>;

    /// Where the stream of that name has come through, itself last; nothing when it is not there. A relay that feeds it
    /// says so where it reads.
    fn via(&self, key: &StreamKey) -> Via {
        let _ = key;
        Via::default()
    }
}

/// Where streams are read.
#[async_trait]
pub trait PlaybackRegistry: Send + Sync {
    /// Asks to read, waiting for the stream where the request or its application says so. Cancel safe.
    ///
    /// # Errors
    /// [`Refused`](crate::StreamError::Refused) with `not_found`, `unauthorized`, `forbidden`, `conflict` of a relay
    /// that would feed the stream with itself, `overloaded` or `shutdown`.
    async fn subscribe(&self, request: PlayRequest) -> Result<Subscription>;

    /// Whether [`subscribe`](Self::subscribe) would let the same request read now, and which tracks: none as long as they are not
    /// known. Does not wait; a stream that is not there is asked for, as by a reader. Cancel safe.
    ///
    /// An engine counts nobody as a reader who only asks. The default subscribes, and leaves.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe).
    async fn look(&self, request: PlayRequest) -> Result<Arc<TrackSet>> {
        Ok(self.subscribe(request.wait(Duration::ZERO)).await?.tracks())
    }
}

/// Starts a source when somebody wants a stream that is not there.
///
/// Nobody is told when the last reader has left: a source asks [`Stream::is_wanted`](crate::Stream::is_wanted) from time to
/// time, which knows of those who wait, too.
pub trait OnDemand: Send + Sync {
    /// How long a reader of `key` waits at least, where it has no wish of its own and the application's is shorter; `None`
    /// when there is no source of it. The default has none.
    fn patience(&self, key: &StreamKey) -> Option<Duration> {
        let _ = key;
        None
    }

    /// Somebody asks for `key`, which nobody publishes at the moment. Must return at once; start a task if there is work
    /// to do.
    fn wanted(&self, key: &StreamKey);
}

/// What a protocol server needs of the engine.
#[derive(Clone)]
#[non_exhaustive]
pub struct IngestContext {
    /// Where its publishers go.
    pub publish: Arc<dyn PublishRegistry>,
    /// Where its readers come from.
    pub playback: Arc<dyn PlaybackRegistry>,
    /// Told about sessions.
    pub observer: Arc<dyn Observer>,
    /// Fires when the server should stop accepting, say good-bye to its peers and return.
    pub shutdown: CancellationToken,
}

impl fmt::Debug for IngestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestContext").finish_non_exhaustive()
    }
}

/// A protocol through which streams enter (and mostly leave) the engine.
#[async_trait]
pub trait InboundProtocol: Send + Sync {
    /// The protocol's short name, as in [`ClientInfo::protocol`].
    fn name(&self) -> &'static str;

    /// Serves until `context.shutdown` fires and the sessions have ended, or the listener fails.
    ///
    /// # Errors
    /// The listener cannot go on. One peer's fault never is an error here.
    async fn serve(self: Arc<Self>, context: IngestContext) -> Result<()>;
}
