//! One connection: drives a [`ServerSession`] over a socket, and brings its streams and the engine together.
//!
//! No decision about the protocol is made here. While something is played, the socket's writing half belongs to an
//! egress worker, and what the session has to say goes through it; else the connection writes itself.

mod playing;
mod publishing;

use core::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arcly_core::contract::auth::Credentials;
use arcly_core::egress::{Attached, Finished};
use arcly_core::machine::{Machine, Output};
use arcly_core::net::{Admission, FLUSH, flush, linger};
use arcly_core::{ClientInfo, CloseReason, Publisher, Result, Subscription, clock};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Shared;
use super::lane::{Lane, Lanes};
use super::pace::{MAX_EMPTY, Member, Park, Parking, Rest};
use crate::error::SessionError;
use crate::io::{Outbox, READ, SendBuffer, close_reason, os_entropy, poll_receive, receive_now};
use crate::media::Ingest;
use crate::session::{ServerEvent, ServerSession, StreamId, Target};

/// Publishers that were ended from outside are noticed this late at the most, when they are silent.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// A peer that has said something this long ago is still there.
const HEARD_LATELY: Duration = Duration::from_secs(5);
/// A timer that is this late was held up by the machine: what the peer has sent meanwhile is looked at first.
const LATE: Duration = Duration::from_millis(500);
/// Bytes taken from lanes before the socket has taken them.
const MAX_PENDING: usize = 256 << 10;

/// What a connection has been told by one of those it listens to.
enum Activity<W> {
    /// The peer sent something, or nothing more (`Ok(0)`).
    Input(io::Result<usize>),
    /// A socket that was looked at had nothing.
    Empty,
    /// The socket took something.
    Written(io::Result<usize>),
    /// The engine has decided about a request.
    Decided(Decision),
    /// What was played is over.
    Finished(Finished<W>),
    /// The same on a lane.
    LaneFinished(StreamId, CloseReason),
    /// A lane has messages.
    Messages(Bytes),
    /// Time has passed.
    Timer,
    /// The server goes down.
    Shutdown,
}

enum Decision {
    Publish(StreamId, Result<Publisher>),
    Play(StreamId, Result<Subscription>),
}

/// Who writes to the socket.
enum Sink<W> {
    /// The connection itself.
    Own(W),
    /// The connection, which has both halves in one place and looks at them at times: see `pace`.
    Parked(TcpStream),
    /// An egress worker, for as long as it plays. `recalled` when the connection has asked for it back.
    Egress { stream: StreamId, attached: Attached<W>, recalled: bool },
    /// Nobody any more.
    Gone,
}

/// A stream that the client publishes.
struct Publishing {
    stream: StreamId,
    ingest: Ingest,
    member: Member,
}

/// A stream that the client plays, or wants to.
struct Player {
    stream: StreamId,
    target: Target,
    audio: bool,
    video: bool,
    paused: bool,
}

pub(in crate::server) struct Connection<R, W> {
    shared: Arc<Shared>,
    remote: SocketAddr,
    protocol: &'static str,
    session: ServerSession,
    /// Not while the socket is parked.
    reader: Option<R>,
    sink: Sink<W>,
    outbox: Outbox,
    publishing: Vec<Publishing>,
    playing: Vec<Player>,
    /// Streams that are played besides the one that has the socket, or instead of it.
    lanes: Option<Lanes>,
    in_lanes: Vec<(StreamId, Attached<Lane>)>,
    /// What the engine is asked: one question for each stream at the most.
    decisions: Vec<(StreamId, BoxFuture<'static, Decision>)>,
    /// Publish requests that wait for a decision; nothing is read meanwhile, because what follows is media.
    undecided: usize,
    admission: Option<Admission>,
    heard: Instant,
    wake: Option<Instant>,
    rest: Rest,
    /// What was read last, until it is decided whether to rest.
    just_read: Option<usize>,
    /// Rests in a row in which nothing came.
    empty: u8,
    /// When publishers are looked after next.
    housekeeping: Option<Instant>,
    /// How the session ended, for the log.
    error: Option<String>,
    /// When the connection is closed by force, once the server goes down.
    farewell: Option<Instant>,
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Park<W> + Unpin + Send,
    W: AsyncWrite + SendBuffer + Unpin + Send + 'static,
{
    pub(in crate::server) fn new(
        shared: Arc<Shared>,
        remote: SocketAddr,
        protocol: &'static str,
        admission: Admission,
        (reader, writer): (R, W),
        now: Instant,
    ) -> io::Result<Box<Self>> {
        let session = ServerSession::new(Arc::clone(&shared.session), os_entropy()?, now);
        // In a box, because a future keeps room for every place that a value is moved to.
        Ok(Box::new(Self {
            shared,
            remote,
            protocol,
            session,
            reader: Some(reader),
            sink: Sink::Own(writer),
            outbox: Outbox::default(),
            publishing: Vec::new(),
            playing: Vec::new(),
            lanes: None,
            in_lanes: Vec::new(),
            decisions: Vec::new(),
            undecided: 0,
            admission: Some(admission),
            heard: now,
            wake: None,
            rest: Rest::No,
            just_read: None,
            empty: 0,
            housekeeping: None,
            error: None,
            farewell: None,
        }))
    }

    /// Serves the connection to its end, and says why it ended.
    pub(in crate::server) async fn serve(mut self: Box<Self>) -> CloseReason {
        let shared = Arc::clone(&self.shared);
        let mut shutdown = core::pin::pin!(shared.shutdown.token.cancelled());
        let mut is_told = false;
        let mut sleep = core::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let (mut armed, mut forgiven) = (None, None);
        let reason = loop {
            self.drain();
            if let Some(reason) = self.session.closed() {
                break reason;
            }
            if let Err(error) = self.park_or_unpark() {
                break self.lost(&error, clock::now());
            }
            if self.admission.is_some() && !self.session.is_unauthorized() {
                self.admission = None;
            }
            let due = self.next_wake();
            // One that is armed earlier goes off in vain, once; arming it anew with every input would cost more.
            if let Some(due) = due
                && armed.is_none_or(|armed| due < armed)
            {
                sleep.as_mut().reset(due.into());
                armed = Some(due);
            }
            let draining = self.farewell.is_some();
            let activity = poll_fn(|cx| {
                if let Poll::Ready(activity) = self.poll_activity(cx) {
                    return Poll::Ready(activity);
                }
                if due.is_some() && sleep.as_mut().poll(cx).is_ready() {
                    armed = None;
                    return Poll::Ready(Activity::Timer);
                }
                // The task's waker stays where it was left.
                if !core::mem::replace(&mut is_told, true) && shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Activity::Shutdown);
                }
                if !draining && shared.shutdown.has_begun() {
                    return Poll::Ready(Activity::Shutdown);
                }
                Poll::Pending
            });
            let activity = activity.await;
            if matches!(activity, Activity::Timer)
                && due.is_some_and(|due| clock::now() >= due + LATE)
                && forgiven != due
            {
                forgiven = due;
                // Sockets are asked before this goes on.
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(reason) = self.handle(activity) {
                break self.verdict(reason).await;
            }
        };
        let why = self.error.take().unwrap_or_default();
        tracing::info!(peer = %self.remote, protocol = self.protocol, %reason, why, "closed");
        self.leave(reason).await;
        reason
    }

    fn next_wake(&mut self) -> Option<Instant> {
        if self.publishing.is_empty() {
            self.housekeeping = None;
        } else if self.housekeeping.is_none() {
            self.housekeeping = Some(clock::now() + HOUSEKEEPING);
        }
        let rest = if let Rest::Until(until) = self.rest { Some(until) } else { None };
        [self.wake, self.farewell, self.housekeeping, rest].into_iter().flatten().min()
    }

    /// The next thing that happens. Writing comes first, because it is bounded; reading is not.
    fn poll_activity(&mut self, cx: &mut Context<'_>) -> Poll<Activity<W>> {
        match &mut self.sink {
            Sink::Own(writer) if !self.outbox.is_empty() => {
                if let Poll::Ready(written) = self.outbox.poll_write(writer, cx) {
                    return Poll::Ready(Activity::Written(written));
                }
            }
            Sink::Egress { attached, .. } => {
                if let Poll::Ready(finished) = core::pin::pin!(attached.finished()).poll(cx) {
                    return Poll::Ready(Activity::Finished(finished));
                }
            }
            _ => {}
        }
        if let Poll::Ready(activity) = self.poll_lanes(cx) {
            return Poll::Ready(activity);
        }
        for (at, (_, decision)) in self.decisions.iter_mut().enumerate() {
            if let Poll::Ready(decision) = decision.as_mut().poll(cx) {
                drop(self.decisions.swap_remove(at));
                return Poll::Ready(Activity::Decided(decision));
            }
        }
        if self.undecided > 0 || matches!(self.rest, Rest::Until(_)) {
            return Poll::Pending;
        }
        let Self { reader, sink, session, error, heard, .. } = self;
        let take = |bytes: &[u8]| {
            let now = clock::now();
            *heard = now;
            note(error, session.handle_input(now, bytes));
        };
        match (sink, reader) {
            (Sink::Parked(socket), _) => match receive_now(socket, take) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Activity::Empty),
                received => Poll::Ready(Activity::Input(received)),
            },
            (_, Some(reader)) => poll_receive(reader, cx, take).map(Activity::Input),
            (_, None) => Poll::Pending,
        }
    }

    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> Poll<Activity<W>> {
        if let Some(lanes) = self.lanes.as_mut().filter(|_| self.outbox.len() < MAX_PENDING)
            && let Poll::Ready(messages) = lanes.poll_recv(cx)
        {
            return Poll::Ready(Activity::Messages(messages));
        }
        for (stream, attached) in &mut self.in_lanes {
            if let Poll::Ready(finished) = core::pin::pin!(attached.finished()).poll(cx) {
                return Poll::Ready(Activity::LaneFinished(*stream, finished.reason));
            }
        }
        Poll::Pending
    }

    /// Acts on what has happened; a reason ends the connection without a good-bye.
    fn handle(&mut self, activity: Activity<W>) -> Option<CloseReason> {
        let now = clock::now();
        if let Activity::Input(Ok(read)) = activity {
            (self.just_read, self.empty) = (Some(read), 0);
        }
        match activity {
            Activity::Input(Ok(0)) => return Some(CloseReason::PeerClosed),
            Activity::Empty => {
                self.empty = self.empty.saturating_add(1);
                self.just_read = Some(0).filter(|_| self.empty < MAX_EMPTY);
                self.rest = Rest::No;
            }
            Activity::Timer if self.ends_rest(now) && !self.is_due(now) => {}
            // Time is looked at after the input, so that a late timer of ours is not held against the peer.
            Activity::Input(Ok(_)) if self.wake.is_none_or(|wake| now < wake) => {}
            Activity::Input(Ok(_)) | Activity::Timer => {
                note(&mut self.error, self.session.handle_timeout(now));
                self.look_after(now);
            }
            Activity::Written(Ok(_)) => self.note_backlog(now, true),
            Activity::Input(Err(error)) | Activity::Written(Err(error)) => {
                return Some(self.lost(&error, now));
            }
            Activity::Decided(Decision::Publish(stream, result)) => self.publish_decided(now, stream, result),
            Activity::Decided(Decision::Play(stream, result)) => self.play_decided(now, stream, result),
            Activity::Finished(finished) => return self.finished(finished),
            Activity::LaneFinished(stream, reason) => {
                self.in_lanes.retain(|(of, _)| *of != stream);
                self.played(stream, reason, false);
            }
            Activity::Messages(messages) => {
                self.outbox.push(messages);
                self.note_backlog(now, false);
            }
            Activity::Shutdown => self.begin_shutdown(),
        }
        None
    }

    /// Until when the socket is left alone, after a read of so many bytes.
    fn rest_after(&self, read: usize) -> Option<Instant> {
        let [Publishing { ingest, member, .. }] = &*self.publishing else { return None };
        if read >= READ { None } else { member.rest(ingest.publisher(), &self.shared.egress, clock::now()) }
    }

    /// Whether it was time to look at a socket that rests.
    fn ends_rest(&mut self, now: Instant) -> bool {
        let ends = matches!(self.rest, Rest::Until(until) if now >= until);
        if ends {
            self.rest = Rest::Over;
        }
        ends
    }

    /// Decides how the socket is read from, and parks it for as long as it rests.
    fn park_or_unpark(&mut self) -> io::Result<()> {
        if let Some(read) = self.just_read.take() {
            self.rest = self.rest_after(read).map_or(Rest::No, Rest::Until);
        }
        // Whatever else there is to do is to be heard of at once.
        let is_idle = self.outbox.is_empty() && self.playing.is_empty() && self.undecided == 0;
        if !is_idle || self.publishing.len() != 1 || self.farewell.is_some() {
            self.rest = Rest::No;
        }
        if self.rest == Rest::No { self.unpark() } else { self.park() }
    }

    fn park(&mut self) -> io::Result<()> {
        if !matches!(self.sink, Sink::Own(_)) {
            return Ok(());
        }
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let Sink::Own(writer) = core::mem::replace(&mut self.sink, Sink::Gone) else { return Ok(()) };
        match reader.park(writer) {
            Parking::Parked(socket) => self.sink = Sink::Parked(socket),
            Parking::Refused(reader, writer) => (self.reader, self.sink) = (Some(reader), Sink::Own(writer)),
            Parking::Lost(error) => return Err(error),
        }
        Ok(())
    }

    fn unpark(&mut self) -> io::Result<()> {
        match core::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Parked(socket) => {
                let (reader, writer) = R::unpark(socket)?;
                (self.reader, self.sink) = (Some(reader), Sink::Own(writer));
            }
            sink => self.sink = sink,
        }
        Ok(())
    }

    /// Whether time has come for anything but to read.
    fn is_due(&self, now: Instant) -> bool {
        [self.wake, self.farewell, self.housekeeping].into_iter().flatten().any(|at| now >= at)
    }

    fn lost(&mut self, error: &io::Error, now: Instant) -> CloseReason {
        self.error.get_or_insert_with(|| error.to_string());
        let heard = now.saturating_duration_since(self.heard) < HEARD_LATELY;
        close_reason(error, heard || !self.playing.is_empty())
    }

    /// Why the connection ends, when the half that reads says `reason`. TCP tells one half only that it has given up on
    /// the peer, and the other one sees an end: what the half that writes has seen counts.
    async fn verdict(&mut self, reason: CloseReason) -> CloseReason {
        let Sink::Egress { attached, .. } = &mut self.sink else { return reason };
        if reason != CloseReason::PeerClosed {
            return reason;
        }
        attached.detach(reason);
        let finished = tokio::time::timeout(FLUSH, attached.finished()).await.ok();
        let slow = finished.as_ref().is_some_and(|finished| finished.reason == CloseReason::SlowConsumer);
        self.sink = finished.and_then(|finished| finished.writer).map_or(Sink::Gone, Sink::Own);
        if slow { CloseReason::SlowConsumer } else { reason }
    }

    /// Asks the client to go elsewhere where it understands that, and says good-bye where it does not.
    fn begin_shutdown(&mut self) {
        self.farewell = Some(clock::now() + self.shared.drain);
        if !self.session.request_reconnect(None) {
            self.session.shutdown();
        }
    }

    fn look_after(&mut self, now: Instant) {
        self.housekeeping = self.housekeeping.filter(|at| *at > now);
        if self.farewell.is_some_and(|at| now >= at) {
            self.session.shutdown();
        }
        let revoked = self
            .publishing
            .iter()
            .find_map(|own| own.ingest.publisher().close_reason().map(|reason| (own.stream, reason)));
        if let Some((stream, reason)) = revoked {
            self.unpublish(stream, reason, &format!("ended: {reason}"));
        }
    }

    /// Takes everything out of the session: bytes into the outbox, events to their places.
    fn drain(&mut self) {
        while self.undecided == 0 {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.transmit(bytes),
                Output::Event(event) => self.handle_event(event),
                Output::Wait(until) => {
                    self.wake = until;
                    break;
                }
            }
        }
    }

    fn transmit(&mut self, bytes: Bytes) {
        // What is said after a recall has to wait until the writer is back, and so have the last words: the worker may
        // have let go of the reader by now, and would drop them.
        if let Sink::Egress { attached, recalled: false, .. } = &self.sink
            && self.session.closed().is_none()
        {
            if attached.send(bytes).is_err() {
                attached.detach(CloseReason::SlowConsumer);
            }
            return;
        }
        self.outbox.push(bytes);
        self.note_backlog(clock::now(), false);
    }

    /// Tells the session what waits for the socket. Media in lanes has a bound of its own, and counts for its age only.
    fn note_backlog(&mut self, now: Instant, progress: bool) {
        let waiting = self.outbox.len();
        let waiting = if self.in_lanes.is_empty() { waiting } else { waiting.min(1) };
        note(&mut self.error, self.session.handle_backlog(now, waiting, progress));
    }

    fn handle_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::PublishRequest { stream, target } => self.request_publish(stream, &target),
            ServerEvent::PlayRequest { stream, target } => {
                let credentials = Some(self.credentials(&target));
                self.request_play(stream, &target, credentials);
                // Nearly all play one stream.
                self.playing.reserve_exact(1);
                self.playing.push(Player { stream, target, audio: true, video: true, paused: false });
            }
            ServerEvent::Tag { stream, tag } => {
                let own = self.publishing.iter_mut().find(|own| own.stream == stream);
                if let Some(Err(error)) = own.map(|own| own.ingest.handle(tag)) {
                    self.error.get_or_insert_with(|| error.to_string());
                    self.unpublish(stream, error.reason(), &error.to_string());
                }
            }
            ServerEvent::Stopped { stream } => {
                self.publishing.retain(|own| own.stream != stream);
                self.playing.retain(|player| player.stream != stream);
                self.decisions.retain(|(of, _)| *of != stream);
                self.recall(stream);
            }
            ServerEvent::Paused { stream, paused } => self.change(stream, |player| player.paused = paused),
            ServerEvent::Receive { stream, audio, video } => self.change(stream, |player| {
                player.audio = audio.unwrap_or(player.audio);
                player.video = video.unwrap_or(player.video);
            }),
        }
    }

    fn client(&self) -> ClientInfo {
        let agent = Some(&self.session.client().flash_ver).filter(|agent| !agent.is_empty());
        ClientInfo { protocol: self.protocol, remote: Some(self.remote), agent: agent.cloned() }
    }

    fn credentials(&self, target: &Target) -> Credentials {
        let mut credentials = Credentials::new(self.protocol).with_remote(self.remote);
        if let Some(query) = &target.query {
            credentials = credentials.with_query(&**query);
        }
        if let Some((user, password)) = &target.user {
            credentials = credentials.with_login(&**user, &**password);
        }
        credentials
    }

    /// The writing half, waiting for a worker that has it to let it go.
    async fn writer_back(&mut self, reason: CloseReason) -> Option<W> {
        match core::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Own(writer) => Some(writer),
            Sink::Egress { mut attached, .. } => {
                attached.detach(reason);
                tokio::time::timeout(FLUSH, attached.finished()).await.ok()?.writer
            }
            Sink::Parked(_) | Sink::Gone => None,
        }
    }

    /// Sends what the session still has to say, and closes so that the peer can read it.
    async fn leave(mut self: Box<Self>, reason: CloseReason) {
        self.publishing.clear();
        self.admission = None;
        if self.unpark().is_err() {
            return;
        }
        let mut outbox = core::mem::take(&mut self.outbox);
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => outbox.push(bytes),
                Output::Event(_) => {}
                Output::Wait(_) => break,
            }
        }
        let Some(mut writer) = self.writer_back(reason).await else { return };
        if flush(&mut outbox, &mut writer).await
            && reason != CloseReason::PeerClosed
            && let Some(mut reader) = self.reader
        {
            linger(&mut reader).await;
        }
    }
}

fn note(slot: &mut Option<String>, result: core::result::Result<(), SessionError>) {
    if let Err(error) = result {
        slot.get_or_insert_with(|| error.to_string());
    }
}
