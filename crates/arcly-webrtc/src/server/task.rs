//! The task of one session: drives the machine, and brings it together with the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arcly_core::contract::observe::Observer;
use arcly_core::egress::udp::Burst;
use arcly_core::log::{Budget, Progress, Read};
use arcly_core::net::Admission;
use arcly_core::track::TrackMask;
use arcly_core::{ClientInfo, CloseReason, DerivedSubscriber, Publisher, StreamKey, clock};

use super::hub::{Arrival, Control, Ends, Entry, Hub, Opening};
use super::line::Lines;
use crate::media::{Packetizer, RtpFrame};
use crate::session::{Output, Published, SessionStats, Transport, Viewed, WhepSession, WhipSession};
use crate::wire::{Credentials, OfferError, Protocol, Role, TransportAddress};

/// Datagrams and frames that are handled before others have their turn.
const TURN: usize = 64;

/// How often others are shown what was counted.
const SHOW: Duration = Duration::from_secs(1);

/// A session that is to begin.
pub(crate) enum Side {
    /// A publisher, and the right that it has.
    Whip(Box<WhipSession>, Publisher),
    /// A viewer, and what it reads.
    Whep(Box<WhepSession>, Box<DerivedSubscriber<Packetizer>>),
}

impl Side {
    fn transport(&mut self) -> &mut Transport {
        match self {
            Self::Whip(session, _) => session.transport_mut(),
            Self::Whep(session, _) => session.transport_mut(),
        }
    }

    fn stats(&self) -> SessionStats {
        match self {
            Self::Whip(session, _) => session.stats(),
            Self::Whep(session, _) => session.stats(),
        }
    }

    const fn closed(&self) -> Option<CloseReason> {
        match self {
            Self::Whip(session, _) => session.closed(),
            Self::Whep(session, _) => session.closed(),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        match self {
            Self::Whip(session, _) => session.close(reason),
            Self::Whep(session, _) => session.close(reason),
        }
    }

    fn handle_datagram(&mut self, from: TransportAddress, datagram: &[u8]) {
        let now = clock::now();
        match self {
            Self::Whip(session, _) => session.handle_datagram(now, from, datagram),
            Self::Whep(session, _) => session.handle_datagram(now, from, datagram),
        }
    }

    fn handle_timeout(&mut self) {
        let now = clock::now();
        match self {
            Self::Whip(session, _) => session.handle_timeout(now),
            Self::Whep(session, _) => session.handle_timeout(now),
        }
    }
}

/// What a task has been told.
enum Activity {
    Datagram(Arrival),
    Control(Control),
    /// There is something to read.
    Ready,
    /// A reader of what is published needs a keyframe.
    KeyframeWanted(TrackMask),
    /// The right to publish is gone.
    Revoked(CloseReason),
    Timer,
    Shutdown,
}

pub(super) struct Task {
    hub: Arc<Hub>,
    entry: Arc<Entry>,
    ends: Ends,
    side: Side,
    /// Until the peer has connected.
    admission: Option<Admission>,
    burst: Burst,
    to: Option<SocketAddr>,
    lines: Lines,
    reading: bool,
    batch: Vec<Read<RtpFrame>>,
    /// When what is counted was shown to others last.
    shown: Instant,
}

impl Hub {
    /// Begins a session on the place that was kept for it.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub(crate) fn begin(
        self: &Arc<Self>,
        opening: Opening,
        (stream, client): (StreamKey, ClientInfo),
        mut side: Side,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Arc<Entry>> {
        let role = if matches!(side, Side::Whip(..)) { Role::Publisher } else { Role::Viewer };
        let fragment = side.transport().fragment().to_owned();
        let reader = match &side {
            Side::Whip(..) => None,
            Side::Whep(_, reader) => Some(reader.subscription().state().id),
        };
        let (entry, ends) = self.register((role, stream), (client, reader), &fragment)?;
        let task = Task {
            hub: Arc::clone(self),
            entry: Arc::clone(&entry),
            ends,
            side,
            admission: opening.into_admission(),
            burst: Burst::default(),
            to: None,
            lines: Lines::default(),
            reading: false,
            batch: Vec::new(),
            shown: clock::now(),
        };
        self.spawn(task, observer);
        Ok(entry)
    }
}

impl Task {
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Runs the session to its end, and says why it ended.
    pub(super) async fn run(mut self) -> CloseReason {
        let mut sleep = core::pin::pin!(tokio::time::sleep(Duration::ZERO));
        // Once, and not for each turn: it takes a place in a list that all sessions share.
        let mut shutdown = core::pin::pin!(self.hub.shutdown.clone().cancelled_owned());
        let reason = loop {
            let wake = self.drain().await;
            if clock::now().saturating_duration_since(self.shown) >= SHOW {
                self.show();
            }
            if let Some(reason) = self.side.closed() {
                break reason;
            }
            if sleep.deadline() != wake.into() {
                sleep.as_mut().reset(wake.into());
            }
            // Not biased: see `next`.
            let activity = tokio::select! {
                activity = next(&mut self.ends, &mut self.side, self.reading) => activity,
                () = &mut sleep => Activity::Timer,
                () = &mut shutdown => Activity::Shutdown,
            };
            self.handle(activity).await;
        };
        // What was said last, the good-bye, is on its way before anybody hears that it is over.
        self.drain().await;
        match &self.side {
            Side::Whip(_, publisher) if reason != CloseReason::PeerClosed => publisher.state().revoke(reason),
            Side::Whip(..) => {}
            Side::Whep(_, reader) => reader.subscription().state().end(reason),
        }
        let client = &self.entry.client;
        tracing::debug!(stream = %self.entry.stream, peer = %client, %reason, "a WebRTC session has ended");
        reason
    }

    /// Shows others what was counted.
    fn show(&mut self) {
        self.shown = clock::now();
        self.entry.state.lock().stats = self.side.stats();
    }

    async fn handle(&mut self, activity: Activity) {
        match activity {
            Activity::Datagram(arrival) => {
                self.take(arrival);
                for _ in 1..TURN {
                    let Ok(arrival) = self.ends.inbox.try_recv() else { break };
                    // A machine is asked for everything between two inputs.
                    self.drain().await;
                    self.take(arrival);
                }
            }
            Activity::Control(Control::Close) => self.side.close(CloseReason::PeerClosed),
            Activity::Control(Control::Restart(credentials, answer)) => {
                _ = answer.send(self.restart(credentials));
            }
            Activity::Ready => self.read().await,
            Activity::KeyframeWanted(tracks) => {
                if let Side::Whip(session, _) = &mut self.side {
                    session.request_keyframes(clock::now(), tracks);
                }
            }
            Activity::Revoked(reason) => self.side.close(reason),
            Activity::Timer => self.side.handle_timeout(),
            Activity::Shutdown => self.side.close(CloseReason::Shutdown),
        }
    }

    fn take(&mut self, Arrival { from, datagram, line }: Arrival) {
        if let Some(line) = line {
            // Another connection takes the place of one that is gone, and may be from the same port.
            while let Some(gone) = self.lines.take_closed() {
                self.side.transport().forget(TransportAddress::tcp(gone));
            }
            self.lines.arrive(from.socket, line);
        }
        self.side.handle_datagram(from, &datagram);
    }

    fn restart(&mut self, credentials: Credentials) -> Result<String, OfferError> {
        let transport = self.side.transport();
        let before = transport.sources().to_vec();
        let answer = transport.restart(clock::now(), credentials)?;
        let fragment = transport.fragment().to_owned();
        let gone = before.into_iter().filter(|source| !transport.sources().contains(source));
        self.hub.remove_sources(&self.entry, gone);
        self.hub.rename(&self.entry, &fragment);
        Ok(answer)
    }

    /// Takes everything out of the session: datagrams to the socket, events to their places. Says when it wants to be woken.
    async fn drain(&mut self) -> Instant {
        let before = self.side.transport().dropped();
        let wake = loop {
            let (to, datagram) = match self.poll() {
                Output::Transmit { to, datagram } => (to, datagram),
                Output::Event(()) => continue,
                Output::Wait(at) => break at,
            };
            if to.protocol == Protocol::Tcp {
                let lost = !self.lines.send(to.socket, datagram);
                self.hub.tally.unsent.fetch_add(lost.into(), Ordering::Relaxed);
                continue;
            }
            if self.to == Some(to.socket) && self.burst.push(&datagram) {
                continue;
            }
            self.flush().await;
            self.to = Some(to.socket);
            // An empty burst takes anything that a socket does.
            let _ = self.burst.push(&datagram);
        };
        self.flush().await;
        let dropped = self.side.transport().dropped().saturating_sub(before);
        self.hub.tally.dropped.fetch_add(dropped, Ordering::Relaxed);
        wake
    }

    async fn flush(&mut self) {
        let Some(to) = self.to.filter(|_| !self.burst.is_empty()) else { return };
        // A datagram that cannot be sent is one that is lost.
        if let Err(error) = self.hub.socket().send(self.hub.to_socket(to), &mut self.burst).await {
            tracing::trace!(%error, %to, "a datagram was not sent");
        }
    }

    fn poll(&mut self) -> Output<()> {
        let source = match &mut self.side {
            Side::Whip(session, publisher) => match session.poll_output() {
                Output::Transmit { to, datagram } => return Output::Transmit { to, datagram },
                Output::Wait(at) => return Output::Wait(at),
                Output::Event(Published::Source(source)) => Some(source),
                Output::Event(Published::Connected) => {
                    self.admission = None;
                    None
                }
                Output::Event(Published::Level(track, level)) => {
                    publisher.handle_level(track, level);
                    None
                }
                Output::Event(Published::Media(media)) => {
                    if let Err(error) = publisher.handle(media) {
                        session.close(error.reason());
                    }
                    None
                }
            },
            Side::Whep(session, reader) => match session.poll_output() {
                Output::Transmit { to, datagram } => return Output::Transmit { to, datagram },
                Output::Wait(at) => return Output::Wait(at),
                Output::Event(Viewed::Source(source)) => Some(source),
                Output::Event(Viewed::Connected) => {
                    self.admission = None;
                    self.reading = true;
                    let edge = reader.subscription().log().last().map(|frame| frame.dts);
                    session.join(clock::now(), edge);
                    None
                }
                Output::Event(Viewed::KeyframeRequest(tracks)) => {
                    self.hub.tally.keyframe_requests.fetch_add(1, Ordering::Relaxed);
                    reader.subscription().stream().request_keyframe_of(tracks);
                    None
                }
            },
        };
        match source {
            Some(TransportAddress { protocol: Protocol::Udp, socket }) => {
                self.hub.add_source(&self.entry, socket);
            }
            Some(TransportAddress { protocol: Protocol::Tcp, socket }) => self.lines.adopt(socket),
            None => {}
        }
        Output::Event(())
    }

    /// Sends what there is to read.
    async fn read(&mut self) {
        let Side::Whep(session, reader) = &mut self.side else { return };
        let mut batch = core::mem::take(&mut self.batch);
        let budget = Budget { items: TURN, ..Budget::default() };
        let progress = reader.read(budget, |read| batch.push(read));
        if let Ok(Progress::Ended(reason)) = progress {
            session.close(reason);
        }
        if let Err(error) = progress {
            session.close(error.reason());
        }
        for read in batch.drain(..) {
            let Side::Whep(session, reader) = &mut self.side else { break };
            match read {
                Read::Item(frame) => session.send(clock::now(), &frame),
                Read::Context(tracks) => match session.choose(&tracks) {
                    Ok((mask, silent)) => {
                        explain(&self.entry, mask, silent);
                        reader.set_tracks(mask);
                    }
                    Err(error) => {
                        tracing::info!(stream = %self.entry.stream, %error, "a WebRTC viewer cannot go on");
                        session.close(CloseReason::Unsupported);
                    }
                },
                Read::Skipped(_) => {}
            }
            self.drain().await;
        }
        self.batch = batch;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.show();
        let sources = self.side.transport().sources().to_vec();
        self.hub.remove(&self.entry, &sources);
    }
}

/// What a viewer does not hear.
fn explain(entry: &Entry, mask: TrackMask, silent: Option<arcly_core::CodecId>) {
    if let Some(codec) = silent {
        tracing::info!(
            stream = %entry.stream,
            tracks = ?mask,
            %codec,
            "a WebRTC viewer gets no sound: it does not know the codec, and nobody makes another of it; publish Opus"
        );
    }
}

/// The next thing that happens. Of several that have happened any is taken, so that none keeps the others waiting for ever: what a peer
/// sends without a break neither keeps a viewer from being sent to, nor commands from being obeyed. Cancel safe, as all of it is: what
/// is not taken now is there the next time.
async fn next(ends: &mut Ends, side: &mut Side, reading: bool) -> Activity {
    let inside = async {
        match side {
            Side::Whip(_, publisher) => tokio::select! {
                reason = publisher.revoked() => Activity::Revoked(reason),
                tracks = publisher.keyframe_requested_of() => Activity::KeyframeWanted(tracks),
            },
            Side::Whep(_, reader) if reading => {
                reader.ready().await;
                Activity::Ready
            }
            Side::Whep(_, reader) => {
                let state = Arc::clone(reader.subscription().state());
                Activity::Revoked(state.ended().await)
            }
        }
    };
    tokio::select! {
        Some(control) = ends.control.recv() => Activity::Control(control),
        Some(arrival) = ends.inbox.recv() => Activity::Datagram(arrival),
        activity = inside => activity,
    }
}
