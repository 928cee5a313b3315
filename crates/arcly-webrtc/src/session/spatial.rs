use std::time::{Duration, Instant};

use super::layers::{MIN_STAY, Picture, ROOM_TO_RISE, Rate};
use super::thinning::{LATE, Link, PATIENCE};

/// Spatial layers of a picture.
const MAX_LAYERS: usize = 8;
/// Once a layer is left out, what waits has so long to become less before the next one is as well.
const SETTLING: Duration = Duration::from_millis(200);
/// A keyframe is asked for once in this time so that more layers can be sent.
const ASK: Duration = Duration::from_secs(10);

/// Which spatial layers of the pictures a viewer is sent: those up to one, as no picture refers to a higher layer of another one, nor a
/// layer to a higher one. They become fewer at any picture, and more at a keyframe.
#[derive(Debug)]
pub(super) struct SpatialLayers {
    /// What the pictures up to each layer need.
    rates: [Rate; MAX_LAYERS],
    /// The highest that comes.
    highest: u8,
    /// The highest that is sent.
    limit: u8,
    changed: Option<Instant>,
    /// Since when there is room for more.
    room: Option<Instant>,
    asked: Option<Instant>,
    switches: u64,
}

impl SpatialLayers {
    pub(super) const fn new() -> Self {
        let rates = [Rate::new(); MAX_LAYERS];
        Self { rates, highest: 0, limit: u8::MAX, changed: None, room: None, asked: None, switches: 0 }
    }

    /// Others than before: all are sent.
    pub(super) const fn restart(&mut self) {
        let Self { asked, switches, .. } = *self;
        *self = Self { asked, switches, ..Self::new() };
    }

    /// Times that more or fewer of them were sent from then on.
    pub(super) const fn switches(&self) -> u64 {
        self.switches
    }

    /// True when the picture cannot become smaller.
    pub(super) const fn is_lowest(&self) -> bool {
        self.limit == 0 || self.highest == 0
    }

    /// The highest layer of a picture that is sent on that link. `sizes` are the bytes of the picture up to each layer, the lowest first.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        picture: &Picture,
        sizes: impl Iterator<Item = u64>,
        link: Link,
    ) -> u8 {
        let mut count = 0_u8;
        for (rate, bytes) in self.rates.iter_mut().zip(sizes) {
            rate.count(picture.dts, bytes);
            count = count.saturating_add(1);
        }
        // Publishers send fewer for a moment; what counts is what a keyframe has.
        if picture.is_key() || count > self.highest {
            self.highest = count.saturating_sub(1);
        }
        if self.highest == 0 {
            return self.limit;
        }
        let is_over = link.estimate_bps.is_some_and(|bps| self.rate_bps(self.limit.min(self.highest)) > bps);
        if link.backlog >= LATE || is_over {
            self.room = None;
            self.fall(now, link.estimate_bps);
        } else {
            self.rise(now, picture.is_key(), link.estimate_bps);
        }
        self.limit
    }

    /// True when a keyframe should be asked for, now, from which on there are more.
    pub(super) fn take_request(&mut self, now: Instant) -> bool {
        let long =
            |since: Option<Instant>, time| since.is_some_and(|at| now.saturating_duration_since(at) >= time);
        let due = long(self.room, PATIENCE) && (self.asked.is_none() || long(self.asked, ASK));
        if due {
            self.asked = Some(now);
        }
        due
    }

    fn rate_bps(&self, layer: u8) -> u64 {
        self.rates.get(usize::from(layer)).map_or(0, Rate::bps)
    }

    fn fall(&mut self, now: Instant, estimate_bps: Option<u64>) {
        let settles = |at: Instant| now.saturating_duration_since(at) < SETTLING;
        let Some(mut limit) = self.limit.min(self.highest).checked_sub(1) else { return };
        if self.changed.is_some_and(settles) {
            return;
        }
        while limit > 0 && estimate_bps.is_some_and(|bps| self.rate_bps(limit) > bps) {
            limit = limit.saturating_sub(1);
        }
        self.change(now, limit);
    }

    fn rise(&mut self, now: Instant, is_key: bool, estimate_bps: Option<u64>) {
        let next = self.limit.saturating_add(1);
        if next > self.highest {
            self.room = None;
            return;
        }
        let rested = self.changed.is_none_or(|at| now.saturating_duration_since(at) >= MIN_STAY);
        let fits = |layer| {
            let needed = self.rate_bps(layer).saturating_mul(ROOM_TO_RISE) / 100;
            estimate_bps.is_none_or(|bps| needed <= bps)
        };
        if !rested || !fits(next) {
            self.room = None;
        } else if is_key {
            let limit = (next..=self.highest).take_while(|layer| fits(*layer)).last().unwrap_or(next);
            self.change(now, limit);
        } else {
            self.room.get_or_insert(now);
        }
    }

    const fn change(&mut self, now: Instant, limit: u8) {
        self.limit = limit;
        self.changed = Some(now);
        self.room = None;
        self.switches = self.switches.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::{FrameFlags, Timestamp, TrackId};
    use proptest::prelude::*;

    use super::*;

    const PICTURE: Duration = Duration::from_millis(40);

    struct Stream {
        layers: SpatialLayers,
        now: Instant,
        n: usize,
        /// The layers that the viewer has of the picture before.
        has: u8,
    }

    impl Stream {
        fn new() -> Self {
            Self { layers: SpatialLayers::new(), now: Instant::now(), n: 0, has: 0 }
        }

        /// The next picture of so many layers, of 100, 300 and 1 000 kbit/s together. Each layer refers to itself in the picture before,
        /// and to the one below in this (L3T3; of L3T3_KEY only the keyframe does).
        fn next(&mut self, is_key: bool, count: u8, backlog: Duration, estimate_bps: Option<u64>) -> u8 {
            let flags = if is_key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
            let dts = Timestamp::from_millis(40 * i64::try_from(self.n).unwrap());
            let sizes = [500, 1_500, 5_000];
            let picture = Picture { track: TrackId::VIDEO, dts, bytes: 5_000, flags };
            let link = Link { is_new: true, backlog, estimate_bps, is_lowest: false };
            let sizes = sizes.into_iter().take(count.into());
            let sent = self.layers.choose(self.now, &picture, sizes, link).saturating_add(1).min(count);
            assert!(is_key || self.n == 0 || sent <= self.has || count > 3, "a layer came out of nowhere");
            self.has = sent;
            self.n += 1;
            self.now += PICTURE;
            sent
        }
    }

    #[test]
    fn a_picture_becomes_smaller_at_once_and_larger_at_a_keyframe() {
        let mut stream = Stream::new();
        let (none, wide) = (Duration::ZERO, Some(9_000_000));
        stream.next(true, 3, none, wide);
        (0..50).for_each(|_| assert_eq!(stream.next(false, 3, none, wide), 3));
        assert_eq!(stream.next(false, 3, LATE, wide), 2);
        assert!(!stream.layers.is_lowest());
        assert_eq!(stream.next(false, 3, LATE, wide), 2, "which has some time to help");
        stream.now += SETTLING;
        assert_eq!(stream.next(false, 3, none, Some(200_000)), 1, "what the link does not carry");
        assert!(stream.layers.is_lowest());
        (0..200).for_each(|_| assert_eq!(stream.next(false, 3, none, wide), 1));
        assert!(stream.layers.take_request(stream.now) && !stream.layers.take_request(stream.now));
        assert_eq!(stream.next(true, 3, none, Some(400_000)), 2, "as many as fit");
        assert_eq!(stream.next(true, 3, none, wide), 2, "for a while");
        stream.now += MIN_STAY;
        assert_eq!(stream.next(true, 3, none, wide), 3);
        assert_eq!(stream.layers.switches(), 4);
    }

    proptest! {
        #[test]
        fn no_layer_goes_out_that_refers_to_what_did_not(
            links in proptest::collection::vec((0..400_u64, proptest::option::of(50_000..2_000_000_u64), 0..20_u8), 1..500),
        ) {
            let mut stream = Stream::new();
            for (backlog, estimate_bps, kind) in links {
                stream.next(kind == 0, 3, Duration::from_millis(backlog), estimate_bps);
                stream.now += Duration::from_millis(backlog);
            }
        }
    }
}
