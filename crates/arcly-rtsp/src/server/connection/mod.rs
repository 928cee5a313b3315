//! One connection: drives a [`ServerSession`] over a socket, and brings its stream and the engine together.
//!
//! No decision about the protocol is made here. While something is played over the connection, the socket's writing half
//! belongs to an egress worker, and what the session has to say goes through it; else the connection writes itself.

mod leaving;
mod playing;
mod publishing;

use core::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arcly_core::contract::auth::{Credentials, LoginProof};
use arcly_core::egress::{Attached, Finished};
use arcly_core::machine::{Machine, Output};
use arcly_core::net::{Admission, Outbox, poll_receive};
use arcly_core::{ClientInfo, CloseReason, Publisher, Result, StreamError, Subscription, clock};
use arcly_rtp::wire::NtpTime;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::io::{AsyncRead, AsyncWrite};

use super::datagrams::{Datagram, Inbox};
use super::guard::{Guard, Guarded};
use super::multicast::{Reservation, Sender};
use super::scatter::Scatter;
use super::{Shared, random};
use crate::media::Ingest;
use crate::session::{Access, Agreed, Intent, Proof, ServerEvent, ServerSession, Target};
use crate::srtp::Keyring;
use crate::wire::PortPair;
use crate::wire::authorization::Authorization;

/// Bytes that are read before the other tasks have their turn: somebody who sends as fast as can be delays nobody.
const TURN: usize = 256 << 10;
/// Publishers that were ended from outside, and readers that want keyframes, are noticed this late at the most.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A peer that has said something this long ago is still there.
const HEARD_LATELY: Duration = Duration::from_secs(5);
/// A timer that is this late was held up by the machine: what the peer has sent meanwhile is looked at first.
const LATE: Duration = Duration::from_millis(50);
/// How long datagrams of a publisher are waited for that says it has stopped: they travel another way than its word.
const IN_FLIGHT: Duration = Duration::from_millis(250);

/// What a connection has been told by one of those it listens to.
enum Activity<W> {
    /// The peer sent something, or nothing more (`Ok(0)`).
    Input(io::Result<usize>),
    /// The socket took something.
    Written(io::Result<usize>),
    /// The engine has decided about a request.
    Decided(Decision),
    /// What was played over the connection is over.
    Finished(Finished<W>),
    /// The same in datagrams.
    DatagramsFinished(CloseReason),
    /// A datagram of the session.
    Datagram(Datagram),
    /// Time has passed.
    Timer,
    /// The server goes down.
    Shutdown,
}

enum Decision {
    Publish(Result<Publisher>),
    Open(Result<Subscription>),
    Play(Result<Subscription>),
    /// The stream is sent to its group.
    Join(Result<Arc<Sender>>),
}

/// Who writes to the socket.
enum Sink<W> {
    /// The connection itself.
    Own(W),
    /// An egress worker, for as long as it plays. `recalled` when the connection has asked for it back.
    Egress { attached: Attached<W>, recalled: bool },
    /// Nobody any more.
    Gone,
}

pub(super) struct Connection<R, W> {
    shared: Arc<Shared>,
    remote: SocketAddr,
    protocol: &'static str,
    session: ServerSession,
    reader: R,
    sink: Sink<Guarded<W>>,
    outbox: Outbox,
    /// Opened, and not played yet.
    subscription: Option<Subscription>,
    /// Opened, and nothing is recorded yet.
    publisher: Option<Publisher>,
    ingest: Option<Box<Ingest>>,
    inbox: Option<Inbox>,
    /// Until when datagrams are taken of a publisher that has stopped.
    stopped: Option<Instant>,
    /// The stream's group, once it was asked for.
    group: Option<Arc<Reservation>>,
    /// Ends with what is received from it, or the right to.
    member: Option<BoxFuture<'static, CloseReason>>,
    /// What is played in datagrams.
    scattered: Option<Attached<Scatter>>,
    /// Protects what is played, where that was agreed on: from the first PLAY to TEARDOWN.
    guard: Option<Guard>,
    decision: Option<BoxFuture<'static, Decision>>,
    admission: Option<Admission>,
    heard: Instant,
    wake: Option<Instant>,
    /// When publishers are looked after next.
    housekeeping: Option<Instant>,
    /// How the session ended, for the log.
    error: Option<String>,
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn new(
        shared: Arc<Shared>,
        (remote, protocol): (SocketAddr, &'static str),
        admission: Admission,
        (reader, writer): (R, W),
        now: Instant,
    ) -> io::Result<Box<Self>> {
        let access = Access {
            random: random()?,
            nonces: shared.nonces.clone(),
            udp: shared.ports.as_ref().map(|(_, numbers)| *numbers),
        };
        let mut session = ServerSession::new(Arc::clone(&shared.session), access, now);
        if shared.groups.is_some() {
            session = session.with_multicast();
        }
        // In a box, because a future keeps room for every place that a value is moved to.
        Ok(Box::new(Self {
            shared,
            remote,
            protocol,
            session,
            reader,
            sink: Sink::Own(Guarded::new(writer)),
            outbox: Outbox::default(),
            subscription: None,
            publisher: None,
            ingest: None,
            inbox: None,
            stopped: None,
            group: None,
            member: None,
            scattered: None,
            guard: None,
            decision: None,
            admission: Some(admission),
            heard: now,
            wake: None,
            housekeeping: None,
            error: None,
        }))
    }

    /// Serves the connection to its end, and says why it ended.
    pub(super) async fn serve(mut self: Box<Self>) -> CloseReason {
        let shared = Arc::clone(&self.shared);
        let mut shutdown = core::pin::pin!(shared.shutdown.cancelled());
        let mut sleep = core::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let (mut armed, mut forgiven, mut read) = (None, None, 0);
        let reason = loop {
            self.drain();
            if let Some(reason) = self.session.closed() {
                break reason;
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
            let activity = poll_fn(|cx| {
                if let Poll::Ready(activity) = self.poll_activity(cx) {
                    return Poll::Ready(activity);
                }
                if due.is_some() && sleep.as_mut().poll(cx).is_ready() {
                    armed = None;
                    return Poll::Ready(Activity::Timer);
                }
                shutdown.as_mut().poll(cx).map(|()| Activity::Shutdown)
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
            if let Activity::Input(Ok(bytes)) = &activity {
                read += bytes;
            }
            if let Some(reason) = self.handle(activity) {
                break self.verdict(reason).await;
            }
            if read >= TURN {
                read = 0;
                tokio::task::yield_now().await;
            }
        };
        let why = self.error.take().unwrap_or_default();
        tracing::info!(peer = %self.remote, protocol = self.protocol, %reason, why, "closed");
        self.leave(reason).await;
        reason
    }

    fn next_wake(&mut self) -> Option<Instant> {
        if self.ingest.is_none() && self.publisher.is_none() {
            self.housekeeping = None;
        } else if self.housekeeping.is_none() {
            self.housekeeping = Some(clock::now() + HOUSEKEEPING);
        }
        let media = self.ingest.as_ref().and_then(|ingest| ingest.deadline());
        [self.wake, self.housekeeping, media, self.stopped].into_iter().flatten().min()
    }

    /// The next thing that happens. Writing comes first, because it is bounded; reading is not.
    fn poll_activity(&mut self, cx: &mut Context<'_>) -> Poll<Activity<Guarded<W>>> {
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
        if let Some(attached) = &mut self.scattered
            && let Poll::Ready(finished) = core::pin::pin!(attached.finished()).poll(cx)
        {
            return Poll::Ready(Activity::DatagramsFinished(finished.reason));
        }
        if let Some(member) = &mut self.member
            && let Poll::Ready(reason) = member.as_mut().poll(cx)
        {
            self.member = None;
            return Poll::Ready(Activity::DatagramsFinished(reason));
        }
        if let Some(decision) = &mut self.decision
            && let Poll::Ready(decision) = decision.as_mut().poll(cx)
        {
            self.decision = None;
            return Poll::Ready(Activity::Decided(decision));
        }
        if let Some(inbox) = &mut self.inbox
            && let Poll::Ready(datagram) = inbox.poll_recv(cx)
        {
            return Poll::Ready(Activity::Datagram(datagram));
        }
        if self.session.is_undecided() {
            return Poll::Pending;
        }
        let Self { reader, session, error, heard, .. } = self;
        let received = poll_receive(reader, cx, |bytes| {
            let now = clock::now();
            *heard = now;
            note(error, session.handle_input(now, bytes));
        });
        received.map(Activity::Input)
    }

    /// Acts on what has happened; a reason ends the connection without a good-bye.
    fn handle(&mut self, activity: Activity<Guarded<W>>) -> Option<CloseReason> {
        let now = clock::now();
        match activity {
            Activity::Input(Ok(0)) => return Some(self.session.left()),
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
            Activity::Decided(Decision::Publish(result)) => self.publish_decided(now, result),
            Activity::Decided(Decision::Open(result)) => self.open_decided(now, result),
            Activity::Decided(Decision::Play(result)) => self.play_decided(now, result),
            Activity::Decided(Decision::Join(result)) => self.join_decided(now, result),
            Activity::Finished(finished) => return self.finished(finished),
            Activity::DatagramsFinished(reason) => {
                self.scattered = None;
                self.end_play(reason, true);
            }
            Activity::Datagram(datagram) => self.handle_datagram(now, &datagram),
            Activity::Shutdown => {
                let sends = matches!(self.sink, Sink::Egress { .. }) || self.scattered.is_some();
                let plays = sends || self.member.is_some();
                self.end_play(CloseReason::Shutdown, plays);
            }
        }
        None
    }

    fn look_after(&mut self, now: Instant) {
        if let Some(ingest) = &mut self.ingest {
            let result = ingest.handle_timeout(now);
            self.ingested(result.map_err(|error| (error.reason(), error.to_string())));
        }
        if self.stopped.is_some_and(|at| at <= now) {
            (self.ingest, self.inbox, self.stopped) = (None, None, None);
        }
        if self.housekeeping.is_none_or(|at| at > now) {
            return;
        }
        self.housekeeping = None;
        let publisher = self.ingest.as_ref().map(|ingest| ingest.publisher()).or(self.publisher.as_ref());
        if let Some(reason) = publisher.and_then(Publisher::close_reason) {
            return self.unpublish(reason);
        }
        if let Some(ingest) = &mut self.ingest
            && ingest.publisher().keyframe_requested().now_or_never().is_some()
        {
            ingest.want_keyframes();
        }
        self.send_control(now);
    }

    /// Takes everything out of the session: bytes into the outbox, events to their places.
    fn drain(&mut self) {
        loop {
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
        if let Sink::Egress { attached, recalled: false } = &self.sink
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

    fn note_backlog(&mut self, now: Instant, progress: bool) {
        note(&mut self.error, self.session.handle_backlog(now, self.outbox.len(), progress));
    }

    fn handle_event(&mut self, event: ServerEvent) {
        let now = clock::now();
        match event {
            ServerEvent::Open { intent, target, proof } => {
                let credentials = self.credentials(&target, proof);
                // What is sent back goes with what is played.
                if self.session.presentation().is_none() {
                    self.make_keys();
                }
                // What begins anew does not share its end with what was before.
                if intent == Intent::Publish || self.stopped.is_some() {
                    (self.ingest, self.inbox, self.stopped) = (None, None, None);
                }
                match intent {
                    Intent::Publish => self.request_publish(&target, credentials),
                    Intent::Play => self.request_play(&target, Some(credentials), Decision::Open),
                }
            }
            ServerEvent::Group => self.reserve(now),
            ServerEvent::Play => self.begin_play(),
            ServerEvent::Record => self.begin_record(now),
            ServerEvent::Packet { medium, control, packet } => {
                self.handle_media(now, &Datagram { medium, control, packet });
            }
            ServerEvent::Paused => self.recall(),
            ServerEvent::Stopped => {
                self.recall();
                (self.subscription, self.publisher, self.group) = (None, None, None);
                self.guard = None;
                if self.inbox.is_none() {
                    self.ingest = None;
                }
                self.stopped = self.ingest.as_ref().map(|_| now + IN_FLIGHT);
                if self.stopped.is_none() {
                    // Nothing of it is on the way any more, and its ports are free for others.
                    self.inbox = None;
                }
            }
        }
    }

    /// Where nobody else reads the connection, keys can go over it.
    fn make_keys(&mut self) {
        if self.protocol == "rtsps"
            && let Ok(random) = random().map(Box::new)
        {
            self.session.set_keys(Keyring::new(random, NtpTime::from_system_time(SystemTime::now())));
        }
    }

    fn client(&self) -> ClientInfo {
        ClientInfo {
            protocol: self.protocol,
            remote: Some(self.remote),
            agent: self.session.agent().cloned(),
        }
    }

    fn credentials(&self, target: &Target, proof: Option<Proof>) -> Credentials {
        let mut credentials = Credentials::new(self.protocol).with_remote(self.remote);
        if let Some(query) = &target.query {
            credentials = credentials.with_query(&**query);
        }
        match (proof, &target.user) {
            (Some(Proof { authorization: Authorization::Basic(login), .. }), _) => {
                credentials.with_login(&*login.user, &*login.password)
            }
            (Some(Proof { method, authorization }), _) => {
                let user = authorization.user().to_owned();
                let proves = move |password: &str| authorization.proves(method.as_str(), password);
                credentials.with_proof(LoginProof::new(user, proves))
            }
            (None, Some((user, password))) => credentials.with_login(&**user, &**password),
            (None, None) => credentials,
        }
    }

    fn refuse(&mut self, now: Instant, error: &StreamError) {
        if error.reason() != CloseReason::Unauthorized {
            self.error.get_or_insert_with(|| error.to_string());
        }
        self.session.reject(now, error.reason());
    }
}

/// The media that travel in datagrams, and the client's ports.
fn datagram_media(agreed: impl Iterator<Item = (usize, Agreed)>) -> Vec<(usize, PortPair)> {
    let ports = |(at, agreed)| match agreed {
        Agreed::Udp(ports) => Some((at, ports)),
        Agreed::Tcp(..) | Agreed::Multicast(_) => None,
    };
    agreed.filter_map(ports).collect()
}

fn note(slot: &mut Option<String>, result: core::result::Result<(), crate::SessionError>) {
    if let Err(error) = result {
        slot.get_or_insert_with(|| error.to_string());
    }
}
