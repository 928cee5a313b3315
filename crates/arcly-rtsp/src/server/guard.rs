//! Packets that are protected for one player on their way to its socket.
//!
//! Workers write the frames that all players share; here each player gets its own, under its own keys. What is no frame, such
//! as a response, passes as it is.

use core::pin::Pin;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::scatter::split_frame;
use crate::session::Presentation;
use crate::srtp::Sender;
use crate::wire::interleaved::DOLLAR;

/// What is done with the packets of a medium.
#[derive(Debug)]
enum Lane {
    /// They pass as they are: nothing was agreed on, or whoever made them has protected them.
    Plain,
    Protected(Box<Sender>),
}

#[derive(Debug, Default)]
struct Lanes {
    /// By half of the channel.
    all: Vec<Lane>,
    /// How often something began to be sent.
    run: u32,
}

/// The keys of a presentation's media for as long as it is set up, shared by whatever sends something of it.
///
/// What is sent between two pauses is a run. A run numbers its packets behind those of the one before, and nothing of that one is
/// protected any more, so that no number is used twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    lanes: Arc<Mutex<Lanes>>,
    run: u32,
}

impl Guard {
    /// The guard of another run, where `before` was that of the last one; `None` where nothing is protected.
    pub(super) fn of(before: Option<Self>, presentation: &Presentation) -> Option<Self> {
        let Self { lanes: shared, .. } = before.unwrap_or_default();
        let mut lanes = shared.lock();
        for (at, medium) in presentation.media.iter().enumerate() {
            // What is said about a back-channel is protected where it is made.
            let protection = medium.protection.as_ref().filter(|_| !medium.is_back_channel);
            match (lanes.all.get_mut(at), protection) {
                (Some(Lane::Protected(sender)), _) => sender.resume(),
                (Some(lane), Some(protection)) => *lane = Lane::Protected(Box::new(protection.sender())),
                (Some(Lane::Plain), None) => {}
                (None, Some(protection)) => lanes.all.push(Lane::Protected(Box::new(protection.sender()))),
                (None, None) => lanes.all.push(Lane::Plain),
            }
        }
        lanes.run = lanes.run.wrapping_add(1);
        let run = lanes.run;
        let is_needed = lanes.all.iter().any(|lane| matches!(lane, Lane::Protected(_)));
        drop(lanes);
        is_needed.then_some(Self { lanes: shared, run })
    }

    /// The number that the next packet of a medium gets; `None` where that is the packet's own.
    pub(super) fn next_sequence(&self, medium: usize) -> Option<u16> {
        match self.lanes.lock().all.get(medium) {
            Some(Lane::Protected(sender)) => sender.next_sequence(),
            _ => None,
        }
    }

    /// The packet as its player gets it; `None` for one that cannot be protected, or not any more, which nobody gets.
    pub(super) fn protect(&self, channel: u8, packet: &[u8]) -> Option<Bytes> {
        let mut lanes = self.lanes.lock();
        if lanes.run != self.run {
            return None;
        }
        let protected = match lanes.all.get_mut(usize::from(channel / 2))? {
            Lane::Plain => Ok(Bytes::copy_from_slice(packet)),
            Lane::Protected(sender) if channel.is_multiple_of(2) => sender.protect(packet),
            Lane::Protected(sender) => sender.protect_rtcp(packet),
        };
        protected.inspect_err(|error| tracing::debug!(%error, channel, "a packet is not sent")).ok()
    }
}

/// A socket's writing half, with keys while something is played over it that is to be protected.
#[derive(Debug)]
pub(super) struct Guarded<W> {
    writer: W,
    guard: Option<Guard>,
    /// Protected, and not written yet: at most what was written here at once.
    waiting: BytesMut,
}

impl<W> Guarded<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, guard: None, waiting: BytesMut::new() }
    }

    /// Protects what is written from now on, or no longer does.
    pub(super) fn set_guard(&mut self, guard: Option<Guard>) {
        self.guard = guard;
    }
}

impl<W: AsyncWrite + Unpin> Guarded<W> {
    /// Writes what is protected already.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Guarded<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(cx))?;
        let Self { writer, guard, waiting } = &mut *self;
        let Some(guard) = guard else { return Pin::new(writer).poll_write(cx, bytes) };
        let mut rest = bytes;
        while let Some((channel, packet, after)) = split_frame(rest) {
            rest = after;
            let Some(packet) = guard.protect(channel, packet) else { continue };
            let Ok(len) = u16::try_from(packet.len()) else { continue };
            waiting.put_slice(&[DOLLAR, channel]);
            waiting.put_u16(len);
            waiting.put_slice(&packet);
        }
        // Half a frame is nothing that a worker writes, and nothing that goes out as it is.
        if rest.first() != Some(&DOLLAR) {
            waiting.put_slice(rest);
        }
        // All of it was taken; what the socket does not take now goes first next time.
        match self.poll_waiting(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.guard.is_none() {
            ready!(self.poll_waiting(cx))?;
            return Pin::new(&mut self.writer).poll_write_vectored(cx, pieces);
        }
        let first = pieces.iter().find(|piece| !piece.is_empty());
        self.poll_write(cx, first.map_or(&[][..], |piece| piece))
    }

    fn is_write_vectored(&self) -> bool {
        // Whole messages in one piece, where they are taken apart.
        self.guard.is_none() && self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::srtp::{MasterKey, Receiver, Suite};
    use crate::wire::Frame;

    fn master(byte: u8) -> MasterKey {
        MasterKey { key: [byte; 16], salt: [byte; 14], suite: Suite::AesCm }
    }

    fn guard() -> Option<Guard> {
        let all = vec![Lane::Protected(Box::new(Sender::new(&master(1))))];
        Some(Guard { lanes: Arc::new(Mutex::new(Lanes { all, run: 0 })), run: 0 })
    }

    fn rtp(seq: u8) -> Vec<u8> {
        [&[0x80, 96, 0, seq, 0, 0, 0, 0, 0, 0, 0, 7][..], b"payload"].concat()
    }

    fn frame(channel: u8, payload: &[u8]) -> Bytes {
        Frame { channel, payload: Bytes::copy_from_slice(payload) }.to_bytes()
    }

    /// Through a pipe that takes a few bytes at a time.
    #[tokio::test]
    async fn frames_are_protected_and_the_rest_passes() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut guarded = Guarded::new(near);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        guarded.write_all(b"RTSP/1.0 200 OK\r\n\r\n").await.unwrap();
        guarded.set_guard(guard());
        assert!(!guarded.is_write_vectored());
        let report = [0x80, 200, 0, 1, 0, 0, 0, 7];
        for seq in 0..20 {
            // Behind what is protected: a channel that nobody set up, a number that was used, and half a frame, which nobody gets.
            let frames =
                [frame(0, &rtp(seq)), frame(1, &report), frame(2, b"no key"), frame(0, &rtp(seq))].concat();
            guarded.write_all(&[&frames[..], b"$\0\0"].concat()).await.unwrap();
        }
        guarded.write_all(b"RTSP/1.0 454 \r\n\r\n").await.unwrap();
        guarded.set_guard(None);
        guarded.write_all(b"the end").await.unwrap();
        guarded.shutdown().await.unwrap();
        drop(guarded);
        let all = reading.await.unwrap();
        let mut rest = all.strip_prefix(b"RTSP/1.0 200 OK\r\n\r\n").unwrap();
        let mut receiver = Receiver::new(&master(1));
        for seq in 0..20 {
            let (channel, packet, after) = split_frame(rest).unwrap();
            assert_eq!((channel, receiver.unprotect(packet).unwrap()[..].to_vec()), (0, rtp(seq)));
            let (channel, packet, after) = split_frame(after).unwrap();
            assert_eq!(
                (channel, receiver.unprotect_rtcp(packet).unwrap()[..].to_vec()),
                (1, report.to_vec())
            );
            rest = after;
        }
        assert_eq!(rest, b"RTSP/1.0 454 \r\n\r\nthe end");
    }
}
