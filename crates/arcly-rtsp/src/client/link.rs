//! One connection to a server: drives a [`ClientSession`] over sockets.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arcly_core::log::{Budget, Progress, Read, StartMode};
use arcly_core::machine::{Machine, Output};
use arcly_core::net::{Outbox, close_reason, flush, poll_receive, tune};
use arcly_core::{
    CloseReason, DerivedSubscriber, Result, StreamError, Subscription, TimeDelta, TrackSet, Via, clock,
};
use arcly_rtp::media::{Packetizer, PacketizerOptions};
use arcly_rtp::sdp::formats;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::ClientConfig;
use super::ingest::Ingest;
use super::ports::Ports;
use crate::media::packetizer;
use crate::session::client::{ClientError, ClientEvent, ClientSession};
use crate::url::RtspUrl;
use crate::wire::PortPair;
use crate::wire::authorization::Answers;

/// Bytes taken from a stream before the sockets have taken them.
const MAX_PENDING: usize = 256 << 10;
/// What was ended from outside is noticed this late at the most.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// What is due waits this long at the most for sockets that are not read to their end: what is missed may be in one of them.
const GRACE: Duration = Duration::from_millis(500);
/// How fast the current GOP is sent where sockets cannot take a burst, in percent of real time.
const DATAGRAM_SPEED: u32 = 400;

type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// How a connection ended that did not fail.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The presentation is over, here or there, or the token has fired.
    Ended(CloseReason),
    /// The server asks to go elsewhere.
    Moved(Box<RtspUrl>),
    /// The server has asked for a login and hung up.
    Asked(Box<Answers>),
    /// Datagrams do not come through.
    NoDatagrams,
}

enum Activity {
    Input(io::Result<usize>),
    Written(io::Result<usize>),
    Datagrams,
    Source,
    Timer,
}

/// What is pushed: a stream's packets.
pub(super) struct Source {
    reader: DerivedSubscriber<Packetizer>,
    options: PacketizerOptions,
    /// When a paced reader may go on.
    paced_until: Option<Instant>,
    /// What is read is what was announced.
    described: bool,
}

impl Source {
    /// Packets under numbers of their own; `paced` where sockets cannot take a burst.
    pub(super) fn new(mut subscription: Subscription, paced: bool) -> Result<Self> {
        let mut key = [0; 8];
        getrandom::fill(&mut key).map_err(|error| StreamError::Io(io::Error::other(error.to_string())))?;
        let options = PacketizerOptions::new(u64::from_be_bytes(key));
        if paced {
            subscription.set_start(StartMode::KeyframePaced { speed_percent: DATAGRAM_SPEED });
        }
        let log = Arc::clone(subscription.log());
        let reader = subscription.into_derived(options.key, || packetizer(&log, options));
        Ok(Self { reader, options, paced_until: None, described: false })
    }

    pub(super) const fn options(&self) -> PacketizerOptions {
        self.options
    }

    /// The tracks, once there are some.
    pub(super) async fn tracks(&mut self) -> Result<Arc<TrackSet>> {
        loop {
            let tracks = self.reader.subscription().tracks();
            if !tracks.is_empty() {
                return Ok(tracks);
            }
            let subscription = self.reader.subscription();
            let closed = subscription.log().closed().or_else(|| subscription.state().close_reason());
            if let Some(reason) = closed {
                return Err(StreamError::Closed(reason));
            }
            self.reader.ready().await;
        }
    }
}

/// A connection, and who is at its ends.
pub(super) struct Socket {
    reader: ReadHalf,
    writer: WriteHalf,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Socket {
    /// Connects to the URL's host, wherever the configuration says that is.
    pub(super) async fn connect(url: &RtspUrl, config: &ClientConfig) -> Result<Self> {
        let stream = match config.addresses.as_slice() {
            [] => TcpStream::connect((&*url.host, url.port)).await?,
            addresses => TcpStream::connect(addresses).await?,
        };
        tune(&stream);
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let (reader, writer) = if url.tls {
            secure(stream, url, config).await?
        } else {
            let (reader, writer) = stream.into_split();
            (Box::new(reader) as ReadHalf, Box::new(writer) as WriteHalf)
        };
        Ok(Self { reader, writer, local, remote })
    }
}

#[cfg(feature = "tls")]
async fn secure(stream: TcpStream, url: &RtspUrl, config: &ClientConfig) -> Result<(ReadHalf, WriteHalf)> {
    let tls =
        config.tls.clone().ok_or_else(|| StreamError::protocol("rtsps:// needs a TLS configuration"))?;
    let name = rustls_pki_types::ServerName::try_from(url.host.to_string())
        .map_err(|_| StreamError::protocol("the URL's host cannot be a TLS server name"))?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

#[cfg(not(feature = "tls"))]
async fn secure(_: TcpStream, _: &RtspUrl, _: &ClientConfig) -> Result<(ReadHalf, WriteHalf)> {
    Err(StreamError::protocol("rtsps:// needs the feature `tls` of arcly-rtsp"))
}

/// One connection with its session.
pub(super) struct Link {
    session: ClientSession,
    socket: Socket,
    outbox: Outbox,
    ports: Option<Ports>,
    wake: Option<Instant>,
    failed: Option<ClientError>,
    /// Taken from the session, not yet acted on.
    events: VecDeque<ClientEvent>,
}

impl Link {
    pub(super) fn new(socket: Socket, session: ClientSession) -> Self {
        let (outbox, events) = (Outbox::default(), VecDeque::new());
        Self { session, socket, outbox, ports: None, wake: None, failed: None, events }
    }

    /// Where the server says that its presentation has come through.
    pub(super) const fn came_through(&self) -> &Via {
        self.session.came_through()
    }

    /// Goes on until media may flow, or something else is to be tried.
    pub(super) async fn set_up(&mut self) -> Result<Option<Outcome>> {
        loop {
            self.drain();
            if let Some(outcome) = self.turn() {
                return Ok(Some(outcome));
            }
            if self.session.is_flowing() {
                return Ok(None);
            }
            if let Err(error) = self.step(None).await {
                // Some servers hang up when they have asked for a login.
                let hung_up = matches!(error, StreamError::Closed(CloseReason::PeerClosed));
                let answers = self.session.answers().filter(|_| hung_up);
                return answers.map_or(Err(error), |answers| Ok(Some(Outcome::Asked(Box::new(answers)))));
            }
        }
    }

    /// What the session says to be tried instead.
    fn turn(&mut self) -> Option<Outcome> {
        let at = self
            .events
            .iter()
            .position(|event| matches!(event, ClientEvent::Moved(_) | ClientEvent::NoDatagrams))?;
        match self.events.remove(at)? {
            ClientEvent::Moved(url) => Some(Outcome::Moved(url)),
            _ => Some(Outcome::NoDatagrams),
        }
    }

    /// Publishes what the server sends.
    pub(super) async fn pull(&mut self, mut ingest: Ingest, shutdown: &CancellationToken) -> Result<Outcome> {
        loop {
            self.drain();
            if let Some(outcome) = self.publish(&mut ingest) {
                self.leave(CloseReason::PeerClosed).await;
                return outcome;
            }
            let stepped = tokio::select! {
                stepped = self.step(None) => stepped,
                () = ingest.publisher().keyframe_requested() => {
                    self.session.request_keyframe();
                    Ok(())
                }
                reason = ingest.publisher().revoked() => {
                    self.leave(reason).await;
                    return Ok(Outcome::Ended(reason));
                }
                () = shutdown.cancelled() => {
                    self.leave(CloseReason::Shutdown).await;
                    return Ok(Outcome::Ended(CloseReason::Shutdown));
                }
            };
            if let Err(error) = stepped {
                // What the same read brought before the end was accepted, and is not lost with it.
                self.drain();
                let published = self.publish(&mut ingest);
                return published.unwrap_or_else(|| ended(error));
            }
        }
    }

    /// Takes the events that there are; an outcome ends the pull.
    fn publish(&mut self, ingest: &mut Ingest) -> Option<Result<Outcome>> {
        let turn = self.turn();
        while let Some(event) = self.events.pop_front() {
            let taken = match event {
                ClientEvent::Media(event) => ingest.media(event),
                ClientEvent::TransportStream(data) => ingest.transport_stream(&data),
                _ => Ok(()),
            };
            if let Err(error) = taken {
                return Some(Err(error));
            }
        }
        turn.map(Ok)
    }

    /// Sends what `source` reads.
    pub(super) async fn push(
        &mut self,
        source: &mut Source,
        shutdown: &CancellationToken,
    ) -> Result<Outcome> {
        loop {
            self.drain();
            if let Some(outcome) = self.turn() {
                self.leave(CloseReason::PeerClosed).await;
                return Ok(outcome);
            }
            while let Some(event) = self.events.pop_front() {
                if event == ClientEvent::KeyframeRequested {
                    source.reader.subscription().stream().request_keyframe();
                }
            }
            let stepped = tokio::select! {
                stepped = self.step(Some(source)) => stepped,
                () = shutdown.cancelled() => {
                    self.leave(CloseReason::Shutdown).await;
                    return Ok(Outcome::Ended(CloseReason::Shutdown));
                }
            };
            if let Err(error) = stepped {
                return ended(error);
            }
            if let Some(ended) = self.fill(source) {
                self.leave(CloseReason::PeerClosed).await;
                return ended.map(Outcome::Ended);
            }
        }
    }

    /// Takes packets from the stream, as long as the sockets keep up.
    fn fill(&mut self, source: &mut Source) -> Option<Result<CloseReason>> {
        let now = clock::now();
        if !self.is_idle() || source.paced_until.is_some_and(|at| now < at) {
            return None;
        }
        let Source { reader, described, paced_until, .. } = source;
        let (session, mut changed) = (&mut self.session, false);
        let budget = Budget { items: usize::MAX, bytes: MAX_PENDING, time: TimeDelta(i64::MAX) };
        let progress = reader.read(budget, |read| match read {
            Read::Context(headers) => {
                let same = formats(&headers.tracks) == session.announced();
                changed |= *described && !same;
                *described = same;
            }
            Read::Item(packet) if *described && !changed => session.send_packets(&packet),
            Read::Item(_) | Read::Skipped(_) => {}
        });
        *paced_until = None;
        match progress {
            Ok(_) if changed => Some(Ok(CloseReason::Unsupported)),
            Ok(Progress::Ended(reason)) => Some(Ok(reason)),
            Ok(Progress::PacedUntil(at)) => {
                *paced_until = Some(at);
                None
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn join(&mut self, medium: usize, group: (Ipv4Addr, PortPair), source: Option<IpAddr>) {
        let (local, remote) = (self.socket.local.ip(), self.socket.remote.ip());
        let ports = self.ports.get_or_insert_with(|| Ports::none(remote.to_canonical()));
        if let Err(error) = ports.join(medium, group, source, local) {
            // Without it nothing comes, which ends the session or has something else tried.
            tracing::warn!(group = %group.0, %error, "cannot receive from a group");
        }
    }

    /// True when nothing waits for a socket.
    fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.ports.as_ref().is_none_or(Ports::is_idle)
    }

    /// Takes everything out of the session, and does what only needs doing.
    fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.outbox.push(bytes),
                Output::Event(ClientEvent::PortsNeeded(count)) => self.bind(count),
                Output::Event(ClientEvent::Peer { medium, ports, source }) => {
                    if let Some(bound) = &mut self.ports {
                        bound.set_peer(medium, ports, source);
                    }
                }
                Output::Event(ClientEvent::Group { medium, address, ports, source }) => {
                    self.join(medium, (address, ports), source);
                }
                Output::Event(ClientEvent::Datagram(datagram)) => {
                    if let Some(ports) = &mut self.ports {
                        ports.push(datagram);
                    }
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Wait(until) => {
                    self.wake = until;
                    return;
                }
            }
        }
    }

    fn bind(&mut self, count: usize) {
        let bound = Ports::bind(self.socket.local.ip(), self.socket.remote.ip(), count);
        if let Err(error) = &bound {
            tracing::warn!(%error, "no ports for datagrams");
        }
        self.ports = bound.ok();
        let pairs = self.ports.as_ref().map(Ports::pairs).unwrap_or_default();
        self.session.set_ports(clock::now(), pairs);
    }

    /// Waits for one thing to happen, and hands it to the session. Cancel safe.
    async fn step(&mut self, mut source: Option<&mut Source>) -> Result<()> {
        self.check()?;
        let paced = source.as_ref().and_then(|source| source.paced_until);
        let due = [Some(clock::now() + HOUSEKEEPING), self.wake, paced].into_iter().flatten().min();
        let mut sleep = pin!(tokio::time::sleep_until(due.unwrap_or_else(clock::now).into()));
        let activity = poll_fn(|cx| {
            if let Poll::Ready(activity) = self.poll_activity(source.as_deref_mut(), cx) {
                return Poll::Ready(activity);
            }
            sleep.as_mut().poll(cx).map(|()| Activity::Timer)
        });
        let activity = activity.await;
        // The others say that nothing more has come.
        let more = matches!(activity, Activity::Written(_) | Activity::Datagrams);
        match activity {
            Activity::Input(Ok(0)) => return Err(StreamError::Closed(CloseReason::PeerClosed)),
            Activity::Input(Err(error)) | Activity::Written(Err(error)) => {
                return Err(match close_reason(&error, false) {
                    CloseReason::Io => StreamError::Io(error),
                    reason => StreamError::Closed(reason),
                });
            }
            _ => {}
        }
        let (now, grace) = (clock::now(), if more { GRACE } else { Duration::ZERO });
        if self.wake.is_some_and(|wake| wake + grace <= now) {
            let timed = self.session.handle_timeout(now);
            self.note(timed);
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn note(&mut self, result: core::result::Result<(), ClientError>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    fn poll_activity(&mut self, source: Option<&mut Source>, cx: &mut Context<'_>) -> Poll<Activity> {
        let Self { session, socket, outbox, ports, failed, .. } = self;
        let mut note = |result: core::result::Result<(), ClientError>| {
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        };
        let mut idle = true;
        if !outbox.is_empty() {
            if let Poll::Ready(written) = outbox.poll_write(&mut socket.writer, cx) {
                return Poll::Ready(Activity::Written(written));
            }
            idle = false;
        } else if Pin::new(&mut socket.writer).poll_flush(cx).is_pending() {
            idle = false;
        }
        if let Some(ports) = ports {
            idle &= ports.poll_flush(cx).is_ready();
            let now = clock::now();
            let received = ports.poll_receive(cx, |datagram| note(session.handle_datagram(now, &datagram)));
            if received.is_ready() {
                return Poll::Ready(Activity::Datagrams);
            }
        }
        if let Some(source) =
            source.filter(|source| idle && source.paced_until.is_none_or(|at| at <= clock::now()))
            && source.reader.poll_ready(cx).is_ready()
        {
            return Poll::Ready(Activity::Source);
        }
        let received =
            poll_receive(&mut socket.reader, cx, |bytes| note(session.handle_input(clock::now(), bytes)));
        received.map(Activity::Input)
    }

    /// Says good-bye and lets it go out.
    pub(super) async fn leave(&mut self, reason: CloseReason) {
        self.session.finish(clock::now(), reason);
        self.drain();
        if let Some(foreign) = self.ports.as_ref().map(Ports::foreign).filter(|foreign| *foreign > 0) {
            tracing::debug!(foreign, "datagrams came from elsewhere");
        }
        let _ = flush(&mut self.outbox, &mut self.socket.writer).await;
    }
}

/// The end of the presentation is an outcome, everything else an error.
fn ended(error: StreamError) -> Result<Outcome> {
    match error {
        StreamError::Closed(CloseReason::PeerClosed) => Ok(Outcome::Ended(CloseReason::PeerClosed)),
        error => Err(error),
    }
}
