//! RFC 9457 problem details: errors that say what to do.

use arcly_core::{CloseReason, StreamError, StreamKey};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

/// The media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    reason: Option<CloseReason>,
}

impl Problem {
    /// An error with a sentence for people.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), reason: None }
    }

    /// An error of that kind, with a sentence for people.
    pub(super) fn because(reason: CloseReason, detail: impl Into<String>) -> Self {
        Self { status: status_of(reason), detail: detail.into(), reason: Some(reason) }
    }

    /// There is no stream of that name.
    pub(super) fn no_stream(key: &StreamKey) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            detail: format!(
                "there is no stream `{key}`; publish it, or look at /api/v1/streams for those that are live"
            ),
            reason: Some(CloseReason::NotFound),
        }
    }

    /// What the engine refused.
    pub(super) fn refused(error: &StreamError) -> Self {
        let reason = error.reason();
        if let (StreamError::Refused { key, .. }, CloseReason::NotFound) = (error, reason) {
            return Self::no_stream(key);
        }
        Self { status: status_of(reason), detail: error.to_string(), reason: Some(reason) }
    }

    fn body(&self) -> String {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(object), Some(reason)) = (body.as_object_mut(), self.reason) {
            object.insert("reason".into(), reason.to_string().into());
        }
        body.to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, MEDIA_TYPE)], self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"arcly\", charset=\"UTF-8\""),
            );
        }
        response
    }
}

/// The status that says what a reason says.
pub(super) const fn status_of(reason: CloseReason) -> StatusCode {
    match reason {
        CloseReason::Malformed => StatusCode::BAD_REQUEST,
        CloseReason::Limit(_) => StatusCode::PAYLOAD_TOO_LARGE,
        CloseReason::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        CloseReason::Unauthorized => StatusCode::UNAUTHORIZED,
        CloseReason::Forbidden => StatusCode::FORBIDDEN,
        CloseReason::NotFound => StatusCode::NOT_FOUND,
        CloseReason::Conflict => StatusCode::CONFLICT,
        CloseReason::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CloseReason::Overloaded | CloseReason::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A whole answer as bytes, for what ends a connection before it is a request.
pub(super) fn raw_response(status: u16, detail: &str) -> Bytes {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = Problem::new(status, detail).body();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into()
}
