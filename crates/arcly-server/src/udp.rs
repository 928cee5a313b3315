//! MPEG-TS over UDP: what `[udp]` takes in and sends out.
//!
//! An input waits for as long as nothing comes. Its stream has a publisher from the first frame until nothing has come for
//! [`IDLE`]; then the next datagram begins again. What is no transport stream ends the publisher as `malformed`, and the input
//! starts over. A publisher that is disconnected, or finds its name taken, comes back after [`RETRY`] if it still sends.

use std::sync::Arc;
use std::time::Duration;

use arcly_core::rendition::TS_AUDIO;
use arcly_core::{
    CloseReason, Engine, MediaEvent, Phase, PlayRequest, PlaybackRegistry as _, PublishRegistry as _,
    PublishRequest, Publisher, StreamError, StreamKey,
};
use arcly_mux::ts::Packetizer;
use arcly_mux::ts::udp::{Receiver, Sender, UdpUrl};
use tokio_util::sync::CancellationToken;

/// An input that gets nothing for so long has no publisher.
pub const IDLE: Duration = Duration::from_secs(10);
/// How soon an input or an output that failed tries again.
pub const RETRY: Duration = Duration::from_secs(1);
/// How long an output waits for its stream at a time.
const WAIT: Duration = Duration::from_secs(10);

/// Publishes what comes, from the first frame on, until nothing comes for [`IDLE`].
///
/// # Errors
/// The stream cannot be published, its publisher is disconnected, or what comes is no transport stream.
pub async fn receive(
    engine: &Arc<Engine>,
    receiver: &mut Receiver,
    key: &StreamKey,
) -> Result<(), StreamError> {
    let first = receiver.next().await?;
    let mut request = PublishRequest::internal(key.clone(), "udp");
    request.client.remote = receiver.sender();
    let mut publisher = engine.publish(request).await?;
    let ended = publish(&mut publisher, receiver, first).await;
    if let Err(error) = &ended {
        publisher.state().revoke(error.reason());
    }
    match ended {
        Err(StreamError::Closed(CloseReason::Timeout(Phase::Idle))) => Ok(()),
        ended => ended,
    }
}

async fn publish(
    publisher: &mut Publisher,
    receiver: &mut Receiver,
    first: MediaEvent,
) -> Result<(), StreamError> {
    publisher.handle(first)?;
    loop {
        let event = tokio::select! {
            event = tokio::time::timeout(IDLE, receiver.next()) => event,
            reason = publisher.revoked() => return Err(StreamError::Closed(reason)),
        };
        match event {
            Ok(event) => publisher.handle(event?)?,
            Err(_) => {
                receiver.finish().try_for_each(|event| publisher.handle(event))?;
                return Err(StreamError::Closed(CloseReason::Timeout(Phase::Idle)));
            }
        }
    }
}

/// Sends a stream until it ends.
///
/// # Errors
/// There is no such stream, or the socket fails.
pub async fn send(
    engine: &Arc<Engine>,
    request: PlayRequest,
    sender: &mut Sender,
) -> Result<CloseReason, StreamError> {
    let subscription = engine.subscribe(request.audio_or_as_asked(TS_AUDIO)).await?;
    sender.run(subscription.into_derived(0, Packetizer::new)).await
}

/// Runs an input until `shutdown` fires.
pub(crate) async fn run_input(
    engine: Arc<Engine>,
    mut receiver: Receiver,
    key: StreamKey,
    shutdown: CancellationToken,
) {
    while let Some(ended) = shutdown.run_until_cancelled(receive(&engine, &mut receiver, &key)).await {
        let from = receiver.sender();
        match ended {
            Ok(()) => tracing::info!(stream = %key, ?from, "the UDP input has fallen silent"),
            Err(error) => {
                tracing::warn!(stream = %key, ?from, reason = %error.reason(), %error, "the UDP input starts over")
            }
        }
        receiver.reset();
        if shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

/// Runs an output until `shutdown` fires.
pub(crate) async fn run_output(
    engine: Arc<Engine>,
    key: StreamKey,
    url: UdpUrl,
    shutdown: CancellationToken,
) {
    let mut failing = false;
    while !shutdown.is_cancelled() {
        let sending = async {
            let mut sender = Sender::connect(&url).await?;
            send(&engine, PlayRequest::internal(key.clone(), "udp").wait(WAIT), &mut sender).await
        };
        let Some(ended) = shutdown.run_until_cancelled(sending).await else { return };
        match ended {
            Ok(reason) => tracing::info!(stream = %key, to = %url, %reason, "the UDP output has ended"),
            // A stream that is not there yet is no failure.
            Err(error) if error.reason() == CloseReason::NotFound => continue,
            Err(error) if !failing => {
                tracing::warn!(stream = %key, to = %url, %error, "the UDP output fails")
            }
            Err(_) => {}
        }
        failing = true;
        let _ = shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}
