//! An RTMP server: publish to rtmp://127.0.0.1:1935/live/cam, play the same, and see what happens.
//!
//!     cargo run -p arcly-stream --features rtmp --example rtmp_server

use std::sync::Arc;
use std::time::Duration;

use arcly_stream::prelude::*;
use arcly_stream::protocol::rtmp::{Server, ServerConfig};

/// Prints what happens.
struct Print;

impl Observer for Print {
    fn on_event(&self, event: &EngineEvent) {
        eprintln!("{event:?}");
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let live = AppSpec::new("live").takeover(Takeover::Replace).wait_for_stream(Duration::from_secs(10));
    let engine = Engine::builder().app(live).observer(Arc::new(Print)).build();

    let server = Server::bind("127.0.0.1:1935", ServerConfig::default()).await?;
    eprintln!("rtmp://{}/live/cam", server.local_addr()?);

    let shutdown = CancellationToken::new();
    let serving = server.run(engine.context(shutdown.clone()));
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => result,
        _ = tokio::signal::ctrl_c() => {
            shutdown.cancel();
            engine.drain();
            serving.await
        }
    }
}
