//! What was recorded: `/api/v1/recordings` for operators, `/{path}/recordings` for those who may play the stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arcly_core::contract::auth::Action;
use arcly_core::contract::storage::StorageError;
use arcly_core::wall::Rfc3339;
use arcly_core::{ClientInfo, StreamKey};
use arcly_mux::http::range::ByteRange;
use arcly_mux::record::{Clip, Index, Playback, PlaybackError, Recording, Recordings};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{OriginalUri, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::credentials;
use super::api::{self, done, time};
use super::guard::Connection;
use super::problem::Problem;
use crate::config::Span;
use crate::server::Server;

/// What comes before a stream's name.
const PREFIX: &str = "/api/v1/recordings/";
/// The last segment of the list of a stream's recordings.
const LIST: &str = "/recordings";
/// The last segment of a span of time.
const SPAN: &str = "/recordings.mp4";
/// The longest span that is played.
const MAX_SPAN: Duration = Duration::from_secs(24 * 3_600);
/// Recordings of one answer, unless fewer are asked for.
const MAX_ITEMS: usize = 1_000;
/// Bytes that are read from disk at a time.
const PIECE: u64 = 256 << 10;
/// The longest clip.
const MAX_CLIP: Duration = Duration::from_secs(24 * 3_600);

type Params = HashMap<String, String>;

/// `GET /api/v1/recordings?path=&from=&limit=`
pub(super) async fn list(State(server): State<Arc<Server>>, Query(params): Query<Params>) -> Response {
    let recordings = match server.recordings().await {
        Ok(recordings) => recordings,
        Err(error) => return refused(&error).into_response(),
    };
    let keys = match params.get("path").map(|path| StreamKey::parse(path)) {
        None => recordings.index().streams(),
        Some(Ok(key)) => vec![key],
        Some(Err(error)) => {
            return Problem::new(StatusCode::BAD_REQUEST, format!("path: {error}")).into_response();
        }
    };
    match items(recordings.index(), &keys, &params) {
        Ok(items) => {
            let active = recordings.active();
            let active: Vec<_> = active.iter().map(StreamKey::as_str).collect();
            Json(json!({ "items": items, "recording": active })).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn items(index: &Index, keys: &[StreamKey], params: &Params) -> Result<Vec<Value>, Problem> {
    let wrong = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
    let from = match params.get("from").map(|from| from.parse::<Rfc3339>()) {
        None => UNIX_EPOCH,
        Some(Ok(Rfc3339(from))) => from,
        Some(Err(error)) => return Err(wrong(format!("from: {error}"))),
    };
    let limit = match params.get("limit").map(|limit| limit.parse::<usize>()) {
        None => MAX_ITEMS,
        Some(Ok(limit)) => limit.min(MAX_ITEMS),
        Some(Err(_)) => return Err(wrong("limit: not a number".into())),
    };
    let found = keys.iter().flat_map(|key| index.of_stream(key, from, limit));
    Ok(found.take(limit).map(|recording| describe(&recording)).collect())
}

fn describe(recording: &Recording) -> Value {
    json!({
        "path": recording.key.as_str(),
        "name": recording.name.as_str(),
        "url": format!("/{}{LIST}/{}", recording.key, file_name(recording)),
        "start": time(recording.start),
        "end": time(recording.end()),
        "duration_seconds": recording.duration.as_secs_f64(),
        "bytes": recording.bytes,
        "format": recording.format.extension(),
        "continues": recording.continues,
    })
}

/// Microseconds since 1970, which nothing else of a stream begins at.
fn file_name(recording: &Recording) -> String {
    let start = recording.start.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{}", start.as_micros(), recording.format.extension())
}

/// What begins a recording or a clip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    path: String,
    /// Of a clip: how much from before.
    pre_roll: Option<Span>,
    /// Of a clip: how much from now on.
    duration: Option<Span>,
}

/// `POST /api/v1/recordings`: records a stream until told otherwise, or a clip.
pub(super) async fn begin(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let form = "{\"path\": stream, and for a clip \"pre_roll\", \"duration\"}";
    let wanted: Wanted = match api::body(body, form) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.into_response(),
    };
    let key = match StreamKey::parse(&wanted.path) {
        Ok(key) => key,
        Err(error) => return Problem::new(StatusCode::BAD_REQUEST, format!("path: {error}")).into_response(),
    };
    if server.engine().stream(&key).is_none() {
        return Problem::no_stream(&key).into_response();
    }
    match server.recordings().await {
        Ok(recordings) => begin_one(&server, recordings, key, &wanted),
        Err(error) => refused(&error).into_response(),
    }
}

fn begin_one(server: &Server, recordings: &Arc<Recordings>, key: StreamKey, wanted: &Wanted) -> Response {
    let Some(duration) = wanted.duration else {
        if wanted.pre_roll.is_some() {
            return Problem::new(StatusCode::BAD_REQUEST, "pre_roll: a clip needs a duration too")
                .into_response();
        }
        return match recordings.begin(&key) {
            true => (StatusCode::CREATED, Json(json!({ "path": key.as_str() }))).into_response(),
            false => Problem::new(StatusCode::CONFLICT, format!("`{key}` is being recorded already"))
                .into_response(),
        };
    };
    let pre_roll = wanted.pre_roll.map_or(Duration::ZERO, |span| span.0);
    if duration.0 > MAX_CLIP {
        return Problem::new(StatusCode::BAD_REQUEST, "duration: at most 24 hours").into_response();
    }
    let (recordings, clip, of) =
        (Arc::clone(recordings), Clip { pre_roll, duration: duration.0 }, key.clone());
    server.tasks().spawn(async move {
        if let Err(error) = recordings.clip(of.clone(), clip).await {
            tracing::warn!(stream = %of, %error, "no clip was recorded");
        }
    });
    (StatusCode::ACCEPTED, Json(json!({ "path": key.as_str() }))).into_response()
}

/// `DELETE /api/v1/recordings/{path}`: ends the recording of a stream; `…/{path}?file=` removes one that is finished.
pub(super) async fn end(
    State(server): State<Arc<Server>>,
    OriginalUri(uri): OriginalUri,
    Query(params): Query<Params>,
) -> Response {
    let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let key = match StreamKey::parse(path) {
        Ok(key) => key,
        Err(error) => {
            return Problem::new(StatusCode::NOT_FOUND, format!("not the name of a stream: {error}"))
                .into_response();
        }
    };
    let recordings = match server.recordings().await {
        Ok(recordings) => recordings,
        Err(error) => return refused(&error).into_response(),
    };
    let Some(file) = params.get("file") else {
        if recordings.end(&key) {
            return done();
        }
        return Problem::new(StatusCode::NOT_FOUND, format!("`{key}` is not being recorded")).into_response();
    };
    match find(recordings.index(), &key, file) {
        None => no_recording(&key).into_response(),
        Some(recording) => match recordings.index().delete(&recording).await {
            Ok(()) => done(),
            Err(error) => refused(&error).into_response(),
        },
    }
}

/// What is asked for of a stream's recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Which there are: `/{path}/recordings`.
    List,
    /// One file: `/{path}/recordings/1795342530000123.mp4`.
    File(&'a str),
    /// A span of time: `/{path}/recordings.mp4?start=&duration=`.
    Span,
}

/// What of a path is the stream, and what is asked for.
pub(super) fn of_path(path: &str) -> Option<(StreamKey, Asked<'_>)> {
    let (stream, asked) = if let Some(stream) = path.strip_suffix(LIST) {
        (stream, Asked::List)
    } else if let Some(stream) = path.strip_suffix(SPAN) {
        (stream, Asked::Span)
    } else {
        let (folder, file) = path.rsplit_once('/')?;
        (folder.strip_suffix(LIST)?, Asked::File(file))
    };
    // The page of a stream that is called `recordings`.
    if !stream.contains('/') {
        return None;
    }
    Some((StreamKey::parse(stream).ok()?, asked))
}

/// Answers a request for a stream's recordings, for those who may play it.
pub(super) async fn answer(
    server: &Arc<Server>,
    key: StreamKey,
    asked: Asked<'_>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let Some(connection) = parts.extensions.get::<Arc<Connection>>() else {
        return super::routes::internal_error();
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "recordings are read with GET").into_response();
    }
    let mut shown = credentials(connection, &parts);
    shown.protocol = "http";
    let client = ClientInfo::new("http", connection.peer);
    if let Err(error) = server.engine().authenticate(Action::Play, &key, &client, Some(shown)).await {
        return Problem::refused(&error).into_response();
    }
    let recordings = match server.recordings().await {
        Ok(recordings) => recordings,
        Err(error) => return refused(&error).into_response(),
    };
    let Query(params) = Query::try_from_uri(&parts.uri).unwrap_or_default();
    match asked {
        Asked::List => match items(recordings.index(), &[key], &params) {
            Ok(items) => Json(json!({ "items": items })).into_response(),
            Err(problem) => problem.into_response(),
        },
        Asked::Span => span(recordings, &key, &params, &parts.method),
        Asked::File(file) => match find(recordings.index(), &key, file) {
            Some(recording) => send(Arc::clone(recordings), recording, &parts.method, &parts.headers),
            None => no_recording(&key).into_response(),
        },
    }
}

/// A span of time as one file, which is made while it is sent.
fn span(recordings: &Arc<Recordings>, key: &StreamKey, params: &Params, method: &Method) -> Response {
    let wrong = |what: String| Problem::new(StatusCode::BAD_REQUEST, what).into_response();
    let Some(start) = params.get("start").and_then(|start| start.parse::<Rfc3339>().ok()) else {
        return wrong("start: a time as in 2026-11-22T10:15:30Z".into());
    };
    let duration = params.get("duration").and_then(|duration| duration.parse::<Span>().ok());
    let Some(duration) = duration.filter(|span| !span.0.is_zero() && span.0 <= MAX_SPAN) else {
        return wrong("duration: as in 90s, at most 24 hours".into());
    };
    let Some(playback) = Playback::new(Arc::clone(recordings.index()), key, start.0, duration.0) else {
        let detail = format!("nothing of `{key}` was recorded then; see /{key}{LIST}");
        return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    };
    let body = if *method == Method::HEAD { Body::empty() } else { played(playback) };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(arcly_mux::fmp4::MEDIA_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

fn played(playback: Playback) -> Body {
    let parts = stream::try_unfold(playback, |mut playback| async move {
        Ok::<_, PlaybackError>(playback.next().await?.map(|bytes| (bytes, playback)))
    });
    let pieces = parts.map_ok(|bytes| stream::iter(bytes.into_iter().map(Ok::<_, PlaybackError>)));
    Body::from_stream(pieces.try_flatten())
}

fn find(index: &Index, key: &StreamKey, file: &str) -> Option<Recording> {
    let micros: u64 = file.split_once('.')?.0.parse().ok()?;
    let from = UNIX_EPOCH.checked_add(Duration::from_micros(micros))?;
    let near = index.of_stream(key, from, 2);
    near.into_iter().find(|recording| file_name(recording) == file)
}

/// A file, or the part of it that is asked for (RFC 9110 section 14).
fn send(recordings: Arc<Recordings>, recording: Recording, method: &Method, headers: &HeaderMap) -> Response {
    let size = recording.bytes;
    let wanted = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    // A range of something else than what the client has is no range of this (RFC 9110 13.1.5).
    let wanted = wanted.filter(|_| !headers.contains_key(header::IF_RANGE));
    let range = match wanted.map_or(ByteRange::Whole, |range| ByteRange::of(range, size)) {
        ByteRange::Whole => None,
        ByteRange::Part { first, last } => Some((first, last.saturating_add(1))),
        ByteRange::Unsatisfiable => {
            let problem =
                Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {size} bytes"));
            return ([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem.into_response())
                .into_response();
        }
    };
    let (from, to) = range.unwrap_or((0, size));
    let media_type = recording.format.media_type();
    let body = if *method == Method::HEAD { Body::empty() } else { body(recordings, recording, from, to) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, (to - from).into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    if range.is_some() {
        if let Ok(value) = HeaderValue::try_from(format!("bytes {from}-{}/{size}", to - 1)) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Reads as it is taken: one piece in memory at a time.
fn body(recordings: Arc<Recordings>, recording: Recording, from: u64, to: u64) -> Body {
    Body::from_stream(stream::try_unfold(
        (recordings, recording, from),
        move |(recordings, recording, at)| async move {
            if at >= to {
                return Ok::<_, StorageError>(None);
            }
            let end = at.saturating_add(PIECE).min(to);
            let bytes = recordings.index().storage().read(&recording.name, at..end).await?;
            if bytes.is_empty() {
                return Err(StorageError::NotFound(recording.name));
            }
            let next = at.saturating_add(bytes.len() as u64);
            Ok(Some((bytes, (recordings, recording, next))))
        },
    ))
}

fn no_recording(key: &StreamKey) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no such recording of `{key}`; see /{key}{LIST}"))
}

fn refused(error: &StorageError) -> Problem {
    Problem::because(error.reason(), format!("recordings: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let of = |path: &'static str| of_path(path).map(|(key, file)| (key.to_string(), file));
        assert_eq!(of("live/cam/recordings"), Some(("live/cam".into(), Asked::List)));
        assert_eq!(of("live/cam/recordings.mp4"), Some(("live/cam".into(), Asked::Span)));
        assert_eq!(of("live/cam/recordings/1.mp4"), Some(("live/cam".into(), Asked::File("1.mp4"))));
        for path in
            ["live/recordings", "live/recordings/x", "live/cam", "recordings", "live/../recordings", ""]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
