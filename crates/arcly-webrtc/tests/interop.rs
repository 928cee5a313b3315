//! Real programs over real sockets and HTTP: FFmpeg publishes by WHIP, Chromium publishes by WHIP and plays by WHEP.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::Credentials;
use arcly_core::log::Read;
use arcly_core::via::Via;
use arcly_core::{ClientInfo, CodecId, Engine, PlayRequest, PlaybackRegistry, StreamKey, TrackId};
use arcly_testkit::need;
use arcly_testkit::process::run_ok;
use arcly_testkit::program::Program;
use arcly_webrtc::http::{Endpoint, Visit};
use arcly_webrtc::wire::Role;
use arcly_webrtc::{Server, ServerConfig};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use tokio_util::sync::CancellationToken;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For a program to start and to connect on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// `/live/cam/whip`, `/live/cam/whep`, and sessions below.
async fn serve(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/" {
        return axum::response::Html("<title>arcly</title>").into_response();
    }
    let mut parts = path.trim_start_matches('/').splitn(4, '/');
    let (app, stream) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let role = match parts.next() {
        Some("whip") => Role::Publisher,
        Some("whep") => Role::Viewer,
        _ => return http::StatusCode::NOT_FOUND.into_response(),
    };
    let visit = Visit {
        role,
        stream: StreamKey::new(app, stream),
        client: ClientInfo::new(role.as_str(), SocketAddr::new(LOCALHOST, 9)),
        credentials: Credentials::new(role.as_str()),
        via: Via::default(),
        reached: vec![LOCALHOST],
        session: parts.next().map(str::to_owned),
    };
    let (parts, body) = request.into_parts();
    endpoint.handle(visit, &parts, body).await.map(Body::from)
}

/// An engine, and where it is to be had by WHIP and WHEP.
async fn start() -> (Arc<Engine>, SocketAddr) {
    let engine = Engine::builder().build();
    let context = engine.context(CancellationToken::new());
    let server = Server::bind(SocketAddr::new(LOCALHOST, 0), ServerConfig::default()).unwrap();
    let app = axum::Router::new().fallback(serve).with_state(server.endpoint(&context));
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    tokio::spawn(async move { server.run(context).await });
    (engine, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_h264_and_opus() {
    let ffmpeg = need!(ffmpeg9);
    let (engine, http) = start().await;
    let mut command = Command::new(ffmpeg);
    command.args([
        "-hide_banner",
        "-loglevel",
        "warning",
        "-re",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=25",
    ]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-pix_fmt", "yuv420p"]);
    command.args([
        "-c:v",
        "libx264",
        "-profile:v",
        "baseline",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
    ]);
    command.args(["-g", "25", "-bf", "0", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "64k"]);
    command.args(["-f", "whip", "-handshake_timeout", "60000"]).arg(format!("http://{http}/live/cam/whip"));
    let program = Program::start("ffmpeg", &mut command);
    let key = StreamKey::new("live", "cam");
    let request = PlayRequest::internal(key, "test").wait(PATIENCE);
    let subscribed = engine.subscribe(request).await;
    let mut frames = subscribed.unwrap_or_else(|error| panic!("{error}: {}", program.log())).into_frames();
    let (mut codecs, mut pictures, mut sounds) = (Vec::new(), 0, 0);
    let enough = async {
        while pictures < 75 || sounds < 150 {
            match frames.next().await.unwrap() {
                Some(Read::Context(tracks)) => codecs = tracks.iter().map(|track| track.codec).collect(),
                Some(Read::Item(frame)) => {
                    *(if frame.track == TrackId::VIDEO { &mut pictures } else { &mut sounds }) += 1;
                }
                Some(Read::Skipped(_)) => {}
                None => break,
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, enough).await.is_ok();
    assert!(in_time, "{pictures} pictures, {sounds} sounds: {}", program.log());
    assert_eq!(codecs, [CodecId::H264, CodecId::Opus], "{}", program.log());
}

/// What the script prints.
fn browse(http: SocketAddr, modules: &Path, chromium: &Path, how: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser.mjs");
    let mut node = Command::new("node");
    // A page may ask for a camera only where it came from a safe place, which loopback is.
    node.arg(script).arg(format!("http://{http}/")).arg(modules).arg(chromium).arg(how);
    run_ok(&mut node, PATIENCE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_plays_what_chromium_publishes() {
    let (chromium, modules) = (need!(chromium), need!(node_modules));
    let (engine, http) = start().await;
    let script = tokio::task::spawn_blocking(move || browse(http, &modules, &chromium, "publish"));
    let report = script.await.unwrap();
    assert!(report.contains("\"width\":320") && report.contains("audio/opus"), "{report}");
    assert!(engine.stream(&StreamKey::new("live", "cam")).is_some());
    if std::env::var_os("ARCLY_SHOW_ROWS").is_some() {
        println!("{report}");
    }
}
