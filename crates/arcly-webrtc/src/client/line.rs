//! Connections to a server that no datagrams of UDP get to (RFC 6544 §3): begun one after the other, until the server has answered a check
//! by whatever way; the one that media travel in is kept, and no other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_core::net::{FLUSH, close_reason, linger, tune};
use arcly_core::{CloseReason, Phase};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::line::{Broken, Incoming, OUTBOX, transmit};
use crate::session::Transport;
use crate::wire::{Protocol, TransportAddress};

/// How much later than the one before a connection is begun (RFC 8305 §5, "Connection Attempt Delay"); at once where that one has failed.
const STAGGER: Duration = Duration::from_millis(250);
/// What connections have brought, and the session has not looked at. Where there is more they are not read: that is for their sender to
/// notice.
const INBOX: usize = 64;

/// What comes to a session from the network.
#[derive(Debug)]
pub(super) enum Arrival {
    Datagram(TransportAddress, Bytes),
    /// A connection is open, and this is the end of it that is here.
    Opened(SocketAddr),
    /// One to there is over, or was never open.
    Lost(SocketAddr, CloseReason),
}

/// A connection, or the attempt at one.
struct Line {
    to: SocketAddr,
    outbox: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

/// The connections of one session. None of them outlives it.
pub(super) struct Lines {
    /// Where connections are taken and none has been begun, in the order of the answer.
    left: VecDeque<SocketAddr>,
    /// When the next one is begun.
    next: Instant,
    lines: Vec<Line>,
    tasks: JoinSet<()>,
    inbox: mpsc::Receiver<Arrival>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Lines {
    /// Connections to those of `candidates` that take them, from `delay` after `now` on; at once where there is nothing else.
    pub(super) fn new(candidates: &[TransportAddress], delay: Duration, now: Instant) -> Self {
        let of = |protocol| candidates.iter().filter(move |candidate| candidate.protocol == protocol);
        let has_udp = of(Protocol::Udp).next().is_some();
        let (arrivals, inbox) = mpsc::channel(INBOX);
        Self {
            left: of(Protocol::Tcp).map(|candidate| candidate.socket).collect(),
            next: if has_udp { now.checked_add(delay).unwrap_or(now) } else { now },
            lines: Vec::new(),
            tasks: JoinSet::new(),
            inbox,
            arrivals,
        }
    }

    /// Begins a connection where it is time for one; says when it is for the next. As soon as media flow there is but the one that
    /// carries them, if one does.
    pub(super) fn attend(
        &mut self,
        now: Instant,
        transport: &Transport,
        carrier: Option<TransportAddress>,
    ) -> Option<Instant> {
        if transport.is_connected() {
            self.left.clear();
            self.lines.retain(|line| {
                let is_used = carrier == Some(TransportAddress::tcp(line.to));
                if !is_used {
                    line.task.abort();
                }
                is_used
            });
        }
        let to = self.due(now, transport.is_reached());
        if let Some(to) = to {
            let (outbox, waiting) = mpsc::channel(OUTBOX);
            let task = self.tasks.spawn(run(to, waiting, self.arrivals.clone()));
            self.lines.push(Line { to, outbox, task });
        }
        (!self.left.is_empty() && !transport.is_reached()).then_some(self.next)
    }

    /// Where a connection is to be begun now.
    fn due(&mut self, now: Instant, is_reached: bool) -> Option<SocketAddr> {
        if is_reached || now < self.next {
            return None;
        }
        let to = self.left.pop_front()?;
        self.next = now.checked_add(STAGGER).unwrap_or(now);
        Some(to)
    }

    /// A connection is over: there is no sense in waiting for it.
    pub(super) fn forget(&mut self, now: Instant, to: SocketAddr) {
        let known = self.lines.len();
        self.lines.retain(|line| line.to != to);
        if self.lines.len() < known {
            self.next = self.next.min(now);
        }
    }

    /// Sends a datagram there. It is lost where the connection is over, or has no room.
    pub(super) fn send(&self, to: SocketAddr, datagram: Vec<u8>) {
        if let Some(line) = self.lines.iter().find(|line| line.to == to) {
            let _ = line.outbox.try_send(datagram.into());
        }
    }

    /// The next thing that comes. Cancel safe.
    pub(super) async fn next(&mut self) -> Arrival {
        match self.inbox.recv().await {
            Some(arrival) => arrival,
            // When everything is over nothing comes.
            None => core::future::pending().await,
        }
    }

    /// What else has come, behind what is there.
    pub(super) fn take(&mut self, into: &mut VecDeque<Arrival>) {
        let more = core::iter::from_fn(|| self.inbox.try_recv().ok());
        into.extend(more.take(INBOX));
    }

    /// Closes them all, behind what was said last, for which there is [`FLUSH`].
    pub(super) async fn finish(&mut self) {
        self.inbox.close();
        self.lines.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FLUSH, all).await;
        self.tasks.abort_all();
    }
}

async fn run(to: SocketAddr, waiting: mpsc::Receiver<Bytes>, arrivals: mpsc::Sender<Arrival>) {
    let reason = match TcpStream::connect(to).await {
        Ok(stream) => serve(stream, to, waiting, &arrivals).await,
        Err(error) => close_reason(&error, false),
    };
    tracing::debug!(peer = %to, why = %reason, "a connection of a WebRTC client has ended");
    let _ = arrivals.send(Arrival::Lost(to, reason)).await;
}

async fn serve(
    mut stream: TcpStream,
    to: SocketAddr,
    waiting: mpsc::Receiver<Bytes>,
    arrivals: &mpsc::Sender<Arrival>,
) -> CloseReason {
    tune(&stream);
    let Ok(local) = stream.local_addr() else { return CloseReason::Io };
    if arrivals.send(Arrival::Opened(local)).await.is_err() {
        return CloseReason::Shutdown;
    }
    let (reader, mut writer) = stream.split();
    let mut datagrams = Incoming::new(reader);
    let incoming = async {
        while let Some(datagram) = datagrams.next().await? {
            // What nobody takes any more is passed over, until what was said last is on its way.
            let _ = arrivals.send(Arrival::Datagram(TransportAddress::tcp(to), datagram)).await;
        }
        Ok(CloseReason::PeerClosed)
    };
    let ended = tokio::select! {
        ended = incoming => ended,
        ended = transmit(waiting, &mut writer) => ended.map(|()| CloseReason::Shutdown),
    };
    match ended {
        Ok(CloseReason::Shutdown) => {
            linger(&mut stream).await;
            CloseReason::Shutdown
        }
        Ok(reason) => reason,
        Err(Broken::Stalled) => CloseReason::Timeout(Phase::Idle),
        Err(Broken::Malformed(_)) => CloseReason::Malformed,
        Err(Broken::Io(error)) => close_reason(&error, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new([192, 0, 2, 1].into(), port)
    }

    fn lines(udp: usize, tcp: u16, now: Instant) -> Lines {
        let udp = core::iter::repeat_n(TransportAddress::udp(at(1)), udp);
        let all: Vec<_> = udp.chain((1..=tcp).map(|port| TransportAddress::tcp(at(port)))).collect();
        Lines::new(&all, Duration::from_secs(1), now)
    }

    #[tokio::test]
    async fn rfc8305_5_connections_are_begun_one_after_the_other_until_a_check_is_answered() {
        let now = Instant::now();
        let ms = |ms| now + Duration::from_millis(ms);
        let mut these = lines(1, 4, now);
        let mut due = |at, reached| these.due(ms(at), reached).map(|to| to.port());
        assert_eq!((due(0, false), due(999, false)), (None, None), "it is tried by UDP first");
        assert_eq!((due(1_000, false), due(1_000, false), due(1_249, false)), (Some(1), None, None));
        assert_eq!((due(1_250, false), due(2_000, true), due(2_000, false)), (Some(2), None, Some(3)));
        assert_eq!((due(9_000, false), due(9_999, false)), (Some(4), None), "each of them once");
        // Where there is nothing else there is nothing to wait for.
        assert_eq!(lines(0, 1, now).due(now, false), Some(at(1)));
        assert_eq!(lines(1, 0, now).due(ms(9_000), false), None);
    }

    #[tokio::test]
    async fn a_connection_that_has_failed_is_not_waited_for() {
        let now = Instant::now();
        let mut lines = lines(0, 2, now);
        let to = lines.due(now, false).unwrap();
        let (outbox, _waiting) = mpsc::channel(OUTBOX);
        lines.lines.push(Line { to, outbox, task: lines.tasks.spawn(async {}) });
        lines.forget(now, at(9));
        assert_eq!(lines.due(now, false), None, "it was another one");
        lines.forget(now, to);
        assert_eq!(lines.due(now, false), Some(at(2)));
    }
}
