//! Errors as RFC 9457 problem details.

use arcly_core::{CloseReason, StreamError};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The status that says what a reason says.
pub(super) const fn status_of(reason: CloseReason) -> StatusCode {
    match reason {
        CloseReason::Malformed | CloseReason::PeerClosed => StatusCode::BAD_REQUEST,
        CloseReason::Unauthorized => StatusCode::UNAUTHORIZED,
        CloseReason::Forbidden => StatusCode::FORBIDDEN,
        CloseReason::NotFound => StatusCode::NOT_FOUND,
        CloseReason::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        CloseReason::Conflict => StatusCode::CONFLICT,
        CloseReason::Limit(_) => StatusCode::PAYLOAD_TOO_LARGE,
        CloseReason::Unsupported => StatusCode::NOT_ACCEPTABLE,
        CloseReason::Overloaded | CloseReason::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What the engine refused.
pub(super) fn refused(error: &StreamError) -> Response<Bytes> {
    let reason = error.reason();
    let detail = match (error, reason) {
        (StreamError::Refused { key, .. }, CloseReason::NotFound) => format!("there is no stream `{key}`"),
        (StreamError::Refused { key, .. }, CloseReason::Conflict) => {
            format!("`{key}` has a publisher already; stop that first, or use another name")
        }
        (StreamError::Refused { key, .. }, CloseReason::Unauthorized) => {
            format!("`{key}` needs credentials: `Authorization: Bearer …`, or `?token=…`")
        }
        _ => error.to_string(),
    };
    let mut response = response(status_of(reason), &detail, Some(reason));
    let headers = response.headers_mut();
    match reason {
        CloseReason::Unauthorized => {
            for challenge in ["Bearer realm=\"arcly\"", "Basic realm=\"arcly\", charset=\"UTF-8\""] {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        CloseReason::NotFound | CloseReason::Overloaded | CloseReason::Shutdown => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(super::RETRY_AFTER));
        }
        _ => {}
    }
    response
}

/// A problem. `detail` may hold anything.
pub(super) fn response(status: StatusCode, detail: &str, reason: Option<CloseReason>) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let reason = reason.map(|reason| format!(",\"reason\":\"{reason}\"")).unwrap_or_default();
    let (status_code, detail) = (status.as_u16(), escaped(detail));
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status_code},\"detail\":\"{detail}\"{reason}}}"
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The inside of a JSON string (RFC 8259 §7); what has no place on a page of text is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
