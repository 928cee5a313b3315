//! Pages for people: the list of streams, and for each of them a player, and a page that publishes it.

use std::sync::Arc;

use arcly_core::{StreamInfo, StreamKey, StreamState, TrackKind};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::assets::href;
use crate::config::HlsEncryption;
use crate::server::Server;

const INDEX: &str = include_str!("../../assets/web/index.html");
const PLAYER: &str = include_str!("../../assets/web/player.html");
const PUBLISH: &str = include_str!("../../assets/web/publish.html");

/// What a page may do: nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// The list of streams that anybody may play: as a page, or as JSON for the page that keeps it up to date. What needs
/// credentials is in the API.
pub(super) async fn index(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let mut items = Vec::new();
    for info in server.engine().infos() {
        if matches!(info.state, StreamState::Live | StreamState::Grace) && server.is_public(&info.key).await {
            items.push(info);
        }
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if accept.contains("application/json") {
        let items: Vec<Value> = items.iter().map(summary).collect();
        Json(json!({ "items": items })).into_response()
    } else {
        let page = INDEX
            .replace("{STYLE}", &href("style.css"))
            .replace("{SCRIPT}", &href("streams.js"))
            .replace("{RTMP_PORT}", &rtmp_port(&server).unwrap_or_default())
            .replace("{WEBRTC_HIDDEN}", hidden_unless(has_webrtc(&server)))
            .replace("{COUNT}", &count(items.len()))
            .replace("{EMPTY}", hidden_unless(items.is_empty()))
            .replace("{STREAMS}", &items.iter().map(list_item).collect::<String>());
        html(StatusCode::OK, page)
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The player of a stream; a stream that is not there is said to be so, and played once it comes.
pub(super) async fn player(server: &Server, key: &StreamKey) -> Response {
    let live = server
        .engine()
        .stream(key)
        .is_some_and(|s| matches!(s.state(), StreamState::Live | StreamState::Grace));
    // Whether a stream is there that needs credentials is not for everybody to know.
    let known = live || !server.is_public(key).await;
    let (status, state) =
        if known { (StatusCode::OK, "connecting") } else { (StatusCode::NOT_FOUND, "offline") };
    let message = if known { String::new() } else { format!("There is no stream {key} at the moment.") };
    let page = with_webrtc(PLAYER, server)
        .replace("{MPEGTS}", &href("mpegts.js"))
        .replace("{HLS}", if server.hls().is_some() { href("hls.js") } else { String::new() }.as_str())
        .replace("{SCRIPT}", &href("player.js"))
        .replace("{STATE}", state)
        .replace("{MESSAGE_HIDDEN}", hidden_unless(!known))
        .replace("{MESSAGE}", &message);
    let ports = [
        ("RTMP", rtmp_port(server)),
        ("RTSP", port(server, "rtsp", Some(arcly_rtsp::url::RTSP_PORT))),
        ("SRT", port(server, "srt", None)),
    ];
    let page = ports.into_iter().fold(page, |page, (name, port)| {
        page.replace(&format!("{{{name}_HIDDEN}}"), hidden_unless(port.is_some()))
            .replace(&format!("{{{name}_PORT}}"), &port.unwrap_or_default())
    });
    // What is encrypted has no parts, and no manifest.
    let is_encrypted = server.config().hls.encryption != HlsEncryption::None;
    let (has_hls, has_dash) = (server.hls().is_some(), server.hls().is_some() && !is_encrypted);
    let page = page
        .replace("{HLS_HIDDEN}", hidden_unless(has_hls))
        .replace("{HLS_TITLE}", if is_encrypted { "HLS" } else { "HLS, LL-HLS" })
        .replace("{DASH_HIDDEN}", hidden_unless(has_dash));
    html(status, page.replace("{NAME}", key.as_str()))
}

/// The page that publishes a stream, whether there is one or not.
pub(super) fn publisher(server: &Server, key: &StreamKey) -> Response {
    let https = server.addr("https").map(|addr| addr.port().to_string()).unwrap_or_default();
    let page = with_webrtc(PUBLISH, server)
        .replace("{SCRIPT}", &href("publish.js"))
        .replace("{HTTPS_PORT}", &https)
        .replace("{NAME}", key.as_str());
    html(StatusCode::OK, page)
}

/// What the pages that speak WebRTC have in common.
fn with_webrtc(page: &str, server: &Server) -> String {
    let is_there = has_webrtc(server);
    page.replace("{STYLE}", &href("style.css"))
        .replace("{WEBRTC}", &href("webrtc.js"))
        .replace("{WEBRTC_STATE}", if is_there { "on" } else { "" })
        .replace("{WEBRTC_HIDDEN}", hidden_unless(is_there))
}

fn has_webrtc(server: &Server) -> bool {
    server.addr("webrtc").is_some()
}

const fn hidden_unless(shown: bool) -> &'static str {
    if shown { "" } else { " hidden" }
}

/// What follows the host in RTMP addresses; `None` when there is no RTMP.
fn rtmp_port(server: &Server) -> Option<String> {
    port(server, "rtmp", Some(arcly_rtmp::url::RTMP_PORT))
}

/// What follows the host in a protocol's addresses, where `default` need not be said; `None` when nobody listens.
fn port(server: &Server, protocol: &str, default: Option<u16>) -> Option<String> {
    let port = server.addr(protocol)?.port();
    Some(if Some(port) == default { String::new() } else { format!(":{port}") })
}

fn html(status: StatusCode, page: String) -> Response {
    let page = page.replace("{VERSION}", env!("CARGO_PKG_VERSION"));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, page).into_response()
}

fn count(streams: usize) -> String {
    if streams == 1 { "1 stream".into() } else { format!("{streams} streams") }
}

fn summary(info: &StreamInfo) -> Value {
    json!({ "path": info.key.as_str(), "state": info.state.as_str(), "about": about(info) })
}

/// Names have no character that means anything in HTML.
fn list_item(info: &StreamInfo) -> String {
    let (key, state, about) = (&info.key, info.state.as_str(), about(info));
    format!(
        "<li><a href=\"/{key}\"><strong>{key}</strong>\
         <span class=\"badge\" data-state=\"{state}\">{state}</span><span class=\"quiet\"> {about}</span></a></li>"
    )
}

/// "h264 640×360, aac 48 kHz".
fn about(info: &StreamInfo) -> String {
    let parts = info.tracks.iter().filter(|track| track.kind() != TrackKind::Data).map(|track| {
        let detail = match (track.video(), track.audio()) {
            (Some(video), _) if video.width > 0 => format!(" {}×{}", video.width, video.height),
            (_, Some(audio)) if audio.sample_rate > 0 => {
                format!(" {} kHz", f64::from(audio.sample_rate) / 1_000.0)
            }
            _ => String::new(),
        };
        format!("{}{detail}", track.codec.as_str())
    });
    parts.collect::<Vec<_>>().join(", ")
}
