//! A whole RTMP server: `cargo run -p arcly-rtmp --example rtmp_server [ADDRESS]`, then publish to
//! `rtmp://ADDRESS/live/cam` and play the same URL. Ctrl-C says good-bye to everybody.

use arcly_core::Engine;
use arcly_rtmp::{Server, ServerConfig};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> arcly_core::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1935".to_owned());
    let engine = Engine::builder().build();
    let server = Server::bind(address, ServerConfig::default()).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.run(engine.context(shutdown)).await
}
