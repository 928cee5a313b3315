//! How a connection ends: why, and with what is still to be said.

use std::io;
use std::time::Instant;

use arcly_core::CloseReason;
use arcly_core::machine::{Machine, Output};
use arcly_core::net::{FLUSH, close_reason, flush, linger};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, HEARD_LATELY, Sink};
use crate::server::guard::Guarded;

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn lost(&mut self, error: &io::Error, now: Instant) -> CloseReason {
        self.error.get_or_insert_with(|| error.to_string());
        let heard = now.saturating_duration_since(self.heard) < HEARD_LATELY;
        let plays = matches!(self.sink, Sink::Egress { .. });
        match close_reason(error, heard || plays) {
            CloseReason::PeerClosed => self.session.left(),
            reason => reason,
        }
    }

    /// Why the connection ends, when the half that reads says `reason`. TCP tells one half only that it has given up on
    /// the peer, and the other one sees an end: what the half that writes has seen counts.
    pub(super) async fn verdict(&mut self, reason: CloseReason) -> CloseReason {
        let Sink::Egress { attached, .. } = &mut self.sink else { return reason };
        if reason != CloseReason::PeerClosed {
            return reason;
        }
        attached.detach(reason);
        let finished = tokio::time::timeout(FLUSH, attached.finished()).await.ok();
        let slow = finished.as_ref().is_some_and(|finished| finished.reason == CloseReason::SlowConsumer);
        self.sink = finished.and_then(|finished| finished.writer).map_or(Sink::Gone, Sink::Own);
        if slow { CloseReason::SlowConsumer } else { reason }
    }

    /// The writing half, waiting for a worker that has it to let it go.
    async fn writer_back(&mut self, reason: CloseReason) -> Option<Guarded<W>> {
        match core::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Own(writer) => Some(writer),
            Sink::Egress { mut attached, .. } => {
                attached.detach(reason);
                tokio::time::timeout(FLUSH, attached.finished()).await.ok()?.writer
            }
            Sink::Gone => None,
        }
    }

    /// Sends what the session still has to say, and closes so that the peer can read it.
    pub(super) async fn leave(mut self: Box<Self>, reason: CloseReason) {
        self.take_what_is_in_flight().await;
        (self.publisher, self.ingest, self.inbox, self.subscription) = (None, None, None, None);
        (self.scattered, self.member, self.group) = (None, None, None);
        (self.admission, self.decision) = (None, None);
        let mut outbox = core::mem::take(&mut self.outbox);
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => outbox.push(bytes),
                Output::Event(_) => {}
                Output::Wait(_) => break,
            }
        }
        let Some(mut writer) = self.writer_back(reason).await else { return };
        // What is left to say is as it goes out.
        writer.set_guard(None);
        if flush(&mut outbox, &mut writer).await && reason != CloseReason::PeerClosed {
            linger(&mut self.reader).await;
        }
    }
}
