//! The client: pulls a presentation from a server or camera into the engine, or pushes a stream out of it.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::{Engine, StreamKey};
//! use arcly_rtsp::Client;
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let client = Client::new("rtsp://user:password@camera.example.com/stream1")?;
//! client.pull(engine, StreamKey::new("live", "door"), CancellationToken::new()).await
//! # }
//! ```

mod ingest;
mod link;
mod ports;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::net::{Backoff, Waits};
use arcly_core::{
    CloseReason, Phase, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Result, StreamError,
    StreamKey, Subscription, Via, clock,
};
use arcly_rtp::wire::NtpTime;
use tokio_util::sync::CancellationToken;

use self::ingest::Ingest;
use self::link::{Link, Outcome, Socket, Source};
use crate::session::client::{Carriage, ClientSession, ClientSessionConfig};
use crate::srtp::Keyring;
use crate::url::RtspUrl;
use crate::wire::authorization::Answers;

/// Connections of one attempt: redirections, servers that hang up when they have asked for a login, and the way from datagrams to the
/// connection.
const MAX_CONNECTIONS: usize = 8;

/// How a [`Client`] connects.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientConfig {
    /// What each session keeps to.
    pub session: ClientSessionConfig,
    /// Connect again when a connection fails or ends; `None` gives up at the first failure.
    pub reconnect: Option<Backoff>,
    /// Where the URL's host is, for whoever has resolved and checked it; empty to resolve it with each connection. With
    /// addresses a server that asks to connect elsewhere is not followed.
    pub addresses: Vec<SocketAddr>,
    /// What `rtsps://` URLs are connected with: the roots to trust, above all.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

/// A presentation on another server.
#[derive(Clone, Debug)]
pub struct Client {
    url: RtspUrl,
    config: ClientConfig,
}

/// Where the next connection goes, and what it knows already.
#[derive(Clone, Debug)]
struct Attempt {
    url: RtspUrl,
    carriage: Carriage,
    answers: Option<Answers>,
}

impl Client {
    /// A client for `rtsp[s]://[user:password@]host[:port][/path][?query]`.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url =
            url.as_ref().parse::<RtspUrl>().map_err(|error| StreamError::protocol(error.to_string()))?;
        Ok(Self { url, config: ClientConfig::default() })
    }

    /// The same client with another configuration.
    #[must_use]
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// The same client, connecting again when a connection fails or ends.
    #[must_use]
    pub const fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.config.reconnect = Some(backoff);
        self
    }

    /// The URL, which shows no secrets.
    #[must_use]
    pub const fn url(&self) -> &RtspUrl {
        &self.url
    }

    fn attempt(&self) -> Attempt {
        Attempt { url: self.url.clone(), carriage: self.config.session.carriage, answers: None }
    }

    /// Publishes the server's presentation as `key` until it ends or `shutdown` fires. A server that sends no media for
    /// [`stall`](ClientSessionConfig::stall) has ended. The right to publish is asked for when the server has agreed to play. Dropping
    /// the future ends it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Refused`] by the engine, [`StreamError::Closed`] with a timeout
    /// or because the server left, [`StreamError::Io`]; with [`Backoff`] only what the engine refuses.
    pub async fn pull(
        &self,
        registry: Arc<dyn PublishRegistry>,
        key: StreamKey,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut waits = self.config.reconnect.map(Waits::new);
        loop {
            let outcome = self.pull_once(&*registry, &key, &shutdown).await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            if let Err(error @ StreamError::Refused { .. }) = outcome {
                return Err(error);
            }
            let Some(waits) = &mut waits else { return outcome.map(drop) };
            waits.again(&self.url, outcome.as_ref().copied(), &shutdown).await;
        }
    }

    /// One pull, over as many connections as it takes to find out how.
    async fn pull_once(
        &self,
        registry: &dyn PublishRegistry,
        key: &StreamKey,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let mut attempt = self.attempt();
        for _ in 0..MAX_CONNECTIONS {
            let socket = self.dial(&attempt, shutdown).await?;
            let config = self.session_config(&attempt);
            let session = ClientSession::pull(config, attempt.url.clone(), random()?, clock::now());
            let mut link = Link::new(socket, prepared(session, registry.via(key), &mut attempt)?);
            let outcome = match self.set_up(&mut link, shutdown).await? {
                Some(outcome) => outcome,
                None => {
                    let request = PublishRequest::internal(key.clone(), "rtsp");
                    let request = request.via(link.came_through().clone());
                    let publisher = registry.publish(request).await?;
                    link.pull(Ingest::new(publisher), shutdown).await?
                }
            };
            if let Some(reason) = self.follow(&mut attempt, outcome)? {
                return Ok(reason);
            }
        }
        Err(StreamError::protocol("too many redirections"))
    }

    /// Goes where the server said, if it may; what has ended has a reason.
    fn follow(&self, attempt: &mut Attempt, outcome: Outcome) -> Result<Option<CloseReason>> {
        match outcome {
            Outcome::Ended(reason) => return Ok(Some(reason)),
            Outcome::Asked(answers) => attempt.answers = Some(*answers),
            Outcome::NoDatagrams => attempt.carriage = Carriage::Tcp,
            Outcome::Moved(_) if !self.config.addresses.is_empty() => {
                return Err(StreamError::protocol(
                    "the server asks to connect elsewhere, which is not allowed",
                ));
            }
            Outcome::Moved(url) => *attempt = Attempt { url: *url, answers: None, ..attempt.clone() },
        }
        Ok(None)
    }

    /// Sends what `subscription` reads to the server, until it ends or `shutdown` fires. One attempt, whatever the configuration says
    /// about further ones, because a subscription is used up; so it is, too, when the stream's tracks change, as a session cannot
    /// describe others. Dropping the future ends it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Closed`] with a timeout, [`StreamError::Io`].
    pub async fn push(
        &self,
        subscription: Subscription,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let via = subscription.stream().via();
        let paced = self.config.session.carriage == Carriage::Udp;
        let mut source = Source::new(subscription, paced)?;
        let tracks = tokio::select! {
            tracks = source.tracks() => tracks?,
            () = shutdown.cancelled() => return Ok(CloseReason::Shutdown),
        };
        let mut attempt = self.attempt();
        for _ in 0..MAX_CONNECTIONS {
            let socket = self.dial(&attempt, shutdown).await?;
            let (config, what) = (self.session_config(&attempt), (&*tracks, source.options()));
            let session = ClientSession::push(config, attempt.url.clone(), what, random()?, clock::now())?;
            let mut link = Link::new(socket, prepared(session, via.clone(), &mut attempt)?);
            let outcome = match self.set_up(&mut link, shutdown).await? {
                Some(outcome) => outcome,
                None => link.push(&mut source, shutdown).await?,
            };
            if let Some(reason) = self.follow(&mut attempt, outcome)? {
                return Ok(reason);
            }
        }
        Err(StreamError::protocol("too many redirections"))
    }

    fn session_config(&self, attempt: &Attempt) -> Arc<ClientSessionConfig> {
        Arc::new(ClientSessionConfig { carriage: attempt.carriage, ..self.config.session.clone() })
    }

    async fn dial(&self, attempt: &Attempt, shutdown: &CancellationToken) -> Result<Socket> {
        let connect = Socket::connect(&attempt.url, &self.config);
        let connect = tokio::time::timeout(self.config.session.setup, connect);
        tokio::select! {
            socket = connect => socket.unwrap_or(Err(StreamError::Closed(CloseReason::Timeout(Phase::Connect)))),
            () = shutdown.cancelled() => Err(StreamError::Closed(CloseReason::Shutdown)),
        }
    }

    async fn set_up(&self, link: &mut Link, shutdown: &CancellationToken) -> Result<Option<Outcome>> {
        let done = tokio::select! {
            done = link.set_up() => Some(done),
            () = shutdown.cancelled() => None,
        };
        match done {
            Some(done) => done,
            None => {
                link.leave(CloseReason::Shutdown).await;
                Err(StreamError::Closed(CloseReason::Shutdown))
            }
        }
    }
}

fn random() -> Result<[u8; 16]> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| StreamError::Io(io::Error::other(error.to_string())))?;
    Ok(random)
}

fn prepared(session: ClientSession, via: Via, attempt: &mut Attempt) -> Result<ClientSession> {
    let mut session = session.with_via(via);
    if attempt.url.tls {
        let mut random = Box::new([0; Keyring::RANDOM]);
        getrandom::fill(&mut *random)
            .map_err(|error| StreamError::Io(io::Error::other(error.to_string())))?;
        session = session.with_keys(Keyring::new(random, NtpTime::from_system_time(SystemTime::now())));
    }
    if let Some(answers) = attempt.answers.take() {
        session.set_answers(answers);
    }
    Ok(session)
}

/// Pulls one presentation for as long as it is wanted: what [`Client::pull`] does, with a registry of its own.
///
/// ```no_run
/// # async fn run(engine: std::sync::Arc<arcly_core::Engine>) -> arcly_core::Result<()> {
/// use arcly_core::StreamKey;
/// use arcly_core::net::Backoff;
/// use arcly_rtsp::RtspPull;
/// use tokio_util::sync::CancellationToken;
///
/// let pull = RtspPull::new(engine, "rtsp://camera.example.com/stream1")?.with_reconnect(Backoff::default());
/// pull.run(StreamKey::new("live", "door"), CancellationToken::new()).await
/// # }
/// ```
#[must_use = "nothing happens before `run`"]
pub struct RtspPull {
    registry: Arc<dyn PublishRegistry>,
    client: Client,
}

impl core::fmt::Debug for RtspPull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RtspPull").field("url", self.client.url()).finish_non_exhaustive()
    }
}

impl RtspPull {
    /// A pull from that URL.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(registry: Arc<dyn PublishRegistry>, url: impl AsRef<str>) -> Result<Self> {
        Ok(Self { registry, client: Client::new(url)? })
    }

    /// The same pull with another configuration: carriage, TLS roots, time-outs.
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.client = self.client.with_config(config);
        self
    }

    /// The same pull, connecting again when the server fails, stalls or leaves.
    pub fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.with_reconnect(backoff);
        self
    }

    /// Pulls until the presentation ends or `shutdown` fires, which both are success. Cancel safe: dropping the future drops the
    /// connection, without the good-bye that `shutdown` sends.
    ///
    /// # Errors
    /// Those of [`Client::pull`].
    pub async fn run(self, key: StreamKey, shutdown: CancellationToken) -> Result<()> {
        self.client.pull(self.registry, key, shutdown).await
    }
}

/// Pushes one stream on to another server (ANNOUNCE, RECORD).
///
/// A relay reads the stream like any other reader: it takes no part in the publisher's timing, and if the upstream is slower than the
/// stream, whole GOPs are left out. When the stream's tracks change it connects again, as a session cannot describe others.
///
/// ```no_run
/// # async fn run(engine: std::sync::Arc<arcly_core::Engine>) -> arcly_core::Result<()> {
/// use arcly_core::StreamKey;
/// use arcly_rtsp::RtspRelay;
/// use tokio_util::sync::CancellationToken;
///
/// let relay = RtspRelay::new(engine, "rtsp://media.example.com/live/backup")?;
/// relay.run(StreamKey::new("live", "cam"), CancellationToken::new()).await
/// # }
/// ```
#[must_use = "nothing happens before `run`"]
pub struct RtspRelay {
    playback: Arc<dyn PlaybackRegistry>,
    client: Client,
}

impl core::fmt::Debug for RtspRelay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RtspRelay").field("url", self.client.url()).finish_non_exhaustive()
    }
}

impl RtspRelay {
    /// A relay to that URL.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(playback: Arc<dyn PlaybackRegistry>, url: impl AsRef<str>) -> Result<Self> {
        Ok(Self { playback, client: Client::new(url)? })
    }

    /// The same relay with another configuration: carriage, TLS roots, time-outs.
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.client = self.client.with_config(config);
        self
    }

    /// The same relay, connecting again when the upstream fails or leaves.
    pub fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.with_reconnect(backoff);
        self
    }

    /// Relays until the stream ends or `shutdown` fires, which both are success. Cancel safe: dropping the future drops the connection,
    /// without the good-bye that `shutdown` sends.
    ///
    /// # Errors
    /// [`StreamError::Refused`] by the engine, [`StreamError::Rejected`] with the upstream's words, [`StreamError::Closed`] with a
    /// timeout or because the upstream left, [`StreamError::Io`]. With [`with_reconnect`](Self::with_reconnect) only what the engine
    /// refuses.
    pub async fn run(self, key: StreamKey, shutdown: CancellationToken) -> Result<()> {
        let mut waits = self.client.config.reconnect.map(Waits::new);
        loop {
            let request = PlayRequest::internal(key.clone(), "relay");
            let subscription = tokio::select! {
                subscription = self.playback.subscribe(request) => subscription?,
                () = shutdown.cancelled() => return Ok(()),
            };
            let stream = Arc::clone(subscription.stream());
            let outcome = self.client.push(subscription, &shutdown).await;
            if shutdown.is_cancelled() || stream.log().closed().is_some() {
                return Ok(());
            }
            match (&outcome, &mut waits) {
                // The tracks have changed, and are described anew at once.
                (Ok(CloseReason::Unsupported), _) => {}
                (_, Some(waits)) => waits.again(&self.client.url, outcome.as_ref().copied(), &shutdown).await,
                (_, None) => return outcome.and_then(|reason| Err(StreamError::Closed(reason))),
            }
        }
    }
}
