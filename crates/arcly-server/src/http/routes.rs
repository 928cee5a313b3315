//! Which path is answered by what.

use std::sync::Arc;

use arcly_core::StreamKey;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::guard::Connection;
use super::media::Media;
use super::problem::Problem;
use super::{access, api, assets, hls, media, metrics, pages, recordings, webrtc};
use crate::figures::Figures;
use crate::server::Server;

/// Everything that the HTTP listeners serve.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let inside = Router::new()
        .nest("/api", api::router())
        .route("/metrics", get(scrape))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&server), access::require_api));
    Router::new()
        .merge(inside)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/", get(pages::index))
        .route("/assets/{name}", get(assets::asset))
        .fallback(any(by_path))
        .with_state(server)
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is starting or going down").into_response()
}

async fn scrape(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let Ok(text) = metrics::openmetrics(&server, Figures::of(&server).await) else {
        return internal_error().map(Body::new);
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        return ([(header::CONTENT_TYPE, metrics::OPENMETRICS)], text).into_response();
    }
    ([(header::CONTENT_TYPE, metrics::TEXT)], metrics::to_prometheus(&text)).into_response()
}

/// Streams and their pages: the path is the stream's name, its ending says what is wanted of it.
async fn by_path(State(server): State<Arc<Server>>, request: Request) -> Response {
    let path = request.uri().path().strip_prefix('/').unwrap_or_default().to_owned();
    if let Some((key, file)) = recordings::of_path(&path) {
        return recordings::answer(&server, key, file, request).await;
    }
    if hls::is_file(&path) {
        let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
            return internal_error();
        };
        return hls::answer(&server, &connection, request).await.map(Body::new);
    }
    if let Some((name, container)) = Media::of(&path) {
        return match StreamKey::parse(name) {
            Ok(key) => media::answer(&server, container, key, request).await,
            Err(_) => media::with_cors(&server, &request, not_found().into_response()),
        };
    }
    if let Some(target) = webrtc::Target::of(&path) {
        return webrtc::answer(&server, target, request).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed().into_response();
    }
    if let Some(name) = path.strip_suffix("/publish") {
        return match StreamKey::parse(name) {
            Ok(key) => pages::publisher(&server, &key),
            Err(_) => not_found().into_response(),
        };
    }
    match StreamKey::parse(&path) {
        Ok(key) => pages::player(&server, &key).await,
        Err(_) => not_found().into_response(),
    }
}

/// The same for everything that is not a name, so that it tells nothing.
pub(super) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing of that name; streams are at /app/stream.flv")
}

fn not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "publish with POST to /app/stream.flv or /app/stream/whip; everything else is read with GET",
    )
}

/// The answer when a handler panicked.
pub(crate) fn internal_error() -> http::Response<Body> {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; this is a bug").into_response()
}

/// What every answer says about itself.
pub(crate) fn finish_headers(headers: &mut HeaderMap) {
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("arcly"));
}
