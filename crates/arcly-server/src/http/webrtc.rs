//! `/app/stream/whip` and `/app/stream/whep`, and the sessions below them: offers and answers. Media go over a port of their own.
//!
//! What protocol this is, and what is answered to what, is said in [`arcly_webrtc::http`]. Here is what it leaves to whoever mounts
//! it: paths, credentials, and which pages are let in.

use std::net::IpAddr;
use std::sync::Arc;

use arcly_core::{ClientInfo, StreamKey};
use arcly_webrtc::http::Visit;
use arcly_webrtc::wire::Role;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;

use super::access::{credentials, host_of};
use super::guard::Connection;
use super::media::{agent, allow, allowed_origin, foreign, is_foreign, relayed};
use super::problem::Problem;
use super::routes::{internal_error, not_found};
use crate::server::Server;
use crate::webrtc::PROTOCOL;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    stream: &'a str,
    role: Role,
    session: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// `None` for a path that is neither an endpoint nor a session of one.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let endpoint = |path: &'a str, session| {
            let (stream, role) = path.rsplit_once('/').filter(|(stream, _)| !stream.is_empty())?;
            let role = [Role::Publisher, Role::Viewer].into_iter().find(|one| one.as_str() == role)?;
            Some(Self { stream, role, session })
        };
        let session = || {
            let (path, id) = path.rsplit_once('/').filter(|(_, id)| !id.is_empty())?;
            endpoint(path, Some(id))
        };
        endpoint(path, None).or_else(session)
    }
}

/// Answers a request for it.
pub(super) async fn answer(server: &Arc<Server>, target: Target<'_>, request: Request) -> Response {
    let origin = allowed_origin(server, request.headers());
    let mut response =
        if is_foreign(&request, origin.as_ref()) { foreign() } else { serve(server, target, request).await };
    allow(response.headers_mut(), origin);
    response
}

async fn serve(server: &Server, target: Target<'_>, request: Request) -> Response {
    let Ok(stream) = StreamKey::parse(target.stream) else { return not_found().into_response() };
    let Some(webrtc) = server.webrtc() else {
        let detail = "WebRTC is switched off; see webrtc.listen";
        return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    };
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return internal_error();
    };
    let (parts, body) = request.into_parts();
    let mut client = ClientInfo::new(PROTOCOL, connection.peer);
    client.agent = agent(&parts.headers);
    let mut shown = credentials(&connection, &parts);
    shown.protocol = PROTOCOL;
    let visit = Visit {
        role: target.role,
        stream,
        client,
        credentials: shown,
        via: relayed(&parts.headers),
        reached: reached(&connection, &parts),
        session: target.session.map(str::to_owned),
    };
    webrtc.endpoint().handle(visit, &parts, body).await.map(Body::from)
}

/// Addresses by which the peer has reached this machine: what it has asked for first, because that is what works from where it
/// is, whatever translates addresses in between; then where its connection has come in.
fn reached(connection: &Connection, parts: &Parts) -> Vec<IpAddr> {
    let asked = host_of(&parts.uri, &parts.headers);
    let asked = asked.and_then(|host| host.host().trim_matches(['[', ']']).parse().ok());
    asked.into_iter().chain(connection.local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let target = |stream, role, session| Some(Target { stream, role, session });
        for (path, expect) in [
            ("live/cam/whip", target("live/cam", Role::Publisher, None)),
            ("cam/whep", target("cam", Role::Viewer, None)),
            ("a/b/c/whep", target("a/b/c", Role::Viewer, None)),
            ("live/cam/whip/0af1", target("live/cam", Role::Publisher, Some("0af1"))),
            ("live/cam/whep/0af1", target("live/cam", Role::Viewer, Some("0af1"))),
            ("live/whip/whep", target("live/whip", Role::Viewer, None)),
            ("../../x/whip", target("../../x", Role::Publisher, None)),
            ("/evil/x/whip", target("/evil/x", Role::Publisher, None)),
            ("live/cam/whip/", None),
            ("live/cam/whip/a/b", None),
            ("live/cam/WHIP", None),
            ("live/whipper", None),
            ("whip", None),
            ("whip/cam", None),
            ("/whip", None),
            ("", None),
        ] {
            assert_eq!(Target::of(path), expect, "{path}");
        }
    }

    #[test]
    fn a_peer_can_reach_what_it_has_reached() {
        let connection = |local: Option<&str>| {
            Connection::new(([192, 0, 2, 9], 5).into(), local.map(|local| local.parse().unwrap()))
        };
        let parts = |host| {
            http::Request::post("/live/cam/whep").header("host", host).body(()).unwrap().into_parts().0
        };
        for (host, local, expect) in [
            ("192.0.2.1:8080", Some("10.0.0.1"), &["192.0.2.1", "10.0.0.1"][..]),
            ("media.example", Some("::ffff:10.0.0.1"), &["10.0.0.1"]),
            ("[2001:db8::1]", None, &["2001:db8::1"]),
            ("", None, &[]),
        ] {
            let found = reached(&connection(local), &parts(host));
            let expect: Vec<IpAddr> = expect.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(found, expect, "{host}");
        }
    }
}
