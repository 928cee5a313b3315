//! `/api/v1`: what runs here, and what can be done about it.

use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::wall::Rfc3339;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{openapi, readers, recordings, relays, streams};
use crate::server::Server;

/// Bytes of a request's body.
const MAX_BODY: usize = 1 << 20;

/// Everything below `/api`.
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/streams", get(streams::list))
        .route("/v1/streams/{*path}", get(streams::one).delete(streams::disconnect))
        .route("/v1/readers", get(readers::list))
        .route("/v1/readers/{id}", get(readers::one).delete(readers::disconnect))
        .route("/v1/recordings", get(recordings::list).post(recordings::begin))
        .route("/v1/recordings/{*path}", delete(recordings::end))
        .route("/v1/relays", get(relays::list).post(relays::start))
        .route("/v1/relays/{id}", delete(relays::stop).get(relays::one))
        .route("/v1/openapi.json", get(openapi::document))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "no such resource; /api/v1/openapi.json lists them all")
                .into_response()
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource has no such method; see /api/v1/openapi.json",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn info(State(server): State<Arc<Server>>) -> Json<Value> {
    let uptime = SystemTime::now().duration_since(server.started_at()).unwrap_or_default();
    Json(json!({
        "name": "arcly",
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(server.started_at()),
        "uptime_seconds": uptime.as_secs(),
        "ready": server.is_ready(),
        "listeners": server.listeners(),
    }))
}

/// What the body of a request says; `form` is what it should have been, for whoever sent something else.
pub(super) fn body<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
    form: &str,
) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body must be {form}: {error}")))
}

/// A time as the API writes it.
pub(super) fn time(at: SystemTime) -> String {
    Rfc3339(at).to_string()
}

/// 204, for what was done.
pub(super) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
