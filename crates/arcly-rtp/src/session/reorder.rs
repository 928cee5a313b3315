use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that are held while one before them is missing.
pub const MAX_PACKETS: usize = 512;
/// How long a missing packet is waited for.
pub const MAX_WAIT: Duration = Duration::from_millis(200);

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
/// longer than its wait. Without gaps nothing waits.
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    wait: Duration,
    /// The number of the first slot.
    next: Option<i64>,
    /// The last slot, if there is one, is filled.
    slots: VecDeque<Option<(Instant, T)>>,
}

impl<T> ReorderBuffer<T> {
    /// A buffer that waits so long for a missing packet, at most [`MAX_WAIT`]; zero for transports that keep order.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self { wait: wait.min(MAX_WAIT), next: None, slots: VecDeque::new() }
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
        let next = *self.next.get_or_insert(number);
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

    /// The next thing in order, as far as it can be said at `now`.
    pub fn release(&mut self, now: Instant) -> Option<Release<T>> {
        if let Some(slot) = self.slots.front_mut()?.take() {
            self.pass(1);
            return Some(Release::Packet(slot.1));
        }
        let overdue =
            self.slots.len() > MAX_PACKETS || self.deadline().is_some_and(|deadline| deadline <= now);
        if !overdue {
            return None;
        }
        let missing = self.slots.iter().take_while(|slot| slot.is_none()).count();
        self.pass(missing);
        Some(Release::Lost(u64::try_from(missing).unwrap_or_default()))
    }

    /// When something will be given up; `None` when nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.slots.front()?.is_some() {
            return None;
        }
        let first = self.slots.iter().flatten().map(|(at, _)| *at).min()?;
        first.checked_add(self.wait)
    }

    /// The numbers that are waited for.
    pub fn missing(&self) -> impl Iterator<Item = i64> {
        let numbers = self.next.unwrap_or_default()..;
        self.slots.iter().zip(numbers).filter(|(slot, _)| slot.is_none()).map(|(_, number)| number)
    }

    /// Forgets everything; the next packet is the first.
    pub fn reset(&mut self) {
        self.next = None;
        self.slots.clear();
    }

    fn pass(&mut self, count: usize) {
        self.slots.drain(..count.min(self.slots.len()));
        let count = i64::try_from(count).unwrap_or_default();
        self.next = self.next.map(|next| next.saturating_add(count));
    }
}
