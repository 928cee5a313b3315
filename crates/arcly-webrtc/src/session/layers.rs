use std::time::{Duration, Instant};

use arcly_core::{FrameFlags, TimeDelta, Timestamp, TrackId};

/// Layers that one picture may come in.
pub const MAX_LAYERS: usize = 4;
/// What the labels of tracks begin with that are layers of one picture: any other tracks are pictures of something else.
pub const LAYER_LABEL: &str = "layer ";
/// How often the choice is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A layer that nothing came of for so long is not chosen: publishers send fewer when their own link is narrow.
pub(super) const SILENCE: Duration = Duration::from_millis(1_500);
/// How much of a layer its bitrate is measured over.
const MEASURED: TimeDelta = TimeDelta::from_millis(1_000);
/// What the link has to carry for a layer that is sent already, in percent of its bitrate.
const ROOM_TO_STAY: u64 = 110;
/// What it has to carry for a better one.
pub(super) const ROOM_TO_RISE: u64 = 130;
/// How long a layer is sent before a better one is tried.
pub const MIN_STAY: Duration = Duration::from_secs(3);
/// A keyframe of the layer that is wanted is asked for once in this time.
const ASK: Duration = Duration::from_secs(1);

/// A picture as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pub(super) track: TrackId,
    pub(super) dts: Timestamp,
    pub(super) bytes: u64,
    pub(super) flags: FrameFlags,
}

impl Picture {
    pub(super) const fn is_key(&self) -> bool {
        self.flags.contains(FrameFlags::KEYFRAME)
    }
}

/// The bitrate of what is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    /// Since when these bytes were counted.
    since: Option<Timestamp>,
    bytes: u64,
    /// Bits per second; 0 as long as it is not known.
    bps: u64,
}

impl Rate {
    pub(super) const fn new() -> Self {
        Self { since: None, bytes: 0, bps: 0 }
    }

    pub(super) const fn bps(&self) -> u64 {
        self.bps
    }

    pub(super) fn count(&mut self, dts: Timestamp, bytes: u64) {
        let since = *self.since.get_or_insert(dts);
        let span = dts - since;
        if span >= MEASURED || span < TimeDelta::ZERO {
            let micros = u64::try_from(span.to_duration().as_micros()).unwrap_or(u64::MAX);
            let bits = self.bytes.saturating_mul(8_000_000);
            self.bps = bits.checked_div(micros).unwrap_or(self.bps);
            (self.since, self.bytes) = (Some(dts), 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    track: TrackId,
    rate: Rate,
    seen: Option<Instant>,
}

impl Layer {
    const fn new(track: TrackId) -> Self {
        Self { track, rate: Rate::new(), seen: None }
    }

    fn count(&mut self, now: Instant, picture: Picture) {
        self.seen = Some(now);
        self.rate.count(picture.dts, picture.bytes);
    }

    fn is_live(&self, now: Instant) -> bool {
        self.rate.bps() > 0 && self.seen.is_some_and(|seen| now.saturating_duration_since(seen) < SILENCE)
    }
}

/// The layers of one picture, and which of them a viewer is sent: the best that its link carries. Another one begins with a keyframe.
#[derive(Debug)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    current: usize,
    wanted: usize,
    changed: Option<Instant>,
    looked: Option<Instant>,
    asked: Option<Instant>,
    switches: u64,
}

impl Layers {
    /// These, of which the first is sent as long as nothing is known; further than [`MAX_LAYERS`] are left aside.
    pub(super) fn new(tracks: impl IntoIterator<Item = TrackId>) -> Self {
        let layers = tracks.into_iter().take(MAX_LAYERS).map(Layer::new).collect();
        Self { layers, current: 0, wanted: 0, changed: None, looked: None, asked: None, switches: 0 }
    }

    /// The same with what was known of layers that are still there.
    pub(super) fn carry_over(mut self, before: &Self) -> Self {
        for layer in &mut self.layers {
            *layer = before.layers.iter().copied().find(|known| known.track == layer.track).unwrap_or(*layer);
        }
        let place = |at: usize| before.layers.get(at).and_then(|layer| self.place(layer.track));
        let current = place(before.current);
        self.wanted = place(before.wanted).or(current).unwrap_or(0);
        self.current = current.unwrap_or(self.wanted);
        Self { changed: before.changed, asked: before.asked, switches: before.switches, ..self }
    }

    fn place(&self, track: TrackId) -> Option<usize> {
        self.layers.iter().position(|layer| layer.track == track)
    }

    pub(super) fn has(&self, track: TrackId) -> bool {
        self.place(track).is_some()
    }

    pub(super) fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.layers.iter().map(|layer| layer.track)
    }

    pub(super) const fn are_several(&self) -> bool {
        self.layers.len() > 1
    }

    /// Times that another one was sent from then on.
    pub(super) const fn switches(&self) -> u64 {
        self.switches
    }

    /// What the best of them needs, in bits per second; 0 as long as it is not known.
    pub(super) fn best_bps(&self) -> u64 {
        self.layers.iter().map(|layer| layer.rate.bps()).max().unwrap_or(0)
    }

    /// Whether a picture is of the layer that is sent, when the link is believed to carry `estimate_bps`.
    pub(super) fn admits(&mut self, now: Instant, picture: Picture, estimate_bps: Option<u64>) -> bool {
        let Some(at) = self.place(picture.track) else { return false };
        if let Some(layer) = self.layers.get_mut(at) {
            layer.count(now, picture);
        }
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            self.wanted = self.choose(now, estimate_bps);
        }
        if at == self.wanted && picture.is_key() && at != self.current {
            self.current = at;
            self.changed = Some(now);
            self.switches = self.switches.saturating_add(1);
        }
        at == self.current
    }

    /// The layer that is sent.
    pub(super) fn sent(&self) -> Option<TrackId> {
        self.layers.get(self.current).map(|layer| layer.track)
    }

    /// The layer that is wanted, when a keyframe of it should be asked for, now.
    pub(super) fn take_request(&mut self, now: Instant) -> Option<TrackId> {
        let due = self.wanted != self.current
            && self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK);
        if due {
            self.asked = Some(now);
        }
        self.layers.get(self.wanted).map(|layer| layer.track).filter(|_| due)
    }

    fn choose(&self, now: Instant, estimate_bps: Option<u64>) -> usize {
        let current = self.layers.get(self.current).filter(|layer| layer.is_live(now));
        let own = current.map_or(0, |layer| layer.rate.bps());
        let rested = self.changed.is_none_or(|changed| now.saturating_duration_since(changed) >= MIN_STAY);
        let live = || self.layers.iter().enumerate().filter(|(_, layer)| layer.is_live(now));
        let fits = |layer: &Layer| {
            let rises = current.is_some() && layer.rate.bps() > own;
            let room = if rises { ROOM_TO_RISE } else { ROOM_TO_STAY };
            let carried = estimate_bps.is_none_or(|bps| layer.rate.bps().saturating_mul(room) / 100 <= bps);
            carried && (!rises || rested)
        };
        let best = live().filter(|(_, layer)| fits(layer)).max_by_key(|(_, layer)| layer.rate.bps());
        let least = || live().min_by_key(|(_, layer)| layer.rate.bps());
        best.or_else(least).map_or(self.wanted, |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: TrackId = TrackId::VIDEO;

    struct Stage {
        layers: Layers,
        low: TrackId,
        now: Instant,
        n: i64,
        high_is_sent: bool,
    }

    impl Stage {
        fn new() -> Self {
            let low = TrackId::new(3).unwrap();
            Self { layers: Layers::new([HIGH, low]), low, now: Instant::now(), n: 0, high_is_sent: true }
        }

        /// Runs for so many pictures of 1/25 s, a keyframe of each layer every 50. Says what of each layer went out.
        fn run(&mut self, pictures: i64, estimate_bps: u64) -> [usize; 2] {
            let mut sent = [0; 2];
            for _ in 0..pictures {
                let dts = Timestamp::from_millis(self.n * 40);
                let flags = if self.n % 50 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
                for (place, (track, bytes)) in [(HIGH, 10_000), (self.low, 1_000)].into_iter().enumerate() {
                    if place == 0 && !self.high_is_sent {
                        continue;
                    }
                    let picture = Picture { track, dts, bytes, flags };
                    sent[place] += usize::from(self.layers.admits(self.now, picture, Some(estimate_bps)));
                }
                self.n += 1;
                self.now += Duration::from_millis(40);
            }
            sent
        }
    }

    #[test]
    fn the_best_layer_that_fits_is_sent_and_changes_at_keyframes() {
        let mut stage = Stage::new();
        // 2 Mbit/s and 200 kbit/s.
        assert_eq!(stage.run(100, 5_000_000), [100, 0]);
        assert_eq!(stage.layers.best_bps(), 2_000_000);
        let [high, low] = stage.run(100, 1_000_000);
        assert_eq!(
            (high + low, stage.layers.switches()),
            (101, 1),
            "of the picture where it changes both go out"
        );
        assert!(low == 50, "with the keyframe that came next: {low}");
        assert_eq!(stage.run(100, 2_300_000), [0, 100], "a little more is no reason to rise");
        let [high, low] = stage.run(100, 2_700_000);
        assert!(high > 0 && low > 0 && stage.layers.switches() == 2);
        assert_eq!(stage.run(100, 2_300_000), [100, 0], "nor a little less to fall");
    }

    #[test]
    fn a_layer_that_is_not_sent_any_more_is_left_and_keyframes_are_asked_for() {
        let mut stage = Stage::new();
        stage.run(100, 9_000_000);
        assert_eq!(stage.layers.take_request(stage.now), None);
        stage.high_is_sent = false;
        stage.run(49, 9_000_000);
        let now = stage.now;
        let low = Some(stage.low);
        assert_eq!((stage.layers.take_request(now), stage.layers.take_request(now)), (low, None));
        assert_eq!((stage.layers.take_request(now + ASK), stage.layers.sent()), (low, Some(HIGH)));
        assert!(stage.run(51, 9_000_000)[1] > 0);
        assert_eq!((stage.layers.take_request(stage.now + ASK), stage.layers.sent()), (None, low));
        let low = stage.low;
        let carried = Layers::new([low, HIGH]).carry_over(&stage.layers);
        assert_eq!((carried.current, carried.wanted, carried.switches()), (0, 0, 1));
        assert!(Layers::new([HIGH]).carry_over(&stage.layers).has(HIGH));
    }
}
