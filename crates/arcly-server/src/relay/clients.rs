//! Clients of other servers that speak RTMP, RTSP, SRT or WebRTC, with what this server's relays have in common.

use std::net::SocketAddr;
use std::sync::Arc;

use arcly_core::{CloseReason, Engine, PlayRequest, PlaybackRegistry as _, StreamError, Subscription};
use arcly_srt::SrtUrl;
use arcly_webrtc::WebRtcUrl;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::route;
use crate::tls;

/// A client of that RTMP or RTMPS server, which is one of `at`, or whoever its host resolves to when there are none.
pub(super) fn rtmp(url: &Url, at: &[SocketAddr]) -> Result<arcly_rtmp::Client, StreamError> {
    let mut config = arcly_rtmp::ClientConfig::default();
    config.addresses = at.to_vec();
    if url.scheme() == "rtmps" {
        config.tls = Some(tls::client().map_err(StreamError::protocol)?);
    }
    Ok(arcly_rtmp::Client::new(url)?.with_config(config))
}

/// The same of an RTSP or RTSPS server, or a camera.
pub(super) fn rtsp(url: &Url, at: &[SocketAddr]) -> Result<arcly_rtsp::Client, StreamError> {
    let mut config = arcly_rtsp::ClientConfig::default();
    config.addresses = at.to_vec();
    if url.scheme() == "rtsps" {
        config.tls = Some(tls::client().map_err(StreamError::protocol)?);
    }
    Ok(arcly_rtsp::Client::new(url)?.with_config(config))
}

/// The same of an SRT listener, or of whoever calls.
pub(super) fn srt(url: &SrtUrl, at: &[SocketAddr]) -> arcly_srt::Client {
    let mut config = arcly_srt::ClientConfig::default();
    config.addresses = at.to_vec();
    arcly_srt::Client::of(url.clone()).with_config(config)
}

/// The same of a server that speaks WHIP or WHEP. One on the public Internet is sent datagrams there alone, whatever else it names.
pub(super) fn webrtc(url: &WebRtcUrl, at: &[SocketAddr]) -> Result<arcly_webrtc::Client, StreamError> {
    let mut config = arcly_webrtc::ClientConfig::default();
    config.addresses = at.to_vec();
    if !at.is_empty() && at.iter().all(|addr| route::is_public(addr.ip())) {
        config.may_reach = route::is_public;
    }
    if url.endpoint().scheme() == "https" {
        config.tls = Some(tls::client().map_err(StreamError::protocol)?);
    }
    Ok(arcly_webrtc::Client::of(url.clone()).with_config(config))
}

/// Publishes a stream of this server on another one: `push` is how.
pub(super) async fn push<F>(
    engine: &Arc<Engine>,
    request: PlayRequest,
    cancel: &CancellationToken,
    push: impl FnOnce(Subscription) -> F,
) -> Result<(), StreamError>
where
    F: Future<Output = Result<CloseReason, StreamError>>,
{
    let subscription = engine.subscribe(request).await?;
    let stream = Arc::clone(subscription.stream());
    let reason = push(subscription).await?;
    if cancel.is_cancelled() || stream.log().closed().is_some() {
        return Ok(());
    }
    Err(StreamError::Closed(reason))
}
