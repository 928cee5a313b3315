use core::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::outlet::{Outcome, Outlet};
use super::worker::{AnyGroup, Control, Message, Worker};
use crate::close::CloseReason;
use crate::derived::{DerivedCursor, Packet, Packetizer};
use crate::log::{Batch, LagPolicy, StartMode};

/// Bytes of one batch. Small enough that a reader takes it in one write, and that one stream does not hold the
/// worker for long.
const BATCH: usize = 256 << 10;

/// Tells the worker that a group has something new, or an outlet's socket room; at most once until it looks.
struct Signal {
    inbox: mpsc::UnboundedSender<Message>,
    group: usize,
    outlet: Option<usize>,
    raised: Arc<AtomicBool>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            let _ = self.inbox.send(Message::Ready(self.group, self.outlet));
        }
    }
}

struct Seat<P: Packetizer<Item = Packet>, W> {
    outlet: Outlet<P, W>,
    raised: Arc<AtomicBool>,
    /// Rung by the outlet's socket.
    waker: Waker,
}

/// The readers of one stream in one format on one worker.
pub(super) struct Group<P: Packetizer<Item = Packet>, W> {
    id: usize,
    leader: DerivedCursor<P>,
    batch: Batch<Packet>,
    seats: Vec<Option<Seat<P, W>>>,
    free: Vec<usize>,
    /// Some outlet may be paced.
    paced: bool,
    raised: Arc<AtomicBool>,
    waker: Waker,
    inbox: mpsc::UnboundedSender<Message>,
}

impl<P, W> Group<P, W>
where
    P: Packetizer<Item = Packet>,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Seats an outlet in its group on that worker, which is made if it is the first.
    pub(super) fn attach(worker: &mut Worker, outlet: Outlet<P, W>) {
        let derived = Arc::clone(outlet.reader().walk().derived());
        // The group holds the derived log, so that its address names it as long as the group lives.
        let key = (Arc::as_ptr(&derived).addr(), core::any::TypeId::of::<Self>());
        let ticket = outlet.ticket;
        let inbox = worker.inbox();
        let id = worker.group(key, |id| {
            let raised = Arc::new(AtomicBool::new(false));
            let signal =
                Signal { inbox: inbox.clone(), group: id, outlet: None, raised: Arc::clone(&raised) };
            Box::new(Self {
                id,
                leader: DerivedCursor::new(derived, StartMode::LiveEdge, LagPolicy::PATIENT),
                batch: Batch::default(),
                seats: Vec::new(),
                free: Vec::new(),
                paced: false,
                raised,
                waker: Waker::from(Arc::new(signal)),
                inbox,
            })
        });
        let seat = worker.with_group::<Self, _>(id, |group| group.seat(outlet));
        if let Some(seat) = seat {
            worker.admit(ticket, id, seat);
        }
    }

    fn seat(&mut self, outlet: Outlet<P, W>) -> usize {
        let at = self.free.pop().unwrap_or(self.seats.len());
        let raised = Arc::new(AtomicBool::new(false));
        let inbox = self.inbox.clone();
        let signal = Signal { inbox, group: self.id, outlet: Some(at), raised: Arc::clone(&raised) };
        let seat = Some(Seat { outlet, raised, waker: Waker::from(Arc::new(signal)) });
        match self.seats.get_mut(at) {
            Some(place) => *place = seat,
            None => self.seats.push(seat),
        }
        at
    }

    /// Lets one outlet do something, and takes it out if that was its end.
    fn with(
        &mut self,
        at: usize,
        ended: &mut Vec<u64>,
        act: impl FnOnce(&mut Outlet<P, W>, &mut Context<'_>) -> Outcome,
    ) {
        let Some(place) = self.seats.get_mut(at) else { return };
        let Some(Seat { outlet, waker, .. }) = place else { return };
        let outcome = act(outlet, &mut Context::from_waker(waker));
        self.paced |= outlet.paced_until().is_some();
        if let Outcome::Ended(reason) = outcome {
            let Some(seat) = place.take() else { return };
            self.free.push(at);
            ended.push(seat.outlet.ticket);
            seat.outlet.finish(reason);
        }
    }

    /// Hands the leader's batch to everybody who is up to date.
    fn deliver(&mut self, now: Instant, ended: &mut Vec<u64>) {
        let batch = core::mem::take(&mut self.batch);
        let bytes = merged(&batch);
        for at in 0..self.seats.len() {
            self.with(at, ended, |outlet, cx| match outlet.follow(&batch, &bytes, cx, now) {
                Some(outcome) => outcome,
                None if outlet.is_waiting() => Outcome::Blocked,
                None => outlet.advance(cx, now),
            });
        }
        self.batch = batch;
    }
}

/// The batch's bytes in one piece.
fn merged(batch: &Batch<Packet>) -> Bytes {
    if let [only] = batch.items() {
        return only.bytes.clone();
    }
    let mut bytes = BytesMut::with_capacity(batch.items().iter().map(|packet| packet.bytes.len()).sum());
    batch.items().iter().for_each(|packet| bytes.extend_from_slice(&packet.bytes));
    bytes.freeze()
}

impl<P, W> AnyGroup for Group<P, W>
where
    P: Packetizer<Item = Packet>,
    W: AsyncWrite + Send + Unpin + 'static,
{
    fn lower(&self, outlet: Option<usize>) {
        let raised = match outlet {
            None => Some(&self.raised),
            Some(at) => self.seats.get(at).and_then(Option::as_ref).map(|seat| &seat.raised),
        };
        if let Some(raised) = raised {
            raised.store(false, Ordering::Release);
        }
    }

    fn run(&mut self, now: Instant, ended: &mut Vec<u64>) -> bool {
        // Leaves the group's waker with the log, so that the next frame raises its signal again.
        if self.leader.poll_ready(now, &Context::from_waker(&self.waker)).is_pending() {
            return false;
        }
        self.leader.cursor_mut().read_batch(BATCH, &mut self.batch);
        if self.batch.items().is_empty() {
            // The stream has ended: each outlet finds that out by its own cursor, after what is still before it.
            self.advance_all(now, ended);
            return false;
        }
        self.deliver(now, ended);
        true
    }

    fn advance(&mut self, at: usize, now: Instant, ended: &mut Vec<u64>) {
        self.with(at, ended, |outlet, cx| outlet.advance(cx, now));
    }

    fn advance_all(&mut self, now: Instant, ended: &mut Vec<u64>) {
        (0..self.seats.len()).for_each(|at| self.advance(at, now, ended));
    }

    fn control(&mut self, at: usize, control: Control, now: Instant, ended: &mut Vec<u64>) {
        self.with(at, ended, |outlet, cx| {
            match control {
                Control::Send(bytes) => outlet.send(bytes),
                Control::Detach(reason) => outlet.end(reason),
            }
            outlet.advance(cx, now)
        });
    }

    fn sweep(&mut self, now: Instant, ended: &mut Vec<u64>) {
        for at in 0..self.seats.len() {
            self.with(at, ended, |outlet, _| {
                outlet.settle();
                if outlet.is_stalled(now) { Outcome::Ended(CloseReason::SlowConsumer) } else { Outcome::Idle }
            });
        }
    }

    fn next_paced(&mut self) -> Option<Instant> {
        if !self.paced {
            return None;
        }
        let next = self.seats.iter().flatten().filter_map(|seat| seat.outlet.paced_until()).min();
        self.paced = next.is_some();
        next
    }

    fn advance_paced(&mut self, now: Instant, ended: &mut Vec<u64>) {
        for at in 0..self.seats.len() {
            let due = self.seats.get(at).and_then(Option::as_ref).and_then(|seat| seat.outlet.paced_until());
            if due.is_some_and(|due| due <= now) {
                self.advance(at, now, ended);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
