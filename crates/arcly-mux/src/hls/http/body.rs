//! Bodies of bytes that are there, in pieces that are shared, and of those that are being made.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};

/// Pieces that are still to come.
type Tail = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response: shared pieces, of known length unless they are still being made.
#[derive(Default)]
pub struct HlsBody {
    /// The next piece.
    next: Bytes,
    /// Those behind it.
    pieces: VecDeque<Bytes>,
    len: u64,
    /// `HEAD`: the length is told and nothing is sent.
    told: Option<u64>,
    tail: Option<Tail>,
}

impl core::fmt::Debug for HlsBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HlsBody({} bytes{})", self.len, if self.tail.is_some() { " and more" } else { "" })
    }
}

impl From<Bytes> for HlsBody {
    fn from(bytes: Bytes) -> Self {
        Self { len: bytes.len() as u64, next: bytes, ..Self::default() }
    }
}

impl HlsBody {
    pub(super) fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(|piece| piece.len() as u64).fold(0, u64::saturating_add);
        Self { next: pieces.pop_front().unwrap_or_default(), pieces, len, ..Self::default() }
    }

    /// What is being made, as it comes.
    pub(super) fn growing(tail: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { tail: Some(Box::pin(tail)), ..Self::default() }
    }

    /// Bytes of it that are there.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a body is sent, not looked into")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `first` to `last`, both counted from the front.
    pub(super) fn slice(self, first: u64, last: u64) -> Self {
        let mut at = 0_u64;
        let pieces = core::iter::once(self.next).chain(self.pieces).filter_map(|piece| {
            let (start, len) = (at, piece.len() as u64);
            at = at.saturating_add(len);
            let from = first.saturating_sub(start).min(len);
            let to = last.saturating_add(1).saturating_sub(start).min(len);
            let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
            (from < to).then(|| piece.slice(from..to))
        });
        Self::new(pieces.collect::<Vec<_>>())
    }

    /// The same without the bytes.
    pub(super) fn head(self) -> Self {
        Self { told: Some(self.len), ..Self::default() }
    }
}

impl Body for HlsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(tail) = &mut self.tail {
            return tail.as_mut().poll_next(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))));
        }
        let following = self.pieces.pop_front().unwrap_or_default();
        let piece = core::mem::replace(&mut self.next, following);
        self.len = self.len.saturating_sub(piece.len() as u64);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_empty() && self.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.tail {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.told.unwrap_or(self.len)),
        }
    }
}
