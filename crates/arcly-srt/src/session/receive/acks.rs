//! When acknowledgements are sent, and the round trip that their acknowledgements give (draft section 4.8.1).

use std::collections::VecDeque;
use std::time::Duration;

use crate::session::clock::{earlier, micros};
use crate::session::rtt::Rtt;

/// A full acknowledgement every 10 ms, at most.
const ACK_PERIOD: i64 = 10_000;
/// And a light one after so many packets within that.
const LIGHT_ACK_PACKETS: u32 = 64;
/// Acknowledgements that may be acknowledged: 5 s of them, or the round trip is not measured.
const MAX_JOURNAL: usize = 512;

#[derive(Debug)]
pub(super) struct Acks {
    /// Of the last full acknowledgement; the first is 1.
    number: u32,
    /// What the last full acknowledgement said, and when it was sent.
    said: u64,
    said_at: i64,
    /// What the peer is known to have heard.
    confirmed: u64,
    /// It repeats what has been acknowledged.
    unheard: bool,
    /// Packets since an acknowledgement of any kind.
    since: u32,
    /// When the next full acknowledgement is looked into.
    next: Option<i64>,
    journal: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    number: u32,
    said: u64,
    at: i64,
}

/// An acknowledgement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Full { number: u32 },
    Light,
}

impl Acks {
    pub(super) const fn new() -> Self {
        Self {
            number: 0,
            said: 0,
            said_at: 0,
            confirmed: 0,
            unheard: false,
            since: 0,
            next: None,
            journal: VecDeque::new(),
        }
    }

    /// A packet has come.
    pub(super) fn received(&mut self, now: i64) {
        self.since = self.since.saturating_add(1);
        self.wake_up(now);
    }

    /// There may be something new to say, though no packet came.
    pub(super) fn wake_up(&mut self, now: i64) {
        self.next = earlier(self.next, Some((self.said_at + ACK_PERIOD).max(now)));
    }

    /// The peer has repeated a packet that was here already: it may not have heard that.
    pub(super) fn repeated(&mut self, now: i64) {
        self.unheard = true;
        self.wake_up(now);
    }

    pub(super) const fn wake(&self) -> Option<i64> {
        self.next
    }

    /// What to send at `now`, when everything before `complete` has come.
    pub(super) fn poll(&mut self, now: i64, complete: u64, rtt: &Rtt) -> Option<Due> {
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
            return self.full(now, complete, rtt);
        }
        if self.since >= LIGHT_ACK_PACKETS && complete > self.said {
            self.since = 0;
            return Some(Due::Light);
        }
        None
    }

    fn full(&mut self, now: i64, complete: u64, rtt: &Rtt) -> Option<Due> {
        if complete <= self.confirmed {
            return None;
        }
        let repeat = self.said_at + if self.unheard { ACK_PERIOD } else { micros(rtt.timeout()) };
        if complete == self.said && now < repeat {
            // It may have been lost: it is said again when it should have been confirmed.
            self.next = Some(repeat);
            return None;
        }
        self.since = 0;
        self.number = self.number.wrapping_add(1).max(1);
        self.said = complete;
        self.said_at = now;
        self.unheard = false;
        self.next = Some(now + micros(rtt.timeout()).max(ACK_PERIOD));
        if self.journal.len() >= MAX_JOURNAL {
            self.journal.pop_front();
        }
        self.journal.push_back(Sent { number: self.number, said: complete, at: now });
        Some(Due::Full { number: self.number })
    }

    /// The peer has heard acknowledgement `number`. Says how long the round trip took.
    pub(super) fn confirm(&mut self, now: i64, number: u32) -> Option<Duration> {
        let place = self.journal.iter().position(|sent| sent.number == number)?;
        let sent = self.journal.drain(..=place).next_back()?;
        self.confirmed = self.confirmed.max(sent.said);
        Some(Duration::from_micros(u64::try_from(now - sent.at).unwrap_or(0)))
    }

    /// Bounds hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.journal.len() <= MAX_JOURNAL);
        assert!(self.confirmed <= self.said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtt() -> Rtt {
        let mut rtt = Rtt::default();
        (0..100).for_each(|_| rtt.measure(Duration::from_millis(40)));
        rtt
    }

    #[test]
    fn full_ones_come_every_ten_milliseconds_while_there_is_something_new() {
        let (mut acks, rtt) = (Acks::new(), rtt());
        let mut sent = Vec::new();
        for ms in 0..100 {
            if ms < 50 {
                acks.received(ms * 1_000);
            }
            let complete = u64::try_from(ms.min(49) + 1).unwrap();
            if let Some(due) = acks.poll(ms * 1_000, complete, &rtt) {
                sent.push((ms, due));
            }
            acks.check_invariants();
        }
        let times: Vec<i64> = sent.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(times[..6], [10, 20, 30, 40, 50, 90], "and again when nobody has confirmed it");
    }

    #[test]
    fn light_ones_come_after_64_packets() {
        let (mut acks, rtt) = (Acks::new(), rtt());
        let mut light = 0;
        for n in 0..640_u64 {
            acks.received(1);
            light += usize::from(acks.poll(1, n + 1, &rtt) == Some(Due::Light));
        }
        assert_eq!(light, 10);
    }

    #[test]
    fn a_confirmation_gives_the_round_trip_once_and_ends_repetition() {
        let (mut acks, rtt) = (Acks::new(), rtt());
        acks.received(0);
        assert_eq!(acks.poll(10_000, 1, &rtt), Some(Due::Full { number: 1 }));
        assert_eq!(acks.confirm(20_000, 7), None, "never sent");
        assert_eq!(acks.confirm(52_000, 1), Some(Duration::from_millis(42)));
        assert_eq!(acks.confirm(52_000, 1), None, "once");
        let wake = acks.wake().unwrap();
        assert_eq!(acks.poll(wake, 1, &rtt), None);
        assert_eq!(acks.wake(), None);
    }

    #[test]
    fn the_journal_is_bounded() {
        let (mut acks, rtt) = (Acks::new(), rtt());
        for n in 1..2_000_i64 {
            acks.received(n * 10_000);
            acks.poll(n * 10_000, u64::try_from(n).unwrap(), &rtt);
        }
        acks.check_invariants();
        assert_eq!(acks.confirm(20_000_000, 5), None, "forgotten");
    }
}
