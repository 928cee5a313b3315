use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that are held while one before them is missing.
pub const MAX_PACKETS: usize = 512;
/// How long a missing packet is waited for.
pub const MAX_WAIT: Duration = Duration::from_millis(200);
/// How long the first packet that arrives is held for those before it, where that is asked for
/// ([`with_start_hold`](ReorderBuffer::with_start_hold)): what a network puts out of order comes within that.
pub const START_HOLD: Duration = Duration::from_millis(80);

/// What became of a packet that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in its place.
    Placed,
    /// It is there already.
    Duplicate,
    /// Its place was given up, or it came out before.
    Late,
    /// It lies [`MAX_PACKETS`] or more beyond all that is held, and was not taken.
    TooFar,
}

/// What comes out, in order of sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release<T> {
    /// The next packet.
    Packet(T),
    /// That many packets from the next number on are given up.
    Lost(u64),
}

/// Puts packets in order, and gives up those that do not come.
///
/// Between two calls of [`release`](Self::release) that found nothing more it holds at most [`MAX_PACKETS`] numbers, and none
/// longer than its wait. Without gaps nothing waits, but the first packet where that is asked for. Who knows that more has arrived than was put in takes what is
/// [`ready`](Self::ready) until it is in.
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    wait: Duration,
    start_hold: Duration,
    /// Until when a packet may come before all that are held: nothing has come out yet.
    held_until: Option<Instant>,
    /// The number of the first slot.
    next: Option<i64>,
    /// The last slot, if there is one, is filled.
    slots: VecDeque<Option<(Instant, T)>>,
}

impl<T> ReorderBuffer<T> {
    /// A buffer that waits so long for a missing packet, at most [`MAX_WAIT`]; zero for transports that keep order.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self {
            wait: wait.min(MAX_WAIT),
            start_hold: Duration::ZERO,
            held_until: None,
            next: None,
            slots: VecDeque::new(),
        }
    }

    /// The same buffer, which holds the first packet for [`START_HOLD`], and no longer than any, so that one sent before it and
    /// overtaken is not late.
    #[must_use]
    pub fn with_start_hold(mut self) -> Self {
        self.start_hold = START_HOLD.min(self.wait);
        self
    }

    /// Numbers that are waited for or held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes a packet that arrived at `now` under its unwrapped number.
    pub fn insert(&mut self, now: Instant, number: i64, item: T) -> Insertion {
        let Some(next) = self.reach(now, number) else { return Insertion::Late };
        let Ok(place) = usize::try_from(number.saturating_sub(next)) else { return Insertion::Late };
        if place >= self.slots.len().saturating_add(MAX_PACKETS) {
            return Insertion::TooFar;
        }
        while self.slots.len() <= place {
            self.slots.push_back(None);
        }
        match self.slots.get_mut(place) {
            Some(slot @ None) => {
                *slot = Some((now, item));
                Insertion::Placed
            }
            _ => Insertion::Duplicate,
        }
    }

    /// The number of the first slot, once there may be one for `number`; `None` when that is too far before the others.
    fn reach(&mut self, now: Instant, number: i64) -> Option<i64> {
        let Some(next) = self.next else {
            self.next = Some(number);
            self.held_until = now.checked_add(self.start_hold).filter(|_| !self.start_hold.is_zero());
            return self.next;
        };
        let Ok(before @ 1..) = usize::try_from(next.saturating_sub(number)) else { return self.next };
        if self.held_until.is_none() || before.saturating_add(self.slots.len()) > MAX_PACKETS {
            return None;
        }
        for _ in 0..before {
            self.slots.push_front(None);
        }
        self.next = Some(number);
        self.next
    }

    /// The next thing in order, whatever the time is: nothing is given up because it is late, unless nothing is waited for.
    pub fn ready(&mut self) -> Option<Release<T>> {
        if self.held_until.is_some() && self.slots.len() < MAX_PACKETS {
            return None;
        }
        self.held_until = None;
        if let Some(slot) = self.slots.front_mut()?.take() {
            self.pass(1);
            return Some(Release::Packet(slot.1));
        }
        let hopeless = self.slots.len() > MAX_PACKETS || self.wait.is_zero();
        hopeless.then(|| self.give_up())
    }

    /// The next thing in order, as far as it can be said at `now`.
    pub fn release(&mut self, now: Instant) -> Option<Release<T>> {
        self.held_until = self.held_until.filter(|until| now < *until);
        let ready = self.ready();
        let overdue = ready.is_none() && self.deadline().is_some_and(|deadline| deadline <= now);
        if overdue { Some(self.give_up()) } else { ready }
    }

    /// Gives up what is missing before the first that is there.
    fn give_up(&mut self) -> Release<T> {
        let missing = self.slots.iter().take_while(|slot| slot.is_none()).count();
        self.pass(missing);
        Release::Lost(u64::try_from(missing).unwrap_or_default())
    }

    /// When something will be given up, or the first packet comes out; `None` when nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.held_until.is_some() {
            return self.held_until;
        }
        if self.slots.front()?.is_some() {
            return None;
        }
        let first = self.slots.iter().flatten().map(|(at, _)| *at).min()?;
        first.checked_add(self.wait)
    }

    /// True while the first packet is held for those before it.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.held_until.is_some()
    }

    /// The numbers that are waited for.
    pub fn missing(&self) -> impl Iterator<Item = i64> {
        let numbers = self.next.unwrap_or_default()..;
        self.slots.iter().zip(numbers).filter(|(slot, _)| slot.is_none()).map(|(_, number)| number)
    }

    /// Forgets everything; the next packet is the first.
    pub fn reset(&mut self) {
        (self.next, self.held_until) = (None, None);
        self.slots.clear();
    }

    fn pass(&mut self, count: usize) {
        self.slots.drain(..count.min(self.slots.len()));
        let count = i64::try_from(count).unwrap_or_default();
        self.next = self.next.map(|next| next.saturating_add(count));
    }
}
