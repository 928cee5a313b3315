//! What a group asks of its members, and tells them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Connection, Event, SendError, SendOptions, State};
use crate::session::clock::micros;
use crate::wire::{MsgNumber, SeqNumber};

/// Handshakes that say another time than the group has by more than this are of a peer whose members have a clock each while
/// they connect, and one for all afterwards.
const OTHER_CLOCK: Duration = Duration::from_secs(1);

/// How a member's path is.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Link {
    /// When the peer was heard last.
    pub(in crate::session) heard: Instant,
    /// When the oldest packet came to be that the peer has not acknowledged.
    pub(in crate::session) waiting: Option<Instant>,
    /// Twice the round trip, and four times its variation.
    pub(in crate::session) patience: Duration,
    /// How long the peer keeps what this side sends.
    pub(in crate::session) latency: Duration,
    /// Everything before has been acknowledged.
    pub(in crate::session) unacknowledged: SeqNumber,
    /// Packets that were too late for being sent.
    pub(in crate::session) dropped: u64,
}

impl Connection {
    /// Takes up what the group that it joins wants next, and the group's time.
    pub(in crate::session) fn synchronise(&mut self, wanted: SeqNumber, base: Option<i64>) {
        let State::Open(open) = &mut self.state else { return };
        open.receiver.renumber(wanted);
        let apart =
            |base: i64| open.receiver.base().is_some_and(|own| (own - base).abs() > micros(OTHER_CLOCK));
        if let Some(base) = base.filter(|base| apart(*base)) {
            open.receiver.set_base(base);
        }
    }

    /// Sends a message under the group's numbers, unless it has been already.
    pub(in crate::session) fn send_numbered(
        &mut self,
        now: Instant,
        payload: Bytes,
        options: SendOptions,
        number: (SeqNumber, MsgNumber),
    ) -> Result<(), SendError> {
        if let State::Open(open) = &self.state
            && open.sender.has_taken(number.0)
        {
            return Ok(());
        }
        self.send(now, payload, SendOptions { number: Some(number), ..options }).map(|_| ())
    }

    /// What has happened, one thing after the other.
    pub(in crate::session) fn take_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// What is to be sent, one datagram after the other.
    pub(in crate::session) fn take_datagram(&mut self) -> Option<Bytes> {
        self.out.datagrams.pop_front()
    }

    /// The group wants nothing before `seq` any more.
    pub(in crate::session) fn pass(&mut self, now: Instant, seq: SeqNumber) {
        let at = self.clock.micros(now);
        if let State::Open(open) = &mut self.state {
            open.receiver.pass(at, seq);
            self.pump(now);
        }
    }

    /// The next packet that is to be handed over.
    pub(in crate::session) fn next_received(&self) -> Option<SeqNumber> {
        match &self.state {
            State::Open(open) => Some(open.receiver.next()),
            _ => None,
        }
    }

    /// When the peer's clock was at 0, on the group's clock.
    pub(in crate::session) fn base(&self) -> Option<i64> {
        match &self.state {
            State::Open(open) => open.receiver.base(),
            _ => None,
        }
    }

    /// How the path is, of a connection that is there.
    pub(in crate::session) fn link(&self) -> Option<Link> {
        let State::Open(open) = &self.state else { return None };
        Some(Link {
            heard: self.clock.instant(open.heard),
            waiting: open.sender.in_flight_since().map(|since| self.clock.instant(since)),
            patience: open.rtt.smoothed() * 2 + open.rtt.variation() * 4,
            latency: open.negotiated.peer_latency,
            unacknowledged: open.sender.unacknowledged(),
            dropped: open.sender.counters().dropped,
        })
    }
}
