//! Links between two machines: what a network does to bytes and datagrams, seeded and in virtual time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::rng::Rng;

/// One direction of a connection.
pub trait Link {
    /// Takes what a machine transmits.
    fn send(&mut self, now: Instant, data: Bytes);

    /// When something can be received next; `None` when nothing is on the way.
    fn next_arrival(&self) -> Option<Instant>;

    /// What has arrived by `now`, one piece at a time.
    fn receive(&mut self, now: Instant) -> Option<Bytes>;
}

/// How a byte stream comes out in pieces. TCP promises nothing about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// As they were sent.
    AsSent,
    /// Everything that has arrived, in one.
    Coalesced,
    /// At most this many bytes at a time, whatever the boundaries.
    Fixed(usize),
    /// Anything from one byte to this many.
    Random(usize),
}

/// A reliable, ordered byte stream with a delay: TCP as an application sees it.
#[derive(Debug)]
pub struct StreamLink {
    delay: Duration,
    jitter: Duration,
    pieces: Pieces,
    rng: Rng,
    in_flight: VecDeque<(Instant, Bytes)>,
}

impl StreamLink {
    /// A link without delay that hands bytes over as they were sent.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            pieces: Pieces::AsSent,
            rng: Rng::new(seed),
            in_flight: VecDeque::new(),
        }
    }

    /// The same link with a delay, and up to `jitter` more of it from case to case. Order is kept.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration, jitter: Duration) -> Self {
        self.delay = delay;
        self.jitter = jitter;
        self
    }

    /// The same link with another way of cutting the stream.
    #[must_use]
    pub const fn with_pieces(mut self, pieces: Pieces) -> Self {
        self.pieces = pieces;
        self
    }

    /// Bytes on the way.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(|(_, data)| data.len()).sum()
    }

    fn has_arrived(&self, now: Instant) -> bool {
        self.in_flight.front().is_some_and(|(at, _)| *at <= now)
    }

    /// All that has arrived, up to `limit` bytes, as one piece.
    fn gather(&mut self, now: Instant, limit: usize) -> Option<Bytes> {
        let mut gathered = BytesMut::new();
        while self.has_arrived(now) && gathered.len() < limit {
            let (at, mut data) = self.in_flight.pop_front()?;
            gathered.extend_from_slice(&data.split_to(data.len().min(limit - gathered.len())));
            if !data.is_empty() {
                self.in_flight.push_front((at, data));
            }
        }
        (!gathered.is_empty()).then(|| gathered.freeze())
    }
}

impl Link for StreamLink {
    fn send(&mut self, now: Instant, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let at = now + self.delay + self.rng.duration_below(self.jitter);
        let after = self.in_flight.back().map_or(at, |(last, _)| at.max(*last));
        self.in_flight.push_back((after, data));
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.front().map(|(at, _)| *at)
    }

    fn receive(&mut self, now: Instant) -> Option<Bytes> {
        let limit = match self.pieces {
            Pieces::AsSent if self.has_arrived(now) => {
                return self.in_flight.pop_front().map(|(_, data)| data);
            }
            Pieces::AsSent => return None,
            Pieces::Coalesced => usize::MAX,
            Pieces::Fixed(size) => size.max(1),
            Pieces::Random(size) => 1 + usize::try_from(self.rng.below(size.max(1) as u64)).unwrap_or(0),
        };
        self.gather(now, limit)
    }
}

/// What a network does to datagrams. The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Of 1 000 datagrams, how many are lost.
    pub loss_per_mille: u32,
    /// Of 1 000 datagrams, how many arrive twice.
    pub duplicate_per_mille: u32,
    /// Of 1 000 datagrams, how many are held back by [`held_back`](Self::held_back), behind later ones.
    pub reorder_per_mille: u32,
    /// How long a reordered datagram is held back.
    pub held_back: Duration,
    /// Delay of every datagram.
    pub delay: Duration,
    /// Up to so much more; may reorder by itself.
    pub jitter: Duration,
    /// Datagrams longer than this are lost; 0 sets no bound.
    pub mtu: usize,
}

/// Unreliable datagrams: UDP as an application sees it.
#[derive(Debug)]
pub struct DatagramLink {
    /// May be changed at any time; counts for datagrams sent from then on.
    pub conditions: Conditions,
    rng: Rng,
    /// By time of arrival.
    in_flight: VecDeque<(Instant, Bytes)>,
    lost: usize,
}

impl DatagramLink {
    /// A link under `conditions`, with the luck of `seed`.
    #[must_use]
    pub const fn new(seed: u64, conditions: Conditions) -> Self {
        Self { conditions, rng: Rng::new(seed), in_flight: VecDeque::new(), lost: 0 }
    }

    /// Datagrams lost so far.
    #[must_use]
    pub const fn lost(&self) -> usize {
        self.lost
    }

    fn queue(&mut self, now: Instant, data: Bytes) {
        let Conditions { delay, jitter, reorder_per_mille, held_back, .. } = self.conditions;
        let extra = if self.rng.chance(reorder_per_mille) { held_back } else { Duration::ZERO };
        let at = now + delay + self.rng.duration_below(jitter) + extra;
        let place = self.in_flight.partition_point(|(other, _)| *other <= at);
        self.in_flight.insert(place, (at, data));
    }
}

impl Link for DatagramLink {
    fn send(&mut self, now: Instant, data: Bytes) {
        let Conditions { mtu, loss_per_mille, duplicate_per_mille, .. } = self.conditions;
        if (mtu > 0 && data.len() > mtu) || self.rng.chance(loss_per_mille) {
            self.lost += 1;
            return;
        }
        if self.rng.chance(duplicate_per_mille) {
            self.queue(now, data.clone());
        }
        self.queue(now, data);
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.front().map(|(at, _)| *at)
    }

    fn receive(&mut self, now: Instant) -> Option<Bytes> {
        self.in_flight.front().filter(|(at, _)| *at <= now)?;
        self.in_flight.pop_front().map(|(_, data)| data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn drain(link: &mut impl Link, clock: &mut Clock) -> Vec<Bytes> {
        let mut got = Vec::new();
        while let Some(at) = link.next_arrival() {
            clock.advance_to(at);
            got.extend(std::iter::from_fn(|| link.receive(clock.now())));
        }
        got
    }

    #[test]
    fn a_stream_keeps_its_bytes_however_it_is_cut() {
        let sent: Vec<u8> = (0..=255).collect();
        let ways =
            [Pieces::AsSent, Pieces::Coalesced, Pieces::Fixed(1), Pieces::Fixed(7), Pieces::Random(40)];
        for pieces in ways {
            let mut clock = Clock::new();
            let ms = Duration::from_millis;
            let mut link = StreamLink::new(1).with_delay(ms(20), ms(30)).with_pieces(pieces);
            sent.chunks(10).for_each(|part| link.send(clock.now(), Bytes::copy_from_slice(part)));
            assert_eq!(link.receive(clock.now()), None, "nothing arrives before its delay");
            let got = drain(&mut link, &mut clock);
            assert_eq!(got.concat(), sent, "{pieces:?}");
            let longest = got.iter().map(Bytes::len).max().unwrap_or(0);
            let fits = match pieces {
                Pieces::AsSent => longest == 10,
                Pieces::Coalesced => longest > 10,
                Pieces::Fixed(size) => longest == size,
                Pieces::Random(size) => longest <= size,
            };
            assert!(fits, "{pieces:?} gave a piece of {longest} bytes");
        }
    }

    #[test]
    fn datagrams_meet_their_fate_at_the_stated_rates() {
        let conditions = Conditions {
            loss_per_mille: 100,
            duplicate_per_mille: 50,
            reorder_per_mille: 20,
            held_back: Duration::from_millis(5),
            mtu: 1_200,
            ..Conditions::default()
        };
        let mut clock = Clock::new();
        let mut link = DatagramLink::new(7, conditions);
        let mut got = Vec::new();
        for n in 0..10_000_u32 {
            link.send(clock.now(), Bytes::copy_from_slice(&n.to_be_bytes()));
            clock.advance(Duration::from_millis(1));
            got.extend(std::iter::from_fn(|| link.receive(clock.now())));
        }
        got.extend(drain(&mut link, &mut clock));
        let backwards = got.windows(2).filter(|pair| pair[1] < pair[0]).count();
        let mut unique = got.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len() + link.lost(), 10_000);
        assert!((900..1_100).contains(&link.lost()), "lost {}", link.lost());
        assert!((350..550).contains(&(got.len() - unique.len())), "doubled {}", got.len() - unique.len());
        assert!((120..260).contains(&backwards), "reordered {backwards}");
        link.send(clock.now(), Bytes::from(vec![0; 1_201]));
        assert_eq!(link.next_arrival(), None, "longer than the MTU");
    }
}
