//! Client and server over networks of every kind, in virtual time: what arrives is what was sent, in order, in time, and never half.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arcly_codec::flv::{Demuxer, Muxer, MuxerOptions};
use arcly_core::{
    CloseReason, FrameFlags, MediaEvent, MediaFrame, Phase, TimeDelta, Timescale, Timestamp, TrackId, clock,
};
use arcly_rtp::media::Numbering;
use arcly_rtp::session::MAX_WAIT;
use arcly_rtsp::Carriage;
use arcly_testkit::media::Source;
use arcly_testkit::net::Conditions;

use world::{Came, Sent, Setting, Told, Way, World, number};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Pictures of a GOP of the source: a second.
const GOP: usize = 25;
/// A tick of the sound's clock, the slower one: what the clocks of both media round to.
const TICK: TimeDelta = TimeDelta(705_600_000 / 48_000);
/// Until what is known of the sender's clock has brought the media together.
const SETTLED: Duration = Duration::from_secs(2);
const WAYS: [(Way, Carriage); 4] = [
    (Way::Pull, Carriage::Tcp),
    (Way::Pull, Carriage::Udp),
    (Way::Push, Carriage::Tcp),
    (Way::Push, Carriage::Udp),
];

/// What holds of everything that has come, whatever the network does: each frame once and in order, its payload as it was sent, decode times
/// that never go back, and no picture that passes for whole without all that it stands on.
fn check(world: &World, what: &str) {
    for (sent, came) in world.feed.sent.iter().zip(&world.came) {
        assert!(came.iter().all(|came| came.number < sent.len()), "{what}: a number that nobody gave");
        let wrong = came.windows(2).find(|two| two[0].number >= two[1].number);
        assert!(wrong.is_none(), "{what}: each once, in order: {wrong:?}");
        assert!(came.windows(2).all(|two| two[0].frame.dts <= two[1].frame.dts), "{what}: time goes on");
        let same = came.iter().all(|came| came.frame.is_keyframe() == sent[came.number].key);
        assert!(same, "{what}: keyframes are keyframes");
    }
    let mut whole: Option<usize> = None;
    for Came { number, frame, .. } in &world.came[0] {
        let begins = frame.is_keyframe();
        let goes_on = whole.is_some_and(|before| before + 1 == *number);
        if frame.flags.contains(FrameFlags::CORRUPT) {
            whole = None;
            continue;
        }
        assert!(begins || goes_on, "{what}: picture {number} passes for whole behind {whole:?}");
        whole = Some(*number);
    }
}

/// How long frames took that were sent from `since` on.
fn slowest(world: &World, since: Instant) -> Duration {
    let took = |(sent, came): (&Vec<Sent>, &Vec<Came>)| {
        let late = came.iter().filter(|came| sent[came.number].at >= since);
        late.map(|came| came.at - sent[came.number].at).max().unwrap_or_default()
    };
    world.feed.sent.iter().zip(&world.came).map(took).max().unwrap_or_default()
}

/// The frames of a track that were sent within that time and have not come whole.
fn missing(world: &World, track: usize, from: Instant, to: Instant) -> usize {
    let whole = |number: usize| {
        let came = world.came[track].iter().find(|came| came.number == number);
        came.is_some_and(|came| !came.frame.flags.contains(FrameFlags::CORRUPT))
    };
    let sent = world.feed.sent[track].iter().enumerate().filter(|(_, sent)| (from..to).contains(&sent.at));
    sent.filter(|(number, _)| !whole(*number)).count()
}

/// By how much each frame that was sent from `since` on is shifted, the least and the most over both tracks.
fn shifts(world: &World, since: Instant) -> (TimeDelta, TimeDelta) {
    let shift = |(sent, came): (&Vec<Sent>, &Vec<Came>)| {
        let late = came.iter().filter(|came| sent[came.number].at >= since);
        late.map(|came| came.frame.pts - sent[came.number].pts).collect::<Vec<_>>()
    };
    let shifts: Vec<TimeDelta> = world.feed.sent.iter().zip(&world.came).flat_map(shift).collect();
    (*shifts.iter().min().unwrap(), *shifts.iter().max().unwrap())
}

/// Pictures and sound are as far apart as they were.
#[track_caller]
fn assert_in_step(world: &World, since: Instant, within: TimeDelta, what: &str) {
    let (least, most) = shifts(world, since);
    assert!(most - least <= within, "{what}: off by {:?}", (most - least).to_duration());
}

#[tokio::test(start_paused = true)]
async fn f53_whatever_the_network_does_media_is_in_order_in_time_and_whole() {
    let calm = Conditions { delay: 10 * MS, ..Conditions::default() };
    let cases = [
        ("calm", calm),
        ("5 % lost", Conditions { loss_per_mille: 50, ..calm }),
        ("reordered", Conditions { reorder_per_mille: 100, held_back: 30 * MS, ..calm }),
        ("repeated", Conditions { duplicate_per_mille: 100, ..calm }),
        ("jitter", Conditions { jitter: 20 * MS, ..calm }),
        (
            "all of it",
            Conditions {
                loss_per_mille: 50,
                duplicate_per_mille: 50,
                reorder_per_mille: 50,
                held_back: 40 * MS,
                jitter: 10 * MS,
                ..calm
            },
        ),
    ];
    for (way, carriage) in WAYS {
        for (name, conditions) in cases {
            for seed in 1..=2 {
                let what = format!("{way:?} over {carriage:?}, {name}, seed {seed}");
                let source = Source::h264_aac().with_pictures_of(4_000);
                let setting = Setting { conditions, seed, source, ..Setting::new(way, carriage) };
                one(setting, name, &what).await;
            }
        }
    }
}

async fn one(setting: Setting, name: &str, what: &str) {
    let (conditions, carriage) = (setting.conditions, setting.carriage);
    let began = clock::now();
    let mut world = World::new(setting).await;
    world.run(12 * SECOND).await;
    let calm = clock::now();
    world.datagrams.conditions = Conditions { delay: 10 * MS, ..Conditions::default() };
    world.run(4 * SECOND).await;
    check(&world, what);
    // Two pictures that are reordered, and the longest that something missing is waited for.
    let network = conditions.delay + conditions.jitter + conditions.held_back + 30 * MS;
    let bound = network + MAX_WAIT + 120 * MS;
    let slow = slowest(&world, began + SETTLED);
    assert!(slow <= bound, "{what}: a frame took {slow:?}");
    let datagrams = carriage == Carriage::Udp;
    let lossy = datagrams && conditions.loss_per_mille > 0;
    assert_eq!(world.datagrams.lost() > 0, lossy, "{what}");
    if !(lossy || datagrams && name == "jitter") {
        for track in 0..2 {
            let lost = missing(&world, track, began + SETTLED, clock::now() - bound);
            assert_eq!(lost, 0, "{what}: what was only late or twice is not lost");
        }
    }
    // The GOP in which it calmed down may lack something, and nothing behind it does.
    for track in 0..2 {
        let lost = missing(&world, track, calm + SECOND + 100 * MS, clock::now() - bound);
        assert_eq!(lost, 0, "{what}: all is well from the next keyframe on");
    }
    assert_in_step(&world, began + 6 * SECOND, TICK, what);
}

/// A machine that is held up for longer than what is missing is waited for: it finds it among what came meanwhile.
#[tokio::test(start_paused = true)]
async fn f53_a_machine_that_is_held_up_gives_nothing_up_that_has_arrived() {
    for way in [Way::Pull, Way::Push] {
        let what = format!("{way:?}");
        let late = Conditions {
            reorder_per_mille: 300,
            held_back: 30 * MS,
            delay: 10 * MS,
            ..Conditions::default()
        };
        let source = Source::h264_aac().with_pictures_of(4_000);
        let setting = Setting { conditions: late, source, ..Setting::new(way, Carriage::Udp) };
        let began = clock::now();
        let mut world = World::new(setting).await;
        world.run(SETTLED).await;
        for _ in 0..20 {
            world.run(215 * MS).await;
            world.hold_up(MAX_WAIT + 50 * MS).await;
        }
        world.run(2 * SECOND).await;
        check(&world, &what);
        for track in 0..2 {
            let lost = missing(&world, track, began + SETTLED, clock::now() - SECOND);
            assert_eq!(lost, 0, "{what}, track {track}");
        }
    }
}

/// The decode times of pictures that are reordered are known some pictures later, and the sound that comes meanwhile is logged before the
/// keyframe: who joins at that keyframe has all of it.
#[tokio::test(start_paused = true)]
async fn f13_sound_that_is_logged_before_the_first_keyframe_reaches_who_joins_there() {
    let mut before = 0;
    for (way, carriage) in WAYS {
        let what = format!("{way:?} over {carriage:?}");
        let mut world = World::new(Setting::new(way, carriage)).await;
        while world.came.iter().any(Vec::is_empty) {
            world.run(10 * MS).await;
        }
        let joined = world.joins().await;
        before += usize::from(joined.first() == Some(&(1, 0)));
        for track in 0..2 {
            let of = joined.iter().filter(|(of, _)| *of == track).map(|(_, number)| *number);
            assert!(of.eq(world.came[track].iter().map(|came| came.number)), "{what}, track {track}");
            assert_eq!(world.came[track][0].number, 0, "{what}, track {track}");
        }
    }
    assert!(before > 0, "no sound was logged before its keyframe");
}

/// The frames of a track as they are when they go on over RTMP.
fn over_rtmp(world: &World, source: &Source, track: usize) -> Vec<MediaFrame> {
    let (mut muxer, mut demuxer) = (Muxer::new(MuxerOptions::default()), Demuxer::default());
    let headers = muxer.tracks(&source.tracks(), Timestamp::ZERO).into_iter();
    let frames = world.came[track].iter().map(|came| muxer.frame(&came.frame).unwrap());
    for tag in headers.chain(frames) {
        let body = [&tag.header[..], &tag.payload].concat().into();
        demuxer.handle_tag(tag.kind, tag.timestamp_ms.into(), body).unwrap();
    }
    let events = std::iter::from_fn(|| demuxer.poll_event());
    let frames: Vec<_> = events
        .filter_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame) } else { None })
        .collect();
    assert_eq!(frames.len(), world.came[track].len());
    frames
}

/// By how much the frames of a track are shifted against those that were published, in decode and in presentation time, once it has
/// settled.
fn shifted(sent: &[Sent], frames: &[MediaFrame], since: Instant) -> BTreeSet<TimeDelta> {
    let settled =
        frames.iter().map(|frame| (frame, sent[number(&frame.payload)])).filter(|(_, sent)| sent.at >= since);
    settled.flat_map(|(frame, sent)| [frame.dts - sent.dts, frame.pts - sent.pts]).collect()
}

fn spread(shifts: &BTreeSet<TimeDelta>) -> TimeDelta {
    *shifts.last().unwrap() - *shifts.first().unwrap()
}

/// From RTMP over RTSP to RTMP, with B-frames. Milliseconds are whole ticks of both clocks, so that each track is shifted as a whole, to
/// the flick; the two shifts are less than a tick of the slower clock apart. RTMP rounds each to a millisecond: no frame is moved
/// against another one of its track, and sound against pictures by one millisecond at most, where one is rounded up and one down.
#[tokio::test(start_paused = true)]
async fn m32_f13_rtmp_over_rtsp_to_rtmp_is_exact() {
    for (way, carriage) in WAYS {
        for key in 1..=8 {
            let what = format!("{way:?} over {carriage:?}, key {key}");
            let began = clock::now();
            let setting = Setting { key, from_rtmp: true, ..Setting::new(way, carriage) };
            let source = setting.source.clone();
            let mut world = World::new(setting).await;
            world.run(6 * SECOND).await;
            check(&world, &what);
            let (least, most) = shifts(&world, began + SETTLED);
            assert!(most - least < TICK, "{what}: {:?}", (most - least).to_duration());
            let mut moved = [TimeDelta::ZERO; 2];
            for (track, moved) in moved.iter_mut().enumerate() {
                let sent = &world.feed.sent[track];
                let came: Vec<_> = world.came[track].iter().map(|came| came.frame.clone()).collect();
                let shifts = shifted(sent, &came, began + SETTLED);
                assert_eq!(shifts.len(), 1, "{what}, track {track}: {shifts:?}");
                let back = shifted(sent, &over_rtmp(&world, &source, track), began + SETTLED);
                assert_eq!(back.len(), 1, "{what}, track {track}: {back:?}");
                *moved = *back.first().unwrap();
            }
            assert!((moved[0] - moved[1]).abs() <= TimeDelta::from_millis(1), "{what}: {moved:?}");
        }
    }
}

/// The same with sound at 44.1 kHz, of which no millisecond is a whole number of ticks, and on to RTSP once more. What comes out of RTSP
/// is what went in but for less than a tick of the sound's clock, whether that was exact or had come over RTMP.
#[tokio::test(start_paused = true)]
async fn m32_f13_sound_at_44_100_stays_in_step_there_and_back() {
    let tick = TimeDelta::from_units(1, Timescale::of(44_100));
    let millisecond = TimeDelta::from_millis(1);
    let mut most_of_all = TimeDelta::ZERO;
    for (way, carriage) in WAYS {
        for (key, from_rtmp) in (1..=8).flat_map(|key| [(key, false), (key, true)]) {
            let what = format!("{way:?} over {carriage:?}, key {key}, from RTMP: {from_rtmp}");
            let source = Source::h264_aac().at_44_100();
            let began = clock::now();
            let setting = Setting { key, from_rtmp, source: source.clone(), ..Setting::new(way, carriage) };
            let mut there = World::new(setting.clone()).await;
            there.run(6 * SECOND).await;
            check(&there, &what);
            let (least, most) = shifts(&there, began + SETTLED);
            assert!(most - least < tick, "{what}: {:?}", (most - least).to_duration());
            most_of_all = most_of_all.max(most - least);
            let rtmp = [0, 1].map(|track| over_rtmp(&there, &source, track));
            let mut moved = BTreeSet::new();
            for (sent, frames) in there.feed.sent.iter().zip(&rtmp) {
                moved.append(&mut shifted(sent, frames, began + SETTLED));
            }
            assert!(spread(&moved) <= millisecond + tick, "{what}: {moved:?}");

            let mut frames = rtmp.concat();
            frames.sort_by_key(|frame| frame.dts);
            // In the order of decode times, and from a keyframe on.
            let first = frames.iter().position(|frame| frame.track == TrackId::VIDEO).unwrap();
            let began = clock::now();
            let setting = Setting { frames: Some(frames.split_off(first)), from_rtmp: false, ..setting };
            let mut back = World::new(setting).await;
            back.run(5 * SECOND).await;
            check(&back, &what);
            let (least, most) = shifts(&back, began + SETTLED);
            assert!(most - least < tick, "{what}, back: {:?}", (most - least).to_duration());
            most_of_all = most_of_all.max(most - least);
        }
    }
    eprintln!("pictures and sound are {:?} apart at most", most_of_all.to_duration());
}

/// What the network puts out of order is not lost because it is the first that comes: the stream begins with its first picture and its
/// first sound.
#[tokio::test(start_paused = true)]
async fn f53_a_start_out_of_order_loses_nothing() {
    let conditions =
        Conditions { reorder_per_mille: 400, held_back: 50 * MS, delay: 10 * MS, ..Conditions::default() };
    for way in [Way::Pull, Way::Push] {
        for seed in 0..20 {
            let what = format!("{way:?}, seed {seed}");
            let source = Source::h264_aac().with_pictures_of(6_000);
            let began = clock::now();
            let setting = Setting { conditions, seed, source, ..Setting::new(way, Carriage::Udp) };
            let mut world = World::new(setting).await;
            world.run(SETTLED).await;
            check(&world, &what);
            for track in 0..2 {
                assert_eq!(
                    world.came[track].first().map(|came| came.number),
                    Some(0),
                    "{what}, track {track}"
                );
                let lost = missing(&world, track, began, clock::now() - 500 * MS);
                assert_eq!(lost, 0, "{what}, track {track}");
            }
        }
    }
}

/// A key under which the pictures' timestamps wrap that long after the stream's beginning, or a little later.
fn wrapping(after: i64) -> u64 {
    let clock = Timescale::MPEG;
    let wraps_at = |key: u64| {
        let left = u32::MAX - Numbering::of(key, TrackId::VIDEO).timestamp;
        i64::from(left) / i64::from(clock.get())
    };
    (1..).find(|key| (after..after + 5).contains(&wraps_at(*key))).unwrap()
}

/// The 32 bits of RTP's timestamps (13 h 15 m at 90 kHz) and the 16 of its numbers, and RTMP's 32 of milliseconds.
#[tokio::test(start_paused = true)]
async fn f23_f21_counters_that_wrap_are_not_noticed() {
    let days = Timestamp::from_millis((1 << 32) - 10_000);
    for (way, carriage) in WAYS {
        let source = Source::h264_aac().with_pictures_of(9_000).starting_at(days);
        let since_zero = i64::try_from((days - Timestamp::ZERO).to_duration().as_secs()).unwrap();
        // The timestamps of a stream that begins late have wrapped many times already.
        let key = [wrapping(10), wrapping((since_zero + 10) % 47_721)];
        for key in key {
            let what = format!("{way:?} over {carriage:?}, key {key}");
            let mut setting =
                Setting { key, mtu: 150, source: source.clone(), ..Setting::new(way, carriage) };
            if carriage == Carriage::Udp {
                setting.conditions.reorder_per_mille = 20;
                setting.conditions.held_back = 20 * MS;
            }
            let began = clock::now();
            let mut world = World::new(setting).await;
            world.run(45 * SECOND).await;
            check(&world, &what);
            for track in 0..2 {
                let lost = missing(&world, track, began + SETTLED, clock::now() - SECOND);
                assert_eq!(lost, 0, "{what}");
            }
            assert_in_step(&world, began + 6 * SECOND, TICK, &what);
            let flagged = world.came.iter().flatten().skip(1).any(|came| {
                came.frame.flags.intersects(FrameFlags::DISCONTINUITY) && came.at > began + SETTLED
            });
            assert!(!flagged, "{what}: nobody notices");
        }
    }
}

/// Another source, other numbers, other times, from one packet to the next: a sender that was started anew.
#[tokio::test(start_paused = true)]
async fn f01_t40_a_sender_that_begins_anew_is_one_discontinuity() {
    for carriage in [Carriage::Tcp, Carriage::Udp] {
        let what = format!("{carriage:?}");
        let mut world = World::new(Setting::new(Way::Pull, carriage)).await;
        world.run(6 * SECOND + 400 * MS).await;
        let restarted = clock::now();
        world.restart(8).await;
        world.run(10 * SECOND).await;
        check(&world, &what);
        let lost = missing(&world, 0, restarted + SECOND, clock::now() - SECOND);
        assert_eq!(lost, 0, "{what}: whole from its first keyframe on");
        let marked = world.came[0]
            .iter()
            .filter(|came| came.at > restarted && came.frame.flags.contains(FrameFlags::DISCONTINUITY));
        assert_eq!(marked.count(), 1, "{what}");
        assert_in_step(&world, restarted + 7 * SECOND, TimeDelta::from_millis(100), &what);
    }
}

/// F25: what is not known, or cannot be, is not believed.
#[tokio::test(start_paused = true)]
async fn f25_reports_that_are_missing_or_an_hour_off() {
    for carriage in [Carriage::Tcp, Carriage::Udp] {
        for told in [Told::Right, Told::Nothing, Told::HourOff] {
            let what = format!("{carriage:?}, {told:?}");
            let began = clock::now();
            let mut world = World::new(Setting { told, ..Setting::new(Way::Pull, carriage) }).await;
            world.run(20 * SECOND).await;
            check(&world, &what);
            let within = if told == Told::Right { TICK } else { TimeDelta::from_millis(100) };
            assert_in_step(&world, began + SETTLED, within, &what);
        }
    }
}

/// A camera that stays connected and sends nothing.
#[tokio::test(start_paused = true)]
async fn f60_a_camera_that_stalls_is_given_up_in_ten_seconds() {
    for carriage in [Carriage::Tcp, Carriage::Udp] {
        let mut world = World::new(Setting::new(Way::Pull, carriage)).await;
        world.run(5 * SECOND).await;
        world.stalled = true;
        let stalled = clock::now();
        world.run(60 * SECOND).await;
        assert_eq!(world.client.closed(), Some(CloseReason::Timeout(Phase::Idle)), "{carriage:?}");
        let took = clock::now() - stalled;
        assert!((9_900 * MS..=10_100 * MS).contains(&took), "{carriage:?}: {took:?}");
        check(&world, "up to then");
    }
}

/// Who joins in the middle of a GOP has its first picture at once, and that is a keyframe.
#[tokio::test(start_paused = true)]
async fn a_player_that_joins_late_begins_with_the_keyframe_that_is_there() {
    for carriage in [Carriage::Tcp, Carriage::Udp] {
        let mut setting = Setting::new(Way::Pull, carriage);
        let began = clock::now();
        setting.late = 1_600 * MS;
        let mut world = World::new(setting).await;
        world.run(5 * SECOND).await;
        check(&world, "late");
        let first = &world.came[0][0];
        assert!(first.frame.is_keyframe() && first.number == GOP, "{carriage:?}: {}", first.number);
        let took = first.at - (began + 1_600 * MS);
        // Six requests and their answers, and what a receiver waits for to bring tracks together.
        assert!(took <= 600 * MS, "{carriage:?}: {took:?}");
        assert_eq!(missing(&world, 0, began + SECOND, clock::now() - SECOND), 0, "{carriage:?}");
    }
}
