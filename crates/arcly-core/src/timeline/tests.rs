use proptest::prelude::*;

use super::*;

const V: TrackId = TrackId::VIDEO;
const A: TrackId = TrackId::AUDIO;
const HOUR: i64 = 3_600_000;

fn ms(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// A timeline with a clock: every frame says how long after its predecessor it arrives.
struct Feed {
    timeline: Timeline,
    now: Instant,
}

impl Feed {
    fn new(resume_at: Option<Timestamp>) -> Self {
        Self { timeline: Timeline::new(resume_at), now: Instant::now() }
    }

    /// Maps a frame that arrives `after` ms after the last; all times in milliseconds.
    fn put(&mut self, after: u64, track: TrackId, dts: i64, cts: i64) -> (MediaFrame, Placement) {
        self.now += Duration::from_millis(after);
        let mut frame = MediaFrame::new(track, ms(dts), bytes::Bytes::new())
            .with_pts(ms(dts) + TimeDelta::from_millis(cts));
        let placed = self.timeline.map(self.now, &mut frame);
        assert_eq!(
            matches!(placed, Placement::Rebased { .. }),
            frame.flags.contains(FrameFlags::DISCONTINUITY)
        );
        assert_eq!(placed == Placement::Clamped, frame.flags.contains(FrameFlags::CLAMPED));
        (frame, placed)
    }

    fn dts(&mut self, after: u64, track: TrackId, dts: i64) -> i64 {
        self.put(after, track, dts, 0).0.dts.to_millis()
    }

    /// Runs 40 ms video and 20 ms audio frames of source time `from..to`; each side's clock is moved by `video(t)`, `audio(t)`.
    /// Returns per frame: track, true time since `from`, mapped dts.
    fn run(
        &mut self,
        from: i64,
        to: i64,
        video: impl Fn(i64) -> i64,
        audio: impl Fn(i64) -> i64,
    ) -> Vec<(TrackId, i64, MediaFrame)> {
        let mut out = Vec::new();
        for t in (from..to).step_by(20) {
            if t % 40 == 0 {
                out.push((V, t - from, self.put(0, V, t + video(t), 0).0));
            }
            out.push((A, t - from, self.put(0, A, t + audio(t), 0).0));
            self.now += Duration::from_millis(20);
        }
        out
    }
}

fn discontinuities(frames: &[(TrackId, i64, MediaFrame)]) -> usize {
    frames.iter().filter(|(_, _, f)| f.flags.contains(FrameFlags::DISCONTINUITY)).count()
}

fn assert_monotone(frames: &[(TrackId, i64, MediaFrame)]) {
    for track in [V, A] {
        let dts: Vec<_> = frames.iter().filter(|f| f.0 == track).map(|f| f.2.dts).collect();
        assert!(dts.is_sorted(), "{track}: {dts:?}");
    }
}

/// The largest distance between where a frame is and where the true time would put it.
fn skew(frames: &[(TrackId, i64, MediaFrame)]) -> i64 {
    frames.iter().map(|(_, t, f)| (f.dts.to_millis() - t).abs()).max().unwrap_or(0)
}

#[test]
fn a_fresh_stream_starts_at_zero_without_a_discontinuity() {
    let mut feed = Feed::new(None);
    assert_eq!(feed.timeline.end(), None);
    let (frame, placed) = feed.put(0, V, 5_000, 80);
    assert_eq!((frame.dts, frame.pts, placed), (ms(0), ms(80), Placement::Continuous));
    assert_eq!(feed.dts(0, A, 5_010), 10, "one offset for all tracks");
    assert_eq!(feed.dts(40, V, 5_040), 40);
    assert_eq!(feed.timeline.end(), Some(ms(80)), "the last distance is the frame's duration");
}

#[test]
fn f01_a_returning_publisher_lands_exactly_where_the_stream_ended() {
    let mut feed = Feed::new(Some(ms(12_345)));
    let (frame, placed) = feed.put(0, V, 7, 40);
    assert_eq!((frame.dts, frame.pts), (ms(12_345), ms(12_385)));
    assert_eq!(placed, Placement::Rebased { jump: TimeDelta::from_millis(7 - 12_345) });
    assert_eq!(feed.put(0, A, 7, 0).1, Placement::Continuous);
    assert_eq!(feed.put(1, A, 0, 0).0.dts, ms(12_345), "nothing of a session lands before its start");
    assert_eq!(feed.dts(39, V, 47), 12_385);
    assert_eq!(feed.timeline.rebased(), 1);
}

#[test]
fn f20_f21_unwrapped_counters_cross_their_edges_unnoticed() {
    for edge in [1i64 << 24, 1 << 32] {
        let mut feed = Feed::new(None);
        let frames = feed.run(edge - 1_000, edge + 1_000, |_| 0, |_| 0);
        assert_eq!((discontinuities(&frames), skew(&frames)), (0, 0), "{edge}");
    }
}

#[test]
fn f24_jumps_give_one_discontinuity_and_land_at_the_end() {
    // Both tracks jump; audio does so before, with, or after video.
    for jump in [HOUR, -HOUR, 11_000, -6_000, i64::from(u32::MAX)] {
        for late in [-400, 0, 20, 400] {
            let mut feed = Feed::new(None);
            let frames = feed.run(
                2 * HOUR,
                2 * HOUR + 30_000,
                |t| if t >= 2 * HOUR + 10_000 { jump } else { 0 },
                |t| if t >= 2 * HOUR + 10_000 + late { jump } else { 0 },
            );
            assert_eq!(discontinuities(&frames), 1, "jump {jump}, audio {late} ms later");
            assert_monotone(&frames);
            assert!(skew(&frames) <= 60, "jump {jump}, audio {late} ms later: {}", skew(&frames));
        }
    }
}

#[test]
fn f24_a_jump_to_zero() {
    let mut feed = Feed::new(None);
    let zero = |t: i64| if t >= HOUR + 10_000 { -t + (t - HOUR - 10_000) } else { 0 };
    let frames = feed.run(HOUR, HOUR + 20_000, zero, zero);
    assert_eq!(discontinuities(&frames), 1);
    assert!(skew(&frames) <= 60);
}

#[test]
fn f24_tracks_on_either_side_of_the_threshold_stay_together() {
    let mut feed = Feed::new(None);
    let frames = feed.run(
        HOUR,
        HOUR + 30_000,
        |t| if t >= HOUR + 10_000 { 10_500 } else { 0 },
        |t| if t >= HOUR + 10_000 { 9_900 } else { 0 },
    );
    assert_eq!(discontinuities(&frames), 1);
    assert!(skew(&frames) <= 700, "video jumped by 0.6 s more than audio: {}", skew(&frames));
}

#[test]
fn f24_one_outlier_comes_back_to_its_place() {
    let mut feed = Feed::new(None);
    let frames = feed.run(0, 5_000, |t| if t == 2_000 { HOUR } else { 0 }, |_| 0);
    assert_eq!(discontinuities(&frames), 1);
    assert!(skew(&frames) <= 60);
}

#[test]
fn f24_jitter_of_two_seconds_is_absorbed() {
    let jitter = |t: i64| t.wrapping_mul(7_919).rem_euclid(4_001) - 2_000;
    let mut feed = Feed::new(None);
    let frames = feed.run(HOUR, HOUR + 120_000, jitter, |t| jitter(t + 13));
    assert_eq!(discontinuities(&frames), 0);
    assert_monotone(&frames);
    assert!(skew(&frames) <= 4_000, "bounded by twice the jitter: {}", skew(&frames));
    assert!(feed.timeline.clamped() > 0);
}

/// Frames go on to readers as they come, so that what a clock gains or loses is no delay of theirs, as long as it is neither
/// held against the publisher nor taken for a jump.
#[test]
fn f26_a_clock_that_is_half_a_percent_fast_or_slow_is_followed_for_an_hour() {
    for per_mille in [5, -5] {
        let drift = |t: i64| t * per_mille / 1_000;
        let mut feed = Feed::new(None);
        let frames = feed.run(0, HOUR, drift, drift);
        assert_eq!((discontinuities(&frames), feed.timeline.clamped()), (0, 0), "{per_mille}");
        assert_monotone(&frames);
        for (_, at, frame) in &frames {
            assert_eq!(frame.dts.to_millis(), at + drift(*at), "{per_mille}: as the publisher said");
        }
    }
}

#[test]
fn f24_stuck_timestamps_are_held_and_then_followed() {
    for held in [10_000, 30_000] {
        // The clock stands still and catches up; then it stands still and goes on from there.
        for catches_up in [true, false] {
            let mut feed = Feed::new(None);
            let stuck = |t: i64| match t {
                t if t < 5_000 => 0,
                t if t < 5_000 + held => 5_000 - t,
                _ if catches_up => 0,
                _ => -held,
            };
            let frames = feed.run(0, 60_000, stuck, stuck);
            assert_eq!(discontinuities(&frames), 0, "held {held}");
            assert_monotone(&frames);
            let last = frames.last().map_or(0, |f| f.2.dts.to_millis());
            assert_eq!(last, if catches_up { 59_980 } else { 59_980 - held });
        }
    }
}

#[test]
fn f24_a_gap_that_waiting_explains_is_no_jump() {
    let mut feed = Feed::new(None);
    feed.dts(0, V, 0);
    feed.dts(40, V, 40);
    let (frame, placed) = feed.put(60_000, V, 60_040, 0);
    assert_eq!((frame.dts, placed), (ms(60_040), Placement::Continuous));
    assert_eq!(feed.dts(0, A, 60_050), 60_050, "and a track that is new after the gap has the same clock");
}

/// In MPEG-TS a picture shows its end only when the next one begins: the last one before a pause comes after it, so that
/// the one behind it seems not to have been waited for.
#[test]
fn f24_a_pause_that_one_track_shows_late_keeps_the_tracks_together() {
    for pause in [2_000, 9_000, 12_000, 15_000, 60_000, HOUR] {
        for (late, sound_first) in [(V, false), (V, true), (A, false), (A, true)] {
            let mut feed = Feed::new(None);
            let mut frames = feed.run(0, 2_000, |_| 0, |_| 0);
            let after = u64::try_from(pause).unwrap();
            let held = if late == V { 2_000 } else { 2_010 };
            frames.push((late, held, feed.put(after, late, held, 0).0));
            let first = 2_040 + pause;
            for track in if sound_first { [A, V] } else { [V, A] } {
                frames.push((track, first, feed.put(300, track, first, 0).0));
            }
            frames.extend(feed.run(first + 20, first + 2_000, |_| 0, |_| 0));
            assert_monotone(&frames);
            assert!(discontinuities(&frames) <= 1, "{pause} {late}");
            let last = |track| frames.iter().rfind(|frame| frame.0 == track).unwrap().2.dts.to_millis();
            assert!((last(V) - last(A)).abs() <= 40, "{pause} {late} {sound_first}: {} {}", last(V), last(A));
        }
    }
}

#[test]
fn f25_clocks_hours_apart_are_aligned_by_arrival() {
    for apart in [2 * HOUR, -2 * HOUR, 11_000, -11_000] {
        let mut feed = Feed::new(None);
        let frames = feed.run(3 * HOUR, 3 * HOUR + 5_000, |_| 0, |_| apart);
        assert_eq!(discontinuities(&frames), 0);
        assert!(skew(&frames) <= 100, "{}", skew(&frames));
        // Both then jump together: still one discontinuity, still together.
        let frames = feed.run(3 * HOUR + 5_000, 3 * HOUR + 10_000, |_| HOUR, |_| HOUR + apart);
        assert_eq!(discontinuities(&frames), 1);
        let offsets: Vec<_> = frames.iter().map(|(_, t, f)| f.dts.to_millis() - t).collect();
        let spread = offsets.iter().max().zip(offsets.iter().min()).map(|(a, b)| a - b);
        assert!(spread.is_some_and(|s| s <= 100), "{spread:?}");
    }
}

#[test]
fn f12_a_late_track_on_the_same_clock_keeps_its_place() {
    let mut feed = Feed::new(None);
    for t in (0..8_000).step_by(20) {
        feed.dts(20, A, 1_000 + t);
    }
    assert_eq!(feed.dts(0, V, 9_000), 8_000);
}

#[test]
fn r37_extended_timestamp_edges_and_steps_back() {
    let mut unwrap = crate::time::Unwrapper32::new();
    let mut feed = Feed::new(None);
    let raw = [0xFFFF_FFF0, 0x10, 0xFF_FFFF, 0xFF_FFFE, 0];
    let out: Vec<_> = raw.iter().map(|&raw| feed.put(20, V, unwrap.unwrap(raw), 0)).collect();
    let dts: Vec<_> = out.iter().map(|(f, _)| f.dts.to_millis()).collect();
    assert_eq!(dts, [0, 32, 64, 64, 64]);
    assert!(matches!(out[2].1, Placement::Rebased { .. }));
    assert_eq!([out[3].1, out[4].1], [Placement::Clamped; 2]);
}

#[test]
fn m29_composition_offsets() {
    let (max, beyond) = (10_000, 10_001);
    // (source dts, cts, expected dts, expected pts, clamped), one session.
    let cases = [
        (0, 0, 0, 0, false),
        (40, 80, 40, 120, false),
        (80, -40, 80, 40, false),
        (120, max, 120, 120 + max, false),
        (160, -max, 160, 160 - max, false),
        (200, beyond, 200, 200, true),
        (240, -beyond, 240, 240, true),
        (280, (1 << 23) - 1, 280, 280, true),
        (320, -(1 << 23), 320, 320, true),
        (300, 80, 320, 380, true),
        (300, 10, 320, 320, true),
        (320, 40, 320, 360, false),
    ];
    let mut feed = Feed::new(None);
    for (dts, cts, out_dts, out_pts, clamped) in cases {
        let (frame, placed) = feed.put(40, V, dts, cts);
        assert_eq!((frame.dts, frame.pts), (ms(out_dts), ms(out_pts)), "{dts}{cts:+}");
        assert_eq!(placed == Placement::Clamped, clamped, "{dts}{cts:+}");
    }
    for _ in 0..1_000 {
        assert_eq!(feed.put(0, V, 320, 0).1, Placement::Continuous);
    }
}

#[test]
fn jumps_in_quick_succession_do_not_make_every_frame_a_discontinuity() {
    let mut feed = Feed::new(None);
    for n in 0..500 {
        feed.put(10, V, n * HOUR, 0);
    }
    assert_eq!(feed.timeline.rebased(), 5, "5 s of arrival time");
    assert_eq!(feed.timeline.clamped(), 499 - 5);
}

proptest! {
    #[test]
    fn any_input_comes_out_in_order(
        resume_at in proptest::option::of(any::<i64>()),
        frames in proptest::collection::vec((0u8..3, any::<i64>(), any::<i64>(), any::<i64>(), 0u64..2_000), 1..200),
        small in any::<bool>(),
    ) {
        let mut feed = Feed::new(resume_at.map(Timestamp));
        let mut last = [Timestamp(resume_at.unwrap_or(0)); 3];
        let (mut elapsed, mut flagged) = (0, 0);
        for (n, (track, dts, pts, duration, after)) in frames.into_iter().enumerate() {
            // Either anything at all, or steps near the thresholds.
            let (dts, pts) = if small { (dts % (20 * 705_600_000), pts % (40 * 705_600_000)) } else { (dts, pts) };
            let id = TrackId::new(track).unwrap_or_default();
            let mut frame = MediaFrame::new(id, Timestamp(dts), bytes::Bytes::new())
                .with_pts(Timestamp(pts)).with_duration(TimeDelta(duration));
            feed.now += Duration::from_millis(after);
            if n > 0 { elapsed += after; }
            let placed = feed.timeline.map(feed.now, &mut frame);
            prop_assert!(frame.dts >= last[usize::from(track)]);
            prop_assert!((frame.pts - frame.dts).abs() <= MAX_COMPOSITION);
            prop_assert!(feed.timeline.end() >= Some(frame.dts));
            last[usize::from(track)] = frame.dts;
            flagged += u64::from(matches!(placed, Placement::Rebased { .. }));
        }
        prop_assert_eq!(flagged, feed.timeline.rebased());
        prop_assert!(flagged <= 1 + elapsed / 1_000);
    }

    #[test]
    fn good_input_is_moved_by_one_constant(
        start in -(1i64 << 60)..1 << 60,
        resume_at in proptest::option::of(0i64..1 << 60),
        steps in proptest::collection::vec((0u8..3, 1i64..200, -200i64..2_000), 1..300),
    ) {
        let mut feed = Feed::new(resume_at.map(Timestamp));
        let (mut at, constant) = (Timestamp(start), Timestamp(resume_at.unwrap_or(0)) - Timestamp(start));
        for (n, (track, step, cts)) in steps.into_iter().enumerate() {
            let pts = at + TimeDelta::from_millis(cts);
            let id = TrackId::new(track).unwrap_or_default();
            let mut frame = MediaFrame::new(id, at, bytes::Bytes::new()).with_pts(pts);
            let placed = feed.timeline.map(feed.now, &mut frame);
            prop_assert_eq!((frame.dts, frame.pts), (at + constant, pts + constant));
            prop_assert_eq!(placed == Placement::Continuous, n > 0 || resume_at.is_none());
            at += TimeDelta::from_millis(step);
            feed.now += Duration::from_millis(step.unsigned_abs());
        }
    }
}
