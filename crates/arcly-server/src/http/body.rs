//! A response body that is watched: its connection is busy while it lasts, and ends when nobody takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arcly_core::CloseReason;
use arcly_core::subscriber::ReaderState;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::guard::{Busy, Connection, STALL_TIME};

/// A body whose reader must keep taking.
///
/// Over HTTP/2 a peer can stop one stream with flow control while its socket stays lively, which the socket's
/// write deadline never sees. What is seen here is that the library does not come back for more.
pub(super) struct Watched<B> {
    body: B,
    _busy: Busy,
    connection: Arc<Connection>,
    /// Since when the library has bytes that it has not come back for; shared with the watchdog.
    taken: Arc<Mutex<Option<Instant>>>,
    multiplexed: bool,
    /// Who reads, when it is a stream.
    reader: Option<Arc<ReaderState>>,
    watchdog: Option<AbortHandle>,
}

impl<B> Watched<B> {
    /// Watches `body`, the answer to a request on `connection`; `multiplexed` when it shares the socket with others.
    pub(super) fn new(body: B, busy: Busy, connection: Arc<Connection>, multiplexed: bool) -> Self {
        Self {
            body,
            _busy: busy,
            connection,
            taken: Arc::default(),
            multiplexed,
            reader: None,
            watchdog: None,
        }
    }

    /// The same, ending the reader for the connection's reason.
    pub(super) fn of(mut self, reader: Option<Arc<ReaderState>>) -> Self {
        self.reader = reader;
        self
    }

    /// Called with the first bytes of a body that has more to come.
    fn watch(&mut self) {
        let (taken, connection) = (Arc::clone(&self.taken), Arc::clone(&self.connection));
        let watchdog = tokio::spawn(async move {
            loop {
                tokio::time::sleep(STALL_TIME / 5).await;
                let since = *taken.lock();
                if since.is_some_and(|since| since.elapsed() >= STALL_TIME) {
                    return connection.kill(CloseReason::SlowConsumer);
                }
            }
        });
        self.watchdog = Some(watchdog.abort_handle());
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        if let (Some(reader), Some(reason)) = (&self.reader, self.connection.reason()) {
            reader.end(reason);
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if !this.multiplexed {
            return polled;
        }
        let has_bytes = matches!(polled, Poll::Ready(Some(Ok(_))));
        *this.taken.lock() = has_bytes.then(Instant::now);
        if has_bytes && this.watchdog.is_none() && !this.body.is_end_stream() {
            this.watch();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
