//! What answers say about themselves.

use std::io::Write as _;
use std::time::Duration;

use arcly_core::{CloseReason, StreamError};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::HlsBody;
use crate::dash;
use crate::hls::{MEDIA_TYPE, Text};
use crate::http::problem;
use crate::http::range::ByteRange;

/// How long media may be cached: its name is never used again.
const IMMUTABLE: &str = "max-age=86400, immutable";

/// What of a request decides how an answer looks.
#[derive(Debug)]
pub(super) struct Wishes {
    is_head: bool,
    gzip: bool,
    range: Option<String>,
    /// The sender proved who they are, so that nobody else may be given the answer.
    private: bool,
    /// What has to stand behind the URIs of playlists.
    query: String,
}

impl Wishes {
    pub(super) fn new(method: &Method, headers: &HeaderMap, private: bool, query: String) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let gzip = text(header::ACCEPT_ENCODING).is_some_and(accepts_gzip);
        // A range of something else than what the client has is no range of this (RFC 9110 13.1.5).
        let range = text(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
        Self { is_head: *method == Method::HEAD, gzip, range: range.map(str::to_owned), private, query }
    }

    /// A playlist that may be cached for so long; not at all when that is nothing.
    pub(super) fn playlist(&self, text: &Text, fresh: Duration) -> Response<HlsBody> {
        let compressed = self.gzip && self.query.is_empty();
        let body = match (self.query.is_empty(), compressed) {
            (false, _) => text.with_query(&self.query),
            (true, true) => text.gzip(compress),
            (true, false) => text.plain().clone(),
        };
        let mut response = self.whole(HlsBody::new([body]), MEDIA_TYPE);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let seconds = fresh.as_secs();
        self.cache(headers, &if seconds == 0 { "no-cache".to_owned() } else { format!("max-age={seconds}") });
        response
    }

    /// What has to stand behind the URIs of what is sent.
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// A manifest, which is made for each who asks, as it says what time it is.
    pub(super) fn manifest(&self, text: Bytes) -> Response<HlsBody> {
        let body = if self.gzip { compress(&text) } else { text };
        let mut response = self.whole(HlsBody::new([body]), dash::MEDIA_TYPE);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if self.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.cache(headers, "no-cache");
        response
    }

    /// A key, which nobody keeps who has no use for it any more.
    pub(super) fn key(&self, bytes: Bytes) -> Response<HlsBody> {
        let mut response = self.whole(HlsBody::new([bytes]), "application/octet-stream");
        put(response.headers_mut(), header::CACHE_CONTROL, "private, no-store");
        response
    }

    /// Media that is being made, as far as it has come and on. A range of it is none, as its end is not known.
    pub(super) fn growing(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let mut response = Response::new(if self.is_head { HlsBody::default() } else { body });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.cache(headers, "no-cache");
        response
    }

    /// Media, or the range of it that was asked for.
    pub(super) fn media(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let len = body.len();
        let mut response = match self
            .range
            .as_deref()
            .map_or(ByteRange::Whole, |range| ByteRange::of(range, len))
        {
            ByteRange::Whole => self.whole(body, media_type),
            ByteRange::Part { first, last } => {
                let mut response = self.whole(body.slice(first, last), media_type);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes {first}-{last}/{len}"));
                response
            }
            ByteRange::Unsatisfiable => {
                let mut response =
                    problem(StatusCode::RANGE_NOT_SATISFIABLE, "there is not so much of it", None);
                put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{len}"));
                return response;
            }
        };
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        self.cache(response.headers_mut(), IMMUTABLE);
        response
    }

    fn whole(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let len = body.len();
        let mut response = Response::new(if self.is_head { body.head() } else { body });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        response
    }

    fn cache(&self, headers: &mut HeaderMap, how: &str) {
        let scope = if self.private { "private, " } else { "" };
        put(headers, header::CACHE_CONTROL, &format!("{scope}{how}"));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// True when a coding list (RFC 9110 12.5.3) has gzip, and not with a weight of nothing.
fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused =
            weight.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.', ' ']).is_empty());
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Fast, for it is done at every change of a playlist.
fn compress(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("memory takes everything").into()
}

/// A problem (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str, reason: Option<CloseReason>) -> Response<HlsBody> {
    problem::response(status, detail, reason).map(|body| HlsBody::new([body]))
}

/// What the engine refused.
pub(super) fn refused(error: &StreamError) -> Response<HlsBody> {
    problem::refused(error).map(|body| HlsBody::new([body]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings() {
        for (list, expect) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("deflate", false),
            ("x-gzip", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(list), expect, "{list}");
        }
    }
}
