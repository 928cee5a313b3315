//! Waking any number of tasks in constant time for the one who wakes.
//!
//! [`WaitSet::notify`] wakes [`FIRST`] tasks itself; each task that runs again wakes up to [`EACH`] more
//! ([`WaitSet::help`]), so that the whole set is awake after a few rounds while the caller has long gone on. A task
//! that is woken and does not come to help cannot hold the others up for longer than to the next notification, which
//! then wakes [`AGAIN`]. The notifier never waits either: if a task is registering at that moment, the task finds the
//! mark that `notify` left and does the waking in its place.
//!
//! The mark is left and looked for with a read-modify-write, by both sides. Of any two of those on one value, one comes
//! first and is seen by the other: either the task finds the mark after it has let go of the lock, or the notifier
//! knows of the letting go, and finds the lock free. So every look counts itself, in the bits above the mark: a
//! look that changed nothing would be a load, and those are not ordered that way.

use std::task::Waker;

use super::sync::{AtomicUsize, Lock, Ordering};

/// Tasks that the notifier wakes itself. One would do, and two still do when one of them is busy with something else
/// for the moment; each costs a place in the queue of another thread and the lock of that queue.
pub(crate) const FIRST: usize = 2;
/// Tasks that the notifier wakes itself when some have not been woken since the last time.
pub(crate) const AGAIN: usize = 4;
/// Tasks that each woken task wakes in turn.
pub(crate) const EACH: usize = 8;

/// The bit of [`WaitSet::pending`] that a notification leaves; the others count looks.
const MARK: usize = 1;

/// A task's place in the set.
#[derive(Debug)]
pub(crate) struct WaitKey(usize);

#[derive(Debug, Default)]
struct Tasks {
    /// The wakers of those that wait, by place.
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Registered since the last notification. May name a place twice or after it was left; harmless, because
    /// a place without a waker is passed over.
    waiting: Vec<usize>,
    /// Notified, not yet woken.
    due: Vec<usize>,
}

impl Tasks {
    /// Notes that the place waits. Readers that come and go without a notification leave their places' numbers behind;
    /// what is there twice goes before it is more than twice the places.
    fn wait(&mut self, at: usize) {
        if self.waiting.len() >= self.places.len().saturating_mul(2) {
            self.waiting.sort_unstable();
            self.waiting.dedup();
        }
        self.waiting.push(at);
    }

    fn take_due(&mut self, wakers: &mut [Option<Waker>]) {
        for room in wakers {
            while room.is_none() {
                let Some(at) = self.due.pop() else { return };
                *room = self.places.get_mut(at).and_then(Option::take);
            }
        }
    }

    /// Makes everybody due who waits, and takes the first of them.
    fn notify(&mut self, wakers: &mut [Option<Waker>; AGAIN]) {
        if self.due.is_empty() {
            core::mem::swap(&mut self.due, &mut self.waiting);
            self.take_due(wakers.get_mut(..FIRST).unwrap_or_default());
        } else {
            self.due.append(&mut self.waiting);
            self.take_due(wakers);
        }
    }
}

fn wake(wakers: impl IntoIterator<Item = Option<Waker>>) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

#[derive(Debug)]
pub(crate) struct WaitSet {
    tasks: Lock<Tasks>,
    /// Whether there is a notification that nobody has acted on yet, and the number of looks at that.
    pending: AtomicUsize,
    /// `tasks.due.len()`, readable without the lock.
    due: AtomicUsize,
}

impl WaitSet {
    pub(crate) fn new() -> Self {
        Self { tasks: Lock::new(Tasks::default()), pending: AtomicUsize::new(0), due: AtomicUsize::new(0) }
    }

    /// Takes a place in the set.
    pub(crate) fn enter(&self) -> WaitKey {
        let mut tasks = self.tasks.lock();
        let at = tasks.free.pop().unwrap_or_else(|| {
            tasks.places.push(None);
            tasks.places.len() - 1
        });
        drop(tasks);
        self.settle();
        WaitKey(at)
    }

    /// Gives the place back, and passes on what this task may have owed to others.
    pub(crate) fn leave(&self, key: &WaitKey) {
        let mut tasks = self.tasks.lock();
        let waker = tasks.places.get_mut(key.0).and_then(Option::take);
        tasks.free.push(key.0);
        drop(tasks);
        // May be the last that keeps its task, which may hold other places: not under the lock.
        drop(waker);
        self.settle();
        self.help();
    }

    /// Asks to be woken by the next notification. What is waited for must be checked again *after* this.
    pub(crate) fn register(&self, key: &WaitKey, waker: &Waker) {
        let mut tasks = self.tasks.lock();
        let mut old = None;
        if let Some(place) = tasks.places.get_mut(key.0) {
            if place.is_none() {
                *place = Some(waker.clone());
                tasks.wait(key.0);
            } else if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
                old = place.replace(waker.clone());
            }
        }
        drop(tasks);
        drop(old);
        self.settle();
    }

    /// Wakes everybody who has registered. Never waits; wakes at most [`AGAIN`] tasks itself.
    pub(crate) fn notify(&self) {
        self.pending.fetch_or(MARK, Ordering::AcqRel);
        if self.act() {
            self.settle();
        }
    }

    /// Acts on notifications that came while the caller held the lock.
    fn settle(&self) {
        while self.pending.fetch_add(MARK << 1, Ordering::AcqRel) & MARK != 0 && self.act() {}
    }

    /// Acts on the pending notification. False when somebody holds the lock: who does settles afterwards.
    fn act(&self) -> bool {
        let Some(mut tasks) = self.tasks.try_lock() else { return false };
        let marked = self.pending.fetch_and(!MARK, Ordering::AcqRel) & MARK != 0;
        let mut wakers = [const { None }; AGAIN];
        if marked {
            tasks.notify(&mut wakers);
            self.due.store(tasks.due.len(), Ordering::Release);
        }
        drop(tasks);
        wake(wakers);
        true
    }

    /// Wakes up to [`EACH`] tasks that are due. Every woken task calls this.
    pub(crate) fn help(&self) {
        if self.due.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut tasks = self.tasks.lock();
        let mut wakers = [const { None }; EACH];
        tasks.take_due(&mut wakers);
        self.due.store(tasks.due.len(), Ordering::Release);
        drop(tasks);
        wake(wakers);
        self.settle();
    }
}
