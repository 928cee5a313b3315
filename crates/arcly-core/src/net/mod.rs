//! What servers and clients of protocols over TCP do alike: socket options, one shared read buffer per thread, vectored
//! writes, how many strangers may be at the door, how a connection is closed so that the last words arrive, and how long to wait
//! before connecting again.

mod backoff;
mod farewell;
mod gate;
mod report;

pub use backoff::{Backoff, Waits};
pub use farewell::{FLUSH, flush, linger};
pub use gate::{Admission, Gate};
pub use report::SessionReport;

use core::pin::Pin;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::close::{CloseReason, Phase};

/// Bytes of one read. A connection has no read buffer of its own.
pub const READ: usize = 64 << 10;
/// Pieces of one vectored write.
const PIECES: usize = 64;
/// Data that the peer has not taken for so long ends a connection: the peer, or the way to it, is gone (F54). Longer
/// than the stall limits, so that a peer that is there and does not read is judged here and not by TCP (F31).
const USER_TIMEOUT: Duration = Duration::from_secs(12);
/// What the operating system takes and has not sent. A window that closes is noticed after so many bytes, and what is
/// in flight has no such bound.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 << 10;
/// An idle connection is probed after this, so that it does not outlive its peer by much (F54).
const KEEPALIVE: Duration = Duration::from_secs(4);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_PROBES: u32 = 3;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Sets what every connection of a media protocol needs. A platform without one of the options does without.
pub fn tune(stream: &TcpStream) {
    // Without it the set-up costs a round of Nagle against delayed acknowledgements, 40 ms.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
    }
}

/// Reads once and hands the bytes to `take` in place; 0 at the end.
pub fn poll_receive(
    reader: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(reader).poll_read(cx, &mut buf))?;
        let filled = buf.filled();
        if !filled.is_empty() {
            take(filled);
        }
        Poll::Ready(Ok(filled.len()))
    })
}

/// The same of a socket that has what it has.
///
/// # Errors
/// Those of the socket; [`WouldBlock`](io::ErrorKind::WouldBlock) when it has nothing.
pub fn receive_now(reader: &mut impl io::Read, take: impl FnOnce(&[u8])) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let read = reader.read(scratch)?;
        if read > 0 {
            take(scratch.get(..read).unwrap_or_default());
        }
        Ok(read)
    })
}

/// Why a connection whose socket failed is over. `waiting` says that what TCP may have given up on is data that the peer
/// was to take: it is sent media, or it has said something lately and so is there.
#[must_use]
pub fn close_reason(error: &io::Error, waiting: bool) -> CloseReason {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, NotConnected, TimedOut, UnexpectedEof,
    };
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
            CloseReason::PeerClosed
        }
        TimedOut if waiting => CloseReason::SlowConsumer,
        TimedOut => CloseReason::Timeout(Phase::Idle),
        // A TLS record that is none.
        InvalidData => CloseReason::Malformed,
        _ => CloseReason::Io,
    }
}

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Puts bytes behind the others.
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// Bytes that are waiting.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Everything in one piece; leaves nothing behind.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.bytes = 0;
        let mut queue = core::mem::take(&mut self.queue);
        if queue.len() <= 1 {
            return queue.pop_front().unwrap_or_default();
        }
        let mut all = BytesMut::new();
        queue.iter().for_each(|bytes| all.extend_from_slice(bytes));
        all.freeze()
    }

    /// Writes once; ready with the number of bytes that the socket took, which is more than none.
    ///
    /// # Errors
    /// The socket has failed.
    pub fn poll_write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count =
            pieces.iter_mut().zip(&self.queue).map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count();
        let pieces = pieces.get(..count).unwrap_or_default();
        let written = ready!(Pin::new(writer).poll_write_vectored(cx, pieces))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                return front.advance(written);
            }
            written = written.saturating_sub(front.len());
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_outbox_comes_out_in_order_whatever_the_socket_takes() {
        let (mut ours, mut theirs) = tokio::io::duplex(7);
        let mut outbox = Outbox::default();
        let expect: Vec<u8> = (0..200_u8).collect();
        expect.chunks(9).for_each(|piece| outbox.push(Bytes::copy_from_slice(piece)));
        outbox.push(Bytes::new());
        assert_eq!(outbox.len(), 200);
        let write = async {
            while !outbox.is_empty() {
                core::future::poll_fn(|cx| outbox.poll_write(&mut ours, cx)).await.unwrap();
            }
            assert_eq!(outbox.len(), 0);
            ours.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(write, theirs.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, expect);
    }

    #[test]
    fn taking_everything_leaves_nothing() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.take(), Bytes::new());
        outbox.push(Bytes::from_static(b"ab"));
        outbox.push(Bytes::from_static(b"cd"));
        outbox.advance(1);
        assert_eq!((outbox.take(), outbox.len(), outbox.is_empty()), (Bytes::from_static(b"bcd"), 0, true));
    }

    /// A peer that is cut off is given up within 15 seconds, whether there is data on the way to it or not.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn f54_sockets_notice_a_peer_that_is_cut_off() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let stream = accepted.unwrap().0;
        tune(&stream);
        let socket = SockRef::from(&stream);
        let limit = Duration::from_secs(15);
        assert!(socket.keepalive().unwrap());
        let (time, interval) =
            (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        let retries = socket.tcp_keepalive_retries().unwrap();
        assert_eq!((time, interval, retries), (KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES));
        let silent = time + interval * retries;
        assert!(silent <= limit, "{silent:?}");
        // Where there is a user time-out, it and not the number of probes ends an idle connection, at a probe.
        let user = socket.tcp_user_timeout().unwrap().unwrap();
        assert!(user <= silent, "{user:?}");
        // And what is alive and does not read is judged before TCP gives up on it.
        let stall = crate::egress::STALL + Duration::from_secs(1);
        assert!(stall < user, "{stall:?} {user:?}");
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn reasons() {
        use io::ErrorKind::{ConnectionReset, Other, TimedOut};
        let reason = |kind: io::ErrorKind, waiting| close_reason(&kind.into(), waiting);
        assert_eq!(reason(ConnectionReset, true), CloseReason::PeerClosed);
        assert_eq!(reason(TimedOut, true), CloseReason::SlowConsumer);
        assert_eq!(reason(TimedOut, false), CloseReason::Timeout(Phase::Idle));
        assert_eq!(reason(Other, true), CloseReason::Io);
    }
}
