use std::time::{Duration, Instant};

use arcly_core::FrameFlags;

use super::LayerCount;
use super::ladder::{Ladder, Leads, Step};
use super::layers::{Picture, Rate, SILENCE};
use super::thinning::LATE;

/// Temporal layers of a picture.
const MAX_LAYERS: usize = 8;
/// Once a layer is left out, what waits has so long to become less before the next one is as well.
const SETTLING: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    rate: Rate,
    seen: Option<Instant>,
}

/// Which temporal layers of the pictures a viewer is sent: those up to one, as no picture refers to one of a higher layer.
///
/// It becomes fewer at any picture, and more where a picture of the next layer says that it needs none of its layer before it
/// ([`LAYER_SYNC`](FrameFlags::LAYER_SYNC)), or at a keyframe.
#[derive(Debug)]
pub(super) struct TemporalLayers {
    layers: [Layer; MAX_LAYERS],
    /// The highest that came when a picture did last.
    highest: u8,
    ladder: Ladder,
}

impl TemporalLayers {
    pub(super) const fn new() -> Self {
        const NONE: Layer = Layer { rate: Rate::new(), seen: None };
        Self { layers: [NONE; MAX_LAYERS], highest: 0, ladder: Ladder::new(SETTLING) }
    }

    /// Others than before: of another track, or behind a gap. All are sent.
    pub(super) fn restart(&mut self) {
        (self.layers, self.highest) = (Self::new().layers, 0);
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

    /// Whether a picture is of a layer that is sent, on a link that is believed to carry `estimate_bps` and where others wait for `backlog`.
    pub(super) fn admits(
        &mut self,
        now: Instant,
        picture: &Picture,
        backlog: Duration,
        estimate_bps: Option<u64>,
    ) -> bool {
        let id = picture.flags.temporal_id();
        if let Some(layer) = self.layers.get_mut(usize::from(id)) {
            layer.rate.count(picture.dts, picture.bytes);
            layer.seen = Some(now);
        }
        let is_next = id == self.ladder.limit().saturating_add(1);
        let leads = match picture.flags.contains(FrameFlags::LAYER_SYNC) {
            _ if picture.is_key() => Leads::ToAll,
            true if is_next => Leads::ToNext,
            _ => Leads::Nowhere,
        };
        self.highest = self.highest_at(now);
        let step = Step { highest: self.highest, leads, is_late: backlog >= LATE, estimate_bps };
        // What those up to one need.
        let rate_bps = |limit: u8| {
            let layers = self.layers.iter().take(usize::from(limit).saturating_add(1));
            layers.map(|layer| layer.rate.bps()).fold(0, u64::saturating_add)
        };
        self.ladder.handle_picture(now, step, rate_bps);
        id <= self.ladder.limit()
    }

    /// True when a keyframe should be asked for, now: nothing else leads to more layers.
    pub(super) fn take_request(&mut self, now: Instant) -> bool {
        self.ladder.take_request(now)
    }

    /// The highest that comes.
    fn highest_at(&self, now: Instant) -> u8 {
        let comes = |layer: &Layer| layer.seen.is_some_and(|at| now.saturating_duration_since(at) < SILENCE);
        let at = self.layers.iter().rposition(comes).unwrap_or(0);
        u8::try_from(at).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::{Timestamp, TrackId};
    use proptest::prelude::*;

    use super::super::ladder::ASK;
    use super::super::layers::MIN_STAY;
    use super::*;

    /// A picture of a pattern: its layer, whether it is said that layers can be gone over to, and which before it it refers to, counted back.
    type Pattern = &'static [(u8, bool, &'static [usize])];

    /// What browsers send as `L1T2` and `L1T3`, one where a layer refers to itself for long, and one where only the lowest layer says
    /// that others may follow.
    const PATTERNS: [Pattern; 5] = [
        &[(0, true, &[2]), (1, true, &[1])],
        &[(0, true, &[4]), (2, true, &[1]), (1, false, &[2]), (2, true, &[1, 2])],
        &[
            (0, true, &[4]),
            (2, true, &[1]),
            (1, true, &[2]),
            (2, true, &[1]),
            (0, false, &[4]),
            (2, false, &[1, 2]),
            (1, false, &[2, 4]),
            (2, false, &[1, 2]),
        ],
        &[(0, true, &[4]), (1, false, &[1]), (1, false, &[1]), (1, false, &[1])],
        &[(0, false, &[4]), (2, false, &[1, 3]), (1, false, &[2, 4]), (2, false, &[1, 2])],
    ];
    const PICTURE: Duration = Duration::from_millis(20);

    struct Stream {
        layers: TemporalLayers,
        flags: arcly_codec::TemporalLayers,
        pattern: Pattern,
        now: Instant,
        sent: Vec<bool>,
        key: usize,
    }

    impl Stream {
        fn new(pattern: Pattern) -> Self {
            let (layers, flags) = (TemporalLayers::new(), arcly_codec::TemporalLayers::default());
            Self { layers, flags, pattern, now: Instant::now(), sent: Vec::new(), key: 0 }
        }

        /// The next picture. Says its layer, and whether it went out.
        fn next(&mut self, is_key: bool, backlog: Duration, estimate_bps: Option<u64>) -> (u8, bool) {
            let n = self.sent.len();
            let is_key = n == 0 || (is_key && self.pattern[n % self.pattern.len()].0 == 0);
            if is_key {
                self.key = n;
            }
            let (id, up, references) = self.pattern[n % self.pattern.len()];
            let mut flags = self.flags.with_switch_up(id, up || is_key);
            flags.set(FrameFlags::KEYFRAME, is_key);
            let dts = Timestamp::from_millis(20 * i64::try_from(n).unwrap());
            let picture = Picture { track: TrackId::VIDEO, dts, bytes: 1_250, flags };
            let admitted = self.layers.admits(self.now, &picture, backlog, estimate_bps);
            let has_all = is_key
                || references
                    .iter()
                    .all(|back| n.checked_sub(*back).is_none_or(|at| at < self.key || self.sent[at]));
            assert!(!admitted || has_all, "picture {n} lacks a reference");
            self.sent.push(admitted);
            self.now += PICTURE;
            (id, admitted)
        }

        /// How many of each layer go out of so many.
        fn run(&mut self, pictures: usize, backlog: Duration, estimate_bps: Option<u64>) -> [usize; 3] {
            let mut sent = [0; 3];
            for _ in 0..pictures {
                let (id, admitted) = self.next(false, backlog, estimate_bps);
                sent[usize::from(id)] += usize::from(admitted);
            }
            sent
        }
    }

    #[test]
    fn layers_go_one_by_one_and_come_back_when_there_is_room() {
        // 500 kbit/s, half of it in the highest layer.
        let mut stream = Stream::new(PATTERNS[1]);
        let wide = Some(5_000_000);
        assert_eq!(stream.run(100, Duration::ZERO, wide), [25, 25, 50]);
        assert_eq!(stream.run(4, LATE, wide), [1, 1, 0], "the highest at once");
        assert_eq!(stream.run(4, Duration::ZERO, wide), [1, 1, 0]);
        assert_eq!(stream.run(8, LATE, wide), [2, 0, 0], "and the next where that was not enough");
        let stay = usize::try_from(MIN_STAY.as_millis() / PICTURE.as_millis()).unwrap();
        assert_eq!(stream.run(stay - 8, Duration::ZERO, wide)[1..], [0, 0], "for a while");
        let narrow = Some(320_000);
        assert_eq!(
            stream.run(200, Duration::ZERO, narrow)[1..],
            [0, 0],
            "250 kbit/s have no room to rise here"
        );
        assert_eq!(stream.run(stay, Duration::ZERO, Some(400_000))[2], 0, "for one more");
        assert!(stream.run(stay, Duration::ZERO, wide)[2] > 0, "for all");
        assert_eq!(stream.run(100, Duration::ZERO, wide), [25, 25, 50]);
        assert_eq!(stream.layers.switches(), 4);
        assert!(!stream.layers.take_request(stream.now));
        // What the link is known not to carry goes at once.
        assert_eq!(stream.run(4, LATE, Some(130_000)), [1, 0, 0]);
    }

    #[test]
    fn a_keyframe_is_asked_for_where_nothing_else_leads_to_more() {
        let mut stream = Stream::new(PATTERNS[4]);
        stream.run(100, Duration::ZERO, None);
        stream.run(4, LATE, None);
        stream.run(200, Duration::ZERO, None);
        assert!(!stream.layers.take_request(stream.now), "there has not been room for long");
        assert_eq!(stream.run(200, Duration::ZERO, None), [50, 50, 0]);
        assert!(stream.layers.take_request(stream.now) && !stream.layers.take_request(stream.now));
        assert!(
            !stream.layers.take_request(stream.now + ASK / 2) && stream.layers.take_request(stream.now + ASK)
        );
        stream.next(true, Duration::ZERO, None);
        assert_eq!(stream.run(99, Duration::ZERO, None), [24, 25, 50]);
    }

    proptest! {
        #[test]
        fn no_picture_goes_out_whose_reference_did_not(
            pattern in 0..PATTERNS.len(),
            links in proptest::collection::vec((0..60_usize, 0..400_u64, proptest::option::of(50_000..2_000_000_u64), any::<bool>()), 1..60),
        ) {
            let mut stream = Stream::new(PATTERNS[pattern]);
            for (pictures, backlog, estimate_bps, is_key) in links {
                stream.next(is_key, Duration::from_millis(backlog), estimate_bps);
                stream.run(pictures, Duration::from_millis(backlog), estimate_bps);
                stream.now += Duration::from_secs(backlog % 4);
            }
        }
    }
}
