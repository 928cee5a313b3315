use core::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::close::CloseReason;

/// How often stalled sockets are looked for and counts are settled.
const SWEEP: Duration = Duration::from_secs(1);
/// Messages taken in one round.
const ROUND: usize = 1_024;

/// What a session wants of its reader.
#[derive(Debug)]
pub(super) enum Control {
    Send(Bytes),
    Detach(CloseReason),
}

/// What a worker is told.
pub(super) enum Message {
    /// A group has something new, or one of its outlets room.
    Ready(usize, Option<usize>),
    Attach(Box<dyn FnOnce(&mut Worker) + Send>),
    Control(u64, Control),
}

/// A group whose format and socket type do not matter to the worker.
pub(super) trait AnyGroup: Send {
    /// Takes note that the signal was seen; whatever raises it from now on is new.
    fn lower(&self, outlet: Option<usize>);
    /// Delivers one batch. True when there may be more.
    fn run(&mut self, now: Instant, ended: &mut Vec<u64>) -> bool;
    fn advance(&mut self, outlet: usize, now: Instant, ended: &mut Vec<u64>);
    fn advance_all(&mut self, now: Instant, ended: &mut Vec<u64>);
    fn control(&mut self, outlet: usize, control: Control, now: Instant, ended: &mut Vec<u64>);
    fn sweep(&mut self, now: Instant, ended: &mut Vec<u64>);
    fn next_paced(&mut self) -> Option<Instant>;
    fn advance_paced(&mut self, now: Instant, ended: &mut Vec<u64>);
    fn is_empty(&self) -> bool;
    fn as_any(&mut self) -> &mut dyn Any;
}

type GroupKey = (usize, TypeId);

/// One worker: the groups it serves, and who sits where.
pub(super) struct Worker {
    inbox: mpsc::UnboundedSender<Message>,
    groups: Vec<Option<(GroupKey, Box<dyn AnyGroup>)>>,
    by_key: HashMap<GroupKey, usize>,
    seats: HashMap<u64, (usize, usize)>,
    readers: Arc<AtomicUsize>,
    /// Groups that had more to deliver than one batch.
    unfinished: Vec<usize>,
    /// Tickets of readers that have ended.
    ended: Vec<u64>,
}

impl Worker {
    pub(super) fn new(inbox: mpsc::UnboundedSender<Message>, readers: Arc<AtomicUsize>) -> Self {
        Self {
            inbox,
            groups: Vec::new(),
            by_key: HashMap::new(),
            seats: HashMap::new(),
            readers,
            unfinished: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub(super) fn inbox(&self) -> mpsc::UnboundedSender<Message> {
        self.inbox.clone()
    }

    /// The group of that key, made if there is none.
    pub(super) fn group(&mut self, key: GroupKey, make: impl FnOnce(usize) -> Box<dyn AnyGroup>) -> usize {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        let group = Some((key, make(id)));
        match self.groups.get_mut(id) {
            Some(place) => *place = group,
            None => self.groups.push(group),
        }
        self.by_key.insert(key, id);
        id
    }

    pub(super) fn with_group<G: 'static, R>(
        &mut self,
        id: usize,
        act: impl FnOnce(&mut G) -> R,
    ) -> Option<R> {
        let (_, group) = self.groups.get_mut(id)?.as_mut()?;
        group.as_any().downcast_mut::<G>().map(act)
    }

    /// Remembers where a reader sits, and sends it what is there.
    pub(super) fn admit(&mut self, ticket: u64, group: usize, seat: usize) {
        self.seats.insert(ticket, (group, seat));
        let now = clock::now();
        self.on_group(group, |group, ended| {
            group.advance(seat, now, ended);
            // The first outlet of a group: nobody has left the group's waker with the log yet.
            while group.run(now, ended) {}
        });
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        stop: CancellationToken,
    ) {
        let mut round = Vec::with_capacity(ROUND);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let paced = self.next_paced();
            let busy = !self.unfinished.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.sweep(),
                received = messages.recv_many(&mut round, ROUND) => {
                    if received == 0 {
                        return;
                    }
                    round.drain(..).for_each(|message| self.handle(message));
                }
                () = tokio::task::yield_now(), if busy => {}
                () = tokio::time::sleep_until(paced.unwrap_or_else(clock::now).into()), if paced.is_some() => {
                    self.advance_paced();
                }
            }
            self.go_on();
            self.forget_ended();
            tokio::task::yield_now().await;
        }
    }

    fn handle(&mut self, message: Message) {
        let now = clock::now();
        match message {
            Message::Attach(attach) => attach(self),
            Message::Ready(group, outlet) => {
                let more = self.on_group(group, |group, ended| {
                    group.lower(outlet);
                    match outlet {
                        Some(outlet) => {
                            group.advance(outlet, now, ended);
                            false
                        }
                        None => group.run(now, ended),
                    }
                });
                if more == Some(true) && !self.unfinished.contains(&group) {
                    self.unfinished.push(group);
                }
            }
            Message::Control(ticket, control) => {
                if let Some(&(group, seat)) = self.seats.get(&ticket) {
                    self.on_group(group, |group, ended| group.control(seat, control, now, ended));
                }
            }
        }
    }

    /// One more batch for every group that had more, so that a busy stream shares the worker with the others.
    fn go_on(&mut self) {
        let now = clock::now();
        for id in core::mem::take(&mut self.unfinished) {
            if self.on_group(id, |group, ended| group.run(now, ended)) == Some(true) {
                self.unfinished.push(id);
            }
        }
    }

    fn on_group<R>(
        &mut self,
        id: usize,
        act: impl FnOnce(&mut dyn AnyGroup, &mut Vec<u64>) -> R,
    ) -> Option<R> {
        let (_, group) = self.groups.get_mut(id)?.as_mut()?;
        Some(act(group.as_mut(), &mut self.ended))
    }

    fn sweep(&mut self) {
        let now = clock::now();
        for (_, group) in self.groups.iter_mut().flatten() {
            group.sweep(now, &mut self.ended);
        }
    }

    fn next_paced(&mut self) -> Option<Instant> {
        self.groups.iter_mut().flatten().filter_map(|(_, group)| group.next_paced()).min()
    }

    fn advance_paced(&mut self) {
        let now = clock::now();
        for (_, group) in self.groups.iter_mut().flatten() {
            group.advance_paced(now, &mut self.ended);
        }
    }

    /// Forgets readers that have ended, and groups without readers.
    fn forget_ended(&mut self) {
        for ticket in core::mem::take(&mut self.ended) {
            let Some((id, _)) = self.seats.remove(&ticket) else { continue };
            self.readers.fetch_sub(1, Ordering::Relaxed);
            let Some(place) = self.groups.get_mut(id) else { continue };
            if let Some((key, _)) = place.take_if(|(_, group)| group.is_empty()) {
                self.by_key.remove(&key);
            }
        }
    }
}
