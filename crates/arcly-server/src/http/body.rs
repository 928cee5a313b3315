//! The bodies of answers, and how they are watched: their connection is busy while they last, and ends when nobody takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arcly_core::CloseReason;
use arcly_core::subscriber::ReaderState;
use arcly_mux::hls::http::HlsBody;
use axum::body::Body as AnyBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::guard::{Busy, Connection, STALL_TIME};

/// The body of an answer: media of HLS as they are, and everything else behind one type.
pub(super) enum AnswerBody {
    /// Files of HLS and DASH.
    Hls(HlsBody),
    /// What came through the router.
    Other(AnyBody),
}

impl From<HlsBody> for AnswerBody {
    fn from(body: HlsBody) -> Self {
        Self::Hls(body)
    }
}

impl From<AnyBody> for AnswerBody {
    fn from(body: AnyBody) -> Self {
        Self::Other(body)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Hls(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hls(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hls(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// A body whose reader must keep taking.
///
/// Over HTTP/2 a peer can stop one stream with flow control while its socket stays lively, which the socket's
/// write deadline never sees. What is seen here is that the library does not come back for more.
pub(super) struct Watched<B> {
    body: B,
    _busy: Busy,
    connection: Arc<Connection>,
    /// Where it shares the socket with others: since when the library has bytes that it has not come back for; shared with
    /// the watchdog.
    taken: Option<Arc<Mutex<Option<Instant>>>>,
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
            taken: multiplexed.then(Arc::default),
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
    fn watch(&mut self, taken: Arc<Mutex<Option<Instant>>>) {
        let connection = Arc::clone(&self.connection);
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
        let Some(taken) = &this.taken else { return polled };
        let has_bytes = matches!(polled, Poll::Ready(Some(Ok(_))));
        *taken.lock() = has_bytes.then(Instant::now);
        if has_bytes && this.watchdog.is_none() && !this.body.is_end_stream() {
            let taken = Arc::clone(taken);
            this.watch(taken);
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
