use std::time::{Duration, Instant};

use super::LayerCount;
use super::ladder::{Ladder, Leads, Step};
use super::layers::{Picture, Rate};
use super::thinning::{LATE, Link};

/// Spatial layers of a picture.
const MAX_LAYERS: usize = 8;
/// Once a layer is left out, what waits has so long to become less before the next one is as well.
const SETTLING: Duration = Duration::from_millis(200);

/// Which spatial layers of the pictures a viewer is sent: those up to one, as no picture refers to a higher layer of another one, nor a
/// layer to a higher one. They become fewer at any picture, and more at a keyframe.
#[derive(Debug)]
pub(super) struct SpatialLayers {
    /// What the pictures up to each layer need.
    rates: [Rate; MAX_LAYERS],
    /// The highest that comes.
    highest: u8,
    ladder: Ladder,
}

impl SpatialLayers {
    pub(super) const fn new() -> Self {
        Self { rates: [Rate::new(); MAX_LAYERS], highest: 0, ladder: Ladder::new(SETTLING) }
    }

    /// Others than before: all are sent.
    pub(super) const fn restart(&mut self) {
        (self.rates, self.highest) = ([Rate::new(); MAX_LAYERS], 0);
        self.ladder.restart();
    }

    /// Times that more or fewer of them were sent from then on.
    pub(super) const fn switches(&self) -> u64 {
        self.ladder.switches()
    }

    /// How many of them are sent.
    pub(super) fn count(&self) -> LayerCount {
        LayerCount::up_to(self.ladder.limit(), self.highest)
    }

    /// True when the picture cannot become smaller.
    pub(super) const fn is_lowest(&self) -> bool {
        self.ladder.limit() == 0 || self.highest == 0
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
        if self.highest > 0 {
            let leads = if picture.is_key() { Leads::ToAll } else { Leads::Nowhere };
            let is_late = link.backlog >= LATE;
            let step = Step { highest: self.highest, leads, is_late, estimate_bps: link.estimate_bps };
            let rate_bps = |layer: u8| self.rates.get(usize::from(layer)).map_or(0, Rate::bps);
            self.ladder.handle_picture(now, step, rate_bps);
        }
        self.ladder.limit()
    }

    /// True when a keyframe should be asked for, now, from which on there are more.
    pub(super) fn take_request(&mut self, now: Instant) -> bool {
        self.ladder.take_request(now)
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::{FrameFlags, Timestamp, TrackId};
    use proptest::prelude::*;

    use super::super::layers::MIN_STAY;
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
