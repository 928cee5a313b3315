//! `/api/v1/relays`: pulls and pushes that start and stop at run time.

use std::sync::Arc;

use arcly_core::CloseReason;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::api::{self, done, time};
use super::problem::Problem;
use crate::config::{RelayConfig, Span};
use crate::relay::{Reach, RelayError, RelayInfo};
use crate::server::Server;

pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let items: Vec<Value> = server.relays().list().iter().map(describe).collect();
    Json(json!({ "items": items }))
}

pub(super) async fn one(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    let found = server.relays().list().into_iter().find(|relay| relay.id.to_string() == id);
    found.map_or_else(|| no_relay().into_response(), |relay| Json(describe(&relay)).into_response())
}

pub(super) async fn start(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let wanted: RelayConfig = match api::body(body, "{\"from\": URL or stream, \"to\": URL or stream}") {
        Ok(wanted) => wanted,
        Err(problem) => return problem.into_response(),
    };
    match server.relays().start(&wanted, reach(&server)).await {
        Ok(relay) => {
            let location = format!("/api/v1/relays/{}", relay.id);
            (StatusCode::CREATED, [(header::LOCATION, location)], Json(describe(&relay))).into_response()
        }
        Err(error) => refused(&error).into_response(),
    }
}

/// Without configured credentials only loopback reaches the API, from where all that is not public is reached anyway.
fn reach(server: &Server) -> Reach {
    let config = server.config();
    let auth = &config.auth;
    if !auth.is_configured() || auth.private_relays { Reach::Anywhere } else { Reach::Public }
}

fn refused(error: &RelayError) -> Problem {
    let reason = match error {
        RelayError::Invalid(_) => return Problem::new(StatusCode::BAD_REQUEST, error.to_string()),
        RelayError::Forbidden(_) => CloseReason::Forbidden,
        RelayError::Conflict(_) => CloseReason::Conflict,
        RelayError::Unresolved(_) => CloseReason::NotFound,
    };
    Problem::because(reason, error.to_string())
}

pub(super) async fn stop(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    let stopped = id.parse().is_ok_and(|id| server.relays().stop(id));
    if stopped { done() } else { no_relay().into_response() }
}

fn no_relay() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no relay of that number; see /api/v1/relays")
}

fn describe(relay: &RelayInfo) -> Value {
    json!({
        "id": relay.id,
        "from": relay.from.to_string(),
        "to": relay.to.to_string(),
        "on_demand": relay.close_after.is_some(),
        "close_after": relay.close_after.map(|time| Span(time).to_string()),
        "state": relay.state,
        "since": time(relay.since),
        "attempts": relay.attempts,
        "last_error": relay.last_error,
    })
}
