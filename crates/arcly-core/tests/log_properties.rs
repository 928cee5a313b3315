//! What the log promises its readers, for any stream and any pace of reading.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::log::{
    Budget, Cursor, LagPolicy, Log, Progress, Read, Retention, Skip, SkipReason, StartMode, Writer,
};
use arcly_core::{CloseReason, FrameFlags, MediaFrame, TimeDelta, Timestamp, TrackId, TrackSet};
use bytes::Bytes;
use proptest::prelude::*;

const VIDEO: TrackId = TrackId::VIDEO;
const AUDIO: TrackId = TrackId::AUDIO;

fn frame(track: TrackId, ms: i64, key: bool, size: usize) -> MediaFrame {
    let flags = if key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
    MediaFrame::new(track, Timestamp::from_millis(ms), Bytes::from(vec![0; size])).with_flags(flags)
}

/// A stream of video with a keyframe every `gop` frames and audio in between.
struct Source {
    writer: Writer<MediaFrame>,
    tracks: Arc<TrackSet>,
    gop: u64,
    n: u64,
    size: usize,
}

impl Source {
    fn new(gop: u64, size: usize, retention: Retention) -> (Arc<Log<MediaFrame>>, Self) {
        let (log, writer) = Log::new(retention);
        (log, Self { writer, tracks: Arc::default(), gop, n: 0, size })
    }

    fn push(&mut self) {
        let (n, ms) = (self.n, self.n as i64 * 20);
        self.n += 1;
        if n % 2 == 1 {
            self.writer.append(frame(AUDIO, ms, true, 10), &self.tracks, false);
        } else {
            let key = (n / 2) % self.gop == 0;
            self.writer.append(frame(VIDEO, ms, key, self.size), &self.tracks, key);
        }
    }
}

/// Reads and checks: numbers rise by one but for announced skips, every track begins with a keyframe.
struct Checked {
    cursor: Cursor<MediaFrame>,
    /// One past the last number read.
    next: Option<u64>,
    /// The number that each track, which has every second one, must go on with.
    expected: [Option<u64>; 2],
    fresh: [bool; 2],
    skips: Vec<Skip>,
    frames: u64,
}

impl Checked {
    fn new(log: &Arc<Log<MediaFrame>>, start: StartMode, lag: LagPolicy) -> Self {
        let cursor = Cursor::new(Arc::clone(log), start, lag);
        Self { cursor, next: None, expected: [None; 2], fresh: [true; 2], skips: Vec::new(), frames: 0 }
    }

    fn read(&mut self, items: usize) -> Result<Progress, CloseReason> {
        let Self { cursor, next, expected, fresh, skips, frames } = self;
        cursor.read(Instant::now(), Budget { items, ..Budget::UNLIMITED }, |read| match read {
            Read::Context(_) => {}
            Read::Skipped(skip) => {
                skips.push(skip);
                *fresh = [true; 2];
                // Where the reader goes on is its own business; that it is a keyframe is checked below.
                *expected = [None; 2];
            }
            Read::Item(item) => {
                let seq = item.sequence();
                let expected = &mut expected[item.track.index()];
                assert!(
                    expected.is_none_or(|expected| seq == expected),
                    "a gap or a duplicate: {seq}, not {expected:?}"
                );
                assert!(next.is_none_or(|next| seq >= next), "out of order");
                *expected = Some(seq + 2);
                *next = Some(seq + 1);
                let fresh = &mut fresh[item.track.index()];
                assert!(!*fresh || item.is_keyframe(), "a delta frame first");
                *fresh = false;
                *frames += 1;
            }
        })
    }
}

const PATIENT: LagPolicy = LagPolicy::PATIENT;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Readers of any speed, joining at any time, on a log that is large enough: nothing is lost, nothing doubled.
    #[test]
    fn no_gap_and_no_duplicate_at_the_join(
        gop in 1u64..40,
        script in proptest::collection::vec((0usize..12, 0usize..20, any::<bool>()), 1..120),
    ) {
        let all = Retention { window_time: TimeDelta(i64::MAX), ..Retention::default() };
        let (log, mut source) = Source::new(gop, 100, all);
        let mut readers: Vec<Checked> = Vec::new();
        for (pushes, reads, join) in script {
            (0..pushes).for_each(|_| source.push());
            if join && readers.len() < 6 {
                let start = [StartMode::Keyframe, StartMode::LiveEdge, StartMode::Oldest][readers.len() % 3];
                readers.push(Checked::new(&log, start, PATIENT));
            }
            for (i, reader) in readers.iter_mut().enumerate() {
                reader.read(reads >> (i % 3)).unwrap();
            }
        }
        for reader in &mut readers {
            reader.read(usize::MAX).unwrap();
            prop_assert_eq!(&reader.skips, &[]);
            for (track, expected) in reader.expected.iter().enumerate() {
                if let Some(expected) = expected {
                    prop_assert!(*expected == source.n || *expected == source.n + 1, "track {} read to the head", track);
                }
            }
        }
    }

    /// A small log and readers that fall behind: every loss is announced, every track goes on with a keyframe, and
    /// the log stays within its bounds whatever they do.
    #[test]
    fn skips_land_on_keyframes_and_memory_is_bounded(
        gop in 1u64..60,
        size in 0usize..4_000,
        script in proptest::collection::vec((0usize..60, 0usize..30), 1..150),
    ) {
        let retention = Retention {
            max_bytes: 60_000, max_items: 100, max_time: TimeDelta::from_millis(1_500),
            window_bytes: 20_000, window_time: TimeDelta::from_millis(500),
        };
        let (log, mut source) = Source::new(gop, size, retention);
        let lag = LagPolicy { max_bytes: 15_000, max_time: TimeDelta::from_millis(400), max_skips: None, drop_disposable_percent: 100, ..LagPolicy::default() };
        let mut readers = [StartMode::Keyframe, StartMode::Oldest].map(|start| Checked::new(&log, start, lag));
        let largest = (size + 300) as u64;
        for (pushes, reads) in script {
            for _ in 0..pushes {
                source.push();
                let usage = log.usage();
                prop_assert!(usage.items <= 101 && usage.bytes <= 60_000 + largest, "{usage:?}");
                if let (Some(last), true) = (log.last(), log.has_join_point()) {
                    prop_assert!(log.replay_time() <= retention.max_time, "{last:?}");
                }
            }
            readers[0].read(reads).unwrap();
            readers[1].read(reads / 4).unwrap();
        }
    }
}

#[test]
fn a_hostile_reader_costs_the_publisher_and_the_others_nothing() {
    let (log, mut source) = Source::new(25, 1_000, Retention { max_bytes: 1 << 20, ..Retention::default() });
    let hostile: Vec<_> =
        (0..100).map(|_| Checked::new(&log, StartMode::Keyframe, LagPolicy::default())).collect();
    let mut witness = Checked::new(&log, StartMode::Keyframe, LagPolicy::default());
    for _ in 0..10_000 {
        source.push();
        witness.read(usize::MAX).unwrap();
        assert!(log.usage().bytes <= (1 << 20) + 2_000);
    }
    assert_eq!((witness.frames, witness.skips.len()), (10_000, 0));
    drop(hostile);
}

/// Its slots are emptied one by one, and not dropped with it.
#[test]
fn a_log_that_is_gone_holds_nothing() {
    let payload = Bytes::from(vec![0; 100]);
    let (log, mut writer) = Log::new(Retention::default());
    for n in 0..5_000 {
        let frame = MediaFrame::new(VIDEO, Timestamp::from_millis(n * 20), payload.clone());
        writer.append(frame, &Arc::new(TrackSet::default()), n % 50 == 0);
    }
    assert!(log.usage().items > 50 && !payload.is_unique());
    drop((log, writer));
    assert!(payload.is_unique());
}

#[test]
fn a_skip_says_what_was_missed_and_why() {
    let retention = Retention { window_time: TimeDelta::from_millis(100_000), ..Retention::default() };
    let (log, mut source) = Source::new(10, 100, retention);
    let lag =
        LagPolicy { max_time: TimeDelta::from_millis(1_000), max_skips: Some(1), ..LagPolicy::default() };
    let mut reader = Checked::new(&log, StartMode::Keyframe, lag);
    source.push();
    reader.read(1).unwrap();
    (0..119).for_each(|_| source.push());
    reader.read(1).unwrap();
    // It was at 1 of 120; keyframes are every 20 items; the newest is 100.
    let skip = reader.skips[0];
    assert_eq!(
        (skip.reason, skip.items, skip.time),
        (SkipReason::LagTime, 99, TimeDelta::from_millis(99 * 20))
    );
    assert!(skip.bytes > 50 * 100);
    assert_eq!(reader.next, Some(101));
    (0..200).for_each(|_| source.push());
    assert_eq!(
        reader.read(1),
        Err(CloseReason::SlowConsumer),
        "the second skip within a minute is one too many"
    );
}

#[test]
fn f18_a_gop_larger_than_the_log_turns_replay_off_until_the_next_keyframe() {
    let retention = Retention { max_items: 50, ..Retention::default() };
    let (log, mut source) = Source::new(1_000, 100, retention);
    (0..200).for_each(|_| source.push());
    assert!(!log.has_join_point());
    let mut reader = Checked::new(&log, StartMode::Keyframe, PATIENT);
    assert_eq!(reader.read(usize::MAX), Ok(Progress::CaughtUp));
    assert_eq!(reader.frames, 0);
    (0..1_801).for_each(|_| source.push());
    assert_eq!(source.n, 2_001);
    reader.read(usize::MAX).unwrap();
    assert_eq!((reader.frames, reader.next), (1, Some(2_001)), "the keyframe that has just come, at once");
}

/// Video alone, every second frame disposable, a keyframe every 50 frames.
fn push_disposable(writer: &mut Writer<MediaFrame>, frames: core::ops::Range<i64>) {
    for n in frames {
        let key = n % 50 == 0;
        let flags = if n % 2 == 1 { FrameFlags::DISPOSABLE } else { FrameFlags::empty() };
        writer.append(frame(VIDEO, n * 20, key, 100).with_flags(flags), &Arc::default(), key);
    }
}

fn read_all(reader: &mut Cursor<MediaFrame>) -> Vec<u64> {
    let mut read = Vec::new();
    let progress = reader.read(Instant::now(), Budget::UNLIMITED, |item| {
        if let Read::Item(item) = item {
            read.push(item.sequence());
        }
    });
    assert_eq!(progress, Ok(Progress::CaughtUp));
    read
}

#[test]
fn disposable_frames_go_first() {
    let (log, mut writer) = Log::new(Retention::default());
    let lag = LagPolicy {
        max_time: TimeDelta::from_millis(1_000),
        drop_disposable_percent: 50,
        ..LagPolicy::default()
    };
    let mut reader = Cursor::new(log, StartMode::Keyframe, lag);
    push_disposable(&mut writer, 0..1);
    assert_eq!(read_all(&mut reader), [0]);
    push_disposable(&mut writer, 1..40);
    assert_eq!(
        read_all(&mut reader),
        (2..40).step_by(2).collect::<Vec<_>>(),
        "780 ms late, 500 are half of what is allowed"
    );
    assert_eq!(reader.thinned(), 20);
}

#[test]
fn who_joins_in_the_middle_of_a_gop_is_not_late() {
    let (log, mut writer) = Log::new(Retention::default());
    push_disposable(&mut writer, 0..45);
    let lag = LagPolicy {
        max_time: TimeDelta::from_millis(500),
        drop_disposable_percent: 50,
        ..LagPolicy::default()
    };
    let mut reader = Cursor::new(log, StartMode::Keyframe, lag);
    assert_eq!(
        read_all(&mut reader),
        (0..45).collect::<Vec<_>>(),
        "900 ms behind, because that is where the keyframe is"
    );
    push_disposable(&mut writer, 45..50);
    assert_eq!(read_all(&mut reader), (45..50).collect::<Vec<_>>());
    push_disposable(&mut writer, 50..90);
    assert_eq!(read_all(&mut reader).first(), Some(&50), "800 ms late now, and moved");
}

#[test]
fn leading_pictures_of_the_first_keyframe_are_left_out() {
    let (log, mut writer) = Log::new(Retention::default());
    let tracks = Arc::default();
    for n in 0..9 {
        let key = n % 3 == 0;
        let flags = if n % 3 == 1 { FrameFlags::LEADING } else { FrameFlags::empty() };
        writer.append(frame(VIDEO, n * 20, key, 100).with_flags(flags), &tracks, key);
    }
    let mut reader = Cursor::new(log, StartMode::Oldest, PATIENT);
    let mut read = Vec::new();
    let progress = reader.read(Instant::now(), Budget::UNLIMITED, |item| {
        if let Read::Item(item) = item {
            read.push(item.sequence());
        }
    });
    assert_eq!((progress, read), (Ok(Progress::CaughtUp), vec![0, 2, 3, 4, 5, 6, 7, 8]));
}

#[test]
fn a_paced_reader_gets_the_gop_over_time_and_then_the_live_edge() {
    let (log, mut source) = Source::new(1_000, 100, Retention::default());
    (0..100).for_each(|_| source.push());
    let mut cursor = Cursor::new(log, StartMode::KeyframePaced { speed_percent: 200 }, PATIENT);
    let began = Instant::now();
    let count = |cursor: &mut Cursor<MediaFrame>, after_ms: u64| {
        let mut frames = 0;
        let now = began + Duration::from_millis(after_ms);
        let progress =
            cursor.read(now, Budget::UNLIMITED, |read| frames += u32::from(matches!(read, Read::Item(_))));
        (frames, progress.unwrap())
    };
    let at = |ms| Progress::PacedUntil(began + Duration::from_millis(ms));
    assert_eq!(count(&mut cursor, 0), (1, at(10)), "20 ms of media every 10 ms");
    assert_eq!(count(&mut cursor, 9), (0, at(10)), "not a millisecond early");
    assert_eq!(count(&mut cursor, 500), (50, at(510)));
    assert_eq!(count(&mut cursor, 2_000), (49, Progress::CaughtUp));
    source.push();
    assert_eq!(count(&mut cursor, 2_000), (1, Progress::CaughtUp), "live now");
}

#[test]
fn the_end_comes_after_the_last_frame() {
    let (log, mut source) = Source::new(10, 100, Retention::default());
    (0..30).for_each(|_| source.push());
    let mut reader = Checked::new(&log, StartMode::Oldest, PATIENT);
    source.writer.close(CloseReason::Shutdown);
    assert_eq!(reader.read(7), Ok(Progress::More));
    assert_eq!(reader.read(usize::MAX), Ok(Progress::Ended(CloseReason::Shutdown)));
    assert_eq!(reader.frames, 30);
    let mut late = Checked::new(&log, StartMode::Keyframe, PATIENT);
    assert_eq!(late.read(usize::MAX), Ok(Progress::Ended(CloseReason::Shutdown)));
}
