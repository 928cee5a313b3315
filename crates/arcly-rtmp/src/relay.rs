//! The relay: pushes a stream of the engine on to another server.

use std::sync::Arc;

use arcly_core::{PlayRequest, PlaybackRegistry, Result, StreamError, StreamKey};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, ClientConfig, pause};
use arcly_core::net::{Backoff, Waits};

/// Pushes one stream to `rtmp[s]://[user:password@]host[:port]/app/stream[?query]`.
///
/// The set-up (connection, handshake, `connect`, `createStream`, `publish`) has ten seconds in all, so that a dead
/// upstream cannot wedge the task. Then the stream's headers and its current GOP go out, and live frames after them.
/// A relay reads the stream like any other reader: it takes no part in the publisher's timing, and if the upstream is
/// slower than the stream, whole GOPs are left out.
///
/// ```no_run
/// # async fn run(engine: std::sync::Arc<arcly_core::Engine>) -> arcly_core::Result<()> {
/// use arcly_core::StreamKey;
/// use arcly_rtmp::RtmpRelay;
/// use tokio_util::sync::CancellationToken;
///
/// let relay = RtmpRelay::new(engine, "rtmp://cdn.example.com/live/backup")?;
/// relay.run(StreamKey::new("live", "cam"), CancellationToken::new()).await
/// # }
/// ```
#[must_use = "nothing happens before `run`"]
pub struct RtmpRelay {
    playback: Arc<dyn PlaybackRegistry>,
    client: Client,
}

impl core::fmt::Debug for RtmpRelay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RtmpRelay").field("url", self.client.url()).finish_non_exhaustive()
    }
}

impl RtmpRelay {
    /// A relay to that URL.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] says what the URL is missing.
    pub fn new(playback: Arc<dyn PlaybackRegistry>, url: impl AsRef<str>) -> Result<Self> {
        Ok(Self { playback, client: Client::new(url)? })
    }

    /// The same relay with another configuration: TLS roots, limits, time-outs.
    pub fn with_config(mut self, config: ClientConfig) -> Self {
        self.client = self.client.with_config(config);
        self
    }

    /// The same relay, connecting again when the upstream fails or leaves.
    pub fn with_reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.with_reconnect(backoff);
        self
    }

    /// Relays until the stream ends or `shutdown` fires, which both are success. Cancel safe: dropping the future drops
    /// the connection, without the good-bye that `shutdown` sends.
    ///
    /// # Errors
    /// [`StreamError::Refused`] by the engine, [`StreamError::Rejected`] with the upstream's words,
    /// [`StreamError::Closed`] with a timeout or because the upstream left, [`StreamError::Io`]. With
    /// [`with_reconnect`](Self::with_reconnect) only what the engine refuses.
    pub async fn run(self, key: StreamKey, shutdown: CancellationToken) -> Result<()> {
        let mut waits = self.client.reconnect().map(Waits::new);
        let mut client = self.client.clone();
        loop {
            let request = PlayRequest::internal(key.clone(), "relay");
            let subscription = tokio::select! {
                subscription = self.playback.subscribe(request) => subscription?,
                () = shutdown.cancelled() => return Ok(()),
            };
            let stream = Arc::clone(subscription.stream());
            let outcome = client.push_once(subscription, &shutdown).await;
            if shutdown.is_cancelled() || stream.log().closed().is_some() {
                return Ok(());
            }
            let Some(waits) = &mut waits else {
                return outcome.and_then(|outcome| Err(StreamError::Closed(outcome.reason())));
            };
            client = self.client.clone();
            if let Ok(outcome) = &outcome {
                client.follow(outcome);
            }
            pause(waits, &outcome, client.url(), &shutdown).await;
        }
    }
}
