//! The client: pulls a stream from another SRT end into an engine, or pushes one to it, as MPEG-TS.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::{Engine, StreamKey};
//! use arcly_srt::Client;
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let client = Client::new("srt://encoder.example.com:9000?latency=200")?;
//! client.pull(engine, StreamKey::new("live", "door"), CancellationToken::new()).await
//! # }
//! ```

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::net::{Backoff, Waits};
use arcly_core::{
    CloseReason, Phase, PublishRegistry, PublishRequest, Result, StreamError, StreamKey, Subscription,
};
use arcly_mux::ts::{Muxer, Packetizer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::SessionError;
use crate::media;
use crate::socket::{Peer, Socket};
use crate::url::{ConnectMode, SrtGroup, SrtPath, SrtUrl};

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);
/// How long a good-bye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a [`Client`] connects.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Connect again when a connection fails or ends; `None` gives up at the first failure.
    pub reconnect: Option<Backoff>,
    /// Where the URL's host is, for whoever has resolved and checked it; of a group one for each path
    /// ([`SrtGroup::choose`](crate::url::SrtGroup::choose)). Empty to resolve it with each connection.
    pub addresses: Vec<SocketAddr>,
}

/// Another end: a listener that is called, a caller that is waited for, or somebody who calls at the same time.
#[derive(Clone, Debug)]
pub struct Client {
    url: SrtUrl,
    config: ClientConfig,
}

/// A connection, and the socket that it is on.
struct Link {
    peer: Peer,
    socket: Socket,
}

impl Link {
    /// Says good-bye, and waits until that has left.
    async fn close(self) {
        let Self { peer, socket } = self;
        drop(peer);
        // What takes longer than that would be the network's fault, and the peer notices by itself.
        _ = tokio::time::timeout(GOODBYE, socket.close()).await;
    }
}

impl Client {
    /// A client for `srt://[host]:port[?option=value&…]`, or for a group of connections: see [`SrtUrl`].
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url = url.as_ref().parse::<SrtUrl>().map_err(|error| StreamError::protocol(error.to_string()))?;
        Ok(Self::of(url))
    }

    /// A client for that URL.
    #[must_use]
    pub fn of(url: SrtUrl) -> Self {
        Self { url, config: ClientConfig::default() }
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
    pub const fn url(&self) -> &SrtUrl {
        &self.url
    }

    /// Publishes what the other end sends as `key` until it ends or `shutdown` fires. The right to publish is asked for
    /// when there is a connection. Dropping the future ends it.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the other end's reason, [`StreamError::Refused`] by the engine,
    /// [`StreamError::Closed`] with a timeout, or because what comes is no transport stream, [`StreamError::Io`]; with
    /// [`Backoff`] only what the engine refuses.
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

    async fn pull_once(
        &self,
        registry: &dyn PublishRegistry,
        key: &StreamKey,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let link = self.dial(shutdown).await?;
        let publisher = match registry.publish(PublishRequest::internal(key.clone(), "srt")).await {
            Ok(publisher) => publisher,
            Err(error) => {
                link.close().await;
                return Err(error);
            }
        };
        let work = media::publish(&link.peer, publisher);
        let reason = shutdown.run_until_cancelled(work).await.unwrap_or(CloseReason::Shutdown);
        link.close().await;
        match reason {
            CloseReason::PeerClosed | CloseReason::Shutdown => Ok(reason),
            reason => Err(StreamError::Closed(reason)),
        }
    }

    /// Sends what `subscription` reads to the other end, until it ends or `shutdown` fires. One connection, whatever the
    /// configuration says about further ones, because a subscription is used up. Dropping the future ends it.
    ///
    /// # Errors
    /// [`StreamError::Rejected`] with the other end's reason, [`StreamError::Closed`] with a timeout, or because MPEG-TS
    /// cannot carry the stream, [`StreamError::Io`].
    pub async fn push(
        &self,
        subscription: Subscription,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let tracks = subscription.tracks();
        if !tracks.is_empty() && !Muxer::can_carry(&tracks) {
            return Err(StreamError::Closed(CloseReason::Unsupported));
        }
        let link = self.dial(shutdown).await?;
        let work = media::play(&link.peer, subscription.into_derived(0, Packetizer::new));
        let reason = shutdown.run_until_cancelled(work).await.unwrap_or(CloseReason::Shutdown);
        link.close().await;
        Ok(reason)
    }

    async fn dial(&self, shutdown: &CancellationToken) -> Result<Link> {
        let dialling = async {
            match (self.url.mode, &self.url.group) {
                (ConnectMode::Listener, _) => self.wait().await,
                (_, Some(group)) => self.call_group(group).await,
                (ConnectMode::Caller | ConnectMode::Rendezvous, None) => self.call().await,
            }
        };
        let dialled = shutdown.run_until_cancelled(dialling).await;
        dialled.unwrap_or(Err(StreamError::Closed(CloseReason::Shutdown)))
    }

    /// Tries one address after the other.
    async fn call(&self) -> Result<Link> {
        let mut failed = StreamError::Closed(CloseReason::NotFound);
        for remote in self.addresses().await? {
            let socket = Socket::bind(self.local(remote))?;
            let config = self.url.config.clone();
            let called = match self.url.mode {
                ConnectMode::Rendezvous => socket.rendezvous(remote, config).await,
                _ => socket.call(remote, config).await,
            };
            match called {
                Ok(peer) => return Ok(Link { peer, socket }),
                Err(error) => failed = stream_error(error),
            }
        }
        Err(failed)
    }

    /// Calls over all paths, and goes on with the first that answers.
    async fn call_group(&self, group: &SrtGroup) -> Result<Link> {
        let mut at = self.config.addresses.clone();
        if at.is_empty() {
            let look = |host: String, port| async move { resolve(&host, port).await };
            let found = resolve_all(&group.paths, look).await?;
            at = group.choose(&found).unwrap_or_default();
        }
        let Some(first) = at.first().filter(|_| at.len() == group.paths.len()) else {
            return Err(StreamError::protocol("the paths of a group are all IPv4 or all IPv6"));
        };
        if at.iter().collect::<HashSet<_>>().len() < at.len() {
            return Err(StreamError::protocol("two paths of the group lead to the same address"));
        }
        let socket = Socket::bind(self.local(*first))?;
        let weights = group.paths.iter().map(|path| path.weight);
        let paths: Vec<(SocketAddr, u16)> = at.iter().copied().zip(weights).collect();
        let called = socket.call_group(group.kind, &paths, self.url.config.clone()).await;
        called.map(|peer| Link { peer, socket }).map_err(stream_error)
    }

    /// Waits for a caller with the right passphrase.
    async fn wait(&self) -> Result<Link> {
        let url = &self.url;
        let addresses = self.addresses().await?;
        let at = *addresses.first().ok_or(StreamError::Closed(CloseReason::NotFound))?;
        let mut socket = Socket::listen(at)?;
        tracing::info!(%url, "waiting for an SRT caller");
        loop {
            let Some(mut incoming) = socket.accept().await else {
                return Err(StreamError::Io(std::io::Error::other("the socket is gone")));
            };
            let (remote, config) = (incoming.remote(), url.config.clone());
            let checking = tokio::task::spawn_blocking(move || {
                let checked = incoming.check(&config);
                (incoming, config, checked)
            });
            let Ok((incoming, config, checked)) = checking.await else { continue };
            match checked {
                Ok(()) => match incoming.accept(config).await {
                    Ok(peer) => return Ok(Link { peer, socket }),
                    Err(error) => tracing::info!(peer = %remote, %error, "an SRT caller is refused"),
                },
                Err(reason) => {
                    tracing::info!(peer = %remote, %reason, "an SRT caller is refused");
                    incoming.reject(reason);
                }
            }
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let SrtUrl { host, port, .. } = &self.url;
        if !self.config.addresses.is_empty() {
            return Ok(self.config.addresses.clone());
        }
        if host.is_empty() {
            let any = self.url.adapter.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
            // A machine without IPv6 has IPv4 alone.
            let has_it = std::net::UdpSocket::bind((any, 0)).is_ok();
            let any = if has_it { any } else { Ipv4Addr::UNSPECIFIED.into() };
            return Ok(vec![SocketAddr::new(any, *port)]);
        }
        resolve(host, *port).await
    }

    /// Where to call from. Of a rendezvous both ends know each other's port, which is the same unless they say otherwise.
    fn local(&self, remote: SocketAddr) -> SocketAddr {
        let any: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let own = self.url.adapter.filter(|ip| ip.is_ipv4() == remote.is_ipv4()).unwrap_or(any);
        let port = match self.url.mode {
            ConnectMode::Rendezvous => self.url.local_port.unwrap_or(remote.port()),
            _ => self.url.local_port.unwrap_or(0),
        };
        SocketAddr::new(own, port)
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let looking = tokio::net::lookup_host((host, port));
    let found = tokio::time::timeout(RESOLVE, looking).await;
    let found = found.map_err(|_| StreamError::Closed(CloseReason::Timeout(Phase::Connect)))?;
    Ok(found?.collect())
}

/// Of several at the same time, so that all take no longer than one may.
async fn resolve_all<F>(paths: &[SrtPath], look: impl Fn(String, u16) -> F) -> Result<Vec<Vec<SocketAddr>>>
where
    F: Future<Output = Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut looking = JoinSet::new();
    for (at, path) in paths.iter().enumerate() {
        let one = look(path.host.clone(), path.port);
        looking.spawn(async move { (at, one.await) });
    }
    let mut found = vec![Vec::new(); paths.len()];
    while let Some(done) = looking.join_next().await {
        let (at, addresses) = done.map_err(std::io::Error::other)?;
        if let Some(place) = found.get_mut(at) {
            *place = addresses?;
        }
    }
    Ok(found)
}

/// A failure to connect, in the engine's terms.
fn stream_error(error: SessionError) -> StreamError {
    match error {
        SessionError::Rejected(reason) => StreamError::Rejected(reason.to_string()),
        SessionError::Crypto(error) => StreamError::protocol(error.to_string()),
        SessionError::Filter(error) => StreamError::protocol(error.to_string()),
        error => StreamError::Closed(error.reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In virtual time.
    #[tokio::test(start_paused = true)]
    async fn the_names_of_a_group_are_looked_up_at_the_same_time_and_stay_in_order() {
        let path = |n: u16| SrtPath { host: "a.test".to_owned(), port: n, weight: 0 };
        let paths: Vec<_> = (1..=8).map(path).collect();
        let look = |_, port: u16| async move {
            // The last one is there first.
            tokio::time::sleep(RESOLVE - Duration::from_millis(port.into())).await;
            Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)])
        };
        let began = tokio::time::Instant::now();
        let found = resolve_all(&paths, look).await.unwrap();
        assert!(began.elapsed() < RESOLVE, "{:?}", began.elapsed());
        assert_eq!(found.concat().iter().map(SocketAddr::port).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let none = |_, _| async { Err(StreamError::Closed(CloseReason::NotFound)) };
        assert!(resolve_all(&paths, none).await.is_err());
    }
}
