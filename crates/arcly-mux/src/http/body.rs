//! The body of a response: a stream, or a few bytes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arcly_core::log::{Budget, Progress};
use arcly_core::{CloseReason, DerivedSubscriber, StreamError, Subscription, TimeDelta};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::Container;

/// Taken from the log at a time: what a body holds while nobody takes it.
const BATCH: Budget = Budget { items: 64, bytes: 256 << 10, time: TimeDelta(i64::MAX) };

/// The body of a response: the stream as a container without end, or a few bytes.
pub struct StreamBody<C: Container>(Kind<C>);

enum Kind<C: Container> {
    Whole(Option<Bytes>),
    /// A stream before anybody has asked for its first bytes.
    Fresh(Subscription),
    Live(Box<Live<C>>),
}

impl<C: Container> core::fmt::Debug for StreamBody<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = match self.0 {
            Kind::Whole(_) => "whole",
            Kind::Fresh(_) | Kind::Live(_) => "live",
        };
        write!(f, "StreamBody({}, {kind})", C::NAME)
    }
}

impl<C: Container> StreamBody<C> {
    pub(super) const fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    /// The file that a reader of the stream makes, until the stream ends.
    #[must_use]
    pub const fn live(subscription: Subscription) -> Self {
        Self(Kind::Fresh(subscription))
    }

    /// The subscription of a body that nobody has polled, for a server that writes the stream to its connection by
    /// other means, such as [`Egress`](arcly_core::egress::Egress).
    ///
    /// # Errors
    /// The body itself, when it is no stream or was polled.
    pub fn into_subscription(self) -> Result<Subscription, Self> {
        match self.0 {
            Kind::Fresh(subscription) => Ok(subscription),
            kind => Err(Self(kind)),
        }
    }
}

struct Live<C: Container> {
    reader: DerivedSubscriber<C::Packetizer>,
    writer: C::Writer,
    pending: VecDeque<Bytes>,
    ended: Pin<Box<dyn Future<Output = CloseReason> + Send>>,
    pace: Option<Pin<Box<Sleep>>>,
    done: bool,
}

impl<C: Container> Live<C> {
    fn new(subscription: Subscription) -> Self {
        let state = Arc::clone(subscription.state());
        Self {
            reader: subscription.into_derived(C::VARIANT, C::Packetizer::default),
            writer: C::Writer::default(),
            pending: VecDeque::new(),
            ended: Box::pin(async move { state.ended().await }),
            pace: None,
            done: false,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            let Self { reader, writer, pending, .. } = self;
            let progress =
                reader.read(BATCH, |read| C::write(writer, &read, |bytes| pending.push_back(bytes)));
            match progress {
                Err(error) => return self.fail(error),
                Ok(Progress::Ended(reason)) => {
                    reader.subscription().state().end(reason);
                    self.done = true;
                }
                Ok(_) if C::is_complete(writer) => self.done = true,
                Ok(_) if !pending.is_empty() => {}
                Ok(progress) => ready!(self.poll_wait(progress, cx)),
            }
        }
    }

    /// A reader that was too slow is cut off in the middle, so that it does not take what it got for the whole; for
    /// one that was sent away the stream ends.
    fn fail(&mut self, error: StreamError) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.done = true;
        match error.reason() {
            CloseReason::SlowConsumer => Poll::Ready(Some(Err(error))),
            _ => Poll::Ready(None),
        }
    }

    fn poll_wait(&mut self, progress: Progress, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended.as_mut().poll(cx).is_ready() {
            // The next read fails with the reason.
            return Poll::Ready(());
        }
        let Progress::PacedUntil(at) = progress else { return self.reader.poll_ready(cx) };
        let pace = self.pace.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        pace.as_mut().reset(at.into());
        pace.as_mut().poll(cx)
    }
}

impl<C: Container> Body for StreamBody<C> {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let kind = &mut self.as_mut().get_mut().0;
        let mut live = match core::mem::replace(kind, Kind::Whole(None)) {
            Kind::Whole(bytes) => return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Fresh(subscription) => Box::new(Live::new(subscription)),
            Kind::Live(live) => live,
        };
        let polled = live.poll_next(cx);
        *kind = Kind::Live(live);
        polled.map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Fresh(_) | Kind::Live(_) => SizeHint::default(),
        }
    }
}
