//! `/app/stream/index.m3u8`, `/app/stream/manifest.mpd` and what they lead to.
//!
//! A player asks some twenty times a second, nearly always on a connection that is kept. So that a request costs little, it
//! does not go through the router ([`is_direct`]), and the connection remembers who was let in on it last ([`Visitor`]).

use std::sync::Arc;

use arcly_core::{ClientInfo, PlayRequest, StreamKey};
use arcly_mux::hls::http::Pass;
use arcly_mux::hls::{Directives, File};
use axum::response::IntoResponse as _;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::access::credentials;
use super::body::AnswerBody;
use super::guard::Connection;
use super::media::{agent, allow, allowed_origin, preflight};
use super::problem::Problem;
use super::recordings;
use super::routes::not_found;
use crate::server::Server;

/// What pages of another origin may read beside the body.
const EXPOSED: &str = "Content-Length, Content-Range, Date";

/// True for files of HLS and DASH. A segment in MPEG-TS is one too, though streams in MPEG-TS have the same ending: the names
/// of segments cannot be taken for those of streams that anybody would choose.
pub(super) fn is_file(path: &str) -> bool {
    [".m3u8", ".m4s", ".key", "/manifest.mpd"].iter().any(|ending| path.ends_with(ending))
        || path.ends_with(".ts") && matches!(File::split(path), Some((_, File::TsSegment(..))))
}

/// True for files that nothing else than this module answers for: what the router does for them is to call [`answer`].
pub(super) fn is_direct(path: &str) -> bool {
    let elsewhere = ["api/", "assets/"].iter().any(|prefix| path.starts_with(prefix));
    is_file(path) && !elsewhere && recordings::of_path(path).is_none()
}

/// Answers a request for a playlist, a manifest, a segment or a part.
pub(super) async fn answer<B>(
    server: &Arc<Server>,
    connection: &Connection,
    request: http::Request<B>,
) -> Response<AnswerBody> {
    let (parts, _) = request.into_parts();
    let origin = allowed_origin(server, &parts.headers);
    let mut response = if parts.method == Method::OPTIONS {
        preflight(origin.is_some()).map(AnswerBody::from)
    } else {
        serve(server, connection, &parts).await
    };
    if origin.is_some() {
        let exposed = HeaderValue::from_static(EXPOSED);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    allow(response.headers_mut(), origin);
    response
}

async fn serve(server: &Server, connection: &Connection, parts: &Parts) -> Response<AnswerBody> {
    let path = parts.uri.path();
    let Some((name, file)) = File::split(path.strip_prefix('/').unwrap_or(path)) else {
        return not_found().into_response().map(AnswerBody::from);
    };
    let Some(hls) = server.hls() else {
        return Problem::new(StatusCode::NOT_FOUND, "HLS is switched off; see hls.enabled")
            .into_response()
            .map(AnswerBody::from);
    };
    if let Some(visitor) = connection.visitor().filter(|visitor| visitor.is_behind(name, parts)) {
        let asked = (file, parts.uri.query());
        if let Some(response) = hls.handle_again(&visitor.pass, asked, &parts.method, &parts.headers).await {
            return response.map(AnswerBody::from);
        }
    }
    let Ok(key) = StreamKey::parse(name) else { return not_found().into_response().map(AnswerBody::from) };
    let protocol = if file == File::Manifest { "dash" } else { "hls" };
    let mut client = ClientInfo::new(protocol, connection.peer);
    client.agent = agent(&parts.headers);
    let mut shown = credentials(connection, parts);
    shown.protocol = protocol;
    let play = PlayRequest::new(key, client, shown);
    let mut response = hls.handle(play, file, &parts.method, &parts.headers).await;
    if let Some(pass) = response.extensions_mut().remove::<Pass>() {
        connection.remember(Visitor::new(name, parts, pass));
    }
    response.map(AnswerBody::from)
}

/// Who was let in to which stream on a connection.
#[derive(Debug)]
pub(super) struct Visitor {
    stream: Box<str>,
    agent: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    query: Box<str>,
    pass: Pass,
}

impl Visitor {
    fn new(stream: &str, parts: &Parts, pass: Pass) -> Self {
        Self {
            stream: stream.into(),
            agent: parts.headers.get(header::USER_AGENT).cloned(),
            authorization: parts.headers.get(header::AUTHORIZATION).cloned(),
            query: parts.uri.query().unwrap_or_default().into(),
            pass,
        }
    }

    /// True for a request that shows the same of its sender, for the same stream.
    fn is_behind(&self, stream: &str, parts: &Parts) -> bool {
        let query = parts.uri.query().unwrap_or_default();
        *self.stream == *stream
            && parts.headers.get(header::USER_AGENT) == self.agent.as_ref()
            && parts.headers.get(header::AUTHORIZATION) == self.authorization.as_ref()
            && Directives::others(query).eq(Directives::others(&self.query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let request = http::Request::get(uri);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn whoever_shows_something_else_is_not_taken_for_who_was_let_in() {
        let agent = ("user-agent", "a");
        let login = ("authorization", "Basic YTpi");
        let first = parts("/live/x/video0.m3u8?token=t&_HLS_msn=1", &[agent, login]);
        let visitor = Visitor::new("live/x", &first, Pass::default());
        for (stream, uri, fields, expect) in [
            ("live/x", "/live/x/video0.m3u8?_HLS_msn=2&_HLS_part=1&token=t", &[agent, login][..], true),
            ("live/x", "/live/x/audio1.m3u8?token=t", &[login, agent], true),
            ("live/y", "/live/y/video0.m3u8?token=t", &[agent, login], false),
            ("live/x", "/live/x/video0.m3u8", &[agent, login], false),
            ("live/x", "/live/x/video0.m3u8?token=u", &[agent, login], false),
            ("live/x", "/live/x/video0.m3u8?token=t&token=u", &[agent, login], false),
            ("live/x", "/live/x/video0.m3u8?token=t", &[agent], false),
            ("live/x", "/live/x/video0.m3u8?token=t", &[agent, ("authorization", "Basic YTpj")], false),
            ("live/x", "/live/x/video0.m3u8?token=t", &[("user-agent", "b"), login], false),
            ("live/x", "/live/x/video0.m3u8?token=t", &[login], false),
        ] {
            assert_eq!(visitor.is_behind(stream, &parts(uri, fields)), expect, "{uri} {fields:?}");
        }
    }

    #[test]
    fn files_of_streams_are_told_from_those_of_the_server() {
        for (path, expect) in [
            ("live/x/index.m3u8", true),
            ("live/x/video0_1a_seg3.ts", true),
            ("live/x.ts", false),
            ("api/v1/x.m3u8", false),
            ("assets/x.m3u8", false),
            ("live/x/recordings/1.m4s", false),
            ("live/x", false),
        ] {
            assert_eq!(is_direct(path), expect, "{path}");
        }
    }
}
