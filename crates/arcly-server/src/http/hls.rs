//! `/app/stream/index.m3u8`, `/app/stream/manifest.mpd` and what they lead to.

use std::sync::Arc;

use arcly_core::{ClientInfo, PlayRequest, StreamKey};
use arcly_mux::hls::File;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, header};

use super::access::credentials;
use super::guard::Connection;
use super::media::{agent, allow, allowed_origin, preflight};
use super::problem::Problem;
use super::routes::{internal_error, not_found};
use crate::server::Server;

/// What pages of another origin may read beside the body.
const EXPOSED: &str = "Content-Length, Content-Range, Date";

/// True for files of HLS and DASH. A segment in MPEG-TS is one too, though streams in MPEG-TS have the same ending: the names
/// of segments cannot be taken for those of streams that anybody would choose.
pub(super) fn is_file(path: &str) -> bool {
    [".m3u8", ".m4s", ".key", "/manifest.mpd"].iter().any(|ending| path.ends_with(ending))
        || path.ends_with(".ts") && matches!(File::split(path), Some((_, File::TsSegment(..))))
}

/// Answers a request for a playlist, a manifest, a segment or a part.
pub(super) async fn answer(server: &Arc<Server>, path: &str, request: Request) -> Response {
    let origin = allowed_origin(server, request.headers());
    let mut response = if *request.method() == Method::OPTIONS {
        preflight(origin.is_some())
    } else {
        serve(server, path, request).await
    };
    if origin.is_some() {
        let exposed = HeaderValue::from_static(EXPOSED);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    allow(response.headers_mut(), origin);
    response
}

async fn serve(server: &Server, path: &str, request: Request) -> Response {
    let named = File::split(path).and_then(|(name, file)| Some((StreamKey::parse(name).ok()?, file)));
    let Some((key, file)) = named else { return not_found().into_response() };
    let Some(hls) = server.hls() else {
        return Problem::new(StatusCode::NOT_FOUND, "HLS is switched off; see hls.enabled").into_response();
    };
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return internal_error();
    };
    let (parts, _) = request.into_parts();
    let protocol = if file == File::Manifest { "dash" } else { "hls" };
    let mut client = ClientInfo::new(protocol, connection.peer);
    client.agent = agent(&parts.headers);
    let mut shown = credentials(&connection, &parts);
    shown.protocol = protocol;
    let play = PlayRequest::new(key, client, shown);
    hls.handle(play, file, &parts.method, &parts.headers).await.map(Body::new)
}
