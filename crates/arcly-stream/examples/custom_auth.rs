//! Who may publish is decided here: a shared word for the stream `live/cam`, and everybody may play.
//!
//!     cargo run -p arcly-stream --features rtmp --example custom_auth
//!     ffmpeg -re -i in.mp4 -c copy -f flv 'rtmp://127.0.0.1:1935/live/cam?token=sesame'

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_stream::contract::auth::Throttled;
use arcly_stream::prelude::*;
use arcly_stream::protocol::rtmp::{Server, ServerConfig};

struct Door;

#[async_trait::async_trait]
impl StreamAuthenticator for Door {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        match (request.action, request.credentials.bearer()) {
            (Action::Play, _) => Ok(Grant::unlimited()),
            // The publisher is sent away after an hour.
            (Action::Publish, Some("sesame")) => {
                let end = SystemTime::now() + Duration::from_secs(3_600);
                Ok(Grant::unlimited().until(end).to("the studio"))
            }
            (Action::Publish, Some(_)) => Err(AuthError::Forbidden),
            _ => Err(AuthError::Unauthorized),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // Whoever guesses is slowed down.
    let engine = Engine::builder().authenticator(Arc::new(Throttled::new(Door))).build();
    let server = Server::bind("127.0.0.1:1935", ServerConfig::default()).await?;
    server.run(engine.context(CancellationToken::new())).await
}
