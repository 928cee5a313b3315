//! HTTP-FLV on the types of the `http` and `http-body` crates, to mount in axum, hyper or anything else that speaks them.
//!
//! | request | answer |
//! |---|---|
//! | `GET` | `200`, `video/x-flv`: file header, sequence headers, the newest GOP, and on |
//! | `HEAD` | the same without the body: is the stream there? |
//! | `POST`, `PUT` | the body is published; `204` when it ends |
//! | anything else | `405` |
//!
//! Errors are `application/problem+json` (RFC 9457) and name the reason as logs and metrics do: 400 `malformed`, 401
//! `unauthorized`, 403 `forbidden`, 404 `not_found`, 408 `timeout(…)`, 409 `conflict`, 413 `limit(…)`, 415 `unsupported`, 503
//! `overloaded` and `shutdown`.
//!
//! A server with many readers may take the subscription out of the body
//! ([`into_subscription`](FlvBody::into_subscription)) and write the stream through
//! [`Egress`](arcly_core::egress::Egress), framed for its connections by [`Framing`](super::Framing).
//!
//! What stays with whoever mounts it: routing, credentials, CORS, and the deadlines of sockets. A body that nobody takes
//! holds a cursor and at most one read batch of shared bytes.

mod body;
mod problem;

use core::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::{
    CloseReason, IngestContext, MediaEvent, Phase, PlayRequest, PlaybackRegistry, PublishRegistry,
    PublishRequest, Publisher, StreamError,
};
use bytes::Buf;
use futures_util::future::poll_fn;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body;

pub use body::FlvBody;

use super::{MEDIA_TYPE, Reader};

/// A publisher that sends nothing for so long is gone.
pub const PUBLISHER_IDLE: Duration = Duration::from_secs(10);
/// Bytes that are demuxed at a time, between looks at whether the publisher may go on.
const PIECE: usize = 64 << 10;

/// Plays and publishes FLV over HTTP.
#[derive(Clone)]
pub struct HttpFlv {
    publish: Arc<dyn PublishRegistry>,
    playback: Arc<dyn PlaybackRegistry>,
}

impl core::fmt::Debug for HttpFlv {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HttpFlv").finish_non_exhaustive()
    }
}

impl HttpFlv {
    /// Handlers of an engine, given its [`context`](arcly_core::Engine::context).
    #[must_use]
    pub fn new(context: &IngestContext) -> Self {
        Self { publish: Arc::clone(&context.publish), playback: Arc::clone(&context.playback) }
    }

    /// Answers a request for the stream that `play` and `publish` ask for, whichever its method means.
    ///
    /// Cancel safe: a dropped call leaves nothing behind but what was published until then.
    pub async fn handle<B>(&self, play: PlayRequest, method: &Method, body: B) -> Response<FlvBody>
    where
        B: Body,
    {
        match *method {
            Method::GET => self.play(play).await,
            // Whether it is there now; whoever wants to wait asks for the stream.
            Method::HEAD => self.play(play.wait(Duration::ZERO)).await.map(|_| FlvBody::empty()),
            Method::POST | Method::PUT => {
                let PlayRequest { key, client, credentials, .. } = play;
                let mut request = PublishRequest::internal(key, client.protocol);
                (request.client, request.credentials) = (client, credentials);
                self.publish(request, body).await
            }
            _ => {
                let mut response = problem::response(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "play with GET, publish with POST",
                    None,
                );
                response
                    .headers_mut()
                    .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT"));
                response
            }
        }
    }

    /// Plays a stream. The response's extensions hold the reader's `Arc<ReaderState>`, for whoever knows better than
    /// the body why it is dropped.
    pub async fn play(&self, request: PlayRequest) -> Response<FlvBody> {
        match self.playback.subscribe(request).await {
            Ok(subscription) => {
                let state = Arc::clone(subscription.state());
                let mut response = Response::new(FlvBody::live(subscription));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response.extensions_mut().insert(state);
                response
            }
            Err(error) => problem::refused(&error),
        }
    }

    /// Publishes a body until it ends.
    pub async fn publish<B: Body>(&self, request: PublishRequest, body: B) -> Response<FlvBody> {
        let publisher = match self.publish.publish(request).await {
            Ok(publisher) => publisher,
            Err(error) => return problem::refused(&error),
        };
        match ingest(publisher, body).await {
            Ok(()) => {
                let mut response = Response::new(FlvBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err((reason, detail)) => problem::response(problem::status_of(reason), &detail, Some(reason)),
        }
    }
}

/// Why publishing ended before the body did.
type Failure = (CloseReason, String);

fn failed(error: &StreamError) -> Failure {
    (error.reason(), format!("publishing ended: {}", error.reason()))
}

async fn ingest<B: Body>(mut publisher: Publisher, body: B) -> Result<(), Failure> {
    let result = ingest_all(&mut publisher, body).await;
    if let Err((reason, _)) = &result {
        // The first reason stands, so that one who was disconnected is not said to be malformed.
        publisher.state().revoke(*reason);
    }
    result
}

async fn ingest_all<B: Body>(publisher: &mut Publisher, body: B) -> Result<(), Failure> {
    let (mut body, mut reader, mut frames) = (pin!(body), Reader::new(), 0_u64);
    loop {
        let next = poll_fn(|cx| body.as_mut().poll_frame(cx));
        let frame = tokio::select! {
            frame = tokio::time::timeout(PUBLISHER_IDLE, next) => frame,
            reason = publisher.revoked() => return Err(failed(&StreamError::Closed(reason))),
        };
        let data = match frame {
            Err(_) => return Err((CloseReason::Timeout(Phase::Idle), "nothing came for 10 s".into())),
            Ok(Some(Err(_))) => return Err((CloseReason::PeerClosed, "the body broke off".into())),
            Ok(Some(Ok(frame))) => frame.into_data().ok(),
            Ok(None) if frames == 0 => {
                return Err((CloseReason::Malformed, "the body holds no media; send FLV".into()));
            }
            Ok(None) if reader.buffered() > 0 => {
                return Err((CloseReason::Malformed, "the body ends within a tag".into()));
            }
            Ok(None) => return Ok(()),
        };
        if let Some(data) = data {
            frames = frames.saturating_add(take(publisher, &mut reader, data)?);
        }
    }
}

/// Demuxes and publishes; how many frames that were.
fn take(publisher: &mut Publisher, reader: &mut Reader, mut data: impl Buf) -> Result<u64, Failure> {
    let mut frames = 0_u64;
    while data.has_remaining() {
        let piece = data.chunk();
        let count = piece.len().min(PIECE);
        let pushed = reader.push(piece.get(..count).unwrap_or_default());
        data.advance(count);
        // What came before the fault is good.
        while let Some(event) = reader.poll_event() {
            frames = frames.saturating_add(u64::from(matches!(event, MediaEvent::Frame(_))));
            publisher.handle(event).map_err(|error| failed(&error))?;
        }
        pushed.map_err(|error| {
            (CloseReason::from(error), format!("this is not FLV that can be published: {error}"))
        })?;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests;
