//! FLV over WebSocket: the bytes of HTTP-FLV in binary messages.

use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::{Budget, Progress};
use arcly_core::rendition::FLV_AUDIO;
use arcly_core::{
    CloseReason, DerivedSubscriber, PlayRequest, PlaybackRegistry as _, StreamError, TimeDelta,
};
use arcly_mux::flv::{Packetizer, Writer};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use http::request::Parts;
use http::{Method, header};

use super::guard::{Connection, STALL_TIME};
use super::problem::Problem;
use crate::server::Server;

/// Taken from the log for one message.
const BATCH: Budget = Budget { items: 64, bytes: 256 << 10, time: TimeDelta(i64::MAX) };
/// Bytes of a message from a player, which has nothing to say.
const MAX_INCOMING: usize = 4 << 10;
/// Bytes that wait for the socket beyond one message.
const MAX_BACKLOG: usize = 1 << 20;
/// How long the closing handshake may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// True when the request wants to become a WebSocket.
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts
            .headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Subscribes first, so that a stream that is not there is a 404 and not a socket that closes.
pub(super) async fn upgrade(
    server: &Arc<Server>,
    play: PlayRequest,
    connection: Arc<Connection>,
    mut parts: Parts,
) -> Response {
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Problem::new(rejection.status(), rejection.body_text()).into_response(),
    };
    let reader = match server.engine().subscribe(play.audio_or_as_asked(FLV_AUDIO)).await {
        Ok(subscription) => subscription.into_derived(0, Packetizer::new),
        Err(error) => return Problem::refused(&error).into_response(),
    };
    let busy = connection.begin();
    upgrade
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .write_buffer_size(0)
        .max_write_buffer_size(BATCH.bytes.saturating_add(MAX_BACKLOG))
        .on_upgrade(move |socket| async move {
            let reason = play_to(socket, reader).await;
            connection.note(reason);
            drop(busy);
        })
}

async fn play_to(mut socket: WebSocket, mut reader: DerivedSubscriber<Packetizer>) -> CloseReason {
    let mut writer = Writer::new();
    let reason = loop {
        match step(&mut socket, &mut reader, &mut writer).await {
            Ok(()) => {}
            Err(reason) => break reason,
        }
    };
    reader.subscription().state().end(reason);
    let code = if reason == CloseReason::PeerClosed { close_code::NORMAL } else { close_code::AWAY };
    let goodbye = Message::Close(Some(CloseFrame { code, reason: reason.to_string().into() }));
    // The peer may be gone already.
    let _ = tokio::time::timeout(GOODBYE, socket.send(goodbye)).await;
    reason
}

/// Sends what is there, or waits for something to send; notices when the peer leaves.
async fn step(
    socket: &mut WebSocket,
    reader: &mut DerivedSubscriber<Packetizer>,
    writer: &mut Writer,
) -> Result<(), CloseReason> {
    let mut message = BytesMut::new();
    let progress = reader
        .read(BATCH, |read| writer.write(&read, |part| message.extend_from_slice(&part)))
        .map_err(|error: StreamError| error.reason())?;
    if !message.is_empty() {
        return send(socket, message.freeze()).await;
    }
    let more = match progress {
        Progress::Ended(reason) => return Err(reason),
        Progress::PacedUntil(at) => Either::Left(tokio::time::sleep_until(at.into())),
        _ => Either::Right(reader.ready()),
    };
    tokio::select! {
        () = more => Ok(()),
        incoming = socket.recv() => match incoming {
            // Pings are answered by the library.
            Some(Ok(Message::Close(_))) | None => Err(CloseReason::PeerClosed),
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => Err(CloseReason::PeerClosed),
        },
    }
}

async fn send(socket: &mut WebSocket, message: Bytes) -> Result<(), CloseReason> {
    match tokio::time::timeout(STALL_TIME, socket.send(Message::Binary(message))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(CloseReason::PeerClosed),
        Err(_) => Err(CloseReason::SlowConsumer),
    }
}
