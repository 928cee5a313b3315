//! The client: pulls a stream from a server into the engine, or pushes one from the engine to a server.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::{Engine, StreamKey};
//! use arcly_rtmp::Client;
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let client = Client::new("rtmp://camera.example.com/live/door")?;
//! client.pull(engine, StreamKey::new("live", "door"), CancellationToken::new()).await
//! # }
//! ```

mod link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::derived::Headers;
use arcly_core::log::TrackChoice;
use arcly_core::net::Waits;
use arcly_core::{
    CloseReason, PublishRegistry, PublishRequest, Result, StreamError, StreamKey, Subscription, Via, clock,
};
use tokio_util::sync::CancellationToken;

pub use arcly_core::net::Backoff;
pub(crate) use link::Outcome;

use crate::config::SessionConfig;
use crate::media::{Direction, MessagePacketizer, playable};
use crate::session::Intent;
use crate::url::RtmpUrl;
use crate::wire::{Capabilities, CapsEx};
use link::Link;

/// How a [`Client`] connects.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientConfig {
    /// What each session keeps to.
    pub session: SessionConfig,
    /// Connect again when a connection fails or ends; `None` gives up at the first failure.
    pub reconnect: Option<Backoff>,
    /// Where the URL's host is, for whoever has resolved and checked it; empty to resolve it with each connection. With
    /// addresses a server that asks to connect elsewhere is not followed.
    pub addresses: Vec<SocketAddr>,
    /// What `rtmps://` URLs are connected with: the roots to trust, above all.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

/// A stream on another server.
#[derive(Clone, Debug)]
pub struct Client {
    url: RtmpUrl,
    config: ClientConfig,
}

impl Client {
    /// A client for `rtmp[s]://[user:password@]host[:port]/app/stream[?query]`.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url =
            url.as_ref().parse::<RtmpUrl>().map_err(|error| StreamError::protocol(error.to_string()))?;
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
    pub const fn url(&self) -> &RtmpUrl {
        &self.url
    }

    /// Goes where the server said, if it did.
    pub(crate) fn follow(&mut self, outcome: &Outcome) {
        if let Outcome::Moved(Some(url)) = outcome
            && self.config.addresses.is_empty()
        {
            self.url = (**url).clone();
        }
    }

    pub(crate) const fn reconnect(&self) -> Option<Backoff> {
        self.config.reconnect
    }

    /// Publishes the other server's stream as `key` until it ends or `shutdown` fires. The right to publish is asked
    /// for when the other server has let this client in. Dropping the future ends it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Refused`] by the engine,
    /// [`StreamError::Closed`] with a timeout, [`StreamError::Io`]; with [`Backoff`] only what the engine refuses.
    pub async fn pull(
        &self,
        registry: Arc<dyn PublishRegistry>,
        key: StreamKey,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut waits = self.config.reconnect.map(Waits::new);
        let mut client = self.clone();
        loop {
            let outcome = client.pull_once(&*registry, &key, &shutdown).await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            if let Err(error @ StreamError::Refused { .. }) = outcome {
                return Err(error);
            }
            let Some(waits) = &mut waits else { return outcome.map(drop) };
            client.url = self.url.clone();
            if let Ok(outcome) = &outcome {
                client.follow(outcome);
            }
            pause(waits, &outcome, &self.url, &shutdown).await;
        }
    }

    async fn pull_once(
        &self,
        registry: &dyn PublishRegistry,
        key: &StreamKey,
        shutdown: &CancellationToken,
    ) -> Result<Outcome> {
        let mut link = self.dial(Intent::Play, registry.via(key), shutdown).await?;
        let publisher = registry.publish(PublishRequest::internal(key.clone(), "rtmp")).await?;
        link.pull(publisher, shutdown).await
    }

    /// Sends what `subscription` reads to the other server, until it ends or `shutdown` fires. One connection,
    /// whatever the configuration says about further ones, because a subscription is used up. Dropping the future ends
    /// it, without a good-bye.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the server's words, [`StreamError::Closed`] with a timeout,
    /// [`StreamError::Io`].
    pub async fn push(
        &self,
        subscription: Subscription,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        self.push_once(subscription, shutdown).await.map(|outcome| outcome.reason())
    }

    pub(crate) async fn push_once(
        &self,
        subscription: Subscription,
        shutdown: &CancellationToken,
    ) -> Result<Outcome> {
        let mut link = self.dial(Intent::Publish, subscription.stream().via(), shutdown).await?;
        let choice = upstream_choice(link.server());
        let direction = Direction::Publish;
        let mut source = subscription.into_derived(direction.variant(), || MessagePacketizer::new(direction));
        source.set_track_choice(Arc::clone(&choice));
        link.push(source, &choice, shutdown).await
    }

    /// Connects, and goes through the set-up to the point where media may flow.
    async fn dial(&self, intent: Intent, via: Via, shutdown: &CancellationToken) -> Result<Link> {
        let began = clock::now();
        let setup = self.config.session.timeouts.setup;
        let dial = async {
            let socket = link::connect(&self.url, &self.config).await?;
            let link = Link::new(&self.config, self.url.clone(), intent, socket, began)?;
            let mut link = link.with_via(via);
            link.set_up().await?;
            Ok(link)
        };
        tokio::select! {
            link = tokio::time::timeout(setup, dial) => {
                link.unwrap_or(Err(StreamError::Closed(CloseReason::Timeout(arcly_core::Phase::Connect))))
            }
            () = shutdown.cancelled() => Err(StreamError::Closed(CloseReason::Shutdown)),
        }
    }
}

/// Waits as long as the last attempt's outcome asks for, or until `shutdown`. Cancel safe.
pub(crate) async fn pause(
    waits: &mut Waits,
    outcome: &Result<Outcome>,
    url: &RtmpUrl,
    shutdown: &CancellationToken,
) {
    let outcome = match outcome {
        Ok(Outcome::Moved(_)) => {
            tracing::info!(%url, "connecting again where the server is now");
            // An attempt all the same: who is sent around in a circle waits longer and longer where it ends.
            _ = waits.next_wait(0);
            return waits.pause(Duration::ZERO, shutdown).await;
        }
        Ok(outcome) => Ok(outcome.reason()),
        Err(error) => Err(error),
    };
    waits.again(url, outcome, shutdown).await;
}

/// Servers that announce nothing mostly pass on whatever comes, so that they get every codec, one track of a kind.
fn upstream_choice(server: &Capabilities) -> TrackChoice<Headers> {
    let mut capabilities = server.clone();
    if server.is_legacy() {
        capabilities = SessionConfig::default().capabilities;
        capabilities.extensions = CapsEx::empty();
    }
    Arc::new(move |headers| playable(&headers.tracks, &capabilities))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h21_a_client_that_was_told_where_its_server_is_is_not_led_elsewhere() {
        let elsewhere = "rtmp://127.0.0.1:9/live/door".parse::<RtmpUrl>().unwrap();
        let moved = Outcome::Moved(Some(Box::new(elsewhere)));
        let mut client = Client::new("rtmp://camera.example.com/live/door").unwrap();
        client.config.addresses = vec![([192, 0, 2, 1], 1935).into()];
        client.follow(&moved);
        assert_eq!(client.url().port, 1935);
        client.config.addresses.clear();
        client.follow(&moved);
        assert_eq!(client.url().port, 9);
    }

    #[tokio::test]
    async fn h21_the_addresses_are_connected_to_and_no_name_is_resolved() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![listener.local_addr().unwrap()];
        let config = ClientConfig { addresses, ..ClientConfig::default() };
        let url = "rtmp://no-such-host.invalid/live/door".parse().unwrap();
        let (connected, accepted) = tokio::join!(link::connect(&url, &config), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
    }
}
