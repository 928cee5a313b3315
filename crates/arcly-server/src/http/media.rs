//! `/app/stream.flv` and `/app/stream.ts`: media in and out as one body without end; FLV over WebSocket too.

use std::sync::Arc;

use arcly_core::via::{self, Via};
use arcly_core::{ClientInfo, PlayRequest, StreamKey};
use arcly_mux::flv::http::HttpFlv;
use arcly_mux::fmp4::http::HttpMp4;
use arcly_mux::ts::http::HttpTs;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::access::{credentials, host_of, is_from_elsewhere};
use super::guard::Connection;
use super::problem::Problem;
use super::{play, ws};
use crate::server::Server;

/// Characters of a User-Agent that are kept.
const MAX_AGENT: usize = 128;

/// The container that a path's ending asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `.flv`
    Flv,
    /// `.ts`
    Ts,
    /// `.mp4`
    Mp4,
}

impl Media {
    /// The stream's name and the container, when the path has such an ending.
    pub(super) fn of(path: &str) -> Option<(&str, Self)> {
        let endings = [(".flv", Self::Flv), (".ts", Self::Ts), (".mp4", Self::Mp4)];
        endings.into_iter().find_map(|(ending, media)| Some((path.strip_suffix(ending)?, media)))
    }
}

/// Answers a request for the stream `key` in that container.
pub(super) async fn answer(server: &Arc<Server>, media: Media, key: StreamKey, request: Request) -> Response {
    let origin = allowed_origin(server, request.headers());
    let mut response = if *request.method() == Method::OPTIONS {
        preflight(origin.is_some())
    } else if is_foreign(&request, origin.as_ref()) {
        foreign()
    } else {
        serve(server, media, key, request).await
    };
    allow(response.headers_mut(), origin);
    response
}

/// The same answer with what lets allowed pages read it.
pub(super) fn with_cors(server: &Server, request: &Request, mut response: Response) -> Response {
    let origin = allowed_origin(server, request.headers());
    allow(response.headers_mut(), origin);
    response
}

async fn serve(server: &Arc<Server>, media: Media, key: StreamKey, request: Request) -> Response {
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return super::routes::internal_error();
    };
    let (parts, body) = request.into_parts();
    let is_websocket = media == Media::Flv && ws::is_upgrade(&parts);
    let protocol = match media {
        Media::Flv if is_websocket => "ws-flv",
        Media::Flv => "http-flv",
        Media::Ts => "http-ts",
        Media::Mp4 => "http-mp4",
    };
    let mut client = ClientInfo::new(protocol, connection.peer);
    client.agent = agent(&parts.headers);
    let mut shown = credentials(&connection, &parts);
    shown.protocol = protocol;
    let request = PlayRequest::new(key, client, shown).via(relayed(&parts.headers));
    let context = server.context();
    if is_websocket {
        return ws::upgrade(server, request, connection, parts).await;
    }
    match media {
        Media::Flv => play::mark(HttpFlv::new(&context).handle(request, &parts.method, body).await, &parts),
        Media::Ts => HttpTs::new(&context).handle(request, &parts.method, body).await.map(Body::new),
        Media::Mp4 => HttpMp4::new(&context).handle(request, &parts.method, body).await.map(Body::new),
    }
}

pub(super) fn agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(agent.chars().take(MAX_AGENT).collect::<String>().into())
}

/// What a relay says about where its stream comes from, or goes to.
pub(super) fn relayed(headers: &HeaderMap) -> Via {
    headers.get(via::HEADER).and_then(|list| list.to_str().ok()).map(Via::decode).unwrap_or_default()
}

/// The origin to let in, as the response names it.
pub(super) fn allowed_origin(server: &Server, headers: &HeaderMap) -> Option<HeaderValue> {
    let config = server.config();
    let allowed = &config.http.cors_origins;
    if allowed.iter().any(|one| one == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(header::ORIGIN)?;
    allowed.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// A page whose origin is neither allowed nor this server: it could not read the answer, but something would begin.
pub(super) fn is_foreign(request: &Request, origin: Option<&HeaderValue>) -> bool {
    let begins = matches!(*request.method(), Method::POST | Method::PUT);
    let from_elsewhere =
        || is_from_elsewhere(request.headers(), host_of(request.uri(), request.headers()).as_ref());
    begins && origin.is_none() && from_elsewhere()
}

/// What such a page is answered, or rather its user, in the browser's tools.
pub(super) fn foreign() -> Response {
    Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not publish or play; see http.cors_origins")
        .into_response()
}

pub(super) fn allow(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    if origin != "*" {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/// Nothing is allowed with cookies, so that any origin may be let in without asking who is logged in where.
pub(super) fn preflight(allowed: bool) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if allowed {
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, POST, PUT, OPTIONS"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Authorization, Content-Type, Range"),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    response
}
