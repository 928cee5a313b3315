//! Bodies of bytes that are there, in pieces that are shared.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a response: shared pieces of known length.
#[derive(Debug, Default)]
pub struct HlsBody {
    pieces: VecDeque<Bytes>,
    len: u64,
    /// `HEAD`: the length is told and nothing is sent.
    told: Option<u64>,
}

impl HlsBody {
    pub(super) fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(|piece| piece.len() as u64).fold(0, u64::saturating_add);
        Self { pieces, len, told: None }
    }

    /// Bytes of it.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a body is sent, not looked into")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `first` to `last`, both counted from the front.
    pub(super) fn slice(self, first: u64, last: u64) -> Self {
        let mut at = 0_u64;
        let pieces = self.pieces.into_iter().filter_map(|piece| {
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
        Self { pieces: VecDeque::new(), len: 0, told: Some(self.len) }
    }
}

impl Body for HlsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.len = self.len.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.told.unwrap_or(self.len))
    }
}
