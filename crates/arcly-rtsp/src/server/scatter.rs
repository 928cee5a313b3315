//! What players get in datagrams: workers write interleaved frames, and here they are taken apart, and sent.

use core::pin::Pin;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arcly_core::egress::udp::Burst;
use arcly_rtp::media::INTERLEAVED_HEADER;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;

use super::datagrams::{Sockets, in_family};
use super::guard::Guard;
use super::routes::Place;
use crate::wire::interleaved::DOLLAR;

/// Where the packets of one medium go: RTP and RTCP.
pub(super) type Destination = (SocketAddr, SocketAddr);

/// Takes interleaved frames, as workers write them, and sends what is in them as datagrams.
pub(super) struct Scatter {
    sockets: Sockets,
    /// By half of the channel.
    destinations: Vec<Option<Destination>>,
    burst: Burst,
    /// Where the burst goes.
    to: Option<Place>,
    /// Waits for a socket that is full.
    room: Option<BoxFuture<'static, io::Result<()>>>,
    /// Protects packets, where they are to be.
    guard: Option<Guard>,
    /// Is protected, and waits for the burst.
    held: Option<(Place, Bytes)>,
}

impl core::fmt::Debug for Scatter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Scatter").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

impl Scatter {
    /// Sends each medium, by its place in the presentation, to where `media` says.
    pub(super) fn new(sockets: &Sockets, media: impl IntoIterator<Item = (usize, Destination)>) -> Self {
        let mut destinations = Vec::new();
        for (medium, (rtp, rtcp)) in media {
            if destinations.len() <= medium {
                destinations.resize(medium.saturating_add(1), None);
            }
            if let Some(destination) = destinations.get_mut(medium) {
                *destination =
                    Some((in_family(sockets.socket(false), rtp), in_family(sockets.socket(true), rtcp)));
            }
        }
        let (sockets, burst) = (sockets.clone(), Burst::default());
        Self { sockets, destinations, burst, to: None, room: None, guard: None, held: None }
    }

    /// The same with packets that are protected.
    pub(super) fn with_guard(mut self, guard: Option<Guard>) -> Self {
        self.guard = guard;
        self
    }

    fn place(&self, channel: u8) -> Option<Place> {
        let (rtp, rtcp) = (*self.destinations.get(usize::from(channel / 2))?)?;
        Some(if channel.is_multiple_of(2) { (false, rtp) } else { (true, rtcp) })
    }

    /// Takes a packet to be sent to that place. Pending when it was not taken.
    fn poll_take(&mut self, cx: &mut Context<'_>, place: Place, (channel, packet): (u8, &[u8])) -> Poll<()> {
        ready!(self.poll_held(cx));
        let Some(guard) = &self.guard else { return self.poll_put(cx, place, packet) };
        // Once it is protected it is taken, as it is protected once.
        self.held = guard.protect(channel, packet).map(|packet| (place, packet));
        let _ = self.poll_held(cx);
        Poll::Ready(())
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((place, packet)) = self.held.take()
            && self.poll_put(cx, place, &packet).is_pending()
        {
            self.held = Some((place, packet));
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Puts a packet into the burst, once what does not go with it is sent.
    fn poll_put(&mut self, cx: &mut Context<'_>, place: Place, packet: &[u8]) -> Poll<()> {
        loop {
            if self.burst.is_empty() {
                self.to = Some(place);
            }
            // An empty burst takes whatever can be sent at all.
            if self.to == Some(place) && (self.burst.push(packet) || self.burst.is_empty()) {
                return Poll::Ready(());
            }
            ready!(self.poll_burst(cx));
        }
    }

    /// Sends the burst; pending while the socket is full.
    fn poll_burst(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some((control, to)) = self.to.filter(|_| !self.burst.is_empty()) {
            if let Some(room) = &mut self.room {
                let _ = ready!(room.as_mut().poll(cx));
                self.room = None;
            }
            let socket = self.sockets.socket(control);
            // A datagram that cannot be sent is lost, as it might be on the way; the session's keep-alives decide.
            if let Ok(false) = socket.try_send(to, &mut self.burst) {
                let socket = Arc::clone(socket);
                self.room = Some(Box::pin(async move { socket.writable().await }));
            }
        }
        Poll::Ready(())
    }
}

impl AsyncWrite for Scatter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = 0_usize;
        let mut rest = frames;
        while let Some((channel, packet, after)) = split_frame(rest) {
            if let Some(place) = self.place(channel)
                && self.poll_take(cx, place, (channel, packet)).is_pending()
            {
                return if taken > 0 { Poll::Ready(Ok(taken)) } else { Poll::Pending };
            }
            taken = taken.saturating_add(rest.len().saturating_sub(after.len()));
            rest = after;
        }
        // What is no whole frame is nothing that a worker writes.
        let _ = self.as_mut().poll_flush(cx);
        Poll::Ready(Ok(frames.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx));
        self.poll_burst(cx).map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// The first frame, and what is behind it.
pub(super) fn split_frame(frames: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([dollar, channel, high, low], rest) = frames.split_first_chunk::<INTERLEAVED_HEADER>()?;
    let (packet, after) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
    (*dollar == DOLLAR).then_some((*channel, packet, after))
}
