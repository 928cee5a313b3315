//! Errors as RFC 9457 problem details.

use arcly_core::{CloseReason, StreamError};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The status that says what a reason says.
pub(crate) const fn status_of(reason: CloseReason) -> StatusCode {
    match reason {
        CloseReason::Malformed | CloseReason::PeerClosed => StatusCode::BAD_REQUEST,
        CloseReason::Unauthorized => StatusCode::UNAUTHORIZED,
        CloseReason::Forbidden => StatusCode::FORBIDDEN,
        CloseReason::NotFound => StatusCode::NOT_FOUND,
        CloseReason::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        CloseReason::Conflict => StatusCode::CONFLICT,
        CloseReason::Limit(_) => StatusCode::PAYLOAD_TOO_LARGE,
        CloseReason::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CloseReason::Overloaded | CloseReason::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What the engine refused.
pub(crate) fn refused(error: &StreamError) -> Response<Bytes> {
    let reason = error.reason();
    let detail = match (error, reason) {
        (StreamError::Refused { key, .. }, CloseReason::NotFound) => format!("there is no stream `{key}`"),
        (StreamError::Refused { key, .. }, CloseReason::Conflict) => {
            format!(
                "`{key}` has a publisher already, or would be fed with itself; stop that first, or use another name"
            )
        }
        (StreamError::Refused { key, .. }, CloseReason::Unauthorized) => {
            format!("`{key}` needs credentials: `Authorization`, `?token=…`, or `?user=…&pass=…`")
        }
        _ => error.to_string(),
    };
    let mut response = response(status_of(reason), &detail, Some(reason));
    if reason == CloseReason::Unauthorized {
        let challenge = HeaderValue::from_static("Basic realm=\"arcly\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// A problem. `detail` may hold anything.
pub(crate) fn response(status: StatusCode, detail: &str, reason: Option<CloseReason>) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let reason = reason.map(|reason| format!(",\"reason\":\"{reason}\"")).unwrap_or_default();
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{}\"{reason}}}",
        status.as_u16(),
        escape(detail),
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The inside of a JSON string (RFC 8259 section 7).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings() {
        assert_eq!(escape("a \"b\" \\ \n ü"), r#"a \"b\" \\ \u000a ü"#);
    }
}
