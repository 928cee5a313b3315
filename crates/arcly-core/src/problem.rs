//! Errors over HTTP: RFC 9457 problem details.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{CloseReason, StreamError};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// What a client with a user name and a password is asked for.
const BASIC: &str = "Basic realm=\"arcly\", charset=\"UTF-8\"";

/// An error that is answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// A sentence for people, which may hold anything.
    pub detail: String,
    /// A word for programs.
    pub reason: Option<CloseReason>,
}

impl Problem {
    /// An error with a sentence for people.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), reason: None }
    }

    /// An error of that kind, with a sentence for people.
    #[must_use]
    pub fn because(reason: CloseReason, detail: impl Into<String>) -> Self {
        Self { status: status_of(reason), detail: detail.into(), reason: Some(reason) }
    }

    /// What the engine refused, and what to do about it.
    #[must_use]
    pub fn refused(error: &StreamError) -> Self {
        let reason = error.reason();
        let StreamError::Refused { key, .. } = error else { return Self::because(reason, error.to_string()) };
        let detail = match reason {
            CloseReason::NotFound => {
                format!("there is no stream `{key}`; publish it, or look at those that are live")
            }
            CloseReason::Conflict => format!(
                "`{key}` has a publisher already, or would be fed with itself; stop that first, or use another name"
            ),
            CloseReason::Unauthorized => {
                format!("`{key}` needs credentials: `Authorization`, `?token=…`, or `?user=…&pass=…`")
            }
            _ => error.to_string(),
        };
        Self::because(reason, detail)
    }

    /// The same with a status of its own.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The JSON that says so.
    #[must_use]
    pub fn body(&self) -> String {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let reason = self.reason.map(|reason| format!(",\"reason\":\"{reason}\"")).unwrap_or_default();
        let (status, detail) = (self.status.as_u16(), escape(&self.detail));
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{detail}\"{reason}}}"
        )
    }

    /// An answer that nobody keeps. To who has no credentials it says that they may be a name and a password.
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
        }
        response
    }
}

/// The status that says what a reason says.
#[must_use]
pub const fn status_of(reason: CloseReason) -> StatusCode {
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

    #[test]
    fn an_answer_says_what_is_wrong_to_people_and_to_programs() {
        let answer = Problem::because(CloseReason::Limit("body"), "at most 64 KiB").into_response();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(
            answer.body(),
            concat!(
                r#"{"type":"about:blank","title":"Payload Too Large","status":413,"#,
                r#""detail":"at most 64 KiB","reason":"limit(body)"}"#
            )
        );
        let answer = Problem::new(StatusCode::UNAUTHORIZED, "who are you?").into_response();
        assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], BASIC);
    }
}
