//! What answers say about themselves.

use std::io::Write as _;
use std::time::Duration;

use arcly_core::problem::Problem;
use arcly_core::{CloseReason, StreamError};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::HlsBody;
use super::session::ClientKey;
use crate::dash;
use crate::hls::{MEDIA_TYPE, Text};
use crate::http::range::ByteRange;

/// Fields of an answer, with room for what a server adds to them.
const FIELDS: usize = 12;

/// How long an answer may be kept.
#[derive(Clone, Copy, Debug)]
enum Caching {
    /// Until it is asked about.
    No,
    Seconds(u64),
    /// Media: its name is never used again.
    Forever,
}

/// What of a request decides how an answer looks.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    is_head: bool,
    gzip: bool,
    range: Option<&'a str>,
    /// Who asks: nobody else may be given the answer to one who proved who they are.
    client: &'a ClientKey,
}

impl<'a> Wishes<'a> {
    pub(super) fn new(method: &Method, headers: &'a HeaderMap, client: &'a ClientKey) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let gzip = text(header::ACCEPT_ENCODING).is_some_and(accepts_gzip);
        // A range of something else than what the client has is no range of this (RFC 9110 13.1.5).
        let range = text(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
        Self { is_head: *method == Method::HEAD, gzip, range, client }
    }

    /// A playlist that may be cached for so long; not at all when that is nothing.
    pub(super) fn playlist(&self, text: &Text, fresh: Duration) -> Response<HlsBody> {
        let query = self.query();
        let compressed = self.gzip && query.is_empty();
        let body = match (query.is_empty(), compressed) {
            (false, _) => text.with_query(query),
            (true, true) => text.gzip(compress),
            (true, false) => text.plain().clone(),
        };
        let mut response = self.whole(body.into(), MEDIA_TYPE);
        let headers = response.headers_mut();
        put_coding(headers, compressed);
        let seconds = fresh.as_secs();
        self.cache(headers, if seconds == 0 { Caching::No } else { Caching::Seconds(seconds) });
        response
    }

    /// What has to stand behind the URIs of what is sent.
    pub(super) fn query(&self) -> &'a str {
        self.client.query()
    }

    /// A manifest, which is made for each who asks, as it says what time it is.
    pub(super) fn manifest(&self, text: Bytes) -> Response<HlsBody> {
        let body = if self.gzip { compress(&text) } else { text };
        let mut response = self.whole(body.into(), dash::MEDIA_TYPE);
        let headers = response.headers_mut();
        put_coding(headers, self.gzip);
        self.cache(headers, Caching::No);
        response
    }

    /// A key, which nobody keeps who has no use for it any more.
    pub(super) fn key(&self, bytes: Bytes) -> Response<HlsBody> {
        let mut response = self.whole(bytes.into(), "application/octet-stream");
        let nobody = HeaderValue::from_static("private, no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, nobody);
        response
    }

    /// Media that is being made, as far as it has come and on. A range of it is none, as its end is not known.
    pub(super) fn growing(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let mut response = Response::new(if self.is_head { HlsBody::default() } else { body });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.cache(headers, Caching::No);
        response
    }

    /// Media, or the range of it that was asked for.
    pub(super) fn media(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let len = body.len();
        let mut response = match self.range.map_or(ByteRange::Whole, |range| ByteRange::of(range, len)) {
            ByteRange::Whole => self.whole(body, media_type),
            ByteRange::Part { first, last } => {
                let mut response = self.whole(body.slice(first, last), media_type);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                put_range(response.headers_mut(), &format!("bytes {first}-{last}/{len}"));
                response
            }
            ByteRange::Unsatisfiable => {
                let mut response =
                    problem(StatusCode::RANGE_NOT_SATISFIABLE, "there is not so much of it", None);
                put_range(response.headers_mut(), &format!("bytes */{len}"));
                return response;
            }
        };
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        self.cache(response.headers_mut(), Caching::Forever);
        response
    }

    fn whole(&self, body: HlsBody, media_type: &'static str) -> Response<HlsBody> {
        let len = body.len();
        let mut response = Response::new(if self.is_head { body.head() } else { body });
        let headers = response.headers_mut();
        headers.reserve(FIELDS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        response
    }

    fn cache(&self, headers: &mut HeaderMap, how: Caching) {
        let fixed = HeaderValue::from_static;
        let value = match (how, self.client.has_credentials()) {
            (Caching::No, false) => fixed("no-cache"),
            (Caching::No, true) => fixed("private, no-cache"),
            (Caching::Forever, false) => fixed("max-age=86400, immutable"),
            (Caching::Forever, true) => fixed("private, max-age=86400, immutable"),
            (Caching::Seconds(seconds), private) => {
                let scope = if private { "private, " } else { "" };
                HeaderValue::try_from(format!("{scope}max-age={seconds}")).unwrap_or(fixed("no-cache"))
            }
        };
        headers.insert(header::CACHE_CONTROL, value);
    }
}

fn put_coding(headers: &mut HeaderMap, compressed: bool) {
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

fn put_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(value) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, value);
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
    Problem { status, detail: detail.to_owned(), reason }.into_response().map(HlsBody::from)
}

/// What the engine refused.
pub(super) fn refused(error: &StreamError) -> Response<HlsBody> {
    Problem::refused(error).into_response().map(HlsBody::from)
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
