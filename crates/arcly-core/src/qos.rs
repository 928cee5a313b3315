//! What a track's stream of frames looks like from here: rate, key-frame distance, jitter.
//!
//! | figure | how |
//! |---|---|
//! | bitrate, frame rate | by arrival, over the last [`WINDOW`] in steps of 100 ms; the step under way does not count |
//! | GOP | frames and dts from one keyframe to the next |
//! | jitter | RFC 3550 section 6.4.1 and appendix A.8, arrival against dts |
//!
//! **Guarantees.** A meter has constant size, one update is a few additions, nothing overflows on any input.

use std::time::{Duration, Instant};

use crate::frame::{FrameFlags, MediaFrame};
use crate::time::{TimeDelta, Timestamp};

/// What rates are averaged over.
pub const WINDOW: Duration = Duration::from_secs(2);

const STEP: Duration = Duration::from_millis(100);
const STEPS: usize = 20;
const STEPS_PER_SECOND: u64 = 10;

/// Measures one track.
///
/// ```
/// use std::time::{Duration, Instant};
/// use arcly_core::{MediaFrame, Timestamp, TrackId, qos::TrackMeter};
///
/// let (mut meter, start) = (TrackMeter::new(), Instant::now());
/// for n in 0..100 {
///     let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(n * 40), vec![0; 1_000].into());
///     meter.update(start + Duration::from_millis(n as u64 * 40), &frame);
/// }
/// let qos = meter.snapshot(start + Duration::from_secs(4));
/// assert_eq!((qos.frames, qos.fps, qos.bitrate_bps), (100, 25.0, 200_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrackMeter {
    totals: Totals,
    start: Option<Instant>,
    /// The step that the newest frame fell into; older ones stand before it in the ring.
    step: u64,
    window: [Bucket; STEPS + 1],
    last: Option<(Instant, Timestamp)>,
    /// Sixteen times the jitter, so that the division of the RFC loses nothing.
    jitter_16: i64,
    gop: Option<GopMeter>,
    last_gop: Option<Gop>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    frames: u64,
    bytes: u64,
    keyframes: u64,
    clamped: u64,
    corrupt: u64,
    discontinuities: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    frames: u64,
    bytes: u64,
}

/// The GOP under way.
#[derive(Clone, Copy, Debug)]
struct GopMeter {
    since: Timestamp,
    frames: u32,
}

/// A group of pictures that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gop {
    /// Its frames, the keyframe included.
    pub frames: u32,
    /// From its keyframe to the next.
    pub duration: TimeDelta,
}

/// A track's figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TrackQos {
    /// Frames so far.
    pub frames: u64,
    /// Payload bytes so far.
    pub bytes: u64,
    /// Keyframes so far.
    pub keyframes: u64,
    /// Payload bits per second over [`WINDOW`]; zero in the first 100 ms.
    pub bitrate_bps: u64,
    /// Frames per second over [`WINDOW`]; zero in the first 100 ms.
    pub fps: f64,
    /// The last complete GOP.
    pub last_gop: Option<Gop>,
    /// Interarrival jitter.
    pub jitter: TimeDelta,
    /// Frames flagged [`FrameFlags::CLAMPED`].
    pub clamped: u64,
    /// Frames flagged [`FrameFlags::CORRUPT`].
    pub corrupt: u64,
    /// Frames flagged [`FrameFlags::DISCONTINUITY`].
    pub discontinuities: u64,
}

impl TrackMeter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a frame that arrived at `now`.
    pub fn update(&mut self, now: Instant, frame: &MediaFrame) {
        self.count(frame);
        self.advance(now);
        let slot = slot(self.step);
        if let Some(bucket) = self.window.get_mut(slot) {
            bucket.frames += 1;
            bucket.bytes = bucket.bytes.saturating_add(frame.payload.len() as u64);
        }
        self.measure_jitter(now, frame);
        self.measure_gop(frame);
    }

    /// The figures at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> TrackQos {
        let Totals { frames, bytes, keyframes, clamped, corrupt, discontinuities } = self.totals;
        let (rate, steps) = self.rates(now);
        let per_second = |count: u64| count.saturating_mul(STEPS_PER_SECOND).checked_div(steps).unwrap_or(0);
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let fps = if steps == 0 { 0.0 } else { rate.frames as f64 * STEPS_PER_SECOND as f64 / steps as f64 };
        TrackQos {
            frames,
            bytes,
            keyframes,
            bitrate_bps: per_second(rate.bytes.saturating_mul(8)),
            fps,
            last_gop: self.last_gop,
            jitter: TimeDelta(self.jitter_16 >> 4),
            clamped,
            corrupt,
            discontinuities,
        }
    }

    fn count(&mut self, frame: &MediaFrame) {
        let flagged = |flag| u64::from(frame.flags.contains(flag));
        let totals = &mut self.totals;
        totals.frames += 1;
        totals.bytes = totals.bytes.saturating_add(frame.payload.len() as u64);
        totals.keyframes += flagged(FrameFlags::KEYFRAME);
        totals.clamped += flagged(FrameFlags::CLAMPED);
        totals.corrupt += flagged(FrameFlags::CORRUPT);
        totals.discontinuities += flagged(FrameFlags::DISCONTINUITY);
    }

    fn step_of(&self, now: Instant) -> u64 {
        let since = self.start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        since
            .as_secs()
            .saturating_mul(STEPS_PER_SECOND)
            .saturating_add(u64::from(since.subsec_nanos() / STEP.subsec_nanos()))
    }

    /// Empties the buckets between the last frame's and now.
    fn advance(&mut self, now: Instant) {
        self.start.get_or_insert(now);
        let step = self.step_of(now).max(self.step);
        let stale = (step - self.step).min(self.window.len() as u64);
        for back in 0..stale {
            if let Some(bucket) = self.window.get_mut(slot(step - back)) {
                *bucket = Bucket::default();
            }
        }
        self.step = step;
    }

    /// The sum of the last complete steps, and how many they are.
    fn rates(&self, now: Instant) -> (Bucket, u64) {
        let now = self.step_of(now).max(self.step);
        let first = now.saturating_sub(STEPS as u64);
        let mut sum = Bucket::default();
        // Steps after the newest frame's are empty, whatever their places in the ring still hold.
        for step in first..now.min(self.step.saturating_add(1)) {
            let bucket = self.window.get(slot(step)).copied().unwrap_or_default();
            sum.frames += bucket.frames;
            sum.bytes = sum.bytes.saturating_add(bucket.bytes);
        }
        (sum, now - first)
    }

    fn measure_jitter(&mut self, now: Instant, frame: &MediaFrame) {
        let last = self.last.replace((now, frame.dts));
        let Some((arrived, dts)) = last else { return };
        if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            return;
        }
        let waited = TimeDelta::from_duration(now.saturating_duration_since(arrived));
        let transit = (waited - (frame.dts - dts)).abs().0;
        self.jitter_16 = self.jitter_16.saturating_add(transit).saturating_sub((self.jitter_16 >> 4).max(0));
    }

    fn measure_gop(&mut self, frame: &MediaFrame) {
        if frame.is_keyframe() {
            let next = GopMeter { since: frame.dts, frames: 1 };
            if let Some(done) = self.gop.replace(next)
                && !frame.flags.contains(FrameFlags::DISCONTINUITY)
            {
                self.last_gop = Some(Gop { frames: done.frames, duration: frame.dts - done.since });
            }
        } else if let Some(gop) = &mut self.gop {
            gop.frames = gop.frames.saturating_add(1);
        }
    }
}

/// Where a step stands in the ring; one more than [`STEPS`], for the step under way.
const fn slot(step: u64) -> usize {
    (step % (STEPS as u64 + 1)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::track::TrackId;

    fn frame(ms: i64, bytes: usize, flags: FrameFlags) -> MediaFrame {
        MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(ms), vec![0; bytes].into()).with_flags(flags)
    }

    fn after(start: Instant, ms: i64) -> Instant {
        start + Duration::from_millis(ms.unsigned_abs())
    }

    #[test]
    fn rates_over_the_window() {
        let (mut meter, start) = (TrackMeter::new(), Instant::now());
        assert_eq!(meter.snapshot(start), TrackQos::default());
        // 25 fps of 1 000 bytes for 4 s, then 50 fps of 2 000 bytes.
        for ms in (0..4_000).step_by(40) {
            meter.update(after(start, ms), &frame(ms, 1_000, FrameFlags::empty()));
        }
        let at = |meter: &TrackMeter, ms| {
            let qos = meter.snapshot(after(start, ms));
            (qos.fps, qos.bitrate_bps)
        };
        assert_eq!(at(&meter, 4_000), (25.0, 200_000));
        for ms in (4_000..6_000).step_by(20) {
            meter.update(after(start, ms), &frame(ms, 2_000, FrameFlags::empty()));
        }
        assert_eq!(at(&meter, 6_000), (50.0, 800_000));
        assert_eq!(at(&meter, 7_000), (25.0, 400_000), "half of the window is empty");
        assert_eq!(at(&meter, 8_000), (0.0, 0));
        assert_eq!(at(&meter, 3_600_000), (0.0, 0));
        let qos = meter.snapshot(start);
        assert_eq!((qos.frames, qos.bytes), (200, 300_000));
    }

    #[test]
    fn rates_begin_with_the_first_complete_step() {
        let (mut meter, start) = (TrackMeter::new(), Instant::now());
        for ms in (0..500).step_by(20) {
            meter.update(after(start, ms), &frame(ms, 100, FrameFlags::empty()));
        }
        assert_eq!(meter.snapshot(after(start, 99)).fps, 50.0, "never less than what has arrived");
        assert_eq!(meter.snapshot(after(start, 500)).fps, 50.0);
    }

    #[test]
    fn a_long_silence_leaves_nothing_in_the_window() {
        let (mut meter, start) = (TrackMeter::new(), Instant::now());
        for ms in (0..2_000).step_by(20) {
            meter.update(after(start, ms), &frame(ms, 100, FrameFlags::empty()));
        }
        meter.update(after(start, 60_000), &frame(60_000, 100, FrameFlags::empty()));
        assert_eq!(meter.snapshot(after(start, 60_000)).fps, 0.0);
        assert_eq!(meter.snapshot(after(start, 60_100)).fps, 0.5);
    }

    #[test]
    fn gops_and_flags() {
        let (mut meter, start) = (TrackMeter::new(), Instant::now());
        let put = |meter: &mut TrackMeter, ms, flags| meter.update(after(start, ms), &frame(ms, 1, flags));
        put(&mut meter, 0, FrameFlags::empty());
        for gop in 0..3 {
            for n in 0..50 {
                let flags = if n == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
                put(&mut meter, 40 + gop * 2_000 + n * 40, flags);
            }
        }
        let expect = Some(Gop { frames: 50, duration: TimeDelta::from_millis(2_000) });
        assert_eq!(meter.snapshot(start).last_gop, expect);
        put(&mut meter, 6_500, FrameFlags::KEYFRAME | FrameFlags::DISCONTINUITY);
        put(&mut meter, 6_540, FrameFlags::CLAMPED | FrameFlags::CORRUPT);
        let qos = meter.snapshot(start);
        assert_eq!(qos.last_gop, expect, "what a discontinuity cuts is no GOP");
        assert_eq!((qos.keyframes, qos.clamped, qos.corrupt, qos.discontinuities), (4, 1, 1, 1));
    }

    #[test]
    fn jitter_as_rfc_3550_a_8() {
        let (mut meter, start) = (TrackMeter::new(), Instant::now());
        for n in 0..100 {
            meter.update(after(start, n * 20), &frame(n * 20, 1, FrameFlags::empty()));
        }
        assert_eq!(meter.snapshot(start).jitter, TimeDelta::ZERO);
        // Every other frame comes 8 ms late: |D| is 8 ms each time, which the estimate approaches.
        let (mut expect_16, late) = (0, TimeDelta::from_millis(8).0);
        for n in 100..400 {
            let delay = if n % 2 == 0 { 8 } else { 0 };
            meter.update(after(start, n * 20 + delay), &frame(n * 20, 1, FrameFlags::empty()));
            expect_16 += late - (expect_16 >> 4);
        }
        assert_eq!(meter.snapshot(start).jitter, TimeDelta(expect_16 >> 4));
        assert!((meter.snapshot(start).jitter.0 - late).abs() < late / 100);
    }

    proptest! {
        #[test]
        fn nothing_overflows(frames in proptest::collection::vec((any::<i64>(), 0u64..u64::from(u32::MAX), any::<u16>()), 1..100)) {
            let (mut meter, mut now) = (TrackMeter::new(), Instant::now());
            for (dts, waited, flags) in frames {
                now += Duration::from_millis(waited);
                let frame = MediaFrame::new(TrackId::VIDEO, Timestamp(dts), vec![0; 3].into())
                    .with_flags(FrameFlags::from_bits_truncate(flags));
                meter.update(now, &frame);
                let qos = meter.snapshot(now);
                prop_assert!(qos.jitter >= TimeDelta::ZERO);
                prop_assert!(qos.fps <= 1_000.0);
            }
        }
    }
}
