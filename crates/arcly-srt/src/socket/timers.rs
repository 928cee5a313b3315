//! Deadlines of many connections in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::wire::SocketId;

/// Deadlines, the earliest first. A connection whose deadline moves away keeps its entry until that is due, and is then put
/// back: so there is one entry for a connection, and one more each time that its deadline moves closer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, SocketId)>>,
}

impl Timers {
    /// Wakes `id` at `at`, unless it is in the heap for something earlier, which `scheduled` says.
    pub(super) fn schedule(&mut self, id: SocketId, at: Instant, scheduled: &mut Option<Instant>) {
        if scheduled.is_none_or(|earlier| at < earlier) {
            self.heap.push(Reverse((at, id)));
            *scheduled = Some(at);
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes out one that is due, and for when it was scheduled.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, SocketId)> {
        self.heap.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_away_takes_no_second_entry() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut scheduled, id) = (Timers::default(), None, SocketId(7));
        for ms in [50, 60, 70, 40, 90] {
            timers.schedule(id, at(ms), &mut scheduled);
        }
        assert_eq!((timers.heap.len(), scheduled, timers.next()), (2, Some(at(40)), Some(at(40))));
        assert_eq!(timers.pop_due(at(39)), None);
        assert_eq!(timers.pop_due(at(40)), Some((at(40), id)));
        assert_eq!(timers.pop_due(at(60)), Some((at(50), id)));
        assert_eq!(timers.next(), None);
    }
}
