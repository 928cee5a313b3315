//! The task that drives a socket: datagrams to their connections, deadlines, bursts.

mod attention;
mod groups;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use arcly_core::CloseReason;
use arcly_core::egress::udp::{Burst, RECEIVE_BYTES, UdpSocket};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::attention::Attention;
use super::bonds::{Asked, Bonds};
use super::ids::BySocket;
use super::slot::{Outgoing, Route, Slot};
use super::timers::Timers;
use super::watch::SocketStatistics;
use super::{Opened, os_entropy};
use crate::config::Config;
use crate::error::SessionError;
use crate::session::{Connection, Endpoint, Listener, Request, Statistics, Totals, Verdict};
use crate::wire::{GroupKind, RejectReason, SeqNumber, SocketId, destination};

/// How much of what the kernel hands over is taken with one call.
const RECEIVE: usize = 16;
/// Commands that are carried out between two looks at the network.
const COMMANDS: usize = 256;
/// Errors in a row after which a socket is given up.
const MAX_ERRORS: u32 = 64;

/// How a connection is opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Call,
    Rendezvous,
}

/// Somebody at the door.
#[derive(Debug)]
pub(super) enum Knock {
    /// To be decided on.
    Request(Box<Request>),
    /// Refused for what it sent.
    Refused(SocketAddr, CloseReason),
}

/// What is counted of a socket.
#[derive(Debug, Default)]
struct Counted {
    /// Of connections that are over.
    totals: Totals,
    /// Datagrams that were passed over, by reason.
    ignored: BTreeMap<&'static str, u64>,
}

impl Counted {
    fn ignore(&mut self, why: &'static str) {
        let count = self.ignored.entry(why).or_default();
        *count = count.saturating_add(1);
    }
}

/// What handles want.
#[derive(Debug)]
pub(super) enum Command {
    Open {
        how: How,
        remote: SocketAddr,
        config: Box<Config>,
        done: Opened,
    },
    Bond {
        kind: GroupKind,
        paths: Vec<(SocketAddr, u16)>,
        config: Box<Config>,
        done: Opened,
    },
    Accept {
        request: Box<Request>,
        config: Box<Config>,
        done: Opened,
    },
    Reject {
        request: Box<Request>,
        reason: RejectReason,
    },
    /// There is something in an outbox, or room in an inbox again.
    Look(SocketId),
    Statistics {
        id: SocketId,
        answer: oneshot::Sender<Box<Statistics>>,
    },
    /// What has been counted of everything.
    Watch(oneshot::Sender<Box<SocketStatistics>>),
    Close(SocketId),
}

pub(super) struct Driver {
    socket: UdpSocket,
    listener: Option<Listener>,
    commands: mpsc::UnboundedReceiver<Command>,
    requests: mpsc::Sender<Knock>,
    slots: BySocket<Slot>,
    /// The groups that connections are members of: the group's slot, by the member's socket id.
    members: BySocket<SocketId>,
    bonds: Bonds,
    /// Rendezvous that are being made, by the address of the peer: its first packets name no socket.
    meetings: HashMap<SocketAddr, SocketId>,
    timers: Timers,
    attention: Attention,
    /// Slots to which something has happened, and that were not asked yet what comes of it: once for all that the kernel hands over
    /// at once.
    touched: VecDeque<SocketId>,
    outgoing: Outgoing,
    burst: Burst,
    counted: Counted,
    errors: u32,
}

impl Driver {
    pub(super) fn new(
        socket: UdpSocket,
        listener: Option<Listener>,
        commands: mpsc::UnboundedReceiver<Command>,
        requests: mpsc::Sender<Knock>,
    ) -> Self {
        Self {
            socket,
            listener,
            commands,
            requests,
            slots: BySocket::default(),
            members: BySocket::default(),
            bonds: Bonds::default(),
            meetings: HashMap::new(),
            timers: Timers::default(),
            attention: Attention::default(),
            touched: VecDeque::new(),
            outgoing: Vec::new(),
            burst: Burst::default(),
            counted: Counted::default(),
            errors: 0,
        }
    }

    /// Runs until every handle is dropped, or the socket fails.
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; RECEIVE * RECEIVE_BYTES];
        let (mut received, mut commands) = (Vec::new(), Vec::new());
        loop {
            let pause = self.attention.pause(Instant::now());
            let deadline = self.timers.next().into_iter().chain(pause).min();
            let take =
                |from, to, datagram: &[u8]| received.push((from, to, Bytes::copy_from_slice(datagram)));
            let result = tokio::select! {
                result = self.socket.recv_many(&mut buffer, take) => result,
                count = self.commands.recv_many(&mut commands, COMMANDS), if pause.is_none() => match count {
                    0 => break,
                    _ => Ok(()),
                },
                () = sleep_until(deadline) => Ok(()),
            };
            if self.has_failed(result) {
                break;
            }
            let now = Instant::now();
            for (remote, source, datagram) in received.drain(..) {
                self.handle_datagram(now, Route { source, remote }, datagram);
            }
            if !commands.is_empty() {
                self.attention.heard(now);
            }
            commands.drain(..).for_each(|command| self.handle_command(now, command));
            self.handle_timeouts(now);
            self.settle_touched(now);
            self.flush().await;
        }
        self.close().await;
    }

    /// What one datagram could not be received for may pass; a socket that does nothing else is gone.
    fn has_failed(&mut self, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => self.errors = 0,
            Err(error) => {
                tracing::debug!(%error, "receiving over SRT");
                self.errors = self.errors.saturating_add(1);
            }
        }
        self.errors >= MAX_ERRORS
    }

    fn handle_datagram(&mut self, now: Instant, from: Route, datagram: Bytes) {
        let Some(to) = destination(&datagram) else { return self.counted.ignore("short") };
        let meeting = (to == SocketId::HANDSHAKE).then(|| self.meetings.get(&from.remote)).flatten();
        let id = meeting.copied().unwrap_or(to);
        match self.slot(id) {
            Some(slot) if slot.carrier.is_from(id, from.remote) => self.drive(now, id, from.source, datagram),
            Some(_) => self.counted.ignore("source"),
            None => self.handle_stranger(now, from, &datagram),
        }
    }

    fn handle_stranger(&mut self, now: Instant, from: Route, datagram: &Bytes) {
        let Some(listener) = &mut self.listener else { return self.counted.ignore("no connection") };
        match listener.handle_datagram(now, from.remote, datagram) {
            Verdict::Ignored(why) => self.counted.ignore(why),
            Verdict::Refused { reason, answer } => {
                self.outgoing.push((from, answer));
                // Where nobody looks at callers any more, nobody wants to hear of this one.
                _ = self.requests.try_send(Knock::Refused(from.remote, reason));
            }
            Verdict::Reply(answer) => self.outgoing.push((from, answer)),
            Verdict::Repeated(id) => self.drive(now, id, from.source, datagram.clone()),
            Verdict::Request(mut request) => {
                request.local_ip = from.source;
                self.handle_request(now, request);
            }
        }
    }

    /// Somebody wants to connect: to a group that is there, or that is being decided on, or anew.
    fn handle_request(&mut self, now: Instant, request: Box<Request>) {
        match self.bonds.ask(request) {
            Asked::Anew(request) => {
                let (knock, reason) = match self.requests.try_send(Knock::Request(request)) {
                    Ok(()) => return,
                    Err(mpsc::error::TrySendError::Full(knock)) => (knock, RejectReason::BACKLOG),
                    Err(mpsc::error::TrySendError::Closed(knock)) => (knock, RejectReason::CLOSE),
                };
                if let Knock::Request(request) = knock {
                    self.reject(now, *request, reason);
                }
            }
            Asked::Join(group, request) => _ = self.join(now, group, *request),
            Asked::Wait => {}
            Asked::Refused(request) => self.reject_one(now, *request, RejectReason::GROUP),
        }
    }

    /// The slot of a connection, or of the group that it is a member of.
    fn slot(&self, id: SocketId) -> Option<&Slot> {
        self.slots.get(self.members.get(&id).unwrap_or(&id))
    }

    fn drive(&mut self, now: Instant, id: SocketId, source: Option<IpAddr>, datagram: Bytes) {
        let slot = self.members.get(&id).copied().unwrap_or(id);
        self.with(now, slot, |slot| {
            slot.set_source(id, source);
            slot.carrier.handle_datagram(now, id, datagram)
        });
    }

    /// Does something to a connection, and looks into what comes of it: at once when that is its end, otherwise when everything
    /// else that has come has been handed over.
    fn with(
        &mut self,
        now: Instant,
        id: SocketId,
        input: impl FnOnce(&mut Slot) -> Result<(), SessionError>,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match input(slot) {
            Ok(()) if !slot.touched => {
                slot.touched = true;
                self.touched.push_back(id);
            }
            Ok(()) => {}
            Err(error) => self.settle(now, id, Some(error)),
        }
    }

    fn settle_touched(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop_front() {
            self.settle(now, id, None);
        }
    }

    /// Hands on what a connection has to say, and takes it out once it is over.
    fn settle(&mut self, now: Instant, id: SocketId, error: Option<SessionError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.touched = false;
        slot.pump(now, &mut self.outgoing);
        if let Some(wake) = slot.wake {
            self.timers.schedule(id, wake, &mut slot.scheduled);
        }
        let (over, wanted) = (slot.carrier.is_over(), std::mem::take(&mut slot.wanted));
        if let Some(group) = slot.carrier.group() {
            let departed = group.take_departed();
            departed.iter().for_each(|connection| slot.forget_source(connection.local_id()));
            self.forget(now, departed);
        }
        if let Some(error) = error.or_else(|| over.then_some(SessionError::Closed)) {
            self.end(now, id, error);
        } else {
            wanted.into_iter().for_each(|remote| self.call_path(now, id, remote));
        }
    }

    fn end(&mut self, now: Instant, id: SocketId, error: SessionError) {
        let Some(slot) = self.slots.remove(&id) else { return };
        if self.meetings.get(&slot.remote) == Some(&id) {
            self.meetings.remove(&slot.remote);
        }
        self.bonds.end(id);
        let departed = slot.finish(error);
        self.forget(now, departed);
    }

    /// These connections are over.
    fn forget(&mut self, now: Instant, departed: Vec<Connection>) {
        for connection in departed {
            self.members.remove(&connection.local_id());
            self.counted.totals += connection.statistics(now).totals;
            if let Some(listener) = &mut self.listener {
                listener.forget(now, &connection);
            }
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Open { how, remote, config, done } => self.open(now, how, (remote, *config), done),
            Command::Bond { kind, paths, config, done } => self.bond(now, kind, (&paths, *config), done),
            Command::Accept { request, config, done } => self.accept(now, (*request, *config), done),
            Command::Reject { request, reason } => self.reject(now, *request, reason),
            Command::Look(id) => self.with(now, id, |slot| {
                slot.heard();
                Ok(())
            }),
            Command::Statistics { id, answer } => {
                if let Some(slot) = self.slots.get(&id) {
                    _ = answer.send(Box::new(slot.carrier.statistics(now)));
                }
            }
            Command::Watch(answer) => _ = answer.send(Box::new(self.statistics(now))),
            Command::Close(id) => self.with(now, id, |slot| {
                slot.close();
                Ok(())
            }),
        }
    }

    fn statistics(&self, now: Instant) -> SocketStatistics {
        let connected = || self.slots.iter().filter(|(_, slot)| slot.carrier.negotiated().is_some());
        let each = connected().map(|(id, slot)| (*id, slot.carrier.statistics(now))).collect();
        let mut totals = self.counted.totals;
        connected().for_each(|(_, slot)| totals += slot.carrier.totals(now));
        SocketStatistics { totals, ignored: self.counted.ignored.clone(), each }
    }

    fn open(&mut self, now: Instant, how: How, (remote, config): (SocketAddr, Config), done: Opened) {
        let endpoint = Endpoint { remote, local: self.free_id(), initial_seq: random_seq() };
        let connection = match how {
            How::Call => Connection::connect(now, endpoint, config, os_entropy()),
            How::Rendezvous => Connection::rendezvous(now, endpoint, config, os_entropy()),
        };
        match connection {
            Ok(connection) => {
                if matches!(how, How::Rendezvous) {
                    self.meetings.insert(remote, endpoint.local);
                }
                self.insert(now, Slot::calling(connection, done));
            }
            Err(error) => _ = done.send(Err(error)),
        }
    }

    fn accept(&mut self, now: Instant, (request, config): (Request, Config), done: Opened) {
        if let Some(asked) = request.group {
            return self.accept_group(now, asked, (request, config), done);
        }
        let (id, route) = (self.free_id(), route_of(&request));
        let Some(listener) = &mut self.listener else { return };
        match listener.accept(now, request, id, config, os_entropy()) {
            Ok(connection) => {
                let mut slot = Slot::calling(connection, done);
                slot.set_source(id, route.source);
                self.insert(now, slot);
            }
            Err((reason, answer)) => {
                self.outgoing.push((route, answer));
                _ = done.send(Err(SessionError::Refused(reason)));
            }
        }
    }

    fn insert(&mut self, now: Instant, slot: Slot) {
        let id = slot.id;
        self.slots.insert(id, slot);
        self.with(now, id, |_| Ok(()));
    }

    fn reject(&mut self, now: Instant, request: Request, reason: RejectReason) {
        let group = request.group;
        self.reject_one(now, request, reason);
        for other in group.map(|group| self.bonds.refuse(group.id)).unwrap_or_default() {
            self.reject_one(now, other, reason);
        }
    }

    fn reject_one(&mut self, now: Instant, request: Request, reason: RejectReason) {
        let route = route_of(&request);
        if let Some(listener) = &mut self.listener {
            let answer = listener.reject(now, request, reason);
            self.outgoing.push((route, answer));
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        // Each entry once: a machine that wants to be woken at once again lets others go first.
        for _ in 0..self.timers.len() {
            let Some((at, id)) = self.timers.pop_due(now) else { return };
            self.with(now, id, |slot| {
                if slot.scheduled == Some(at) {
                    slot.scheduled = None;
                }
                match slot.wake {
                    Some(wake) if wake <= now => slot.carrier.handle_timeout(now),
                    _ => Ok(()),
                }
            });
        }
    }

    /// Sends what there is: what is for one peer and fits together in one call.
    async fn flush(&mut self) {
        let Self { socket, outgoing, burst, .. } = self;
        let mut to = None;
        for (route, datagram) in outgoing.drain(..) {
            if to == Some(route) && burst.push(&datagram) {
                continue;
            }
            send(socket, to, burst).await;
            to = Some(route);
            // An empty burst takes every datagram that is not empty.
            _ = burst.push(&datagram);
        }
        send(socket, to, burst).await;
    }

    /// Says goodbye to everybody.
    async fn close(&mut self) {
        let now = Instant::now();
        let ids: Vec<SocketId> = self.slots.keys().copied().collect();
        for id in ids {
            self.with(now, id, |slot| {
                slot.carrier.close(now);
                Ok(())
            });
            self.settle(now, id, Some(SessionError::Closed));
        }
        self.flush().await;
    }

    /// A socket id that is in nobody's use.
    fn free_id(&self) -> SocketId {
        loop {
            // libsrt keeps the upper two bits for itself.
            let id = SocketId(random() & 0x3FFF_FFFF);
            let is_taken = self.slots.contains_key(&id) || self.members.contains_key(&id);
            if id != SocketId::HANDSHAKE && !is_taken {
                return id;
            }
        }
    }
}

/// Where a request came from, and to.
const fn route_of(request: &Request) -> Route {
    Route { source: request.local_ip, remote: request.remote }
}

async fn send(socket: &UdpSocket, to: Option<Route>, burst: &mut Burst) {
    let Some(Route { source, remote }) = to else { return };
    burst.set_source(source);
    while !burst.is_empty() {
        // What cannot be sent is lost, as it could be on the way.
        if let Err(error) = socket.send(remote, burst).await {
            tracing::debug!(%remote, %error, "sending over SRT");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    os_entropy().fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

fn random_seq() -> SeqNumber {
    SeqNumber::new(random())
}
