//! What several members hand over becomes one sequence of messages: each once, in order, and none before it is due.

use std::collections::VecDeque;
use std::time::Instant;

use super::GroupEvent;
use crate::session::receive::Message;
use crate::wire::SeqNumber;

/// A message that waits for one before it, or for its time.
#[derive(Debug)]
struct Held {
    message: Message,
    due: Instant,
    /// What is missing before it is given up then.
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Merge {
    wanted: SeqNumber,
    /// In order, without duplicates, none before `wanted`.
    held: VecDeque<Held>,
    limit: usize,
}

impl Merge {
    pub(super) const fn new(first: SeqNumber, limit: usize) -> Self {
        Self { wanted: first, held: VecDeque::new(), limit }
    }

    /// The message to be handed over next.
    pub(super) const fn wanted(&self) -> SeqNumber {
        self.wanted
    }

    /// What was before is over.
    pub(super) fn restart(&mut self, first: SeqNumber) {
        self.held.clear();
        self.wanted = first;
    }

    /// A member hands a message over, which is due then; one that is missing before it is waited for `until` then.
    pub(super) fn insert(&mut self, message: Message, due: Instant, until: Instant) {
        let seq = message.seq;
        if seq.is_before(self.wanted) {
            return;
        }
        let place = self.held.partition_point(|held| held.message.seq.is_before(seq));
        if self.held.get(place).is_none_or(|held| held.message.seq != seq) {
            self.held.insert(place, Held { message, due, until });
        }
    }

    /// The next thing to be handed over at `now`. `has_passed` says whether no member can bring what is before a packet.
    pub(super) fn release(
        &mut self,
        now: Instant,
        has_passed: impl Fn(SeqNumber) -> bool,
    ) -> Option<GroupEvent> {
        let front = self.held.front()?;
        let seq = front.message.seq;
        let missing = self.wanted.distance_to(seq);
        if missing > 0 {
            let given_up = front.until <= now || self.held.len() > self.limit || has_passed(seq);
            if !given_up {
                return None;
            }
        } else if front.due > now {
            return None;
        }
        self.flush()
    }

    /// The next thing that is left, whether due or not: nothing more will come.
    pub(super) fn flush(&mut self) -> Option<GroupEvent> {
        let seq = self.held.front()?.message.seq;
        let missing = self.wanted.distance_to(seq);
        if missing > 0 {
            self.wanted = seq;
            return Some(GroupEvent::Dropped { packets: u64::from(missing.unsigned_abs()) });
        }
        self.wanted = seq.next();
        self.held.pop_front().map(|held| GroupEvent::Message(held.message))
    }

    /// When something is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        let front = self.held.front()?;
        Some(if front.message.seq == self.wanted { front.due } else { front.until })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::wire::MsgNumber;

    const FIRST: SeqNumber = SeqNumber::new(SeqNumber::MAX - 1);

    fn message(index: u32) -> Message {
        let number = MsgNumber::new(index + 1);
        Message { payload: Bytes::new(), number, seq: FIRST.plus(index), due_us: None }
    }

    fn released(merge: &mut Merge, now: Instant, passed: bool) -> Vec<i64> {
        let events = std::iter::from_fn(|| merge.release(now, |_| passed));
        let number = |event| match event {
            GroupEvent::Message(message) => i64::from(message.number.value()) - 1,
            GroupEvent::Dropped { packets } => -i64::try_from(packets).unwrap(),
            other => panic!("{other:?}"),
        };
        events.map(number).collect()
    }

    #[test]
    fn messages_come_once_and_in_order_across_the_wrap() {
        let (now, mut merge) = (Instant::now(), Merge::new(FIRST, 100));
        let later = now + Duration::from_millis(10);
        for index in [0, 2, 2, 1, 0, 1, 3] {
            merge.insert(message(index), now, later);
        }
        assert_eq!(released(&mut merge, now, false), [0, 1, 2, 3]);
        merge.insert(message(3), now, later);
        assert_eq!((released(&mut merge, now, false), merge.wake()), (vec![], None));
    }

    #[test]
    fn a_gap_is_waited_for_until_nobody_can_fill_it_or_it_is_time() {
        let (now, mut merge) = (Instant::now(), Merge::new(FIRST, 100));
        let later = now + Duration::from_millis(10);
        merge.insert(message(3), now, later);
        assert_eq!((released(&mut merge, now, false), merge.wake()), (vec![], Some(later)));
        merge.insert(message(0), now, later);
        assert_eq!(released(&mut merge, now, false), [0]);
        assert_eq!(released(&mut merge, later, false), [-2, 3]);
        merge.insert(message(5), now, later);
        assert_eq!(released(&mut merge, now, true), [-1, 5]);
        merge.insert(message(6), later, later);
        assert_eq!((released(&mut merge, now, true), merge.wake()), (vec![], Some(later)), "not yet due");
    }

    #[test]
    fn what_is_left_comes_at_the_end() {
        let (now, mut merge) = (Instant::now(), Merge::new(FIRST, 100));
        let later = now + Duration::from_millis(10);
        [0, 1, 4].into_iter().for_each(|index| merge.insert(message(index), later, later));
        assert_eq!(released(&mut merge, now, false), []);
        let left: Vec<_> = std::iter::from_fn(|| merge.flush()).collect();
        let gap = GroupEvent::Dropped { packets: 2 };
        assert_eq!(
            left,
            [
                GroupEvent::Message(message(0)),
                GroupEvent::Message(message(1)),
                gap,
                GroupEvent::Message(message(4))
            ]
        );
    }

    #[test]
    fn no_more_is_held_back_than_the_limit() {
        let (now, mut merge) = (Instant::now(), Merge::new(FIRST, 3));
        let later = now + Duration::from_millis(10);
        (1..=3).for_each(|index| merge.insert(message(index), now, later));
        assert_eq!(released(&mut merge, now, false), []);
        merge.insert(message(4), now, later);
        assert_eq!(released(&mut merge, now, false), [-1, 1, 2, 3, 4]);
    }
}
