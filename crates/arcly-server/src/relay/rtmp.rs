//! RTMP, as a client.

use std::sync::Arc;

use arcly_core::{Engine, StreamError, StreamKey};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(super) async fn pull(_: &Arc<Engine>, _: &Url, _: StreamKey, _: &CancellationToken) -> Result<(), StreamError> {
    Err(StreamError::protocol("RTMP is not wired yet"))
}

pub(super) async fn push(_: &Arc<Engine>, _: StreamKey, _: &Url, _: &CancellationToken) -> Result<(), StreamError> {
    Err(StreamError::protocol("RTMP is not wired yet"))
}
