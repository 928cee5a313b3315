//! Who may use the API and read the metrics, and what a peer shows to prove who it is.

use std::net::IpAddr;
use std::sync::Arc;

use arcly_core::contract::auth::{Action, Credentials};
use arcly_core::{ClientInfo, CloseReason, StreamKey};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::guard::Connection;
use super::problem::Problem;
use crate::server::Server;

/// The name that rules for the API as a whole are matched with; `*` covers it.
const API: (&str, &str) = ("api", "v1");

/// What a request proves its sender with: `Authorization`, or the query.
pub(crate) fn credentials(connection: &Connection, parts: &Parts) -> Credentials {
    let mut credentials = Credentials::new("http-flv").with_remote(connection.peer);
    if let Some(query) = parts.uri.query() {
        credentials = credentials.with_query(query);
    }
    let value =
        parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            credentials.with_token(token.trim())
        }
        Some((scheme, login)) if scheme.eq_ignore_ascii_case("basic") => match basic(login.trim()) {
            Some((user, password)) => credentials.with_login(user, password),
            None => credentials,
        },
        _ => credentials,
    }
}

/// RFC 7617: base64 of `user:password`.
fn basic(login: &str) -> Option<(String, String)> {
    let text = String::from_utf8(base64(login)?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// RFC 4648 section 4, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFF_FFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    Some(out)
}

/// Lets nobody at the API and the metrics who may not.
///
/// * A page of another origin may not, whoever looks at it (H12).
/// * Without configured credentials only loopback may, and only under a loopback name, so that no foreign name that
///   is made to resolve to loopback lets a page in.
/// * With configured credentials whoever shows good ones may.
/// * A body that changes something is JSON, which a foreign page cannot send without being asked first.
pub(crate) async fn require_api(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match check(&server, &parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

async fn check(server: &Server, parts: &Parts) -> Result<(), Problem> {
    let connection = parts.extensions.get::<Arc<Connection>>();
    let connection =
        connection.ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, "the peer is not known"))?;
    let host = host_of(&parts.uri, &parts.headers);
    check_origin(&parts.headers, host.as_ref())?;
    if parts.method == Method::POST && !is_json(&parts.headers) {
        let detail = "send the body as `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if !server.config().auth.is_configured() {
        return check_loopback(connection.peer.ip(), host.as_ref());
    }
    let key = StreamKey::new(API.0, API.1);
    let mut shown = credentials(connection, parts);
    shown.protocol = "http";
    let client = ClientInfo::new("http", connection.peer);
    let answer = server.engine().authenticate(Action::Api, &key, &client, Some(shown)).await;
    answer.map(drop).map_err(|error| match error.reason() {
        CloseReason::Unauthorized => Problem::new(
            StatusCode::UNAUTHORIZED,
            "the API needs credentials: `Authorization: Basic …` of a user with the action `api`, or `Bearer …`",
        ),
        CloseReason::Forbidden => Problem::new(StatusCode::FORBIDDEN, "these credentials do not cover the API"),
        _ => Problem::refused(&error),
    })
}

fn check_loopback(peer: IpAddr, host: Option<&Authority>) -> Result<(), Problem> {
    let named_locally = host.is_none_or(|host| {
        let name = host.host().trim_matches(['[', ']']);
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    });
    if peer.is_loopback() && named_locally {
        return Ok(());
    }
    let detail =
        "the API and metrics answer only loopback clients until credentials are configured ([[auth.users]])";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

fn check_origin(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Problem> {
    if is_from_elsewhere(headers, host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of another origin may not use the API"));
    }
    Ok(())
}

/// True for the request of a page that this server has not sent, as far as the browser says so.
pub(super) fn is_from_elsewhere(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    origin.is_none() || origin != host.map(Authority::as_str)
}

/// By which name or address the request has reached this server.
pub(super) fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let header = || headers.get(header::HOST)?.to_str().ok()?.parse().ok();
    uri.authority().cloned().or_else(header)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_logins() {
        let cases = [
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame"))),
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ", Some(("Aladdin", "open sesame"))),
            ("dGVzdDoxMjPCow==", Some(("test", "123£"))),
            ("YTo=", Some(("a", ""))),
            ("YQ==", None),
            ("!", None),
        ];
        for (text, expect) in cases {
            let got = basic(text);
            assert_eq!(got.as_ref().map(|(user, password)| (&**user, &**password)), expect, "{text}");
        }
    }

    #[test]
    fn h28_h12_only_loopback_under_a_loopback_name_and_origin() {
        let host = |text: &str| Some(text.parse::<Authority>().unwrap());
        let cases = [
            ("127.0.0.1", "127.0.0.1:8080", true),
            ("127.0.0.1", "localhost:8080", true),
            ("::1", "[::1]:8080", true),
            ("127.0.0.1", "evil.example:8080", false),
            ("192.168.1.2", "127.0.0.1:8080", false),
        ];
        for (peer, name, expect) in cases {
            let got = check_loopback(peer.parse().unwrap(), host(name).as_ref()).is_ok();
            assert_eq!(got, expect, "{peer} as {name}");
        }
        let origin = |text| HeaderMap::from_iter([(header::ORIGIN, http::HeaderValue::from_static(text))]);
        let ours = host("127.0.0.1:8080");
        assert!(check_origin(&HeaderMap::new(), ours.as_ref()).is_ok());
        assert!(check_origin(&origin("http://127.0.0.1:8080"), ours.as_ref()).is_ok());
        assert!(check_origin(&origin("https://evil.example"), ours.as_ref()).is_err());
        assert!(check_origin(&origin("null"), ours.as_ref()).is_err());
    }
}
