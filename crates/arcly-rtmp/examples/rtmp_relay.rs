//! Pulls a stream and pushes it on: `cargo run -p arcly-rtmp --example rtmp_relay FROM TO`, both `rtmp://` URLs.

use std::sync::Arc;

use arcly_core::{Engine, StreamKey};
use arcly_rtmp::{Backoff, Client, RtmpRelay};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> arcly_core::Result<()> {
    let (Some(from), Some(to)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        return Err(arcly_core::StreamError::protocol("usage: rtmp_relay FROM TO"));
    };
    let engine = Engine::builder()
        .default_app(arcly_core::AppSpec::new("").wait_for_stream(std::time::Duration::from_secs(10)))
        .build();
    let key = StreamKey::new("live", "relayed");
    let shutdown = CancellationToken::new();
    let client = Client::new(from)?;
    let pull = client.pull(Arc::clone(&engine) as _, key.clone(), shutdown.clone());
    let push = RtmpRelay::new(engine, to)?.with_reconnect(Backoff::default()).run(key, shutdown.clone());
    tokio::select! {
        pulled = pull => pulled,
        pushed = push => pushed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
