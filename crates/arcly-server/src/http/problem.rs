//! RFC 9457 problem details: errors that say what to do.

use arcly_core::problem::{self, MEDIA_TYPE};
use arcly_core::{CloseReason, StreamError, StreamKey};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem(problem::Problem);

impl Problem {
    /// An error with a sentence for people.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(problem::Problem::new(status, detail))
    }

    /// An error of that kind, with a sentence for people.
    pub(super) fn because(reason: CloseReason, detail: impl Into<String>) -> Self {
        Self(problem::Problem::because(reason, detail))
    }

    /// There is no stream of that name.
    pub(super) fn no_stream(key: &StreamKey) -> Self {
        let detail = format!(
            "there is no stream `{key}`; publish it, or look at /api/v1/streams for those that are live"
        );
        Self::because(CloseReason::NotFound, detail)
    }

    /// What the engine refused.
    pub(super) fn refused(error: &StreamError) -> Self {
        match error {
            StreamError::Refused { key, .. } if error.reason() == CloseReason::NotFound => {
                Self::no_stream(key)
            }
            _ => Self(problem::Problem::refused(error)),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.0.into_response().map(Body::from)
    }
}

/// A whole answer as bytes, for what ends a connection before it is a request.
pub(super) fn raw_response(status: u16, detail: &str) -> Bytes {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = problem::Problem::new(status, detail).body();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into()
}
