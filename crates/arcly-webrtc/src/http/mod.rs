//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) on the types of the `http` and `http-body` crates, to mount in axum, hyper or
//! anything else that speaks them.
//!
//! | request | answer |
//! |---|---|
//! | `POST` to the endpoint, an offer | `201`: the answer; `Location` of the session, `ETag`, `Link` to ICE servers |
//! | `PATCH` to the session, candidates | `204` |
//! | `PATCH` with `If-Match: *`, credentials | `200`: an ICE restart; the new credentials, and `ETag` |
//! | `DELETE` to the session | `200`: it is over, and gone for whoever asks then, or at the same time |
//! | `OPTIONS` to either | `204`: what may be sent |
//! | anything else | `405` |
//!
//! Errors are `application/problem+json` (RFC 9457) and name the reason as logs and metrics do: 400 `malformed`, 401
//! `unauthorized`, 403 `forbidden`, 404 `not_found`, 406 `unsupported` of codecs, 408 `timeout(…)`, 409 `conflict`, 412 and 428 of
//! entity tags, 413 `limit(…)`, 415 of media types, 422 `unsupported` of offers, 429 of too many restarts, 503 `overloaded` and
//! `shutdown`, with `Retry-After`.
//!
//! What stays with whoever mounts it: routing, credentials, and which origins are let in. The names of sessions are 128 random bits,
//! and who knows one may act on it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::Credentials;
use arcly_core::contract::observe::Observer;
use arcly_core::problem::{Problem, status_of};
use arcly_core::rendition::WEBRTC_AUDIO;
use arcly_core::via::Via;
use arcly_core::{
    ClientInfo, CloseReason, IngestContext, Phase, PlayRequest, PlaybackRegistry, PublishRegistry,
    PublishRequest, StreamError, StreamKey, clock,
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use crate::config::Addresses;
use crate::media::Packetizer;
use crate::server::{Control, Entry, Hub, Opening, Side};
use crate::session::{Transport, WhepSession, WhipSession};
use crate::wire::{Fragment, MAX_CANDIDATES, MAX_FRAGMENT_BYTES, MAX_OFFER_BYTES, Offer, OfferError, Role};

/// The media type of offers and answers.
pub const SDP: &str = "application/sdp";
/// That of candidates and restarts.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// How long a body may take.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// The least between two ICE restarts of a session.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// What pages may read of an answer beside its body.
const EXPOSED: &str = "Location, ETag, Link, Accept-Patch, Retry-After";
/// Seconds after which somebody who found no room may try again.
const RETRY_AFTER: &str = "2";

/// Who asks for what.
#[derive(Clone, Debug)]
pub struct Visit {
    /// To publish, or to view.
    pub role: Role,
    /// The stream.
    pub stream: StreamKey,
    /// Who asks.
    pub client: ClientInfo,
    /// What they prove it with.
    pub credentials: Credentials,
    /// Where the stream has come through, or goes to, as a relay says.
    pub via: Via,
    /// Addresses by which the peer has reached this machine: those of the connection, and of `Host` where it is one.
    pub reached: Vec<IpAddr>,
    /// The session, where the path names one.
    pub session: Option<String>,
}

/// WHIP and WHEP for one engine and one socket.
#[derive(Clone)]
pub struct Endpoint {
    hub: Arc<Hub>,
    publish: Arc<dyn PublishRegistry>,
    playback: Arc<dyn PlaybackRegistry>,
    observer: Arc<dyn Observer>,
}

impl core::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Endpoint")
    }
}

/// An answer that is none.
type Refusal = Box<Response<Bytes>>;

fn problem(status: StatusCode, detail: &str, reason: Option<CloseReason>) -> Refusal {
    Box::new(Problem { status, detail: detail.to_owned(), reason }.into_response())
}

/// What the engine refused.
fn refused(error: &StreamError) -> Refusal {
    let problem = Problem::refused(error);
    let reason = error.reason();
    let mut response = match reason {
        CloseReason::Unsupported => problem.with_status(StatusCode::NOT_ACCEPTABLE),
        _ => problem,
    }
    .into_response();
    let headers = response.headers_mut();
    match reason {
        // A token before a name and a password.
        CloseReason::Unauthorized => {
            let bearer = HeaderValue::from_static("Bearer realm=\"arcly\"");
            let basic = headers.insert(header::WWW_AUTHENTICATE, bearer);
            basic.map(|basic| headers.append(header::WWW_AUTHENTICATE, basic));
        }
        CloseReason::NotFound | CloseReason::Overloaded | CloseReason::Shutdown => {
            put(headers, header::RETRY_AFTER, RETRY_AFTER);
        }
        _ => {}
    }
    Box::new(response)
}

impl Endpoint {
    pub(crate) fn new(hub: Arc<Hub>, context: &IngestContext) -> Self {
        let (publish, playback) = (Arc::clone(&context.publish), Arc::clone(&context.playback));
        Self { hub, publish, playback, observer: Arc::clone(&context.observer) }
    }

    /// Answers a request.
    ///
    /// Cancel safe: a dropped call leaves no session behind, unless its answer was about to be given; that one ends when nobody
    /// connects to it.
    pub async fn handle<B: Body>(&self, visit: Visit, parts: &Parts, body: B) -> Response<Bytes> {
        let answer = match (&parts.method, visit.session.clone()) {
            (&Method::OPTIONS, session) => Ok(options(session.is_some())),
            (&Method::POST, None) => self.open(visit, parts, body).await,
            (&Method::PATCH, Some(id)) => self.patch(&visit, &id, &parts.headers, body).await,
            (&Method::DELETE, Some(id)) => self.delete(&visit, &id).await,
            (_, session) => Err(not_allowed(session.is_some())),
        };
        let mut response = answer.unwrap_or_else(|problem| *problem);
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        response
    }

    async fn open<B: Body>(&self, visit: Visit, parts: &Parts, body: B) -> Result<Response<Bytes>, Refusal> {
        expect_type(&parts.headers, SDP)?;
        let body = collect(body, MAX_OFFER_BYTES, "offer").await?;
        let offer = Offer::decode(visit.role, &body).map_err(|error| offer_problem(&error))?;
        let (stream, client) = (visit.stream.clone(), visit.client.clone());
        let (opening, side, answer) = match visit.role {
            Role::Publisher => self.publisher(visit, offer).await?,
            Role::Viewer => self.viewer(visit, offer).await?,
        };
        let entry = self.hub.begin(opening, (stream, client), side, Arc::clone(&self.observer));
        let entry = entry.map_err(|error| {
            tracing::error!(%error, "no randomness");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the server failed", Some(CloseReason::Io))
        })?;
        Ok(self.created(&entry, parts.uri.path(), answer))
    }

    /// A place for a session that this address has asked for.
    fn enter(&self, client: &ClientInfo) -> Result<Opening, Refusal> {
        let address = client.remote.map_or(IpAddr::from([127, 0, 0, 1]), |remote| remote.ip());
        self.hub.enter(address).ok_or_else(no_room)
    }

    async fn publisher(&self, visit: Visit, offer: Offer) -> Result<(Opening, Side, String), Refusal> {
        let opening = self.enter(&visit.client)?;
        // Whoever cannot publish takes nobody's place.
        let addresses = self.addresses(&visit.reached)?;
        if !offer.has_known_codec() {
            return Err(no_known_codec());
        }
        let request = PublishRequest::new(visit.stream, visit.client, visit.credentials).via(visit.via);
        let publisher = self.publish.publish(request).await.map_err(|error| refused(&error))?;
        let (transport, answer) = self.answer(offer, addresses).await?;
        let session = WhipSession::new(transport, clock::now());
        if !session.can_receive() {
            return Err(no_known_codec());
        }
        Ok((opening, Side::Whip(Box::new(session), publisher), answer))
    }

    async fn viewer(&self, visit: Visit, offer: Offer) -> Result<(Opening, Side, String), Refusal> {
        let request =
            PlayRequest::new(visit.stream.clone(), visit.client.clone(), visit.credentials).via(visit.via);
        let request = request.audio(WEBRTC_AUDIO);
        let subscribed = self.playback.subscribe(request).await;
        let subscription = subscribed.map_err(|error| refused(&error))?;
        // Who waits for a stream takes no place of those who are about to connect.
        let opening = self.enter(&visit.client)?;
        let addresses = self.addresses(&visit.reached)?;
        let (transport, answer) = self.answer(offer, addresses).await?;
        let mut session = WhepSession::new(transport, random());
        // Tracks that are not known yet are chosen from when they come.
        session.choose(&subscription.tracks()).map_err(|error| {
            problem(StatusCode::NOT_ACCEPTABLE, &error.to_string(), Some(CloseReason::Unsupported))
        })?;
        if !subscription.stream().log().has_join_point() {
            subscription.stream().request_keyframe();
        }
        let reader = subscription.into_derived(0, || Packetizer::new(visit.stream));
        Ok((opening, Side::Whep(Box::new(session), Box::new(reader)), answer))
    }

    /// Where a peer that has reached those addresses is to send to.
    fn addresses(&self, reached: &[IpAddr]) -> Result<Addresses, Refusal> {
        let addresses = self.hub.addresses(reached);
        if addresses.is_empty() {
            let detail = "this server knows no address of its own to name; see webrtc.public_addresses";
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, detail, Some(CloseReason::Unsupported)));
        }
        Ok(addresses)
    }

    /// Answers an offer, in a task of its own: what goes wrong with it there is this request's alone.
    async fn answer(&self, offer: Offer, addresses: Addresses) -> Result<(Transport, String), Refusal> {
        let (identity, timeouts) = (self.hub.identity().clone(), self.hub.config().timeouts);
        let answer = move || Transport::answer(&identity, addresses, timeouts, offer, clock::now());
        match tokio::spawn(async move { answer() }).await {
            Ok(answered) => answered.map_err(|error| offer_problem(&error)),
            Err(error) => {
                tracing::error!(%error, "an offer could not be answered");
                Err(offer_problem(&OfferError::Malformed("something that cannot be answered")))
            }
        }
    }

    fn created(&self, entry: &Entry, path: &str, answer: String) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(answer));
        *response.status_mut() = StatusCode::CREATED;
        let location = format!("{}/{}", path.trim_end_matches('/'), entry.id);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
        headers.insert("accept-patch", HeaderValue::from_static(FRAGMENT));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        put(headers, header::LOCATION, &location);
        put(headers, header::ETAG, &tag(&entry.state.lock().fragment));
        for server in &self.hub.config().ice_servers {
            if let Ok(value) = HeaderValue::from_str(&link(server)) {
                headers.append(header::LINK, value);
            }
        }
        response
    }

    /// The session of a path. That of another stream, or of the other protocol, is as little there as any other, and one that
    /// somebody has ended is not either, though its task may still say good-bye.
    fn session(&self, visit: &Visit, id: &str) -> Result<Arc<Entry>, Refusal> {
        let is_meant = |entry: &Arc<Entry>| {
            entry.role == visit.role && entry.stream == visit.stream && !entry.state.lock().is_deleted
        };
        self.hub.session(id).filter(is_meant).ok_or_else(gone)
    }

    async fn delete(&self, visit: &Visit, id: &str) -> Result<Response<Bytes>, Refusal> {
        let entry = self.session(visit, id)?;
        // A place for the command comes first: nobody is to be told that it was deleted by a request that has broken off since. A
        // session that takes no commands any more is over.
        let place = entry.control.reserve().await.map_err(|_| gone())?;
        if core::mem::replace(&mut entry.state.lock().is_deleted, true) {
            return Err(gone());
        }
        place.send(Control::Close);
        Ok(Response::new(Bytes::new()))
    }

    async fn patch<B: Body>(
        &self,
        visit: &Visit,
        id: &str,
        headers: &HeaderMap,
        body: B,
    ) -> Result<Response<Bytes>, Refusal> {
        let entry = self.session(visit, id)?;
        expect_type(headers, FRAGMENT)?;
        let expected =
            headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()).ok_or_else(|| {
                problem(
                    StatusCode::PRECONDITION_REQUIRED,
                    "say with `If-Match` which ICE session is meant",
                    None,
                )
            })?;
        let fragment = collect(body, MAX_FRAGMENT_BYTES, "fragment").await?;
        let fragment = Fragment::decode(&fragment).map_err(|error| {
            let reason = CloseReason::from(error);
            problem(status_of(reason), &error.to_string(), Some(reason))
        })?;
        // The examples of RFC 9725 have it in quotes, as no tag of ours is.
        if matches!(expected.trim(), "*" | "\"*\"") {
            return restart(&entry, fragment).await;
        }
        trickle(&entry, expected, &fragment)
    }
}

/// Candidates of the peer. They are counted, and not needed.
fn trickle(entry: &Entry, expected: &str, fragment: &Fragment) -> Result<Response<Bytes>, Refusal> {
    let mut state = entry.state.lock();
    let current = tag(&state.fragment);
    if !expected.split(',').any(|one| one.trim() == current) {
        return Err(problem(
            StatusCode::PRECONDITION_FAILED,
            "that ICE session is not the current one",
            None,
        ));
    }
    state.candidates = state.candidates.saturating_add(fragment.candidates);
    if state.candidates > MAX_CANDIDATES {
        let reason = CloseReason::Limit("candidates");
        return Err(problem(status_of(reason), "these are more candidates than anybody has", Some(reason)));
    }
    drop(state);
    let mut response = Response::new(Bytes::new());
    // Without a tag, as nothing has changed (RFC 9725 §4.3.2).
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn restart(entry: &Entry, fragment: Fragment) -> Result<Response<Bytes>, Refusal> {
    let credentials = fragment.credentials.ok_or_else(|| {
        let detail =
            "`If-Match: *` is for an ICE restart, which has new credentials (a=ice-ufrag, a=ice-pwd)";
        problem(StatusCode::BAD_REQUEST, detail, Some(CloseReason::Malformed))
    })?;
    let now = clock::now();
    {
        let mut state = entry.state.lock();
        if state.restarted.is_some_and(|at| now.saturating_duration_since(at) < RESTART_INTERVAL) {
            let mut problem =
                problem(StatusCode::TOO_MANY_REQUESTS, "that is one ICE restart too many", None);
            put(problem.headers_mut(), header::RETRY_AFTER, "1");
            return Err(problem);
        }
        state.restarted = Some(now);
        state.candidates = 0;
    }
    let (sender, answer) = oneshot::channel();
    entry.control.send(Control::Restart(credentials, sender)).await.map_err(|_| gone())?;
    let answer = answer.await.map_err(|_| gone())?.map_err(|error| offer_problem(&error))?;
    let mut response = Response::new(Bytes::from(Fragment::of_answer(&answer)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    put(headers, header::ETAG, &tag(&entry.state.lock().fragment));
    Ok(response)
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A strong entity tag (RFC 9110 §8.8.3): the current ICE session.
fn tag(fragment: &str) -> String {
    format!("\"{fragment}\"")
}

/// RFC 9725 §4.6.
fn link(server: &crate::config::IceServer) -> String {
    let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
        let (username, credential) = (quoted(username), quoted(credential));
        link +=
            &format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"");
    }
    link
}

fn options(is_session: bool) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static(methods(is_session));
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, If-Match"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    let (name, kind) = if is_session { ("accept-patch", FRAGMENT) } else { ("accept-post", SDP) };
    headers.insert(name, HeaderValue::from_static(kind));
    response
}

const fn methods(is_session: bool) -> &'static str {
    if is_session { "OPTIONS, PATCH, DELETE" } else { "OPTIONS, POST" }
}

fn not_allowed(is_session: bool) -> Refusal {
    let detail = if is_session {
        "PATCH sends candidates to a session, DELETE ends it"
    } else {
        "POST an offer (application/sdp) to publish (/whip) or to play (/whep)"
    };
    let mut problem = problem(StatusCode::METHOD_NOT_ALLOWED, detail, None);
    problem.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods(is_session)));
    problem
}

fn gone() -> Refusal {
    problem(StatusCode::NOT_FOUND, "there is no such session", Some(CloseReason::NotFound))
}

fn no_room() -> Refusal {
    let detail = "there is no room for another session at the moment";
    let mut problem = problem(StatusCode::SERVICE_UNAVAILABLE, detail, Some(CloseReason::Overloaded));
    put(problem.headers_mut(), header::RETRY_AFTER, RETRY_AFTER);
    problem
}

fn no_known_codec() -> Refusal {
    let detail =
        "none of the codecs of the offer is known here: H.264, H.265, VP8, VP9, AV1; Opus, G.722, G.711";
    problem(StatusCode::NOT_ACCEPTABLE, detail, Some(CloseReason::Unsupported))
}

fn offer_problem(error: &OfferError) -> Refusal {
    let reason = error.reason();
    let status = match reason {
        CloseReason::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        reason => status_of(reason),
    };
    problem(status, &error.to_string(), Some(reason))
}

fn expect_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let detail = format!("send the body as `Content-Type: {expected}`");
    Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail, Some(CloseReason::Unsupported)))
}

/// A whole body of at most so many bytes.
async fn collect<B: Body>(body: B, limit: usize, what: &'static str) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long(limit, what));
    }
    let mut body = core::pin::pin!(body);
    let whole = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                problem(StatusCode::BAD_REQUEST, "the body broke off", Some(CloseReason::PeerClosed))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len().saturating_add(data.remaining()) > limit {
                return Err(too_long(limit, what));
            }
            whole.put(data);
        }
        Ok(whole.freeze())
    };
    let late = |_| {
        let reason = CloseReason::Timeout(Phase::Command);
        problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time", Some(reason))
    };
    tokio::time::timeout(BODY_TIME, whole).await.map_err(late)?
}

fn too_long(limit: usize, what: &'static str) -> Refusal {
    let detail = format!("the {what} is longer than {limit} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, &detail, Some(CloseReason::Limit(what)))
}

/// What a viewer's timestamps and numbers begin with is made of it. Nothing is secret about it.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
