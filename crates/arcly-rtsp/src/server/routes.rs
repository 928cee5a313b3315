//! Whose a datagram is, by where it comes from: the address of a session's connection, and the port that its client named.
//!
//! A translation of addresses (NAT) on the way may give a client another port in the middle of a session. What comes from another
//! port of the *same address* is the client's when all of this holds:
//!
//! * it is of the source (SSRC) that came from the port before: 32 random bits that only those know who see the packets;
//! * nothing has come from that port for [`SILENCE`], or [`CONTROL_SILENCE`] of reports: who is still heard is not taken over;
//! * it is the second of two packets in a row (RFC 3550 A.1), unless it is a report.
//!
//! Nothing else is learnt from datagrams (T37). A client whose first packet comes from another port than it named is not heard: nothing
//! says that it is the client.
//!
//! Time is an argument, and there is no I/O here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use arcly_core::wire::{DecodeResult, Reader};

/// How long a source has been silent before its packets may come from another port.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// The same of reports, which come every five seconds.
pub(super) const CONTROL_SILENCE: Duration = Duration::from_secs(7);

/// Which of the two sockets (true for RTCP), and who sends to it.
pub(super) type Place = (bool, SocketAddr);

/// The port that datagrams of a route come from now.
pub(super) type Port = Arc<AtomicU16>;

#[derive(Debug)]
struct Route<T> {
    to: T,
    port: Port,
    /// Who sends, once something has come.
    ssrc: Option<u32>,
    heard: Instant,
    /// Another port that packets of the source come from, and the number that the next of them has to have.
    newcomer: Option<(u16, u16)>,
}

/// Where datagrams go, by where they come from.
#[derive(Debug)]
pub(super) struct Routes<T> {
    by_place: HashMap<Place, Route<T>>,
    /// The port that a source's packets come from, of each route on which something has come.
    by_source: HashMap<(bool, IpAddr, u32), u16>,
    moved: u64,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { by_place: HashMap::new(), by_source: HashMap::new(), moved: 0 }
    }
}

/// What says of a packet whose it is.
struct Origin {
    ssrc: u32,
    /// Reports have none.
    sequence: Option<u16>,
}

impl Origin {
    fn of(control: bool, datagram: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(datagram);
        if r.u8("version")? >> 6 != 2 {
            return Err(r.malformed("version"));
        }
        r.skip(1, "type")?;
        let number = r.u16("number or length")?;
        if !control {
            r.skip(4, "timestamp")?;
        }
        Ok(Self { ssrc: r.u32("ssrc")?, sequence: (!control).then_some(number) })
    }
}

impl<T> Routes<T> {
    /// Hands what comes from there to `to` from now on; `None` when it is somebody else's.
    pub(super) fn open(&mut self, now: Instant, place: Place, to: T) -> Option<Port> {
        let Entry::Vacant(free) = self.by_place.entry(place) else { return None };
        let port = Arc::new(AtomicU16::new(place.1.port()));
        free.insert(Route { to, port: Arc::clone(&port), ssrc: None, heard: now, newcomer: None });
        Some(port)
    }

    /// What comes from there is nobody's any more.
    pub(super) fn close(&mut self, place: Place) {
        if let Some(ssrc) = self.by_place.remove(&place).and_then(|route| route.ssrc) {
            self.forget(place, ssrc);
        }
    }

    /// How often a source has gone on from another port.
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    /// Where a datagram goes; `None` when it is nobody's.
    pub(super) fn find(&mut self, now: Instant, place: Place, datagram: &[u8]) -> Option<&T> {
        let origin = Origin::of(place.0, datagram).ok();
        if !self.by_place.contains_key(&place) && !self.move_here(now, place, origin.as_ref()?) {
            return None;
        }
        let route = self.by_place.get_mut(&place)?;
        (route.heard, route.newcomer) = (now, None);
        let changed = origin.filter(|origin| route.ssrc != Some(origin.ssrc));
        if let Some(Origin { ssrc, .. }) = changed {
            if let Some(before) = route.ssrc.replace(ssrc) {
                self.forget(place, before);
            }
            self.by_source.insert((place.0, place.1.ip(), ssrc), place.1.port());
        }
        self.by_place.get(&place).map(|route| &route.to)
    }

    fn forget(&mut self, (control, from): Place, ssrc: u32) {
        if let Entry::Occupied(known) = self.by_source.entry((control, from.ip(), ssrc))
            && *known.get() == from.port()
        {
            known.remove();
        }
    }

    /// Moves the route of a source to where its packets come from now, if they are believed; false when it stays.
    fn move_here(&mut self, now: Instant, (control, from): Place, origin: &Origin) -> bool {
        let source = (control, from.ip(), origin.ssrc);
        let Some(port) = self.by_source.get_mut(&source) else { return false };
        let before = (control, SocketAddr::new(from.ip(), *port));
        let Entry::Occupied(mut known) = self.by_place.entry(before) else { return false };
        let route = known.get_mut();
        let silence = if control { CONTROL_SILENCE } else { SILENCE };
        if now.saturating_duration_since(route.heard) < silence {
            return false;
        }
        if let Some(sequence) = origin.sequence {
            let due = route.newcomer.replace((from.port(), sequence.wrapping_add(1)));
            if due != Some((from.port(), sequence)) {
                return false;
            }
        }
        tracing::debug!(%from, before = *port, control, "a client goes on from another port");
        route.port.store(from.port(), Ordering::Relaxed);
        *port = from.port();
        let route = known.remove();
        self.by_place.insert((control, from), route);
        self.moved = self.moved.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use arcly_testkit::clock::Clock;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
        [&[0x80, 96][..], &sequence.to_be_bytes(), &[0; 4], &ssrc.to_be_bytes(), b"payload"].concat()
    }

    fn rtcp(ssrc: u32) -> Vec<u8> {
        [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat()
    }

    /// Routes of two clients behind one address, which have sent a packet each: sources 7 from port 5000 and 8 from 6000.
    fn two_clients(clock: &Clock) -> (Routes<char>, Port) {
        let mut routes = Routes::default();
        let port = routes.open(clock.now(), (false, at(5_000)), 'a').unwrap();
        routes.open(clock.now(), (false, at(6_000)), 'b').unwrap();
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(1, 7)), Some(&'a'));
        assert_eq!(routes.find(clock.now(), (false, at(6_000)), &rtp(1, 8)), Some(&'b'));
        (routes, port)
    }

    #[test]
    fn a_port_is_one_client_s_until_it_is_closed() {
        let clock = Clock::new();
        let (mut routes, _) = two_clients(&clock);
        assert!(routes.open(clock.now(), (false, at(5_000)), 'c').is_none());
        assert!(routes.open(clock.now(), (true, at(5_000)), 'c').is_some(), "on the other socket");
        routes.close((false, at(5_000)));
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(2, 7)), None);
        assert!(routes.open(clock.now(), (false, at(5_000)), 'c').is_some());
        // Whatever comes from there is the client's, and shows what is wrong with it there.
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), b"no packet"), Some(&'c'));
    }

    #[test]
    fn a_client_that_a_translation_gives_another_port_is_heard_again() {
        let mut clock = Clock::new();
        let (mut routes, port) = two_clients(&clock);
        clock.advance(SILENCE);
        let moved = (false, at(5_555));
        assert_eq!(routes.find(clock.now(), moved, &rtp(9, 7)), None, "one packet proves nothing");
        assert_eq!(routes.find(clock.now(), moved, &rtp(10, 7)), Some(&'a'));
        assert_eq!((port.load(Ordering::Relaxed), routes.moved()), (5_555, 1));
        assert_eq!(routes.find(clock.now(), moved, &rtp(11, 7)), Some(&'a'));
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(12, 7)), None, "the port before");
        assert_eq!(
            routes.find(clock.now(), (false, at(6_000)), &rtp(2, 8)),
            Some(&'b'),
            "the other one stays"
        );
        // And back.
        clock.advance(SILENCE);
        routes.find(clock.now(), (false, at(5_000)), &rtp(20, 7));
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(21, 7)), Some(&'a'));
        routes.close((false, at(5_000)));
        assert_eq!((routes.by_place.len(), routes.by_source.len()), (1, 1));
    }

    /// T37: from another port of its address, and from elsewhere.
    #[test]
    fn t37_who_is_heard_is_not_taken_over_and_who_is_silent_not_by_strangers() {
        let mut clock = Clock::new();
        let (mut routes, _) = two_clients(&clock);
        for n in 2..100 {
            clock.advance(SILENCE - MS);
            for stranger in [rtp(n, 7), rtp(n + 1, 7)] {
                assert_eq!(
                    routes.find(clock.now(), (false, at(5_555)), &stranger),
                    None,
                    "it is still heard"
                );
            }
            assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(n, 7)), Some(&'a'));
        }
        clock.advance(10 * SILENCE);
        let elsewhere = SocketAddr::from(([192, 0, 2, 2], 5_000));
        for n in 0..100_u16 {
            for (from, packet) in [
                // Another address; another source; numbers that do not follow; by turns from two ports; no packets.
                (elsewhere, rtp(n, 7)),
                (at(5_555), rtp(n, 9)),
                (at(5_555), rtp(2 * n, 7)),
                (at(5_556), rtp(n, 7)),
                (at(5_555), b"no packet".to_vec()),
            ] {
                assert_eq!(routes.find(clock.now(), (false, from), &packet), None, "{from} {n}");
            }
        }
        assert_eq!(routes.moved(), 0);
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(3, 7)), Some(&'a'), "as before");
    }

    #[test]
    fn no_client_is_moved_to_where_another_one_is() {
        let mut clock = Clock::new();
        let (mut routes, _) = two_clients(&clock);
        clock.advance(SILENCE);
        for n in 2..5 {
            assert_eq!(routes.find(clock.now(), (false, at(6_000)), &rtp(n, 7)), Some(&'b'));
        }
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(2, 7)), Some(&'a'));
    }

    #[test]
    fn reports_move_by_their_source_when_none_has_come_for_longer_than_they_take() {
        let mut clock = Clock::new();
        let mut routes = Routes::default();
        let port = routes.open(clock.now(), (true, at(5_001)), 'a').unwrap();
        assert_eq!(routes.find(clock.now(), (true, at(5_555)), &rtcp(7)), None, "nobody has been heard");
        assert_eq!(routes.find(clock.now(), (true, at(5_001)), &rtcp(7)), Some(&'a'));
        clock.advance(CONTROL_SILENCE - MS);
        assert_eq!(routes.find(clock.now(), (true, at(5_555)), &rtcp(7)), None);
        clock.advance(MS);
        assert_eq!(routes.find(clock.now(), (true, at(5_555)), &rtcp(8)), None);
        assert_eq!(routes.find(clock.now(), (true, at(5_555)), &rtcp(7)), Some(&'a'));
        assert_eq!(port.load(Ordering::Relaxed), 5_555);
    }

    /// A sender that was started anew has another source, from the port that it has.
    #[test]
    fn t40_the_source_of_a_client_may_change() {
        let mut clock = Clock::new();
        let (mut routes, _) = two_clients(&clock);
        assert_eq!(routes.find(clock.now(), (false, at(5_000)), &rtp(1, 70)), Some(&'a'));
        assert_eq!(routes.by_source.len(), 2, "one each");
        clock.advance(SILENCE);
        for (ssrc, expect) in [(7, None), (70, Some(&'a'))] {
            routes.find(clock.now(), (false, at(5_555)), &rtp(5, ssrc));
            assert_eq!(routes.find(clock.now(), (false, at(5_555)), &rtp(6, ssrc)), expect);
        }
    }
}
