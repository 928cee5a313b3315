//! The clients: WHEP pulls a stream from another server into the engine, WHIP pushes one out of it.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::{Engine, StreamKey};
//! use arcly_webrtc::Client;
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let client = Client::new("whep+http://media.example.com:8080/live/cam/whep")?;
//! client.pull(engine, StreamKey::new("live", "cam"), CancellationToken::new()).await
//! # }
//! ```
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 9725, draft-ietf-wish-whep | §4.2 offer and answer | one `POST`: `201`, `Location`, the answer with all candidates |
//! | RFC 9725 | §4.2 `DELETE` | when this side leaves |
//! | | §4.5 redirections | `307` and `308`, five at the most, none out of TLS |
//! | | §4.7 authentication | `Authorization`: a bearer token, or user and password |
//! | RFC 9457 | problem details | what a server says of its refusal is in the error |
//! | RFC 8445 | §2.4 full agents | checks to the server's candidates |
//! | RFC 6544, RFC 8305 | §3 active candidates; §5 attempts | connections where no check by UDP is answered, one begun after the other |
//!
//! **Not used** are `PATCH` (an answer has all candidates, and a network that changes makes a new session) and the ICE servers of `Link`
//! headers: checks go out from here, which opens the way through translations of addresses, and a server that can be reached by nobody
//! but through a relay is none. Counter-offers (`406`) of early WHEP are refusals.
//!
//! | bound | value |
//! |---|---|
//! | an answer's body | [`MAX_ANSWER_BYTES`](crate::wire::MAX_ANSWER_BYTES) |
//! | candidates of it | [`MAX_CANDIDATES`](crate::wire::MAX_CANDIDATES) |
//! | until the answer is there | [`ClientConfig::setup`] |
//! | connections of one session | one for each candidate that takes them, one after the other; one that media travel in |
//! | datagrams that wait for a connection | [`OUTBOX`](crate::server::OUTBOX), then they are lost |
//! | until media flow, and without consent | [`ClientConfig::timeouts`] |
//! | without media, of a pull | [`ClientConfig::stall`] |

mod http;
mod line;
mod link;
mod source;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::net::{Backoff, Waits};
use arcly_core::rendition::WEBRTC_AUDIO;
use arcly_core::{
    CloseReason, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Result, StreamError,
    StreamKey, Subscription, Via, clock,
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::http::{Exchange, Resource, within};
use self::link::Link;
use self::source::Source;
use crate::session::{Identity, Offering, Timeouts, Transport, WhepSession, WhipSession, Wish};
use crate::url::{Login, WebRtcUrl};
use crate::wire::{Answer, AnswerError, Role};

/// How a [`Client`] connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// How long the server may take to answer the offer, with all redirections.
    pub setup: Duration,
    /// How long it may take until media can flow, and be silent.
    pub timeouts: Timeouts,
    /// How long no check by UDP is answered until connections to the server are opened, where it takes them: longer than a check and its
    /// first repetition take on most ways, so that none is opened in vain where UDP gets through.
    pub tcp_after: Duration,
    /// Data channels are offered: by a push where the stream has data, by a pull always. A server that refuses them is offered the rest.
    pub data: bool,
    /// A server that sends no media for so long has ended, as far as a pull is concerned.
    pub stall: Duration,
    /// Connect again when a session fails or ends; `None` gives up at the first failure.
    pub reconnect: Option<Backoff>,
    /// What to show the server, in place of what the URL has.
    pub login: Option<Login>,
    /// Where the URL's host is, for whoever has resolved and checked it; empty to resolve it with each connection. With
    /// addresses a server that asks to connect elsewhere is not followed.
    pub addresses: Vec<SocketAddr>,
    /// Which addresses may be sent checks and connected to, of those that an answer names and of those that checks come from.
    pub may_reach: fn(IpAddr) -> bool,
    /// What `https` is connected with: the roots to trust, above all.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            setup: Duration::from_secs(10),
            timeouts: Timeouts::default(),
            tcp_after: Duration::from_millis(500),
            data: true,
            stall: Duration::from_secs(10),
            reconnect: None,
            login: None,
            addresses: Vec::new(),
            may_reach: |_| true,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// A stream on another server.
#[derive(Clone, Debug)]
pub struct Client {
    url: WebRtcUrl,
    config: ClientConfig,
}

/// A session that the server has agreed to.
struct Opened {
    link: Link,
    transport: Transport,
    resource: Resource,
}

impl Client {
    /// A client for `whip+http[s]://[user:password@|token@]host[:port]/path[?query]`, or `whep+http[s]`.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url = url.as_ref().parse::<WebRtcUrl>();
        url.map(Self::of).map_err(|error| StreamError::protocol(error.to_string()))
    }

    /// A client for a URL that is parsed already.
    #[must_use]
    pub fn of(url: WebRtcUrl) -> Self {
        Self { url, config: ClientConfig::default() }
    }

    /// The same client with another configuration.
    #[must_use]
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// The same client, connecting again when a session fails or ends.
    #[must_use]
    pub const fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.config.reconnect = Some(backoff);
        self
    }

    /// The URL, which shows no secrets.
    #[must_use]
    pub const fn url(&self) -> &WebRtcUrl {
        &self.url
    }

    /// Publishes the server's stream as `key` until it ends or `shutdown` fires. The right to publish is asked for when the server has
    /// answered. Dropping the future ends it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Refused`] by the engine, [`StreamError::Closed`] with a
    /// timeout, [`StreamError::Protocol`] when the answer is none, [`StreamError::Io`]; with [`Backoff`] only what the engine refuses.
    pub async fn pull(
        &self,
        registry: Arc<dyn PublishRegistry>,
        key: StreamKey,
        shutdown: CancellationToken,
    ) -> Result<()> {
        self.expect(Role::Viewer)?;
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

    async fn pull_once(
        &self,
        registry: &dyn PublishRegistry,
        key: &StreamKey,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let opening = self.open(Wish::view(), registry.via(key));
        let Some(opened) = shutdown.run_until_cancelled(opening).await else {
            return Ok(CloseReason::Shutdown);
        };
        let Opened { mut link, transport, resource } = opened?;
        match registry.publish(PublishRequest::internal(key.clone(), Role::Viewer.as_str())).await {
            Ok(mut publisher) => {
                let session = WhipSession::new(transport, clock::now());
                let reason = link.pull(session, &mut publisher, self.config.stall, shutdown).await;
                drop(publisher);
                self.leave(&resource).await;
                ended(reason)
            }
            Err(error) => {
                self.leave(&resource).await;
                Err(error)
            }
        }
    }

    /// Sends what `subscription` reads to the server, until it ends or `shutdown` fires. One attempt, whatever the configuration says
    /// about further ones, because a subscription is used up; so it is, too, with [`CloseReason::Unsupported`], when the stream's
    /// codecs change, as they are not what was offered any more. Dropping the future ends it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Closed`] with a timeout, [`StreamError::Protocol`] when the
    /// answer is none or the stream is nothing for WebRTC, [`StreamError::Io`].
    pub async fn push(
        &self,
        subscription: Subscription,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        self.expect(Role::Publisher)?;
        let via = subscription.stream().via();
        let mut source = Source::new(subscription);
        let opening = async { self.open(source.wish().await?, via).await };
        let Some(opened) = shutdown.run_until_cancelled(opening).await else {
            return Ok(CloseReason::Shutdown);
        };
        let Opened { mut link, transport, resource } = opened?;
        let mut key = [0; 8];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let session = WhepSession::new(transport, u64::from_be_bytes(key));
        let reason = link.push(session, &mut source, shutdown).await;
        self.leave(&resource).await;
        ended(reason)
    }

    fn expect(&self, role: Role) -> Result<()> {
        if self.url.role() == role {
            return Ok(());
        }
        Err(StreamError::protocol(match self.url.role() {
            Role::Publisher => "a whip+ URL is pushed to; to pull there is WHEP",
            Role::Viewer => "a whep+ URL is pulled from; to push there is WHIP",
        }))
    }

    /// Offers, and takes the answer; once more without data channels, where a server does not understand an offer that has them.
    async fn open(&self, wish: Wish, via: Via) -> Result<Opened> {
        let plain = wish.clone().without_data();
        let wish = plain.clone().filter(|_| !self.config.data).unwrap_or(wish);
        let plain = plain.filter(|_| self.config.data);
        match (self.open_with(wish, via.clone()).await, plain) {
            (Err(StreamError::Rejected(why)), Some(plain)) if is_about_the_offer(&why) => {
                tracing::debug!(url = %self.url, %why, "a WebRTC server is offered no data channels");
                self.open_with(plain, via).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn open_with(&self, wish: Wish, via: Via) -> Result<Opened> {
        let exchange = self.exchange();
        let exchanging = async {
            let connection = exchange.connect().await?;
            let link = Link::bind(self.config.may_reach)?;
            let addresses = link.addresses(connection.local);
            let identity = Identity::generate()?;
            let offering = Offering::new(&identity, addresses, self.config.timeouts, &wish, clock::now());
            let offering = offering.ok_or_else(|| StreamError::protocol("there is nothing to offer"))?;
            let resource = exchange.post(connection, offering.as_str(), &via).await?;
            Ok((link, offering, resource))
        };
        let (mut link, offering, resource) = within(self.config.setup, exchanging).await?;
        match self.believe(offering, wish.role(), resource.answer.clone()).await {
            Ok((transport, answer)) => {
                link.may_connect(answer.candidates(), self.config.tcp_after);
                Ok(Opened { link, transport, resource })
            }
            Err(error) => {
                self.leave(&resource).await;
                Err(StreamError::protocol(error.to_string()))
            }
        }
    }

    /// Takes an answer, in a task of its own: what goes wrong with it there ends this attempt alone.
    async fn believe(
        &self,
        offering: Offering,
        role: Role,
        body: Bytes,
    ) -> Result<(Transport, Answer), AnswerError> {
        let may_reach = self.config.may_reach;
        let believing = async move {
            let answer = Answer::decode(role, &body, may_reach)?;
            Ok((offering.answered(&answer, clock::now())?, answer))
        };
        tokio::spawn(believing)
            .await
            .unwrap_or(Err(AnswerError::Malformed("something that cannot be understood")))
    }

    const fn exchange(&self) -> Exchange<'_> {
        Exchange { url: &self.url, config: &self.config }
    }

    /// Says good-bye, to a server that has said so itself, too: it will say that it knows of no such session.
    async fn leave(&self, resource: &Resource) {
        if let Some(session) = &resource.session {
            self.exchange().delete(session).await;
        }
    }
}

/// True for a refusal that another offer may not meet.
fn is_about_the_offer(why: &str) -> bool {
    ["400", "406", "415", "422", "488", "501"].iter().any(|status| why.starts_with(status))
}

/// What is to be made of the end of a session: a server that is not there any more, or talks nonsense, is an error.
const fn ended(reason: CloseReason) -> Result<CloseReason> {
    match reason {
        CloseReason::Timeout(_) | CloseReason::Malformed => Err(StreamError::Closed(reason)),
        reason => Ok(reason),
    }
}

/// Pulls one stream for as long as it is wanted: what [`Client::pull`] does, with a registry of its own.
///
/// ```no_run
/// # async fn run(engine: std::sync::Arc<arcly_core::Engine>) -> arcly_core::Result<()> {
/// use arcly_core::StreamKey;
/// use arcly_core::net::Backoff;
/// use arcly_webrtc::WhepPull;
/// use tokio_util::sync::CancellationToken;
///
/// let pull = WhepPull::new(engine, "whep+http://media.example.com:8080/live/cam/whep")?.with_reconnect(Backoff::default());
/// pull.run(StreamKey::new("live", "cam"), CancellationToken::new()).await
/// # }
/// ```
#[must_use = "nothing happens before `run`"]
pub struct WhepPull {
    registry: Arc<dyn PublishRegistry>,
    client: Client,
}

impl core::fmt::Debug for WhepPull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WhepPull").field("url", self.client.url()).finish_non_exhaustive()
    }
}

impl WhepPull {
    /// A pull from that URL.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(registry: Arc<dyn PublishRegistry>, url: impl AsRef<str>) -> Result<Self> {
        let client = Client::new(url)?;
        client.expect(Role::Viewer)?;
        Ok(Self { registry, client })
    }

    /// The same pull with another configuration: TLS roots, login, time-outs.
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.client = self.client.with_config(config);
        self
    }

    /// The same pull, connecting again when the server fails, stalls or leaves.
    pub fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.with_reconnect(backoff);
        self
    }

    /// Pulls until the stream ends or `shutdown` fires, which both are success. Cancel safe: dropping the future drops the session,
    /// without the good-bye that `shutdown` sends.
    ///
    /// # Errors
    /// Those of [`Client::pull`].
    pub async fn run(self, key: StreamKey, shutdown: CancellationToken) -> Result<()> {
        self.client.pull(self.registry, key, shutdown).await
    }
}

/// Pushes one stream on to another server by WHIP.
///
/// A relay reads the stream like any other reader, with sound that WebRTC knows where the engine makes it. When the stream's codecs
/// change it offers anew.
///
/// ```no_run
/// # async fn run(engine: std::sync::Arc<arcly_core::Engine>) -> arcly_core::Result<()> {
/// use arcly_core::StreamKey;
/// use arcly_webrtc::WhipRelay;
/// use tokio_util::sync::CancellationToken;
///
/// let relay = WhipRelay::new(engine, "whip+http://media.example.com:8080/live/backup/whip")?;
/// relay.run(StreamKey::new("live", "cam"), CancellationToken::new()).await
/// # }
/// ```
#[must_use = "nothing happens before `run`"]
pub struct WhipRelay {
    playback: Arc<dyn PlaybackRegistry>,
    client: Client,
}

impl core::fmt::Debug for WhipRelay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WhipRelay").field("url", self.client.url()).finish_non_exhaustive()
    }
}

impl WhipRelay {
    /// A relay to that URL.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(playback: Arc<dyn PlaybackRegistry>, url: impl AsRef<str>) -> Result<Self> {
        let client = Client::new(url)?;
        client.expect(Role::Publisher)?;
        Ok(Self { playback, client })
    }

    /// The same relay with another configuration: TLS roots, login, time-outs.
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.client = self.client.with_config(config);
        self
    }

    /// The same relay, connecting again when the upstream fails or leaves.
    pub fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.with_reconnect(backoff);
        self
    }

    /// Relays until the stream ends or `shutdown` fires, which both are success. Cancel safe: dropping the future drops the session,
    /// without the good-bye that `shutdown` sends.
    ///
    /// # Errors
    /// [`StreamError::Refused`] by the engine, and those of [`Client::push`]; [`StreamError::Closed`] when the upstream has left. With
    /// [`with_reconnect`](Self::with_reconnect) only what the engine refuses.
    pub async fn run(self, key: StreamKey, shutdown: CancellationToken) -> Result<()> {
        let mut waits = self.client.config.reconnect.map(Waits::new);
        loop {
            let request = PlayRequest::internal(key.clone(), "relay").audio(WEBRTC_AUDIO);
            let subscribing = self.playback.subscribe(request);
            let Some(subscription) = shutdown.run_until_cancelled(subscribing).await else { return Ok(()) };
            let subscription = subscription?;
            let stream = Arc::clone(subscription.stream());
            let outcome = self.client.push(subscription, &shutdown).await;
            if shutdown.is_cancelled() || stream.log().closed().is_some() {
                return Ok(());
            }
            match (&outcome, &mut waits) {
                // The codecs have changed, and are offered anew at once.
                (Ok(CloseReason::Unsupported), _) => {}
                (_, Some(waits)) => waits.again(&self.client.url, outcome.as_ref().copied(), &shutdown).await,
                (_, None) => return outcome.and_then(|reason| Err(StreamError::Closed(reason))),
            }
        }
    }
}
