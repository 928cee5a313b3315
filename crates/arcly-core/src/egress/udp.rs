//! Datagrams in batches: one system call for as many as the kernel cuts by itself (UDP GSO), one for each where it does
//! not.
//!
//! ```
//! # async fn run() -> std::io::Result<()> {
//! use arcly_core::egress::udp::{Burst, UdpSocket};
//!
//! let socket = UdpSocket::new(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
//! let peer = "127.0.0.1:5004".parse().expect("an address");
//! let mut burst = Burst::default();
//! for packet in [&[0; 1_200][..], &[1; 1_200], &[2; 700]] {
//!     if !burst.push(packet) {
//!         socket.send(peer, &mut burst).await?;
//!         assert!(burst.push(packet));
//!     }
//! }
//! socket.send(peer, &mut burst).await
//! # }
//! ```
//!
//! | bound | value |
//! |---|---|
//! | datagrams of a burst | [`MAX_DATAGRAMS`] |
//! | bytes of a burst | [`MAX_BYTES`] |

use core::future::poll_fn;
use core::ops::Range;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;

/// Datagrams of one burst: what Linux cuts one buffer into at the most.
pub const MAX_DATAGRAMS: usize = 64;
/// Bytes of one burst: what one IP packet could carry.
pub const MAX_BYTES: usize = 65_000;

/// Bytes of what the kernel hands over at once: one datagram, or several of one peer that it has joined.
pub const RECEIVE_BYTES: usize = 64 << 10;

/// Datagrams for one peer: all of one size, but for the last, which may be shorter.
#[derive(Debug, Default)]
pub struct Burst {
    bytes: BytesMut,
    /// The size of all but the last.
    size: usize,
    count: usize,
    /// The address that they are sent from.
    source: Option<IpAddr>,
}

impl Burst {
    /// Puts a datagram behind the others. False when it does not fit: it is longer than they are, the last was shorter
    /// already, or a bound is reached; send the burst first. An empty burst takes anything up to [`MAX_BYTES`], and
    /// nothing takes an empty datagram.
    #[must_use]
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        let total = self.bytes.len().saturating_add(datagram.len());
        let in_line = self.is_empty()
            || (datagram.len() <= self.size && self.bytes.len() == self.size.saturating_mul(self.count));
        if datagram.is_empty() || !in_line || total > MAX_BYTES || self.count >= MAX_DATAGRAMS {
            return false;
        }
        if self.is_empty() {
            self.size = datagram.len();
            self.count = 0;
        }
        self.bytes.extend_from_slice(datagram);
        self.count += 1;
        true
    }

    /// Sends what follows from this address, of a machine that has several; `None` leaves it to the system. A peer that has sent to
    /// one of them expects its answer from there.
    pub const fn set_source(&mut self, source: Option<IpAddr>) {
        self.source = source;
    }

    /// Datagrams that are waiting.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first `count` datagrams.
    fn first(&self, count: usize) -> &[u8] {
        let len = self.size.saturating_mul(count).min(self.bytes.len());
        self.bytes.get(..len).unwrap_or_default()
    }

    /// Sends everything, as many as `per_send` says with one call of `send`, which gets the size to cut by. A socket that
    /// is full leaves the burst as it is; any other error takes what it concerns out of it.
    fn send_out(
        &mut self,
        per_send: impl Fn() -> usize,
        send: impl Fn(&[u8], Option<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let count = per_send().min(self.count);
            match send(self.first(count), (count > 1).then_some(self.size)) {
                Ok(()) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // The device does not cut: from now on they go one by one.
                Err(_) if per_send() < count => {}
                Err(error) => {
                    self.advance(count);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        let len = self.first(count).len();
        self.bytes.advance(len);
        self.count = self.count.saturating_sub(count);
    }
}

/// A socket that sends and receives datagrams in batches.
///
/// The kernel may join datagrams that it receives, too: they are to be taken out with [`recv`](Self::recv), which parts
/// them, and by no other means.
#[derive(Debug)]
pub struct UdpSocket {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl UdpSocket {
    /// Takes over a socket that is bound.
    ///
    /// # Errors
    /// The socket cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, state })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Datagrams that one system call sends: 1 where the kernel does not cut, or has refused to.
    #[must_use]
    pub fn datagrams_per_send(&self) -> usize {
        self.state.max_gso_segments().clamp(1, MAX_DATAGRAMS)
    }

    /// Sends a burst to `to`, and leaves it empty. What was sent before the socket was full is out of it.
    ///
    /// # Errors
    /// A datagram could not be sent, one that is too long for the way for example; it is out of the burst, together with
    /// those that the same system call was to send, and the others are still there.
    pub fn poll_send(&self, cx: &mut Context<'_>, to: SocketAddr, burst: &mut Burst) -> Poll<io::Result<()>> {
        while !self.try_send(to, burst)? {
            ready!(self.socket.poll_send_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a burst to `to`, and leaves it empty. Cancel safe: what was not sent is still in it.
    ///
    /// # Errors
    /// See [`poll_send`](Self::poll_send).
    pub async fn send(&self, to: SocketAddr, burst: &mut Burst) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, to, burst)).await
    }

    /// Waits until the socket has room, as any number of tasks may at a time; [`poll_send`](Self::poll_send) remembers the
    /// last of them only. Cancel safe.
    ///
    /// # Errors
    /// The socket has failed.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Sends as much of a burst as the socket has room for, and says whether that was all of it. A socket without room
    /// leaves the rest in the burst.
    ///
    /// # Errors
    /// See [`poll_send`](Self::poll_send).
    pub fn try_send(&self, to: SocketAddr, burst: &mut Burst) -> io::Result<bool> {
        let source = burst.source;
        let send = |contents: &[u8], size| {
            let transmit =
                Transmit { destination: to, ecn: None, contents, segment_size: size, src_ip: source };
            self.transmit(&transmit)
        };
        match burst.send_out(|| self.datagrams_per_send(), send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), transmit))
    }

    /// Waits for datagrams, and hands each to `each` with its sender. `buffer` is to have 64 KiB: what does not fit is
    /// lost. Cancel safe.
    ///
    /// # Errors
    /// The socket has failed.
    pub async fn recv(&self, buffer: &mut [u8], mut each: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        self.recv_many(buffer, |from, _, datagram| each(from, datagram)).await
    }

    /// As [`recv`](Self::recv), with as many of what the kernel hands over at once as the buffer has room for, each of which
    /// takes [`RECEIVE_BYTES`]; and with the address of this machine that each datagram was sent to, where the system says so.
    ///
    /// # Errors
    /// The socket has failed.
    pub async fn recv_many(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> io::Result<()> {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let receive = || {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffer.chunks_mut(RECEIVE_BYTES).take(BATCH_SIZE).map(IoSliceMut::new).collect();
            self.state.recv((&self.socket).into(), &mut slices, &mut meta)
        };
        let count = self.socket.async_io(Interest::READABLE, receive).await?;
        for (meta, part) in meta.iter().take(count).zip(buffer.chunks(RECEIVE_BYTES)) {
            for piece in pieces(meta.len, meta.stride) {
                each(meta.addr, meta.dst_ip, part.get(piece).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Where the datagrams are in a buffer: each `stride` long, but for the last.
fn pieces(len: usize, stride: usize) -> impl Iterator<Item = Range<usize>> {
    let stride = stride.max(1);
    (0..len).step_by(stride).map(move |start| start..start.saturating_add(stride).min(len))
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
    }

    /// What arrives, until there are so many.
    async fn receive(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let (mut got, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while got.len() < count {
            let received = socket.recv(&mut buffer, |_, datagram| got.push(datagram.to_vec()));
            tokio::time::timeout(Duration::from_secs(5), received).await.expect("more arrives").unwrap();
        }
        got
    }

    #[test]
    fn a_burst_takes_what_can_be_cut_again() {
        let mut burst = Burst::default();
        assert!(!burst.push(b""));
        assert!(burst.push(&[1; 100]) && burst.push(&[2; 100]));
        assert!(!burst.push(&[3; 101]), "longer than the others");
        assert!(burst.push(&[3; 99]));
        assert!(!burst.push(&[4; 99]), "behind a shorter one");
        assert_eq!((burst.len(), burst.first(2).len(), burst.first(9).len()), (3, 200, 299));
        burst.advance(2);
        assert_eq!((burst.len(), burst.first(1)), (1, &[3; 99][..]));
        assert!(!burst.push(&[4; 99]), "still behind a shorter one");
        burst.advance(1);
        assert!(burst.is_empty() && burst.push(&[5; 1_400]), "an empty one begins anew");

        let mut burst = Burst::default();
        assert_eq!((0..100).take_while(|_| burst.push(&[0; 10])).count(), MAX_DATAGRAMS);
        let mut burst = Burst::default();
        assert_eq!((0..100).take_while(|_| burst.push(&[0; 1_200])).count(), MAX_BYTES / 1_200);
        assert!(!Burst::default().push(&[0; MAX_BYTES + 1]));
    }

    #[test]
    fn joined_datagrams_are_parted() {
        let parted = |len, stride| pieces(len, stride).map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(parted(0, 0), [0; 0]);
        assert_eq!(parted(10, 10), [10]);
        assert_eq!(parted(25, 10), [10, 10, 5]);
    }

    /// Fifty datagrams, and what is sent of them.
    fn fifty() -> (Burst, Vec<Vec<u8>>) {
        let datagrams: Vec<Vec<u8>> = (0..50).map(|n| vec![n; if n == 49 { 700 } else { 1_200 }]).collect();
        let mut burst = Burst::default();
        assert!(datagrams.iter().all(|datagram| burst.push(datagram)));
        (burst, datagrams)
    }

    #[tokio::test]
    async fn bursts_arrive_as_the_datagrams_they_are_made_of() {
        let (ours, theirs) = (socket(), socket());
        let (mut burst, sent) = fifty();
        ours.send(theirs.local_addr().unwrap(), &mut burst).await.unwrap();
        assert!(burst.is_empty());
        assert_eq!(receive(&theirs, sent.len()).await, sent);
    }

    /// The calls that sending fifty datagrams takes, and how it ends, with a kernel that answers as `answer` says.
    fn calls(
        per_send: usize,
        answer: impl Fn(usize, bool) -> io::Result<()>,
    ) -> (Vec<usize>, io::Result<()>, usize) {
        let (mut burst, _) = fifty();
        let (limit, calls) = (Cell::new(per_send), RefCell::new(Vec::new()));
        let send = |contents: &[u8], segment: Option<usize>| {
            calls.borrow_mut().push(contents.len().div_ceil(1_200));
            let answer = answer(calls.borrow().len(), segment.is_some());
            if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidInput) {
                limit.set(1);
            }
            answer
        };
        let result = burst.send_out(|| limit.get(), send);
        (calls.into_inner(), result, burst.len())
    }

    #[test]
    fn a_burst_is_one_system_call_and_one_each_where_the_kernel_refuses() {
        let (sizes, result, left) = calls(64, |_, _| Ok(()));
        assert_eq!((sizes, result.is_ok(), left), (vec![50], true, 0));
        let (sizes, result, left) = calls(1, |_, _| Ok(()));
        assert_eq!((sizes, result.is_ok(), left), (vec![1; 50], true, 0));
        let refuses = |_, segmented| if segmented { Err(ErrorKind::InvalidInput.into()) } else { Ok(()) };
        let (sizes, result, left) = calls(64, refuses);
        assert_eq!(
            (sizes.len(), sizes[0], result.is_ok(), left),
            (51, 50, true, 0),
            "the refusal costs one call"
        );
        let full = |call, _| if call > 2 { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) };
        let (_, result, left) = calls(20, full);
        assert_eq!(
            (result.unwrap_err().kind(), left),
            (ErrorKind::WouldBlock, 10),
            "what was not sent is there"
        );
        let fails = |call, _| if call == 2 { Err(ErrorKind::PermissionDenied.into()) } else { Ok(()) };
        let (_, result, left) = calls(20, fails);
        assert_eq!(
            (result.unwrap_err().kind(), left),
            (ErrorKind::PermissionDenied, 10),
            "and what comes after"
        );
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_long_is_an_error_and_stops_nobody() {
        let (ours, theirs) = (socket(), socket());
        let to = theirs.local_addr().unwrap();
        let mut burst = Burst { bytes: BytesMut::zeroed(70_000), size: 70_000, count: 1, source: None };
        assert!(ours.send(to, &mut burst).await.is_err());
        assert!(burst.is_empty() && burst.push(b"next"));
        ours.send(to, &mut burst).await.unwrap();
        assert_eq!(receive(&theirs, 1).await, [b"next"]);
    }
}
