//! One connection to a server: drives a [`ClientSession`] over a socket.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arcly_core::derived::{Headers, Wire as _};
use arcly_core::log::{Budget, Progress, Read, TrackChoice};
use arcly_core::machine::{Machine, Output};
use arcly_core::net::flush;
use arcly_core::{CloseReason, DerivedSubscriber, Publisher, Result, StreamError, TimeDelta, Via, clock};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::ClientConfig;
use crate::error::SessionError;
use crate::io::{Outbox, close_reason, os_entropy, poll_receive, tune};
use crate::media::{Ingest, MESSAGE_STREAM, MessagePacketizer};
use crate::session::{ClientEvent, ClientSession, Intent};
use crate::url::RtmpUrl;
use crate::wire::Capabilities;
use crate::wire::chunk::restamp_stream_id;

/// Bytes taken from a stream before the socket has taken them.
const MAX_PENDING: usize = 256 << 10;
/// What was ended from outside is noticed this late at the most.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

type Source = DerivedSubscriber<MessagePacketizer>;
type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// How a connection ended that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The stream is over, here or there, or the token has fired.
    Ended(CloseReason),
    /// The server asked the client to connect again, elsewhere when it says where.
    Moved(Option<Box<RtmpUrl>>),
}

impl Outcome {
    pub(crate) const fn reason(&self) -> CloseReason {
        match self {
            Self::Ended(reason) => *reason,
            Self::Moved(_) => CloseReason::PeerClosed,
        }
    }
}

enum Activity {
    Input(io::Result<usize>),
    Written(io::Result<usize>),
    Source,
    Timer,
}

/// Connects to the URL's host, wherever the configuration says that is.
pub(super) async fn connect(url: &RtmpUrl, config: &ClientConfig) -> Result<(ReadHalf, WriteHalf)> {
    let stream = match config.addresses.as_slice() {
        [] => TcpStream::connect((&*url.host, url.port)).await?,
        addresses => TcpStream::connect(addresses).await?,
    };
    tune(&stream);
    if url.tls {
        return connect_tls(stream, url, config).await;
    }
    let (reader, writer) = stream.into_split();
    Ok((Box::new(reader), Box::new(writer)))
}

#[cfg(feature = "tls")]
async fn connect_tls(
    stream: TcpStream,
    url: &RtmpUrl,
    config: &ClientConfig,
) -> Result<(ReadHalf, WriteHalf)> {
    let tls =
        config.tls.clone().ok_or_else(|| StreamError::protocol("rtmps:// needs a TLS configuration"))?;
    let name = rustls_pki_types::ServerName::try_from(url.host.to_string())
        .map_err(|_| StreamError::protocol("the URL's host cannot be a TLS server name"))?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

#[cfg(not(feature = "tls"))]
async fn connect_tls(_: TcpStream, _: &RtmpUrl, _: &ClientConfig) -> Result<(ReadHalf, WriteHalf)> {
    Err(StreamError::protocol("rtmps:// needs the feature `tls` of arcly-rtmp"))
}

pub(super) struct Link {
    session: ClientSession,
    url: RtmpUrl,
    reader: ReadHalf,
    writer: WriteHalf,
    outbox: Outbox,
    wake: Option<Instant>,
    failed: Option<SessionError>,
    /// Taken from the session, not yet acted on.
    events: VecDeque<ClientEvent>,
}

impl Link {
    pub(super) fn new(
        config: &ClientConfig,
        url: RtmpUrl,
        intent: Intent,
        (reader, writer): (ReadHalf, WriteHalf),
        began: Instant,
    ) -> Result<Self> {
        let session_config = Arc::new(config.session.clone());
        let session = ClientSession::new(session_config, url.clone(), intent, &os_entropy()?, began);
        let outbox = Outbox::default();
        let events = VecDeque::new();
        Ok(Self { session, url, reader, writer, outbox, wake: None, failed: None, events })
    }

    /// What the server is told about where the stream comes from, or goes to.
    pub(super) fn with_via(mut self, via: Via) -> Self {
        self.session = self.session.with_via(via);
        self
    }

    pub(super) const fn server(&self) -> &Capabilities {
        self.session.server()
    }

    /// Goes on until media may flow.
    pub(super) async fn set_up(&mut self) -> Result<()> {
        loop {
            self.drain();
            if self.session.is_active() {
                return Ok(());
            }
            self.step(None).await?;
        }
    }

    /// Publishes what the server sends.
    pub(super) async fn pull(
        &mut self,
        publisher: Publisher,
        shutdown: &CancellationToken,
    ) -> Result<Outcome> {
        let mut ingest = Ingest::new(publisher);
        loop {
            self.drain();
            if let Some(outcome) = self.publish(&mut ingest) {
                self.leave(CloseReason::PeerClosed).await;
                return outcome;
            }
            let stepped = self.step_or_leave(None, shutdown).await;
            if let Some(ended) = stepped.transpose() {
                // What the same read brought before the end was accepted, and is not lost with it.
                self.drain();
                return self.publish(&mut ingest).unwrap_or(ended);
            }
        }
    }

    /// Takes the events that there are; an outcome ends the pull.
    fn publish(&mut self, ingest: &mut Ingest) -> Option<Result<Outcome>> {
        while let Some(event) = self.events.pop_front() {
            match event {
                ClientEvent::Tag(tag) => {
                    if let Err(error) = ingest.handle(tag) {
                        tracing::warn!(url = %self.url, %error, "the stream cannot be taken");
                        return Some(Err(StreamError::Closed(error.reason())));
                    }
                }
                ClientEvent::ReconnectRequest { tc_url } => return Some(Ok(self.moved(tc_url.as_deref()))),
                _ => {}
            }
        }
        ingest.publisher().close_reason().map(|reason| Ok(Outcome::Ended(reason)))
    }

    /// Sends what `source` reads.
    pub(super) async fn push(
        &mut self,
        mut source: Source,
        choice: &TrackChoice<Headers>,
        shutdown: &CancellationToken,
    ) -> Result<Outcome> {
        loop {
            self.drain();
            while let Some(event) = self.events.pop_front() {
                if let ClientEvent::ReconnectRequest { tc_url } = event {
                    self.leave(CloseReason::PeerClosed).await;
                    return Ok(self.moved(tc_url.as_deref()));
                }
            }
            if let Some(outcome) = self.step_or_leave(Some(&mut source), shutdown).await? {
                return Ok(outcome);
            }
            if let Some(ended) = self.fill(&mut source, choice) {
                self.leave(CloseReason::PeerClosed).await;
                return ended.map(Outcome::Ended);
            }
        }
    }

    /// One step, unless the token fires. The end of the stream, here or there, is an outcome.
    async fn step_or_leave(
        &mut self,
        source: Option<&mut Source>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Outcome>> {
        tokio::select! {
            stepped = self.step(source) => self.ended(stepped),
            () = shutdown.cancelled() => {
                self.leave(CloseReason::Shutdown).await;
                Ok(Some(Outcome::Ended(CloseReason::Shutdown)))
            }
        }
    }

    /// What became of a step: nothing special, the end of the stream, or a failure.
    fn ended(&self, stepped: Result<()>) -> Result<Option<Outcome>> {
        match (&self.failed, stepped) {
            (Some(SessionError::Ended), _) => Ok(Some(Outcome::Ended(CloseReason::PeerClosed))),
            (_, stepped) => stepped.map(|()| None),
        }
    }

    fn moved(&self, tc_url: Option<&str>) -> Outcome {
        let elsewhere = tc_url.and_then(|tc_url| {
            let url = format!("{}/{}", tc_url.trim_end_matches('/'), self.url.name());
            // A server may send its clients elsewhere, but not from TLS to the clear.
            url.parse::<RtmpUrl>().ok().filter(|url| url.tls || !self.url.tls)
        });
        Outcome::Moved(elsewhere.map(Box::new))
    }

    /// Takes messages from the stream, as long as the socket keeps up.
    fn fill(&mut self, source: &mut Source, choice: &TrackChoice<Headers>) -> Option<Result<CloseReason>> {
        if !self.outbox.is_empty() {
            return None;
        }
        let budget = Budget { items: usize::MAX, bytes: MAX_PENDING, time: TimeDelta(i64::MAX) };
        let stream_id = self.session.stream_id().unwrap_or(MESSAGE_STREAM);
        let outbox = &mut self.outbox;
        let progress = source.read(budget, |read| match read {
            Read::Context(headers) => {
                let mask = choice(&headers).unwrap_or_default();
                let wanted = headers.parts.iter().filter(|(track, _)| track.is_none_or(|t| mask.contains(t)));
                wanted.for_each(|(_, bytes)| outbox.push(stamped(bytes, stream_id)));
            }
            Read::Item(message) if message.head().is_empty() => {
                outbox.push(stamped(message.body(), stream_id));
            }
            Read::Item(message) => {
                let mut head = BytesMut::from(message.head());
                restamp_stream_id(&mut head, stream_id);
                outbox.push(head.freeze());
                outbox.push(message.body().clone());
            }
            Read::Skipped(_) => {}
        });
        match progress {
            Ok(Progress::Ended(reason)) if self.outbox.is_empty() => Some(Ok(reason)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Takes everything out of the session.
    fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.outbox.push(bytes),
                Output::Event(event) => self.events.push_back(event),
                Output::Wait(until) => {
                    self.wake = until;
                    return;
                }
            }
        }
    }

    /// Waits for one thing to happen, and hands it to the session. Cancel safe.
    async fn step(&mut self, mut source: Option<&mut Source>) -> Result<()> {
        if let Some(error) = self.failed.clone() {
            return Err(stream_error(error));
        }
        let due = clock::now() + HOUSEKEEPING;
        let due = self.wake.map_or(due, |wake| wake.min(due));
        let mut sleep = pin!(tokio::time::sleep_until(due.into()));
        let activity = poll_fn(|cx| {
            if let Poll::Ready(activity) = self.poll_activity(source.as_deref_mut(), cx) {
                return Poll::Ready(activity);
            }
            sleep.as_mut().poll(cx).map(|()| Activity::Timer)
        });
        let activity = activity.await;
        let now = clock::now();
        match activity {
            Activity::Input(Ok(0)) => return Err(StreamError::Closed(CloseReason::PeerClosed)),
            Activity::Input(Ok(_)) if self.wake.is_none_or(|wake| now < wake) => {}
            Activity::Input(Ok(_)) | Activity::Timer => self.note(|session| session.handle_timeout(now)),
            Activity::Written(Ok(_)) => self.session.handle_backlog(now, self.outbox.len(), true),
            Activity::Input(Err(error)) | Activity::Written(Err(error)) => {
                return Err(match close_reason(&error, false) {
                    CloseReason::Io => StreamError::Io(error),
                    reason => StreamError::Closed(reason),
                });
            }
            Activity::Source => self.session.handle_backlog(now, self.outbox.len(), false),
        }
        match self.failed.clone() {
            Some(error) => Err(stream_error(error)),
            None => Ok(()),
        }
    }

    fn note(&mut self, act: impl FnOnce(&mut ClientSession) -> core::result::Result<(), SessionError>) {
        if let Err(error) = act(&mut self.session) {
            self.failed.get_or_insert(error);
        }
    }

    fn poll_activity(&mut self, source: Option<&mut Source>, cx: &mut Context<'_>) -> Poll<Activity> {
        let Self { session, reader, writer, outbox, failed, .. } = self;
        if !outbox.is_empty() {
            if let Poll::Ready(written) = outbox.poll_write(writer, cx) {
                return Poll::Ready(Activity::Written(written));
            }
            session.handle_backlog(clock::now(), outbox.len(), false);
        } else if Pin::new(writer).poll_flush(cx).is_ready()
            && let Some(source) = source
            && source.poll_ready(cx).is_ready()
        {
            return Poll::Ready(Activity::Source);
        }
        let received = poll_receive(reader, cx, |bytes| {
            if let Err(error) = session.handle_input(clock::now(), bytes) {
                failed.get_or_insert(error);
            }
        });
        received.map(Activity::Input)
    }

    /// Says good-bye and lets it go out.
    async fn leave(&mut self, reason: CloseReason) {
        self.session.finish(reason);
        self.drain();
        let _ = flush(&mut self.outbox, &mut self.writer).await;
    }
}

/// The message for that message stream: as it is for nearly every server, else a copy.
fn stamped(bytes: &Bytes, stream_id: u32) -> Bytes {
    if stream_id == MESSAGE_STREAM {
        return bytes.clone();
    }
    let mut copy = BytesMut::from(&bytes[..]);
    restamp_stream_id(&mut copy, stream_id);
    copy.freeze()
}

fn stream_error(error: SessionError) -> StreamError {
    match error {
        SessionError::Rejected(words) => StreamError::Rejected(words),
        SessionError::Wire { error, .. } => StreamError::Decode(error),
        SessionError::Name(error) => StreamError::Name(error),
        SessionError::Unexpected { .. } => StreamError::protocol(error.to_string()),
        other => StreamError::Closed(other.reason()),
    }
}
