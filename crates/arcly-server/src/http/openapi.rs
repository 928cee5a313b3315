//! `GET /api/v1/openapi.json`.

use axum::response::{IntoResponse as _, Response};
use http::header;

/// The document, written by hand; a test holds it against the routes.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.replace("{VERSION}", env!("CARGO_PKG_VERSION")))
        .into_response()
}
