//! RTMP, as a client.

use std::net::SocketAddr;
use std::sync::Arc;

use arcly_core::{Engine, PlayRequest, PlaybackRegistry as _, StreamError};
use arcly_core::{PublishRegistry, StreamKey};
use arcly_rtmp::{Client, ClientConfig};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::tls;

/// Publishes the other server's stream as `key`.
pub(super) async fn pull(
    engine: &Arc<Engine>,
    url: &Url,
    at: &[SocketAddr],
    key: StreamKey,
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let registry = Arc::clone(engine) as Arc<dyn PublishRegistry>;
    client(url, at)?.pull(registry, key, cancel.clone()).await
}

/// Publishes a stream of this server on the other one.
pub(super) async fn push(
    engine: &Arc<Engine>,
    request: PlayRequest,
    url: &Url,
    at: &[SocketAddr],
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let client = client(url, at)?;
    let subscription = engine.subscribe(request).await?;
    let stream = Arc::clone(subscription.stream());
    let reason = client.push(subscription, cancel).await?;
    if cancel.is_cancelled() || stream.log().closed().is_some() {
        return Ok(());
    }
    Err(StreamError::Closed(reason))
}

fn client(url: &Url, at: &[SocketAddr]) -> Result<Client, StreamError> {
    let mut config = ClientConfig::default();
    config.addresses = at.to_vec();
    if url.scheme() == "rtmps" {
        config.tls = Some(tls::client().map_err(StreamError::protocol)?);
    }
    Ok(Client::new(url)?.with_config(config))
}
