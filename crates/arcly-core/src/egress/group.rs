use core::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::desk::Desk;
use super::outlet::{Outcome, Outlet};
use super::tick::Tick;
use super::worker::{AnyGroup, Control, Message, Next, Worker};
use crate::close::CloseReason;
use crate::codec::TrackKind;
use crate::derived::{DerivedCursor, Headers, Packetizer, Wire};
use crate::log::{Batch, LagPolicy, StartMode};
use crate::track::TrackMask;

/// Bytes of one batch. Small enough that a reader takes it in one write, and that one stream does not hold the
/// worker for long.
pub(super) const BATCH: usize = 256 << 10;
/// How long sound waits for a picture to go out with, frame by frame: long enough for what an encoder sends in one go, and
/// much less than the time between two pictures, as whoever asks for each frame at once means the sound too.
const RIDE: Duration = Duration::from_millis(2);
/// Up to so many readers get a batch in pieces: joining it costs a copy, and saves each of them a little.
const UNMERGED_READERS: usize = 1;

/// Tells the worker that a group has something new, or an outlet's socket room; at most once until it looks.
struct Signal {
    inbox: mpsc::UnboundedSender<Message>,
    group: usize,
    outlet: Option<usize>,
    raised: AtomicBool,
}

impl Signal {
    fn new(inbox: mpsc::UnboundedSender<Message>, group: usize, outlet: Option<usize>) -> Arc<Self> {
        Arc::new(Self { inbox, group, outlet, raised: AtomicBool::new(false) })
    }

    /// It was seen; whatever raises it from now on is new.
    fn lower(&self) {
        self.raised.store(false, Ordering::Release);
    }
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

struct Seat<P: Packetizer<Item: Wire>, W> {
    outlet: Outlet<P, W>,
    signal: Arc<Signal>,
    /// The signal, for the outlet's socket.
    waker: Waker,
    /// It waits for its turn to go its own way.
    queued: bool,
}

/// A batch on its way to the readers.
struct Delivery {
    /// In one piece, when many get it.
    bytes: Option<Bytes>,
    /// The seat that gets it next.
    at: usize,
    /// There is more behind it already.
    more: bool,
}

/// The readers of one stream in one format and at one tick on one worker.
pub(super) struct Group<P: Packetizer<Item: Wire>, W> {
    id: usize,
    tick: Tick,
    leader: DerivedCursor<P>,
    /// Read, and not yet delivered to everybody.
    batch: Batch<P::Item>,
    delivery: Option<Delivery>,
    /// When it looks again; whoever is armed does not listen to the log.
    due: Option<Instant>,
    /// Until when sound waits for a picture.
    riding_until: Option<Instant>,
    /// The video tracks of the headers in force.
    video: TrackMask,
    video_of: Option<Arc<Headers>>,
    /// In boxes, so that a group that grows moves none of them, and has no room for twice as many.
    seats: Vec<Option<Box<Seat<P, W>>>>,
    free: Vec<usize>,
    signal: Arc<Signal>,
    waker: Waker,
}

impl<P, W> Group<P, W>
where
    P: Packetizer<Item: Wire>,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Seats an outlet in its group on that worker, which is made if it is the first.
    pub(super) fn attach(worker: &mut Worker, tick: Tick, outlet: Outlet<P, W>) {
        let derived = Arc::clone(outlet.reader().walk().derived());
        // The group holds the derived log, so that its address names it as long as the group lives.
        let key = (Arc::as_ptr(&derived).addr(), TypeId::of::<Self>(), tick);
        let ticket = outlet.ticket;
        let inbox = worker.inbox();
        let id = worker.group(key, |id| {
            let leader = DerivedCursor::new(derived, StartMode::LiveEdge, LagPolicy::PATIENT);
            Box::new(Self::new(id, tick, leader, inbox))
        });
        let seat = worker.with_group::<Self, _>(id, |group, desk| group.seat(outlet, desk));
        if let Some(seat) = seat {
            worker.admit(ticket, id, seat);
        }
    }

    fn new(id: usize, tick: Tick, leader: DerivedCursor<P>, inbox: mpsc::UnboundedSender<Message>) -> Self {
        let signal = Signal::new(inbox, id, None);
        Self {
            id,
            tick,
            leader,
            batch: Batch::default(),
            delivery: None,
            due: None,
            riding_until: None,
            video: TrackMask::NONE,
            video_of: None,
            seats: Vec::new(),
            free: Vec::new(),
            waker: Waker::from(Arc::clone(&signal)),
            signal,
        }
    }

    /// Gives an outlet its place. What is there for it goes out at its first turn, whatever the tick.
    fn seat(&mut self, outlet: Outlet<P, W>, desk: &mut Desk) -> usize {
        let at = self.free.pop().unwrap_or(self.seats.len());
        let signal = Signal::new(self.signal.inbox.clone(), self.id, Some(at));
        let waker = Waker::from(Arc::clone(&signal));
        outlet.reader().subscription().state().wake_at_end(&waker);
        let seat = Some(Box::new(Seat { outlet, signal, waker, queued: true }));
        match self.seats.get_mut(at) {
            Some(place) => *place = seat,
            None => self.seats.push(seat),
        }
        desk.joins.push_back((self.id, at));
        at
    }

    /// Lets one outlet do something, and takes it out if that was its end.
    fn with(
        &mut self,
        at: usize,
        desk: &mut Desk,
        act: impl FnOnce(&mut Outlet<P, W>, &mut Context<'_>, &mut Desk) -> Outcome,
    ) {
        let Some(place) = self.seats.get_mut(at) else { return };
        let Some(seat) = place else { return };
        let Seat { outlet, waker, queued, .. } = &mut **seat;
        match act(outlet, &mut Context::from_waker(waker), desk) {
            Outcome::Idle | Outcome::Blocked => {}
            Outcome::OwnWay => {
                if !core::mem::replace(queued, true) {
                    desk.errands.push_back((self.id, at));
                }
            }
            Outcome::PacedUntil(due) => desk.alarms.push((due, (self.id, at))),
            Outcome::Ended(reason) => {
                let Some(seat) = place.take() else { return };
                self.free.push(at);
                desk.ended.push(seat.outlet.ticket);
                seat.outlet.finish(reason);
            }
        }
    }

    fn send_all_their_own_way(&mut self, desk: &mut Desk) {
        (0..self.seats.len()).for_each(|at| self.with(at, desk, |_, _, _| Outcome::OwnWay));
    }

    /// Reads what is new. True when it is to be delivered now; otherwise the group's waker is with the log.
    fn look(&mut self, desk: &mut Desk) -> bool {
        loop {
            let is_ready = self.leader.poll_ready(desk.now, &Context::from_waker(&self.waker)).is_ready();
            let grown = is_ready && self.leader.cursor_mut().read_batch(BATCH, &mut self.batch);
            if self.batch.items().is_empty() {
                if is_ready {
                    // The stream has ended: each outlet finds that out by its own cursor, after what is still before it.
                    self.send_all_their_own_way(desk);
                }
                return false;
            }
            let rides = self.rides(desk);
            // Whatever stopped the batch from growing, its end or a change of headers, is no reason to wait.
            if !rides || (is_ready && !grown) {
                return true;
            }
            if !is_ready {
                return false;
            }
        }
    }

    /// Whether what was read waits for a picture to go out with.
    fn rides(&mut self, desk: &Desk) -> bool {
        if desk.beat.interval(self.tick).is_some() {
            return false;
        }
        let video = self.video();
        if video.is_empty() || !video.intersection(self.batch.tracks()).is_empty() {
            return false;
        }
        desk.now < *self.riding_until.get_or_insert(desk.now + RIDE)
    }

    fn video(&mut self) -> TrackMask {
        let Some(first) = self.batch.items().first() else { return self.video };
        let headers = first.context();
        if !self.video_of.as_ref().is_some_and(|known| Arc::ptr_eq(known, headers)) {
            let video = headers.tracks.iter().filter(|track| track.kind() == TrackKind::Video);
            self.video = video.map(|track| track.id).collect();
            self.video_of = Some(Arc::clone(headers));
        }
        self.video
    }

    /// Hands the batch to everybody who is up to date, as many as have room in this turn. True when there is more.
    fn deliver(&mut self, desk: &mut Desk) -> bool {
        let Some(Delivery { bytes, mut at, more }) = self.delivery.take() else { return false };
        let batch = core::mem::take(&mut self.batch);
        while at < self.seats.len() && !desk.is_spent() {
            self.with(at, desk, |outlet, cx, desk| outlet.follow(&batch, bytes.as_ref(), cx, desk));
            at += 1;
        }
        self.batch = batch;
        if at < self.seats.len() {
            self.delivery = Some(Delivery { bytes, at, more });
            return true;
        }
        self.batch.clear();
        more
    }

    fn wake_at(&mut self, at: Instant) -> Next {
        if self.due.replace(at) == Some(at) { Next::Woken } else { Next::At(at) }
    }
}

/// The batch's bytes in one piece.
fn merged<T: Wire>(batch: &Batch<T>) -> Bytes {
    if let [only] = batch.items()
        && only.head().is_empty()
    {
        return only.body().clone();
    }
    let mut bytes = BytesMut::with_capacity(batch.items().iter().map(|item| item.wire_len()).sum());
    for item in batch.items() {
        bytes.extend_from_slice(item.head());
        bytes.extend_from_slice(item.body());
    }
    bytes.freeze()
}

impl<P, W> AnyGroup for Group<P, W>
where
    P: Packetizer<Item: Wire>,
    W: AsyncWrite + Send + Unpin + 'static,
{
    fn woken(&mut self, desk: &mut Desk) -> Next {
        self.signal.lower();
        match desk.beat.interval(self.tick) {
            None => Next::Turn,
            // It looks when that time has come.
            Some(_) if self.due.is_some() || self.delivery.is_some() => Next::Woken,
            Some(interval) => self.wake_at(desk.beat.next(desk.now, interval)),
        }
    }

    fn waits_for(&self, at: Instant) -> bool {
        self.due == Some(at)
    }

    fn turn(&mut self, desk: &mut Desk) -> Next {
        self.due = None;
        if self.delivery.is_none() {
            if !self.look(desk) {
                return self.riding_until.map_or(Next::Woken, |until| self.wake_at(until));
            }
            desk.counts.batches += 1;
            desk.counts.packets += self.batch.items().len() as u64;
            self.riding_until = None;
            let more = self.leader.cursor().lag_items() > 0;
            let is_shared = self.seats.len() - self.free.len() > UNMERGED_READERS;
            let bytes = is_shared.then(|| merged(&self.batch));
            self.delivery = Some(Delivery { bytes, at: 0, more });
        }
        let more = self.deliver(desk);
        match desk.beat.interval(self.tick) {
            Some(interval) if !more => self.wake_at(desk.beat.next(desk.now, interval)),
            _ => Next::Turn,
        }
    }

    fn outlet_woken(&mut self, at: usize, desk: &mut Desk) {
        if let Some(Some(seat)) = self.seats.get(at) {
            seat.signal.lower();
        }
        self.with(at, desk, |_, _, _| Outcome::OwnWay);
    }

    fn errand(&mut self, at: usize, desk: &mut Desk) {
        if let Some(Some(seat)) = self.seats.get_mut(at) {
            seat.queued = false;
        }
        self.with(at, desk, |outlet, cx, desk| outlet.advance(cx, desk));
    }

    fn control(&mut self, at: usize, control: Control, desk: &mut Desk) {
        self.with(at, desk, |outlet, _, _| {
            match control {
                Control::Send(bytes) => outlet.send(bytes),
                Control::Detach(reason) => outlet.end(reason),
            }
            Outcome::OwnWay
        });
    }

    fn sweep(&mut self, desk: &mut Desk) {
        for at in 0..self.seats.len() {
            self.with(at, desk, |outlet, _, desk| {
                outlet.settle();
                outlet.forgive(desk.stood_still);
                if outlet.is_stalled(desk.now) {
                    Outcome::Ended(CloseReason::SlowConsumer)
                } else {
                    Outcome::Idle
                }
            });
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
