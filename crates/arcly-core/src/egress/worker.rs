use core::any::{Any, TypeId};
use core::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::desk::{Counts, Desk, Gauges};
use super::tick::{Load, Tick};
use crate::clock;
use crate::close::CloseReason;

/// How often stalled sockets are looked for and counts are settled.
const SWEEP: Duration = Duration::from_secs(1);
/// Messages taken in one round.
const MESSAGES: usize = 1_024;
/// What is done in one round before what came in meanwhile is seen, and other tasks run.
const ROUND_TURNS: usize = 128;
const ROUND_WRITES: u64 = 256;
const ROUND_BYTES: u64 = 4 << 20;
/// Readers that have had nothing yet, before one that has had something goes on.
const JOINS: usize = 4;
/// Rounds in a row after which other tasks run, however short the rounds are.
const ROUNDS: u32 = 32;

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

/// When a group wants its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As soon as the others have had theirs.
    Turn,
    /// At an instant.
    At(Instant),
    /// When it is woken.
    Woken,
}

/// A group whose format and socket type do not matter to the worker.
pub(super) trait AnyGroup: Send {
    /// There is something new in the log.
    fn woken(&mut self, desk: &mut Desk) -> Next;
    /// Whether that is the instant it waits for.
    fn waits_for(&self, at: Instant) -> bool;
    /// Delivers a bounded piece of what there is.
    fn turn(&mut self, desk: &mut Desk) -> Next;
    /// An outlet's socket has room, or its time has come.
    fn outlet_woken(&mut self, outlet: usize, desk: &mut Desk);
    /// The turn of an outlet that goes its own way.
    fn errand(&mut self, outlet: usize, desk: &mut Desk);
    fn control(&mut self, outlet: usize, control: Control, desk: &mut Desk);
    fn sweep(&mut self, desk: &mut Desk);
    fn is_empty(&self) -> bool;
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What makes a group: the log it reads, the format and kind of socket, the tick.
pub(super) type GroupKey = (usize, TypeId, Tick);

struct Place {
    key: GroupKey,
    group: Box<dyn AnyGroup>,
    /// It waits for its turn.
    queued: bool,
}

/// One worker: the groups it serves, and who sits where.
///
/// Groups have their turns one after the other, and readers that go their own way (who join, or whose sockets were
/// full) have theirs in between, so that neither a stream with many readers nor a thousand joins hold up the rest.
pub(super) struct Worker {
    inbox: mpsc::UnboundedSender<Message>,
    groups: Vec<Option<Place>>,
    by_key: HashMap<GroupKey, usize>,
    seats: HashMap<u64, (usize, usize)>,
    /// Groups that wait for their turn.
    queue: VecDeque<usize>,
    /// Ticks of groups, and of outlets that are paced. What does not hold any more is passed over.
    timers: BinaryHeap<Reverse<(Instant, usize, Option<usize>)>>,
    desk: Desk,
    load: Load,
    gauges: Arc<Gauges>,
    swept: Instant,
    swept_counts: Counts,
}

impl Worker {
    pub(super) fn new(inbox: mpsc::UnboundedSender<Message>, gauges: Arc<Gauges>, now: Instant) -> Self {
        Self {
            inbox,
            groups: Vec::new(),
            by_key: HashMap::new(),
            seats: HashMap::new(),
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            desk: Desk::new(now),
            load: Load::new(now),
            gauges,
            swept: now,
            swept_counts: Counts::default(),
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
        let made = Some(Place { key, group: make(id), queued: false });
        match self.groups.get_mut(id) {
            Some(place) => *place = made,
            None => self.groups.push(made),
        }
        self.by_key.insert(key, id);
        // Its first turn leaves its waker with the log.
        self.enqueue(id);
        id
    }

    pub(super) fn with_group<G: 'static, R>(
        &mut self,
        id: usize,
        act: impl FnOnce(&mut G, &mut Desk) -> R,
    ) -> Option<R> {
        let place = self.groups.get_mut(id)?.as_mut()?;
        let group = place.group.as_any().downcast_mut::<G>()?;
        Some(act(group, &mut self.desk))
    }

    /// Remembers where a reader sits.
    pub(super) fn admit(&mut self, ticket: u64, group: usize, seat: usize) {
        self.seats.insert(ticket, (group, seat));
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        stop: CancellationToken,
    ) {
        let mut received = Vec::with_capacity(MESSAGES);
        let mut stopped = core::pin::pin!(stop.cancelled());
        let mut sleep = core::pin::pin!(tokio::time::sleep_until(self.swept.into()));
        let (mut rounds, mut armed) = (0, None);
        loop {
            rounds += 1;
            if self.is_busy() || rounds >= ROUNDS {
                rounds = 0;
                tokio::task::yield_now().await;
            }
            let due = self.due();
            if armed != Some(due) {
                sleep.as_mut().reset(due.into());
                armed = Some(due);
            }
            let busy = self.is_busy();
            self.desk.counts.wakes += u64::from(!busy);
            tokio::select! {
                biased;
                () = &mut stopped => return,
                count = messages.recv_many(&mut received, MESSAGES) => if count == 0 { return },
                () = &mut sleep => armed = None,
                () = core::future::ready(()), if busy => {}
            }
            self.round(&mut received);
        }
    }

    fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.desk.errands.is_empty() || !self.desk.joins.is_empty()
    }

    /// The next instant at which there is something to do. Nobody is woken for what a group does not wait for any more.
    fn due(&mut self) -> Instant {
        while let Some(&Reverse((at, id, None))) = self.timers.peek()
            && !self.waits_for(id, at)
        {
            self.timers.pop();
        }
        let sweep = self.swept + SWEEP;
        self.timers.peek().map_or(sweep, |Reverse((at, ..))| sweep.min(*at))
    }

    fn waits_for(&self, id: usize, at: Instant) -> bool {
        let place = self.groups.get(id).and_then(Option::as_ref);
        place.is_some_and(|place| place.group.waits_for(at))
    }

    fn round(&mut self, messages: &mut Vec<Message>) {
        let from = clock::now();
        self.desk.begin_turn(from);
        messages.drain(..).for_each(|message| self.handle(message));
        let late = self.fire(from);
        self.turns();
        if from >= self.swept + SWEEP {
            self.sweep(from);
        }
        let alarms = self.desk.alarms.drain(..);
        self.timers.extend(alarms.map(|(at, (group, outlet))| Reverse((at, group, Some(outlet)))));
        self.forget_ended();
        let level = self.load.note(from, clock::now(), late, self.desk.beat.level);
        let level = if self.gauges.is_steady.load(Ordering::Relaxed) { 0 } else { level };
        self.desk.beat.level = level;
        self.gauges.show(&self.desk.counts, level);
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Attach(attach) => attach(self),
            Message::Ready(id, None) => {
                let next = self.on_group(id, |group, desk| group.woken(desk));
                self.plan(id, next);
            }
            Message::Ready(id, Some(outlet)) => {
                self.on_group(id, |group, desk| group.outlet_woken(outlet, desk));
            }
            Message::Control(ticket, control) => {
                if let Some(&(id, seat)) = self.seats.get(&ticket) {
                    self.on_group(id, |group, desk| group.control(seat, control, desk));
                }
            }
        }
    }

    /// Takes note of everything whose time has come. Returns how late the first of it is.
    fn fire(&mut self, now: Instant) -> Duration {
        let mut late = Duration::ZERO;
        while let Some(&Reverse((at, id, outlet))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            match outlet {
                Some(outlet) => {
                    self.on_group(id, |group, desk| group.outlet_woken(outlet, desk));
                }
                None => {
                    if self.waits_for(id, at) {
                        late = late.max(now.saturating_duration_since(at));
                        self.enqueue(id);
                    }
                }
            }
        }
        late
    }

    fn turns(&mut self) {
        let (writes, bytes) = (self.desk.counts.writes + ROUND_WRITES, self.desk.counts.bytes + ROUND_BYTES);
        for turn in 0..ROUND_TURNS {
            let counts = &self.desk.counts;
            if !self.is_busy() || counts.writes >= writes || counts.bytes >= bytes {
                break;
            }
            if turn > 0 {
                self.desk.begin_turn(clock::now());
            }
            self.turn();
            (0..JOINS).for_each(|_| self.join());
            self.errand();
        }
    }

    /// The turn of the group that has waited longest.
    fn turn(&mut self) {
        let Some(id) = self.queue.pop_front() else { return };
        if let Some(place) = self.groups.get_mut(id).and_then(Option::as_mut) {
            place.queued = false;
        }
        let next = self.on_group(id, |group, desk| group.turn(desk));
        self.plan(id, next);
    }

    /// The first turn of a reader, which is short.
    fn join(&mut self) {
        let Some((id, outlet)) = self.desk.joins.pop_front() else { return };
        self.desk.begin_first_turn(self.desk.now);
        self.on_group(id, |group, desk| group.errand(outlet, desk));
    }

    /// The turn of the reader that goes its own way and has waited longest.
    fn errand(&mut self) {
        let Some((id, outlet)) = self.desk.errands.pop_front() else { return };
        self.desk.begin_turn(self.desk.now);
        self.on_group(id, |group, desk| group.errand(outlet, desk));
    }

    fn plan(&mut self, id: usize, next: Option<Next>) {
        match next {
            Some(Next::Turn) => self.enqueue(id),
            Some(Next::At(at)) => self.timers.push(Reverse((at, id, None))),
            Some(Next::Woken) | None => {}
        }
    }

    fn enqueue(&mut self, id: usize) {
        if let Some(place) = self.groups.get_mut(id).and_then(Option::as_mut)
            && !core::mem::replace(&mut place.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    fn on_group<R>(&mut self, id: usize, act: impl FnOnce(&mut dyn AnyGroup, &mut Desk) -> R) -> Option<R> {
        let place = self.groups.get_mut(id)?.as_mut()?;
        Some(act(place.group.as_mut(), &mut self.desk))
    }

    fn sweep(&mut self, now: Instant) {
        // A machine that stood still, or had no core for this, is no reader's fault.
        self.desk.stood_still = now.saturating_duration_since(self.swept + SWEEP);
        for place in self.groups.iter_mut().flatten() {
            place.group.sweep(&mut self.desk);
        }
        let (counts, before) = (self.desk.counts, self.swept_counts);
        let millis = now.saturating_duration_since(self.swept).as_millis().max(1);
        self.gauges.measured.note(counts.bytes - before.bytes, counts.writes - before.writes, millis);
        self.gauges.fresh.store(0, Ordering::Relaxed);
        (self.swept, self.swept_counts) = (now, counts);
    }

    /// Forgets readers that have ended, and groups without readers.
    fn forget_ended(&mut self) {
        while let Some(ticket) = self.desk.ended.pop() {
            let Some((id, _)) = self.seats.remove(&ticket) else { continue };
            self.gauges.readers.fetch_sub(1, Ordering::Relaxed);
            let Some(place) = self.groups.get_mut(id) else { continue };
            if let Some(Place { key, .. }) = place.take_if(|place| place.group.is_empty()) {
                self.by_key.remove(&key);
            }
        }
    }
}
