//! HTTP-FLV in an axum application of one's own, beside RTMP, on one engine.
//!
//!     cargo run -p arcly-stream --features rtmp,http --example embed_in_axum
//!     ffmpeg -re -i in.mp4 -c copy -f flv rtmp://127.0.0.1:1935/live/cam
//!     ffplay http://127.0.0.1:3000/watch/live/cam

use std::net::SocketAddr;

use arcly_stream::mux::flv::http::HttpFlv;
use arcly_stream::prelude::*;
use arcly_stream::protocol::rtmp::{Server, ServerConfig};
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::any};

async fn watch(
    State(flv): State<HttpFlv>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let Ok(key) = StreamKey::parse(&path) else { return axum::http::StatusCode::NOT_FOUND.into_response() };
    let credentials = Credentials::new("http-flv").with_remote(peer);
    let play = PlayRequest::new(key, ClientInfo::new("http-flv", peer), credentials);
    let (parts, body) = request.into_parts();
    flv.handle(play, &parts.method, body).await.map(Body::new)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build();
    let context = engine.context(CancellationToken::new());

    let rtmp = Server::bind("127.0.0.1:1935", ServerConfig::default()).await?;
    let flv = HttpFlv::new(&context);
    tokio::spawn(async move { rtmp.run(context).await });

    let app = Router::new()
        .route("/", any(|| async { "streams are at /watch/app/stream" }))
        .route("/watch/{*path}", any(watch))
        .with_state(flv);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
