//! Several streams played over one connection: each egress worker writes into a lane, and the connection, which has
//! the socket, merges them message by message.
//!
//! Most connections play one stream, on message stream 1, and their socket belongs to the worker itself. A lane costs
//! a copy of each message, because the message stream id differs.

use core::pin::Pin;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::config::CHUNK_SIZE;
use crate::session::StreamId;
use crate::wire::chunk::restamp_all;

/// Writes in flight between workers and connection; each is at most a worker's batch, 256 KiB.
const IN_FLIGHT: usize = 8;

/// A writer that only takes whole messages, which is what workers write.
#[derive(Debug)]
pub(super) struct Lane {
    stream: StreamId,
    sender: PollSender<Bytes>,
}

/// The connection's end of its lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    sender: mpsc::Sender<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        Self { sender, receiver }
    }

    pub(super) fn lane(&self, stream: StreamId) -> Lane {
        Lane { stream, sender: PollSender::new(self.sender.clone()) }
    }

    /// Whole messages of any lane.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(bytes)) => Poll::Ready(bytes),
            // `self.sender` keeps the channel open.
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for Lane {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        messages: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(cx)).map_err(|_| gone())?;
        let mut copy = BytesMut::from(messages);
        restamp_all(&mut copy, self.stream.get(), CHUNK_SIZE as usize);
        self.sender.send_item(copy.freeze()).map_err(|_| gone())?;
        Poll::Ready(Ok(messages.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
