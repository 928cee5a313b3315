//! What is answered to those who cannot have what they ask for.

use arcly_core::CloseReason;
use http::{HeaderValue, Response, StatusCode, header};

use super::HlsBody;
use super::response::problem;
use crate::hls::DirectiveError;

/// A refusal, as an answer.
pub(super) type Refusal = Box<Response<HlsBody>>;

pub(super) fn bad_directives(error: DirectiveError) -> Response<HlsBody> {
    problem(StatusCode::BAD_REQUEST, &error.to_string(), Some(CloseReason::Malformed))
}

pub(super) fn sent_away(reason: CloseReason) -> Refusal {
    let status = arcly_core::problem::status_of(reason);
    Box::new(problem(status, "this reader was ended; come back later", Some(reason)))
}

pub(super) fn nothing() -> Response<HlsBody> {
    let detail = "there is no such file; begin with the stream's index.m3u8";
    problem(StatusCode::NOT_FOUND, detail, Some(CloseReason::NotFound))
}

pub(super) fn not_in_ts() -> Response<HlsBody> {
    let detail = "none of the stream's tracks can be carried in MPEG-TS; leave `container=ts` out";
    problem(StatusCode::NOT_FOUND, detail, Some(CloseReason::NotFound))
}

pub(super) fn not_in_dash() -> Response<HlsBody> {
    let detail = "segments are encrypted, which DASH has no word for; the stream is at index.m3u8";
    problem(StatusCode::NOT_FOUND, detail, Some(CloseReason::NotFound))
}

pub(super) fn too_late() -> Response<HlsBody> {
    problem(StatusCode::SERVICE_UNAVAILABLE, "nothing new came within three target durations", None)
}

pub(super) fn too_many() -> Refusal {
    let detail = "too many requests of this address wait for this playlist";
    let reason = CloseReason::Limit("waiting_requests");
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, detail, Some(reason));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(response)
}
