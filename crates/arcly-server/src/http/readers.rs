//! `/api/v1/readers`.

use std::sync::Arc;

use arcly_core::CloseReason;
use arcly_core::subscriber::ReaderState;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::api::{done, time};
use super::problem::Problem;
use crate::figures::Figures;
use crate::server::Server;

pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let mut readers: Vec<_> = server.engine().streams().iter().flat_map(|stream| stream.readers()).collect();
    readers.sort_unstable_by_key(|reader| reader.id);
    let figures = Figures::of(&server).await;
    Json(json!({ "items": readers.iter().map(|reader| describe(reader, &figures)).collect::<Vec<_>>() }))
}

pub(super) async fn one(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    match find(&server, &id) {
        Ok(reader) => Json(describe(&reader, &Figures::of(&server).await)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub(super) async fn disconnect(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    match find(&server, &id) {
        Ok(reader) => {
            reader.end(CloseReason::Shutdown);
            done()
        }
        Err(problem) => problem.into_response(),
    }
}

fn find(server: &Server, id: &str) -> Result<Arc<ReaderState>, Problem> {
    let reader = id.parse().ok().and_then(|id| server.engine().reader(id));
    reader.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "there is no reader of that number; see /api/v1/readers")
    })
}

fn describe(reader: &ReaderState, figures: &Figures) -> Value {
    let stats = reader.stats();
    let mut shown = json!({
        "id": reader.id,
        "path": reader.key.as_str(),
        "protocol": reader.client.protocol,
        "remote": reader.client.remote.map(|remote| remote.to_string()),
        "since": time(reader.since),
        "items_out": stats.items,
        "bytes_out": stats.bytes,
        "lag_items": stats.lag_items,
        "skips": stats.skips,
        "skipped_items": stats.skipped_items,
        "thinned_items": stats.thinned_items,
        "last_skip": stats.last_skip.map(|skip| json!({
            "reason": skip.reason.as_str(),
            "items": skip.items,
            "bytes": skip.bytes,
            "milliseconds": skip.time.to_millis(),
        })),
    });
    figures.describe(&mut shown, &reader.client, &reader.key, Some(reader.id));
    shown
}
