//! Waking any number of tasks in constant time for the one who wakes.
//!
//! [`WaitSet::notify`] wakes at most [`FIRST`] tasks itself; each task that runs again wakes up to [`EACH`] more
//! ([`WaitSet::help`]), so that the whole set is awake after a few rounds while the caller has long gone on. It never
//! waits either: if a task is registering at that moment, the task finds the mark that `notify` left and does the
//! waking in its place.

use std::task::Waker;

use smallvec::SmallVec;

use super::sync::{AtomicBool, AtomicUsize, Lock, Ordering, fence};

/// Tasks that the notifier wakes itself. Each costs it a place in the queue of another thread, and the lock of that
/// queue; with [`EACH`] it is three rounds to a thousand tasks.
pub(crate) const FIRST: usize = 4;
/// Tasks that each woken task wakes in turn.
pub(crate) const EACH: usize = 8;

/// A task's place in the set.
#[derive(Debug)]
pub(crate) struct WaitKey(usize);

#[derive(Debug, Default)]
struct Place {
    taken: bool,
    /// There while the task waits to be woken.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Tasks {
    places: Vec<Place>,
    free: Vec<usize>,
    /// Registered since the last notification. May name a place twice or after it was left; harmless, because
    /// a place without a waker is passed over.
    waiting: Vec<usize>,
    /// Notified, not yet woken.
    due: Vec<usize>,
}

impl Tasks {
    fn take_due(&mut self, limit: usize) -> SmallVec<[Waker; EACH]> {
        let mut wakers = SmallVec::new();
        while wakers.len() < limit {
            let Some(at) = self.due.pop() else { break };
            wakers.extend(self.places.get_mut(at).and_then(|place| place.waker.take()));
        }
        wakers
    }
}

#[derive(Debug)]
pub(crate) struct WaitSet {
    tasks: Lock<Tasks>,
    /// A notification that nobody has acted on yet.
    pending: AtomicBool,
    /// `tasks.due.len()`, readable without the lock.
    due: AtomicUsize,
}

impl WaitSet {
    pub(crate) fn new() -> Self {
        Self { tasks: Lock::new(Tasks::default()), pending: AtomicBool::new(false), due: AtomicUsize::new(0) }
    }

    /// Takes a place in the set.
    pub(crate) fn enter(&self) -> WaitKey {
        let mut tasks = self.tasks.lock();
        let at = tasks.free.pop().unwrap_or(tasks.places.len());
        match tasks.places.get_mut(at) {
            Some(place) => place.taken = true,
            None => tasks.places.push(Place { taken: true, waker: None }),
        }
        drop(tasks);
        self.settle();
        WaitKey(at)
    }

    /// Gives the place back, and passes on what this task may have owed to others.
    pub(crate) fn leave(&self, key: &WaitKey) {
        let mut tasks = self.tasks.lock();
        if let Some(place) = tasks.places.get_mut(key.0) {
            *place = Place::default();
            tasks.free.push(key.0);
        }
        drop(tasks);
        self.settle();
        self.help();
    }

    /// Asks to be woken by the next notification. What is waited for must be checked again *after* this.
    pub(crate) fn register(&self, key: &WaitKey, waker: &Waker) {
        let mut tasks = self.tasks.lock();
        if let Some(place) = tasks.places.get_mut(key.0) {
            let waits = place.waker.is_some();
            if !place.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                place.waker = Some(waker.clone());
            }
            if !waits {
                tasks.waiting.push(key.0);
            }
        }
        drop(tasks);
        self.settle();
    }

    /// Wakes everybody who has registered. Never waits; wakes at most [`FIRST`] tasks itself.
    pub(crate) fn notify(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.settle();
    }

    /// Acts on a pending notification unless somebody else is about to: whoever holds the lock comes here after.
    fn settle(&self) {
        loop {
            // Orders the store of `pending` before the look at the lock (notifier), and the release of the lock
            // before the look at `pending` (the others): one of the two sees the other.
            fence(Ordering::SeqCst);
            if !self.pending.load(Ordering::SeqCst) {
                return;
            }
            let Some(mut tasks) = self.tasks.try_lock() else { return };
            if !self.pending.swap(false, Ordering::SeqCst) {
                continue;
            }
            let tasks_ref = &mut *tasks;
            if tasks_ref.due.is_empty() {
                core::mem::swap(&mut tasks_ref.due, &mut tasks_ref.waiting);
            } else {
                tasks_ref.due.append(&mut tasks_ref.waiting);
            }
            let wakers = tasks_ref.take_due(FIRST);
            self.due.store(tasks_ref.due.len(), Ordering::Release);
            drop(tasks);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes up to [`EACH`] tasks that are due. Every woken task calls this.
    pub(crate) fn help(&self) {
        if self.due.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut tasks = self.tasks.lock();
        let wakers = tasks.take_due(EACH);
        self.due.store(tasks.due.len(), Ordering::Release);
        drop(tasks);
        wakers.into_iter().for_each(Waker::wake);
        self.settle();
    }
}
