//! Peers over TCP (RFC 6544), whose networks let no UDP through: a connection is to its session what a port of UDP is.
//!
//! ```text
//!   connection ──► its first check names a session ──► inbox of the session's task, with the line back
//!              ◄── outbox ◄── the line, once the session has seen that the check knew its password
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arcly_core::net::{Admission, FLUSH, linger, tune};
use bytes::Bytes;
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::PAUSE;
use super::hub::{Arrival, Entry, Hub};
use crate::line::{self, Broken, OUTBOX};
use crate::wire::{BindingRequest, Kind, TransportAddress};

/// The way back to a peer over its connection. When all of them are dropped, what waits is sent, and the connection closed.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    outbox: mpsc::Sender<Bytes>,
    /// Somebody there knows the password of the session.
    proven: CancellationToken,
}

/// The connections of one session's peer: as many as it has addresses, see [`MAX_SOURCES`](crate::session::MAX_SOURCES).
#[derive(Debug, Default)]
pub(super) struct Lines {
    known: Vec<(SocketAddr, Line)>,
    /// That of the datagram that is being looked at, as long as nothing from there has shown the password.
    arriving: Option<(SocketAddr, Line)>,
}

impl Lines {
    /// A datagram comes over this line, which is not known yet.
    pub(super) fn arrive(&mut self, from: SocketAddr, line: Line) {
        self.arriving = Some((from, line));
    }

    /// What came from there knew the password.
    pub(super) fn adopt(&mut self, from: SocketAddr) {
        let Some((_, line)) = self.arriving.take().filter(|(arriving, _)| *arriving == from) else { return };
        line.proven.cancel();
        self.known.push((from, line));
    }

    /// The next of those that are closed, which is known no more.
    pub(super) fn take_closed(&mut self) -> Option<SocketAddr> {
        let at = self.known.iter().position(|(_, line)| line.outbox.is_closed())?;
        Some(self.known.swap_remove(at).0)
    }

    /// Sends a datagram there; false where it is lost: the connection is closed, or has no room.
    pub(super) fn send(&self, to: SocketAddr, datagram: Vec<u8>) -> bool {
        let line = self.known.iter().find(|(known, _)| *known == to);
        line.is_some_and(|(_, line)| line.outbox.try_send(datagram.into()).is_ok())
    }
}

/// Takes connections, for ever.
pub(super) async fn accept(hub: &Arc<Hub>, listener: &TcpListener) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Somebody has hung up before it was its turn: that is all that is wrong.
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset) => continue,
            Err(error) => {
                tracing::debug!(%error, "the WebRTC listener");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Whoever finds no room is let go: there is nothing to tell it before it has asked something.
        let Some(admission) = hub.enter_line(from.ip()) else {
            hub.tally.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        tune(&stream);
        hub.track(run(Arc::clone(hub), stream, from, admission));
    }
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the session is over")]
    Session,
    #[error("the session is over, and the peer does not take what was said last")]
    Deaf,
    #[error("the peer has closed it")]
    Peer,
    #[error("nothing in it belongs to a session")]
    Foreign,
    #[error("nothing in it has shown a password in time")]
    Unproven,
    #[error("{0}")]
    Broken(#[from] Broken),
}

async fn run(hub: Arc<Hub>, mut stream: TcpStream, from: SocketAddr, admission: Admission) {
    let (outbox, waiting) = mpsc::channel(OUTBOX);
    let line = Line { outbox, proven: CancellationToken::new() };
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let (reader, mut writer) = stream.split();
    let incoming = Incoming { hub: &hub, from, datagrams: line::Incoming::new(reader) };
    let ended = tokio::select! {
        ended = incoming.run(line, admission) => ended,
        ended = line::transmit(waiting, &mut writer) => ended.map(|()| Ended::Session).map_err(Ended::from),
    };
    if matches!(ended, Ok(Ended::Session)) {
        linger(&mut stream).await;
    }
    let ended = ended.unwrap_or_else(|ended| ended);
    tracing::debug!(peer = %from, why = %ended, "a connection for WebRTC has ended");
}

/// What comes over a connection.
struct Incoming<'a> {
    hub: &'a Hub,
    from: SocketAddr,
    datagrams: line::Incoming<ReadHalf<'a>>,
}

impl Incoming<'_> {
    async fn run(mut self, line: Line, admission: Admission) -> Result<Ended, Ended> {
        let limit = self.hub.config().timeouts.ice;
        let owner = tokio::time::timeout(limit, self.prove(line)).await.map_err(|_| Ended::Unproven)??;
        drop(admission);
        self.serve(&owner).await
    }

    /// Forwards for as long as the session takes something, and lets what it has said last be on its way for a while then: the other
    /// direction knows when all of that is gone.
    async fn serve(&mut self, owner: &Entry) -> Result<Ended, Ended> {
        let over = async {
            owner.inbox.closed().await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            ended = self.forward(owner) => ended,
            () = over => Err(Ended::Deaf),
        }
    }

    /// Finds out whose connection it is: the session that the first check names, once it has answered one. Whoever sends anything else
    /// before that has come to the wrong place.
    async fn prove(&mut self, line: Line) -> Result<Arc<Entry>, Ended> {
        let mut owner: Option<Arc<Entry>> = None;
        loop {
            let datagram = tokio::select! {
                // What the session has answered is followed by what it may have all of.
                biased;
                () = line.proven.cancelled() => match owner.take() {
                    Some(owner) => return Ok(owner),
                    None => return Err(Ended::Foreign),
                },
                () = self.hub.shutdown.cancelled() => return Err(Ended::Session),
                datagram = self.datagrams.next() => datagram?.ok_or(Ended::Peer)?,
            };
            // What comes next may have overtaken the news that the check was answered.
            if Kind::of(&datagram) != Some(Kind::Stun) && !line.proven.is_cancelled() {
                self.hub.count_foreign();
                return Err(Ended::Foreign);
            }
            if owner.is_none() {
                let check = BindingRequest::decode(&datagram).map_err(|_| Ended::Foreign);
                let named = check.and_then(|check| self.hub.named(check.local).ok_or(Ended::Foreign));
                owner = Some(named.inspect_err(|_| self.hub.count_foreign())?);
            }
            let from = TransportAddress::tcp(self.from);
            let arrival = Arrival { from, datagram, line: Some(line.clone()) };
            // Whoever knows a name alone does not wait for room: those who know the password are to have it.
            match owner.as_ref().map(|owner| owner.inbox.try_send(arrival)) {
                Some(Err(TrySendError::Closed(_))) => return Err(Ended::Session),
                Some(Err(TrySendError::Full(_))) => {
                    _ = self.hub.tally.overrun.fetch_add(1, Ordering::Relaxed)
                }
                Some(Ok(())) | None => {}
            }
        }
    }

    /// Hands the session everything, and waits where it has no room.
    async fn forward(&mut self, owner: &Entry) -> Result<Ended, Ended> {
        let from = TransportAddress::tcp(self.from);
        while let Some(datagram) = self.datagrams.next().await? {
            let arrival = Arrival { from, datagram, line: None };
            if owner.inbox.send(arrival).await.is_err() {
                core::future::pending::<()>().await;
            }
        }
        Ok(Ended::Peer)
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::{ClientInfo, StreamKey};

    use super::*;
    use crate::config::ServerConfig;
    use crate::line::STALL;
    use crate::wire::Role;

    fn line() -> (Line, mpsc::Receiver<Bytes>) {
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        (Line { outbox, proven: CancellationToken::new() }, waiting)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new([192, 0, 2, 1].into(), port)
    }

    #[test]
    fn a_line_is_known_from_when_it_is_adopted_until_it_is_closed() {
        let mut lines = Lines::default();
        let (first, waiting) = line();
        lines.arrive(at(1), first.clone());
        assert!(!lines.send(at(1), vec![1]), "nobody has shown a password there");
        lines.adopt(at(2));
        assert!(!first.proven.is_cancelled(), "it was somebody else who has shown it");
        lines.arrive(at(1), first.clone());
        lines.adopt(at(1));
        assert!(first.proven.is_cancelled() && lines.take_closed().is_none());
        for n in 0..=OUTBOX {
            assert_eq!(lines.send(at(1), vec![1]), n < OUTBOX, "{n}");
        }
        drop(waiting);
        assert!(!lines.send(at(1), vec![1]));
        assert_eq!((lines.take_closed(), lines.take_closed()), (Some(at(1)), None));
    }

    /// In virtual time, which goes on when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn a_connection_outlives_its_session_by_so_much() {
        let (listener, socket) =
            (TcpListener::bind("127.0.0.1:0").await, std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let listener = listener.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, from) = listener.accept().await.unwrap();
        let hub = Hub::new(socket, ServerConfig::default()).unwrap();
        let of = (Role::Viewer, StreamKey::new("live", "cam"));
        let (owner, ends) = hub.register(of, (ClientInfo::new("whep", from), None), "name").unwrap();
        let (reader, _) = stream.split();
        let mut incoming = Incoming { hub: &hub, from, datagrams: line::Incoming::new(reader) };
        let began = tokio::time::Instant::now();
        let session = async {
            tokio::time::sleep(STALL).await;
            drop(ends);
        };
        let (ended, ()) = tokio::join!(incoming.serve(&owner), session);
        assert!(matches!(ended, Err(Ended::Deaf)), "{ended:?}");
        // The timer counts in milliseconds.
        assert_eq!(began.elapsed().as_millis(), (STALL + FLUSH).as_millis());
    }
}
