//! Streams over HTTP as one body without end, on the types of the `http` and `http-body` crates, to mount in axum, hyper or
//! anything else that speaks them.
//!
//! What a container adds to that is a [`Container`]: [`flv::http`](crate::flv::http), [`fmp4::http`](crate::fmp4::http),
//! [`ts::http`](crate::ts::http).
//!
//! | request | answer |
//! |---|---|
//! | `GET` | `200`: the container's headers, the newest GOP, and on |
//! | `HEAD` | the same without the body: is the stream there? Nobody reads it for that |
//! | `POST`, `PUT` | the body is published; `204` when it ends |
//! | anything else | `405` |
//!
//! Errors are `application/problem+json` (RFC 9457) and name the reason as logs and metrics do: 400 `malformed`, 401
//! `unauthorized`, 403 `forbidden`, 404 `not_found`, 408 `timeout(…)`, 409 `conflict`, 413 `limit(…)`, 415 `unsupported`, 503
//! `overloaded` and `shutdown`.
//!
//! What stays with whoever mounts it: routing, credentials, CORS, and the deadlines of sockets. A body that nobody takes
//! holds a cursor and at most one read batch of shared bytes.

mod body;
pub mod range;

use core::marker::PhantomData;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::derived::{self, Packet};
use arcly_core::log::Read;
use arcly_core::problem::Problem;
use arcly_core::rendition::AudioChoice;
use arcly_core::{
    CloseReason, IngestContext, MediaEvent, Phase, PlayRequest, PlaybackRegistry, PublishRegistry,
    PublishRequest, Publisher, StreamError, TrackSet,
};
use bytes::{Buf, Bytes};
use futures_util::future::poll_fn;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body;

pub use body::StreamBody;

/// A publisher that sends nothing for so long is gone.
pub const PUBLISHER_IDLE: Duration = Duration::from_secs(10);
/// Bytes that are demuxed at a time, between looks at whether the publisher may go on.
const PIECE: usize = 64 << 10;
/// Bytes of a body that are looked for when nobody waits for the answer any more: more than HTTP libraries read ahead.
const MAX_REST: usize = 1 << 20;

/// Why a stream is not played, or publishing ended before the body did: the reason, and what to tell the peer.
pub type Failure = (CloseReason, String);

/// A container that goes over HTTP as one body without end.
pub trait Container: Send + Sync + 'static {
    /// Its name, for people: `FLV`.
    const NAME: &'static str;
    /// Its media type.
    const MEDIA_TYPE: &'static str;
    /// The variant of its derived log; see [`into_derived`](arcly_core::Subscription::into_derived).
    const VARIANT: u64 = 0;
    /// Makes its packets.
    type Packetizer: derived::Packetizer<Item = Packet> + Default;
    /// What one reader has to remember of what was sent.
    type Writer: Default + Send + Unpin;
    /// Takes it apart.
    type Reader: Reader;

    /// Sound that its players can take, unless their query asks for other.
    const AUDIO: AudioChoice;

    /// Hands what has to be sent for `read` to `send`, in order.
    fn write(writer: &mut Self::Writer, read: &Read<Packet>, send: impl FnMut(Bytes));

    /// True when nothing more can be added to what `writer` has sent: the body ends.
    fn is_complete(writer: &Self::Writer) -> bool {
        let _ = writer;
        false
    }

    /// True when at least one of the tracks can be carried, or none is known yet.
    fn can_carry(tracks: &TrackSet) -> bool {
        let _ = tracks;
        true
    }
}

/// Takes a body apart, in pieces of any size.
pub trait Reader: Default + Send {
    /// Takes more of the body.
    ///
    /// # Errors
    /// The body is not what it should be; that is final.
    fn push(&mut self, data: &[u8]) -> Result<(), Failure>;

    /// The next event; `None` until more was pushed.
    fn poll_event(&mut self) -> Option<MediaEvent>;

    /// Nothing follows. What waited for more may come out as further events.
    ///
    /// # Errors
    /// The body ends in the middle of something.
    fn finish(&mut self) -> Result<(), Failure>;
}

/// Plays and publishes streams over HTTP in a container.
pub struct HttpStream<C> {
    publish: Arc<dyn PublishRegistry>,
    playback: Arc<dyn PlaybackRegistry>,
    container: PhantomData<fn() -> C>,
}

impl<C> Clone for HttpStream<C> {
    fn clone(&self) -> Self {
        let (publish, playback) = (Arc::clone(&self.publish), Arc::clone(&self.playback));
        Self { publish, playback, container: PhantomData }
    }
}

impl<C: Container> core::fmt::Debug for HttpStream<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HttpStream({})", C::NAME)
    }
}

impl<C: Container> HttpStream<C> {
    /// Handlers of an engine, given its [`context`](arcly_core::Engine::context).
    #[must_use]
    pub fn new(context: &IngestContext) -> Self {
        let (publish, playback) = (Arc::clone(&context.publish), Arc::clone(&context.playback));
        Self { publish, playback, container: PhantomData }
    }

    /// Answers a request for the stream that `play` and `publish` ask for, whichever its method means.
    ///
    /// Cancel safe: a dropped call leaves nothing behind but what was published until then.
    pub async fn handle<B>(&self, play: PlayRequest, method: &Method, body: B) -> Response<StreamBody<C>>
    where
        B: Body,
    {
        match *method {
            Method::GET => self.play(play).await,
            // Whether it is there now; whoever wants to wait asks for the stream.
            Method::HEAD => self.look(play).await,
            Method::POST | Method::PUT => {
                let PlayRequest { key, client, credentials, via, .. } = play;
                let mut request = PublishRequest::internal(key, client.protocol).via(via);
                (request.client, request.credentials) = (client, credentials);
                self.publish(request, body).await
            }
            _ => {
                let problem =
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "play with GET, publish with POST");
                let mut response = problem.into_response().map(StreamBody::whole);
                response
                    .headers_mut()
                    .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT"));
                response
            }
        }
    }

    /// Plays a stream. The response's extensions hold the reader's `Arc<ReaderState>`, for whoever knows better than
    /// the body why it is dropped.
    pub async fn play(&self, request: PlayRequest) -> Response<StreamBody<C>> {
        match self.playback.subscribe(request.audio_or_as_asked(C::AUDIO)).await {
            Ok(subscription) => match head::<C>(&subscription.tracks()) {
                Ok(mut response) => {
                    response.extensions_mut().insert(Arc::clone(subscription.state()));
                    response.map(|()| StreamBody::live(subscription))
                }
                Err(failure) => told(failure).map(StreamBody::whole),
            },
            Err(error) => Problem::refused(&error).into_response().map(StreamBody::whole),
        }
    }

    /// What [`play`](Self::play) would answer now, without the body. Nobody reads the stream for that.
    async fn look(&self, request: PlayRequest) -> Response<StreamBody<C>> {
        match self.playback.look(request.audio_or_as_asked(C::AUDIO)).await {
            Ok(tracks) => head::<C>(&tracks).unwrap_or_else(|failure| told(failure).map(drop)),
            Err(error) => Problem::refused(&error).into_response().map(drop),
        }
        .map(|()| StreamBody::empty())
    }

    /// Publishes a body until it ends.
    pub async fn publish<B: Body>(&self, request: PublishRequest, body: B) -> Response<StreamBody<C>> {
        let publisher = match self.publish.publish(request).await {
            Ok(publisher) => publisher,
            Err(error) => return Problem::refused(&error).into_response().map(StreamBody::whole),
        };
        match ingest::<C, B>(publisher, body).await {
            Ok(()) => {
                let mut response = Response::new(StreamBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(failure) => told(failure).map(StreamBody::whole),
        }
    }
}

fn told((reason, detail): Failure) -> Response<Bytes> {
    Problem::because(reason, detail).into_response()
}

/// The head of an answer that has a stream of these tracks in it; what is wrong where the container has no place for them.
fn head<C: Container>(tracks: &TrackSet) -> Result<Response<()>, Failure> {
    if !C::can_carry(tracks) {
        let codecs: Vec<_> = tracks.iter().map(|track| track.codec.to_string()).collect();
        let detail = format!("{} cannot carry {}", C::NAME, codecs.join(", "));
        return Err((CloseReason::Unsupported, detail));
    }
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(C::MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn failed(error: &StreamError) -> Failure {
    (error.reason(), format!("publishing ended: {}", error.reason()))
}

async fn ingest<C: Container, B: Body>(mut publisher: Publisher, body: B) -> Result<(), Failure> {
    let result = ingest_all::<C, B>(&mut publisher, body).await;
    if let Err((reason, _)) = &result {
        // The first reason stands, so that one who was disconnected is not said to be malformed.
        publisher.state().revoke(*reason);
    }
    result
}

/// A body, what takes it apart, and whom it is published for.
struct Intake<'a, R: Reader, B: Body> {
    publisher: &'a mut Publisher,
    reader: R,
    /// Until it has ended or broken off.
    body: Option<Pin<&'a mut B>>,
    frames: u64,
}

impl<R: Reader, B: Body> Intake<'_, R, B> {
    /// The next data of the body; `None` when it has ended.
    async fn next(&mut self) -> Result<Option<B::Data>, Failure> {
        let Self { publisher, body, .. } = self;
        loop {
            let Some(source) = body else { return Ok(None) };
            let next = poll_fn(|cx| source.as_mut().poll_frame(cx));
            let frame = tokio::select! {
                frame = tokio::time::timeout(PUBLISHER_IDLE, next) => frame,
                reason = publisher.revoked() => return Err(failed(&StreamError::Closed(reason))),
            };
            match frame {
                Err(_) => return Err((CloseReason::Timeout(Phase::Idle), "nothing came for 10 s".into())),
                Ok(None) => *body = None,
                Ok(Some(Err(_))) => {
                    *body = None;
                    return Err((CloseReason::PeerClosed, "the body broke off".into()));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Demuxes and publishes.
    fn take(&mut self, mut data: impl Buf) -> Result<(), Failure> {
        while data.has_remaining() {
            let piece = data.chunk();
            let count = piece.len().min(PIECE);
            let pushed = self.reader.push(piece.get(..count).unwrap_or_default());
            data.advance(count);
            // What came before the fault is good.
            self.publish()?;
            pushed?;
        }
        Ok(())
    }

    /// Publishes what has come of the body.
    fn publish(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.reader.poll_event() {
            self.frames = self.frames.saturating_add(u64::from(matches!(event, MediaEvent::Frame(_))));
            self.publisher.handle(event).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Publishes what the reader holds back until more comes: nothing does.
    fn finish(&mut self) -> Result<(), Failure> {
        let finished = self.reader.finish();
        self.publish()?;
        finished
    }

    /// What has come of the body and was not asked for yet.
    fn take_rest(&mut self) -> Result<(), Failure> {
        let (mut cx, mut left) = (Context::from_waker(Waker::noop()), MAX_REST);
        let Some(mut body) = self.body.take() else { return Ok(()) };
        while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
            let Ok(data) = frame.into_data() else { continue };
            left = match left.checked_sub(data.remaining()) {
                Some(left) => left,
                None => break,
            };
            self.take(data)?;
        }
        Ok(())
    }
}

impl<R: Reader, B: Body> Drop for Intake<'_, R, B> {
    /// HTTP libraries drop the answer that they wait for when the peer is gone, also one that has sent all of its body and
    /// does not stay for the answer. What it sent is good, wherever it is.
    fn drop(&mut self) {
        if self.take_rest().is_ok() {
            let _ = self.finish();
        }
    }
}

async fn ingest_all<C: Container, B: Body>(publisher: &mut Publisher, body: B) -> Result<(), Failure> {
    let body = pin!(body);
    let mut intake = Intake { publisher, reader: C::Reader::default(), body: Some(body), frames: 0 };
    while let Some(data) = intake.next().await? {
        intake.take(data)?;
    }
    intake.finish()?;
    match intake.frames {
        0 => Err((CloseReason::Malformed, format!("the body holds no media; send {}", C::NAME))),
        _ => Ok(()),
    }
}
